"""Healing: win back what a plan lost, and say what that cost.

``linear`` fits a map in place of what the plan leaves out and merges it into a weight; ``lora``,
``last`` and ``full`` train under the plan, towards the full model's predictions. The model that was
given is never changed: what heals is a second model of the same weights
(`impasto.mending.copying`).
"""

from impasto.healing.calling import heal
from impasto.healing.healed import Healed
from impasto.mending.training import Spent

__all__ = ["Healed", "Spent", "heal"]
