"""A click: where an annotator pointed, and which part was meant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Click:
    """One click on an image.

    Attributes:
        x: Continuous column in pixels: pixel ``i`` covers ``[i, i + 1)``, so ``0 <= x <= width``.
        y: Continuous row in pixels, likewise.
        part: The label that was clicked: a part of the schema, or any other name.
        is_positive: False for "not this part here" (Alt+click).
    """

    x: float
    y: float
    part: str
    is_positive: bool = True

    def pixel(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (row, column) of the pixel that the click lies in, the far edges included."""
        return min(max(int(self.y), 0), height - 1), min(max(int(self.x), 0), width - 1)
