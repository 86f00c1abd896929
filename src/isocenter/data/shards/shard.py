"""Open a shard: what it is, where it lies, and any patch of it, without holding the volume."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.core.errors import ConfigError, DataError, PixelError, ProofError
from isocenter.core.fingerprint import fingerprint
from isocenter.data.shards.backing import Backing, LocalFile, StagedFile, Staging, is_remote, local_path
from isocenter.data.shards.form import Content, Statistics, content_from_json, image_of, mask_of
from isocenter.data.shards.frame import HEAD_BYTES, Frame, blosc, checksum_of_header, checksum_of_index, parse_frame

__all__ = ["KEY", "KEY_SHA256", "Shard", "open_shard", "random_voxel"]

KEY, KEY_SHA256 = "isocenter", "isocenter-sha256"

Zyx = tuple[int, int, int]
# What Blosc2 raises for a header or metadata with altered bytes, besides its own RuntimeError.
_UNREADABLE = (RuntimeError, ValueError, TypeError, ArithmeticError, AttributeError, LookupError, SyntaxError, OSError)
_LIKELY_TAIL = 64 * 1024
_DAMAGED = "is damaged or was altered; write the shard again, or fetch it again"


def open_shard(path: str | Path, *, staging: Staging | None = None) -> Shard:
    """Open a shard; only its header and metadata are read.

    Args:
        path: A local file, or a URL that fsspec understands ("s3://bucket/case.b2nd").
        staging: Where parts of a remote shard lie meanwhile; a temporary folder by default.

    Returns:
        The shard, lazily.

    Raises:
        DataError: It is not there, cut, altered, or no shard.
        CapabilityError: Blosc2, or fsspec for a remote one, is not installed.
    """
    if is_remote(path):
        return Shard(StagedFile(str(path), staging if staging is not None else Staging()))
    return Shard(LocalFile(local_path(path)))


class Shard:
    """An image or a mask in a Blosc2 file, read patch by patch.

    Every chunk is checked against its checksum when it is first touched. What is altered in the file after that, while
    the shard is open, is not noticed.

    Args:
        backing: Its bytes.

    Raises:
        DataError: See `open_shard`.
    """

    def __init__(self, backing: Backing) -> None:
        self.backing = backing
        self._generation = -1
        self._array: Any = None
        self._stated = ""
        self._frame = _frame_of(backing)
        self.content: Content = self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        staging = getattr(self.backing, "staging", None)
        return (_reopen, (self.backing.name, staging))

    @property
    def name(self) -> str:
        """Path or URL."""
        return self.backing.name

    @property
    def geometry(self) -> Geometry:
        """The grid of what is stored: index axes z, y, x run to the head, the back and the left as near as they can."""
        return self.content.geometry

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(channel, z, y, x); for a mask, channels are 1 for a labelmap, or the segments."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values that `patch` and `read` return; the file may hold a smaller type that keeps each value."""
        return self._dtype

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Of the values in the file."""
        return self._stored

    @property
    def statistics(self) -> Statistics | None:
        """Lowest, highest, mean and deviation of an image."""
        return self.content.statistics

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of a mask."""
        return self._segments

    @cached_property
    def _segments(self) -> tuple[Segment, ...]:
        return self.content.segments

    @cached_property
    def mask(self) -> Shard | None:
        """The mask beside an image, proven to be the one that was written with it; None where there is none.

        Raises:
            DataError: It is not there, or another one.
        """
        if self.content.mask is None:
            return None
        name, sha256 = self.content.mask
        at = self.name.rsplit("/", 1)
        staging = getattr(self.backing, "staging", None)
        mask = open_shard(f"{at[0]}/{name}" if len(at) == 2 else name, staging=staging)
        if mask.content.sha256 != sha256 or mask.content.kind == "image":
            raise DataError("is not the mask that was written with the image beside it; write both again", source=name)
        return mask

    def patch(
        self, index_zyx: Sequence[int], size: Sequence[int], *, pad: float | None = None, stored: bool = False
    ) -> Shaped[np.ndarray, "c z y x"]:
        """Read a box of voxels, and nothing else of the volume than the chunks that it overlaps.

        Args:
            index_zyx: First voxel (z, y, x) of the box in the stored grid; it may lie outside.
            size: Voxels (z, y, x); the box may reach over the border.
            pad: Value outside the grid; by default the lowest of the image (air, in a CT), and 0 in a mask.
            stored: Return the type that the file holds, without a conversion.

        Returns:
            All channels of the box.

        Raises:
            ConfigError: Not three numbers, a size below 1, or a pad that the type can't hold.
            DataError: The file is altered or cut, or the storage refused.
        """
        start, extent = tuple(int(i) for i in index_zyx), tuple(int(n) for n in size)
        if len(start) != 3 or len(extent) != 3 or min(extent) < 1:
            raise ConfigError(f"a patch needs an index and a size of three numbers, got {start} and {extent}")
        low, high = _within(start, extent, self.geometry.shape)
        out = None if low is None else self._decode(low, high)
        dtype = self._stored if stored else self.dtype
        if out is not None and out.shape[1:] == extent:
            return out if out.dtype == dtype else out.astype(dtype)
        whole = np.full((self._shape[0], *extent), self._pad(pad, dtype), dtype)
        if out is not None and low is not None:
            box = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
            whole[(slice(None), *box)] = out
        return whole

    def plane(self, channel: int, index_zyx: Sequence[int], size: Sequence[int]) -> Shaped[np.ndarray, "z y x"]:
        """Read a box of one channel as it is stored.

        Args:
            channel: Its number, from 0.
            index_zyx: First voxel (z, y, x).
            size: Voxels (z, y, x).

        Raises:
            ConfigError: The box is not within the grid.
            DataError: As `patch`.
        """
        high = [int(i) + int(n) for i, n in zip(index_zyx, size, strict=True)]
        box = ((channel, *index_zyx), (channel + 1, *high))
        if any(not 0 <= a < b <= n for a, b, n in zip(*box, self._shape, strict=True)):
            raise ConfigError(f"the box {box} is not within the shape {self._shape}")
        low = (int(index_zyx[0]), int(index_zyx[1]), int(index_zyx[2]))
        values: np.ndarray = self._decode(low, (high[0], high[1], high[2]), (channel, channel + 1))[0]
        return values

    def ahead(self, index_zyx: Sequence[int], size: Sequence[int]) -> None:
        """Tell the system that a patch will be read soon, so that the disk works meanwhile; it may be outside.

        Args:
            index_zyx: As in `patch`.
            size: As in `patch`.
        """
        low, high = _within(index_zyx, size, self.geometry.shape)
        if low is not None:
            untouched = self._untouched(self._chunk_box((0, *low), (self._shape[0], *high)))
            self.backing.ahead([self._range(n) for n in untouched if self.content.chunks.lengths[n]])

    def read(self, *, as_source: bool = False) -> Image:
        """Read the whole image, checked against its SHA-256.

        Args:
            as_source: Turn it back to the order of axes that it had before it was written, and its affine to the bit.

        Raises:
            DataError: It is a mask, altered or cut.
        """
        if self.content.kind != "image":
            raise DataError("holds a mask; use read_mask", source=self.name)
        array, geometry = self._read(as_source)
        return image_of(self.content, array, geometry)

    def read_mask(self, *, as_source: bool = False) -> Mask:
        """Read the whole mask, or the mask beside an image, checked against its SHA-256.

        Args:
            as_source: As in `read`.

        Raises:
            DataError: There is no mask, or it is altered or cut.
        """
        if self.content.kind == "image":
            if self.mask is None:
                raise DataError("has no mask beside it", source=self.name)
            return self.mask.read_mask(as_source=as_source)
        array, geometry = self._read(as_source)
        if self.content.kind == "labelmap":
            array = array.astype(np.uint16, copy=False)
        return mask_of(self.content, array, geometry)

    def close(self) -> None:
        """Let go of the file, of its mask, and of what was staged of them; reading opens them again."""
        mask = self.__dict__.pop("mask", None)
        if mask is not None:
            mask.close()
        self._array, self._generation = None, -1
        self.backing.close()

    def _read(self, as_source: bool) -> tuple[np.ndarray, Geometry]:
        stored = self._decode((0, 0, 0), self.geometry.shape)
        array = stored if stored.dtype == self.dtype else stored.astype(self.dtype)
        content = self.content
        turned = _as_source(array, content)
        hashed = turned[0] if content.kind == "labelmap" else turned
        if fingerprint(hashed, content.source_geometry) != content.sha256:
            raise PixelError(f"its voxels do not have the SHA-256 that it states: it {_DAMAGED}", source=self.name)
        if as_source:
            return np.ascontiguousarray(turned), content.source_geometry
        return array, content.geometry

    def _pad(self, pad: float | None, dtype: np.dtype[Any]) -> Any:
        if pad is None:
            pad = self.content.statistics.lowest if self.content.statistics is not None else 0
        value = np.asarray(pad)
        with np.errstate(invalid="ignore", over="ignore"):
            cast = value.astype(dtype)
        if dtype.kind in "iub" and cast != value:
            raise ConfigError(f"values of {dtype} cannot hold the padding {pad}; choose another, or convert the patch")
        return cast

    def _decode(self, low: Zyx, high: Zyx, channels: tuple[int, int] | None = None) -> Shaped[np.ndarray, "c z y x"]:
        first, last = channels or (0, self._shape[0])
        self._touch((first, *low), (last, *high))
        out = np.empty((last - first, *(b - a for a, b in zip(low, high, strict=True))), self._stored)
        try:
            # What arr[...] ends in, without its 80 microseconds of looking at the key.
            self._array.get_slice_numpy(out, ((first, *low), (last, *high)))
        except RuntimeError as error:
            raise PixelError(f"cannot be unpacked: it {_DAMAGED}", source=self.name) from error
        return out

    def _touch(self, low: Sequence[int], high: Sequence[int]) -> None:
        """See that the chunks of a box are there, and check those that are touched for the first time."""
        for _ in range(2):
            if self._generation != self.backing.generation:
                self._open()
            generation = self._generation
            box = self._chunk_box(low, high)
            if not self._pending[box].any():
                return
            untouched = self._untouched(box)
            self.backing.need([self._range(n) for n in untouched if self.content.chunks.lengths[n]])
            if self.backing.generation == generation:
                break
        else:
            raise ConfigError("the staging folder's limit is too small for one patch; raise limit_bytes")
        chunks = self.content.chunks
        for n in untouched:
            start, stop = self._range(n)
            if chunks.lengths[n] and zlib.crc32(self.backing.read(start, stop)) != chunks.checksums[n]:
                raise PixelError(
                    f"a part of it does not have the checksum that it states: it {_DAMAGED}", source=self.name
                )
        self._pending[box] = False

    def _chunk_box(self, low: Sequence[int], high: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(a // c, -(-b // c)) for a, b, c in zip(low, high, self.content.cut[0], strict=True))

    def _untouched(self, box: tuple[slice, ...]) -> list[int]:
        numbers: list[int] = self._numbers[box][self._pending[box]].tolist()
        return numbers

    def _range(self, chunk: int) -> tuple[int, int]:
        start = self._frame.header + self.content.chunks.offsets[chunk]
        return start, start + self.content.chunks.lengths[chunk]

    def _open(self) -> Content:
        """Fetch header and metadata, check them, and let Blosc2 open the file."""
        backing, frame = self.backing, self._frame
        backing.need([(0, min(HEAD_BYTES, frame.total))])
        backing.need([(0, frame.header)])
        backing.need([(frame.tail, frame.total)])
        self._generation = backing.generation
        try:
            array = blosc().open(str(backing.path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
            text, stated = array.schunk.vlmeta[KEY], array.schunk.vlmeta[KEY_SHA256]
        except _UNREADABLE as error:
            raise DataError(f"is no shard of Isocenter, or {_DAMAGED}", source=self.name) from error
        if not isinstance(text, str) or hashlib.sha256(text.encode()).hexdigest() != stated:
            raise DataError(f"its metadata does not have the SHA-256 that it states: it {_DAMAGED}", source=self.name)
        if self._stated not in ("", stated):  # opened anew after it was dropped or closed
            raise DataError("was replaced by another one while it was open; open it again", source=self.name)
        self._stated = stated
        content = content_from_json(text, source=self.name)
        self._check(content, array)
        self._array, self._shape = array, _four(array.shape)
        self._stored: np.dtype[Any] = np.dtype(array.dtype)
        self._dtype: np.dtype[Any] = np.dtype(content.dtype)
        counts = [-(-n // c) for n, c in zip(array.shape, content.cut[0], strict=True)]
        self._numbers = np.arange(int(np.prod(counts))).reshape(counts)
        self._pending = np.ones(counts, np.bool_)
        return content

    def _check(self, content: Content, array: Any) -> None:
        backing, frame = self.backing, self._frame
        known = (tuple(array.chunks), tuple(array.blocks), tuple(array.shape[1:])) == (
            *content.cut,
            content.geometry.shape,
        )
        ranges = content.chunks
        sound = (
            known
            and array.schunk.nchunks == len(ranges.offsets)
            and sum(ranges.lengths) == frame.data
            and checksum_of_header(bytes(backing.read(0, frame.header))) == content.header
            and checksum_of_index(bytes(backing.read(frame.tail, frame.total))) == content.index
        )
        if not sound:
            raise DataError(f"its header contradicts its metadata: it {_DAMAGED}", source=self.name)


def _frame_of(backing: Backing) -> Frame:
    backing.ahead([(max(0, backing.length - _LIKELY_TAIL), backing.length)])
    backing.need([(0, min(HEAD_BYTES, backing.length))])
    frame = parse_frame(bytes(backing.read(0, min(HEAD_BYTES, backing.length))), source=backing.name)
    if frame.total != backing.length:
        raise DataError(
            f"has {backing.length} bytes and states {frame.total}: it is cut; fetch it again", source=backing.name
        )
    return frame


def _reopen(name: str, staging: Staging | None) -> Shard:
    return open_shard(name, staging=staging)


def _within(start: Sequence[int], size: Sequence[int], shape: Zyx) -> tuple[Zyx, Zyx] | tuple[None, Zyx]:
    """Return the first voxel of a box that is in the grid and the one past its last; None where none is."""
    low = [max(0, int(s)) for s in start]
    high = [min(int(s) + int(e), n) for s, e, n in zip(start, size, shape, strict=True)]
    end = (high[0], high[1], high[2])
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None, end
    return (low[0], low[1], low[2]), end


def _four(shape: Sequence[int]) -> tuple[int, int, int, int]:
    return (int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]))


def _as_source(array: np.ndarray, content: Content) -> np.ndarray:
    """Undo flips and transpose of the last three axes; a view."""
    back = np.flip(array, tuple(1 + i for i, flip in enumerate(content.flips) if flip))
    turned: np.ndarray = back.transpose(0, *(1 + int(a) for a in np.argsort(content.axes)))
    return turned


def random_voxel(shard: Shard, segment: int, rng: np.random.Generator) -> Zyx:
    """Draw a voxel of a segment, each with the same chance, by reading one chunk of its mask.

    Args:
        shard: A mask.
        segment: Number of the segment.
        rng: Where chance comes from.

    Raises:
        PixelError: The mask has no such segment, or it is empty.
    """
    position = next((i for i, s in enumerate(shard.segments) if s.number == segment), None)
    if position is None or not shard.content.counts[position].voxels:
        raise PixelError(f"there is no voxel of segment {segment} in it", source=shard.name)
    counts = shard.content.counts[position]
    ends = np.cumsum(counts.voxels)
    n = int(rng.integers(ends[-1]))
    k = int(np.searchsorted(ends, n, side="right"))
    cut = shard.content.cut[0][1:]
    grid = [-(-s // c) for s, c in zip(shard.geometry.shape, cut, strict=True)]
    place = np.unravel_index(counts.places[k], grid)
    start = [int(p) * c for p, c in zip(place, cut, strict=True)]
    size = [min(c, s - a) for c, s, a in zip(cut, shard.geometry.shape, start, strict=True)]
    labelmap = shard.content.kind == "labelmap"
    values = shard.plane(0 if labelmap else position, start, size)
    plane = values == segment if labelmap else values >= 0.5
    inside = np.flatnonzero(plane)
    if len(inside) != counts.voxels[k]:
        raise ProofError("its counts of voxels contradict its voxels; write it again", source=shard.name)
    voxel = np.unravel_index(int(inside[n - (int(ends[k]) - counts.voxels[k])]), plane.shape)
    return (start[0] + int(voxel[0]), start[1] + int(voxel[1]), start[2] + int(voxel[2]))
