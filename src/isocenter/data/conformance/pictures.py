"""Rules of segmentations, presentation states and parametric maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from isocenter.data.conformance.rules import Objects, rule

__all__: list[str] = []


@rule(
    "seg.codes",
    "Every segment is coded by category and type",
    "DICOM PS3.3 C.8.20.4 (Segment Description Macro)",
    on=("SEG",),
)
def _seg_codes(dataset: Dataset, _: Objects) -> Iterator[str]:
    if not dataset.get("SegmentSequence"):
        yield "no segment is described"
    for item in dataset.get("SegmentSequence") or ():
        if not item.get("SegmentedPropertyCategoryCodeSequence") or not item.get("SegmentedPropertyTypeCodeSequence"):
            yield f"segment {item.get('SegmentNumber')} has no category or no type"


@rule(
    "seg.algorithm",
    "Every segment that an algorithm drew names it",
    "DICOM PS3.3 C.8.20.2, C.8.20.4 (Segment Algorithm Type and Name, Segmentation Algorithm Identification Sequence)",
    on=("SEG",),
    profile=True,
)
def _seg_algorithm(dataset: Dataset, _: Objects) -> Iterator[str]:
    for item in _segments(dataset):
        kind = item.get("SegmentAlgorithmType")
        if kind not in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"):
            yield f"segment {item.get('SegmentNumber')} has no algorithm type"
        elif kind != "MANUAL":
            told = (item.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()])[0]
            if not (item.get("SegmentAlgorithmName") and told.get("AlgorithmName") and told.get("AlgorithmVersion")):
                yield f"segment {item.get('SegmentNumber')} does not name its algorithm and version"


@rule(
    "seg.tracking",
    "Every segment has a tracking identifier and a tracking UID",
    "DICOM PS3.3 C.8.20.2 (Tracking ID, Tracking UID)",
    on=("SEG",),
    profile=True,
)
def _seg_tracking(dataset: Dataset, _: Objects) -> Iterator[str]:
    for item in _segments(dataset):
        if not item.get("TrackingID") or not item.get("TrackingUID"):
            yield f"segment {item.get('SegmentNumber')} can't be followed"


@rule(
    "seg.series",
    "A segmentation refers to the series that it was drawn on",
    "DICOM PS3.3 C.12.2 (Common Instance Reference)",
    on=("SEG", "PM"),
)
def _seg_series(dataset: Dataset, _: Objects) -> Iterator[str]:
    if not dataset.get("ReferencedSeriesSequence"):
        yield "no referenced series"


@rule(
    "seg.frame-of-reference",
    "A segmentation lies in the frame of reference of its images",
    "DICOM PS3.3 C.7.4.1",
    on=("SEG", "PM"),
)
def _seg_frame(dataset: Dataset, objects: Objects) -> Iterator[str] | None:
    uids = [
        str(one.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for one in series.get("ReferencedInstanceSequence") or ()
    ]
    theirs = {str(h.get("FrameOfReferenceUID") or "") for h in objects.images_of(uids)} - {""}
    if not theirs:
        return None
    mine = str(dataset.get("FrameOfReferenceUID") or "")
    return iter([] if theirs == {mine} else ["its frame of reference is not that of its images"])


def _segments(dataset: Dataset) -> list[Dataset]:
    """Return the segments without the background of a label map."""
    return [item for item in dataset.get("SegmentSequence") or () if item.get("SegmentNumber") != 0]


@rule(
    "pm.units", "A parametric map says what its numbers are, with a coded unit", "DICOM PS3.3 C.7.6.16.2.11", on=("PM",)
)
def _pm_units(dataset: Dataset, _: Objects) -> Iterator[str]:
    outer = [
        *(dataset.get("SharedFunctionalGroupsSequence") or ()),
        *(dataset.get("PerFrameFunctionalGroupsSequence") or ())[:1],
    ]
    maps = [one for item in outer for one in item.get("RealWorldValueMappingSequence") or ()]
    if not maps or any(not one.get("MeasurementUnitsCodeSequence") for one in maps):
        yield "no real world value mapping with a unit"


def _pictured(dataset: Dataset) -> dict[str, str]:
    """Return the class of every image that a presentation state is for, by UID."""
    return {
        str(image.ReferencedSOPInstanceUID): str(image.ReferencedSOPClassUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedImageSequence") or ()
    }


@rule(
    "pr.references",
    "A presentation state draws only on images that it says it is for",
    "DICOM PS3.3 C.11.11, C.10.5",
    on=("PR",),
)
def _pr_references(dataset: Dataset, _: Objects) -> Iterator[str]:
    known = _pictured(dataset)
    if not known:
        yield "it is for no image"
    for item in dataset.get("GraphicAnnotationSequence") or ():
        for image in item.get("ReferencedImageSequence") or ():
            if known.get(str(image.ReferencedSOPInstanceUID)) != str(image.ReferencedSOPClassUID):
                yield "it draws on an image that it is not for"


@rule("pr.layers", "Everything that is drawn is in a layer that there is", "DICOM PS3.3 C.10.5, C.10.7", on=("PR",))
def _pr_layers(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    annotations = dataset.get("GraphicAnnotationSequence")
    if not annotations:
        return None
    layers = {str(item.get("GraphicLayer")) for item in dataset.get("GraphicLayerSequence") or ()}
    return (
        "it draws in a layer that there is not" for item in annotations if str(item.get("GraphicLayer")) not in layers
    )


@rule("pr.area", "A presentation state says which area of its images is displayed", "DICOM PS3.3 C.10.4", on=("PR",))
def _pr_area(dataset: Dataset, _: Objects) -> Iterator[str]:
    areas = dataset.get("DisplayedAreaSelectionSequence")
    if not areas:
        yield "no displayed area"
    for item in areas or ():
        if not item.get("PresentationPixelSpacing") and not item.get("PresentationPixelAspectRatio"):
            yield "a displayed area without pixel spacing or aspect ratio"


@rule(
    "pr.inside",
    "What is drawn in pixels lies inside the image",
    "DICOM PS3.3 C.10.5 (Graphic Annotation Units)",
    on=("PR",),
)
def _pr_inside(dataset: Dataset, objects: Objects) -> Iterator[str] | None:
    annotations = [a for a in dataset.get("GraphicAnnotationSequence") or () if a.get("GraphicObjectSequence")]
    if not annotations:
        return None
    return (fault for item in annotations for fault in _outside(item, dataset, objects))


def _outside(item: Dataset, dataset: Dataset, objects: Objects) -> Iterator[str]:
    uids = [str(i.ReferencedSOPInstanceUID) for i in item.get("ReferencedImageSequence") or ()]
    sizes = [(int(h.Columns), int(h.Rows)) for h in objects.images_of(uids) if h.get("Rows")]
    if not sizes:
        sizes = [
            (int(area.DisplayedAreaBottomRightHandCorner[0]), int(area.DisplayedAreaBottomRightHandCorner[1]))
            for area in dataset.get("DisplayedAreaSelectionSequence") or ()
        ]
    for graphic in item.GraphicObjectSequence:
        points = np.asarray(graphic.get("GraphicData") or [], dtype=np.float64)
        if len(points) != 2 * int(graphic.get("NumberOfGraphicPoints") or -1):
            yield "a graphic has not as many points as it says"
            continue
        if graphic.get("GraphicAnnotationUnits") != "PIXEL" or graphic.get("GraphicType") in ("CIRCLE", "ELLIPSE"):
            points = points[:2]  # a circle may reach beyond the image; its centre may not
        if graphic.get("GraphicAnnotationUnits") == "PIXEL" and not any(
            (points.reshape(-1, 2) >= 0).all() and (points.reshape(-1, 2) <= size).all() for size in sizes
        ):
            yield "something is drawn outside the image"


@rule(
    "pr.lookup",
    "A grayscale state says how grey values are shown, a colour state names its colours",
    "DICOM PS3.3 C.11.6, C.11.15",
    on=("PR",),
)
def _pr_lookup(dataset: Dataset, _: Objects) -> Iterator[str]:
    if str(dataset.SOPClassUID).endswith(".11.2"):
        if not dataset.get("ICCProfile"):
            yield "no colour profile"
    elif not dataset.get("PresentationLUTShape") and not dataset.get("PresentationLUTSequence"):
        yield "no presentation look-up table"
