"""What a model would say if it ended at each depth of a plan: the logit lens.

The state of every token, as the current one, goes through the final norm and the head at every
depth. The last depth gives what the plan really predicts; those before it, what can already be
read off by the same head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.plan import Plan
from impasto.plan.spelling import spell
from impasto.plan.steps import Layer, Parallel
from impasto.run.batching.donors import Donors
from impasto.run.batching.tokenisation import Prompt
from impasto.run.calls import calling
from impasto.run.decoder import Model
from impasto.run.generate.greedy import predict
from impasto.run.inputs import checked_plan, checked_prompts
from impasto.run.opening import admit


@dataclass(frozen=True)
class Lens:
    """The likeliest next token after every token of a text, read off at every depth of a plan.

    Attributes:
        tokens: The text's tokens, each as text.
        depths: What ran before each depth, as a plan has it: `embeddings`, `0`, `1`, `[2|3]`, …
        likeliest: By depth and token, the likeliest next token, as text.
        probability: By depth and token, its probability.
    """

    tokens: list[str]
    depths: list[str]
    likeliest: list[list[str]]
    probability: list[list[float]]


@torch.no_grad()
def lens(
    model: Model,
    plan: Plan,
    texts: Sequence[Prompt],
    donors: Donors = None,
    last: int | None = None,
) -> list[Lens]:
    """Return, per text, what would be read off at each depth; raises as `Model.hidden_states`.

    Only the `last` tokens of each text are read off, all of them where it is None; all are read.
    """
    with calling(model.hf):
        ids = [model._reader.prompt(text) if isinstance(text, str) else [*text] for text in texts]
        states = model.hidden_states(plan, ids if donors is None else texts, donors)
        if last is not None:
            ids = [tokens[-last:] for tokens in ids]
            states = [of_text[:, -last:] for of_text in states]
        states = torch.cat(states, 1)
        likeliest, probability = [], []
        for at_depth in states:  # one depth at a time: logits of all would be depths × vocab
            log_p = model._opened.leave(at_depth).log_softmax(-1, dtype=torch.float32)
            best = log_p.max(-1)
            likeliest.append(best.indices.tolist())
            probability.append(best.values.exp().tolist())
    said = {token: model.tokenizer.decode([token]) for row in (*ids, *likeliest) for token in row}
    depths, first, found = list(_depths(plan)), 0, []
    for tokens in ids:
        part = slice(first, first + len(tokens))
        words = [[said[token] for token in row[part]] for row in likeliest]
        shares = [row[part] for row in probability]
        found.append(Lens([said[token] for token in tokens], depths, words, shares))
        first += len(tokens)
    return found


@torch.no_grad()
def next_tokens(
    model: Model, plan: Plan, text: Prompt, donors: Donors = None
) -> Float[Tensor, "vocab"]:
    """Return the log-probability of every token as the one after a text; raises as `generate`."""
    with calling(model.hf):
        admit(model._opened, checked_plan(plan))
        [text] = checked_prompts([text])
        requests = model._requests([plan], [text], [model._reader.prompt(text)], donors)
        [logits] = predict(model._opened, plan, requests)
        return logits.log_softmax(-1, dtype=torch.float32)


def _depths(plan: Plan) -> Iterator[str]:
    yield "embeddings"
    yield from (spell((step,)) for step in plan.steps if isinstance(step, Layer | Parallel))
