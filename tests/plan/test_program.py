"""What plans are lowered to: how rows run, which attention is which, and what does nothing."""

import pytest

from impasto import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import (
    InjectDonor,
    ReplaceByNoise,
    RunBranches,
    RunLayer,
    Split,
    attends,
    layers,
)


def shown(program):
    """Return a program as short text: layers with the mode of their rows, and edits."""
    words = []
    for each in program.instructions:
        match each:
            case RunLayer(layer, part, _, rows):
                words.append(f"{layer}{'' if part == 'block' else '.' + part}:{rows}")
            case RunBranches(branches, combine, rows):
                inner = "|".join(
                    " ".join(str(run.layer) for one in branch for run in layers(one))
                    for branch in branches
                )
                words.append(f"{combine}[{inner}]:{rows}")
            case Split():
                words.append("split")
            case ReplaceByNoise():
                words.append(f"noise({each.depth}, {each.number})")
            case InjectDonor(name, rows):
                words.append(f"inject({name}):{rows}")
    return " ".join(words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 1.mlp", "0:joint 1.mlp:joint"),
        ("0 freeze 1 2", "0:joint split 1:kv-only 2:kv-only"),
        ("0 noise(shuffle) 1 2", "0:joint split noise(1, 0) 1:split 2:split"),
        (
            "0 noise(shuffle) 1 noise(gaussian) 2 freeze 0 3",
            "0:joint split noise(1, 0) 1:split noise(2, 1) 2:split 0:kv-only 3:kv-only",
        ),
        ("freeze [0|1] 2", "split mean[0|1]:kv-only 2:kv-only"),
        ("0 inject(a) freeze 1 2", "0:joint inject(a):joint split 1:kv-only 2:kv-only"),
        ("0 freeze 1 inject(a) 2", "0:joint split 1:kv-only inject(a):kv-only 2:kv-only"),
        ("0 noise(shuffle) inject(a) 1", "0:joint split noise(1, 0) inject(a):split 1:split"),
    ],
)
def test_a_plan_becomes_instructions_that_say_how_rows_run(line, expected):
    assert shown(lower(Plan.parse(line))) == expected


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("0 freeze 1 freeze 2", "0 freeze 1 2"),
        ("0 freeze 1 noise(shuffle) 2", "0 freeze 1 2"),
        ("0 1 noise(shuffle)", "0 1"),
        ("0 1 freeze 2.mlp", "0 1 2.mlp"),
        ("0 noise(shuffle) 1.mlp", "0 1.mlp"),
        ("0 freeze 1", "0 1"),
        ("0 freeze noise(shuffle) 1", "0 1"),
        ("0 freeze [1|2]", "0 [1|2]"),
        ("freeze 0.mlp", "0.mlp"),
    ],
)
def test_a_marker_that_no_prediction_can_tell_leaves_no_instruction(line, same):
    assert lower(Plan.parse(line)) == lower(Plan.parse(same))


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("0 freeze 1.mlp 2", "0 1.mlp 2"),
        ("0 freeze 1 2", "0 1 2"),
        ("0 freeze [1 2|3]", "0 [1 2|3]"),
        ("0 noise(shuffle) 1", "0 1"),
        ("0 inject(a) 1 noise(shuffle)", "0 inject(a) 1"),  # a donor's own rows are edited
        ("0 freeze 1 inject(a)", "0 1 inject(a)"),
    ],
)
def test_a_marker_that_a_prediction_can_tell_stays(line, other):
    assert lower(Plan.parse(line)) != lower(Plan.parse(other))


def test_a_noise_keeps_its_number_though_one_before_it_does_nothing():
    program = lower(Plan.parse("inject(a) 0 noise(shuffle) 1 noise(gaussian, seed=3, keep=2) 2"))
    drawn = [each for each in program.instructions if isinstance(each, ReplaceByNoise)]
    assert [(each.depth, each.number) for each in drawn] == [(1, 0), (2, 1)]
    assert (drawn[1].kind, drawn[1].seed, drawn[1].keep) == ("gaussian", 3, 2)


def test_each_appearance_of_a_layers_attention_is_one_of_its_own():
    program = lower(Plan.parse("0 [0 1|0.attn] (0.mlp 1)*2"))
    assert program.occurrences == ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2))
    silent = [each for one in program.instructions for each in layers(one) if each.part == "mlp"]
    assert silent
    assert not any(map(attends, silent))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 1 2.mlp", "0:joint split 1:kv-only 2.mlp:kv-only"),
        ("0.mlp 1.mlp", "split 0.mlp:kv-only 1.mlp:kv-only"),
        ("0 [1|2]", "0:joint split mean[1|2]:kv-only"),
        ("0 [1 2|3] 0.mlp", "0:joint mean[1 2|3]:joint split 0.mlp:kv-only"),
        ("0 noise(shuffle) 1", "0:joint split noise(1, 0) 1:kv-only"),
    ],
)
def test_behind_the_last_attention_only_current_rows_run(line, expected):
    assert shown(lower(Plan.parse(line)).released()) == expected


def test_where_every_row_is_wanted_joint_rows_stay_joint():
    assert shown(lower(Plan.parse("0 1")).released(joint_too=False)) == "0:joint 1:joint"
    noisy = lower(Plan.parse("0 noise(shuffle) 1")).released(joint_too=False)
    assert shown(noisy) == "0:joint split noise(1, 0) 1:kv-only"


def test_a_program_begins_at_every_depth():
    program = lower(Plan.parse("0 noise(shuffle) 1 2.mlp"))
    counts = [sum(len(list(layers(one))) for one in each) for each in program.beginnings]
    assert counts == [0, 1, 2, 3]
    assert program.beginnings[-1] == program.instructions
