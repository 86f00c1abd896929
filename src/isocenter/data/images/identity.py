"""What a derived DICOM object takes from its source: patient, study, time; and what it says of its maker.

The core types carry no identity, so a writer copies it here from the source's headers, straight into the new object
and nowhere else. UIDs are derived from content and the clock is never asked: the same input gives the same file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from jaxtyping import Float
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ImplicitVRLittleEndian, generate_uid

from isocenter.core.errors import DataError, IdentityLeak
from isocenter.core.geometry import Geometry
from isocenter.data.images.marks import Marks
from isocenter.data.images.patient import Patient, two_patients
from isocenter.version import __version__

__all__ = [
    "MANUFACTURER",
    "Origin",
    "Plane",
    "content_time",
    "copy_identity",
    "derive_uid",
    "new_object",
    "planes",
    "slice_of",
    "valid_time",
]

MANUFACTURER = "Isocenter"
_UNKNOWN_DATE, _UNKNOWN_TIME = "19000101", "000000"

# Patient, General Study, Patient Study and Clinical Trial modules (DICOM PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3)
# without private elements. Type 2 in every IOD: present, perhaps empty.
_REQUIRED_WORDS = """
PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
"""
_OPTIONAL_WORDS = """
IssuerOfPatientID OtherPatientIDsSequence PatientBirthTime EthnicGroup PatientIdentityRemoved DeidentificationMethod
DeidentificationMethodCodeSequence LongitudinalTemporalInformationModified PatientSpeciesDescription
PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson
ResponsibleOrganization StudyDescription IssuerOfAccessionNumberSequence PatientAge PatientSize PatientWeight
PatientSexNeutered ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID
ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialTimePointID
"""
_REFERENCED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_REQUIRED, _OPTIONAL = _REQUIRED_WORDS.split(), _OPTIONAL_WORDS.split()


@dataclass(frozen=True)
class Origin:
    """How a derived object names itself.

    Args:
        sop_class_uid: Its SOP Class.
        modality: Its Modality.
        description: Series Description; not free text of the source.
        series_number: Series Number.
        content: What makes its UIDs: hashes of pixels, options. Equal content, equal UIDs.
        created: When it was made; None leaves it to the times of the source.
        marks: What it says of the algorithms behind it; None for nothing.
    """

    sop_class_uid: str
    modality: str
    description: str
    series_number: int
    content: tuple[str, ...]
    created: datetime | None = None
    marks: Marks | None = None


@dataclass(frozen=True, eq=False)
class Plane:
    """One image plane of the source.

    Args:
        position_lps_mm: Centre of its first pixel.
        normal: Unit normal of the plane.
        sop_class_uid: Of its instance.
        sop_instance_uid: Of its instance.
        frame: Frame number from 1 in a multi-frame instance, else None.
    """

    position_lps_mm: Float[np.ndarray, "3"]
    normal: Float[np.ndarray, "3"]
    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None


def derive_uid(*content: str) -> UID:
    """Return a UID that depends on the content alone.

    Example:
        >>> derive_uid("a", "b") == derive_uid("a", "b"), derive_uid("a") == derive_uid("b")
        (True, False)
    """
    return UID(generate_uid(entropy_srcs=["isocenter", *content]))


def content_time(headers: Sequence[Dataset], created: datetime | None) -> tuple[str, str]:
    """Return a DICOM date and time: of the making if told, else of the source, else 1900-01-01 for "not known"."""
    if created is not None:
        return created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    for what in ("Content", "Acquisition", "Series", "Study"):
        date, time = valid_time(headers[0], what)
        if date != _UNKNOWN_DATE:
            return date, time
    return _UNKNOWN_DATE, _UNKNOWN_TIME


def valid_time(header: Dataset, what: str) -> tuple[str, str]:
    """Return a header's date and time ("Study", "Series", ...), each "not known" where it is not one of DICOM's.

    A time is copied into elements that must hold one, so text that only stands in its place is not.
    """
    date, time = str(header.get(f"{what}Date") or ""), str(header.get(f"{what}Time") or "")
    return (
        date if re.fullmatch(r"[0-9]{8}", date) else _UNKNOWN_DATE,
        time if re.fullmatch(r"[0-9]{6}(\.[0-9]{1,6})?", time) else _UNKNOWN_TIME,
    )


def new_object(headers: Sequence[Dataset], origin: Origin) -> Dataset:
    """Start a derived object: file meta, patient, study, series, equipment and SOP common attributes.

    Args:
        headers: Headers of the source series, at least one, all of one patient and study.
        origin: How it names itself.

    Returns:
        A dataset to be written as Implicit VR Little Endian.

    Raises:
        DataError: No header, or one without the UIDs that a reference to it needs.
        IdentityLeak: Headers of several patients or studies.
    """
    if not headers:
        raise DataError("a DICOM object needs the headers of the image it is derived from, and there are none")
    for keyword in _REFERENCED:
        if not all(header.get(keyword) for header in headers):
            raise DataError(
                f"a source header has no {keyword}, so that nothing can refer to it; repair it, or write NIfTI instead"
            )
    source = headers[0]
    dataset = Dataset()
    copy_identity(headers, dataset)
    series_uid = str(source.get("SeriesInstanceUID") or "")
    content = (str(source.StudyInstanceUID), series_uid, origin.sop_class_uid, origin.description, *origin.content)
    content += () if origin.marks is None else (repr(origin.marks),)
    dataset.SeriesInstanceUID = derive_uid("series", *content)
    dataset.SOPInstanceUID = derive_uid("instance", *content)
    dataset.SOPClassUID = UID(origin.sop_class_uid)
    dataset.Modality = origin.modality
    dataset.SeriesNumber = str(origin.series_number)
    dataset.SeriesDescription = origin.description
    dataset.InstanceNumber = "1"
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MANUFACTURER
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = __version__
    if origin.marks is not None:
        origin.marks.put(dataset)
    if origin.created is not None:
        dataset.InstanceCreationDate, dataset.InstanceCreationTime = content_time(headers, origin.created)
        dataset.SeriesDate, dataset.SeriesTime = dataset.InstanceCreationDate, dataset.InstanceCreationTime
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return dataset


def copy_identity(headers: Sequence[Dataset], target: Dataset) -> None:
    """Copy patient and study into a derived object; text becomes UTF-8.

    Values are taken from the header that says most of the patient (files of one series may leave fields empty), as they
    are, even where they break a rule of the standard: a Study ID of 18 characters is still the study's.

    Args:
        headers: Of the source, at least one, each with its Study Instance UID.
        target: Where to.

    Raises:
        IdentityLeak: They are of two patients, by the rule the reader goes by, or of two studies.
    """
    patients = [Patient.of(partial(_text, header)) for header in headers]
    if two_patients((str(h.get("SeriesInstanceUID") or ""), p) for h, p in zip(headers, patients, strict=True)):
        raise IdentityLeak("the source's headers are of two patients; pass one series")
    if len({str(h.get("StudyInstanceUID") or "") for h in headers}) > 1:
        raise IdentityLeak(
            "the source's headers are of two studies, and a derived object belongs to one; repair the series' Study "
            "Instance UID, or pass one series"
        )
    source = headers[max(range(len(headers)), key=lambda place: (patients[place].known, -place))]
    target.SpecificCharacterSet = "ISO_IR 192"
    with disable_value_validation():
        for keyword in _REQUIRED:
            if not _copy(source, target, keyword):
                setattr(target, keyword, "")
        for keyword in _OPTIONAL:
            _copy(source, target, keyword)
    target.StudyInstanceUID = str(source.StudyInstanceUID)


def planes(headers: Sequence[Dataset]) -> list[Plane]:
    """Return every image plane of the source that has a place in the patient, single- or multi-frame."""
    out = []
    for header in headers:
        frames = header.get("PerFrameFunctionalGroupsSequence")
        shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        for number, groups in enumerate(frames or [header], start=1):
            position = _group(groups, shared, "PlanePositionSequence", "ImagePositionPatient")
            orientation = _group(groups, shared, "PlaneOrientationSequence", "ImageOrientationPatient")
            if position is None or orientation is None:
                continue
            row, column = orientation[:3], orientation[3:]
            normal = np.cross(row, column)
            uids = str(header.get("SOPClassUID") or ""), str(header.get("SOPInstanceUID") or "")
            out.append(Plane(position, normal / np.linalg.norm(normal), *uids, number if frames else None))
    return out


def slice_of(geometry: Geometry, source: Sequence[Plane]) -> dict[int, Plane]:
    """Return, for each slice of a grid that lies on a plane of the source, that plane.

    Slices that are not parallel to the source, or farther than half a slice from every plane of it, have none.
    """
    affine = geometry.require_affine("slice_of")
    normal = np.cross(affine[:3, 1], affine[:3, 2])
    normal = normal / np.linalg.norm(normal)
    out: dict[int, tuple[float, Plane]] = {}
    for plane in source:
        if abs(float(plane.normal @ normal)) < 1 - 1e-5:
            continue
        place = float(geometry.to_index(plane.position_lps_mm[None])[0, 0])
        k = round(place)
        distance = abs(place - k)
        if 0 <= k < geometry.shape[0] and (k not in out or distance < out[k][0]):
            out[k] = (distance, plane)
    return {k: plane for k, (_, plane) in out.items()}


def _group(groups: Dataset, shared: Dataset, sequence: str, keyword: str) -> Float[np.ndarray, " n"] | None:
    for place in (groups, *(groups.get(sequence) or ()), *(shared.get(sequence) or ())):
        if place.get(keyword):
            return np.array([float(v) for v in place[keyword].value])
    return None


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _copy(source: Dataset, target: Dataset, keyword: str) -> bool:
    """Copy an element as it is, an empty one too (some are type 2 of their module); tell whether there was one."""
    if keyword not in source:
        return False
    element = copy.deepcopy(source[keyword])
    if element.VR == "SQ":
        for item in element.value:
            item.decode()
    target[keyword] = element
    return True
