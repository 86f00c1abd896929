"""Whether instances that are stored in different transfer syntaxes hold the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from isocenter.core.errors import DataError
from isocenter.data.images.dicom.header import whole_header
from isocenter.data.images.quiet import quiet

__all__ = ["same_pixels"]


def same_pixels(root: Path, places: list[str]) -> bool:
    """Tell whether files decode to equal pixels; one that can't be decoded is equal to none.

    Args:
        root: Of the archive.
        places: The files, relative to it.
    """
    first = None
    for place in places:
        try:
            with quiet(), whole_header(place):
                array = pydicom.dcmread(root / place).pixel_array
        except (DataError, RuntimeError, OSError):
            return False
        if first is None:
            first = array
        elif array.shape != first.shape or not np.array_equal(array, first):
            return False
    return first is not None
