"""A census: every family of the installed transformers, small, opened and held to the reference.

Each family is one of: *exact*, opened and right on every plan that it runs; *wrong*, opened and
not; *refused*, with the reason; *crashed*, with something else than an error of this package;
*mute*, unable to read a text alone at all; *unbuilt*, without a small configuration here.

Run as a script, it prints a line a family: ``python tests/census.py CAUSAL_LM [model types]``.
"""

import inspect
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import impasto
import reference
from census_build import build, entries
from impasto import Plan
from impasto.error import UserError
from spellings import Spelling, whole

SECONDS = 120
LIMIT = 1e-4  # of the largest logit
IDS = [40, 41, 59, 26, 53, 58, 40, 93 - 10, 23, 84, 62, 64, 33, 83, 27, 44]
PLANS = {
    "identity": "0-3",
    "skip": "0 2-3",
    "skip of layer 0": "1-3",
    "reverse": "3-0",
    "repeat": "0 1 1 2-3",
    "parallel": "0 [1|2] 3",
    "mlp": "0 1.mlp 2-3",
    "attn": "0-2 3.attn",
    "freeze": "0-1 freeze 2-3",
    "noise": "0 noise(gaussian) 1-3",
    "mix": "0 [1 2.mlp | 3] freeze 2-3",
}
OF_DECODERS = {"is_decoder": True, "is_encoder_decoder": False}


@dataclass
class Found:
    """What became of a family."""

    model_type: str
    verdict: str
    reason: str = ""
    worst: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = f"; refused: {', '.join(self.refused)}" if self.refused else ""
        what = f"{self.worst:.0e}{parts}" if self.verdict in ("exact", "wrong") else ""
        return f"{self.verdict:8} {self.model_type:28} {what} {self.reason}".rstrip()


def look_at(model_type: str, kind: Any, **special: Any) -> Found:
    """Build a family small, open it, and hold it to the reference."""
    found = Found(model_type, "unbuilt")
    try:
        with _limited(SECONDS):
            hf = build(kind, **special)
            found.verdict = "mute"
            _reads_text(hf)
            found.verdict = "crashed"
            model = _opened(hf, found)
            if model is not None:
                found.verdict = "wrong"
                _compare(model, found)
    except _OutOfTime:
        found.reason = f"took more than {SECONDS} seconds"
    except Exception as error:
        found.reason = f"{found.reason} {_line(error)}"
    return found


def _reads_text(hf: Any) -> None:
    """Raise unless a model reads a text without anything beside it."""
    if getattr(hf, "generation_config", None) is not None:
        hf.generation_config = type(hf.generation_config)()
    with torch.no_grad():
        hf(input_ids=torch.tensor([IDS]))


def _opened(hf: Any, found: Found) -> Any:
    try:
        return impasto.load(hf)
    except UserError as error:
        found.verdict, found.reason = "refused", str(error).splitlines()[0]
        return None


def _compare(model: Any, found: Found) -> None:
    """Compare a decoder with the reference on every plan, in each way in which it can be asked."""
    hf = model.hf
    reference.spelling = lambda _: _spelt(model)
    with torch.no_grad():
        stock = hf(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
        _note(found, "stock", model.next_logits(Plan.parse("0-3"), torch.tensor([IDS]))[0], stock)
        for name, line in PLANS.items():
            try:
                _plan(model, Plan.parse(line, layers=4), found, name)
            except UserError as error:
                found.refused[name] = str(error)
    if not found.reason:
        found.verdict = "exact"


def _plan(model: Any, plan: Plan, found: Found, name: str) -> None:
    hf, pad = model.hf, torch.zeros(1, 3, dtype=torch.long)
    short, long = torch.tensor([IDS[:-3]]), torch.tensor([IDS])
    wanted = [reference.next_logits(hf, plan, ids) for ids in (IDS[:-3], IDS)]
    for side in ("right", "left"):
        padded = torch.cat([short, pad] if side == "right" else [pad, short], 1)
        ids, mask = torch.cat([padded, long]), torch.ones(2, len(IDS), dtype=torch.long)
        mask[0, slice(-3, None) if side == "right" else slice(3)] = 0
        mine = model.next_logits(plan, ids, mask)
        _note(found, f"{name}, padded {side}", mine, torch.stack(wanted))
    scores = model.loglikelihood([plan], [(IDS[:-4], IDS[-4:]), (IDS[:-4], IDS[2:5])])[0]
    for score, more in zip(scores, (IDS[-4:], IDS[2:5]), strict=True):
        total, _ = reference.score(hf, plan, IDS[:-4], more)
        _note(found, f"{name}, scored", torch.tensor([score[0]]), torch.tensor([total]))
    _generated(model, plan, found, name)


def _generated(model: Any, plan: Plan, found: Found, name: str) -> None:
    """Compare what is written, three tokens of it, also by Hugging Face under `apply`."""
    hf, prompt = model.hf, IDS[:-2]
    own = reference.generate(hf, plan, prompt, 3)
    if not _is_decided(hf, plan, prompt, own):
        return
    ids = torch.tensor([prompt])
    ways = {"generated": model.generate([plan], [prompt], 3)[0][0]}
    for cached in (True, False):
        with impasto.apply(hf, plan):
            written = hf.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False,
                use_cache=cached, pad_token_id=0, eos_token_id=None,
            )  # fmt: skip
        ways[f"applied, {'' if cached else 'un'}cached"] = written[0, len(prompt) :].tolist()
    for way, tokens in ways.items():
        if tokens != own:
            found.reason = found.reason or f"{name}: {way} {tokens}, not {own}"


def _is_decided(hf: Any, plan: Plan, prompt: list[int], own: list[int]) -> bool:
    """Whether no two logits tie for a token that is written."""
    for count in range(len(own)):
        logits = reference.next_logits(hf, plan, prompt + own[:count])
        first, second = logits.topk(2).values
        if first - second < 1e-3 * logits.abs().max():
            return False
    return True


def _note(found: Found, what: str, mine: torch.Tensor, wanted: torch.Tensor) -> None:
    apart = float((mine - wanted).abs().max() / wanted.abs().max().clamp(min=1))
    found.worst = max(found.worst, apart)
    if not apart <= LIMIT and not found.reason:
        found.reason = f"{what}: {apart:.1e}"


def _spelt(model: Any) -> Spelling:
    """Return a spelling in which a part is what a block adds while the other part gives zeros."""
    anatomy = model._opened.anatomy
    return Spelling(
        anatomy.path,
        attention=(partial(_adds, without=anatomy.mlp),),
        mlp=(partial(_adds, without=anatomy.attention),),
    )


def _adds(block: nn.Module, x: torch.Tensor, call: Any, without: tuple[str, ...]) -> torch.Tensor:
    def nothing(module: nn.Module, args: Any, given: Any, output: Any) -> Any:
        is_bare = isinstance(output, torch.Tensor)
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        residual = (dict(zip(names, args, strict=False)) | given).get("residual")
        zeros = torch.zeros_like(output if is_bare else output[0]) if residual is None else residual
        return zeros if is_bare else (zeros, *output[1:])

    inside = dict(block.named_modules())
    hooks = [
        inside[name].register_forward_hook(nothing, with_kwargs=True)
        for name in without
        if name in inside
    ]
    try:
        return whole(block, x, call) - x
    finally:
        for hook in hooks:
            hook.remove()


class _OutOfTime(BaseException):
    pass


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = None if trace is None else trace.tb_frame.f_code.co_filename
    where = "" if trace is None or code is None else f" ({Path(code).name}:{trace.tb_lineno})"
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}{where}"[:300]


def main(mapping: str, *only: str) -> None:
    """Print a line a family, and how many there are of each verdict."""
    special = OF_DECODERS if mapping == "CAUSAL_LM" else {}
    counts: Counter[str] = Counter()
    for model_type, kind in entries(mapping):
        if not only or model_type in only:
            found = look_at(model_type, kind, **special)
            counts[found.verdict] += 1
            print(found, flush=True)
    print(mapping, dict(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
