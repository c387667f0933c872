"""Plans that nobody thought of: drawn at random, on a random family, against the reference."""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import impasto
import reference
from families import FAMILIES, LAYERS, VOCABULARY, family
from impasto.plan import Freeze, Layer, Noise, Parallel, Plan, Reach

scales = st.sampled_from([1.0, 1.0, 1.0, 0.5, -0.25, 1.5])
reaches = st.none() | st.builds(Reach, st.integers(0, 3), st.integers(0, 4)).filter(
    lambda reach: reach != Reach()
)
layers = st.builds(
    lambda index, part, reach, scale: Layer(index, part, None if part == "mlp" else reach, scale),
    st.integers(0, LAYERS - 1), st.sampled_from(["block", "block", "attention", "mlp"]),
    reaches, scales,
)  # fmt: skip
chains = st.lists(layers, min_size=1, max_size=3).map(tuple)
branches = st.lists(chains | chains | st.just(()), min_size=1, max_size=3).map(tuple).filter(any)
groups = st.builds(Parallel, branches, st.sampled_from(["mean", "sum"]), scales)
nested = st.builds(
    Parallel,
    st.tuples(st.tuples(layers, groups), st.one_of(chains, st.tuples(groups))),
    st.sampled_from(["mean", "sum"]),
)
loops = st.builds(lambda group, turns: (group,) * turns, groups, st.integers(1, 3))
noises = st.builds(
    Noise, st.sampled_from(["shuffle", "gaussian"]), st.integers(0, 9), st.integers(0, 3),
    st.booleans(),
)  # fmt: skip
pieces = st.one_of(
    chains, chains, groups.map(lambda g: (g,)), nested.map(lambda g: (g,)), loops,
    noises.map(lambda n: (n,)), st.just((Freeze(),)), st.just((Freeze(prompt=True),)),
)  # fmt: skip
plans = st.lists(pieces, min_size=1, max_size=5).map(
    lambda parts: Plan((Layer(0), *(step for part in parts for step in part)))
)
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=9)


def check(name, drawn, some):
    """Compare logits, scores and generation; where two tokens are as likely, either may win."""
    hf, model = family(name), impasto.load(family(name))
    requests = [(ids[:-1], [ids[-1], 7]) for ids in some]
    scores = model.loglikelihood(drawn, requests)
    written = model.generate(drawn, some, max_new_tokens=3)
    for plan, scored, rows in zip(drawn, scores, written, strict=True):
        for request, (log_p, _) in zip(requests, scored, strict=True):
            expected, _ = reference.score(hf, plan, *request)
            assert log_p == pytest.approx(expected, abs=2e-4), plan
        for ids, new in zip(some, rows, strict=True):
            for count, token in enumerate(new):
                logits = reference.next_logits(hf, plan, ids + new[:count], prompt=len(ids))
                assert logits[token] > logits.max() - 1e-4, plan


def test_random_plans_together_equal_the_reference():
    examples = int(os.environ.get("IMPASTO_EXAMPLES", "40"))

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(
        st.sampled_from(list(FAMILIES)),
        st.lists(plans, min_size=1, max_size=3),
        st.lists(texts, min_size=1, max_size=3),
    )
    def claim(name, drawn, some):
        torch.manual_seed(0)
        check(name, drawn, some)

    claim()
