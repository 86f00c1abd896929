"""What is drawn: outlines of segments and circles round points, each on a plane of the source, in display coordinates.

A display coordinate counts pixels from the upper left corner of the upper left pixel: its centre is (0.5, 0.5), column
before row (DICOM PS3.3 C.10.5). Indices of arrays count from the centre of the first pixel, row before column. The two
differ by half a pixel and by their order; this file is the only place where one becomes the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from pydicom import Dataset

from isocenter.core.errors import DataError, GeometryError
from isocenter.core.geometry import Geometry
from isocenter.core.mask import Mask, Segment
from isocenter.data.images.rtstruct.outline import trace_outlines
from isocenter.data.images.seg.sources import SourcePlane, match_planes, source_planes

__all__ = ["Drawing", "Shape", "Spot", "planes_of", "segment_layer", "shapes_of", "spot_layer", "to_display"]

_HALF = 0.5
_RADIUS_SHARE = 0.04
"""Radius of a circle round a point, as a share of the shorter side of the image."""


@dataclass(frozen=True)
class Spot:
    """A place that is pointed at.

    Args:
        index_zyx: On the image's grid, voxel centres at whole numbers.
        label: What is there, in words.
        tracking_id: Text that follows it, "" for none.
        tracking_uid: UID of the same.
        colour: sRGB 0-255 to show it in.
    """

    index_zyx: tuple[float, float, float]
    label: str
    tracking_id: str = ""
    tracking_uid: str = ""
    colour: tuple[int, int, int] = (255, 200, 0)


@dataclass(frozen=True, eq=False)
class Drawing:
    """All that is drawn over one image.

    Args:
        geometry: Grid of the image.
        mask: Whose segments are outlined, on that grid; None for no outlines.
        spots: Places that get a circle.

    Raises:
        GeometryError: The mask is on another grid.
        DataError: There is nothing to draw.
    """

    geometry: Geometry
    mask: Mask | None = None
    spots: tuple[Spot, ...] = ()

    def __post_init__(self) -> None:
        if self.mask is not None and not self.mask.geometry.same_grid(self.geometry):
            raise GeometryError("the mask is on another grid than the image it is to be drawn on")
        if self.mask is None and not self.spots:
            raise DataError("there is nothing to draw")


@dataclass(frozen=True, eq=False)
class Shape:
    """A graphic on one plane of the source.

    Args:
        plane: Which.
        kind: "POLYLINE" (closed), "CIRCLE" (centre and a point on it) or another of DICOM's graphic types.
        points_xy: Display coordinates (column, row).
        layer: Graphic layer it is in.
        text: Said beside it, "" for nothing.
        tracking: Tracking text and UID, each "" for none.
    """

    plane: SourcePlane
    kind: str
    points_xy: Float[np.ndarray, "n 2"]
    layer: str
    text: str = ""
    tracking: tuple[str, str] = field(default=("", ""))


def segment_layer(segment: Segment) -> str:
    """Return the layer that a segment is drawn in."""
    return f"SEGMENT {segment.number}"


def spot_layer(place: int) -> str:
    """Return the layer that the spot of this place in the drawing is in."""
    return f"POINT {place + 1}"


def to_display(index_yx: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Return display coordinates (column, row) of indices (row, column).

    Example:
        >>> to_display(np.array([[0.0, 2.0]])).tolist()
        [[2.5, 0.5]]
    """
    return index_yx[:, ::-1] + _HALF


def planes_of(geometry: Geometry, headers: Sequence[Dataset]) -> list[SourcePlane | None]:
    """Return for each z of a grid the plane of the source that holds the same pixels."""
    return match_planes(source_planes(headers), geometry)


def shapes_of(drawing: Drawing, headers: Sequence[Dataset]) -> list[Shape]:
    """Return what a drawing is on the planes of its source.

    Raises:
        GeometryError: Something is to be drawn on a plane that is none of the source's (a resampled image).
        DataError: Nothing is inside any segment, and nothing is pointed at.
    """
    planes = planes_of(drawing.geometry, headers)
    shapes = [] if drawing.mask is None else _outlines(drawing.mask, planes)
    shapes += [_circle(spot, number, drawing.geometry, planes) for number, spot in enumerate(drawing.spots)]
    if not shapes:
        raise DataError("there is nothing to draw: no segment holds a voxel, and nothing is pointed at")
    return shapes


def _outlines(mask: Mask, planes: Sequence[SourcePlane | None]) -> list[Shape]:
    shapes = []
    for segment in mask.segments:
        inside = mask.segment_array(segment.number)
        area = inside.sum(axis=(1, 2))
        largest = int(area.argmax())
        for z in np.flatnonzero(area).tolist():
            said = segment.label if z == largest else ""
            for outline in trace_outlines(inside[z]):
                tracking = (segment.tracking_id, segment.tracking_uid)
                points = to_display(outline)
                closed = np.concatenate([points, points[:1]])
                shapes.append(Shape(_plane(planes, z), "POLYLINE", closed, segment_layer(segment), said, tracking))
                said = ""
    return shapes


def _circle(spot: Spot, number: int, geometry: Geometry, planes: Sequence[SourcePlane | None]) -> Shape:
    z, y, x = spot.index_zyx
    if not bool(geometry.contains_index([spot.index_zyx])[0]):
        raise GeometryError("a place that is to be pointed at lies outside its image")
    centre = to_display(np.array([[y, x]], dtype=np.float64))[0]
    radius = max(1.0, _RADIUS_SHARE * min(geometry.shape[1:]))
    points = np.array([centre, [centre[0] + radius, centre[1]]])
    tracking = (spot.tracking_id, spot.tracking_uid)
    return Shape(_plane(planes, round(z)), "CIRCLE", points, spot_layer(number), spot.label, tracking)


def _plane(planes: Sequence[SourcePlane | None], z: int) -> SourcePlane:
    found = planes[z]
    if found is None:
        raise GeometryError(
            "the answer lies on planes that are none of the source's (a resampled image), so nothing can be drawn over "
            "the source"
        )
    return found
