"""What is done with files that are changed at random: for each kind, what a user does with it.

`KINDS` gives, for a folder to work in, the case of a kind. A sound file goes through it once first,
so that what is imported and opened only once counts for no case.
"""

import contextlib
import json
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mutations
from impasto import ImpastoError, Plan

Case = Callable[[random.Random, Path], None]
LONG = 60  # seconds of a core for what takes seconds with a sound file, too
BASE = """\
model: demo
tasks: [{name: capitals, limit: 6}, {name: arithmetic, terms: 2, limit: 6}]
plans: [freeze: {k: [0, 6]}, skip_one: {n: [3, 4]}, inject: {k: [6]}, "0-3 [4-7] 8-11"]
"""
OTHERS = (
    "model: demo\ntasks: [capitals]\nplans: [plan: {plan: 0-3 5-11, heal: {method: linear, "
    "texts: {file: texts.txt}, tokens: 4096}}]\n",
    "model: demo\ntasks: [{name: texts, file: texts.txt}]\nplans: [from: {file: found/paths.json}]"
    "\nload: {dtype: float32}\n",
)
PLANNED = (
    "0-1",
    "0 freeze 1",
    "0@0.5 1{first=1, last=4}",
    "sum[0.attn | 1@0.5 |] noise(shuffle) 1",
)
PROGRAMS = ("0-2 4.attn 5-11", "0-3 4-7*2 8-11", "0-11", "3-5 3-5 0.mlp 1")


def studies(place: Path) -> Case:
    """Return the case of a study file: it is read, its plans are made, it is written again."""
    from impasto.study import Study

    put_small_index()
    files = sorted(Path("src/impasto/studies").glob("*.yaml"))
    texts = [*(path.read_text() for path in files), BASE, *OTHERS]
    for text in texts:
        with contextlib.suppress(ImpastoError):
            Study.from_text(text)

    def case(draw: random.Random, folder: Path) -> None:
        file = folder / "study.yaml"
        file.write_bytes(mutations.of_yaml(draw.choice(texts), draw))
        read = Study.from_yaml(file)
        read.labelled_plans(12)
        assert Study.from_text(read.to_yaml(), name=read.name) == read

    return case


def databases(place: Path) -> Case:
    """Return the case of a study's folder: status, results, answers, findings and the page."""
    out = made(place)
    read_all(out, has_page=True)
    draw_all(out)

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copytree(out, folder / "out")
        mutations.of_database(folder / "out" / "results.sqlite", draw)
        read_all(folder / "out", has_page=draw.random() < 0.3)
        if draw.random() < 0.01:
            signal.setitimer(signal.ITIMER_PROF, LONG)
            draw_all(folder / "out")

    return case


def packed(place: Path) -> Case:
    """Return the case of a packed study: it is unpacked and read."""
    from impasto.study.results.packing import pack, unpack

    pack(made(place), place / "packed")
    read_all(made(place), has_page=True)

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copy(place / "packed", folder / "packed")
        mutations.of_database(folder / "packed", draw)
        unpack(folder / "packed", folder / "out")
        read_all(folder / "out", has_page=draw.random() < 0.3)

    return case


def models(place: Path) -> Case:
    """Return the case of a model's folder, plain, planned or an adapter: it is opened and asked."""
    import impasto

    source = mutations.tiny_model(place / "source")
    folders = [place / f"{number}" for number in range(len(PLANNED))]
    for folder, plan in zip(folders, PLANNED, strict=True):
        impasto.export(source, Plan.parse(plan), folder)
    folders += healings(place)
    for folder in folders:
        ask(folder)

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copytree(draw.choice(folders), folder / "model")
        mutations.of_model(folder / "model", draw)
        ask(folder / "model")

    return case


def data(place: Path) -> Case:
    """Return the case of a task's data: the task is loaded from it."""
    from impasto.tasks import load_suite

    def case(draw: random.Random, folder: Path) -> None:
        options, name, content = mutations.of_data(draw)
        (folder / name).write_bytes(content)
        load_suite(json.loads(json.dumps(options).replace("FILE", str(folder / name))))

    return case


def healed(place: Path) -> Case:
    """Return the case of a healed plan's folder: what it says is read, shown, exported and asked.

    In some cases it is a training that was stopped, and healing goes on there.
    """
    import impasto
    from impasto.healing import Healed
    from impasto.plan.healed import plan_of_healed

    folders, source = healings(place), mutations.tiny_model(place / "source")
    stopped = stopped_training(source, place / "stopped")

    def case(draw: random.Random, folder: Path) -> None:
        if draw.random() < 0.03:
            signal.setitimer(signal.ITIMER_PROF, LONG)
            there = folder / stopped.name
            shutil.copytree(stopped, there)
            cut = [path for path in there.rglob("*") if path.parent != there and path.is_file()]
            mutations.cut(draw.choice(sorted(cut)), draw)
            heal(source, "full", folder / "out")
            assert not there.exists()
            return
        model = folder / "model"
        shutil.copytree(draw.choice(folders), model)
        mutations.of_text_file(model / "healed.json", draw)
        plan = plan_of_healed(model)
        read = Healed.read(model)
        assert read.plan == plan
        list(read.table.lines())
        read.write(folder / "again", lambda _: None)
        assert Healed.read(folder / "again").content() == read.content()
        if draw.random() < 0.05:
            signal.setitimer(signal.ITIMER_PROF, LONG)
            impasto.export(str(model), read.plan, folder / "exported")

    for number in range(200):  # until each way was gone once
        with contextlib.suppress(ImpastoError):
            folder = place / f"first {number}"
            folder.mkdir()
            case(random.Random(number), folder)
    return case


def searches(place: Path) -> Case:
    """Return the case of a search: its file, or its folder in every way that a user reads it."""
    import impasto
    from impasto.figures import Found
    from impasto.report import write_report
    from impasto.searching.file import WrittenSearch
    from impasto.searching.found import Found as Search
    from impasto.study.following.status import status_of

    put_small_index()
    texts = [path.read_text() for path in sorted(Path("src/impasto/studies").glob("thinner.yaml"))]
    search, out = WrittenSearch.from_yaml("thinner"), place / "searched"
    impasto.search(
        "demo", mutations.texts(16), budget={"parts": 0.9}, method="greedy", out=out,
        references=["drop_last"], confirm=[{"name": "capitals", "limit": 6}],
    )  # fmt: skip

    def read(folder: Path, draws: bool) -> None:
        list(status_of(folder).lines())
        found = Search.read(folder)
        found.files()
        founds = Found.read_all(folder)
        if draws:
            write_report(founds, folder)
            _draw(founds, folder / "figures")

    def case(draw: random.Random, folder: Path) -> None:
        if draw.random() < 0.5:
            file = folder / "search.yaml"
            file.write_bytes(mutations.of_yaml(draw.choice([*texts, search.to_yaml()]), draw))
            again = WrittenSearch.from_yaml(file)
            again.kept(12)
            assert WrittenSearch.from_text(again.to_yaml()) == again
            return
        shutil.copytree(out, folder / "out")
        if draw.random() < 0.3:
            mutations.of_database(folder / "out" / "results.sqlite", draw)
        else:
            files = sorted((folder / "out" / "search").iterdir())
            mutations.of_text_file(draw.choice(files), draw)
        draws = draw.random() < 0.05
        signal.setitimer(signal.ITIMER_PROF, LONG if draws else 5)
        read(folder / "out", draws)

    read(out, draws=True)
    return case


def plans(place: Path) -> Case:
    """Return the case of another tool's file: its plans are read, explained and written again."""
    from impasto.cli.explain import _explanation
    from impasto.plan import picture
    from impasto.plan.formats import FORMATS, WRITTEN, write_plan

    parsed = [Plan.parse(line) for line in PROGRAMS]
    sources: list[tuple[str, str]] = mutations.programs()
    for plan in parsed:
        sources.append((".json", json.dumps(plan.to_json())))
        for form in WRITTEN:
            with contextlib.suppress(ImpastoError):
                suffix = ".yaml" if form == "mergekit" else ".json"
                sources.append((suffix, write_plan(plan, form, 12, "some/model")))

    def case(draw: random.Random, folder: Path) -> None:
        suffix, text = draw.choice(sources)
        file = folder / f"program{draw.choice((suffix, suffix, '.txt'))}"
        file.write_text(text, encoding="utf-8")
        mutations.of_text_file(file, draw)
        form = draw.choice((None, None, *FORMATS))
        layers = draw.choice((None, 12))
        for plan in list(Plan.read_all(file, layers, form))[:3]:
            list(_explanation(plan, layers))
            picture(plan)
            assert Plan.parse(str(plan)) == Plan.from_json(plan.to_json()) == plan

    return case


# ------------------------------------------------------------------ what is made, and read


def put_small_index() -> None:
    """Put a few names in the place of lm-eval's index of tasks, which takes seconds to read."""
    from impasto.tasks.harness import loading

    class Index:
        all_tasks = ("arc_easy", "piqa", "winogrande", "gsm8k")

    loading._index = lambda include_path: Index  # type: ignore[assignment]


def made(place: Path) -> Path:
    """Return the folder of a small finished study."""
    from impasto.study import Study

    out = place / "study"
    if not out.exists():
        Study.from_text(BASE, name="fuzzed").run(out, bench=2)
    return out


def heal(source: str, method: str, out: Path) -> None:
    """Heal a tiny model in a second."""
    import impasto

    settings: dict[str, Any] = (
        {} if method == "linear" else {"steps": 4, "batch": 4, "evaluate_every": 2}
    )
    impasto.heal(source, "0", mutations.texts(80), method, out, tokens=400, length=8, **settings)


def healings(place: Path) -> list[Path]:
    """Return folders of healed plans: a model's and an adapter's."""
    source = mutations.tiny_model(place / "source")
    folders = [place / "linear", place / "lora"]
    for folder in folders:
        if not folder.exists():
            heal(source, folder.name, folder)
    return folders


def stopped_training(source: str, out: Path) -> Path:
    """Return the folder of a training that was stopped behind its last checkpoint."""
    from impasto.healing import healed

    class StoppedError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StoppedError

    write, healed.Healed.write = healed.Healed.write, stop  # type: ignore[method-assign]
    try:
        with contextlib.suppress(StoppedError):
            heal(source, "full", out)
    finally:
        healed.Healed.write = write  # type: ignore[method-assign]
    [training] = out.parent.glob(f"*{out.name}*")
    return training.rename(training.with_name(training.name.replace(out.name, "out")))


def ask(folder: Path) -> None:
    """Open a model's folder and have it write a little."""
    import impasto

    model = impasto.load(str(folder))
    model.generate(Plan.identity(model.num_layers), [[1, 2, 3]], max_new_tokens=2)


def draw_all(out: Path) -> None:
    """Draw all figures of a study's folder."""
    from impasto.figures import draw
    from impasto.study import Results
    from impasto.study.results.several import of_all

    read = Results.read_all(out)
    draw(of_all(read[0].study, read), out / "figures")


def _draw(founds: Sequence, out: Path) -> None:
    """Draw all figures of what a folder holds."""
    from impasto.figures import ENTRIES, pictures

    for _ in pictures(founds, list(ENTRIES.values())):
        pass


def read_all(out: Path, has_page: bool) -> None:
    """Read a study's folder in every way that a user does, but drawing; the page takes longest."""
    from impasto.analysis.costs import trade_off
    from impasto.cli.screen_table import table_lines
    from impasto.figures import Found
    from impasto.report import content_of, write_page
    from impasto.study.following.status import status
    from impasto.study.results.formats import written
    from impasto.study.results.notices import about_items, about_precisions, still_missing
    from impasto.study.results.table import Results

    list(status(out).lines())
    read = Results.read_all(out)
    for form in ("csv", "json", "md"):
        written(read, form)
    for results in read:
        list(table_lines(results, 80))
        for notices in (about_items(results.table), about_precisions(results)):
            list(notices)
        list(still_missing(results))
        list(results.answers)
        trade_off(results.table, results.costs)
    if has_page:
        write_page([content_of(Found.of(results, out)) for results in read], out)


KINDS: dict[str, Callable[[Path], Case]] = {
    kind.__name__: kind
    for kind in (studies, databases, models, data, packed, healed, searches, plans)
}
