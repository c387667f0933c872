"""Plans to begin with, each the main point of a paper in one plan, and prompts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from impasto import strategies
from impasto.plan import Plan

PAINTERS = "Transformer Layers as Painters"
ATTEND = "Attend First, Consolidate Later"
SUBSET = "Attention Is All You Need But You Don't Need All Of It"


@dataclass(frozen=True, slots=True)
class Example:
    """A plan to click on.

    Attributes:
        title: What it does, in a few words.
        paper: Whose point it is.
        says: What to look for.
        least: The fewest layers that a model needs for it.
        plan: The plan for a model of so many layers.
    """

    title: str
    paper: str
    says: str
    least: int
    plan: Callable[[int], Plan]


def _middle(T: int) -> int:
    """Return the n of the paper, which leaves n+1 layers at the start and n at the end."""
    return max(1, T // 4)


EXAMPLES = (
    Example(
        "Skip a middle layer",
        PAINTERS,
        "Middle layers speak one language: without one of them the answer mostly stays.",
        3,
        lambda T: strategies.skip_one(T, T // 2),
    ),
    Example(
        "Skip the first layer",
        PAINTERS,
        "The ends are not like the middle: without layer 0 hardly anything is left.",
        2,
        lambda T: strategies.skip_one(T, 0),
    ),
    Example(
        "Swap two layers",
        PAINTERS,
        "Neighbours in the middle can trade places with little harm.",
        4,
        lambda T: strategies.switch(T, T // 2 - 1),
    ),
    Example(
        "Reverse the middle",
        PAINTERS,
        "Order matters less than one would think; more to arithmetic than to facts.",
        5,
        lambda T: strategies.reverse(T, _middle(T)),
    ),
    Example(
        "Middle side by side",
        PAINTERS,
        "Middle layers all read the same state, and their outputs are averaged.",
        5,
        lambda T: strategies.parallel(T, _middle(T)),
    ),
    Example(
        "Side by side, three times",
        PAINTERS,
        "Feeding the average back wins back some of what running side by side lost.",
        5,
        lambda T: strategies.looped_parallel(T, _middle(T), 3),
    ),
    Example(
        "Freeze earlier tokens",
        ATTEND,
        "The upper half does without news of the earlier tokens: their states stay as they are.",
        2,
        lambda T: strategies.freeze(T, T // 2),
    ),
    Example(
        "Noise for earlier tokens",
        ATTEND,
        "In the upper layers even noise in the place of the earlier tokens does little.",
        4,
        lambda T: strategies.gaussian(T, (3 * T) // 4),
    ),
    Example(
        "Drop late attention",
        SUBSET,
        "The last third of the attentions can go; the MLPs of these layers stay.",
        3,
        lambda T: strategies.drop_last(T, "attention", T // 3),
    ),
    Example(
        "Drop late MLPs",
        SUBSET,
        "The MLPs of the same layers are missed more than their attentions.",
        3,
        lambda T: strategies.drop_last(T, "mlp", T // 3),
    ),
    Example(
        "Repeat a block",
        "Repeat Yourself (RYS)",
        "A block in the middle runs twice: more computation, the same weights.",
        4,
        lambda T: strategies.repeat_block(T, T // 3, T // 3 + max(1, T // 4)),
    ),
    Example(
        "A damped loop",
        "Training-Free Looped Transformers",
        "The same block twice, each time with half of what it adds.",
        4,
        lambda T: strategies.half_step(T, T // 3, T // 3 + max(1, T // 4), 2, 0.5),
    ),
)
DEMO_PROMPTS = (
    (
        "A capital",
        "Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of France?\nA:",
    ),
    ("A sum", "2 + 3 + 4 = 9\n3 + 5 - 1 ="),
)
PROMPTS = (
    ("A capital", "Spain: Madrid\nItaly: Rome\nJapan: Tokyo\nFrance:"),
    ("A sum", "2 + 3 = 5\n4 + 5 = 9\n6 + 1 ="),
    ("A pattern", "A B C D A B C D A B C"),
    ("A story", "Once upon a time, there was a little girl who"),
)


def examples_for(layers: int) -> Iterator[tuple[Example, Plan]]:
    """Yield the examples that a model of so many layers can run, with their plans."""
    for example in EXAMPLES:
        if layers >= example.least:
            yield example, example.plan(layers)


def prompts_for(model: str) -> tuple[tuple[str, str], ...]:
    """Return prompts to begin with, each with its name; the demo model knows its own forms only."""
    return DEMO_PROMPTS if model == "demo" else PROMPTS
