"""``export``: a plan as a folder or a file that runs it, checked by reading that again."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from impasto.exporting.blocks import served_blocks
from impasto.exporting.building import (
    Source,
    as_checkpoint,
    as_planned,
    naming_others,
    refuse_passed_over,
    refuse_planned,
    save,
)
from impasto.exporting.card import Provenance, weights_digest, write_card
from impasto.exporting.engines import add_older_names
from impasto.exporting.error import ExportError, NotInFormError
from impasto.exporting.folder import check_target, whole_folder
from impasto.exporting.folding import folded, may_fold, scaled_weights
from impasto.exporting.gguf.export import check_file_options, write_gguf
from impasto.exporting.nas import check_nas, check_shape, write_nas
from impasto.exporting.planned import write_code
from impasto.exporting.roundtrip import RoundTrip, check, expected
from impasto.exporting.shards import shard_bytes
from impasto.model.decoder import OpenedModel
from impasto.model.loading.exported import maps_within
from impasto.model.opened import Opened
from impasto.paths import path_of
from impasto.plan import Layer, Plan
from impasto.run import Encoder, Model
from impasto.run.opening import admit

Form = Literal["checkpoint", "planned", "nemotron-nas", "gguf"]


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: Where it is: a folder, or the file of the form ``gguf``.
        form: ``checkpoint``: an ordinary model of its family. ``planned``: one that runs the plan
            by the code beside it. ``nemotron-nas``: a Llama whose blocks may lack a part, for
            engines. ``gguf``: a file for llama.cpp.
        layers: How many layers it stores.
        bytes: How large it is.
        found: What the round trip found; None where transformers does not read the form.
        opens_by: The Auto class of transformers that opens it, or the engine.
        checked: What was checked, and what was not, in a sentence.
    """

    folder: Path
    form: Form
    layers: int
    bytes: int
    found: RoundTrip | None
    opens_by: str
    checked: str


def export(
    model: "Model | Encoder | nn.Module | str | os.PathLike[str]",
    plan: Plan,
    dest: str | os.PathLike[str],
    form: Form | Literal["auto"] | None = None,
    max_shard_size: int | str = "5GB",
    gguf_type: str | None = None,
    **options: Any,
) -> Exported:
    """Write a model that runs a plan, and check it by reading it again.

    A plan of whole layers, in any order and repetition, becomes an ordinary checkpoint of its
    family: ``AutoModelForCausalLM.from_pretrained(dest)`` (or another Auto class, where it is no
    plain decoder with its head). Any other plan but those that inject
    becomes a folder with the layers that it names, each once, and a small modeling file:
    ``from_pretrained(dest, trust_remote_code=True)``. Neither needs impasto; :func:`impasto.load`
    opens both. ``docs/serving.md`` says what the other forms are for.

    Args:
        model: A name, of which only the layers that the plan names are loaded, or a loaded model,
            of impasto or of Hugging Face.
        plan: The plan.
        dest: The folder, or the file of the form ``gguf``; it must not exist. It is there whole or
            not at all.
        form: ``checkpoint``, ``planned``, ``nemotron-nas`` or ``gguf``; None or ``auto`` takes the
            first wherever the plan allows, and else the second.
        max_shard_size: The most that a file of weights holds: bytes, or text such as ``"5GB"``.
        gguf_type: The type of weights in a ``gguf`` file: ``f32``, ``f16``, ``bf16`` or ``q8_0``;
            None keeps the model's own.
        options: For a name: passed on to :func:`impasto.load` (``dtype``, ``revision``, …). An
            adapter is merged into its base.

    Raises:
        ExportError: when the plan cannot be exported so (the message says what can), when it
            cannot be written, or when what was written does not give the plan's logits.
        PlanError: when the plan names a layer that the model lacks.
        ModelError: when the model cannot be loaded or opened.
    """
    if not isinstance(plan, Plan):
        raise ExportError(f"{plan!r} is not a plan; write Plan.parse({str(plan)!r})")
    dest = Path(os.path.abspath(path_of(dest, "the folder").expanduser()))  # noqa: PTH100  (links stay as they are)
    asked, form = form, _form(plan, form)
    shard_bytes(max_shard_size)
    check_file_options(form, gguf_type)
    check_target(dest)
    source = Source.of(model, plan, options)
    admit(source.opened, plan)
    refuse_passed_over(source.opened)
    with naming_others(source, plan, form):
        if maps_within(source.model.hf.config, source.opened.anatomy.path, plan.layers):
            form = _holding_maps(asked)
        elif form == "planned" and asked in (None, "auto") and _folds(source.opened, plan):
            form = "checkpoint"
        if form == "gguf":
            ran = write_gguf(source, plan, dest, gguf_type)
            return Exported(
                dest, form, len(plan.steps), dest.stat().st_size, None, "llama.cpp", ran
            )
        if form == "planned":
            refuse_planned(source.opened)
        if form == "nemotron-nas":
            return _export_nas(source, plan, dest, max_shard_size, options)
        return _export_folder(source, plan, dest, form, max_shard_size, options)


def _export_folder(
    source: Source,
    plan: Plan,
    dest: Path,
    form: Form,
    max_shard_size: int | str,
    options: dict[str, Any],
) -> Exported:
    """Write a folder that transformers opens."""
    opened = source.opened
    planned = opened if form == "planned" and isinstance(opened, OpenedModel) else None
    built = as_checkpoint(source, plan) if planned is None else as_planned(planned, plan)
    wanted = expected(source.model, plan)
    with whole_folder(dest) as folder:
        save(built, folder, dest, max_shard_size)
        layers = built.layers
        if form == "checkpoint":
            add_older_names(folder, built.hf)
        if planned is not None:
            write_code(planned, plan, wanted.auto, folder)
        about = _about(source, plan, form, wanted.auto)
        source.write_tokenizer(folder)
        del built, opened, planned
        source.release()
        gc.collect()
        found = check(folder, wanted, runs_code=form == "planned")
        checked = f"loaded again, its logits are the plan's (difference {found.worst:.1e})"
        write_card(folder, about, found.worst, checked, dest.name, options)
    return Exported(dest, form, layers, _size(dest), found, wanted.auto, checked)


def _export_nas(
    source: Source, plan: Plan, dest: Path, max_shard_size: int | str, options: dict[str, Any]
) -> Exported:
    """Write a folder in the form of Nemotron-NAS models."""
    hf, path = source.model.hf, source.opened.anatomy.path
    check_shape(hf)
    blocks = served_blocks(plan, "nemotron-nas", holds_parts=True)
    wanted = expected(source.model, plan)
    with whole_folder(dest) as folder:
        write_nas(folder, hf, path, blocks, max_shard_size)
        about = _about(source, plan, "nemotron-nas", "vLLM")
        source.write_tokenizer(folder)
        del hf
        source.release()
        gc.collect()
        found = check_nas(folder, wanted)
        checked = (
            "the weights, as a Llama's with absent parts at zero, give the plan's logits "
            f"(difference {found:.1e}); not run in vLLM or SGLang"
        )
        write_card(folder, about, found, checked, dest.name, options)
    return Exported(dest, "nemotron-nas", len(blocks), _size(dest), None, "vLLM", checked)


def _folds(opened: Opened, plan: Plan) -> bool:
    """Whether a plan that is no sequence of whole layers can be folded into one."""
    if not isinstance(opened, OpenedModel) or not may_fold(plan):
        return False
    try:
        blocks = folded(opened, plan)
        if blocks is not None:
            scaled_weights(opened, blocks, {})  # raises where no weight holds a scale
        return blocks is not None
    except ExportError:
        return False


def _holding_maps(asked: str | None) -> Form:
    """Return the form that holds maps; raises NotInFormError where another one was asked."""
    if asked not in (None, "auto", "planned"):
        raise NotInFormError(
            "the model has maps behind modules, which healed it, and form="
            f"{asked!r} (--as) holds no module that its family lacks"
        )
    return "planned"


def _about(source: Source, plan: Plan, form: Form, opens_by: str) -> Provenance:
    digest = weights_digest(source.model.hf, source.opened.anatomy.path, plan)
    return Provenance(str(plan), plan.digest, form, source.model.name, digest, opens_by)


def _size(dest: Path) -> int:
    return sum(path.stat().st_size for path in dest.rglob("*"))


def _form(plan: Plan, form: str | None) -> Form:
    """Return the form that a plan takes; raises ExportError where it cannot take the one asked."""
    if plan.injections:
        raise ExportError(
            f"the plan {plan} injects from a donor prompt that is bound when it runs, so no folder "
            "can hold it; run it with impasto.load and donors=, or export it without inject"
        )
    if plan.tells_prompt:
        raise ExportError(
            f"the plan {plan} does something to the prompt alone, and a folder's code is not told "
            "where a prompt ends; run it with impasto.load or impasto.apply"
        )
    if form not in (None, "auto", *get_args(Form)):
        raise ExportError(f"form is auto or {' or '.join(get_args(Form))}, not {form!r}")
    if not plan.layers:
        raise ExportError(f"the plan {plan} runs no layer, so there is no model to export")
    is_whole = all(isinstance(step, Layer) and step.is_whole for step in plan.steps)
    for name in get_args(Form):
        if form == name:
            return name
    return "checkpoint" if is_whole else "planned"
