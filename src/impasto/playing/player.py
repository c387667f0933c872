"""`Player`: a model, and what it answers to a page.

Every question is a JSON value, and so is every answer; that to a user's mistake is its message, as
`{"error": …}`. The unchanged model's answers are kept for the prompts asked last. A page asks anew
with every edit: what waits for the model while the same page asks again is left unanswered.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from jaxtyping import Float
from torch import Tensor

from impasto.error import ImpastoError, UserError, shown
from impasto.plan import Plan, PlanError
from impasto.plan.cost import compared
from impasto.playing import chips
from impasto.playing.asked import TOKENS, Asked
from impasto.playing.examples import examples_for, prompts_for
from impasto.run import Donor, Encoder, Model
from impasto.run.headless import HeadlessModel
from impasto.run.lens import Lens, lens, next_tokens

COLUMNS = 16  # the last tokens of a prompt that the lens shows
MOST_DEPTHS = 400  # of a plan whose lens is shown
LIKELIEST, SHOWN = 5, 8  # next tokens of each of the two, and of both, that are shown
KEPT = 16  # answers of the unchanged model, and pages that ask

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read off a prompt under a plan: the lens, or why there is none, and what is next."""

    lens: Lens | None
    note: str
    log_p: Float[Tensor, "vocab"]


def _answering(
    answer: Callable[["Player", Mapping[str, Any]], Answer],
) -> Callable[["Player", Mapping[str, Any]], Answer]:
    """Return a question whose answer to a user's mistake is its message."""

    @wraps(answer)
    def answered(self: "Player", value: Mapping[str, Any]) -> Answer:
        try:
            if not isinstance(value, Mapping):
                raise UserError(f"a page asks with an object, not {shown(value)}")
            return answer(self, value)
        except PlanError as error:
            return {"error": error.message, "caret": str(error)[len(error.message) :].strip("\n")}
        except ImpastoError as error:
            return {"error": str(error)}

    return answered


class Player:
    """A decoder with its tokenizer that pages ask.

    Attributes:
        model: The model.
        base: The plan that others are put beside: the unchanged model's, or of a folder that was
            exported for a plan and holds no other layers, that one.
        usual: What a page opens with.
    """

    def __init__(self, model: Model | Encoder, loading: Sequence[str] = (), tokens: int = TOKENS):
        if isinstance(model, Encoder):
            raise UserError(
                f"{model!r} is an encoder, and play continues prompts: impasto fill fills its masks"
            )
        if isinstance(model, HeadlessModel):
            raise UserError(f"{model!r} predicts no tokens, and play shows what comes next")
        if model.tokenizer is None:
            raise UserError(f"{model!r} has no tokenizer, and play reads texts")
        self.model, self._loading = model, tuple(loading)
        self.base = model.baseline
        self._shape = model.shape
        self._prompts = prompts_for(model.name)
        self.usual = Asked(self._prompts[0][1], str(self.base), tokens)
        self._kept: OrderedDict[tuple[str, str, int], Any] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._turn, self._books = threading.Lock(), threading.Lock()

    @_answering
    def begin(self, value: Mapping[str, Any]) -> Answer:
        """Return what a page opens with: the model, examples, and what its address asks."""
        model, mistake = self.model, ""
        try:
            asked = Asked.of_address(str(value.get("address", "")), self.usual)
        except UserError as error:
            asked, mistake = self.usual, str(error)
        parameters = sum(layer.parameters for layer in self._shape.layers) + self._shape.outside
        return {
            "model": {
                "name": model.name,
                "family": model.family,
                "layers": model.num_layers,
                "parameters": parameters,
                "positions": model.max_positions,
                "is_whole": self.base == Plan.identity(model.num_layers),
            },
            "asked": {
                "prompt": asked.prompt,
                "plan": asked.plan,
                "tokens": asked.tokens,
                "donor": asked.donor,
                "donor_span": asked.donor_span,
                "target_span": asked.target_span,
            },
            "mistake": mistake,
            "base": chips.shown(self.base, model.num_layers),
            "prompts": self._prompts,
            "examples": [
                {
                    "title": example.title,
                    "paper": example.paper,
                    "says": example.says,
                    "plan": str(plan),
                }
                for example, plan in examples_for(model.num_layers)
                if plan.layers <= self.base.layers
            ],
        }

    @_answering
    def read(self, value: Mapping[str, Any]) -> Answer:
        """Return a plan as the page shows it, what it costs, and its address and command.

        The plan is a line, or what the page made of its chips.
        """
        plan = self._plan(value)
        asked = Asked.read({**value, "plan": str(plan)})
        longest = self.model.max_positions or math.inf
        tokens = len(self.model.tokens(asked.prompt))
        counted = max(1, min(tokens, longest - 1))
        *_, rows = compared(plan, self.base, self._shape, int(counted))
        return {
            **chips.shown(plan, self.model.num_layers),
            "tokens": tokens,
            "costs": [[what, own, of] for what, own, of in rows],
            "address": asked.address,
            "command": asked.command(self.model.name, self._loading),
        }

    @_answering
    def look(self, value: Mapping[str, Any]) -> Answer:
        """Return what comes next under the unchanged model and the plan, and both lenses."""
        plan, asked = self._plan(value), self._asked(value)
        donors = asked.donors

        def answer() -> Answer:
            kept = (asked.prompt, "look", 0)
            base = self._keep(kept, lambda: self._seen(self.base, asked.prompt, None))
            own = base if plan == self.base else self._seen(plan, asked.prompt, donors)
            return {
                "base": _lens_of(base),
                "plan": _lens_of(own),
                **self._next(base.log_p, own.log_p),
            }

        return self._in_turn(value, answer)

    @_answering
    def write(self, value: Mapping[str, Any]) -> Answer:
        """Return what the unchanged model and the plan write behind the prompt."""
        plan, asked = self._plan(value), self._asked(value)
        donors = asked.donors

        def answer() -> Answer:
            kept = (asked.prompt, "write", asked.tokens)
            base = self._keep(kept, lambda: self._written(self.base, asked, None))
            own = base if plan == self.base else self._written(plan, asked, donors)
            return {"prompt": asked.prompt, "base": base, "plan": own}

        return self._in_turn(value, answer)

    def _plan(self, value: Mapping[str, Any]) -> Plan:
        layers = self.model.num_layers
        document = value.get("document")
        if document is not None:
            return chips.plan_of(str(document), layers)
        return Plan.parse(str(value.get("plan", "")), layers)

    def _asked(self, value: Mapping[str, Any]) -> Asked:
        return Asked.read({**value, "plan": str(self._plan(value))})

    def _in_turn(self, value: Mapping[str, Any], answer: Callable[[], Answer]) -> Answer:
        """Answer once the model is free, unless the page has asked anew by then."""
        page, number = str(value.get("page", "")), value.get("number", 0)
        with self._books:
            self._newest[page] = max(number, self._newest.pop(page, 0))
            while len(self._newest) > KEPT:
                self._newest.popitem(last=False)
        with self._turn:
            if number < self._newest.get(page, 0):
                return {"late": True}
            return answer()

    def _keep(self, key: tuple[str, str, int], answer: Callable[[], Any]) -> Any:
        """Return what is kept of the unchanged model's answers, asked for where it is not yet."""
        if key not in self._kept:
            self._kept[key] = answer()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _seen(self, plan: Plan, prompt: str, donors: Mapping[str, Donor] | None) -> Seen:
        log_p = next_tokens(self.model, plan, prompt, donors)
        depths, note = len(plan.steps) - len(plan.markers), ""
        if depths > MOST_DEPTHS:
            note = f"The lens is of plans of at most {MOST_DEPTHS} depths, and this has {depths:,}."
        if plan.tells_prompt:
            note = "There is no lens where something is done to the prompt alone: it reads every "
            note += "token as if the prompt ended there."
        if note:
            return Seen(None, note, log_p)
        [read] = lens(self.model, plan, [prompt], donors, last=COLUMNS)
        return Seen(read, "", log_p)

    def _written(self, plan: Plan, asked: Asked, donors: Mapping[str, Donor] | None) -> str:
        written = self.model.generate(plan, [asked.prompt], asked.tokens, donors=donors)
        return written[0][0]

    def _next(self, base: Float[Tensor, "vocab"], own: Float[Tensor, "vocab"]) -> Answer:
        """Return the likeliest next tokens of both, and how far apart the two are, in nats."""
        count = min(LIKELIEST, len(base))
        ids = {int(token) for log_p in (base, own) for token in log_p.topk(count).indices}
        p, q = base.exp(), own.exp()
        rows = [(self.model.tokenizer.decode([id_]), float(p[id_]), float(q[id_])) for id_ in ids]
        apart = float((p * (base - own)).where(p > 0, 0).sum())
        is_same = bool(base.argmax() == own.argmax())
        rows = sorted(rows, key=lambda row: -max(row[1:]))[:SHOWN]
        is_number = math.isfinite(apart) and all(math.isfinite(row[2]) for row in rows)
        return {
            "next": rows if is_number else [],
            "kl": max(apart, 0.0) if is_number else None,
            "same": is_same,
        }


def _lens_of(seen: Seen) -> Answer:
    """Return a lens as the page shows it."""
    if seen.lens is None:
        return {"note": seen.note}
    read = seen.lens
    finite = [[p if math.isfinite(p) else 0.0 for p in row] for row in read.probability]
    return {
        "tokens": read.tokens,
        "depths": read.depths,
        "likeliest": read.likeliest,
        "probability": finite,
    }
