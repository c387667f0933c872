"""A plan with how it is healed: another cell of a study than the plan as it is.

A healed plan runs the same layers, on weights that were fitted or trained for it. It is spelled as
the plan; its digest is the plan's with a tag that tells how it was healed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.error import UserError
from impasto.plain_data import read_json_file
from impasto.plan.plan import Plan

NAME = "healed.json"
TAG = re.compile(r"\+[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, repr=False)
class HealedPlan(Plan):
    """A plan and how it is healed.

    Attributes:
        heal: The method, its settings and its texts, as JSON with sorted keys.
    """

    heal: str = "{}"

    @classmethod
    def of(cls, plan: Plan, heal: Any) -> HealedPlan:
        """Return a plan that is healed in a way that plain data describe."""
        return cls(plan.steps, json.dumps(heal, sort_keys=True))

    @property
    def digest(self) -> str:
        """The plan's digest, and a tag that tells how it is healed.

        A file of texts is told by what it holds, where that is known, not by where it lies.
        """
        how = self.how
        if isinstance(texts := how.get("texts"), dict) and "digest" in texts:
            how["texts"] = {key: value for key, value in texts.items() if key != "file"}
        tag = hashlib.sha256(json.dumps(how, sort_keys=True).encode("ascii")).hexdigest()[:16]
        return f"{self.plain.digest}+{tag}"

    @property
    def plain(self) -> Plan:
        """The plan as it is."""
        return Plan(self.steps)

    @property
    def how(self) -> dict[str, Any]:
        """The method, its settings and its texts."""
        return json.loads(self.heal)


def is_digest_of(digest: str, plan: Plan) -> bool:
    """Whether a digest is a plan's, as it is or healed in whatever way."""
    own = plan.digest
    return digest == own or (
        digest.startswith(own) and TAG.fullmatch(digest[len(own) :]) is not None
    )


def plan_of_healed(folder: str | Path) -> Plan | None:
    """Return the plan that a folder was healed for; None for any other folder or name.

    Raises UserError where the file that says it is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        return Plan.parse(read_json_file(path)["plan"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged, so the folder's plan is not known: {error}") from None
