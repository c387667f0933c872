"""Donors: whose states ``inject`` sets in place of a prompt's own.

Paper A (arXiv 2409.03621), section 5: the states of one country's tokens, set at depth k to those
of another country's in another prompt. Spans of several tokens are aligned at their last token,
one to one, over the shorter length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.error import UserError
from impasto.model.opened import OpenedModel
from impasto.plan import Plan
from impasto.run.rows import first_batch
from impasto.run.text import Prompt, Reader
from impasto.run.tree import DonorRun
from impasto.run.walk import Splice, Walker

Span = str | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Donor:
    """A prompt whose states are injected.

    Attributes:
        prompt: The donor prompt, text or token ids.
        donor_span: Which of its tokens give their states: a half-open token range, or a text that
            occurs once in the prompt.
        target_span: Which tokens of the request receive them.
    """

    prompt: Prompt
    donor_span: Span
    target_span: Span


Donors = Mapping[str, Donor] | Sequence[Mapping[str, Donor]] | None


def donors_by_request(
    donors: Donors, count: int, plans: Sequence[Plan]
) -> list[Mapping[str, Donor]]:
    """Return one mapping for each request, once all that the plans inject is bound.

    Raises:
        UserError: when a name that a plan injects is bound to no donor.
    """
    if donors is None or isinstance(donors, Mapping):
        each: list[Mapping[str, Donor]] = [donors or {}] * count
    else:
        each = list(donors)
    if len(each) != count:
        raise UserError(f"{len(each)} mappings of donors for {count} requests; give one for each")
    for name in dict.fromkeys(name for plan in plans for name in plan.injections):
        for row, mapping in enumerate(each):
            if name not in mapping:
                known = ", ".join(map(repr, mapping)) or "none"
                raise UserError(
                    f"inject({name}) is bound to no donor for request {row} (bound: {known}); "
                    f"pass donors={{{name!r}: Donor(prompt, donor_span, target_span)}}"
                )
    return each


@dataclass(frozen=True, slots=True)
class Transplant:
    """A donor read: its tokens, and which of its rows go to which rows of the request."""

    ids: tuple[int, ...]
    source: range
    target: range


def read_donor(reader: Reader, donor: Donor, prompt: Prompt) -> Transplant:
    """Find a donor's spans.

    Raises:
        UserError: when a span does not exist.
    """
    source = reader.find(donor.prompt, donor.donor_span, "the donor span")
    target = reader.find(prompt, donor.target_span, "the target span")
    width = min(len(source), len(target))
    return Transplant(tuple(reader.prompt(donor.prompt)), source[-width:], target[-width:])


def donor_run(
    model: OpenedModel,
    transplants: Sequence[Transplant],
    lengths: Sequence[int],
    cut: Sequence[int] | None = None,
) -> DonorRun:
    """Return the donors of a batch, ready to be walked beside it.

    Args:
        model: The model.
        transplants: One for each sequence.
        lengths: The tokens of each sequence. Targets that lie past them fall away.
        cut: How many tokens each sequence lost at its left end; targets there fall away too.
    """
    batch = first_batch(
        [list(t.ids) for t in transplants],
        [range(len(t.ids) - 1, len(t.ids)) for t in transplants],
        model.device,
    )
    width = max(len(t.target) for t in transplants)

    def padded(spans: Sequence[range]) -> Int[Tensor, "batch width"]:
        rows = [[*span, *[-1] * (width - len(span))] for span in spans]
        return torch.tensor(rows, device=model.device)

    lost = torch.tensor(cut or [0] * len(transplants), device=model.device)
    ends = torch.tensor(lengths, device=model.device)[:, None]
    target = padded([t.target for t in transplants])
    at = target - lost[:, None]
    splice = Splice(
        target=at.clamp(min=0),
        source=padded([t.source for t in transplants]).clamp(min=0),
        is_real=(target >= 0) & (at >= 0) & (at < ends),
    )
    return DonorRun(Walker(model, batch), splice)
