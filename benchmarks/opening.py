"""How long it takes to open a model for plans: everything that is checked, on the model at hand.

    python benchmarks/opening.py                        # the shape of Llama-2-7B, on this machine
    python benchmarks/opening.py --device cuda          # asked: less than 2 s
    python benchmarks/opening.py --layers 4             # the same with fewer layers
    python benchmarks/opening.py --before ../before/src # beside another version: at most 1.2 times

The weights are random, in bf16. Printed: the time to open the model, to open it again after nothing
has changed (what every later call pays), and the memory that opening takes beside the weights.

With ``--before`` small models of nine families are opened by the package of another checkout and by
this one, each in a process of its own, in the order old, new, new, old in every round. Printed are
the medians of the rounds' ratios of processor time, which other work on the machine hardly changes.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from sides import Side

LLAMA_2_7B: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_hidden_layers": 32, "max_position_embeddings": 4096,
}  # fmt: skip
_SMALL: dict[str, Any] = {
    "vocab_size": 97, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6,
    "num_attention_heads": 4, "max_position_embeddings": 256,
}  # fmt: skip
_GROUPED = {"num_key_value_heads": 2}
_WINDOW = _GROUPED | {"sliding_window": 16, "head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": _GROUPED,
    "GPT2": {},
    "GPTNeoX": {},
    "Bloom": {},
    "OPT": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "Gemma2": _WINDOW,
    "Mistral": _WINDOW,
    "Qwen3Moe": _GROUPED | _EXPERTS | {"head_dim": 16},
    "Olmo2": _GROUPED,
}
MOST = 1.2


def main() -> int:
    """Build the model, open it twice, and print what that took; or compare two versions."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B["num_hidden_layers"])
    parser.add_argument("--before", type=Path, help="the src of another checkout")
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    if given.before is not None:
        return _beside(given.before, given.rounds)
    _open_large(given.device, given.layers)
    return 0


def _open_large(device: str, layers: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    kind: Any = LlamaConfig
    config = kind(**LLAMA_2_7B | {"num_hidden_layers": layers})
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        hf = LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
    count = sum(weight.numel() for weight in hf.parameters())
    before = _memory(device)
    first = _seconds(hf, device)
    taken = (_memory(device) - before) / 2**20
    again = _seconds(hf, device)
    print(
        f"{count / 1e9:.2f}e9 parameters on {device}: opened in {first:.2f} s, again in "
        f"{again * 1e3:.1f} ms, {taken:.0f} MiB beside the weights"
    )


def _seconds(hf: Any, device: str) -> float:
    import torch

    from impasto.run.opening import opened

    begin = time.perf_counter()
    opened(hf)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _memory(device: str) -> int:
    import psutil
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def _beside(before: Path, rounds: int) -> int:
    """Compare this version with another; return 0 if it opens all families in time."""
    sides = [_Side(before), _Side(Path(__file__).parents[1] / "src")]
    middles = []
    for name in FAMILIES:
        for side in sides:  # each loads what it needs
            side.seconds(name)
        ratios, spent = [], [0.0, 0.0]
        for _ in range(rounds):
            old, new, again, last = (sides[place].seconds(name) for place in (0, 1, 1, 0))
            ratios.append((new + again) / (old + last))
            spent = [spent[0] + old + last, spent[1] + new + again]
        low, middle, high = statistics.quantiles(ratios, n=4)
        middles.append(middle)
        each = [seconds / (2 * rounds) for seconds in spent]
        print(f"{name:9} {each[0]:.3f} s before, {each[1]:.3f} s now: {middle:.2f} "
              f"(quartiles {low:.2f} to {high:.2f})", flush=True)  # fmt: skip
    good = max(middles) <= MOST
    print(f"all: {statistics.geometric_mean(middles):.2f}, at the most {max(middles):.2f}: "
          f"{'ok' if good else 'MISSED'}")  # fmt: skip
    return 0 if good else 1


class _Side(Side):
    """A process that opens models by one version."""

    def __init__(self, source: Path) -> None:
        super().__init__([__file__], source, "", SIDE="1")

    def seconds(self, family: str) -> float:
        """Return the seconds of processor time that it takes to open a new model of a family."""
        return json.loads(self.asked(family))


def _serve() -> None:
    """Answer what `_Side` asks for."""
    import torch
    import transformers

    import impasto

    torch.set_num_threads(1)
    for line in sys.stdin:
        name = line.strip()
        if not name:
            print("> " + json.dumps(str(Path(impasto.__file__).resolve())), flush=True)
            continue
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**_SMALL | FAMILIES[name])
        hf = transformers.AutoModelForCausalLM.from_config(config).eval()
        begin = time.process_time()
        assert impasto.load(hf).num_layers == _SMALL["num_hidden_layers"]
        print(f"> {time.process_time() - begin}", flush=True)


if __name__ == "__main__":
    if os.environ.get("SIDE"):
        _serve()
    else:
        sys.exit(main())
