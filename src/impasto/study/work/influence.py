"""Block influence: how much each layer of a model changes the states of texts.

ShortGPT (arXiv 2403.03853, section 3.1) drops the layers that change states least: a layer's
influence is the mean over tokens of 1 − cosine of its input and its output.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from impasto.plan import Plan

if TYPE_CHECKING:
    from impasto.run import Model

PIECE = 512  # tokens that are read at once where nobody says


def block_influence(
    model: "Model", texts: Sequence[Sequence[int]], length: int | None = None
) -> list[float]:
    """Return each layer's influence on the tokens of some texts, given as token ids.

    Texts are read in pieces of `length` tokens, one by one.
    """
    from torch.nn.functional import cosine_similarity

    longest = model.max_positions
    size = min(length or PIECE, longest or PIECE)
    identity = Plan.identity(model.num_layers)
    sums, tokens = [0.0] * model.num_layers, 0
    for text in texts:
        for begin in range(0, len(text), size):
            [states] = model.hidden_states(identity, [list(text[begin : begin + size])])
            states = states.double()
            alike = cosine_similarity(states[:-1], states[1:], dim=-1).sum(1)
            tokens += states.shape[1]
            sums = [
                total + states.shape[1] - float(each)
                for total, each in zip(sums, alike, strict=True)
            ]
    return [total / tokens for total in sums]
