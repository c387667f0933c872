"""Text to token ids and back, as lm-evaluation-harness does it.

The rules are those of lm-eval 0.4.13 for causal models: the tokenizer's own special tokens, no
second BOS, spaces between context and continuation counted to the continuation, a prefix token
before an empty context, and the left end cut off where a request is too long.

One rule is not lm-eval's. Some tokenizers append special tokens (`$A [SEP]`, `<s> $A </s>`), and
lm-eval reads them as text: its contexts then end in an end-of-sequence token. A prompt here does
not, unless the caller asks for lm-eval's own reading, which its tasks need to get its numbers.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from impasto.error import UserError

Prompt = str | Sequence[int]
PROBES = ("a", "The", "1", "\u4e00")  # texts that show what a tokenizer puts around any text
MOST_PROBES = 1000
SHOWN = 40  # characters of a context's end that an error shows


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How texts are read, where a user does not leave it to the model and its tokenizer.

    They mean what lm-eval's `HFLM` means by model arguments of these names.

    Attributes:
        max_length: The most tokens of a request; a longer one loses its left end when it is
            scored, or comes from a task. None: as many as the model has positions.
        add_bos_token: Whether texts get the tokenizer's special tokens. None: as the tokenizer
            does it.
    """

    max_length: int | None = None
    add_bos_token: bool | None = None

    @classmethod
    def read(cls, max_length: Any = None, add_bos_token: Any = None) -> "TextOptions":
        """Return the options that a user gives; raises UserError for values that cannot be."""
        if max_length is not None and (type(max_length) is not int or max_length < 1):
            raise UserError(f"max_length is a whole number of tokens from 1 on, not {max_length!r}")
        if add_bos_token is not None and type(add_bos_token) is not bool:
            raise UserError(f"add_bos_token is true or false, not {add_bos_token!r}")
        return cls(max_length, add_bos_token)

    @property
    def given(self) -> dict[str, Any]:
        """Return the options that are given, by name."""
        named = {"max_length": self.max_length, "add_bos_token": self.add_bos_token}
        return {name: value for name, value in named.items() if value is not None}

    def positions(self, of_model: int | None) -> int | None:
        """Return how many tokens a request may have on a model of so many positions.

        Raises UserError for a `max_length` beyond them.
        """
        if self.max_length is None:
            return of_model
        if of_model is not None and self.max_length > of_model:
            raise UserError(
                f"max_length {self.max_length} exceeds the model's {of_model} positions; it is at "
                f"most {of_model}"
            )
        return self.max_length


AS_GIVEN = TextOptions()  # as the model and its tokenizer decide


@contextmanager
def naming_request(number: int, what: str = "request") -> Iterator[None]:
    """Return a context in which a user's mistake says in which request it was made."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what} {number}: {error}") from None


def added_tokens(
    tokenizer: Any, add_bos_token: bool | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before every text, and those behind it.

    They are found by reading a probe text with and without special tokens.
    """
    if tokenizer is None or add_bos_token is False:
        return (), ()
    for probe in _probes(tokenizer):
        plain = tokenizer.encode(probe, add_special_tokens=False)
        if not plain:  # the tokenizer knows nothing of this probe
            continue
        whole = tokenizer.encode(probe)
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    return (), ()


LEFT_OUT = "prompts and contexts are read without it, since they go on"
AS_LM_EVAL = (
    "contexts and prompts of lm-evaluation-harness are read with it, as its own model class reads "
    "them, so that numbers can be compared; where the option add_bos_token is false, texts get no "
    "special tokens at all"
)


def appending_notice(tokenizer: Any, appended: Sequence[int], *rules: str) -> str:
    """Return a sentence that a tokenizer appends special tokens, and by which rules."""
    names = " ".join(map(str, tokenizer.convert_ids_to_tokens(list(appended))))
    return "; ".join([f"the tokenizer puts {names} behind every text", *rules])


@dataclass(frozen=True)
class Reader:
    """Reads prompts with the model's tokenizer, or takes token ids as they are.

    Attributes:
        tokenizer: A `PreTrainedTokenizerBase`, or None.
        vocabulary: How many token ids there are.
        max_positions: The most tokens of a request; None where that is not known.
        add_bos_token: As in `TextOptions`.
        keeps_appended: Whether texts keep the special tokens behind them, as an encoder's do.
    """

    tokenizer: Any
    vocabulary: int
    max_positions: int | None
    add_bos_token: bool | None = None
    keeps_appended: bool = False

    def prompt(self, prompt: Prompt, as_lm_eval: bool = False) -> list[int]:
        """Return a prompt's token ids; `as_lm_eval` as lm-eval reads a prompt to continue."""
        if not isinstance(prompt, str):
            ids = self._checked(prompt)
        elif as_lm_eval:
            ids = self._encode(prompt, self._bos_text)
        else:
            ids = self._encode_open(prompt)
        if not ids:
            raise UserError("an empty prompt has no token after which to predict")
        return ids

    def scored(self, text: str) -> list[int]:
        """Return a text's token ids as lm-eval reads a text to score; none for an empty one."""
        return self._encode(text, self._prefix_text)

    def pair(
        self, context: Prompt, continuation: Prompt, as_lm_eval: bool = False
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of a context and of its continuation.

        Raises UserError where either has no token; a continuation that merges into its context has
        none.
        """
        if isinstance(context, str) != isinstance(continuation, str):
            raise UserError("context and continuation are both text or both token ids")
        if isinstance(context, str) and isinstance(continuation, str):
            first, second = self._text_pair(context, continuation, as_lm_eval)
            if not first:
                raise UserError(
                    f"the context {context!r} has no token: white space at a context's end belongs "
                    "to the continuation; give some text before it, or an empty context"
                )
        else:
            first, second = self._checked(context), self._checked(continuation)
            if not first:
                raise UserError("a context of token ids needs at least one token")
        if not second:
            raise UserError(_without_token(context, continuation, len(first)))
        return first, second

    def fitted(self, context: list[int], continuation: list[int]) -> tuple[list[int], range]:
        """Return the token ids that the model reads of a pair, and which of them are scored."""
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
        special = self._special(prompt, self._bos_text)
        offsets = tokenizer(prompt, return_offsets_mapping=True, **special)
        rows = [
            row
            for row, (left, right) in enumerate(offsets["offset_mapping"])
            if left < end and right > begin and right > left
        ]
        return range(rows[0], rows[-1] + 1)

    def _range(self, prompt: Prompt, span: tuple[int, int], what: str) -> range:
        length = len(self.prompt(prompt))
        start, stop = span
        if not 0 <= start < stop <= length:
            raise UserError(
                f"{what} [{start}, {stop}) does not lie in its prompt of {length} tokens; "
                f"a span is a half-open range within 0..{length}"
            )
        return range(start, stop)

    def _text_pair(
        self, context: str, continuation: str, as_lm_eval: bool
    ) -> tuple[list[int], list[int]]:
        if not context:
            ids = self._needed("text").encode(continuation, add_special_tokens=False)
            prefix = self.prefix_token()
            return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        encode = self.scored if as_lm_eval else self._encode_open
        first = encode(stripped)
        return first, encode(stripped + continuation)[len(first) :]

    @cached_property
    def appended(self) -> tuple[int, ...]:
        """The special tokens that the tokenizer puts behind every text, where they are left out."""
        if self.keeps_appended:
            return ()
        return added_tokens(self.tokenizer, self.add_bos_token)[1]

    @cached_property
    def prepended(self) -> tuple[int, ...]:
        """The special tokens that the tokenizer puts before every text: BOS, mostly, or none."""
        return added_tokens(self.tokenizer, self.add_bos_token)[0]

    def warn_of_appended(self, prompts: Sequence[Prompt]) -> bool:
        """Warn of special tokens that the tokenizer appends, if any prompt is a text.

        Return whether one is: then the user knows, and need not be warned again.
        """
        if not any(isinstance(prompt, str) for prompt in prompts):
            return False
        if self.tokenizer is not None and self.appended:
            notice = appending_notice(self.tokenizer, self.appended, LEFT_OUT)
            warnings.warn(notice, stacklevel=5)  # who called the method of the model
        return True

    def _encode_open(self, text: str) -> list[int]:
        """Return the token ids of a text to continue: without what is appended to whole texts."""
        ids, count = self._encode(text, self._bos_text), len(self.appended)
        is_closed = count and tuple(ids[-count:]) == self.appended
        return ids[:-count] if is_closed and self._special_are_added(text) else ids

    def _encode(self, text: str, start: str | None) -> list[int]:
        """Return a text's token ids; one that begins with `start` gets no special tokens."""
        return self._needed("text").encode(text, **self._special(text, start))

    def _special(self, text: str, start: str | None) -> dict[str, bool]:
        if start and text.startswith(start):
            return {"add_special_tokens": False}
        given = self.add_bos_token
        return {} if given is None else {"add_special_tokens": given}

    def _special_are_added(self, text: str) -> bool:
        return self._special(text, self._bos_text).get("add_special_tokens", True)

    @property
    def _bos_text(self) -> str | None:
        return self._needed("text").bos_token

    @cached_property
    def _prefix_text(self) -> str | None:
        """The text of the token that lm-eval puts before an empty context."""
        tokenizer = self._needed("text")
        token = self._prefix()
        return None if token is None else tokenizer.decode(token)

    def _prefix(self) -> int | None:
        tokenizer = self._needed("an empty context")
        tokens = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        return next((int(token) for token in tokens if token is not None), None)

    def prefix_token(self) -> int:
        """Return the token that stands in for an empty context: BOS, else end of sequence."""
        token = self._prefix()
        if token is None:
            raise UserError(
                "an empty context needs a BOS or EOS token, and the tokenizer has neither"
            )
        return token

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


def _probes(tokenizer: Any) -> Iterator[str]:
    """Yield texts to try a tokenizer on; its own vocabulary comes last, for it may be tiny."""
    yield from PROBES
    special = set(tokenizer.all_special_ids)
    for token in range(min(len(tokenizer), MOST_PROBES)):
        if token not in special:
            yield tokenizer.decode([token])


def _without_token(context: Prompt, continuation: Prompt, tokens: int) -> str:
    """Return why a continuation has no token to score, and what would be right."""
    wrong = f"the continuation {continuation!r} has no token to score"
    if not isinstance(context, str) or not continuation:
        return f"{wrong}; it needs at least one"
    if not context:
        return f"{wrong}: it is the prefix token itself, which stands before an empty context"
    end = context if len(context) <= SHOWN else "…" + context[-SHOWN:]
    return (
        f"{wrong}: it merges into its context {end!r}, and together they have no more tokens than "
        f"the context alone ({tokens}). Begin the continuation with a space (in a task file of "
        'lm-eval: target_delimiter: " "), or give both as token ids'
    )
