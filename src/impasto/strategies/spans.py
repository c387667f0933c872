"""What families of plans are written with: runs of layers, markers at a depth, middle layers."""

from __future__ import annotations

from impasto.plan import Plan
from impasto.strategies.registry import check

LEFT = {"attention": ".mlp", "mlp": ".attn", "block": ""}  # of a layer without that part


def depths(T: int) -> range:
    """Return every depth of a model of T layers."""
    return range(T + 1)


def span(first: int, last: int, suffix: str = "") -> str:
    """Return the layers first…last in the notation; nothing when there are none."""
    return f"{first}-{last}{suffix}" if first <= last else ""


def marked(T: int, k: int, marker: str) -> Plan:
    """Return the plan with a marker at depth k."""
    check_depth(T, k)
    return Plan.parse(f"{span(0, k - 1)} {marker} {span(k, T - 1)}")


def with_middle(T: int, n: int, middle: str) -> Plan:
    """Return the plan with ``middle`` in place of layers n+1…T-n-1."""
    check_middle(T, n)
    return Plan.parse(f"{span(0, n)} {middle} {span(T - n, T - 1)}")


def check_depth(T: int, k: int) -> None:
    """Raise UserError for what is no depth of a model of T layers."""
    check("T", T, 1, None)
    check("k", k, 0, T, T)


def check_middle(T: int, n: int) -> None:
    """Raise UserError where no layers are between the first n+1 and the last n."""
    check("T", T, 2, None)
    check("n", n, 0, T // 2 - 1, T)
