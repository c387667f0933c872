"""A census: every family of the installed transformers, small, opened and held to the reference.

Each family is one of: *exact*, opened and right on every plan that it runs; *wrong*, opened and
not; *refused*, with the reason; *crashed*, with something else than an error of this package;
*unbuilt*, without a small configuration here.

``python tests/census.py CAUSAL_LM llama gpt2`` prints a line for each of these families, without
names for all; ``python tests/census.py --write`` writes the table that ``impasto models`` prints,
or with names of mappings (and of families) behind it their rows alone.
"""

import csv
import inspect
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from impasto.model.structure.families import TABLE, Counted, counted
from impasto.run.opening import admit
from spellings import Spelling, whole

SECONDS = 600
LIMIT = 1e-4  # of the largest logit
IDS = [40, 41, 59, 26, 53, 58, 40, 93 - 10, 23, 84, 62, 64, 33, 83, 27, 44]
PROMPT = IDS[:-2]
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
    rows: str = ""
    exported: str = ""
    written_alike: bool = True  # whether Hugging Face's generate writes what its forward predicts

    def __str__(self) -> str:
        parts = f"; refused: {', '.join(self.refused)}" if self.refused else ""
        what = f"{self.worst:.0e}{parts}" if self.verdict in ("exact", "wrong") else ""
        return f"{self.verdict:8} {self.model_type:28} {what} {self.reason}".rstrip()


def look_at(model_type: str, kind: Any, lines: Any = PLANS, **special: Any) -> Found:
    """Build a family small, open it, and hold it to the reference on these plans."""
    found = Found(model_type, "unbuilt")
    try:
        with _limited(SECONDS):
            hf = build(kind, **special)
            found.verdict = "crashed"
            model = _opened(hf, found)
            if model is None:
                return found
            found.verdict = "wrong"
            if isinstance(model, impasto.Encoder):
                _compare_encoder(model, found)
            else:
                _compare(model, found, lines)
            if lines is PLANS:  # a spread of plans is not worth the time of writing folders
                found.exported = _exported(model)
    except _OutOfTime:
        found.reason = f"took more than {SECONDS} seconds"
    except Exception as error:
        found.reason = f"{found.reason} {_line(error)}".strip()
    return found


def _exported(model: Any) -> str:
    """Say in which forms a model without a layer is exported: neither, or some."""
    forms = []
    for form in ("checkpoint", "planned"):
        with tempfile.TemporaryDirectory() as folder, suppress(UserError):
            impasto.export(model, Plan.parse("0 2-3"), f"{folder}/exported", form=form)
            forms.append(form)
    return " ".join(forms)


def _opened(hf: Any, found: Found) -> Any:
    for module in hf.modules():  # what is to be written, and how, is the reference's
        if getattr(module, "generation_config", None) is not None:
            module.generation_config = type(module.generation_config)()
    try:
        return impasto.load(hf)
    except UserError as error:
        found.verdict, found.reason = "refused", str(error).splitlines()[0]
        return None


def _compare(model: Any, found: Found, lines: dict[str, str]) -> None:
    """Compare a decoder with the reference on plans, in each way in which it can be asked."""
    hf, identity = model.hf, Plan.parse("0-3")
    own, reference.spelling = reference.spelling, lambda _: _spelt(model)
    try:
        found.rows = "sequential" if getattr(model._opened, "sequential", None) else "packed"
        with torch.no_grad():
            stock = hf(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
            _note(found, "stock", model.next_logits(identity, torch.tensor([IDS]))[0], stock)
            opened = model._opened  # one that counts otherwise than generate tells it to
            is_told = opened.takes_positions and opened.counts_places
            found.written_alike = not is_told and _written(hf, True) == reference.generate(
                hf, identity, PROMPT, 3
            )
            for name, line in lines.items():
                try:
                    _plan(model, Plan.parse(line), found, name)
                except UserError as error:
                    found.refused[name] = str(error)
    finally:
        reference.spelling = own
    if "identity" in found.refused:
        found.reason = found.reason or found.refused["identity"]
    if not found.reason:
        found.verdict = "exact"


def _compare_encoder(model: Any, found: Found) -> None:
    """Compare an encoder with its own forward, less a layer and with two layers exchanged."""
    hf, ids = model.hf, torch.tensor([IDS])
    blocks, found.rows = model._opened.anatomy.blocks, "sentences"

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits

    def passing(_: nn.Module, args: Any, given: Any, output: Any) -> Any:
        states = args[0] if args else given["hidden_states"]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    _note(found, "identity", model.token_logits(Plan.parse("0-3"), ids), logits())
    for layer, line in ((0, "1-3"), (1, "0 2-3"), (3, "0-2")):
        hook = blocks[layer].register_forward_hook(passing, with_kwargs=True)
        try:
            wanted = logits()
        finally:
            hook.remove()
        _note(found, f"skip of layer {layer}", model.token_logits(Plan.parse(line), ids), wanted)
    for name in ("mlp", "attn"):
        try:
            admit(model._opened, Plan.parse(PLANS[name]))
        except UserError as error:
            found.refused[name] = str(error)
    if not found.reason:
        found.verdict = "exact"


def _plan(model: Any, plan: Plan, found: Found, name: str) -> None:
    hf, pad = model.hf, torch.zeros(1, 3, dtype=torch.long)
    admit(model._opened, plan)  # before the reference is asked what a refused plan would give
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
    hf = model.hf
    own = reference.generate(hf, plan, PROMPT, 3)
    if not _is_decided(hf, plan, PROMPT, own):
        return
    ways = {"generated": model.generate([plan], [PROMPT], 3)[0][0]}
    for cached in (True, False) if found.written_alike else ():
        way = f"applied, {'' if cached else 'un'}cached"
        try:
            with impasto.apply(hf, plan):
                ways[way] = _written(hf, cached)
        except UserError as error:  # of this way alone: the plan runs in the others
            found.refused[f"{name}, {way}"] = str(error)
    for way, tokens in ways.items():
        if tokens != own:
            found.reason = found.reason or f"{name}: {way} {tokens}, not {own}"


def _written(hf: Any, cached: bool) -> list[int]:
    """Return three tokens that Hugging Face's own generate writes."""
    ids = torch.tensor([PROMPT])
    written = hf.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False,
        use_cache=cached, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return written[0, len(PROMPT) :].tolist()


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
        streams_first=model._opened.habits.form.axis == 0,
    )


def _adds(block: nn.Module, x: torch.Tensor, call: Any, without: tuple[str, ...]) -> torch.Tensor:
    def nothing(module: nn.Module, args: Any, given: Any, output: Any) -> Any:
        is_bare = isinstance(output, torch.Tensor)
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        residual = (dict(zip(names, args, strict=False)) | given).get("residual")
        zeros = torch.zeros_like(output if is_bare else output[0]) if residual is None else residual
        return zeros if is_bare else type(output)((zeros, *output[1:]))

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


def census(mapping: str, *only: str) -> Iterator[Found]:
    """Yield what becomes of each family of one of transformers' mappings."""
    special = OF_DECODERS if mapping == "CAUSAL_LM" else {}
    for model_type, kind in entries(mapping):
        if not only or model_type in only:
            yield look_at(model_type, kind, **special)


def main(mapping: str, *only: str) -> None:
    """Print a line a family, and how many there are of each verdict."""
    counts: Counter[str] = Counter()
    for found in census(mapping, *only):
        counts[found.verdict] += 1
        print(found, flush=True)
    print(mapping, dict(counts))


MAPPINGS = ("CAUSAL_LM", "MULTIMODAL_LM", "MASKED_LM")


def write(*names: str) -> None:
    """Write the table that `impasto models` prints anew; or its rows for some mappings.

    Names of families behind a mapping's are those of its families that are counted.
    """
    mappings = [name for name in names if name in MAPPINGS]
    rows = {}
    if TABLE.is_file() and names:
        rows = {(row.model_type, row.kind): row for row in counted()}
    only = [name for name in names if name not in MAPPINGS]
    for mapping in mappings or MAPPINGS:
        is_encoder = mapping == "MASKED_LM"
        for found in census(mapping, *only):
            print(mapping, found, flush=True)
            row = counted_row(found.model_type, is_encoder, found)
            key = (row.model_type, row.kind)
            is_better = key not in rows or rows[key].layers == "no" or row.layers == "yes"
            if found.verdict in ("exact", "refused") and is_better:
                rows[key] = row
            _write(rows)


def _write(rows: dict[tuple[str, str], Counted]) -> None:
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Counted._fields)
        writer.writerows(rows[key] for key in sorted(rows))


def counted_row(model_type: str, is_encoder: bool, found: Found) -> Counted:
    """Return the table's row for a family."""
    kind = "encoder" if is_encoder else "decoder"
    if found.verdict == "refused":
        reason = found.reason.partition(" cannot be opened: ")[2] or found.reason
        return Counted(model_type, kind, "no", "no", "no", "", "", reason[:300])
    parts = "no" if {"mlp", "attn"} & found.refused.keys() else "yes"
    history = "no" if is_encoder or {"freeze", "noise"} & found.refused.keys() else "yes"
    return Counted(model_type, kind, "yes", parts, history, found.rows, found.exported, "")


if __name__ == "__main__":
    write(*sys.argv[2:]) if sys.argv[1:2] == ["--write"] else main(*sys.argv[1:])
