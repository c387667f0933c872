"""The commands: read what was asked, call, print.

A user's mistake ends in one message on stderr and exit code 2. What is slow to import (torch,
transformers, matplotlib) is imported only once everything that can be checked without it was.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from impasto.error import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from impasto.plan import Plan
    from impasto.run import Donor, Model

USER_ERROR, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """The commands, with every mistake answered in one place."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a user's mistake is a message, never a traceback."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"impasto: {error}", err=True)
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt:
            typer.echo("impasto: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run any pretrained transformer the way you write it down.",
)

ModelOption = Annotated[
    str, typer.Option("--model", help="demo (bundled), a hub id, or a folder with a model.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory", help="What a batch may take: 8GiB.  [default: half of what is free]"),
]
PlanOption = Annotated[str, typer.Option("--plan", help='How to run it: "0-7 freeze 8-11".')]


def main() -> None:
    """Run the command line; what the script `impasto` calls."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"impasto {version('impasto')}")
        raise typer.Exit


@app.callback()
def _impasto(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run any pretrained transformer the way you write it down."""
    _prepare_libraries()


@app.command()
def run(
    study: Annotated[
        Path, typer.Argument(help="The study file, such as studies/attend_first.yaml.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Run another model than the study names.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where results go.  [default: runs/NAME]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many questions per task.")
    ] = None,
    memory: MemoryOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Run a study: every plan on every task, then figures and findings."""
    allowed = _bytes(memory)
    from impasto.study import Study, check_writable
    from impasto.study.progress import show_progress

    read = Study.from_yaml(study)
    folder = Path("runs", read.name) if out is None else out
    check_writable(folder)
    check_writable(folder / "figures")
    with show_progress(quiet) as progress:
        results = read.run(folder, model=model, limit=limit, memory=allowed, progress=progress)
    from impasto.analysis import findings
    from impasto.figures import draw

    paths = draw(results, folder / "figures")
    typer.echo(f"results  {folder / 'results.csv'}")
    for path in paths:
        typer.echo(f"figure   {path}")
    if results.seconds is not None and results.seconds.expected is not None:
        taken, expected = results.seconds.taken, results.seconds.expected
        typer.echo(f"time     {taken:.0f} s (expected at most {expected:.0f} s)")
    for sentence in findings(results.frame()):
        typer.echo(f"- {sentence}")


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
    opened = _load(model)
    baseline = Plan.identity(opened.num_layers)
    stops = [text.replace(r"\n", "\n") for text in stop or []]
    [plain], [edited] = opened.generate(
        [baseline, parsed], [prompt], max_new_tokens=max_new_tokens, stop=stops, donors=donors
    )
    _show_answers([("baseline", baseline, plain), ("plan", parsed, edited)])


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
) -> None:
    """Say what a plan runs, in full, in words and as a diagram; or what a study will cost."""
    if (study is None) == (plan is None):
        raise UserError("explain takes a study file, or --plan PLAN: one of the two")
    if study is not None:
        _explain_study(study, model, limit, _bytes(memory))
        return
    assert plan is not None
    from impasto.plan import Plan

    if model is not None and layers is not None:
        raise UserError("--model and --layers both say how many layers there are; give one")
    parsed = Plan.parse(plan, layers=layers)
    total = layers
    if model is not None:
        total = _load(model).num_layers
        parsed.check(total)
    for line in _explanation(parsed, total):
        typer.echo(line)


@app.command()
def export(
    dest: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    plan: PlanOption,
    model: ModelOption = "demo",
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            help="checkpoint (whole layers only) or planned.  [default: the first that can]",
        ),
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="The most that a file of weights holds.")
    ] = "5GB",
) -> None:
    """Write a model that runs a plan without impasto, checked by loading it again."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    from impasto.exporting import export as write

    done = write(model, parsed, dest, form=form, max_shard_size=max_shard_size)  # type: ignore[arg-type]
    typer.echo(f"folder   {done.folder}")
    typer.echo(f"layers   {done.layers} stored, {done.bytes / 1e6:.1f} MB")
    code = ", trust_remote_code=True" if done.form == "planned" else ""
    typer.echo(f'opens by AutoModelForCausalLM.from_pretrained("{dest}"{code})')
    worst = max(done.found.plain, done.found.cached)
    typer.echo(f"checked  loaded again, its logits are the plan's (difference {worst:.1e})")


@app.command()
def models(
    model: Annotated[
        str | None, typer.Argument(help="Open this model, and say what the check found.")
    ] = None,
) -> None:
    """List the families that are compared with the reference, or check one model."""
    from impasto.model.families import FAMILIES

    if model is not None:
        opened = _load(model)
        typer.echo(f"{opened.name}: {opened.family}, {opened.num_layers} layers; plans run on it")
        typer.echo("relative differences that the opening check found, on six tokens:")
        for claim, found in opened.checked:
            typer.echo(f"  {found:8.1e}  {claim}")
        return
    for family in FAMILIES:
        typer.echo(f"{family.model_type:12} {family.name:17} {family.traits}")
    typer.echo(
        "\nEach is compared with a naive reference under every kind of plan, with and without a "
        "cache.\nAny other decoder is checked as it is opened: impasto models MODEL says what was "
        "found."
    )


@app.command(
    "lm-eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's command line on a plan: --model_args pretrained=M,plan="…"."""
    from impasto.lm_eval import run_command_line

    run_command_line(context.args)


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


def _bytes(text: str | None) -> int | None:
    """Read an amount of memory."""
    if text is None:
        return None
    from impasto.run.memory import parse_bytes

    return parse_bytes(text)


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


def _load(name: str) -> "Model":
    """Return the model of this name."""
    from impasto.run import load

    return load(name)


def _prepare_libraries() -> None:
    """Keep what libraries print while loading off the screen, and their threads from spinning.

    OpenMP's threads wait for each other by spinning. On a machine that is busy with anything else
    that makes small models ten times slower, so they are to give up soon.
    """
    for name, value in (
        ("GOMP_SPINCOUNT", "30000"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_VERBOSITY", "error"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)


def _show_answers(answers: "list[tuple[str, Plan, str]]") -> None:
    """Print each plan's answer under its line."""
    for label, plan, text in answers:
        typer.echo(f"{label}: {plan}")
        for line in text.strip("\n").split("\n"):
            typer.echo(f"    {line}")


if __name__ == "__main__":
    sys.exit(main())
