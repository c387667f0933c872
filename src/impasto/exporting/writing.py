"""``export``: a plan as a folder with a model that runs it, checked by loading it again."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from torch import nn
from transformers import PreTrainedModel

from impasto.exporting.card import Provenance, weights_digest, write_card
from impasto.exporting.error import ExportError
from impasto.exporting.folder import check_room, check_target, whole_folder
from impasto.exporting.plain import check_plain
from impasto.exporting.planned import check_family, write_code
from impasto.exporting.rebuild import check_configured, compare, rebuilt, separate
from impasto.exporting.renumber import renumbered
from impasto.exporting.roundtrip import RoundTrip, check, expected
from impasto.model.decoder import OpenedModel
from impasto.model.loading.wrapped import is_wrapped, unwrapped
from impasto.model.opened import Opened
from impasto.paths import path_of
from impasto.plan import Layer, Plan
from impasto.run import Encoder, Model, load
from impasto.run.opening import admit, opening

Form = Literal["checkpoint", "planned"]


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        folder: Where it is.
        form: ``checkpoint``: an ordinary model of its family. ``planned``: one that runs the plan
            by the code beside it.
        layers: How many layers it stores.
        bytes: How large the folder is.
        found: What the round trip found.
        opens_by: The Auto class of transformers that opens it.
    """

    folder: Path
    form: Form
    layers: int
    bytes: int
    found: RoundTrip
    opens_by: str


def export(
    model: "Model | Encoder | nn.Module | str | os.PathLike[str]",
    plan: Plan,
    dest: str | os.PathLike[str],
    form: Form | None = None,
    max_shard_size: int | str = "5GB",
    **options: Any,
) -> Exported:
    """Write a model that runs a plan to a folder, and check it by loading it again.

    A plan of whole layers, in any order and repetition, becomes an ordinary checkpoint of its
    family: ``AutoModelForCausalLM.from_pretrained(dest)`` (or another Auto class, where it is no
    plain decoder with its head). Any other plan but those that inject
    becomes a folder with the layers that it names, each once, and a small modeling file:
    ``from_pretrained(dest, trust_remote_code=True)``. Neither needs impasto; :func:`impasto.load`
    opens both.

    Args:
        model: A name, of which only the layers that the plan names are loaded, or a loaded model,
            of impasto or of Hugging Face.
        plan: The plan.
        dest: The folder; it must not exist. It is there whole or not at all.
        form: ``checkpoint`` or ``planned``; None takes the first wherever the plan allows.
        max_shard_size: The most that a file of weights holds: bytes, or text such as ``"5GB"``.
        options: For a name: passed on to :func:`impasto.load` (``dtype``, ``revision``, …). An
            adapter is merged into its base.

    Raises:
        ExportError: when the plan cannot be exported so (the message says what can), when the
            folder cannot be written, or when what was written does not give the plan's logits.
        PlanError: when the plan names a layer that the model lacks.
        ModelError: when the model cannot be loaded or opened.
    """
    if not isinstance(plan, Plan):
        raise ExportError(f"{plan!r} is not a plan; write Plan.parse({str(plan)!r})")
    dest = Path(os.path.abspath(path_of(dest, "the folder").expanduser()))  # noqa: PTH100  (links stay as they are)
    form = _form(plan, form)
    _check_size(max_shard_size)
    check_target(dest)
    model, outline = _loaded(model, plan, options)
    source = opening(model.hf).model
    admit(source, plan)
    if form == "planned" and not isinstance(source, OpenedModel):
        raise ExportError(
            f"the plan {plan} is no ordinary checkpoint, and an encoder is exported as one: a plan "
            "of whole layers, one after the other"
        )
    if isinstance(source, OpenedModel) and not source.packs_rows:
        _refuse_planned(source, plan, form)
    built = (
        _planned(source, plan)
        if form == "planned" and isinstance(source, OpenedModel)
        else _checkpoint(source, outline, plan)
    )
    wanted = expected(model, plan)
    digest = weights_digest(model.hf, source.anatomy.path, plan)
    with whole_folder(dest) as folder:
        _save(built, folder, dest, max_shard_size)
        if form == "planned" and isinstance(source, OpenedModel):
            write_code(source, plan, wanted.auto, folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
        found = check(folder, wanted, runs_code=form == "planned")
        about = Provenance(
            str(plan), plan.digest, form, model.name, digest, found.worst, wanted.auto
        )
        write_card(folder, about, dest.name, options)
        size = sum(path.stat().st_size for path in folder.rglob("*"))
    return Exported(dest, form, built.layers, size, found, wanted.auto)


def _form(plan: Plan, form: Form | None) -> Form:
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
    if form not in (None, *get_args(Form)):
        raise ExportError(f"form is {' or '.join(get_args(Form))}, not {form!r}")
    if not plan.layers:
        raise ExportError(f"the plan {plan} runs no layer, so there is no model to export")
    other = [step for step in plan.steps if not (isinstance(step, Layer) and step.is_whole)]
    if form == "checkpoint" and other:
        raise ExportError(
            f"{Plan(tuple(other[:1]))} is no whole layer as the model has it, and an ordinary "
            "checkpoint holds whole layers only, one after the other; form='planned' can hold "
            "this plan"
        )
    return form or ("planned" if other else "checkpoint")


def _check_size(size: int | str) -> None:
    """Raise ExportError unless transformers can read a size."""
    is_size = re.fullmatch(r"\d+(\.\d+)?[TGMK]B", size) if isinstance(size, str) else size > 0
    if not is_size:
        raise ExportError(
            f"max_shard_size is a number of bytes, or text such as 5GB or 500MB, not {size!r}"
        )


class _Built(NamedTuple):
    """A model that is ready to be written.

    Attributes:
        hf: The model.
        state: Its weights by name, as they are to be stored.
        layers: How many layers it stores.
        is_plain: Whether the weights are stored under the names that the family's checkpoints use.
    """

    hf: Any
    state: dict[str, Any]
    layers: int
    is_plain: bool


def _loaded(model: Any, plan: Plan, options: dict[str, Any]) -> tuple[Model | Encoder, Any]:
    """Return a model that can be exported, opened, and what its configuration builds.

    A model that is loaded already is checked before it is opened, for that runs it.
    """
    if isinstance(model, Model | Encoder) and options:
        raise ExportError(f"{', '.join(options)}: options are for models that are yet to load")
    model = unwrapped(model) if is_wrapped(model) else model
    if isinstance(model, PreTrainedModel):
        outline = _checked(model)
        return load(model, **options), outline
    if not isinstance(model, Model | Encoder):
        loading: dict[str, Any] = {"merge_adapter": True} | options
        model = load(model, plan=plan, **loading)
    return model, _checked(model.hf)


def _checked(hf: PreTrainedModel) -> Any:
    """Return what a model's configuration builds; raises ExportError for what has no export."""
    check_plain(hf)
    check_family(hf)
    return check_configured(hf)


def _refuse_planned(source: OpenedModel, plan: Plan, form: Form) -> None:
    """Raise ExportError for a plan that no checkpoint can hold, where rows are not packed."""
    if form == "planned":
        raise ExportError(
            f"the plan {plan} can be no ordinary checkpoint, and a planned folder's code keeps "
            f"keys and values only, while layers of {type(source.hf).__name__} carry a state that "
            "is another for each appearance of a layer; impasto.load and impasto.apply run it"
        )


def _checkpoint(source: Opened, outline: Any, plan: Plan) -> _Built:
    """Build an ordinary model of the family whose layers are the plan's."""
    order = [step.index for step in plan.steps if isinstance(step, Layer)]
    try:
        hf = rebuilt(source, renumbered(source.hf.config, order), order)
        compare(source, outline, hf, order)
    except ExportError as error:
        if source.packs_rows:
            raise
        reason = str(error).partition("; form='planned'")[0]
        raise ExportError(f"{reason}; impasto.load and impasto.apply run the plan") from error
    return _Built(hf, separate(hf, source.anatomy.path, order), len(order), is_plain=True)


def _planned(source: OpenedModel, plan: Plan) -> _Built:
    """Build the source anew with the layers that the plan names, each once."""
    order = [layer if layer in plan.layers else None for layer in range(source.num_layers)]
    hf = rebuilt(source, source.hf.config, order)
    if hf.can_generate():  # a plan's keys and values need the usual cache
        hf.generation_config.cache_implementation = None
    return _Built(hf, dict(hf.state_dict()), len(plan.layers), is_plain=False)


def _save(built: _Built, folder: Path, dest: Path, max_shard_size: int | str) -> None:
    """Write weights and configurations; a planned folder's weights stay as they are in memory."""
    check_room(dest, sum(tensor.nbytes for tensor in built.state.values()))
    try:
        built.hf.save_pretrained(
            folder,
            state_dict=built.state,
            max_shard_size=max_shard_size,
            save_original_format=built.is_plain,
        )
    except ValueError as error:
        raise ExportError(f"transformers does not save this model: {error}") from error
