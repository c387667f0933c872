"""The studies that come with impasto: complete for 32 layers, right for any, presets in step."""

from collections import Counter
from pathlib import Path

import pytest

import impasto
from impasto import Study
from impasto.study import PlanEntry

STUDIES = Path(impasto.__file__).parent / "studies"
PRESETS = sorted((STUDIES / "presets").glob("*.yaml"))
BASES = {
    "attend_first": "attend_first_llm",
    "painters": "painters",
    "attention_subset": "attention_subset",
}
MODELS = {
    "attend_first": {
        "meta-llama/Llama-2-7b-hf",
        "mistralai/Mistral-7B-v0.1",
        "01-ai/Yi-6B",
        "EleutherAI/llemma_7b",
    },
    "painters": {
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-2-13b-hf",
        "meta-llama/Llama-2-70b-hf",
        "mistralai/Mistral-7B-v0.1",
        "EleutherAI/pythia-6.9b",
    },
    "attention_subset": {"meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf"},
}


def study(name: str) -> Study:
    return Study.from_yaml(STUDIES / f"{name}.yaml")


def counted(name: str, layers: int) -> Counter[str]:
    return Counter(plan.strategy for plan in study(name).labelled_plans(layers))


def base_of(path: Path) -> str:
    return next(paper for paper in BASES if path.stem.startswith(f"{paper}_"))


def test_the_painters_are_complete_for_32_layers():
    middles, seeds, loops = 15, 10, 28
    assert counted("painters", 32) == {
        "baseline": 1,
        "skip_one": 32,
        "switch": 31,
        "skip": middles,
        "middle_repeat": middles,
        "reverse": middles,
        "random_order": middles * seeds,
        "parallel": middles,
        "looped_parallel": middles * loops,
    }


def test_the_attention_subsets_are_the_papers_and_all_between():
    assert counted("attention_subset", 32) == {"baseline": 1, "drop_last": 3 * 31 * 2}
    papers = study("attention_subset").plans[1].expand(40)
    assert Counter(dict(plan.parameters)["count"] for plan in papers) == {4: 6, 10: 6, 13: 6}
    assert {str(plan.plan) for plan in papers} >= {"0-26 27-39.mlp", "0-25 26-38.mlp 39", "0-35"}


def test_paper_as_study_for_language_models_has_the_demos_plans_on_all_four_tasks():
    ours, demo = study("attend_first_llm"), study("attend_first")
    assert ours.plans == demo.plans
    assert [entry.options["name"] for entry in ours.tasks] == [
        "capitals",
        "arithmetic",
        "arithmetic",
        "squad",
        "cnn_dailymail",
    ]


def test_edits_that_need_no_training_are_all_there_for_the_demo():
    assert counted("edits", 12) == {
        "baseline": 1,
        "half_step": 4 * 4,
        "pairs_parallel": 6 * 6,
        "reach": 3 * 13,
        "drop_attention_from": 13,
        "freeze_prompt": 13,
        "freeze": 13,
    }
    middle = [plan.plan for plan in study("edits").plans[0].expand(12)]
    assert "0-2 (3-8)@0.25*4 9-11" in map(str, middle)


@pytest.mark.parametrize("name", [*BASES.values(), "attend_first", "edits"])
@pytest.mark.parametrize("layers", [6, 12, 33, 80])
def test_every_study_scales_to_any_number_of_layers(name, layers):
    plans = study(name).labelled_plans(layers)
    assert len(plans) > 20
    for labelled in plans:
        labelled.plan.check(layers)


def test_every_model_of_the_papers_has_its_preset():
    found: dict[str, set[str]] = {paper: set() for paper in BASES}
    for path in PRESETS:
        found[base_of(path)].add(Study.from_yaml(path).model)
    assert found == MODELS


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_its_papers_study_on_one_model(path):
    preset, base = Study.from_yaml(path), study(BASES[base_of(path)])
    assert preset.name == path.stem
    assert preset.tasks == base.tasks
    assert preset.load["device_map"] == "auto"
    assert preset.load["dtype"] in ("float16", "bfloat16")
    plans = list(base.plans)
    if preset.model.endswith(("-13b-hf", "-70b-hf")) and "painters" in path.stem:
        assert plans.pop() == PlanEntry("looped_parallel", {"n": "all", "loops": "all"})
        plans.append(PlanEntry("looped_parallel", {"n": "all", "loops": 3}))
    assert list(preset.plans) == plans


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_records_what_its_numbers_depend_on(path):
    text = path.read_text()
    for fact in ("model", "dtype", "BOS", "shots", "filters"):
        assert f"\n# {fact} " in text
    assert f"impasto run {path.stem}\n" in text
    for entry in Study.from_yaml(path).tasks:  # the harness's tasks all say their shots
        ours = entry.options["name"] in ("capitals", "arithmetic", "squad", "cnn_dailymail")
        assert ours or "num_fewshot" in entry.options


def test_the_painters_of_bert_are_complete_for_24_layers_under_both_protocols():
    middles, seeds, loops = 11, 10, 28
    assert counted("painters_bert", 24) == {
        "baseline": 1,
        "skip_one": 24,
        "switch": 23,
        "skip": middles,
        "middle_repeat": middles,
        "reverse": middles,
        "random_order": middles * seeds,
        "parallel": middles,
        "looped_parallel": middles * loops,
    }
    assert study("painters_bert").plans == study("painters").plans
    names = [entry.check() for entry in study("painters_bert").tasks]
    assert names == ["glue_frozen", "glue_frozen_published", "glue_fine-tuned"]
