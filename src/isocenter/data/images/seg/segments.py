"""Segments as items of the Segment Sequence, and back.

Source:
    DICOM PS3.3 C.8.20.4 (Segment Description Macro); PS3.16 CID 7150, 7151, 244 (laterality).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from isocenter.core.errors import DataError, PixelError
from isocenter.core.mask import TISSUE, Segment
from isocenter.core.units import Code
from isocenter.data.images.seg.colour import from_dicom_lab, to_dicom_lab

__all__ = ["code_item", "read_code", "read_segment", "segment_item"]

_BACKGROUND = Code("125040", "DCM", "Background")
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
# SRT (retired) and SCT: Right, Left, Right and left.
_LATERALITIES = {
    ("24028007", "SCT"): Code("24028007", "SCT", "Right"),
    ("7771000", "SCT"): Code("7771000", "SCT", "Left"),
    ("51440002", "SCT"): Code("51440002", "SCT", "Right and left"),
    ("G-A100", "SRT"): Code("24028007", "SCT", "Right"),
    ("G-A101", "SRT"): Code("7771000", "SCT", "Left"),
    ("G-A102", "SRT"): Code("51440002", "SCT", "Right and left"),
}


def code_item(code: Code) -> DicomSequence:
    """Make a code sequence of one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return DicomSequence([item])


def read_code(items: Sequence[Dataset] | None) -> Code | None:
    """Read the first item of a code sequence; None where there is none or it is not a full code."""
    if not items:
        return None
    item = items[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    scheme, meaning = item.get("CodingSchemeDesignator") or "", item.get("CodeMeaning") or ""
    if not (value and scheme and meaning) or len(value) > 16 or len(scheme) > 16:
        return None
    return Code(str(value), str(scheme), str(meaning)[:64])


def segment_item(segment: Segment, *, algorithm_name: str, algorithm_version: str) -> Dataset:
    """Describe a segment.

    Args:
        segment: The segment.
        algorithm_name: Name where the segment has none and is not manual.
        algorithm_version: Version of the algorithm, "" where not known.

    Raises:
        DataError: A tracking text without its UID, or the other way round: DICOM wants both.
    """
    item = Dataset()
    item.SegmentNumber = segment.number
    item.SegmentLabel = segment.label
    item.SegmentedPropertyCategoryCodeSequence = code_item(segment.category)
    item.SegmentedPropertyTypeCodeSequence = code_item(segment.type)
    if segment.laterality is not None:
        modifiers = code_item(segment.laterality)
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = modifiers
    item.SegmentAlgorithmType = segment.algorithm_type
    if segment.algorithm_type != "MANUAL":
        name = segment.algorithm_name or algorithm_name
        item.SegmentAlgorithmName = name[:64]
        algorithm = Dataset()
        algorithm.AlgorithmFamilyCodeSequence = code_item(_ARTIFICIAL_INTELLIGENCE)
        algorithm.AlgorithmName = name[:64]
        algorithm.AlgorithmVersion = algorithm_version or "unknown"
        item.SegmentationAlgorithmIdentificationSequence = DicomSequence([algorithm])
    if bool(segment.tracking_id) != bool(segment.tracking_uid):
        raise DataError(f"segment {segment.number} has one of tracking text and tracking UID; DICOM wants both or none")
    if segment.tracking_id:
        item.TrackingID, item.TrackingUID = segment.tracking_id, segment.tracking_uid
    item.RecommendedDisplayCIELabValue = to_dicom_lab(segment.colour)
    return item


def background_item(algorithm_name: str) -> Dataset:
    """Describe value 0 of a label map (DICOM Supplement 243: every stored value is described)."""
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = 0, "Background"
    item.SegmentedPropertyCategoryCodeSequence = code_item(_BACKGROUND)
    item.SegmentedPropertyTypeCodeSequence = code_item(_BACKGROUND)
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", algorithm_name[:64]
    return item


def read_segment(item: Dataset) -> Segment:
    """Read one item of the Segment Sequence.

    What another tool left out or wrote outside the standard gets the least that can be said (Tissue, "Segment 3").

    Raises:
        PixelError: It has no number, or one outside 1 to 65535.
    """
    number = item.get("SegmentNumber")
    if number is None:
        raise PixelError("a segment has no number; the file is not a valid segmentation")
    number = int(number)
    types = item.get("SegmentedPropertyTypeCodeSequence")
    modifier = types[0].get("SegmentedPropertyTypeModifierCodeSequence") if types else None
    stated = read_code(modifier) or read_code(item.get("SegmentedPropertyTypeModifierCodeSequence"))
    laterality = _LATERALITIES.get((stated.value, stated.scheme)) if stated else None
    algorithm = str(item.get("SegmentAlgorithmType") or "")
    lab = item.get("RecommendedDisplayCIELabValue")
    optional = {} if lab is None or len(lab) != 3 else {"colour": from_dicom_lab([int(v) for v in lab])}
    return Segment(
        number,
        str(item.get("SegmentLabel") or f"Segment {number}")[:64],
        category=read_code(item.get("SegmentedPropertyCategoryCodeSequence")) or TISSUE,
        type=read_code(types) or TISSUE,
        laterality=laterality,
        tracking_id=str(item.get("TrackingID") or ""),
        tracking_uid=str(item.get("TrackingUID") or ""),
        algorithm_type=algorithm if algorithm in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL") else "AUTOMATIC",
        algorithm_name=str(item.get("SegmentAlgorithmName") or ""),
        **optional,
    )
