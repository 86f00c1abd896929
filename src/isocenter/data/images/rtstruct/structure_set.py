"""A structure set as the file states it: regions of interest as contours in patient millimetres, on no grid yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from isocenter.core.errors import DataError, UnitsError
from isocenter.core.image import Source
from isocenter.core.mask import TISSUE, Segment
from isocenter.core.units import Code
from isocenter.data.images.instance import open_instance

__all__ = ["Contour", "Region", "StructureSet", "open_rtstruct"]

_UNKNOWN_COLOUR = (230, 80, 60)
_LONGEST_LABEL = 64


@dataclass(frozen=True, eq=False)
class Contour:
    """One contour.

    Args:
        points_lps_mm: Its points (x, y, z), shape (n, 3).
        kind: Contour Geometric Type, e.g. "CLOSED_PLANAR".
    """

    points_lps_mm: Float[np.ndarray, "n 3"]
    kind: str


@dataclass(frozen=True, eq=False)
class Region:
    """One region of interest.

    Args:
        segment: Its number, name and codes.
        frame_uid: Frame of Reference UID that its points are in, "" where not stated.
        contours: Its contours in the order of the file.
    """

    segment: Segment
    frame_uid: str
    contours: tuple[Contour, ...]


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The regions of interest of one RT Structure Set.

    Args:
        regions: In the order of the file.
        source: Study and (first) series that the regions were drawn on, and the images referenced.
        series_uids: Every series referenced, in the order of the file.
        notes: What was left out or renumbered, and why.
    """

    regions: tuple[Region, ...]
    source: Source
    series_uids: tuple[str, ...]
    notes: tuple[str, ...] = ()


def open_rtstruct(file: Path | Dataset) -> StructureSet:
    """Read an RT Structure Set without putting it on a grid.

    Args:
        file: Path or dataset. Region names are kept as labels; no other free text is.

    Raises:
        DataError: Not readable, not an RT Structure Set, or a contour whose numbers are not points in space.
    """
    dataset, name = (file, "RTSTRUCT") if isinstance(file, Dataset) else (open_instance(file), file.name)
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        raise DataError("not an RT Structure Set; pass the file whose modality is RTSTRUCT", source=name)
    observations = {_number(o.get("ReferencedROINumber")): o for o in dataset.get("RTROIObservationsSequence") or ()}
    contours = {_number(c.get("ReferencedROINumber")): c for c in dataset.get("ROIContourSequence") or ()}
    regions, notes = [], []
    for item in dataset.get("StructureSetROISequence") or ():
        number = _number(item.get("ROINumber"))
        drawn = contours.get(number, Dataset())
        segment = _segment(number, item, drawn, observations.get(number, Dataset()))
        read = tuple(_contours(drawn, f"{name} region {number}"))
        regions.append(Region(segment, str(item.get("ReferencedFrameOfReferenceUID") or ""), read))
    numbers = [_number(item.get("ROINumber")) for item in dataset.get("StructureSetROISequence") or ()]
    if len(set(numbers)) != len(numbers) or any(not 1 <= n <= 65535 for n in numbers):
        notes.append("region numbers were not unique numbers of 1 to 65535; regions are numbered in their order")
        regions = [replace(r, segment=replace(r.segment, number=n)) for n, r in enumerate(regions, start=1)]
    source, series = _source(dataset)
    return StructureSet(tuple(regions), source, series, tuple(notes))


def _number(value: object) -> int:
    return int(str(value)) if str(value).strip().lstrip("-").isdigit() else -1


def _segment(number: int, item: Dataset, drawn: Dataset, observation: Dataset) -> Segment:
    label = str(item.get("ROIName") or "").strip()[:_LONGEST_LABEL].strip()
    algorithm = str(item.get("ROIGenerationAlgorithm") or "").upper()
    colour = drawn.get("ROIDisplayColor")
    known = colour is not None and len(colour) == 3 and all(0 <= int(v) <= 255 for v in colour)
    kind = (observation.get("RTROIIdentificationCodeSequence") or [Dataset()])[0]
    return Segment(
        number=number if 1 <= number <= 65535 else 1,
        label=label or f"Region {number}",
        category=_code(observation.get("SegmentedPropertyCategoryCodeSequence")) or TISSUE,
        type=_code([kind]) or TISSUE,
        laterality=_code(kind.get("SegmentedPropertyTypeModifierCodeSequence")),
        algorithm_type=algorithm if algorithm in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL") else "MANUAL",
        colour=(int(colour[0]), int(colour[1]), int(colour[2])) if known else _UNKNOWN_COLOUR,
    )


def _code(items: object) -> Code | None:
    for item in items if isinstance(items, (list, pydicom.Sequence)) else ():
        value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
        if value and scheme:
            try:
                return Code(str(value), str(scheme), str(item.get("CodeMeaning") or value)[:64])
            except UnitsError:
                return None
    return None


def _contours(drawn: Dataset, where: str) -> Iterator[Contour]:
    for index, item in enumerate(drawn.get("ContourSequence") or ()):
        kind = str(item.get("ContourGeometricType") or "")
        yield Contour(_points(item, f"{where} contour {index}"), kind)


def _points(item: Dataset, where: str) -> Float[np.ndarray, "n 3"]:
    """Return the points of a contour; parses the decimal strings in one go, since pydicom's own takes seconds."""
    if "ContourData" not in item:
        return np.zeros((0, 3))
    raw = item.get_item("ContourData").value
    if isinstance(raw, str):
        raw = raw.encode("ascii", "replace")
    parts = raw.split(b"\\") if isinstance(raw, bytes) else list(raw or ())
    try:
        values = np.array([p for p in parts if p not in (b"", b" ")], dtype=np.float64)
    except ValueError as error:
        raise DataError("holds text that is not a number; the file is damaged", source=where) from error
    if values.size % 3 or not np.isfinite(values).all():
        raise DataError(f"has {values.size} numbers, which are not points in space; the file is damaged", source=where)
    return values.reshape(-1, 3)


def _source(dataset: Dataset) -> tuple[Source, tuple[str, ...]]:
    series: dict[str, dict[str, str]] = {}
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                images = series.setdefault(str(item.get("SeriesInstanceUID") or ""), {})
                for image in item.get("ContourImageSequence") or ():
                    images[str(image.get("ReferencedSOPInstanceUID"))] = str(image.get("ReferencedSOPClassUID"))
    uids = tuple(uid for uid in series if uid)
    first = series[uids[0]] if uids else {}
    source = Source(
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        series_uid=uids[0] if uids else "",
        instance_uids=tuple(first),
        sop_class_uids=tuple(first.values()),
    )
    return source, uids
