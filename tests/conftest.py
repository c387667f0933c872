"""Shapes and types in signatures are checked while the tests run."""

import os

import torch
from jaxtyping import install_import_hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
install_import_hook("impasto.run", "beartype.beartype")
install_import_hook("impasto.model", "beartype.beartype")

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other
