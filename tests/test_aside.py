"""What is written aside: whole or not at all, and what dead processes left is removed, no more."""

import os
import subprocess
import sys

import pytest

from impasto.aside import aside_of, remove_strays, written_aside


def dead_process() -> int:
    """Return the number of a process that is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def half_written(path):
    with written_aside(path) as place:
        place.write_text("half")
        raise KeyboardInterrupt


def test_a_file_and_a_folder_are_there_whole_or_not_at_all(tmp_path):
    with written_aside(tmp_path / "file") as place:
        place.write_text("whole")
        assert not (tmp_path / "file").exists()
    with written_aside(tmp_path / "folder") as place:
        place.mkdir()
        (place / "inner").write_text("whole")
    for name in ("file", "other"):
        with pytest.raises(KeyboardInterrupt):
            half_written(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "whole"


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path):
    dead, host = dead_process(), aside_of(tmp_path / "x").name.partition("@")[2].split(".part")[0]
    stray = [
        f".results.csv.{dead}.part", f".study.yaml.{dead}@{host}.part",
        f".results.sqlite.{dead}@{host}.part-journal", f".model.{dead}@{host}.part",
    ]  # fmt: skip
    kept = [
        f".results.csv.{os.getpid()}@{host}.part", f".results.csv.{dead}@elsewhere.part",
        ".hidden", "results.csv", ".x.part", f"results.{dead}.part",
    ]  # fmt: skip
    for name in stray[:-1] + kept:
        (tmp_path / name).write_text("x")
    (tmp_path / stray[-1]).mkdir()
    (tmp_path / stray[-1] / "weights").write_text("x")
    remove_strays(tmp_path, "study.yaml")
    assert not (tmp_path / stray[1]).exists()
    assert (tmp_path / stray[0]).exists()
    remove_strays(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_strays(tmp_path / "nowhere")
