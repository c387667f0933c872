"""Similarity over ten thousand texts: memory stays where it was, and the matrix is the direct one.

    python benchmarks/similarity.py [--texts 10000]

The bundled model reads made-up sums. Peak memory is read after a tenth of the texts and at the end;
over the first hundred texts all states are also kept and compared directly, pair by pair of depths.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

from impasto.analysis.inside import TextStates, read_states, similarities
from impasto.run import load_decoder

KEPT = 100


def texts(count: int) -> Iterator[str]:
    """Yield so many different texts of the kind that the model knows."""
    for i in range(count):
        yield f"Q: {i % 97} + {i // 97} - {i % 7} = ?\nA: {i % 97 + i // 97 - i % 7}"


def peak() -> float:
    """Return the most memory that the process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def direct(kept: list[TextStates]) -> np.ndarray:
    """Return the mean over tokens of each pair of depths' cosine, one pair after the other."""
    states = np.concatenate([text.states[:, text.is_text] for text in kept], axis=1).astype(float)
    found = np.empty((len(states), len(states)))
    for i, ours in enumerate(states):
        for j, theirs in enumerate(states):
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            found[i, j] = ((ours * theirs).sum(1) / lengths).mean()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", type=int, default=10_000)
    count = parser.parse_args().texts
    model = load_decoder("demo")
    marks: list[float] = []

    def watched() -> Iterator[TextStates]:
        for i, text in enumerate(read_states(model, texts(count)), 1):
            if i == max(count // 10, 1):
                marks.append(peak())
            yield text

    start = time.perf_counter()
    found = similarities(watched())["tokens"]
    seconds = time.perf_counter() - start
    print(f"{found.texts:,} texts, {found.tokens:,} tokens in {seconds:.0f} s")
    print(f"peak memory {marks[0]:.0f} MiB after a tenth, {peak():.0f} MiB at the end")
    kept = list(islice(read_states(model, texts(count)), KEPT))
    difference = np.abs(similarities(kept)["tokens"].mean - direct(kept)).max()
    print(f"largest difference from the direct computation over {KEPT} texts: {difference:.1e}")


if __name__ == "__main__":
    main()
