"""Reading a study file: what it says, and one clear answer for whatever it cannot say."""

import random
import string
from pathlib import Path
from typing import Any

import pytest

from impasto.error import UserError
from impasto.study import PlanEntry, Study, StudyError

GOOD = """\
model: demo
tasks:
  - capitals
  - {name: arithmetic, terms: 3, limit: 200}
plans:
  - baseline
  - freeze: {k: all}
  - gaussian: {k: [1, 2], seed: [0, 1, 2]}
  - "0-1 [2-3]"
"""


def test_a_study_file_is_a_value():
    study = Study.from_text(GOOD, name="mine")
    assert (study.name, study.model) == ("mine", "demo")
    assert [task.options for task in study.tasks] == [
        {"name": "capitals"},
        {"name": "arithmetic", "terms": 3, "limit": 200},
    ]
    assert [plan.strategy for plan in study.plans] == ["baseline", "freeze", "gaussian", "plan"]
    assert study == Study.from_text("# a comment\n" + GOOD, name="mine")


def test_a_study_writes_itself_as_an_equal_study():
    study = Study.from_text(GOOD, name="mine")
    assert Study.from_text(study.to_yaml()) == study


def test_the_files_name_is_the_studys_name_unless_it_has_one(tmp_path):
    path = tmp_path / "depths.yaml"
    path.write_text(GOOD)
    assert Study.from_yaml(path).name == "depths"
    path.write_text(GOOD + "name: other\n")
    assert Study.from_yaml(path).name == "other"


def test_the_bundled_study_is_what_its_comments_say():
    study = Study.from_yaml("attend_first")
    assert [len(task.items) for task in study.load_suite().tasks] == [194, 110, 200]
    depths, seeds = 13, 3
    assert len(study.labelled_plans(12)) == 1 + depths * (1 + 1 + seeds + 1 + 1)


def test_plans_expand_with_the_models_layers_and_the_baseline_comes_first():
    study = Study.from_text("model: m\ntasks: [capitals]\nplans: [freeze: {k: all}]\n")
    plans = study.labelled_plans(3)
    assert [(p.strategy, dict(p.parameters), str(p.plan)) for p in plans] == [
        ("baseline", {}, "0-2"),
        ("freeze", {"k": 0}, "freeze 0-2"),
        ("freeze", {"k": 1}, "0 freeze 1-2"),
        ("freeze", {"k": 2}, "0-1 freeze 2"),
        ("freeze", {"k": 3}, "0-2 freeze"),
    ]


def test_a_depth_can_be_a_share_of_the_layers():
    study = Study.from_text("model: m\ntasks: [capitals]\nplans: [freeze: {k: [50%, 100%]}]\n")
    assert [dict(p.parameters) for p in study.labelled_plans(12)[1:]] == [{"k": 6}, {"k": 12}]


def test_how_the_model_is_loaded_is_part_of_the_study():
    study = Study.from_text(GOOD + "load: {dtype: bfloat16, revision: main}\n")
    assert study.load == {"dtype": "bfloat16", "revision": "main"}
    assert Study.from_text(study.to_yaml()) == study
    assert study != Study.from_text(GOOD)
    assert "load" not in Study.from_text(GOOD).to_yaml()
    assert study.as_run("other").load == {"dtype": "bfloat16"}
    assert study.as_run("demo", limit=3).load == study.load
    small = Study.from_text(GOOD + "load: {quantization: 4bit}\n")
    assert small.load == {"quantization": "4bit"}
    merged = Study.from_text(GOOD + "load: {merge_adapter: true}\n")
    assert merged.load == {"merge_adapter": True}
    assert Study.from_text(merged.to_yaml()) == merged


def test_a_study_may_have_several_models():
    study = Study.from_text(GOOD.replace("model: demo", "models: [demo, org/other]"), name="mine")
    assert study.models == ("demo", "org/other")
    assert Study.from_text(study.to_yaml()) == study
    assert study.as_run("org/other") == Study.from_text(
        GOOD.replace("demo", "org/other"), name="mine"
    )
    assert study.as_run(limit=7).models == study.models
    with pytest.raises(StudyError, match="mine has several models: demo, org/other"):
        study.model  # noqa: B018


def test_one_model_can_be_written_either_way():
    assert Study.from_text(GOOD.replace("model: demo", "models: [demo]")) == Study.from_text(GOOD)


def test_how_models_are_loaded_holds_for_all_of_a_studys_own():
    text = GOOD.replace("model: demo", "models: [demo, other]") + "load: {revision: main}\n"
    study = Study.from_text(text)
    assert study.as_run("other").load == {"revision": "main"}
    assert study.as_run("a third").load == {}


def test_a_study_that_is_made_in_python_names_its_models_too():
    wrong: list[Any] = [(), "demo", ["demo"], (3,)]
    for models in wrong:
        with pytest.raises(StudyError, match="models is a tuple of names, one at least"):
            Study("mine", models, (), ())


def test_a_label_that_is_listed_twice_is_there_once():
    study = Study.from_text(
        "model: m\ntasks: [capitals]\nplans: [baseline, freeze: {k: 1}, freeze: {k: [1, 2]}]\n"
    )
    assert [dict(p.parameters) for p in study.labelled_plans(3)] == [{}, {"k": 1}, {"k": 2}]


BAD = {
    "a key with a slip": (GOOD.replace("tasks:", "taks:"), 2, "did you mean 'tasks'"),
    "a key that does not exist": (GOOD + "workers: 4\n", 10, "The keys are model, tasks, plans"),
    "a load option with a slip": (GOOD + "load:\n  dtyp: float16\n", 11, "did you mean 'dtype'"),
    "a load option that runs code": (
        GOOD + "load: {trust_remote_code: true}\n",
        10,
        "It has dtype",
    ),
    "a dtype that is none": (GOOD + "load:\n  dtype: int3\n", 11, "dtype is one of auto"),
    "a device that is no word": (GOOD + "load: {device_map: 0}\n", 10, "device_map is auto"),
    "an attention that plans cannot edit": (
        GOOD + "load: {attn_implementation: flash_attention_2}\n",
        10,
        "attn_implementation is sdpa or eager",
    ),
    "a quantisation that nobody knows": (
        GOOD + "load: {quantization: 3bit}\n",
        10,
        "quantization is one of 4bit, 8bit, torchao-int8",
    ),
    "a quantisation by number": (GOOD + "load: {quantization: 4}\n", 10, "is one of 4bit"),
    "a merge that is no yes or no": (
        GOOD + "load: {merge_adapter: 'yes'}\n",
        10,
        "merge_adapter is true .* or false",
    ),
    "a load that is no mapping": (GOOD + "load: float16\n", 10, "'load' cannot be 'float16'"),
    "a share of more than all layers": (GOOD.replace("all", "120%"), 7, r"a share .* \(25%\)"),
    "a key given twice": (GOOD + "model: other\n", 10, "line 1 already gives it"),
    "no model": (GOOD.replace("model: demo\n", ""), 1, "'model' is missing"),
    "a list of models under model": (GOOD.replace("demo", "[demo, b]"), 1, "models: \\[demo, Eleu"),
    "both model and models": (GOOD + "models: [b]\n", 10, r"model \(one\) or models \(several\)"),
    "models before a model": ("models: [b]\n" + GOOD, 2, r"model \(one\) or models \(several\)"),
    "models that are none": (
        GOOD.replace("model: demo", "models: []"),
        1,
        r"'models' cannot be \[\]",
    ),
    "models that are one word": (GOOD.replace("model:", "models:"), 1, "'models' cannot be 'demo'"),
    "a model of several that is a number": (
        GOOD.replace("model: demo", "models:\n  - demo\n  - 7"),
        3,
        "'models' cannot be 7",
    ),
    "a model twice": (
        GOOD.replace("model: demo", "models:\n  - demo\n  - b\n  - demo"),
        4,
        "the model 'demo' is here twice",
    ),
    "a slip in models": (GOOD.replace("model: demo", "modles: [a]"), 1, "did you mean 'models'"),
    "a model that is a number": (GOOD.replace("demo", "7"), 1, "'model' cannot be 7"),
    "a task with a slip": (GOOD.replace("capitals", "capitols"), 3, "did you mean 'capitals'"),
    "an option with a slip": (GOOD.replace("terms", "term"), 4, "no option 'term'"),
    "an option out of range": (GOOD.replace("terms: 3", "terms: 9"), 4, "2 or 3"),
    "a limit that is no number": (GOOD.replace("200", "many"), 4, "limit must be a whole number"),
    "a task twice": (GOOD.replace("arithmetic, terms: 3", "capitals"), 4, "is here twice"),
    "a task without a name": (GOOD.replace("name: arithmetic, ", ""), 4, "with a name|such as"),
    "a strategy with a slip": (GOOD.replace("freeze", "freez"), 7, "did you mean 'freeze'"),
    "a choice with a slip": (GOOD.replace("seed", "sede"), 8, "takes no sede"),
    "a depth that is no number": (GOOD.replace("all", "deep"), 7, "k is a whole number"),
    "a seed that is no number": (GOOD.replace("[0, 1, 2]", "[0, x]"), 8, "seed"),
    "a choice without a name": (GOOD.replace("{k: all}", "all"), 7, "takes choices by name"),
    "a scale beyond its bounds": (
        GOOD.replace("freeze: {k: all}", "half_step: {scale: 9}"),
        7,
        "8@0.5",
    ),
    "a reach of nothing": (GOOD.replace("freeze: {k: all}", "reach: {k: all}"), 7, "at least one"),
    "an end that is no number": (
        GOOD.replace("freeze: {k: all}", "pairs_parallel: {to: x}"),
        7,
        "to is",
    ),
    "two strategies in one entry": (GOOD.replace("{k: all}", "{k: 1}\n    shuffle: {}"), 7, "one"),
    "a plan line with a slip": (GOOD.replace("[2-3]", "[2-3"), 9, r"\^"),
    "a plan line that is no text": (GOOD.replace('"0-1 [2-3]"', "7"), 9, "a line in quotes"),
    "a donor that no task has": (GOOD.replace("[2-3]", "inject(x)"), 9, r"inject\(donor\)"),
    "an alias": (GOOD.replace("demo", "&m demo") + "name: *m\n", 10, "no aliases"),
    "broken YAML": (GOOD.replace("{k: all}", "{k: all"), 8, "not YAML"),
    "a tag that builds an object": (GOOD.replace("demo", "!!python/name:os.system"), 1, "no tags"),
    "a tag of YAML's own": (GOOD.replace("3, limit", "!!bool x6, limit"), 4, "no tags"),
    "a word of thousands": (GOOD + f"{'m' * 900}: 1\n", 10, "unknown key 'mmm"),
    "a name that is no name": (GOOD + "name: ../up\n", 10, "letters, digits"),
    "a key that is no word": (GOOD + "[a]: b\n", 10, "a key must be a word"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_study_is_answered_with_its_line_and_what_is_allowed(case, line_of):
    text, line, message = BAD[case]
    with pytest.raises(StudyError, match=message) as caught:
        Study.from_text(text, source="mine.yaml")
    assert line_of(caught.value) == line
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "null", "42"])
def test_what_is_no_study_at_all_is_shown_one(text):
    with pytest.raises(StudyError, match="keys model, tasks, plans"):
        Study.from_text(text)


def test_a_layer_that_the_model_lacks_is_answered_with_the_files_line(line_of):
    study = Study.from_text(GOOD.replace("0-1 [2-3]", "0-40"), source="mine.yaml")
    with pytest.raises(StudyError, match=r"layers 0\.\.3") as caught:
        study.labelled_plans(4)
    assert line_of(caught.value) == 9


def test_a_depth_that_the_model_lacks_is_answered_with_the_files_line(line_of):
    study = Study.from_text(GOOD.replace("[1, 2]", "[1, 40]"), source="mine.yaml")
    with pytest.raises(StudyError, match="k is a whole number from 0 to 4") as caught:
        study.labelled_plans(4)
    assert line_of(caught.value) == 8


def test_pairs_of_an_odd_number_of_layers_are_answered_with_the_files_line(line_of):
    text = GOOD.replace("freeze: {k: all}", "pairs_parallel: {from: 1, to: 3}")
    with pytest.raises(StudyError, match="are 3 layers, of which one is left") as caught:
        Study.from_text(text, source="mine.yaml").labelled_plans(4)
    assert line_of(caught.value) == 7


def test_choices_are_decimals_where_a_scale_is_asked(tmp_path):
    text = GOOD.replace("freeze: {k: all}", "half_step: {i: 1, j: 3, scale: [0.5, -1, .25]}")
    study = Study.from_text(text)
    lines = [str(one.plan) for one in study.labelled_plans(4) if one.strategy == "half_step"]
    assert lines == ["0 (1-2)@0.5*2 3", "0 (1-2)@-1*2 3", "0 (1-2)@0.25*2 3"]
    again = Study.from_text(study.to_yaml())
    assert again.labelled_plans(4) == study.labelled_plans(4)


def test_a_missing_file_names_the_near_ones(tmp_path):
    (tmp_path / "attend_first.yaml").write_text(GOOD)
    for slip in ("attend_frist.yaml", "attend_first"):
        with pytest.raises(StudyError, match=r"did you mean .*attend_first\.yaml"):
            Study.from_yaml(tmp_path / slip)
    with pytest.raises(StudyError, match="nor does the folder"):
        Study.from_yaml(tmp_path / "nowhere" / "a.yaml")
    with pytest.raises(StudyError, match="is a folder"):
        Study.from_yaml(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(StudyError, match="not a text file"):
        Study.from_yaml(path)


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "a: " + "9" * 5000, "\x00"])
def test_a_hostile_text_is_refused(text):
    with pytest.raises(StudyError):
        Study.from_text(text)


def test_nothing_but_a_users_error_comes_out_of_any_text():
    chance = random.Random(0)
    signs = string.printable + "é\u2028\x00"
    for _ in range(400):
        text = list(GOOD)
        for _ in range(chance.randint(1, 6)):
            text[chance.randrange(len(text))] = chance.choice(signs)
        try:
            Study.from_text("".join(text))
        except UserError:
            continue


def test_a_strategys_name_alone_takes_its_own_choices():
    [entry] = Study.from_text("model: m\ntasks: [capitals]\nplans: [freeze]\n").plans
    assert entry == PlanEntry("freeze")
    assert len(entry.expand(4)) == 5


def test_another_tools_file_is_a_line_for_each_of_its_plans(tmp_path):
    """The study holds the plans, so that it means the same when the file is gone."""
    file = tmp_path / "paths.jsonl"
    file.write_text('{"valid_paths": [[0, 1], [1, 1]]}\n{"path": [2]}\n')
    written = f"model: demo\ntasks: [capitals]\nplans: [{{from: {file}, format: path}}, '3']\n"
    study = Study.from_text(written)
    file.unlink()
    assert [entry.line for entry in study.plans] == ["0-1", "1*2", "2", "3"]
    assert Study.from_text(study.to_yaml()) == study


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{from: none.txt}", "/none.txt'"),  # where it was looked for
        ("{from: drop.txt, fromat: evopress}", "no 'fromat'; did you mean 'format'?"),
        ("{from: drop.txt, layers: many}", "layers cannot be 'many'"),
        ("{from: drop.txt, layers: 12}", "for a model of 2 layers, and the model has 12"),
        ("{from: drop.txt, format: polar}", "a format is evopress or"),
    ],
)
def test_a_wrong_entry_of_another_tools_file_is_answered_with_its_line(
    entry, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("drop.txt").write_text("none\nattn\n")
    with pytest.raises(UserError) as error:
        Study.from_text(f"model: demo\ntasks: [capitals]\nplans:\n- {entry}\n", source="s.yaml")
    assert str(error.value).startswith("s.yaml, line 4: ")
    assert says in str(error.value)
