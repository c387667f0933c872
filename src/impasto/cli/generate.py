"""Answering: what a model makes of a prompt or of masks under a plan, beside the unchanged one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from impasto.cli.app import app
from impasto.cli.options import DeviceOption, DtypeOption, ModelOption, PlanOption, load_model
from impasto.error import UserError

if TYPE_CHECKING:
    from impasto.plan import Plan
    from impasto.run import Donor


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the model reads.")],
    plan: PlanOption,
    model: ModelOption = "demo",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="The longest answer.")
    ] = 16,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", help=r"Text that ends the answer; \n is a newline. May be repeated."
        ),
    ] = None,
    donor: Annotated[
        str | None, typer.Option("--donor", help="For inject(donor): the prompt injected from.")
    ] = None,
    donor_span: Annotated[
        str | None, typer.Option("--donor-span", help="The donor's text that is injected.")
    ] = None,
    target_span: Annotated[
        str | None, typer.Option("--target-span", help="The prompt's text that it replaces.")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Continue a prompt under a plan, beside the unchanged model."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    donors = _donors(parsed, donor, donor_span, target_span)
    opened = load_model(model, device, dtype)
    tell_appending(opened)
    baseline = opened.baseline
    stops = [text.replace(r"\n", "\n") for text in stop or []]
    [plain], [edited] = opened.generate(
        [baseline, parsed], [prompt], max_new_tokens=max_new_tokens, stop=stops, donors=donors
    )
    _show_answers([("baseline", baseline, plain), ("plan", parsed, edited)])


@app.command()
def fill(
    text: Annotated[str, typer.Argument(help="What the encoder reads, with its mask token in it.")],
    plan: PlanOption,
    model: Annotated[str, typer.Option("--model", help="A hub id, or a folder with an encoder.")],
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Fill in the masks of a text under a plan, beside the unchanged encoder."""
    from impasto.plan import Plan

    parsed = Plan.parse(plan)
    opened = load_model(model, device, dtype)
    baseline = opened.baseline
    [plain], [edited] = opened.fill([baseline, parsed], [text])
    _show_answers([("baseline", baseline, "\n".join(plain)), ("plan", parsed, "\n".join(edited))])


def _donors(
    plan: "Plan", prompt: str | None, donor_span: str | None, target_span: str | None
) -> "dict[str, Donor] | None":
    """Return the donor for every name that the plan injects; raises UserError if it is missing."""
    given = (prompt, donor_span, target_span)
    if not plan.injections and not any(given):
        return None
    if not plan.injections:
        raise UserError("--donor is for plans that inject; this one does not")
    if prompt is None or donor_span is None or target_span is None:
        raise UserError(
            "a plan that injects needs --donor PROMPT, --donor-span TEXT and --target-span TEXT"
        )
    from impasto.run import Donor

    donor = Donor(prompt, donor_span=donor_span, target_span=target_span)
    return dict.fromkeys(plan.injections, donor)


def tell_appending(model: Any) -> None:
    """Say, in place of the model's own warning, that its tokenizer appends special tokens."""
    from impasto.run.batching.tokenisation import LEFT_OUT, appending_notice

    appended = getattr(model, "appended", ())
    if appended:
        notice = appending_notice(model.tokenizer, appended, LEFT_OUT)
        typer.echo(f"impasto: {notice}", err=True)
        model.appending_is_known = True


def _show_answers(answers: "list[tuple[str, Plan, str]]") -> None:
    """Print each plan's answer under its line."""
    for label, plan, text in answers:
        typer.echo(f"{label}: {plan}")
        for line in text.strip("\n").split("\n"):
            typer.echo(f"    {line}")
