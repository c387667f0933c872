"""The commands that time plans and say what they cost."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from encoders import ENCODERS, encoder
from families import family
from impasto import Plan, load
from impasto.cli import app
from impasto.plan.cost import predict


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of a small model."""
    folder = tmp_path_factory.mktemp("models") / "small"
    family("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def bench(model):
    return lambda *words: cli("bench", "--model", model, "--quiet", *words)


QUICK = ("--tokens", "6", "--new", "1", "--rounds", "2")


def test_a_bench_prints_measurement_prediction_and_what_plans_hold(bench):
    done = bench("--plan", "0-2", "--plan", "0-1 freeze 2-5", *QUICK)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "prompt of 6 tokens, batch 1" in lines
    timed = next(line for line in lines if line.startswith("0-2 "))
    assert "[" in timed
    assert "tokens/s" in done.stdout
    assert "expected" in done.stdout
    held = [line.split() for line in lines[-6:] if line.startswith(("baseline", "0-2"))]
    [[_, kept, expected, *_], [_, half, *_]] = held
    assert kept == expected == "768"
    assert half == "384"


def test_rows_are_for_other_programs(bench):
    done = bench("--plan", "0-2", "--tokens", "4,6", "--batch", "1,2", "--format", "csv",
                 "--new", "1", "--rounds", "2")  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 4 * 2 * 3
    assert {row["label"] for row in rows} == {"baseline", "bare", "0-2"}
    assert all(float(row["seconds_low"]) <= float(row["seconds"]) for row in rows)
    read = json.loads(bench("--plan", "0-2", *QUICK, "--format", "json").stdout)
    assert [row["work"] for row in read] == ["prefill"] * 3 + ["token"] * 3
    table = bench("--plan", "[0 1|2]", *QUICK, "--format", "md").stdout.splitlines()
    assert sum(r"\|" in line for line in table) == 2
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1


def test_one_token_times_paper_cs_plans(bench):
    done = bench("--one-token", "--tokens", "5", "--sequences", "2")
    assert done.exit_code == 0, done.output
    labels = [line.split("  ")[0] for line in done.stdout.splitlines()[3:]]
    assert labels[:2] == ["baseline", "bare"]
    assert labels[2:] == [
        f"drop_last(part={part}, count={count}, keep_last={kept})"
        for part in ("attention", "mlp", "block")
        for count in (1, 2)
        for kept in (False, True)
    ]
    rows = bench("--one-token", "--plan", "0-2", "--tokens", "5,6", "--sequences", "2",
                 "--format", "csv").stdout  # fmt: skip
    assert [row["tokens"] for row in csv.DictReader(io.StringIO(rows))] == ["5"] * 3 + ["6"] * 3


def test_a_profile_splits_plans_by_part_and_layer(bench):
    done = bench("--plan", "0-1 2.mlp", *QUICK, "--profile")
    assert done.exit_code == 0, done.output
    profiled = done.stdout.split("profile  ")
    assert [each.splitlines()[0] for each in profiled[1:]] == ["baseline", "bare", "0-1 2.mlp"]
    for word in ("attention", "mlp", "norms and residuals", "head", "all else", "layer 2"):
        assert f"\n{word} " in profiled[3]
    assert "layer 3" not in profiled[3]


def test_a_shape_stands_in_for_a_model_and_the_engine_for_hugging_faces_loop():
    shape = "small-llama,num_hidden_layers=2,hidden_size=64,intermediate_size=64"
    done = cli("bench", "--shape", shape, "--plan", "0", *QUICK, "--quiet", "--through", "engine")
    assert done.exit_code == 0, done.output
    assert f"model    {shape} (random weights)" in done.stdout
    assert "impasto's generate" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "bench takes --plan PLAN, --family NAME, or a study file"),
        (("--plan", "0-9"), "layer 9 does not exist: this model has layers 0..5"),
        (("--plan", "0-2", "--tokens", "6,x"), "--tokens takes whole numbers from 1"),
        (("--plan", "0-2", "--batch", "0"), "--batch takes whole numbers from 1"),
        (("--plan", "0-2", "--tokens", "500"), "exceed the model's 128 positions"),
        (("--plan", "0-2", "--through", "vllm"), "--through is apply or engine, not 'vllm'"),
        (("--plan", "0-2", "--format", "xml"), "--format is csv or json or md, not 'xml'"),
        (("--plan", "0-2", "--device", "cuda:9"), "there is no device 'cuda:9' here"),
        (("--plan", "0-2", "--dtype", "int8"), "--dtype is float32 or bfloat16 or float16"),
        (("--plan", "0-2", "--shape", "llama-2-7b"), "--shape is in the place of a model"),
        (("--plan", "0-2", "--profile", "--one-token"), "are two things; give one"),
        (("--one-token", "--batch", "4"), "--one-token reads one sequence at a time"),
        (("--one-token", "--rounds", "3"), "leave --new and --rounds out"),
        (("--one-token", "--new", "0"), "leave --new and --rounds out"),
        (("--plan", "0-2", "--sequences", "3"), "--sequences is for --one-token"),
        (("--family", "drop_lst: {part: mlp}"), "did you mean 'drop_last'?"),
        (("--family", "3"), "is no family"),
        (("--plan", "0-2 inject(donor) 3-5"), "injects: it needs a donor"),
    ],
)
def test_wrong_words_are_answered(words, said, bench):
    done = bench(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("lama-2-7b", "did you mean llama-2-7b?"),
        ("small-llama,num_hidden_layer=2", "did you mean num_hidden_layers=?"),
        ("small-llama,hidden_size=many", "expected int"),
    ],
)
def test_a_wrong_shape_says_what_would_be_right(shape, said):
    done = cli("bench", "--shape", shape, "--plan", "0", "--quiet")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_an_encoder_is_refused(tmp_path):
    encoder(next(iter(ENCODERS))).save_pretrained(tmp_path)
    done = cli("bench", "--model", tmp_path, "--plan", "0", "--quiet")
    assert done.exit_code == 2
    assert "predicts no next tokens" in " ".join(done.output.split())


def test_explain_says_what_a_plan_costs(model):
    done = cli("explain", "--model", model, "--plan", "0-2 3.mlp", "--tokens", "50")
    assert done.exit_code == 0, done.output
    cost = done.stdout.split("cost     ")[1].splitlines()
    assert cost[0] == "after a prompt of 50 tokens, and its share of the baseline's"
    shares = {line[2:29].strip(): line.split()[-2] for line in cost[1:7]}
    assert shares["bytes that a token keeps"] == "50.0"
    assert 33 < float(shares["prefill, operations"]) < 40  # the last attention runs one row
    assert cost[7].startswith("speed    expected, as a multiple of the baseline's: prefill ")
    assert "--tokens 128 and one more do not fit" in cli(
        "explain", "--model", model, "--plan", "0", "--tokens", "128"
    ).output.replace("\n", " ")
    assert cli("explain", "--plan", "0", "--tokens", "9").exit_code == 2


def test_explain_says_how_many_tokens_are_held_within_a_reach(model):
    plan = "0-1 2{first=1, last=6} 3.attn{last=4} 2{first=5, last=2}"
    done = cli("explain", "--model", model, "--plan", plan, "--tokens", "50")
    assert done.exit_code == 0, done.output
    held = [line for line in done.stdout.splitlines() if line.startswith("holds")]
    assert held == [
        "holds    keys and values of at most 4 tokens of a text at 1 attention, of layer 3",
        "holds    keys and values of at most 7 tokens of a text at 2 attentions, of layer 2",
    ]
    [kept] = [line for line in done.stdout.splitlines() if "bytes that a token keeps" in line]
    assert kept.split()[-2] == "33.3"  # two layers of six
    assert "bytes of a text beside, at most" in done.stdout
    own, base = (predict(Plan.parse(each), load(model).shape, 50) for each in (plan, "0-5"))
    assert own.bounded_bytes == (4 + 7 + 7) * base.kept_bytes // 6
    assert cli("explain", "--layers", 4, "--plan", plan).stdout.count("holds    ") == 2


def test_explain_says_what_a_plan_of_an_encoder_costs(tmp_path):
    encoder(next(iter(ENCODERS))).save_pretrained(tmp_path)
    done = cli("explain", "--model", tmp_path, "--plan", "0-1", "--tokens", "20")
    assert done.exit_code == 0, done.output
    assert "a text, operations" in done.stdout
    assert "a token more" not in done.stdout
