"""Explaining: what a plan runs and costs, and what a study will cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import (
    AllowCodeOption,
    DeviceOption,
    DtypeOption,
    MemoryOption,
    bytes_of,
    load_model,
    loading,
    scaled,
)
from impasto.error import UserError
from impasto.table import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impasto.plan import Plan
    from impasto.run import Encoder, Model
    from impasto.study.running.estimate import StudyCost

_TOKENS = 512


@app.command()
def explain(
    study: Annotated[
        Path | None, typer.Argument(help="A study file: what running it will cost.")
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
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Say what a plan runs, in full, in words and as a diagram; or what a study will cost."""
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
        _explain_study(study, model, limit, bytes_of(memory), loading(device, dtype))
        return
    if model is not None and layers is not None:
        raise UserError("--model and --layers both say how many layers there are; give one")
    if tokens is not None and model is None:
        raise UserError("--tokens is for --model: what a prompt costs depends on the model")
    if model is None and (device or dtype):
        raise UserError("--device and --dtype are for a model that is opened: add --model")
    if source is not None:
        opened = None if model is None else load_model(model, device, dtype)
        _explain_file(source, format, opened, layers, svg, tokens)
        return
    assert plan is not None, "one of the three is given"
    from impasto.plan import Plan

    parsed = Plan.parse(plan, layers=layers)
    opened = None if model is None else load_model(model, device, dtype)
    _explain_plan(parsed, opened, layers, svg, tokens)


def _explain_file(
    source: Path,
    format: str | None,
    opened: "Model | Encoder | None",
    layers: int | None,
    svg: Path | None,
    tokens: int | None,
) -> None:
    """Print what another tool's plan runs; of several, each in a line."""
    from impasto.plan import Plan

    known = layers if opened is None else opened.num_layers
    plans = list(Plan.read_all(source, known, format))
    if len(plans) == 1:
        _explain_plan(plans[0], opened, known, svg, tokens)
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
        for line in (*_reading(plan, opened), *_costs(plan, opened, tokens)):
            typer.echo(line)


def _draw(plan: "Plan", file: Path) -> None:
    """Write a plan's picture; raises UserError where it cannot be written."""
    from impasto.plan import picture

    try:
        file.write_text(picture(plan) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def _explain_study(
    path: Path, model: str | None, limit: int | None, memory: int | None, load: dict[str, str]
) -> None:
    """Print what a study costs before anything runs, model by model."""
    from impasto.study import Study

    read = Study.from_yaml(path).loading(load)
    names, seconds = [model] if model else read.models, 0.0
    for name in names:
        found = read.estimate(model=name, limit=limit, memory=memory)
        for notice in found.notices:
            typer.echo(notice, err=True)
        if len(names) > 1:
            typer.echo(f"model    {name}")
        for line in _study_costs(read.name, found):
            typer.echo(line)
        seconds += found.seconds
        if len(names) > 1:
            typer.echo("")
    if len(names) > 1:
        typer.echo(f"all      {_minutes(seconds)} at most, one model after the other")


def _study_costs(name: str, found: "StudyCost") -> "Iterator[str]":
    """Yield what a study costs with one model, line by line."""
    cost, gib = found.cost, 2**30
    from impasto.plan import count_of_plans

    most = "at most " if found.is_most else ""
    plans = count_of_plans(found.entries, found.plans)
    yield f"study    {name}: {plans}, {most}{found.items} items"
    yield "work     in layer-rows (one token's state through one layer), at most"
    work = (
        ("  every plan and request alone", cost.alone),
        ("  plans as a tree", cost.plans),
        ("  + common tokens read once", cost.tokens),
        ("  + dead rows not run", cost.rows),
    )
    less = [[what, f"{rows:,.0f}", f"{cost.alone / rows:.1f} times less"] for what, rows in work]
    yield from aligned(less, right=(1, 2))
    yield (
        f"time     {_minutes(found.seconds)} at most, at "
        f"{found.seconds_per_layer_row * 1e6:.2f} µs per layer-row as measured here"
    )
    yield (
        f"memory   {found.weight_bytes / gib:.2f} GiB of weights, "
        f"{cost.peak_bytes / gib:.2f} GiB for the largest batch"
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


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


def _reading(plan: "Plan", model: "Model | Encoder") -> "Iterator[str]":
    """Yield how a model reads texts whose rows cannot be packed, and what is slower there."""
    if model.runs_sequences is None:
        return
    yield f"reads    sequences as they are, for rows cannot be packed: {model.runs_sequences}"
    if plan.has_history:
        yield (
            "slower   each predicted token takes a step of its own, from the state that the "
            "tokens before it left"
        )


def _costs(plan: "Plan", model: "Model | Encoder", tokens: int | None) -> "Iterator[str]":
    """Yield what a plan costs, beside the baseline; raises UserError for what does not fit."""
    from impasto.plan import Plan
    from impasto.plan.cost import compared
    from impasto.run import Encoder

    longest = model.max_positions or _TOKENS + 1
    tokens = tokens or min(_TOKENS, longest - 1)
    if tokens >= longest:
        raise UserError(
            f"--tokens {tokens} and one more do not fit: the model has {longest} positions"
        )
    reads_on = not isinstance(model, Encoder)
    shape = model.shape
    told, base, rows = compared(plan, Plan.identity(len(shape.layers)), shape, tokens, reads_on)
    text = "prefill" if reads_on else "a text"
    where = "behind a prompt" if reads_on else "for a text"
    yield f"cost     {where} of {tokens} tokens, and its share of the baseline's"
    shares = [
        [f"  {what}", scaled(n), f"{100 * n / of:.1f} %" if of else ""] for what, n, of in rows
    ]
    yield from aligned(shares, right=(1, 2))
    speeds = [f"{text} {_times(base.prefill.flops, told.prefill.flops)} (by operations)"]
    if reads_on:
        speeds.append(f"a token more {_times(base.decode.bytes, told.decode.bytes)} (by bytes)")
    yield f"speed    expected, as a multiple of the baseline's: {', '.join(speeds)}"


def _times(base: float, own: float) -> str:
    return f"{base / own:.2f}" if own else "any"
