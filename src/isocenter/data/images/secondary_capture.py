"""DICOM Secondary Capture: a picture (a report page, an overlay) that belongs to the patient's study."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from isocenter.core.errors import ConfigError, PixelError
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import MANUFACTURER, Origin, content_time, new_object
from isocenter.data.images.quiet import quiet

__all__ = ["write_secondary_capture"]


@quiet()
def write_secondary_capture(
    picture: Shaped[np.ndarray, "..."],
    path: Path,
    *,
    headers: Sequence[Dataset],
    description: str = "Isocenter report page",
    burned_in: bool = True,
    created: datetime | None = None,
) -> str:
    """Write an RGB picture as a Secondary Capture.

    It has no place in the patient: nothing on it may be measured, and no pixel spacing is written.

    Args:
        picture: (y, x, 3) bytes: rows, columns, red-green-blue.
        path: Final file name; appears only when the pixels were read back.
        headers: Of the image the picture speaks of.
        description: Series Description, 1 to 64 characters.
        burned_in: Whether text that identifies the patient may stand in the pixels. True unless the caller knows that
            neither the page nor the image under it holds any, because archives strip or keep pixels by this flag.
        created: Date and time of making; None takes those of the source.

    Returns:
        The SOP Instance UID.

    Raises:
        ConfigError: The description is not one that DICOM can hold.
        DataError: No header, or the file cannot be written.
        PixelError: Not an RGB picture of bytes, too large, or not read back as written.

    Source:
        DICOM PS3.3 A.8.1.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise PixelError(f"a picture must be (y, x, 3) bytes, got shape {picture.shape} of {picture.dtype}")
    if min(picture.shape[:2]) < 1 or max(picture.shape[:2]) > 65535:
        raise PixelError(f"a picture must have 1 to 65535 rows and columns, got {picture.shape[:2]}")
    if not 1 <= len(description) <= 64 or "\\" in description:
        raise ConfigError("a description must have 1 to 64 characters and no backslash")
    pixels = np.ascontiguousarray(picture)
    digest = hashlib.sha256(repr((pixels.shape, burned_in, created)).encode())
    digest.update(pixels.data)
    origin = Origin(SecondaryCaptureImageStorage, "OT", description, 9401, (digest.hexdigest(),), created)
    dataset = new_object(headers, origin)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.ContentDate, dataset.ContentTime = content_time(headers, created)
    dataset.Laterality = str(headers[0].get("Laterality") or "")
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "YES" if burned_in else "NO"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression = "00"
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        if not np.array_equal(pydicom.dcmread(temporary).pixel_array, pixels):
            raise PixelError("the picture read back differs from the one written; nothing was kept")
    return str(dataset.SOPInstanceUID)
