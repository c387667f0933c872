"""What a study or a plan is said to cost on a card that is not there."""

import pytest
import torch
from typer.testing import CliRunner

import impasto
from families import FAMILIES, family, weighted
from impasto import Plan, Study, UserError
from impasto.cli import app
from impasto.model.opened import counting_for
from impasto.run.batching.batches import rows_per_call
from impasto.run.opening import opened
from impasto.run.tuning import PRODUCTS_PER_CALL, PRODUCTS_PER_CALL_ELSEWHERE
from impasto.speed.cards import CARDS, OF_BANDWIDTH, OF_PRODUCTS, card_named
from impasto.speed.on_card import batch_bytes, pace_on

STUDY = """\
model: {model}
tasks: [{{name: arithmetic, terms: 2, limit: 4}}, {{name: capitals, limit: 4}}]
plans: [{{freeze: {{k: all}}}}, "0-2 5-11"]
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(model="demo"))
    return path


def explain(*words):
    return CliRunner().invoke(app, ["explain", *map(str, words)])


def test_a_pace_is_the_data_sheets_by_what_is_assumed():
    shape = impasto.load(family("llama")).shape
    card, layer = card_named("h200"), shape.layers[0]
    weights = layer.attention + layer.mlp
    pace = pace_on(card, "bfloat16", shape)
    assert pace.row == pytest.approx(2 * weights / (OF_PRODUCTS * 989.5e12))
    large = pace_on(card, "float32", impasto.load("demo").shape)
    assert large.row > pace.row
    assert pace.call >= weights * shape.itemsize / (OF_BANDWIDTH * 4.8e12)


def test_a_faster_card_is_said_to_be_faster(study):
    read = Study.from_yaml(study)
    seconds = {name: read.estimate(card=name).seconds for name in ("h200", "l4", "t4")}
    assert 0 < seconds["h200"] < seconds["l4"] < seconds["t4"]


def test_batches_are_those_of_a_card_not_of_the_processor():
    hf = weighted(FAMILIES["llama"]()).requires_grad_(False)
    model = opened(hf)
    here = rows_per_call(model)
    with counting_for(torch.device("cuda")):
        there = rows_per_call(model)
        assert model.device.type == "cpu"
    rate = PRODUCTS_PER_CALL_ELSEWHERE / PRODUCTS_PER_CALL["cpu"]
    assert there == pytest.approx(here * rate, rel=1e-3)
    assert rows_per_call(model) == here


def test_a_study_is_explained_for_a_card(study):
    done = explain(study, "--device", "a100-80")
    assert done.exit_code == 0, done.output
    assert "on a a100-80, an estimate, at " in done.stdout
    assert "60% of a a100-80's nominal products, 80% of its bandwidth" in done.stdout
    assert "a a100-80 has 74.51 GiB" in done.stdout
    assert "as measured here" not in done.stdout


def test_a_plan_is_explained_for_a_card():
    done = explain("--plan", "0-7 freeze 8-11", "--model", "demo", "--device", "l4")
    assert done.exit_code == 0, done.output
    assert "on       a l4, an estimate: prefill " in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "h100"), "Known are h200, h100-sxm"),
        (("--device", "cuda:9"), "there is no device 'cuda:9' here"),
        (("--device", "v100", "--dtype", "bfloat16"), "a v100 has no bfloat16; --dtype float16"),
    ],
)
def test_what_is_no_card_or_lacks_a_dtype_is_said(study, words, said):
    done = explain(study, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_weights_that_are_too_large_for_a_card_are_refused():
    with pytest.raises(UserError, match=r"take 18.63 GiB, and a t4 has 14.90 GiB"):
        batch_bytes(CARDS["t4"], 20 * 10**9)
    assert batch_bytes(CARDS["h200"], 0) == 141 * 10**9 * 8 // 10


def test_what_is_counted_for_a_card_changes_no_answer():
    model = impasto.load(family("llama"))
    request = [([3, 1, 4, 1], [5, 9])]
    before = model.loglikelihood(Plan.parse("0-5"), request)
    with counting_for(torch.device("cuda")):
        assert model.scoring_cost(Plan.parse("0-5"), request).rows > 0
    assert model.loglikelihood(Plan.parse("0-5"), request) == before
