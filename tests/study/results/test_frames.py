"""What results give in Python: a tidy frame, figures, and what a notebook shows."""

import pandas as pd
import pytest

from impasto import Study, UserError
from impasto.study import Results

TEXT = """
model: demo
tasks: [{name: capitals, limit: 3}]
plans:
  - baseline
  - freeze: {k: all}
  - skip: {n: all}
  - drop_last: {part: all, count: 1}
"""


@pytest.fixture
def results(model) -> Results:
    return Study.from_text(TEXT).run(model=model)


def test_a_frame_is_narrow_and_has_each_parameter_as_a_column(results):
    frame = results.frame()
    assert {"k", "seed", "n", "part", "count"} <= set(frame)
    assert not {"digest", "weights", "data", "engine", "parameters", "study"} & set(frame)
    assert set(frame["items"]) == {3}
    skipped = frame[frame["strategy"] == "skip"]
    assert skipped["n"].notna().all()
    assert frame[frame["strategy"] != "skip"]["n"].isna().all()
    assert frame["n"].dtype == frame["count"].dtype == "Int64"


def test_with_provenance_it_is_the_whole_table(results):
    whole = results.frame(provenance=True)
    pd.testing.assert_frame_equal(whole, results.table)
    whole["items"] = 0
    assert "items" not in results.table


def test_a_figure_that_lacks_data_says_what_it_needs(results):
    with pytest.raises(UserError, match=r"BA2 .* lacks data\n(.|\n)*heal"):
        results.figure("BA2")
    with pytest.raises(UserError, match="there is no figure 'Z1'"):
        results.figure("Z1")
    with pytest.raises(UserError, match="a figure's name is a text"):
        results.figure(2)


def test_figures_are_shown_and_saved(results, tmp_path):
    pictures = results.figure("A2,CT1")
    assert len(pictures) == len(list(pictures)) >= 2
    page = pictures._repr_html_()
    assert "data:image/svg+xml;base64," in page
    assert "<table>" in page
    files = pictures.save(tmp_path, ["png"])
    assert all(path.exists() for path in files)
    assert {path.suffix for path in files} >= {".png", ".csv"}


def test_what_a_notebook_shows_is_text(model):
    name = "<img src=x onerror=alert(1)>"
    study = Study.from_text(TEXT).as_run(name)
    assert "<img" not in study._repr_html_()
    assert "&lt;img" in study._repr_html_()
    model.name = name
    shown = Study.from_text(TEXT).run(model=model)._repr_html_()
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_a_run_draws_and_reports_when_it_is_asked_to(tmp_path, model):
    study = Study.from_text(TEXT)
    study.run(tmp_path / "plain", model=model)
    assert not (tmp_path / "plain" / "figures").exists()
    study.run(tmp_path / "both", model=model, figures=True, report=True)
    assert list((tmp_path / "both" / "figures").glob("A2*.svg"))
    assert (tmp_path / "both" / "report.html").exists()
    with pytest.raises(UserError, match="give out"):
        study.run(model=model, figures=True)
