"""Values to grey: which window a picture is shown in, and the words that say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8

from isocenter.core import Image, Mask, Quantity

__all__ = ["Window", "choose_window", "in_colour", "to_grey"]

_SOFT_TISSUE, _BRAIN, _LUNG = (40.0, 400.0), (40.0, 80.0), (-600.0, 1500.0)
_HEADS = ("BRAIN", "HEAD", "SKULL")
_AIR_FILLED_HU = -300.0
_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5


@dataclass(frozen=True)
class Window:
    """Values shown black and white, and why these.

    Args:
        low: Shown black, and all below.
        high: Shown white, and all above.
        words: What it is and where it comes from, for the caption.
        inverted: Whether low values are shown white.
    """

    low: float
    high: float
    words: str
    inverted: bool = False


def in_colour(image: Image) -> bool:
    """Tell whether an image is drawn in colour: its channels are red, green and blue, not echoes or time points."""
    return image.quantity is Quantity.RGB and image.array.shape[0] == 3


def choose_window(image: Image, mask: Mask | None = None) -> Window:
    """Choose how to show an image.

    CT: the first window of the header; else lung where the segments are mostly air, brain for a head, soft tissue for
    the rest. SUV: 0 to the 99.9th percentile or 5, whichever is higher, high uptake dark, as is usual. 8-bit and colour
    images: as stored. All else: the header's window, or the 0.5th to 99.5th percentile.
    """
    inverted = str(image.meta.get("PhotometricInterpretation", "")).upper() == "MONOCHROME1"
    if image.quantity is Quantity.RGB or (image.array.dtype == np.uint8 and not image.window):
        return Window(0.0, 255.0, "grey values as stored", inverted)
    if image.quantity is Quantity.SUVBW:
        high = max(5.0, float(np.percentile(_sample(image.array), 99.9)))
        return Window(0.0, high, f"SUV 0 to {high:.1f}, high uptake dark", inverted=True)
    if image.window and image.window[0][1] > 0:
        centre, width = image.window[0]
        unit = " HU" if image.quantity is Quantity.HU else ""
        words = f"window {centre:g} / {width:g}{unit} from the header"
        return Window(centre - width / 2, centre + width / 2, words, inverted)
    if image.quantity is Quantity.HU:
        return _default_ct(image, mask)
    sample = _sample(image.array)
    low, high = np.percentile(sample, (_LOW_PERCENTILE, _HIGH_PERCENTILE)).tolist() if len(sample) else (0.0, 1.0)
    if high <= low:
        high = low + 1.0
    return Window(low, high, f"window {low:.4g} to {high:.4g}, the 0.5th to 99.5th percentile", inverted)


def _default_ct(image: Image, mask: Mask | None) -> Window:
    name, (centre, width) = "soft tissue", _SOFT_TISSUE
    if image.body_part.upper() in _HEADS:
        name, (centre, width) = "brain", _BRAIN
    if mask is not None and mask.segments:
        inside = image.array[0][(mask.array > 0) if mask.is_labelmap else (mask.array >= 0.5).any(axis=0)]
        if len(inside) and float(np.median(inside[:: max(1, len(inside) // 100_000)])) < _AIR_FILLED_HU:
            name, (centre, width) = "lung", _LUNG
    words = f"{name} window {centre:g} / {width:g} HU, a default: the header has none"
    return Window(centre - width / 2, centre + width / 2, words)


def _sample(array: Shaped[np.ndarray, "c z y x"]) -> Shaped[np.ndarray, "n"]:
    step = [max(1, n // 96) for n in array.shape[1:]]
    values = array[0, :: step[0], :: step[1], :: step[2]].ravel()
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def to_grey(pixels: Shaped[np.ndarray, "c h w"], window: Window, *, colour: bool) -> UInt8[np.ndarray, "h w k"]:
    """Map values to 0-255: (h, w, 1), or (h, w, 3) for a colour image; voxels that are not finite are black."""
    kept = pixels[:3] if colour else pixels[:1]
    scaled = (kept.astype(np.float32) - window.low) / (window.high - window.low)
    scaled = np.nan_to_num(np.clip(scaled, 0, 1), nan=0.0)
    if window.inverted:
        scaled = 1 - scaled
    return np.asarray((scaled * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
