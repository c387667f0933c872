"""The scripts that are for a GPU, on a processor: one goes on where it was, one counts shapes."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from foreign import AVAILABLE

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Return what imports a benchmark."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module


def test_parts_that_are_finished_are_passed_over(script, monkeypatch, tmp_path, capsys):
    gpu, ran = script("gpu"), []

    def part(name, holds=True, fails=False):
        def run(setting):
            ran.append(name)
            if fails and ran.count(name) == 1:
                raise RuntimeError("CUDA error: out of memory\nat line 3")
            print(f"table of {name}")
            return [gpu.Row("answers", "7", "7", holds)]

        return run

    runs = {"one": part("one"), "two": part("two", fails=True), "three": part("three")}
    monkeypatch.setattr(gpu, "RUNS", runs)
    words = ["--small", "--out", str(tmp_path / "found.json")]
    assert gpu.main(words) == 1
    assert "two failed: RuntimeError: CUDA error: out of memory" in capsys.readouterr().err
    assert gpu.main(words) == 0
    assert ran == ["one", "two", "three", "two"]
    said = capsys.readouterr().out
    assert "| two | answers | 7 | 7 | ok |" in said
    assert "table of three" in said
    assert json.loads((tmp_path / "found.json").read_text())["parts"].keys() == runs.keys()
    assert gpu.main([*words, "--fresh", "--only", "one"]) == 0
    assert ran[-1] == "one"


def test_what_is_missed_ends_with_one_and_another_machine_is_refused(
    script, monkeypatch, tmp_path, capsys
):
    gpu = script("gpu")
    runs = {"one": lambda setting: [gpu.Row("answers", "7", "8", False)]}
    monkeypatch.setattr(gpu, "RUNS", runs)
    words = ["--small", "--out", str(tmp_path / "found.json")]
    assert gpu.main(words) == 1
    assert "MISSED" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "machine", lambda device: "another")
    assert gpu.main(words) == 2
    assert "is of another machine" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_script_runs_on_a_processor(script, tmp_path, capsys):
    gpu = script("gpu")
    gpu.main(["--small", "--out", str(tmp_path / "found.json")])
    told = capsys.readouterr()
    assert "failed" not in told.err
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert parts.keys() == gpu.RUNS.keys()
    assert all(row["holds"] for part in parts.values() for row in part["rows"] if row["wanted"])


def test_a_kernel_takes_what_its_products_or_its_bytes_take(script):
    roofline = script("roofline")
    card = roofline.Roofline(half=1e12, single=1e11, bandwidth=1e10)
    large = torch.empty(4096, 4096, dtype=torch.bfloat16, device="meta")
    few = torch.empty(2, 4096, dtype=torch.bfloat16, device="meta")
    card.operation(torch.ops.aten.mm.default, [large, large], large)
    assert card.seconds == pytest.approx(2 * 4096**3 / 1e12)
    card.start()
    card.operation(torch.ops.aten.mm.default, [few, large], few)
    assert card.seconds == pytest.approx(2 * (4096**2 + 4 * 4096) / 1e10, rel=1e-3)
    card.start()
    card.operation(torch.ops.aten.expand.default, [few], few.expand(3, 2, 4096))
    card.operation(torch.ops.aten.add.Tensor, [few[:, :1], few[:, :1]], few[:, :1])
    assert card.seconds == pytest.approx(roofline.LEAST_SECONDS)
    assert card.kernels == 1


def test_attention_takes_longer_where_keys_lie_transposed_or_a_mask_is_copied(script):
    roofline = script("roofline")
    card = roofline.Roofline(half=1e15, single=1e14, bandwidth=5e12)
    query, key = (
        torch.empty(49, 32, rows, 128, dtype=torch.bfloat16, device="meta") for rows in (1, 512)
    )
    mask = torch.empty(49, 1, 1, 512, dtype=torch.bfloat16, device="meta")
    taken = {}
    for name, given in {
        "laid out": [query, key, key, mask],
        "transposed": [query, key.mT.contiguous().mT, key, mask],
        "copied": [query, key[:, :, :509], key[:, :, :509], mask[..., :509].contiguous()],
    }.items():
        card.start()
        card.attention(given)
        taken[name] = card.seconds
    assert taken["transposed"] > 3 * taken["laid out"]
    assert taken["copied"] > taken["laid out"]


@pytest.mark.slow
@pytest.mark.skipif(not AVAILABLE, reason="this torch has no Python backend")
def test_a_model_without_numbers_runs_and_a_step_waits_for_its_tokens(script, monkeypatch):
    import foreign

    roofline = script("roofline")
    tiny = roofline.SHAPES["llama-3-8b"] | {"num_hidden_layers": 10}
    monkeypatch.setattr(roofline, "SHAPES", {"tiny": tiny})
    monkeypatch.setattr(foreign, "_Call", roofline.GhostCall)
    monkeypatch.setattr(foreign, "_attention", roofline._ghost_attention)
    monkeypatch.setattr(foreign.ForeignTensor, "tolist", roofline._ghost_list)
    found = roofline.measure("tiny", roofline.Roofline(989.5e12, 67e12, 4.8e12))
    assert 1e-4 < found["decoding"]["seconds"] < 1e-1
    assert found["decoding"]["waits"] <= 2
    assert found["scoring"]["waits"] <= 4
