"""Paper C's Tables 7 to 10 (arXiv 2407.15516) on a model of a shape, with random weights.

For each table: the time to one token in hundredths of a second, by how many percent it is shorter
than the full model's, and the ideal, which is what operations and bytes moved let expect at the
rates that the device reaches by itself. First one sequence at a time, as in the paper; then as many
at once as fill the device. Last, a token more behind a context, as a share of what the device's
memory could move.

    python benchmarks/paper_c.py --device cuda            # a Llama-2-7B shape in bf16, one GPU
    python benchmarks/paper_c.py --shape small-llama,num_hidden_layers=8 --dtype float32 \
        --sequences 20 --batch 4                          # a processor

The paper's own percentages stand beside them where --paper names a CSV file with the columns table
(7 to 10), part (attention, mlp, block), percent (10, 25, 33: of the layers) and improvement.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from impasto.plan import Plan
from impasto.plan.steps import Part
from impasto.run import Model
from impasto.speed import Bench, OneToken, Settings, bench, one_token, random_model
from impasto.speed.memory import filling_batch
from impasto.strategies import drop_last
from impasto.table import aligned

TABLES = {7: (50, False), 8: (100, False), 9: (50, True), 10: (100, True)}
PARTS: tuple[Part, ...] = ("attention", "mlp", "block")
SHARES = (10, 25, 33)  # percent of the layers
CONTEXT = 512


@dataclass(frozen=True)
class Cell:
    """One place in a table: what is dropped, and of how many layers."""

    part: Part
    percent: int
    keep_last: bool

    def plan(self, layers: int) -> Plan:
        """Return the plan of a model of so many layers."""
        return drop_last(layers, self.part, round(self.percent * layers / 100), self.keep_last)

    def __str__(self) -> str:
        return f"{self.part}, {self.percent} % dropped"


Paper = Mapping[tuple[int, str, int], float]
Measured = Mapping[tuple[str, int], tuple[float, float, float]]
"""By plan and length: seconds, improvement, expected improvement."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="llama-2-7b")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--batch", help="sequences at once; what fits, if left out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--paper", type=Path, help="a CSV file with the paper's percentages")
    asked = parser.parse_args(words)
    model = random_model(asked.shape, torch.device(asked.device), getattr(torch, asked.dtype))
    cells = [Cell(*at) for at in _places() if Cell(*at).plan(model.num_layers).layers]
    plans = {str(cell.plan(model.num_layers)): cell.plan(model.num_layers) for cell in cells}
    lengths = sorted({tokens for tokens, _ in TABLES.values()})
    paper = _paper(asked.paper)
    print(f"{model.name}, {asked.dtype}")
    singly = _from_one_token(one_token(model, plans, lengths, asked.sequences))
    _show(model, cells, singly, paper, f"one at a time, {asked.sequences} of each length")
    batch = int(asked.batch) if asked.batch else filling_batch(model, max(lengths), 1)
    settings = Settings(lengths, (batch,), new_tokens=0, rounds=asked.rounds)
    _show(model, cells, _from_bench(bench(model, plans, settings)), paper, f"{batch} at once")
    room = (model.max_positions or CONTEXT + 16) - 16
    settings = Settings((min(CONTEXT, room),), (1,), new_tokens=16, rounds=asked.rounds)
    _show_decoding(bench(model, plans, settings), settings)


def _places() -> Iterator[tuple[Part, int, bool]]:
    for keep_last in (False, True):
        for part in PARTS:
            for percent in SHARES:
                yield part, percent, keep_last


def _paper(file: Path | None) -> Paper:
    if file is None:
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        return {
            (int(row["table"]), row["part"], int(row["percent"])): float(row["improvement"])
            for row in csv.DictReader(lines)
        }


def _from_one_token(found: Sequence[OneToken]) -> Measured:
    return {
        (each.plan, each.tokens): (each.seconds, each.improvement, each.expected)
        for each in found
        if each.plan
    }


def _from_bench(found: Bench) -> Measured:
    return {
        (each.plan, each.tokens): (each.seconds.middle, 1 - each.ratio.middle, 1 - each.expected)
        for each in found.times
        if each.plan
    }


def _show(model: Model, cells: Sequence[Cell], measured: Measured, paper: Paper, how: str) -> None:
    for number, (tokens, keep_last) in TABLES.items():
        kept = "the last layer kept" if keep_last else "the last layer among them"
        print(f"\nTable {number}: {tokens} tokens, {kept}; {how}")
        whole = measured[str(Plan.identity(model.num_layers)), tokens]
        lines = [["", "s × 10²", "shorter by %", "ideal %", "paper %"]]
        lines.append(["full model", f"{100 * whole[0]:.3f}", "", "", ""])
        for cell in cells:
            if cell.keep_last == keep_last:
                seconds, shorter, ideal = measured[str(cell.plan(model.num_layers)), tokens]
                told = paper.get((number, cell.part, cell.percent))
                numbers = [f"{100 * seconds:.3f}", f"{100 * shorter:.1f}", f"{100 * ideal:.1f}"]
                lines.append([str(cell), *numbers, "" if told is None else f"{told:.1f}"])
        print("\n".join(aligned(lines)))


def _show_decoding(found: Bench, settings: Settings) -> None:
    rate = found.rates.bytes_per_second
    print(f"\nA token more behind {settings.tokens[0]}, one sequence; "
          f"copies reach {rate / 1e9:,.0f} GB/s")  # fmt: skip
    lines = [["plan", "ms", "of the full model", "expected", "of the copies' rate"]]
    for each in found.times:
        if each.work == "token" and each.plan:
            share = each.bytes / each.seconds.middle / rate
            numbers = [f"{1e3 * each.seconds.middle:.3f}", f"{each.ratio.middle:.3f}"]
            lines.append([each.label, *numbers, f"{each.expected:.3f}", f"{100 * share:.0f} %"])
    print("\n".join(aligned(lines)))


if __name__ == "__main__":
    main()
