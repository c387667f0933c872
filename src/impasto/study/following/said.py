"""What is said of a run's standing, in words that a line, a bar and a notebook share."""

from impasto.study.following.standing import Standing


def times_said(gone: float, left: float | None, is_most: bool) -> str:
    """Say how long a run has been going, and how long it still takes where that is known."""
    about = "at most" if is_most else "about"
    return f"{_clock(gone)} elapsed" + (
        f", {about} {_clock(left)} left" if left is not None else ""
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def doing_said(standing: Standing) -> str:
    """Return what a run is at, after its model where it has several."""
    return f"{standing.model}: {standing.doing}" if standing.model else standing.doing


def counts_said(standing: Standing) -> str:
    """Return the cells that are finished, the pace and the workers, as far as they are known."""
    if not standing.of:
        return ""
    pace = "" if standing.pace is None else f", {standing.pace:,.0f} items/s"
    workers = f", {standing.running} workers" if standing.running > 1 else ""
    so_far = " so far" if standing.is_most else ""
    return f"{standing.cells} of {standing.of} cells{so_far}{pace}{workers}"
