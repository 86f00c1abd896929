"""The face taken out of a head CT or MR: by the surface of the head and two planes, without a model.

The head is what is not air. Its top and its length from forehead to back of the head set the scale. Below and before
two planes, which lie clear of a brain that is not tilted by more than about five degrees, everything is replaced by air
(nose, mouth, chin), and above them the outermost skin of brow and eyes is too. Ears, the depth of the orbits and the
shape of the skull stay. At ten degrees, half a hundredth of the brain was lost or a fifth of the nose stayed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from isocenter.core import Image, Quantity
from isocenter.core.errors import GeometryError

__all__ = ["deface", "face_mask"]

_AIR_HU = -300.0
_SHARE_OF_RANGE = 0.12
_LEAST_SECTION_MM2 = 300.0
_LENGTHS_MM = (120.0, 235.0)
# Shares of the length of the head, forehead to back, at the level of the brow. In the MNI152 brain with 14 mm of skull
# and skin around it, the floor of the frontal lobes lies 0.69 below the top; below that no brain is before 0.27 behind
# the forehead. What is left between is for heads that are tilted.
_FACE_BELOW, _FACE_BEFORE = 0.78, 0.22
_SKIN_BELOW, _SKIN_DEPTH = 0.55, 0.04
_LEVEL = (0.22, 0.34)


def face_mask(image: Image) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels that `deface` replaces.

    Args:
        image: A volume of a whole head, its top included.

    Returns:
        True where the face is.

    Raises:
        GeometryError: No place in the patient, the top of the head or the face cut off, or not the size of a head.
    """
    affine = image.geometry.require_affine("face_mask")
    spacing = image.geometry.spacing_mm
    if spacing is None:
        raise GeometryError("removing a face needs the spacing of the voxels")
    head = _head(image)
    posterior, superior = _along(affine, head.shape, 1), _along(affine, head.shape, 2)
    volume_mm3 = float(np.prod(spacing))
    heights = superior[head]
    if not heights.size:
        raise GeometryError("there is nothing but air in the image")
    step = max(spacing)
    edges = np.arange(heights.min(), heights.max() + 2 * step, step)
    sections = np.histogram(heights, bins=edges)[0] * volume_mm3 / step
    broad = np.flatnonzero(sections >= _LEAST_SECTION_MM2)
    top = float(edges[broad[-1] + 1]) if broad.size else float(heights.max())
    if top > float(superior.max()) - 1.5 * step:
        raise GeometryError("the top of the head is not in the image, and the face is found from there")
    length, front = _length(head, posterior, superior, top)
    bottom = float(superior.min())
    if bottom > top - (_FACE_BELOW + 0.15) * length:
        raise GeometryError(
            "the image ends above the mouth, so that what is left of the face is not found; crop it instead"
        )
    face = (superior < top - _FACE_BELOW * length) & (posterior < front + _FACE_BEFORE * length)
    brow = (superior < top - _SKIN_BELOW * length) & (posterior < front + _FACE_BEFORE * length)
    return np.asarray(face | _skin(head, brow, _SKIN_DEPTH * length, spacing), dtype=bool)


def deface(image: Image) -> Image:
    """Return the head without its face: what `face_mask` marks becomes air.

    Raises:
        GeometryError: As `face_mask`.
    """
    mask = face_mask(image)
    array = image.array.copy()
    for channel in array:
        channel[mask] = channel.min()
    return replace(image, array=array)


def _head(image: Image) -> Bool[np.ndarray, "z y x"]:
    """Return the largest thing that is not air, with its holes filled."""
    values = image.array[0].astype(np.float32)
    if image.quantity is Quantity.HU:
        level = _AIR_HU
    else:
        low, high = np.percentile(values, (1, 99))
        level = float(low + _SHARE_OF_RANGE * (high - low))
    solid = ndimage.binary_opening(values > level, iterations=1)
    labels, count = ndimage.label(solid)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        solid = labels == int(sizes.argmax())
    return np.asarray(ndimage.binary_fill_holes(solid), dtype=bool)


def _skin(
    head: Bool[np.ndarray, "z y x"],
    where: Bool[np.ndarray, "z y x"],
    depth_mm: float,
    spacing: tuple[float, float, float],
) -> Bool[np.ndarray, "z y x"]:
    """Return the outermost part of the head in a region, and the air before it, where a faint outline may stand.

    Only the region, and as much around it, is gone over.
    """
    skin = np.zeros(head.shape, dtype=bool)
    if not where.any():
        return skin
    box = []
    for axis, step in enumerate(spacing):
        places = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(depth_mm / step)) + 1
        box.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1))
    part = (box[0], box[1], box[2])
    depth = ndimage.distance_transform_edt(head[part], sampling=spacing)
    skin[part] = (depth <= depth_mm) & where[part]
    return skin


def _along(affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...], axis: int) -> Float[np.ndarray, "z y x"]:
    """Return one coordinate in the patient (0: left, 1: posterior, 2: superior) of every voxel, in mm."""
    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    row = affine[axis]
    return np.asarray(row[0] * k + row[1] * j + row[2] * i + row[3], dtype=np.float64)


def _length(
    head: Bool[np.ndarray, "z y x"],
    posterior: Shaped[np.ndarray, "z y x"],
    superior: Shaped[np.ndarray, "z y x"],
    top: float,
) -> tuple[float, float]:
    """Return the length of the head and where the forehead is; the level at which it is measured depends on it."""
    length, front = 185.0, 0.0
    for _ in range(3):
        level = head & (superior < top - _LEVEL[0] * length) & (superior > top - _LEVEL[1] * length)
        places = posterior[level]
        if not places.size:
            break
        front, back = np.percentile(places, (0.2, 99.8))
        length = float(back - front)
    if not _LENGTHS_MM[0] <= length <= _LENGTHS_MM[1]:
        raise GeometryError("this does not have the size of a head, from forehead to back of the head")
    return length, float(front)
