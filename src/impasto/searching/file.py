"""What a search file says: the model, what is to be kept small, the budget, and the moves.

Reading checks all that can be checked without the model; an error names the line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from impasto.error import UserError, near, shown
from impasto.paths import path_of
from impasto.searching.budget import MEASURES
from impasto.searching.edits import MOVES
from impasto.searching.finding import REFERENCES
from impasto.searching.methods import METHODS
from impasto.study.file.document import StudyError, YamlDocument, read_document
from impasto.study.file.entries import TaskEntry, at
from impasto.study.file.places import WORKING, placed_name, placed_options
from impasto.study.file.schema import Loading
from impasto.study.file.shipped import found_or_shipped
from impasto.tasks import check_entry

OBJECTIVES = ("kl", "perplexity", "tasks")
FORMS = {
    "model": "model: demo",
    "objective": "objective: {kl: {file: texts.txt, tokens: 32768, length: 512}}",
    "budget": "budget: {parts: 75%}",
    "moves": "moves: [attention, mlp]",
    "keep": "keep: [0, 11]",
    "tail": "tail: 10",
    "method": "method: auto",
    "seed": "seed: 0",
    "references": "references: [block_influence, one_shot, greedy, drop_last, skip]",
    "confirm": "confirm: {tasks: [capitals], limit: 500}",
    "name": "name: thinner",
    "load": "load: {dtype: float16, device_map: auto}",
}
WHOLE = Annotated[StrictInt, Field(ge=0)]


class SearchFile(BaseModel):
    """A search file's content, as far as its form goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[StrictStr, Field(min_length=1)]
    objective: dict[str, Any]
    budget: dict[str, Any]
    moves: Annotated[list[StrictStr], Field(min_length=1)] = ["attention", "mlp"]
    keep: list[WHOLE] = []
    tail: Annotated[StrictInt, Field(ge=1)] | None = None
    method: StrictStr = "auto"
    seed: WHOLE = 0
    references: list[StrictStr] = [*REFERENCES]
    confirm: dict[str, Any] | None = None
    name: Annotated[StrictStr, Field(pattern=r"^[\w][\w.-]*$", max_length=100)] | None = None
    load: Loading = Loading()


@dataclass(frozen=True, slots=True)
class WrittenSearch:
    """A search as a value.

    Attributes:
        name: What the search is called.
        model: The model's name.
        kind: What is made small: kl or perplexity on texts, or the average loss on tasks.
        objective: The entries of the tasks that measure it.
        budget: What a plan may cost, by measure; see `budget.MEASURES`.
        moves: What may be done to a layer; see `edits.MOVES`.
        keep: Layers that are never touched.
        tail: How many of the last layers may be touched; None for all.
        method: How it is looked for; see `methods.METHODS`.
        seed: What chance is drawn from: the order of the items, and of what is tried.
        references: Other ways to choose, measured beside it; see `finding.REFERENCES`.
        confirm: The entries of the tasks that the front is put to in the end.
        load: How the model is loaded, options of `impasto.load`.
    """

    name: str
    model: str
    kind: str
    objective: tuple[TaskEntry, ...]
    budget: Mapping[str, Any]
    moves: tuple[str, ...] = ("attention", "mlp")
    keep: tuple[int, ...] = ()
    tail: int | None = None
    method: str = "auto"
    seed: int = 0
    references: tuple[str, ...] = tuple(REFERENCES)
    confirm: tuple[TaskEntry, ...] = ()
    load: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Return the search that a file describes; its name is the file's unless it has one.

        Paths in it are relative to its folder. Where there is no such file, a name is that of a
        search that comes with impasto: thinner. Raises StudyError, with the line and what is
        allowed there, for what cannot be.
        """
        path = found_or_shipped(path_of(path, "a search file"))
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not a text file"
            raise StudyError(f"{path} cannot be read: {why}") from None
        return cls.from_text(text, name=path.stem, source=str(path), folder=path.parent)

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        name: str = "search",
        source: str = "search",
        folder: Path = WORKING,
    ) -> Self:
        """Return the search that a YAML text describes; see `from_yaml`.

        Paths are relative to `folder`, the working folder unless another is given.
        """
        return cls._read(read_document(text, source), name, folder)

    @classmethod
    def of(cls, content: Any, source: str) -> Self:
        """Return the search that plain data describe; see `from_yaml`."""
        return cls._read(YamlDocument(content, {}, source), "search")

    @classmethod
    def _read(cls, document: YamlDocument, name: str, folder: Path = WORKING) -> Self:
        written = _read(document)
        _check_words(written, document)
        written = _placed(written, document, folder)
        [(kind, what)] = written.objective.items()
        with at(document.where(("objective",))):
            objective = _objective(kind, what, document.where(("objective",)))
        with at(document.where(("confirm",))):
            confirm = _tasks(written.confirm, document.where(("confirm",)), "confirm")
        return cls(
            name=written.name or name,
            model=written.model,
            kind=kind,
            objective=objective,
            budget=written.budget,
            moves=tuple(written.moves),
            keep=tuple(written.keep),
            tail=written.tail,
            method=written.method,
            seed=written.seed,
            references=tuple(written.references),
            confirm=confirm,
            load=written.load.model_dump(exclude_none=True),
        )

    def kept(self, layers: int) -> frozenset[int]:
        """Return the layers of a model of so many that are never touched.

        Raises UserError where the tail is longer than the model.
        """
        if self.tail is None:
            return frozenset(self.keep)
        if self.tail > layers:
            raise UserError(f"tail: {self.tail} of a model of {layers} layers; give fewer")
        return frozenset(self.keep) | frozenset(range(layers - self.tail))

    def to_yaml(self) -> str:
        """Return the search as a file that reads as an equal search."""
        what: Any = [entry.written() for entry in self.objective]
        if self.kind == "tasks":
            objective = {"tasks": what}
        else:
            [entry] = self.objective
            objective = {self.kind: {k: v for k, v in entry.options.items() if k != "name"}}
        content: dict[str, Any] = {
            "name": self.name,
            "model": self.model,
            "objective": objective,
            "budget": dict(self.budget),
            "moves": list(self.moves),
            "method": self.method,
            "seed": self.seed,
        }
        if self.keep:
            content["keep"] = list(self.keep)
        if self.tail is not None:
            content["tail"] = self.tail
        if self.references != tuple(REFERENCES):
            content["references"] = list(self.references)
        if self.confirm:
            content["confirm"] = {"tasks": [entry.written() for entry in self.confirm]}
        if self.load:
            content["load"] = dict(self.load)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _read(document: YamlDocument) -> SearchFile:
    if not isinstance(document.data, dict):
        raise StudyError(
            f"{document.source}: a search has the keys {', '.join(FORMS)}; for example\n"
            + "\n".join(f"  {form}" for form in FORMS.values())
        )
    try:
        return SearchFile.model_validate(document.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        order = {"extra_forbidden": 0, "missing": 2}
        first = min(faults, key=lambda f: (order.get(f["type"], 1), document.line_of(f["loc"])))
        raise StudyError(f"{document.where(first['loc'])}: {_explain(first)}") from None


def _placed(written: SearchFile, document: YamlDocument, folder: Path) -> SearchFile:
    """Return a search file with the paths in it made absolute; raises StudyError with the line."""

    def tasks(what: Any) -> Any:
        return [placed_options(t, folder) if isinstance(t, Mapping) else t for t in what]

    update: dict[str, Any] = {}
    with at(document.where(("model",))):
        update["model"] = placed_name(written.model, folder)
    with at(document.where(("objective",))):
        update["objective"] = {
            kind: placed_options(what, folder)
            if isinstance(what, Mapping)
            else tasks(what)
            if isinstance(what, list)
            else what
            for kind, what in written.objective.items()
        }
    confirm = written.confirm
    if confirm is not None and isinstance(confirm.get("tasks"), list):
        with at(document.where(("confirm",))):
            update["confirm"] = {**confirm, "tasks": tasks(confirm["tasks"])}
    return written.model_copy(update=update)


def _explain(fault: Any) -> str:
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}{near(key, FORMS)}\nThe keys are {', '.join(FORMS)}."
    if fault["type"] == "missing":
        return f"the key {key!r} is missing; for example\n  {FORMS[key]}"
    return f"{key!r} cannot be {shown(fault['input'])}; for example\n  {FORMS[key]}"


def _check_words(written: SearchFile, document: YamlDocument) -> None:
    """Raise StudyError for a word that is not one of those that there are."""
    words = [("moves", move, MOVES) for move in written.moves]
    words += [("method", written.method, tuple(METHODS))]
    words += [("budget", measure, tuple(MEASURES)) for measure in written.budget]
    words += [("objective", kind, OBJECTIVES) for kind in written.objective]
    words += [("references", name, tuple(REFERENCES)) for name in written.references]
    for key, word, known in words:
        if word not in known:
            raise StudyError(
                f"{document.where((key,))}: {key} has no {word!r}{near(word, known)}; "
                f"there are {', '.join(known)}"
            )
    for key in ("objective", "budget"):
        if not getattr(written, key):
            raise StudyError(f"{document.where((key,))}: {key} is empty; write {FORMS[key]}")
    if len(written.objective) > 1:
        raise StudyError(
            f"{document.where(('objective',))}: an objective is one of {', '.join(OBJECTIVES)}"
        )


def _objective(kind: str, what: Any, where: str) -> tuple[TaskEntry, ...]:
    if kind == "tasks":
        return _tasks({"tasks": what}, where, "objective")
    if not isinstance(what, dict):
        raise UserError(f"{kind} is measured on texts: {FORMS['objective']}; not {shown(what)}")
    options = {"name": "texts", **what}
    check_entry(dict(options))
    return (TaskEntry(options, where),)


def _tasks(what: Mapping[str, Any] | None, where: str, key: str) -> tuple[TaskEntry, ...]:
    """Return the entries of `{tasks: [...], limit: n}`."""
    if what is None:
        return ()
    unknown = what.keys() - {"tasks", "limit"}
    if unknown or not isinstance(what.get("tasks"), list) or not what["tasks"]:
        raise UserError(
            f"{key} takes tasks and a limit: {FORMS['confirm']}; not {shown(dict(what))}"
        )
    limit = what.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"limit is a whole number from 1, not {shown(limit)}")
    entries = []
    for entry in what["tasks"]:
        options = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(options, dict) or not isinstance(options.get("name"), str):
            raise UserError("a task is a name, or a mapping such as {name: arithmetic, terms: 2}")
        check_entry(dict(options))
        entries.append(TaskEntry(options, where).limited(limit))
    return tuple(entries)
