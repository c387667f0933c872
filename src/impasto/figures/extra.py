"""Pictures that no paper has of what a model is like inside: entropy of attention, and probes."""

from collections.abc import Iterator, Sequence

from impasto.analysis.inside.saved import ENTROPY, PROBES, Inside
from impasto.figures.chart import Chart, Charts, Line, Places, references
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix
from impasto.figures.models import panels
from impasto.figures.picture import Picture
from impasto.figures.scale import Scale
from impasto.look import GREEN, Look

TEXTS = "impasto similarity --entropy --model {model} --texts FILE --out {out}"
LABELLED = "impasto probe --model {model} --texts FILE.jsonl --label COLUMN --out {out}"
PROBED = Scale("accuracy of the probe (%)", "percent", "{:.1f} %", 100)


def entropy(found: Found) -> Iterator[Picture]:
    """Draw how widely each head looks."""
    if ENTROPY not in found.inside:
        raise MissingError(command=TEXTS)
    inside = found.inside[ENTROPY]
    values = inside.entropy
    assert values is not None
    layers, heads = values.mean.shape
    matrix = Matrix(
        title="Entropy of attention",
        told=[
            f"{found.model}, {layers} layers",
            f"{values.texts:,} texts, {values.tokens:,} tokens",
            f"spread evenly it would be {values.even:.2f}",
        ],
        x_label="head",
        y_label="layer",
        scale=Scale("mean entropy (nats)"),
        values=values.mean,
        rows=range(layers),
        columns=range(heads),
        limits=(0.0, max(values.even, float(values.mean.max()))),
    )
    yield Picture("entropy", matrix)


def probes(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw what linear probes read off at each depth."""
    having = [found for found in founds if PROBES in found.inside]
    if not having:
        raise MissingError(command=LABELLED)
    insides = [found.inside[PROBES] for found in having]
    relative = len({inside.layers for inside in insides}) > 1
    first = insides[0].probed
    assert first is not None
    label = "depth as a share of the layers" if relative else "depth"
    lines = [
        (
            found,
            [_probed(inside, inside.layers if relative else 1)],
            references([("Chance", inside.probed.chance)] if inside.probed else [], PROBED),
        )
        for found, inside in zip(having, insides, strict=True)
    ]
    chart = Chart(
        title=f"What can be read off: {first.labels} labels of {insides[0].source}",
        told=[
            "; ".join(
                f"{found.model}, {inside.layers} layers"
                for found, inside in zip(having, insides, strict=True)
            ),
            f"{first.texts:,} texts, the last token's state, cross-validated",
        ],
        x=Places(label, None if relative else range(insides[0].layers + 1)),
        y=PROBED,
        panels=panels(lines),
    )
    notes = [f"{found.model} has no probes" for found in founds if found not in having]
    yield Picture("probes", Charts([chart]), notes)


def _probed(inside: Inside, divisor: int) -> Line:
    probed = inside.probed
    assert probed is not None
    points = {
        depth / divisor: ends
        for depth, ends in enumerate(zip(probed.accuracy, probed.low, probed.high, strict=True))
    }
    return Line.of(Look("Linear probe", GREEN), points, 100)
