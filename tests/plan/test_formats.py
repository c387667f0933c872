"""Other tools' programs: each format to a plan and back, and every mistake with its place."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.plan import Layer, Plan, PlanError
from impasto.plan.formats import FORMATS, WRITTEN, read_plans, write_plan
from impasto.plan.formats.block_configs import block_config

DROPPING = ["evopress", "llm-drop", "per-layer-config"]
ORDERING = ["path", "rys", "mergekit"]
PARTS = ["block", "attention", "mlp", None]

quick = settings(max_examples=60, deadline=None)
orders = st.lists(st.integers(0, 40), min_size=1, max_size=60)
left = st.lists(st.sampled_from(PARTS), min_size=1, max_size=60).filter(any)


def plan_of(parts):
    return Plan(tuple(Layer(i, part) for i, part in enumerate(parts) if part))


def read(text, layers=None, form=None):
    return [str(plan) for plan in Plan.read_all(text, layers, form)]


def mistake(text, layers=None, form=None):
    with pytest.raises(PlanError) as error:
        list(Plan.read_all(text, layers, form))
    return str(error.value)


def test_every_format_that_is_written_is_read_back_by_one_of_the_two_tests() -> None:
    assert {*DROPPING, *ORDERING} == set(WRITTEN)
    assert set(FORMATS) == {*WRITTEN, "nemotron-nas"}


@quick
@given(left, st.sampled_from(DROPPING))
def test_plans_that_drop_come_back_and_so_does_the_text(parts, form) -> None:
    plan, layers = plan_of(parts), len(parts)
    text = write_plan(plan, form, layers)
    assert list(read_plans(text)) == [plan]  # recognised, and the number of layers is in it
    assert list(read_plans(text, layers, form)) == [plan]
    assert write_plan(Plan.read(text), form, layers) == text


@quick
@given(orders, st.sampled_from(ORDERING))
def test_plans_of_whole_layers_come_back_and_so_does_the_text(order, form) -> None:
    plan = Plan(tuple(map(Layer, order)))
    text = write_plan(plan, form, model="some/model")
    assert list(read_plans(text)) == [plan]
    assert write_plan(Plan.read(text), form, model="some/model") == text


@quick
@given(left)
def test_block_configs_are_read_as_they_are_written(parts) -> None:
    configs = [
        block_config(
            None if part in ("mlp", None) else 4, None if part in ("attention", None) else 2.0
        )
        for part in parts
    ]
    assert Plan.read(json.dumps({"block_configs": configs})) == plan_of(parts)


def test_what_a_tool_s_file_means(tmp_path) -> None:
    file = tmp_path / "layer_drop_config.txt"
    file.write_text("none\nattn\nmlp\nattn+mlp\nnone\n")
    assert read(file) == ["0 1.mlp 2.attn 4"]
    assert read("none\r\nattn\r\n") == ["0 1.mlp"]
    assert read("attn\n", 1, "evopress") == ["0.mlp"]
    lists = {"drop_attn_list": [1, 3], "drop_mlp_list": [2, 3], "num_hidden_layers": 5}
    (tmp_path / "config.json").write_text(json.dumps(lists))
    assert read(tmp_path) == ["0 1.mlp 2.attn 4"]  # a checkpoint's folder
    flags = {"drop_attn_list": [False, True, False], "drop_mlp_list": None}
    assert read(json.dumps(flags)) == ["0 1.mlp 2"]
    assert read("[0, 1, 2, 2, 3]") == ["0-1 2*2 3"]
    assert read('{"path": [3, 0]}') == ["3 0"]
    assert read("layers:0,1,2,2,3") == ["0-1 2*2 3"]
    assert read("(3, 6)", 8) == ["0-2 3-5*2 6-7"]
    assert read("blocks:3,6", 8) == read("(3, 6)", 8)
    assert read("blocks:3,6;4,6", 8) == [str(Plan.parse("0-5 3-5 4-5 6-7"))]
    assert read("blocks:0,2;4,6", 6) == [str(Plan.parse("0-1 0-5 4-5"))]
    skips = {"num_hidden_layers": 4, "per_layer_config": {"1": {"skip": ["attention"]}, "2": {}}}
    assert read(json.dumps(skips)) == ["0 1.mlp 2-3"]


def test_a_mergekit_file_is_its_ranges() -> None:
    slices = [
        {"sources": [{"model": "a", "layer_range": ends}]} for ends in ([0, 4], [2, 6], [1, 2])
    ]
    written = yaml.safe_dump({"slices": slices, "merge_method": "passthrough", "dtype": "float16"})
    assert read(written) == ["0-1 2-3*2 4-5 1"]
    assert "for a model of" not in written
    assert "layer_range" in mistake(written, 5)


def test_a_data_set_has_a_plan_for_each_path(tmp_path) -> None:
    rows = [{"question": "1+1", "valid_paths": [[0, 1], [0, 0, 1]]}, {"valid_paths": [[1]]}]
    lines = tmp_path / "paths.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    document = tmp_path / "paths.json"
    document.write_text(json.dumps(rows, indent=1))
    assert read(lines) == read(document) == ["0-1", "0*2 1", "1"]
    assert read("[[0], [1, 2]]") == ["0", "1-2"]
    with pytest.raises(PlanError, match="several plans"):
        Plan.read(lines)
    lines.write_text('{"valid_paths": [[0]]}\n\n{"valid_paths": [[0], [1, 7]]}\n')
    assert mistake(lines, 4).startswith(f"{lines}, line 3, valid_paths[1][1]: layer 7 does not")
    lines.write_text('{"valid_paths": [[0]]}\n{"valid_paths": [[0\n')
    assert mistake(lines).startswith(f"{lines}, line 2: not JSON")
    assert "no plan" in mistake('{"valid_paths": []}')


@pytest.mark.parametrize(
    ("text", "layers", "says"),
    [
        ("none\nattn\nfoo\n", None, "line 3: a layer has none, attn, mlp, attn+mlp; not 'foo'"),
        ("none\nattn\n", 12, "this is for a model of 2 layers, and the model has 12"),
        ("attn+mlp\nattn+mlp\n", None, "a plan needs at least one item"),
        ('{\n"path": [\n0,\n40]}', 32, "line 4, path[1]: layer 40 does not exist"),
        ('{"path": []}', None, "path: a path has at least one layer"),
        ('{"path": [true]}', None, "path[0]: a layer is a number"),
        ('{"path": [-1]}', None, "path[0]: a layer is a number"),
        ('{"path": [[1]]}', None, "path[0]: a layer is a number"),
        ('{"drop_attn_list": [1]}', None, "say it with layers="),
        ('{"drop_attn_list": [9],\n"num_hidden_layers": 4}', None, "line 1, drop_attn_list[0]"),
        ('{"drop_attn_list": [true], "num_hidden_layers": 4}', None, "a model of 1 layers"),
        (
            '{"drop_attn_list": [true], "drop_mlp_list": [true, true]}',
            None,
            "drop_mlp_list: has 2 entries, and the model 1 layers",
        ),
        ('{"drop_mlp_list": 3, "num_hidden_layers": 4}', None, "drop_mlp_list: this is a list"),
        ('{"num_hidden_layers": 0, "per_layer_config": {}}', None, "1 to 10000 layers"),
        (
            '{"num_hidden_layers": 2,\n"per_layer_config": {"1":\n {"skip": ["ffn"]}}}',
            None,
            "line 3, per_layer_config.1.skip: a layer skips attention or mlp",
        ),
        ("blocks:3,6", None, "say it with layers="),
        ("blocks:3,60", 8, "layer 59 does not exist: this model has layers 0..7"),
        ("blocks:5,7;1,3", 8, "write blocks in the order in which they run"),
        ("blocks:5", 8, "a block is two numbers"),
        ("layers:0,x", 8, "a layer is a number"),
        (
            '{"block_configs": [{"attention": {"replace_with_linear": true}, "ffn": {}}]}',
            None,
            "block_configs[0].attention.replace_with_linear: this part is replaced",
        ),
        ('{"block_configs": [{}]}', None, "block_configs[0]: a layer has attention and ffn"),
        ('{"block_configs": [], "num_hidden_layers": 2}', None, "a model of 0 layers"),
        ("slices:\n- sources: 3\n", None, "line 2, slices[0].sources: a slice has sources"),
        ("slices:\n- sources: [{}, {}]\n", None, "one source for each slice, not 2"),
        ("slices: []\nmerge_method: slerp\n", None, "line 2, merge_method: 'slerp' mixes weights"),
        ("slices: []\n", None, "a plan needs at least one item"),
        ("slices:\n- sources: [{model: a, layer_range: [3, 3]}]\n", None, "has no layer"),
        ("slices:\n- sources: [{model: a, layer_range: [0, 99999]}]\n", None, "at most 10000"),
        ("slices: [\n", None, "line 2: not YAML"),
        ("slices: " + "[" * 99 + "\n", None, "nest at most 20 deep"),
        ("slices: !!python/object:os.system x\n", None, "a program has no tags"),
        ("slices: 2026-13-45\n", None, "not YAML"),
        ("[" * 100_000, None, "nested too deep"),
        ('{"path": ' + "9" * 6_000 + "}", None, "not JSON"),
        ('{"path": [0, 1', None, "line 1: not JSON"),
        ('{"some": 1}', None, "no program that impasto knows"),
        ("0-3 5\n", None, "no program that impasto knows"),
        ("", None, "there is no file"),
    ],
)
def test_a_mistake_is_a_plan_error_with_its_place(text, layers, says) -> None:
    assert says in mistake(text, layers)


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        ("0.5", "scale is a list such as"),
        ("[{value: 0.5}]", "all weights are scaled by 0.5"),
        ("[{filter: o_proj, value: 9}]", "a decimal between -8 and 8"),
        ("[{filter: o_proj, value: [0, 1]}]", "a decimal between -8 and 8"),
        ("[o_proj]", "scale is a list such as"),
    ],
)
def test_scales_that_no_plan_has_are_refused(scale, says) -> None:
    source = f"{{model: a, layer_range: [0, 2], parameters: {{scale: {scale}}}}}"
    assert says in mistake(f"slices:\n- sources: [{source}]\n")


@pytest.mark.parametrize(
    "line",
    [
        "0-1 2.attn@0.5 2.mlp@0.25 3",
        "0-3 2.attn@0 2.mlp@0 3.attn@0 3.mlp@0 4-5",
        "1.attn 1.mlp@-0.5 1",
    ],
)
def test_scaled_parts_go_to_mergekit_and_back(line) -> None:
    assert read(write_plan(Plan.parse(line), "mergekit", 6, "m")) == [line]


def test_what_scales_all_ends_the_list_of_scales() -> None:
    scale = "[{filter: down_proj, value: 0.5}, {value: 1}, {filter: o_proj, value: 0}]"
    source = f"{{model: a, layer_range: [1, 2], parameters: {{scale: {scale}}}}}"
    assert read(f"slices:\n- sources: [{source}]\n") == ["1.attn 1.mlp@0.5"]


def test_a_merge_of_two_models_or_of_other_scales_is_refused_with_file_line_and_key(tmp_path):
    file = tmp_path / "merge.yml"
    file.write_text(
        "slices:\n"
        "- sources: [{model: a, layer_range: [0, 4]}]\n"
        "- sources:\n"
        "  - layer_range: [2, 6]\n"
        "    model: b\n"
    )
    assert mistake(file).startswith(f"{file}, line 5, slices[1].sources[0].model: ")
    file.write_text(
        "slices:\n"
        "- sources:\n"
        "  - model: a\n"
        "    layer_range: [0, 4]\n"
        "    parameters:\n"
        "      scale:\n"
        "      - {filter: o_proj, value: 0.0}\n"
        "      - {filter: q_proj, value: 0.5}\n"
    )
    place = f"{file}, line 8, slices[0].sources[0].parameters.scale[1]: "
    assert mistake(file).startswith(f"{place}'q_proj' is scaled")


def test_files_and_formats_that_are_none(tmp_path) -> None:
    assert "there is no file" in mistake(tmp_path / "none.txt")
    assert "there is no file" in mistake(tmp_path)  # a folder without config.json
    (tmp_path / "image").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in mistake(tmp_path / "image")
    assert "a format is evopress or" in mistake("[0]", form="polar")
    assert "a path is a list of layer numbers" in mistake("[[[0]]]", form="path")
    assert "is no path" in mistake(3)
    assert "a model has 1 to" in mistake("[0]", layers=0)
    assert "a layer has none, attn" in mistake("[0]", form="evopress")


@pytest.mark.parametrize(
    ("plan", "form", "says"),
    [
        ("0-3 2", "evopress", "2 of the plan 0-3 2 cannot be written so"),
        ("0-3 freeze", "llm-drop", "freeze of the plan 0-3 freeze cannot"),
        ("0 [1|2]", "per-layer-config", "cannot be written so"),
        ("0 1.attn 1.mlp", "evopress", "1.mlp of the plan"),
        ("0 1.mlp", "path", "1.mlp of the plan 0 1.mlp cannot"),
        ("0-9", "evopress", "layer 9 does not exist"),
        ("0-9", "path", "layer 9 does not exist"),
        ("0-3", "onnx", "a plan alone is written as"),
        ("0-3", "nemotron-nas", "a plan alone is written as"),
    ],
)
def test_a_plan_that_a_form_cannot_hold_is_refused(plan, form, says) -> None:
    with pytest.raises(PlanError) as error:
        write_plan(Plan.parse(plan), form, 8, "m")
    assert says in str(error.value)


def test_a_form_that_needs_to_know_the_model_says_so() -> None:
    with pytest.raises(PlanError, match="--layers N, or --model M"):
        write_plan(Plan.parse("0-3"), "evopress")
    with pytest.raises(PlanError, match="--model M"):
        write_plan(Plan.parse("0-3"), "mergekit", 4)
