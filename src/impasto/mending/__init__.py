"""Mending: how weights are fitted or trained so that a plan predicts as the full model does.

The methods alone, on an opened model and token ids: `fitting` is linear, `training` the others.
What asks for it, measures and writes stands above: `impasto.healing`, and studies (`serving`).
"""
