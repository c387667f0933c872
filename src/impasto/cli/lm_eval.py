"""lm-evaluation-harness's own command line, on a plan."""

import typer

from impasto.cli.app import app


@app.command(
    "lm-eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's command line on a plan: --model_args pretrained=M,plan="…"."""
    from impasto.lm_eval import run_command_line

    run_command_line(context.args)
