"""From an image to the turned, finite channel that an adapted task looks at; learning prepares images with this too."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from isocenter.core import Image, Quantity
from isocenter.models.orientation import Turned
from isocenter.tasks.interact.channel import one_channel

__all__ = ["finite_channel"]


def finite_channel(image: Image, turn: Turned) -> tuple[Float[np.ndarray, "z y x"], tuple[str, ...]]:
    """Return one channel of an image, turned, what is not finite set to the median; and notes on it.

    Learning and the task prepare images with this very code.
    """
    volume, notes = one_channel(image)
    if image.dark_is_high and image.quantity is Quantity.ARBITRARY:
        volume = -volume
    finite = np.isfinite(volume)
    if not finite.all():
        count = int((~finite).sum())
        middle = np.float32(np.median(volume[finite]) if finite.any() else 0.0)
        volume = np.where(finite, volume, middle)
        notes = (*notes, f"{count} voxels are not finite and were taken as the median")
    return np.asarray(turn.forward(volume), dtype=np.float32), notes
