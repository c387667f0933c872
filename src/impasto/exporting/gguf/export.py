"""A plan as one GGUF file, checked by llama.cpp itself where that is installed."""

import gc
from pathlib import Path
from typing import Any

import impasto
from impasto.exporting.blocks import served_blocks
from impasto.exporting.building import Source
from impasto.exporting.card import card_of, weights_digest
from impasto.exporting.error import ExportError, NotInFormError
from impasto.exporting.folder import check_room, whole_file
from impasto.exporting.gguf.families import GELU, family_of
from impasto.exporting.gguf.file import needs_gguf, size_of, write_file
from impasto.exporting.gguf.running import GELU_LIMIT, LIMITS, NOT_RUN, Wanted, run_in_llama_cpp
from impasto.exporting.gguf.splits import SAMPLES
from impasto.exporting.gguf.vocabulary import Vocabulary, vocabulary_of
from impasto.exporting.gguf.weights import DTYPES, OF_TORCH, weights_of
from impasto.exporting.roundtrip import NEW, expected
from impasto.model.decoder import OpenedModel
from impasto.plan import Plan


def check_file_options(form: str, gguf_type: str | None) -> None:
    """Raise ExportError for a type of weights that is none, or where no GGUF file is written."""
    if gguf_type is not None and form != "gguf":
        raise ExportError(f"gguf_type is for form='gguf' (--as gguf), and this is {form}")
    if gguf_type not in (None, *DTYPES):
        raise ExportError(f"gguf_type is {' or '.join(DTYPES)}, not {gguf_type!r}")
    if form == "gguf":
        needs_gguf()


def write_gguf(source: Source, plan: Plan, dest: Path, gguf_type: str | None) -> str:
    """Write the file, and say what was checked.

    Raises:
        ExportError: when the model, its tokenizer or the plan has no form in a GGUF file, or
            llama.cpp does not give the plan's logits.
    """
    opened, model = source.opened, source.model
    hf: Any = model.hf
    if not isinstance(opened, OpenedModel):
        raise NotInFormError(
            f"{type(hf).__name__} writes no text, and a GGUF file is written for decoders"
        )
    family = family_of(hf)
    blocks = served_blocks(plan, f"gguf ({family.arch})", family.parts_arch is not None)
    size = hf.get_input_embeddings().weight.shape[0]
    vocabulary = vocabulary_of(model.tokenizer, size, getattr(hf, "generation_config", None))
    dtype = gguf_type or OF_TORCH.get(hf.dtype, "f32")
    path, about = opened.anatomy.path, _about(source, plan)
    check_room(dest, size_of(list(weights_of(hf, path, family, blocks)), dtype))
    least = GELU_LIMIT if family.activations is GELU else 0.0
    wanted = _wanted(source, plan, dtype, least)
    with whole_file(dest) as place:
        write_file(place, hf, path, family, blocks, vocabulary, dtype, about)
        del hf, model, opened
        source.release()
        gc.collect()
        ran = run_in_llama_cpp(place, wanted)
    return f"{ran or NOT_RUN}{_of_tokens(vocabulary) if ran is None else ''}"


def _wanted(source: Source, plan: Plan, dtype: str, least: float) -> Wanted:
    """Return what llama.cpp is to give."""
    answer = expected(source.model, plan)
    backend: Any = source.model.tokenizer.backend_tokenizer
    samples = [backend.encode(text, add_special_tokens=False).ids for text in SAMPLES]
    own = OF_TORCH.get(source.model.hf.dtype, "f32")
    limit = max(LIMITS[dtype], LIMITS[own], least)
    return Wanted(answer.ids[0].tolist(), answer.logits.cpu(), NEW, samples, limit)


def _of_tokens(vocabulary: Vocabulary) -> str:
    """Say where llama.cpp has only nearly the tokenizer's rule, if it is not there to be asked."""
    rule = vocabulary.rule
    if rule.is_exact:
        return ""
    return (
        f". Text is cut into words by the rule {rule.name}, with the tokenizer's tokens on "
        f"{rule.same} of {len(SAMPLES)} texts"
    )


def _about(source: Source, plan: Plan) -> dict[str, str]:
    """Return what a file says about where it comes from."""
    name, hf = source.model.name, source.model.hf
    about = {
        "general.name": f"{Path(name).name} under the plan {plan}",
        "general.description": (
            f"{name} under the plan {plan}, exported by impasto {impasto.__version__}; nothing was "
            "trained"
        ),
        "impasto.plan": str(plan),
        "impasto.digest": plan.digest,
        "impasto.source": name,
        "impasto.weights": weights_digest(hf, source.opened.anatomy.path, plan),
    }
    card = card_of(name, {})
    license_of = getattr(card, "license", None)
    return about | ({"general.license": license_of} if isinstance(license_of, str) else {})
