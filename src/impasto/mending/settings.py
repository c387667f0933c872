"""How a plan is healed: the settings of each method, with what is allowed, and one clear error."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from impasto.error import UserError, near, shown

Whole = Annotated[StrictInt, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0, lt=1e6)]


class Settings(BaseModel):
    """What every method has.

    Attributes:
        tokens: How many tokens are read of all texts together.
        length: Into pieces of how many tokens they are cut; None for 512, or the model's positions
            where these are fewer.
        seed: What chance is drawn from: which texts fit and which measure, and all of training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    trains: ClassVar[bool] = False

    tokens: Annotated[StrictInt, Field(ge=64)] = 65_536
    length: Annotated[StrictInt, Field(ge=8)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)] = 0


class Linear(Settings):
    """A map in place of what is left out, without training.

    Attributes:
        ridge: The ridge, as a multiple of the mean square; None for the best on held-out texts.
        map: What the map reads: ``units``, those that the layer's last weight reads, so that the
            whole weight is fitted, or ``state``, what the layer adds (ReplaceMe's matrix T), which
            takes fewer tokens.
        behind: Also fit what every later attention and MLP adds, to mend what the map leaves.
    """

    ridge: Annotated[float, Field(ge=0, lt=1e6)] | None = None
    map: Literal["units", "state"] = "units"
    behind: StrictBool = True


class Training(Settings):
    """What every method that trains has.

    Attributes:
        steps: How many steps it takes at the most.
        batch: How many pieces of texts make a step.
        learning_rate: Of AdamW, the highest; it rises at first and falls by a cosine to nothing.
            None for the usual one, which is `rate_times_width` divided by the state's width.
        rate_times_width: What the rate comes to, times the state's width; of each method its own.
            None where a rate is given.
        warmup: During which share of the steps it rises.
        weight_decay: Of AdamW.
        written: How many pieces the full model writes to train on, beside the texts; None for as
            many as it takes to read none twice, and none with models that would take long.
        distil: How much of the loss is KL(full model || healed plan), from 0 to 1; the rest is the
            cross-entropy of the texts, of which a tenth already draws a plan away from the full
            model where texts are few.
        temperature: What both sides' logits are divided by for the KL.
        states: What the distance of the final states from the full model's counts beside the KL at
            the first step: its square, as a share of their squared norm, times this number, which
            falls to nothing with the fourth power of the share of the steps that is left.
        evaluate_every: After how many steps the held-out texts are asked, and the training saved.
        patience: After how many such times without a smaller loss training stops.
        gradient_checkpointing: Compute layers anew in the backward pass, to save memory.
        bf16: Compute in bfloat16 where torch's autocast does; weights stay as they are.
    """

    trains: ClassVar[bool] = True

    steps: Whole = 400
    batch: Whole = 16
    learning_rate: Above | None = None
    rate_times_width: Above | None = 0.2
    warmup: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    written: Annotated[StrictInt, Field(ge=0)] | None = None
    distil: Share = 0.99
    temperature: Above = 1.0
    states: Annotated[float, Field(ge=0)] = 10.0
    evaluate_every: Whole = 25
    patience: Whole = 4
    gradient_checkpointing: StrictBool = False
    bf16: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _one_rate(cls, given: Any) -> Any:
        """Have a rate that is given take the place of the usual one, and refuse both and none."""
        rate, usual = given.get("learning_rate"), given.get("rate_times_width", ...)
        if rate is not None and usual is ...:
            return {**given, "rate_times_width": None}
        if (rate is None) == (usual is None):
            raise UserError(
                "the learning rate is said once: by learning_rate, or by rate_times_width, which "
                "is divided by the width of the state"
            )
        return given

    def rate(self, width: int) -> float:
        """Return the learning rate for states of so many units."""
        if self.learning_rate is not None:
            return self.learning_rate
        assert self.rate_times_width is not None, "one of the two is there"
        return self.rate_times_width / width


class Lora(Training):
    """Adapters on the parts that the plan runs.

    Attributes:
        rank: Of the adapters' matrices.
        alpha: What their product is multiplied by, divided by the rank; None for twice the rank.
        dropout: Of what they read.
        modules: The linear modules that get one, by the ends of their names; None for all.
    """

    rank: Whole = 32
    alpha: Above | None = None
    dropout: Share = 0.0
    modules: list[StrictStr] | None = None


class Last(Training):
    """The head and the last layers that the plan runs.

    Attributes:
        layers: How many of them.
        top_k: Of how many tokens the full model's log-probabilities are kept.
    """

    rate_times_width: Above | None = 0.08
    layers: Whole = 2
    top_k: Whole = 64


class Full(Training):
    """Every weight that the plan uses.

    Attributes:
        top_k: Of how many tokens the full model's log-probabilities are kept.
    """

    rate_times_width: Above | None = 0.025
    top_k: Whole = 64


METHODS: dict[str, type[Settings]] = {"linear": Linear, "lora": Lora, "last": Last, "full": Full}


def read_settings(method: object, given: Mapping[str, Any]) -> Settings:
    """Return a method's settings, those that are given in place of the usual ones.

    Raises UserError for a method or a setting that there is not, and for a value that cannot be.
    """
    if not isinstance(method, str) or method not in METHODS:
        said = near(method, METHODS) if isinstance(method, str) else ""
        raise UserError(f"method is one of {', '.join(METHODS)}, not {shown(method)}{said}")
    kind = METHODS[method]
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        order = {"extra_forbidden": 0}
        faults = sorted(
            error.errors(include_url=False), key=lambda fault: order.get(fault["type"], 1)
        )
        raise UserError(_explained(method, kind, faults[0])) from None


def _explained(method: str, kind: type[Settings], fault: Any) -> str:
    if not fault["loc"]:
        return fault["msg"].removeprefix("Value error, ")
    key = str(fault["loc"][0])
    if fault["type"] != "extra_forbidden":
        return f"{key} cannot be {shown(fault['input'])}: {fault['msg'].lower()}"
    others = [name for name, other in METHODS.items() if key in other.model_fields]
    if others:
        return f"{key} is a setting of method {' and '.join(others)}, not of {method}"
    known = list(kind.model_fields)
    return f"method {method} has no {shown(key)}{near(key, known)}\nIt has {', '.join(known)}."
