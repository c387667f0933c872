"""The four questions to a model: batches, text, limits, and what is refused."""

import pytest
import torch

import impasto
from families import FAMILIES, VOCABULARY, family
from impasto import Donor, Plan, UserError
from plans import PLANS
from thinning import thinned

NAMES = list(FAMILIES)
BASELINE = Plan.identity(6)


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def rows(*lengths):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(VOCABULARY, (n,), generator=generator) for n in lengths]


@pytest.mark.parametrize("name", thinned(NAMES))
def test_a_row_gets_the_same_logits_in_any_batch_and_padding(name):
    model = impasto.load(family(name))
    texts = rows(4, 9, 1, 6)
    width = max(map(len, texts))
    padded = []
    for side in ("left", "right"):
        ids, mask = torch.zeros(len(texts), width).long(), torch.zeros(len(texts), width).long()
        for row, text in enumerate(texts):
            place = slice(width - len(text), width) if side == "left" else slice(len(text))
            ids[row, place], mask[row, place] = text, 1
        padded.append((ids, mask))
    for plan in PLANS if name == "llama" else PLANS[NAMES.index(name) % 6 :: 6]:
        alone = torch.cat([model.next_logits(plan, text[None]) for text in texts])
        for ids, mask in padded:
            together = model.next_logits(plan, ids, mask)
            torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_order_of_requests_does_not_matter():
    model = impasto.load(family("gpt2"))
    requests = [(text[:-2].tolist(), text[-2:].tolist()) for text in rows(5, 9, 3, 12)]
    forth = model.loglikelihood(PLANS, requests)
    back = model.loglikelihood(PLANS, requests[::-1])
    for one, other in zip(forth, back, strict=True):
        for (log_p, _), (again, _) in zip(one, other[::-1], strict=True):
            assert log_p == pytest.approx(again, abs=1e-4)


def test_hidden_states_are_hugging_faces_at_every_depth():
    model = impasto.load(family("llama"))
    texts = [text.tolist() for text in rows(7, 4)]
    for ids, found in zip(texts, model.hidden_states(BASELINE, texts), strict=True):
        with torch.no_grad():
            own = model.hf(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert found.shape == (7, len(ids), 32)
        torch.testing.assert_close(found[:-1], torch.cat(own[:-1]), atol=1e-5, rtol=0)
        normed = model.hf.model.norm(found[-1])
        torch.testing.assert_close(normed, own[-1][0], atol=1e-5, rtol=0)


def test_the_demo_model_answers_in_text(demo):
    prompt = "Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of France?\nA:"
    plans = [Plan.identity(12), Plan.parse("11-0")]
    (answer,), (nonsense,) = demo.generate(plans, [prompt], max_new_tokens=8, stop=["\n"])
    assert answer == " Paris"
    assert nonsense != answer
    requests = [(prompt, " Paris"), (prompt, " Rome")]
    (good, greedy), (bad, _) = demo.loglikelihood(plans[0], requests)[0]
    assert greedy
    assert good > bad + 3


def test_injecting_another_country_changes_the_demo_models_answer(demo):
    def question(country):
        return (
            f"Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of {country}?\nA:"
        )

    donors = {"donor": Donor(question("Italy"), " Italy", " France")}
    plans = [impasto.strategies.inject(12, k) for k in (0, 2, 12)]
    whole, early, late = demo.generate(plans, [question("France")], 8, ["\n"], donors)
    assert whole == [" Rome"]
    assert early != [" Paris"]
    assert late == [" Paris"]


def test_an_empty_context_is_scored_after_the_prefix_token(demo):
    prefix = demo.tokenizer.bos_token_id
    prefix = demo.tokenizer.eos_token_id if prefix is None else prefix
    ids = demo.tokenizer.encode("Q: What", add_special_tokens=False)
    plan = Plan.identity(12)
    by_text = demo.loglikelihood(plan, [("", "Q: What")])[0][0]
    by_ids = demo.loglikelihood(plan, [([prefix], ids)])[0][0]
    assert by_text[0] == pytest.approx(by_ids[0], abs=1e-4)


def test_a_request_longer_than_the_model_loses_its_left_end():
    model = impasto.load(family("gpt2"))
    long = rows(140)[0].tolist()
    found = model.loglikelihood(BASELINE, [(long[:135], long[135:])])[0][0][0]
    kept = model.loglikelihood(BASELINE, [(long[11:135], long[135:])])[0][0][0]
    assert found == pytest.approx(kept, abs=1e-4)


INJECTS = Plan.parse("inject(a) 0-5")
BEYOND, NOWHERE = Donor([1], (0, 2), (0, 1)), Donor([1], (0, 1), (2, 3))
ONES, NO_ROWS = torch.ones(1, 2).long(), torch.zeros(1, 2).long()
REFUSED = [
    (lambda m: m.generate(Plan.parse("0-6"), [[1]]), "layer 6 does not exist"),
    (lambda m: m.generate(BASELINE, ["text"]), "without one"),
    (lambda m: m.generate(BASELINE, [[]]), "empty prompt"),
    (lambda m: m.generate(BASELINE, [[97]]), "not in the vocabulary"),
    (lambda m: m.generate(BASELINE, [[1]], max_new_tokens=0), "at least 1"),
    (lambda m: m.generate(BASELINE, [[1] * 127], max_new_tokens=3), "128 positions"),
    (lambda m: m.generate(INJECTS, [[1]]), "bound to no donor"),
    (lambda m: m.generate(INJECTS, [[1, 2]], donors={"a": BEYOND}), "does not lie in"),
    (lambda m: m.generate(INJECTS, [[1, 2]], donors={"a": NOWHERE}), "does not lie in"),
    (lambda m: m.loglikelihood(BASELINE, [([1], [])]), "no token to score"),
    (lambda m: m.loglikelihood(BASELINE, [([], [1])]), "at least one token"),
    (lambda m: m.next_logits(BASELINE, ONES, NO_ROWS), "a 1 in every row"),
]


@pytest.mark.parametrize(("ask", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_work_is_refused_with_the_rule(ask, says):
    with pytest.raises(UserError, match=says):
        ask(impasto.load(family("gpt2")))


def test_a_span_of_text_must_occur_once(demo):
    prompt = "Q: What is the capital of France?\nA:"
    plan = impasto.strategies.inject(12, 3)
    for span, times in [("Peru", 0), ("a", 4)]:
        with pytest.raises(UserError, match=f"occurs {times} times"):
            demo.generate(plan, [prompt], donors={"donor": Donor(prompt, "France", span)})


def test_an_unknown_model_is_refused_with_what_a_model_may_be(tmp_path):
    for name, says in [
        (str(tmp_path / "nowhere"), "is not a folder"),
        (str(tmp_path), "no config.json"),
        ("no-such/model", "cannot be loaded"),
    ]:
        with pytest.raises(UserError, match=says):
            impasto.load(name)


@pytest.mark.parametrize("plan", ["0-5", "0-2 freeze 3-5"])
def test_texts_longer_than_the_positions_run_where_hugging_face_runs_them(plan):
    """Rotary tables go on beyond what a configuration says; learned positions end there."""
    ids = rows(140)[0][None]
    hf = family("llama")
    assert hf.config.max_position_embeddings < ids.shape[1]
    assert impasto.load(hf).next_logits(Plan.parse(plan), ids).isfinite().all()
    with pytest.raises(UserError, match="has 128 positions"):
        impasto.load(family("gpt2")).hidden_states(Plan.parse(plan), [ids[0].tolist()])
