"""What a model is like inside, as files: JSON that is read again, CSV for other programs.

A number that is not one (an interval over a single text) is null in JSON and empty in CSV.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from impasto.analysis.inside.entropy import Entropy
from impasto.analysis.inside.groups import Groups, layer_groups
from impasto.analysis.inside.probes import Probed
from impasto.analysis.inside.similarity import Measure, Similarity
from impasto.error import UserError
from impasto.table import Table, plain

SIMILARITY, ENTROPY, PROBES = "similarity", "entropy", "probes"


@dataclass(frozen=True, eq=False)
class Inside:
    """What was found of one model, and on which texts; what was not asked for is None."""

    model: str
    layers: int
    source: str
    similarity: Mapping[Measure, Similarity] | None = None
    entropy: Entropy | None = None
    probed: Probed | None = None

    def files(self) -> dict[str, str]:
        """Return the files' contents by name, JSON and CSV of each thing that was found."""
        written: dict[str, str] = {}
        for name, found in (
            (SIMILARITY, _similarity_json(self.similarity) if self.similarity else None),
            (ENTROPY, _entropy_json(self.entropy) if self.entropy else None),
            (PROBES, _probes_json(self.probed) if self.probed else None),
        ):
            if found is not None:
                about = {"model": self.model, "layers": self.layers, "source": self.source}
                content = plain({**about, **found})
                written[f"{name}.json"] = json.dumps(content, ensure_ascii=False) + "\n"
        if self.similarity:
            written[f"{SIMILARITY}.csv"] = _similarity_table(self.similarity).written("csv")
        if self.entropy:
            rows = [(*at, value) for at, value in np.ndenumerate(self.entropy.mean)]
            table = Table(("layer", "head", "entropy_nats"), rows)
            written[f"{ENTROPY}.csv"] = table.written("csv")
        if self.probed:
            p = self.probed
            depths = enumerate(zip(p.accuracy, p.low, p.high, strict=True))
            rows = [(depth, *values, p.chance) for depth, values in depths]
            table = Table(("depth", "accuracy", "low", "high", "chance"), rows)
            written[f"{PROBES}.csv"] = table.written("csv")
        return written


def read_inside(folder: Path) -> dict[str, Inside]:
    """Return what a folder holds, by name: similarity, entropy, probes.

    Raises UserError for a file that `impasto similarity` or `impasto probe` did not write.
    """
    readers = {SIMILARITY: _read_similarity, ENTROPY: _read_entropy, PROBES: _read_probes}
    found = {}
    for name, reader in readers.items():
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            about = {key: content[key] for key in ("model", "layers", "source")}
            found[name] = Inside(**about, **reader(content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not what impasto wrote there: {error}") from None
    return found


def _similarity_json(found: Mapping[Measure, Similarity]) -> dict[str, Any]:
    first = next(iter(found.values()))
    groups = {measure: layer_groups(s.mean) for measure, s in found.items()}
    return {
        "texts": first.texts,
        "tokens": first.tokens,
        "cut": first.cut,
        "measures": {
            measure: {
                "mean": s.mean.tolist(),
                "half_width": s.half_width.tolist(),
                "groups": _groups_json(groups[measure]),
            }
            for measure, s in found.items()
        },
    }


def _groups_json(groups: Groups | None) -> dict[str, Any] | None:
    if groups is None:
        return None
    runs = {"beginning": groups.beginning, "middle": groups.middle, "end": groups.end}
    return {name: [run[0], run[-1]] for name, run in runs.items()} | {
        "within": groups.within,
        "between": groups.between,
    }


def _read_similarity(content: Mapping[str, Any]) -> dict[str, Any]:
    counts = [int(content[key]) for key in ("texts", "tokens", "cut")]
    depths = content["layers"] + 1
    return {
        "similarity": {
            measure: Similarity(
                measure,
                _array(found["mean"], (depths, depths)),
                _array(found["half_width"], (depths, depths)),
                *counts,
            )
            for measure, found in content["measures"].items()
        }
    }


def _entropy_json(found: Entropy) -> dict[str, Any]:
    return {
        "texts": found.texts,
        "tokens": found.tokens,
        "even": found.even,
        "mean": found.mean.tolist(),
    }


def _read_entropy(content: Mapping[str, Any]) -> dict[str, Any]:
    mean = _array(content["mean"], (content["layers"], None))
    return {"entropy": Entropy(mean, content["even"], content["texts"], content["tokens"])}


def _probes_json(found: Probed) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Probed.__dataclass_fields__}


def _read_probes(content: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: content[name] for name in Probed.__dataclass_fields__}
    for name in ("accuracy", "low", "high"):
        fields[name] = tuple(_array(fields[name], (content["layers"] + 1,)).tolist())
    return {"probed": Probed(**fields)}


def _array(values: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return nested lists of numbers as an array; null is not a number."""
    array = np.array(values, dtype=float)
    if len(array.shape) != len(shape) or any(
        wanted not in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    ):
        raise UserError(f"there are {array.shape} numbers")
    return array


def _similarity_table(found: Mapping[Measure, Similarity]) -> Table:
    rows = [
        (measure, *at, value, similarity.half_width[at])
        for measure, similarity in found.items()
        for at, value in np.ndenumerate(similarity.mean)
    ]
    return Table(("measure", "depth", "other", "similarity", "half_width"), rows)
