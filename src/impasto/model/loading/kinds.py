"""Which of transformers' Auto classes opens a checkpoint, by what its configuration says.

A checkpoint names the class that wrote it. The Auto class that makes a model of just that class is
right; where none does, a decoder is opened with the head that predicts next tokens, a composite
model (images or sound beside a text) as one that reads both, and an encoder with what it has.
"""

import copy
from typing import Any, NamedTuple

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

from impasto.model.structure.anatomy import ModelError, of_encoder_decoder

# The Auto classes that may open a decoder, each with its table; the first that fits is taken.
_OF_DECODERS = (
    ("AutoModelForCausalLM", "CAUSAL_LM"),
    ("AutoModelForMultimodalLM", "MULTIMODAL_LM"),
    ("AutoModelForImageTextToText", "IMAGE_TEXT_TO_TEXT"),
)
_OF_CLASSIFIERS = (
    ("AutoModelForSequenceClassification", "SEQUENCE_CLASSIFICATION"),
    ("AutoModelForTokenClassification", "TOKEN_CLASSIFICATION"),
    ("AutoModelForQuestionAnswering", "QUESTION_ANSWERING"),
)
# How an encoder is opened, by what its checkpoint calls itself; else without a head.
_OF_ENCODERS = {
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForMaskedLM",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
}


class Kind(NamedTuple):
    """How a checkpoint is opened.

    Attributes:
        auto: The name of the Auto class that opens it.
        is_encoder: Whether it is an encoder, as far as its configuration tells.
    """

    auto: str
    is_encoder: bool = False

    @property
    def opens(self) -> Any:
        """The Auto class."""
        return getattr(transformers, self.auto)


def kind_of(config: PreTrainedConfig) -> Kind:
    """Return how the checkpoint of a configuration is opened.

    Raises:
        ModelError: when it is an encoder-decoder, or transformers has no model of texts for it.
    """
    named = next(iter(getattr(config, "architectures", None) or ()), "")
    names_decoder = named.endswith(("CausalLM", "LMHeadModel"))
    is_whole = getattr(config, "is_encoder_decoder", False) and not names_decoder
    if is_whole and not _holds_decoder(config):
        raise of_encoder_decoder(named or config.model_type, config)
    is_decoder = getattr(config, "is_decoder", False) or names_decoder
    if _class(config, "MASKED_LM") and not is_decoder:
        ends = (auto for end, auto in _OF_ENCODERS.items() if named.endswith(end))
        return Kind(next(ends, "AutoModel"), is_encoder=True)
    for auto, table in (*_OF_DECODERS, *_OF_CLASSIFIERS):
        if named and _class(config, table) == named:
            return Kind(auto)
    if named and _class(config, "") == named:
        return Kind("AutoModel")
    for auto, table in _OF_DECODERS:
        if _class(config, table):
            return Kind(auto)
    if _class(config, "") and not getattr(config, "auto_map", None):
        raise ModelError(
            f"{named or config.model_type} has no decoder of texts, and is no encoder that "
            "predicts masked tokens; plans run on those"
        )
    return Kind("AutoModelForCausalLM")  # code of its own, or unknown: loading says more


def _holds_decoder(config: PreTrainedConfig) -> bool:
    """Whether a configuration is that of an encoder of images and a decoder with its head."""
    own = getattr(transformers, _class(config, "MULTIMODAL_LM"), None)
    decoder = getattr(config, "decoder", None)
    return (
        own is not None
        and own.main_input_name != "input_ids"
        and isinstance(decoder, PreTrainedConfig)
        and bool(_class(decoder, "CAUSAL_LM"))
    )


def auto_class(hf: Any) -> str:
    """Return the name of the Auto class that opens what `save_pretrained` of a model writes."""
    config = copy.copy(hf.config)
    config.architectures = [type(hf).__name__]
    return kind_of(config).auto


def _class(config: PreTrainedConfig, table: str) -> str:
    """Return the name of the class in a table of transformers' Auto classes; empty for none."""
    name = f"MODEL_FOR_{table}_MAPPING_NAMES" if table else "MODEL_MAPPING_NAMES"
    classes = getattr(modeling_auto, name, {}).get(config.model_type, "")
    return classes if isinstance(classes, str) else classes[0]
