"""Small data for lm-eval's tasks, and lm-eval's own run of them on its own model class."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import harness_index

WORDS = ["sun", "moon", "river", "stone", "bread", "cloud", "lamp", "seed", "wolf", "ink"]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def arc(count: int) -> list[dict[str, Any]]:
    """Questions with three to five answers."""
    rows = []
    for i in range(count):
        texts = [f"{WORDS[(i + j) % 10]} {'and more ' * j}" for j in range(3 + i % 3)]
        choices = {"text": texts, "label": list("ABCDE"[: len(texts)])}
        rows.append(
            {"id": str(i), "question": f"What is {i} + {i}?", "choices": choices}
            | {"answerKey": "ABC"[i % 3]}
        )
    return rows


def hellaswag(count: int) -> list[dict[str, Any]]:
    return [
        {"ind": i, "activity_label": "Baking", "ctx_a": f"A {WORDS[i % 10]} bakes.", "ctx_b": "she"}
        | {"endings": [f"eats the {word}." for word in WORDS[i % 6 : i % 6 + 4]]}
        | {"label": str(i % 4), "ctx": "unused", "source_id": "s", "split": "val"}
        | {"split_type": "indomain"}
        for i in range(count)
    ]


def lambada(count: int) -> list[dict[str, Any]]:
    return [
        {"text": " ".join(WORDS[(i * j) % 10] for j in range(1, 6 + i % 3))} for i in range(count)
    ]


def wikitext(count: int) -> list[dict[str, Any]]:
    return [{"page": " = Title = \n " + " , ".join(WORDS[i:]) * (1 + 12 * i)} for i in range(count)]


def gsm8k(count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{i} {WORDS[i % 10]}s and 2 more?", "answer": f"{i} + 2\n#### {i + 2}"}
        for i in range(count)
    ]


def mmlu(count: int, subjects: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"question": f"Which {subject} has {i}?", "subject": subject, "answer": (i + 1) % 4}
        | {"choices": [f"{word} {i}" for word in WORDS[:4]]}
        for subject in subjects
        for i in range(count)
    ]


@dataclass(frozen=True)
class Case:
    """A task with its data, and what a study and lm-eval are told besides."""

    name: str
    splits: dict[str, list[dict[str, Any]]]
    options: dict[str, Any] = field(default_factory=dict)

    def files(self, folder: Path) -> dict[str, str]:
        return {
            split: write(folder / f"{self.name}_{split}.jsonl", rows)
            for split, rows in self.splits.items()
        }

    def entry(self, folder: Path) -> dict[str, Any]:
        """What a study says about it."""
        return {"name": self.name, "data": self.files(folder), **self.options}


def without_a_look_around() -> Any:
    """Return a context in which lm-eval does not list the machine's packages and devices."""
    return patch("lm_eval.evaluator.add_env_info", lambda results: None)


def theirs(lm: Any, case: Case, folder: Path) -> dict[str, float]:
    """Return every metric as lm-eval finds it, reading the files in its own way."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    from impasto.tasks.harness.quiet import quiet

    entry = harness_index.index().task_index[case.name]
    task = load_yaml(str(entry.yaml_path))
    splits = ("training_split", "validation_split", "test_split", "fewshot_split")
    task |= {key: None for key in splits if task.get(key) not in case.splits}
    task |= {"dataset_path": "json", "dataset_name": None}
    task["dataset_kwargs"] = {"data_files": case.files(folder)}
    options = dict(case.options)
    seed = {"fewshot_random_seed": options.pop("seed")} if "seed" in options else {}
    kwargs = {"gen_kwargs": options.pop("generation_kwargs", None)}
    iterations = {"bootstrap_iters": options.pop("bootstrap_iters", 100)}
    with quiet(), without_a_look_around():
        results = simple_evaluate(
            lm,
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            **options,
            **seed,
            **kwargs,
            **iterations,
        )
    return {k: v for k, v in results["results"][case.name].items() if "," in k}
