"""The frames of a mask as a SEG stores them: which are kept, in which order, and their bytes.

Frames run segment by segment, plane by plane in the order of the mask's z axis. Planes without a voxel are left out,
but for the first and the last plane of the first segment: they keep the extent of the grid in the file, so that the
whole grid comes back and not only the part that the segments fill.

Nothing here holds more than a few frames at a time: a mask of 100 segments is never a stack of 100 volumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8, UInt16

from isocenter.core.errors import PixelError
from isocenter.core.mask import Mask

__all__ = ["MAXIMUM_FRACTIONAL_VALUE", "Frame", "SegKind", "StoredFrames", "stored_frames"]

SegKind = Literal["BINARY", "FRACTIONAL", "LABELMAP"]
MAXIMUM_FRACTIONAL_VALUE = 255


@dataclass(frozen=True)
class Frame:
    """One stored frame.

    Args:
        segment: Index into the mask's segments; None in a label map.
        z: Plane of the mask.
        rows: First row that may hold a voxel, and the one after the last; (0, 0) in an empty frame.
    """

    segment: int | None
    z: int
    rows: tuple[int, int]


@dataclass(frozen=True)
class StoredFrames:
    """All frames of a SEG.

    Args:
        kind: Segmentation type.
        frames: In the order of the file.
        bits: Bits allocated to a pixel: 1, 8 or 16.
        overlap: Segments Overlap: "YES", "NO" or "UNDEFINED".
        shape: Rows and columns.
    """

    kind: SegKind
    frames: tuple[Frame, ...]
    bits: int
    overlap: str
    shape: tuple[int, int]

    @property
    def pixel_bytes(self) -> int:
        """Length of Pixel Data in bytes, before padding to an even number."""
        return (len(self.frames) * self.shape[0] * self.shape[1] * self.bits + 7) // 8

    def pixels(self, mask: Mask) -> Iterator[bytes | memoryview]:
        """Yield the bytes of Pixel Data, piece by piece. A piece is valid until the next one is asked for."""
        if self.bits == 1:
            whole_bytes = self.shape[0] * self.shape[1] % 8 == 0
            yield from self._packed(mask) if whole_bytes else self._packed_across(mask)
        elif self.kind == "LABELMAP":
            dtype = "<u2" if self.bits == 16 else "u1"
            for frame in self.frames:
                yield np.ascontiguousarray(_labels(mask, frame.z), dtype=dtype).tobytes()
        else:
            for frame in self.frames:
                yield _fractions(mask, frame).tobytes()

    def _packed(self, mask: Mask) -> Iterator[memoryview]:
        rows, columns = self.shape
        packed = np.zeros(rows * columns // 8, dtype=np.uint8)
        view = packed.data
        for frame in self.frames:
            # Eight rows are always whole bytes, whatever the number of columns.
            start, stop = frame.rows[0] // 8 * 8, min(-(-frame.rows[1] // 8) * 8, rows)
            first, last = start * columns // 8, stop * columns // 8
            inside = _plane(mask, frame, slice(start, stop))
            packed[first:last] = np.packbits(inside.ravel(), bitorder="little")
            yield view
            packed[first:last] = 0

    def _packed_across(self, mask: Mask) -> Iterator[bytes]:
        """Frames that are no whole number of bytes run on without a gap (PS3.5 8.1.1); eight are whole again."""
        for start in range(0, len(self.frames), 8):
            planes = [_plane(mask, frame, slice(None)).ravel() for frame in self.frames[start : start + 8]]
            yield np.packbits(np.concatenate(planes), bitorder="little").tobytes()


def stored_frames(mask: Mask, kind: SegKind) -> StoredFrames:
    """Plan the frames of a mask.

    Args:
        mask: The mask. Probabilities at or above 0.5 are inside for BINARY and LABELMAP.
        kind: Segmentation type.

    Raises:
        PixelError: No segment, segments that overlap in a label map, or numbers that are not 1, 2, 3, ... where the
            standard wants them so.
    """
    if not mask.segments:
        raise PixelError("a segmentation needs at least one segment; describe one even if it is empty")
    numbers = [s.number for s in mask.segments]
    shape = (mask.geometry.shape[1], mask.geometry.shape[2])
    if kind == "LABELMAP":
        if not mask.is_labelmap and any(_overlaps(mask, z) for z in range(mask.geometry.shape[0])):
            raise PixelError("segments overlap, and a label map holds one segment per voxel; write BINARY instead")
        planes = [z for z in range(mask.geometry.shape[0]) if _labels(mask, z).any()]
        kept = sorted({0, mask.geometry.shape[0] - 1, *planes})
        frames = tuple(Frame(None, z, (0, shape[0])) for z in kept)
        return StoredFrames(kind, frames, 8 if max(numbers) < 256 else 16, "NO", shape)
    if numbers != list(range(1, len(numbers) + 1)):
        raise PixelError(
            f"in a {kind} segmentation segments are numbered 1, 2, 3, ... in order (DICOM PS3.3 C.8.20.4), got "
            f"{numbers[:8]}; renumber them, or write LABELMAP"
        )
    rows = _labelmap_rows(mask) if mask.is_labelmap else _stack_rows(mask, kind)
    filled = rows[..., 1] > rows[..., 0]
    filled[0, [0, -1]] = True
    frames = tuple(
        Frame(s, z, (int(rows[s, z, 0]), int(rows[s, z, 1])))
        for s, z in zip(*(axis.tolist() for axis in np.nonzero(filled)), strict=True)
    )
    if kind == "FRACTIONAL":
        return StoredFrames(kind, frames, 8, "NO" if mask.is_labelmap else "UNDEFINED", shape)
    overlap = not mask.is_labelmap and any(_overlaps(mask, z) for z in range(mask.geometry.shape[0]))
    return StoredFrames(kind, frames, 1, "YES" if overlap else "NO", shape)


def _labelmap_rows(mask: Mask) -> Int[np.ndarray, "s z 2"]:
    """Rows that hold every segment in every plane, in blocks of eight rows; numbers are 1, 2, 3, ..."""
    depth, height = mask.array.shape[:2]
    blocks = -(-height // 8)
    dtype = np.uint16 if (len(mask.segments) + 1) * blocks <= 65536 else np.int64
    block_of_row = (np.arange(height) // 8).astype(dtype)[:, None]
    rows = np.zeros((len(mask.segments), depth, 2), dtype=np.int32)
    for z, plane in enumerate(mask.array):
        # One count over (label, block) pairs finds all segments of the plane at once.
        pairs = plane.astype(dtype) * dtype(blocks) + block_of_row
        hit = np.bincount(pairs.ravel(), minlength=(len(mask.segments) + 1) * blocks).reshape(-1, blocks)[1:] > 0
        present = np.flatnonzero(hit.any(axis=1))
        rows[present, z, 0] = hit[present].argmax(axis=1) * 8
        rows[present, z, 1] = np.minimum((blocks - hit[present, ::-1].argmax(axis=1)) * 8, height)
    return rows


def _stack_rows(mask: Mask, kind: SegKind) -> Int[np.ndarray, "s z 2"]:
    rows = np.zeros((*mask.array.shape[:2], 2), dtype=np.int32)
    for s, volume in enumerate(mask.array):
        for z, plane in enumerate(volume):
            inside = _quantised(plane) > 0 if kind == "FRACTIONAL" else _inside(plane)
            hit = np.flatnonzero(inside.any(axis=1))
            if hit.size:
                rows[s, z] = hit[0], hit[-1] + 1
    return rows


def _inside(plane: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    return plane if plane.dtype == np.bool_ else np.asarray(plane >= 0.5)


def _overlaps(mask: Mask, z: int) -> bool:
    counts = np.zeros(mask.array.shape[-2:], dtype=np.uint16)
    for volume in mask.array:
        counts += _inside(volume[z])
    return bool(counts.max(initial=0) > 1)


def _plane(mask: Mask, frame: Frame, rows: slice) -> Bool[np.ndarray, "y x"]:
    index = frame.segment or 0
    if mask.is_labelmap:
        return np.asarray(mask.array[frame.z, rows] == mask.segments[index].number)
    return _inside(mask.array[index, frame.z, rows])


def _labels(mask: Mask, z: int) -> UInt16[np.ndarray, "y x"]:
    if mask.is_labelmap:
        plane: UInt16[np.ndarray, "y x"] = mask.array[z]
        return plane
    labels = np.zeros(mask.array.shape[-2:], dtype=np.uint16)
    for segment, volume in zip(mask.segments, mask.array, strict=True):
        labels[_inside(volume[z])] = segment.number
    return labels


def _quantised(plane: Shaped[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x"]:
    # Half rounds to even, so 0.5 becomes 128 of 255 and everything below it at most 127: 0.5 stays the border.
    return np.rint(plane.astype(np.float32) * MAXIMUM_FRACTIONAL_VALUE).astype(np.uint8)


def _fractions(mask: Mask, frame: Frame) -> UInt8[np.ndarray, "y x"]:
    if mask.is_labelmap:
        return _plane(mask, frame, slice(None)).astype(np.uint8) * np.uint8(MAXIMUM_FRACTIONAL_VALUE)
    return _quantised(mask.array[frame.segment or 0, frame.z])
