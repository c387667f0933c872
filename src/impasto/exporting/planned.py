"""Writing a folder that runs its plan by itself: the source's layers, each once, and small code.

Beside the weights, in the source's own numbering, lie :mod:`impasto.exporting.modeling` and, where
the plan has noise, :mod:`impasto.run.noise`, where healing added maps,
:mod:`impasto.model.structure.added_maps`, copied as they are; ten lines bind them to the family's
class. The configuration is the source's under another ``model_type``, so that without the
code nothing opens the folder as if it were the source.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import transformers

import impasto.run.noise
from impasto.exporting import caches, modeling
from impasto.exporting.error import ExportError
from impasto.model.decoder import OpenedModel
from impasto.model.loading.exported import SECTION, TYPE_PREFIX, maps_within
from impasto.model.structure import added_maps
from impasto.plan import Plan
from impasto.plan.lowering import lower

BOUND = '''\
"""{family} under the plan {plan}, as impasto exported it."""

from transformers import {config}, {family}

from .planned_impasto import Planned
{imports}

class PlannedConfig({config}):
    model_type = "{kind}"


class {own}(Planned, {family}):
    config_class = PlannedConfig
{body}'''

_CACHES = "from .caches_impasto import"  # how the files of a folder import each other


def check_family(hf: Any) -> None:
    """Raise ExportError unless the model's class comes with transformers, to be opened by name."""
    family = type(hf)
    is_inner = family.__module__.startswith("transformers.models.")
    if is_inner and not hasattr(transformers, family.__name__):
        raise ExportError(
            f"{family.__name__} stands inside another model, and transformers opens no folder by "
            "that class; impasto.load and impasto.apply run the plan"
        )
    if getattr(transformers, family.__name__, None) is not family:
        raise ExportError(
            f"{family.__name__} does not come with transformers: its code came with the "
            "checkpoint, and a folder that stands on its own cannot be written for it"
        )


def write_code(model: OpenedModel, plan: Plan, auto: str, folder: Path) -> None:
    """Put the code beside saved weights, and say in ``config.json`` that it is there.

    Args:
        model: The source.
        plan: The plan.
        auto: The Auto class that opens the folder.
        folder: The folder.
    """
    own = "Planned" + (auto.removeprefix("AutoModel") or "Model")
    family, kind = type(model.hf), TYPE_PREFIX + model.hf.config.model_type
    is_noisy = lower(plan).is_noisy
    maps = maps_within(model.hf.config, model.anatomy.path, plan.layers)
    imports = "from .noise_impasto import NoiseSource, noise, prefix_keys\n" if is_noisy else ""
    imports += "from .maps_impasto import put_maps\n" if maps else ""
    body = "    draws = (prefix_keys, NoiseSource, noise)\n" if is_noisy else ""
    body += "    put_maps = staticmethod(put_maps)\n" if maps else ""
    bound = BOUND.format(
        plan=plan,
        kind=kind,
        family=family.__name__,
        own=own,
        config=type(model.hf.config).__name__,
        imports=imports,
        body=body,
    )
    (folder / "modeling_impasto.py").write_text(bound, encoding="utf-8")
    code = inspect.getsource(modeling).replace(f"from {caches.__name__} import", _CACHES)
    (folder / "planned_impasto.py").write_text(code, encoding="utf-8")
    (folder / "caches_impasto.py").write_text(inspect.getsource(caches), encoding="utf-8")
    if is_noisy:
        (folder / "noise_impasto.py").write_text(_noise_source(), encoding="utf-8")
    if maps:
        (folder / "maps_impasto.py").write_text(inspect.getsource(added_maps), encoding="utf-8")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {
        "model_type": kind,
        "architectures": [own],
        "auto_map": {
            "AutoConfig": "modeling_impasto.PlannedConfig",
            auto: f"modeling_impasto.{own}",
        },
        SECTION: _section(model, plan),
        **({added_maps.CONFIGURED: maps} if added_maps.CONFIGURED in config else {}),
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _section(model: OpenedModel, plan: Plan) -> dict[str, Any]:
    """Return what the code has to know about the model and the plan."""
    block = model.first_block()
    anatomy = model.anatomy
    return {
        "plan": str(plan),
        "digest": plan.digest,
        "json": plan.to_json(),
        "program": lower(plan).to_data(),
        "architecture": type(model.hf).__name__,
        "blocks": anatomy.path,
        "outputs": model.habits.block_outputs,
        "cache_argument": model.habits.cache_argument,
        "attention": _arities(anatomy.attention, block.attention),
        "mlp": _arities(anatomy.mlp, block.mlp),
    }


def _arities(names: tuple[str, ...], components: Any) -> dict[str, int]:
    return {name: part.outputs for name, part in zip(names, components, strict=True)}


def _noise_source() -> str:
    """Return the module that draws noise, less what checks shapes: it needs torch alone."""
    lines = inspect.getsource(impasto.run.noise).splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("from jaxtyping")]
    first = kept.index("import math\n")
    return "".join([*kept[:first], "from __future__ import annotations\n\n", *kept[first:]])
