"""One task of lm-eval as an `impasto.tasks.Task`, and one of its groups as a `Group`.

Metrics are called as lm-eval calls them, `acc` or, past a filter, `exact_match,strict-match`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from math import isnan, nan
from typing import Any

from impasto.error import UserError
from impasto.tasks.chat import chat_of
from impasto.tasks.harness.local import LocalData
from impasto.tasks.harness.options import Options
from impasto.tasks.harness.prompting import read_request
from impasto.tasks.harness.quiet import quiet, sampling_here, seeded
from impasto.tasks.harness.settings import settings_of, source_of
from impasto.tasks.request import Request, Response
from impasto.tasks.task import Estimate, Value

PLAIN = "none"  # lm-eval's name for no filter
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # how functions print; another one in every process
SURE, OUT_OF_THE_QUESTION = 0.0, -1e6  # log-likelihoods of a choice that is made, or not


@dataclass(frozen=True, slots=True)
class Document:
    """One of a task's documents; its number among them is its id."""

    id: str
    doc: Any


class Benchmark:
    """A task of lm-eval, which it alone reads, asks and judges."""

    def __init__(
        self, task: Any, part_of: str, options: Options, local: LocalData | None = None
    ) -> None:
        self._task, self.part_of, self._options, self._local = task, part_of, options, local
        self.reads_whole_texts = task.OUTPUT_TYPE == "loglikelihood_rolling"
        self._configure()
        self._keep_documents()
        self._instances: dict[str, list[Any]] = {}
        self._requests: tuple[Any, list[list[Request]]] | None = None

    @property
    def name(self) -> str:
        """lm-eval's name of the task."""
        return self._task.task_name

    @property
    def title(self) -> str:
        """The short name that lm-eval prints, as `anatomy` for `mmlu_anatomy`."""
        return self._task.get_config("task_alias") or self.name

    @property
    def items(self) -> tuple[Document, ...]:
        """The documents that are asked."""
        return self._documents

    @cached_property
    def _documents(self) -> tuple[Document, ...]:
        with quiet():
            documents = list(self._task.doc_iterator(limit=self._options.limit))
        return tuple(Document(str(number), doc) for number, doc in documents)

    @property
    def digest(self) -> str:
        """A sha256 over what can change a result: lm-eval's version, settings and documents.

        Functions in the settings count by their source, and files by what they hold, wherever they
        lie.
        """
        content = [version("lm_eval"), self.name, settings_of(self._task), *self._options.told()]
        content.append([item.doc for item in self.items])
        told = ADDRESS.sub("", json.dumps(content, default=source_of))
        return hashlib.sha256(told.encode()).hexdigest()

    def requests(self, tokenizer: Any = None) -> list[list[Request]]:
        """Return what lm-eval asks about each document, built once for a tokenizer.

        Raises UserError for a document that the task cannot read, and for what cannot be asked.
        """
        if self._requests is None or self._requests[0] is not tokenizer:
            instances = self._by_document(self._built(tokenizer))
            self._requests = (
                tokenizer,
                [
                    [
                        read_request(self.name, asked, tokenizer, self._options.think_end_token)
                        for asked in instances[item.id]
                    ]
                    for item in self.items
                ],
            )
            self._instances = instances
        return self._requests[1]

    def judge(self, item: Document, responses: Sequence[Response]) -> dict[str, Value]:
        """Return what lm-eval makes of the responses, past each of the task's filters."""
        instances = [
            replace(asked, resps=[response] * (asked.repeats or 1), filtered_resps={})
            for asked, response in zip(self._asked(item), responses, strict=True)
        ]
        judged: dict[str, Value] = {}
        with quiet():
            self._task._instances = instances
            self._task.apply_filters()
            for filtering in instances[0].filtered_resps:
                kept = [instance.filtered_resps[filtering] for instance in instances]
                for metric, value in self._task.process_results(item.doc, kept).items():
                    judged[_joined(metric, filtering)] = value
        return judged

    def told(self, item: Document) -> dict[str, Any]:
        """Return what a reader is told of a document: `question`, `choices`, the `right` answer.

        The choices are the texts that lm-eval tells apart, and measures for `acc_norm`.
        """
        task, doc = self._task, item.doc
        with quiet():
            question, right = task.doc_to_text(doc), task.doc_to_target(doc)
            has_choices = task.get_config("doc_to_choice") is not None
            choices = list(task.doc_to_choice(doc)) if has_choices else []
        if isinstance(question, int):  # several contexts for one continuation
            question, right = right, question
        right = right[0] if isinstance(right, list) and right else right
        if choices and isinstance(right, int):
            right = choices[right] if right < len(choices) else ""
        return {
            "question": str(question) or str(right),
            "choices": tuple(map(str, choices)),
            "right": str(right) if question else "",
        }

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return what lm-eval makes of all documents' values, with its standard error."""
        from lm_eval.api.metrics import stderr_for_metric

        function, iterations = self._aggregation(metric), self._options.bootstrap_iters
        if _split(metric)[0] in ("bleu", "chrf", "chrf++", "ter"):
            iterations = min(iterations, 100)  # as lm-eval does
        error = stderr_for_metric(function, iterations)
        with quiet(), sampling_here(iterations):
            stderr = float(error(values)) if error is not None and len(values) > 1 else nan
        return Estimate(self.value(metric, values), stderr, len(values))

    def value(self, metric: str, values: Sequence[Value]) -> float:
        """Return what lm-eval makes of all documents' values, without the standard error."""
        with quiet():
            return float(self._aggregation(metric)(values))

    def chance(self, metric: str) -> float:
        """Return what guessing scores.

        Where answers are chosen, that is the mean over documents and over the choices that could
        have been made; a text hit upon by guessing counts as never right. Not a number for metrics
        that are no mean.
        """
        from lm_eval.api.metrics import mean

        if self._aggregation(metric) is not mean:
            return nan
        return self._guesses.get(metric, 0.0)

    @cached_property
    def _guesses(self) -> dict[str, float]:
        """What choosing by chance scores, by metric."""
        sums: dict[str, float] = {}
        for item in self.items:
            choices = self._choices(item)
            for chosen in range(choices):
                for metric, value in self._judge_choice(item, chosen, choices).items():
                    sums[metric] = sums.get(metric, 0.0) + value / choices
        return {metric: total / len(self.items) for metric, total in sums.items()}

    def _choices(self, item: Document) -> int:
        """Return among how many answers a document lets the model choose; 0 where it does not."""
        asked = self._asked(item)
        if len(asked) < 2 or any(i.request_type != "loglikelihood" for i in asked):
            return 0
        unconditional = "acc_mutual_info" in self._task.aggregation()
        return len(asked) // 2 if unconditional else len(asked)

    def _judge_choice(self, item: Document, chosen: int, choices: int) -> dict[str, float]:
        """Return the values that are numbers where one choice is made for sure."""
        likely = {chosen, *range(choices, 2 * choices)}  # past the choices: what is subtracted
        responses: list[Response] = [
            (SURE if index in likely else OUT_OF_THE_QUESTION, index == chosen)
            for index in range(len(self._asked(item)))
        ]
        judged = self.judge(item, responses)
        return {m: float(v) for m, v in judged.items() if not isinstance(v, tuple | list | str)}

    def _configure(self) -> None:
        """Set what the study changes, under lm-eval's own rules."""
        task, options = self._task, self._options
        shots = task.get_config("num_fewshot")
        if options.num_fewshot is not None and shots != 0:  # 0 in a task's file is final
            task.set_config("num_fewshot", options.num_fewshot)
        elif shots is None:
            task.set_config("num_fewshot", 0)
        if options.generation_kwargs and task.get_config("output_type") == "generate_until":
            task.set_config("generation_kwargs", dict(options.generation_kwargs), update=True)

    def _keep_documents(self) -> None:
        """Have lm-eval process the documents once; else those drawn at random change in between.

        It would process them anew to write the requests, and again to judge the answers.
        """
        documents = getattr(self._task, "task_docs", None)
        if documents is not None:
            split = "test_docs" if self._task.has_test_docs() else "validation_docs"
            setattr(self._task, split, lambda: documents)

    def _asked(self, item: Document) -> list[Any]:
        """Return lm-eval's instances of a document; to judge, it is all one how they were put."""
        if not self._instances:
            self._instances = self._by_document(self._built(None, as_chat=False))
        return self._instances[item.id]

    def _by_document(self, instances: list[Any]) -> dict[str, list[Any]]:
        """Return the instances of each document, in the order of lm-eval's numbering."""
        found: dict[str, list[Any]] = {item.id: [] for item in self.items}
        for instance in sorted(instances, key=lambda instance: instance.idx):
            found[str(instance.doc_id)].append(instance)
        return found

    def _built(self, tokenizer: Any, as_chat: bool | None = None) -> list[Any]:
        """Return the instances that lm-eval builds; `as_chat` is the study's unless given."""
        task, options = self._task, self._options
        self._check_examples()
        task.set_fewshot_seed(options.seed)
        as_chat = options.apply_chat_template if as_chat is None else as_chat
        chat = chat_of(tokenizer, options.thinking) if as_chat else None
        try:
            with quiet(), seeded():
                task.build_all_requests(
                    limit=options.limit,
                    system_instruction=options.system_instruction,
                    apply_chat_template=as_chat,
                    fewshot_as_multiturn=options.fewshot_as_multiturn,
                    chat_template=chat,
                )
        except UserError:
            raise
        except Exception as error:
            raise UserError(self._blamed(error)) from error
        return task.instances

    def _check_examples(self) -> None:
        """Raise UserError where few-shot examples are asked for and no file has any."""
        wanted = self._task.get_config("num_fewshot") or 0
        if self._local is None or not wanted:
            return
        there = len(getattr(self._task.sampler, "df", ()) or ())
        if there < wanted:
            raise UserError(
                f"{self.name} takes {wanted} examples, and data gives {there or 'none'}: add a "
                "file for the split that they come from, or set num_fewshot: 0"
            )

    def _blamed(self, error: Exception) -> str:
        """Say which document a task cannot read, and why."""
        for number, item in enumerate(self.items):
            try:
                self._task.doc_to_text(item.doc)
                self._task.doc_to_target(item.doc)
                if self._task.get_config("doc_to_choice") is not None:
                    self._task.doc_to_choice(item.doc)
            except Exception as fault:
                where = f"document {number}"
                if self._local is not None:
                    where = self._local.place(self.name, self._task.config, number)
                return f"{where}: {self.name} cannot read it: {type(fault).__name__}: {fault}"
        return f"{self.name} cannot be asked: {type(error).__name__}: {error}"

    def _aggregation(self, metric: str) -> Any:
        from lm_eval.api.metrics import mean

        return self._task.aggregation().get(_split(metric)[0], mean)


class BenchmarkGroup:
    """A group of lm-eval's tasks with scores of its own."""

    def __init__(self, group: Any, part_of: str) -> None:
        self._group, self.part_of = group, part_of

    @property
    def name(self) -> str:
        """lm-eval's name of the group."""
        return self._group.name

    @property
    def title(self) -> str:
        """The short name that lm-eval prints."""
        return self._group.alias or self.name

    def aggregate(self, estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Estimate]:
        """Return what lm-eval makes of the tasks' estimates, by metric."""
        with quiet():
            summed = self._group.aggregate({n: _as_printed(e) for n, e in estimates.items()})
        counts: dict[str, int] = summed.get("sample_count", {})
        return {
            _joined(*_split(key)): Estimate(
                summed[key], _number(summed[_stderr_key(key)]), counts[key]
            )
            for key in counts
        }


def _as_printed(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return a task's estimates in the form of lm-eval's results."""
    printed: dict[str, Any] = {"sample_len": max((e.n for e in estimates.values()), default=0)}
    for metric, estimate in estimates.items():
        key = ",".join(_split(metric))
        printed[key] = estimate.value
        printed[_stderr_key(key)] = "N/A" if isnan(estimate.stderr) else estimate.stderr
    return printed


def _joined(metric: str, filtering: str) -> str:
    return metric if filtering == PLAIN else f"{metric},{filtering}"


def _split(metric: str) -> tuple[str, str]:
    name, _, filtering = metric.partition(",")
    return name, filtering or PLAIN


def _stderr_key(key: str) -> str:
    return "{}_stderr,{}".format(*_split(key))


def _number(stderr: Any) -> float:
    return nan if isinstance(stderr, str) else float(stderr)
