"""What is known of a model before its weights are read is what the loaded model is."""

import pytest

import impasto
from adapters import LORA, adapter_folder, base_folder
from encoders import ENCODERS, encoder
from families import FAMILIES, family
from impasto import Plan
from impasto.model.loading.load import outline
from impasto.model.structure.anatomy import ModelError
from impasto.run import Encoder
from thinning import thinned


def same(name):
    """Compare what is known with what is loaded; the weights are not there before."""
    told, loaded = outline(str(name)), impasto.load(str(name))
    return told == (loaded.num_layers, isinstance(loaded, Encoder))


@pytest.mark.parametrize("name", thinned(FAMILIES))
def test_every_family_of_decoders(name, tmp_path):
    family(name).save_pretrained(tmp_path)
    assert same(tmp_path)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_family_of_encoders(name, tmp_path):
    encoder(name).save_pretrained(tmp_path)
    assert same(tmp_path)


def test_the_bundled_model_an_adapter_and_an_exported_folder(tmp_path):
    assert outline("demo") == (12, False)
    base = base_folder(tmp_path / "base")
    adapter_folder(tmp_path / "adapter", base, LORA(target_modules=["q_proj"]))
    assert same(tmp_path / "adapter")
    for name, plan in (("whole", "0-3 6-11"), ("parts", "0-3 [4-6] 7-10.mlp")):
        impasto.export("demo", Plan.parse(plan), tmp_path / name)
        assert same(tmp_path / name)


def test_no_weights_are_needed(tmp_path):
    base_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert outline(str(tmp_path)).layers == impasto.load(family("llama")).num_layers


@pytest.mark.parametrize("config", [b"no JSON", b"{}", b'{"model_type": "made_up"}'])
def test_a_configuration_that_cannot_be_read_is_told_with_the_models_name(config, tmp_path):
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(ModelError, match=tmp_path.name):
        outline(str(tmp_path))
