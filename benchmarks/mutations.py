"""Changes at random to files that users give: values of other kinds, sizes and forms, and bytes."""

import contextlib
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ESCAPE = "\x1b]0;title\x07\x1b[31m"
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**9, -(10**9), 2**63, 2**63 - 1, 10**400, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", " ", "0", "-1", "x" * 10_000, "=1+1", "../../etc", ESCAPE,
    "a\0b", "\u202eabc", "[bold]", "{}", "null", "nan", "0-3 freeze", "🙂", [], [[]], [None], {},
    {"a": 1}, {"": None}, [1, "a", None], [[1, [2, [3, [4]]]]], "all", "100%", "-5%", [True, "1"],
)  # fmt: skip
CHARACTERS = "\0\x07\x1b\"'-09\xff\u202e"
TAGS = ("!!bool x6", "!!int ''", "!!float a", "!!null x", "!!binary =", "!!timestamp 1",
        "!!python/object:os.system a", "!!set {a, b}", "!!omap [a: 1]", "!x y", "&a 1", "*a",
        "<<: {a: 1}", "2020-99-99", "0x", "1_000", "0o9", "190:20:30", "? a", "- - -", "%YAML 1.1",
        "---", "...", "|", ">", "\t", "\"\\ud800\"", "'", "\"", "{", "[", "}", "]", ":", "#", "\0",
        "\u2028", "\ufeff", "é" * 50)  # fmt: skip


def deep(draw: random.Random) -> str:
    """Return JSON, or nearly that, which nests deeply."""
    depth = draw.choice((12, 40, 900, 5_000, 100_000))
    return draw.choice(
        ("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)
    )


def of_value(value: Any, draw: random.Random) -> Any:
    """Return a value with one of its parts in the place of which something strange stands."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(list(value))
        changed = dict(value)
        act = draw.random()
        if act < 0.1:
            del changed[key]
        elif act < 0.2:
            changed[str(draw.choice(STRANGE))[:50]] = draw.choice(STRANGE)
        else:
            changed[key] = of_value(value[key], draw)
        return changed
    if isinstance(value, list) and value and draw.random() < 0.8:
        at = draw.randrange(len(value))
        act = draw.random()
        if act < 0.1:
            return value[:at] + value[at + 1 :]
        if act < 0.2:
            return value[:at] + [value[at]] * draw.choice((2, 3, 100)) + value[at:]
        return [of_value(part, draw) if i == at else part for i, part in enumerate(value)]
    if isinstance(value, str) and value and draw.random() < 0.4:
        return of_text(value, draw)
    return draw.choice(STRANGE)


def of_text(text: str, draw: random.Random) -> str:
    """Return a text with a few places changed."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at, other = sorted((draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)))
        act = draw.randrange(6)
        if act == 0:
            text = text[:at] + text[min(at + draw.choice((1, 2, 10)), len(text)) :]
        elif act == 1:
            text = text[:at] + draw.choice(TAGS) + text[at:]
        elif act == 2:
            text = text[:at] + draw.choice(CHARACTERS) + text[at:]
        elif act == 3 and other - at < 2_000:
            text = text[:other] + text[at:other] * draw.choice((1, 2, 30)) + text[other:]
        elif act == 4:
            text = text[:at] + str(draw.choice(STRANGE))[:12_000] + text[at:]
        else:
            text = text[:at] + text[other:]
    return text


def of_bytes(content: bytes, draw: random.Random) -> bytes:
    """Return bytes of which a few are others, or which end early."""
    changed = bytearray(content)
    if draw.random() < 0.2:
        return bytes(changed[: draw.randrange(len(changed) + 1)])
    for _ in range(draw.choice((1, 2, 8, 64))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def of_json(text: str, draw: random.Random) -> str:
    """Return JSON whose values are others, which nests deeply, or which is none."""
    act = draw.random()
    if act < 0.1:
        return deep(draw)
    if act < 0.25:
        return of_text(text, draw)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # it was changed before
        return of_text(text[:10_000], draw)
    return json.dumps(of_value(value, draw), ensure_ascii=draw.random() < 0.5)


def of_yaml(text: str, draw: random.Random) -> bytes:
    """Return a study file with other values, other characters or other bytes."""
    act = draw.random()
    if act < 0.45:
        with contextlib.suppress(yaml.YAMLError):  # it may have been changed before
            text = yaml.safe_load(text)
        value: Any = text
        for _ in range(draw.choice((1, 1, 2, 4))):
            value = of_value(value, draw)
        return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")
    if act < 0.55:
        return of_bytes(text.encode(), draw)
    return of_text(text, draw).encode("utf-8", "replace")


def of_database(path: Path, draw: random.Random) -> None:
    """Change values of a results database, or bytes of its pages."""
    if draw.random() < 0.1:
        path.write_bytes(of_bytes(path.read_bytes(), draw))
        return
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    try:
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            _of_rows(database, draw)
    finally:
        database.close()


def of_text_file(path: Path, draw: random.Random) -> None:
    """Change a file of JSON, YAML or other text: its values, its characters or its bytes."""
    content = path.read_bytes()
    if draw.random() < 0.1:
        path.write_bytes(of_bytes(content, draw))
        return
    text = content.decode("utf-8", "replace")
    if path.suffix == ".json":
        path.write_text(of_json(text, draw), encoding="utf-8", errors="replace")
    elif path.suffix in (".yaml", ".yml"):
        path.write_bytes(of_yaml(text, draw))
    else:
        path.write_text(of_text(text, draw), encoding="utf-8", errors="replace")


def cut(path: Path, draw: random.Random) -> None:
    """Have a file end early, as where a process is killed that writes it."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def programs() -> list[tuple[str, str]]:
    """Return programs as other tools write them, each with the ending of its file."""
    rows = [{"question": "1+1", "valid_paths": [[0, 1], [0, 0, 1]]}, {"valid_paths": [[1]]}]
    parts = [{"attention": {"no_op": at == 1, "n_heads_in_group": 4},
              "ffn": {"no_op": at == 2, "ffn_mult": 2.0}} for at in range(4)]  # fmt: skip
    documents: list[Any] = [
        {"drop_attn_list": [1, 3], "drop_mlp_list": [2, 3], "num_hidden_layers": 12},
        {"drop_attn_list": [False, True, False], "drop_mlp_list": None},
        {"num_hidden_layers": 12, "per_layer_config": {"1": {"skip": ["attention"]}, "2": {}}},
        {"block_configs": parts, "num_hidden_layers": 4}, {"path": [3, 0]}, [0, 1, 2, 2], rows,
    ]  # fmt: skip
    written = [(".json", json.dumps(document)) for document in documents]
    written.append((".jsonl", "\n".join(map(json.dumps, rows))))
    lines = ("none\nattn\nmlp\nattn+mlp\n", "layers:0,1,2,2,3", "(3, 6)", "blocks:3,6;4,6")
    return written + [(".txt", line) for line in lines]


def texts(count: int) -> list[str]:
    """Return short texts of the tiny model's words."""
    return [" ".join(f"w{(i * step) % 31}" for step in (1, 7, 3, 5, 11, 2)) for i in range(count)]


def _of_rows(database: sqlite3.Connection, draw: random.Random) -> None:
    """Change one value, of one row or of all, also where the form does not allow it; or a table."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    table = draw.choice([row[0] for row in database.execute(query)])
    rows = database.execute(f"SELECT * FROM {table}").fetchall()
    act = draw.random()
    if not rows:
        return
    if act < 0.05:
        database.execute(f"DELETE FROM {table}")
        return
    columns = database.execute(f"PRAGMA table_info({table})").fetchall()
    name = draw.choice(columns)[1]
    row = draw.choice(rows)
    where = " AND ".join(f"{column[1]} IS ?" for column in columns)
    if act < 0.1:
        database.execute(f"DELETE FROM {table} WHERE {where}", row)
        return
    old = row[[column[1] for column in columns].index(name)]
    values = [_storable(_changed(old, draw))]
    _loosen(database, table, True)
    with contextlib.suppress(sqlite3.Error, OverflowError):
        if draw.random() < 0.2:
            database.execute(f"UPDATE {table} SET {name} = ?", values)
        else:
            database.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", [*values, *row])
    _loosen(database, table, False)


def _changed(old: Any, draw: random.Random) -> Any:
    if isinstance(old, str) and old[:1] in ("{", "["):
        return of_json(old, draw)
    if isinstance(old, str) and "\n" in old and draw.random() < 0.7:
        return of_yaml(old, draw).decode("utf-8", "replace")
    if isinstance(old, str) and draw.random() < 0.3:
        return of_text(old, draw)
    return draw.choice((*STRANGE, b"\xff\x00", deep(draw)))


def _storable(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _loosen(database: sqlite3.Connection, table: str, loose: bool) -> None:
    """Let a table take NULL everywhere, or be again as it was."""
    database.execute("PRAGMA writable_schema = ON")
    words = ("NOT NULL", "/*T NUL*/") if loose else ("/*T NUL*/", "NOT NULL")
    query = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = ?"
    database.execute(query, [*words, table])
    database.execute("PRAGMA writable_schema = RESET")


def tiny_model(folder: Path) -> str:
    """Return the folder of a Llama of two small layers with a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    if not folder.exists():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(31)} | {"?": 31}, "?"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return str(folder)


def of_model(folder: Path, draw: random.Random) -> None:
    """Change one of a model's files: mostly its configuration and its tokenizer's."""
    names = ("config.json", "config.json", "config.json", "tokenizer.json", "tokenizer_config.json",
             "generation_config.json", "impasto.json", "model.safetensors", "adapter_config.json",
             "adapter_model.safetensors", "modeling_impasto.py")  # fmt: skip
    path = folder / draw.choice([name for name in names if (folder / name).exists()])
    if path.suffix == ".json":
        text = path.read_text(encoding="utf-8")
        path.write_bytes(of_json(text, draw).encode("utf-8", "replace"))
    else:
        path.write_bytes(of_bytes(path.read_bytes(), draw))


def of_data(draw: random.Random) -> tuple[dict[str, Any], str, bytes]:
    """Return a task's options, the name of a file of its data, and its changed content."""
    options, rows = draw.choice(DATA)()
    form = draw.choice(("jsonl", "jsonl", "json", "csv"))
    for _ in range(draw.choice((1, 1, 2, 5))):
        changed = of_value(rows, draw)
        rows = changed if isinstance(changed, list) else [changed]
    if form == "csv":
        lines = [",".join(map(str, row.values())) for row in rows if isinstance(row, dict)]
        first = next((row for row in rows if isinstance(row, dict)), {})
        text = "\n".join([",".join(map(str, first)), *lines])
    elif form == "json":
        text = json.dumps(rows)
    else:
        text = "\n".join(json.dumps(row) for row in rows)
    act = draw.random()
    if act < 0.2:
        text = of_text(text, draw) if text else text
    if act > 0.95:
        text = deep(draw)
    content = text.encode("utf-8", "replace")
    return options, f"rows.{form}", of_bytes(content, draw) if 0.2 < act < 0.3 else content


def _squad() -> tuple[dict[str, Any], list[Any]]:
    row = {"id": "a", "title": "t", "context": "Paris is in France.", "question": "Where is Paris?",
           "answers": {"text": ["France"], "answer_start": [12]}}  # fmt: skip
    return {"name": "squad", "data": {"validation": "FILE"}}, [row, {**row, "id": "b"}]


def _texts() -> tuple[dict[str, Any], list[Any]]:
    rows = [{"text": f"A text of some words, number {i}."} for i in range(4)]
    return {"name": "texts", "file": "FILE"}, rows


def _masked() -> tuple[dict[str, Any], list[Any]]:
    return {"name": "masked_text", "data": "FILE"}, _texts()[1]


def _sst2() -> tuple[dict[str, Any], list[Any]]:
    rows = [{"sentence": f"film {i}", "label": i % 2, "idx": i} for i in range(6)]
    data = {"train": "FILE", "validation": "FILE"}
    return {"name": "glue", "tasks": "sst2", "data": data}, rows


DATA: tuple[Callable[[], tuple[dict[str, Any], list[Any]]], ...] = (
    _squad, _texts, _masked, _sst2,
)  # fmt: skip
