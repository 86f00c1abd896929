"""Export a shard as OME-Zarr: a multiscale image, with its labels, that viewers and other tools open.

OME-Zarr 0.4 and 0.5 place a grid by a scale and a translation for each axis; they know no direction. So the scale is
the spacing in mm, and the translation is the place of the first voxel along the grid's own axes. For a grid that is not
oblique these axes are those of the patient, and the translation is LPS itself (z to the head, y to the back, x to the
left). The exact affine to LPS stands among the attributes in any case, under "isocenter".

Source:
    Moore et al., OME-NGFF specification, versions 0.4 and 0.5 (multiscales, labels).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry
from isocenter.core.errors import CapabilityError, ConfigError, DataError, GeometryError, PixelError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.shards.shard import Shard

__all__ = ["Version", "export_ome_zarr", "origin_of_ome_zarr"]

Version = Literal["0.4", "0.5"]
_LABELS = "segments"
_SMALL = 64
_NOTE = (
    "z, y and x run along the grid's own axes, as near to head, back and left (DICOM LPS) as they can; where 'oblique' "
    "is true, scale and translation hold in the grid's own frame, and the affine alone places it in the patient"
)


@dataclass(frozen=True)
class _Target:
    """What is being written."""

    zarr: ModuleType
    version: Version
    chunks: tuple[int, int, int]


def export_ome_zarr(
    shard: Shard,
    folder: Path,
    *,
    version: Version = "0.5",
    chunks: tuple[int, int, int] = (64, 64, 64),
    levels: int | None = None,
    masks: bool = True,
    replace: bool = False,
) -> None:
    """Write a shard, and the label map beside it, as an OME-Zarr folder, and compare what was written.

    Only some slices are in memory at once. Values of the first level are exact; each further level halves the axes that
    are finely sampled, by the mean for images (rounded for whole numbers) and by the most frequent label for masks.

    Args:
        shard: An image.
        folder: A new folder, e.g. "case.ome.zarr"; its parent is made.
        version: Of the specification: 0.4 is Zarr 2, 0.5 is Zarr 3.
        chunks: Voxels (z, y, x) of a chunk.
        levels: How many levels; by default until no axis has more than 64 voxels.
        masks: Whether to write the mask beside the image; a stack of planes can't be.
        replace: Whether a folder that is there gives way, once the new one is whole.

    Raises:
        ConfigError: Another version, chunks that are not positive, or no level.
        GeometryError: The frames are a cine's: it has no third axis in space.
        DataError: The shard is a mask, its mask is a stack of planes, or either is damaged.
        PixelError: What was read back differs; nothing is kept.
        OutputError: The disk refused, or the folder is not empty; nothing is kept.
        CapabilityError: zarr 3 is not installed.
    """
    if version not in ("0.4", "0.5") or min(chunks) < 1 or len(chunks) != 3 or (levels is not None and levels < 1):
        raise ConfigError(
            "OME-Zarr is written as version 0.4 or 0.5, in positive chunks (z, y, x), with a level or more"
        )
    if shard.content.kind != "image":
        raise DataError("holds a mask; export the image that it lies beside", source=shard.name)
    if shard.geometry.stack == "time":
        raise GeometryError("frames in time are not exported as OME-Zarr: there is no z axis", source=shard.name)
    mask = shard.mask if masks else None
    if mask is not None and mask.content.kind != "labelmap":
        raise DataError(
            "its mask is a stack of planes, and labels can't overlap; export with masks=False", source=shard.name
        )
    target = _Target(_zarr(), version, chunks)
    make_parent(folder)
    with atomic_folder(folder, replace=replace) as temporary:
        group = target.zarr.open_group(str(temporary), mode="w", zarr_format=3 if version == "0.5" else 2)
        plan = _plan(shard.geometry, levels)
        _write(target, group, shard, plan, _mean)
        group.attrs.update(_described(target, shard, plan, {}))
        if mask is not None:
            holder = group.create_group("labels")
            holder.attrs.update(_wrapped(version, {"labels": [_LABELS]}))
            labels = holder.create_group(_LABELS)
            _write(target, labels, mask, plan, _most_frequent)
            labels.attrs.update(_described(target, mask, plan, {"image-label": _image_label(mask, version)}))
        _compare(target, temporary, shard, mask)


def origin_of_ome_zarr(folder: Path) -> str:
    """Return what an exported folder was made of, "" where it does not say, or is not there.

    Args:
        folder: Written by `export_ome_zarr`.
    """
    for name in ("zarr.json", ".zattrs"):
        try:
            told = json.loads((folder / name).read_text("utf-8"))
            return str(told.get("attributes", told)["isocenter"]["origin"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return ""


def _zarr() -> ModuleType:
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise CapabilityError("the export as OME-Zarr needs zarr: pip install 'zarr>=3,<4'") from error
    if int(zarr.__version__.split(".")[0]) < 3:
        raise CapabilityError(
            f"the export as OME-Zarr needs zarr 3, here is {zarr.__version__}: pip install 'zarr>=3,<4'"
        )
    return zarr  # type: ignore[no-any-return,unused-ignore]


def _plan(geometry: Geometry, levels: int | None) -> list[tuple[int, int, int]]:
    """Return for each level by how much it is coarser than the first along (z, y, x).

    An axis is halved where it is less than twice as coarse as the finest, so that levels come near to isotropic.
    """
    spacing = geometry.spacing_mm or (1.0, *(geometry.pixel_spacing_mm or (1.0, 1.0)))
    factors = [(1, 1, 1)]
    while levels is None or len(factors) < levels:
        now = factors[-1]
        shape = [n // f for n, f in zip(geometry.shape, now, strict=True)]
        if levels is None and max(shape) <= _SMALL:
            break
        open_axes = [a for a in range(3) if shape[a] >= 2]
        if not open_axes:
            break
        finest = min(spacing[a] * now[a] for a in open_axes)
        halved = [a in open_axes and spacing[a] * now[a] < 2 * finest for a in range(3)]
        factors.append(tuple(f * 2 if h else f for f, h in zip(now, halved, strict=True)))  # type: ignore[arg-type]
    return factors


def _write(
    target: _Target,
    group: Any,
    shard: Shard,
    plan: list[tuple[int, int, int]],
    reduce: Callable[[np.ndarray, tuple[int, int, int]], np.ndarray],
) -> None:
    """Write all levels, slab by slab: the first from the shard, each other from the one before."""
    channels = shard.shape[0]
    planar = shard.content.kind == "labelmap"
    finer: Any = None
    for number, factors in enumerate(plan):
        space = tuple(n // f for n, f in zip(shard.geometry.shape, factors, strict=True))
        shape = space if planar else (channels, *space)
        chunk = tuple(min(c, n) for c, n in zip(target.chunks, space, strict=True))
        array = _array(target, group, str(number), shape, chunk if planar else (1, *chunk), shard.stored_dtype)
        step = target.chunks[0]
        before = plan[number - 1] if number else factors
        ratio = tuple(f // b for f, b in zip(factors, before, strict=True))
        for z in range(0, space[0], step):
            depth = min(step, space[0] - z)
            if finer is None:
                slab = shard.patch((z, 0, 0), (depth, *space[1:]), stored=True)
            else:
                part = (
                    slice(z * ratio[0], (z + depth) * ratio[0]),
                    *(slice(0, n * r) for n, r in zip(space[1:], ratio[1:], strict=True)),
                )
                taken = finer[part] if planar else finer[(slice(None), *part)]
                slab = reduce(taken[None] if planar else taken, (ratio[0], ratio[1], ratio[2]))
            if planar:
                array[z : z + depth] = slab[0]
            else:
                array[:, z : z + depth] = slab
        finer = array


def _array(
    target: _Target, group: Any, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
) -> Any:
    names = "czyx"[-len(shape) :]
    if target.version == "0.5":
        return group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, dimension_names=list(names))
    separator = {"name": "v2", "separator": "/"}
    return group.create_array(name, shape=shape, chunks=chunks, dtype=dtype, chunk_key_encoding=separator)


def _mean(values: Shaped[np.ndarray, "c z y x"], ratio: tuple[int, int, int]) -> Shaped[np.ndarray, "c a b d"]:
    parts = _corners(values, ratio)
    total = np.zeros(parts[0].shape, np.float64)
    for part in parts:
        total += part
    total /= len(parts)
    if values.dtype.kind in "iu":
        total = np.rint(total)
    return total.astype(values.dtype)


def _most_frequent(values: Shaped[np.ndarray, "c z y x"], ratio: tuple[int, int, int]) -> Shaped[np.ndarray, "c a b d"]:
    """The most frequent label of each block; of several, the one that comes first in it."""
    parts = np.stack(_corners(values, ratio))
    votes = np.stack([(parts == part).sum(axis=0) for part in parts])
    taken: np.ndarray = np.take_along_axis(parts, votes.argmax(axis=0)[None], axis=0)[0]
    return taken


def _corners(values: np.ndarray, ratio: tuple[int, int, int]) -> list[np.ndarray]:
    """Return the voxels of all blocks by their place in the block."""
    a, b, c = ratio
    return [values[:, i::a, j::b, k::c] for i, j, k in product(range(a), range(b), range(c))]


def _described(target: _Target, shard: Shard, plan: list[tuple[int, int, int]], more: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image or of its labels."""
    geometry, planar = shard.geometry, shard.content.kind == "labelmap"
    spacing = geometry.spacing_mm or (1.0, *(geometry.pixel_spacing_mm or (1.0, 1.0)))
    known = (
        geometry.spacing_mm is not None,
        geometry.pixel_spacing_mm is not None,
        geometry.pixel_spacing_mm is not None,
    )
    first = (0.0, 0.0, 0.0)
    oblique = False
    if geometry.affine is not None and geometry.directions is not None:
        along = geometry.directions.T @ geometry.affine[:3, 3]
        first = (float(along[0]), float(along[1]), float(along[2]))
        oblique = not np.allclose(np.abs(geometry.directions), np.eye(3)[:, ::-1], atol=1e-6)
    lead: list[float] = [] if planar else [1.0]
    nought: list[float] = [] if planar else [0.0]
    datasets = []
    for number, factors in enumerate(plan):
        scale = [s * f for s, f in zip(spacing, factors, strict=True)]
        place = [p + (f - 1) / 2 * s for p, f, s in zip(first, factors, spacing, strict=True)]
        steps = [{"type": "scale", "scale": lead + scale}, {"type": "translation", "translation": nought + place}]
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    axes: list[dict[str, str]] = [] if planar else [{"name": "c", "type": "channel"}]
    axes += [
        {"name": n, "type": "space", **({"unit": "millimeter"} if k else {})} for n, k in zip("zyx", known, strict=True)
    ]
    multiscale: dict[str, Any] = {"name": "labels" if planar else "image", "axes": axes, "datasets": datasets}
    multiscale["type"] = "most frequent" if planar else "mean"
    if target.version == "0.4":
        multiscale["version"] = "0.4"
    affine = None if geometry.affine is None else geometry.affine.tolist()
    place_note = {"world": "DICOM LPS, mm", "affine_zyx_to_lps_mm": affine, "oblique": oblique, "note": _NOTE}
    place_note["sha256_of_source"] = shard.content.sha256
    place_note["origin"] = shard.content.origin
    return {**_wrapped(target.version, {"multiscales": [multiscale], **more}), "isocenter": place_note}


def _wrapped(version: Version, facts: dict[str, Any]) -> dict[str, Any]:
    return {"ome": {"version": "0.5", **facts}} if version == "0.5" else facts


def _image_label(mask: Shard, version: Version) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "colors": [{"label-value": s.number, "rgba": [*s.colour, 255]} for s in mask.segments],
        "properties": [{"label-value": s.number, "name": s.label} for s in mask.segments],
        "source": {"image": "../../"},
    }
    return {**facts, "version": "0.4"} if version == "0.4" else facts


def _compare(target: _Target, folder: Path, shard: Shard, mask: Shard | None) -> None:
    """Read the first level back, slab by slab, and compare every voxel."""
    group = target.zarr.open_group(str(folder), mode="r")
    pairs = [(group["0"], shard)] + ([(group[f"labels/{_LABELS}/0"], mask)] if mask is not None else [])
    for array, source in pairs:
        _, depth, rows, columns = source.shape
        for z in range(0, depth, target.chunks[0]):
            part = slice(z, min(z + target.chunks[0], depth))
            want = source.patch((z, 0, 0), (part.stop - z, rows, columns), stored=True)
            got = array[part][None] if source is mask else array[:, part]
            if got.dtype != want.dtype or got.tobytes() != want.tobytes():
                raise PixelError("values read back from OME-Zarr differ from the shard's; nothing was kept")
