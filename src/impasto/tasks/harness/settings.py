"""What tells a task of lm-eval by its settings, wherever its file lies."""

import inspect
from typing import Any

PLACE = "config_source"  # where lm-eval has the settings from, among their metadata


def settings_of(task: Any) -> dict[str, Any]:
    """Return a task's settings without the place of their file."""
    settings: dict[str, Any] = task.dump_config()
    metadata = settings.get("metadata")
    if not isinstance(metadata, dict):
        return settings
    return settings | {"metadata": {k: v for k, v in metadata.items() if k != PLACE}}


def source_of(value: Any) -> str:
    """Return what stands for a value that is not JSON: a function's source, else its text."""
    try:
        return inspect.getsource(value)
    except (TypeError, OSError):
        return str(value)
