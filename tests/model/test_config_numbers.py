"""Configurations with values that no model has: one message, and nothing is built of them."""

import json
from pathlib import Path

import pytest

import impasto
from families import family
from impasto import Plan
from impasto.model.structure.anatomy import ModelError


def changed(folder, **values):
    """Return a folder whose config.json has other values."""
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return str(folder)


@pytest.fixture
def plain(tmp_path):
    family("llama").save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"num_hidden_layers": 10**9},
            "config.json is 1000000000; a model has",
        ),
        (
            {"max_position_embeddings": 10**400},
            "max_position_embeddings in config",
        ),
        ({"head_dim": 10**400}, "head_dim in config.json is no number"),
        ({"hidden_size": "wide"}, "plain"),
        ({"rope_parameters": 5}, "plain"),
        ({"architectures": [5]}, "plain"),
    ],
)
def test_a_value_that_no_model_has_is_one_message(values, says, plain):
    with pytest.raises(ModelError, match=says) as raised:
        impasto.load(changed(plain, **values))
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(
    "section",
    [{"architecture": 5}, {"json": 5}, {"json": "[" * 50_000}, {"architecture": None}],
    ids=str,
)
def test_a_planned_folder_with_other_values_is_one_message(section, tmp_path):
    impasto.export(family("llama"), Plan.parse("0 freeze 1-3"), tmp_path / "planned")
    path = tmp_path / "planned" / "config.json"
    whole = json.loads(path.read_text())
    changed(path.parent, impasto=whole["impasto"] | section)
    with pytest.raises(impasto.UserError):
        impasto.load(str(path.parent))
