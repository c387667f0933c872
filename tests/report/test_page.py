"""The page in a real browser: it opens alone, answers, and shows what comes from data as text."""

import json
from math import exp, nan
from typing import Any

import pytest

from analysis.tables import ROW, table
from browser import Opened, chromium
from characters import Characters
from impasto.figures import Found
from impasto.plan import Plan
from impasto.report import write_report
from impasto.study import Results, Study
from impasto.tasks import arithmetic, capitals

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="the page is tested in Chromium: apt-get install chromium"
)

ANSWERS = {item.prompt: item.answer for task in (capitals(), arithmetic(2)) for item in task.items}
LAST = "0-3 [4-5]*2 6-7 (Arithmetic, 2 terms"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<b>"
TEXT = """
name: page
model: m
tasks: [{name: capitals, limit: 12}, {name: arithmetic, terms: 2, limit: 12}]
plans:
  - freeze: {k: all}
  - skip: {n: all}
  - looped_parallel: {n: all, loops: [1, 3]}
  - "0-3 [4|5]*2 6-7"
"""


class Model(Characters):
    """Forgets an answer for every layer that a plan leaves out, and says something evil then."""

    name, num_layers, tokenizer, identity = "m", 8, None, {"weights": "w"}

    def generate(self, plans, prompts, *given, **more):
        return [
            [
                f" {EVIL}" if i < 8 - plan.occurrences.layers else f" {ANSWERS[prompt]}"
                for i, prompt in enumerate(self.texts(prompts))
            ]
            for plan in plans
        ]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return the page of a finished study whose every text is hostile."""
    folder = tmp_path_factory.mktemp("report")
    model: Any = Model()
    results = Study.from_text(TEXT).run(folder, model=model)
    results.table["title"] = results.table["title"] + f" {EVIL}"
    results.table["model"] = f"m {EVIL}"
    results.run["command"] = f"impasto run {EVIL}"  # type: ignore[index]
    return write_report([Found(folder, results, {})], folder)


@pytest.fixture
def opened(browser, report):
    page = Opened(browser, report)
    yield page
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    page.page.context.close()


def rows(page):
    return page.locator("#rows tr").count()


def test_it_opens_alone_and_texts_of_data_are_texts(opened, report):
    page = opened.page
    assert opened.requests == [report.as_uri()]
    assert page.locator("img, script:not([type]) ~ script").count() == 0
    assert page.locator("body script:not([type])").count() == 1
    assert EVIL in page.locator(".made").inner_text()
    assert EVIL in page.locator(".findings").inner_text()
    assert EVIL in page.locator("#task").inner_text()


def test_findings_come_in_words(opened):
    opening = opened.page.locator(".opening").inner_text()
    assert "No plan can be said to lose no more than 10 %" in opening
    assert "95 % interval" in opening
    told = opened.page.locator(".findings").inner_text()
    assert "no longer matters cannot be told from 12 questions" in told
    assert LAST not in told  # folded away
    opened.page.click(".findings summary")
    assert LAST in opened.page.locator(".findings").inner_text()


def test_the_average_has_the_interval_of_independent_tasks(opened):
    page = opened.page
    first = json.loads(page.locator("#first-0").text_content())
    tasks = [ofTask[1] for ofTask in first["scores"]]
    mean = sum(score[0] for score in tasks) / len(tasks)
    low, high = (
        mean + sign * sum((score[end] - score[0]) ** 2 for score in tasks) ** 0.5 / len(tasks)
        for sign, end in ((-1, 1), (1, 2))
    )
    page.fill("#search", first["plans"][1]["plan"])
    said = page.locator("#rows tr td:nth-child(6)").first.inner_text()
    assert said == f"{100 * low:.1f} % – {100 * high:.1f} %"


def test_a_narrow_screen_has_letters_that_can_be_read_and_nothing_beside_it(browser, report):
    opened = Opened(browser, report, viewport={"width": 390, "height": 844})
    page = opened.page
    height = page.locator("#chart text").first.evaluate(
        "text => text.getBoundingClientRect().height"
    )
    assert height > 10
    page.locator("#rows button").nth(3).click()
    page.wait_for_selector("#detail table")
    for part in ("html", "#detail"):
        beside = page.locator(part).evaluate("part => part.scrollWidth - part.clientWidth")
        assert beside <= 0, part
    assert opened.complaints == []
    page.context.close()


def test_filters_by_strategy_task_and_words(opened):
    page = opened.page
    everything = rows(page)
    assert everything == 1 + 9 + 3 + 6 + 1
    page.uncheck("#families input[value=freeze]")
    assert rows(page) == everything - 9
    page.fill("#search", "[4-5]*2")
    assert rows(page) == 1
    page.fill("#search", "")
    page.select_option("#task", "0")
    assert EVIL in page.locator("#task option:checked").inner_text()
    page.select_option("#across", "cost")
    assert page.locator("#chart .point").count() == everything - 9
    page.select_option("#across", "loops")
    assert page.locator("#chart .point").count() == 6


def test_the_table_sorts_by_every_column_both_ways(opened):
    page = opened.page
    for key in ("cost", "lost", "score", "plan", "with", "family", "change", "gained", "interval"):
        buttons = page.locator("#head button").all()
        at = [button.get_attribute("data-sort") for button in buttons].index(key)
        seen = []
        for _ in range(2):
            page.click(f"#head button[data-sort={key}]")
            cells = page.locator(f"#rows td:nth-child({at + 1})").all_inner_texts()
            seen.append(cells)
            sort = page.locator(f"#head th:nth-child({at + 1})").get_attribute("aria-sort")
            assert sort in ("ascending", "descending")
        assert page.locator("#head th[aria-sort]").count() == 1
        if key in ("cost", "lost"):
            for cells in seen:
                numbers = [float(cell) for cell in cells if cell]
                assert numbers in (sorted(numbers), sorted(numbers, reverse=True))
            assert seen[0] != seen[1]


def test_a_point_opens_its_plan_with_diagram_command_and_changed_answers(opened, report):
    page = opened.page
    page.locator("#rows button", has_text="0-1 7").first.click()
    page.wait_for_selector("#detail svg")
    detail = page.locator("#detail")
    assert "layers 0 and 1" in detail.inner_text()
    assert "impasto run plan.yaml --out runs/plan" in detail.inner_text()
    assert '- "0-1 7"' in detail.inner_text()
    assert "5 lost, 0 gained of 12" in detail.inner_text()
    [item, *_] = [q for q in capitals(limit=12).items if q.id in detail.inner_text()]
    assert " ".join(item.prompt.split()) in detail.inner_text()  # what was asked
    assert f"right answer\n{item.answer}" in detail.inner_text()
    assert f"baseline\n{item.answer}" in detail.inner_text()
    assert EVIL[:60] in detail.inner_text()  # what the model said
    assert page.evaluate("document.activeElement.id") == "detail"


def test_the_command_is_a_study_that_can_be_run(opened):
    page = opened.page
    page.locator("#rows button", has_text="[4-5]*2").click()
    page.wait_for_selector("#detail pre")
    text = page.locator("#detail pre").inner_text().split("<<'END'\n")[1].split("\nEND")[0]
    study = Study.from_text(text)
    assert [str(one.plan) for one in study.labelled_plans(8)][1:] == ["0-3 [4-5]*2 6-7"]
    assert [entry.options["limit"] for entry in study.tasks] == [12, 12]


def test_a_click_and_the_keyboard_reach_the_same_point(opened):
    page = opened.page
    page.focus("#chart")
    page.keyboard.press("End")
    said = page.locator("#now").inner_text()
    assert "95 % interval" in said  # of the average over tasks
    page.keyboard.press("Home")
    assert page.locator("#now").inner_text() != said
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail svg")
    first = page.locator("#detail h3").first.inner_text()
    box = page.locator("#ring").bounding_box()
    page.locator("#detail").evaluate("element => element.replaceChildren()")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#tip").is_visible()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#detail svg")
    assert page.locator("#detail h3").first.inner_text() == first


def test_light_and_dark_follow_the_system_and_the_button(browser, report):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        opened = Opened(browser, report, color_scheme=scheme)
        theme = "document.documentElement.dataset.theme"
        paper = "getComputedStyle(document.body).backgroundColor"
        before = opened.page.evaluate(paper)
        assert opened.page.evaluate(theme) == scheme
        opened.page.click("#theme")
        assert opened.page.evaluate(theme) == other
        assert opened.page.evaluate(paper) != before
        opened.page.reload()
        assert opened.page.evaluate(theme) == other, "what was chosen stays"
        assert opened.page.inner_text("#theme").lower() == scheme
        assert opened.complaints == []
        opened.page.context.close()


def test_it_prints_everything_in_dark_on_light(opened, tmp_path):
    page = opened.page
    page.click("#theme")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#task").is_visible()
    assert not page.locator("#families input").first.is_visible()
    assert "Looped parallel" in page.locator("#families").inner_text()  # the key of the chart
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert LAST in page.locator(".findings").inner_text()
    assert page.locator("#chart").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(scheme, browser, report):
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, report, color_scheme=scheme, bypass_csp=True)
    opened.page.locator("#rows button").nth(3).click()
    opened.page.wait_for_selector("#detail svg")
    found = Axe().run(opened.page).response["violations"]
    assert [(fault["id"], fault["impact"], fault["help"]) for fault in found] == []
    opened.page.context.close()


def test_without_javascript_the_findings_can_be_read(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert "No plan can be said" in page.locator(".opening").inner_text()
    assert "costs at most" in page.locator(".findings").inner_text()
    assert page.locator(".main svg").first.is_visible()
    context.close()


def test_the_embedded_values_are_json(report):
    text = report.read_text(encoding="utf-8")
    inside = text.split('id="first-0">')[1].split("</script>")[0]
    assert EVIL in json.loads(inside)["tasks"][0]["title"]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Return the page of two models: one that knows something, and one that is at chance."""
    folder = tmp_path_factory.mktemp("several")
    known: Any = Model()
    one = Study.from_text(TEXT.replace("page", "one")).run(folder / "one", model=known)
    two = perplexing(folder / "two")
    return write_report([Found(folder, one, {}), two], folder)


def perplexing(folder):
    """Return a study of texts, on which less is better, and of a task at chance."""
    log_p = {"0-7": -2.0, "0-6": -2.1, "0-5": -4.0}
    rows, records = [], []
    for line, mean in log_p.items():
        plan = Plan.parse(line)
        own = ROW | {"strategy": "baseline" if line == "0-7" else "plan", "layers": 8}
        own |= {"plan": line, "digest": plan.digest, "stderr": nan, "n": 4, "model": "small"}
        values = [mean - i / 10 for i in range(4)]
        perplexity = exp(-sum(values) / 4)
        rows.append(own | {"task": "texts", "title": "Texts", "metric": "perplexity"})
        rows[-1] |= {"value": perplexity, "baseline": exp(2.15), "chance": nan}
        rows.append(own | {"task": "low", "title": "Low", "value": 0.25, "baseline": 0.25})
        rows[-1] |= {"chance": 0.25, "n": 100, "stderr": 0.04}
        metrics = [{"perplexity": value} for value in values]
        records += [
            {"task": "texts", "digest": plan.digest, "plan": line, "item": f"{i}"}
            | {"responses": [[-9.0, False]], "metrics": one}
            for i, one in enumerate(metrics)
        ]
    results = Results(Study("two", ("small",), (), ()), table(*rows), records)
    return Found(folder, results, {})


def test_several_models_have_a_block_each_and_one_is_shown_at_a_time(browser, several):
    opened = Opened(browser, several)
    page = opened.page
    told = page.locator(".findings").inner_text()
    assert "one, m" in told
    assert "two, small" in told
    assert "Low: the baseline's 25 % (17.5 to 34.3 %) is not above chance, 25 %" in told
    everything = rows(page)
    page.locator("#rows button").first.click()
    page.wait_for_selector("#detail svg")
    page.select_option("#model", "1")
    assert rows(page) == 3 < everything
    assert page.locator("#detail svg").count() == 0
    page.locator("#rows button").first.click()
    page.wait_for_selector("#detail svg")
    assert page.locator("#detail code").inner_text() == "0-7"
    page.select_option("#model", "0")
    assert rows(page) == everything
    assert opened.complaints == []
    page.context.close()


def test_less_perplexity_is_better_on_top_and_first(browser, several):
    opened = Opened(browser, several)
    page = opened.page
    page.select_option("#model", "1")
    page.select_option("#task", label="Texts (perplexity)")
    assert "less is better" in page.locator("#y-label").text_content()
    assert page.locator("#rows td:nth-child(3)").all_inner_texts() == ["0-7", "0-6", "0-5"]
    change = page.locator("#rows td:nth-child(7)").all_inner_texts()
    assert change[1:] == ["+10.5 %", "+638.9 %"]
    assert page.locator("#rows td:nth-child(6)").nth(1).inner_text() != ""  # of its texts
    heights = [
        page.locator(f"#chart .point[data-plan='{i}']").bounding_box()["y"] for i in range(3)
    ]
    assert heights == sorted(heights)  # the best is on top
    page.locator("#rows button", has_text="0-5").click()
    page.wait_for_selector("#detail svg")
    assert "4 lost, 0 gained of 4" in page.locator("#detail").inner_text()
    assert "log p -4.000" in page.locator("#detail").inner_text()
    assert page.locator("#warning").is_hidden()
    page.context.close()


def test_by_a_task_at_chance_no_front_is_drawn_and_a_line_says_why(browser, several):
    opened = Opened(browser, several)
    page = opened.page
    page.select_option("#across", "cost")
    assert page.locator("#chart .front").count() == 1
    assert page.locator("#chart .bars").count() > 0
    page.select_option("#model", "1")
    page.select_option("#task", label="Low (accuracy)")
    assert page.locator("#chart .front").count() == 0
    warning = page.locator("#warning").inner_text()
    assert "Low: the baseline's 25.0 % is not above chance, 25.0 %." in warning
    assert "no front is drawn" in warning
    page.context.close()
