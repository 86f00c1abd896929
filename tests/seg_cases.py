"""Masks and source headers that the tests of DICOM SEG share: CT slices of the phantom, and labels on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from isocenter.core import Code, Geometry, Mask, Segment
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.testing.phantom import phantom

LUNG = Code("39607008", "SCT", "Lung")
LIVER = Code("10200004", "SCT", "Liver")
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")

SEGMENTS = (
    Segment(1, "left lung", ANATOMY, LUNG, LEFT, "lung-1", "1.2.3.4.5", "AUTOMATIC", "lungs-net", (230, 80, 60)),
    Segment(2, "right lung", ANATOMY, LUNG, RIGHT, colour=(20, 130, 250)),
    Segment(3, "liver", ANATOMY, LIVER, algorithm_type="MANUAL", colour=(0, 0, 0)),
)
STRAIGHT = (0.0, 0.0, 0.0)
OBLIQUE = (8.0, -5.0, 11.0)


def ct_headers(
    folder: Path,
    orientation: int = 0,
    *,
    shape: tuple[int, int, int] = (2, 3, 5),
    degrees: tuple[float, float, float] = OBLIQUE,
) -> tuple[list[Dataset], Geometry]:
    """Headers of the phantom as CT slices in the order of its z axis, and its grid in their frame of reference."""
    image = phantom(orientation, shape=shape, degrees=degrees)
    headers = [dcmread(path, stop_before_pixels=True) for path in write_ct_series(folder, image)]
    return headers, Geometry(shape, image.geometry.affine, str(headers[0].FrameOfReferenceUID))


def labels(geometry: Geometry, seed: int = 0) -> Mask:
    """Labels 0 to 3 without any symmetry."""
    array = np.random.default_rng(seed).integers(0, 4, geometry.shape).astype(np.uint16)
    return Mask(array, geometry, SEGMENTS)


def overlapping(geometry: Geometry, seed: int = 0) -> Mask:
    """Three segments that share voxels."""
    array = np.random.default_rng(seed).random((3, *geometry.shape)) > 0.4
    array[:, 0, 0, 0] = True
    return Mask(array, geometry, SEGMENTS)


def probabilities(geometry: Geometry, seed: int = 0) -> Mask:
    """Probabilities, with 0, 0.5, its lower neighbour and 1 among them."""
    array = np.random.default_rng(seed).random((3, *geometry.shape), dtype=np.float32)
    array[0].ravel()[:4] = (0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1.0)
    return Mask(array, geometry, SEGMENTS)
