"""Write the golden answers anew: `python tests/golden/make.py`, when answers are meant to change.

First raise ENGINE_VERSION in src/impasto/engine_version.py, then run this and commit both.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

import golden_answers as golden  # noqa: E402
import torch  # noqa: E402

from impasto.engine_version import ENGINE_VERSION  # noqa: E402
from impasto.plan import Plan  # noqa: E402
from impasto.study.work.identity import LIBRARIES, versions  # noqa: E402

MARGIN = 2 * golden.TOLERANCE  # of the likeliest token over the next one, which rounding leaves


def main() -> None:
    """Write the file, unless an answer hangs on a hair."""
    torch.set_num_threads(1)
    answers = golden.answers()
    for name in golden.DECODERS:
        model = golden.decoder(name)
        for plan in golden.decoder_plans(name):
            for prompt, new in zip(
                golden.prompts(), answers[f"{name} | written | {plan}"], strict=True
            ):
                check_margins(model, plan, prompt, new)
    installed = versions()
    golden.write(ENGINE_VERSION, {library: installed[library] for library in LIBRARIES}, answers)
    print(f"{len(answers)} answers of engine {ENGINE_VERSION} in {golden.GOLDEN}")


def check_margins(model: Any, plan: Plan, prompt: list[int], new: list[int]) -> None:
    """Exit where a token was written that is hardly likelier than the next one."""
    for at in range(len(new)):
        ids = torch.tensor([[*prompt, *new[:at]]])
        likeliest, second = model.next_logits(plan, ids)[0].topk(2).values.tolist()
        if likeliest - second < MARGIN:
            sys.exit(f"{model} under {plan}: token {at} is likelier by {likeliest - second:.1e}")


if __name__ == "__main__":
    main()
