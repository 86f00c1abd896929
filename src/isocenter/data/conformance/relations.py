"""Rules between objects: one tree, one name for one thing, one place for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from pydicom import Dataset
from scipy import ndimage

from isocenter.core.errors import DataError
from isocenter.core.geometry import Geometry
from isocenter.data.conformance.reports import groups, named, referenced, walk
from isocenter.data.conformance.rules import RULES, Objects, Rule, rule
from isocenter.data.images.key_objects import CRITICAL
from isocenter.data.images.presentation.read import place_of, read_presentation_state
from isocenter.data.images.rtstruct.fill import fill_polygon
from isocenter.data.images.seg.read import read_seg

__all__: list[str] = []

_TRACKING_UID = "112040"


def _rooted(objects: Objects) -> list[str] | None:
    """Every other result must be reached from a report."""
    if len(objects.results) < 2:
        return None
    reached = {str(sop.get("ReferencedSOPInstanceUID")) for one in objects.of("SR") for sop in referenced(one.dataset)}
    others = objects.of("SEG", "PR", "KO", "PM")
    return [f"{one.name}: no report refers to it" for one in others if str(one.dataset.SOPInstanceUID) not in reached]


RULES["set.root"] = Rule(
    "set.root",
    "Every result is reached from a report, the root of the set",
    "IHE RAD AI Results (AIR): the report is the root of a tree of results",
    True,
    _rooted,
)


@rule("sr.segments", "A report names segments that there are", "DICOM PS3.3 C.18.4; PS3.16 TID 1411", on=("SR",))
def _segments(dataset: Dataset, objects: Objects) -> Iterator[str] | None:
    pairs = list(_referred_segments(dataset, objects))
    if not pairs:
        return None
    return (
        f"segment {number} is none of its segmentation's"
        for number, seg, _ in pairs
        if number not in {int(item.SegmentNumber) for item in seg.get("SegmentSequence") or ()}
    )


@rule(
    "sr.same-tracking",
    "Report and segmentation follow a finding under one UID",
    "DICOM PS3.3 C.8.20.2; PS3.16 TID 1411",
    on=("SR",),
    profile=True,
)
def _same_tracking(dataset: Dataset, objects: Objects) -> Iterator[str] | None:
    pairs = list(_referred_segments(dataset, objects))
    if not pairs:
        return None
    return (
        f"segment {number} has another tracking UID in the report"
        for number, seg, group in pairs
        for item in seg.get("SegmentSequence") or ()
        if int(item.SegmentNumber) == number
        and str(item.get("TrackingUID") or "")
        not in {str(i.get("UID")) for i in walk(group) if named(i) == _TRACKING_UID}
    )


def _referred_segments(dataset: Dataset, objects: Objects) -> Iterator[tuple[int, Dataset, Dataset]]:
    """Yield segment number, segmentation and measurement group, of those segmentations that are there."""
    for group in groups(dataset):
        for sop in referenced(group):
            seg = objects.by_uid.get(str(sop.get("ReferencedSOPInstanceUID")))
            number = sop.get("ReferencedSegmentNumber")
            if seg is not None and seg.kind == "SEG" and number is not None:
                yield int(number if isinstance(number, int | str) else number[0]), seg.dataset, group


@rule(
    "pr.place",
    "An outline is where its segment is, in patient millimetres",
    "DICOM PS3.3 C.7.6.2.1.1, C.10.5",
    on=("PR",),
)
def _place(dataset: Dataset, objects: Objects) -> Iterator[str] | None:
    uids = {
        str(image.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedImageSequence") or ()
    }
    headers = objects.images_of(sorted(uids))
    if len(headers) < len(uids):
        return None
    try:
        shapes = read_presentation_state(dataset, headers).shapes
    except DataError as error:
        return iter([f"it can't be read: {error}"])
    drawn: dict[str, list[Float[np.ndarray, "n 3"]]] = {}
    for shape in shapes:
        at = place_of(shape)
        if at is not None and shape.kind == "POLYLINE" and shape.tracking[1]:
            drawn.setdefault(shape.tracking[1], []).append(at)
    try:
        known = _extents(objects, set(drawn))
    except DataError:
        return iter(["the segmentation that it should agree with can't be read"])
    both = sorted(set(drawn) & set(known))
    if not both:
        return None
    return (
        f"the outline of tracking UID {uid} is elsewhere than its segment"
        for uid in both
        if not any(_agree(drawn[uid], inside, geometry) for inside, geometry in known[uid])
    )


def _extents(objects: Objects, wanted: set[str]) -> Mapping[str, list[tuple[Bool[np.ndarray, "z y x"], Geometry]]]:
    """Return the voxels of segments and their grid, by tracking UID; several segmentations may follow one thing."""
    found: dict[str, list[tuple[Bool[np.ndarray, "z y x"], Geometry]]] = {}
    for one in objects.of("SEG"):
        uids = {str(item.get("TrackingUID") or "") for item in one.dataset.get("SegmentSequence") or ()}
        if one.path is None or not uids & wanted:
            continue
        mask = read_seg(one.path)
        if mask.geometry.affine is None:
            continue
        for segment in mask.segments:
            inside = mask.segment_array(segment.number)
            if segment.tracking_uid in wanted and inside.any():
                found.setdefault(segment.tracking_uid, []).append((inside, mask.geometry))
    return found


def _agree(outlines: Sequence[Float[np.ndarray, "_ 3"]], inside: Bool[np.ndarray, "z y x"], geometry: Geometry) -> bool:
    """Tell whether outlines span what the voxels span, to half a voxel's diagonal, and hold them, to one at the edge.

    Args:
        outlines: Closed lines in LPS mm; together by exclusive or, as holes are.
        inside: The segment.
        geometry: Its grid, with a place in the patient.
    """
    half_mm = float(np.linalg.norm(geometry.spacing_mm or ())) / 2
    centres = geometry.to_world(np.argwhere(inside).astype(np.float64))
    ends = [(a.min(axis=0), a.max(axis=0)) for a in (np.concatenate(outlines), centres)]
    if any(float(np.abs(a - b).max()) > half_mm + 0.01 for a, b in zip(*ends, strict=True)):
        return False
    held, near = np.zeros(inside.shape, dtype=np.bool_), np.zeros(inside.shape, dtype=np.bool_)
    drawn = set()
    for outline in outlines:
        index = geometry.to_index(outline)
        z = round(float(index[:, 0].mean()))
        if np.abs(index[:, 0] - z).max() > 0.5 or not 0 <= z < len(inside):
            return False
        filled, on_line = fill_polygon(index[:-1, 1:], inside.shape[1:])
        held[z] ^= filled
        near[z] |= on_line
        drawn.add(z)
    for z in drawn:
        core, around = ndimage.binary_erosion(inside[z]), ndimage.binary_dilation(inside[z], np.ones((3, 3)))
        if (core & ~held[z] & ~near[z]).any() or (held[z] & ~around & ~near[z]).any():
            return False
    return True


def _critical(objects: Objects) -> list[str] | None:
    """A selection of critical images and the report's section on them must stand together."""
    selections = [one for one in objects.of("KO") if named(one.dataset) == CRITICAL.value]
    sections = [one for one in objects.of("SR") if any(named(i) == CRITICAL.value for i in walk(one.dataset))]
    if not selections and not sections:
        return None
    if selections and not sections:
        return ["images are selected as critical, and no report says so"]
    empty = [
        one.name
        for one in sections
        for item in walk(one.dataset)
        if named(item) == CRITICAL.value and not item.get("ContentSequence")
    ]
    return [f"{name}: its section on critical results is empty" for name in empty]


RULES["set.critical"] = Rule(
    "set.critical",
    "What is selected as critical is said to be so in a report, by code",
    "DICOM PS3.16 CID 7001 (Communication of Critical Results), CID 7035",
    False,
    _critical,
)
