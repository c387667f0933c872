"""`python -m impasto.cli` is the command `impasto`."""

from impasto.cli import main

main()
