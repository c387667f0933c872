"""Every figure and table by its name: paper, number, and what draws it.

`impasto figures` draws those that have their data and says of the others what they lack. Of several
models' studies most are one picture; those of a single model are drawn for each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from impasto.error import UserError
from impasto.figures import (
    depths,
    extra,
    paper_a,
    paper_b,
    paper_c,
    pareto,
    repeats,
    searched,
    tables,
    thawed,
    trade_off,
)
from impasto.figures.found import Found, MissingError
from impasto.figures.models import told_apart
from impasto.figures.picture import Picture, file_name
from impasto.table import aligned

LONGEST = 80  # characters of several models' names in a file's


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure or table; what draws it takes all studies, or each alone if it is of one model."""

    name: str
    about: str
    together: Callable[[Sequence[Found]], Iterator[Picture]] | None = None
    alone: Callable[[Found], Iterator[Picture]] | None = None

    def draw(self, founds: Sequence[Found]) -> Iterator[Picture]:
        """Yield the entry's pictures; raises MissingError where there is no data for any."""
        founds = told_apart(founds)
        if self.together is not None:
            ending = ending_of(founds)
            for picture in self.together(founds):
                yield replace(picture, name=picture.name + ending)
            return
        assert self.alone is not None
        lacking, drawn = [], []
        for found in founds:
            ending = "" if len(founds) == 1 else f"-{file_name(found.model).strip('-')}"
            try:
                for picture in self.alone(found):
                    drawn.append(replace(picture, name=picture.name + ending))
            except MissingError as missing:
                lacking.append((found, missing))
        if not drawn:
            raise lacking[0][1]
        notes = [f"{found.model} has no data for it" for found, _ in lacking]
        yield replace(drawn[0], notes=[*drawn[0].notes, *notes])
        yield from drawn[1:]


def ending_of(founds: Sequence[Found]) -> str:
    """Return what the names of several models' pictures end in; nothing for one."""
    if len(founds) == 1:
        return ""
    models = "-vs-".join(file_name(found.model).strip("-") for found in told_apart(founds))
    if len(models) > LONGEST:
        models = f"{models[:LONGEST]}-{sha256(models.encode()).hexdigest()[:8]}"
    return f"-{models}"


def _entries() -> Iterator[Entry]:
    yield Entry("A2", "Capitals, manipulated from depth k on", paper_a.capitals)
    yield Entry("A3", "math exercises, manipulated from depth k on", paper_a.exercises)
    yield Entry("A4", "SQuAD, manipulated from depth k on", paper_a.squad)
    yield Entry("A5", "another subject injected at depth k", paper_a.injection)
    yield Entry("A6", "CNN/DailyMail, manipulated from depth k on", paper_a.summaries)
    yield Entry("B2", "one layer skipped, or switched with the next", paper_b.neighbours)
    yield Entry("B3", "similarity of hidden states", alone=paper_b.similarity)
    for name, strategy in paper_b.MIDDLES.items():
        about = f"middle layers: {strategy.title.lower()}"
        yield Entry(name, about, partial(paper_b.middle, name))
    yield Entry("B10", "loops × layers, the best marked", alone=paper_b.loops)
    yield Entry("B11", "all ways to run the middle layers", paper_b.all_families)
    yield Entry("BA2", "skipped layers, frozen and healed", alone=thawed.frozen_and_healed)
    yield Entry("C1", "similarity with the previous layer", paper_c.with_previous)
    for name, (part, keep_last) in tables.TABLES.items():
        kept = ", the last layer kept" if keep_last else ""
        about = f"quality: the last {tables.WHAT[part]} dropped{kept}"
        yield Entry(name, about, partial(tables.quality, name))
    for name, (tokens, keep_last) in tables.TIMES.items():
        kept = ", the last layer kept" if keep_last else ""
        about = f"time to one token after {tokens}{kept}"
        yield Entry(name, about, partial(tables.times, name))
    yield Entry("depth", "other tasks, manipulated from depth k on", paper_a.others)
    yield Entry("drop_last", "quality by how many layers are dropped", paper_c.dropping)
    yield Entry("selectors", "quality by how many chosen layers are dropped", paper_c.selecting)
    yield Entry("pareto", "quality against cost", pareto.pareto)
    yield Entry("trade_off", "quality and cost as a table", trade_off.quality_and_cost)
    yield Entry("repeat_block", "a block of layers run twice, by its ends", alone=repeats.blocks)
    yield Entry("half_step", "damped loops, by turns and scale", alone=repeats.damped_loops)
    yield Entry("pairs_parallel", "neighbours side by side, by place", alone=repeats.pairs)
    yield Entry("reach", "attention narrowed from layer k on", depths.narrowed)
    yield Entry("freeze_prompt", "the prompt frozen from depth k on", depths.prompt)
    yield Entry("scan", "a search: each edit by itself, by layer", alone=searched.scan)
    yield Entry("pairs", "a search: two edits together", alone=searched.pairs)
    yield Entry("front", "a search: objective against cost", alone=searched.front)
    yield Entry("entropy", "entropy of attention by layer and head", alone=extra.entropy)
    yield Entry("probes", "what linear probes read off at each depth", extra.probes)


ENTRIES: Mapping[str, Entry] = {entry.name: entry for entry in _entries()}


def entries_of(names: str | None) -> list[Entry]:
    """Return the entries that a text names, `A2,B11`; None names all.

    Raises UserError for a name that there is none of.
    """
    if names is None:
        return list(ENTRIES.values())
    known = {name.lower(): entry for name, entry in ENTRIES.items()}
    chosen = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name.lower() not in known:
            listed = aligned([[f"  {entry.name}", entry.about] for entry in ENTRIES.values()])
            raise UserError("\n".join([f"there is no figure {name!r}; the figures are", *listed]))
        chosen.append(known[name.lower()])
    if not chosen:
        raise UserError("--only takes names of figures, such as A2,B11")
    return list(dict.fromkeys(chosen))
