"""Studies: running one, and going on with one that was stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import study_files
from impasto.cli.options import (
    AllowCodeOption,
    DeviceOption,
    DtypeOption,
    LensOption,
    MemoryOption,
    bytes_of,
    loading,
)
from impasto.cli.running import (
    ClusterOption,
    CpusOption,
    FreshOption,
    GpusOption,
    OnCluster,
    QuietOption,
    SaveEveryOption,
    WorkersOption,
    YesOption,
    cluster_of,
    command_of,
    going_on,
    may_run_code,
    may_throw_away,
)
from impasto.error import UserError
from impasto.screen import printable
from impasto.tasks.harness.code import code_allowed

if TYPE_CHECKING:
    from impasto.study import Results

SENTENCES = 10  # on the terminal; the report has all


@app.command(cls=OnCluster)
def run(
    study: Annotated[
        Path,
        typer.Argument(
            help="The study file, or the name of one that comes with impasto: attend_first.",
            autocompletion=study_files,
        ),
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
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    memory: MemoryOption = None,
    save_every: SaveEveryOption = None,
    track: Annotated[
        str | None, typer.Option("--track", help="Also tell tensorboard, wandb or mlflow.")
    ] = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    cpus: CpusOption = None,
    bench: Annotated[
        bool, typer.Option("--bench", help="Also time every plan, as paper C does.")
    ] = False,
    sequences: Annotated[
        int | None,
        typer.Option(
            "--sequences", min=2, help="For --bench: how many of each length.  [default: 100]"
        ),
    ] = None,
    lens: LensOption = True,
    allow_code: AllowCodeOption = False,
    fresh: FreshOption = False,
    yes: YesOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a study: every plan on every task, then figures and findings.

    The same command goes on where a run was stopped.
    """
    allowed = bytes_of(memory)
    if sequences is not None and not bench:
        raise UserError("--sequences is for --bench; add it")
    from impasto.study import SAVE_EVERY, Study, check_writable
    from impasto.study.folder.lock import check_free
    from impasto.study.following.progress import show_progress
    from impasto.study.following.tracking import check_tracker
    from impasto.study.running.costing import SEQUENCES

    read = Study.from_yaml(study, checked=True).loading(loading(device, dtype))
    folder = Path("runs", read.name) if out is None else out
    check_free(folder)  # before data are read or a model is loaded
    read.check_tasks()
    check_tracker(track)
    where = cluster_of(cluster, workers, gpus, cpus)
    check_writable(folder)
    check_writable(folder / "figures")
    options = {"--model": model, "--out": out, "--limit": limit, "--memory": memory}
    options |= {"--device": device, "--dtype": dtype}
    options |= {"--save-every": save_every, "--track": track, "--quiet": quiet or None}
    options |= {
        "--allow-code": allow_code or None,
        "--bench": bench or None,
        "--no-lens": None if lens else True,
        "--sequences": sequences,
    }
    options |= {"--cluster": cluster, "--workers": workers}
    options |= {"--gpus-per-worker": gpus, "--cpus-per-worker": cpus}
    command = command_of(["impasto", "run", str(study)], options)
    may_run = allow_code or may_run_code(task.options for task in read.tasks)
    throws_away = fresh and may_throw_away(folder, yes)
    with going_on(command, folder), show_progress(quiet) as progress:
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
    typer.echo(f"results  {folder / 'results.csv'}")
    with code_allowed(may_run):
        _show(results, folder, quiet, lens)


def _show(results: "Results", folder: Path, quiet: bool, lens: bool) -> None:
    """Draw what each model came to, write one page of them all, and say what they show."""
    from impasto.report import show_run

    shown = show_run(results, folder, with_lens=lens)
    if quiet:
        return
    for path in shown.figures:
        typer.echo(f"figure   {path}")
    typer.echo(f"report   {shown.page}")
    several = len(results.models) > 1
    for (name, of_model), content in zip(results.models.items(), shown.contents, strict=True):
        _say(of_model, name if several else "", content.sentences)


def _say(of_model: "Results", name: str, sentences: Sequence[str]) -> None:
    """Say what one model came to, in a few sentences."""
    if name:
        typer.echo(f"model    {name}")
    if of_model.seconds is not None and of_model.seconds.expected:
        taken, expected = of_model.seconds.taken, of_model.seconds.expected
        is_healed = any(entry.heal is not None for entry in of_model.study.plans)
        apart = " without healing" if is_healed else ""
        typer.echo(f"time     {taken:.0f} s (expected at most {expected:.0f} s{apart})")
    for sentence in sentences[:SENTENCES]:
        typer.echo(f"- {sentence}")
    if len(sentences) > SENTENCES:
        typer.echo(f"… and {len(sentences) - SENTENCES} more in the report")
