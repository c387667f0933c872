"""Doctor: the first command on a new machine: what it has and reaches, and if it is right."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from impasto.cli.app import app
from impasto.cli.options import DeviceOption, DtypeOption, loading, scaled
from impasto.table import aligned

if TYPE_CHECKING:
    from impasto.speed.doctor import Diagnosis

WRONG = 1  # exit code


@app.command()
def doctor(
    model: Annotated[
        str, typer.Argument(help="demo (bundled), a hub id, or a folder with a model.")
    ] = "demo",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all that was found, for other programs.")
    ] = False,
) -> None:
    """Examine this machine with a model: devices, rates, memory, and whether its answers are right.

    Exits with 1 where something is wrong.
    """
    options = loading(device, dtype)
    from impasto.speed.doctor import diagnosed

    found = diagnosed(model, options)
    if as_json:
        typer.echo(json.dumps(told(found), indent=2))
    else:
        for line in _lines(found):
            typer.echo(line)
    if not found.is_well:
        raise typer.Exit(WRONG)


def told(found: "Diagnosis") -> dict[str, object]:
    """Return what was found as numbers, texts, lists and dictionaries."""
    cards = {each.device: None if each.card is None else each.card.name for each in found.rates}
    rates = [
        {
            "device": each.device,
            "flops_per_second": each.products,
            "bytes_per_second": each.bandwidth,
            "card": cards[each.device],
        }
        for each in found.rates
    ]
    return {
        "is_well": found.is_well,
        "devices": [asdict(each) for each in found.devices],
        "packages": dict(found.packages),
        "places": [asdict(each) for each in found.places],
        "model": None if found.model is None else asdict(found.model),
        "rates": rates,
        "batch_bytes": found.batch_bytes,
        "texts_at_once": {str(tokens): count for tokens, count in found.texts.items()},
        "attention": [asdict(each) for each in found.attended],
        "answers": [asdict(each) | {"is_right": each.is_right} for each in found.answers],
        "faults": [asdict(each) for each in found.faults],
        "seconds": found.seconds,
    }


def _lines(found: "Diagnosis") -> Iterator[str]:
    """Yield what was found, line by line; what is wrong comes last."""
    yield from _machine(found)
    if found.model is not None:
        yield ""
        yield from _model(found)
    if found.answers:
        yield ""
        yield from _answers(found)
    yield ""
    for fault in found.faults:
        yield f"{'WRONG' if fault.is_wrong else 'hint':<8} {fault.what}; {fault.mend}"
    said = "all is well" if found.is_well else "something is wrong"
    yield f"{said} ({found.seconds:.0f} s)"


def _machine(found: "Diagnosis") -> Iterator[str]:
    for each in found.devices:
        memory = f"{_gib(each.free_bytes)} of {_gib(each.total_bytes)} free"
        yield f"device   {each.device}: {each.name}; {memory}"
    there = [f"{name} {version}" for name, version in found.packages.items() if version]
    yield f"versions {', '.join(there[:7])}"
    yield f"beside   {', '.join(there[7:]) or 'nothing of what extras bring'}"
    lacking = [name for name, version in found.packages.items() if version is None]
    if lacking:
        yield f"         not there: {', '.join(lacking)}"
    for each in found.places:
        yield f"space    {_gib(each.free_bytes)} for {each.what}: {each.path}"


def _model(found: "Diagnosis") -> Iterator[str]:
    model = found.model
    assert model is not None, "the caller has looked"
    yield f"model    {model.name}: {model.family}, {model.layers} layers"
    where = ", ".join(f"{_gib(size)} on {place}" for place, size in model.weight_bytes.items())
    yield f"weights  {where} ({model.device_reason}); {model.dtype} ({model.dtype_reason})"
    yield f"attends  by {model.attention}{_kernels(found)}"
    for each in found.rates:
        card = each.card
        rates = []
        for name, rate in each.products.items():
            nominal = card.products.get(name) if card else None
            share = f" ({rate / nominal:.0%} of nominal)" if rate and nominal else ""
            rates.append(f"{name} {'none' if rate is None else f'{scaled(rate)}FLOP/s'}{share}")
        yield f"products {each.device}: {', '.join(rates)}"
        share = f" ({each.bandwidth / card.bandwidth:.0%} of nominal)" if card else ""
        yield f"copies   {each.device}: {scaled(each.bandwidth)}B/s{share}"
    texts = [f"about {n:,} texts of {tokens:,} tokens" for tokens, n in found.texts.items()]
    if found.batch_bytes:
        told = f": {', or '.join(texts)}, at once" if texts else ""
        yield f"a batch  may take {_gib(found.batch_bytes)}{told}"


def _kernels(found: "Diagnosis") -> str:
    if not found.attended:
        return ""
    told = [
        f"{each.kernel} {'with' if each.is_masked else 'without'} a mask ({each.calls} calls)"
        for each in found.attended
    ]
    return f"; torch's kernels: {', '.join(told)}"


def _answers(found: "Diagnosis") -> Iterator[str]:
    """Yield how far answers are from those that were worked by hand."""
    yield "answers  beside the same worked by hand, block by block and without a cache, as shares"
    yield f"         of the largest logit; {found.answers[0].limit:.0e} is rounding"
    rows = [["  plan", "", "applied", "cached", "packed", "written", ""]]
    for each in found.answers:
        ways = (each.applied, each.cached, each.packed, each.written)
        told = [f"{way:.1e}" if way else "0" for way in ways]
        rows.append([f"  {each.name}", each.plan, *told, "right" if each.is_right else "WRONG"])
    yield from aligned(rows, right=(2, 3, 4, 5))


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
