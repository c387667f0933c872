"""Studies: a model, tasks and plans in one file, run into one table.

Each folder has one responsibility, and imports only from those before it: `file` reads a study,
`work` divides it, asks it and judges it, `database` keeps what was found, `folder` is where that
lies, `results` what it comes to, `following` how far it is, `cluster` has it answered on other
machines, and `running` runs it.
"""

from impasto.study.cluster.wanted import Cluster
from impasto.study.file.document import StudyError
from impasto.study.file.entries import LabelledPlan, PlanEntry, TaskEntry, plan_entry
from impasto.study.file.study import SAVE_EVERY, Running, Study
from impasto.study.folder.files import check_writable
from impasto.study.following.standing import Standing
from impasto.study.results.table import Results
from impasto.study.running.stopping import Stopped

__all__ = [
    "SAVE_EVERY",
    "Cluster",
    "LabelledPlan",
    "PlanEntry",
    "Results",
    "Running",
    "Standing",
    "Stopped",
    "Study",
    "StudyError",
    "TaskEntry",
    "check_writable",
    "plan_entry",
]
