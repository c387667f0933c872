"""What healing was worth: the full model, the plan and the healed plan on texts of their own.

All three read the same tokens, so the healed plan is compared with the plan text by text. Nothing
is kept but sums of each text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from impasto.analysis.paired import Comparison, Differences
from impasto.mending.sides import Item, batches
from impasto.plan import Plan
from impasto.run import apply
from impasto.study.work.asking import Asking
from impasto.study.work.scoring import estimates, judged
from impasto.tasks import Task
from impasto.tasks.metrics import metric_of

BYTES_PER_BATCH = 2**28
"""What the logits of a batch may take, those of the three models each."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Measured:
    """A number of the full model, the plan and the healed plan.

    Attributes:
        name: What it is: ``perplexity``, ``kl``, ``agreement``, or a task's name and metric.
        full, plan, healed: Its values.
        difference: By how much the healed plan's is more than the plan's; of a perplexity that of
            its logarithm, in nats per token.
        low, high: The 95 % interval of the difference, over texts or questions.
        n: Of how many texts or questions.
    """

    name: str
    full: float
    plan: float
    healed: float
    difference: float
    low: float
    high: float
    n: int


class _Sums(NamedTuple):
    """Sums over the tokens of each text; the first axis is full model, plan, healed plan."""

    nats: np.ndarray
    kl: np.ndarray
    agreeing: np.ndarray
    tokens: np.ndarray


class Run(NamedTuple):
    """A Hugging Face model and the plan that it runs."""

    hf: Any
    plan: Plan


@torch.no_grad()
def on_texts(
    full: Run, plan: Run, healed: Run, items: Sequence[Item], progress: Progress
) -> list[Measured]:
    """Return perplexity, KL(full model || ·) per token, and how often the likeliest token agrees.

    Args:
        full, plan, healed: What is compared.
        items: The texts.
        progress: Called with the share that is done, 0 to 1.
    """
    sums = _sums([full, plan, healed], items, progress)
    tokens = sums.tokens
    found = []
    for name, values in (("perplexity", sums.nats), ("kl", sums.kl), ("agreement", sums.agreeing)):
        per_token = values / tokens
        means = values.sum(1) / tokens.sum()
        reach = 1.0 if name == "agreement" else inf
        [compared] = Differences.of(
            per_token[1], [per_token[2]], reach, tokens.astype(float)
        ).comparisons()
        shown = [exp(min(mean, 700)) if name == "perplexity" else float(mean) for mean in means]
        found.append(_with(name, shown, compared, len(tokens)))
    return found


def _sums(runs: Sequence[Run], items: Sequence[Item], progress: Progress) -> _Sums:
    width = runs[0].hf.config.get_text_config(decoder=True).vocab_size
    longest = max(len(piece) for item in items for piece in item.pieces)
    size = max(1, BYTES_PER_BATCH // (4 * width * longest))
    found = np.zeros((3, len(runs), len(items)))
    tokens, done, total = np.zeros(len(items)), 0, sum(item.tokens for item in items)
    for batch in batches(items, size):
        owners = [owner for owner, _ in batch]
        ids = torch.tensor([piece for _, piece in batch], device=runs[0].hf.device)
        told: Tensor | None = None
        for number, run in enumerate(runs):
            logs = log_probabilities(run, ids)
            told = logs if told is None else told
            each = _compared(told, logs, ids[:, 1:])
            for kind, values in enumerate(each):
                np.add.at(found[kind, number], owners, values.double().cpu().numpy())
        np.add.at(tokens, owners, ids.shape[1] - 1)
        done += ids.numel()
        progress(done / total)
    return _Sums(found[0], found[1], found[2], tokens)


def log_probabilities(run: Run, ids: Tensor) -> Float[Tensor, "batch rows vocab"]:
    """Return the log-probabilities of the token after each but the last one."""
    with apply(run.hf, run.plan):
        logits = run.hf(input_ids=ids, use_cache=False).logits
    return logits[:, :-1].float().log_softmax(-1)


def _compared(
    told: Float[Tensor, "batch rows vocab"],
    logs: Float[Tensor, "batch rows vocab"],
    tokens: Tensor,
) -> list[Float[Tensor, "batch"]]:
    """Return nats, KL and agreements, summed over the tokens of each piece."""
    nats = -logs.gather(-1, tokens[..., None])[..., 0]
    kl = (told.exp() * (told - logs)).nan_to_num(0.0).sum(-1)
    agreeing = (told.argmax(-1) == logs.argmax(-1)).float()
    return [nats.sum(1), kl.sum(1), agreeing.sum(1)]


def on_tasks(
    tasks: Sequence[Task], model: Any, healed: Any, plan: Plan, progress: Progress
) -> Iterator[Measured]:
    """Yield the metrics of tasks, asked of the full model, the plan and the healed plan.

    Args:
        tasks: The tasks.
        model: The model, of impasto.
        healed: The healed one.
        plan: The plan.
        progress: Called with the share that is done, 0 to 1.
    """
    full = Plan.identity(model.num_layers)
    for number, task in enumerate(tasks):
        before = number / len(tasks)
        asking = Asking.of(task, model.tokenizer, [plan])
        plain = asking.put(model, [full, plan]).responses
        progress(before + 0.7 / len(tasks))
        mended = asking.put(healed, [plan]).responses
        progress(before + 1 / len(tasks))
        records = [
            [each.metrics for each in judged(task, task.items, responses, injected=False)]
            for responses in (*plain, *mended)
        ]
        yield from _measured(task, records)


def _measured(task: Task, records: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[Measured]:
    found = [estimates(task, rows, finite=True) for rows in records]
    for metric in found[0]:
        values = [[row[metric] for row in rows if metric in row] for rows in records]
        if not all(isinstance(value, int | float) for row in values for value in row):
            continue  # sums of tokens, as texts have them: measured above
        before, after = (np.array(row, dtype=float) for row in values[1:])
        reach = metric_of(metric).high - metric_of(metric).low
        [compared] = Differences.of(before, [after], reach).comparisons()
        shown = [float(one[metric].value) for one in found]
        yield _with(f"{task.name} {metric}", shown, compared, len(before))


def _with(name: str, values: Sequence[float], compared: Comparison, n: int) -> Measured:
    full, plan, healed = values
    ends = compared.difference, compared.low, compared.high
    return Measured(name, full, plan, healed, *ends, n)
