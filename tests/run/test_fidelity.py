"""Plans beside the full model on texts: equal to the naive reference, however it is computed."""

# pyright: reportArgumentType=false
# (Hugging Face types what a tokenizer returns too widely)

import copy
import random
from dataclasses import astuple

import pytest
import torch

import impasto
import reference
from families import FAMILIES, VOCABULARY, family, one_of_each
from impasto import Plan, UserError
from impasto.model.structure.anatomy import ModelError
from impasto.run.batching import batches
from impasto.run.execute import logits
from impasto.run.queries import fidelity as query
from plans import INJECTING_PLANS, PLANS, spread
from special_tokens import random_model, saved, tokenizer_of
from thinning import thinned

NAMES = list(FAMILIES)
FULL = Plan.identity(6)
MIXED = [Plan.parse(line, layers=6) for line in (
    "0-5", "0-2", "0-2 freeze 3-5", "0-2 noise(gaussian, seed=3) 3-5", "0 (1 2)*3 5", "0 [1-4] 5",
    "0-2 3-5.mlp", "0-3.attn 4-5", "0-2 4-5", "5-0", "0-3",
)]  # fmt: skip


def texts_of(*lengths, seed=0):
    draw = random.Random(seed)
    return [[draw.randrange(VOCABULARY) for _ in range(n)] for n in lengths]


TEXTS = texts_of(9, 1, 23, 9, 2, 14)
TEXTS[3] = TEXTS[0][:6] + TEXTS[3][:3]  # begins as another one does


def check(found, expected, of_token=1e-4):
    """Check sums, to so much for each token; counts of agreements to one hair."""
    for plan, row in enumerate(found):
        for text, (tokens, log_p, kl, agreeing) in enumerate(row):
            theirs = expected[plan][text]
            assert tokens == theirs[0]
            assert log_p == pytest.approx(theirs[1], abs=of_token * max(tokens, 1)), plan
            assert kl == pytest.approx(theirs[2], abs=of_token * max(tokens, 1)), plan
            assert agreeing == theirs[3], plan


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_plans_beside_the_full_model_equal_the_reference(name):
    hf = family(name)
    plans, texts = [FULL, *spread(name, NAMES, core=4, others=9)], texts_of(3, 11, 1, 6)
    found = impasto.load(hf).fidelity(plans, texts)
    check(found, [[reference.fidelity(hf, plan, ids) for ids in texts] for plan in plans])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_family_equals_the_reference_under_every_plan(name):
    hf, texts = family(name), texts_of(12, 5)
    found = impasto.load(hf).fidelity(PLANS, texts)
    check(found, [[reference.fidelity(hf, plan, ids) for ids in texts] for plan in PLANS])


@pytest.mark.parametrize("name", thinned(["llama", "gpt2", "gemma3"], 2))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_identity_is_the_full_model_and_scored_as_ever(name, dtype):
    model = impasto.load(copy.deepcopy(family(name)).to(dtype))
    requests = [(ids[:1], ids[1:]) for ids in TEXTS if len(ids) > 1]
    [own, _] = model.fidelity([FULL, PLANS[2]], TEXTS)
    assert [abs(text.kl) for text in own] == pytest.approx([0] * len(TEXTS), abs=1e-6)
    assert [text.agreeing for text in own] == [text.tokens for text in own]
    scored = [text.log_p for text in own if text.tokens]
    expected = [log_p for log_p, _ in model.loglikelihood(FULL, requests)[0]]
    assert scored == pytest.approx(expected, abs=1e-3 if dtype is torch.float32 else 2)


@pytest.mark.parametrize("plan", ["0-5", "0-2 freeze 3-5", "0-2 noise(shuffle) 3-5"])
def test_perplexity_is_that_of_the_scored_continuation(plan):
    model, plan = impasto.load(family("llama")), Plan.parse(plan)
    [row] = model.fidelity(plan, TEXTS)
    requests = [(ids[:1], ids[1:]) for ids in TEXTS if len(ids) > 1]
    expected = [log_p for log_p, _ in model.loglikelihood(plan, requests)[0]]
    assert [text.log_p for text in row if text.tokens] == pytest.approx(expected, abs=1e-3)


def _in_small_batches(patch, model):
    patch.setattr(batches, "ROWS_AT_ONCE", {"cpu": 16})


def _in_slabs_of_three_rows(patch, model):
    patch.setattr(logits, "LOGITS_AT_ONCE", {"cpu": 3 * VOCABULARY + 5})
    patch.setattr(logits, "NORMALISED_AT_ONCE", {"cpu": 2 * VOCABULARY})


def _one_plan_after_the_other(patch, model):
    patch.setattr(query, "PLANS_COMPARED_AT_ONCE", 1)


def _three_plans_at_once(patch, model):
    patch.setattr(query, "PLANS_COMPARED_AT_ONCE", 3)


def _in_little_memory(patch, model):
    model.memory = int(0.4 * model.fidelity_cost(MIXED, TEXTS).peak_bytes)


@pytest.mark.parametrize(
    "otherwise",
    [
        _in_small_batches,
        _in_slabs_of_three_rows,
        _one_plan_after_the_other,
        _three_plans_at_once,
        _in_little_memory,
    ],
)
@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_however_it_is_cut_up_the_answers_are_the_same(name, otherwise, monkeypatch):
    expected = impasto.load(family(name)).fidelity(MIXED, TEXTS)
    model = impasto.load(family(name))
    otherwise(monkeypatch, model)
    check(model.fidelity(MIXED, TEXTS), expected, of_token=1e-5)


def test_order_padding_and_company_change_nothing():
    model, order = impasto.load(family("gpt2")), [4, 2, 5, 0, 3, 1]
    expected = model.fidelity(MIXED, TEXTS)
    shuffled = model.fidelity(MIXED[::-1], [TEXTS[at] for at in order])[::-1]
    check(shuffled, [[row[at] for at in order] for row in expected], of_token=1e-5)
    alone = [[model.fidelity(plan, [ids])[0][0] for ids in TEXTS] for plan in MIXED]
    check(alone, expected, of_token=1e-5)
    memory = int(0.4 * model.fidelity_cost(MIXED, TEXTS).peak_bytes)
    check(model.fidelity(MIXED, TEXTS, memory=memory), expected, of_token=1e-5)


def test_no_matrix_of_logits_is_larger_than_a_slab_and_the_full_models_are_made_once(monkeypatch):
    model, made = impasto.load(family("llama")), []
    opened = model._opened
    model.fidelity(MIXED, TEXTS)
    leave = type(opened).leave

    def watched(self, states):
        made.append(len(states))
        return leave(self, states)

    monkeypatch.setattr(type(opened), "leave", watched)
    monkeypatch.setattr(logits, "LOGITS_AT_ONCE", {"cpu": 10 * VOCABULARY})
    model.fidelity(MIXED, TEXTS)
    assert max(made) == 10
    predictions = sum(made) / (1 + len(MIXED))
    assert predictions == int(predictions)
    assert predictions <= sum(len(ids) - 1 for ids in TEXTS)


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch):
    model = impasto.load(family("llama"))
    texts = texts_of(*[8] * 9)
    expected, read = model.fidelity(MIXED, texts), query.compared

    def scarce(model, full, *given):
        if len(full) > 21:
            raise torch.OutOfMemoryError("no more")
        return read(model, full, *given)

    monkeypatch.setattr(query, "compared", scarce)
    with pytest.warns(UserWarning, match="half of them"):
        found = model.fidelity(MIXED, texts)
    check(found, expected, of_token=1e-5)


# ------------------------------------------------------------------ pieces of texts


def summed(parts):
    return tuple(sum(each) for each in zip(*parts, strict=True))


def test_a_long_text_is_read_in_pieces_of_so_many_tokens():
    model, [ids] = impasto.load(family("llama")), texts_of(23)
    found = model.fidelity(MIXED, [ids], length=7)
    pieces = [ids[at : at + 7] for at in range(0, 23, 7)]
    apart = model.fidelity(MIXED, pieces)
    check(found, [[summed(row)] for row in apart], of_token=1e-5)
    assert found[0][0].tokens == 23 - len(pieces)
    [[odd]] = model.fidelity(FULL, [ids], length=11)  # the last piece is one token
    assert odd.tokens == 20


def test_the_models_positions_bound_a_piece_where_nobody_does():
    tokenizer = tokenizer_of("none")
    model = impasto.load(random_model(tokenizer, positions=32), tokenizer)
    [[found]] = model.fidelity(Plan.identity(4), [list(range(5, 75))])
    assert found.tokens == 31 + 31 + 5
    wider = impasto.load(random_model(tokenizer, positions=32), tokenizer, max_length=16)
    [[found]] = wider.fidelity(Plan.identity(4), [list(range(5, 75))])
    assert found.tokens == 70 - 5


@pytest.mark.parametrize("template", ["BOS before", "BOS and EOS", "none"])
@pytest.mark.filterwarnings("ignore:the tokenizer puts")
def test_pieces_begin_as_texts_do_so_that_every_token_of_a_text_is_predicted(template):
    tokenizer = tokenizer_of(template)
    model, plan = impasto.load(random_model(tokenizer), tokenizer), Plan.parse("0 2-3")
    text = "Q: What is the capital of France?\nA: Paris\nQ: What is the capital of Spain?"
    plain = tokenizer.encode(text, add_special_tokens=False)
    bos = [tokenizer.bos_token_id] if template != "none" else []
    [[found]] = model.fidelity(plan, [text], length=8)
    step = 8 - len(bos)
    pieces = [bos + plain[at : at + step] for at in range(0, len(plain), step)]
    [apart] = model.fidelity(plan, pieces)
    check([[found]], [[summed(apart)]], of_token=1e-5)
    assert found.tokens == (len(plain) if bos else len(plain) - len(pieces))
    assert model.fidelity(plan, [bos + plain], length=8) == [[found]]  # ids that begin alike


def test_what_comes_first_of_a_text_is_not_predicted_be_it_several_tokens(tmp_path, monkeypatch):
    import special_tokens

    monkeypatch.setitem(special_tokens.TEMPLATES, "two before", "<s> [SEP] $A")
    model = impasto.load(saved(tmp_path, "two before"))
    [[found]] = model.fidelity(Plan.identity(4), ["The capital of France is Paris."], length=5)
    ids = model.tokens("The capital of France is Paris.")
    assert found.tokens == len(ids) - 2
    with pytest.raises(UserError, match="length is at least 3"):
        model.fidelity(Plan.identity(4), ["a"], length=2)


def test_so_many_tokens_are_read_of_all_texts_together():
    model = impasto.load(family("llama"))
    for tokens in (2, 9, 10, 11, 30, 500):
        found = model.fidelity(MIXED[:3], TEXTS, tokens=tokens)
        left, cut = tokens, []
        for ids in TEXTS:
            cut.append(ids[:left])
            left -= len(cut[-1])
        read = [ids or [0] for ids in cut]
        check(found, model.fidelity(MIXED[:3], read), of_token=1e-5)


def test_texts_with_nothing_to_predict_count_no_tokens():
    model = impasto.load(family("llama"))
    assert model.fidelity(FULL, [[4], [5]]) == [[(0, 0, 0, 0)] * 2]
    assert model.fidelity(FULL, []) == [[]]
    assert model.fidelity([], TEXTS) == []


def test_progress_is_told_and_the_cost_is_that_of_what_runs():
    model, shares = impasto.load(family("llama")), []
    model.fidelity(MIXED, TEXTS, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    alone, more = (model.fidelity_cost(plans, TEXTS) for plans in ([FULL], MIXED))
    assert 0 < alone.rows < more.rows
    assert astuple(model.fidelity_cost(FULL, TEXTS, tokens=9)) < astuple(alone)


# ------------------------------------------------------------------ what is refused


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path):
    hf = family("llama")
    model = impasto.load(hf)
    for ask in (model.fidelity, model.fidelity_cost):
        for given, says in [
            ({"plans": [FULL, INJECTING_PLANS[1]]}, r"0-2 inject\(a\) 3-5 injects, and texts have"),
            ({"length": 1}, "length is a whole number of at least 2, not 1"),
            ({"length": 129}, "pieces of 129 tokens exceed the model's 128 positions: length is"),
            ({"tokens": 1}, "tokens is a whole number of at least 2, not 1"),
            ({"texts": [[1, 2], [3, 97]]}, "text 1: token 97 is not in the vocabulary"),
            ({"texts": [[1, 2], []]}, "text 1: an empty prompt"),
        ]:
            with pytest.raises(UserError, match=says):
                ask(**{"plans": FULL, "texts": TEXTS} | given)
    hf.save_pretrained(tmp_path)
    partial = impasto.load(str(tmp_path), plan=Plan.parse("0-2"))
    with pytest.raises(ModelError, match=r"the full model, and layers 3-5 are not loaded"):
        partial.fidelity(Plan.parse("0-2"), TEXTS)
