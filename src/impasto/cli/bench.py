"""Bench: what plans cost in time and memory, beside the baseline and what was to be expected."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.app import app
from impasto.cli.completion import study_files
from impasto.cli.options import (
    DeviceOption,
    DtypeOption,
    check_one_of,
    loading,
    number_of,
    numbers_of,
    words_of,
)
from impasto.error import UserError
from impasto.plain_data import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from impasto.run import Model
    from impasto.speed import Plans, Settings
    from impasto.study import Study

WAYS = ("apply", "engine")
FORMS = ("csv", "json", "md")
FILL = "fill"


@app.command()
def bench(
    study: Annotated[
        Path | None,
        typer.Argument(
            help="A study file: time its plans, on its model.", autocompletion=study_files
        ),
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option("--plan", help="A plan to time. May be repeated.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            "--family",
            help='A family, as in a study file: "drop_last: {part: mlp, count: 25%}". '
            "May be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="demo (bundled), a hub id, or a folder.  [default: demo]"),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="Random weights instead: llama-2-7b, or a config.json."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", help="Lengths of the prompt: 128,512.")
    ] = None,
    batch: Annotated[
        str, typer.Option("--batch", help="Sequences at once: 1,8,fill (fill: what fits).")
    ] = "1",
    new: Annotated[
        int | None,
        typer.Option("--new", min=0, help="Tokens read after the prompt.  [default: 16]"),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="How often each plan runs.  [default: 9]"),
    ] = None,
    through: Annotated[
        str, typer.Option("--through", help="apply: the Hugging Face model; engine: generate.")
    ] = "apply",
    one_token: Annotated[
        bool, typer.Option("--one-token", help="Paper C's tables: the time to one token.")
    ] = False,
    sequences: Annotated[
        int | None,
        typer.Option(
            "--sequences", min=1, help="For --one-token: how many of each length.  [default: 1000]"
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also split each plan's time by part and layer.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, json or md.  [default: tables]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Time plans against the baseline: prompts, tokens after them, memory; expected and measured.

    Plans take turns, so that other work on the machine slows all alike; times have intervals.
    """
    check_one_of("--through", through, WAYS)
    if form is not None:
        check_one_of("--format", form, FORMS)
    options = loading(device, dtype)
    if shape is not None and (model is not None or study is not None):
        raise UserError("--shape is in the place of a model; leave --model and the study out")
    if profile and one_token:
        raise UserError("--profile and --one-token are two things; give one")
    if profile and form is not None:
        raise UserError("--profile is for the screen: leave --format out")
    lengths = None if tokens is None else numbers_of("--tokens", tokens)
    batches = [n if n == FILL else number_of("--batch", n) for n in words_of(batch)]
    if one_token and batches != [1]:
        raise UserError("--one-token reads one sequence at a time; leave --batch out")
    if one_token and (new is not None or rounds is not None):
        raise UserError(
            "--one-token reads each sequence once, up to its first new token: leave --new and "
            "--rounds out; --sequences says how many are read"
        )
    if sequences is not None and not one_token:
        raise UserError("--sequences is for --one-token; add it, or say --rounds")
    read = _study(study)
    wanted = _Wanted(read, plan or [], family or [], one_token)
    loaded = _loaded(model or (read.model if read else "demo"), shape, options)
    plans = wanted.plans(loaded)
    if one_token:
        _one_token(loaded, plans, lengths, sequences, through, form, quiet)
        return
    from impasto.speed import Settings

    usual = Settings()
    new, rounds = usual.new_tokens if new is None else new, rounds or usual.rounds
    lengths = lengths or [_usual_length(loaded, new)]
    sizes = [_filling(loaded, max(lengths), new) if n == FILL else n for n in batches]
    settings = Settings(lengths, sizes, new, rounds, way=through)  # type: ignore[arg-type]
    _bench(loaded, plans, settings, profile, form, quiet)


def _bench(
    model: "Model",
    plans: "Plans",
    settings: "Settings",
    profile: bool,
    form: str | None,
    quiet: bool,
) -> None:
    from impasto.speed import bench as measure
    from impasto.speed.table import FORMS as WRITERS
    from impasto.speed.table import bench_rows, show_bench

    with _progress(quiet) as progress:
        found = measure(model, plans, settings, progress)
    if form is not None:
        typer.echo(WRITERS[form](bench_rows(found)), nl=False)
        for note in found.notes:
            typer.echo(f"impasto: {note}", err=True)
    else:
        for line in show_bench(found, settings):
            typer.echo(line)
    if profile:
        _profile(model, plans, settings)


def _profile(model: "Model", plans: "Plans", settings: "Settings") -> None:
    from impasto.speed import profile as split
    from impasto.speed.bench import random_tokens, runs_of
    from impasto.speed.table import show_profile

    ids = random_tokens(model, max(settings.batches), max(settings.tokens), settings.seed)
    for label, (way, plan) in runs_of(model, plans, settings.way).items():
        typer.echo("")
        parts = split(model, plan, ids, way, min(2, settings.new_tokens))
        for line in show_profile(label, parts):
            typer.echo(line)


def _one_token(
    model: "Model",
    plans: "Plans",
    lengths: list[int] | None,
    sequences: int | None,
    through: str,
    form: str | None,
    quiet: bool,
) -> None:
    from impasto.speed import one_token as measure
    from impasto.speed.one_token import LENGTHS, SEQUENCES
    from impasto.speed.table import FORMS as WRITERS
    from impasto.speed.table import one_token_rows, show_one_token

    sequences = sequences or SEQUENCES
    with _progress(quiet) as progress:
        found = measure(
            model,
            plans,
            lengths or LENGTHS,
            sequences,
            through,  # type: ignore[arg-type]
            progress=progress,
        )
    if form is not None:
        typer.echo(WRITERS[form](one_token_rows(found)), nl=False)
        return
    typer.echo(f"model    {model.name}; {sequences} sequences of each length, one at a time")
    typer.echo("         ±: half of the mean's 95 % interval; expected: by operations and bytes")
    for line in show_one_token(found):
        typer.echo(line)


class _Wanted:
    """The plans that were asked for, checked as far as that goes without a model.

    Paper C's families are what ``--one-token`` times where nothing else is asked for.
    """

    def __init__(
        self, study: "Study | None", lines: Sequence[str], families: Sequence[str], one_token: bool
    ) -> None:
        from impasto.plan import Plan

        if not (study or lines or families or one_token):
            raise UserError("bench takes --plan PLAN, --family NAME, or a study file")
        self._lines = [Plan.parse(line) for line in lines]
        self._entries = [] if study is None else [*study.plans]
        if one_token and not (study or lines or families):
            families = [_PAPER_C]
        self._entries += [_entry(family) for family in families]
        self._skips_injections = study is not None

    def plans(self, model: "Model") -> "Plans":
        """Return the plans by label; those that inject are left out of a study's."""
        from impasto.plan import count_of_plans
        from impasto.study.file.entries import labelled_plans

        found = {}
        for plan in self._lines:
            plan.check(model.num_layers)
            found[str(plan)] = plan
        left_out: list[str] = []
        for each in labelled_plans(self._entries, model.num_layers)[1:]:
            if each.plan.injections and self._skips_injections:
                left_out.append(each.plan.digest)
                continue
            found[_label(each.strategy, each.parameters, str(each.plan))] = each.plan
        if left_out:
            count = count_of_plans(len(left_out), len(set(left_out)))
            typer.echo(f"impasto: not timed, as they inject: {count}", err=True)
        return found


_PAPER_C = (
    "drop_last: {part: [attention, mlp, block], count: [10%, 25%, 33%], keep_last: [false, true]}"
)


def _entry(text: str) -> Any:
    """Read a family with its choices, as a study file has them."""
    from impasto import strategies
    from impasto.study.file.entries import plan_entry

    read = read_yaml(text, "--family")
    is_entry = isinstance(read, dict) and len(read) == 1
    if not (is_entry and isinstance(next(iter(read.values())), dict)) and (
        not isinstance(read, str) or read not in strategies.STRATEGIES
    ):
        raise UserError(
            f"--family {text!r} is no family; write its name, or with choices "
            '"drop_last: {part: mlp, count: 25%}"; the families are '
            f"{', '.join(strategies.STRATEGIES)}"
        )
    return plan_entry(read, where="--family")


def _label(strategy: str, parameters: Sequence[tuple[str, Any]], line: str) -> str:
    from impasto.study.file.entries import WRITTEN

    if strategy == WRITTEN:
        return line
    told = ", ".join(f"{name}={value}" for name, value in parameters)
    return f"{strategy}({told})" if told else strategy


def _study(path: Path | None) -> "Study | None":
    if path is None:
        return None
    from impasto.study import Study

    return Study.from_yaml(path)


def _loaded(name: str, shape: str | None, options: dict[str, Any]) -> "Model":
    import torch

    from impasto.model.loading.placing import accelerator, told

    if shape is not None:
        from impasto.speed import random_model

        device = options.get("device_map", accelerator() or "cpu")
        kind = getattr(torch, options.get("dtype", "float32"))
        return random_model(shape, torch.device(device), kind)
    from impasto.run.load import load_decoder

    loaded = load_decoder(name, **options)
    if notice := told(loaded.hf):
        typer.echo(notice, err=True)
    return loaded


def _usual_length(model: "Model", new: int) -> int:
    longest = model.max_positions
    return 128 if longest is None else max(1, min(128, longest - new))


def _filling(model: "Model", tokens: int, new: int) -> int:
    from impasto.speed.memory import filling_batch

    return filling_batch(model, tokens, new)


@contextmanager
def _progress(quiet: bool) -> "Iterator[Callable[[float], None]]":
    """Show how much is done, on stderr."""
    if quiet:
        yield lambda share: None
        return
    from rich.progress import Progress

    from impasto.screen import console

    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task("timing", total=1.0)
        yield lambda share: bar.update(task, completed=share)
