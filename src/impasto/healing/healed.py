"""What healing came to: a value, a table, and a folder that holds it.

The folder has the weights (a checkpoint of the full model's layers with the healed weights, or a
PEFT adapter), ``healed.json`` for programs and ``README.md`` for people. The weights are made for
one plan: run as the full model, they are neither.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from impasto.aside import remove_strays, written_aside
from impasto.error import UserError
from impasto.healing.measuring import Measured
from impasto.mending.fitting import FittedGap
from impasto.mending.training import Spent
from impasto.plain_data import of_type, read_json_file, typed
from impasto.plan import Plan
from impasto.plan.healed import NAME
from impasto.screen import printable
from impasto.table import Code, Table, code_span, plain_text

TITLES = {
    "perplexity": "perplexity",
    "kl": "KL, nats a token",
    "agreement": "agreement of the likeliest token",
}


@dataclass(frozen=True)
class Healed:
    """A plan that was healed.

    Attributes:
        plan: The plan.
        method: linear, lora, last or full.
        settings: The method's settings.
        base: What was healed, as it was loaded.
        digests: Of the plan, the base's weights and the texts.
        measured: The full model, the plan and the healed plan, number by number.
        spent: What it took.
        fitted: What was fitted in place of each gap; of method linear.
        folder: Where it was written; None where it was not.
        model: The healed model, on which the plan runs; None where this was read from a folder.
    """

    plan: Plan
    method: str
    settings: Mapping[str, Any]
    base: str
    digests: Mapping[str, str]
    measured: Sequence[Measured]
    spent: Spent
    fitted: Sequence[FittedGap] = ()
    folder: Path | None = None
    model: Any = field(default=None, repr=False, compare=False)

    @property
    def won_back(self) -> float:
        """The share of the plan's KL to the full model that is gone, 1 for all of it."""
        kl = next(one for one in self.measured if one.name == "kl")
        return 1 - kl.healed / kl.plan if kl.plan else 0.0

    @property
    def is_changed(self) -> bool:
        """Whether a step or a map was better on held-out texts than the plan as it is."""
        maps = any(one.ridge is not None for one in self.fitted)
        return maps if self.method == "linear" else self.spent.kept_step > 0

    @property
    def table(self) -> Table:
        """The numbers as a table: full model, plan, healed plan, and the paired difference."""
        rows = [_row(one) for one in self.measured]
        columns = ["", "full model", "plan", "healed plan", "healed − plan (95 %)", "n"]
        return Table(columns, rows)

    @property
    def sentences(self) -> list[str]:
        """What it came to, in sentences."""
        spent = self.spent
        memory = "" if spent.peak_bytes is None else f", {spent.peak_bytes / 2**20:,.0f} MiB"
        kept = f"kept: {spent.kept_step}" if spent.kept_step else "none kept"
        steps = "" if not spent.steps else f" in {spent.steps} steps ({kept})"
        won = f"{100 * self.won_back:.0f} % of the KL to the full model is won back"
        if not self.is_changed:
            what = "step" if spent.steps else "map"
            won = f"no {what} was better than the plan; weights are the plan's own"
        took = f"{spent.seconds:.1f} s, {spent.tokens:,} tokens"
        return [won, f"{took}{memory} beyond the model{steps}"]

    def write(self, folder: Path, save: Any) -> None:
        """Write the folder, whole or not at all; ``save`` writes weights and tokenizer into one."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(folder.parent, folder.name)
        with written_aside(folder) as place:
            place.mkdir()
            save(place)
            (place / NAME).write_text(
                json.dumps(self.content(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            (place / "README.md").write_text(self._card(folder.name), encoding="utf-8")

    def content(self) -> dict[str, Any]:
        """Return what ``healed.json`` holds."""
        return {
            "plan": str(self.plan),
            "method": self.method,
            "settings": dict(self.settings),
            "base": self.base,
            "digests": dict(self.digests),
            "is_changed": self.is_changed,
            "won_back": self.won_back,
            "measured": [asdict(one) for one in self.measured],
            "spent": asdict(self.spent),
            "fitted": [one._asdict() for one in self.fitted],
        }

    @classmethod
    def read(cls, folder: str | Path) -> "Healed":
        """Return what a folder says of its healing; raises UserError where it holds none."""
        path = Path(folder) / NAME
        try:
            content = read_json_file(path)
            measured, fitted = (
                of_type(list[Any], content[name], name) for name in ("measured", "fitted")
            )
            read = cls(
                plan=Plan.parse(content["plan"]),
                method=of_type(str, content["method"], "method"),
                settings=of_type(dict[str, Any], content["settings"], "settings"),
                base=of_type(str, content["base"], "base"),
                digests=of_type(dict[str, str], content["digests"], "digests"),
                measured=[typed(Measured, row) for row in measured],
                spent=typed(Spent, content["spent"]),
                fitted=[typed(FittedGap, row) for row in fitted],
                folder=Path(folder),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not what healing writes: {error}") from None
        if "kl" not in [one.name for one in read.measured]:
            raise UserError(f"{path} is not what healing writes: it has no measured kl")
        return read

    def _card(self, name: str) -> str:
        """Return the folder's README."""
        name = printable(name.replace("\n", " "))
        code = json.dumps(name, ensure_ascii=False)  # also a text of Python
        opens = f'model = impasto.load({code})\nplan = impasto.Plan.parse("{self.plan}")'
        export = code_span(f"impasto export DEST --model {shlex.quote(name)}")
        facts: list[tuple[str, object]] = [
            ("plan", Code(str(self.plan))),
            ("method", self.method),
            ("base model", Code(self.base)),
            *((f"digest of the {what}", Code(digest)) for what, digest in self.digests.items()),
        ]
        kind = "A PEFT adapter" if self.method == "lora" else "A checkpoint"
        lines = "\n".join(f"* {sentence}." for sentence in self.sentences)
        return f"""\
# {plain_text(name)}: healed for the plan {code_span(str(self.plan))}

{kind} whose weights were healed for this plan: run as the full model, without the plan, it is
neither the base model nor the plan. {export} writes a checkpoint that
runs the plan without impasto.

```python
import impasto

{opens}
```

{Table(("", ""), facts).written("md")}
{self.table.written("md")}
{lines}
"""


def _row(one: Measured) -> list[str]:
    """Return a row of the table as people read it."""
    percent = one.name not in ("perplexity", "kl")
    scale, digits = (100, ".1f") if percent else (1, ".4g")
    unit = " %" if percent else ""
    values = [f"{scale * value:{digits}}{unit}" for value in (one.full, one.plan, one.healed)]
    ends = [f"{scale * value:+{digits}}" for value in (one.difference, one.low, one.high)]
    nats = " nats" if one.name == "perplexity" else " points" if percent else ""
    difference = f"{ends[0]}{nats} ({ends[1]} to {ends[2]})"
    return [TITLES.get(one.name, one.name), *values, difference, f"{one.n:,}"]
