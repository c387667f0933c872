"""`impasto export`: a folder, and what loading it again found; each mistake in one message."""

from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from impasto.cli import app
from impasto.plan import Plan


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
        ((tmp_path / "out", "--plan", "0-3", "--as", "onnx"), "auto or checkpoint or planned"),
        ((tmp_path / "out", "--plan", "0.attn", "--as", "checkpoint"), "no whole layer"),
        ((tmp_path / "out", "--plan", "0-3", "--max-shard-size", "huge"), "bytes"),
    ]:
        code, output = told(*args)
        assert code == 2, output
        assert output.count("impasto: ") == 1
        assert says in output.partition("impasto: ")[2]
        assert "Traceback" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_plan_alone_is_written_as_other_tools_write_it(tmp_path):
    code, output = told(
        tmp_path / "a.txt", "--plan", "0 1.mlp 3", "--as", "evopress", "--layers", 4
    )
    assert code == 0, output
    assert (tmp_path / "a.txt").read_text() == "none\nattn\nattn+mlp\nnone\n"
    code, output = told(tmp_path / "b.txt", "--plan", "0-11", "--as", "evopress", "--model", "demo")
    assert code == 0, output  # how many layers there are, the configuration says
    assert (tmp_path / "b.txt").read_text() == "none\n" * 12
    code, output = told(
        tmp_path / "c.yml", "--plan", "0-2 1", "--as", "mergekit", "--model", "demo"
    )
    assert code == 0, output
    assert str(Plan.read(tmp_path / "c.yml")) == "0-2 1"
    for args, says in [
        (("--plan", "0-3", "--as", "evopress"), "--layers N, or --model M"),
        (("--plan", "0-3 2", "--as", "evopress", "--layers", 4), "cannot be written so"),
        (("--plan", "0-3", "--as", "path", "--gguf-type", "f16"), "path has none"),
        (("--plan", "0-3", "--as", "path", "--max-shard-size", "1GB"), "path has none"),
        (("--plan", "0-3", "--layers", 4), "--layers is for a plan alone"),
        (("--plan", "0-3", "--gguf-type", "f16"), "gguf_type is for form='gguf'"),
        (("--plan", "0-3", "--as", "path", "--model", "./none"), "not a folder"),
    ]:
        code, output = told(tmp_path / "out", *args)
        assert code == 2, output
        assert says in output
    code, output = told(tmp_path / "a.txt", "--plan", "0", "--as", "path")
    assert code == 2
    assert "not overwritten" in output
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt", "c.yml"}


def test_a_gguf_file_says_how_it_is_served_and_what_was_checked(tmp_path):
    code, output = told(tmp_path / "m.gguf", "--plan", "0-7 8-11.mlp", "--as", "gguf")
    assert code == 0, output
    assert f'llama-server --model "{tmp_path / "m.gguf"}"' in output
    assert "checked  run by llama.cpp" in output or "checked  not run: llama.cpp is" in output
