"""A phantom for checking networks: a symmetric body, and one bright ball that lies on one side of it.

Its sides differ on purpose, its axes are unequal in what they hold, and without the ball it is its own mirror image:
whatever changes in an answer when the ball comes in, is the ball's doing, and lies where the network puts it.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float

from isocenter.models.passport.document import Scaling

__all__ = ["BALL", "prepare", "sided_phantom"]

BALL = {"z": 0.3, "y": 0.34, "x": 0.26}
"""Middle of the ball on the left of the array, as a share of each side: in the first half along every axis."""
_RADIUS = 0.14
_T = TypeVar("_T")
_AIR, _TISSUE, _BONE = -1000.0, 40.0, 400.0


def sided_phantom(size: tuple[int, ...], axes: str, ball: Literal["low", "high"] | None) -> Float[np.ndarray, "*space"]:
    """Return a phantom in Hounsfield units, float32.

    Args:
        size: Sides in voxels, in the order of `axes`.
        axes: Order of the axes, e.g. "zyx".
        ball: Where along x the ball lies: "low" indices, or their mirror image; None for no ball.

    Example:
        >>> one, other = (sided_phantom((24, 32), "yx", side) for side in ("low", "high"))
        >>> bool((one[:, ::-1] == other).all())
        True
    """
    places = np.meshgrid(*((np.arange(n) + 0.5) / n for n in size), indexing="ij")
    where = dict(zip(axes, places, strict=True))
    # What depends on x depends on the distance from the middle alone, so that the body is its own mirror image.
    beside = np.abs(where["x"] - 0.5)
    body = sum(((place - 0.5) / 0.45) ** 2 for place in places) <= 1
    texture = sum(
        np.cos((7 + 5 * i) * np.pi * (beside if axis == "x" else place))
        for i, (axis, place) in enumerate(where.items())
    )
    values = np.where(body, _TISSUE + 15 * texture, _AIR)
    if ball is not None:
        x = where["x"] if ball == "low" else 1 - where["x"]
        near = sum(((x if axis == "x" else place) - BALL[axis]) ** 2 for axis, place in where.items())
        values = np.where(near <= _RADIUS**2, _BONE, values)
    return values.astype(np.float32)


def prepare(
    values: Float[np.ndarray, "*space"], channels: int, scaling: Scaling | None, reach: tuple[float, float] | None
) -> Float[np.ndarray, "channels *space"]:
    """Bring a phantom to what the network takes.

    Args:
        values: In Hounsfield units.
        channels: All get the same picture, each prepared with its own numbers.
        scaling: How the source says that intensities are prepared.
        reach: The range that reaches the network; used where no scaling is stated.
    """
    out = []
    for channel in range(channels):
        x = values.astype(np.float64)
        if scaling is None or scaling.unit != "HU":
            x = np.clip((x - _AIR) / (_BONE - _AIR), 0, 1)
        if scaling is None:
            low, high = reach if reach is not None else (0.0, 1.0)
            out.append(low + x * (high - low))
            continue
        if scaling.unit == "8-bit":
            x = np.rint(x * 255)
        elif scaling.unit == "arbitrary" and scaling.clip:
            low, high = _of(scaling.clip, channel)
            x = low + x * (high - low)
        if scaling.clip:
            x = np.clip(x, *_of(scaling.clip, channel))
        if scaling.by_image:
            x = (x - x.mean()) / max(float(x.std()), 1e-8)
        else:
            x = x * scaling.factor - (_of(scaling.mean, channel) if scaling.mean else 0.0)
            x = x / (_of(scaling.std, channel) if scaling.std else 1.0)
        out.append(x)
    return np.stack(out).astype(np.float32)


def _of(values: tuple[_T, ...], channel: int) -> _T:
    """Return a channel's value; one value may stand for all."""
    return values[min(channel, len(values) - 1)]
