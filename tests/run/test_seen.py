"""Attention to what is seen gives what attention to everything gives, and computes less."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward as stock

import impasto
import reference
from families import family
from impasto.run.attention import tree_sparse as seen
from impasto.run.attention.tree_sparse import pieces, tree_sparse_attention
from impasto.run.batching.prefix_tree import PrefixTree
from impasto.run.batching.request import TokenRequest
from plans import PLANS

CPU = torch.device("cpu")


def trie(question, answers):
    """Return who sees whom in a question with answers of these lengths."""
    found = PrefixTree()
    for number, length in enumerate(answers):
        ids = [*range(question), *([1000 + number] * length)]
        found.add(number, TokenRequest(ids, range(question - 1, len(ids)), {}))
    rows, ends = torch.arange(len(found.ids)), torch.tensor(found.ends)
    return (rows <= rows[:, None]) & (rows[:, None] < ends)


def as_numbers(sees):
    return torch.zeros(sees.shape).masked_fill(~sees, -torch.inf)


def packed(sees, scored):
    """Return who sees whom where the last rows stand there once more, as current ones."""
    rows = torch.cat([sees, sees[-scored:].tril(-1) if scored else sees[:0]])
    own = torch.cat([torch.zeros(len(sees), scored), torch.eye(scored)]).bool()
    return torch.cat([rows, own], 1)


MASKS = {
    "a question and its answers": trie(200, [40, 3, 60, 60])[None, None],
    "a question without answers": trie(300, [1])[None, None],
    "questions of unlike shape": torch.stack([trie(100, [90, 90]), trie(180, [50, 50])])[:, None],
    "numbers": as_numbers(trie(150, [60, 70]))[None, None],
    "numbers for each head": as_numbers(trie(150, [60, 70])) - torch.rand(1, 8, 280, 280),
    "current rows": packed(trie(150, [60, 60]), 60)[None, None],
    "a window": (trie(260, [1]) & ~torch.ones(261, 261).tril(-40).bool())[None, None],
    "a prefix before": torch.cat([torch.ones(250, 100).bool(), trie(210, [40])], 1)[None, None],
}  # fmt: skip


class Module:
    num_key_value_groups, is_causal = 4, True


@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("name", MASKS)
def test_it_is_attention_to_everything(name, block, monkeypatch):
    monkeypatch.setattr(seen, "ROWS_PER_PIECE", block)
    mask = MASKS[name]
    batch, _, rows, keys = mask.shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(batch, heads, length, 16, generator=generator)
        for heads, length in [(8, rows), (2, keys), (2, keys)]
    )
    expected, _ = stock(Module(), query, key, value, mask, dropout=0.0, scaling=0.3)  # type: ignore[arg-type]
    pairs = []

    def counted(query, key, *rest, **more):
        pairs.append(query.shape[0] * query.shape[2] * key.shape[2])
        return scaled_dot_product_attention(query, key, *rest, **more)

    monkeypatch.setattr(seen, "scaled_dot_product_attention", counted)
    attend = tree_sparse_attention(CPU)
    assert attend is not None
    found, _ = attend(stock, Module(), query, key, value, mask, dropout=0.0, scaling=0.3)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert 0 < sum(pairs) < 0.85 * batch * rows * keys


def test_answers_do_not_attend_to_each_other():
    mask = MASKS["a question and its answers"]
    cut = pieces(mask, pair=100.0)
    assert sum(piece.mask.numel() for piece in cut) < 1.3 * mask.sum()
    assert any(len(piece.runs) == 2 for piece in cut)  # the question, and the answer itself


def test_attention_to_little_or_to_everything_is_left_alone():
    assert pieces(torch.ones(1, 1, 300, 300).bool(), pair=10.0) == []
    assert pieces(trie(20, [5, 5])[None, None], pair=10.0) == []
    assert pieces(trie(200, [40, 40])[None, None] & False, pair=10.0) == []


def test_elsewhere_than_on_a_processor_nothing_is_replaced():
    assert tree_sparse_attention(torch.device("cuda")) is None


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt_neox"])
def test_scores_in_pieces_equal_the_reference(name, monkeypatch):
    """Blocks so small, and calls so cheap, that all attention is cut."""
    for constant, value in [("ROWS_PER_PIECE", 3), ("UNSEEN_KEYS", 1), ("ATTENTION_CALL", 0.0)]:
        monkeypatch.setattr(seen, constant, value)
    cuts = []
    monkeypatch.setattr(seen, "pieces", lambda *given: cuts.append(pieces(*given)) or cuts[-1])
    hf = family(name)
    requests = [([3, 1, 4, 1, 5, 9], [2, n, 6]) for n in range(4)] + [([2, 7], [1, 8, 2, 8, 1])]
    plans = PLANS[::4]
    for plan, scores in zip(plans, impasto.load(hf).loglikelihood(plans, requests), strict=True):
        for request, (log_p, _) in zip(requests, scores, strict=True):
            assert log_p == pytest.approx(reference.score(hf, plan, *request)[0], abs=2e-4), plan
    assert any(len(cut) > 3 for cut in cuts)
