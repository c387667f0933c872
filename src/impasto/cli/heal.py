"""Healing: win back what a plan lost."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.app import app
from impasto.cli.export import tell_exported
from impasto.cli.options import AllowCodeOption, DeviceOption, DtypeOption, PlanOption, loading
from impasto.cli.running import QuietOption, command_of, going_on, may_run_code
from impasto.error import UserError
from impasto.plain_data import read_yaml

if TYPE_CHECKING:
    from impasto.healing import Healed


@app.command()
def heal(
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    plan: PlanOption,
    texts: Annotated[
        Path, typer.Option("--texts", help="A file of texts: .txt, or JSONL, JSON, CSV, Parquet.")
    ],
    model: Annotated[
        str, typer.Option("--model", help="demo (bundled), a hub id, or a folder with a model.")
    ] = "demo",
    method: Annotated[
        str, typer.Option("--method", help="linear (no training), lora, last or full.")
    ] = "linear",
    column: Annotated[
        str | None, typer.Option("--column", help="The column of texts.  [default: text]")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the method: steps=500. Repeatable."
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help='Measure this too: capitals, "{name: arithmetic, terms: 2}".'),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many questions per task.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Also write a checkpoint that runs the plan.")
    ] = None,
    allow_code: AllowCodeOption = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away a training of this folder that was stopped.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Heal a plan: fit or train weights so that it predicts as the full model does.

    The same command goes on where a training was stopped.
    """
    from impasto.healing import heal as mend
    from impasto.study.following.progress import show_progress

    given = _settings(settings or [])
    load = loading(device, dtype)
    if export is not None and export.exists():
        raise UserError(f"{export} exists and is not overwritten; give another folder")
    asked = [read_yaml(task, "--task") for task in tasks or []]
    may_run = allow_code or may_run_code(task for task in asked if isinstance(task, dict))
    options: dict[str, object] = {"--plan": plan, "--texts": texts, "--model": model}
    options |= {"--method": method, "--column": column, "--limit": limit, "--dtype": dtype}
    options |= {"--device": device, "--export": export, "--quiet": quiet or None}
    options |= {"--allow-code": allow_code or None}
    words = ["impasto", "heal", str(out)]
    words += [word for pair in settings or [] for word in ("--set", pair)]
    words += [word for task in tasks or [] for word in ("--task", task)]
    source: Any = {"file": str(texts)} | ({} if column is None else {"column": column})
    with going_on(command_of(words, options), out.parent), show_progress(quiet) as progress:
        healed = mend(
            model,
            plan,
            source,
            method,
            out,
            tasks=asked,
            limit=limit,
            fresh=fresh,
            allow_code=may_run,
            load=load,
            progress=progress,
            **given,
        )
    _tell(healed, out, quiet)
    if export is None:
        if not quiet:
            typer.echo(f"export   {shlex.join(['impasto', 'export', 'DEST', '--model', str(out)])}")
    else:
        tell_exported(healed.plan, str(out), export, loading(device, None))


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Read `steps=500` and its like; values are written as in a study file."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, is_there, value = pair.partition("=")
        if not is_there or not name:
            raise UserError(f"--set takes NAME=VALUE, such as steps=500, not {pair!r}")
        read = read_yaml(value, f"--set {name}")
        given[name] = float(read) if _is_power(read) else read
    return given


def _is_power(value: object) -> bool:
    """Whether a text is a number such as 1e-4, which YAML takes for a text."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _tell(healed: "Healed", out: Path, quiet: bool) -> None:
    typer.echo(f"healed   {out}")
    if quiet:
        return
    for line in healed.table.lines():
        typer.echo(line)
    for sentence in healed.sentences:
        typer.echo(f"- {sentence}")
