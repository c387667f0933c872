"""A tokenizer in a GGUF file: its tokens and merges, its rule for words, what it puts around texts.

Two kinds have a form there: those that merge bytes (``gpt2``), and those that merge characters as
SentencePiece does, with bytes for what is unknown (``llama``).
"""

import json
from dataclasses import dataclass, field
from typing import Any

from impasto.exporting.error import ExportError, NotInFormError
from impasto.exporting.gguf.splits import SAMPLES, SplitRule, split_rule

BYTE_MERGES, CHARACTER_MERGES = "gpt2", "llama"
_LEAST = -1e9  # the score of what nothing merges to


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as a GGUF file has it.

    Attributes:
        kind: ``gpt2`` or ``llama``.
        rule: The rule by which text is cut into words.
        tokens: The text of each token, by its number.
        types: What each token is, as ``gguf.TokenType`` numbers it.
        merges: Pairs of tokens that are merged, the first ones first.
        scores: Of ``llama``, how early each token is merged to, the highest first.
        special: The numbers of tokens with a role: ``bos``, ``eos``, ``eot``, ``unk``, ``pad``.
        adds: Whether a text gets a ``bos`` before, an ``eos`` behind, a ``space`` before.
        template: The chat template; None where there is none.
    """

    kind: str
    rule: SplitRule
    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)
    adds: dict[str, bool] = field(default_factory=dict)
    template: Any = None


def vocabulary_of(tokenizer: Any, size: int, generation: Any) -> Vocabulary:
    """Return a tokenizer as a GGUF file has it.

    Args:
        tokenizer: The model's tokenizer, or None.
        size: How many tokens the model's embedding has.
        generation: The model's generation configuration.

    Raises:
        ExportError: when it has no such form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        what = "none" if tokenizer is None else f"a {type(tokenizer).__name__}"
        raise NotInFormError(
            f"a GGUF file holds a tokenizer of the tokenizers library, and the model has {what}"
        )
    written = json.loads(backend.to_str())
    kind = _kind(written)
    tokens, types = _tokens(written, kind, size)
    pairs = [
        pair if isinstance(pair, list) else pair.split(" ") for pair in written["model"]["merges"]
    ]
    adds = _adds(backend, tokenizer)
    if kind == CHARACTER_MERGES:
        adds["space"] = _puts_a_space(written)
    return Vocabulary(
        kind,
        split_rule(backend) if kind == BYTE_MERGES else SplitRule("default", len(SAMPLES)),
        tokens,
        types,
        [f"{left} {right}" for left, right in pairs] if kind == BYTE_MERGES else [],
        _scores(tokens, pairs) if kind == CHARACTER_MERGES else [],
        _special(tokenizer, generation),
        adds,
        tokenizer.chat_template,
    )


def add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    """Write a tokenizer into a GGUF file."""
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.rule.name)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    for name, token in vocabulary.special.items():
        getattr(writer, f"add_{name}_token_id")(token)
    writer.add_add_bos_token(vocabulary.adds["bos"])
    writer.add_add_eos_token(vocabulary.adds["eos"])
    if "space" in vocabulary.adds:
        writer.add_add_space_prefix(vocabulary.adds["space"])
    if vocabulary.template:
        writer.add_chat_template(vocabulary.template)


def _kind(written: dict[str, Any]) -> str:
    """Return which of the two kinds a tokenizer is; raises ExportError for another."""
    model, names = written["model"], _names(written.get("pre_tokenizer"))
    normal = _names(written.get("normalizer"))
    if model["type"] == "BPE" and model.get("merges"):
        if "ByteLevel" in names and normal <= {"NFC", "Sequence"}:
            return BYTE_MERGES
        if model.get("byte_fallback") and normal <= {"Prepend", "Replace", "Sequence"}:
            return CHARACTER_MERGES
    raise NotInFormError(
        f"the tokenizer ({model['type']}, {', '.join(sorted(names | normal)) or 'no rules'}) has "
        "no form in a GGUF file, which holds those that merge bytes (GPT-2's kind) and those that "
        "merge characters and fall back to bytes (Llama 2's and Gemma's kind)"
    )


def _names(rule: Any) -> set[str]:
    """Return the kinds of a rule and of those that it consists of."""
    if not isinstance(rule, dict):
        return set()
    inner = [*rule.get("pretokenizers", ()), *rule.get("normalizers", ())]
    return {rule["type"]}.union(*map(_names, inner))


def _tokens(written: dict[str, Any], kind: str, size: int) -> tuple[list[str], list[int]]:
    """Return the text and the type of each token that the model's embedding has."""
    from gguf import TokenType

    numbers = dict(written["model"]["vocab"])
    added = {token["id"]: token for token in written["added_tokens"]}
    numbers |= {token["content"]: number for number, token in added.items()}
    highest = max(numbers.values(), default=-1)
    if highest >= size:
        raise ExportError(
            f"the tokenizer has a token {highest}, and the model's embedding {size} rows, so the "
            "two do not belong together and no GGUF file can hold them"
        )
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    unknown = written["model"].get("unk_token")
    for text, number in numbers.items():
        tokens[number], types[number] = text, int(TokenType.NORMAL)
        if number in added:
            is_special = added[number]["special"]
            types[number] = int(TokenType.CONTROL if is_special else TokenType.USER_DEFINED)
        if kind == CHARACTER_MERGES and text == unknown:
            types[number] = int(TokenType.UNKNOWN)
        elif kind == CHARACTER_MERGES and len(text) == 6 and text.startswith("<0x"):
            types[number] = int(TokenType.BYTE)
    return tokens, types


def _scores(tokens: list[str], pairs: list[list[str]]) -> list[float]:
    """Return how early each token is merged to: the rank of its first pair, below zero."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        ranks.setdefault(left + right, rank)
    return [-float(ranks[token]) if token in ranks else _LEAST for token in tokens]


def _special(tokenizer: Any, generation: Any) -> dict[str, int]:
    """Return the tokens with a role; what ends a turn beside the end of text is ``eot``."""
    special = {
        name: number
        for name in ("bos", "eos", "unk", "pad")
        if (number := getattr(tokenizer, f"{name}_token_id", None)) is not None
    }
    ends = getattr(generation, "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if ends:
        special.setdefault("eos", ends[0])
    others = [number for number in ends if number != special.get("eos")]
    return special | ({"eot": others[0]} if others else {})


def _adds(backend: Any, tokenizer: Any) -> dict[str, bool]:
    """Return what a tokenizer puts around a text."""
    plain = backend.encode("a", add_special_tokens=False).ids
    ids = backend.encode("a", add_special_tokens=True).ids
    before, behind = ids[: ids.index(plain[0])], ids[ids.index(plain[0]) + len(plain) :]
    for tokens, own, name in (
        (before, tokenizer.bos_token_id, "bos"),
        (behind, tokenizer.eos_token_id, "eos"),
    ):
        if tokens and tokens != [own]:
            raise NotInFormError(
                f"the tokenizer puts the tokens {tokens} around a text, and a GGUF file can say "
                f"only its {name} token ({own}) there"
            )
    return {"bos": bool(before), "eos": bool(behind)}


def _puts_a_space(written: dict[str, Any]) -> bool:
    """Whether a text is read as if a space stood before it."""
    rules = [written.get("normalizer"), written.get("pre_tokenizer")]
    rules += [inner for rule in rules if rule for inner in rule.get("normalizers", ())]
    rules += [inner for rule in rules if rule for inner in rule.get("pretokenizers", ())]
    return any(
        rule["type"] == "Prepend"
        or (rule["type"] == "Metaspace" and rule.get("prepend_scheme", "always") != "never")
        for rule in rules
        if rule
    )
