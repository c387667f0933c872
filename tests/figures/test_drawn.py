"""Files of figures: which go when a study is drawn anew, and that no folder loses another's."""

import json

import pytest
from made_up import dropping, found, painters
from typer.testing import CliRunner

from impasto.cli import app
from impasto.error import UserError
from impasto.figures import ENTRIES, draw, entries_of, save_all

ALL = list(ENTRIES.values())


def saved(out, *founds, only=None):
    entries = ALL if only is None else entries_of(only)
    return {path.name for *_, paths in save_all(founds, entries, out, ["svg"]) for path in paths}


def files(out):
    return {path.name for path in out.iterdir()} - {".drawn.json"}


def test_what_has_no_data_any_more_goes_when_all_is_drawn_anew(tmp_path):
    before = saved(tmp_path, found(painters(6)))
    assert {"B4.svg", "B11.svg"} <= before
    after = saved(tmp_path, found(dropping(6)))
    assert "B4.svg" not in after
    assert files(tmp_path) == after


def test_the_users_own_files_stay(tmp_path):
    saved(tmp_path, found(painters(6)))
    (tmp_path / "B5-mine.svg").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    saved(tmp_path, found(dropping(6)))
    assert {"B5-mine.svg", "notes.txt"} <= files(tmp_path)


def test_drawing_some_removes_nothing(tmp_path):
    before = saved(tmp_path, found(painters(6)))
    saved(tmp_path, found(dropping(6)), only="drop_last")
    assert files(tmp_path) == before | {"drop_last.svg"}
    after = saved(tmp_path, found(dropping(6)))
    assert files(tmp_path) == after


@pytest.mark.slow
def test_other_formats_of_a_picture_stay(tmp_path):
    results = found(painters(6)).results
    assert results is not None
    draw(results, tmp_path, ["svg"])
    draw(results, tmp_path, ["pdf"])
    assert {"B4.svg", "B4.pdf"} <= files(tmp_path)


@pytest.mark.slow
def test_pictures_of_several_models_leave_those_of_one(tmp_path):
    one, other = found(painters(6), model="org/a"), found(painters(6), model="org/b")
    alone = saved(tmp_path, one)
    both = saved(tmp_path, one, other)
    assert not alone & both
    assert saved(tmp_path, one) == alone
    assert files(tmp_path) == alone | both


@pytest.mark.parametrize("content", ["", "[]", '{"": {"B4": "B4.svg"}}', '{"": []}'])
def test_a_list_that_cannot_be_read_removes_nothing(content, tmp_path):
    (tmp_path / ".drawn.json").write_text(content)
    (tmp_path / "B4.svg").write_text("old")
    saved(tmp_path, found(dropping(6)))
    assert (tmp_path / "B4.svg").read_text() == "old"


def test_no_file_outside_the_folder_goes(tmp_path):
    (tmp_path / "mine.svg").write_text("mine")
    out = tmp_path / "figures"
    out.mkdir()
    listed = {"": {"B4": ["../mine.svg"]}}
    (out / ".drawn.json").write_text(json.dumps(listed))
    saved(out, found(dropping(6)))
    assert (tmp_path / "mine.svg").exists()


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(UserError, match="cannot be"):
        saved(tmp_path / "figures", found(dropping(6)))


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    for words, said in (
        (["--width", "wide"], "a width is centimetres"),
        (["--style", "poster"], "a style is paper or slide"),
        (["--format", "bmp"], "there is no format 'bmp'"),
        (["--only", "B99"], "there is no figure 'B99'"),
    ):
        ended = CliRunner().invoke(app, ["figures", str(tmp_path), *words])
        assert ended.exit_code == 2
        assert said in ended.output
