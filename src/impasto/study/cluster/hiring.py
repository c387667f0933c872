"""From a wish to workers that are ready: connect, see what there is room for, start them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from impasto.model.loading.files import BUNDLED, weight_bytes
from impasto.model.loading.load import load_tokenizer
from impasto.study.cluster.crew import Crew, Order
from impasto.study.cluster.pool import RayPool, connected, reach
from impasto.study.cluster.wanted import LOCAL, Cluster, ClusterNode, Room, gpus_each, workers_on


@contextmanager
def hired(
    cluster: Cluster,
    model: str,
    load: Mapping[str, Any],
    log: logging.Logger,
    say: Callable[[str], None],
    doing: Callable[[str], None],
) -> Iterator[Crew]:
    """Give workers that have a model each, the first of them ready, and end them after the block.

    `say` is called with what a user should know, `doing` with what is being waited for. Raises
    UserError where there is no such cluster, it has no room, or no worker can load the model.
    """
    doing("starting Ray" if cluster.address == LOCAL else f"connecting to {cluster.address}")
    reach(cluster)
    tokenizer = load_tokenizer(model, **load)
    with connected(cluster, log) as nodes:
        gpus = gpus_each(cluster, nodes)
        room = Room(cluster.cpus, gpus, 0 if gpus else weight_bytes(model, **load) or 0)
        count = workers_on(cluster, nodes, room)
        order = _order(model, load, room, _share(nodes, room, count))
        log.info("%d workers, each %s, on %d machines", count, room, len(nodes))
        doing(f"starting {count} worker{'s' * (count > 1)}")
        pool = RayPool(room)
        try:
            crew = Crew(pool, order, count, cluster.patience, say)
            crew.start(tokenizer)
            yield crew
        finally:
            pool.close()


def _order(model: str, load: Mapping[str, Any], room: Room, share: float) -> Order:
    """Return by which name, and how, a worker is to load the model.

    A folder is named as it is found from anywhere. With GPUs, the model goes to all that the worker
    has unless the study says where.
    """
    folder = Path(model).expanduser()
    name = str(folder.resolve()) if model not in BUNDLED and folder.is_dir() else model
    spread = {"device_map": "auto"} if room.gpus else {}
    return Order(name, {**spread, **load}, room.gpus, share, str(room))


def _share(nodes: list[ClusterNode], room: Room, count: int) -> float:
    """Return which share of its device's free memory a worker may count as its own."""
    if room.gpus:
        return min(1.0, room.gpus)
    machines = sum(room.count(node) > 0 for node in nodes)
    return 1 / ceil(count / machines)
