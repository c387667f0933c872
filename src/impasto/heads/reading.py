"""From texts to what a head reads: one walk of the tree of plans gives it for all plans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel

from impasto.error import UserError
from impasto.plan import Plan
from impasto.run.calls import calling
from impasto.run.encoder.batches import Sentence
from impasto.run.encoder.sweep import sweep
from impasto.run.encoder_model import Encoder
from impasto.tasks.problem import Frozen

Text = tuple[str, str | None]


def tokenized(model: Encoder, texts: Sequence[Text], max_length: int) -> list[dict[str, Any]]:
    """Return the tokenizer's encodings; two texts are one sentence, the longer cut first.

    Raises:
        UserError: when the model came without a tokenizer.
    """
    if model.tokenizer is None:
        raise UserError(f"a problem is text, and {model!r} came without a tokenizer")
    most = min(max_length, model.max_positions or max_length)
    firsts = [first for first, _ in texts]
    seconds = [second or "" for _, second in texts]
    paired = any(second is not None for _, second in texts)
    read = model.tokenizer(firsts, *([seconds] if paired else []), truncation=True, max_length=most)
    return [{name: values[row] for name, values in read.items()} for row in range(len(texts))]


@dataclass(frozen=True)
class Reading:
    """What a head reads of texts, and how it is made.

    Attributes:
        model: The model.
        how: The protocol.
        pooler: The model's own pooler, where the head reads that.
    """

    model: Encoder
    how: Frozen
    pooler: nn.Module | None

    @classmethod
    def of(cls, model: Encoder, how: Frozen) -> "Reading":
        """Return how a protocol reads a model; raises UserError where it has no pooler."""
        return cls(model, how, pooler_of(model) if how.pooling == "pooler" else None)

    @torch.no_grad()
    def features(
        self,
        plans: Sequence[Plan],
        texts: Sequence[Text],
        progress: Callable[[float], None] = lambda share: None,
    ) -> Float[Tensor, "plans texts features"]:
        """Return what the head reads of each text under each plan."""
        apart = self.how.pairs == "apart" and any(second is not None for _, second in texts)
        if not apart:
            return self._pooled(plans, texts, progress)
        parts: list[Text] = [(first, None) for first, _ in texts]
        parts += [(second or "", None) for _, second in texts]
        u, v = self._pooled(plans, parts, progress).chunk(2, dim=1)
        return torch.cat([u, v, (u - v).abs(), u * v], 2)

    def width(self, paired: bool) -> int:
        """Return how many numbers a head reads of a text."""
        return self.model._opened.hidden * (4 if paired and self.how.pairs == "apart" else 1)

    def _pooled(
        self, plans: Sequence[Plan], texts: Sequence[Text], progress: Callable[[float], None]
    ) -> Float[Tensor, "plans texts hidden"]:
        opened, first_only = self.model._opened, self.how.pooling != "mean"
        sentences = []
        for read in tokenized(self.model, texts, self.how.max_length):
            ids = read["input_ids"]
            wanted = range(1 if first_only else len(ids))
            sentences.append(Sentence(ids, wanted, read.get("token_type_ids")))

        def pool(chosen: Sequence[int], states: Tensor) -> Tensor:
            counts = [len(sentences[index].wanted) for index in chosen]
            states = opened.end(states[None])[0]
            if self.pooler is not None:
                return self.pooler(states[:, None])
            if first_only:
                return states
            return torch.stack([rows.mean(0) for rows in states.split(counts)])

        found = torch.zeros(len(plans), len(texts), opened.hidden)
        with calling(self.model.hf):
            swept = sweep(opened, plans, sentences, pool, progress, self.model.memory)
            for plan, chosen, pooled in swept:
                found[plan, list(chosen)] = pooled.float().cpu()
        return found


def pooler_of(model: Encoder) -> nn.Module:
    """Return a model's pretrained pooler, where it is loaded or its checkpoint holds one.

    Raises:
        UserError: when there is none: then a head can read the mean of the states, or the first.
    """
    lacking = UserError(
        f"{model!r} has no pretrained pooler for the head to read; use pooling: mean or first"
    )
    place = model.hf.config.name_or_path
    if place:
        try:
            whole, found = AutoModel.from_pretrained(
                place, output_loading_info=True, use_safetensors=True, dtype=model.hf.dtype
            )
        except (OSError, ValueError, ImportError):
            whole, found = model.hf.base_model, {"missing_keys": ()}
    else:
        whole, found = model.hf.base_model, {"missing_keys": ()}
    pooler = getattr(whole, "pooler", None)
    if not isinstance(pooler, nn.Module) or any("pooler." in key for key in found["missing_keys"]):
        raise lacking
    return pooler.to(model.hf.device).eval()
