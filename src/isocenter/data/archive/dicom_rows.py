"""One DICOM file becomes one row of the catalog, without identity, and a de-identified copy."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import pydicom.charset

from isocenter.data.deidentify import KnownIdentity, Policy, Pseudonyms, clean_text
from isocenter.data.deidentify.dicom.skim import somebodys
from isocenter.data.deidentify.identity import pattern
from isocenter.data.images.dicom.header import WANTED, Header, Wanted
from isocenter.data.images.dicom.neighbours import Kin
from isocenter.data.images.patient import identifies
from isocenter.data.images.quiet import quiet

__all__ = ["ARCHIVE_WANTED", "Person", "instance_row", "person_of", "short"]

_MORE_TEXT = """
00080005:SpecificCharacterSet 00080020:StudyDate 00080050:AccessionNumber 00080070:Manufacturer
00081030:StudyDescription
0008103E:SeriesDescription 00081090:ManufacturerModelName 00101010:PatientAge 00181030:ProtocolName 00200060:Laterality
00200062:ImageLaterality 00185101:ViewPosition 00280301:BurnedInAnnotation 00282110:LossyImageCompression
00120062:PatientIdentityRemoved
"""
_NAMES = """
00080090:ReferringPhysicianName 00081048:PhysiciansOfRecord 00081050:PerformingPhysicianName
00081060:NameOfPhysiciansReadingStudy 00081070:OperatorsName 00101001:OtherPatientNames 00101005:PatientBirthName
00101060:PatientMotherBirthName
"""
_NUMBERS = """
00101000:OtherPatientIDs 00101040:PatientAddress 00101090:MedicalRecordLocator 00102154:PatientTelephoneNumbers
"""
"""What names a person in a description, as `deidentify_bytes` knows it too."""
_MORE_FLOATS = "00180060:KVP 00180087:MagneticFieldStrength 00180080:RepetitionTime"
ARCHIVE_WANTED: Wanted = {
    **WANTED,
    **{int(t[:8], 16): (t[9:], "text") for t in (*_MORE_TEXT.split(), *_NAMES.split(), *_NUMBERS.split())},
    **{int(t[:8], 16): (t[9:], "floats") for t in _MORE_FLOATS.split()},
}
_NAMING = tuple(t[9:] for t in _NAMES.split())
_NUMBERING = tuple(t[9:] for t in _NUMBERS.split())
_OF_ONE = """
SOPInstanceUID InstanceNumber ImagePositionPatient AcquisitionTime AcquisitionDate TriggerTime EchoNumbers
TemporalPositionIdentifier AcquisitionNumber WindowCenter WindowWidth
"""
_OWN = frozenset(_OF_ONE.split())
_SHARED = tuple(keyword for keyword, _ in ARCHIVE_WANTED.values() if keyword not in _OWN)
_SERIES_ROWS: dict[tuple[object, ...], dict[str, Any]] = {}
_MOST_SERIES = 512
_DATE = re.compile(r"[0-9]{8}")
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_OLDEST = 90.0
"""Ages above 89 are one group: few people have them."""
_ROLES = {
    "SEG": "mask", "RTSTRUCT": "mask", "SR": "report", "DOC": "report", "KO": "other", "PR": "other", "REG": "other",
    "RTPLAN": "other", "RTDOSE": "other", "RTIMAGE": "image", "RTRECORD": "other", "FID": "other", "RWV": "other",
    "AU": "other", "ECG": "other", "HD": "other", "ANN": "other", "PLAN": "other", "STAIN": "other", "EPS": "other",
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Who a file is of.

    Args:
        key: The pseudonym.
        told_by: "header", or "study" where the header has no identifier (or one that everybody gets, as "ANONYMOUS")
            and the study stands for the person.
        shift_days: By which the person's dates are moved back.
        known: What names the person in free text; never kept.
        name_key: Keyed hash of the letters of the name, "" for none: tells two people of one identifier apart.
        birth_key: Keyed hash of the birth date, "" for none.
        sex: F, M, O or "".
    """

    key: str
    told_by: str
    shift_days: int
    known: KnownIdentity
    name_key: str
    birth_key: str
    sex: str


def person_of(header: Header, names: Pseudonyms, domain: str) -> Person:
    """Tell whose a file is.

    Args:
        header: Read with `ARCHIVE_WANTED`.
        names: Makes pseudonyms.
        domain: Whose identifiers these are where the header does not say.
    """
    identifier = header.text("PatientID")
    issuer = header.text("IssuerOfPatientID") or domain
    return _person(
        names,
        issuer,
        identifier,
        header.text("StudyInstanceUID") or header.text("SOPInstanceUID"),
        header.text("PatientBirthDate"),
        header.text("PatientSex").upper(),
        (_decoded(header, "PatientName"), *(_decoded(header, k) for k in _NAMING if k in header.values)),
        (header.text("AccessionNumber"), *(_decoded(header, k) for k in _NUMBERING if k in header.values)),
    )


@lru_cache(maxsize=1024)
def _person(
    names: Pseudonyms,
    issuer: str,
    identifier: str,
    study: str,
    birth: str,
    sex: str,
    people: tuple[str, ...],
    numbers: tuple[str, ...],
) -> Person:
    # What devices and programs write for everybody ("ANONYMOUS") makes no two studies one person's.
    named = identifies(identifier)
    key = names.patient(issuer, identifier) if named else names.patient("study", study)
    name, *others = people
    letters = "".join(c for c in name.split("=")[0].upper() if c.isalnum())
    known = KnownIdentity(
        tuple(dict.fromkeys(n for n in (name, *somebodys(*others)) if n)),
        tuple(dict.fromkeys(n for n in (identifier, *somebodys(*numbers)) if n)),
        (birth,) if birth else (),
        key,
    )
    return Person(
        key,
        "header" if named else "study",
        names.shift_days(key),
        known,
        names.token("name", letters) if letters else "",
        names.token("birth", birth) if birth else "",
        sex if sex in ("F", "M", "O") else "",
    )


def instance_row(
    header: Header, person: Person, names: Pseudonyms, policy: Policy, kin: Kin | None = None
) -> dict[str, Any]:
    """Return the row of an instance: nothing in it names anybody.

    Args:
        header: Read with `ARCHIVE_WANTED`.
        person: From `person_of`.
        names: Makes pseudonyms.
        policy: What is kept.
        kin: What the header shares with those beside it, where that is known.
    """
    value = header.values.get
    # What the files of a series share is worked out once for all of them.
    shared: tuple[object, ...]
    if kin is None:
        shared = (person, policy, names, header.transfer_syntax_uid, header.has_pixels, *(value(k) for k in _SHARED))
    else:
        shared = (person, policy, names, kin, *(value(k) for k in kin.differing if k not in _OWN))
    row = _SERIES_ROWS.get(shared)
    if row is None:
        row = _series_row(header, person, names, policy)
        if len(_SERIES_ROWS) >= _MOST_SERIES:
            _SERIES_ROWS.clear()
        _SERIES_ROWS[shared] = row
    sop, point = header.text("SOPInstanceUID"), header.floats("ImagePositionPatient")
    own = dict(row)
    uid = _uid_of(names, policy)
    own["sop_uid"] = uid(sop) if sop else None
    if not header.text("SeriesInstanceUID"):
        own["series_uid"] = uid(f"no series {header.text('StudyInstanceUID')} {sop}")
    if not header.text("StudyInstanceUID"):
        own["study_uid"] = uid(f"no study {sop}")
    normal = own.pop("normal")
    if normal is not None and len(point) == 3:
        x, y, z = point
        own["slice_position_mm"] = _finite(normal[0] * x + normal[1] * y + normal[2] * z)
        own["placed"] = f"{own['placed']} {x:z.3f} {y:z.3f} {z:z.3f}"
    own["instance_number"] = _whole(header.float("InstanceNumber"))
    return own


def _uid_of(names: Pseudonyms, policy: Policy) -> Callable[[str], str]:
    return (lambda u: u) if policy.off or policy.retain_uids else names.uid


def _series_row(header: Header, person: Person, names: Pseudonyms, policy: Policy) -> dict[str, Any]:
    """Return what the rows of a series share."""
    clean = _cleaner(header, person, policy)
    plain = _plain_text(header, person, policy)
    modality = header.text("Modality")
    spacing = header.floats("PixelSpacing") or header.floats("ImagerPixelSpacing")
    orientation, normal = _plane(header)
    study, series = header.text("StudyInstanceUID"), header.text("SeriesInstanceUID")
    syntax = header.transfer_syntax_uid
    uid = _uid_of(names, policy)
    accession = header.text("AccessionNumber")
    frame = header.text("FrameOfReferenceUID")
    return {
        "sop_uid": None,
        "series_uid": uid(series) if series else None,
        "study_uid": uid(study) if study else None,
        "patient_key": person.key,
        "patient_from": person.told_by,
        "name_key": person.name_key,
        "birth_key": person.birth_key,
        "placed": _sides(header),
        "scaled": _scale(header) if header.has_pixels else None,
        "sex": person.sex or None,
        "age_years": _age(header.text("PatientAge")) if policy.off or policy.retain_patient_characteristics else None,
        "form": "dicom",
        "role": _ROLES.get(modality, "image" if header.has_pixels else "other"),
        "modality": plain("Modality"),
        "modality_from": "header" if plain("Modality") else None,
        "sop_class": header.text("SOPClassUID") or None,
        "image_type": plain("ImageType"),
        "body_part": plain("BodyPartExamined"),
        "laterality": plain("ImageLaterality") or plain("Laterality"),
        "view": plain("ViewPosition"),
        "study_date": _shifted(header.text("StudyDate"), person, names, policy),
        "study_description": clean("StudyDescription"),
        "series_description": clean("SeriesDescription"),
        "protocol": clean("ProtocolName"),
        "manufacturer": plain("Manufacturer"),
        "model": plain("ManufacturerModelName"),
        "field_strength_t": header.float("MagneticFieldStrength"),
        "kvp": header.float("KVP"),
        "repetition_time_ms": header.float("RepetitionTime"),
        "echo_time_ms": header.float("EchoTime"),
        "contrast": True if header.text("ContrastBolusAgent") else None,
        "kernel": plain("ConvolutionKernel"),
        "rows": header.short("Rows") or None,
        "columns": header.short("Columns") or None,
        "frames": header.frames if header.has_pixels else None,
        "samples": header.short("SamplesPerPixel") or None,
        "bits_stored": header.short("BitsStored") or None,
        "photometric": plain("PhotometricInterpretation"),
        "transfer_syntax": syntax or None,
        "lossy": header.text("LossyImageCompression") == "01" or None,
        "pixel_spacing_y_mm": _finite(spacing[0]) if len(spacing) == 2 else None,
        "pixel_spacing_x_mm": _finite(spacing[1]) if len(spacing) == 2 else None,
        "slice_thickness_mm": header.float("SliceThickness"),
        "spacing_between_slices_mm": header.float("SpacingBetweenSlices"),
        "slice_position_mm": None,
        "normal": normal,
        "orientation": orientation,
        "frame_uid": uid(frame) if frame else None,
        "series_number": _whole(header.float("SeriesNumber")),
        "instance_number": None,
        "accession_key": names.accession("", accession) if accession else None,
        "burned_in": plain("BurnedInAnnotation"),
    }


def short(*parts: str) -> str:
    """Return 16 hexadecimal digits of some text: names of folders that any file system takes."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _decoded(header: Header, keyword: str) -> str:
    text = "\\".join(header.texts(keyword))
    if text.isascii():
        return text
    raw = text.encode("latin-1")
    codes = header.texts("SpecificCharacterSet") or ("ISO_IR 6",)
    try:
        with quiet():
            return str(
                pydicom.charset.decode_bytes(raw, pydicom.charset.convert_encodings(list(codes)), {0x5C, 0x5E, 0x3D})
            )
    except (LookupError, UnicodeError, ValueError):
        return raw.decode("ascii", "replace")


def _cleaner(header: Header, person: Person, policy: Policy) -> Callable[[str], str | None]:
    days = {"shifted": person.shift_days, "full": 0, "none": None}[policy.retain_dates]

    def clean(keyword: str) -> str | None:
        text = _decoded(header, keyword)
        if not text or policy.off:
            return text or None
        if not policy.clean_descriptors:
            return None
        return _cleaned(text, person.known, days) or None

    return clean


@lru_cache(maxsize=8192)
def _cleaned(text: str, known: KnownIdentity, shift_days: int | None) -> str:
    return clean_text(text, known=known, shift_days=shift_days).text.strip()


def _plain_text(header: Header, person: Person, policy: Policy) -> Callable[[str], str | None]:
    """Return what reads an element that may be kept, but for a word of the person's identity that stands in it."""
    words = None if policy.off else pattern(person.known)

    def plain(keyword: str) -> str | None:
        text = _decoded(header, keyword)
        return None if not text or (words is not None and words.search(text)) else text

    return plain


def _shifted(text: str, person: Person, names: Pseudonyms, policy: Policy) -> date | None:
    if not _DATE.fullmatch(text) or (policy.retain_dates == "none" and not policy.off):
        return None
    if policy.retain_dates == "shifted" and not policy.off:
        text = names.shift_date(text, person.shift_days)
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _age(text: str) -> float | None:
    found = _AGE.fullmatch(text)
    return None if found is None else min(_OLDEST, round(int(found[1]) * _YEARS[found[2]], 2))


def _plane(header: Header) -> tuple[str | None, tuple[float, float, float] | None]:
    axes = header.floats("ImageOrientationPatient")
    if len(axes) != 6:
        return None, None
    a, b, c, d, e, f = axes
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    largest = max(range(3), key=lambda i: abs(normal[i]))
    return ("sagittal", "coronal", "axial")[largest] if abs(normal[largest]) > 0.5 else None, normal


def _sides(header: Header) -> str | None:
    """Return towards what rows and columns run, None where the header does not say."""
    axes = header.floats("ImageOrientationPatient")
    if len(axes) == 6:
        return " ".join(f"{axis:z.4f}" for axis in axes)
    return " ".join(str(side) for side in header.texts("PatientOrientation")) or None


def _scale(header: Header) -> str:
    """Return what stored numbers stand for."""
    slope, intercept = header.float("RescaleSlope"), header.float("RescaleIntercept")
    photometric = header.text("PhotometricInterpretation")
    grey = photometric if photometric.startswith("MONOCHROME") else ""
    return (
        f"{1.0 if slope is None else slope:g} {intercept or 0.0:g} {header.text('Units')} "
        f"{header.short('PixelRepresentation')} {header.short('BitsStored')} {grey}"
    )


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and math.isfinite(value) and abs(value) < 2**53 else None
