"""Beginning, middle and end: the three groups that a similarity matrix falls into.

Paper B sees in its Figure 3 that a model's first and last layers keep to themselves while the many
in the middle share one space. Here the groups are found: of all ways to cut the depths into three
runs, the one whose depths are most like the others of their run.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Groups:
    """Three runs of depths, as half-open ranges of depths 0 to T.

    `within` is the mean similarity of two different depths of one run, `between` that of two depths
    of different runs.
    """

    beginning: range
    middle: range
    end: range
    within: float
    between: float

    @property
    def runs(self) -> dict[str, range]:
        """The three runs by their names."""
        return {"beginning": self.beginning, "middle": self.middle, "end": self.end}


def layer_groups(similarity: np.ndarray) -> Groups | None:
    """Return the three groups of a (depths, depths) matrix; None for fewer than three depths.

    The cuts are those with the least scatter Σᵢ sᵢᵢ − Σᵢⱼ sᵢⱼ / m within the runs (m depths
    each): optimal segmentation with the similarity as kernel (Harchaoui & Cappé 2007).
    """
    depths = len(similarity)
    if depths < 3:
        return None
    sums = np.zeros((depths + 1, depths + 1))
    sums[1:, 1:] = similarity.cumsum(0).cumsum(1)
    trace = np.concatenate([[0.0], np.diagonal(similarity).cumsum()])

    def scatter(start: int, stop: int) -> float:
        whole = sums[stop, stop] - sums[start, stop] - sums[stop, start] + sums[start, start]
        return float(trace[stop] - trace[start] - whole / (stop - start))

    cuts = [(a, b) for a in range(1, depths - 1) for b in range(a + 1, depths)]
    a, b = min(cuts, key=lambda cut: scatter(0, cut[0]) + scatter(*cut) + scatter(cut[1], depths))
    run = np.repeat([0, 1, 2], [a, b - a, depths - b])
    same = run[:, None] == run
    other = ~np.eye(depths, dtype=bool)
    inside = similarity[same & other]
    return Groups(
        range(a),
        range(a, b),
        range(b, depths),
        within=float(inside.mean()) if len(inside) else float("nan"),
        between=float(similarity[~same].mean()),
    )
