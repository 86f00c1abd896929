"""One plane of pixels with its place: what single-frame files and the frames of multi-frame files have in common.

Everything that groups and orders works on planes, so an enhanced CT and three hundred CT files take the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from pydicom import Dataset

from isocenter.core.errors import GeometryError, PixelError
from isocenter.data.images.dicom.header import Header

__all__ = ["CHANNEL_KEYS", "IMAGE_KEYS", "PROJECTIONS", "Plane", "planes_of"]

_MOST_FRAMES = 1 << 18
_MOST_DEFLATE = 1100
"""Zlib makes at most 1032 bytes of one."""

PROJECTIONS = frozenset(["CR", "DX", "MG", "XA", "RF", "IO", "PX", "RG", "RTIMAGE"])
"""Modalities whose pixels lie on a detector, not in the patient: they get no affine."""

CHANNEL_KEYS = (
    "TemporalPosition",
    "EchoNumbers",
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradient",
    "TriggerTime",
    "InversionTime",
    "FlipAngle",
)
"""Facts that tell planes at one position apart and make channels of one image."""

IMAGE_KEYS = ("ImageType", "ConvolutionKernel", "AcquisitionNumber", "SequenceName", "StackID")
"""Facts that tell planes at one position apart and make separate images."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of pixels.

    Args:
        header: The file it is in.
        frame: Zero-based index in the file.
        position: LPS mm of the centre of its first pixel; None where unknown.
        row: Unit vector along which x grows; None where unknown.
        column: Unit vector along which y grows; None where unknown.
        spacing: (between rows, between columns) in mm; None where unknown.
        thickness: Slice Thickness in mm; None where unknown.
        between: Spacing Between Slices in mm; None where unknown.
        slope: Rescale slope; None where the header has none.
        intercept: Rescale intercept.
        keys: Facts that may tell planes at one position apart.
        window: (centre, width) pairs.
    """

    header: Header
    frame: int = 0
    position: Float[np.ndarray, "3"] | None = None
    row: Float[np.ndarray, "3"] | None = None
    column: Float[np.ndarray, "3"] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    between: float | None = None
    slope: float | None = None
    intercept: float = 0.0
    keys: Mapping[str, object] = field(default_factory=dict)
    window: tuple[tuple[float, float], ...] = ()

    @property
    def is_placed(self) -> bool:
        """Whether position, orientation and spacing are all known."""
        return self.position is not None and self.row is not None and self.spacing is not None

    @property
    def where(self) -> str:
        """The plane's name for messages."""
        return self.header.name if self.header.frames == 1 else f"{self.header.name} frame {self.frame + 1}"


def planes_of(header: Header, dataset: Dataset | None) -> list[Plane]:
    """Return the planes of a file.

    Args:
        header: The scanned header.
        dataset: The full header; needed for files with several frames (see `needs_dataset`).

    Raises:
        GeometryError: An orientation that is not two perpendicular unit vectors, or a spacing that is not positive.
        PixelError: More frames than the file can hold, or than anybody would lay out in space.
    """
    _check_frames(header)
    if dataset is not None and header.has("PerFrameFunctionalGroupsSequence"):
        return _from_functional_groups(header, dataset)
    first = _single(header)
    if dataset is None:
        return [first]
    if header.text("Modality") == "RTDOSE":
        return _from_offsets(header, dataset, first)
    if header.frames == 1:
        return [first]
    if header.text("Modality") in ("NM", "PT"):
        return _from_detector(header, dataset, first)
    return [
        Plane(header, n, spacing=first.spacing, slope=first.slope, intercept=first.intercept, window=first.window)
        for n in range(header.frames)
    ]


def _check_frames(header: Header) -> None:
    """Refuse frames that can't be there, before there is a plane for each."""
    deflated = header.transfer_syntax_uid.startswith("1.2.840.10008.1.2.1.99")
    room = header.file_bytes * (_MOST_DEFLATE if deflated else 8)  # of a bit each, at least
    if header.frames > min(room, _MOST_FRAMES):
        held = f"the file has {header.file_bytes} bytes, and {_MOST_FRAMES} frames are the most"
        raise PixelError(f"claims {header.frames} frames: {held}; correct the header", source=header.name)


def needs_dataset(header: Header) -> bool:
    """Tell whether `planes_of` needs the full header."""
    return header.frames > 1 or header.has("PerFrameFunctionalGroupsSequence") or header.text("Modality") == "RTDOSE"


def _single(header: Header) -> Plane:
    row, column = _directions(header.floats("ImageOrientationPatient"), header.name)
    position = _vector(header.floats("ImagePositionPatient"))
    if header.text("Modality") in PROJECTIONS:
        position = row = column = None
    slope = header.float("RescaleSlope")
    if header.text("Modality") == "RTDOSE":
        slope = header.float("DoseGridScaling")
    return Plane(
        header,
        position=position,
        row=row,
        column=column,
        spacing=_spacing(header.floats("PixelSpacing"), header.name),
        thickness=_positive(header.float("SliceThickness")),
        between=header.float("SpacingBetweenSlices"),
        slope=slope,
        intercept=header.float("RescaleIntercept") or 0.0,
        keys=_keys(header),
        window=_pairs(header.floats("WindowCenter"), header.floats("WindowWidth")),
    )


def _keys(header: Header) -> dict[str, object]:
    found: dict[str, object] = {
        "TemporalPosition": header.floats("TemporalPositionIdentifier"),
        "ImageType": header.texts("ImageType"),
        "ConvolutionKernel": header.texts("ConvolutionKernel"),
        "SequenceName": header.text("SequenceName"),
    }
    for name in ("EchoNumbers", "EchoTime", "DiffusionBValue", "TriggerTime", "InversionTime", "FlipAngle"):
        found[name] = header.floats(name)
    found["AcquisitionNumber"] = header.floats("AcquisitionNumber")
    return {name: value for name, value in found.items() if value not in ((), "")}


def _from_offsets(header: Header, dataset: Dataset, first: Plane) -> list[Plane]:
    """RT Dose: Grid Frame Offset Vector, PS3.3 C.8.8.3.2."""
    offsets = [float(v) for v in _values(dataset.get("GridFrameOffsetVector"))]
    if header.frames == 1 or first.position is None or first.row is None or first.column is None:
        return [first] if header.frames == 1 else [_moved(first, n, None) for n in range(header.frames)]
    if len(offsets) != header.frames:
        raise GeometryError(
            f"{header.frames} dose planes but {len(offsets)} frame offsets; the dose grid cannot be placed",
            source=header.name,
        )
    normal = np.cross(first.row, first.column)
    start = offsets[0] if offsets[0] == 0 else float(first.position @ normal)
    if offsets[0] != 0 and abs(offsets[0] - start) > 1e-2:
        raise GeometryError(
            "the frame offsets of the dose grid start neither at zero nor at its position; it cannot be placed",
            source=header.name,
        )
    return [_moved(first, n, first.position + normal * (offset - start)) for n, offset in enumerate(offsets)]


def _from_detector(header: Header, dataset: Dataset, first: Plane) -> list[Plane]:
    """NM: planes stacked from the detector's position by Spacing Between Slices, PS3.3 C.8.4.15.

    Only reconstructed tomography has planes in space; every other NM multi-frame is a stack in time, angle or energy.
    """
    detectors = dataset.get("DetectorInformationSequence") or []
    image_type = header.texts("ImageType")
    tomographic = len(image_type) > 2 and image_type[2] == "RECON TOMO" and len(detectors) == 1
    between = first.between
    if not tomographic or between is None or between == 0:
        return [_moved(first, n, None) for n in range(header.frames)]
    row, column = _directions(_values(detectors[0].get("ImageOrientationPatient")), header.name)
    position = _vector(_values(detectors[0].get("ImagePositionPatient")))
    if position is None or row is None or column is None:
        return [_moved(first, n, None) for n in range(header.frames)]
    normal = np.cross(row, column)
    return [
        Plane(
            header, n, position + normal * between * n, row, column, first.spacing, first.thickness, between,
            first.slope, first.intercept, window=first.window,
        )
        for n in range(header.frames)
    ]  # fmt: skip


def _moved(first: Plane, frame: int, position: Float[np.ndarray, "3"] | None) -> Plane:
    placed = position is not None
    return Plane(
        first.header,
        frame,
        position,
        first.row if placed else None,
        first.column if placed else None,
        first.spacing,
        first.thickness,
        first.between,
        first.slope,
        first.intercept,
        first.keys,
        first.window,
    )


def _from_functional_groups(header: Header, dataset: Dataset) -> list[Plane]:
    """Enhanced and legacy-converted multi-frames: PS3.3 C.7.6.16."""
    shared = _first(dataset.get("SharedFunctionalGroupsSequence"))
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(frames) != header.frames:
        raise GeometryError(
            f"{header.frames} frames but {len(frames)} per-frame functional groups; the frames cannot be placed",
            source=header.name,
        )
    spatial = _spatial_dimensions(dataset)
    return [_functional_plane(header, n, _Groups(item, shared), spatial) for n, item in enumerate(frames)]


class _Groups:
    """Looks a macro up in the frame's own groups, then in the shared ones."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self.own = own
        self.shared = shared

    def macro(self, sequence: str) -> Dataset:
        return _first(self.own.get(sequence) or self.shared.get(sequence))


def _functional_plane(header: Header, frame: int, groups: _Groups, spatial: frozenset[int]) -> Plane:
    where = f"{header.name} frame {frame + 1}"
    measures = groups.macro("PixelMeasuresSequence")
    orientation = groups.macro("PlaneOrientationSequence").get("ImageOrientationPatient")
    row, column = _directions(_values(orientation), where)
    transform = groups.macro("PixelValueTransformationSequence")
    slope = transform.get("RescaleSlope")
    voi = groups.macro("FrameVOILUTSequence")
    return Plane(
        header,
        frame,
        position=_vector(_values(groups.macro("PlanePositionSequence").get("ImagePositionPatient"))),
        row=row,
        column=column,
        spacing=_spacing(_values(measures.get("PixelSpacing")), where),
        thickness=_positive(_number(measures.get("SliceThickness"))),
        between=_number(measures.get("SpacingBetweenSlices")),
        slope=_number(slope) if slope is not None else header.float("RescaleSlope"),
        intercept=(_number(transform.get("RescaleIntercept")) or 0.0)
        if slope is not None
        else header.float("RescaleIntercept") or 0.0,
        keys=_functional_keys(groups, spatial),
        window=_pairs(_values(voi.get("WindowCenter")), _values(voi.get("WindowWidth"))),
    )


def _functional_keys(groups: _Groups, spatial: frozenset[int]) -> dict[str, object]:
    content = groups.macro("FrameContentSequence")
    diffusion = groups.macro("MRDiffusionSequence")
    gradient = _first(diffusion.get("DiffusionGradientDirectionSequence"))
    frame_type: tuple[str, ...] = ()
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
        frame_type = frame_type or tuple(str(v) for v in _values(groups.macro(sequence).get("FrameType")))
    found: dict[str, object] = {
        "TemporalPosition": content.get("TemporalPositionIndex"),
        "EchoTime": groups.macro("MREchoSequence").get("EffectiveEchoTime"),
        "DiffusionBValue": diffusion.get("DiffusionBValue"),
        "DiffusionGradient": tuple(_values(gradient.get("DiffusionGradientOrientation"))),
        "TriggerTime": groups.macro("CardiacSynchronizationSequence").get("NominalCardiacTriggerDelayTime"),
        "FlipAngle": groups.macro("MRTimingAndRelatedParametersSequence").get("FlipAngle"),
        "InversionTime": tuple(_values(groups.macro("MRModifierSequence").get("InversionTimes"))),
        "ImageType": frame_type,
        "AcquisitionNumber": content.get("FrameAcquisitionNumber"),
        "StackID": content.get("StackID"),
    }
    for place, value in enumerate(_values(content.get("DimensionIndexValues"))):
        if place not in spatial:
            found[f"DimensionIndex{place + 1}"] = value
    return {name: value for name, value in found.items() if value not in (None, (), "")}


def _spatial_dimensions(dataset: Dataset) -> frozenset[int]:
    """Indices of the dimensions that count slices: In-Stack Position and Image Position (Patient)."""
    places = set()
    for place, item in enumerate(dataset.get("DimensionIndexSequence") or []):
        if int(item.get("DimensionIndexPointer", 0) or 0) in (0x00209057, 0x00200032, 0x00201041, 0x00209113):
            places.add(place)
    return frozenset(places)


def _directions(
    cosines: Sequence[float], where: str
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]] | tuple[None, None]:
    """Check and normalise Image Orientation (Patient), PS3.3 C.7.6.2.1.1."""
    if len(cosines) != 6 or not any(cosines):
        return None, None
    row, column = np.array(cosines[:3], dtype=np.float64), np.array(cosines[3:], dtype=np.float64)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.isfinite(lengths).all() or abs(lengths[0] - 1) > 1e-2 or abs(lengths[1] - 1) > 1e-2:
        raise GeometryError("the orientation is not two unit vectors; correct the header", source=where)
    row /= lengths[0]
    column /= lengths[1]
    if abs(row @ column) > 1e-2:
        raise GeometryError("the orientation's two vectors are not perpendicular; correct the header", source=where)
    column -= row * (row @ column)
    column /= np.linalg.norm(column)
    return row, column


def _spacing(values: Sequence[float], where: str) -> tuple[float, float] | None:
    if len(values) != 2:
        return None
    if not all(np.isfinite(v) and v > 0 for v in values):
        raise GeometryError("the pixel spacing is not positive; correct the header", source=where)
    return float(values[0]), float(values[1])


def _vector(values: Sequence[float]) -> Float[np.ndarray, "3"] | None:
    if len(values) != 3 or not np.isfinite(values).all():
        return None
    return np.array(values, dtype=np.float64)


def _pairs(centres: Sequence[float], widths: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((float(c), float(w)) for c, w in zip(centres, widths, strict=False) if w > 0)


def _positive(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) and value > 0 else None


def _number(value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, str | int | float):
        return [value]
    return list(value)


def _first(sequence: Any) -> Dataset:
    return sequence[0] if sequence else Dataset()
