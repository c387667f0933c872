"""Whether a model's attention reads what texts have in common apart from what each has: by trying.

Some blocks call an attention of their own, look at their keys, or ask for more than a mask; they
are handed all keys side by side. No name tells which ones. So two texts behind one prefix read a
token both ways, once for each opened model.
"""

from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import allowed, difference
from impasto.model.checks.precision import full_precision
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.failing import failing
from impasto.plan import Layer, Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant, walk
from impasto.run.attention.choice import attention_modules, chosen_attention
from impasto.run.attention.few_rows import Scores, few_row_attention
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.groups import GroupExecutor, group_executor
from impasto.run.generate.decode_batch import DecodeBatch
from impasto.run.generate.decoding_plan import DecodingPlan, GeneratedText, Stopping
from impasto.run.tuning import MASK_ALIGNMENT

_PREFIX = MASK_ALIGNMENT  # tokens


@torch.no_grad()
def try_common_keys(model: OpenedModel) -> None:
    """Note whether a model reads keys in common apart, unless that is known."""
    if model.reads_common is not None:
        return
    model.reads_common = False
    fits = model.max_positions is None or model.max_positions >= _PREFIX + 2
    if model.packs_rows and fits and attention_modules(model):
        with full_precision(), suppress(ModelError), failing(type(model.hf).__name__, "decodes"):
            apart, whole = (_states(model, common) for common in (_PREFIX, 0))
            model.reads_common = difference(apart, whole) <= allowed(model)


def _states(model: OpenedModel, in_common: int) -> Float[Tensor, "2 hidden"]:
    """Return the states after a token that each of two texts reads behind a prefix."""
    texts = [[at % model.vocabulary for at in (*range(_PREFIX), last)] for last in (11, 12)]
    requests = [TokenRequest(ids, range(_PREFIX, _PREFIX + 1), {}) for ids in texts]
    trees = [chain(at, request).without_prefix(_PREFIX) for at, request in enumerate(requests)]
    program = lower(Plan(tuple(map(Layer, model.present))))
    tree = plant([program.instructions], releases=True)
    group = BatchGroup([trees], texts[0][:_PREFIX])
    given = model, requests, group, ()
    executors, _ = group_executor(*given, records=True, in_common=in_common)
    assert isinstance(executors, GroupExecutor), "rows are packed"
    ((_, states),) = walk(tree, executors, {})
    written = [GeneratedText(_PREFIX + 1, [number % model.vocabulary]) for number in (13, 14)]
    total = torch.zeros(2, dtype=torch.long, device=model.device)
    given = written, total, dict(states.keys_values), states.common
    plan = DecodingPlan.of_unfinished(program.behind_prompt, *given)
    assert plan is not None, "its texts are not done"
    batch = DecodeBatch(model, Stopping(2, lambda _: False), [plan])
    with chosen_attention(model, few_row_attention(Scores())):
        return batch.next_states([0])
