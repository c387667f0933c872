"""Telling which model a run has, without reading its weights each time.

Reading the weights of a large model takes longer than all else that happens before a study goes on.
So their digest is kept in the folder's database, beside what the files say of themselves: places,
sizes, times of change.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from impasto.study.database.opening import transaction
from impasto.study.database.reading import known_weights
from impasto.study.work.identity import Identity, model_identity, weights_digest, weights_stamp


def recognised(
    model: Any, connection: sqlite3.Connection, options: Mapping[str, Any] | None
) -> Identity:
    """Return what a model is.

    `options` are those that it was just loaded with from its files; None where somebody else loaded
    it, and may have changed it since: then its weights are read.
    """
    stamp = None
    if options is not None and hasattr(model, "hf"):
        stamp = weights_stamp(model.hf, options)
    if stamp is None:
        return model_identity(model)
    weights = known_weights(connection, stamp)
    if weights is None:
        weights = weights_digest(model.hf)
        with transaction(connection):
            connection.execute("INSERT INTO weights VALUES (?, ?)", [stamp, weights])
    return model_identity(model, weights)
