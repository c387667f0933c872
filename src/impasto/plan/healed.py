"""Which plan a healed folder is for: what is read of it wherever a plan may be left out."""

import json
from pathlib import Path

from impasto.error import UserError
from impasto.plan.plan import Plan

NAME = "healed.json"


def plan_of_healed(folder: str | Path) -> Plan | None:
    """Return the plan that a folder was healed for; None for any other folder or name.

    Raises UserError where the file that says it is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        return Plan.parse(json.loads(path.read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged, so the folder's plan is not known: {error}") from None
