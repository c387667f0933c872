"""What an exported folder says about itself: which model it is, and which plan runs on it.

The folder's ``config.json`` is the source's own under another ``model_type``, with one section
more. So nothing takes it for the source, and :func:`impasto.load` finds the source in it without
running the code that lies beside it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from impasto.error import shown
from impasto.model.loading.unreadable import UNREADABLE, reason_of
from impasto.model.structure.added_maps import CONFIGURED, maps_of
from impasto.model.structure.anatomy import ModelError
from impasto.plan import Plan

SECTION = "impasto"
TYPE_PREFIX = "impasto_"


def maps_within(config: PreTrainedConfig, path: str, layers: Collection[int]) -> dict[str, int]:
    """Return the maps behind modules of some layers, as a configuration has them.

    Args:
        config: The configuration.
        path: Where the model's blocks are.
        layers: The layers.

    Raises:
        ModelError: when it says what cannot be.
    """
    found = {}
    for name, width in maps_of(config).items():
        layer = name.removeprefix(f"{path}.").partition(".")[0]
        if not (name.startswith(f"{path}.") and layer.isdecimal() and type(width) is int):
            raise ModelError(f"config.json is damaged: {CONFIGURED} has {shown({name: width})}")
        if int(layer) in layers:
            found[name] = width
    return found


@dataclass(frozen=True)
class PlannedFolder:
    """A folder that :func:`impasto.export` wrote for a plan that no plain checkpoint can hold.

    Attributes:
        plan: The plan; its layers, each once, are what the folder holds.
        family: The ``model_type`` of the source.
        config: The source's own configuration.
    """

    plan: Plan
    family: str
    config: PreTrainedConfig


def read_planned(config: dict[str, Any]) -> PlannedFolder | None:
    """Read a ``config.json``; None for that of any other model.

    Raises:
        ModelError: when it is one, but damaged, or of a family that this transformers does not
            know.
    """
    section = config.get(SECTION)
    kind = str(config.get("model_type", ""))
    if not isinstance(section, dict) or not kind.startswith(TYPE_PREFIX):
        return None
    family = kind.removeprefix(TYPE_PREFIX)
    if family not in CONFIG_MAPPING:
        raise ModelError(f"the exported model is a {family}, which this transformers does not know")
    try:
        plan, architecture = Plan.from_json(section["json"]), section["architecture"]
    except KeyError as error:
        raise ModelError(f"config.json is damaged: its section {SECTION} lacks {error}") from None
    if not isinstance(architecture, str):
        raise ModelError(
            f"config.json is damaged: architecture in its section {SECTION} is a class's name, not "
            f"{shown(architecture)}"
        )
    added = (SECTION, "auto_map", "model_type", "architectures")
    own = {name: value for name, value in config.items() if name not in added}
    own["architectures"] = [architecture]
    try:
        return PlannedFolder(plan, family, CONFIG_MAPPING[family].from_dict(own))
    except UNREADABLE as error:
        raise ModelError(f"config.json is damaged: {reason_of(error)}") from error
