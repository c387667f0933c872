"""Donors: prompts whose states ``inject`` sets in place of those of a request.

Paper A (arXiv 2409.03621), section 5: the states of one country's tokens, set at depth k to those
of another country's in another prompt. Spans of several tokens are aligned at their last token,
one to one, over the shorter length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.run.batching.padding import padded
from impasto.run.batching.request import Transplant
from impasto.run.batching.tokenisation import Prompt, Reader
from impasto.run.inputs import checked_prompt, checked_span

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

    def __post_init__(self) -> None:
        """Check the prompt and the spans; raise UserError for what is none."""
        given = {
            "prompt": checked_prompt(self.prompt, "a donor's prompt"),
            "donor_span": checked_span(self.donor_span, "donor_span"),
            "target_span": checked_span(self.target_span, "target_span"),
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)


Donors = Mapping[str, Donor] | Sequence[Mapping[str, Donor]] | None


def donors_by_request(
    donors: Donors, count: int, plans: Sequence[Plan]
) -> list[Mapping[str, Donor]]:
    """Return one mapping from names to donors for each request.

    Args:
        donors: As the caller gives them: one mapping for all requests, or one for each.
        count: How many requests there are.
        plans: The plans, for which every name that they inject must be bound.

    Raises:
        UserError: when a name that a plan injects is bound to no donor.
    """
    if donors is None or isinstance(donors, Mapping):
        by_request: list[Mapping[str, Donor]] = [donors or {}] * count
    elif isinstance(donors, Sequence) and all(isinstance(bound, Mapping) for bound in donors):
        by_request = list(donors)
    else:
        raise UserError(
            f"donors is a mapping such as {{'donor': Donor(prompt, donor_span, target_span)}}, or "
            f"a list with one for each request, not {shown(donors)}"
        )
    if len(by_request) != count:
        raise UserError(
            f"{len(by_request)} mappings of donors for {count} requests; give one for each"
        )
    for name in dict.fromkeys(name for plan in plans for name in plan.injections):
        for row, mapping in enumerate(by_request):
            if name not in mapping:
                known = ", ".join(map(repr, mapping)) or "none"
                raise UserError(
                    f"inject({name}) is bound to no donor for request {row} (bound: {known}); "
                    f"pass donors={{{name!r}: Donor(prompt, donor_span, target_span)}}"
                )
            if not isinstance(mapping[name], Donor):
                raise UserError(
                    f"{name} is bound to {shown(mapping[name])}, which is no donor; write "
                    f"{{{name!r}: Donor(prompt, donor_span, target_span)}}"
                )
    return by_request


def read_donor(reader: Reader, donor: Donor, prompt: Prompt, read: range) -> Transplant:
    """Return a donor's token ids, and which of them give their states to which of a request's.

    Args:
        reader: Reads text.
        donor: The donor.
        prompt: The request's prompt, in which the target span lies.
        read: The tokens of the request that the model reads. Targets outside fall away.

    Raises:
        UserError: when a span does not exist.
    """
    source = reader.find(donor.prompt, donor.donor_span, "the donor span")
    target = reader.find(prompt, donor.target_span, "the target span")
    count = min(len(source), len(target))
    pairs = zip(source[-count:], target[-count:], strict=True)
    rows = tuple((given, row - read.start) for given, row in pairs if row in read)
    return Transplant(tuple(reader.prompt(donor.prompt)), rows)


@dataclass(frozen=True)
class Splice:
    """Rows to be set to rows of a donor prompt.

    Attributes:
        source: For each new token, the donor's row (by index) that replaces its own; −1 for none.
    """

    source: Int[Tensor, "batch new"]


def splice(
    transplants: Sequence[Transplant],
    donor_prefix: int,
    prefix: int,
    new: int,
    device: torch.device,
) -> Splice:
    """Return the rows of a batch that donors replace, and those of the donors that replace them.

    Args:
        transplants: One for each sequence.
        donor_prefix: How many leading tokens of all donors are read apart, as a prefix.
        prefix: How many leading tokens of all sequences of the batch are.
        new: How many tokens each sequence has behind its prefix, padding included.
        device: Where the indices go.
    """
    sources = [[-1] * new for _ in transplants]
    for row, transplant in zip(sources, transplants, strict=True):
        for source, target in transplant.rows:
            if target >= prefix:
                row[target - prefix] = source - donor_prefix
    return Splice(padded(sources, -1, device)[0])
