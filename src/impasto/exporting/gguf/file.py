"""Writing a GGUF file: what the model is, its tokenizer, and its weights one after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from impasto.exporting.blocks import ServedBlock
from impasto.exporting.error import ExportError
from impasto.exporting.gguf.families import Family, add_settings, arch_of
from impasto.exporting.gguf.vocabulary import Vocabulary, add_vocabulary
from impasto.exporting.gguf.weights import DTYPES, Weight, weights_of


def needs_gguf() -> None:
    """Raise ExportError where the package that writes GGUF files is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ExportError(
            "writing a GGUF file needs the package gguf: pip install 'impasto[gguf]'"
        ) from None


def write_file(
    place: Path,
    hf: Any,
    path: str,
    family: Family,
    blocks: Sequence[ServedBlock],
    vocabulary: Vocabulary,
    dtype: str,
    about: dict[str, str],
) -> None:
    """Write the file.

    Args:
        place: Where.
        hf: The source.
        path: Where its layers are.
        family: How it is written.
        blocks: What the plan runs.
        vocabulary: Its tokenizer.
        dtype: The type of weight matrices, one of ``DTYPES``; vectors are f32.
        about: Texts about the model, by their keys in the file.
    """
    import gguf

    writer = gguf.GGUFWriter(place, arch_of(family, blocks))
    for key, text in about.items():
        writer.add_string(key, text)
    writer.add_file_type(_file_type(dtype))
    if dtype == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_settings(writer, hf, family, blocks)
    add_vocabulary(writer, vocabulary)
    weights = list(weights_of(hf, path, family, blocks))
    for weight in weights:
        _announce(writer, weight, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for weight in weights:
        writer.write_tensor_data(_packed(weight, weight.make(), dtype))
    writer.close()


def _file_type(dtype: str) -> int:
    from gguf import LlamaFileType

    name = "ALL_F32" if dtype == "f32" else f"MOSTLY_{DTYPES[dtype]}"
    return int(LlamaFileType[name])


def _type_of(weight: Weight, dtype: str) -> Any:
    """Return the type that a weight is written in."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(weight.shape) == 1:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[DTYPES[dtype]]
    fits = weight.shape[-1] % GGML_QUANT_SIZES[kind][0] == 0
    return kind if fits else GGMLQuantizationType.F16


def _announce(writer: Any, weight: Weight, dtype: str) -> None:
    """Say that a weight comes, and how large it is."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quant_shape_to_byte_shape

    kind = _type_of(weight, dtype)
    values, size = GGML_QUANT_SIZES[kind]
    count = int(np.prod(weight.shape)) // values * size
    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
    if kind in plain:
        writer.add_tensor_info(weight.name, weight.shape, np.dtype(plain[kind]), count)
        return
    shape = quant_shape_to_byte_shape(weight.shape, kind)
    writer.add_tensor_info(weight.name, shape, np.dtype(np.uint8), count, raw_dtype=kind)


def _packed(weight: Weight, values: Tensor, dtype: str) -> Any:
    """Return a weight's values as they are written; raises ExportError where they do not fit."""
    from gguf import GGMLQuantizationType, quants

    kind = _type_of(weight, dtype)
    if kind == GGMLQuantizationType.BF16:  # gguf rounds to even as torch does, by way of f32
        return values.to(torch.bfloat16).cpu().contiguous().view(torch.uint8).numpy()
    plain = values.float().cpu().contiguous().numpy()
    if kind == GGMLQuantizationType.F32:
        return plain
    with np.errstate(over="ignore"):
        packed = quants.quantize(plain, kind)
    if kind == GGMLQuantizationType.F16 and not np.isfinite(packed).all():
        raise ExportError(
            f"{weight.name} has values that f16 cannot hold (up to {np.abs(plain).max():.3g}); "
            "dtype='bf16' or 'f32' (--dtype) can"
        )
    return packed


def size_of(weights: Sequence[Weight], dtype: str) -> int:
    """Return how many bytes weights take in a file."""
    from gguf import GGML_QUANT_SIZES

    sizes = ((weight, GGML_QUANT_SIZES[_type_of(weight, dtype)]) for weight in weights)
    return sum(int(np.prod(weight.shape)) // values * size for weight, (values, size) in sizes)
