"""What runs in a worker's process: one replica of the model, which answers what it is sent.

Only plain data comes and goes; a mistake or a fault goes back as data too, so that nothing has to
be unpickled that is not a number or a text. Ray calls `pulse` beside the other methods, from a
thread of its own.
"""

import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from impasto.error import UserError
from impasto.study.cluster.wire import AskedItems, packed_answer
from impasto.study.work.identity import engine_identity, versions
from impasto.study.work.units import Answered

Reply = dict[str, Any]  # what was asked for; or `refused`, a user's mistake; or `fault`, our own


class Worker:
    """Holds a model and answers units; the study's own process tells it which."""

    def __init__(self, threads: int) -> None:
        # before torch is imported, which reads them then
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._threads = threads
        self._model: Any = None
        self._unit, self._share = -1, 0.0

    def hello(self) -> Reply:
        """Say who this is, before anything is loaded: machine, process, and what computes here."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "engine": dict(engine_identity().parts),
            "versions": versions(),
        }

    def begin(self, name: str, options: Mapping[str, Any], gpus: float) -> Reply:
        """Load the model; say what it is and what memory is left."""
        return _replied(lambda: self._begun(name, options, gpus))

    def expected(self, work: list[bytes]) -> Reply:
        """Say how many seconds each work would take here."""
        return _replied(lambda: {"seconds": self._expected([AskedItems.unpacked(w) for w in work])})

    def shape(self) -> Reply:
        """Say what of the model costs something."""
        return _replied(lambda: {"shape": asdict(self._model.shape)})

    def answer(self, work: bytes) -> Reply:
        """Answer a unit."""
        return _replied(
            lambda: {"answer": packed_answer(self._answered(AskedItems.unpacked(work)))}
        )

    def pulse(self) -> Reply:
        """Say which unit is being answered, and what share of it is."""
        return {"unit": self._unit, "share": self._share}

    def _begun(self, name: str, options: Mapping[str, Any], gpus: float) -> Reply:
        import torch

        torch.set_num_threads(self._threads)
        from impasto.run import Model, load
        from impasto.run.batching.memory import free_memory
        from impasto.study.cluster.memory import check_room
        from impasto.study.work.asking import device_of
        from impasto.study.work.identity import model_identity

        check_room(name, options, gpus)
        model = load(name, **options)
        if not isinstance(model, Model):
            raise UserError(f"{name} is an encoder; its studies run in one process: no --cluster")
        self._model = model
        return {
            "layers": self._model.num_layers,
            "identity": dict(model_identity(self._model).parts),
            "free": list(free_memory(self._model.hf.device)),
            "device": device_of(self._model),
        }

    def _expected(self, works: list[AskedItems]) -> list[float]:
        from impasto.run import Cost
        from impasto.study.work.asking import naming
        from impasto.study.work.counting import cost_of

        self._model.memory = works[0].memory if works else None
        costs = []
        for work in works:
            with naming(work.task, work.names):
                costs.append(cost_of(self._model, work.plans, work.requests, work.donors))
        pace = self._model.pace(sum(costs, Cost()))
        return [cost.seconds(pace) for cost in costs]

    def _answered(self, work: AskedItems) -> Answered:
        from impasto.study.work.asking import device_of, naming, put

        self._unit, self._share = work.unit, 0.0
        self._model.memory = work.memory
        began, clock = time.time(), time.perf_counter()
        with naming(work.task, work.names):
            said = put(self._model, work.plans, work.requests, work.donors, self._progressed)
        return Answered(
            unit=work.unit,
            responses=said.responses,
            truncated=said.truncated,
            began=began,
            seconds=time.perf_counter() - clock,
            host=socket.gethostname(),
            device=device_of(self._model),
        )

    def _progressed(self, share: float) -> None:
        self._share = share


def _replied(make: Callable[[], Reply]) -> Reply:
    """Return what is made, or what went wrong."""
    from impasto.run.batching.memory import is_out_of_memory

    try:
        return make()
    except UserError as error:
        return {"refused": str(error)}
    except Exception as error:
        if is_out_of_memory(error):
            return {"refused": f"memory ran out ({str(error).splitlines()[0]})"}
        return {"fault": traceback.format_exc()}
