"""Executing plans: rows, keys and values, noise, the tree of plans, scoring, generating."""

from impasto.run.apply import Applied, apply
from impasto.run.cost import Cost
from impasto.run.donors import Donor
from impasto.run.encoder.model import Encoder
from impasto.run.loading import load, load_decoder
from impasto.run.model import Model

__all__ = ["Applied", "Cost", "Donor", "Encoder", "Model", "apply", "load", "load_decoder"]
