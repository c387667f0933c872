"""`impasto.heal`: texts in, a healed plan out, with the proof."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto.error import UserError, shown
from impasto.paths import path_of
from impasto.plan import Plan
from impasto.study.following.standing import Progress, Standing

if TYPE_CHECKING:
    from impasto.healing.healed import Healed
    from impasto.run import Encoder, Model

Texts = Iterable[str] | str | Path | Mapping[str, Any]


def heal(
    model: "Model | Encoder | str",
    plan: "Plan | str",
    texts: Texts,
    method: str = "linear",
    out: "str | Path | None" = None,
    *,
    tasks: "Sequence[str | Mapping[str, Any]]" = (),
    limit: int | None = None,
    fresh: bool = False,
    allow_code: bool = False,
    load: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> "Healed":
    """Heal a plan: change weights so that under it the model predicts as the full model does.

    The texts are divided: most of them fit, some choose the ridge or say when training stops, and a
    quarter measures; no text is on two sides. The given model stays as it is, bit for bit.

    Args:
        model: What `impasto.load` returns, or a name that it loads.
        plan: The plan.
        texts: Texts, or a file of them, or options of the task `texts`: {"dataset": NAME, …}.
        method: ``linear`` (a least-squares map, no training), ``lora`` (PEFT adapters on the parts
            that the plan runs), ``last`` (the head and the last layers) or ``full``.
        out: A new folder for the healed model; a training that was stopped goes on by the same
            call. None keeps nothing but what is returned.
        tasks: Tasks that are measured too, as a study names them.
        limit: At most so many questions of each.
        fresh: Throws away a training that is under way there first.
        allow_code: Lets folders of task files run their code.
        load: For a name: options of `impasto.load`.
        progress: Called with a `Standing`; True shows it, None does so in a notebook alone.
        settings: The method's settings in place of the usual ones: tokens, length, seed; of linear
            ridge, map, behind; of the others steps, batch, learning_rate, …
            (`impasto.mending.settings` has them all).

    Raises:
        UserError: for what cannot be healed so, in one sentence.
        PlanError: when the plan names a layer that the model lacks.
    """
    from impasto.healing.running import Asked, run_heal
    from impasto.mending.settings import read_settings
    from impasto.study.following.progress import followed

    chosen = read_settings(method, settings)
    folder = None if out is None else path_of(out, "the folder of the healed model")
    with followed(progress) as told:
        asked = Asked(
            model=model,
            load=dict(load or {}),
            plan=_plan(plan),
            texts=source(texts),
            method=method,
            settings=chosen,
            out=folder,
            tasks=tuple(tasks),
            limit=limit,
            fresh=fresh,
            allow_code=allow_code,
            progress=lambda share, doing: told(Standing(share, doing)),
        )
        return run_heal(asked)


def _plan(plan: object) -> Plan:
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, str):
        return Plan.parse(plan)
    raise UserError(f"a plan is a line such as '0-7 9-11', or a Plan, not {shown(plan)}")


def source(texts: object) -> Callable[[], Iterator[str]]:
    """Return what yields texts that are given as a list, a file, or options of the task `texts`.

    Raises UserError for what are none.
    """
    from impasto.tasks import texts as texts_of

    if isinstance(texts, str | Path):
        return texts_of(file=str(texts)).source.texts
    if isinstance(texts, Mapping):
        known = ("file", "dataset", "config", "split", "column")
        unknown = [key for key in texts if key not in known]
        if unknown:
            raise UserError(f"texts have no {shown(unknown[0])}; they have {', '.join(known)}")
        return texts_of(**texts).source.texts
    if isinstance(texts, Iterable):
        given = list(texts)
        if all(isinstance(text, str) for text in given):
            return lambda: iter(given)
    raise UserError(f"texts are a list of texts, or the name of a file; not {shown(texts)}")
