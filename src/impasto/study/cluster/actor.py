"""The worker as Ray runs it: felt by its pulse beside whatever else it is at."""

import ray

from impasto.study.cluster.worker import Reply, Worker

PULSE = "pulse"  # the one method that has a thread of its own


class Actor(Worker):
    """A worker whose `pulse` does not wait for its other methods."""

    @ray.method(concurrency_group=PULSE)
    def pulse(self) -> Reply:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Say which unit is being answered, and what share of it is."""
        return super().pulse()
