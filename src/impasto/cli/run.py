"""Studies: running one, and going on with one that was stopped."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from impasto.cli.app import INTERRUPTED, app
from impasto.cli.options import AllowCodeOption, MemoryOption, bytes_of
from impasto.error import UserError
from impasto.screen import printable
from impasto.tasks.harness.code import about_code, code_allowed, folder_with_code

if TYPE_CHECKING:
    from impasto.study import Cluster, Results, Study

SENTENCES = 10  # on the terminal; the report has all


class _Run(TyperCommand):
    """The command, with an option whose value may be left out: `--cluster`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; what stands behind `--cluster` and is no address is another word."""
        from impasto.study.cluster.wanted import LOCAL, is_address

        read = []
        for word, behind in zip(args, [*args[1:], ""], strict=True):
            meant = is_address(behind) or (":" in behind and not Path(behind).exists())
            read += [word] if word != "--cluster" or meant else [word, LOCAL]
        return super().parse_args(ctx, read)


@app.command(cls=_Run)
def run(
    study: Annotated[
        Path, typer.Argument(help="The study file, such as studies/attend_first.yaml.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Run this model alone in place of the study's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where results go.  [default: runs/NAME]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many questions per task.")
    ] = None,
    memory: MemoryOption = None,
    save_every: Annotated[
        float | None,
        typer.Option(
            "--save-every", min=1, help="Seconds of work that are saved at once.  [default: 45]"
        ),
    ] = None,
    track: Annotated[
        str | None, typer.Option("--track", help="Also tell tensorboard, wandb or mlflow.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="[ADDRESS]",
            help="Run on a Ray cluster: ray://host:10001, host:6379, auto; without an address on "
            "this machine's cores or GPUs.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Workers there.  [default: as many as have room]"),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-worker", help="GPUs of each, or a share of one.  [default: 1 if any]"
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus-per-worker", help="CPUs of each, and threads.  [default: 1]"),
    ] = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Also time every plan, as paper C does.")
    ] = False,
    sequences: Annotated[
        int | None,
        typer.Option(
            "--sequences", min=2, help="For --bench: how many of each length.  [default: 100]"
        ),
    ] = None,
    allow_code: AllowCodeOption = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what the folder holds; asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Print where the results are, and nothing else but errors."),
    ] = False,
) -> None:
    """Run a study: every plan on every task, then figures and findings.

    The same command goes on where a run was stopped.
    """
    allowed = bytes_of(memory)
    if sequences is not None and not bench:
        raise UserError("--sequences is for --bench; add it")
    from impasto.study import SAVE_EVERY, Study, check_writable
    from impasto.study.following.progress import show_progress
    from impasto.study.following.tracking import check_tracker
    from impasto.study.running.costing import SEQUENCES

    read = Study.from_yaml(study)
    folder = Path("runs", read.name) if out is None else out
    check_tracker(track)
    where = _cluster(cluster, workers, gpus, cpus)
    check_writable(folder)
    check_writable(folder / "figures")
    options = {"--model": model, "--out": out, "--limit": limit, "--memory": memory}
    options |= {"--save-every": save_every, "--track": track, "--quiet": quiet or None}
    options |= {
        "--allow-code": allow_code or None,
        "--bench": bench or None,
        "--sequences": sequences,
    }
    options |= {"--cluster": cluster, "--workers": workers}
    options |= {"--gpus-per-worker": gpus, "--cpus-per-worker": cpus}
    command = _command(study, options)
    may_run = allow_code or _may_run_code(read)
    throws_away = fresh and _may_throw_away(folder, yes)
    try:
        with show_progress(quiet) as progress:
            results = read.run(
                folder,
                model=model,
                limit=limit,
                memory=allowed,
                save_every=save_every or SAVE_EVERY,
                track=track,
                bench=(sequences or SEQUENCES) if bench else None,
                allow_code=may_run,
                cluster=where,
                fresh=throws_away,
                command=command,
                progress=progress,
                say=lambda notice: typer.echo(printable(notice), err=True),  # also above a bar
            )
    except KeyboardInterrupt as stopped:
        typer.echo(f"impasto: interrupted{f'; {stopped}' if str(stopped) else ''}", err=True)
        if folder.exists():
            typer.echo(f"to go on:  {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"results  {folder / 'results.csv'}")
    with code_allowed(may_run):
        _show(results, folder, quiet)


def _show(results: "Results", folder: Path, quiet: bool) -> None:
    """Draw what each model came to, write one page of them all, and say what they show."""
    from impasto.figures import Found, draw
    from impasto.report import content_of, write_page

    several = len(results.models) > 1
    drawn = draw(results, folder / "figures")
    contents = [content_of(Found.of(of_model, folder)) for of_model in results.models.values()]
    page = write_page(contents, folder)
    if quiet:
        return
    for path in drawn:
        typer.echo(f"figure   {path}")
    typer.echo(f"report   {page}")
    for (name, of_model), content in zip(results.models.items(), contents, strict=True):
        _say(of_model, name if several else "", content.sentences)


def _say(of_model: "Results", name: str, sentences: Sequence[str]) -> None:
    """Say what one model came to, in a few sentences."""
    if name:
        typer.echo(f"model    {name}")
    if of_model.seconds is not None and of_model.seconds.expected:
        taken, expected = of_model.seconds.taken, of_model.seconds.expected
        typer.echo(f"time     {taken:.0f} s (expected at most {expected:.0f} s)")
    for sentence in sentences[:SENTENCES]:
        typer.echo(f"- {sentence}")
    if len(sentences) > SENTENCES:
        typer.echo(f"… and {len(sentences) - SENTENCES} more in the report")


def _cluster(
    address: str | None, workers: int | None, gpus: float | None, cpus: int | None
) -> "Cluster | None":
    """Return the cluster that is meant; raises UserError for what is none."""
    from impasto.study import Cluster

    if address is None:
        given = {"--workers": workers, "--gpus-per-worker": gpus, "--cpus-per-worker": cpus}
        for name, value in given.items():
            if value is not None:
                raise UserError(f"{name} is of a cluster's workers; add --cluster")
        return None
    return Cluster(address, workers, gpus, 1 if cpus is None else cpus)


def _command(study: Path, options: dict[str, object]) -> str:
    """Return the command that goes on with a study, as it is typed."""
    words = ["impasto", "run", str(study)]
    for name, value in options.items():
        if value is not None:
            words += [name] if value is True else [name, str(value)]
    return shlex.join(words)


def _may_throw_away(folder: Path, yes: bool) -> bool:
    """Say whether a folder's results may go; asks, unless the answer was given.

    Raises UserError where it was not and nobody can be asked, or the answer is no.
    """
    from impasto.study.following.status import held

    holds = held(folder)
    if holds is None or yes:
        return holds is not None
    if not _can_ask():
        raise UserError(f"--fresh would throw away {holds}; say --yes to do so without being asked")
    if not typer.confirm(f"--fresh throws away {holds}. Go on?", err=True):
        raise UserError("nothing was thrown away and nothing run")
    return True


def _may_run_code(study: "Study") -> bool:
    """Say whether the user allows the code of task files that a study names; asks, where there are.

    Raises UserError where the answer is no. Where nobody can be asked, it is not allowed, and the
    task says so.
    """
    folders = {folder_with_code(entry.options) for entry in study.tasks} - {None}
    if not folders or not _can_ask():
        return False
    about = "; ".join(about_code(str(folder)) for folder in sorted(map(str, folders)))
    if not typer.confirm(f"{about}. Run it?", err=True):
        raise UserError("nothing was run; --allow-code allows it without being asked")
    return True


def _can_ask() -> bool:
    return typer.get_text_stream("stdin").isatty()
