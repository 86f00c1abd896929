"""Open one DICOM file, or say in one line why not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from isocenter.core.errors import DataError
from isocenter.data.images.quiet import quiet

__all__ = ["UNREADABLE", "open_instance"]

UNREADABLE = (
    ValueError, LookupError, TypeError, EOFError, NotImplementedError, AttributeError, OverflowError, RecursionError,
    struct.error, zlib.error, BytesLengthException,
)  # fmt: skip
"""What pydicom raises at damaged bytes; of an element when it is first looked at, long after the file was opened."""


@quiet()
def open_instance(path: Path, *, pixels: bool = True) -> Dataset:
    """Read a DICOM file, also one without the preamble that old writers left out.

    Args:
        path: The file.
        pixels: False stops before the pixel data.

    Raises:
        DataError: Not there, no permission, not DICOM, or damaged beyond reading.
    """
    try:
        try:
            dataset: Dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError:
            # Without a preamble pydicom guesses aloud; whether the guess was right is seen by the SOP Class.
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
            if not dataset.get("SOPClassUID"):
                raise DataError("not a DICOM file", source=path.name) from None
    except DataError:
        raise
    except OSError as error:
        raise DataError("cannot be read; check that it is there and complete", source=path.name) from error
    except UNREADABLE as error:
        raise DataError("not a DICOM file, or a damaged one", source=path.name) from error
    return dataset
