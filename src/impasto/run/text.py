"""Text and token ids, as lm-evaluation-harness turns one into the other.

The rules are those of lm-eval 0.4.13 for causal models: the tokenizer's own special tokens, no
second BOS, spaces between context and continuation counted to the continuation, a prefix token
before an empty context, and the left end cut off where a request is too long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Reader:
    """Reads prompts with the model's tokenizer, or takes token ids as they are."""

    tokenizer: Any  # a PreTrainedTokenizerBase, or None
    vocabulary: int
    max_positions: int | None

    def prompt(self, prompt: Prompt) -> list[int]:
        """Return a prompt's token ids."""
        ids = self._encode(prompt) if isinstance(prompt, str) else self._checked(prompt)
        if not ids:
            raise UserError("an empty prompt has no token after which to predict")
        return ids

    def pair(self, context: Prompt, continuation: Prompt) -> tuple[list[int], list[int]]:
        """Return the token ids of a context and of its continuation."""
        if isinstance(context, str) != isinstance(continuation, str):
            raise UserError("context and continuation are both text or both token ids")
        if isinstance(context, str) and isinstance(continuation, str):
            first, second = self._text_pair(context, continuation)
        else:
            first, second = self._checked(context), self._checked(continuation)
        if not second:
            raise UserError(f"the continuation {continuation!r} has no token to score")
        if not first:
            raise UserError("a context of token ids needs at least one token")
        return first, second

    def fitted(self, context: list[int], continuation: list[int]) -> tuple[list[int], range]:
        """Return what the model reads of a pair, and the rows that predict its continuation."""
        limit = self.max_positions
        whole = context + continuation
        if limit is not None and len(continuation) > limit:
            raise UserError(
                f"a continuation of {len(continuation)} tokens exceeds the model's {limit} "
                "positions"
            )
        read = (whole if limit is None else whole[-(limit + 1) :])[:-1]
        return read, range(len(read) - len(continuation), len(read))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated token ids."""
        return self._needed("generated text").decode(list(ids), skip_special_tokens=True)

    def find(self, prompt: Prompt, span: str | tuple[int, int], what: str) -> range:
        """Return the tokens of a span: a half-open token range, or a text to find in the prompt.

        Raises:
            UserError: when the range lies outside the prompt, or the text is not in it just once.
        """
        if not isinstance(span, str):
            return self._range(prompt, span, what)
        if not isinstance(prompt, str):
            raise UserError(f"{what} {span!r} is a text, but its prompt is token ids; give a range")
        count = prompt.count(span) if span else 0
        if count != 1:
            raise UserError(
                f"{what} {span!r} occurs {count} times in {prompt!r}; give a text that occurs "
                "once, or a half-open token range"
            )
        tokenizer = self._needed(f"finding {span!r}")
        if not tokenizer.is_fast:
            raise UserError(f"{what} {span!r}: this tokenizer gives no offsets; give a token range")
        begin = prompt.index(span)
        end = begin + len(span)
        offsets = tokenizer(prompt, return_offsets_mapping=True, **self._special(prompt))
        hit = [
            row
            for row, (left, right) in enumerate(offsets["offset_mapping"])
            if left < end and right > begin and right > left
        ]
        return range(hit[0], hit[-1] + 1)

    def _range(self, prompt: Prompt, span: tuple[int, int], what: str) -> range:
        length = len(self.prompt(prompt))
        start, stop = span
        if not 0 <= start < stop <= length:
            raise UserError(
                f"{what} [{start}, {stop}) does not lie in its prompt of {length} tokens; "
                f"a span is a half-open range within 0..{length}"
            )
        return range(start, stop)

    def _text_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            ids = self._encode(continuation, special=False)
            prefix = self.prefix_token()
            return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        first = self._encode(stripped)
        return first, self._encode(stripped + continuation)[len(first) :]

    def _encode(self, text: str, special: bool = True) -> list[int]:
        tokenizer = self._needed("text")
        options = self._special(text) if special else {"add_special_tokens": False}
        return tokenizer.encode(text, **options)

    def _special(self, text: str) -> dict[str, bool]:
        bos = self._needed("text").bos_token
        return {"add_special_tokens": False} if bos and text.startswith(bos) else {}

    def prefix_token(self) -> int:
        """Return the token that stands in for an empty context: BOS, else end of sequence."""
        tokenizer = self._needed("an empty context")
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise UserError("an empty context needs a BOS or EOS token, and the tokenizer has neither")

    def _checked(self, ids: Prompt) -> list[int]:
        checked = [int(token) for token in ids]
        wrong = [token for token in checked if not 0 <= token < self.vocabulary]
        if wrong:
            raise UserError(f"token {wrong[0]} is not in the vocabulary 0..{self.vocabulary - 1}")
        return checked

    def _needed(self, what: str) -> Any:
        if self.tokenizer is None:
            raise UserError(f"{what} needs a tokenizer, and this model was loaded without one")
        return self.tokenizer
