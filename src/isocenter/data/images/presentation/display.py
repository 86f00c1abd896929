"""How the image under a drawing is shown: its window, rescale and polarity, as its own header states them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import ImageCms
from pydicom import Dataset

from isocenter.core.errors import DataError
from isocenter.data.images.seg.sources import SourcePlane

__all__ = ["describe_display", "is_colour"]

_PROFILE_DATE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)


def is_colour(headers: Sequence[Dataset]) -> bool:
    """Tell whether images are in colour.

    Raises:
        DataError: Some are and some are not.
    """
    found = {int(h.get("SamplesPerPixel") or 1) > 1 or h.get("PhotometricInterpretation") == "PALETTE COLOR"
             for h in headers}  # fmt: skip
    if len(found) > 1:
        raise DataError("images in grey and in colour can't share a presentation state; pass one series")
    return found.pop()


def describe_display(dataset: Dataset, headers: Sequence[Dataset], planes: Sequence[SourcePlane]) -> None:
    """State area, window, rescale and polarity (or a colour profile) in a presentation state.

    Args:
        dataset: The state.
        headers: Of the images that it shows.
        planes: That something is drawn on.

    Raises:
        DataError: The images' rescale differs, which one state can't say.

    Source:
        DICOM PS3.3 C.10.4 (Displayed Area), C.11.1 (Modality LUT), C.11.8 (Softcopy VOI LUT), C.11.6 (Softcopy
        Presentation LUT), C.11.15 (ICC Profile).
    """
    dataset.DisplayedAreaSelectionSequence = _areas(headers, planes)
    if is_colour(headers):
        dataset.ICCProfile = _srgb()
        return
    rescales = {_rescale(h) for h in headers}
    if len(rescales) > 1:
        raise DataError("the images have not one rescale for all, and a presentation state states one")
    rescale = rescales.pop()
    if rescale is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = rescale
    windows = _windows(headers)
    if windows:
        dataset.SoftcopyVOILUTSequence = windows
    inverse = any(
        h.get("PhotometricInterpretation") == "MONOCHROME1" or h.get("PresentationLUTShape") == "INVERSE"
        for h in headers
    )
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"


def _areas(headers: Sequence[Dataset], planes: Sequence[SourcePlane]) -> list[Dataset]:
    """Return the whole of each image, scaled to fit; images of one size share an item."""
    by_size: dict[tuple[int, int, tuple[float, float] | None], list[Dataset]] = {}
    for header in headers:
        plane = next(p for p in planes if p.sop_instance_uid == str(header.SOPInstanceUID))
        by_size.setdefault((*plane.shape, _spacing(header, plane)), []).append(header)
    items = []
    for (rows, columns, spacing), here in by_size.items():
        item = Dataset()
        if len(by_size) > 1:
            item.ReferencedImageSequence = [_reference(h) for h in here]
        item.DisplayedAreaTopLeftHandCorner = [1, 1]
        item.DisplayedAreaBottomRightHandCorner = [columns, rows]
        item.PresentationSizeMode = "SCALE TO FIT"
        if spacing is None:
            item.PresentationPixelAspectRatio = ["1", "1"]
        else:
            item.PresentationPixelSpacing = [f"{v:.10g}" for v in spacing]
        items.append(item)
    return items


def _spacing(header: Dataset, plane: SourcePlane) -> tuple[float, float] | None:
    """Return the spacing of rows and of columns, in mm."""
    if plane.corners_lps_mm is not None:
        column_mm, row_mm = np.linalg.norm(plane.corners_lps_mm[:, 1:], axis=0).tolist()
        return round(float(row_mm), 6), round(float(column_mm), 6)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = header.get(keyword)
        if found is not None and len(found) == 2 and all(float(v) > 0 for v in found):
            return float(found[0]), float(found[1])
    return None


def _rescale(header: Dataset) -> tuple[str, str, str] | None:
    item = _group(header, "PixelValueTransformationSequence") or header
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    if slope is None or intercept is None:
        return None
    kind = str(item.get("RescaleType") or ("HU" if header.get("Modality") == "CT" else "US"))
    return str(intercept), str(slope), kind


def _windows(headers: Sequence[Dataset]) -> list[Dataset]:
    """Return the windows that the headers state; images of one window share an item."""
    found: dict[tuple[tuple[str, ...], ...], list[Dataset]] = {}
    for header in headers:
        item = _group(header, "FrameVOILUTSequence") or header
        centre, width = _many(item.get("WindowCenter")), _many(item.get("WindowWidth"))
        if centre and len(centre) == len(width) and all(float(w) >= 1 for w in width):
            found.setdefault((centre, width, _many(item.get("VOILUTFunction"))), []).append(header)
    items = []
    for (centre, width, function), here in found.items():
        item = Dataset()
        if len(here) < len(headers):
            item.ReferencedImageSequence = [_reference(h) for h in here]
        item.WindowCenter, item.WindowWidth = list(centre), list(width)
        if function:
            item.VOILUTFunction = function[0]
        items.append(item)
    return items


def _many(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (str(value),) if isinstance(value, str | int | float) else tuple(map(str, value))


def _group(header: Dataset, sequence: str) -> Dataset | None:
    """Return the functional group that holds for all frames, or for the first."""
    for outer in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in header.get(outer) or ():
            if item.get(sequence):
                found: Dataset = item[sequence].value[0]
                return found
    return None


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = str(header.SOPClassUID), str(header.SOPInstanceUID)
    return item


@cache
def _srgb() -> bytes:
    """Return a profile of sRGB, with a date that is always the same."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + _PROFILE_DATE + made[36:] + b"\0" * (len(made) % 2)
