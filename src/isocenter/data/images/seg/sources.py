"""The source images of a mask: which source plane each mask plane lies on.

A plane of the mask refers to a plane of the source only where both are the same pixels of the patient: same rows and
columns, and corners within a hundredth of a millimetre. A mask on a grid of its own (resampled, reoriented) refers to
the series alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pydicom import Dataset

from isocenter.core.errors import DataError, GeometryError
from isocenter.core.geometry import Geometry

__all__ = ["SourcePlane", "complete", "frame_of_reference", "match_planes", "source_planes"]

_TOLERANCE_MM = 0.01
_SHARED, _PER_FRAME = 0x52009229, 0x52009230


@dataclass(frozen=True)
class SourcePlane:
    """One plane of a source image.

    Args:
        sop_class_uid: Of the instance.
        sop_instance_uid: Of the instance.
        frame_number: 1-based frame of a multi-frame instance, None for a single-frame one.
        shape: Rows and columns.
        corners_lps_mm: Columns: position, step per column and step per row, all in mm; None without a place.
        orientation: Image Orientation (Patient), None without a place.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    shape: tuple[int, int]
    corners_lps_mm: Float[np.ndarray, "3 3"] | None
    orientation: tuple[float, ...] | None


def complete(headers: Sequence[Dataset]) -> Dataset:
    """Return the first header, after a look whether all of them can be referred to and lie in one space.

    Raises:
        DataError: No header, or one without the UIDs that a reference needs.
        GeometryError: Two frames of reference.
    """
    if not headers:
        raise DataError("a DICOM segmentation copies patient and study from its source: pass the source's headers")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not all(header.get(keyword) for header in headers):
            raise DataError(f"a source header has no {keyword}, so that nothing can refer to it; mend the source")
    if len({str(header.get("FrameOfReferenceUID", "")) for header in headers}) > 1:
        raise GeometryError("the source headers have two frames of reference; pass those of one series only")
    return headers[0]


def source_planes(headers: Sequence[Dataset]) -> list[SourcePlane]:
    """List the planes of the source: one per single-frame instance, one per frame of a multi-frame one."""
    planes = []
    for header in headers:
        multi = "NumberOfFrames" in header and (
            int(header.NumberOfFrames or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header
        )
        for frame in range(int(header.NumberOfFrames or 1) if multi else 1):
            position = _value(header, frame, "PlanePositionSequence", "ImagePositionPatient")
            orientation = _value(header, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
            spacing = _value(header, frame, "PixelMeasuresSequence", "PixelSpacing")
            if multi and "PerFrameFunctionalGroupsSequence" not in header:
                position = None  # one position for all frames of a cine, or none that says where this frame is
            planes.append(
                SourcePlane(
                    str(header.SOPClassUID),
                    str(header.SOPInstanceUID),
                    frame + 1 if multi else None,
                    (int(header.get("Rows", 0)), int(header.get("Columns", 0))),
                    _corners(position, orientation, spacing),
                    tuple(float(v) for v in orientation) if orientation is not None and len(orientation) == 6 else None,
                )
            )
    return planes


def _value(header: Dataset, frame: int, group: str, keyword: str) -> Any:
    for tag, index in ((_PER_FRAME, frame), (_SHARED, 0)):
        items = header[tag].value if tag in header else []
        if index < len(items) and items[index].get(group):
            value = items[index][group].value[0].get(keyword)
            if value is not None:
                return value
    return header.get(keyword)


def _corners(position: Any, orientation: Any, spacing: Any) -> Float[np.ndarray, "3 3"] | None:
    if position is None or orientation is None or spacing is None:
        return None
    if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2:
        return None
    direction = np.asarray([float(v) for v in orientation])
    rows_mm, columns_mm = float(spacing[0]), float(spacing[1])
    return np.stack([[float(v) for v in position], direction[:3] * columns_mm, direction[3:] * rows_mm], axis=1)


def match_planes(planes: Sequence[SourcePlane], geometry: Geometry) -> list[SourcePlane | None]:
    """Find for each z of the mask the source plane with the same pixels.

    Without a place, planes are matched by their order, which then must be as many with as many rows and columns.

    Raises:
        GeometryError: The mask has no place in the patient and its planes are not those of the source.
    """
    depth, rows, columns = geometry.shape
    if geometry.affine is None:
        if len(planes) == depth and all(p.shape == (rows, columns) for p in planes):
            return list(planes)
        raise GeometryError(
            f"the mask has no place in the patient, and its {depth} planes of {rows}x{columns} are not those of the "
            f"{len(planes)} source planes; give the mask an affine, or the headers of the image it was drawn on"
        )
    placed = [p for p in planes if p.corners_lps_mm is not None and p.shape == (rows, columns)]
    if not placed:
        return [None] * depth
    affine = geometry.affine
    # Three corners fix a plane and its pixel grid: (position, step per column, step per row) times these columns.
    corners = np.array([[1, 1, 1], [0, columns - 1, 0], [0, 0, rows - 1]], dtype=np.float64)
    wanted = [
        (np.stack([affine[:3, 0] * z + affine[:3, 3], affine[:3, 2], affine[:3, 1]], axis=1) @ corners).ravel()
        for z in range(depth)
    ]
    found = np.array([(np.asarray(p.corners_lps_mm) @ corners).ravel() for p in placed])
    matches: list[SourcePlane | None] = []
    for row in wanted:
        error = np.abs(found - row).max(axis=1)
        best = int(error.argmin())
        matches.append(placed[best] if error[best] <= _TOLERANCE_MM else None)
    return matches


def frame_of_reference(header: Dataset, geometry: Geometry, matches: Sequence[SourcePlane | None]) -> str:
    """Return the frame of reference to write, "" for none; never one that is only likely.

    Raises:
        GeometryError: The mask names another frame than the source; it has a place but names no frame, and its planes
            are not those of the source; or neither of both names one.
    """
    theirs = str(header.get("FrameOfReferenceUID", "") or "")
    if geometry.affine is None:
        return theirs if all(m is not None and m.corners_lps_mm is not None for m in matches) else ""
    mine = geometry.frame_uid
    if mine and theirs and mine != theirs:
        raise GeometryError(
            f"the mask lies in frame of reference {mine}, its source in {theirs}: they need a registration first; pass "
            "the headers of the image that the mask was drawn on"
        )
    if not mine and not all(m is not None for m in matches):
        raise GeometryError(
            "the mask names no frame of reference, and its planes are not those of the source; set frame_uid of its "
            "geometry if you know that it lies in the same space"
        )
    if not (mine or theirs):
        raise GeometryError(
            "the mask has a place in the patient, but neither it nor its source names a frame of reference"
        )
    return mine or theirs
