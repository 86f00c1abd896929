"""What happens to pixels before and after a segmentation network: shared by training and by the tasks.

Training and inference must prepare pixels with the very same code, or the network sees something it never learnt;
`learn` and `tasks` never import each other, so it lives here. Everything is numpy and scipy: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from isocenter.core.errors import PixelError

__all__ = ["Letterbox", "keep_largest", "normalise", "pad_to_multiple"]


def normalise(
    array: Float[np.ndarray, "*space"], *, low_percent: float = 0.5, high_percent: float = 99.5
) -> Float[np.ndarray, "*space"]:
    """Clip to two percentiles, then shift and scale to mean 0 and standard deviation 1.

    Args:
        array: Intensities in any unit.
        low_percent: Lower percentile.
        high_percent: Upper percentile.

    Raises:
        PixelError: A value is not finite, or the image is flat.

    Example:
        >>> normalise(np.array([0.0, 1.0, 2.0, 3.0])).mean().round(6)
        np.float32(0.0)
    """
    if not np.isfinite(array).all():
        raise PixelError("the image holds values that are not finite (NaN or infinity); repair or crop it first")
    low, high = np.percentile(array, (low_percent, high_percent))
    clipped = np.clip(array.astype(np.float64), low, high)
    spread = clipped.std()
    if not high > low or spread <= 1e-12 * max(1.0, abs(high)):
        raise PixelError("the image is flat: its intensities do not vary, so there is nothing to outline")
    normalised: Float[np.ndarray, "*space"] = ((clipped - clipped.mean()) / spread).astype(np.float32)
    return normalised


@dataclass(frozen=True)
class Letterbox:
    """A picture fitted into a square without changing its aspect, and the way back.

    Args:
        rows: Rows of the picture.
        columns: Columns of the picture.
        side: Side of the square in pixels.
    """

    rows: int
    columns: int
    side: int

    @property
    def scale(self) -> float:
        """Pixels of the square per pixel of the picture."""
        return self.side / max(self.rows, self.columns)

    def forward(self, picture: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "side side"]:
        """Fit a picture into the square by area-true smoothing and linear interpolation; outside is 0."""
        sigma = max(0.0, 0.5 * (1 / self.scale - 1))
        smooth = ndimage.gaussian_filter(picture, sigma) if sigma > 0 else picture
        return self._resample(smooth, (self.side, self.side), self._offset(), 1 / self.scale)

    def backward(self, square: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "rows columns"]:
        """Bring values of the square (probabilities) back to the pixels of the picture, linearly."""
        top, left = self._offset()
        offset = (-top * self.scale, -left * self.scale)
        return self._resample(square, (self.rows, self.columns), offset, self.scale)

    def _offset(self) -> tuple[float, float]:
        """Picture index of the centre of pixel (0, 0) of the square: both centres coincide."""
        step, half = 1 / self.scale, (self.side - 1) / 2
        return (self.rows - 1) / 2 - half * step, (self.columns - 1) / 2 - half * step

    @staticmethod
    def _resample(
        array: Float[np.ndarray, "a b"], shape: tuple[int, int], offset: tuple[float, float], step: float
    ) -> Float[np.ndarray, "c d"]:
        # grid-constant: the half pixel beyond the border fades to 0 instead of being cut.
        out: Float[np.ndarray, "c d"] = ndimage.affine_transform(
            array.astype(np.float32), (step, step), offset, shape, order=1, mode="grid-constant", cval=0.0
        )
        return out


def pad_to_multiple(
    array: Float[np.ndarray, "*space"], multiple: int
) -> tuple[Float[np.ndarray, "*padded"], tuple[slice, ...]]:
    """Pad with 0 to sides that are a multiple of a number, centred.

    Args:
        array: Normalised intensities (0 is their mean).
        multiple: What the network needs.

    Returns:
        The padded array, and the slices that cut the original out of it.

    Example:
        >>> padded, inner = pad_to_multiple(np.ones((3, 8), np.float32), 4)
        >>> padded.shape, padded[inner].shape
        ((4, 8), (3, 8))
    """
    extra = [-n % multiple for n in array.shape]
    padded = np.pad(array, [(e // 2, e - e // 2) for e in extra])
    return padded, tuple(slice(e // 2, e // 2 + n) for e, n in zip(extra, array.shape, strict=True))


def keep_largest(
    labels: Integer[np.ndarray, "*space"], count: int, *, least_share: float = 0.0
) -> Integer[np.ndarray, "*space"]:
    """Keep the largest connected parts of the foreground (all labels together, corners touching), drop the rest.

    Args:
        labels: Class numbers, 0 is background.
        count: How many parts may stay.
        least_share: A part smaller than this share of the largest goes too.

    Example:
        >>> keep_largest(np.array([[1, 1, 0, 2]]), 1).tolist()
        [[1, 1, 0, 0]]
    """
    everywhere = np.ones((3,) * labels.ndim, dtype=bool)
    parts, found = ndimage.label(labels > 0, everywhere)
    if found <= 1:
        return labels
    sizes = np.bincount(parts.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")[:count]
    chosen = [int(i) + 1 for i in order if sizes[i] >= least_share * sizes[order[0]]]
    kept: Bool[np.ndarray, "*space"] = np.isin(parts, chosen)
    return np.where(kept, labels, 0).astype(labels.dtype)
