"""What people give by mistake: calls of the public API, each with a word that its error must have.

Run as a program (`python tests/mistakes.py FOLDER`), it makes every call as a user's own program
would, without the shape checks of the tests, and prints what came of each as JSON.
"""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel

import harness_index
import impasto
import tiny
from impasto import Donor, Plan, Study, strategies
from impasto.tasks.harness import loading

TEXT = "Q: What is the capital of Spain?\nA:"
STUDY = "model: demo\ntasks: [capitals]\nplans: [baseline]\n"
SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
Call = Callable[[], Any]


def main(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return what every call raised, by its part and name.

    First the word that its message must have, then the names of the error's classes, the message.
    """
    return {part: _made(part, folder / part) for part in PARTS}


def _made(part: str, folder: Path) -> dict[str, list[str]]:
    folder.mkdir()
    return {name: [word, *_raised(call)] for name, (call, word) in PARTS[part](folder).items()}


def _raised(call: Call) -> list[str]:
    try:
        value = call()
    except BaseException as error:
        return [*(kind.__name__ for kind in type(error).__mro__), str(error)]
    return [f"nothing was raised: {value!r:.80}"]


def plans(folder: Path) -> dict[str, tuple[Call, str]]:
    """Plans that are none."""
    parse: Any = Plan.parse
    read: Any = Plan.from_json
    make: Any = Plan
    identity: Any = Plan.identity
    huge = 10**5000
    return {
        "parse None": (lambda: parse(None), "NoneType"),
        "parse bytes": (lambda: parse(b"0-3"), "bytes"),
        "parse a number": (lambda: parse(3), "int"),
        "parse nothing": (lambda: parse(""), "at least one item"),
        "parse layers as text": (lambda: parse("0", layers="12"), "'12'"),
        "parse layers as a share": (lambda: parse("0", layers=2.5), "2.5"),
        "parse layers below zero": (lambda: parse("0", layers=-huge), "number"),
        "json None": (lambda: read(None), "JSON"),
        "json junk": (lambda: read("]["), "JSON"),
        "json bytes": (lambda: read(b"\xff\xfe\x00"), "JSON"),
        "json a list": (lambda: read("[1]"), "object"),
        "json of another form": (lambda: read('{"plan": 1, "steps": [{"layer": {}}]}'), "layer"),
        "json of a wrong layer": (
            lambda: read('{"plan": 1, "steps": [{"layer": [], "part": {}}]}'),
            "[]",
        ),
        "steps of another kind": (lambda: make("0-3"), "str"),
        "steps of a huge number": (lambda: make((impasto.plan.Layer(huge),)), "layer"),
        "steps of None": (lambda: make((None,)), "None"),
        "identity of none": (lambda: identity("12"), "'12'"),
        "identity of a huge number": (lambda: identity(huge), "layers"),
        "check against text": (lambda: Plan.parse("0-3").check("four"), "'four'"),  # type: ignore[arg-type]
    }


def opening(folder: Path) -> dict[str, tuple[Call, str]]:
    """Models that cannot be opened."""
    load: Any = impasto.load
    empty = _folder(folder / "empty")
    junk = _folder(folder / "junk", {"config.json": b"\xff\x00 no JSON"})
    listed = _folder(folder / "listed", {"config.json": b"[1, 2]"})
    nameless = _folder(folder / "nameless", {"config.json": b"{}"})
    unknown = _folder(folder / "unknown", {"config.json": b'{"model_type": "made_up"}'})
    image = _folder(folder / "image", {"config.json": b'{"model_type": "vit"}'})
    narrow = {"model_type": "llama", "hidden_size": "wide", "num_hidden_layers": 2}
    texts = _folder(folder / "texts", {"config.json": json.dumps(narrow).encode()})
    bare = tiny.bert(folder / "bare")
    (Path(bare) / "model.safetensors").unlink()
    cut = tiny.bert(folder / "cut")
    weights = (Path(cut) / "model.safetensors").read_bytes()
    (Path(cut) / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    zeros = tiny.bert(folder / "zeros")
    (Path(zeros) / "model.safetensors").write_bytes(b"\0" * 64)
    file = folder / "file"
    file.write_text("no folder")
    towers = CLIPModel(CLIPConfig(text_config=SMALL, vision_config=SMALL)).eval()
    return {
        "load a number": (lambda: load(3), "int"),
        "load None": (lambda: load(None), "NoneType"),
        "load no name": (lambda: load(""), "''"),
        "load a name with spaces": (lambda: load("no such model"), "no such model"),
        "load a name that is none": (lambda: load("a//b"), "a//b"),
        "load what is not there": (lambda: load("nobody/nothing"), "nobody/nothing"),
        "load a folder that is not there": (lambda: load("./nowhere"), "nowhere"),
        "load an empty folder": (lambda: load(empty), "config.json"),
        "load a file": (lambda: load(str(file)), "file"),
        "load a name with a zero": (lambda: load("a\0b"), "a\\x00b"),
        "load config junk": (lambda: load(junk), "junk"),
        "load config of a list": (lambda: load(listed), "listed"),
        "load config without a type": (lambda: load(nameless), "nameless"),
        "load an unknown family": (lambda: load(unknown), "made_up"),
        "load a model of images": (lambda: load(image), "image"),
        "load config of texts": (lambda: load(texts), "texts"),
        "load without weights": (lambda: load(bare), "bare"),
        "load weights that were cut": (lambda: load(cut), "cut"),
        "load weights of zeros": (lambda: load(zeros), "zeros"),
        "load weights that were cut, by a plan": (
            lambda: load(cut, plan=Plan.parse("0-1")),
            "cut",
        ),
        "load a model of two towers": (lambda: load(towers), "CLIPModel"),
        "load by a plan of text": (lambda: load("demo", plan="0-3"), "Plan.parse"),
        "load by a plan of other layers": (lambda: load("demo", plan=Plan.parse("40")), "40"),
        "load with an unknown option": (lambda: load("demo", colour="red"), "colour"),
        "load with another dtype": (lambda: load("demo", dtype="float33"), "float33"),
        "load with a dtype of a number": (lambda: load("demo", dtype=32), "32"),
        "load to no device": (lambda: load("demo", device_map="moon"), "moon"),
        "load with another attention": (lambda: load("demo", attn_implementation="magic"), "magic"),
        "load with a tokenizer that is not there": (
            lambda: load("demo", tokenizer="./no-tokenizer"),
            "no-tokenizer",
        ),
        "load with a tokenizer of a number": (lambda: load("demo", tokenizer=3), "tokenizer"),
    }


def asking(folder: Path) -> dict[str, tuple[Call, str]]:
    """Questions to a decoder."""
    model: Any = impasto.load("demo")
    bare: Any = impasto.load(model.hf)
    plan, inject = Plan.parse("0-11"), Plan.parse("0 inject(donor) 1-11")
    ids = torch.tensor([[1, 5, 7]])
    odd: Any = Donor
    wrong_mask = torch.tensor([[0.0, 1.0, 1.0]])

    def with_memory(memory: Any) -> Any:
        other: Any = impasto.load(model.hf, model.tokenizer)
        other.memory = memory
        return other.generate(plan, [TEXT])

    return {
        "fidelity by text": (lambda: model.fidelity("0-11", [TEXT]), "Plan.parse"),
        "fidelity on one text": (lambda: model.fidelity(plan, TEXT), "list"),
        "fidelity on None": (lambda: model.fidelity(plan, None), "None"),
        "fidelity on nothing": (lambda: model.fidelity(plan, [[]]), "text 0"),
        "fidelity on words": (lambda: model.fidelity(plan, [["a"]]), "'a'"),
        "fidelity in pieces of text": (lambda: model.fidelity(plan, [TEXT], length="8"), "'8'"),
        "fidelity in pieces of one": (lambda: model.fidelity(plan, [TEXT], length=1), "length"),
        "fidelity in huge pieces": (
            lambda: model.fidelity(plan, [TEXT], length=10**9),
            "positions",
        ),
        "fidelity of one token": (lambda: model.fidelity(plan, [TEXT], tokens=1), "tokens"),
        "fidelity of True tokens": (lambda: model.fidelity(plan, [TEXT], tokens=True), "True"),
        "fidelity in memory of text": (
            lambda: model.fidelity(plan, [TEXT], memory="8GiB"),
            "'8GiB'",
        ),
        "fidelity in no memory": (lambda: model.fidelity(plan, [TEXT], memory=9), "9 bytes may"),
        "fidelity of what injects": (lambda: model.fidelity(inject, [TEXT]), "injects"),
        "fidelity without a tokenizer": (lambda: bare.fidelity(plan, [TEXT]), "tokenizer"),
        "generate by text": (lambda: model.generate("0-11", [TEXT]), "Plan.parse"),
        "generate by None": (lambda: model.generate(None, [TEXT]), "None"),
        "generate by texts": (lambda: model.generate([plan, "0-3"], [TEXT]), "'0-3'"),
        "generate from one text": (lambda: model.generate(plan, TEXT), "list"),
        "generate from None": (lambda: model.generate(plan, None), "None"),
        "generate from a number": (lambda: model.generate(plan, 3), "3"),
        "generate from numbers": (lambda: model.generate(plan, [1, 5, 7]), "prompt 0"),
        "generate from floats": (lambda: model.generate(plan, [[1.5, 2.0]]), "1.5"),
        "generate from booleans": (lambda: model.generate(plan, [[True]]), "True"),
        "generate from words": (lambda: model.generate(plan, [["a", "b"]]), "'a'"),
        "generate from bytes": (lambda: model.generate(plan, [b"Q"]), "b'Q'"),
        "generate from an encoding": (
            lambda: model.generate(plan, [{"input_ids": [1]}]),
            "input_ids",
        ),
        "generate from a nested list": (lambda: model.generate(plan, [[[1, 2]]]), "[1, 2]"),
        "generate from a tensor of floats": (
            lambda: model.generate(plan, [torch.ones(3)]),
            "float32",
        ),
        "generate from a token too large": (lambda: model.generate(plan, [[10**6]]), "1000000"),
        "generate from a token below zero": (lambda: model.generate(plan, [[-1]]), "-1"),
        "generate from nothing": (lambda: model.generate(plan, [[]]), "empty"),
        "generate text as tokens": (lambda: model.generate(plan, [TEXT], "3"), "'3'"),
        "generate True tokens": (lambda: model.generate(plan, [TEXT], True), "True"),
        "generate 2.5 tokens": (lambda: model.generate(plan, [TEXT], 2.5), "2.5"),
        "generate None tokens": (lambda: model.generate(plan, [TEXT], None), "None"),
        "generate no tokens": (lambda: model.generate(plan, [TEXT], 0), "0"),
        "generate too many tokens": (lambda: model.generate(plan, [TEXT], 10**9), "positions"),
        "generate to one stop": (lambda: model.generate(plan, [TEXT], stop="END"), "'END'"),
        "generate to no stop": (lambda: model.generate(plan, [TEXT], stop=[""]), "''"),
        "generate to a number": (lambda: model.generate(plan, [TEXT], stop=[3]), "3"),
        "generate to None": (lambda: model.generate(plan, [TEXT], stop=None), "None"),
        "generate by other layers": (lambda: model.generate(Plan.parse("40"), [TEXT]), "40"),
        "generate without a tokenizer": (lambda: bare.generate(plan, [TEXT]), "tokenizer"),
        "generate with a stop, without a tokenizer": (
            lambda: bare.generate(plan, [[1, 2]], stop=["\n"]),
            "tokenizer",
        ),
        "generate in memory of text": (lambda: with_memory("8GiB"), "'8GiB'"),
        "generate in no memory": (lambda: with_memory(-1), "-1"),
        "generate without a donor": (lambda: model.generate(inject, [TEXT]), "donor"),
        "generate with a donor of text": (
            lambda: model.generate(inject, [TEXT], donors={"donor": TEXT}),
            "donor",
        ),
        "generate with donors of text": (
            lambda: model.generate(inject, [TEXT], donors="donor"),
            "'donor'",
        ),
        "generate with a donor alone": (
            lambda: model.generate(inject, [TEXT], donors=odd(TEXT, "Spain", "Spain")),
            "donors",
        ),
        "generate with donors for others": (
            lambda: model.generate(inject, [TEXT], donors=[{}, {}]),
            "2 mappings",
        ),
        "a donor of None": (lambda: odd(None, "a", "b"), "None"),
        "a donor's span of a number": (lambda: odd(TEXT, 3, "b"), "donor_span"),
        "a donor's span of three": (lambda: odd(TEXT, (1, 2, 3), "b"), "(1, 2, 3)"),
        "a donor's span of floats": (lambda: odd(TEXT, "a", (0.5, 2)), "target_span"),
        "a donor's span outside": (
            lambda: model.generate(inject, [TEXT], donors={"donor": odd(TEXT, (0, 999), (0, 1))}),
            "999",
        ),
        "a donor's span that is not there": (
            lambda: model.generate(inject, [TEXT], donors={"donor": odd(TEXT, "Mars", "Spain")}),
            "Mars",
        ),
        "score a text": (lambda: model.loglikelihood(plan, "ab"), "pairs"),
        "score texts": (lambda: model.loglikelihood(plan, ["ab", "cd"]), "'ab'"),
        "score None": (lambda: model.loglikelihood(plan, None), "None"),
        "score a pair alone": (lambda: model.loglikelihood(plan, (TEXT, " Madrid")), "request 0"),
        "score one": (lambda: model.loglikelihood(plan, [(TEXT,)]), "pair"),
        "score three": (lambda: model.loglikelihood(plan, [("a", "b", "c")]), "'c'"),
        "score text and None": (lambda: model.loglikelihood(plan, [(TEXT, None)]), "None"),
        "score text and numbers": (lambda: model.loglikelihood(plan, [(TEXT, [1])]), "both"),
        "score nothing": (lambda: model.loglikelihood(plan, [(TEXT, "")]), "no token"),
        "score numbers out of range": (lambda: model.loglikelihood(plan, [([1], [-7])]), "-7"),
        "score a mapping": (lambda: model.loglikelihood(plan, {"a": "b"}), "pairs"),
        "score a matrix": (
            lambda: model.loglikelihood(plan, [(torch.ones(2, 2).long(), [1])]),
            "(2, 2)",
        ),
        "split None": (lambda: model.token_pair(None, "b"), "None"),
        "logits of a row": (lambda: model.next_logits(plan, ids[0]), "(3,)"),
        "logits of a list": (lambda: model.next_logits(plan, [[1, 5]]), "list"),
        "logits of None": (lambda: model.next_logits(plan, None), "None"),
        "logits of text": (lambda: model.next_logits(plan, TEXT), "str"),
        "logits of floats": (lambda: model.next_logits(plan, ids.float()), "float32"),
        "logits of booleans": (lambda: model.next_logits(plan, ids.bool()), "bool"),
        "logits of nothing": (lambda: model.next_logits(plan, ids[:, :0]), "(1, 0)"),
        "logits of tokens too large": (lambda: model.next_logits(plan, ids + 10**6), "1000001"),
        "logits of tokens below zero": (lambda: model.next_logits(plan, ids - 9), "-8"),
        "logits by text": (lambda: model.next_logits("0-11", ids), "Plan.parse"),
        "logits by plans": (lambda: model.next_logits([plan], ids), "plan"),
        "a mask of floats": (lambda: model.next_logits(plan, ids, wrong_mask), "float32"),
        "a mask of another shape": (lambda: model.next_logits(plan, ids, ids[0]), "(3,)"),
        "a mask of a list": (lambda: model.next_logits(plan, ids, [[1, 1, 1]]), "list"),
        "a mask of other numbers": (lambda: model.next_logits(plan, ids, ids), "5"),
        "a mask of zeros": (lambda: model.next_logits(plan, ids, 0 * ids), "row 0"),
        "states of a text": (lambda: model.hidden_states(plan, ""), "['']"),
        "states of an empty text": (lambda: model.hidden_states(plan, [[]]), "empty"),
        "states of None": (lambda: model.hidden_states(plan, None), "None"),
        "states by text": (lambda: model.hidden_states("0-11", [TEXT]), "Plan.parse"),
        "entropy of None": (lambda: model.attention_entropy(None), "None"),
        "entropy of a list of texts": (lambda: model.attention_entropy([TEXT]), "token"),
        "the cost of a text": (lambda: model.scoring_cost(plan, "ab"), "pairs"),
        "the cost of half a token": (
            lambda: model.generating_cost(plan, [TEXT], max_new_tokens=0.5),
            "0.5",
        ),
        "fill on a decoder": (lambda: model.fill(plan, [TEXT]), "encoder"),
    }


def encoders(folder: Path) -> dict[str, tuple[Call, str]]:
    """Questions to an encoder."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    model: Any = impasto.load(BertForMaskedLM(config).eval(), tiny.tokenizer())
    headless: Any = impasto.load(tiny.bert(folder / "headless"))
    plan, ids = Plan.parse("0-1"), torch.tensor([[2, 9, 3]])

    def masked_by(token: Any) -> Any:
        other: Any = impasto.load(model.hf, model.tokenizer)
        other.mask_token = token
        return other.masked_scores(plan, ["good film"])

    return {
        "an encoder's scores of a text": (lambda: model.masked_scores(plan, "good"), "['good']"),
        "an encoder's fidelity": (lambda: model.fidelity(plan, ["good"]), "masked_scores"),
        "an encoder's scores of None": (lambda: model.masked_scores(plan, None), "None"),
        "an encoder's scores by text": (lambda: model.masked_scores("0-1", ["good"]), "Plan.parse"),
        "an encoder's mask of text": (lambda: masked_by("[MASK]"), "'[MASK]'"),
        "an encoder's mask too large": (lambda: masked_by(99), "99"),
        "an encoder's fill without a mask": (lambda: model.fill(plan, ["good film"]), "[MASK]"),
        "an encoder's fill of numbers": (lambda: model.fill(plan, [3]), "3"),
        "an encoder's logits of a row": (lambda: model.token_logits(plan, ids[0]), "(3,)"),
        "an encoder's logits of floats": (lambda: model.token_logits(plan, ids * 1.0), "float32"),
        "an encoder's logits of tokens too large": (
            lambda: model.token_logits(plan, ids + 32),
            "34",
        ),
        "an encoder's logits by a wrong mask": (
            lambda: model.token_logits(plan, ids, ids * 1.0),
            "float32",
        ),
        "an encoder's states of a text": (lambda: model.hidden_states(plan, "good"), "['good']"),
        "an encoder's earlier tokens": (
            lambda: model.masked_scores(Plan.parse("0 freeze 1"), ["good"]),
            "earlier",
        ),
        "an encoder that generates": (lambda: model.generate(plan, ["good"]), "decoder"),
        "an encoder without a head": (lambda: headless.masked_scores(plan, ["good"]), "head"),
        "an encoder's text that is too long": (
            lambda: model.masked_scores(plan, ["good " * 99]),
            "positions",
        ),
    }


def using(folder: Path) -> dict[str, tuple[Call, str]]:
    """Plans in Hugging Face models, and exporting them."""
    apply: Any = impasto.apply
    export: Any = impasto.export
    model: Any = impasto.load("demo")
    plan = Plan.parse("0-3")
    file, full = folder / "taken", _folder(folder / "full", {"a": b"b"})
    file.write_text("here already")

    def twice() -> None:
        with apply(model.hf, plan), apply(model.hf, plan):
            pass

    return {
        "apply to a name": (lambda: apply("demo", plan), "model"),
        "apply to None": (lambda: apply(None, plan), "NoneType"),
        "apply to impasto's model": (lambda: apply(model, plan), ".hf"),
        "apply to another module": (lambda: apply(torch.nn.Linear(2, 2), plan), "Linear"),
        "apply text": (lambda: apply(model.hf, "0-3"), "Plan.parse"),
        "apply None": (lambda: apply(model.hf, None), "None"),
        "apply other layers": (lambda: apply(model.hf, Plan.parse("40")), "40"),
        "apply stacked what is not parallel": (
            lambda: apply(model.hf, plan, stack=True),
            "no parallel layers",
        ),
        "apply twice": (twice, "already"),
        "apply a donor": (lambda: apply(model.hf, Plan.parse("0 inject(a) 1")), "donor"),
        "export to a file": (lambda: export(model, plan, file), "taken"),
        "export below a file": (lambda: export(model, plan, file / "below"), "taken"),
        "export to a folder that is there": (lambda: export(model, plan, full), "full"),
        "export to None": (lambda: export(model, plan, None), "None"),
        "export to a number": (lambda: export(model, plan, 3), "3"),
        "export to a name with a zero": (lambda: export(model, plan, "a\0b"), "a\\x00b"),
        "export to no name": (lambda: export(model, plan, ""), "folder"),
        "export text": (lambda: export(model, "0-3", folder / "x1"), "Plan.parse"),
        "export a number": (lambda: export(3, plan, folder / "x2"), "int"),
        "export in another form": (
            lambda: export(model, plan, folder / "x3", form="onnx"),
            "onnx",
        ),
        "export in a size of junk": (
            lambda: export(model, plan, folder / "x4", max_shard_size="huge"),
            "huge",
        ),
        "export in no size": (
            lambda: export(model, plan, folder / "x5", max_shard_size=-1),
            "-1",
        ),
        "export a donor": (
            lambda: export(model, Plan.parse("0 inject(a) 1"), folder / "x6"),
            "inject",
        ),
        "export other layers": (lambda: export(model, Plan.parse("40"), folder / "x7"), "40"),
    }


def families(folder: Path) -> dict[str, tuple[Call, str]]:
    """Families of plans with numbers that are none."""
    some: Any = strategies
    return {
        "freeze below zero": (lambda: some.freeze(12, -1), "-1"),
        "freeze too deep": (lambda: some.freeze(12, 13), "13"),
        "freeze at half": (lambda: some.freeze(12, 2.5), "2.5"),
        "freeze at text": (lambda: some.freeze(12, "3"), "'3'"),
        "freeze no layers": (lambda: some.freeze(0, 0), "T"),
        "freeze in None": (lambda: some.freeze(None, 0), "None"),
        "shuffle by half a seed": (lambda: some.shuffle(12, 3, seed=0.5), "0.5"),
        "shuffle by a huge seed": (lambda: some.shuffle(12, 3, seed=2**70), "seed"),
        "gaussian by a number below zero": (lambda: some.gaussian(12, 3, seed=-1), "-1"),
        "inject no name": (lambda: some.inject(12, 3, "two words"), "two words"),
        "inject None": (lambda: some.inject(12, 3, None), "None"),
        "skip too many": (lambda: some.skip(12, 6), "6"),
        "switch the last": (lambda: some.switch(12, 11), "11"),
        "loop no times": (lambda: some.looped_parallel(12, 2, 0), "0"),
        "loop too often": (lambda: some.looped_parallel(12, 2, 10**6), "1000000"),
        "drop another part": (lambda: some.drop_last(12, "head", 1), "head"),
        "drop a list": (lambda: some.drop_last(12, ["mlp"], 1), "mlp"),
        "drop True": (lambda: some.drop_last(12, "mlp", True), "True"),
        "layers beyond what a plan has": (lambda: some.baseline(10**6), "layer"),
        "expand no family": (lambda: some.expand("freze", 12), "freeze"),
        "expand None": (lambda: some.expand(None, 12), "None"),
        "expand no parameter": (lambda: some.expand("freeze", 12, depth=3), "depth"),
        "expand None as a choice": (lambda: some.expand("freeze", 12, k=None), "None"),
        "expand no choices": (lambda: some.expand("freeze", 12, k=[]), "k"),
        "expand in text": (lambda: some.expand("freeze", "12"), "'12'"),
        "expand too large a share": (lambda: some.expand("freeze", 12, k="100.5%"), "100.5%"),
    }


def studies(folder: Path) -> dict[str, tuple[Call, str]]:
    """Studies that cannot be read or run."""
    read: Any = Study.from_yaml
    write: Any = lambda name, content: _file(folder / name, content)  # noqa: E731
    study: Any = Study.from_text(STUDY)
    results = _file(folder / "here.yaml", STUDY.encode())
    listed = _folder(folder / "listed", {"config.json": b"[1, 2]"})
    config = {"model_type": "llama", "num_hidden_layers": 2}
    shallow = _folder(folder / "shallow", {"config.json": json.dumps(config).encode()})
    made: Any = Study

    def several(other: str, plan: str = "baseline") -> Study:
        models = f"models: [demo, {json.dumps(other)}]"
        written = STUDY.replace("model: demo", models).replace("baseline", plan)
        return Study.from_text(written)

    def text(changed: str) -> Call:
        made: Any = Study.from_text
        return lambda: made(changed)

    return {
        "study None": (lambda: read(None), "None"),
        "study of a number": (lambda: read(3), "3"),
        "study that is not there": (lambda: read(folder / "her.yaml"), "here.yaml"),
        "study of a folder": (lambda: read(folder), "folder"),
        "study of bytes": (lambda: read(write("b.yaml", b"\xff\xfe\x00\x01")), "b.yaml"),
        "study with a zero": (lambda: read(write("z.yaml", b"model: a\0b")), "z.yaml"),
        "study in a name with a zero": (lambda: read("a\0b"), "a\\x00b"),
        "study of nothing": (lambda: read(write("e.yaml", b"")), "model"),
        "study of a list": (lambda: read(write("l.yaml", b"- 1\n- 2\n")), "model"),
        "study with a broken line": (lambda: read(write("k.yaml", b"model: [\n")), "line"),
        "study text of None": (text(None), "None"),  # type: ignore[arg-type]
        "study with an unknown key": (text(STUDY + "colour: red\n"), "colour"),
        "study with a tag": (text("model: !!python/none x\n"), "line 1"),
        "study of an unknown task": (text(STUDY.replace("capitals", "capitls")), "capitals"),
        "study of a task of numbers": (text(STUDY.replace("capitals", "3")), "task"),
        "study with a wrong option": (
            text(STUDY.replace("capitals", "{name: arithmetic, terms: two}")),
            "two",
        ),
        "study with a limit of text": (
            text(STUDY.replace("capitals", "{name: capitals, limit: many}")),
            "many",
        ),
        "study with a limit of a list": (
            text(STUDY.replace("capitals", "{name: arc_easy, limit: [1]}")),
            "limit",
        ),
        "study with a wrong plan": (text(STUDY.replace("baseline", '"0-"')), "0-"),
        "study with a wrong choice": (text(STUDY.replace("baseline", "{freeze: {k: 2.5}}")), "2.5"),
        "study with a wrong date": (text(STUDY.replace("demo", "2020-99-99")), "line 1"),
        "study with a mapping as a name": (text(STUDY + "name: {a: b}\n"), "name"),
        "study of no models": (text(STUDY.replace("model: demo", "models: []")), "models"),
        "study of a model twice": (
            text(STUDY.replace("model: demo", "models: [demo, demo]")),
            "twice",
        ),
        "study of a model and models": (text(STUDY + "models: [demo]\n"), "not both"),
        "study of a list as its model": (text(STUDY.replace("demo", "[demo]")), "models"),
        "study made of a model's name": (lambda: made("mine", "demo", (), ()), "'demo'"),
        "run by models of which one is not there": (lambda: several("./nowhere").run(), "nowhere"),
        "run by models of which one is junk": (lambda: several(listed).run(), "listed"),
        "run by models of which one lacks a layer": (
            lambda: several(shallow, '"0-9"').run(),
            "2 layers",
        ),
        "run by models of which one takes no task": (
            lambda: several(tiny.bert(folder / "encoder")).run(),
            "encoder",
        ),
        "the one model of several": (lambda: several("b").model, "b"),
        "the cost of several": (lambda: several("b").estimate(), "b"),
        "run by an unknown model": (lambda: study.run(model="./nowhere"), "nowhere"),
        "run by a number": (lambda: study.run(model=3), "3"),
        "run with a limit of text": (lambda: study.run(limit="3"), "'3'"),
        "run with a limit of none": (lambda: study.run(limit=0), "0"),
        "run in memory of text": (lambda: study.run(memory="8GiB"), "'8GiB'"),
        "run into a file": (lambda: study.run(out=results), "here.yaml"),
        "run into a number": (lambda: study.run(out=3), "3"),
        "run with an unknown option": (lambda: study.run(colour="red"), "colour"),
        "run and save every text": (lambda: study.run(save_every="often"), "'often'"),
        "run and save never": (lambda: study.run(save_every=-1), "-1"),
        "run with an unknown tracker": (lambda: study.run(track="paper"), "paper"),
        "run on a cluster of text": (lambda: study.run(cluster="ray://x:1"), "Cluster"),
        "run and time none": (lambda: study.run(bench=0), "bench"),
        "estimate with a limit of text": (lambda: study.estimate(limit="3"), "'3'"),
        "plans for a number of layers of text": (lambda: study.labelled_plans("12"), "'12'"),
    }


def files(folder: Path) -> dict[str, tuple[Call, str]]:
    """Folders and files that are not what they should be."""
    from impasto.analysis.inside import read_labelled, read_texts
    from impasto.figures import Found, draw
    from impasto.report import write_report
    from impasto.study import Results
    from impasto.study.following.status import status
    from impasto.study.results import packing
    from impasto.tasks.data import read_rows

    empty = _folder(folder / "no study")
    junk = _folder(folder / "database", {"results.sqlite": b"not SQLite at all, but text " * 99})
    blank = _folder(folder / "blank", {"results.sqlite": b""})
    foreign = _folder(folder / "foreign")
    with sqlite3.connect(Path(foreign) / "results.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    inside = _folder(folder / "inside", {"similarity.json": b"[1", "probes.json": b"{}"})
    anything: Any = lambda value: value  # noqa: E731

    def rows(name: str, content: bytes) -> Call:
        return lambda: read_rows(_file(folder / name, content), {"text": anything})

    odd: Any = Results.read
    two = str(folder / "two studies")
    for name in ("one", "other"):
        Study.from_text(f"name: {name}\n{STUDY}").run(two, limit=1)
    found: dict[str, tuple[Call, str]] = {}
    readers: dict[str, Any] = {
        "results": Results.read,
        "results of all models": Results.read_all,
        "figures of all models": Found.read_all,
        "figures": Found.read,
        "status": status,
        "pack": lambda out: packing.pack(Path(out), folder / "packed"),
    }
    for name, reader in readers.items():
        for kind, place in {
            "no folder": str(folder / "nowhere"),
            "an empty folder": empty,
            "a database of junk": junk,
            "an empty database": blank,
            "another program's database": foreign,
            "a study file": str(_file(folder / "plain.yaml", STUDY.encode())),
        }.items():
            call = lambda reader=reader, place=place: reader(Path(place))  # noqa: E731
            found[f"{name} of {kind}"] = (call, Path(place).name)
    return found | {
        "results of None": (lambda: odd(None), "None"),
        "results of a study that is not there": (lambda: odd(two, study="on"), "one, other"),
        "results of a study of a number": (lambda: odd(two, study=3), "3"),
        "status of a study that is not there": (lambda: status(two, study="x"), "one, other"),
        "results of a number": (lambda: odd(3), "3"),
        "figures of broken numbers": (lambda: Found.read(inside), "inside"),
        "figures of None": (lambda: draw(None, folder), "None"),  # type: ignore[arg-type]
        "figures in no format": (lambda: _drawn(folder, ["bmp"], draw), "bmp"),
        "a report of None": (lambda: write_report(None, folder), "None"),  # type: ignore[arg-type]
        "unpack junk": (
            lambda: packing.unpack(Path(junk) / "results.sqlite", folder / "unpacked"),
            "results.sqlite",
        ),
        "unpack another program's": (
            lambda: packing.unpack(Path(foreign) / "results.sqlite", folder / "unpacked"),
            "another program",
        ),
        "rows of no file": (lambda: read_rows(folder / "none.jsonl", {}), "none.jsonl"),
        "rows of a folder": (lambda: read_rows(_folder(folder / "d.jsonl"), {}), "d.jsonl"),
        "rows of bytes": (rows("b.jsonl", b"\xff\xfe\x00"), "b.jsonl"),
        "rows of broken JSON": (rows("j.jsonl", b'{"text": "a"}\n{"text'), "row 2"),
        "rows of numbers": (rows("n.jsonl", b"3\n"), "row 1"),
        "rows of no list": (rows("l.json", b"{}"), "list"),
        "rows without the column": (rows("c.csv", b"a,b\n1,2\n"), "text"),
        "rows of too many cells": (rows("m.csv", b"text\n1,2\n"), "row 1"),
        "rows of Parquet that is none": (rows("p.parquet", b"PAR1 no PAR1"), "p.parquet"),
        "rows of an empty file": (rows("x.jsonl", b""), "no rows"),
        "rows of another kind": (rows("x.pkl", b""), "x.pkl"),
        "texts of no file": (lambda: list(read_texts(folder / "t.txt")), "t.txt"),
        "texts of bytes": (lambda: list(read_texts(_file(folder / "u.txt", b"\xff"))), "u.txt"),
        "texts of nothing": (lambda: list(read_texts(_file(folder / "v.txt", b""))), "v.txt"),
        "labels of a text file": (
            lambda: list(read_labelled(_file(folder / "w.txt", b"a\n"), "text", "label")),
            "w.txt",
        ),
    }


def _drawn(folder: Path, formats: list[str], draw: Any) -> Any:
    results = Study.from_text(STUDY.replace("baseline", "{freeze: {k: [0, 12]}}")).run(limit=1)
    return draw(results, folder, formats)


def values(folder: Path) -> dict[str, tuple[Call, str]]:
    """Numbers that are analysed, and are none."""
    from impasto import analysis
    from impasto.run.batching.memory import parse_bytes
    from impasto.tasks import load_suite

    number: Any = analysis.wilson_interval
    test: Any = analysis.mcnemar
    suite: Any = load_suite
    return {
        "an interval of more than all": (lambda: number(3, 2), "3"),
        "a test of numbers below zero": (lambda: analysis.mcnemar(-1, 2), "-1"),
        "a test of text": (lambda: test("a", 2), "'a'"),
        "memory of junk": (lambda: parse_bytes("lots"), "lots"),
        "memory of nothing": (lambda: parse_bytes(""), "''"),
        "memory without end": (lambda: parse_bytes("inf"), "inf"),
        "memory that is no number": (lambda: parse_bytes("nan"), "nan"),
        "a task of None": (lambda: suite(None), "None"),
        "a task that is not there": (lambda: suite("capitls"), "capitals"),
        "a task with a wrong option": (lambda: suite({"name": "capitals", "x": 1}), "'x'"),
        "a task with a number as its template": (
            lambda: suite({"name": "capitals", "template": 3}),
            "3",
        ),
        "a task with a list as its shot": (lambda: suite({"name": "capitals", "shot": []}), "[]"),
        "a task with a list as its terms": (
            lambda: suite({"name": "arithmetic", "terms": [2]}),
            "[2]",
        ),
        "a task with a limit of text": (lambda: suite({"name": "capitals", "limit": "9"}), "'9'"),
        "a task with a seed of text": (
            lambda: suite({"name": "capitals", "limit": 1, "seed": "9"}),
            "'9'",
        ),
        "a task without its data": (
            lambda: suite({"name": "squad", "data": {"validation": "nowhere.jsonl"}}),
            "nowhere.jsonl",
        ),
        "a task with data of a number": (lambda: suite({"name": "squad", "data": 3}), "3"),
        "a task with shots of text": (
            lambda: suite({"name": "squad", "data": {"validation": "x.jsonl"}, "shots": "one"}),
            "one",
        ),
        "texts without a file": (lambda: suite({"name": "masked_text"}), "data"),
        "texts of neither file nor data set": (lambda: suite({"name": "texts"}), "neither"),
        "texts of a number": (lambda: suite({"name": "texts", "file": 3}), "3"),
        "texts of a file that is not there": (
            lambda: suite({"name": "texts", "file": "nowhere.txt"}),
            "nowhere.txt",
        ),
        "texts of a name with a zero": (
            lambda: suite({"name": "texts", "file": "a\0b"}),
            "a\\x00b",
        ),
        "texts of a data set that is not there": (
            lambda: suite({"name": "texts", "dataset": "nobody/nothing"}),
            "nobody/nothing",
        ),
        "texts of 2.5 tokens": (
            lambda: suite({"name": "texts", "file": "x.txt", "tokens": 2.5}),
            "2.5",
        ),
        "texts with a number as their column": (
            lambda: suite({"name": "masked_text", "data": "x.jsonl", "column": 3}),
            "3",
        ),
        "glue of another task": (lambda: suite({"name": "glue", "tasks": ["sst3"]}), "sst3"),
        "glue of a number": (lambda: suite({"name": "glue", "tasks": 3}), "3"),
    }


PARTS: dict[str, Callable[[Path], dict[str, tuple[Call, str]]]] = {
    "plans": plans,
    "opening a model": opening,
    "asking a decoder": asking,
    "asking an encoder": encoders,
    "using Hugging Face": using,
    "families of plans": families,
    "studies": studies,
    "files": files,
    "values": values,
}


def _folder(folder: Path, files: dict[str, bytes] | None = None) -> str:
    folder.mkdir()
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    return str(folder)


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


if __name__ == "__main__":
    loading._index = harness_index.index  # type: ignore[assignment]  (the whole takes ten seconds)
    print(json.dumps(main(Path(sys.argv[1]))))
