"""What an image looks like to the interactive network, and how unsure that is of it: to choose what to label next."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from isocenter.models.interactive.confirmed import Confirmed
from isocenter.models.interactive.inputs import Picture, normalise_window
from isocenter.models.interactive.plane import PlaneModel

__all__ = ["BANDS", "describe_volume", "doubt_of_volume"]

BANDS = 4
"""A volume is described in so many parts, from its first slice to its last."""


def describe_volume(model: PlaneModel, volume: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, " width"]:
    """Return the coarsest features of the image encoder, averaged over a plane, of a plane in the middle of each band.

    A single plane is described once, so that pictures are compared with pictures and volumes with volumes.

    Args:
        model: Of planes.
        volume: One channel; what is not finite takes the median.
    """
    bands = BANDS if len(volume) > 1 else 1
    indices = [min(int((band + 0.5) / bands * len(volume)), len(volume) - 1) for band in range(bands)]
    squares = []
    for index in indices:
        plane = np.asarray(volume[index], dtype=np.float32)
        finite = np.isfinite(plane)
        if not finite.all():
            plane = np.where(finite, plane, np.float32(np.median(plane[finite]) if finite.any() else 0.0))
        window = model.whole((plane.shape[0], plane.shape[1]))
        cut = window.cut(plane, outside=float(np.percentile(plane, 0.5)))
        squares.append(Picture.of(normalise_window(cut)).channels())
    with torch.inference_mode():
        coarsest = model.net.encode(torch.from_numpy(np.stack(squares))).levels[-1]
        pooled = coarsest.float().flatten(2).mean(dim=2)
    return np.asarray(pooled.flatten().double().numpy())


def doubt_of_volume(
    model: PlaneModel, volume: Float[np.ndarray, "z y x"], confirmed: Confirmed, *, planes: int = 4
) -> float:
    """Return how unsure the network is of an image that it answers from confirmed cases: 1 - the Dice it expects.

    Args:
        model: Of planes.
        volume: One channel.
        confirmed: Cases, at least one.
        planes: So many, evenly spread, are answered; fewer where there are fewer.
    """
    count = min(planes, len(volume))
    areas, qualities = [], []
    for number in range(count):
        height = (number + 0.5) / count
        plane = model.open(np.asarray(volume[int(height * len(volume))], dtype=np.float32))
        answer = plane.answer([], context=confirmed.at(height))
        areas.append(float((answer.probability >= 0.5).sum()))
        qualities.append(answer.quality)
    iou = float(np.average(qualities, weights=areas)) if any(areas) else 0.0
    return 1 - 2 * iou / (1 + iou)
