"""The image and the mask of a phenotype: read from any file, put on one grid, and on a regular one where asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from isocenter.core import Geometry, Image, Mask, Quantity
from isocenter.core.errors import ConfigError, DataError, GeometryError
from isocenter.data.images import read_nifti_mask, read_nrrd_mask, resample_to
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.rtstruct import read_rtstruct
from isocenter.data.images.seg import read_seg

__all__ = ["Interpolation", "read_mask", "resampled"]

Interpolation = Literal["nearest", "linear", "cubic"]

_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}
_LEAST_KEPT = 0.9


@dataclass(frozen=True)
class Placed:
    """A mask on an image's grid.

    Args:
        mask: The mask.
        notes: What was done to bring it there.
    """

    mask: Mask
    notes: tuple[str, ...] = ()


def read_mask(path: Path, image: Image) -> Placed:
    """Read a mask and put it on its image's grid.

    Args:
        path: A NIfTI, NRRD or MetaImage of labels, a DICOM SEG, or an RTSTRUCT.
        image: The image that it was drawn on.

    Raises:
        DataError: The file can't be read, or is none of these.
        GeometryError: It lies in another frame of reference, or part of it lies outside of the image.
    """
    name = path.name.lower()
    if not path.is_file():
        raise DataError("there is no such file; give a NIfTI, NRRD, MetaImage, SEG or RTSTRUCT", source=path.name)
    if name.endswith((".nii", ".nii.gz")):
        mask = read_nifti_mask(path)
    elif name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        mask = read_nrrd_mask(path)
    else:
        mask = _dicom_mask(path, image)
    if mask.geometry.same_grid(image.geometry):
        return Placed(mask)
    ours, theirs = image.geometry.frame_uid, mask.geometry.frame_uid
    if ours and theirs and ours != theirs:
        raise GeometryError(
            "the mask lies in another frame of reference than the image: nothing says where one is in the other",
            source=path.name,
        )
    moved = resample_to(mask, image.geometry)
    _nothing_lost(mask, moved, path.name)
    return Placed(
        moved,
        (f"the mask was on another grid {mask.geometry.shape}; each voxel of the image took the nearest label",),
    )


def _dicom_mask(path: Path, image: Image) -> Mask:
    try:
        kind = str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    except InvalidDicomError as error:
        raise DataError(
            "this is no mask that can be read; give a NIfTI, NRRD, MetaImage, SEG or RTSTRUCT", source=path.name
        ) from error
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error
    if kind == "RTSTRUCT":
        return read_rtstruct(path, image.geometry)
    if kind != "SEG":
        raise DataError(
            f"a DICOM file of modality {kind or 'unknown'} is no mask; give a SEG or RTSTRUCT", source=path.name
        )
    try:
        return read_seg(path, geometry=image.geometry)
    except GeometryError:
        return read_seg(path)


def _nothing_lost(before: Mask, after: Mask, name: str) -> None:
    for segment in before.segments:
        had = int(before.segment_array(segment.number).sum()) * (before.geometry.voxel_volume_mm3 or 0.0)
        has = int(after.segment_array(segment.number).sum()) * (after.geometry.voxel_volume_mm3 or 0.0)
        if has < _LEAST_KEPT * had:
            raise GeometryError(
                f"segment {segment.number} loses {1 - has / had:.0%} of its volume on the image's grid: part of it "
                "lies outside of the image, or the image is much coarser; give the image that it was drawn on",
                source=name,
            )


def resampled(
    image: Image, mask: Mask, spacing_mm: tuple[float, float, float], interpolation: Interpolation
) -> tuple[Image, Mask, dict[str, object]]:
    """Bring an image and its mask to another spacing, centres of both grids in one point.

    HU are rounded to whole numbers, as IBSI asks for. A voxel is in a segment where the mask, resampled linearly, is
    half or more.

    Args:
        image: The image.
        mask: On its grid.
        spacing_mm: Of the new grid (z, y, x).
        interpolation: Of the image.

    Returns:
        Image, mask, and what was done.

    Raises:
        GeometryError: The image has no place, or is a cine.
        ConfigError: The grid would be too large.

    Source:
        IBSI manual, interpolation: align grid centres; partial volume threshold 0.5.
    """
    geometry = image.geometry
    affine = geometry.require_affine("resampling")
    old = np.array(geometry.spacing_mm or (1.0, 1.0, 1.0))
    ratio = np.array(spacing_mm) / old
    shape = np.ceil(np.array(geometry.shape) / ratio - 1e-9).astype(int).clip(1)
    if int(np.prod(shape, dtype=np.int64)) > 1 << 29:
        raise ConfigError(f"at {spacing_mm} mm the image would have {tuple(shape.tolist())} voxels; take larger ones")
    start = (np.array(geometry.shape) - 1) / 2 - (shape - 1) / 2 * ratio
    matrix = affine.copy()
    matrix[:3, :3] = affine[:3, :3] * ratio
    matrix[:3, 3] = geometry.to_world([start.tolist()])[0]
    grid = Geometry((int(shape[0]), int(shape[1]), int(shape[2])), matrix, geometry.frame_uid)
    order = _ORDER[interpolation]
    moved = resample_to(replace(image, array=image.array.astype(np.float64)), grid, order=order)
    rounded = image.quantity is Quantity.HU and order > 0
    if rounded:
        moved = replace(moved, array=np.rint(moved.array))
    soft = Mask(
        np.stack([mask.segment_array(s.number) for s in mask.segments]).astype(np.float32), geometry, mask.segments
    )
    shares = resample_to(soft, grid)
    inside = Mask(shares.array >= 0.5, grid, mask.segments, mask.source)
    record: dict[str, object] = {
        "spacing_mm_zyx": list(spacing_mm), "interpolation": interpolation, "rounded_to_whole_hu": rounded,
        "mask": "linear, inside at 0.5 or more", "grids": "centres aligned",
    }  # fmt: skip
    return moved, inside, record
