"""Every figure and table by its name: paper, number, and what draws it.

`impasto figures` draws those that have their data and says of the others what they lack.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from impasto.error import UserError
from impasto.figures import extra, paper_a, paper_b, paper_c, trade_off
from impasto.figures.found import Found
from impasto.figures.picture import Picture
from impasto.table import aligned


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure or table. `draw` takes all studies that were given, the first one's folder first."""

    name: str
    about: str
    draw: Callable[[Sequence[Found]], Iterator[Picture]]


def _each(draw: Callable[[Found], Iterator[Picture]]) -> Callable[..., Iterator[Picture]]:
    """Return a function that draws a picture of the first study only."""
    return lambda founds: draw(founds[0])


def _entries() -> Iterator[Entry]:
    yield Entry("A2", "Capitals, manipulated from depth k on", _each(paper_a.capitals))
    yield Entry("A3", "math exercises, manipulated from depth k on", _each(paper_a.exercises))
    yield Entry("A4", "SQuAD, manipulated from depth k on", _each(paper_a.squad))
    yield Entry("A5", "another subject injected at depth k", _each(paper_a.injection))
    yield Entry("A6", "CNN/DailyMail, manipulated from depth k on", _each(paper_a.summaries))
    yield Entry("B2", "one layer skipped, or switched with the next", _each(paper_b.neighbours))
    yield Entry("B3", "similarity of hidden states", _each(paper_b.similarity))
    for name, strategy in paper_b.MIDDLES.items():
        about = f"middle layers: {strategy.title.lower()}"
        yield Entry(name, about, partial(paper_b.middle, name))
    yield Entry("B10", "loops × layers, the best marked", _each(paper_b.loops))
    yield Entry("B11", "all ways to run the middle layers", paper_b.all_families)
    yield Entry("C1", "similarity with the previous layer", _each(paper_c.with_previous))
    for name, (part, keep_last) in paper_c.TABLES.items():
        kept = ", the last layer kept" if keep_last else ""
        about = f"quality: the last {paper_c.WHAT[part]} dropped{kept}"
        yield Entry(name, about, _each(partial(paper_c.quality, name)))
    for name, (tokens, keep_last) in paper_c.TIMES.items():
        kept = ", the last layer kept" if keep_last else ""
        about = f"time to one token after {tokens}{kept}"
        yield Entry(name, about, _each(partial(paper_c.times, name)))
    yield Entry("depth", "other tasks, manipulated from depth k on", _each(paper_a.others))
    yield Entry("drop_last", "quality by how many layers are dropped", _each(paper_c.dropping))
    yield Entry("pareto", "quality against cost", _each(extra.pareto))
    yield Entry("trade_off", "quality and cost as a table", _each(trade_off.quality_and_cost))
    yield Entry("entropy", "entropy of attention by layer and head", _each(extra.entropy))
    yield Entry("probes", "what linear probes read off at each depth", _each(extra.probes))


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
