"""Reading the notation: one line of text to the steps that it stands for.

    plan     := (item | marker)+
    item     := (span [reach] | '(' item+ ')' | ['sum'] '[' branch ('|' branch)* ']')
                ['@' scale] ('*' n)*
    span     := i ['-' j] ['.' ('attn' | 'mlp')]
    reach    := '{' ('first' | 'last') '=' n [',' ('first' | 'last') '=' n] '}'
    branch   := item*
    marker   := 'freeze' ['(' 'prompt' ')'] | 'noise' '(' kind (',' option)* ')'
                | 'inject' '(' name ')'
    option   := ('seed' | 'keep') '=' n | 'prompt'

A single span between brackets is spread: each of its layers is a branch. A scale belongs to each
layer of a span, and to a group or brackets as a whole. Reading takes time linear in the text,
counts layer occurrences before it expands anything, and raises nothing but ``PlanError``.
"""

from __future__ import annotations

from impasto.error import shown
from impasto.plan.cursor import Cursor, whole
from impasto.plan.error import PlanError
from impasto.plan.hints import (
    MARKERS,
    no_bar,
    no_item,
    no_postfix,
)
from impasto.plan.markers import read_marker
from impasto.plan.steps import (
    MAX_INDEX,
    MAX_NESTING,
    MAX_OCCURRENCES,
    NO_BRANCH,
    Combine,
    Layer,
    Parallel,
    Part,
    Step,
    span,
)
from impasto.plan.suffixes import read_reach, read_scale
from impasto.plan.tokens import SPAN, place

MAX_TEXT = 10_000
MAX_REPEAT = 10_000
MAX_BRACKETS = 500

_PARTS: dict[str, Part] = {"attn": "attention", "mlp": "mlp"}
_CLOSERS = frozenset(("", "|", "]", ")"))
_AFTER = frozenset("{@*.-")


def read_plan(text: str, layers: int | None = None) -> tuple[Step, ...]:
    """Return the steps that ``text`` stands for; with ``layers``, only for a model that has them.

    Raises:
        PlanError: the text is no plan, is too large, or names a layer that does not exist.
    """
    if not isinstance(text, str):
        raise PlanError(f"a plan is text such as '0-31', not {type(text).__name__}")
    if layers is not None and (type(layers) is not int or layers < 1):
        raise PlanError(
            f"a model's number of layers is a whole number from 1, not {shown(layers, 80)}"
        )
    if len(text) > MAX_TEXT:
        problem = f"a plan is at most {MAX_TEXT} characters, this text has {len(text)}"
        raise PlanError(problem, text, (MAX_TEXT, len(text)))
    return _Reader(text, layers).plan()


class _Reader(Cursor):
    """A position in the list of tokens; each method reads one rule of the grammar from there."""

    def __init__(self, text: str, layers: int | None) -> None:
        super().__init__(text)
        self.nesting = 0
        self.opened = 0
        self.occurrences = 0
        self.top = MAX_INDEX if layers is None else min(MAX_INDEX, layers - 1)
        self.spans: dict[str, list[Step]] = {}

    # ------------------------------------------------------------------ rules of the grammar

    def plan(self) -> tuple[Step, ...]:
        steps, count, _ = self.sequence()
        if token := self.tokens[self.at]:
            self.fail(f"'{token}' closes or divides nothing that was opened")
        if not count:
            raise PlanError("a plan needs at least one item", self.text, (0, len(self.text)))
        return tuple(steps)

    def sequence(self) -> tuple[list[Step], int, bool]:
        """Read items; return their steps, how many items, and whether the last is a bare span."""
        tokens, spans = self.tokens, self.spans
        steps: list[Step] = []
        count, bare = 0, False
        # Thousands of items may pass here: known spans are taken without another call.
        while (token := tokens[self.at]) not in _CLOSERS:
            start, before = self.at, self.occurrences
            added = spans.get(token)
            if added is None:
                added = self.item(token)
            else:
                self.at += 1
                self.occurrences += len(added)
                if self.occurrences > MAX_OCCURRENCES:
                    self.count(0, start, start)
            bare = token in spans
            if tokens[self.at][:1] in _AFTER:
                added, bare = self.repeated(added, bare, start, before)
            steps += added
            count += 1
        return steps, count, bare

    def item(self, token: str) -> list[Step]:
        if "0" <= token < ":":
            return self.span(token)
        if token == "(":
            return self.group()
        if token == "[":
            return [self.brackets("mean")]
        if token == "sum":
            self.at += 1
            self.expect("[", "sum stands before brackets, as in sum[8|9]")
            return [self.brackets("sum")]
        if token.removesuffix("(") in MARKERS and not self.nesting:
            return [read_marker(self, token)]
        return self.fail(no_item(token, nested=self.nesting > 0))

    def repeated(
        self, steps: list[Step], bare: bool, start: int, before: int
    ) -> tuple[list[Step], bool]:
        """Return an item's steps as the suffixes after it say, and if it is a bare span still."""
        is_span = self.tokens[start] in self.spans
        if self.tokens[self.at] == "{":
            steps = read_reach(self, steps, start, is_span)
        if self.tokens[self.at].startswith("@"):
            steps = read_scale(self, steps, is_span)
        while self.tokens[self.at] == "*":
            times = self.times()
            if times > 1:
                self.count((self.occurrences - before) * (times - 1), start, self.at - 1)
                steps, bare = steps * times, False
        if self.tokens[self.at][:1] in _AFTER:
            symbol, following = self.tokens[self.at : self.at + 2]
            last = self.at + (symbol in ".-")
            self.fail(no_postfix(symbol[:1], following, is_span), self.at, last)
        return steps, bare

    def span(self, token: str) -> list[Step]:
        if len(token) < 6 and token.isdecimal() and int(token) <= self.top:  # most of them are
            self.count(1, self.at, self.at)
            self.at += 1
            lone: list[Step] = [Layer(int(token))]
            self.spans[token] = lone
            return lone
        match = SPAN.fullmatch(token)
        assert match
        first_digits, last_digits, suffix, word = match.groups()
        if word:
            self.fail(f"put a space, or *, . or -, between the number and '{word[:32]}'")
        first = last = self.index(first_digits, match.start(1))
        if last_digits:
            last = self.index(last_digits, match.start(2))
        self.count(abs(last - first) + 1, self.at, self.at)
        self.at += 1
        self.spans[token] = steps = span(first, last, _PARTS[suffix] if suffix else "block")
        return steps

    def group(self) -> list[Step]:
        opened = self.open()
        steps, count, _ = self.sequence()
        if not count:
            self.fail("a group needs at least one item, as in (4 5)", opened, self.at)
        self.close(opened, ")")
        return steps

    def brackets(self, combine: Combine) -> Parallel:
        opened = self.open()
        branches: list[tuple[Step, ...]] = []
        while True:
            steps, count, bare = self.sequence()
            if not count:
                self.count(1, opened, self.at)  # an empty branch, lest there be any number of them
            branches.append(tuple(steps))
            if self.tokens[self.at] != "|":
                break
            self.at += 1
        self.close(opened, "]")
        if not any(branches):
            self.fail(NO_BRANCH, opened, self.at - 1)
        if len(branches) == 1:
            if count > 1:
                inside = self.tokens[opened + 1 : self.at - 1]
                self.fail(no_bar(inside), opened, self.at - 1)
            if bare:
                branches = list(zip(steps, strict=True))
        return Parallel(tuple(branches), combine)

    # ------------------------------------------------------------------ numbers and bounds

    def index(self, digits: str, offset: int) -> int:
        value = whole(digits)
        if value > self.top:
            have = f"layers 0..{self.top}" if self.top else "layer 0 only"
            rule = f"layer {value} does not exist: this model has {have}"
            if value > MAX_INDEX:
                rule = f"a layer is a number from 0 to {MAX_INDEX}"
            start = place(self.text, self.at, self.at)[0] + offset
            raise PlanError(rule, self.text, (start, start + len(digits)))
        return value

    def times(self) -> int:
        """Read ``*n``."""
        self.at += 1
        token = self.tokens[self.at]
        if len(token) < 5 and token.isdecimal() and token.isascii():
            times = int(token)
        else:
            times = self.number(MAX_REPEAT, f"* needs a number of times from 1 to {MAX_REPEAT}")
        if times == 0:
            self.fail("*0 runs nothing: leave the item out", self.at - 1, self.at)
        self.at += 1
        return times

    def count(self, more: int, first: int, last: int) -> None:
        self.occurrences += more
        if self.occurrences > MAX_OCCURRENCES:
            self.fail(
                f"a plan runs at most {MAX_OCCURRENCES} layer occurrences; "
                f"here it would reach {self.occurrences}",
                first,
                last,
            )

    def open(self) -> int:
        """Step into a bracket; return where it was opened."""
        self.nesting += 1
        self.opened += 1
        if self.nesting > MAX_NESTING:
            self.fail(f"brackets and groups nest at most {MAX_NESTING} deep")
        if self.opened > MAX_BRACKETS:
            self.fail(f"a plan has at most {MAX_BRACKETS} brackets and groups")
        self.at += 1
        return self.at - 1

    def close(self, opened: int, closer: str) -> None:
        if self.tokens[self.at] != closer:
            found = self.tokens[self.at]
            what = f"before this '{found}'" if found else "before the end"
            self.fail(f"'{self.tokens[opened]}' needs a '{closer}' {what}", opened, opened)
        self.nesting -= 1
        self.at += 1
