"""A task of GLUE as a study runs it, and what several of them come to."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import fmean, stdev

from impasto.tasks.glue.metrics import measure, standard_error
from impasto.tasks.glue.sources import Source
from impasto.tasks.problem import Example, Problem
from impasto.tasks.request import HeadQuestion, Request, Response
from impasto.tasks.task import Estimate, Value, mean

SCORE = "score"  # the mean of a task's metrics, which GLUE's average is made of


@dataclass(frozen=True, slots=True)
class Asked:
    """A validation example; ``metric`` is MNLI's accuracy that it counts for."""

    id: str
    example: Example
    metric: str | None = None


@dataclass(frozen=True)
class GlueTask:
    """One task of GLUE under one protocol: a head is fitted under each plan, and asked."""

    name: str
    title: str
    part_of: str
    source: Source
    problem: Problem
    items: Sequence[Asked]

    @property
    def digest(self) -> str:
        """Return a sha256 over everything that can change a result."""
        told = [self.problem.digest, self.source.metrics]
        told.append([[item.id, item.example.label, item.metric] for item in self.items])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def requests(self, tokenizer: object = None) -> Sequence[Sequence[Request]]:
        """Return what each item asks of a model."""
        return [
            [HeadQuestion(self.problem, item.example.first, item.example.second)]
            for item in self.items
        ]

    def judge(self, item: Asked, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return what was said and what is right, as every metric takes it."""
        [said] = responses
        pair = (said, item.example.label)
        own = [item.metric] if item.metric else self.source.metrics
        values: dict[str, Value] = {
            metric: float(pair[0] == pair[1]) if metric.startswith("acc") else pair
            for metric in own
        }
        return values | {SCORE: (*pair, item.metric)}

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return what a metric comes to; the score is the mean of GLUE's metrics."""
        if metric.startswith("acc"):
            return mean(values)
        if metric != SCORE:
            error = standard_error([metric], values)
            return Estimate(measure(metric, values), error, len(values))
        return self._score(values)

    def _score(self, values: Sequence[Value]) -> Estimate:
        """Return the mean of the metrics; accuracies, as MNLI's two, have items of their own."""
        metrics = self.source.metrics
        if not all(metric.startswith("acc") for metric in metrics):
            pairs = [(said, right) for said, right, _ in values]
            score = fmean(measure(metric, pairs) for metric in metrics)
            return Estimate(score, standard_error(metrics, pairs), len(values))
        right = {
            metric: [float(said == label) for said, label, of in values if of in (None, metric)]
            for metric in metrics
        }
        return _mean_of([mean(own) for own in right.values() if own], len(values))

    def chance(self, metric: str) -> float:
        """Return what always giving the commonest class scores; 0 for correlations."""
        if not self.source.classes:
            return 0.0
        [(label, _)] = Counter(item.example.label for item in self.items).most_common(1)
        guessed = [self.judge(item, [label]) for item in self.items]
        values = [values[metric] for values in guessed if metric in values]
        return self.aggregate(metric, values).value if values else nan


@dataclass(frozen=True)
class SeedMean:
    """One task over several seeds: the mean of each metric, and its error from seed to seed."""

    name: str
    title: str
    part_of: str
    tasks: Sequence[str]

    def aggregate(self, estimates: Mapping[str, Mapping[str, Estimate]]) -> Mapping[str, Estimate]:
        """Return the mean of each metric over the seeds."""
        there = [estimates[name] for name in self.tasks if name in estimates]
        found = {}
        for metric in there[0] if there else ():
            values = [one[metric].value for one in there]
            error = stdev(values) / sqrt(len(values)) if len(values) > 1 else nan
            found[metric] = Estimate(fmean(values), error, sum(one[metric].n for one in there))
        return found


@dataclass(frozen=True)
class GlueAverage:
    """GLUE's average as paper B reports it: the mean of the tasks' scores, unnormalised."""

    name: str
    title: str
    tasks: Mapping[str, Sequence[str]]  # of each task of GLUE, one name for each seed
    part_of: str = ""

    def aggregate(self, estimates: Mapping[str, Mapping[str, Estimate]]) -> Mapping[str, Estimate]:
        """Return the mean of the tasks' scores, each the mean over its seeds."""
        scores, count = [], 0
        for names in self.tasks.values():
            own = [estimates[name][SCORE] for name in names if name in estimates]
            if own:
                # Seeds are asked the same items, so that they err alike.
                value, error = fmean(one.value for one in own), fmean(one.stderr for one in own)
                scores.append(Estimate(value, error, own[0].n))
                count += sum(one.n for one in own)
        return {SCORE: _mean_of(scores, count)} if scores else {}


def _mean_of(estimates: Sequence[Estimate], n: int) -> Estimate:
    """Return the mean of some estimates, each over other items than the others."""
    error = sqrt(sum(one.stderr**2 for one in estimates)) / len(estimates)
    return Estimate(fmean(one.value for one in estimates), error, n)
