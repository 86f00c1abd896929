"""How sure a mask's probabilities are of it: one number for each class, which held-out cases tie to a Dice."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["sharpness"]


def sharpness(probabilities: Float[np.ndarray, "classes *space"]) -> Float[np.ndarray, " foreground"]:
    """Return the Dice of each class's mask with the probabilities that it was cut from: 1 when all are 0 or 1.

    Args:
        probabilities: Of every class, background first.

    Returns:
        For each class but the background; 0 where its mask is empty.
    """
    chosen = probabilities.argmax(0)
    found = []
    for number in range(1, len(probabilities)):
        mask, p = chosen == number, probabilities[number].astype(np.float64)
        found.append(float(2 * p[mask].sum() / (p.sum() + mask.sum())) if mask.any() else 0.0)
    return np.array(found)
