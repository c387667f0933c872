"""Options that several commands take, and reading them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.analysis import Loss
    from impasto.run import Encoder, Model

ModelOption = Annotated[
    str, typer.Option("--model", help="demo (bundled), a hub id, or a folder with a model.")
]
DTYPES = ("float32", "bfloat16", "float16")
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, … or auto: all there are.  [default: an accelerator, if the "
        "weights fit]",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16 or float16.  [default: the model's]"),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="What a batch may take: 8GiB.  [default: half of what is free; 0.8 of a GPU's]",
    ),
]
WithinOption = Annotated[
    str | None,
    typer.Option(
        "--within",
        metavar="LOSS",
        help="Which plan loses no more: 3% (of the baseline's score) or 2pt (points); several with "
        "commas.  [default: 1%,5%,10%]",
    ),
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", help="Which of the folder's studies.  [default: the one last run]"),
]
LensOption = Annotated[
    bool,
    typer.Option(
        "--lens/--no-lens",
        help="Open the model once more, if it is on this machine, for what it would say at each "
        "depth.",
    ),
]
PlanOption = Annotated[str, typer.Option("--plan", help='How to run it: "0-7 freeze 8-11".')]


def _allow_code(context: typer.Context, allow: bool) -> bool:
    from impasto.tasks.harness.code import code_allowed

    context.with_resource(code_allowed(allow))
    return allow


AllowCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        callback=_allow_code,
        help="Let folders of task files that a study names (include_path) run their code.",
    ),
]


def bytes_of(text: str | None) -> int | None:
    """Read an amount of memory."""
    if text is None:
        return None
    from impasto.run.batching.memory import parse_bytes

    return parse_bytes(text)


def losses_of(text: str | None) -> "Sequence[Loss]":
    """Read losses that one can live with; those that are usual where none are given."""
    from impasto.analysis.best import LOSSES, Loss

    return LOSSES if text is None else [Loss.parse(word) for word in words_of(text)]


def tell_study(out: Path, study: str | None) -> None:
    """Say on stderr which study of a folder is meant, where that is not plain."""
    from impasto.study.results.notices import which_study

    for notice in which_study(out, study):
        typer.echo(notice, err=True)


def loading(device: str | None, dtype: str | None) -> dict[str, Any]:
    """Return options of `impasto.load`; raises UserError for a device or dtype that is none."""
    if dtype is not None:
        check_one_of("--dtype", dtype, DTYPES)
    if device is not None and device != "auto":
        from impasto.model.loading.placing import device_of

        device_of(device)
    given = {"device_map": device, "dtype": dtype}
    return {name: value for name, value in given.items() if value is not None}


def load_model(name: str, device: str | None = None, dtype: str | None = None) -> "Model | Encoder":
    """Return the model of this name; says where its weights are, where there is a choice."""
    options = loading(device, dtype)
    from impasto.model.loading.placing import told
    from impasto.run import load

    model = load(name, **options)
    if notice := told(getattr(model, "hf", None)):
        typer.echo(notice, err=True)
    return model


def scaled(amount: float) -> str:
    """Return an amount with three digits and the usual prefix: 1.23 G."""
    for prefix in ("", " k", " M", " G", " T"):
        if abs(amount) < 999.5:
            return f"{amount:.3g}{prefix}"
        amount /= 1000
    return f"{amount:,.0f} P"


def check_one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UserError unless an option has one of the values that it may have."""
    if value not in allowed:
        raise UserError(f"{option} is {' or '.join(allowed)}, not {value!r}")


def words_of(text: str) -> list[str]:
    """Return what stands between commas."""
    return [word.strip() for word in text.split(",")]


def numbers_of(option: str, text: str) -> list[int]:
    """Return whole numbers from 1 that stand between commas."""
    return [number_of(option, word) for word in words_of(text)]


def number_of(option: str, word: str) -> int:
    """Return a whole number from 1."""
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise UserError(f"{option} takes whole numbers from 1, with commas between them: {word!r}")
    return int(word)
