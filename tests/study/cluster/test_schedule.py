"""Who gets which unit, and what is done about those that take too long."""

import random

import pytest

from impasto.plan import Plan
from impasto.study.cluster.schedule import Patience, Schedule, TooManyTriesError
from impasto.study.work.units import FEWEST_SECONDS, UNITS_EACH, Unit, unit_seconds

PLANS = (Plan.parse("0-3"), Plan.parse("3-0"))
QUICK = Patience(late=2, least=5, stuck=50, times=4, tries=3)


def units_of(*expected):
    """Return units that take so many seconds; None: so many answers, and nobody knows how long."""
    return [Unit(i, "task", 0, 10 * (i + 1), PLANS, seconds) for i, seconds in enumerate(expected)]


def id_of(unit):
    """Return the id of a unit that there is."""
    assert unit is not None
    return unit.id


def drained(schedule, worker, now=0.0):
    """Return the ids of what one worker is given until nothing waits."""
    ids = []
    while (unit := schedule.next(worker, now)) is not None:
        ids.append(unit.id)
        schedule.answered(worker, now + 1)
    return ids


def test_the_longest_go_first():
    assert drained(Schedule(units_of(3.0, 9.0, 1.0, 5.0), QUICK), worker=1) == [1, 3, 0, 2]


def test_where_nobody_knows_how_long_the_most_answers_go_first():
    assert drained(Schedule(units_of(3.0, None, 1.0), QUICK), worker=1) == [2, 1, 0]


def test_longest_first_keeps_every_worker_busy_to_about_the_same_moment():
    draw = random.Random(0)
    sizes = [draw.uniform(1, 20) for _ in range(40)]
    schedule, free, ends = Schedule(units_of(*sizes), Patience()), dict.fromkeys(range(4), 0.0), []
    while not schedule.is_done:
        worker = min(free, key=lambda w: free[w])
        unit = schedule.next(worker, free[worker])
        if unit is None:
            ends.append(free.pop(worker))
            continue
        free[worker] += unit.expected or 0
        schedule.answered(worker, free[worker])
    ends += free.values()
    assert max(ends) - min(ends) < max(sizes) / 4
    assert max(ends) < 1.05 * sum(sizes) / 4


def test_every_unit_is_answered_once_whatever_workers_die():
    draw = random.Random(1)
    for _ in range(50):
        units = units_of(*(draw.uniform(1, 30) for _ in range(12)))
        schedule = Schedule(units, Patience(late=1.5, least=1, tries=1000))
        answered, now, busy = [], 0.0, set()
        while not schedule.is_done:
            now += draw.uniform(0, 10)
            for worker in range(3):
                if worker not in busy and schedule.next(worker, now) is not None:
                    busy.add(worker)
            worker = draw.choice(sorted(busy))
            busy.remove(worker)
            if draw.random() < 0.3:
                schedule.gone(worker)
            elif (unit := schedule.answered(worker, now)) is not None:
                answered.append(unit.id)
        assert sorted(answered) == [unit.id for unit in units]


def test_a_unit_whose_worker_is_gone_goes_to_the_next_one():
    schedule = Schedule(units_of(9.0, 5.0, 1.0), QUICK)
    assert id_of(schedule.next(1, 0)) == 0
    assert id_of(schedule.gone(1)) == 0
    assert schedule.unit_of(1) is None
    assert id_of(schedule.next(2, 0)) == 0


def test_a_worker_that_had_nothing_leaves_nothing_behind():
    schedule = Schedule(units_of(9.0), QUICK)
    assert schedule.gone(7) is None


def test_a_unit_that_ends_every_worker_ends_the_run():
    schedule = Schedule(units_of(9.0, 5.0), QUICK)
    for worker in (1, 2):
        assert id_of(schedule.next(worker, 0)) == 0
        assert id_of(schedule.gone(worker)) == 0
    schedule.next(3, 0)
    with pytest.raises(TooManyTriesError) as raised:
        schedule.gone(3)
    assert (raised.value.unit.id, raised.value.tries) == (0, QUICK.tries)


def test_nothing_is_copied_while_something_waits_or_nothing_is_late():
    schedule = Schedule(units_of(10.0, 9.0), QUICK)
    schedule.next(1, 0)
    assert id_of(schedule.next(2, 1000)) == 1
    assert id_of(schedule.next(3, 1001)) == 0  # late by now, and nothing waits
    fresh = Schedule(units_of(10.0), QUICK)
    fresh.next(1, 0)
    assert fresh.next(2, 19) is None
    assert id_of(fresh.next(2, 21)) == 0


def test_the_latest_is_copied_first_and_none_twice():
    schedule = Schedule(units_of(10.0, 9.0), QUICK)
    schedule.next(1, 5)  # unit 0
    schedule.next(2, 0)  # unit 1, which should be done sooner
    assert id_of(schedule.next(3, 100)) == 1
    assert id_of(schedule.next(4, 100)) == 0
    assert schedule.next(5, 100) is None


@pytest.mark.parametrize("faster", [1, 2])
def test_the_first_answer_counts_and_the_other_is_dropped(faster):
    schedule = Schedule(units_of(10.0), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 100)
    assert id_of(schedule.answered(faster, 101)) == 0
    assert schedule.is_done
    assert schedule.is_idle
    assert schedule.answered(3 - faster, 102) is None


def test_a_unit_that_has_a_copy_survives_one_of_its_workers():
    schedule = Schedule(units_of(10.0), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 100)
    assert schedule.gone(1) is None  # the copy is running
    assert id_of(schedule.answered(2, 101)) == 0


def test_a_unit_waits_again_once_all_that_had_it_are_gone():
    schedule = Schedule(units_of(10.0), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 100)
    assert schedule.gone(1) is None
    assert id_of(schedule.gone(2)) == 0
    assert id_of(schedule.next(3, 100)) == 0


def test_what_is_late_follows_from_what_the_others_took():
    schedule = Schedule(units_of(40.0, 10.0, 10.0), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 0)
    schedule.answered(2, 30)  # three times as long as foreseen
    schedule.next(2, 30)
    schedule.answered(2, 60)
    assert schedule.next(2, 100) is None  # 40 seconds should take 120 here, so not late yet
    assert id_of(schedule.next(2, 241)) == 0


def test_where_nobody_knows_how_long_nothing_is_late_before_something_is_answered():
    schedule = Schedule(units_of(None, None), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 0)
    assert schedule.next(3, 10_000) is None
    schedule.answered(1, 10_000)
    assert schedule.next(3, 10_000) is None  # half as many answers should take half as long
    assert id_of(schedule.next(3, 10_001)) == 0


def test_a_worker_without_progress_is_stuck_and_one_with_progress_is_not():
    schedule = Schedule(units_of(10.0, 10.0), QUICK)
    schedule.next(1, 0)
    schedule.next(2, 0)
    schedule.progressed(1, 0.1, 30)
    schedule.progressed(1, 0.1, 60)  # the same share is no progress
    assert schedule.stuck(49) == []
    assert schedule.stuck(51) == [2]
    assert schedule.stuck(79) == [2]
    assert schedule.stuck(81) == [1, 2]


def test_a_long_unit_may_be_without_progress_for_longer():
    schedule = Schedule(units_of(100.0), QUICK)
    schedule.next(1, 0)
    assert schedule.stuck(399) == []
    assert schedule.stuck(401) == [1]


def test_a_run_that_is_stopped_is_idle_once_all_that_runs_is_answered():
    schedule = Schedule(units_of(9.0, 5.0, 1.0), QUICK)
    assert schedule.is_idle
    schedule.next(1, 0)
    schedule.next(2, 0)
    schedule.answered(1, 1)
    assert not schedule.is_idle
    schedule.answered(2, 1)
    assert schedule.is_idle
    assert not schedule.is_done


def test_one_worker_takes_the_longest_units_that_may_be_lost_and_several_shorter_ones():
    assert unit_seconds(45, [100.0, 60.0], workers=1) == 45
    assert unit_seconds(45, [100.0, 60.0], workers=2) == 160 / (2 * UNITS_EACH)
    assert unit_seconds(45, [10_000.0], workers=2) == 45
    assert unit_seconds(45, [1.0], workers=8) == FEWEST_SECONDS
    assert unit_seconds(1, [1.0], workers=8) == 1
    assert unit_seconds(45, [100.0, None], workers=8) == 45
