"""The benchmark that is for a GPU, on a small model on the processor."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "paper_c.py"


@pytest.mark.slow
def test_the_check_for_a_gpu_prints_paper_cs_tables_beside_the_papers(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("paper_c", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paper = tmp_path / "paper.csv"
    paper.write_text("table,part,percent,improvement\n9,mlp,25,987.6\n")
    shape = "small-llama,num_hidden_layers=8,hidden_size=32,intermediate_size=32"
    module.main(["--shape", shape, "--dtype", "float32", "--sequences", "2", "--batch", "2",
                 "--rounds", "2", "--paper", str(paper)])  # fmt: skip
    printed = capsys.readouterr().out
    tables = printed.split("\nTable ")[1:]
    assert [table.split(":")[0] for table in tables] == ["7", "8", "9", "10"] * 2
    for number, table in enumerate(tables):
        lines = table.split("\n\n")[0].splitlines()
        assert len(lines) == 1 + 2 + 9
        told = [line for line in lines if line.endswith(" 987.6")]
        assert [line[: len("mlp, 25 %")] for line in told] == (
            ["mlp, 25 %"] if number % 4 == 2 else []
        )
    decoding = printed.split("A token more behind 512")[1].splitlines()
    assert len(decoding) > 10
    assert all(line.endswith(" %") for line in decoding[2:])
