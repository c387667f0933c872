"""Studies: models, tasks and plans in one file, run into one table.

Each folder has one responsibility, and imports only from those before it: `file` reads a study,
`work` divides it, asks it and judges it, `database` keeps what was found, `folder` is where that
lies, `following` says how far it is and `results` what it comes to, `cluster` has it answered on
other machines, and `running` runs it. `make lint` checks that.
"""

from impasto.study.cluster.wanted import Cluster
from impasto.study.file.document import StudyError
from impasto.study.file.entries import LabelledPlan, PlanEntry, TaskEntry, plan_entry
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.files import check_writable
from impasto.study.following.standing import Standing
from impasto.study.results.table import Results
from impasto.study.running.options import SAVE_EVERY, Running
from impasto.study.running.stopping import Stopped
from impasto.study.running.study import Study

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
    "WrittenStudy",
    "check_writable",
    "plan_entry",
]
