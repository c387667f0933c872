"""What a study found and how far it is: tables, one file to keep, and following along."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import folders
from impasto.cli.options import AllowCodeOption, StudyOption, WithinOption, losses_of, tell_study
from impasto.error import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from impasto.study import Results
    from impasto.study.following.status import Status

SHOWN_COSTS = (
    "family", "front", "average", "change", "cost", "improvement", "expected", "kept_bytes",
    "parameters", "peak_bytes",
)  # fmt: skip
FORMS = ("csv", "json", "md", "parquet")


@app.command()
def results(
    out: Annotated[
        Path,
        typer.Argument(help="The study's folder: runs/attend_first.", autocompletion=folders),
    ],
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
    check: Annotated[
        bool, typer.Option("--check", help="Check every value that the folder's database holds.")
    ] = False,
    allow_code: AllowCodeOption = False,
    study: StudyOption = None,
) -> None:
    """Print the table that a study came to; or pack its results into one file, and back."""
    if check:
        _check(out, (form, to, costs or None, within, pack, unpack, study))
        return
    if within is not None:
        _recommend(out, within, study, (costs or None, form, to, pack, unpack))
        return
    wants_table = costs or form is not None or to is not None
    if wants_table + (pack is not None) + (unpack is not None) > 1:
        raise UserError(
            "a table (--format, --to, --costs), --pack and --unpack are three things; give one"
        )
    _check_form(form, to)
    if pack is not None or unpack is not None:
        if study is not None:
            raise UserError("--pack and --unpack take all studies of a folder; leave out --study")
        _pack(out, pack, unpack)
        return
    _tables(out, study, costs, form, to)


def _tables(out: Path, study: str | None, costs: bool, form: str | None, to: Path | None) -> None:
    """Print the tables of a study's models, or write them as one."""
    from impasto.cli.screen_table import table_lines
    from impasto.study import Results
    from impasto.study.folder.files import write_files
    from impasto.study.following.status import status as status_of
    from impasto.study.results.formats import as_bytes, written
    from impasto.study.results.notices import about_items, about_precisions

    read = Results.read_all(out, study=study)
    tell_study(out, study)
    said = status_of(out, study=study)
    for line in _missing(read, said):
        typer.echo(line, err=True)
    if costs and all(of_model.costs.empty for of_model in read):
        again = "impasto run STUDY --out OUT --bench"
        typer.echo(f"costs are counted, none was measured: {again} measures them", err=True)

    def content(form: str) -> bytes:
        return as_bytes(_costs_of_all(read), form) if costs else written(read, form)

    if to is not None:
        write_files(to.parent, {to.name: content(form or _form_of(to))})
        typer.echo(f"table    {to}")
        return
    if form is not None:
        _put(content(form))
        return
    for of_model in read:
        if len(said.models) > 1:
            _title(of_model, is_first=of_model is read[0])
        if costs:
            for line in _cost_lines(of_model):
                typer.echo(line)
            continue
        for line in table_lines(of_model, _width()):
            typer.echo(line)
        for notice in (*about_precisions(of_model), *about_items(of_model.table)):
            typer.echo(notice, err=True)


@app.command()
def status(
    out: Annotated[
        Path, typer.Argument(help="The folder, such as runs/attend_first.", autocompletion=folders)
    ],
    study: StudyOption = None,
) -> None:
    """Say how far a study or a search is, also while another process runs it."""
    from impasto.study.following.status import Status, status_of

    said = status_of(out, study=study)
    if isinstance(said, Status):
        tell_study(out, study)
    for line in said.lines():
        typer.echo(line)


def _put(content: bytes) -> None:
    """Write a table as it is for another program, and as text for a terminal."""
    if sys.stdout.isatty():
        typer.echo(content.decode(), nl=False)
    else:
        sys.stdout.buffer.write(content)


def _width() -> int | None:
    """Return how many characters a line of the terminal has; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _title(of_model: "Results", is_first: bool) -> None:
    """Print the line above a model's table."""
    layers = of_model.table["layers"].iloc[0]
    typer.echo(f"{'' if is_first else chr(10)}model {of_model.study.model}, {layers} layers")


def _missing(read: "Sequence[Results]", said: "Status") -> "Iterator[str]":
    """Yield what the tables lack of a study that is not finished, model by model."""
    from impasto.study.results.notices import still_missing

    there = {of_model.study.model: of_model for of_model in read}
    for model in said.models:
        if model.model not in there:
            yield f"{model.model}: nothing is there yet"
            continue
        for number, line in enumerate(still_missing(there[model.model])):
            yield f"{model.model}: {line}" if len(said.models) > 1 and not number else line
    if len(there) < len(said.models) and not any(of_model.gaps for of_model in read):
        yield f"to go on:  {said.run['command']}"


def _costs_of_all(read: "Sequence[Results]") -> "pd.DataFrame":
    """Return quality and cost of all models; where there are several, each row says whose it is."""
    import pandas as pd

    if len(read) == 1:
        return _quality_and_cost(read[0])
    tables = [_quality_and_cost(of_model) for of_model in read]
    for of_model, table in zip(read, tables, strict=True):
        table.insert(0, "model", of_model.study.model)
    return pd.concat(tables, ignore_index=True)


def _quality_and_cost(read: "Results") -> "pd.DataFrame":
    """Return each plan's quality beside its cost; raises UserError where there is nothing."""
    from impasto.analysis.costs import trade_off

    table = trade_off(read.table, read.costs)
    if table.empty:
        raise UserError("no plan of this study has an average over its tasks yet")
    return table


def _cost_lines(read: "Results") -> "Iterator[str]":
    """Yield the same for a terminal, after what the cost is measured in."""
    from impasto.analysis.findings import at_chance
    from impasto.cli.screen_table import plan_last
    from impasto.study.results.formats import DIGITS
    from impasto.table import Table

    table = _quality_and_cost(read)
    for sentence in at_chance(read.table):
        typer.echo(sentence, err=True)
    yield f"cost: {table['unit'].iloc[0]}"
    marked = table.assign(front=["*" if on else "" for on in table["front"]])
    shown = marked.loc[:, [name for name in SHOWN_COSTS if name in table]]
    cells = Table.of_frame(shown, DIGITS)
    right = range(2, len(cells.columns))
    yield from plan_last(cells.columns, cells.texts(), list(table["plan"]), _width(), right)


def _recommend(out: Path, within: str, study: str | None, others: "Sequence[object]") -> None:
    """Print the plan to take for each loss, and the command that makes a model of it.

    Raises UserError for what is no loss, and where there are other options.
    """
    if any(option is not None for option in others):
        raise UserError("--within names plans to take; it goes with no table and no packing")
    losses = losses_of(within)
    from impasto.analysis.best import best_lines
    from impasto.analysis.findings import recommended
    from impasto.study import Results

    read = Results.read_all(out, study=study)
    tell_study(out, study)
    for of_model in read:
        if len(read) > 1:
            _title(of_model, is_first=of_model is read[0])
        best, reasons = recommended(of_model.table, of_model.answers, of_model.costs, losses)
        lines = [*reasons, *best_lines(best, of_model.study.model)]
        for line in lines or ["plan     none of the study's plans is cheaper than the baseline"]:
            typer.echo(line)


def _check(out: Path, others: "Sequence[object]") -> None:
    """Check every value of a folder's database; raises UserError with what is wrong."""
    if any(option is not None for option in others):
        raise UserError("--check is about all that the folder holds; it goes with no other option")
    from impasto.study.results.packing import check_results

    typer.echo(f"sound    {out}: {check_results(out)}")


def _check_form(form: str | None, to: Path | None) -> None:
    """Raise UserError for a format that there is not, or that is not for the screen."""
    if form is not None and form not in FORMS:
        raise UserError(f"there is no format {form!r}; the formats are {', '.join(FORMS)}")
    if form == "parquet" and to is None:
        raise UserError("parquet is not for the screen; name a file with --to FILE")


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
