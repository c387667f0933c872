"""Donors: whose states ``inject`` sets in place of a prompt's own.

Paper A (arXiv 2409.03621), section 5: the states of one country's tokens, set at depth k to those
of another country's in another prompt. Spans of several tokens are aligned at their last token,
one to one, over the shorter length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.run.batching.padding import padded
from impasto.run.batching.request import Transplant
from impasto.run.batching.tokenisation import Prompt, Reader
from impasto.run.execute.executor import Splice
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
        """Refuse what is no prompt and what is no span."""
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
    """Return one mapping for each request, once all that the plans inject is bound.

    Raises:
        UserError: when a name that a plan injects is bound to no donor.
    """
    if donors is None or isinstance(donors, Mapping):
        each: list[Mapping[str, Donor]] = [donors or {}] * count
    elif isinstance(donors, Sequence) and all(isinstance(bound, Mapping) for bound in donors):
        each = list(donors)
    else:
        raise UserError(
            f"donors is a mapping such as {{'donor': Donor(prompt, donor_span, target_span)}}, or "
            f"a list with one for each request, not {shown(donors)}"
        )
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
            if not isinstance(mapping[name], Donor):
                raise UserError(
                    f"{name} is bound to {shown(mapping[name])}, which is no donor; write "
                    f"{{{name!r}: Donor(prompt, donor_span, target_span)}}"
                )
    return each


def read_donor(reader: Reader, donor: Donor, prompt: Prompt, read: range) -> Transplant:
    """Find a donor's spans.

    Args:
        reader: Reads text.
        donor: The donor.
        prompt: The request that its target span lies in.
        read: The tokens of the request that the model reads. Targets outside fall away.

    Raises:
        UserError: when a span does not exist.
    """
    source = reader.find(donor.prompt, donor.donor_span, "the donor span")
    target = reader.find(prompt, donor.target_span, "the target span")
    width = min(len(source), len(target))
    pairs = zip(source[-width:], target[-width:], strict=True)
    rows = tuple((given, row - read.start) for given, row in pairs if row in read)
    return Transplant(tuple(reader.prompt(donor.prompt)), rows)


def splice(
    transplants: Sequence[Transplant], donor_shared: int, shared: int, device: torch.device
) -> Splice:
    """Return the rows of a batch that donors replace.

    Args:
        transplants: One for each sequence.
        donor_shared: How many leading tokens the donors read together.
        shared: The same of the batch.
        device: Where the indices go.
    """
    targets = [[row - shared for _, row in t.rows] for t in transplants]
    sources = [[given - donor_shared for given, _ in t.rows] for t in transplants]
    (target, _), (source, _) = (padded(rows, -1, device) for rows in (targets, sources))
    return Splice(target.clamp(min=0), source.clamp(min=0), is_real=target >= 0)
