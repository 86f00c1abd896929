"""The grid of an image, from what the server tells of it."""

from __future__ import annotations

import numpy as np

from isocenter.core import Geometry
from isocenter.viewer.ports import ImageItem

__all__ = ["geometry_of"]


def geometry_of(item: ImageItem) -> Geometry:
    """Return the grid of an image from what is told of it."""
    if item.affine_zyx_to_lps_mm is not None:
        affine = np.array(item.affine_zyx_to_lps_mm, dtype=np.float64)
        return Geometry(item.shape_zyx, affine, item.frame, stack=item.stack)
    return Geometry(
        item.shape_zyx,
        None,
        pixel_spacing_mm=item.pixel_spacing_mm,
        patient_orientation=item.patient_orientation,
        stack=item.stack,
    )
