"""What a model is like inside, as files: JSON that is read again, CSV for other programs.

A number that is not one (an interval over a single text) is null in JSON and empty in CSV.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from impasto.analysis.inside.entropy import Entropy
from impasto.analysis.inside.groups import Groups, layer_groups
from impasto.analysis.inside.probes import Probed
from impasto.analysis.inside.similarity import Measure, Similarity
from impasto.error import UserError
from impasto.plain_data import read_json_file
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
        about = {"model": self.model, "layers": self.layers, "source": self.source}
        parts: list[tuple[str, Any, Any, Any]] = [
            (SIMILARITY, self.similarity, _similarity_json, _similarity_table),
            (ENTROPY, self.entropy, _fields_json, _entropy_table),
            (PROBES, self.probed, _fields_json, _probes_table),
        ]
        written: dict[str, str] = {}
        for name, found, content, table in parts:
            if found:
                document = plain({**about, **content(found)})
                written[f"{name}.json"] = json.dumps(document, ensure_ascii=False) + "\n"
                written[f"{name}.csv"] = table(found).written("csv")
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
            content = read_json_file(path)
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
    return {name: [run[0], run[-1]] for name, run in groups.runs.items()} | {
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


def _fields_json(found: Entropy | Probed) -> dict[str, Any]:
    return {field.name: np.asarray(getattr(found, field.name)).tolist() for field in fields(found)}


def _read_entropy(content: Mapping[str, Any]) -> dict[str, Any]:
    mean = _array(content["mean"], (content["layers"], None))
    return {"entropy": Entropy(mean, content["even"], content["texts"], content["tokens"])}


def _read_probes(content: Mapping[str, Any]) -> dict[str, Any]:
    read = {field.name: content[field.name] for field in fields(Probed)}
    for name in ("accuracy", "low", "high"):
        read[name] = tuple(_array(read[name], (content["layers"] + 1,)).tolist())
    return {"probed": Probed(**read)}


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


def _entropy_table(found: Entropy) -> Table:
    rows = [(*at, value) for at, value in np.ndenumerate(found.mean)]
    return Table(("layer", "head", "entropy_nats"), rows)


def _probes_table(found: Probed) -> Table:
    depths = enumerate(zip(found.accuracy, found.low, found.high, strict=True))
    rows = [(depth, *values, found.chance) for depth, values in depths]
    return Table(("depth", "accuracy", "low", "high", "chance"), rows)
