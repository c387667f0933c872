"""Driving a study: units go to whoever answers them, and this one process saves what comes back.

A unit is saved whole, in one transaction, as soon as it is answered. So whatever ends the run, what
was saved stays, and nothing that was saved is asked again.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from impasto.plan import count_of_plans
from impasto.study.database.saving import save_unit
from impasto.study.following.standing import Standing, Standings
from impasto.study.running.stopping import Stopped
from impasto.study.work.asking import Asking
from impasto.study.work.scoring import judged
from impasto.study.work.units import Answered, Unit, UnitRunner


@dataclass(frozen=True)
class Watch:
    """Who follows a run.

    Attributes:
        standings: Makes standings of what is told.
        stop: Says whether the run is to stop.
        saved: Called with the standing after every unit that is saved.
        log: The folder's log.
    """

    standings: Standings
    stop: Callable[[], bool]
    saved: Callable[[Standing], None]
    log: logging.Logger


def drive(
    connection: sqlite3.Connection,
    units: Sequence[Unit],
    executor: UnitRunner,
    asked: Mapping[str, Asking],
    watch: Watch,
) -> None:
    """Have all units answered and save them; raises Stopped where that was stopped on the way."""
    by_id = {unit.id: unit for unit in units}
    for answered in executor.run(units, watch.standings.told, watch.stop):
        unit = by_id.pop(answered.unit)
        _save(connection, unit, answered, asked[unit.task])
        standing = watch.standings.saved(unit)
        watch.saved(standing)
        watch.log.info(
            "saved unit %d: %s %d-%d under %s in %.1f s on %s (cells %d of %d)",
            unit.id, unit.task, unit.start, unit.stop - 1, count_of_plans(len(unit.plans)),
            answered.seconds, answered.host, standing.cells, standing.of,
        )  # fmt: skip
    if by_id:
        assert watch.stop(), f"{len(by_id)} units were not answered"
        standing = watch.standings.now()
        raise Stopped(f"{standing.cells} of {standing.of} cells are saved")


def _save(connection: sqlite3.Connection, unit: Unit, answered: Answered, asking: Asking) -> None:
    items = asking.task.items[unit.start : unit.stop]
    records = [
        judged(asking.task, items, responses, bool(plan.injections))
        for plan, responses in zip(unit.plans, answered.responses, strict=True)
    ]
    save_unit(connection, unit, answered, records)
