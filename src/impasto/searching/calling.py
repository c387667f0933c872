"""`impasto.search`: a search as a call."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto.error import UserError, shown
from impasto.paths import path_of
from impasto.searching.file import WrittenSearch
from impasto.searching.found import Found
from impasto.study.file.entries import TaskEntry
from impasto.study.following.standing import Progress
from impasto.study.running.options import Running
from impasto.tasks.texts import TOKENS, Texts, check_texts

if TYPE_CHECKING:
    from impasto.run import Encoder, Model
    from impasto.study import Cluster


@dataclass(frozen=True)
class GivenTexts:
    """Texts that a caller gave."""

    given: tuple[str, ...]
    place: str = "the texts given"

    def texts(self) -> Iterator[str]:
        """Yield the texts."""
        yield from self.given


def search(
    model: "Model | Encoder | str",
    texts: "Sequence[str] | str | Path | None" = None,
    *,
    budget: Mapping[str, Any],
    moves: Sequence[str] = ("attention", "mlp"),
    keep: Sequence[int] = (),
    tail: int | None = None,
    method: str = "auto",
    objective: str = "kl",
    tasks: "Sequence[str | Mapping[str, Any]]" = (),
    tokens: int = TOKENS,
    length: int | None = None,
    seed: int = 0,
    references: Sequence[str] | None = None,
    confirm: "Sequence[str | Mapping[str, Any]]" = (),
    out: "str | Path | None" = None,
    name: str = "search",
    memory: int | None = None,
    cluster: "Cluster | None" = None,
    fresh: bool = False,
    allow_code: bool = False,
    progress: Progress | bool | None = None,
    say: Callable[[str], None] = lambda notice: None,
) -> Found:
    """Find the plan within a budget that stays nearest to the full model, or does best on tasks.

    Half of the items choose; what `held_out` says of a plan comes from the other half.

    Args:
        model: What `impasto.load` returns, or a name that it loads.
        texts: Texts, or a file of them, on which plans are compared with the full model.
        budget: What a plan may cost, as shares of the full model's or in units: `{"parts": 0.75}`;
            also parameters, operations, kept_bytes, seconds; of several all are kept.
        moves: What may be done to a layer: attention, mlp, layer (dropped), parallel, swap, repeat.
        keep: Layers that are never touched; `tail` leaves only the last so many to be.
        method: auto, scan, pairs, one_shot, greedy, beam, evolve, exhaustive.
        objective: kl or perplexity, of texts; with `tasks` in their place, the average loss.
        tokens: How many tokens are read of all texts.
        length: Into pieces of how many tokens they are cut.
        seed: What chance is drawn from.
        references: Other ways to choose that are measured beside it; None for all.
        confirm: Tasks on which the front's plans are compared with the full model in the end.
        out: The folder in which all is kept, and gone on with when it is called again; None keeps
            nothing.
        memory: The bytes that a batch may take.
        cluster: Whose workers answer.
        fresh: Throws away what the folder holds first.
        allow_code: Lets folders of task files run their code.
        progress: Called with a `Standing`; True shows it, None does so in a notebook alone.
        say: Called with what a user should know, sentence by sentence.

    Raises:
        UserError: for what cannot be searched, in one sentence.
    """
    from impasto.searching.running import run_search
    from impasto.study.following.progress import followed

    path = None if out is None else path_of(out, "a search's folder")
    loaded: Any = None if isinstance(model, str) else model
    if loaded is not None and not hasattr(loaded, "num_layers"):
        raise UserError(f"model is a name or what impasto.load returns, not {shown(model)}")
    if (texts is None) == (not tasks):
        raise UserError(
            "a search takes texts, on which plans are compared with the full model, or tasks, "
            f"whose average loss is made small; not {'both' if tasks else 'neither'}"
        )
    given: Texts | None = None
    sizes = {"tokens": tokens} | ({} if length is None else {"length": length})
    if isinstance(texts, str | Path):
        what: Any = {objective: {"file": str(texts), **sizes}}
    elif texts is not None:
        given = _given(texts, tokens, length)
        what = {objective: {"file": given.name, **sizes}}
    else:
        what = {"tasks": list(tasks)}
    content: dict[str, Any] = {
        "name": name,
        "model": model if isinstance(model, str) else model.name,
        "objective": what,
        "budget": budget,
        "moves": list(moves),
        "keep": list(keep),
        "method": method,
        "seed": seed,
        **({} if tail is None else {"tail": tail}),
        **({} if references is None else {"references": list(references)}),
        **({"confirm": {"tasks": list(confirm)}} if confirm else {}),
    }
    written = WrittenSearch.of(content, "impasto.search")
    if given is not None:
        options = {"name": "texts", "given": given.name, **sizes}
        written = replace(written, objective=(TaskEntry(options, "impasto.search"),))
    with followed(progress) as told:
        running = Running(
            memory=memory, fresh=fresh, allow_code=allow_code, cluster=cluster, progress=told,
            say=say, command="impasto.search",
        )  # fmt: skip
        return run_search(written, path, loaded, running, given)


def _given(texts: Sequence[str], tokens: int, length: int | None) -> Texts:
    """Return texts that a caller gave as a task, which their content names."""
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"texts are a list of texts, or the name of a file; not {shown(texts)}")
    content = json.dumps(list(texts)).encode()
    name = f"texts-{hashlib.sha256(content).hexdigest()[:16]}"
    check_texts(file=name, tokens=tokens, length=length)
    source: Any = GivenTexts(tuple(texts))
    return Texts(name, "the texts given", source, tokens, length)
