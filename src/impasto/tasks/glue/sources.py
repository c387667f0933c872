"""The tasks of GLUE (Wang et al. 2018, arXiv 1804.07461): their columns, labels and metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.data import HubSplit, check_data, load_rows, text
from impasto.tasks.problem import Example

HUB = "nyu-mll/glue"


@dataclass(frozen=True, slots=True)
class Source:
    """One task of GLUE.

    Attributes:
        title: What readers call it.
        columns: The columns of its text, or of its two.
        classes: How many classes it has; 0 where similarity from 0 to 5 is to be told.
        metrics: GLUE's own.
        splits: What its answers are compared with.
    """

    title: str
    columns: tuple[str, ...]
    classes: int
    metrics: tuple[str, ...]
    splits: tuple[str, ...] = ("validation",)


SENTENCES = ("sentence1", "sentence2")
SOURCES = {
    "cola": Source("CoLA", ("sentence",), 2, ("matthews",)),
    "sst2": Source("SST-2", ("sentence",), 2, ("acc",)),
    "mrpc": Source("MRPC", SENTENCES, 2, ("acc", "f1")),
    "stsb": Source("STS-B", SENTENCES, 0, ("pearson", "spearman")),
    "qqp": Source("QQP", ("question1", "question2"), 2, ("acc", "f1")),
    "mnli": Source(
        "MNLI", ("premise", "hypothesis"), 3, ("acc", "acc_mismatched"),
        ("validation_matched", "validation_mismatched"),
    ),
    "qnli": Source("QNLI", ("question", "sentence"), 2, ("acc",)),
    "rte": Source("RTE", SENTENCES, 2, ("acc",)),
    "wnli": Source("WNLI", SENTENCES, 2, ("acc",)),
}  # fmt: skip
STANDARD = tuple(name for name in SOURCES if name != "wnli")

Data = Mapping[str, str] | None  # a file for each split that is read


def read_split(name: str, split: str, data: Data) -> list[Example]:
    """Return the examples of a split: from its file, or from the hub.

    Raises UserError naming file, row and column for a column that is missing and a label that is
    none of the task's.
    """
    source = SOURCES[name]
    columns: dict[str, Callable[[Any], Any]] = dict.fromkeys(source.columns, text)
    columns["label"] = _class(source.classes) if source.classes else _similarity
    file = None if data is None else {split: data[split]}
    rows = load_rows(HubSplit(HUB, split, name), columns, file)
    read = []
    for row in rows:
        first, *second = (row[column] for column in source.columns)
        read.append(Example(first, second[0] if second else None, row["label"]))
    return read


def check_files(name: str, data: object) -> None:
    """Raise UserError unless ``data`` gives a file for each split that a task reads, or is None."""
    splits = ("train", *SOURCES[name].splits)
    if data is None:
        return
    if not isinstance(data, Mapping) or set(data) != set(splits):
        form = ", ".join(f"{split}: FILE.jsonl" for split in splits)
        raise UserError(f"{name} reads its files as data: {{{form}}}, not {shown(data)}")
    for split in splits:
        check_data(HubSplit(HUB, split, name), {split: data[split]})


def _class(classes: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and value.strip().lstrip("-").isdigit():  # as CSV has it
            value = int(value)
        if type(value) is not int or not 0 <= value < classes:
            hidden = " (GLUE's test split has no labels)" if value == -1 else ""
            raise UserError(f"must be a class from 0 to {classes - 1}, not {shown(value)}{hidden}")
        return value

    return read


def _similarity(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 5:
        raise UserError(f"must be a similarity from 0 to 5, not {shown(value)}")
    return number
