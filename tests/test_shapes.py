"""The checks of signatures are at work: a wrong shape and a wrong type are refused."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from families import family
from impasto.run.batching.donors import Splice
from impasto.run.batching.memory import readable
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.execute.rows import first_batch
from impasto.run.noise import NoiseSource, noise
from impasto.run.opening import opened


def test_a_wrong_shape_is_refused():
    states, keys = torch.zeros(3, 8), torch.zeros(2, dtype=torch.long)
    with pytest.raises(TypeCheckError, match="keys"):
        noise(states, keys, NoiseSource("shuffle", 0, 0, 0))
    with pytest.raises(TypeCheckError, match="states"):
        opened(family("llama")).leave(torch.zeros(3, dtype=torch.long))


def test_a_value_of_wrong_shape_cannot_be_made():
    rows = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(TypeCheckError, match="source"):
        Splice(rows.double())


def test_a_wrong_type_is_refused():
    with pytest.raises(BeartypeCallHintViolation, match="amount"):
        readable("much")  # type: ignore[arg-type]
    with pytest.raises(BeartypeCallHintViolation, match="prefix_trees"):
        first_batch({"prefix_tree": chain}, torch.device("cpu"))  # type: ignore[arg-type]
    assert PrefixTree().ids == []
