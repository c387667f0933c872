"""What a study found and how far it is: tables, one file to keep, and following along."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.error import UserError

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
    pack: Annotated[
        Path | None, typer.Option("--pack", help="Write all results of the folder to one file.")
    ] = None,
    unpack: Annotated[
        Path | None, typer.Option("--unpack", help="Fill the folder from such a file.")
    ] = None,
) -> None:
    """Print the table that a study came to; or pack its results into one file, and back."""
    if sum(given is not None for given in (form or to, pack, unpack)) > 1:
        raise UserError("a table (--format, --to), --pack and --unpack are three things; give one")
    if form is not None and form not in FORMS:
        raise UserError(f"there is no format {form!r}; the formats are {', '.join(FORMS)}")
    if form == "parquet" and to is None:
        raise UserError("parquet is not for the screen; name a file with --to FILE")
    if pack is not None or unpack is not None:
        _pack(out, pack, unpack)
        return
    from impasto.study import Results
    from impasto.study.folder.files import write_files
    from impasto.study.results.formats import shown, written
    from impasto.study.results.notices import about_items, still_missing

    read = Results.read(out)
    for notice in still_missing(read):
        typer.echo(notice, err=True)
    if to is not None:
        write_files(to.parent, {to.name: written(read, form or _form_of(to))})
        typer.echo(f"table    {to}")
        return
    if form is not None:
        sys.stdout.buffer.write(written(read, form))
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
