"""The name of the rule by which llama.cpp cuts text into words, before a tokenizer merges bytes.

llama.cpp knows such rules by name, and has no other. Which one a tokenizer's own rule is, is seen
from what it does: the tokenizer with the rule in place of its own must give the same tokens on
texts of many kinds. A rule that cuts less serves as well where no merge crosses a cut. One that
gives the same tokens on nearly all of them is taken too, and said to the user.
"""

import json
import re
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, pre_tokenizers

from impasto.exporting.error import NotInFormError

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
    r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# llama.cpp's name -> the rules, one after the other, and whether words that are tokens stay whole.
RULES: dict[str, tuple[tuple[str, ...], bool]] = {
    "llama-bpe": ((rf"{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",), True),
    "qwen2": ((rf"{_LETTERS}|\p{{N}}|{_REST}",), False),
    "tekken": ((_CASED % ("", "", ""),), True),
    "gpt-4o": ((_CASED % (_SHORT, _SHORT, "{1,3}"),), False),
    "smollm": ((r"\p{N}", _GPT2), False),
    "gpt-2": ((_GPT2,), False),
    "falcon": ((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"), False),
    "poro-chat": ((r" ?[^(\s|.,!?…。，、।۔،)]+",), False),
    "superbpe": ((r"\p{N}+", r"(?=(\d{3})+(?!\d))"), False),
}
# Words of many kinds, and what stands between them.
TEXTS = (
    "Q: What is the capital of France?\nA: Paris",
    "Hello World! I'm here, aren't YOU? They'LL say it's 100% OK... (well, 3.14159 or 1234567)",
    "  two  spaces\n\n\n\tand\ttabs \r\n and lines \n",
    "def f(x, *, y=0):\n    return x ** 2 + y[1:3]  # \"quoted\" 'text' `code` {a: b}\n",
    "naïve café Ünïcödé ΑΒΓ αβγ Привет, мир! 你好，世界。 こんにちは 안녕 مرحبا שלום हिन्दी ไทย",
    "https://example.org/path?a=1&b=2 user@example.org C++ #1 $5.00 €10 50/50 A:B a:b :-) 🙂🚀",
    "one1two22three333 CamelCaseWord snake_case_word KEBAB-case 1,000,000 12:34:56 x=1;y=2",
)


# Each text by itself, and every word of it with what stands before and behind.
SAMPLES = (*TEXTS, *(found for text in TEXTS for found in re.findall(r"\s*\S+\s*", text)))
LEAST = 0.95


class SplitRule(NamedTuple):
    """A rule of llama.cpp, and on how many of the samples it gives the tokenizer's tokens."""

    name: str
    same: int

    @property
    def is_exact(self) -> bool:
        """Whether it does on all."""
        return self.same == len(SAMPLES)


def split_rule(tokenizer: Tokenizer) -> SplitRule:
    """Return the rule of llama.cpp that does what a tokenizer's rule does, or nearly so.

    Raises:
        ExportError: when there is none that gives the same tokens on 95 % of the samples.
    """
    written = json.loads(tokenizer.to_str())
    wanted = [tokenizer.encode(text, add_special_tokens=False).ids for text in SAMPLES]
    best = SplitRule("", -1)
    for name, (rules, keeps_words) in RULES.items():
        rule = SplitRule(name, _agreeing(written, rules, keeps_words, wanted))
        best = max(best, rule, key=lambda each: each.same)
        if best.is_exact:
            return best
    if best.same >= LEAST * len(SAMPLES):
        return best
    raise NotInFormError(
        "the tokenizer cuts text into words by a rule that llama.cpp has no name for "
        f"({json.dumps(written['pre_tokenizer'])}; the nearest, {best.name}, gives the same tokens "
        f"on {best.same} of {len(SAMPLES)} texts), so no GGUF file can hold it"
    )


def _agreeing(
    written: dict[str, Any], rules: tuple[str, ...], keeps_words: bool, wanted: list[list[int]]
) -> int:
    """Return on how many samples a tokenizer gives the same tokens under another rule."""
    model = {**written["model"], "ignore_merges": keeps_words}
    other = Tokenizer.from_str(json.dumps({**written, "model": model}))
    cuts = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in rules]
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other.pre_tokenizer = pre_tokenizers.Sequence([*cuts, bytes_of])
    return sum(
        other.encode(text, add_special_tokens=False).ids == ids
        for text, ids in zip(SAMPLES, wanted, strict=True)
    )
