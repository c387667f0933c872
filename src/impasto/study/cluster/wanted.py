"""Which cluster a study is to run on, and how many workers have room there. No Ray here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from impasto.error import UserError
from impasto.study.cluster.schedule import Patience

LOCAL, FOUND = "local", "auto"
CLIENT = "ray://"
ADDRESS = re.compile(r"(ray://)?(\[[\da-fA-F:.]+\]|[^\s/:\[\]]+):(\d{1,5})")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster and the workers to start on it; each holds one replica of the model.

    Attributes:
        address: local (a Ray of our own on this machine, for the time of the run), auto (the one
            that RAY_ADDRESS names or that runs on this machine), host:port of a head node that this
            machine belongs to, or ray://host:port of any head node.
        workers: How many; None for as many as have room.
        gpus: How many GPUs each has, a share of one too; None for one where the cluster has any.
        cpus: How many CPUs each has, and threads.
        patience: How long is too long.
    """

    address: str = LOCAL
    workers: int | None = None
    gpus: float | None = None
    cpus: int = 1
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        """Refuse what cannot be; raises UserError."""
        if not is_address(self.address):
            raise UserError(
                f"{self.address!r} is no address of a Ray cluster; write ray://host:10001, "
                f"host:6379, {FOUND}, or {LOCAL}"
            )
        if self.workers is not None and self.workers < 1:
            raise UserError(f"a study needs at least one worker, not {self.workers}")
        if self.cpus < 1:
            raise UserError(f"a worker needs at least one CPU, not {self.cpus}")
        if self.gpus is not None and not _is_share(self.gpus):
            raise UserError(f"a worker has whole GPUs or a share of one, not {self.gpus:g}")

    @property
    def place(self) -> tuple[str, int] | None:
        """The host and port that it names; None where it names none."""
        found = ADDRESS.fullmatch(self.address)
        return None if found is None else (found[2].strip("[]"), int(found[3]))


def _is_share(gpus: float) -> bool:
    return 0 <= gpus <= 1 or (gpus > 1 and isfinite(gpus) and not gpus % 1)


def is_address(text: str) -> bool:
    """Say whether a text is an address of a cluster, as `Cluster.address` describes them."""
    if text in (LOCAL, FOUND):
        return True
    found = ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[3]) < 2**16


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of the cluster: what Ray may give to workers there; memory in bytes."""

    name: str
    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True, slots=True)
class Room:
    """What one worker takes of a machine: CPUs, GPUs, and bytes of memory (0: nobody knows)."""

    cpus: int
    gpus: float
    memory: int

    def count(self, node: ClusterNode) -> int:
        """Return how many workers have room on a machine."""
        fits = [node.cpus // self.cpus]
        if self.gpus >= 1:
            fits.append(node.gpus // self.gpus)
        elif self.gpus:
            fits.append(node.gpus // 1 * (1 / self.gpus // 1))  # none lies across two GPUs
        if self.memory:
            fits.append(node.memory // self.memory)
        return int(min(fits))

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPU{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{self.memory / 2**30:.2f} GiB of memory"] if self.memory else []
        return ", ".join(parts)


def gpus_each(wanted: Cluster, nodes: Sequence[ClusterNode]) -> float:
    """Return how many GPUs a worker has."""
    if wanted.gpus is not None:
        return wanted.gpus
    return 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0


def workers_on(wanted: Cluster, nodes: Sequence[ClusterNode], room: Room) -> int:
    """Return how many workers to start; raises UserError where no machine has room for one."""
    fits = {node.name: room.count(node) for node in nodes}
    if not any(fits.values()):
        raise UserError(
            f"no machine of the cluster has room for a worker, which takes {room}: "
            f"{_told(nodes)}. Let a worker take less (--cpus-per-worker, --gpus-per-worker; load: "
            "{dtype: float16} in the study), or add machines"
        )
    return sum(fits.values()) if wanted.workers is None else wanted.workers


def _told(nodes: Sequence[ClusterNode]) -> str:
    """Say what the machines have, alike ones once."""
    kinds: dict[str, int] = {}
    for node in nodes:
        kind = f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {node.memory / 2**30:.2f} GiB of memory"
        kinds[kind] = kinds.get(kind, 0) + 1
    return "; ".join(f"{count} with {kind}" for kind, count in kinds.items())
