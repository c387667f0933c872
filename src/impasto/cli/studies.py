"""The studies and searches that come with impasto: which there are, and a copy to change."""

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.completion import shipped_names
from impasto.error import UserError, near

if TYPE_CHECKING:
    from impasto.study.file.shipped import Shipped

TITLES = {
    "study": "Studies (impasto run NAME)",
    "preset": "The same for the papers' models (impasto run NAME)",
    "search": "Searches (impasto search NAME)",
    "texts": "Texts that they read",
}
WIDTH, INDENT = 80, 4


@app.command()
def studies(
    name: Annotated[
        str | None,
        typer.Argument(help="Print this one.  [default: a list]", autocompletion=shipped_names),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Copy it to this file, to be changed and run.")
    ] = None,
) -> None:
    """List the studies and searches that come with impasto, or print or copy one."""
    from impasto.study.file.shipped import shipped

    if name is None:
        if to is not None:
            raise UserError("--to copies one study: impasto studies NAME --to FILE")
        _list(list(shipped()))
        return
    named = {found.name: found for found in shipped()}
    found = named.get(name) or named.get(name.removesuffix(".yaml"))
    if found is None:
        raise UserError(
            f"no study of the name {name!r} comes with impasto{near(name, named)}\n"
            "impasto studies lists them."
        )
    if to is None:
        typer.echo(found.path.read_text(encoding="utf-8"), nl=False)
        return
    _copy(found, to)


def _list(every: "list[Shipped]") -> None:
    """Print what there is, by kind, each with what it shows."""
    for number, (kind, title) in enumerate(TITLES.items()):
        typer.echo(f"{chr(10) if number else ''}{title}:")
        for found in every:
            if found.kind == kind:
                typer.echo(f"  {found.name}")
                for line in wrap(found.about, WIDTH - INDENT):
                    typer.echo(" " * INDENT + line)
    typer.echo("\nimpasto studies NAME prints one, --to FILE copies it.")


def _copy(found: "Shipped", to: Path) -> None:
    """Write a copy, and the texts that it reads beside it; raises UserError before any is lost."""
    from impasto.study.folder.files import write_files

    if to.is_dir():
        raise UserError(f"{to} is a folder; name a file: --to {to / found.path.name}")
    copies = {to.name: found.path} | {text.name: text for text in found.texts}
    for name, source in copies.items():
        place = to.parent / name
        if place.exists() and (name == to.name or place.read_bytes() != source.read_bytes()):
            raise UserError(f"{place} is there already; give another name or folder with --to")
    write_files(to.parent, {name: source.read_bytes() for name, source in copies.items()})
    for name in copies:
        typer.echo(f"{'texts' if name != to.name else found.kind:8} {to.parent / name}")
    if found.kind != "texts":
        command = "search" if found.kind == "search" else "run"
        typer.echo(f"run it   impasto {command} {to}")
