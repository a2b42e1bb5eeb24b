"""Percent of a photo, the unit in which Label Studio gives places: which JSON values are such a number.

A click lies in its photo, from 0 to 100. Corners of polygons and boxes may lie outside: what is there is cut off.
"""

from __future__ import annotations

import math
import sys
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that fits into a float; an integer in JSON may have any number of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= sys.float_info.max


def is_percent(value: object, beyond: float = 0.0) -> bool:
    """Whether a value is a percentage of the photo.

    Args:
        value: What the request holds.
        beyond: How far below 0 and above 100 it may be, in percent.
    """
    return is_number(value) and -beyond <= value <= 100 + beyond
