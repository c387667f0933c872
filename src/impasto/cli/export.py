"""Export: a plan as a folder that others load."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import ModelOption
from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.plan import Plan


@app.command()
def export(
    dest: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            help='How to run it: "0-7 9-11".  [default: the plan that a healed folder is for]',
        ),
    ] = None,
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
    from impasto.plan.healed import plan_of_healed

    parsed = plan_of_healed(model) if plan is None else Plan.parse(plan)
    if parsed is None:
        raise UserError(f"--plan says what {model} is to run; only a healed folder has a plan")
    tell_exported(parsed, model, dest, form, max_shard_size)


def tell_exported(
    plan: "Plan", model: str, dest: Path, form: str | None = None, max_shard_size: str = "5GB"
) -> None:
    """Export a plan and say where it is, how it is opened, and what was checked."""
    from impasto.exporting import export as write

    done = write(model, plan, dest, form=form, max_shard_size=max_shard_size)  # type: ignore[arg-type]
    typer.echo(f"folder   {done.folder}")
    typer.echo(f"layers   {done.layers} stored, {done.bytes / 1e6:.1f} MB")
    code = ", trust_remote_code=True" if done.form == "planned" else ""
    typer.echo(f'opens by {done.opens_by}.from_pretrained("{dest}"{code})')
    typer.echo(
        f"checked  loaded again, its logits are the plan's (difference {done.found.worst:.1e})"
    )
