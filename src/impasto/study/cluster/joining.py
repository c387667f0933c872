"""What workers are started for, and whether one that has started may take part.

A worker must be the same impasto as this process, and have the same model as the first one that was
ready, both to the digest: then it does not matter who answers what.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from impasto.study.cluster.pool import Event
from impasto.study.work.identity import Identity, engine_identity, versions

Reply = Mapping[str, Any]
RELEASE = "impasto"  # among the versions: the package's own


class Pool(Protocol):
    """Where workers run; see `RayPool`."""

    def start(self) -> int: ...  # noqa: D102
    def call(self, worker: int, what: str, *given: Any) -> None: ...  # noqa: D102
    def wait(self, seconds: float) -> list[Event]: ...  # noqa: D102
    def kill(self, worker: int) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Order:
    """The model that every worker is to load.

    Attributes:
        name: What it is called.
        options: How it is loaded.
        gpus: On how many GPUs.
        share: Which share of its device's free memory a worker may count as its own.
        takes: What a worker takes of a machine, in words.
    """

    name: str
    options: Mapping[str, Any]
    gpus: float
    share: float
    takes: str


@dataclass(frozen=True)
class RemoteModel:
    """The workers' model as it is known here: without its weights."""

    name: str
    num_layers: int
    tokenizer: Any
    identity: Mapping[str, str]

    @property
    def appended(self) -> tuple[int, ...]:
        """The special tokens that the tokenizer puts behind every text."""
        return self._reader.appended

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids as the workers read it."""
        return self._reader.prompt(text)

    @cached_property
    def _reader(self) -> Any:
        from impasto.run.batching.tokenisation import Reader

        bos = self.identity.get("add_bos_token")
        given = None if bos is None else bos == str(True)
        return Reader(self.tokenizer, len(self.tokenizer or ()), None, given)


def other_version(hello: Reply) -> str | None:
    """Say in what a worker's impasto differs from this process's; None where it is the same.

    Its release counts, by which both sides understand each other, and what answers follow from.
    What a library was built for, as in `2.6.0+cu124`, is no other version.
    """
    here = {RELEASE: versions()[RELEASE], **engine_identity().parts}
    there = {RELEASE: hello["versions"][RELEASE], **hello["engine"]}
    changed = [
        f"{part} is {there.get(part, 'missing')} there and {own} here"
        for part, own in here.items()
        if _public(there.get(part)) != _public(own)
    ]
    if not changed:
        return None
    return (
        f"it has another version, impasto {there[RELEASE]} ({', '.join(changed)}); "
        "install the same on every machine"
    )


def other_model(begun: Reply, first: Reply, name: str) -> str | None:
    """Say in what a worker's model differs from the first one's; None where it is the same."""
    changed = Identity(begun["identity"]).changes(first["identity"])
    if not changed:
        return None
    return (
        f"its {name} has other {' and '.join(changed)} than the first worker's; the same files "
        "must be on every machine"
    )


def _public(version: str | None) -> str | None:
    return version if version is None else version.partition("+")[0]
