"""What one shares of the page: its first sentence, pictures, the lens, and addresses of plans."""

import csv
import io

import pytest

from browser import Opened, chromium
from impasto.analysis import item_scores
from impasto.analysis.findings import findings_of
from impasto.figures import Found
from impasto.report import write_report
from impasto.study import Study
from impasto.tasks import capitals

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="the page is tested in Chromium: apt-get install chromium"
)

TEXT = """
name: shared
model: demo
tasks: [{name: capitals, limit: 60}]
plans:
  - freeze: {k: all}
  - repeat_block: {i: [2, 4], j: [6, 8]}
  - "[0|2|4|6|8|10|1|3|5|7|9|11] 3-8 [0|2|4|6|8|10|1|3|5|7|9|11] (9.attn 10.mlp)*3 11"
"""
LONG = "[0|2|4"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    return Study.from_text(TEXT).run(folder, command="impasto run shared.yaml"), folder


@pytest.fixture(scope="module")
def report(results):
    found, folder = results
    return write_report(Found.all_of(found, folder), folder, with_lens=True)


@pytest.fixture
def opened(browser, report):
    page = Opened(browser, report)
    yield page.page
    assert page.complaints == []
    page.page.context.close()


def test_it_opens_with_one_sentence_that_its_interval_carries_and_with_its_picture(opened, results):
    found, _ = results
    opening = opened.locator(".opening")
    assert opening.count() == 1
    assert "95 % interval" in opening.inner_text()
    scores = item_scores(found.answers)
    assert opening.inner_text() == findings_of(found.table, scores).opening
    assert opened.locator(".main figure svg:visible").count() == 1
    above = opened.locator(".main").bounding_box()
    assert above["y"] < opened.locator("#findings").bounding_box()["y"]
    assert opening.inner_text() not in opened.locator(".findings li").all_inner_texts()


def test_critical_depths_are_a_table_with_what_the_word_means(opened):
    section = opened.locator("section[aria-labelledby=depths]")
    assert "no longer matters" in section.locator("p").inner_text()
    assert section.locator("tbody th").all_inner_texts() == ["Capitals, 60 questions"]
    assert "freezing earlier tokens" in section.locator("tbody td").first.inner_text()


def test_the_figures_stand_in_the_page_and_are_saved_with_their_data(opened):
    names = opened.locator("figure").evaluate_all("all => all.map((one) => one.dataset.name)")
    assert {"A2-capitals", "pareto", "repeat_block"} <= set(names)
    heat = opened.locator("figure[data-name=repeat_block]")
    with opened.expect_download() as saved:
        heat.locator("[data-save=csv]").click()
    assert saved.value.suggested_filename == "repeat_block.csv"
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    there = [row for row in rows if row["value"]]
    assert {(row["row"], row["column"]) for row in there} == {
        (j, i) for j in ("6", "8") for i in ("2", "4")
    }
    with opened.expect_download() as saved:
        heat.locator("[data-save=svg]").click()
    assert saved.value.path().read_text().startswith("<svg")


def test_the_chart_and_its_plans_are_saved(opened):
    opened.fill("#search", "freeze")
    with opened.expect_download() as saved:
        opened.click("#save-plans")
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    assert {row["strategy"] for row in rows} == {"Freeze"}
    assert all(float(row["low"]) <= float(row["score"]) <= float(row["high"]) for row in rows)
    with opened.expect_download() as saved:
        opened.click("#save-chart")
    assert "var(" not in saved.value.path().read_text()


def test_an_address_opens_its_plan_and_scrolls_to_it(opened, browser, report):
    opened.locator("#rows button", has_text="0-2 freeze 3-11").click()
    opened.wait_for_selector("#detail svg")
    link = opened.locator("#detail .link").get_attribute("data-text")
    assert link == opened.url
    assert link.endswith("#plan=0-2%20freeze%203-11")
    other = browser.new_page()
    other.goto(link)
    other.wait_for_selector("#detail svg")
    assert other.locator("#detail code").first.inner_text() == "0-2 freeze 3-11"
    other.wait_for_function("scrollY > 300")
    box = other.locator("#detail").bounding_box()
    assert 0 <= box["y"] < other.viewport_size["height"]
    other.goto(report.as_uri() + "#plan=nonsense")
    other.reload()
    assert "not on this page" in other.locator("#now").inner_text()
    other.close()


def test_the_lens_says_what_the_model_would_say_under_any_plan(opened):
    def table():
        rows = opened.locator("#lens-rows tr").all_inner_texts()
        return {row.split()[0]: row for row in rows}

    assert opened.locator("#lens-plan option").count() == 1 + 13 + 4 + 1
    prompts = opened.locator("#lens-prompt option").all_inner_texts()
    prompt = prompts[-1]
    right = next(i.answer for i in capitals().items if prompt.removeprefix("…") in i.prompt)
    opened.select_option("#lens-prompt", str(len(prompts) - 1))
    whole = table()
    assert whole["11"].split()[-2] in right
    assert whole["0"].split()[-2] not in right
    opened.locator("#rows button", has_text="freeze 1-11").first.click()
    opened.wait_for_selector("#detail svg")
    assert opened.locator("#lens-plan option:checked").inner_text() == "0 freeze 1-11"
    assert list(table()) == list(whole)


def test_without_the_model_a_line_says_so(results, tmp_path, browser, monkeypatch):
    found, folder = results
    other = Found.all_of(found, folder)[0]
    monkeypatch.setitem(other.results.__dict__, "table", found.table.assign(weights="others"))
    page = Opened(browser, write_report([other], tmp_path, with_lens=True)).page
    note = page.locator("#lens-note").inner_text()
    assert "the weights of demo have changed since the study ran" in note
    assert page.locator("#lens-scroll").is_hidden()
    page.context.close()


def test_commands_come_next_and_are_copied(browser, report):
    opened = Opened(browser, report, permissions=["clipboard-read", "clipboard-write"])
    page = opened.page
    commands = page.locator("section[aria-labelledby=next] pre").all_inner_texts()
    assert any(command.startswith("impasto results ") for command in commands)
    assert "impasto run shared.yaml" in commands
    page.locator("section[aria-labelledby=next] .copy").first.click()
    page.wait_for_selector(".copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == commands[0]
    page.context.close()


def test_no_item_of_a_plan_is_broken_on_a_phone(browser, report):
    opened = Opened(browser, report, viewport={"width": 390, "height": 844})
    page = opened.page
    page.locator("#rows button", has_text=LONG).first.click()
    page.wait_for_selector("#detail svg")
    lines = "all => all.map((one) => one.getClientRects().length)"
    assert set(page.locator(".plan span, .item").evaluate_all(lines)) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.context.close()
