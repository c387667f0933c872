"""The lens of the page: what the model would say at each depth of the study's plans.

The database holds answers, not states, so the model is opened once more, where its files are on
this machine; else a line says why there is no lens. It takes a bounded time, in which as many plans
are read as there is time for, the baseline first.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers.utils import logging

from impasto.error import ImpastoError
from impasto.model.loading.files import BUNDLED, folder_on_disk
from impasto.plan import Plan
from impasto.report.questions import Asked
from impasto.run import Model, load
from impasto.run.lens import Lens, lens
from impasto.study import Results
from impasto.study.work.identity import weights_digest

PROMPTS, TASKS = 2, 3  # of each of so many tasks
TOKENS = 16  # the last of a prompt that are shown
CHARACTERS = 300  # the last of a prompt that are read
SECONDS = 20.0  # of reading; opening the model not counted
CELLS = 400_000  # in all, of a page


@dataclass(frozen=True)
class Lenses:
    """Some prompts under some plans.

    Attributes:
        prompts: The prompts, as their last tokens.
        words: Every text that is likeliest anywhere, once.
        plans: By a plan's digest: what ran before each depth, and for each prompt, depth by depth
            and token by token, the number of the word and its probability in percent.
        note: What a reader should know: why there is none, or why not of every plan.
    """

    prompts: Sequence[Sequence[str]] = ()
    words: Sequence[str] = ()
    plans: Mapping[str, tuple[Sequence[str], Sequence[Sequence[int]]]] = field(default_factory=dict)
    note: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The lenses as the page has them."""
        return {"prompts": self.prompts, "words": self.words, "plans": self.plans}


def lenses_of(results: Results, asked: Asked, digests: Sequence[str] = ()) -> Lenses:
    """Return what a study's model would say at each depth, of the study's plans and some prompts.

    `digests` are those of plans that are read first, behind the baseline.
    """
    prompts = list(_prompts(asked))
    plans = _plans(results, digests)
    if not prompts:
        return Lenses(note="There is no lens: the study has no prompts that could be read here.")
    try:
        model = _opened(results)
    except ImpastoError as error:
        return Lenses(note=f"There is no lens, since the model cannot be opened here: {error}")
    if isinstance(model, str):
        return Lenses(note=f"There is no lens: {model}.")
    return _read(model, prompts, plans)


def _opened(results: Results) -> Model | str:
    """Return the study's model, or why it is not the one to read."""
    study = results.study
    name = study.model
    revision = study.load.get("revision")
    if name not in BUNDLED and folder_on_disk(name, revision) is None:
        return f"{name} is not on this machine, and nothing is downloaded for a page"
    with _no_bars():
        model = load(name, **study.load)
    if not isinstance(model, Model):
        return "it is made of decoders, which predict the next token"
    if set(results.table["weights"]) != {weights_digest(model.hf)}:
        return f"the weights of {name} have changed since the study ran"
    return model


@contextmanager
def _no_bars() -> Iterator[None]:
    """Show no bar of transformers in the block: the page is written behind a run's last line."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _prompts(asked: Asked) -> Iterator[str]:
    """Yield a few prompts of each of the first tasks, cut to their ends."""
    for _, items in [*asked.items.items()][:TASKS]:
        texts = (str(shown["question"]) for shown in items.values())
        found = [text for text in texts if text.strip()][:PROMPTS]
        for text in found:
            yield text if len(text) <= CHARACTERS else text[-CHARACTERS:].partition(" ")[2]


def _plans(results: Results, first: Sequence[str]) -> list[Plan]:
    """Return the study's plans that can be read, the baseline first, then those that matter most.

    Healed plans have weights of their own, and donors and ends of prompts are of single questions.
    """
    frame = results.table.drop_duplicates("digest")
    lines = dict(zip(frame["digest"], frame["plan"], strict=True))
    healed = set(frame.loc[frame["strategy"] == "healed", "digest"])
    order = dict.fromkeys([next(iter(lines)), *(d for d in first if d in lines), *lines])
    parsed = [Plan.parse(lines[digest]) for digest in order if digest not in healed]
    return [plan for plan in parsed if not plan.injections and not plan.tells_prompt]


def _read(model: Model, prompts: Sequence[str], plans: Sequence[Plan]) -> Lenses:
    words: dict[str, int] = {}
    tokens: list[list[str]] = []
    found: dict[str, tuple[Sequence[str], Sequence[Sequence[int]]]] = {}
    until, cells, reasons = time.monotonic() + SECONDS, 0, ""
    for plan in plans:
        if time.monotonic() > until or cells > CELLS:
            break
        try:
            read = lens(model, plan, prompts)
        except ImpastoError as error:
            reasons = f" Of some it cannot be: {error}"
            continue
        tokens = tokens or [one.tokens[-TOKENS:] for one in read]
        rows = [list(_cells(one, words)) for one in read]
        found[plan.digest] = read[0].depths, rows
        cells += sum(map(len, rows)) // 2
    some = (
        f"It was read of {len(found):,} of {len(plans):,} plans." if len(found) < len(plans) else ""
    )
    return Lenses(tokens, list(words), found, some + reasons)


def _cells(one: Lens, words: dict[str, int]) -> Iterator[int]:
    for texts, shares in zip(one.likeliest, one.probability, strict=True):
        for text, share in zip(texts[-TOKENS:], shares[-TOKENS:], strict=True):
            yield words.setdefault(text, len(words))
            yield round(100 * share)
