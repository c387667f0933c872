"""``load``: a model by name, or one that is loaded already, opened so that plans can run on it."""

import os
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from impasto.error import UserError, shown
from impasto.model.encoder import may_be_encoder
from impasto.model.loading.load import load_hf
from impasto.model.loading.unreadable import read_tokenizer
from impasto.model.loading.wrapped import is_wrapped, reading_texts, unwrapped
from impasto.model.structure.failing import failing
from impasto.plan import Plan
from impasto.run.batching.tokenisation import TextOptions
from impasto.run.calls import calling
from impasto.run.decoder import Model
from impasto.run.encoder_model import Encoder
from impasto.run.headless import HeadlessModel


def load(
    model: str | os.PathLike[str] | nn.Module,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    *,
    max_length: int | None = None,
    add_bos_token: bool | None = None,
    **options: Any,
) -> Model | Encoder:
    """Open a decoder or an encoder so that plans can run on it.

    Args:
        model: ``"demo"`` (bundled), a folder, a hub id, or a loaded Hugging Face model, also one
            that PEFT or ``torch.compile`` has wrapped (plans run on the original). A folder may be
            one that :func:`impasto.export` wrote. A folder or a hub id may be that of a PEFT
            adapter, which is put into the base model that it names.
        tokenizer: Its tokenizer, where it does not come with the model. Without one, prompts are
            token ids.
        plan: Load for this plan: layers that it does not name are neither read nor held in memory,
            and only plans that name no other layer can run. None loads all layers; of a folder
            that was exported for a plan, those that it holds.
        max_length: The most tokens of a request, at most the model's positions: a context that is
            longer loses its left end when it is scored. None: the model's positions.
        add_bos_token: Whether texts get special tokens, as lm-eval's model argument of this name
            has it. None: as the tokenizer does it.
        options: Passed on to ``from_pretrained``: ``dtype``, ``device_map``, ``revision``,
            ``attn_implementation``, ``trust_remote_code``, …; and ``merge_adapter=True``: an
            adapter's weights are merged into its base's, where otherwise its layers stay apart;
            and ``quantization="4bit"`` (or ``8bit``, ``torchao-int8``, ``torchao-int4``,
            ``quanto-int8``, ``quanto-int4``): weights are quantised as they are loaded, by a
            package that must be installed.

    Raises:
        ModelError: when there is no such model, or plans cannot run on it; the message says why.
        UserError: for an option that cannot be.
        PlanError: when ``plan`` names a layer that the model lacks.
    """
    if plan is not None and not isinstance(plan, Plan):
        raise UserError(f"{plan!r} is not a plan; write Plan.parse({str(plan)!r})")
    text_options = TextOptions.read(max_length, add_bos_token)
    reading = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
    if isinstance(model, PreTrainedModel) or is_wrapped(model):
        model = unwrapped(model)
        given = [*options, *(["plan"] if plan is not None else [])]
        if given:
            raise UserError(f"{', '.join(given)}: options are for models that are yet to load")
        hf, own_tokenizer, name = model, None, model.config.name_or_path or type(model).__name__
    elif isinstance(model, (str, os.PathLike)):
        if not isinstance(options.get("merge_adapter", False), bool):
            raise UserError(f"merge_adapter is True or False, not {options['merge_adapter']!r}")
        hf, own_tokenizer, plan = load_hf(model, plan, **options, **reading)
        name = os.fspath(model)
    else:
        raise UserError(
            f"a model is a name, a folder or a loaded model, not {type(model).__name__}"
        )
    tokenizer = own_tokenizer if tokenizer is None else _checked_tokenizer(tokenizer, reading)
    with calling(hf), failing(type(hf).__name__, "is opened"):
        hf = reading_texts(hf)
        is_encoder = may_be_encoder(hf)
    if not is_encoder:
        kind = Model if hf.can_generate() else HeadlessModel
        return kind(hf, tokenizer, name, plan, text_options)
    if text_options.given:
        raise UserError(
            f"{', '.join(text_options.given)}: options are for decoders, and {name} is an encoder"
        )
    return Encoder(hf, tokenizer, name, plan)


def _checked_tokenizer(tokenizer: object, reading: dict[str, bool]) -> Any:
    """Return a tokenizer by name or folder, or one that is loaded; raises UserError for others."""
    if isinstance(tokenizer, (str, os.PathLike)):
        return read_tokenizer(os.fspath(tokenizer), **reading)
    if not (hasattr(tokenizer, "encode") and hasattr(tokenizer, "decode")):
        raise UserError(f"a tokenizer is a name, a folder or a loaded one, not {shown(tokenizer)}")
    return tokenizer


def load_decoder(
    model: str | os.PathLike[str] | nn.Module,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    **options: Any,
) -> Model:
    """Open a decoder as :func:`load` does; raises UserError for an encoder too."""
    opened = load(model, tokenizer, plan, **options)
    if isinstance(opened, Encoder):
        raise UserError(f"{opened!r} predicts no next tokens, and this is about a model that does")
    return opened
