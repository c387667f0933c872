"""How many layers a model has, by its configuration alone: no weight is read."""

import os
from typing import Any

from transformers import AutoConfig

from impasto.model.loading.files import place_of
from impasto.model.loading.unreadable import naming_the_model


@naming_the_model
def layers_of(name: str | os.PathLike[str], **options: Any) -> int:
    """Return how many layers the model of a name has.

    Raises:
        ModelError: when there is no such model, or its configuration cannot be read.
    """
    config = AutoConfig.from_pretrained(place_of(name), **options)
    return config.get_text_config(decoder=True).num_hidden_layers
