"""Probes: what is there is found, what is not stays at chance, and no text judges itself."""

import numpy as np
import pytest

from impasto.analysis.inside.probes import last_states, probe
from impasto.analysis.inside.states import TextStates

LABELS = ["a", "b", "c"] * 40


def states(depths=3, hidden=5):
    """Return states in which depth 1 holds the label and the others do not."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(LABELS), depths, hidden))
    found[:, 1, 0] += [8 * "abc".index(label) for label in LABELS]
    return found


def test_a_label_is_read_off_where_it_is_and_nowhere_else():
    found = probe(states(), LABELS)
    assert found.accuracy[1] > 0.95
    for depth in (0, 2):
        assert found.low[depth] < found.chance + 0.1
        assert found.accuracy[depth] < 0.5
        assert found.low[depth] < found.accuracy[depth] < found.high[depth]
    assert (found.chance, found.texts, found.labels) == (1 / 3, 120, 3)
    assert found == probe(states(), LABELS)


def test_more_units_than_texts_do_not_let_a_probe_learn_by_heart():
    found = probe(np.random.default_rng(1).normal(size=(60, 1, 300)), ["x", "y"] * 30)
    assert found.accuracy[0] < 0.7


def test_the_last_tokens_states_are_what_is_probed():
    text = TextStates(np.arange(24.0).reshape(2, 3, 4), np.ones(3, bool), cut=False)
    np.testing.assert_array_equal(last_states([text, text])[1], text.states[:, 2])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 6, "two of them"),
        (["a", "b"], "one for each"),
        (["a"] * 4 + ["rare"] * 2, "'rare' has 2"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, says):
    with pytest.raises(ValueError, match=says):
        probe(np.zeros((6, 2, 2)), labels)
