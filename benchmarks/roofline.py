"""Device time of the engine at the sizes of real models, counted on a card that is not there.

    python benchmarks/roofline.py                            # this code
    python benchmarks/roofline.py --old ../older/src         # beside an older one, in the same run
    python benchmarks/roofline.py --card a100-80 --only llama-2-7b

A model has its real shape and no numbers: what its weights touch is computed in shape alone, and
what only lists, masks and positions make has its numbers. Each kernel takes as long as the card's
nominal rate of products or its memory allow, whichever is longer, and at least two microseconds;
attention takes what the kernel does that torch would choose for how queries, keys, values and mask
lie (the one that computes all scores in memory where none of the fast ones takes them). What makes
the host wait is counted as in the tests of other devices. Host time is not counted.

    decoding   a step of 7 plans × 7 texts, behind prompts of 512 tokens
    few-shot   the same × 28 texts, behind prompts of 64 tokens and 512 that all of them begin with
    scoring    paper C's 54 plans × 16 questions of 200 tokens with four choices of 12
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests")]

foreign: Any = import_module("foreign")  # of the tests, which are no package

LEAST_SECONDS = 2e-6  # of a kernel
LARGE = 2**22  # numbers from which a new float tensor has none
OWN, SHOTS_TEXTS = 64, 28
PROMPT, TEXTS, QUESTIONS, CONTEXT, CHOICES, CHOICE = 512, 7, 16, 200, 4, 12
SHORT, LONG = 4, 12  # tokens that are written; the steps between the two are counted
PARTS: tuple[Any, ...] = ("attention", "mlp", "block")
MEMORY = 60 * 2**30  # bytes that a batch may take

SHAPES: dict[str, dict[str, Any]] = {
    "llama-2-7b": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
        "intermediate_size": 11008, "num_attention_heads": 32, "max_position_embeddings": 4096,
    },
    "llama-3-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    "gemma-3-4b": {
        "model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 2560, "head_dim": 256,
        "num_hidden_layers": 34, "intermediate_size": 10240, "num_attention_heads": 8,
        "num_key_value_heads": 4, "sliding_window": 1024, "max_position_embeddings": 8192,
    },
}  # fmt: skip
_READ_AS_MUCH_AS_WRITTEN = {
    "aten::index", "aten::index_select", "aten::gather", "aten::embedding", "aten::slice_scatter",
}  # fmt: skip
_MADE = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided"}
_FREE = {*_MADE, "aten::_unsafe_view", "aten::_reshape_alias"}
_OVERWRITTEN = {"aten::copy_", "aten::fill_", "aten::zero_", "aten::index_put_"}


class Roofline:
    """Adds up what kernels take on a card.

    Attributes:
        seconds: Device time so far.
        kernels: How many there were.
        by_name: Device time by operation.
    """

    def __init__(self, half: float, single: float, bandwidth: float) -> None:
        self._rates, self._bandwidth = {True: half, False: single}, bandwidth
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.seconds, self.kernels = 0.0, 0
        self.by_name: Any = Counter()

    def add(self, name: str, flops: float, moved_bytes: float, is_half: bool) -> None:
        """Add a kernel."""
        taken = max(flops / self._rates[is_half], moved_bytes / self._bandwidth, LEAST_SECONDS)
        self.seconds += taken
        self.kernels += 1
        self.by_name[name] += taken

    def operation(self, func: Any, given: Sequence[torch.Tensor], made: Any) -> None:
        """Add an operation, given its tensors and its results."""
        name, schema = func._schema.name, func._schema
        is_view = any(
            r.alias_info is not None and not r.alias_info.is_write for r in schema.returns
        )
        results = [each for each in tree_leaves(made) if isinstance(each, torch.Tensor)]
        if is_view or name in _FREE or not results:
            return
        written = sum(map(touched, results))
        if name in _READ_AS_MUCH_AS_WRITTEN:
            read = written
        elif name in _OVERWRITTEN:
            read = sum(map(touched, given[1:]))
            written = min(written, max(read, 1)) if name == "aten::index_put_" else written
        else:
            read = sum(map(touched, given))
        is_half = results[0].dtype in (torch.bfloat16, torch.float16)
        self.add(name, products(name, given), read + written, is_half)

    def attention(self, given: Sequence[torch.Tensor]) -> None:
        """Add a call of attention, by the kernel that torch would take."""
        query, key, value, *rest = given
        mask = rest[0] if rest else None
        pairs = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
        flops = 2.0 * pairs * (query.shape[3] + value.shape[3])
        is_half = query.dtype in (torch.bfloat16, torch.float16)
        plain = sum(map(touched, given)) + touched(query) / query.shape[3] * value.shape[3]
        is_laid_out = all(each.stride(-1) == 1 for each in (query, key, value))
        if not is_laid_out:
            numbers = sum(each.numel() for each in (query, key, value))
            single = 12.0 * numbers if is_half else 0.0  # written in single precision, and read
            self.add("attention in memory", flops, plain + single + 6 * 4.0 * pairs, False)
            self.kernels += 6
            return
        if mask is not None and any(step % 8 for step in mask.stride()[:-1]):
            self.add("mask copied", 0, 2.0 * touched(mask), is_half)
        self.add("attention", flops, plain, is_half)


def touched(tensor: torch.Tensor) -> float:
    """Return the bytes of a tensor's own numbers; what is expanded is there once."""
    numbers = 1
    for size, step in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= size if step else min(size, 1)
    return float(numbers * tensor.dtype.itemsize)


def products(name: str, given: Sequence[torch.Tensor]) -> float:
    """Return the operations of a product of matrices; none for what is none."""
    pair = given[1:3] if name in ("aten::addmm", "aten::baddbmm") else given[:2]
    if name not in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"):
        return 0.0
    return 2.0 * pair[0].numel() * pair[1].shape[-1]


class GhostCall(foreign._Call):
    """An operation, of which large tensors may have a shape and no numbers."""

    card: Roofline

    def _on_processor(self, kwargs: dict[str, Any]) -> Any:
        held = foreign._mapped(foreign._held, (self._args, kwargs))
        given = foreign._tensors(held)
        if self._name in _MADE | {"aten::zeros", "aten::new_zeros", "aten::ones"}:
            return self._made(held)
        if not any(tensor.is_meta for tensor in given):
            made = self._func(*held[0], **held[1])
        else:
            made = self._in_shape(held, given)
        self.card.operation(self._func, given, made)
        return made

    def _made(self, held: Any) -> Any:
        args, kwargs = held
        with torch.device("meta"):
            shape = self._func(*args, **(kwargs | {"device": torch.device("meta")}))
        if shape.is_floating_point() and shape.numel() >= LARGE:
            return shape
        return self._func(*args, **kwargs)

    def _in_shape(self, held: Any, given: Sequence[torch.Tensor]) -> Any:
        """Return a result without numbers; what the host reads of it is made up."""
        if self._name == "aten::equal":
            return True
        if self._name in ("aten::_local_scalar_dense", "aten::is_nonzero"):
            return self._said(given[0])
        target = held[0][0]
        is_written = self._name.endswith("_") and isinstance(target, torch.Tensor)
        if is_written and not target.is_meta:
            return target  # it keeps the numbers that it has
        if self._wanted is not None and self._wanted.type == "cpu":
            return torch.zeros(given[0].shape, dtype=held[1].get("dtype") or given[0].dtype)
        if self._name in foreign._INDEXED:
            held = (held[0][0], _by_places(held[0][1]), *held[0][2:]), held[1]
        args, kwargs = foreign._mapped(_without_numbers, held)
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("meta")
        return self._func(*args, **kwargs)

    @staticmethod
    def _said(tensor: torch.Tensor) -> Any:
        return True if tensor.dtype == torch.bool else 0.0 if tensor.is_floating_point() else 0


def _without_numbers(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _by_places(indices: Any) -> list[Any]:
    """Return indices of which none is a mask."""
    found: list[Any] = []
    for index in indices:
        if index is None or index.dtype != torch.bool:
            found.append(index)
        else:  # all of it, where nobody knows which
            mask = torch.ones(index.shape, dtype=torch.bool) if index.is_meta else index
            found += mask.nonzero(as_tuple=True)
    return found


def _ghost_attention(args: Any, kwargs: dict[str, Any]) -> Any:
    given = foreign._tensors((args, kwargs))
    query, value = given[0], given[2]
    GhostCall.card.attention([each.held for each in given])
    batch, heads, rows, _ = query.shape
    made = torch.empty(batch, rows, heads, value.shape[3], dtype=query.dtype, device="meta")
    return foreign.ForeignTensor(made.transpose(1, 2), query.device)


def _ghost_with_shares(*given: Any) -> tuple[Any, Any]:
    attended = _ghost_attention(given[:4], {})
    log = torch.empty(attended.shape[:3], device="meta")
    return attended, foreign.ForeignTensor(log, attended.device)


def _ghost_list(tensor: Any) -> Any:
    foreign._waits.note("tolist")
    held = tensor.held
    return (torch.zeros(held.shape, dtype=held.dtype) if held.is_meta else held).tolist()


def ghost(shape: dict[str, Any]) -> Any:
    """Return a model of a shape on another device; its rotary tables alone have numbers."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    settings = dict(shape)
    config: Any = CONFIG_MAPPING[settings.pop("model_type")](**settings)
    config.eos_token_id = None
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    hf.requires_grad_(False)
    for name, module in list(hf.named_modules()):
        if name.endswith("rotary_emb"):
            parent = hf.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], type(module)(config))
    hf.generation_config.eos_token_id = None
    return foreign.moved(hf)


def plans_of(layers: int) -> list[str]:
    """Return seven plans: the whole model, and one of each kind of edit."""
    m, last = layers // 2, layers - 1
    return [
        f"0-{last}",
        f"0-{m - 1} {m + 1}-{last}",
        f"0-{m - 2} {m} {m - 1} {m + 1}-{last}",
        f"0-{m - 2} [{m - 1}|{m}] {m + 1}-{last}",
        f"0-{m - 1} freeze {m}-{last}",
        f"0-{3 * m // 2 - 1} {3 * m // 2}-{last}.mlp",
        f"0-{m - 1} noise(gaussian) {m}-{last}",
    ]


def measure(name: str, card: Roofline) -> dict[str, Any]:
    """Return what a step of decoding and a sweep of questions take on one model."""
    import impasto
    from impasto import Plan
    from impasto.run.opening import opened
    from impasto.strategies import drop_last

    GhostCall.card = card
    found: dict[str, Any] = {}
    with foreign.foreign_devices() as waits:
        model = impasto.load(ghost(SHAPES[name]))
        model.memory = MEMORY
        plans = [Plan.parse(line) for line in plans_of(model.num_layers)]
        prompts = [[1 + (7 * t + i) % 900 for i in range(PROMPT)] for t in range(TEXTS)]
        found["decoding"] = _step(model, plans, prompts, card, waits)
        inner: Any = opened(model.hf)
        inner.reads_common = True  # as is found out by numbers, which there are not
        before = list(range(1, 1 + PROMPT))
        shots = [
            [*before, *prompt[:OWN]] for prompt in prompts for _ in range(SHOTS_TEXTS // TEXTS)
        ]
        shots = [[*prompt[:-1], at] for at, prompt in enumerate(shots)]
        found["few-shot"] = _step(model, plans, shots, card, waits)
        questions = [
            ([1 + (11 * q + i) % 900 for i in range(CONTEXT)],
             [1 + (5 * c + i) % 900 for i in range(CHOICE)])
            for q in range(QUESTIONS) for c in range(CHOICES)
        ]  # fmt: skip
        model.loglikelihood(plans[:1], questions[:2])
        swept = [
            drop_last(model.num_layers, part, count, keep_last)
            for part in PARTS for count in range(9) for keep_last in (False, True)
        ]  # fmt: skip
        card.start()
        waits.start()
        model.loglikelihood(swept, questions)
        own = waits.total() - waits[foreign.OWN]
        found["scoring"] = {"seconds": card.seconds, "kernels": card.kernels, "waits": own,
                            "by": card.by_name.most_common(6)}  # fmt: skip
    return found


def _step(model: Any, plans: Any, prompts: Any, card: Roofline, waits: Any) -> dict[str, Any]:
    """Return what a step of decoding takes."""
    model.generate(plans, prompts, max_new_tokens=2)
    counted = []
    for tokens in (SHORT, LONG):
        card.start()
        waits.start()
        model.generate(plans, prompts, max_new_tokens=tokens)
        own = waits.total() - waits[foreign.OWN]
        counted.append((card.seconds, card.kernels, own, Counter(card.by_name)))
    (a, b, c, first), (d, e, f, by_name) = counted
    by_name.subtract(first)
    steps = LONG - SHORT
    return {"seconds": (d - a) / steps, "kernels": (e - b) / steps,
            "waits": (f - c) / steps, "by": by_name.most_common(6)}  # fmt: skip


def main() -> int:
    """Count and print."""
    given = _arguments()
    if given.inside:
        rates, names = json.loads(given.inside)
        foreign._Call = GhostCall
        foreign._attention = _ghost_attention
        foreign.ForeignTensor.tolist = _ghost_list
        kernels: Any = import_module("impasto.run.attention.kernels")
        getattr(kernels, "KERNELS", {})["foreign"] = _ghost_with_shares
        print(json.dumps({name: measure(name, Roofline(*rates)) for name in names}))
        return 0
    from impasto.speed.cards import card_named

    card = card_named(given.card)
    rates = [card.rate("bfloat16"), card.rate("float32"), card.bandwidth]
    sources = {"now": HERE.parent / "src"} | ({"before": given.old} if given.old else {})
    found = {age: _apart(source, rates, given.only) for age, source in sources.items()}
    print(f"{card.name}: {rates[0] / 1e12:,.0f}e12 operations in half precision and "
          f"{card.bandwidth / 1e12:.2f}e12 bytes a second, nominal\n")  # fmt: skip
    print("| model | work | code | device time | kernels | waits | most of it |")
    print("|---|---|---|---|---|---|---|")
    for name in given.only:
        for work in ("decoding", "few-shot", "scoring"):
            for age in reversed(found):
                _row(name, work, age, found[age][name][work])
            if "before" in found:
                before, now = (found[age][name][work]["seconds"] for age in ("before", "now"))
                print(f"| | | | {before / now:.2f} times less | | | |")
    return 0


def _row(name: str, work: str, age: str, told: dict[str, Any]) -> None:
    unit = "in all" if work == "scoring" else "a step"
    most = sum(seconds for _, seconds in told["by"]) or 1.0
    by = ", ".join(f"{each.removeprefix('aten::')} {s / most:.0%}" for each, s in told["by"][:4])
    print(f"| {name} | {work} | {age} | {1e3 * told['seconds']:,.1f} ms {unit} | "
          f"{told['kernels']:,.0f} | {told['waits']:g} | {by} |")  # fmt: skip


def _apart(source: Path, rates: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """Count with the package of a folder, in a process of its own."""
    command = [sys.executable, __file__, "--inside", json.dumps([rates, list(names)])]
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--card", default="h200", help="a card that impasto knows by name")
    parser.add_argument("--old", type=Path, help="the src folder of an older checkout")
    parser.add_argument("--only", help=f"models, with commas between: {','.join(SHAPES)}")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else list(SHAPES)
    if unknown := set(given.only) - SHAPES.keys():
        parser.error(f"there is no model {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
