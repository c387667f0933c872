"""Writing a folder that runs its plan by itself: the source's layers, each once, and small code.

Beside the weights, in the source's own numbering, lie :mod:`impasto.exporting.modeling` and, where
the plan has noise, :mod:`impasto.run.noise`, where healing added maps,
:mod:`impasto.model.structure.added_maps`, copied as they are; ten lines bind them to the family's
class. The configuration is the source's under another ``model_type``, so that without the
code nothing opens the folder as if it were the source.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers

import impasto.run.kv.states
import impasto.run.noise
from impasto.exporting import caches, calls, modeling, sequences
from impasto.exporting.error import ExportError
from impasto.model.decoder import OpenedModel
from impasto.model.loading.exported import SECTION, TYPE_PREFIX, maps_within
from impasto.model.structure import added_maps
from impasto.model.structure.absent import with_tied
from impasto.model.structure.block import Block, Component
from impasto.plan import Plan
from impasto.plan.lowering import lower

BOUND = '''\
"""{family} under the plan {plan}, as impasto exported it."""

from transformers import {config}, {family}

from .{runs}_impasto import {base}
{imports}

class PlannedConfig({config}):
    model_type = "{kind}"


class {own}({base}, {family}):
    config_class = PlannedConfig
{body}'''

# What a folder's code consists of, by the name of the file; the second where rows are not packed.
_PACKED = {"planned": modeling, "caches": caches, "calls": calls}
_SEQUENTIAL = {"sequences": sequences, "states": impasto.run.kv.states}


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
    family, kind = type(model.hf), TYPE_PREFIX + model.hf.config.model_type
    own = f"Planned{_marked(model)}{auto.removeprefix('AutoModel') or 'Model'}"
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
        runs="planned" if model.packs_rows else "sequences",
        base="Planned" if model.packs_rows else "PlannedSequences",
        imports=imports,
        body=body,
    )
    (folder / "modeling_impasto.py").write_text(bound, encoding="utf-8")
    for name, module in (_PACKED if model.packs_rows else _PACKED | _SEQUENTIAL).items():
        (folder / f"{name}_impasto.py").write_text(_alone(module), encoding="utf-8")
    if is_noisy:
        (folder / "noise_impasto.py").write_text(_alone(impasto.run.noise), encoding="utf-8")
    if maps:
        (folder / "maps_impasto.py").write_text(_alone(added_maps), encoding="utf-8")
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
    section: dict[str, Any] = {
        "plan": str(plan),
        "digest": plan.digest,
        "json": plan.to_json(),
        "program": lower(plan).to_data(),
        "architecture": type(model.hf).__name__,
        "blocks": anatomy.path,
        "held": sorted(with_tied(model.hf, anatomy.path, plan.layers)),
        "outputs": model.habits.block_outputs,
        "cache_argument": model.habits.cache_argument,
    }
    habits = model.sequential
    if habits is None:
        return section | {
            "attention": _arities(anatomy.attention, block.attention),
            "mlp": _arities(anatomy.mlp, block.mlp),
        }
    return section | {
        "takes_cache": habits.takes_cache,
        "goes_on": habits.goes_on,
        "shares": None if habits.sharing is None else habits.sharing.argument,
        "form": [model.habits.form.streams, model.habits.form.axis],
        "parts": [
            {"attention": _named(block, block.attention), "mlp": _named(block, block.mlp)}
            for block in model.blocks
        ],
    }


def _named(block: Block, components: Sequence[Component]) -> dict[str, int]:
    """Return the modules of a part by their names within a block, with the arities of outputs."""
    names = {id(module): name for name, module in block.module.named_modules()}
    return {names[id(each.module)]: each.outputs for each in components}


def _arities(names: tuple[str, ...], components: Any) -> dict[str, int]:
    return {name: part.outputs for name, part in zip(names, components, strict=True)}


def _alone(module: ModuleType) -> str:
    """Return a module as a folder holds it: without what checks shapes, importing its neighbours.

    It needs torch and transformers alone.
    """
    lines = inspect.getsource(module).splitlines(keepends=True)
    future = "from __future__ import annotations\n"
    if any(line.startswith("from jaxtyping") for line in lines) and future not in lines:
        first = next(at for at, line in enumerate(lines) if line.startswith(("import ", "from ")))
        lines[first:first] = [future, "\n"]
    code = "".join(line for line in lines if not line.startswith("from jaxtyping"))
    for name, other in (_PACKED | _SEQUENTIAL).items():
        code = code.replace(f"from {other.__name__} import", f"from .{name}_impasto import")
    return code


def _marked(model: OpenedModel) -> str:
    """Return what a class's name holds where Hugging Face's generate goes by it.

    It hands over a cache as ``cache_params`` to a class that is called some Mamba.
    """
    habits = model.sequential
    return "Mamba" if habits is not None and habits.takes_cache == "cache_params" else ""
