"""One file, or a folder of DICOM files, as an image or a label mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import DataError, GeometryError
from isocenter.data.images import read_nifti, read_nrrd, read_picture, read_study

__all__ = ["ENDINGS", "PICTURES", "label_image", "read_image", "read_label", "read_one", "same_grid", "stem"]

NIFTI = (".nii.gz", ".nii")
NRRD = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ENDINGS = (*NIFTI, *NRRD, *PICTURES, ".dcm")
_TOLERANCE_MM = 0.01


def stem(path: Path) -> str:
    """Return a file's name without what says its form.

    Example:
        >>> stem(Path("a/case.1.nii.gz"))
        'case.1'
    """
    lower = path.name.lower()
    ending = next((e for e in ENDINGS if lower.endswith(e)), "")
    return path.name[: len(path.name) - len(ending)] if ending else path.name


def read_one(path: Path) -> Image:
    """Read one file, or a folder of DICOM files.

    Raises:
        DataError: It can't be read, or holds more than one series.
    """
    lower = path.name.lower()
    if lower.endswith(NIFTI):
        return read_nifti(path)
    if lower.endswith(NRRD):
        return read_nrrd(path)
    if lower.endswith(PICTURES):
        return read_picture(path)
    found = read_study(path).study.images
    if len(found) != 1:
        raise DataError(f"holds {len(found)} series; a case needs exactly one", source=path)
    return found[0]


def read_image(paths: Sequence[Path]) -> Image:
    """Read one image from the files of its channels, in order.

    Raises:
        DataError: A file can't be read, or its channels lie on different grids.
    """
    images = [read_one(path) for path in paths]
    first = images[0]
    if len(images) == 1:
        return first
    for path, image in zip(paths[1:], images[1:], strict=True):
        if not same_grid(image.geometry, first.geometry):
            raise GeometryError("this channel lies on another grid than the first of its case", source=path)
    return dataclasses.replace(first, array=np.concatenate([image.array.astype(np.float32) for image in images]))


def label_image(path: Path) -> Image:
    """Read a label as one channel of numbers; those of a picture with a palette are its indices.

    Raises:
        DataError: It can't be read, holds several channels that differ, or what are not whole numbers.
    """
    image = read_one(path)
    if path.name.lower().endswith(PICTURES):
        with Picture.open(path) as picture:
            if picture.mode == "P":
                indices = np.asarray(picture)[None, None]
                image = dataclasses.replace(image, array=indices, quantity=Quantity.ARBITRARY)
    if len(image.array) > 1 and not all(np.array_equal(c, image.array[0]) for c in image.array[1:]):
        raise DataError(
            f"a label must hold one number for each voxel; this one has {len(image.array)} channels that differ (a "
            "picture in colour, or several volumes): save class numbers in one channel",
            source=path,
        )
    values = image.array[:1]
    if not np.isfinite(values).all():
        raise DataError("a label holds NaN or infinity: which class is that? Mend the file", source=path)
    if bool((values != np.rint(values)).any()) or float(values.min()) < 0:
        raise DataError("holds what are not whole numbers from 0: is it an image?", source=path)
    return dataclasses.replace(image, array=values)


def read_label(path: Path, names: Sequence[str], values: Sequence[int], like: Geometry) -> Mask:
    """Read a label mask: segment 1 is the first of `names`, and so on.

    Args:
        path: Its file.
        names: Of the classes.
        values: Of the classes in the file; 0 is background.
        like: The grid of its image.

    Raises:
        GeometryError: The label lies on another grid than its image.
        DataError: A value is not one of the classes, or the file can't be read.
    """
    image = label_image(path)
    array = image.array[0]
    if not same_grid(image.geometry, like):
        raise GeometryError(
            f"the label's grid {image.geometry.shape} is not that of its image {like.shape}, or lies elsewhere in the "
            "patient",
            source=path,
        )
    found = np.unique(array)
    unknown = [v for v in found.tolist() if v != 0 and v not in values]
    if unknown:
        shown = ", ".join(f"{v:g}" for v in unknown[:5])
        raise DataError(f"holds the values {shown}, which are no class of this set", source=path)
    mask = np.zeros(array.shape, dtype=np.uint16)
    for number, value in enumerate(values, start=1):
        mask[array == value] = number
    segments = tuple(Segment(number, name) for number, name in enumerate(names, start=1))
    return Mask(mask, like, segments, image.source)


def same_grid(one: Geometry, other: Geometry) -> bool:
    """Tell whether two grids are the same; those without a place in the patient by their shape alone.

    A volume that has a place and one that has none are not taken for the same: which way the other lies is not known.
    """
    if one.shape != other.shape:
        return False
    if one.affine is None or other.affine is None:
        return one.shape[0] == 1 or (one.affine is None and other.affine is None)
    corners = np.array([[0, 0, 0], [n - 1 for n in one.shape]], dtype=np.float64)
    steps = np.concatenate([corners, np.diag([float(n) for n in one.shape])])
    return bool(np.abs(one.to_world(steps) - other.to_world(steps)).max() <= _TOLERANCE_MM)
