"""`impasto export`: a folder, and what loading it again found; each mistake in one message."""

from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from impasto.cli import app


def told(*args):
    result = CliRunner().invoke(app, ["export", *map(str, args)])
    return result.exit_code, result.output


def test_a_plan_is_written_and_loads_by_the_line_that_is_printed(tmp_path):
    dest = tmp_path / "out"
    code, output = told(dest, "--plan", "0-3 6-11", "--max-shard-size", "5MB")
    assert code == 0, output
    assert f'AutoModelForCausalLM.from_pretrained("{dest}")' in output
    assert "10 stored" in output
    assert "its logits are the plan's" in output
    assert AutoModelForCausalLM.from_pretrained(dest).config.num_hidden_layers == 10
    assert len(list(dest.glob("*.safetensors"))) > 1


def test_mistakes_are_one_message_and_nothing_is_written(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for args, says in [
        ((there, "--plan", "0-3"), "not overwritten"),
        ((tmp_path / "out", "--plan", "0-12"), "layer 12 does not exist"),
        ((tmp_path / "out", "--plan", "0-3 inject(a) 4-11"), "bound when it runs"),
        ((tmp_path / "out", "--plan", "0-3", "--as", "onnx"), "checkpoint or planned"),
        ((tmp_path / "out", "--plan", "0.attn", "--as", "checkpoint"), "no whole layer"),
        ((tmp_path / "out", "--plan", "0-3", "--max-shard-size", "huge"), "bytes"),
    ]:
        code, output = told(*args)
        assert code == 2, output
        assert output.count("impasto: ") == 1
        assert says in output.partition("impasto: ")[2]
        assert "Traceback" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
