"""What the commands hang on: one message for each mistake, and libraries that keep silent.

A user's mistake ends in one message on stderr and exit code 2.
"""

import logging
import os
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from impasto.cli.overview import overview
from impasto.error import ImpastoError
from impasto.screen import shown
from impasto.signals import interruptible

USER_ERROR, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """The commands, with every mistake answered in one place."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a user's mistake is a message, never a traceback.

        What ends a process (SIGTERM, or SIGHUP where a terminal is closed) is as Ctrl-C here.
        """
        with shown(), interruptible():
            try:
                return super().invoke(ctx)
            except ImpastoError as error:
                typer.echo(f"impasto: {error}", err=True)
                raise typer.Exit(USER_ERROR) from None
            except KeyboardInterrupt:
                typer.echo("impasto: interrupted", err=True)
                raise typer.Exit(INTERRUPTED) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands in the order of use, each with an example."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        summaries = {
            name: (command.help or "").partition("\n\n")[0].replace("\n", " ")
            for name, command in commands.items()
            if command is not None
        }
        formatter.write_paragraph()
        formatter.write("".join(f"{line}\n" for line in overview(summaries)))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run any pretrained transformer the way you write it down.",
)


def main() -> None:
    """Run the command line; what the script `impasto` calls."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"impasto {version('impasto')}")
        raise typer.Exit


@app.callback()
def _impasto(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run any pretrained transformer the way you write it down."""
    _prepare_libraries()


# Loggers that warn of every kernel that a machine lacks, and of every call of a rounded layer.
_TALKATIVE = ("torchao", "torch.utils._pytree", "bitsandbytes")


def _prepare_libraries() -> None:
    """Keep what libraries print while loading off the screen, and their threads from spinning.

    OpenMP's threads wait for each other by spinning. On a machine that is busy with anything else
    that makes small models ten times slower, so they are to give up soon.
    """
    for name, value in (
        ("GOMP_SPINCOUNT", "30000"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_VERBOSITY", "error"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
