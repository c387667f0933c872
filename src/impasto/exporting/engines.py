"""Names in ``config.json`` that engines and older readers look for, beside transformers' own.

transformers writes the rotary settings as ``rope_parameters`` and the type of weights as ``dtype``,
and leaves out what follows from other settings. Programs that read the names of before take a
default where they do not find them, without a word: another base, another width of heads.
"""

import json
from pathlib import Path
from typing import Any

_SECTIONS = ("text_config",)


def add_older_names(folder: Path, hf: Any) -> None:
    """Write the names of before beside those that a folder's ``config.json`` has.

    Each says what its newer one says; where the newer one is read, it changes nothing. What a
    model's configuration computes is not written: it cannot be read back.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for section in (config, *(config[name] for name in _SECTIONS if name in config)):
        for name, value in _older(section).items():
            known = getattr(type(hf.config), name, None)
            is_computed = isinstance(known, property) and known.fset is None
            if section.get(name) is None and not is_computed:
                section[name] = value
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _older(section: dict[str, Any]) -> dict[str, Any]:
    """Return the older names of one section's settings, with their values."""
    older: dict[str, Any] = {}
    if isinstance(section.get("dtype"), str):
        older["torch_dtype"] = section["dtype"]
    rope = section.get("rope_parameters")
    if not isinstance(rope, dict):
        return older
    hidden, heads = section.get("hidden_size"), section.get("num_attention_heads")
    if isinstance(hidden, int) and isinstance(heads, int):
        older["head_dim"] = hidden // heads
    full = rope.get("full_attention", rope)
    local = rope.get("sliding_attention")
    if isinstance(full.get("rope_theta"), (int, float)):
        older["rope_theta"] = full["rope_theta"]
    if full.get("rope_type", "default") != "default":
        older["rope_scaling"] = {k: v for k, v in full.items() if k != "rope_theta"}
    if isinstance(local, dict) and "rope_theta" in local:
        older["rope_local_base_freq"] = local["rope_theta"]
    return older
