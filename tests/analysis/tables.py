"""Small tables of a study, by hand."""

import pandas as pd

ROW = {
    "study": "s",
    "model": "demo",
    "layers": 4,
    "task": "capitals",
    "title": "Capitals",
    "part_of": "",
    "strategy": "plan",
    "k": None,
    "seed": None,
    "parameters": "{}",
    "plan": "0-3",
    "digest": "d",
    "metric": "exact_match",
    "value": 0.5,
    "stderr": 0.01,
    "n": 100,
    "chance": 0.1,
    "baseline": 0.9,
    "truncated": 0,
}


def table(*rows):
    """Return a table of rows, each given by what it has of its own."""
    frame = pd.DataFrame([ROW | row for row in rows])
    return frame.astype({"k": "Int64", "seed": "Int64"})


def records(task, digest, **metrics):
    """Return a study's records of a plan's items, given each metric's values."""
    return [
        {
            "task": task,
            "digest": digest,
            "plan": "0-3",
            "item": f"item {i}",
            "responses": ["…"],
            "metrics": dict(zip(metrics, values, strict=True)),
        }
        for i, values in enumerate(zip(*metrics.values(), strict=True))
    ]
