"""CNN/DailyMail: sum up a news article in a few sentences (Hermann et al. 2015, See et al. 2017).

Paper A (arXiv 2409.03621) reports ROUGE on 100 items. Which ones, and how they were put to the
model, is not in the code published with it: here `seed` draws them from the test split of version
3.0.0, and the prompt is, without an example since articles are long,

    Article: {article}

    Summary:

A reply is read up to its first empty line. Where a prompt does not fit a model's context, its
beginning is cut off; the results count such items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import nan
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.data import HubSplit, check_data, load_rows, text
from impasto.tasks.questions import Questions
from impasto.tasks.request import Response
from impasto.tasks.task import Value

NAME = "cnn_dailymail"
METRICS = {"rouge1": "ROUGE-1", "rougeL": "ROUGE-L"}  # as rouge-score names them, and as papers do

SPLIT = HubSplit("abisee/cnn_dailymail", "test", config="3.0.0")
TEMPLATE = "Article: {article}\n\nSummary:"
SAMPLE = 100
STOP = ("\n\n",)
MAX_NEW_TOKENS = 128  # highlights have some fifty words


@dataclass(frozen=True, slots=True)
class Article:
    """One article with its highlights, the sentences that its editors wrote above it."""

    id: str
    prompt: str
    highlights: str
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CnnDailyMail(Questions):
    """Articles whose summaries are judged by ROUGE."""

    def judge(self, item: Article, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return the summary's ROUGE-1 and ROUGE-L F1 against the highlights."""
        [reply] = responses
        return rouge(self.answer_of(str(reply)), item.highlights)

    def chance(self, metric: str) -> float:
        """Return nan: nobody guesses a summary."""
        return nan


def cnn_dailymail(
    template: str = TEMPLATE,
    data: Mapping[str, str] | None = None,
    limit: int | None = SAMPLE,
    seed: int = 0,
) -> CnnDailyMail:
    """Return CNN/DailyMail with `limit` test items, drawn by `seed`; all of them for None.

    `template` is how an article is put, with `{article}` where it goes. `data` is {test: FILE} in
    the hub's columns (id, article, highlights), read in place of the hub's `abisee/cnn_dailymail`.
    Raises UserError for other values, and UserError where the package rouge-score is missing or,
    naming file, row and column, where the data are not right.
    """
    check_cnn_dailymail(template, data)
    columns = {"id": text, "article": text, "highlights": text}
    items = tuple(
        Article(row["id"], _put(template, row["article"]), row["highlights"])
        for row in load_rows(SPLIT, columns, data)
    )
    task = CnnDailyMail(NAME, "CNN/DailyMail", items, MAX_NEW_TOKENS, STOP)
    return replace(task.sample(limit, seed), pool=())  # nothing is injected


def check_cnn_dailymail(template: object = TEMPLATE, data: object = None, **sample: object) -> str:
    """Return the task's name; raises UserError for what no data can make right."""
    if not isinstance(template, str) or template.count("{article}") != 1:
        raise UserError(f"template must contain {{article}} exactly once, not {shown(template)}")
    check_data(SPLIT, data)
    _scorer()
    return NAME


def rouge(summary: str, highlights: str) -> dict[str, float]:
    """Return ROUGE-1 and ROUGE-L F1 of a summary, words stemmed, by the package rouge-score."""
    scores = _scorer().score(target=highlights, prediction=summary)
    return {metric: float(scores[metric].fmeasure) for metric in METRICS}


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UserError("cnn_dailymail is judged by rouge-score: pip install rouge-score") from None
    return RougeScorer(list(METRICS), use_stemmer=True)


def _put(template: str, article: str) -> str:
    return template.replace("{article}", article.strip())
