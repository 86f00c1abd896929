"""DICOM Parametric Map: a float value for every voxel (a probability, an uncertainty), with its unit and its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import highdicom as hd
import numpy as np
import pydicom
from jaxtyping import Float
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ParametricMapStorage

from isocenter.core.errors import ConfigError, DataError, GeometryError, PixelError
from isocenter.core.geometry import Geometry
from isocenter.core.image import Image, Source
from isocenter.core.units import UCUM, Code, Quantity
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import MANUFACTURER, Origin, content_time, derive_uid, new_object
from isocenter.data.images.instance import open_instance
from isocenter.data.images.marks import Marks
from isocenter.data.images.proof import Proof, prove_image
from isocenter.data.images.quiet import quiet
from isocenter.version import __version__

__all__ = ["read_parametric_map", "write_parametric_map"]

_UNITS = {
    Quantity.HU: UCUM["HU"],
    Quantity.SUVBW: UCUM["SUVbw"],
    Quantity.BQML: UCUM["Bq/mL"],
    Quantity.GY: UCUM["Gy"],
    Quantity.PROBABILITY: UCUM["1"],
    Quantity.ARBITRARY: UCUM["1"],
}
_UNIFORM_MM = 0.01
_SHORT = 16


@quiet()
def write_parametric_map(
    image: Image,
    path: Path,
    *,
    headers: Sequence[Dataset],
    label: str = "MAP",
    description: str = "Isocenter parametric map",
    definition: Code | None = None,
    created: datetime | None = None,
    marks: Marks | None = None,
) -> Proof:
    """Write a map of float values.

    Args:
        image: One channel of float32 with a place in the patient, rows at a right angle to columns.
        path: Final file name; appears only when the proof holds.
        headers: Of the image the map was made from.
        label: Content Label, at most 16 characters: capitals, digits, blank, underscore.
        description: Series and content description, at most 64 characters.
        definition: What the numbers are (DICOM PS3.16 CID 7180), None for what the unit alone says.
        created: Date and time of making; None takes those of the source.
        marks: What it says of the algorithm behind it; None for nothing.

    Returns:
        The proof: every voxel was read back, bit for bit.

    Raises:
        ConfigError: The label or description is not one that DICOM can hold.
        DataError: No header, or the file cannot be written.
        GeometryError: No place in the patient, or not read back as written.
        PixelError: Not one channel of float32.

    Source:
        DICOM PS3.3 A.75.
    """
    if not (1 <= len(label) <= _SHORT and all(c.isdigit() or c in " _" or "A" <= c <= "Z" for c in label)):
        raise ConfigError(f"a content label must have 1 to {_SHORT} capitals, digits, blanks or underscores")
    if not 1 <= len(description) <= 64 or "\\" in description:
        raise ConfigError("a description must have 1 to 64 characters and no backslash")
    if image.array.shape[0] != 1 or image.array.dtype != np.float32:
        raise PixelError(
            f"a parametric map holds one channel of float32, got {image.array.shape[0]} of {image.array.dtype}"
        )
    if image.quantity not in _UNITS:
        raise PixelError(f"a parametric map cannot hold {image.quantity.value} values")
    affine = image.geometry.require_affine("writing a parametric map")
    digest = hashlib.sha256(np.ascontiguousarray(image.array).data)
    digest.update(repr((affine.tolist(), image.quantity, label, definition, created)).encode())
    content = (digest.hexdigest(),)
    base = new_object(headers, Origin(ParametricMapStorage, "OT", description, 9301, content, created, marks))
    dataset = _map(image, headers, base, (label, description), definition)
    del dataset.InstanceCreationDate, dataset.InstanceCreationTime  # the clock's; those told come with `base`
    for element in base:
        if element.keyword not in ("SpecificCharacterSet", "Modality"):
            dataset[element.tag] = element
    dataset.SpecificCharacterSet = base.SpecificCharacterSet
    dataset.Laterality = str(headers[0].get("Laterality") or "")
    dataset.ContentDate, dataset.ContentTime = content_time(headers, created)
    _settle(dataset, image.geometry, marked=marks is not None)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        return prove_image(image, read_parametric_map(temporary))


def _map(
    image: Image, headers: Sequence[Dataset], base: Dataset, names: tuple[str, str], definition: Code | None
) -> Dataset:
    """Build the map with highdicom, on the image's own grid."""
    geometry = image.geometry
    directions, spacing = geometry.directions, geometry.spacing_mm
    if directions is None or spacing is None:
        raise GeometryError("writing a parametric map needs a place in the patient")
    finite = image.array[np.isfinite(image.array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    unit = _UNITS[image.quantity]
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=image.quantity.value.upper()[:_SHORT],
        lut_explanation=names[1],
        unit=hd.sr.CodedConcept(unit.value, unit.scheme, unit.meaning),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=None
        if definition is None
        else hd.sr.CodedConcept(definition.value, definition.scheme, definition.meaning),
    )
    corners = geometry.to_world([[k, 0, 0] for k in range(geometry.shape[0])])
    positions = [
        hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, [_decimal(v) for v in corner])
        for corner in corners.tolist()
    ]
    orientation = [_decimal(v) for v in (*directions[:, 2].tolist(), *directions[:, 1].tolist())]
    return hd.pm.ParametricMap(
        source_images=_complete(headers, geometry),
        pixel_array=np.ascontiguousarray(image.array[0]),
        series_instance_uid=str(base.SeriesInstanceUID),
        series_number=int(base.SeriesNumber),
        sop_instance_uid=str(base.SOPInstanceUID),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number=__version__,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            hd.VOILUTTransformation(
                (low + high) / 2, max(high - low, 1e-6), voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT
            )
        ],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=names[0],
        content_description=names[1],
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=[_decimal(spacing[1]), _decimal(spacing[2])],
            slice_thickness=_decimal(spacing[0]),
            spacing_between_slices=_decimal(spacing[0]),
        ),
        plane_orientation=hd.PlaneOrientationSequence(hd.CoordinateSystemNames.PATIENT, orientation),
        plane_positions=positions,
    )


def _settle(dataset: Dataset, geometry: Geometry, *, marked: bool) -> None:
    """Take chance and clock out of what highdicom made, and give a lone plane its true spacing."""
    dimension = derive_uid("dimension", str(dataset.SOPInstanceUID))
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimension
    for item in () if marked else dataset.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    if geometry.spacing_mm is not None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = _decimal(geometry.spacing_mm[0])


def _decimal(value: float) -> float:
    """Round to what 16 characters of a decimal string hold, so that what is compared is what is stored."""
    return float(pydicom.valuerep.format_number_as_ds(float(value)))


def _complete(headers: Sequence[Dataset], geometry: Geometry) -> list[Dataset]:
    """Copy the headers for highdicom: the frame of reference filled in, and patient and study left empty.

    Real files lack some of the latter, and others hold values that highdicom refuses aloud; ours are copied afterwards.
    """
    out = []
    frame_uid = geometry.frame_uid or str(derive_uid("frame", str(headers[0].StudyInstanceUID)))
    for header in headers:
        known = header.get("FrameOfReferenceUID")
        if known and geometry.frame_uid and known != geometry.frame_uid:
            raise GeometryError("the map lies in another frame of reference than the headers; pass those of its image")
        # The elements are shared with the caller's header: one that is to differ is put in anew, never changed.
        full = Dataset()
        full.update(header)
        full.file_meta = getattr(header, "file_meta", FileMetaDataset())
        full.pop("FrameOfReferenceUID", None)
        full.FrameOfReferenceUID = known or frame_uid
        for keyword in (
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "AccessionNumber",
            "StudyID",
            "StudyDate",
            "StudyTime",
            "ReferringPhysicianName",
            "PositionReferenceIndicator",
        ):
            full.pop(keyword, None)
            setattr(full, keyword, "")
        out.append(full)
    return out


@quiet()
def read_parametric_map(file: Path | Dataset) -> Image:
    """Read a parametric map.

    Args:
        file: Path or dataset; float, double or integer pixels with a linear real-world value mapping.

    Returns:
        One channel of float32 in real-world values.

    Raises:
        DataError: Not readable, or not a parametric map.
        GeometryError: Its frames are no regular stack of parallel planes.
        PixelError: Its pixels cannot be decoded, or its mapping is not linear.
    """
    dataset, name = (file, "parametric map") if isinstance(file, Dataset) else (open_instance(file), file.name)
    if dataset.get("SOPClassUID") != ParametricMapStorage:
        raise DataError("not a DICOM Parametric Map", source=name)
    try:
        pixels = np.asarray(dataset.pixel_array)
    except (ValueError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise PixelError(
            "its pixels cannot be decoded; the file is damaged or compressed unusually", source=name
        ) from error
    pixels = pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(frames) != len(pixels):
        raise PixelError(f"{len(pixels)} frames and descriptions of {len(frames)}; the file is damaged", source=name)
    order, geometry = _geometry(dataset, frames, shared, name)
    values = np.empty(pixels.shape, dtype=np.float32)
    for target, k in enumerate(order):
        slope, intercept = _mapping(frames[k], shared, name)
        exact = slope == 1 and intercept == 0
        values[target] = pixels[k] if exact else pixels[k].astype(np.float64) * slope + intercept
    mapping = _first(frames[0], shared, "RealWorldValueMappingSequence")
    source = Source(
        str(dataset.get("StudyInstanceUID") or ""),
        str(dataset.get("SeriesInstanceUID") or ""),
        (str(dataset.get("SOPInstanceUID") or ""),),
        (str(ParametricMapStorage),),
    )
    unit = (mapping.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
    return Image(
        values[None],
        geometry,
        quantity=_quantity(str(mapping.get("LUTLabel") or ""), str(unit.get("CodeValue") or "")),
        modality=str(dataset.get("Modality") or ""),
        source=source,
        meta=MappingProxyType({"ContentLabel": str(dataset.get("ContentLabel") or "")}),
    )


def _first(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """Return the functional group of a frame: its own, else the shared one, else an empty one."""
    for groups in (frame, shared):
        if groups.get(keyword):
            item: Dataset = groups[keyword].value[0]
            return item
    return Dataset()


def _geometry(dataset: Dataset, frames: Sequence[Dataset], shared: Dataset, name: str) -> tuple[list[int], Geometry]:
    """Return the order of frames along the normal (or as they are, when regular), and the grid."""
    positions = _numbers([_first(f, shared, "PlanePositionSequence").get("ImagePositionPatient") for f in frames], name)
    cosines = _numbers(
        [_first(f, shared, "PlaneOrientationSequence").get("ImageOrientationPatient") for f in frames], name
    )
    measures = _first(frames[0], shared, "PixelMeasuresSequence")
    if np.abs(cosines - cosines[0]).max() > 1e-4 or not measures.get("PixelSpacing"):
        raise GeometryError("its planes are not parallel, or have no pixel spacing", source=name)
    row, column = cosines[0, :3], cosines[0, 3:]
    normal = np.cross(row, column)
    order = list(range(len(frames)))
    steps = np.diff(positions @ normal)
    if steps.size and not ((steps > 0).all() or (steps < 0).all()):
        order = np.argsort(positions @ normal, kind="stable").tolist()
        positions = positions[order]
    spacing = [float(v) for v in measures.PixelSpacing]
    if len(frames) > 1:
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
        if np.abs(np.diff(positions, axis=0) - step).max() > _UNIFORM_MM or np.linalg.norm(step) < _UNIFORM_MM:
            raise GeometryError(
                "its planes are not equally spaced; resample it, or read its frames singly", source=name
            )
    else:
        thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
        if not thickness:
            raise GeometryError("a single plane without thickness has no volume in space", source=name)
        step = normal / np.linalg.norm(normal) * float(thickness)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([step, column * spacing[0], row * spacing[1]])
    affine[:3, 3] = positions[0]
    shape = (len(frames), int(dataset.Rows), int(dataset.Columns))
    return order, Geometry(shape, affine, str(dataset.get("FrameOfReferenceUID") or ""))


def _numbers(values: Sequence[object], name: str) -> Float[np.ndarray, "n m"]:
    if any(v is None or not isinstance(v, Sequence) for v in values):
        raise GeometryError("a frame has no position or orientation in the patient", source=name)
    return np.array([[float(x) for x in v] for v in values if isinstance(v, Sequence)])


def _mapping(frame: Dataset, shared: Dataset, name: str) -> tuple[float, float]:
    mapping = _first(frame, shared, "RealWorldValueMappingSequence")
    if mapping.get("RealWorldValueLUTData"):
        raise PixelError("its real-world values are a look-up table; only linear ones are read", source=name)
    slope, intercept = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)


def _quantity(label: str, unit: str) -> Quantity:
    for quantity in Quantity:
        if quantity.value.upper() == label.upper():
            return quantity
    return {u.value: q for q, u in _UNITS.items() if u.value != "1"}.get(unit, Quantity.ARBITRARY)
