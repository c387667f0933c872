"""What is known of a machine and a model on it, and what of it is wrong.

Whatever goes wrong on the way is a fault that is told, with what would mend it, never the end.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from impasto.model.loading.placing import accelerator
from impasto.model.structure.failing import RAISED
from impasto.run import Encoder, Model, load
from impasto.run.batching.memory import allowed_bytes
from impasto.run.headless import HeadlessModel
from impasto.run.opening import opened
from impasto.speed.doctor import faults
from impasto.speed.doctor.answers import Answer, compared
from impasto.speed.doctor.attended import Attended, Kernels
from impasto.speed.doctor.machine import (
    Device,
    Fault,
    Measured,
    Place,
    devices,
    measured,
    packages,
    places,
)
from impasto.speed.memory import filling_batch

_LENGTHS = (128, 1024, 4096)  # tokens of a text


@dataclass(frozen=True)
class Chosen:
    """How a model was loaded.

    Attributes:
        name: Its name.
        family: Its family.
        layers: How many layers it has.
        dtype: In which dtype.
        attention: Which of transformers' attentions it runs.
        weight_bytes: The bytes of its weights on each device.
        dtype_reason: Why in that dtype.
        device_reason: Why there.
    """

    name: str
    family: str
    layers: int
    dtype: str
    attention: str
    weight_bytes: dict[str, int]
    dtype_reason: str
    device_reason: str


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        devices: The processor and all accelerators.
        packages: Versions by package; None where it is not there.
        places: Where files are kept.
        model: How the model was loaded; None where it was not.
        rates: What its devices reach.
        batch_bytes: What a batch may take.
        texts: How many texts of so many tokens may be generated at once.
        attended: The kernels that attention got while answers were compared.
        answers: How right answers are.
        faults: What is wrong, and hints.
        seconds: How long that took.
    """

    devices: Sequence[Device]
    packages: Mapping[str, str | None]
    places: Sequence[Place]
    model: Chosen | None = None
    rates: Sequence[Measured] = ()
    batch_bytes: int = 0
    texts: Mapping[int, int] = field(default_factory=dict)
    attended: Sequence[Attended] = ()
    answers: Sequence[Answer] = ()
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong; hints do not count."""
        return not any(fault.is_wrong for fault in self.faults)


def diagnosed(name: str, options: Mapping[str, Any]) -> Diagnosis:
    """Load a model with options of :func:`impasto.load`, and examine it and the machine."""
    began = time.perf_counter()
    try:
        model = load(name, **options)
    except RAISED as error:
        found = _machine()
        found.faults.append(faults.not_opened(name, error, options))
    else:
        found = examined(model, options)
    found.seconds = time.perf_counter() - began
    return found


def examined(model: Model | Encoder, options: Mapping[str, Any]) -> Diagnosis:
    """Examine a model that was loaded with some options, and the machine."""
    found = _machine()
    found.model = _chosen(model, options)
    try:
        found.rates = [measured(torch.device(device)) for device in found.model.weight_bytes]
    except RAISED as error:
        found.faults.append(faults.failed("a device", error))
    found.faults += faults.of_choice(found.model, found.devices, found.rates, options)
    if not isinstance(model, Model) or isinstance(model, HeadlessModel):
        found.faults.append(faults.not_compared(model.name, "predicts no next tokens"))
        return found
    if model.plan is not None:
        found.faults.append(faults.not_compared(model.name, f"is there for {model.plan} alone"))
        return found
    found.faults += _asked(model, found)
    return found


def _asked(model: Model, found: Diagnosis) -> Iterator[Fault]:
    """Ask a decoder for answers, note what it took, and yield what is wrong with it."""
    kernels = Kernels()
    try:
        found.batch_bytes = allowed_bytes(model.memory, opened(model.hf))
        longest = model.max_positions or max(_LENGTHS)
        found.texts = {n: filling_batch(model, n, 0) for n in _LENGTHS if n <= longest}
        found.answers = compared(model, kernels)
    except RAISED as error:
        yield faults.failed("the model", error)
    found.attended = kernels.found()
    yield from faults.of_attention(found.attended, found.model, opened(model.hf).device)
    yield from faults.of_answers(found.answers)


def _machine() -> Diagnosis:
    found = Diagnosis(devices(), packages(), places())
    found.faults += faults.of_machine(found.devices, found.packages, found.places)
    return found


def _chosen(model: Model | Encoder, options: Mapping[str, Any]) -> Chosen:
    sizes: dict[str, int] = {}
    for weight in model.hf.parameters():
        sizes[str(weight.device)] = sizes.get(str(weight.device), 0) + weight.nbytes
    attention = model.hf.config.get_text_config(decoder=True)._attn_implementation
    return Chosen(
        model.name,
        model.family,
        model.num_layers,
        str(model.hf.dtype).removeprefix("torch."),
        attention or "its own",
        sizes,
        "as asked" if options.get("dtype") else "as its weights are stored",
        _why_there(sizes, options),
    )


def _why_there(sizes: Mapping[str, int], options: Mapping[str, Any]) -> str:
    if options.get("device_map"):
        return "as asked"
    if accelerator() is None:
        return "there is no accelerator"
    if all(place == "cpu" for place in sizes):
        return "on no accelerator, though one is there"
    return (
        "the accelerator with most free memory" if len(sizes) == 1 else "no device takes it alone"
    )
