"""Executing plans: rows, keys and values, noise, the tree of plans, scoring, generating."""

from impasto.run.apply.handle import Applied, apply
from impasto.run.batching.donors import Donor
from impasto.run.decoder import Model
from impasto.run.encoder_model import Encoder
from impasto.run.load import load, load_decoder
from impasto.run.queries.cost import Cost
from impasto.run.queries.pace import Pace

__all__ = [
    "Applied", "Cost", "Donor", "Encoder", "Model", "Pace", "apply", "load", "load_decoder",
]  # fmt: skip
