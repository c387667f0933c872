"""Weights written to files of a bounded size, one file after the other, with an index of all."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from impasto.exporting.error import ExportError

INDEX = "model.safetensors.index.json"
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def shard_bytes(size: int | str) -> int:
    """Return the most bytes that a file holds; raises ExportError for what is no size."""
    if isinstance(size, str):
        read = re.fullmatch(r"(\d+(?:\.\d+)?)([TGMK])B", size)
        if read is not None:
            return int(float(read[1]) * _UNITS[read[2]])
    elif size > 0:
        return size
    raise ExportError(
        f"max_shard_size is a number of bytes, or text such as 5GB or 500MB, not {size!r}"
    )


def save_shards(
    folder: Path, weights: Iterable[tuple[str, Tensor]], max_shard_size: int | str
) -> None:
    """Write weights to ``model-00001-of-00003.safetensors`` and so on; to one file, if they fit."""
    most = shard_bytes(max_shard_size)
    files: list[tuple[Path, list[str]]] = []
    shard: dict[str, Tensor] = {}
    size = total = 0

    def write() -> None:
        place = folder / f"part-{len(files)}"
        save_file(shard, place, metadata={"format": "pt"})
        files.append((place, list(shard)))
        shard.clear()

    for name, weight in weights:
        if shard and size + weight.nbytes > most:
            write()
            size = 0
        pointers = {each.data_ptr() for each in shard.values()}
        again = weight.data_ptr() in pointers  # of a layer that is repeated
        shard[name] = weight.clone() if again else weight.contiguous()
        size += weight.nbytes
        total += weight.nbytes
    write()
    if len(files) == 1:
        files[0][0].rename(folder / "model.safetensors")
        return
    index: dict[str, str] = {}
    for number, (place, names) in enumerate(files, 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        place.rename(folder / file)
        index |= dict.fromkeys(names, file)
    written = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
    (folder / INDEX).write_text(written + "\n", encoding="utf-8")
