"""Executing plans: rows, keys and values, noise, the tree of plans, scoring, generating."""

from impasto.run.apply import Applied, apply
from impasto.run.cost import Cost
from impasto.run.donors import Donor
from impasto.run.model import Model, load

__all__ = ["Applied", "Cost", "Donor", "Model", "apply", "load"]
