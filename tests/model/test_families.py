"""What is listed as supported is what the tests compare with the reference."""

from families import FAMILIES as TESTED
from families import family
from impasto.model.families import FAMILIES


def test_the_listed_families_are_the_tested_ones():
    tested = {family(name).config.model_type for name in TESTED}
    assert {each.model_type for each in FAMILIES} == tested


def test_the_list_is_in_order_and_says_something_of_each():
    assert [each.model_type for each in FAMILIES] == sorted(each.model_type for each in FAMILIES)
    assert all(each.name and each.traits for each in FAMILIES)
