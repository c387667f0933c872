"""The naive truth about encoders: one sentence, nothing batched, nothing shared.

What a plan means on an encoder, written down as plainly as it can be. A layer is called exactly as
the model's own forward calls it on the same sentence; what is left of a layer without one of its
parts is spelt out for each family, read off its modeling code. Gradients flow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import reference
from impasto.plan import Inject, Layer, Parallel, Plan, Step
from spellings import Call, whole

Part = Callable[[Any, Tensor, Call], Tensor]


@dataclass(frozen=True)
class Spelling:
    """Where a family keeps its blocks, and what is left of a block with only one of its parts."""

    blocks: str
    attention: Part
    mlp: Part


def _bert_attention(block: Any, x: Tensor, call: Call) -> Tensor:
    """LN2(LN1(x + attention(x)) + 0)."""
    attended = block.attention.output.dense(block.attention.self(x, **call)[0])
    return block.output.LayerNorm(block.attention.output.LayerNorm(x + attended))


def _bert_mlp(block: Any, x: Tensor, call: Call) -> Tensor:
    """LN2(y + mlp(y)) with y = LN1(x + 0)."""
    y = block.attention.output.LayerNorm(x)
    return block.output.LayerNorm(y + block.output.dense(block.intermediate(y)))


def _distilbert_attention(block: Any, x: Tensor, call: Call) -> Tensor:
    return block.output_layer_norm(block.sa_layer_norm(x + block.attention(x, **call)[0]))


def _distilbert_mlp(block: Any, x: Tensor, call: Call) -> Tensor:
    y = block.sa_layer_norm(x)
    return block.output_layer_norm(y + block.ffn(y))


def _modernbert_attention(block: Any, x: Tensor, call: Call) -> Tensor:
    return x + block.attn(block.attn_norm(x), **call)[0]


def _modernbert_mlp(block: Any, x: Tensor, call: Call) -> Tensor:
    return x + block.mlp(block.mlp_norm(x))


SPELLINGS = {
    "bert": Spelling("encoder.layer", _bert_attention, _bert_mlp),
    "roberta": Spelling("encoder.layer", _bert_attention, _bert_mlp),
    "electra": Spelling("encoder.layer", _bert_attention, _bert_mlp),
    "deberta": Spelling("encoder.layer", _bert_attention, _bert_mlp),
    "deberta-v2": Spelling("encoder.layer", _bert_attention, _bert_mlp),
    "distilbert": Spelling("transformer.layer", _distilbert_attention, _distilbert_mlp),
    "modernbert": Spelling("layers", _modernbert_attention, _modernbert_mlp),
}


def blocks_of(hf: Any) -> nn.ModuleList:
    """Return the layers of a model."""
    return hf.base_model.get_submodule(SPELLINGS[hf.config.model_type].blocks)


def logits(
    hf: Any, plan: Plan, ids: list[int], grafts: Mapping[str, reference.Graft] | None = None
) -> Tensor:
    """Return the plan's logits (tokens × vocabulary) of a masked language model."""
    return through_head(hf, states_of(hf, plan.steps, ids, grafts or {}), ids).logits[0]


def states_of(
    hf: Any, steps: tuple[Step, ...], ids: list[int], grafts: Mapping[str, reference.Graft]
) -> Tensor:
    """Return all rows (tokens × hidden) after ``steps``."""
    inputs, calls = reference.noted(hf, ids, blocks_of(hf))
    rows = inputs[0]
    for index, step in enumerate(steps):
        if isinstance(step, Inject):
            if step.name in grafts:
                graft = grafts[step.name]
                donor = states_of(hf, steps[:index], graft.ids, {})
                rows = rows.clone()
                rows[graft.target] = donor[graft.source]
        else:
            rows = _run(hf, step, rows, calls)
    return rows


def masked_score(
    hf: Any, plan: Plan, ids: list[int], mask: int, rows: list[int] | None = None
) -> tuple[float, int]:
    """Return (sum of log p, how many likeliest), each token masked alone (Salazar et al. 2020)."""
    total, likeliest = 0.0, 0
    for row in range(len(ids)) if rows is None else rows:
        log_p = logits(hf, plan, [*ids[:row], mask, *ids[row + 1 :]])[row].log_softmax(-1)
        total += float(log_p[ids[row]])
        likeliest += int(log_p.argmax()) == ids[row]
    return total, likeliest


def _run(hf: Any, step: Step, rows: Tensor, calls: list[Call]) -> Tensor:
    if isinstance(step, Parallel):
        ends = []
        for branch in step.branches:
            end = rows
            for inner in branch:
                end = _run(hf, inner, end, calls)
            ends.append(end)
        if step.combine == "mean":
            return rows + step.scale * (torch.stack(ends).mean(0) - rows)
        return rows + step.scale * sum(end - rows for end in ends)
    assert isinstance(step, Layer)
    spelt, block = SPELLINGS[hf.config.model_type], blocks_of(hf)[step.index]
    run = {"attention": spelt.attention, "mlp": spelt.mlp, "block": whole}[step.part]
    after = run(block, rows[None], calls[step.index])
    convolution = getattr(getattr(hf.base_model, "encoder", None), "conv", None)
    if convolution is not None and step.index == 0:
        mixed = convolution.conv(rows[None].transpose(1, 2)).transpose(1, 2)
        after = convolution.LayerNorm(after + nn.functional.gelu(mixed))
    return rows + step.scale * (after[0] - rows)


def through_head(hf: Any, rows: Tensor, ids: list[int], **given: Any) -> Any:
    """Run the stock model with the last block's output replaced by finished rows."""

    def put(_: nn.Module, __: Any, output: Any) -> Any:
        return (rows[None], *output[1:]) if isinstance(output, tuple) else rows[None]

    hook = blocks_of(hf)[-1].register_forward_hook(put)
    try:
        return hf(input_ids=torch.tensor([ids]), **given)
    finally:
        hook.remove()
