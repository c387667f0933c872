"""Models: the families that are checked, and opening one."""

from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import load_model
from impasto.table import aligned


@app.command()
def models(
    model: Annotated[
        str | None, typer.Argument(help="Open this model, and say what the check found.")
    ] = None,
) -> None:
    """List the families that are compared with the reference, or check one model."""
    from impasto.model.structure.families import ENCODERS, FAMILIES

    if model is not None:
        opened = load_model(model)
        typer.echo(f"{opened.name}: {opened.family}, {opened.num_layers} layers; plans run on it")
        if opened.runs_sequences is not None:
            typer.echo(f"sequences run as they are; rows are not packed: {opened.runs_sequences}")
        typer.echo("relative differences that the opening check found:")
        for claim, found in opened.checked:
            told = f"not checked: {claim}" if found is None else f"{found:8.1e}  {claim}"
            typer.echo(f"  {told}")
        return
    for kind, families in (("Decoders", FAMILIES), ("Encoders", ENCODERS)):
        typer.echo(kind)
        for line in aligned([[f"  {f.model_type}", f.name, f.traits] for f in families]):
            typer.echo(line)
    typer.echo(
        "\nEach is compared with a naive reference under every kind of plan, with and without a "
        "cache.\nAny other model is checked as it is opened: impasto models MODEL says what was "
        "found."
    )
