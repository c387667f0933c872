"""What is listed as supported is what the tests compare with the reference."""

import pytest

from encoders import ENCODERS as TESTED_ENCODERS
from encoders import encoder
from families import FAMILIES as TESTED
from families import family
from impasto.model.structure.families import ENCODERS, FAMILIES


def test_the_listed_families_are_the_tested_ones():
    tested = {family(name).config.model_type for name in TESTED}
    assert {each.model_type for each in FAMILIES} == tested
    tested = {encoder(name).config.model_type for name in TESTED_ENCODERS}
    assert {each.model_type for each in ENCODERS} == tested


@pytest.mark.parametrize("families", [FAMILIES, ENCODERS])
def test_the_list_is_in_order_and_says_something_of_each(families):
    assert [each.model_type for each in families] == sorted(each.model_type for each in families)
    assert all(each.name and each.traits for each in families)
