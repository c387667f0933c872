"""What a study found and how far it is: tables, one file to keep, and following along."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import WithinOption, losses_of
from impasto.error import UserError

if TYPE_CHECKING:
    import pandas as pd

    from impasto.study import Results

SHOWN_COSTS = (
    "family", "plan", "average", "change", "cost", "front", "improvement", "expected",
    "kept_bytes", "parameters", "peak_bytes",
)  # fmt: skip
FORMS = ("csv", "json", "md", "parquet")


@app.command()
def results(
    out: Annotated[Path, typer.Argument(help="The study's folder, such as runs/attend_first.")],
    form: Annotated[
        str | None, typer.Option("--format", help="csv, json, md or parquet.  [default: a table]")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write to this file.  [default: the screen]")
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="The table of quality and cost: one row for each plan.")
    ] = False,
    within: WithinOption = None,
    pack: Annotated[
        Path | None, typer.Option("--pack", help="Write all results of the folder to one file.")
    ] = None,
    unpack: Annotated[
        Path | None, typer.Option("--unpack", help="Fill the folder from such a file.")
    ] = None,
) -> None:
    """Print the table that a study came to; or pack its results into one file, and back."""
    if within is not None:
        if costs or any(option is not None for option in (form, to, pack, unpack)):
            raise UserError("--within names plans to take; it goes with no table and no packing")
        _recommend(out, within)
        return
    wants_table = costs or form is not None or to is not None
    if wants_table + (pack is not None) + (unpack is not None) > 1:
        raise UserError(
            "a table (--format, --to, --costs), --pack and --unpack are three things; give one"
        )
    if form is not None and form not in FORMS:
        raise UserError(f"there is no format {form!r}; the formats are {', '.join(FORMS)}")
    if form == "parquet" and to is None:
        raise UserError("parquet is not for the screen; name a file with --to FILE")
    if pack is not None or unpack is not None:
        _pack(out, pack, unpack)
        return
    from impasto.study import Results
    from impasto.study.folder.files import write_files
    from impasto.study.results.formats import aligned, as_bytes, shown, written
    from impasto.study.results.notices import about_items, still_missing

    read = Results.read(out)
    for notice in still_missing(read):
        typer.echo(notice, err=True)

    def content(form: str) -> bytes:
        return as_bytes(_quality_and_cost(read), form) if costs else written(read, form)

    if to is not None:
        write_files(to.parent, {to.name: content(form or _form_of(to))})
        typer.echo(f"table    {to}")
        return
    if form is not None:
        sys.stdout.buffer.write(content(form))
        return
    if costs:
        typer.echo(aligned(_quality_and_cost(read, for_screen=True)))
        return
    typer.echo(shown(read))
    for notice in about_items(read.table):
        typer.echo(notice, err=True)


@app.command()
def status(
    out: Annotated[Path, typer.Argument(help="The study's folder, such as runs/attend_first.")],
) -> None:
    """Say how far a study is, also while another process runs it."""
    from impasto.study.following.status import status as status_of

    for line in status_of(out).lines():
        typer.echo(line)


def _quality_and_cost(read: "Results", for_screen: bool = False) -> "pd.DataFrame":
    """Return each plan's quality beside its cost; raises UserError where there is nothing."""
    from impasto.analysis.costs import trade_off

    table = trade_off(read.frame(), read.costs)
    if table.empty:
        raise UserError("no plan of this study has an average over its tasks yet")
    if read.costs.empty:
        again = "impasto run STUDY --out OUT --bench"
        typer.echo(f"costs are counted, none was measured: {again} measures them", err=True)
    if not for_screen:
        return table
    shown = table[[name for name in SHOWN_COSTS if name in table]]
    marked = shown.assign(front=["*" if on else "" for on in table["front"]])
    return marked.rename(columns={"cost": table["unit"].iloc[0]})


def _recommend(out: Path, within: str) -> None:
    """Print the plan to take for each loss, and the command that makes a model of it."""
    losses = losses_of(within)
    from impasto.analysis.best import best_lines
    from impasto.analysis.findings import recommended
    from impasto.study import Results

    read = Results.read(out)
    best, reasons = recommended(read.frame(), read.answers, read.costs, losses)
    for line in (*reasons, *best_lines(best, read.study.model)):
        typer.echo(line)


def _form_of(file: Path) -> str:
    """Return the format that a file's name says."""
    form = file.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise UserError(f"{file.name} does not say its format; add --format {' or '.join(FORMS)}")
    return form


def _pack(out: Path, pack: Path | None, unpack: Path | None) -> None:
    from impasto.study.results import packing

    if pack is not None:
        packing.pack(out, pack)
        typer.echo(f"packed   {pack}")
    if unpack is not None:
        packing.unpack(unpack, out)
        typer.echo(f"results  {out}")
