"""The engine's version: the number in every result's key that says whose answers it holds.

What computes changes often and its answers hardly ever, so a result is not kept by what the code
looks like. `tests/golden` holds answers of each kind, and fails where they change while the number
does not. Nothing here needs torch.
"""

from collections.abc import Mapping

ENGINE = "impasto's engine"  # what messages and databases call it

ENGINE_VERSION = 1
"""Raised by one when answers change: the same question, of the same model under the same plan, with
the same libraries, is answered differently beyond rounding (1e-4 in log p, any generated token), or
the answer is judged differently. A name, a file or a speed that changes never raises it. `python
tests/golden/make.py` goes with it.
"""

EQUAL: Mapping[int, int] = {}
"""Versions that answer as an earlier one does: one that takes back what the last had changed."""

EQUAL_CODE: Mapping[str, int] = {
    "69cdba0982d30805d4377446df03279bb22159338f705a40dcf3fdd4dc533d80": 1,  # Python 3.11
    "884dbc2eb7a38d71e4e426d2b23826f3b24c57ce8556b7c67ba76cd4c7943322": 1,  # from Python 3.12 on
}
"""What answers as a version does, of the time before versions, when results were kept by a hash of
the code (which Python writes down in more than one way). Code before this one read texts otherwise
where a tokenizer appends special tokens, so its answers are not taken for these.
"""


def first_equal(version: int) -> int:
    """Return the first version that answers as this one does; results are kept by its number."""
    while version in EQUAL:
        version = EQUAL[version]
    return version
