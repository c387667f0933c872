"""The page's section about a search: alone, beside a study, hostile texts, and what it says."""

import html
import re
import shlex
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from analysis.tables import ROW, table
from browser import chromium, launched
from impasto.cli import app
from impasto.error import UserError
from impasto.figures import Found
from impasto.report import write_report
from impasto.report.searched import export_command
from impasto.searching.sentences import sentences
from impasto.study import Results, Study
from searching.made_search import searched

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<b> url(#x)"


def study_of(folder):
    frame = table(ROW | {"model": "m"})
    study = Study.from_text(
        "name: page\nmodel: m\ntasks: [{name: arithmetic, terms: 2}]\nplans: [baseline]"
    )
    return Found(folder, Results(study, frame), {})


def page_of(*founds, folder):
    return write_report(list(founds), folder).read_text(encoding="utf-8")


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def rows_of(page):
    body = re.search(r'<table class="searched">.*?<tbody>(.*?)</tbody>', page, re.S)
    assert body
    cells = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body[1].split("</tr>"))
    return [[text_of(cell) for cell in row] for row in cells if row]


def test_a_search_alone_has_its_section_and_nothing_to_explore(tmp_path):
    searched().write(tmp_path)
    page = page_of(Found.read(tmp_path), folder=tmp_path)
    said = text_of(page)
    assert "The best plan runs three quarters." in said
    assert "Findings" not in said
    assert "Explore" not in said
    for title in ("Plans that the search found", "What each edit", "Two edits together"):
        assert title in said


def test_the_table_has_front_and_references_with_what_was_held_out(tmp_path):
    search = searched()
    page = page_of(Found(tmp_path, None, {}, search=search), folder=tmp_path)
    rows = rows_of(page)
    plans = [*search.front, *(one for some in search.references.values() for one in some)]
    assert {row[0] for row in rows} == {str(one.plan) for one in plans}
    best = next(row for row in rows if row[0] == str(search.best.plan))
    assert best[1] == "best, front, greedy"
    assert best[2] == "75.0"
    held_out = search.best.held_out
    assert held_out is not None
    assert best[3].startswith(f"{held_out.value:.3g} (")
    assert best[4] == "90 %, −5.0 (−9.0 to −1.0), p = 0.012"
    full = next(row for row in rows if row[0] == str(search.full.plan))
    assert full[1:] == ["full model", "100.0", "0", ""]


def test_it_says_what_was_tried_what_it_cost_and_how_to_export(tmp_path):
    search = searched()
    search = replace(search, sentences=list(sentences(search)))
    page = text_of(page_of(Found(tmp_path, None, {}, search=search), folder=tmp_path))
    assert page.count(f"Of {len(search.tried)} plans that pairs tried") == 1
    assert page.count("1,230,000 layer-rows") == page.count("layer-rows") == 1
    assert "6.2 times as many" in page
    assert export_command(search) in page
    words = shlex.split(export_command(replace(search, model="my models/a")))
    assert words == ["impasto", "export", "--model", "my models/a", "--plan",
                     str(search.best.plan), "OUT"]  # fmt: skip
    unknown = replace(search, layer_rows=None)
    assert not any("layer-rows" in sentence for sentence in sentences(unknown))


def test_a_search_beside_a_study_and_several_searches(tmp_path):
    one = replace(study_of(tmp_path), search=searched())
    other = Found(tmp_path, None, {}, search=replace(searched("scan"), search="other"))
    page = page_of(one, other, folder=tmp_path)
    said = text_of(page)
    assert said.index("Findings") < said.index("Search") < said.index("Explore")
    assert "thinner, org/demo" in said
    assert "other, org/demo" in said
    ids = re.findall(r'\sid="([^"]*)"', re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    assert len(ids) == len(set(ids))
    for used in re.findall(
        r'(?:href="#|url\(#)([^")]*)', page.split("<main")[1].split("<script")[0]
    ):
        assert used in ids


def test_a_folder_with_neither_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no study and no search"):
        write_report([Found(tmp_path, None, {})], tmp_path)


def test_the_command_reports_on_a_search(tmp_path):
    searched().write(tmp_path)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Search" in text_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    named = CliRunner().invoke(app, ["report", str(tmp_path), "--study", "nothing"])
    assert named.exit_code != 0


def test_a_study_that_runs_beside_a_search_keeps_its_pictures_and_its_section(tmp_path):
    searched("scan").write(tmp_path)
    file = tmp_path / "small.yaml"
    file.write_text("model: demo\ntasks: [{name: capitals, limit: 2}]\nplans: [baseline]\n")
    done = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "figures" / "front.svg").exists()
    said = text_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The best plan runs three quarters." in said
    assert "Explore" in said


@pytest.mark.skipif(chromium() is None, reason="looked at in Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1440, 390])
def test_hostile_texts_are_text_and_the_page_fits(width, tmp_path):
    search = searched(title=f"KL {EVIL}")
    search = replace(
        search,
        search=f"thinner {EVIL}",
        model=f"m {EVIL}",
        sentences=[f"Best is {EVIL}."],
        references={f"other {EVIL}": search.references["greedy"]},
        confirmed=[replace(one, title=f"Capitals {EVIL}") for one in search.confirmed],
    )
    path = write_report([Found(tmp_path, None, {}, search=search)], tmp_path)
    complaints, requests = [], []
    with launched() as browser:
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("a dialog opened"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        assert page.locator("main img, main b").count() == 0
        assert f"Best is {EVIL}." in page.locator("main").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        shown = [page.locator(f".drawn .{name}").first.is_visible() for name in ("wide", "narrow")]
        assert shown == [width > 640, width <= 640]
        page.locator("#theme").click()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.skipif(chromium() is None, reason="looked at in Chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(scheme, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    path = write_report([Found(tmp_path, None, {}, search=searched())], tmp_path)
    with launched() as browser:
        page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()
        page.goto(path.as_uri())
        faults = Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in faults] == []
