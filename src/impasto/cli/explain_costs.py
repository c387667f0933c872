"""What a study, or a plan on a model, costs: counted, and in seconds here or on a card."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from impasto.cli.options import scaled
from impasto.error import UserError
from impasto.table import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impasto.plan import Plan
    from impasto.plan.cost import Prediction
    from impasto.run import Encoder, Model
    from impasto.speed.cards import Card
    from impasto.study.running.estimate import StudyCost

_TOKENS = 512


def explain_study(
    path: Path,
    model: str | None,
    limit: int | None,
    memory: int | None,
    load: dict[str, str],
    card: "Card | None",
) -> None:
    """Print what a study costs before anything runs, model by model."""
    from impasto.study import Study

    read = Study.from_yaml(path).loading(load)
    names, seconds = [model] if model else read.models, 0.0
    for name in names:
        found = read.estimate(
            model=name, limit=limit, memory=memory, card=None if card is None else card.name
        )
        for notice in found.notices:
            typer.echo(notice, err=True)
        if len(names) > 1:
            typer.echo(f"model    {name}")
        for line in _study_costs(read.name, found, card):
            typer.echo(line)
        seconds += found.seconds
        if len(names) > 1:
            typer.echo("")
    if len(names) > 1:
        typer.echo(f"all      {_minutes(seconds)} at most, one model after the other")


def _study_costs(name: str, found: "StudyCost", card: "Card | None") -> "Iterator[str]":
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
    pace = f"{found.pace.row * 1e6:.2f} µs per layer-row"
    if cost.calls:
        pace += f" and {found.pace.call * 1e6:.0f} µs per layer called to write a token"
    if card is None:
        yield f"time     {_minutes(found.seconds)} at most, at {pace} as measured here"
    else:
        from impasto.speed.on_card import assumed

        yield f"time     {_minutes(found.seconds)} on a {card.name}, an estimate, at {pace}:"
        yield f"         {assumed(card)}"
    yield (
        f"memory   {found.weight_bytes / gib:.2f} GiB of weights, "
        f"{cost.peak_bytes / gib:.2f} GiB for the largest batch"
        + ("" if card is None else f"; a {card.name} has {card.memory / gib:.2f} GiB")
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def reading(plan: "Plan", model: "Model | Encoder") -> "Iterator[str]":
    """Yield how a model reads texts whose rows cannot be packed, and what is slower there."""
    if model.runs_sequences is None:
        return
    yield f"reads    sequences as they are, for rows cannot be packed: {model.runs_sequences}"
    if plan.has_history:
        yield (
            "slower   each predicted token takes a step of its own, from the state that the "
            "tokens before it left"
        )


def costs(
    plan: "Plan", model: "Model | Encoder", tokens: int | None, card: "Card | None"
) -> "Iterator[str]":
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
    where = "after a prompt" if reads_on else "for a text"
    yield f"cost     {where} of {tokens} tokens, and its share of the baseline's"
    shares = [
        [f"  {what}", scaled(n), f"{100 * n / of:.1f} %" if of else ""] for what, n, of in rows
    ]
    yield from aligned(shares, right=(1, 2))
    speeds = [f"{text} {_times(base.prefill.flops, told.prefill.flops)} (by operations)"]
    if reads_on:
        speeds.append(f"a token more {_times(base.decode.bytes, told.decode.bytes)} (by bytes)")
    yield f"speed    expected, as a multiple of the baseline's: {', '.join(speeds)}"
    if card is not None:
        yield from _on_card(card, model, told, text, reads_on)


def _on_card(
    card: "Card", model: "Model | Encoder", told: "Prediction", text: str, reads_on: bool
) -> "Iterator[str]":
    """Yield how long a plan takes on a card; raises UserError where the weights do not fit."""
    from impasto.speed.on_card import assumed, batch_bytes, seconds_on

    dtype = str(model.hf.dtype).removeprefix("torch.")
    batch_bytes(card, told.parameters * model.shape.itemsize)
    times = [f"{text} {1e3 * seconds_on(card, dtype, told.prefill):.3g} ms"]
    if reads_on:
        times.append(f"a token more {1e3 * seconds_on(card, dtype, told.decode):.3g} ms")
    yield f"on       a {card.name}, an estimate: {', '.join(times)};"
    yield f"         {assumed(card)}"


def _times(base: float, own: float) -> str:
    return f"{base / own:.2f}" if own else "any"
