"""The model that a plan is exported from, and the models that are built of it to be written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from impasto.exporting.error import ExportError, NotInFormError
from impasto.exporting.folder import check_room
from impasto.exporting.folding import Folded, folded, scaled_weights
from impasto.exporting.plain import check_plain
from impasto.exporting.planned import check_family
from impasto.exporting.rebuild import check_configured, compare, rebuilt, separate
from impasto.exporting.renumber import renumbered
from impasto.model.decoder import OpenedModel
from impasto.model.loading.exported import maps_within
from impasto.model.loading.wrapped import is_wrapped, unwrapped
from impasto.model.opened import Opened
from impasto.model.sequential import CACHES
from impasto.model.structure.absent import spans, with_tied
from impasto.model.structure.added_maps import CONFIGURED
from impasto.model.structure.block import parameters
from impasto.plan import Layer, Plan
from impasto.run import Encoder, Model, load
from impasto.run.opening import opening


@dataclass
class Source:
    """The model that a plan is exported from.

    Attributes:
        model: The model.
        outline: What its configuration builds.
        opened: The model opened.
        is_own: Whether it was loaded to be exported, and nobody else holds it.
    """

    model: Model | Encoder
    outline: Any
    opened: Opened
    is_own: bool

    @classmethod
    def of(cls, model: Any, plan: Plan, options: dict[str, Any]) -> "Source":
        """Return a model that can be exported; one that is yet to load with the plan's layers."""
        is_own = not isinstance(model, Model | Encoder | PreTrainedModel) and not is_wrapped(model)
        loaded, outline = _loaded(model, plan, options)
        return cls(loaded, outline, opening(loaded.hf).model, is_own)

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files, where there is a tokenizer."""
        if self.model.tokenizer is not None:
            self.model.tokenizer.save_pretrained(folder)

    def release(self) -> None:
        """Give up a model of our own, so that what was written can be loaded in its place."""
        if self.is_own:
            del self.model, self.outline, self.opened


class Built(NamedTuple):
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


def refuse_planned(source: Opened) -> None:
    """Raise ExportError where no planned folder can be written for a model, whatever the plan."""
    if not isinstance(source, OpenedModel):
        raise NotInFormError("a planned folder is written for decoders, and this is an encoder")
    if source.sequential is None:
        return
    owner = source.hf.get_submodule(source.anatomy.path.rpartition(".")[0])
    if not {"input_ids", "inputs_embeds"} & set(parameters(type(owner))):
        raise NotInFormError(
            f"a planned folder of {type(source.hf).__name__} would read texts piece by piece, and "
            f"its {type(owner).__name__}, which calls the layers, reads no texts but states"
        )
    if not {"use_cache", *CACHES} & set(parameters(type(source.hf.base_model))):
        return  # it keeps nothing, and reads all tokens anew
    name = source.sequential.takes_cache
    ids = torch.zeros(1, 1, dtype=torch.long, device=source.device)
    with torch.no_grad(), source.skipping_absent():
        returns = type(source.hf.base_model(input_ids=ids, use_cache=False))
    if not name or name not in getattr(returns, "__dataclass_fields__", ()):
        raise NotInFormError(
            f"{type(source.hf).__name__} keeps what it has read in a form that has no place for "
            "what a plan's layers have read, so no planned folder could go on from a cache"
        )


def refuse_passed_over(source: Opened) -> None:
    """Raise ExportError for a model that runs some of its layers on images alone."""
    if source.passed_over:
        raise ExportError(
            f"{type(source.hf).__name__} passes over the layers {spans(source.passed_over)} when "
            "it reads texts alone, and a folder would run a plan on texts that is another one on "
            "images; impasto.load and impasto.apply run the plan"
        )


def as_checkpoint(source: Source, plan: Plan) -> Built:
    """Build an ordinary model of the family whose layers are the plan's."""
    opened = source.opened
    blocks = blocks_of(opened, plan)
    hf = reordered(source, blocks)
    order = [block.layer for block in blocks]
    state = separate(hf, opened.anatomy.path, order)
    if any(block.scales for block in blocks) and isinstance(opened, OpenedModel):
        state = scaled_weights(opened, blocks, state)
    return Built(hf, state, len(order), is_plain=True)


def reordered(source: Source, blocks: Sequence[Folded]) -> Any:
    """Return an ordinary model of the family with these layers, none of whose weights is copied.

    Raises:
        NotInFormError: when the family's configuration cannot say it.
    """
    opened, order = source.opened, [block.layer for block in blocks]
    config = renumbered(opened.hf.config, order)
    vars(config).pop(CONFIGURED, None)  # maps are of other layers, and by the source's numbers
    hf = rebuilt(opened, config, order)
    compare(opened, source.outline, hf, order)
    return hf


@contextmanager
def naming_others(source: Source, plan: Plan, form: str) -> Iterator[None]:
    """Give a context in which a form that does not hold a plan is told with those that do."""
    try:
        yield
    except NotInFormError as error:
        raise ExportError(f"{error}; {_remedy(source, plan, form)}") from error


def _remedy(source: Source, plan: Plan, form: str) -> str:
    """Say what can run a plan that a form does not hold."""
    able = []
    for other, check in (("checkpoint", _as_checkpoint), ("planned", _as_planned)):
        with suppress(ExportError):
            if other != form:
                check(source, plan)
                able.append(f"form={other!r}")
    if able:
        return f"{' or '.join(able)} (--as) can hold this plan"
    return "impasto.load and impasto.apply run the plan"


def _as_checkpoint(source: Source, plan: Plan) -> None:
    if maps_within(source.model.hf.config, source.opened.anatomy.path, plan.layers):
        raise NotInFormError("the maps of a healed model are no modules of its family")
    reordered(source, blocks_of(source.opened, plan))


def _as_planned(source: Source, plan: Plan) -> None:
    refuse_planned(source.opened)


def blocks_of(opened: Opened, plan: Plan) -> list[Folded]:
    """Return the layers of a plan that an ordinary checkpoint holds.

    Raises:
        ExportError: when the plan is no sequence of whole layers, and cannot be folded into one.
    """
    if isinstance(opened, OpenedModel) and (found := folded(opened, plan)) is not None:
        return found
    steps = [step for step in plan.steps if isinstance(step, Layer) and step.is_whole]
    if len(steps) < len(plan.steps):
        other = next(step for step in plan.steps if step not in steps)
        raise NotInFormError(
            f"{Plan((other,))} is no whole layer as the model has it, and an ordinary checkpoint "
            "holds whole layers only, one after the other"
        )
    return [Folded(step.index) for step in steps]


def as_planned(source: OpenedModel, plan: Plan) -> Built:
    """Build the source anew with the layers that the plan names, each once."""
    held = with_tied(source.hf, source.anatomy.path, plan.layers)
    order = [layer if layer in held else None for layer in range(source.num_layers)]
    hf = rebuilt(source, source.hf.config, order)
    if hf.can_generate():  # a plan's keys and values need the usual cache
        hf.generation_config.cache_implementation = None
    return Built(hf, dict(hf.state_dict()), len(held), is_plain=False)


def save(built: Built, folder: Path, dest: Path, max_shard_size: int | str) -> None:
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
