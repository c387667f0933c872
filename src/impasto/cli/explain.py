"""Explaining: what a plan runs and costs, and what a study will cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import study_files
from impasto.cli.explain_costs import costs, explain_study, reading
from impasto.cli.options import (
    AllowCodeOption,
    DtypeOption,
    MemoryOption,
    bytes_of,
    load_model,
    loading,
)
from impasto.error import UserError
from impasto.table import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impasto.plan import Plan
    from impasto.run import Encoder, Model
    from impasto.speed.cards import Card


@app.command()
def explain(
    study: Annotated[
        Path | None,
        typer.Argument(help="A study file: what running it will cost.", autocompletion=study_files),
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help='Or one plan: "0-7 freeze 8-11".')
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Or the plans of another tool's file (docs/formats.md)."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="What --from is written in.  [default: recognised]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Check and count the plan for this model.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option("--layers", min=1, help="Or for any model of so many layers.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many questions per task.")
    ] = None,
    memory: MemoryOption = None,
    allow_code: AllowCodeOption = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Also draw the plan into this SVG file.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=1, help="How long a prompt to count for.  [default: 512]"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="cpu, cuda, … or auto; or a card that need not be here, for what it costs there: "
            "h200, h100-sxm, a100-80, l4, rtx-4090, …  [default: an accelerator, if the weights "
            "fit]",
        ),
    ] = None,
    dtype: DtypeOption = None,
) -> None:
    """Say what a plan runs, in full, in words and as a diagram; or what a study will cost.

    With the name of a graphics card as --device, costs are estimated by its data sheet.
    """
    card = _card(device)
    device = None if card is not None else device
    given = [value for value in (study, plan, source) if value is not None]
    if len(given) != 1:
        raise UserError("explain takes a study file, --plan PLAN or --from FILE: one of them")
    if format is not None and source is None:
        raise UserError("--format says what --from is written in; give it with --from FILE")
    if svg is not None and study is not None:
        raise UserError("--svg draws a plan; give it with --plan PLAN or --from FILE")
    if study is not None:
        if tokens is not None:
            raise UserError("--tokens is for --plan; a study brings its own prompts")
        explain_study(study, model, limit, bytes_of(memory), loading(device, dtype), card)
        return
    if model is not None and layers is not None:
        raise UserError("--model and --layers both say how many layers there are; give one")
    if tokens is not None and model is None:
        raise UserError("--tokens is for --model: what a prompt costs depends on the model")
    if model is None and (device or dtype or card):
        raise UserError("--device and --dtype are for a model that is opened: add --model")
    if source is not None:
        opened = None if model is None else load_model(model, device, dtype)
        _explain_file(source, format, opened, layers, svg, tokens, card)
        return
    assert plan is not None, "one of the three is given"
    from impasto.plan import Plan

    parsed = Plan.parse(plan, layers=layers)
    opened = None if model is None else load_model(model, device, dtype)
    _explain_plan(parsed, opened, layers, svg, tokens, card)


def _card(device: str | None) -> "Card | None":
    """Return the card that a device names; raises UserError where it is neither card nor device."""
    if device is None or device == "auto":
        return None
    from impasto.speed.cards import CARDS, card_named

    if device in CARDS:
        return CARDS[device]
    import torch

    try:
        torch.device(device)
    except RuntimeError:
        return card_named(device)
    return None


def _explain_file(
    source: Path,
    format: str | None,
    opened: "Model | Encoder | None",
    layers: int | None,
    svg: Path | None,
    tokens: int | None,
    card: "Card | None",
) -> None:
    """Print what another tool's plan runs; of several, each in a line."""
    from impasto.plan import Plan

    known = layers if opened is None else opened.num_layers
    plans = list(Plan.read_all(source, known, format))
    if len(plans) == 1:
        _explain_plan(plans[0], opened, known, svg, tokens, card)
        return
    if svg is not None:
        raise UserError(f"--svg draws one plan, and {source} has {len(plans):,}")
    typer.echo(f"plans    {len(plans):,}, {len(set(plans)):,} of them different")
    rows = [
        [f"{number:,}.", f"{plan.occurrences.layers} layers", str(plan)]
        for number, plan in enumerate(plans, 1)
    ]
    for line in aligned(rows, right=(0, 1)):
        typer.echo(line)


def _explain_plan(
    plan: "Plan",
    opened: "Model | Encoder | None",
    layers: int | None,
    svg: Path | None,
    tokens: int | None,
    card: "Card | None",
) -> None:
    """Print what a plan runs, and, on a model, what it costs."""
    if opened is not None:
        plan.check(opened.num_layers)
        layers = opened.num_layers
    if svg is not None:
        _draw(plan, svg)
    for line in _explanation(plan, layers):
        typer.echo(line)
    if opened is not None:
        for line in (*reading(plan, opened), *costs(plan, opened, tokens, card)):
            typer.echo(line)


def _draw(plan: "Plan", file: Path) -> None:
    """Write a plan's picture; raises UserError where it cannot be written."""
    from impasto.plan import picture

    try:
        file.write_text(picture(plan) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def _explanation(plan: "Plan", layers: int | None) -> "Iterator[str]":
    """Yield what a plan runs, line by line; counted against a model's layers where known."""
    from impasto.plan import Plan, diagram, in_words

    runs = plan.occurrences
    yield f"plan     {plan}"
    yield f"digest   {plan.digest}"
    yield f"in full  {' '.join(str(Plan((step,))) for step in plan.steps)}"
    counts = f"{runs.layers} layers: attention {runs.attention} times, MLP {runs.mlp} times"
    if layers is not None:
        share = (runs.attention + runs.mlp) / (2 * layers)
        counts += f" ({100 * share:.1f} % of the baseline's {layers} and {layers})"
    yield f"runs     {counts}"
    yield from _held(plan)
    yield ""
    for number, sentence in enumerate(in_words(plan), 1):
        yield f"{number:3}. {sentence}"
    yield ""
    yield diagram(plan)


def _held(plan: "Plan") -> "Iterator[str]":
    """Yield which attentions hold keys and values of so many tokens at the most."""
    from impasto.plan import Layer, Plan
    from impasto.plan.lowering import lower

    layers: dict[int, list[int]] = {}
    for occurrence, reach in lower(plan).reaches.items():
        layers.setdefault(reach.held, []).append(occurrence.layer)
    for held, some in sorted(layers.items()):
        counts = f"{held} token{'s' * (held > 1)} of a text at {len(some)} attention"
        where = Plan(tuple(map(Layer, sorted(set(some)))))
        yield (
            f"holds    keys and values of at most {counts}{'s' * (len(some) > 1)}, of layer"
            f"{'s' * (len(set(some)) > 1)} {where}"
        )
