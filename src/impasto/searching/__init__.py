"""Finding the best plan under a budget.

``edits`` and ``budget`` say what may be changed and what it may cost; ``objective`` what is made
small; ``judging`` asks candidates no more than telling them apart takes, ``methods`` look for the
best of them; ``finding`` puts these together, ``running`` runs a search's file in a folder.
"""

from impasto.searching.calling import search
from impasto.searching.file import WrittenSearch
from impasto.searching.found import Found, FoundPlan

__all__ = ["Found", "FoundPlan", "WrittenSearch", "search"]
