"""What a page asks: a prompt and a plan. It is an address of the page, and a command."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.run import Donor

TOKENS = 24  # that are written at the most, unless the user says otherwise


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page asks.

    Attributes:
        prompt: What the model reads.
        plan: The plan's line, as it was typed.
        tokens: How many tokens are written at the most.
        donor: The prompt that states are injected from, where the plan injects.
        donor_span: The donor's text that is injected.
        target_span: The prompt's text that it replaces.
    """

    prompt: str
    plan: str
    tokens: int = TOKENS
    donor: str = ""
    donor_span: str = ""
    target_span: str = ""

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "Asked":
        """Return what a page sent; raises UserError for what is no question."""
        given = {one.name: value[one.name] for one in fields(cls) if one.name in value}
        for name, text in given.items():
            if not isinstance(text, str) and name != "tokens":
                raise UserError(f"{name} is a text, not {shown(text)}")
        tokens = str(given.get("tokens", TOKENS)).strip()
        if not (tokens.isascii() and tokens.isdigit() and 1 <= len(tokens) <= 6 and int(tokens)):
            raise UserError(f"tokens is a whole number from 1, not {shown(tokens)}")
        return cls(**{"prompt": "", "plan": "", **given, "tokens": int(tokens)})

    @classmethod
    def of_address(cls, query: str, usual: "Asked") -> "Asked":
        """Return what an address's query asks; what it does not say is as usual."""
        said = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
        own = {one.name: getattr(usual, one.name) for one in fields(cls)}
        return cls.read(own | {name: text for name, text in said.items() if name in own})

    @property
    def address(self) -> str:
        """The query of the page's address that opens it with the same."""
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        if not Plan.parse(self.plan).injections:
            said = {name: said[name] for name in ("prompt", "plan", "tokens")}
        return f"?{urlencode(said)}"

    def command(self, model: str, loading: Sequence[str] = ()) -> str:
        """Return the command that prints the same; `loading` are its words on how to load."""
        plan = Plan.parse(self.plan)
        words = ["--model", model, "--plan", str(plan), "--max-new-tokens", str(self.tokens)]
        if plan.injections:
            words += ["--donor", self.donor, "--donor-span", self.donor_span]
            words += ["--target-span", self.target_span]
        words += loading
        is_option = self.prompt.startswith("-")
        words = [*words, "--", self.prompt] if is_option else [self.prompt, *words]
        return shlex.join(["impasto", "generate", *words])

    @property
    def donors(self) -> dict[str, Donor] | None:
        """The donor of every name that the plan injects; None for a plan that does not.

        Raises UserError where it is not said.
        """
        injections = Plan.parse(self.plan).injections
        if not injections:
            return None
        if not (self.donor and self.donor_span and self.target_span):
            raise UserError(
                "this plan injects: say the donor prompt, its text to inject, and the prompt's "
                "text that it replaces"
            )
        donor = Donor(self.donor, donor_span=self.donor_span, target_span=self.target_span)
        return dict.fromkeys(injections, donor)
