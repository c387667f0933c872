"""Searches: the best plan under a budget."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import search_files
from impasto.cli.options import (
    AllowCodeOption,
    DeviceOption,
    DtypeOption,
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
from impasto.screen import printable

if TYPE_CHECKING:
    from impasto.searching import Found


@app.command(cls=OnCluster)
def search(
    spec: Annotated[
        Path,
        typer.Argument(
            help="The search file, or the name of one that comes with impasto: thinner.",
            autocompletion=search_files,
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Search this model in place of the file's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where results go.  [default: runs/NAME]")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    memory: MemoryOption = None,
    save_every: SaveEveryOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    gpus: GpusOption = None,
    cpus: CpusOption = None,
    allow_code: AllowCodeOption = False,
    fresh: FreshOption = False,
    yes: YesOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the best plan under a budget, and say what it is worth.

    The same command goes on where a search was stopped.
    """
    from dataclasses import replace

    from impasto.searching.file import WrittenSearch
    from impasto.searching.running import run_search
    from impasto.study import SAVE_EVERY, check_writable
    from impasto.study.following.progress import show_progress
    from impasto.study.running.options import Running

    allowed = bytes_of(memory)
    read = WrittenSearch.from_yaml(spec)
    if model is not None:
        read = replace(read, model=model)
    read = replace(read, load={**read.load, **loading(device, dtype)})
    folder = Path("runs", read.name) if out is None else out
    where = cluster_of(cluster, workers, gpus, cpus)
    check_writable(folder)
    check_writable(folder / "figures")
    options = {"--model": model, "--out": out, "--memory": memory, "--save-every": save_every}
    options |= {"--allow-code": allow_code or None, "--device": device, "--dtype": dtype}
    options |= {"--cluster": cluster, "--workers": workers, "--quiet": quiet or None}
    options |= {"--gpus-per-worker": gpus, "--cpus-per-worker": cpus}
    command = command_of(["impasto", "search", str(spec)], options)
    may_run = allow_code or may_run_code(task.options for task in (*read.objective, *read.confirm))
    throws_away = fresh and may_throw_away(folder, yes)
    with going_on(command, folder), show_progress(quiet) as progress:
        running = Running(
            memory=allowed,
            save_every=save_every or SAVE_EVERY,
            cluster=where,
            fresh=throws_away,
            allow_code=may_run,
            command=command,
            progress=progress,
            say=lambda notice: typer.echo(printable(notice), err=True),
        )
        found = run_search(read, folder, None, running)
    _show(found, folder, quiet)


def _show(found: "Found", folder: Path, quiet: bool) -> None:
    """Draw what was found, write its page, and say what it is and how to export it."""
    from impasto.figures import USUAL, save_all
    from impasto.figures import Found as Drawn
    from impasto.figures.catalogue import ENTRIES
    from impasto.report import write_report

    typer.echo(f"found    {folder / 'search' / 'found.json'}")
    founds = Drawn.read_all(folder)
    drawn = list(save_all(founds, list(ENTRIES.values()), folder / "figures", USUAL))
    page = write_report(founds, folder)
    if quiet:
        return
    for path in (path for *_, paths in drawn for path in paths):
        typer.echo(f"figure   {path}")
    typer.echo(f"report   {page}")
    for sentence in found.sentences:
        typer.echo(f"- {sentence}")
    typer.echo(f"plan     {found.best.plan}")
    words = ["impasto", "export", str(folder / "model"), "--plan", str(found.best.plan)]
    typer.echo(f"export   {shlex.join([*words, '--model', found.model])}")
