"""Studies: a model, tasks and plans in one file, run into one table.

`document` reads YAML with its lines, `schema` knows the file's form, `entries` its tasks and plans,
`study` the whole; `runner` runs it, `scoring` judges, `collecting` sums up, `results` is the table,
`folder` its files.
"""

from impasto.study.document import StudyError
from impasto.study.entries import LabelledPlan, PlanEntry, TaskEntry, plan_entry
from impasto.study.folder import check_folder, check_writable
from impasto.study.results import Results
from impasto.study.study import Study

__all__ = [
    "LabelledPlan",
    "PlanEntry",
    "Results",
    "Study",
    "StudyError",
    "TaskEntry",
    "check_folder",
    "check_writable",
    "plan_entry",
]
