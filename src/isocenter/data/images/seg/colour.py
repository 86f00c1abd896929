"""sRGB to the CIELab values that DICOM stores as the recommended colour of a segment, and back."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["from_dicom_lab", "to_dicom_lab"]

# sRGB (IEC 61966-2-1) to XYZ, chromatically adapted to D50 (Bradford), the white of the ICC profile connection space.
_TO_XYZ = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
_WHITE = _TO_XYZ.sum(axis=1)
_DELTA = 6 / 29


def to_dicom_lab(colour: tuple[int, int, int]) -> list[int]:
    """Encode an sRGB colour (0-255) as Recommended Display CIELab Value.

    Source:
        DICOM PS3.3 C.10.7.1.1: L* 0..100 and a*, b* -128..127 are each scaled to 0..65535.

    Example:
        >>> to_dicom_lab((255, 255, 255))
        [65535, 32896, 32896]
    """
    srgb = np.asarray(colour, dtype=np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = _forward(_TO_XYZ @ linear / _WHITE)
    lab = np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    scaled = (lab + np.array([0, 128, 128])) * np.array([65535 / 100, 257, 257])
    return [int(v) for v in np.clip(np.rint(scaled), 0, 65535)]


def from_dicom_lab(values: list[int]) -> tuple[int, int, int]:
    """Decode Recommended Display CIELab Value into an sRGB colour (0-255), clipped to the gamut.

    Example:
        >>> from_dicom_lab(to_dicom_lab((230, 80, 60)))
        (230, 80, 60)
    """
    lightness, a, b = np.asarray(values, dtype=np.float64) / [65535 / 100, 257, 257] - [0, 128, 128]
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(f > _DELTA, f**3, 3 * _DELTA**2 * (f - 4 / 29)) * _WHITE
    linear = np.clip(np.linalg.solve(_TO_XYZ, xyz), 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(v) for v in np.rint(srgb * 255))
    return (red, green, blue)


def _forward(t: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    out: Float[np.ndarray, "3"] = np.where(t > _DELTA**3, np.cbrt(t), t / (3 * _DELTA**2) + 4 / 29)
    return out
