"""Quality beside cost as a table, the cheapest plan first; the `pareto` figure is its picture."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from impasto.analysis.costs import trade_off
from impasto.analysis.curves import BASELINE
from impasto.analysis.scores import signed
from impasto.figures.found import Found, MissingError
from impasto.figures.paper_c import BENCH
from impasto.figures.picture import Picture
from impasto.table import Table

ON_FRONT = "yes"


def quality_and_cost(found: Found) -> Iterator[Picture]:
    """Make the table of every plan's quality and cost."""
    costs = found.results.costs if found.results else None
    if costs is None or costs.empty:
        raise MissingError(command=BENCH)
    table = trade_off(found.frame, costs)
    columns = ["plan", "family", "average", "change", table["unit"].iloc[0]]
    columns += ["faster by", "KV bytes a token", "parameters", "front"]
    yield Picture(
        "trade_off",
        Table(
            title=f"{found.model}: quality and cost of {len(table)} plans",
            columns=columns,
            rows=[_cells(row) for row in table.to_dict(orient="records")],
            numbers=[list(row) for row in table.itertuples(index=False, name=None)],
            note="Average over tasks in percent, its change in points; faster: by so much shorter "
            "is the time than the full model's, ± half of the 95 % interval. A plan is on the "
            "front where no other is as cheap and better, or cheaper and as good. Times were taken "
            f"on {table['machine'].iloc[0]}.",
            number_columns=list(table.columns),
        ),
    )


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    error = row["improvement_error"]
    faster = signed(100 * row["improvement"])
    faster += f" ± {100 * error:.1f} %" if error == error else " %"
    return [
        row["plan"],
        row["family"],
        f"{100 * row['average']:.1f}",
        signed(100 * row["change"]),
        f"{row['cost']:.2f}",
        "" if row["family"] == BASELINE else faster,
        f"{row['kept_bytes']:,}",
        f"{row['parameters']:,}",
        ON_FRONT if row["front"] else "",
    ]
