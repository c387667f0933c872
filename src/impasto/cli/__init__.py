"""The command line, one module for each topic: read what was asked, call, print.

`app` is what the commands hang on, with every mistake answered in one place; `options` are those
that several commands take. What is slow to import (torch, transformers, matplotlib) is imported
only once everything that can be checked without it was.
"""

from impasto.cli import (  # noqa: F401  (their commands)
    bench,
    doctor,
    explain,
    export,
    figures,
    generate,
    heal,
    lm_eval,
    models,
    play,
    results,
    run,
    search,
    studies,
)
from impasto.cli.app import app, main

__all__ = ["app", "main"]
