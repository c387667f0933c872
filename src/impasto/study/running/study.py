"""`Study`: a study that can be run, and that can say beforehand what running it costs.

Running checks what reading the file could not, runs every plan on every task that has not run yet,
and returns the results.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto.error import UserError
from impasto.paths import path_of
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.files import check_writable
from impasto.study.following.standing import Progress
from impasto.study.results.table import Results
from impasto.study.running.options import Running
from impasto.study.work.asking import StudiedModel
from impasto.tasks import code_allowed

if TYPE_CHECKING:
    from impasto.study.running.estimate import StudyCost


class Study(WrittenStudy):
    """Models by name, the tasks and plans to run on each; `from_yaml` reads one from a file."""

    __slots__ = ()

    def estimate(
        self,
        *,
        model: str | None = None,
        limit: int | None = None,
        memory: int | None = None,
        allow_code: bool = False,
        card: str | None = None,
    ) -> "StudyCost":
        """Return what running the study costs on this machine, running none of it.

        `model` stands in for the study's own, and says which of several is meant. `memory` is the
        bytes that a batch may take. `allow_code` lets folders of task files run their code. `card`
        is the name of a graphics card: what it costs there, by the card's data sheet. Raises
        UserError as `run` does, and for a card that is not known, too small or without the dtype.
        """
        from impasto.study.running.estimate import estimate_study

        with code_allowed(allow_code):
            return estimate_study(self, model, limit, memory, card)

    def run(
        self,
        out: str | Path | None = None,
        *,
        model: str | StudiedModel | None = None,
        limit: int | None = None,
        memory: int | None = None,
        figures: bool = False,
        report: bool = False,
        progress: Progress | bool | None = None,
        **more: Any,
    ) -> Results:
        """Run every plan on every task and return the results, saved in `out` where given.

        In a folder that holds results already, only what is new is run; a run that was stopped goes
        on where it was. `model` stands in for the study's own: a name, or a model that
        `impasto.load` returned. `limit` bounds the questions of each task, `memory` the bytes that
        a batch may take (None: half of what is free, 0.8 of a GPU's; a model that is loaded already
        has its own).
        `figures` draws into `out`/figures, `report` writes `out`/report.html, once all has run.
        `progress` is called with a `Standing`; True shows it, None does so in a notebook alone.
        `more` are the other attributes of `Running`. Raises UserError before anything runs for what
        cannot, and `Stopped` (a KeyboardInterrupt) when it is interrupted and has saved its work.
        """
        from impasto.study.following.progress import followed
        from impasto.study.running.runner import run_study

        known = [field.name for field in fields(Running)]
        for name in more:
            if name not in known:
                raise UserError(f"a study is not run by {name!r}; there is {', '.join(known)}")
        folder = None if out is None else path_of(out, "out")
        if figures or report:
            if folder is None:
                raise UserError("figures and the report go into the study's folder: give out")
            for place in (folder, folder / "figures"):
                check_writable(place)
        with followed(progress) as told:
            running = Running(limit=limit, memory=memory, progress=told, **more)
            results = run_study(self, folder, model, running)
        if folder is not None and (figures or report):
            from impasto.report import show_run

            is_named = model is None or isinstance(model, str)
            with code_allowed(running.allow_code):
                show_run(results, folder, figures=figures, report=report, with_lens=is_named)
        return results
