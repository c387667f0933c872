"""What an exported folder says to people (README.md) and to programs (impasto.json)."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import ModelCard, ModelCardData
from transformers.utils.hub import cached_file

import impasto
from impasto.model.loading.files import BUNDLED, bundled_folder
from impasto.plan import Plan
from impasto.plan.healed import plan_of_healed
from impasto.screen import printable
from impasto.table import Code, Table, code_span, plain_text

PLAIN = """\
Every layer of the plan is a layer of this checkpoint, in the plan's order; a layer that the plan
repeats is stored once for each time, for the file format knows no second name for a tensor.

```python
from transformers import {auto}

model = {auto}.from_pretrained("{place}")
```
"""
PLANNED = """\
The folder holds the layers that the plan names, each once and under its own number, and the code
that runs the plan on them (`modeling_impasto.py` and what it imports; impasto is not needed):

```python
from transformers import {auto}

model = {auto}.from_pretrained("{place}", trust_remote_code=True)
```

`impasto.load("{place}")` opens it without running that code; `model.plan` is the plan.
"""
NAS = """\
A Llama whose blocks may lack a part, in the form of the Nemotron-NAS models: `block_configs` in
`config.json` says which. Every step of the plan is a block, in the plan's order.

```console
$ vllm serve "{place}" --trust-remote-code
```

The code (`configuration_decilm.py`) only reads `block_configs`.
"""
USAGE = {"checkpoint": PLAIN, "planned": PLANNED, "nemotron-nas": NAS}


@dataclass(frozen=True)
class Provenance:
    """Where an exported folder comes from.

    Attributes:
        plan: The plan, in its canonical spelling.
        digest: Its digest.
        form: ``checkpoint``, ``planned`` or ``nemotron-nas``.
        source: The source model, as it was loaded.
        weights: SHA-256 of the source's weights that the plan uses (:func:`weights_digest`).
        opens_by: The Auto class of transformers that opens it, or the engine.
        impasto: The version that exported it.
    """

    plan: str
    digest: str
    form: str
    source: str
    weights: str
    opens_by: str
    impasto: str = impasto.__version__


def write_card(
    folder: Path,
    about: Provenance,
    difference: float,
    checked: str,
    place: str,
    options: dict[str, Any],
) -> None:
    """Write README.md and impasto.json.

    Args:
        folder: Where.
        about: Where what lies there comes from.
        difference: The largest relative difference from the plan's logits that was found.
        checked: What was checked, in a sentence.
        place: What the folder is to be called.
        options: How the source was loaded.
    """
    source = card_of(about.source, options)
    data = ModelCardData(
        library_name="transformers",
        tags=["impasto"],
        base_model=about.source if _is_hub_id(about.source) else None,
        license=source.license if source else None,
        license_name=source.get("license_name") if source else None,
        license_link=source.get("license_link") if source else None,
        language=source.language if source else None,
    )
    facts = [
        ("plan", Code(about.plan)),
        ("digest", Code(about.digest)),
        ("source", Code(about.source)),
        ("SHA-256 of the weights used", Code(about.weights)),
        ("license", data.license_name or data.license or "not stated by the source"),
        ("checked", checked),
    ]
    code = json.dumps(place, ensure_ascii=False)  # also a text of Python
    name = plain_text(printable(Path(about.source).name.replace("\n", " ")))
    usage = USAGE[about.form]
    usage = usage.replace('"{place}"', code).replace("{auto}", about.opens_by)
    text = f"""\
---
{data.to_yaml()}
---

# {name} under the plan {code_span(about.plan)}

{Table(("", ""), facts).written("md")}
{usage}
Exported by impasto {about.impasto}; {_trained(about.source)}.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
    facts_for_programs = asdict(about) | {"difference": difference, "checked": checked}
    document = json.dumps(facts_for_programs, indent=2, ensure_ascii=False)
    (folder / "impasto.json").write_text(document + "\n", encoding="utf-8")


def _trained(source: str) -> str:
    """Say whether the source's weights were healed."""
    if plan_of_healed(source) is None:
        return "nothing was trained"
    return "the source's weights were healed for this plan, as its own card says"


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and name[0] not in "./~" and not Path(name).exists()


def card_of(source: str, options: dict[str, Any]) -> Any:
    """Return what the source's model card declares; None where there is no card to be read."""
    if hasattr(transformers, source):
        return None  # the class of a model that was not loaded by a name
    source = bundled_folder(source) if source in BUNDLED else source
    where = {name: options[name] for name in ("revision", "token", "cache_dir") if name in options}
    try:
        path = cached_file(
            source,
            "README.md",
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **where,
        )
        if path is None or not Path(path).read_text(encoding="utf-8").startswith("---"):
            return None
        return ModelCard.load(path, ignore_metadata_errors=True).data
    except (OSError, ValueError):
        return None


def weights_digest(hf: Any, path: str, plan: Plan) -> str:
    """Return SHA-256 over the name, type, shape and bytes of every weight that a plan uses.

    In the order of their names, those of layers that the plan does not name left out; the same
    whether or not they were loaded.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(hf.state_dict().items()):
        layer = name.removeprefix(f"{path}.").partition(".")[0]
        if name.startswith(f"{path}.") and int(layer) not in plan.layers:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        for part in flat.split(2**26):
            digest.update(part.cpu().numpy().data)
    return digest.hexdigest()
