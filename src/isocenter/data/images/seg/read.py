"""Read a DICOM Segmentation of any tool into a mask.

Frames may come in any order, empty ones may be missing, and the grid follows from the frames' own positions. Segments
that don't overlap become one label map, painted frame by frame, so that a hundred segments cost no more memory than
one; segments that do become a stack.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from isocenter.core.errors import DataError, GeometryError, PixelError
from isocenter.core.geometry import Geometry
from isocenter.core.image import Source
from isocenter.core.mask import Mask, Segment
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.quiet import quiet
from isocenter.data.images.seg.frames import Frames, NativeFrames, Piece, frames_in_memory, is_plain, native_offset
from isocenter.data.images.seg.grid import align, grid_of
from isocenter.data.images.seg.scan import FrameTable, frame_table
from isocenter.data.images.seg.segments import read_segment

__all__ = ["read_seg"]

_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
# What pydicom raises on a file that is cut short or garbled.
_BROKEN = (AttributeError, EOFError, InvalidDicomError, KeyError, NotImplementedError, TypeError, ValueError)


def read_seg(
    source: Path | Dataset, *, geometry: Geometry | None = None, segments: Sequence[int] | None = None
) -> Mask:
    """Read a DICOM Segmentation.

    Args:
        source: File, or a dataset with its pixels.
        geometry: Grid to bring the mask on, such as that of the image it was drawn on; its voxel centres must be those
            of the segmentation. None keeps the segmentation's own grid: from the first to the last plane stored, z
            along the normal of the planes.
        segments: Numbers to read; None for all.

    Returns:
        A label map (BINARY without overlap, LABELMAP), a bool stack (BINARY with overlap) or probabilities
        (FRACTIONAL). Planes without a frame are empty.

    Raises:
        GeometryError: The planes form no regular grid, are tiles of a slide, or don't lie on `geometry`.
        PixelError: The frames cannot be decoded or are not as announced.
        DataError: The file is not a DICOM Segmentation, is truncated, or cannot be opened.

    Source:
        DICOM PS3.3 A.51, A.91, C.8.20; PS3.5 8.1.1 (bits run on across frames).
    """
    if isinstance(source, Dataset):
        return _read(_Opened(source, None), geometry, segments, "")
    path = Path(source)
    try:
        with path.open("rb") as file:
            return _read(_open(file, path.name), geometry, segments, path.name)
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error


@dataclass(frozen=True)
class _Opened:
    """A SEG whose header is read; its pixels come later from the file, or are in the dataset."""

    dataset: Dataset
    file: BufferedReader | None


@contextmanager
def _broken_is_data_error(name: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except DataError as error:
        if error.source or not name:
            raise
        raise type(error)(str(error), source=name) from error
    except (*_BROKEN, struct.error, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"not a readable DICOM Segmentation ({type(error).__name__}): the file is damaged, truncated or not DICOM",
            source=name,
        ) from error


def _open(file: BufferedReader, name: str) -> _Opened:
    with _broken_is_data_error(name):
        dataset = dcmread(file, stop_before_pixels=True)
        if is_plain(dataset):
            return _Opened(dataset, file)
        file.seek(0)
        return _Opened(dcmread(file), None)


def _read(opened: _Opened, geometry: Geometry | None, segments: Sequence[int] | None, name: str) -> Mask:
    dataset = opened.dataset
    with _broken_is_data_error(name):
        kind = str(dataset.get("SegmentationType") or "")
        if kind not in _KINDS:
            raise DataError(f"not a DICOM Segmentation (SOP class {dataset.get('SOPClassUID', 'absent')})")
        shape = (int(dataset.Rows), int(dataset.Columns))
        table = frame_table(dataset)
        grid, z_of_place = grid_of(table.distinct, shape, str(dataset.get("FrameOfReferenceUID") or ""))
        described = [read_segment(s) for s in dataset.SegmentSequence if int(s.get("SegmentNumber") or 0) > 0]
        wanted = _wanted(described, segments)
        layout = _Layout(grid, tuple(wanted), tuple(z_of_place[p] for p in table.places), table.segments)
        frames = _frames(opened, len(table.segments), shape, binary=kind == "BINARY")
        if kind == "LABELMAP":
            array = _label_map(dataset, frames, layout, {s.number for s in described})
        else:
            layout.check({s.number for s in described})
            array = _fractions(dataset, frames, layout) if kind == "FRACTIONAL" else _binary(frames, layout)
        if geometry is not None:
            array, grid = np.ascontiguousarray(align(array, grid, geometry)), geometry
            return Mask(array, grid, tuple(wanted), _source(dataset, name))
        return Mask(array, grid, tuple(wanted), _source(dataset, name, _instances(table, z_of_place, grid.shape[0])))


def _wanted(described: Sequence[Segment], segments: Sequence[int] | None) -> list[Segment]:
    if segments is None:
        return list(described)
    by_number = {s.number: s for s in described}
    missing = [n for n in segments if n not in by_number]
    if missing:
        raise PixelError(f"no segments {missing}; the file has {list(by_number)}")
    return [by_number[n] for n in segments]


@dataclass(frozen=True)
class _Layout:
    """Where each frame belongs.

    Args:
        grid: Grid of the mask.
        segments: Segments to read.
        z: Plane of each frame.
        numbers: Segment number of each frame, None in a label map.
    """

    grid: Geometry
    segments: tuple[Segment, ...]
    z: tuple[int, ...]
    numbers: tuple[int | None, ...]

    def check(self, described: set[int]) -> None:
        """Refuse frames without a described segment, and two frames of one segment in one plane."""
        unknown = set(self.numbers) - described
        if unknown:
            raise PixelError(f"frames name segments that are not described: {sorted(str(n) for n in unknown)[:5]}")
        if len(set(zip(self.numbers, self.z, strict=True))) != len(self.z):
            raise GeometryError("two frames show the same segment in the same plane; the file is not valid")


def _frames(opened: _Opened, count: int, shape: tuple[int, int], *, binary: bool) -> Frames:
    dataset = opened.dataset
    bits = int(dataset.BitsAllocated)
    if bits not in ((1, 8) if binary else (8, 16)):
        raise PixelError(f"a segmentation of this type cannot have {bits} bits per voxel; the header is wrong")
    if opened.file is None:
        return frames_in_memory(dataset, count, bits)
    expected = (count * shape[0] * shape[1] * bits + 7) // 8
    return NativeFrames(opened.file, native_offset(opened.file, expected), count, shape, bits)


def _binary(frames: Frames, layout: _Layout) -> Shaped[np.ndarray, "..."]:
    """Paint a label map; where two segments meet in a voxel, start again with a stack."""
    chosen = {s.number for s in layout.segments}
    labels = np.zeros(layout.grid.shape, dtype=np.uint16)
    painted = np.zeros(layout.grid.shape[0], dtype=np.int64)
    for number, z, piece in zip(layout.numbers, layout.z, frames.planes(), strict=True):
        if number not in chosen or not piece[2].size:
            continue
        inside = piece[2] if piece[2].dtype == np.bool_ else piece[2] > 0
        np.copyto(_target(labels[z], piece), np.uint16(number or 0), where=inside)
        painted[z] += np.count_nonzero(inside)
    if all(int(np.count_nonzero(plane)) == count for plane, count in zip(labels, painted.tolist(), strict=True)):
        return labels
    del labels
    index = {s.number: i for i, s in enumerate(layout.segments)}
    stack = np.zeros((len(index), *layout.grid.shape), dtype=np.bool_)
    for number, z, piece in zip(layout.numbers, layout.z, frames.planes(), strict=True):
        if number in chosen:
            _target(stack[index[number or 0], z], piece)[...] = piece[2]
    return stack


def _target(plane: Shaped[np.ndarray, "y x"], piece: Piece) -> Shaped[np.ndarray, "a b"]:
    top, left, part = piece
    target: Shaped[np.ndarray, "a b"] = plane[top : top + part.shape[0], left : left + part.shape[1]]
    return target


def _fractions(dataset: Dataset, frames: Frames, layout: _Layout) -> Shaped[np.ndarray, "s z y x"]:
    largest = int(dataset.get("MaximumFractionalValue") or 0)
    if not 1 <= largest <= 65535:
        raise PixelError("a FRACTIONAL segmentation without a Maximum Fractional Value; its numbers mean nothing")
    index = {s.number: i for i, s in enumerate(layout.segments)}
    stack = np.zeros((len(index), *layout.grid.shape), dtype=np.float32)
    for number, z, piece in zip(layout.numbers, layout.z, frames.planes(), strict=True):
        if number not in index:
            continue
        if piece[2].max(initial=0) > largest:
            raise PixelError(f"a stored value is larger than the Maximum Fractional Value {largest}")
        np.divide(piece[2], np.float32(largest), out=_target(stack[index[number], z], piece))
    return stack


def _label_map(dataset: Dataset, frames: Frames, layout: _Layout, described: set[int]) -> Shaped[np.ndarray, "z y x"]:
    if len(set(layout.z)) != len(layout.z):
        raise GeometryError("two frames of a label map lie in the same plane; the file is not valid")
    background = {0, int(dataset.get("PixelPaddingValue") or 0)}
    keep = np.zeros(65536, dtype=np.uint16)
    chosen = [s.number for s in layout.segments if s.number not in background]
    keep[chosen] = chosen
    plain = len(chosen) == len(described) and background == {0}
    labels = np.zeros(layout.grid.shape, dtype=np.uint16)
    for z, piece in zip(layout.z, frames.planes(), strict=True):
        plane, target = piece[2], _target(labels[z], piece)
        if plain:
            target[...] = plane
        else:
            unknown = set(np.unique(plane).tolist()) - background - described
            if unknown:
                raise PixelError(f"stored values {sorted(unknown)[:5]} are not described as segments")
            np.take(keep, plane, out=target)
    return labels


def _instances(table: FrameTable, z_of_place: Sequence[int], depth: int) -> list[tuple[str, str, int | None] | None]:
    planes: list[tuple[str, str, int | None] | None] = [None] * depth
    for place, z in zip(table.distinct, z_of_place, strict=True):
        planes[z] = planes[z] or place.source
    return planes


def _source(dataset: Dataset, name: str, planes: Sequence[tuple[str, str, int | None] | None] = ()) -> Source:
    """Say what it was drawn on; instances only where every plane names its own."""
    series = dataset.get("ReferencedSeriesSequence") or []
    complete = [p for p in planes if p is not None]
    known = len(complete) == len(planes)
    return Source(
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        series_uid=str(series[0].get("SeriesInstanceUID") or "") if len(series) == 1 else "",
        instance_uids=tuple(p[1] for p in complete) if known else (),
        sop_class_uids=tuple(p[0] for p in complete) if known else (),
        files=(name,) if name else (),
    )
