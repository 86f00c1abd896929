"""A row of agreements, one after each click: how many it took, and how good it was on the way.

Source:
    Sofiiuk et al., ICIP 2022 (number of clicks to an agreement).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isocenter.core.errors import DataError

__all__ = ["SHOWN", "clicks_to_dice", "dice_area"]

SHOWN = (1, 2, 3, 5, 10)
"""After how many interactions the agreement is told."""


def clicks_to_dice(dice: Sequence[float], goal: float) -> int | None:
    """Return after how many clicks the Dice first reached a goal, or None: not within the budget.

    Args:
        dice: After the first, second, ... click.
        goal: To be reached or passed.

    Example:
        >>> clicks_to_dice((0.7, 0.92, 0.88), 0.9), clicks_to_dice((0.7, 0.8), 0.9)
        (2, None)
    """
    return next((k for k, value in enumerate(dice, start=1) if value >= goal), None)


def dice_area(dice: Sequence[float]) -> float:
    """Return the area under Dice over clicks from the first to the last, by trapezoids, divided by its span: 0 to 1.

    Args:
        dice: After the first, second, ... click; of one alone it is that one.

    Raises:
        DataError: No click, or a Dice that does not lie in 0 to 1.

    Example:
        >>> round(dice_area((0.5, 0.7, 0.9)), 6), dice_area((0.4,))
        (0.7, 0.4)
    """
    values = np.asarray(dice, dtype=np.float64)
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise DataError("an area needs a Dice in 0 to 1 after each click, and one click at least")
    return float(values[0]) if len(values) == 1 else float(np.trapezoid(values) / (len(values) - 1))
