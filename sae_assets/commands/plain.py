"""Figures as plain values, which JSON knows."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return values that JSON knows: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
