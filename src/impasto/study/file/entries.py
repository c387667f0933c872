"""The entries of a study as values: which tasks, which plans, and the cells that they make.

An entry knows its place (`attend_first.yaml, line 9`), for what shows once the layers are known.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from impasto import strategies
from impasto.error import UserError, near, shown
from impasto.mending.settings import Settings, read_settings
from impasto.plan import Plan
from impasto.plan.healed import HealedPlan
from impasto.study.file.document import StudyError
from impasto.study.file.schema import FROM
from impasto.tasks import (
    Precision,
    Suite,
    check_entry,
    check_to_precision,
    load_suite,
    load_to_precision,
)
from impasto.tasks.texts import check_texts

BASELINE = "baseline"
WRITTEN = "plan"  # the strategy's name of a plan line
HEALED = "healed"  # that of all plans that are healed
DIGEST = "digest"  # of the file of texts that heal
DONOR = "donor"  # the only donor that a study binds: the question that the task names
TEXTS, PART = "texts", "part"  # of families whose layers are chosen by what texts show
TRIAL_LAYERS = 8  # for choices that are right or wrong whatever the number of layers

Value = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """One task of a study: its name and options, as `load_suite` takes them."""

    options: Mapping[str, Any]
    where: str = field(default="", compare=False)

    def check(self) -> str:
        """Return its name in results; raises StudyError for what no data can make right."""
        with at(self.where):
            if self.precision is not None:
                return check_to_precision(self._whole)
            return check_entry(dict(self.options))

    def load(self) -> Suite:
        """Return its tasks; raises StudyError with the place for what they cannot be."""
        with at(self.where):
            precision = self.precision
            if precision is not None:
                return load_to_precision(self._whole, precision)
            return load_suite(dict(self.options))

    @property
    def precision(self) -> Precision | None:
        """How precisely it is to be known, where its limit says that and not how many to ask.

        Raises UserError where the limit cannot be read.
        """
        limit = self.options.get("limit")
        return Precision.read(limit) if isinstance(limit, Mapping) else None

    @property
    def _whole(self) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if key != "limit"}

    def limited(self, limit: int | None) -> "TaskEntry":
        """Return the entry with at most `limit` questions, fewer if it says so itself."""
        own: Any = self.options.get("limit")
        with at(self.where):
            precision = self.precision
        if limit is None:
            return self
        if precision is not None:
            limited: Any = {**own, "at_most": precision.bounded(limit).at_most}
        else:
            limited = limit if own is None else min(own, limit)
        return replace(self, options={**self.options, "limit": limited})

    def written(self) -> str | dict[str, Any]:
        """Return the entry as a study file has it."""
        return self.options["name"] if len(self.options) == 1 else dict(self.options)


@dataclass(frozen=True, slots=True)
class LabelledPlan:
    """A plan with the name under which the results list it: strategy and parameters."""

    strategy: str
    parameters: tuple[tuple[str, Value], ...]
    plan: Plan


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """One entry of a study's plans: the baseline, a strategy with choices, or a written line."""

    strategy: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    line: str | None = None
    where: str = field(default="", compare=False)
    heal: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what is wrong for every model; raises StudyError with the place."""
        with at(self.where):
            if self.heal is not None:
                _check_heal(self.heal)
            if self.line is not None:
                _check_donors(Plan.parse(self.line))
            else:
                _check_strategy(self.strategy, self.choices)

    @property
    def texts(self) -> TaskEntry | None:
        """The texts on which a model is to show which layers go; None where nothing is open."""
        if TEXTS not in self.choices:
            return None
        return TaskEntry({"name": TEXTS, **self.choices[TEXTS]}, self.where)

    def expand(self, layers: int) -> list[LabelledPlan]:
        """Return the entry's plans for a model of so many layers.

        Raises StudyError with the place for a layer, a depth or a choice that the model lacks, and
        where a model has yet to show which layers go.
        """
        if self.heal is not None:
            return list(self._healed(self.heal, layers))
        with at(self.where):
            if self.line is not None:
                return [LabelledPlan(WRITTEN, (), Plan.parse(self.line, layers=layers))]
            if self.texts is not None:
                raise UserError(
                    f"which layers {self.strategy} leaves out is measured with the model when a "
                    "study runs (impasto run)"
                )
            expanded = strategies.expand(self.strategy, layers, **self.choices)
            return [
                LabelledPlan(self.strategy, _told(parameters), plan)
                for parameters, plan in expanded
            ]

    def _healed(self, heal: Mapping[str, Any], layers: int) -> Iterator[LabelledPlan]:
        """Yield the entry's plans as they are healed; the model itself has nothing to heal."""
        told = {"heal" if k == "method" else k: v for k, v in heal.items() if k != TEXTS}
        every = {**_check_heal(heal).model_dump(), **heal}  # also the usual ones tell results
        for labelled in replace(self, heal=None).expand(layers):
            if labelled.plan != Plan.identity(layers):
                of = (("of", labelled.strategy), *labelled.parameters)
                if self.line is not None:
                    of = (*of, ("plan", str(labelled.plan)))
                plan = HealedPlan.of(labelled.plan, every)
                yield LabelledPlan(HEALED, (*of, *_plain(told)), plan)

    def read(self) -> "PlanEntry":
        """Return the entry with a digest of the file of its texts, by which results are told.

        Raises StudyError with the place where the file cannot be read, or was another one.
        """
        file = None if self.heal is None else self.heal[TEXTS].get("file")
        if self.heal is None or file is None:
            return self
        with at(self.where):
            try:
                digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
            except OSError as error:
                raise UserError(f"{file} cannot be read: {error.strerror}") from None
            if self.heal[TEXTS].get(DIGEST, digest) != digest:
                raise UserError(f"{file} is not the file that digest tells; leave digest out")
        return replace(self, heal={**self.heal, TEXTS: {**self.heal[TEXTS], DIGEST: digest}})

    def standing_in(self, layers: int) -> "PlanEntry":
        """Return the entry with the first layers going first where that is to be measured."""
        return self if self.texts is None else self.chosen(" ".join(map(str, range(layers))))

    def chosen(self, order: str) -> "PlanEntry":
        """Return the entry with the layers that go first in place of its texts."""
        others = {key: value for key, value in self.choices.items() if key != TEXTS}
        return replace(self, choices={**others, strategies.ORDER: order})

    def parts(self, layers: int) -> list["PlanEntry"]:
        """Return an entry for each part that it leaves out, where these are of several."""
        plans = self.standing_in(layers).expand(layers)
        parts = dict.fromkeys(dict(plan.parameters).get(PART) for plan in plans)
        return [
            self if part is None else replace(self, choices={**self.choices, PART: part})
            for part in parts
        ]

    def written(self) -> str | dict[str, Any]:
        """Return the entry as a study file has it."""
        if self.heal is not None:
            own: Any = self.line if self.line is not None else deepcopy(dict(self.choices))
            return {self.strategy: own, "heal": deepcopy(dict(self.heal))}
        if self.line is not None:
            return self.line
        # copied, for what is the same object twice would be written as an alias
        return {self.strategy: deepcopy(dict(self.choices))} if self.choices else self.strategy


def plan_entry(written: str | Mapping[str, Any], where: str = "") -> PlanEntry:
    """Return the entry that a study file writes as a text or as a strategy's mapping.

    A strategy's name alone is that strategy with its own choices: `freeze` is every depth.
    """
    if isinstance(written, str):
        text = written.strip()
        if text in strategies.STRATEGIES:
            return PlanEntry(text, where=where)
        return PlanEntry(WRITTEN, line=text, where=where)
    heal = written.get("heal")
    [(strategy, choices)] = ((key, value) for key, value in written.items() if key != "heal")
    if strategy == WRITTEN:
        return PlanEntry(WRITTEN, line=choices.strip(), where=where, heal=heal)
    return PlanEntry(strategy, choices, where=where, heal=heal)


def plan_entries(written: str | Mapping[str, Any], where: str = "") -> list[PlanEntry]:
    """Return the entries that a study file writes as one: a line for each plan of another's file.

    A study holds the plans themselves, so that it means the same when the file has changed.
    """
    if isinstance(written, str) or FROM not in written:
        return [plan_entry(written, where)]
    with at(where):
        plans = Plan.read_all(written[FROM], written.get("layers"), written.get("format"))
        return [PlanEntry(WRITTEN, line=str(plan), where=where) for plan in plans]


def labelled_plans(entries: Sequence[PlanEntry], layers: int) -> list[LabelledPlan]:
    """Return every plan of the entries, the baseline first, each label once.

    Raises StudyError for two selectors of one family that choose other layers.
    """
    baseline = PlanEntry(BASELINE).expand(layers)
    rest = []
    plans: dict[tuple[object, ...], Plan] = {}
    for entry in entries:
        for labelled in entry.expand(layers):
            label = (labelled.strategy, labelled.parameters)
            if entry.line is None and plans.setdefault(label, labelled.plan) != labelled.plan:
                raise StudyError(
                    f"{entry.where}: {labelled.strategy} is here twice with other layers that go "
                    "first; results tell its plans apart by how many are left out, so put the "
                    "other into a study of its own"
                )
            rest.append(labelled)
    return list(dict.fromkeys(baseline + rest))


@contextmanager
def at(where: str) -> Iterator[None]:
    """Give a user's mistake in the block the place at which it was written."""
    try:
        yield
    except StudyError:
        raise
    except (ValueError, TypeError) as error:
        raise StudyError(f"{where}: {error}" if where else str(error)) from None


def _check_donors(plan: Plan) -> None:
    others = [name for name in plan.injections if name != DONOR]
    if others:
        raise UserError(
            f"a study injects the task's own donor: write inject({DONOR}), not inject({others[0]})"
        )


def _check_heal(heal: Mapping[str, Any]) -> Settings:
    """Return the settings; raises UserError for a method, one or texts that there are not."""
    given = {key: value for key, value in heal.items() if key not in ("method", TEXTS)}
    texts = {key: value for key, value in heal[TEXTS].items() if key != DIGEST}
    known = ("file", "dataset", "config", "split", "column")
    unknown = [key for key in texts if key not in known]
    if unknown:
        raise UserError(f"texts of heal have no {shown(unknown[0])}; they have {', '.join(known)}")
    check_texts(**texts)
    return read_settings(heal["method"], given)


def _plain(told: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    """Return settings as parameters of a plan: what is no single value as text."""
    kinds = (int, float, str, bool, type(None))
    return tuple((k, v if isinstance(v, kinds) else str(v)) for k, v in told.items())


def _check_strategy(name: str, choices: Mapping[str, Any]) -> None:
    """Raise UserError for what no model's number of layers can make right."""
    if name not in strategies.STRATEGIES:
        raise UserError(
            f"there is no strategy {name!r}{near(name, strategies.STRATEGIES)}\n"
            f"The strategies are {', '.join(strategies.STRATEGIES)}."
        )
    strategy = strategies.STRATEGIES[name]
    if strategy.is_selector:
        choices = _check_selector(name, choices)
    for key in strategies.BY_LAYERS & strategy.domains.keys() & choices.keys():
        _check_numbers(key, choices[key])
    rest = {key: value for key, value in choices.items() if key not in strategies.BY_LAYERS}
    for _, plan in strategies.expand(name, TRIAL_LAYERS, **rest):
        _check_donors(plan)


def _check_selector(name: str, choices: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return choices with layers to go first that any model has; raises UserError without texts."""
    given = [key for key in (TEXTS, strategies.ORDER) if key in choices]
    if len(given) != 1:
        both = "not both" if given else "and has neither"
        raise UserError(
            f"{name} takes texts, which show a model's layers (texts: {{file: FILE.txt}}), or the "
            f'layers that go first (order: "7 5 3"), {both}'
        )
    if given == [TEXTS]:
        texts = choices[TEXTS]
        if not isinstance(texts, Mapping) or "name" in texts:
            raise UserError(f"texts are options such as {{file: FILE.txt}}, not {shown(texts)}")
        check_entry({"name": TEXTS, **texts})
    elif type(choices[strategies.ORDER]) not in (str, int):
        raise UserError(
            f'order is one text, the layers that go first: order: "7 5 3"; not '
            f"{shown(choices[strategies.ORDER])}"
        )
    others = {key: value for key, value in choices.items() if key not in given}
    return {**others, strategies.ORDER: " ".join(map(str, range(TRIAL_LAYERS)))}


def _told(parameters: Mapping[str, Any]) -> tuple[tuple[str, Value], ...]:
    """Return the parameters that tell a plan from others of its family: not how layers follow."""
    return tuple((key, value) for key, value in parameters.items() if key != strategies.ORDER)


def _check_numbers(key: str, choice: object) -> None:
    """Raise UserError unless the choice is a whole number, a share of the layers, several, all."""
    for value in choice if isinstance(choice, list) else [choice]:
        if value != "all" and type(value) is not int and not strategies.is_share(value):
            raise UserError(
                f"{key} is a whole number, a share of the layers (25%), a list of them, or all; "
                f"not {shown(value)}"
            )
