"""Grey windows that a page offers for an image: by modality, from its header, or from its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Quantity
from isocenter.viewer.ports import Window

__all__ = ["CT", "sampled", "windows_of"]

CT = (
    Window("soft tissue", 40.0, 400.0),
    Window("lung", -600.0, 1500.0),
    Window("bone", 450.0, 1800.0),
    Window("brain", 40.0, 80.0),
    Window("mediastinum", 50.0, 350.0),
    Window("liver", 60.0, 160.0),
)
"""Usual windows in HU."""
_HEADS = ("BRAIN", "HEAD", "SKULL")
_LUNGS = ("LUNG", "LUNGS")
_AIR_HU = -500.0
_SAMPLES = 96


def sampled(array: Shaped[np.ndarray, "c z y x"]) -> Shaped[np.ndarray, "n"]:
    """Return a few of an image's finite values, from all over it."""
    step = [max(1, n // _SAMPLES) for n in array.shape[1:]]
    values = array[:, :: step[0], :: step[1], :: step[2]].ravel()
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def windows_of(
    values: Shaped[np.ndarray, "n"],
    *,
    quantity: Quantity,
    modality: str = "",
    body_part: str,
    header: Sequence[tuple[float, float]],
    eight_bits: bool,
) -> tuple[Window, ...]:
    """Return the windows of an image, best first.

    Args:
        values: Some of its values.
        quantity: What they mean.
        modality: DICOM modality, "" where not known.
        body_part: DICOM body part, "" where not known.
        header: (centre, width) of its header.
        eight_bits: Whether it is stored in 8 bits, or is in colour.

    Example:
        >>> some = np.array([0, 1000])
        >>> found = windows_of(some, quantity=Quantity.HU, body_part="BRAIN", header=(), eight_bits=False)
        >>> found[0].name, len(found)
        ('brain', 7)
    """
    stated = [Window("header" if n == 0 else f"header {n + 1}", float(c), float(w)) for n, (c, w) in enumerate(header)]
    stated = [w for w in stated if w.width > 0 and np.isfinite([w.centre, w.width]).all()]
    low, high = (np.percentile(values, (0.5, 99.5)).tolist()) if len(values) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    spread = Window("values", (low + high) / 2, high - low)
    if eight_bits and not stated:
        return (Window("as stored", 127.5, 255.0), spread)
    # A NIfTI says no unit; a CT whose values begin at air's is in HU all the same.
    looks_like_hu = quantity is Quantity.ARBITRARY and modality == "CT" and low <= _AIR_HU
    if quantity is Quantity.HU or looks_like_hu:
        part = body_part.upper()
        first = "brain" if part in _HEADS else "lung" if part in _LUNGS else "soft tissue"
        usual = sorted(CT, key=lambda window: window.name != first)
        return (*usual, *stated, spread)
    if quantity is Quantity.SUVBW:
        # 5 where nothing is hotter, as on the page of a reading.
        top = max(5.0, float(np.percentile(values, 99.9)) if len(values) else 5.0)
        return (
            Window("SUV 0-5", 2.5, 5.0),
            Window("SUV 0-10", 5.0, 10.0),
            Window(f"SUV 0-{top:.0f}", top / 2, top),
            *stated,
        )
    return (*stated, spread)
