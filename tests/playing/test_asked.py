"""What a page asks is an address that opens it again, and a command that prints the same."""

import shlex
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.error import UserError
from impasto.plan import Plan
from impasto.playing.asked import Asked
from plan.plan_samples import plans

USUAL = Asked("some prompt", "0-11")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(plans, texts, st.integers(1, 999), texts, texts, texts)
def test_an_address_opens_the_page_with_the_same(plan, prompt, tokens, donor, span, target):
    asked = Asked(prompt, str(plan), tokens, donor, span, target)
    again = Asked.of_address(asked.address, USUAL)
    assert (again.prompt, again.plan, again.tokens) == (prompt, str(plan), tokens)
    if plan.injections:
        assert again == asked


def test_what_an_address_does_not_say_is_as_usual():
    assert Asked.of_address("", USUAL) == USUAL
    assert Asked.of_address("?__theme=dark&plan=0-3", USUAL) == Asked("some prompt", "0-3")
    assert parse_qs(Asked("", "0").address[1:], keep_blank_values=True)["prompt"] == [""]


@pytest.mark.parametrize("tokens", ["0", "-1", "many", "1.5", "²", "1" * 40, ""])
def test_tokens_that_are_no_number_are_refused(tokens):
    with pytest.raises(UserError, match="tokens is a whole number from 1"):
        Asked.of_address(f"?tokens={tokens}", USUAL)


def test_a_value_that_is_no_text_is_refused():
    with pytest.raises(UserError, match="prompt is a text"):
        Asked.read({"prompt": 3})


@settings(max_examples=50, deadline=None)
@given(texts)
def test_a_command_holds_its_prompt_whatever_it_is(prompt):
    asked = Asked(prompt, "0-3 [4-5]*2 6-11")
    words = shlex.split(asked.command("demo", ["--dtype", "float32"]))
    assert words[:2] == ["impasto", "generate"]
    assert words.count(prompt) >= 1
    options = words[2:] if prompt.startswith("-") else words[3:]
    assert options[:4] == ["--model", "demo", "--plan", "0-3 [4-5]*2 6-11"]
    assert ("--" in words) == prompt.startswith("-") or prompt == "--"


def test_a_plan_that_injects_needs_its_donor():
    plan = "inject(donor) 0-11"
    with pytest.raises(UserError, match="say the donor prompt"):
        _ = Asked("France", plan).donors
    asked = Asked("France", plan, donor="Italy", donor_span="Italy", target_span="France")
    assert asked.donors is not None
    assert list(asked.donors) == ["donor"]
    assert "--donor Italy --donor-span Italy --target-span France" in asked.command("demo")
    assert Asked("France", str(Plan.identity(12))).donors is None
