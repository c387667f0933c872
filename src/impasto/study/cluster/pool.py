"""Workers as Ray's actors: starting, calling, hearing from and ending them, and nothing else.

Nothing but this and `actor` knows Ray. What Ray and its processes print is kept off the user's
screen: complaints go to the study's log.
"""

import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from impasto.error import UserError
from impasto.study.cluster.wanted import CLIENT, LOCAL, Cluster, ClusterNode, Room

REACH = 5.0  # seconds to wait for an address to answer
LOOK, GONE = 5.0, 25.0  # seconds between looks at the head, and without it; Ray itself waits 60
SAVED = "all that was saved is there, and the same command goes on"
CLIENT_LOG = "ray.util.client.logsclient"
REASONS = (  # what Ray says of a worker that is gone, and what that means
    ("node has died", "its machine is gone"),
    ("temporarily unavailable", "its connection is lost"),
    ("SIGTERM", "its process was told to end (SIGTERM)"),
    ("ray.kill", "it was ended through Ray"),
    ("OOM", "its process was killed or crashed; perhaps memory ran out"),
    ("memory", "its process was killed or crashed; perhaps memory ran out"),
)
STORE = 256 * 2**20  # bytes of Ray's own memory on a Ray of ours; what is sent is small


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a call: its reply, or why the worker is gone (`died`)."""

    worker: int
    call: str
    reply: Any = None
    died: str | None = None


class RayPool:
    """Workers on the Ray that this process is connected to, told by number."""

    def __init__(self, room: Room) -> None:
        ray: Any = import_module("ray")
        from impasto.study.cluster.actor import PULSE, Actor

        self._ray = ray
        self._room = room
        self._kind = ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={PULSE: 1})(
            Actor
        )
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, str]] = {}  # by what they will return
        self._started = 0
        self._head = _Head(_head_place(ray))

    def start(self) -> int:
        """Start a worker, as soon as the cluster has room for it."""
        with self._lost():
            actor = self._kind.options(
                num_cpus=self._room.cpus,
                num_gpus=self._room.gpus,
                memory=self._room.memory or None,
                scheduling_strategy="SPREAD",
            ).remote(self._room.cpus)
        self._started += 1
        self._actors[self._started] = actor
        return self._started

    def call(self, worker: int, what: str, *given: Any) -> None:
        """Call a worker's method; what becomes of it is an event."""
        with self._lost():
            self._calls[getattr(self._actors[worker], what).remote(*given)] = worker, what

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, after so many seconds at the latest.

        Raises UserError where the cluster itself is gone.
        """
        if self._head.is_gone(time.monotonic()):
            self._actors.clear()  # nobody is left to end them
            raise UserError(f"the Ray cluster is gone: its head does not answer; {SAVED}")
        if not self._calls:
            time.sleep(seconds)
            return []
        with self._lost():
            some, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=seconds)
            if some:
                number = len(self._calls)
                some, _ = self._ray.wait(list(self._calls), num_returns=number, timeout=0)
            return [self._event(found) for found in some]

    def kill(self, worker: int) -> None:
        """End a worker at once; nothing is heard of it any more."""
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != worker}
        actor = self._actors.pop(worker, None)
        if actor is None:
            return
        import grpc

        # It may be gone by itself, and so may the cluster.
        with suppress(ConnectionError, grpc.RpcError, self._ray.exceptions.RayError):
            self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._actors):
            self.kill(worker)

    def _event(self, found: Any) -> Event:
        worker, what = self._calls.pop(found)
        try:
            return Event(worker, what, self._ray.get(found))
        except self._ray.exceptions.RayError as error:
            return Event(worker, what, died=_reason(error))

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Answer a connection that is gone with what that means."""
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RaySystemError) as error:
            raise UserError(
                f"the connection to the Ray cluster is lost ({_first_line(error)}); {SAVED}"
            ) from None


class _Head:
    """Watches whether a cluster's head still answers, since Ray ends a process that loses it."""

    def __init__(self, place: tuple[str, int] | None) -> None:
        self._place = place
        self._looked = self._answered = time.monotonic()

    def is_gone(self, now: float) -> bool:
        """Say whether it has not answered for too long."""
        if self._place is None or now - self._looked < LOOK:
            return False
        self._looked = now
        try:
            socket.create_connection(self._place, timeout=REACH).close()
            self._answered = now
        except OSError:
            return now - self._answered > GONE
        return False


def _head_place(ray: Any) -> tuple[str, int] | None:
    """Return where the cluster's head listens; None for a client, whose connection tells."""
    if import_module("ray.util.client").ray.is_connected():
        return None
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def connected(cluster: Cluster, log: logging.Logger) -> Iterator[list[ClusterNode]]:
    """Connect this process to a Ray cluster in the block, and give the cluster's machines.

    One that this process is connected to already is used as it is. Raises UserError where none is
    reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with ExitStack() as stack:
        import ray

        stack.enter_context(_silenced(cluster, log))
        if not ray.is_initialized():
            try:
                ray.init(**_options(cluster))
            except Exception as error:  # Ray raises Exception itself where it does not start
                raise UserError(
                    f"no Ray cluster can be reached at {cluster.address}: {_first_line(error)}"
                    if cluster.address != LOCAL
                    else f"Ray does not start on this machine: {_first_line(error)}"
                ) from error
            stack.callback(ray.shutdown)
        yield [_node(told) for told in ray.nodes() if told["Alive"]]


def _options(cluster: Cluster) -> dict[str, Any]:
    """Return what `ray.init` is called with."""
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    if cluster.address != LOCAL:
        return {"address": cluster.address, **quiet}
    cpus = None
    if cluster.workers is not None:  # as many as the user wants, whatever there is
        cpus = max(os.cpu_count() or 1, cluster.workers * cluster.cpus)
    return {
        "address": LOCAL,
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": STORE,
        "_node_ip_address": "127.0.0.1",  # nobody else is to reach it
        **quiet,
    }


def reach(cluster: Cluster) -> None:
    """Raise UserError where Ray is not installed, or none answers at the cluster's address.

    Asked before anything slow is done; Ray itself would go on trying for minutes.
    """
    if find_spec("ray") is None:
        raise UserError('running on a cluster needs Ray: pip install "impasto[cluster]"')
    if cluster.place is None:
        return
    host, port = cluster.place
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster can be reached at {cluster.address}: {error.strerror or error}"
        ) from None
    if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
        return
    import grpc

    channel = grpc.insecure_channel(f"{host}:{port}")
    try:
        grpc.channel_ready_future(channel).result(timeout=REACH)
    except grpc.FutureTimeoutError:
        port = "10001" if cluster.address.startswith(CLIENT) else "6379"
        raise UserError(
            f"what answers at {cluster.address} is no Ray cluster; its head node usually has the "
            f"port {port}"
        ) from None
    finally:
        channel.close()


def _node(told: dict[str, Any]) -> ClusterNode:
    has = told["Resources"]
    return ClusterNode(
        told["NodeID"], has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0)
    )


@contextmanager
def _silenced(cluster: Cluster, log: logging.Logger) -> Iterator[None]:
    """Send what Ray complains of to the study's log in the block, and let it print nothing."""
    told = logging.Handler(logging.WARNING)
    told.emit = log.handle
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"ray\b")
        for name in ("ray", CLIENT_LOG):
            logger = logging.getLogger(name)
            stack.callback(_speak, logger, logger.handlers, logger.propagate)
            _speak(logger, [told], propagate=False)
        for owner, name in _printers(cluster):
            if hasattr(owner, name):
                stack.enter_context(patch.object(owner, name, lambda *given, **more: None))
        yield


def _printers(cluster: Cluster) -> Iterator[tuple[Any, str]]:
    """Yield the functions by which Ray prints what its processes say, past its loggers."""
    yield import_module("ray._private.worker"), "print_to_stdstream"
    if cluster.address.startswith(CLIENT):
        yield import_module(CLIENT_LOG).LogstreamClient, "stdstream"


def _speak(logger: logging.Logger, handlers: list[logging.Handler], propagate: bool) -> None:
    logger.handlers, logger.propagate = handlers, propagate


def _reason(error: Exception) -> str:
    """Say in a few words why a worker is gone."""
    text = str(error)
    if "No module named" in text:
        missing = text[text.index("No module named") :].splitlines()[0]
        return f"it cannot start: {missing}; install the same impasto on every machine"
    return next((meaning for sign, meaning in REASONS if sign in text), _first_line(error))


def _first_line(error: BaseException) -> str:
    """Return what an error says first; with its last line where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]
