"""Export: a plan as a folder that others load."""

from pathlib import Path
from typing import Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import ModelOption, PlanOption


@app.command()
def export(
    dest: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    plan: PlanOption,
    model: ModelOption = "demo",
    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            help="checkpoint (whole layers only) or planned.  [default: the first that can]",
        ),
    ] = None,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="The most that a file of weights holds.")
    ] = "5GB",
) -> None:
    """Write a model that runs a plan without impasto, checked by loading it again."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    from impasto.exporting import export as write

    done = write(model, parsed, dest, form=form, max_shard_size=max_shard_size)  # type: ignore[arg-type]
    typer.echo(f"folder   {done.folder}")
    typer.echo(f"layers   {done.layers} stored, {done.bytes / 1e6:.1f} MB")
    code = ", trust_remote_code=True" if done.form == "planned" else ""
    typer.echo(f'opens by {done.opens_by}.from_pretrained("{dest}"{code})')
    typer.echo(
        f"checked  loaded again, its logits are the plan's (difference {done.found.worst:.1e})"
    )
