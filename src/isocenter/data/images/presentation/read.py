"""Read the graphics of a softcopy presentation state, and say where in the patient they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydicom import Dataset

from isocenter.core.errors import DataError, GeometryError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.presentation.drawing import Shape
from isocenter.data.images.seg.sources import SourcePlane, source_planes

__all__ = ["COLOUR", "GRAYSCALE", "PresentationState", "index_of", "place_of", "read_presentation_state"]

GRAYSCALE = "1.2.840.10008.5.1.4.1.1.11.1"
COLOUR = "1.2.840.10008.5.1.4.1.1.11.2"
_STATES = {GRAYSCALE, COLOUR, *(f"1.2.840.10008.5.1.4.1.1.11.{n}" for n in (3, 4))}


@dataclass(frozen=True, eq=False)
class PresentationState:
    """A presentation state's graphics.

    Args:
        sop_class_uid: Of it.
        sop_instance_uid: Of it.
        series_uid: Of it.
        label: Content label.
        shapes: What is drawn, each on its plane.
        layers: Layers, name to description.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    label: str
    shapes: tuple[Shape, ...]
    layers: Mapping[str, str]


def read_presentation_state(file: Path | Dataset, headers: Sequence[Dataset]) -> PresentationState:
    """Read the graphics of a presentation state.

    Args:
        file: The state.
        headers: Of the images that it is for.

    Raises:
        DataError: No softcopy presentation state, or it draws on an image that is not among the headers.
        GeometryError: It draws in coordinates of the display, which no image has.
    """
    dataset = file if isinstance(file, Dataset) else open_instance(file, pixels=False)
    name = "a presentation state" if isinstance(file, Dataset) else file.name
    if str(dataset.get("SOPClassUID")) not in _STATES:
        raise DataError("not a softcopy presentation state", source=name)
    planes = {(p.sop_instance_uid, p.frame_number): p for p in source_planes(headers)}
    shapes = [s for item in dataset.get("GraphicAnnotationSequence") or () for s in _shapes(item, planes, name)]
    layers = {
        str(i.GraphicLayer): str(i.get("GraphicLayerDescription") or "")
        for i in dataset.get("GraphicLayerSequence", ())
    }
    unknown = {s.layer for s in shapes} - set(layers)
    if unknown:
        raise DataError("it draws in a layer that it does not have", source=name)
    return PresentationState(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.get("ContentLabel") or ""),
        tuple(shapes),
        layers,
    )


def _shapes(item: Dataset, planes: Mapping[tuple[str, int | None], SourcePlane], name: str) -> Iterator[Shape]:
    texts = [str(t.get("UnformattedTextValue") or "") for t in item.get("TextObjectSequence") or ()]
    for reference in item.get("ReferencedImageSequence") or ():
        frames = reference.get("ReferencedFrameNumber")
        listed = [None] if frames is None else [int(f) for f in np.atleast_1d(frames)]
        for frame in listed:
            plane = planes.get((str(reference.ReferencedSOPInstanceUID), frame))
            if plane is None:
                raise DataError("it draws on an image, or a frame, that is not among the headers", source=name)
            said = iter(texts)
            for graphic in item.get("GraphicObjectSequence") or ():
                if str(graphic.get("GraphicAnnotationUnits")) != "PIXEL":
                    raise GeometryError("it draws in coordinates of the display, which have no place", source=name)
                yield Shape(
                    plane,
                    str(graphic.GraphicType),
                    np.asarray(graphic.GraphicData, dtype=np.float64).reshape(-1, 2),
                    str(item.GraphicLayer),
                    next(said, ""),
                    (str(graphic.get("TrackingID") or ""), str(graphic.get("TrackingUID") or "")),
                )


def index_of(shape: Shape) -> Float[np.ndarray, "n 2"]:
    """Return a shape's points as indices (row, column) of its plane, the first pixel's centre at (0, 0)."""
    return shape.points_xy[:, ::-1] - 0.5


def place_of(shape: Shape) -> Float[np.ndarray, "n 3"] | None:
    """Return where a shape's points are in the patient, LPS mm, by the header of its image; None without a place.

    Source:
        DICOM PS3.3 C.7.6.2.1.1.
    """
    corners = shape.plane.corners_lps_mm
    if corners is None:
        return None
    row, column = index_of(shape).T
    return np.asarray(np.column_stack([np.ones(len(row)), column, row]) @ corners.T)
