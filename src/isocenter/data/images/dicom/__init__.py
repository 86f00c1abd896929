"""DICOM in: files to a `Study`, grouped and ordered by geometry, every value and every millimetre from the header.

The way of a file: `header` scans it, `plane` turns it (or each of its frames) into planes with a place, `stack` groups
and orders planes into grids, `pixels` decodes them in place, `facts` and `suv` say what the numbers mean, `resample`
straightens irregular grids on request, `prepared` is an image before its pixels are decoded, and `read` puts it
together and keeps what was refused.
"""

from __future__ import annotations

from isocenter.data.images.dicom.headers import DicomHeaders
from isocenter.data.images.dicom.read import OpenedDicom, open_dicom, read_dicom

__all__ = ["DicomHeaders", "OpenedDicom", "open_dicom", "read_dicom"]
