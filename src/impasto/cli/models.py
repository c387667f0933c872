"""Models: what works on the families of transformers, and opening one model."""

from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import DeviceOption, DtypeOption, load_model
from impasto.error import UserError
from impasto.table import aligned

_HEADER = ["family", "layers", "parts", "history", "rows", "export", "compared"]


@app.command()
def models(
    model: Annotated[
        str | None, typer.Argument(help="Open this model, and say what the check found.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Print what works on each family, or check one model."""
    if model is not None:
        _checked(model, device, dtype)
        return
    if device or dtype:
        raise UserError("--device and --dtype are for a model that is opened: name one")
    from impasto.model.structure.families import ENCODERS, FAMILIES, counted

    table = counted()
    for kind, title, spelt in (
        ("decoder", "Decoders", FAMILIES),
        ("encoder", "Encoders", ENCODERS),
    ):
        by_hand = {family.model_type: family.name for family in spelt}
        rows = [_HEADER]
        for row in table:
            if row.kind == kind and row.layers == "yes":
                how = f"by hand: {by_hand[row.model_type]}" if row.model_type in by_hand else ""
                cells = [row.layers, row.parts, row.history, row.rows, row.export or "no"]
                rows.append([row.model_type, *cells, how or "by its modules"])
        typer.echo(f"{title} ({len(rows) - 1})")
        for line in aligned([[f"  {first}", *rest] for first, *rest in rows]):
            typer.echo(line)
    refused = [row for row in table if row.layers == "no"]
    typer.echo(f"Refused ({len(refused)})")
    for line in aligned([[f"  {row.model_type}", row.kind, row.refused] for row in refused]):
        typer.echo(line)
    typer.echo(
        "\nA small model of each family was compared with a naive reference: whole layers, parts\n"
        "of them, edits of earlier tokens (history), scored, generated, applied, with and without\n"
        "a cache. What a part adds was spelt out by hand, or is what the block gives without its\n"
        "other part's modules. Rows are packed where earlier and current tokens stand side by\n"
        "side. Any other model is checked as it is opened: impasto models MODEL says what was\n"
        "found."
    )


def _checked(name: str, device: str | None, dtype: str | None) -> None:
    """Open a model and print what the check found."""
    opened = load_model(name, device, dtype)
    typer.echo(f"{opened.name}: {opened.family}, {opened.num_layers} layers; plans run on it")
    if opened.runs_sequences is not None:
        typer.echo(f"sequences run as they are; rows are not packed: {opened.runs_sequences}")
    for limit in opened.limits:
        typer.echo(f"but {limit}")
    typer.echo("relative differences that the opening check found:")
    for claim, found in opened.checked:
        told = f"not checked: {claim}" if found is None else f"{found:8.1e}  {claim}"
        typer.echo(f"  {told}")
