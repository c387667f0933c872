"""Studies: a model, tasks and plans in one file, run into one table.

`document` reads YAML with its lines, `schema` knows the file's form, `entries` its tasks and plans,
`study` the whole. `runner` runs it: `identity` tells what results depend on, `work` divides it,
`asking` answers it and `driving` has that saved in `database`; `scoring` judges, `collecting` sums
up, `results` is the table, `folder` its files.
"""

from impasto.study.document import StudyError
from impasto.study.entries import LabelledPlan, PlanEntry, TaskEntry, plan_entry
from impasto.study.folder import check_writable
from impasto.study.results import Results
from impasto.study.standing import Standing
from impasto.study.stopping import Stopped
from impasto.study.study import SAVE_EVERY, Running, Study

__all__ = [
    "SAVE_EVERY",
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
