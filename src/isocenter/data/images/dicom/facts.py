"""Facts of an image from its full header: quantity, window, spacing of flat pictures, body part, what else is safe.

Only a fixed list of elements reaches `Image.meta`; none of them can hold a name, a number or a date of the patient, nor
free text. The sex (M, F or O) and the name of the station are among them, for promises that hold within such a group
(`tasks.learnt.groups`); no writer takes either from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydicom import Dataset

from isocenter.core import Quantity
from isocenter.data.images.body_parts import BODY_PARTS
from isocenter.data.images.dicom.plane import PROJECTIONS, Plane
from isocenter.data.images.dicom.suv import pet_scale

__all__ = ["Facts", "body_part", "facts_of", "flat_spacing"]

_META_WORDS = """
ImageType ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SliceThickness SpacingBetweenSlices KVP
XRayTubeCurrent Exposure ExposureTime RepetitionTime EchoTime InversionTime FlipAngle EchoTrainLength
MagneticFieldStrength ConvolutionKernel ReconstructionDiameter GantryDetectorTilt Manufacturer ManufacturerModelName
PatientPosition ViewPosition Laterality ImageLaterality PhotometricInterpretation BitsStored PixelRepresentation
PixelPaddingValue RescaleType VOILUTFunction PresentationIntentType BurnedInAnnotation RecognizableVisualFeatures
LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod Units DecayCorrection CorrectedImage
SUVType DoseUnits DoseType DoseSummationType FrameTime CineRate PixelSpacingCalibrationType
EstimatedRadiographicMagnificationFactor DistanceSourceToDetector DistanceSourceToPatient PresentationLUTShape
VolumetricProperties StationName
"""
_META = tuple(_META_WORDS.split())

_SEXES = ("M", "F", "O")

_BODY_PART_SYNONYMS = {
    "THORAX": "CHEST",
    "TORAX": "CHEST",
    "LUNGS": "LUNG",
    "LTHORAX": "CHEST",
    "PORTCHEST": "CHEST",
    "CHESTPA": "CHEST",
    "CHESTAP": "CHEST",
    "ABD": "ABDOMEN",
    "ABDOMENANDPELVIS": "ABDOMENPELVIS",
    "ABDOMINOPELVIC": "ABDOMENPELVIS",
    "CHESTABDOMENPELVIS": "CHESTABDPELVIS",
    "CHESTTOPELVIS": "CHESTABDPELVIS",
    "CAP": "CHESTABDPELVIS",
    "HEADANDNECK": "HEADNECK",
    "NEURO": "HEAD",
    "CERVICALSPINE": "CSPINE",
    "THORACICSPINE": "TSPINE",
    "LUMBARSPINE": "LSPINE",
    "MAMMA": "BREAST",
    "WB": "WHOLEBODY",
    "KNEES": "KNEE",
    "TESTICLE": "TESTIS",
}

_UNITS = {"HU": Quantity.HU, "[hnsf'U]": Quantity.HU, "{SUVbw}g/ml": Quantity.SUVBW, "Bq/ml": Quantity.BQML}


@dataclass(frozen=True)
class Facts:
    """What the header says of an image as a whole.

    Args:
        quantity: What its numbers mean after `factor`.
        factor: Multiplies rescaled values.
        mapping: (slope, intercept) of a real-world value mapping that replaces the rescale, or None.
        window: (centre, width) pairs.
        description: Image type and sequence in DICOM's controlled words.
        body_part: A DICOM defined term, or "".
        meta: Further facts by keyword.
        notes: What was noticed.
    """

    quantity: Quantity
    factor: float
    mapping: tuple[float, float] | None
    window: tuple[tuple[float, float], ...]
    description: str
    body_part: str
    meta: MappingProxyType[str, object]
    notes: tuple[str, ...]


def facts_of(dataset: Dataset, planes: Sequence[Plane], *, transfer_syntax_uid: str) -> Facts:
    """Collect the facts of an image.

    Args:
        dataset: Full header of its first file.
        planes: Its planes.
        transfer_syntax_uid: How its pixels are stored.
    """
    quantity, factor, mapping, notes = _quantity(dataset, planes)
    part, part_note = body_part(dataset)
    meta = {keyword: _plain(dataset.get(keyword)) for keyword in _META if dataset.get(keyword) not in (None, "")}
    meta["TransferSyntaxUID"] = transfer_syntax_uid
    if dataset.get("ContrastBolusAgent") or dataset.get("ContrastBolusAgentSequence"):
        meta["ContrastBolusAgent"] = "present"
    if str(dataset.get("PatientSex") or "").strip().upper() in _SEXES:
        meta["PatientSex"] = str(dataset.PatientSex).strip().upper()
    if dataset.get("VOILUTSequence"):
        meta["VOILUTSequence"] = "present"
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        notes += ("larger stored values are darker (MONOCHROME1); values are kept as stored",)
    window = planes[len(planes) // 2].window
    words = [*_words(dataset.get("ImageType")), *_words(dataset.get("ScanningSequence"))]
    return Facts(
        quantity,
        factor,
        mapping,
        window,
        " ".join(dict.fromkeys(words)),
        part,
        MappingProxyType(meta),
        (*notes, *part_note),
    )


def _quantity(
    dataset: Dataset, planes: Sequence[Plane]
) -> tuple[Quantity, float, tuple[float, float] | None, tuple[str, ...]]:
    modality = str(dataset.get("Modality", ""))
    if int(dataset.get("SamplesPerPixel") or 1) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return Quantity.RGB, 1.0, None, ()
    if modality == "RTDOSE":
        gray = dataset.get("DoseUnits") == "GY"
        return (Quantity.GY if gray else Quantity.ARBITRARY), 1.0, None, ()
    mapped = _real_world(dataset, planes)
    if mapped is not None:
        return mapped
    if modality == "PT":
        scale = pet_scale(dataset, [p.header for p in planes])
        return scale.quantity, scale.factor, None, (scale.note,)
    if modality == "CT":
        return _ct_quantity(dataset, planes)
    return Quantity.ARBITRARY, 1.0, None, ()


def _ct_quantity(
    dataset: Dataset, planes: Sequence[Plane]
) -> tuple[Quantity, float, tuple[float, float] | None, tuple[str, ...]]:
    kind = str(dataset.get("RescaleType") or "").strip()
    if kind not in ("", "HU", "US"):
        return Quantity.ARBITRARY, 1.0, None, ("CT values are not in HU by the header's rescale type",)
    if planes[0].slope is None:
        return Quantity.ARBITRARY, 1.0, None, ("no rescale in this CT header: values are as stored, not HU",)
    return Quantity.HU, 1.0, None, ()


def _real_world(
    dataset: Dataset, planes: Sequence[Plane]
) -> tuple[Quantity, float, tuple[float, float] | None, tuple[str, ...]] | None:
    """A single linear real-world value mapping to a unit we know, PS3.3 C.7.6.16.2.11."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    items = dataset.get("RealWorldValueMappingSequence") or (
        shared[0].get("RealWorldValueMappingSequence") if shared else None
    )
    files = {id(p.header) for p in planes}
    if not items or len(items) != 1 or len(files) > 1:
        return None
    item = items[0]
    slope, intercept = item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")
    unit = item.get("MeasurementUnitsCodeSequence")
    code = str(unit[0].get("CodeValue", "")) if unit else ""
    if slope is None or intercept is None or code not in _UNITS:
        return None
    return _UNITS[code], 1.0, (float(slope), float(intercept)), ("values by the header's real-world value mapping",)


def body_part(dataset: Dataset) -> tuple[str, tuple[str, ...]]:
    """Return a DICOM defined term for the body part, and a note where the header's own word is none.

    Example:
        >>> ds = Dataset()
        >>> ds.BodyPartExamined = "THORAX"
        >>> body_part(ds)
        ('CHEST', ())
    """
    stated = str(dataset.get("BodyPartExamined") or "")
    if not stated.strip():
        region = dataset.get("AnatomicRegionSequence")
        stated = str(region[0].get("CodeMeaning") or "") if region else ""
    word = "".join(c for c in stated.upper() if c.isalnum())
    word = _BODY_PART_SYNONYMS.get(word, word)
    if not word:
        return "", ()
    if word in BODY_PARTS:
        return word, ()
    return "", ("the header's body part is not a DICOM defined term; taken as unknown",)


def flat_spacing(
    dataset: Dataset, spacing: tuple[float, float] | None
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Find the pixel spacing of a picture without a place: radiograph, ultrasound, secondary capture.

    Args:
        dataset: Full header.
        spacing: Pixel Spacing (row, column) in mm, if there is one.

    Returns:
        Spacing in mm or None, and what to know about it.

    Source:
        DICOM PS3.3 10.7.1.3 (projection radiography) and C.8.5.5.1 (ultrasound regions).
    """
    regions = dataset.get("SequenceOfUltrasoundRegions")
    if dataset.get("Modality") in ("US", "IVUS") or regions:
        return _ultrasound_spacing(regions)
    imager = _pair(dataset.get("ImagerPixelSpacing"))
    if dataset.get("Modality") not in PROJECTIONS:
        if spacing is not None:
            return spacing, ()
        nominal = _pair(dataset.get("NominalScannedPixelSpacing"))
        return (nominal, ("pixel spacing is that of the film scanner",)) if nominal else (None, ())
    detector = "pixel spacing is at the detector; the patient is smaller than it says by the magnification"
    if spacing is None:
        return (imager, (detector,)) if imager else (None, ())
    if dataset.get("PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL"):
        return spacing, ("pixel spacing is calibrated, and holds only at the calibrated depth",)
    if imager is not None and imager != spacing:
        return spacing, ("pixel spacing differs from the detector's and is not explained in the header",)
    return spacing, (detector,)


def _ultrasound_spacing(regions: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    if not regions:
        return None, ()
    if len(regions) > 1:
        return None, (f"{len(regions)} ultrasound regions with their own scales: no single pixel spacing",)
    region = regions[0]
    in_cm = region.get("PhysicalUnitsXDirection") == 3 and region.get("PhysicalUnitsYDirection") == 3
    try:
        x, y = abs(float(region.PhysicalDeltaX)) * 10, abs(float(region.PhysicalDeltaY)) * 10
    except (AttributeError, TypeError, ValueError):
        return None, ()
    if not in_cm or not x > 0 or not y > 0:
        return None, ()
    return (y, x), ("pixel spacing is that of the one ultrasound region, and holds inside it",)


def _pair(value: Any) -> tuple[float, float] | None:
    try:
        row, column = (float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if row > 0 and column > 0 else None


def _words(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value if str(v)]


def _plain(value: Any) -> object:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) or type(value).__name__.startswith("DS"):
        return float(value)
    try:
        return tuple(_plain(v) for v in value)
    except TypeError:
        return str(value)
