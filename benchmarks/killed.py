"""Whether what is killed while it trains, heals, searches, exports, packs or draws ends as it must.

Each round kills a process (SIGKILL) up to twice, at moments that chance chooses, then lets the same
job run to its end. What comes of it must equal what an undisturbed one comes to, and nothing that a
killed one wrote aside may be left.

    python benchmarks/killed.py [training|healing|searching|exporting|packing|drawing …]
        [--rounds 25]
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import impasto
import mutations
from impasto.study import Results, Study

STUDY = """\
model: {model}
tasks: [{{name: glue, tasks: sst2, protocol: fine-tuned, epochs: 4, batch: 8, data: {data}}}]
plans: ["1 0", "0"]
"""
SMALL = "model: demo\ntasks: [{name: capitals, limit: 12}]\nplans: [freeze: {k: [0, 4, 8]}]\n"
Job = Callable[[Path], None]
Outcome = Callable[[Path], object]


def main() -> int:
    """Run the rounds of each kind and print what came out; return 0 if all held."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("kinds", nargs="*", default=[])
    read.add_argument("--rounds", type=int, default=25)
    read.add_argument("--seed", type=int, default=0)
    given = read.parse_args()
    warnings.simplefilter("ignore")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="impasto-killed-") as place:
        for kind in given.kinds or KINDS:
            draw = random.Random(f"{kind} {given.seed}")
            failures += rounds(kind, Path(place, kind), given.rounds, draw)
    return 1 if failures else 0


def rounds(kind: str, place: Path, count: int, draw: random.Random) -> int:
    """Kill and go on so many times; print and return how many did not end as they must."""
    place.mkdir()
    job, outcome = KINDS[kind](place)
    run(job, place / "warm")
    lasts = run(job, place / "whole")
    whole, kills, failures = outcome(place / "whole"), 0, 0
    for number in range(count):
        out = place / f"{number}"
        for _ in range(2):
            kills += killed(job, out, draw.uniform(0, lasts))
        run(job, out)
        stray = strays(out)
        same = outcome(out) == whole
        if stray or not same:
            failures += 1
            print(f"{kind}, round {number}: {'' if same else 'OTHER OUTCOME '}{stray}", flush=True)
        shutil.rmtree(out)
    print(f"{kind}: {lasts:.1f} s undisturbed, {count} rounds, {kills} kills, {failures} failures")
    return failures


def run(job: Job, out: Path) -> float:
    """Run a job in a process of its own to its end; return how many seconds that takes."""
    begin, child = time.monotonic(), started(job, out)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "a job that was not disturbed failed"
    return time.monotonic() - begin


def killed(job: Job, out: Path, moment: float) -> bool:
    """Run a job and kill it after some seconds; say whether that came before its end."""
    child = started(job, out)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def started(job: Job, out: Path) -> int:
    """Return the process that runs a job."""
    child = os.fork()
    if not child:
        try:
            out.mkdir(exist_ok=True)
            with Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), 2)
            job(out)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return child


def strays(out: Path) -> list[str]:
    """Return what was left that no proper name has."""
    return sorted(
        str(path.relative_to(out))
        for path in out.rglob("*")
        if ".part" in path.name or path.name.endswith((".training", "-journal"))
    )


# ------------------------------------------------------------------ the jobs


def training(place: Path) -> tuple[Job, Outcome]:
    """Return the fine-tuning of a small encoder under two plans."""
    model = tiny_encoder(place / "model")
    rows = [
        {"sentence": f"w{i % 7} w{i % 5}", "label": int(i % 7 > 3), "idx": i} for i in range(64)
    ]
    for split in ("train", "validation"):
        (place / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = json.dumps({s: str(place / f"{s}.jsonl") for s in ("train", "validation")})
    study = Study.from_text(STUDY.format(model=model, data=data), name="trained")

    def outcome(out: Path) -> object:
        return [row["value"] for row in Results.read(out).table.to_dict(orient="records")]

    return lambda out: void(study.run(out / "study")), lambda out: outcome(out / "study")


def healing(place: Path) -> tuple[Job, Outcome]:
    """Return the healing of a plan by training, and the export of what it comes to."""
    source = mutations.tiny_model(place / "source")
    settings: dict[str, Any] = {
        "tokens": 400,
        "length": 8,
        "steps": 40,
        "batch": 4,
        "evaluate_every": 5,
    }

    def job(out: Path) -> None:
        with contextlib.suppress(impasto.UserError):  # it may be written already
            impasto.heal(source, "0", mutations.texts(80), "full", out / "healed", **settings)
        if not (out / "exported").exists():
            impasto.export(str(out / "healed"), impasto.Plan.parse("0"), out / "exported")

    def outcome(out: Path) -> object:
        said = json.loads((out / "healed" / "healed.json").read_text(encoding="utf-8"))
        weights = (out / "exported" / "model.safetensors").read_bytes()
        return said["measured"], said["spent"]["kept_step"], hashlib.sha256(weights).hexdigest()

    return job, outcome


def searching(place: Path) -> tuple[Job, Outcome]:
    """Return a search on the bundled model, and the tasks that confirm what it found."""
    texts = [f"Q: What is {n} + {n % 7}?\nA: {n + n % 7}\n" for n in range(48)]

    def job(out: Path) -> None:
        impasto.search(
            "demo", texts, budget={"parts": 0.8}, method="greedy", out=out / "search",
            references=["drop_last"], confirm=[{"name": "capitals", "limit": 20}],
        )  # fmt: skip

    def outcome(out: Path) -> object:
        files = (out / "search" / "search").iterdir()
        return {path.name: path.read_text(encoding="utf-8") for path in files}

    return job, outcome


def exporting(place: Path) -> tuple[Job, Outcome]:
    """Return the export of a small decoder under a plan."""
    source = mutations.tiny_model(place / "source")
    plan = impasto.Plan.parse("0 freeze 1")

    def job(out: Path) -> None:
        if not (out / "model").exists():
            impasto.export(source, plan, out / "model")

    def outcome(out: Path) -> object:
        files = (out / "model").iterdir()
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return job, outcome


def packing(place: Path) -> tuple[Job, Outcome]:
    """Return the packing of a study, and its unpacking elsewhere."""
    from impasto.study.results.packing import pack, unpack

    Study.from_text(SMALL, name="small").run(place / "small")

    def job(out: Path) -> None:
        if not (out / "packed").exists():
            pack(place / "small", out / "packed")
        with contextlib.suppress(impasto.UserError):  # it may hold the results already
            unpack(out / "packed", out / "there")

    def outcome(out: Path) -> object:
        read = Results.read(out / "there")
        return read.table.to_csv(), list(read.answers)

    return job, outcome


def drawing(place: Path) -> tuple[Job, Outcome]:
    """Return the drawing of a study's figures and its page."""
    from impasto.figures import Found, draw
    from impasto.report import write_report

    results = Study.from_text(SMALL, name="small").run(place / "small")

    def job(out: Path) -> None:
        draw(results, out / "figures")
        write_report([Found.of(results, place / "small")], out)

    def outcome(out: Path) -> object:
        return {
            str(path.relative_to(out)): path.stat().st_size
            for path in out.rglob("*")
            if path.is_file() and path.suffix != ".pdf"  # which has its time in it
        }

    return job, outcome


def void(_: object) -> None:
    """Return nothing."""


def tiny_encoder(folder: Path) -> str:
    """Return the folder of a BERT of two small layers with a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: at for at, word in enumerate([*special, *(f"w{i}" for i in range(27))])}
    words = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


KINDS: dict[str, Callable[[Path], tuple[Job, Outcome]]] = {
    "training": training,
    "healing": healing,
    "searching": searching,
    "exporting": exporting,
    "packing": packing,
    "drawing": drawing,
}

if __name__ == "__main__":
    sys.exit(main())
