"""A study on an encoder: cells like any other, heads and checkpoints kept beside the results."""

import pytest

import tiny
from impasto import Study, UserError
from impasto.figures import Found
from impasto.report.content import content_of
from impasto.study.folder.files import HEADS

PLANS = "plans: [skip: {n: 1}, '0 [1-2]*2 3']\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.files(tmp_path_factory.mktemp("data"), train=32, validation=8)


def study(folder, model, options):
    path = folder / "study.yaml"
    path.write_text(f"model: {model}\ntasks: [{{name: glue, {options}}}]\n{PLANS}")
    return Study.from_yaml(path)


@pytest.mark.parametrize(
    "protocol", ["protocol: frozen", "protocol: fine-tuned, epochs: 1, seed: [0, 1]"]
)
def test_heads_are_kept_and_nothing_is_fitted_twice(model, data, protocol, tmp_path, monkeypatch):
    files = f"data: {data['sst2']}, tasks: sst2, {protocol}"
    read = study(tmp_path, model, files)
    first = read.run(tmp_path / "out").table
    assert set(first["metric"]) == {"acc", "score"}
    kept = list((tmp_path / "out" / HEADS).glob("*/*"))
    assert len(kept) == (3 if "frozen" in protocol else 6)
    for what in ("predicting._fitted", "tuning._trained"):
        monkeypatch.setattr(f"impasto.heads.{what}", None)
    again = read.run(tmp_path / "out").table
    assert again["value"].tolist() == first["value"].tolist()
    for lost in (tmp_path / "out").glob("*.*"):
        lost.unlink()
    found = read.run(tmp_path / "out").table
    assert found["value"].tolist() == pytest.approx(first["value"].tolist(), nan_ok=True)


def test_figures_and_the_page_show_its_tasks_and_their_average(model, data, tmp_path):
    files = f"data: {{sst2: {data['sst2']}, stsb: {data['stsb']}}}, tasks: [sst2, stsb]"
    results = study(tmp_path, model, files).run(tmp_path / "out")
    frame = results.table
    assert all(error >= 0 for error in frame["stderr"])
    content = content_of(Found(tmp_path, results, {}))
    assert [task["title"] for task in content.first["tasks"]] == [
        "SST-2 (frozen)",
        "STS-B (frozen)",
    ]
    place = next(i for i, plan in enumerate(content.first["plans"]) if plan["family"] == "skip")
    averages = frame[(frame["task"] == "glue_frozen") & (frame["strategy"] == "skip")]["value"]
    scores = [scores[place][0] for scores in content.first["scores"]]
    assert sum(scores) / 2 == pytest.approx(averages.item(), abs=1e-4)
    right = {
        digest: [
            record["metrics"]["acc"]
            for record in results.answers
            if (record["task"], record["digest"]) == ("sst2_frozen", digest)
        ]
        for digest in (content.first["plans"][at]["digest"] for at in (0, place))
    }
    before, after = right.values()
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    assert content.first["changed"][0][place] == [lost, gained]


def test_masked_texts_are_refused_by_an_encoder_without_the_head(model, data, tmp_path):
    path = tmp_path / "study.yaml"
    texts = f"{{name: masked_text, data: {data['sst2']['train']}, column: sentence, limit: 2}}"
    path.write_text(f"model: {model}\ntasks: [{texts}]\n{PLANS}")
    with pytest.raises(UserError, match="without the head"):
        Study.from_yaml(path).run()


def test_a_decoder_is_refused_and_told_what_to_run(data, tmp_path):
    path = tmp_path / "study.yaml"
    task = f"{{name: glue, tasks: sst2, data: {data['sst2']}}}"
    path.write_text(f"model: demo\ntasks: [{task}]\nplans: [baseline]\n")
    with pytest.raises(UserError, match="is no encoder"):
        Study.from_yaml(path).run()


def test_what_a_decoder_answers_is_refused_on_an_encoder(model, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"model: {model}\ntasks: [capitals]\nplans: [baseline]\n")
    with pytest.raises(UserError, match="is an encoder"):
        Study.from_yaml(path).run()
