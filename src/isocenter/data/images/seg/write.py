"""Write a mask as DICOM Segmentation, proven in patient millimetres before it gets its name.

The head of the file (patient, study, segments, shared functional groups) is a pydicom dataset; the per-frame groups and
the pixels, which are nearly all of it, are streamed as bytes (see `encode` and `stored`). The same mask, headers and
options give the same bytes: UIDs are hashes of what is written, and no clock is asked.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from isocenter.core.errors import DataError, GeometryError
from isocenter.core.geometry import Geometry
from isocenter.core.mask import Mask
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import copy_identity, valid_time
from isocenter.data.images.labels import check_labels
from isocenter.data.images.marks import Marks
from isocenter.data.images.proof import Proof, prove
from isocenter.data.images.quiet import quiet
from isocenter.data.images.seg.encode import FrameGroups, decimal_strings, element, sequence
from isocenter.data.images.seg.read import read_seg
from isocenter.data.images.seg.segments import background_item, segment_item
from isocenter.data.images.seg.sources import (
    SourcePlane,
    complete,
    frame_of_reference,
    match_planes,
    source_planes,
)
from isocenter.data.images.seg.stored import MAXIMUM_FRACTIONAL_VALUE, SegKind, StoredFrames, stored_frames

__all__ = ["SegOptions", "write_seg"]

_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_REFERENCED_SERIES = 0x00081115
_IMPLEMENTATION_UID = generate_uid(entropy_srcs=["isocenter", "implementation class"])
_LONGEST_VALUE = 2**32 - 2


def _own_version() -> str:
    try:
        return version("isocenter")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class SegOptions:
    """What is written beside the mask and what its source says.

    Args:
        content_label: Code-like name of the content, upper case, at most 16 characters.
        content_description: At most 64 characters.
        series_number: Series Number.
        instance_number: Instance Number.
        created: Content Date and Time; None takes those of the study, so that the same input gives the same file (and
            19000101 where the study has none, because DICOM requires a value).
        algorithm_name: Name of the algorithm for segments that carry none.
        algorithm_version: Its version.
        manufacturer: Of the equipment that writes.
        device_serial_number: Of the same.
        marks: What it says of the algorithm behind it; None for nothing.
    """

    content_label: str = "SEGMENTATION"
    content_description: str = ""
    series_number: int = 1000
    instance_number: int = 1
    created: datetime | None = None
    algorithm_name: str = "Isocenter"
    algorithm_version: str = field(default_factory=_own_version)
    manufacturer: str = "Isocenter"
    device_serial_number: str = "0"
    marks: Marks | None = field(default=None, repr=False)


def write_seg(
    mask: Mask,
    path: Path,
    *,
    headers: Sequence[Dataset],
    kind: SegKind = "BINARY",
    series_description: str = "Segmentation",
    options: SegOptions | None = None,
) -> Proof:
    """Write a mask as a DICOM Segmentation, read it back and prove its place.

    Any grid with orthogonal axes can be written, mirrored or oblique, with more or fewer slices than the source. Planes
    that coincide with planes of the source refer to them; others refer to the source's series only.

    Args:
        mask: A label map, a bool stack (segments may overlap), or probabilities (inside at 0.5 or more, except for
            FRACTIONAL, which stores them in steps of 1/255).
        path: File to write; it appears whole and proven, or not at all.
        headers: Headers of the image that the mask was drawn on, in any order, without pixel data.
        kind: "BINARY": one bit per voxel and segment. "FRACTIONAL": probabilities. "LABELMAP": one number per voxel,
            the smallest and fastest, readable by viewers that know Supplement 243 of DICOM (2024).
        series_description: Series Description, at most 64 characters.
        options: Everything else.

    Returns:
        The proof: centroid, volume and side of every segment as read back from the file.

    Raises:
        GeometryError: The axes are not orthogonal, the mask lies in another frame of reference than the source, or it
            has no place and is not on the source's pixels; or the proof failed.
        PixelError: Segments overlap in a label map, or are not numbered as the standard wants.
        IdentityLeak: The headers are of two patients or studies.
        DataError: Headers are missing or incomplete, a label is one that DICOM cannot hold, or the file would be too
            large or cannot be written.

    Source:
        DICOM PS3.3 A.51 (Segmentation), A.91 (Label Map Segmentation), C.8.20.
    """
    with quiet():
        return _write_seg(mask, Path(path), headers, kind, series_description, options or SegOptions())


def _write_seg(
    mask: Mask, path: Path, headers: Sequence[Dataset], kind: SegKind, series_description: str, options: SegOptions
) -> Proof:
    header = complete(headers)
    check_labels(mask.segments)
    matches = match_planes(source_planes(headers), mask.geometry)
    frame_uid = frame_of_reference(header, mask.geometry, matches)
    _require_orthogonal(mask.geometry)
    frames = stored_frames(mask, kind)
    if frames.pixel_bytes > _LONGEST_VALUE:
        raise DataError(
            f"{len(frames.frames)} frames are {frames.pixel_bytes} bytes, more than one DICOM value holds (4 GiB); "
            "write LABELMAP, or fewer segments per file"
        )
    head = _header(mask, frames, headers, matches, frame_uid)
    _describe(head, mask, frames, options, series_description)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            _write_file(file, head, mask, frames, _planes(mask.geometry, matches, bool(frame_uid)))
        step = 0.5 / MAXIMUM_FRACTIONAL_VALUE if kind == "FRACTIONAL" and not mask.is_labelmap else 0.0
        return prove(_as_written(mask, kind), read_seg(temporary), probability_atol=step)


def _as_written(mask: Mask, kind: SegKind) -> Mask:
    """What the file shall hold: BINARY and LABELMAP keep of probabilities which voxels are inside."""
    if mask.array.dtype != np.float32 or kind == "FRACTIONAL":
        return mask
    return Mask(mask.array >= 0.5, mask.geometry, mask.segments, mask.source)


def _require_orthogonal(geometry: Geometry) -> None:
    directions = geometry.directions
    if directions is None:
        return
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    extent_mm = max(n * s for n, s in zip(geometry.shape, geometry.spacing_mm or (), strict=True))
    if skew * extent_mm > 0.01:
        raise GeometryError(
            "the axes of the mask are not at right angles (a tilted gantry, or a sheared affine), which planes with "
            "one spacing cannot say; resample the mask onto a straight grid"
        )


def _planes(geometry: Geometry, matches: Sequence[SourcePlane | None], in_space: bool) -> list[FrameGroups]:
    planes = []
    for z, match in enumerate(matches):
        position = None
        if in_space:
            if geometry.affine is not None:
                position = (geometry.affine[:3, 0] * z + geometry.affine[:3, 3]).tolist()
            elif match is not None and match.corners_lps_mm is not None:
                position = match.corners_lps_mm[:, 0].tolist()
        source = (match.sop_class_uid, match.sop_instance_uid, match.frame_number) if match else None
        planes.append(FrameGroups(source, position, z + 1))
    return planes


def _header(
    mask: Mask,
    frames: StoredFrames,
    headers: Sequence[Dataset],
    matches: Sequence[SourcePlane | None],
    frame_uid: str,
) -> Dataset:
    """Everything that follows from the mask's grid and its source."""
    head = Dataset()
    copy_identity(headers, head)
    if frame_uid:
        head.FrameOfReferenceUID = frame_uid
        head.PositionReferenceIndicator = headers[0].get("PositionReferenceIndicator", None)
    else:  # General Image, type 2C: what is not placed in space says at least which way it is turned
        head.PatientOrientation = headers[0].get("PatientOrientation", None)
    head[_REFERENCED_SERIES] = _referenced_series(headers)
    head.Rows, head.Columns = frames.shape
    head.NumberOfFrames = len(frames.frames)
    head.SamplesPerPixel, head.PixelRepresentation = 1, 0
    head.PhotometricInterpretation = "MONOCHROME2"
    head.BitsAllocated = head.BitsStored = frames.bits
    head.HighBit = frames.bits - 1
    head.SegmentationType = frames.kind
    head.SegmentsOverlap = frames.overlap
    lossy = any(str(h.get("LossyImageCompression", "00")) == "01" for h in headers)
    head.LossyImageCompression = "01" if lossy else "00"
    if lossy:
        _copy_lossy(headers, head)
    if frames.kind == "FRACTIONAL":
        head.SegmentationFractionalType = "PROBABILITY"
        head.MaximumFractionalValue = MAXIMUM_FRACTIONAL_VALUE
    if frames.kind == "LABELMAP":
        head.PixelPaddingValue = 0
    shared = Dataset()
    measures = _pixel_measures(mask.geometry, headers, matches)
    if measures is not None:
        shared.PixelMeasuresSequence = DicomSequence([measures])
    if frame_uid:
        orientation = Dataset()
        orientation.ImageOrientationPatient = _orientation(mask.geometry, matches).split("\\")
        shared.PlaneOrientationSequence = DicomSequence([orientation])
    head.SharedFunctionalGroupsSequence = DicomSequence([shared])
    return head


def _copy_lossy(headers: Sequence[Dataset], head: Dataset) -> None:
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        value = next((h[keyword].value for h in headers if keyword in h), None)
        if value is not None:
            setattr(head, keyword, value)


def _orientation(geometry: Geometry, matches: Sequence[SourcePlane | None]) -> str:
    directions = geometry.directions
    if directions is not None:
        # Cosines below 1e-12 are the noise of a product of rotations and only cost digits.
        return decimal_strings(np.round(np.concatenate([directions[:, 2], directions[:, 1]]), 12).tolist())
    source = next((m.orientation for m in matches if m and m.orientation), None)
    if source is None:
        raise GeometryError("the source names a frame of reference but no orientation; the mask cannot be placed")
    return decimal_strings(source)


def _pixel_measures(
    geometry: Geometry, headers: Sequence[Dataset], matches: Sequence[SourcePlane | None]
) -> Dataset | None:
    measures = Dataset()
    spacing = geometry.spacing_mm
    if spacing is not None:
        measures.PixelSpacing = decimal_strings(spacing[1:]).split("\\")
        measures.SliceThickness = measures.SpacingBetweenSlices = decimal_strings(spacing[:1])
        return measures
    placed = next((m.corners_lps_mm for m in matches if m and m.corners_lps_mm is not None), None)
    if placed is not None:
        columns_mm, rows_mm = np.linalg.norm(placed[:, 1:], axis=0).tolist()
        measures.PixelSpacing = decimal_strings((rows_mm, columns_mm)).split("\\")
    elif geometry.pixel_spacing_mm is not None:
        measures.PixelSpacing = decimal_strings(geometry.pixel_spacing_mm).split("\\")
    else:
        return None
    thickness = headers[0].get("SliceThickness")
    if thickness is not None and float(thickness) > 0:
        measures.SliceThickness = thickness
    return measures


def _referenced_series(headers: Sequence[Dataset]) -> RawDataElement:
    """Encode the Referenced Series Sequence as bytes: hundreds of instances would be hundreds of objects."""
    series: dict[str, list[bytes]] = {}
    for header in headers:
        reference = element(0x00081150, "UI", header.SOPClassUID.encode())
        reference += element(0x00081155, "UI", header.SOPInstanceUID.encode())
        series.setdefault(str(header.SeriesInstanceUID), []).append(reference)
    items = [
        sequence(0x0008114A, *references) + element(0x0020000E, "UI", uid.encode())
        for uid, references in series.items()
    ]
    value = sequence(_REFERENCED_SERIES, *items)[12:]
    return RawDataElement(Tag(_REFERENCED_SERIES), "SQ", len(value), value, 0, False, True)


def _describe(head: Dataset, mask: Mask, frames: StoredFrames, options: SegOptions, series_description: str) -> None:
    """Everything that says what it is and who wrote it; UIDs are hashes of all that goes in."""
    is_map = frames.kind == "LABELMAP"
    head.SOPClassUID = _LABEL_MAP_SEGMENTATION_STORAGE if is_map else _SEGMENTATION_STORAGE
    head.ImageType = ["DERIVED", "PRIMARY"]
    head.Modality = "SEG"
    head.SeriesDescription = series_description[:64]
    head.SeriesNumber, head.InstanceNumber = options.series_number, options.instance_number
    head.Manufacturer, head.ManufacturerModelName = options.manufacturer, "isocenter"
    head.DeviceSerialNumber, head.SoftwareVersions = options.device_serial_number, _own_version()
    head.ContentLabel = options.content_label.upper()[:16]
    head.ContentDescription = options.content_description[:64]
    head.ContentCreatorName = None
    head.PresentationLUTShape = "IDENTITY"
    if options.created is not None:
        head.ContentDate, head.ContentTime = options.created.strftime("%Y%m%d"), options.created.strftime("%H%M%S.%f")
    else:
        head.ContentDate, head.ContentTime = valid_time(head, "Study")
    items = [background_item(options.algorithm_name)] if is_map else []
    for segment in mask.segments:
        name, number = options.algorithm_name, options.algorithm_version
        items.append(segment_item(segment, algorithm_name=name, algorithm_version=number))
    head.SegmentSequence = DicomSequence(items)
    if options.marks is not None:
        options.marks.put(head)
    inputs = (
        *(() if options.marks is None else (options.marks,)),
        mask.segments,
        options,
        frames.kind,
        series_description,
        head.ContentDate,
        head.ContentTime,
        mask.geometry.shape,
    )
    references = head.get_item(_REFERENCED_SERIES).value
    digest = hashlib.sha256(repr((inputs, references, head.get("FrameOfReferenceUID"), _own_version())).encode())
    for plane in mask.array.reshape(-1, *mask.array.shape[-2:]):
        digest.update(np.ascontiguousarray(plane).data)
    if mask.geometry.affine is not None:
        digest.update(mask.geometry.affine.tobytes())
    content = digest.hexdigest()
    head.SOPInstanceUID = generate_uid(entropy_srcs=["SOP instance", content])
    head.SeriesInstanceUID = generate_uid(entropy_srcs=["series", content])
    _dimensions(head, is_map, generate_uid(entropy_srcs=["dimension organisation", content]))


def _dimensions(head: Dataset, is_map: bool, uid: str) -> None:
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid
    head.DimensionOrganizationSequence = DicomSequence([organisation])
    place = (0x00200032, 0x00209113, "Image Position Patient")
    if "FrameOfReferenceUID" not in head:
        place = (0x00209057, 0x00209111, "In-Stack Position Number")
    items = []
    for pointer, group, label in ([] if is_map else [(0x0062000B, 0x0062000A, "Segment Number")]) + [place]:
        item = Dataset()
        item.DimensionOrganizationUID = uid
        item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, group
        item.DimensionDescriptionLabel = label
        items.append(item)
    head.DimensionIndexSequence = DicomSequence(items)


def _write_file(file: BinaryIO, head: Dataset, mask: Mask, frames: StoredFrames, planes: Sequence[FrameGroups]) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = head.SOPClassUID, head.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = _IMPLEMENTATION_UID, "ISOCENTER"
    dcmwrite(file, FileDataset("", head, preamble=b"\0" * 128, file_meta=meta), enforce_file_format=True)
    items = [planes[f.z].item(None if f.segment is None else (f.segment + 1, f.segment + 1)) for f in frames.frames]
    file.write(struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, sum(map(len, items))))
    file.writelines(items)
    length = frames.pixel_bytes
    vr = b"OW" if frames.bits == 16 else b"OB"
    file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, length + length % 2))
    for piece in frames.pixels(mask):
        file.write(piece)
    if length % 2:
        file.write(b"\0")
