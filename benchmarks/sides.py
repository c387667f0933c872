"""A process that runs one version of impasto beside another's, and answers line by line."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Side:
    """A script that runs with a version's ``src`` first on the path.

    It reads what it is asked on stdin, and answers in a line that begins with ``> ``; any other
    line is a library's. What is asked first, `where`, is answered by the file of its package.
    """

    def __init__(self, words: Sequence[str], source: Path, where: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(source.resolve())} | environment,
        )
        at = self.asked(where).strip('"')
        assert Path(at).is_relative_to(source.resolve()), f"{source} runs {at}"

    def asked(self, what: str) -> str:
        """Return the answer to a line; ends this process where the other one has ended."""
        assert self.process.stdin, "it has one"
        assert self.process.stdout, "it has one"
        print(what, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise SystemExit(f"a process ended with {self.process.wait()}")
