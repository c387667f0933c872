"""Maps behind modules: where no weight of a layer takes a map, it is a small module of its own."""

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from test_linear import DROPS_TWO, LAYERS, NORMED, ROUTED, logits, sides

import impasto
from families import family
from impasto import Plan
from impasto.exporting import ExportError, export
from impasto.mending.fitting import fitted
from impasto.mending.serving import _with, changed
from impasto.mending.settings import Linear
from impasto.model.structure.added_maps import add_map
from impasto.run.opening import opened

PLAN = Plan.parse(DROPS_TWO)
PLAIN = """
import sys
sys.modules["impasto"] = None
import torch, transformers
for folder in sys.argv[1:]:
    given = torch.load(folder + "/given.pt")
    opens = transformers.AutoModelForCausalLM.from_pretrained
    hf = opens(folder + "/out", trust_remote_code=True).eval()
    with torch.no_grad():
        found = hf(given["ids"]).logits
    worst = (found - given["logits"]).abs().max() / given["logits"].abs().max()
    assert worst <= 1e-5, (folder, float(worst))
"""


@cache
def healed_of(name: str):
    """Return a family's healed model, which no test changes, and what was fitted."""
    return fitted(opened(family(name)), PLAN, sides(), Linear())


@pytest.mark.parametrize("name", [*NORMED, *ROUTED])
def test_where_no_weight_takes_a_map_it_is_put_behind_what_adds_to_the_state(name):
    hf = family(name)
    before = {key: value.clone() for key, value in hf.state_dict().items()}
    healed, report = healed_of(name)
    gaps = [gap for gap in report if gap.left_out]
    assert [gap.left_out for gap in gaps] == ["2", "4.attn"]
    assert all(gap.after < gap.before for gap in gaps)
    assert hf.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in hf.state_dict().items())
    added = healed.state_dict().keys() - before.keys()
    assert added
    assert added <= {gap.weight for gap in gaps}, "steps behind a gap get no module"
    full = logits(hf, Plan.identity(LAYERS), sides())
    errors = [(logits(each, PLAN, sides()) - full).square().mean() for each in (hf, healed)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("name", ["gemma2", "mixtral"])
def test_the_map_is_what_numpy_finds_for_what_the_module_gives(name):
    hf, divided = family(name), sides()
    healed, [gap] = fitted(opened(hf), Plan.parse("0-4"), divided, Linear(ridge=0.0))
    layer = hf.model.layers[4]
    last = getattr(layer, "post_feedforward_layernorm", layer.mlp)
    given: dict[str, torch.Tensor] = {}

    def noting(what: str):
        def note(module, args, output):
            given[what] = output[0] if isinstance(output, tuple) else output

        return note

    hooks = [last.register_forward_hook(noting("added"))]
    hooks += [hf.model.layers[i].register_forward_hook(noting(f"{i}")) for i in (4, 5)]
    ids = torch.tensor([piece for item in divided.fitting for piece in item.pieces])
    with torch.no_grad():
        hf(input_ids=ids)
    for hook in hooks:
        hook.remove()
    x, four, five = (given[key].flatten(0, 1).double().numpy() for key in ("added", "4", "5"))
    w = 1 / np.sqrt(np.square(five).sum(1))[:, None]
    wanted = np.linalg.lstsq(w * x, w * (five - four), rcond=None)[0].T
    found = healed.get_parameter(gap.weight)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.slow
def test_a_process_without_impasto_gives_the_healed_plans_logits(tmp_path):
    folders = []
    for name in ("gemma3", "mixtral"):
        healed, _ = healed_of(name)
        place = tmp_path / name
        healed.save_pretrained(place / "healed")
        loaded = impasto.load(place / "healed")
        wanted = logits(healed, PLAN, sides())
        assert torch.allclose(logits(loaded.hf, PLAN, sides()), wanted, atol=1e-6)
        assert export(loaded, PLAN, place / "out").form == "planned"
        assert torch.allclose(
            logits(impasto.load(place / "out").hf, PLAN, sides()), wanted, atol=1e-6
        )
        ids = torch.tensor([piece for item in sides().measuring for piece in item.pieces])
        torch.save({"ids": ids, "logits": wanted}, place / "given.pt")
        folders.append(str(place))
    ran = subprocess.run([sys.executable, "-c", PLAIN, *folders], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_plan_of_whole_layers_keeps_its_maps_and_no_form_loses_them(tmp_path):
    plan = Plan.parse("0-1 3-5")
    healed, _ = fitted(opened(family("olmo2")), plan, sides(), Linear())
    assert export(healed, plan, tmp_path / "out").form == "planned"
    assert export(healed, Plan.parse("0 3-5"), tmp_path / "other").form == "checkpoint"
    for form in ("checkpoint", "nemotron-nas", "gguf"):
        with pytest.raises(ExportError, match=r"maps behind modules.*form='planned'"):
            export(healed, plan, tmp_path / "no", form)


def test_a_study_keeps_maps_with_the_weights_that_differ():
    hf = family("gemma2")
    healed, _ = healed_of("gemma2")
    again = _with(hf, changed(hf, healed))
    assert torch.equal(logits(again, PLAN, sides()), logits(healed, PLAN, sides()))


def test_a_map_behind_a_map_is_both_one_after_the_other():
    healed, report = fitted(opened(family("olmo2")), Plan.parse("0-4"), sides(), Linear())
    gap = next(gap for gap in report if gap.left_out)
    name = gap.weight.removesuffix(".added_map.weight")
    draw = torch.Generator().manual_seed(0)
    more = 0.1 * torch.randn(healed.get_parameter(gap.weight).shape, generator=draw)
    module, given = healed.get_submodule(name), torch.randn(3, len(more), generator=draw)
    with torch.no_grad():
        first = module(given)
        add_map(healed, name, more)
        assert torch.allclose(module(given), first + first @ more.T, atol=1e-4)


@pytest.mark.parametrize("maps", [{"model.layers.x.mlp": 4}, {"lm_head": 4}, {"a": "b"}])
def test_a_configuration_that_names_no_place_for_a_map_is_refused(maps, tmp_path):
    healed, _ = healed_of("olmo2")
    healed.save_pretrained(tmp_path / "healed")
    path = tmp_path / "healed" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"impasto_maps": maps}))
    with pytest.raises(impasto.ImpastoError, match=r"config\.json is damaged: impasto_maps"):
        impasto.load(tmp_path / "healed")
