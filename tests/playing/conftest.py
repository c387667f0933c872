"""The page on the demo model, served for the tests of a module."""

import pytest

import impasto
from impasto.playing import serve
from impasto.playing.player import Player


@pytest.fixture(scope="session")
def player():
    return Player(impasto.load("demo"))


@pytest.fixture(scope="module")
def served(player):
    with serve(player) as url:
        yield url
