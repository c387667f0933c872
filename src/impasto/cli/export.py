"""Export: a plan as what others load and serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.app import app
from impasto.cli.options import DeviceOption, DtypeOption, loading
from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.plan import Plan


@app.command()
def export(
    dest: Annotated[Path, typer.Argument(help="The folder or file to write; it must not exist.")],
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            help='How to run it: "0-7 9-11".  [default: the plan that a healed folder is for]',
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="As elsewhere.  [default: demo, where weights are needed]"),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="auto, checkpoint (whole layers only), planned, nemotron-nas, gguf; or the plan "
            "alone: evopress, llm-drop, path, rys, mergekit, per-layer-config.",
        ),
    ] = "auto",
    gguf_type: Annotated[
        str | None,
        typer.Option(
            "--gguf-type", help="Of weights: f32, f16, bf16 or q8_0.  [default: the model's own]"
        ),
    ] = None,
    max_shard_size: Annotated[
        str | None,
        typer.Option("--max-shard-size", help="The most a file of weights holds.  [default: 5GB]"),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option("--layers", min=1, help="How many the model has, for a plan alone."),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Write a model that runs a plan without impasto, checked by reading it again."""
    from impasto.plan import Plan
    from impasto.plan.formats import WRITTEN
    from impasto.plan.healed import plan_of_healed

    healed = None if model is None or plan is not None else plan_of_healed(model)
    if healed is None and plan is None:
        raise UserError(
            f"--plan says what {model or 'the model'} is to run; only a healed folder has a plan"
        )
    parsed = healed if plan is None else Plan.parse(plan)
    assert parsed is not None
    load = loading(device, dtype)
    of_weights = {"--gguf-type": gguf_type, "--max-shard-size": max_shard_size}
    of_weights |= {"--device": device, "--dtype": dtype}
    if form in WRITTEN:
        for option, value in of_weights.items():
            if value is not None:
                raise UserError(f"{option} is for weights, and {form} has none")
        _write_plan(parsed, dest, form, layers, model)
        return
    if layers is not None:
        raise UserError(f"--layers is for a plan alone (--as {' or '.join(WRITTEN)})")
    shards = max_shard_size or "5GB"
    tell_exported(parsed, model or "demo", dest, load, form, shards, gguf_type)


def tell_exported(
    plan: "Plan",
    model: str,
    dest: Path,
    load: dict[str, Any],
    form: str = "auto",
    max_shard_size: str = "5GB",
    gguf_type: str | None = None,
) -> None:
    """Export a plan and say where it is, how it is opened, and what was checked.

    `load` is how the model is loaded, options of `impasto.load`.
    """
    from impasto.exporting import export as write

    done = write(
        model,
        plan,
        dest,
        form=form,  # type: ignore[arg-type]
        gguf_type=gguf_type,
        max_shard_size=max_shard_size,
        **load,
    )
    typer.echo(f"{'file   ' if done.form == 'gguf' else 'folder '}  {done.folder}")
    typer.echo(f"layers   {done.layers} stored, {done.bytes / 1e6:.1f} MB")
    typer.echo(f"opens by {_opening(done.form, done.opens_by, dest)}")
    typer.echo(f"checked  {done.checked}")


def _opening(form: str, opens_by: str, dest: Path) -> str:
    """Return the line that opens what was written."""
    if form == "gguf":
        return f'llama-server --model "{dest}"'
    if form == "nemotron-nas":
        return f'vllm serve "{dest}" --trust-remote-code'
    code = ", trust_remote_code=True" if form == "planned" else ""
    return f'{opens_by}.from_pretrained("{dest}"{code})'


def _write_plan(plan: "Plan", dest: Path, form: str, layers: int | None, model: str | None) -> None:
    """Write a plan alone, as another tool does."""
    from impasto.plan.formats import write_plan

    if layers is None and model is not None:
        from impasto.model.loading.depth import layers_of

        layers = layers_of(model)
    text = write_plan(plan, form, layers, model)
    from impasto.aside import written_aside

    if dest.exists():
        raise UserError(f"{dest} exists and is not overwritten; give another name")
    try:
        with written_aside(dest) as place:
            place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{dest} cannot be written: {error.strerror}") from None
    typer.echo(f"file     {dest}")
    typer.echo(f"plan     {plan}")
