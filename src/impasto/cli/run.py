"""Studies: running one."""

from pathlib import Path
from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import MemoryOption, bytes_of


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
    allowed = bytes_of(memory)
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
