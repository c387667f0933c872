"""What to do next, as commands to copy."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from impasto.analysis.best import command_for
from impasto.analysis.findings import Findings
from impasto.figures.found import Found


def commands_of(found: Found, shows: Findings) -> Iterator[tuple[str, str]]:
    """Yield what for, and the command."""
    assert found.results is not None
    model, folder = found.results.study.model, str(found.folder or Path("OUT"))
    best = next((one for one in shows.best if one.holds), None)
    if best is not None and best.plan is not None:
        command, is_made = command_for(best.plan, model)
        yield "Make a model of the recommended plan" if is_made else "Run it", command
    if shows.best:
        command = ["impasto", "results", folder, "--within", "3%"]
        yield "Which plan to take for another loss", shlex.join(command)
    made = str(found.results.run.get("command", ""))
    if made.startswith("impasto run"):
        yield "Run the study again: what is there already is not run anew", made
    table = ["impasto", "results", folder, "--format", "csv", "--to", "results.csv"]
    yield "All results as one table", shlex.join(table)
    figures = ["impasto", "figures", folder, "--format", "pdf", "--width", "8.8cm"]
    yield "The figures for a paper, a column wide", shlex.join(figures)
    if best is not None and best.plan is not None and not best.plan.healed:
        command = ["impasto", "heal", "--model", model, "--plan", best.plan.plan]
        yield "Win back what that plan lost", shlex.join([*command, "--texts", "FILE", "HEALED"])
