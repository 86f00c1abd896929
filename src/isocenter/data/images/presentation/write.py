"""Write a softcopy presentation state, read it back, and prove in patient millimetres that it draws in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset

from isocenter.core.errors import ConfigError, DataError, ProofError
from isocenter.core.mask import Mask
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import Origin, content_time, new_object
from isocenter.data.images.marks import Marks
from isocenter.data.images.presentation.display import describe_display, is_colour
from isocenter.data.images.presentation.drawing import Drawing, Shape, planes_of, segment_layer, shapes_of, spot_layer
from isocenter.data.images.presentation.read import (
    COLOUR,
    GRAYSCALE,
    PresentationState,
    index_of,
    place_of,
    read_presentation_state,
)
from isocenter.data.images.proof import Proof, prove
from isocenter.data.images.quiet import quiet
from isocenter.data.images.rtstruct.fill import fill_polygon
from isocenter.data.images.seg.colour import to_dicom_lab
from isocenter.data.images.seg.sources import SourcePlane

__all__ = ["PresentationProof", "write_presentation_state"]

_NEAR_MM = 0.01
_NEAR_PIXELS = 0.01
_MOST_POINTS = 65535
_ROOM = 0.8
_LONGEST_LAYER_TEXT = 64


@dataclass(frozen=True)
class PresentationProof:
    """What reading a presentation state back proved.

    Args:
        outlines: Of the segments: the voxels that the outlines hold are exactly those of the mask; None without a mask.
        spot_error_mm: Largest distance between a place that was pointed at and where it was read back; None where there
            is none, or the image has no place in the patient.
        state: As read back.
    """

    outlines: Proof | None
    spot_error_mm: float | None
    state: PresentationState


@quiet()
def write_presentation_state(
    drawing: Drawing,
    path: Path,
    *,
    headers: Sequence[Dataset],
    label: str = "FINDINGS",
    description: str = "Isocenter presentation state",
    created: datetime | None = None,
    marks: Marks | None = None,
) -> PresentationProof:
    """Write a Grayscale or Color Softcopy Presentation State that draws what was found over its image.

    Each segment and each place is in a layer of its own, in its own colour, so that a viewer can show one of them. The
    window, the rescale to Hounsfield units (or others) and the polarity are those that the image's header states.

    Args:
        drawing: What to draw.
        path: Final file name; appears only when the proof holds.
        headers: Of the image, without pixel data.
        label: Content Label, at most 16 characters: capitals, digits, blank, underscore.
        description: Series and content description, at most 64 characters.
        created: Date and time of making; None takes those of the source.
        marks: What it says of the algorithm behind it; None for nothing.

    Returns:
        The proof.

    Raises:
        ConfigError: The label or description is not one that DICOM can hold.
        DataError: There is nothing to draw, the images' rescale differs, or the file can't be written.
        GeometryError: The drawing lies on no plane of the source.
        ProofError: What was read back is elsewhere than what was to be drawn.

    Source:
        DICOM PS3.3 A.33.1, A.33.2, C.10.4, C.10.5, C.10.7, C.11.8, C.11.10, C.11.11.
    """
    if not (1 <= len(label) <= 16 and all(c.isdigit() or c in " _" or "A" <= c <= "Z" for c in label)):
        raise ConfigError("a content label must have 1 to 16 capitals, digits, blanks or underscores")
    if not 1 <= len(description) <= 64 or "\\" in description:
        raise ConfigError("a description must have 1 to 64 characters and no backslash")
    shapes = shapes_of(drawing, headers)
    drawn = [(s.plane.sop_instance_uid, s.plane.frame_number, s.kind, s.points_xy.tolist(), s.layer, s.text, s.tracking)
             for s in shapes]  # fmt: skip
    colours = _colours(drawing)
    digest = hashlib.sha256(repr((drawn, colours, label, description, created)).encode()).hexdigest()
    kind = COLOUR if is_colour(headers) else GRAYSCALE
    dataset = new_object(headers, Origin(kind, "PR", description, 9501, (digest,), created, marks))
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = content_time(headers, created)
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = label, description, ""
    dataset.Laterality = str(headers[0].get("Laterality") or "")
    used = {s.plane.sop_instance_uid for s in shapes}
    shown = [h for h in headers if str(h.SOPInstanceUID) in used]
    dataset.ReferencedSeriesSequence = _series(shown, shapes)
    dataset.GraphicAnnotationSequence = _annotations(shapes)
    dataset.GraphicLayerSequence = [_layer(order, *one) for order, one in enumerate(colours, start=1)]
    describe_display(dataset, shown, [s.plane for s in shapes])
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        return _prove(drawing, headers, read_presentation_state(temporary, headers))


def _colours(drawing: Drawing) -> list[tuple[str, str, tuple[int, int, int]]]:
    """Return layer, what it shows, and colour."""
    found = [] if drawing.mask is None else [(segment_layer(s), s.label, s.colour) for s in drawing.mask.segments]
    return found + [(spot_layer(place), spot.label, spot.colour) for place, spot in enumerate(drawing.spots)]


def _layer(order: int, name: str, said: str, colour: tuple[int, int, int]) -> Dataset:
    item = Dataset()
    item.GraphicLayer = name
    item.GraphicLayerOrder = str(order)
    item.GraphicLayerRecommendedDisplayCIELabValue = to_dicom_lab(colour)
    item.GraphicLayerDescription = said[:_LONGEST_LAYER_TEXT]
    return item


def _series(headers: Sequence[Dataset], shapes: Sequence[Shape]) -> list[Dataset]:
    """Return the Referenced Series Sequence: the images that something is drawn on, by series."""
    frames: dict[str, set[int]] = {}
    for shape in shapes:
        numbers = frames.setdefault(shape.plane.sop_instance_uid, set())
        if shape.plane.frame_number is not None:
            numbers.add(shape.plane.frame_number)
    series: dict[str, Dataset] = {}
    for header in headers:
        item = series.setdefault(str(header.SeriesInstanceUID), Dataset())
        item.SeriesInstanceUID = str(header.SeriesInstanceUID)
        uid = str(header.SOPInstanceUID)
        reference = _image(str(header.SOPClassUID), uid, sorted(frames[uid]))
        item.ReferencedImageSequence = [*(item.get("ReferencedImageSequence") or ()), reference]
    return list(series.values())


def _image(sop_class_uid: str, sop_instance_uid: str, frames: Sequence[int]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if frames:
        item.ReferencedFrameNumber = [str(f) for f in frames] if len(frames) > 1 else str(frames[0])
    return item


def _annotations(shapes: Sequence[Shape]) -> list[Dataset]:
    """Return an annotation for each layer and plane."""
    by_place: dict[tuple[str, str, int | None], list[Shape]] = {}
    for shape in shapes:
        place = (shape.layer, shape.plane.sop_instance_uid, shape.plane.frame_number)
        by_place.setdefault(place, []).append(shape)
    items = []
    for (layer, uid, frame), here in by_place.items():
        item = Dataset()
        frames = [] if frame is None else [frame]
        item.ReferencedImageSequence = [_image(here[0].plane.sop_class_uid, uid, frames)]
        item.GraphicLayer = layer
        texts = [_text(shape) for shape in here if shape.text]
        if texts:
            item.TextObjectSequence = texts
        item.GraphicObjectSequence = [_graphic(shape) for shape in here]
        items.append(item)
    return items


def _graphic(shape: Shape) -> Dataset:
    if len(shape.points_xy) > _MOST_POINTS:
        raise DataError(f"an outline has more than {_MOST_POINTS} points, which a graphic can't hold")
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(shape.points_xy)
    item.GraphicData = shape.points_xy.ravel().astype(np.float32).tolist()
    item.GraphicType = shape.kind
    item.GraphicFilled = "N"
    if all(shape.tracking):
        item.TrackingID, item.TrackingUID = shape.tracking
    return item


def _text(shape: Shape) -> Dataset:
    """Return a text that points at the rightmost point of its shape, or where that leaves no room, at the highest."""
    item = Dataset()
    item.UnformattedTextValue = shape.text[:1024]
    item.AnchorPointAnnotationUnits = "PIXEL"
    at = shape.points_xy[int(shape.points_xy[:, 0].argmax())]
    if at[0] > _ROOM * shape.plane.shape[1]:
        at = shape.points_xy[int(shape.points_xy[:, 1].argmin())]
    item.AnchorPoint = [float(np.float32(v)) for v in at]
    item.AnchorPointVisibility = "N"
    return item


def _prove(drawing: Drawing, headers: Sequence[Dataset], state: PresentationState) -> PresentationProof:
    planes = planes_of(drawing.geometry, headers)
    outlines = None
    if drawing.mask is not None:
        solid = _solid(drawing.mask)
        outlines = prove(solid, _filled(solid, state, planes))
    errors = [
        _spot_error(state, drawing, planes, number, np.asarray(spot.index_zyx))
        for number, spot in enumerate(drawing.spots)
    ]
    placed = [e for e in errors if e is not None]
    return PresentationProof(outlines, max(placed) if placed else None, state)


def _solid(mask: Mask) -> Mask:
    if mask.array.dtype == np.bool_:
        return mask
    return replace(mask, array=np.stack([mask.segment_array(s.number) for s in mask.segments]))


def _filled(mask: Mask, state: PresentationState, planes: Sequence[SourcePlane | None]) -> Mask:
    """Return the mask that the outlines read back hold, put into the patient by the headers of their images."""
    stack = np.zeros(mask.array.shape, dtype=np.bool_)
    number_of = {(p.sop_instance_uid, p.frame_number): z for z, p in enumerate(planes) if p is not None}
    place_in = {segment_layer(s): place for place, s in enumerate(mask.segments)}
    for shape in state.shapes:
        if shape.kind != "POLYLINE" or shape.layer not in place_in:
            continue
        z = number_of[shape.plane.sop_instance_uid, shape.plane.frame_number]
        at = place_of(shape)
        if at is None or mask.geometry.affine is None:
            points = index_of(shape)
        else:
            index = mask.geometry.to_index(at)
            if np.abs(index[:, 0] - z).max() > _NEAR_PIXELS:
                raise ProofError("an outline read back lies on another plane than its segment; nothing was kept")
            points = index[:, 1:]
        inside, on_line = fill_polygon(points[:-1], mask.geometry.shape[1:])
        stack[place_in[shape.layer], z] |= inside | on_line
    return replace(mask, array=stack)


def _spot_error(
    state: PresentationState,
    drawing: Drawing,
    planes: Sequence[SourcePlane | None],
    number: int,
    index_zyx: np.ndarray,
) -> float | None:
    """Return how far a place read back is from the one pointed at, in mm; None without a place in the patient.

    Raises:
        ProofError: It is elsewhere, on another image, or not there.
    """
    found = [s for s in state.shapes if s.layer == spot_layer(number)]
    plane = planes[round(float(index_zyx[0]))]
    if len(found) != 1 or plane is None or found[0].kind != "CIRCLE":
        raise ProofError("a place that was to be pointed at was not read back; nothing was kept")
    here = (found[0].plane.sop_instance_uid, found[0].plane.frame_number)
    if here != (plane.sop_instance_uid, plane.frame_number):
        raise ProofError("a place is pointed at on another image than it is on; nothing was kept")
    if np.abs(index_of(found[0])[0] - index_zyx[1:]).max() > _NEAR_PIXELS and drawing.geometry.affine is None:
        raise ProofError("a place read back is not where it was pointed at; nothing was kept")
    at = place_of(found[0])
    if at is None or drawing.geometry.affine is None:
        return None
    onto_plane = np.array([[round(float(index_zyx[0])), *index_zyx[1:]]])
    error = float(np.linalg.norm(at[0] - drawing.geometry.to_world(onto_plane)[0]))
    if error > _NEAR_MM:
        raise ProofError("a place read back is not where it was pointed at; nothing was kept")
    return error
