"""Clicks to a goal, and the area under Dice over clicks, by hand."""

from __future__ import annotations

import pytest

from isocenter.core.errors import DataError
from isocenter.evaluate.clicks import clicks_to_dice, dice_area


def test_by_hand():
    assert clicks_to_dice((0.5, 0.9, 0.7), 0.9) == 2
    assert clicks_to_dice((0.5, 0.6), 0.9) is None
    # Trapezoids of 0.2, 0.6, 0.8: (0.4 + 0.7) / 2.
    assert dice_area((0.2, 0.6, 0.8)) == pytest.approx(0.55)
    assert dice_area((0.3,)) == 0.3


@pytest.mark.parametrize("bad", [(), (0.5, 1.1), (float("nan"),), (-0.1, 0.5)])
def test_refused(bad):
    with pytest.raises(DataError, match="in 0 to 1 after each click"):
        dice_area(bad)
