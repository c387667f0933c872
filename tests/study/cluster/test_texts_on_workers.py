"""Texts on workers: read here as the workers read them, sent as token ids, answered to the bit."""

import math

import pandas as pd
import pytest

import impasto
from fake_reader import LINES, FakeReader, study_of
from fake_workers import FakePool
from impasto import Study, UserError
from impasto.study.cluster.joining import RemoteModel
from impasto.study.cluster.wire import AskedItems, packed_answer, unpacked_answer
from impasto.study.work.units import Answered
from impasto.tasks import Fidelity
from special_tokens import TEMPLATES, random_model, tokenizer_of
from thinning import thinned


@pytest.fixture
def model():
    return FakeReader()


def test_workers_answer_as_one_process_does(model, run_on, monkeypatch, tmp_path):
    study = study_of(tmp_path)
    whole = study.run(model=model)
    monkeypatch.setattr(RemoteModel, "tokens", lambda self, text: model.tokens(text))
    pool = FakePool(model)
    results = run_on(study, pool, tmp_path / "out", save_every=3.0)
    assert len(pool.asked) > 2
    told = ["weights", "model"]
    ours, theirs = (each.table.drop(columns=told) for each in (results, whole))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.parametrize("add_bos_token", [None, True, False])
@pytest.mark.parametrize("template", thinned(TEMPLATES, 4))
def test_a_text_is_read_here_as_workers_read_it(template, add_bos_token):
    tokenizer = tokenizer_of(template)
    model = impasto.load(random_model(tokenizer), tokenizer, add_bos_token=add_bos_token)
    told = {} if add_bos_token is None else {"add_bos_token": str(add_bos_token)}
    remote = RemoteModel("m", 4, tokenizer, told)
    for text in ("Q: What is the capital of France?", "<s>Paris"):
        assert remote.tokens(text) == model.tokens(text)
    assert remote.appended == model.appended


def test_requests_and_answers_reach_workers_and_come_back_to_the_bit():
    requests = [[Fidelity((1, 5, 7), 64)], [Fidelity((3,), 64)]]
    work = AskedItems(3, [], requests, None, None, "texts-a", ["1", "2"])
    assert AskedItems.unpacked(work.packed()).requests == requests
    said = [[((2, -math.pi, 1e-17 / 3, 1),), ((0, 0.0, float("inf"), 0),)]]
    found = unpacked_answer(packed_answer(Answered(3, said, 0, 0.0, 1.0, "here", "cpu")))
    assert found.responses == said
    [[[response], _]] = found.responses
    assert isinstance(response, tuple)
    assert [type(each) for each in response] == [int, float, float, int]


def test_layers_are_chosen_by_workers_where_they_are_asked_and_not_where_states_are_read(
    model, run_on, monkeypatch, tmp_path
):
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    texts = f"{{file: {tmp_path / 'lines.txt'}, tokens: 300, length: 64}}"

    def study(entry):
        task = texts.replace("{", "{name: texts, ", 1)
        return Study.from_text(f"model: m\ntasks: [{task}]\nplans: [{entry}]", name="mine")

    one_shot = study(f"one_shot: {{part: all, count: all, texts: {texts}}}")
    whole = one_shot.run(model=model)
    monkeypatch.setattr(RemoteModel, "tokens", lambda self, text: model.tokens(text))
    results = run_on(one_shot, FakePool(model), tmp_path / "out")
    assert results.study.plans == whole.study.plans
    with pytest.raises(UserError, match=r"run the study once without --cluster .* order"):
        run_on(study(f"block_influence: {{count: 1, texts: {texts}}}"), FakePool(model))
