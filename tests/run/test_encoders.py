"""Plans on encoders: every item, alone and combined, on every family, against the reference."""

from collections import Counter
from typing import Any

import pytest
import torch

import encoder_reference
import impasto
import reference
from encoders import ENCODERS, VOCABULARY, encoder
from families import family
from impasto import Donor, Plan, UserError
from plans import ENCODER_INJECTING_PLANS, ENCODER_PLANS, PLANS

NAMES = list(ENCODERS)
TOLERANCE = 1e-4
BASELINE = Plan.identity(6)
MASK = 3


def sentences(*lengths, seed=0):
    """Token ids without padding's own (1), for a family may count positions by it."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def batch(texts):
    width = max(map(len, texts))
    ids = torch.tensor([text + [1] * (width - len(text)) for text in texts])
    return ids, (ids != 1).long()


def some(name, every=4):
    return ENCODER_PLANS if name == "bert" else ENCODER_PLANS[NAMES.index(name) % every :: every]


def opened(name) -> Any:
    model: Any = impasto.load(encoder(name))
    model.mask_token = MASK
    return model


def check_logits(name, plans):
    """Logits in a padded batch are those of the naive reference on each sentence alone."""
    hf, texts = encoder(name), sentences(9, 4, 1)
    ids, mask = batch(texts)
    for plan in plans:
        found = opened(name).token_logits(plan, ids, mask)
        for row, text in zip(found, texts, strict=True):
            with torch.no_grad():
                expected = encoder_reference.logits(hf, plan, text)
            torch.testing.assert_close(row[: len(text)], expected, atol=TOLERANCE, rtol=0)


def check_masked(name, plans):
    hf, texts = encoder(name), sentences(5, 2)
    found = opened(name).masked_scores(plans, texts)
    for plan, scores in zip(plans, found, strict=True):
        for text, score in zip(texts, scores, strict=True):
            with torch.no_grad():
                log_p, likeliest = encoder_reference.masked_score(hf, plan, text, MASK)
            assert score.log_p == pytest.approx(log_p, abs=TOLERANCE * len(text)), plan
            assert (score.likeliest, score.tokens) == (likeliest, len(text)), plan


@pytest.mark.parametrize("name", NAMES)
def test_logits_in_any_batch_equal_the_reference_on_each_sentence_alone(name):
    check_logits(name, some(name))


@pytest.mark.parametrize("name", NAMES)
def test_many_plans_scored_together_equal_the_reference_one_by_one(name):
    check_masked(name, some(name, 5)[:: 3 if name == "bert" else 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_family_runs_every_plan(name):
    check_logits(name, ENCODER_PLANS)
    check_masked(name, ENCODER_PLANS)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_the_identity_plan_is_the_model_bit_for_bit(name, attention):
    hf = encoder(name, attention)
    ids, mask = batch(sentences(9, 5))
    with torch.no_grad():
        own = hf(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(impasto.load(hf).token_logits(BASELINE, ids, mask), own)


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_are_hugging_faces_at_every_depth(name):
    hf, texts = encoder(name), sentences(7, 4)
    for ids, found in zip(texts, opened(name).hidden_states(BASELINE, texts), strict=True):
        with torch.no_grad():
            own = hf(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert found.shape == (7, len(ids), 32)
        last = 7 if opened(name)._opened.ends_plainly else 6  # the last of others is normed
        torch.testing.assert_close(found[:last], torch.cat(own[:last]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_injection_equals_the_reference(name):
    hf, model = encoder(name), opened(name)
    first, second, a, b = sentences(8, 10, 6, 9, seed=1)
    donors = {"a": Donor(a, (2, 5), (1, 3)), "b": Donor(b, (8, 9), (7, 8))}
    grafts = {"a": reference.Graft(a, [3, 4], [1, 2]), "b": reference.Graft(b, [8], [7])}
    ids, mask = batch([first, second])
    for plan in [
        *ENCODER_INJECTING_PLANS,
        Plan.parse("0-2 inject(a) 3.attn 4.mlp inject(b) 5.mlp"),
    ]:
        found = model.token_logits(plan, ids, mask, donors=donors)
        for row, text in zip(found, (first, second), strict=True):
            with torch.no_grad():
                expected = encoder_reference.logits(hf, plan, text, grafts)
            torch.testing.assert_close(row[: len(text)], expected, atol=TOLERANCE, rtol=0)


def test_fill_gives_the_likeliest_token_at_each_mask():
    hf, model = encoder("roberta"), opened("roberta")
    texts = [[5, MASK, 17, MASK, 9], [MASK, 8]]
    plans = ENCODER_PLANS[::6]
    for plan, filled in zip(plans, model.fill(plans, texts), strict=True):
        for ids, found in zip(texts, filled, strict=True):
            with torch.no_grad():
                best = encoder_reference.logits(hf, plan, ids).argmax(-1).tolist()
            assert found == [best[row] for row, token in enumerate(ids) if token == MASK]


@pytest.fixture
def calls():
    """Count the rows that each block's two parts run."""
    hf, rows, hooks = encoder("bert"), Counter(), []

    def count(name):
        return lambda module, args: rows.update({name: args[0].shape[0] * args[0].shape[1]})

    for index, block in enumerate(hf.bert.encoder.layer):
        parts = {"attn": block.attention.self.query, "mlp": block.intermediate.dense}
        for part, module in parts.items():
            hooks.append(module.register_forward_pre_hook(count(f"{index}.{part}")))
    impasto.load(hf)
    rows.clear()
    yield rows
    for hook in hooks:
        hook.remove()


def test_a_skipped_layer_and_a_dropped_part_run_nothing(calls):
    opened("bert").fill(Plan.parse("0 2.attn 3.mlp 5"), [[5, MASK, 7]])
    assert {name for name in calls if calls[name]} == {
        "0.attn", "0.mlp", "2.attn", "3.mlp", "5.attn", "5.mlp",
    }  # fmt: skip


def test_plans_share_what_they_begin_with(calls):
    plans = [Plan.parse(line) for line in ("0-5", "0-3 5", "0-3 5 4", "0 [1-2]*2 5", "0 [1-2] 5")]
    opened("bert").fill(plans, [[5, MASK, 7]])
    assert calls["0.mlp"] == calls["3.mlp"] == 3
    assert calls["1.mlp"] == 3 * (1 + 2)


def test_above_the_last_attention_only_wanted_rows_run(calls):
    opened("bert").fill(Plan.parse("0-2 3-5.mlp"), [[5, MASK, 7]])
    assert calls["2.mlp"] == 3
    assert calls["3.mlp"] == calls["5.mlp"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_model_comes_back_as_it_was_also_after_an_exception(name):
    hf = encoder(name)
    ids = torch.tensor(sentences(6))
    weights = {key: weight.clone() for key, weight in hf.state_dict().items()}
    places = {key: weight.data_ptr() for key, weight in hf.named_parameters()}
    with torch.no_grad():
        before = hf(input_ids=ids).logits
        with pytest.raises(RuntimeError, match="stop"), impasto.apply(hf, Plan.parse("5-0")):
            _run_and_stop(hf, ids, before)
        with pytest.raises(RuntimeError, match="stop"):
            opened(name).masked_scores(PLANS[1], ids.tolist(), progress=_stop)
        assert torch.equal(hf(input_ids=ids).logits, before)
    assert all(torch.equal(weights[key], weight) for key, weight in hf.state_dict().items())
    assert places == {key: weight.data_ptr() for key, weight in hf.named_parameters()}
    assert all("forward" not in module.__dict__ for module in hf.modules())


def _run_and_stop(hf, ids, before):
    assert not torch.equal(hf(input_ids=ids).logits, before)
    raise RuntimeError("stop")


def _stop(share):
    raise RuntimeError("stop")


@pytest.mark.parametrize("line", ["0-2 freeze 3-5", "0 noise(gaussian) 1-5"])
def test_what_is_about_earlier_tokens_is_refused_with_the_reason(line):
    plan, model = Plan.parse(line), opened("bert")
    for ask in (
        lambda: model.fill(plan, [[MASK]]),
        lambda: model.masked_scores(plan, [[5]]),
        lambda: model.hidden_states(plan, [[5]]),
        lambda: model.token_logits(plan, torch.tensor([[5]])),
        lambda: impasto.apply(model.hf, plan),
    ):
        with pytest.raises(UserError, match="an encoder has none: every token sees all others"):
            ask()


def test_what_the_other_kind_of_model_is_asked_is_refused_with_what_to_ask():
    an_encoder, a_decoder = opened("bert"), impasto.load(family("llama"))
    for ask, says in [
        (lambda: an_encoder.generate(BASELINE, [[1]]), "fill gives"),
        (lambda: an_encoder.loglikelihood(BASELINE, [([1], [2])]), "masked_scores gives"),
        (lambda: an_encoder.next_logits(BASELINE, torch.tensor([[1]])), "token_logits gives"),
        (lambda: a_decoder.fill(BASELINE, [[1]]), "generate writes"),
        (lambda: a_decoder.masked_scores(BASELINE, [[1]]), "loglikelihood scores"),
        (lambda: a_decoder.token_logits(BASELINE, torch.tensor([[1]])), "next_logits gives"),
    ]:
        with pytest.raises(UserError, match=says):
            ask()


def test_what_cannot_be_read_is_refused_with_the_rule():
    model = opened("roberta")
    for ask, says in [
        (lambda: model.fill(BASELINE, [[5, 6]]), "nothing to fill in"),
        (lambda: model.fill(Plan.parse("0-6"), [[MASK]]), "layer 6 does not exist"),
        (lambda: model.fill(BASELINE, ["text"]), "without one"),
        (lambda: model.fill(BASELINE, [[5] * 126 + [MASK]]), "126 positions"),
        (lambda: impasto.load(encoder("bert")).fill(BASELINE, [[MASK]]), "mask token"),
        (lambda: impasto.load(encoder("bert").bert).fill(BASELINE, [[MASK]]), "without the head"),
    ]:
        with pytest.raises(UserError, match=says):
            ask()
