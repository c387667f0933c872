"""Whether a worker's machine has memory for the model: asked before loading, since that may kill.

A process that takes more than there is gets killed without a word, and its neighbours with it; a
model that does not fit its GPUs would be put into slow memory instead.
"""

from collections.abc import Mapping
from typing import Any

import psutil
import torch

from impasto.error import UserError
from impasto.model.loading.files import weight_bytes
from impasto.run.batching.memory import readable


def check_room(name: str, options: Mapping[str, Any], gpus: float) -> None:
    """Raise UserError where a model's weights are known to take more memory than is free."""
    needed = weight_bytes(name, **options)
    if needed is None:
        return
    if gpus:
        count = torch.cuda.device_count()
        free = sum(torch.cuda.mem_get_info(index)[0] for index in range(count))
        where = f"its {count} GPUs have" if count > 1 else "its GPU has"
        advice = "give each worker more GPUs (--gpus-per-worker)"
    else:
        free = psutil.virtual_memory().available
        where, advice = "its machine has", "start fewer on a machine (--workers)"
    if needed > free:
        raise UserError(
            f"the weights of {name} take {readable(needed)}, and {where} {readable(free)} free: "
            f"{advice}, or load the model smaller (load: {{dtype: float16}} in the study)"
        )
