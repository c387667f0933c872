"""What goes to workers and comes back: plain data as compressed JSON, and nothing that runs.

A worker gets questions, not tasks: requests and plans are all that an answer follows from, so it
needs neither the study's file nor its data. Numbers come back to the bit, not-a-number among them.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from impasto.plan import Plan
from impasto.plan.healed import HealedPlan
from impasto.study.database.records import parsed, plain, tuples_of
from impasto.study.work.units import Answered
from impasto.tasks import Request
from impasto.tasks.request import Fidelity, Generation, LogLikelihood, RollingLogLikelihood

KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (LogLikelihood, RollingLogLikelihood, Generation, Fidelity)
}


@dataclass(frozen=True)
class AskedItems:
    """Some items' requests, as they are put to a model under some plans.

    Attributes:
        unit: The unit's id; what the worker's pulse tells of.
        plans: The plans.
        requests: By item.
        donors: One for each item, where a plan may inject.
        memory: The bytes that a batch may take; None leaves it to the model.
        task: The task's name: what cannot be asked is named by it, and by
        names: the items' names.
    """

    unit: int
    plans: Sequence[Plan]
    requests: Sequence[Sequence[Request]]
    donors: Sequence[Mapping[str, Any]] | None
    memory: int | None
    task: str
    names: Sequence[str]

    def packed(self) -> bytes:
        """Return the work as bytes."""
        return packed(
            {
                "unit": self.unit,
                "plans": [[plan.to_json(), getattr(plan, "heal", None)] for plan in self.plans],
                "requests": [[_told(request) for request in some] for some in self.requests],
                "donors": self.donors if self.donors is None else [dict(d) for d in self.donors],
                "memory": self.memory,
                "task": self.task,
                "names": list(self.names),
            }
        )

    @classmethod
    def unpacked(cls, data: bytes) -> "AskedItems":
        """Return the work that bytes are."""
        content = unpacked(data)
        return cls(
            content["unit"],
            [_plan(*told) for told in content["plans"]],
            [[_request(told) for told in some] for some in content["requests"]],
            content["donors"],
            content["memory"],
            content["task"],
            content["names"],
        )


def packed_answer(answered: Answered) -> bytes:
    """Return an answer as bytes."""
    responses = [
        [json.dumps([plain(one) for one in item]) for item in plan] for plan in answered.responses
    ]
    return packed(
        {
            "unit": answered.unit,
            "responses": responses,
            "truncated": answered.truncated,
            "began": answered.began,
            "seconds": answered.seconds,
            "host": answered.host,
            "device": answered.device,
        }
    )


def unpacked_answer(data: bytes) -> Answered:
    """Return the answer that bytes are."""
    content = unpacked(data)
    responses = [[tuples_of(parsed(item)) for item in plan] for plan in content["responses"]]
    return Answered(**content | {"responses": responses})


def packed(content: Any) -> bytes:
    """Return plain data as bytes; contexts that repeat, as few-shot examples do, take little."""
    return zlib.compress(json.dumps(content).encode("ascii"), level=1)


def unpacked(data: bytes) -> Any:
    """Return the plain data that bytes are."""
    return json.loads(zlib.decompress(data))


def _plan(told: str, heal: str | None) -> Plan:
    plan = Plan.from_json(told)
    return plan if heal is None else HealedPlan(plan.steps, heal)


def _told(request: Request) -> list[Any]:
    return [type(request).__name__, *(getattr(request, name) for name in request.__slots__)]


def _request(told: Sequence[Any]) -> Request:
    kind, *values = told
    return KINDS[kind](*(tuple(v) if isinstance(v, list) else v for v in values))
