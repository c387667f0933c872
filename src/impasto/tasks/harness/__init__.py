"""lm-evaluation-harness's tasks, unchanged, as tasks that a study can name.

lm-eval finds the task, reads its data, draws its few-shot examples, writes its requests, filters
and judges what the model said and sums it up. Only the answering in between is impasto's, so that
one call can serve many plans. `options` is what a study may say about such a task, `loading` has
lm-eval build it, `local` gives it data from files, `benchmark` is one of its tasks as an
`impasto.tasks.Task`, `code` says whose files may run, and `quiet` keeps what lm-eval prints off the
screen. lm-eval is imported when
the first such task is named.
"""

from impasto.tasks.harness.loading import check_name, load_benchmark
from impasto.tasks.harness.options import Options

__all__ = ["Options", "check_name", "load_benchmark"]
