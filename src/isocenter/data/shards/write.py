"""Write images and masks as shards, each proven by reading it back, and whole folders of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry, Image, Mask
from isocenter.core.errors import ConfigError, GeometryError, PixelError, ProofError
from isocenter.core.fingerprint import fingerprint
from isocenter.data.images.atomic import atomic_path, make_parent
from isocenter.data.images.proof import prove, prove_image
from isocenter.data.shards.form import Content, Counts, Statistics, content_to_json, image_facts, mask_facts
from isocenter.data.shards.frame import (
    HEAD_BYTES,
    Chunks,
    blosc,
    checksum_of_header,
    checksum_of_index,
    chunks_of,
    parse_frame,
)
from isocenter.data.shards.layout import PATCH_PLANE, PATCH_VOLUME, layout_for
from isocenter.data.shards.shard import KEY, KEY_SHA256, Shard, open_shard

__all__ = ["SUFFIX", "mask_path", "narrowest", "write_shard"]

SUFFIX = ".b2nd"
_MASK_SUFFIX = ".mask.b2nd"
_INTEGERS = ("uint8", "int8", "int16", "uint16", "int32", "uint32")
_STORABLE = {"b1", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"}

Steps = tuple[tuple[int, int, int], tuple[bool, bool, bool]]


def mask_path(path: Path) -> Path:
    """Return where the mask beside an image's shard lies.

    Example:
        >>> mask_path(Path("shards/case-1.b2nd")).name
        'case-1.mask.b2nd'
    """
    return path.with_name(path.name.removesuffix(SUFFIX) + _MASK_SUFFIX)


def write_shard(
    image: Image,
    path: Path,
    *,
    mask: Mask | None = None,
    patch: tuple[int, int, int] | None = None,
    origin: str = "",
) -> Shard:
    """Write an image, and a mask beside it, for reading in patches.

    The axes are put into the order and direction that runs nearest to head, back and left (nothing is resampled), and
    come back as they were with `read(as_source=True)`. Values are kept exactly; whole numbers are stored in the
    smallest type of integer that holds them all. Nothing is de-identified here; file names of the source are left out.

    Args:
        image: What to write.
        path: A name ending in ".b2nd" on a local disk; the mask becomes ".mask.b2nd" beside it. Folders are made.
        mask: Segments on the same grid.
        patch: Voxels (z, y, x) of the patches that will be read; 96^3 by default, 256^2 for one plane. Others can be
            read as well, more slowly.
        origin: What names the source, e.g. the SHA-256 of its file; kept in the metadata.

    Returns:
        The shard, open.

    Raises:
        ConfigError: The path does not end in ".b2nd", or the patch is not three positive numbers.
        GeometryError: The mask is not on the image's grid.
        PixelError: A type of number that a shard can't hold.
        ProofError: What was read back is not what was written; nothing is kept.
        OutputError: The disk refused; nothing is kept.
        CapabilityError: Blosc2 is not installed.

    Example:
        >>> import tempfile
        >>> from isocenter.testing import phantom
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     shard = write_shard(phantom(13), Path(folder) / "case.b2nd")
        ...     shard.geometry.orientation, shard.read(as_source=True).geometry == phantom(13).geometry
        ('SPL', True)
    """
    if not path.name.endswith(SUFFIX) or path.name.endswith(_MASK_SUFFIX) or path.name == SUFFIX:
        raise ConfigError(f"{path.name}: a shard's name ends in {SUFFIX}, and not in {_MASK_SUFFIX}")
    if mask is not None and not image.geometry.same_grid(mask.geometry):
        raise GeometryError("the mask is not on the image's grid; resample it there first", source=path.name)
    steps = _steps(image.geometry)
    patch = patch or (PATCH_PLANE if image.geometry.shape[0] == 1 else PATCH_VOLUME)
    make_parent(path)
    beside = None
    if mask is not None:
        written = _write_mask(mask, mask_path(path), steps, patch, origin)
        beside = (mask_path(path).name, written)
    array = _native(image.array, path)
    content = _content("image", array, image.geometry, steps, image_facts(image, source=path.name))
    content = replace(content, statistics=_statistics(array), mask=beside, origin=origin)
    with atomic_path(path) as temporary:
        frame = _pack(array, content, patch)
        temporary.write_bytes(frame)
        del frame
        back = open_shard(temporary)
        _prove_image(image, back)
        back.close()
    return open_shard(path)


def narrowest(array: Shaped[np.ndarray, "..."]) -> np.dtype[Any]:
    """Return the smallest type of integer that gives every value back to the last bit, or the array's own type.

    Args:
        array: Truth values, integers or floats.

    Example:
        >>> narrowest(np.array([-1024.0, 3071.0], np.float32)).name, narrowest(np.array([0.5])).name
        ('int16', 'float64')
    """
    if array.dtype == np.bool_:
        return np.dtype(np.uint8)
    if not array.size or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return array.dtype
    low, high = array.min(), array.max()
    for name in _INTEGERS:
        small, limits = np.dtype(name), np.iinfo(name)
        if small.itemsize >= array.dtype.itemsize:
            continue
        if low < limits.min or high > limits.max:
            continue
        if array.dtype.kind in "iu" or all(_same_bits(part, part.astype(small)) for part in _parts(array)):
            return small
        return array.dtype
    return array.dtype


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield planes, so that no temporary is as large as the volume."""
    if array.ndim <= 2:
        yield array
        return
    for part in array:
        yield from _parts(part)


def _same_bits(values: np.ndarray, small: np.ndarray) -> bool:
    """Equal, and no zero with a sign, which an integer would lose."""
    return bool(np.array_equal(values, small) and not np.signbit(values[values == 0]).any())


def _native(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind + str(array.dtype.itemsize) not in _STORABLE:
        raise PixelError(f"a shard can't hold numbers of type {array.dtype}; convert them", source=path.name)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _steps(geometry: Geometry) -> Steps:
    """Axes and flips that bring a grid nearest to LPS; none for a picture without a place, or frames in time."""
    if geometry.affine is None or geometry.stack == "time":
        return (0, 1, 2), (False, False, False)
    return geometry.canonical_steps()


def _content(kind: str, array: np.ndarray, geometry: Geometry, steps: Steps, facts: dict[str, Any]) -> Content:
    """Say what is known before anything is packed; chunks and checksums follow."""
    placed = geometry if geometry.affine is None else geometry.reoriented(*steps)
    return Content(
        kind=kind,
        geometry=placed,
        axes=steps[0],
        flips=steps[1],
        source_affine=geometry.affine,
        source_orientation=geometry.patient_orientation,
        dtype=array.dtype.name,
        sha256=fingerprint(array[0] if kind == "labelmap" else array, geometry),
        cut=((), ()),
        header=0,
        index=0,
        chunks=Chunks((), (), ()),
        facts=facts,
    )


def _write_mask(mask: Mask, path: Path, steps: Steps, patch: tuple[int, int, int], origin: str) -> str:
    """Write the mask, and return the SHA-256 that names it."""
    planes = _native(mask.array[None] if mask.is_labelmap else mask.array, path)
    kind = "labelmap" if mask.is_labelmap else "stack"
    content = replace(_content(kind, planes, mask.geometry, steps, mask_facts(mask)), origin=origin)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_pack(planes, content, patch))
        back = open_shard(temporary)
        read = back.read_mask()
        prove(mask, read)
        if mask.array.dtype != read.array.dtype:
            raise ProofError(f"values are {mask.array.dtype}, read back were {read.array.dtype}; nothing was kept")
        back.close()
    return content.sha256


def _pack(array: Shaped[np.ndarray, "c z y x"], content: Content, patch: tuple[int, int, int]) -> bytes:
    """Return the file: packed by one thread, so that the same input always gives the same bytes."""
    blosc2 = blosc()
    turned = array.transpose(0, *(1 + a for a in content.axes))
    turned = np.flip(turned, tuple(1 + i for i, flip in enumerate(content.flips) if flip))
    stored = np.ascontiguousarray(turned, dtype=narrowest(array))
    shape = (stored.shape[0], stored.shape[1], stored.shape[2], stored.shape[3])
    layout = layout_for(shape, stored.dtype, patch=patch)
    counts: tuple[Counts, ...] = ()
    if content.kind != "image":
        counts = _counts(stored, content, layout.chunks[1:])
    packed = blosc2.asarray(
        stored,
        chunks=layout.chunks,
        blocks=layout.blocks,
        cparams={
            "codec": blosc2.Codec.LZ4HC,
            "clevel": 5,
            "filters": [blosc2.Filter.SHUFFLE if layout.shuffle else blosc2.Filter.NOFILTER],
            "nthreads": 1,
        },
    )
    del stored, turned
    schunk = packed.schunk
    chunks = chunks_of(schunk.get_chunk(n) for n in range(schunk.nchunks))
    schunk.vlmeta[KEY], schunk.vlmeta[KEY_SHA256] = "", ""  # that there is metadata is itself noted in the header
    bare = packed.to_cframe()
    parts = parse_frame(bare[:HEAD_BYTES], source="a new shard")
    header, index = checksum_of_header(bare[: parts.header]), checksum_of_index(bare[parts.tail :])
    del bare
    full = replace(
        content, cut=(layout.chunks, layout.blocks), header=header, index=index, chunks=chunks, counts=counts
    )
    text = content_to_json(full)
    schunk.vlmeta[KEY], schunk.vlmeta[KEY_SHA256] = text, hashlib.sha256(text.encode()).hexdigest()
    frame: bytes = packed.to_cframe()
    return frame


def _prove_image(image: Image, back: Shard) -> None:
    read = back.read()  # compares SHA-256 of voxels and place on its way
    prove_image(image, read)
    if image.array.dtype.newbyteorder("=") != read.array.dtype:
        raise ProofError(f"values are {image.array.dtype}, read back were {read.array.dtype}; nothing was kept")


def _statistics(array: np.ndarray) -> Statistics:
    """Sums in double precision, plane by plane: a volume in doubles would be four times its size."""
    count, total, low, high = 0, 0.0, np.inf, -np.inf
    for plane in _planes(array):
        count, total = count + plane.size, total + float(plane.sum())
        if plane.size:
            low, high = min(low, float(plane.min())), max(high, float(plane.max()))
    if not count:
        return Statistics(0.0, 0.0, 0.0, 0.0)
    mean = total / count
    spread = sum(float(np.square(plane - mean).sum()) for plane in _planes(array))
    return Statistics(low, high, mean, float(np.sqrt(spread / count)))


def _planes(array: np.ndarray) -> Iterator[np.ndarray]:
    for plane in _parts(array):
        wide = plane.astype(np.float64)
        yield wide[np.isfinite(wide)] if plane.dtype.kind == "f" else wide


def _counts(stored: np.ndarray, content: Content, cut: Sequence[int]) -> tuple[Counts, ...]:
    """Count the voxels of each segment in each chunk."""
    grid = [-(-n // c) for n, c in zip(stored.shape[1:], cut, strict=True)]
    numbers = [s.number for s in content.segments]
    places: list[list[int]] = [[] for _ in numbers]
    voxels: list[list[int]] = [[] for _ in numbers]
    for place, index in enumerate(np.ndindex(*grid)):
        box = stored[(slice(None), *(slice(i * c, (i + 1) * c) for i, c in zip(index, cut, strict=True)))]
        if content.kind == "labelmap":
            values, times = np.unique(box, return_counts=True)
            found = dict(zip(values.tolist(), times.tolist(), strict=True))
        else:
            found = {n: int(np.count_nonzero(box[i] >= 0.5)) for i, n in enumerate(numbers)}
        for i, number in enumerate(numbers):
            if found.get(number):
                places[i].append(place)
                voxels[i].append(int(found[number]))
    return tuple(Counts(tuple(p), tuple(v)) for p, v in zip(places, voxels, strict=True))
