"""CNN/DailyMail's prompt is the documented one and its scores are those of rouge-score."""

import json
import sys

import pytest

from impasto.error import UserError
from impasto.tasks import check_entry, load_suite
from impasto.tasks.cnn_dailymail import _scorer, cnn_dailymail, rouge
from realdata import real_file

scorers = pytest.importorskip("rouge_score.rouge_scorer")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "news.jsonl"
    rows = [
        {"id": str(i), "article": f" Cats sat {{article}} {i}. ", "highlights": "Cats sat.\nThey."}
        for i in range(120)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"test": str(path)}


@pytest.mark.parametrize(
    ("summary", "highlights", "rouge1", "rouge_l"),
    [
        ("The cat sat on the mat", "the cat sat on the mat .", 1.0, 1.0),
        ("cats sitting", "the cat sits", 0.8, 0.8),  # stems; 2 of 2 and 2 of 3 words
        ("mat the on sat cat the", "the cat sat on the mat", 1.0, 0.5),  # in order: the on the
        ("a b c d", "a x c y", 0.5, 0.5),
        ("", "the cat", 0.0, 0.0),
        ("dogs", "the cat", 0.0, 0.0),
    ],
)
def test_rouge_has_the_values_that_its_definition_gives(summary, highlights, rouge1, rouge_l):
    assert rouge(summary, highlights) == {
        "rouge1": pytest.approx(rouge1),
        "rougeL": pytest.approx(rouge_l),
    }


def test_scores_equal_those_of_rouge_score_on_the_same_summaries():
    task = cnn_dailymail(data={"test": str(real_file("cnn_dailymail_sample.jsonl"))})
    scorer = scorers.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for number, item in enumerate(task.items):
        words = item.prompt.split()
        summary = " ".join(words[number : 3 * number + 20])  # the lead, more or less of it
        theirs = scorer.score(item.highlights, summary)
        assert task.judge(item, [f" {summary}\n\nArticle: more"]) == {
            "rouge1": theirs["rouge1"].fmeasure,
            "rougeL": theirs["rougeL"].fmeasure,
        }


def test_the_prompt_is_the_article_and_asks_for_a_summary(data):
    task = cnn_dailymail(data=data)
    assert len(task.items) == 100
    assert task.items[0].prompt == "Article: Cats sat {article} 0.\n\nSummary:"
    [request] = task.requests()[0]
    assert (request.stop, request.max_new_tokens) == (("\n\n",), 128)
    brief = cnn_dailymail(data=data, template="{article}\nTL;DR:", limit=None)
    assert brief.items[-1].prompt == "Cats sat {article} 119.\nTL;DR:"


def test_guessing_a_summary_has_no_chance_level(data):
    assert cnn_dailymail(data=data).chance("rouge1") != cnn_dailymail(data=data).chance("rouge1")


def test_a_template_without_one_place_for_the_article_is_refused(data):
    with pytest.raises(ValueError, match=r"\{article\} exactly once"):
        cnn_dailymail(template="Summary:", data=data)


def test_without_rouge_score_it_says_how_to_get_it(data, monkeypatch):
    _scorer.cache_clear()
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UserError, match="pip install rouge-score"):
        cnn_dailymail(data=data)
    _scorer.cache_clear()


def test_a_study_names_it_with_its_data_and_checks_it_without(data):
    entry = {"name": "cnn_dailymail", "data": data, "limit": 7}
    [task] = load_suite(entry).tasks
    assert (task.name, task.title, len(task.items)) == ("cnn_dailymail", "CNN/DailyMail", 7)
    assert check_entry({"name": "cnn_dailymail", "data": {"test": "not-there.jsonl"}}) == task.name
