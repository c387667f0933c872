"""What may be wrong with a machine, a model on it, or its answers; each with what would mend it."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from impasto.model.loading.placing import ROOM, accelerator
from impasto.speed.doctor.answers import Answer
from impasto.speed.doctor.attended import Attended
from impasto.speed.doctor.machine import NEEDED, Device, Fault, Measured, Place

if TYPE_CHECKING:
    from impasto.speed.doctor.diagnosis import Chosen

_LEAST_SPACE, _LITTLE_SPACE = 2**30, 20 * 2**30  # bytes of a disk
_MUCH_FASTER = 2.0
_LEAST_OF_CARD = 0.3  # of a card's nominal rate, below which something else uses it
_SMALLER = "--dtype bfloat16, or a quantised model, takes less; --device cpu has the most memory"


def not_opened(name: str, error: BaseException, options: Mapping[str, Any]) -> Fault:
    """Return the fault of a model that does not open."""
    mend = "say another model"
    if "GiB" in str(error) or "memory" in str(error):
        mend = _SMALLER
    return Fault(f"{name} does not open: {_first_line(error)}", mend)


def not_compared(name: str, why: str) -> Fault:
    """Return the hint that answers are not compared."""
    return Fault(
        f"{name} {why}, so its answers are not compared here",
        f"impasto models {name} tells what its opening check found",
        is_wrong=False,
    )


def failed(what: str, error: BaseException) -> Fault:
    """Return the fault of a device or a model whose own code fails."""
    told = f"{type(error).__name__}: {_first_line(error)}"
    return Fault(f"{what} fails: {told}", "--device cpu tells whether it is the device")


def of_machine(
    devices: Sequence[Device], packages: Mapping[str, str | None], places: Sequence[Place]
) -> Iterator[Fault]:
    """Yield what is wrong whatever the model."""
    for name in NEEDED:
        if packages[name] is None:
            yield Fault(f"{name} is not installed", f"pip install {name}")
    if len(devices) == 1 and _has_graphics_driver():
        yield _unseen_card()
    for place in places:
        if not place.is_writable:
            yield Fault(f"{place.path} ({place.what}) cannot be written", _elsewhere(place))
        elif place.free_bytes < _LITTLE_SPACE:
            free = f"{place.free_bytes / 2**30:.1f} GiB free"
            is_wrong = place.free_bytes < _LEAST_SPACE
            yield Fault(f"{place.path} ({place.what}) has {free}", _elsewhere(place), is_wrong)


def of_choice(
    model: "Chosen",
    devices: Sequence[Device],
    rates: Sequence[Measured],
    options: Mapping[str, Any],
) -> Iterator[Fault]:
    """Yield what is wrong with where a model is, and in which dtype."""
    size = sum(model.weight_bytes.values())
    free = max((device.free_bytes for device in devices[1:]), default=0)
    if set(model.weight_bytes) == {"cpu"} and len(devices) > 1 and not options.get("device_map"):
        wanted = f"the weights want {ROOM * size / 2**30:.2f} GiB"
        yield Fault(
            f"{model.name} is on the processor: {wanted}, and {devices[1].device} has "
            f"{free / 2**30:.2f} GiB free at the most",
            _SMALLER,
        )
    for measured in rates:
        yield from _of_dtype(model, measured)
        yield from _of_card(measured)


def of_attention(
    attended: Sequence[Attended], model: "Chosen | None", device: torch.device
) -> Iterator[Fault]:
    """Yield what is wrong with the kernels that attention gets."""
    if model is not None and model.attention == "eager" and device.type != "cpu":
        yield Fault(
            "attention is eager: all its scores are made in memory",
            "load it with attn_implementation: sdpa",
            is_wrong=False,
        )
    for each in attended:
        masked = "with a mask" if each.is_masked else "without a mask"
        if each.refusal:
            yield Fault(
                f"torch refuses its {each.kernel} kernel for attention {masked}: {each.refusal}",
                "attention takes a slower kernel; another version of torch may have this one",
            )
        elif each.kernel == "math" and model is not None and model.dtype != "float32":
            yield Fault(
                f"{each.calls} calls of attention {masked} get no fast kernel without copies",
                "answers are right, and slower than they could be",
                is_wrong=False,
            )


def of_answers(answers: Sequence[Answer]) -> Iterator[Fault]:
    """Yield which answers are wrong."""
    for answer in answers:
        if not answer.is_right:
            yield Fault(
                f"{answer.name} ({answer.plan}) is off by {answer.apart:.1e} of the largest logit, "
                f"where {answer.limit:.0e} is rounding",
                "--dtype float32 or --device cpu tells whether it is the dtype or the device",
            )


def _of_dtype(model: "Chosen", measured: Measured) -> Iterator[Fault]:
    own, others = measured.products.get(model.dtype), dict(measured.products)
    others.pop(model.dtype, None)
    if model.dtype in measured.products and own is None:
        has = " or ".join(name for name, rate in others.items() if rate)
        yield Fault(f"{measured.device} has no products in {model.dtype}", f"--dtype {has}")
        return
    name, best = max(others.items(), key=lambda pair: pair[1] or 0.0)
    if own and best and best > _MUCH_FASTER * own:
        yield Fault(
            f"{measured.device} multiplies {best / own:.0f} times as fast in {name} as in "
            f"{model.dtype}",
            f"--dtype {name}, if its rounding does",
            is_wrong=False,
        )


def _of_card(measured: Measured) -> Iterator[Fault]:
    if measured.card is None:
        return
    for dtype, rate in measured.products.items():
        nominal = measured.card.products.get(dtype)
        if rate and nominal and rate < _LEAST_OF_CARD * nominal:
            yield Fault(
                f"{measured.device} reaches {rate / nominal:.0%} of a {measured.card.name}'s "
                f"nominal rate in {dtype}",
                "see whether something else uses it, or its power is limited (nvidia-smi)",
                is_wrong=False,
            )


def _unseen_card() -> Fault:
    if torch.version.cuda is None:
        return Fault(
            f"there is an NVIDIA driver, and this torch ({torch.__version__}) is built without "
            "CUDA",
            "install the torch of pytorch.org that is built for it",
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    told = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
    return Fault(
        f"there is an NVIDIA driver, and torch sees no card{told}",
        f"see nvidia-smi; the driver must be new enough for CUDA {torch.version.cuda}",
    )


def _has_graphics_driver() -> bool:
    is_used = accelerator() is not None
    return not is_used and bool(
        Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    )


def _elsewhere(place: Place) -> str:
    setting = {"models": "HF_HOME", "data sets": "HF_HOME", "temporary": "TMPDIR"}.get(place.what)
    return "begin elsewhere" if setting is None else f"set {setting} to a folder with more room"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
