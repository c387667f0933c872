"""What of a plan can make a difference, so that plans which cannot differ are one.

Earlier tokens are seen by attention, and by nothing else. So a marker that edits them behind the
last attention edits nothing; nor does a freeze right before it, nor anything behind a freeze.
"""

from collections.abc import Sequence

from impasto.plan import Freeze, Inject, Noise, Step
from impasto.plan.attending import attends, is_last_attention


def live_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return a plan's steps without the markers that no prediction can tell of.

    A plan that injects is returned as it is: a donor's earlier tokens may become current ones.
    """
    if any(isinstance(step, Inject) for step in steps):
        return tuple(steps)
    last = max((place for place, step in enumerate(steps) if attends(step)), default=-1)
    live: list[Step] = []
    is_held = False
    for place, step in enumerate(steps):
        if isinstance(step, Freeze | Noise) and (is_held or place > last):
            continue
        if place == last and live and isinstance(live[-1], Freeze) and is_last_attention(step):
            live.pop()
        is_held = is_held or isinstance(step, Freeze)
        live.append(step)
    return tuple(live)
