"""A GGUF file run by llama.cpp itself, where that is installed, against the plan's logits.

llama.cpp is reached by llama-cpp-python, or by node-llama-cpp where ``node`` finds it from the
current folder. It runs in a process of its own.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from impasto.exporting.error import ExportError
from impasto.exporting.gguf.splits import SAMPLES

PYTHON, NODE = "llama-cpp-python", "node-llama-cpp"
HERE = Path(__file__).parent
SECONDS = 600
# Differences that are rounding, relative to the largest logit, by the type of the weights.
LIMITS = {"f32": 1e-4, "f16": 2e-2, "bf16": 5e-2, "q8_0": 1e-1}
GELU_LIMIT = 1e-2  # llama.cpp looks GELU up in a table of f16
_IMPROBABLE = -60.0  # log-probabilities below are not compared: f32 holds no such probability


@dataclass(frozen=True)
class Wanted:
    """What llama.cpp is to give.

    Attributes:
        ids: A text; its last tokens are read one by one.
        logits: The plan's logits after each of its tokens.
        one_by_one: How many tokens are.
        samples: The tokenizer's tokens of each of ``SAMPLES``.
        limit: The largest difference that is rounding, relative to the largest logit.
    """

    ids: list[int]
    logits: Tensor
    one_by_one: int
    samples: list[list[int]]
    limit: float


@dataclass(frozen=True)
class Ran:
    """What llama.cpp gave.

    Attributes:
        by: How it was reached.
        difference: The largest difference from the plan's logits, relative to the largest.
        same: On how many of ``SAMPLES`` it reads the tokenizer's tokens.
    """

    by: str
    difference: float
    same: int

    def __str__(self) -> str:
        """Return what was checked, in a sentence."""
        tokens = f"it reads the tokenizer's tokens on {self.same} of {len(SAMPLES)} texts"
        return (
            f"run by llama.cpp ({self.by}), its logits are the plan's (difference "
            f"{self.difference:.1e}); {tokens}"
        )


NOT_RUN = (
    f"not run: llama.cpp is not installed (pip install {PYTHON}, or npm install {NODE}); "
    "what it makes of the file is not known"
)


def run_in_llama_cpp(file: Path, wanted: Wanted) -> Ran | None:
    """Run a file in llama.cpp; None where that is not installed.

    Raises:
        ExportError: when it does not load, or gives other logits or tokens.
    """
    reader = _reader()
    if reader is None:
        return None
    by, place = reader
    logits, tokens = _asked(by, place, file, wanted)
    own = wanted.logits.float()
    if by == NODE:
        own = own.log_softmax(-1)
        own, logits = own.clamp(min=_IMPROBABLE), logits.clamp(min=_IMPROBABLE)
    difference = float((logits - own).abs().max() / wanted.logits.float().abs().max())
    if not difference <= wanted.limit:
        raise ExportError(
            f"llama.cpp ({by}) does not give the plan's logits for what was written (relative "
            f"difference {difference:.1e}, allowed {wanted.limit:.0e}); nothing was kept"
        )
    same = sum(ids == other for ids, other in zip(wanted.samples, tokens, strict=True))
    if same < 0.9 * len(SAMPLES):
        raise ExportError(
            f"llama.cpp ({by}) reads the tokenizer's tokens on {same} of {len(SAMPLES)} texts "
            "only; nothing was kept"
        )
    return Ran(by, difference, same)


def _reader() -> tuple[str, str] | None:
    """Return how llama.cpp can be reached, and where; None where it is not installed."""
    if find_spec("llama_cpp") is not None:
        return PYTHON, ""
    node = shutil.which("node")
    if node is None:
        return None
    try:
        there = subprocess.run(
            [node, "--input-type=module", "-e", _RESOLVING],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (NODE, there.stdout.strip()) if there.returncode == 0 else None


_RESOLVING = """
const place = import.meta.resolve("node-llama-cpp");
await import(place);
console.log(place);
process.exit(0);
"""


def _asked(by: str, place: str, file: Path, wanted: Wanted) -> tuple[Tensor, list[list[int]]]:
    """Return the logits after each token, and the tokens of each sample."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", str(HERE / "ask_llama_cpp.py")]
        if by == NODE:
            script = Path(folder, "ask.mjs")
            shutil.copyfile(HERE / "ask_llama_cpp.js", script)
            command = [str(shutil.which("node")), str(script), place]
        logits = Path(folder, "logits")
        question: dict[str, Any] = {
            "file": str(file),
            "ids": wanted.ids,
            "one_by_one": wanted.one_by_one,
            "texts": SAMPLES,
            "logits": str(logits),
        }
        try:
            answer = subprocess.run(
                command,
                input=json.dumps(question),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"llama.cpp ({by}) gives no answer: {error}") from None
        if answer.returncode != 0:
            lines = [line for line in answer.stderr.splitlines() if line.strip()]
            raise ExportError(
                f"llama.cpp ({by}) does not run what was written: "
                f"{lines[-1] if lines else f'it ended with {answer.returncode}'}"
            )
        values = np.fromfile(logits, dtype=np.float32).reshape(len(wanted.ids), -1)
        tokens = json.loads(answer.stdout.splitlines()[-1])["tokens"]
    return torch.from_numpy(values), tokens
