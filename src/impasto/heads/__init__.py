"""Heads on encoders: fitted on what a model gives under plans, or trained with the model."""

from impasto.heads.predicting import predict

__all__ = ["predict"]
