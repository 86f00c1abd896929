"""Images brought to one order and direction of axes before a network looks at them, and answers brought back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocenter.core import Geometry

__all__ = ["Turned"]


@dataclass(frozen=True)
class Turned:
    """How an array is brought to another order and direction of axes, and back; nothing is resampled.

    Args:
        order: Which axis comes first, second, third.
        flips: Which of the new axes run backwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def to(cls, geometry: Geometry, orientation: str | None) -> Turned:
        """Return how an image comes to an orientation (three letters, as `Geometry.orientation`).

        Without a place in the patient, on either side, nothing is turned.

        Example:
            >>> sagittal = Geometry.from_directions(
            ...     (2, 3, 4), [[-1, 0, 0], [0, 0, 1], [0, -1, 0]], spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0)
            ... )
            >>> sagittal.orientation, Turned.to(sagittal, "SPL")
            ('RIP', Turned(order=(1, 2, 0), flips=(True, False, True)))
        """
        mine = geometry.orientation
        if mine is None or orientation is None:
            return cls()
        pairs = ("LR", "PA", "SI")
        order, flips = [], []
        for letter in orientation:
            pair = next(p for p in pairs if letter in p)
            axis = next(i for i, own in enumerate(mine) if own in pair)
            order.append(axis)
            flips.append(mine[axis] != letter)
        return cls((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    def forward(self, array: np.ndarray) -> np.ndarray:
        """Turn an array (z, y, x)."""
        turned = np.transpose(array, self.order)
        return np.ascontiguousarray(turned[tuple(slice(None, None, -1 if f else 1) for f in self.flips)])

    def backward(self, array: np.ndarray) -> np.ndarray:
        """Turn an array back."""
        straight = array[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]
        return np.ascontiguousarray(np.transpose(straight, np.argsort(self.order)))

    def of(self, numbers: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return numbers that belong to the axes (a spacing) in the new order."""
        return numbers[self.order[0]], numbers[self.order[1]], numbers[self.order[2]]
