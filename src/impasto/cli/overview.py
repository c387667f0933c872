"""The commands in the order in which one needs them, each with an example; what `--help` prints."""

from collections.abc import Iterator, Mapping
from textwrap import wrap

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "On a new machine": {
        "doctor": "impasto doctor",
    },
    "Try a plan": {
        "explain": 'impasto explain --plan "0-7 freeze 8-11" --model demo',
        "generate": 'impasto generate "The capital of Spain is" --plan "0-7 9-11"',
        "fill": 'impasto fill "It is [MASK]." --plan "0-4" --model BERT',
        "play": "impasto play demo",
        "models": "impasto models demo",
    },
    "Sweep many plans": {
        "studies": "impasto studies attend_first --to mine.yaml",
        "run": "impasto run attend_first",
        "status": "impasto status runs/attend_first",
        "results": "impasto results runs/attend_first",
        "figures": "impasto figures runs/attend_first",
        "report": "impasto report runs/attend_first",
    },
    "Find a cheaper model, and keep it": {
        "search": "impasto search thinner",
        "heal": 'impasto heal thinner --plan "0-8 10-11" --texts texts.txt',
        "bench": 'impasto bench --model demo --plan "0-8"',
        "export": 'impasto export thinner-model --plan "0-8" --model demo',
    },
    "Look inside": {
        "similarity": "impasto similarity --texts texts.txt --model demo",
        "probe": "impasto probe --texts reviews.csv --label stars --model demo",
    },
    "With other tools": {
        "lm-eval": 'impasto lm-eval --model_args plan="0-8" --tasks sciq',
    },
}
DOCS = "README.md and docs/ say more; impasto studies lists studies to begin with."
_WIDTH, _LEFT = 80, 14


def overview(summaries: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that list commands, given each one's summary."""
    for title, examples in EXAMPLES.items():
        yield f"{title}:"
        for name, example in examples.items():
            lines = wrap(summaries[name], _WIDTH - _LEFT)
            yield f"  {name:<{_LEFT - 2}}{lines[0]}"
            for line in (*lines[1:], f"$ {example}"):
                yield " " * _LEFT + line
        yield ""
    yield DOCS
