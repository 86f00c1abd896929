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

    Of images of several frames, what holds for the frames that something is drawn on.

    Args:
        dataset: The state.
        headers: Of the images that it shows.
        planes: That something is drawn on.

    Raises:
        DataError: The rescale of images or of frames differs, which one state can't say.

    Source:
        DICOM PS3.3 C.10.4 (Displayed Area), C.11.1 (Modality LUT), C.11.8 (Softcopy VOI LUT), C.11.6 (Softcopy
        Presentation LUT), C.11.15 (ICC Profile).
    """
    dataset.DisplayedAreaSelectionSequence = _areas(headers, planes)
    if is_colour(headers):
        dataset.ICCProfile = _srgb()
        return
    frames = [(h, _frames(h, planes)) for h in headers]
    rescales = {r for h, numbers in frames for r in _rescales(h, numbers)}
    tables = {
        t.to_json(): t for h in headers if h.get("ModalityLUTSequence") for t in [_table(h.ModalityLUTSequence[0])]
    }
    some = [bool(h.get("ModalityLUTSequence")) for h in headers]
    if len(rescales) > 1 or len(tables) > 1 or (any(some) and not all(some)):
        raise DataError("the images or their frames have not one rescale for all, and a presentation state states one")
    rescale = rescales.pop()
    if tables:  # a header has one of both (PS3.3 C.11.1)
        dataset.ModalityLUTSequence = list(tables.values())
    elif rescale is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = rescale
    windows = _windows(frames)
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


def _frames(header: Dataset, planes: Sequence[SourcePlane]) -> tuple[int, ...]:
    """Return the numbers of the frames that something is drawn on; none for an image of one frame."""
    uid = str(header.SOPInstanceUID)
    return tuple(sorted({p.frame_number for p in planes if p.sop_instance_uid == uid and p.frame_number is not None}))


def _rescales(header: Dataset, frames: Sequence[int]) -> set[tuple[str, str, str] | None]:
    found: set[tuple[str, str, str] | None] = set()
    for _, item in _groups(header, "PixelValueTransformationSequence", frames):
        slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
        kind = str(item.get("RescaleType") or ("HU" if header.get("Modality") == "CT" else "US"))
        found.add(None if slope is None or intercept is None else (str(intercept), str(slope), kind))
    return found


def _windows(images: Sequence[tuple[Dataset, tuple[int, ...]]]) -> list[Dataset]:
    """Return the windows, or else the tables, that the headers state; images and frames of one share an item."""
    found: dict[str, tuple[Dataset, dict[int, list[int]]]] = {}
    for place, (header, frames) in enumerate(images):
        for number, item in _groups(header, "FrameVOILUTSequence", frames):
            voi = _voi(item)
            if voi is not None:
                numbers = found.setdefault(voi.to_json(), (voi, {}))[1].setdefault(place, [])
                numbers += [] if number is None else [number]
    for voi, here in found.values():
        parts = [(images[place], numbers) for place, numbers in here.items()]
        if len(parts) < len(images) or any(numbers != list(frames) for (_, frames), numbers in parts):
            voi.ReferencedImageSequence = [_reference(header, numbers) for (header, _), numbers in parts]
    return [voi for voi, _ in found.values()]


def _voi(item: Dataset) -> Dataset | None:
    """Return an item of the Softcopy VOI LUT Sequence: a window, or where there is none the table; None for neither."""
    made = Dataset()
    centre, width = _many(item.get("WindowCenter")), _many(item.get("WindowWidth"))
    if centre and len(centre) == len(width) and all(float(w) >= 1 for w in width):
        made.WindowCenter, made.WindowWidth = list(centre), list(width)
        function = _many(item.get("VOILUTFunction"))
        if function:
            made.VOILUTFunction = function[0]
        return made
    if item.get("VOILUTSequence"):
        made.VOILUTSequence = [_table(one) for one in item.VOILUTSequence]
        return made
    return None


def _table(item: Dataset) -> Dataset:
    """Return a copy of a look-up table whose VRs hang on nothing that the image's header says elsewhere."""
    made = Dataset()
    descriptor = [int(v) for v in item.LUTDescriptor]
    made.add_new("LUTDescriptor", "SS" if min(descriptor) < 0 else "US", descriptor)
    data = item.LUTData
    made.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    for word in ("LUTExplanation", "ModalityLUTType"):
        if item.get(word):
            setattr(made, word, item[word].value)
    return made


def _many(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (str(value),) if isinstance(value, str | int | float) else tuple(map(str, value))


def _groups(header: Dataset, sequence: str, frames: Sequence[int]) -> list[tuple[int | None, Dataset]]:
    """Return where an image says something of each of some frames: in a functional group, or else in its header."""
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    each = header.get("PerFrameFunctionalGroupsSequence") or ()

    def of(group: Dataset) -> Dataset | None:
        return group[sequence].value[0] if group.get(sequence) else None

    if not frames:
        return [(None, of(shared) or header)]
    return [
        (number, of(shared) or (of(each[number - 1]) if number <= len(each) else None) or header) for number in frames
    ]


def _reference(header: Dataset, frames: Sequence[int] = ()) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = str(header.SOPClassUID), str(header.SOPInstanceUID)
    if frames:
        item.ReferencedFrameNumber = [str(f) for f in frames] if len(frames) > 1 else str(frames[0])
    return item


@cache
def _srgb() -> bytes:
    """Return a profile of sRGB, with a date that is always the same."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + _PROFILE_DATE + made[36:] + b"\0" * (len(made) % 2)
