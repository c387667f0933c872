"""Plans: what one makes of a prompt, what it runs, and what a study of them costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import MemoryOption, ModelOption, PlanOption, bytes_of, load_model
from impasto.error import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impasto.plan import Plan
    from impasto.run import Donor


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the model reads.")],
    plan: PlanOption,
    model: ModelOption = "demo",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="The longest answer.")
    ] = 16,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", help=r"Text that ends the answer; \n is a newline. May be repeated."
        ),
    ] = None,
    donor: Annotated[
        str | None, typer.Option("--donor", help="For inject(donor): the prompt injected from.")
    ] = None,
    donor_span: Annotated[
        str | None, typer.Option("--donor-span", help="The donor's text that is injected.")
    ] = None,
    target_span: Annotated[
        str | None, typer.Option("--target-span", help="The prompt's text that it replaces.")
    ] = None,
) -> None:
    """Continue a prompt under a plan, beside the unchanged model."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    donors = _donors(parsed, donor, donor_span, target_span)
    opened = load_model(model)
    baseline = Plan.identity(opened.num_layers)
    stops = [text.replace(r"\n", "\n") for text in stop or []]
    [plain], [edited] = opened.generate(
        [baseline, parsed], [prompt], max_new_tokens=max_new_tokens, stop=stops, donors=donors
    )
    _show_answers([("baseline", baseline, plain), ("plan", parsed, edited)])


@app.command()
def fill(
    text: Annotated[str, typer.Argument(help="What the encoder reads, with its mask token in it.")],
    plan: PlanOption,
    model: Annotated[str, typer.Option("--model", help="A hub id, or a folder with an encoder.")],
) -> None:
    """Fill in the masks of a text under a plan, beside the unchanged encoder."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    opened = load_model(model)
    baseline = Plan.identity(opened.num_layers)
    [plain], [edited] = opened.fill([baseline, parsed], [text])
    _show_answers([("baseline", baseline, "\n".join(plain)), ("plan", parsed, "\n".join(edited))])


@app.command()
def explain(
    study: Annotated[
        Path | None, typer.Argument(help="A study file: what running it will cost.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help='Or one plan: "0-7 freeze 8-11".')
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
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Also draw the plan into this SVG file.")
    ] = None,
) -> None:
    """Say what a plan runs, in full, in words and as a diagram; or what a study will cost."""
    if (study is None) == (plan is None):
        raise UserError("explain takes a study file, or --plan PLAN: one of the two")
    if svg is not None and plan is None:
        raise UserError("--svg draws a plan; give it with --plan PLAN")
    if study is not None:
        _explain_study(study, model, limit, bytes_of(memory))
        return
    assert plan is not None
    from impasto.plan import Plan

    if model is not None and layers is not None:
        raise UserError("--model and --layers both say how many layers there are; give one")
    parsed = Plan.parse(plan, layers=layers)
    total = layers
    if model is not None:
        total = load_model(model).num_layers
        parsed.check(total)
    if svg is not None:
        _draw(parsed, svg)
    for line in _explanation(parsed, total):
        typer.echo(line)


def _draw(plan: "Plan", file: Path) -> None:
    """Write a plan's picture; raises UserError where it cannot be written."""
    from impasto.plan import picture

    try:
        file.write_text(picture(plan) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None


def _explain_study(path: Path, model: str | None, limit: int | None, memory: int | None) -> None:
    """Print what a study costs before anything runs."""
    from impasto.study import Study

    read = Study.from_yaml(path)
    found = read.estimate(model=model, limit=limit, memory=memory)
    cost, gib = found.cost, 2**30
    typer.echo(f"study    {read.name}: {found.plans} plans, {found.items} items")
    typer.echo("work     in layer-rows (one token's state through one layer), at most")
    for what, rows in (
        ("every plan and request alone", cost.alone),
        ("plans as a tree", cost.plans),
        ("+ common tokens read once", cost.tokens),
        ("+ dead rows not run", cost.rows),
    ):
        typer.echo(f"  {what:29} {rows:14,.0f}  {cost.alone / rows:6.1f} times less")
    minutes, seconds = divmod(round(found.seconds), 60)
    typer.echo(
        f"time     {minutes}:{seconds:02} at most, at {found.seconds_per_layer_row * 1e6:.2f} µs "
        "per layer-row as measured here"
    )
    typer.echo(
        f"memory   {found.weight_bytes / gib:.2f} GiB of weights, "
        f"{cost.peak_bytes / gib:.2f} GiB for the largest batch"
    )


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
    yield ""
    for number, sentence in enumerate(in_words(plan), 1):
        yield f"{number:3}. {sentence}"
    yield ""
    yield diagram(plan)


def _donors(
    plan: "Plan", prompt: str | None, donor_span: str | None, target_span: str | None
) -> "dict[str, Donor] | None":
    """Return the donor for every name that the plan injects; raises UserError if it is missing."""
    given = (prompt, donor_span, target_span)
    if not plan.injections and not any(given):
        return None
    if not plan.injections:
        raise UserError("--donor is for plans that inject; this one does not")
    if prompt is None or donor_span is None or target_span is None:
        raise UserError(
            "a plan that injects needs --donor PROMPT, --donor-span TEXT and --target-span TEXT"
        )
    from impasto.run import Donor

    donor = Donor(prompt, donor_span=donor_span, target_span=target_span)
    return dict.fromkeys(plan.injections, donor)


def _show_answers(answers: "list[tuple[str, Plan, str]]") -> None:
    """Print each plan's answer under its line."""
    for label, plan, text in answers:
        typer.echo(f"{label}: {plan}")
        for line in text.strip("\n").split("\n"):
            typer.echo(f"    {line}")
