"""The page in a real browser: chips and line stay in step, by hand and keys; nothing leaks."""

import shlex
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from browser import chromium
from impasto.cli import app
from impasto.plan import Layer, Plan
from impasto.playing.examples import examples_for

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="the page is tested in Chromium: apt-get install chromium"
)

EVIL = "<img src=x onerror=alert(1)>\"'&</textarea><script>alert(2)</script> ${1} {{2}}"


class Playing:
    """The page, opened, with everything that it asked for and complained of."""

    def __init__(self, browser, url, query="", **more):
        self.url, self.complaints, self.requests = url, [], []
        self.page = browser.new_context(**more).new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.complaints.append("a dialog opened"))
        self.page.goto(url + query)
        self.page.wait_for_selector("#strip .chip")

    def settled(self):
        """Wait until nothing more is asked."""
        self.page.wait_for_selector("#plan-text .new")
        self.page.wait_for_timeout(30)
        self.page.wait_for_function(
            "document.querySelector('#right').getAttribute('aria-busy') === 'false'"
        )

    def line(self, expected):
        """Wait until the line says so, and see that the chips say the same."""
        is_said = "line => document.querySelector('#line').value === line"
        try:
            self.page.wait_for_function(is_said, arg=expected)
        except Exception:
            assert self.page.input_value("#line") == expected
        on = self.chips(".chip[aria-pressed=true]")
        plan = Plan.parse(expected)
        if all(isinstance(step, Layer) for step in plan.steps):
            assert on == [str(step.index) for step in plan.steps if isinstance(step, Layer)]

    def chips(self, which=".chip:not(.marker)"):
        return self.page.locator(f"#strip {which} .no").all_inner_texts()

    def chip(self, layer):
        return self.page.locator("#strip .chip:not(.marker)").nth(self.chips().index(str(layer)))

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def page_of_all(served, browser):
    opened = Playing(browser, served)
    yield opened
    opened.page.context.close()


@pytest.fixture
def opened(page_of_all):
    """The page as it came, once for all tests that need no other."""
    page_of_all.page.click("[data-act=reset]")
    page_of_all.line("0-11")
    yield page_of_all
    page_of_all.settled()
    assert page_of_all.complaints == []
    outside = [url for url in page_of_all.requests if not url.startswith(page_of_all.url)]
    assert outside == []


def test_a_click_skips_a_layer_and_another_puts_it_back(opened):
    opened.chip(5).click()
    opened.line("0-4 6-11")
    assert opened.chips() == [str(i) for i in range(12)]
    assert opened.chip(5).get_attribute("aria-label").startswith("Layer 5, skipped")
    opened.chip(5).click()
    opened.line("0-11")
    opened.chip(7).locator("[data-part=attention]").click()
    opened.line("0-6 7.mlp 8-11")
    opened.chip(7).locator("[data-part=mlp]").click()  # nothing of it would be left
    opened.line("0-6 8-11")


def test_chips_follow_the_line_and_a_wrong_line_keeps_the_last_good_one(opened):
    page = opened.page
    page.fill("#line", "0-3  (8 9)*2 11")
    page.wait_for_function("document.querySelectorAll('#strip .off').length > 0")
    assert opened.chips(".chip[aria-pressed=true]") == [
        "0",
        "1",
        "2",
        "3",
        "8",
        "9",
        "8",
        "9",
        "11",
    ]
    assert page.input_value("#line") == "0-3  (8 9)*2 11"  # as it is typed, while it is
    page.fill("#line", "0-3 frezze 11")
    page.wait_for_selector("#mistake:visible")
    assert "did you mean freeze?" in page.inner_text("#mistake")
    assert "^~~~~~" in page.inner_text("#mistake pre")
    assert page.get_attribute("#line", "aria-invalid") == "true"
    assert opened.chips(".chip[aria-pressed=true]")[-2:] == ["9", "11"]
    page.fill("#line", "0-3 8-9 11")
    page.wait_for_selector("#mistake", state="hidden")
    page.keyboard.press("Tab")
    opened.line("0-3 8-9 11")


def test_the_answers_follow_the_plan(opened):
    page = opened.page
    page.fill("#prompt", "2 + 3 + 4 = 9\n3 + 5 - 1 =")
    page.fill("#tokens", "3")
    opened.chip(0).click()
    opened.line("1-11")
    page.wait_for_selector("#plan-text mark")
    opened.settled()
    assert page.inner_text("#base-text").rstrip().endswith("3 + 5 - 1 = 7")
    assert page.inner_text("#plan-text") != page.inner_text("#base-text")
    assert "another first choice" in page.inner_text("#apart")
    assert "11 layer runs (unchanged: 12)" in page.inner_text("#count")
    assert page.locator("#costs tr").nth(0).inner_text().split("\t") == [
        "layer runs", "11", "12", "91.7 %",
    ]  # fmt: skip
    assert page.locator("#plan-rows tr").count() == 12
    assert page.locator("#base-rows tr").count() == 13
    last = page.locator("#base-rows tr").last.locator("td").last
    assert last.inner_text().startswith("·7")
    words = page.locator("#strip .lens-word").all_inner_texts()
    assert words[0] == ""  # of the layer that is skipped
    assert all(words[1:])


def test_nothing_runs_until_it_is_asked_where_the_tick_is_taken(opened):
    page = opened.page
    opened.settled()
    page.uncheck("#live")
    before = page.text_content("#plan-text")
    opened.chip(0).click()
    opened.line("1-11")
    page.wait_for_timeout(300)
    assert page.text_content("#plan-text") == before
    page.click("#run")
    page.wait_for_selector("#plan-text mark")
    page.check("#live")


def test_a_layer_is_dragged_to_another_place(opened):
    page = opened.page
    source, target = opened.chip(2).bounding_box(), opened.chip(6).bounding_box()
    page.mouse.move(source["x"] + 20, source["y"] + 15)
    page.mouse.down()
    page.mouse.move(source["x"] + 40, source["y"] + 20)
    page.mouse.move(target["x"] + target["width"], target["y"] + 20, steps=4)
    assert page.locator("#strip .caret").is_visible()
    page.mouse.up()
    opened.line("0-1 3-6 2 7-11")
    assert page.locator(".float").count() == 0
    page.keyboard.press("Control+z")
    opened.line("0-11")


def test_everything_is_done_by_keys(opened):
    opened.chip(3).focus()
    opened.page.keyboard.press("Home")
    for keys, line in (
        ("ArrowRight ArrowRight Alt+ArrowRight", "0-1 3-2 4-11"),
        ("Control+z", "0-11"),
        ("Delete", "0-1 3-11"),
        ("Enter", "0-11"),
        ("a", "0-1 2.mlp 3-11"),
        ("a m", "0-1 2.attn 3-11"),
        ("m h", "0-1 2@0.5 3-11"),
        ("h d", "0-1 2*2 3-11"),
        ("Control+z Control+z Control+z Control+Shift+z", "0-1 2@0.5 3-11"),
        ("h p", "0-1 [2-3] 4-11"),
        ("s", "0-1 sum[2-3] 4-11"),
        ("p", "0-11"),
        ("f", "0-1 freeze 2-11"),
        ("f n", "0-1 noise(gaussian) 2-11"),
        ("n Shift+ArrowRight Shift+ArrowRight r", "0-1 4-2 5-11"),
        ("r p", "0-1 [2-4] 5-11"),
        ("ArrowRight Delete", "0-1 [3-4] 5-11"),
        ("ArrowRight Alt+ArrowRight", "0-1 [4] 3 5-11"),
        ("End Backspace", "0-1 [4] 3 5-10"),
    ):
        opened.key(*keys.split())
        opened.line(line)
    said = opened.page.locator("#said")
    said.get_by_text("The plan is 0-1 [4] 3 5-10").wait_for(state="attached")


def test_the_buttons_do_what_the_keys_do_for_the_layers_chosen(opened):
    page = opened.page
    page.click("#select")
    opened.chip(4).click()
    opened.chip(7).click()
    assert page.locator("#strip .chosen").count() == 4
    page.click("[data-act=reverse]")
    opened.line("0-3 7-4 8-11")
    page.click("[data-act=repeat]")
    opened.line("0-3 7-4*2 8-11")
    page.click("[data-act=undo]")
    opened.line("0-3 7-4 8-11")
    page.click("[data-act=redo]")
    opened.line("0-3 7-4*2 8-11")
    page.click("#select")


def test_every_example_is_its_plan_and_says_whose_point_it_is(opened):
    page = opened.page
    for example, plan in examples_for(12):
        page.get_by_role("button", name=example.title, exact=True).click()
        page.get_by_text(f"{example.paper}: {example.says}").wait_for()
        opened.line(str(plan))


def test_what_chips_cannot_say_is_shown_and_kept(opened):
    page = opened.page
    line = "0{last=4} [1@0.25 2 | 3 |] noise(shuffle, seed=3, keep=1) (4-5)@0.5 freeze(prompt) 6-10"
    page.fill("#line", line)
    page.keyboard.press("Tab")
    page.wait_for_selector("#strip .marker")
    assert page.locator("#strip .marker").all_inner_texts() == ["noise\nshuffle", "freeze\nprompt"]
    assert "reach" in page.locator("#strip .badge").all_inner_texts()
    assert page.locator("#strip .lane").all_inner_texts()[2] == "nothing"
    opened.chip(11).click()
    opened.line(line.replace("6-10", "6-11"))


def test_the_command_prints_what_the_page_shows_and_the_link_opens_it(opened, served, browser):
    page = opened.page
    page.fill("#prompt", "Q: What is the capital of Spain?\nA:")
    page.fill("#tokens", "4")
    opened.chip(0).click()
    opened.line("1-11")
    page.wait_for_function("document.querySelector('#command').textContent.includes('tokens 4')")
    opened.settled()
    told = CliRunner().invoke(app, shlex.split(page.inner_text("#command"))[1:])
    assert told.exit_code == 0, told.output
    written = [page.text_content(f"#{side}-text .new") for side in ("base", "plan")]
    parts = told.stdout.split("plan: 1-11\n")
    for text, part in zip(written, (parts[0].partition("\n")[2], parts[1]), strict=True):
        lines = [f"    {line}" for line in text.strip("\n").split("\n")]
        assert part.rstrip("\n").split("\n") == [line.rstrip("\n") for line in lines]
    other = Playing(browser, page.url)
    other.settled()
    for name in ("prompt", "tokens", "line"):
        assert other.page.input_value(f"#{name}") == page.input_value(f"#{name}")
    assert other.chips(".chip.off") == ["0"]
    assert other.page.inner_text("#plan-text") == page.inner_text("#plan-text")
    other.page.context.close()
    page.fill("#tokens", "24")


def test_whatever_comes_from_a_prompt_is_text(browser, served):
    opened = Playing(browser, served, f"?plan=0-11&prompt={quote(EVIL)}")
    opened.settled()
    page = opened.page
    assert page.inner_text("#base-text").startswith(EVIL)
    assert EVIL.split()[0] in page.inner_text("#command")
    page.fill("#line", EVIL)
    page.wait_for_selector("#mistake:visible")
    assert "<img src=x" in page.inner_text("#mistake pre")
    assert page.locator(".play img, .play script").count() == 0
    assert opened.complaints == []
    page.context.close()


def test_a_wrong_address_says_so_and_leaves_the_page_usable(browser, served):
    opened = Playing(browser, served, "?plan=0-99&tokens=3")
    opened.page.wait_for_selector("#mistake:visible")
    assert "this model has layers 0..11" in opened.page.inner_text("#mistake")
    opened.chip(4).click()
    opened.line("0-3 5-11")
    opened.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_and_nothing_is_beside_the_page(scheme, browser, served):
    from axe_playwright_python.sync_playwright import Axe

    plan = quote("0-1 [2-4] 5.mlp 6@0.5 freeze 8-11")
    opened = Playing(browser, served, f"?plan={plan}", color_scheme=scheme)
    opened.settled()
    page = opened.page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        found = Axe().run(page)
        serious = [
            (one["id"], one["nodes"][0]["html"][:150])
            for one in found.response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
        beside = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(beside) <= 0
    page.context.close()
