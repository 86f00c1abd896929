"""Per-frame functional groups, read without building an object per frame.

A SEG of 100 segments has thousands of frames, and a toolkit spends seconds on their object tree. Where the groups are
stored as Explicit VR Little Endian with defined lengths (what nearly every tool writes), the few values a mask needs
are picked from the bytes. Any other layout goes through pydicom: slower, same answer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset

from isocenter.core.errors import GeometryError, PixelError

__all__ = ["FrameTable", "Place", "frame_table"]

PER_FRAME_GROUPS = 0x52009230

_ITEM = b"\xfe\xff\x00\xe0"
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_DERIVATION = b"\x08\x00\x24\x91"
_CONTENT = b"\x20\x00\x11\x91"
_POSITION = b"\x20\x00\x13\x91"
_ORIENTATION = b"\x20\x00\x16\x91"
_MEASURES = b"\x28\x00\x10\x91"
_IDENTIFICATION = b"\x62\x00\x0a\x00"
_SLIDE_POSITION = b"\x48\x00\x1a\x02"
_IN_STACK_POSITION = b"\x20\x00\x57\x90"
_IMAGE_POSITION = b"\x20\x00\x32\x00"
_SOURCE_IMAGE = b"\x08\x00\x12\x21"
# Referenced SOP Class UID, SOP Instance UID, Frame Number
_REFERENCE = (b"\x08\x00\x50\x11", b"\x08\x00\x55\x11", b"\x08\x00\x60\x11")
_SEGMENT_NUMBER = b"\x62\x00\x0b\x00"


@dataclass(frozen=True)
class Place:
    """Where a frame lies, and what it was made from.

    Args:
        position_lps_mm: Image Position (Patient), None without one.
        orientation: Image Orientation (Patient), None without one.
        pixel_spacing_mm: (row, column) spacing, None where not stated.
        slice_thickness_mm: Slice Thickness, None where not stated.
        spacing_between_slices_mm: Spacing Between Slices, None where not stated.
        stack_position: In-Stack Position Number, None where not stated.
        source: (SOP class, SOP instance, frame number) of the source image, None where not stated.
    """

    position_lps_mm: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    spacing_between_slices_mm: float | None = None
    stack_position: int | None = None
    source: tuple[str, str, int | None] | None = None


@dataclass(frozen=True)
class FrameTable:
    """What the frames of a SEG are.

    Args:
        segments: Referenced Segment Number per frame; None where the frame names none (a label map).
        places: Index into `distinct` per frame.
        distinct: The different places.
    """

    segments: tuple[int | None, ...]
    places: tuple[int, ...]
    distinct: tuple[Place, ...]


@dataclass(frozen=True)
class _Raw:
    """Undecoded values of one frame; equal bytes mean equal places."""

    segment: bytes | None
    position: bytes | None
    orientation: bytes | None
    measures: bytes | None
    stack: bytes | None
    derivation: bytes | None


class _NotPlainError(Exception):
    """The layout is not the one that can be scanned; never leaves this file."""


def frame_table(dataset: Dataset) -> FrameTable:
    """Read the places and segments of all frames.

    Args:
        dataset: A SEG; its per-frame groups need not have been decoded.

    Raises:
        GeometryError: The frames are tiles of a slide.
        PixelError: The file says less about its frames than the standard wants.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    shared_items = dataset.get("SharedFunctionalGroupsSequence") or []
    shared = shared_items[0] if len(shared_items) else Dataset()
    if "PlanePositionSlideSequence" in shared or dataset.get("DimensionOrganizationType") in (
        "TILED_FULL",
        "TILED_SPARSE",
    ):
        raise _tiled()
    try:
        table = _table_from_bytes(_raw_value(dataset), shared)
    except GeometryError:
        raise
    except (_NotPlainError, struct.error, ValueError, UnicodeDecodeError):
        table = _table_from_datasets(dataset.get("PerFrameFunctionalGroupsSequence") or [], shared)
    if len(table.segments) != frames:
        raise PixelError(
            f"the header announces {frames} frames and describes {len(table.segments)}; the file is incomplete or not "
            "a valid segmentation"
        )
    return table


def _tiled() -> GeometryError:
    return GeometryError(
        "a segmentation of a whole-slide image: its frames are tiles of a slide, not slices of a patient; slide "
        "microscopy is not supported"
    )


def _raw_value(dataset: Dataset) -> bytes:
    if PER_FRAME_GROUPS not in dataset:
        raise _NotPlainError
    element: Any = dataset.get_item(PER_FRAME_GROUPS)
    if (
        not isinstance(element, RawDataElement)
        or element.is_implicit_VR
        or not element.is_little_endian
        or element.VR != "SQ"
        or not isinstance(element.value, bytes)
    ):
        raise _NotPlainError
    value: bytes = element.value
    return value


def _elements(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield (tag, start of the element, start of its value, end of its value) for elements of defined length."""
    while start < stop:
        vr = data[start + 4 : start + 6]
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", data, start + 8)
            value = start + 12
        elif vr.isalpha() and vr.isupper():
            (length,) = struct.unpack_from("<H", data, start + 6)
            value = start + 8
        else:
            raise _NotPlainError
        if length == _UNDEFINED or value + length > stop:
            raise _NotPlainError
        yield data[start : start + 4], start, value, value + length
        start = value + length


def _item(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Return start and end of the content of the item that starts here."""
    if data[start : start + 4] != _ITEM:
        raise _NotPlainError
    (length,) = struct.unpack_from("<I", data, start + 4)
    if length == _UNDEFINED or start + 8 + length > stop:
        raise _NotPlainError
    return start + 8, start + 8 + length


def _inner(data: bytes, start: int, stop: int, tag: bytes) -> bytes | None:
    """Return the value of an element in the first item of a sequence's value."""
    if start == stop:
        return None
    first, last = _item(data, start, stop)
    return next((data[a:b] for found, _, a, b in _elements(data, first, last) if found == tag), None)


def _scan(data: bytes, start: int, stop: int) -> _Raw:
    segment = position = orientation = measures = stack = derivation = None
    for tag, begin, value, end in _elements(data, start, stop):
        if tag == _POSITION:
            position = _inner(data, value, end, _IMAGE_POSITION)
        elif tag == _IDENTIFICATION:
            segment = _inner(data, value, end, _SEGMENT_NUMBER)
        elif tag == _CONTENT:
            stack = _inner(data, value, end, _IN_STACK_POSITION)
        elif tag == _DERIVATION:
            derivation = data[begin:end]
        elif tag == _ORIENTATION:
            orientation = data[begin:end]
        elif tag == _MEASURES:
            measures = data[begin:end]
        elif tag == _SLIDE_POSITION:
            raise _tiled()
    return _Raw(segment, position, orientation, measures, stack, derivation)


def _table_from_bytes(data: bytes, shared: Dataset) -> FrameTable:
    default = _place(shared)
    default_segment = _segment(shared)
    index: dict[tuple[bytes | None, ...], int] = {}
    segments: list[int | None] = []
    places: list[int] = []
    distinct: list[Place] = []
    start, stop = 0, len(data)
    while start < stop:
        first, last = _item(data, start, stop)
        raw = _scan(data, first, last)
        start = last
        segments.append(default_segment if raw.segment is None else int.from_bytes(raw.segment[:2], "little"))
        told_by_source = raw.position is None and raw.stack is None
        tail = raw.derivation if told_by_source else None
        key = (raw.position, raw.orientation, raw.measures, raw.stack, tail)
        if key not in index:
            index[key] = len(distinct)
            distinct.append(_decode(raw, default))
        places.append(index[key])
    return FrameTable(tuple(segments), tuple(places), tuple(distinct))


def _decode(raw: _Raw, default: Place) -> Place:
    groups = (raw.orientation or b"") + (raw.measures or b"")
    place = _place(_dataset(groups), default) if groups else default
    position, stack = place.position_lps_mm, place.stack_position
    source = None if raw.derivation is None else _source_from_bytes(raw.derivation)
    if raw.position is not None:
        x, y, z = (float(v) for v in raw.position.decode("ascii").strip(" \0").split("\\"))
        position = (x, y, z)
    if raw.stack is not None:
        stack = int.from_bytes(raw.stack[:4], "little")
    return Place(
        position,
        place.orientation,
        place.pixel_spacing_mm,
        place.slice_thickness_mm,
        place.spacing_between_slices_mm,
        stack,
        source or place.source,
    )


def _source_from_bytes(derivation: bytes) -> tuple[str, str, int | None] | None:
    images = _inner(derivation, 12, len(derivation), _SOURCE_IMAGE)
    if not images:
        return None
    first, last = _item(images, 0, len(images))
    found = {
        tag: images[a:b].decode("ascii").strip(" \0")
        for tag, _, a, b in _elements(images, first, last)
        if tag in _REFERENCE
    }
    sop_class, instance, frame = (found.get(tag, "") for tag in _REFERENCE)
    # A frame made from several frames of the source names them all, and then no single one.
    return (sop_class, instance, int(frame) if frame.isdigit() else None) if instance else None


def _dataset(groups: bytes) -> Dataset:
    # Not in the order of tags, which pydicom does not need.
    return read_dataset(BytesIO(groups), is_implicit_VR=False, is_little_endian=True)


def _table_from_datasets(items: Sequence[Dataset], shared: Dataset) -> FrameTable:
    default = _place(shared)
    default_segment = _segment(shared)
    index: dict[tuple[object, ...], int] = {}
    segments: list[int | None] = []
    places: list[int] = []
    distinct: list[Place] = []
    for item in items:
        if "PlanePositionSlideSequence" in item:
            raise _tiled()
        place = _place(item, default)
        own = _segment(item)
        segments.append(default_segment if own is None else own)
        key: tuple[object, ...] = (
            place.position_lps_mm,
            place.orientation,
            place.pixel_spacing_mm,
            place.slice_thickness_mm,
            place.spacing_between_slices_mm,
            place.stack_position,
        )
        if place.position_lps_mm is None and place.stack_position is None:
            key = (*key, place.source)
        if key not in index:
            index[key] = len(distinct)
            distinct.append(place)
        places.append(index[key])
    return FrameTable(tuple(segments), tuple(places), tuple(distinct))


def _group(item: Dataset, keyword: str) -> Dataset | None:
    items = item.get(keyword)
    return items[0] if items else None


def _segment(item: Dataset) -> int | None:
    group = _group(item, "SegmentIdentificationSequence")
    number = None if group is None else group.get("ReferencedSegmentNumber")
    return None if number is None else int(number)


def _place(item: Dataset, default: Place | None = None) -> Place:
    default = default or Place()
    position, orientation = default.position_lps_mm, default.orientation
    spacing, thickness = default.pixel_spacing_mm, default.slice_thickness_mm
    between, stack = default.spacing_between_slices_mm, default.stack_position
    group = _group(item, "PlanePositionSequence")
    if group is not None and group.get("ImagePositionPatient") is not None:
        x, y, z = (float(v) for v in group.ImagePositionPatient)
        position = (x, y, z)
    group = _group(item, "PlaneOrientationSequence")
    if group is not None and group.get("ImageOrientationPatient") is not None:
        orientation = tuple(float(v) for v in group.ImageOrientationPatient)
    group = _group(item, "PixelMeasuresSequence")
    if group is not None:
        if group.get("PixelSpacing") is not None:
            row, column = (float(v) for v in group.PixelSpacing)
            spacing = (row, column)
        thickness = _positive(group.get("SliceThickness"), thickness)
        between = _positive(group.get("SpacingBetweenSlices"), between)
    group = _group(item, "FrameContentSequence")
    if group is not None and group.get("InStackPositionNumber") is not None:
        stack = int(group.InStackPositionNumber)
    source = _source(item) or default.source
    return Place(position, orientation, spacing, thickness, between, stack, source)


def _positive(value: object, default: float | None) -> float | None:
    number = 0.0 if value is None else float(str(value))
    return number if number > 0 else default


def _source(item: Dataset) -> tuple[str, str, int | None] | None:
    derivation = _group(item, "DerivationImageSequence")
    image = None if derivation is None else _group(derivation, "SourceImageSequence")
    if image is None or not image.get("ReferencedSOPInstanceUID"):
        return None
    frame = image.get("ReferencedFrameNumber")
    number = None if frame is None or not isinstance(frame, int) else int(frame)
    return str(image.get("ReferencedSOPClassUID") or ""), str(image.ReferencedSOPInstanceUID), number
