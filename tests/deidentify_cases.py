"""DICOM objects with a canary in every place where an identity could hide."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from isocenter.data.deidentify.dicom.profile import profile

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE", "CS")


def table_tags() -> list[int]:
    """Return every single attribute of the table that may be in a data set."""
    tags = [int(tag, 16) for tag in profile() if "x" not in tag and tag != "odd"]
    return [tag for tag in tags if tag >> 16 not in (0x0000, 0x0002, 0x0004)]


def canary(tag: int, vr: str) -> bytes:
    """Return a value that is found again, for a value representation."""
    number = f"{tag:08X}"
    if vr in ("UI", "DA", "DT", "TM", "AS", "DS", "IS"):
        return {
            "UI": f"1.9.77.{tag}.5",
            "DA": "19470813",
            "DT": "19470813112233.445566",
            "TM": "112233.4455",
            "AS": "097Y",
            "DS": "7391.25",
            "IS": "739125",
        }[vr].encode()
    if vr in ("US", "SS"):
        return b"\x5a\xa5"
    return f"CANARY{number}"[: 16 if vr in ("SH", "AE", "CS") else 64].encode()


def element(tag: int, vr: str, value: bytes, *, implicit: bool, big: bool) -> bytes:
    """Write one element."""
    order = ">" if big else "<"
    value += b" " * (len(value) % 2)
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(order + "I", len(value)) + value
    if vr in ("OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UR", "UT", "UN", "SV", "UV"):
        return head + vr.encode() + b"\0\0" + struct.pack(order + "I", len(value)) + value
    return head + vr.encode() + struct.pack(order + "H", len(value)) + value


def items(*contents: bytes, big: bool) -> bytes:
    """Write items of a sequence."""
    order = ">" if big else "<"
    return b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(c)) + c for c in contents)


def canary_object(syntax: UID, *, values: dict[int, bytes] | None = None) -> bytes:
    """Return a CT image with a canary in every tag of the table: on top, in items, private, overlay, meta, preamble."""
    implicit, big = syntax.is_implicit_VR, not syntax.is_little_endian
    deflated = syntax == DeflatedExplicitVRLittleEndian

    def one(tag: int, vr: str, value: bytes) -> tuple[int, bytes]:
        return tag, element(tag, vr, value, implicit=implicit, big=big)

    def body(*, top: bool) -> bytes:
        parts = dict(_everything(one, big=big, implicit=implicit, values=values or {}))
        if top:
            parts.update(
                [
                    one(0x00080016, "UI", CT.encode()),
                    one(0x00080060, "CS", b"CT"),
                    one(0x00081115, "SQ", items(body(top=False), big=big)),
                    one(0x00280010, "US", struct.pack(">H" if big else "<H", 2)),
                    one(0x00280011, "US", struct.pack(">H" if big else "<H", 2)),
                    one(0x7FE00010, "OW", bytes(range(8))),
                    one(0xFFFCFFFC, "OB", b"CANARYPADDING"),
                ]
            )
        return b"".join(parts[tag] for tag in sorted(parts))

    data = body(top=True)
    if deflated:
        import zlib

        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        data = squeeze.compress(data) + squeeze.flush()
        data += b"\0" * (len(data) % 2)
    return _meta(syntax) + data


def _everything(one, *, big: bool, implicit: bool, values: dict[int, bytes]):
    for tag in table_tags():
        vr = DicomDictionary[tag][0].split(" ")[0]
        if vr == "SQ":
            place = element(0x00080080, "LO", b"CANARYITEM", implicit=implicit, big=big)
            person = element(0x0040A123, "PN", b"CANARYPERSON", implicit=implicit, big=big)
            yield one(tag, vr, items(place + person, big=big))
        else:
            yield one(tag, vr, values.get(tag, canary(tag, vr)))
    yield one(0x00090010, "LO", b"CANARY CREATOR")
    yield one(0x00091001, "LO", b"CANARYPRIVATE")
    yield one(0x00091002, "SQ", items(element(0x00100010, "PN", b"CANARYSQ", implicit=implicit, big=big), big=big))
    yield one(0x00290010, "LO", b"SIEMENS MR HEADER")
    yield one(0x0029100C, "LO", b"CANARYSAFE")
    yield one(0x50000010, "US", b"\1\0")
    yield one(0x50003000, "OW", b"CANARYCURVE")
    yield one(0x60003000, "OW", b"CANARYOVERLAY")
    yield one(0x60000022, "LO", b"CANARYOVERLAY")
    yield one(0x60024000, "LT", b"CANARYOVERLAY")
    yield one(0x00185555, "LO", b"CANARYUNKNOWN")


def _meta(syntax: UID) -> bytes:
    def one(tag: int, vr: str, value: bytes) -> bytes:
        return element(tag, vr, value, implicit=False, big=False)

    rest = b"".join(
        [
            one(0x00020001, "OB", b"\0\1"),
            one(0x00020002, "UI", CT.encode()),
            one(0x00020003, "UI", b"1.9.77.3.5"),
            one(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2)),
            one(0x00020012, "UI", b"1.9.77.12.5"),
            one(0x00020013, "SH", b"CANARYVERSION"),
            one(0x00020016, "AE", b"CANARYSOURCE"),
            one(0x00020017, "AE", b"CANARYSENDING"),
            one(0x00020018, "AE", b"CANARYRECEIVE"),
            one(0x00020026, "UR", b"CANARYURL"),
            one(0x00020100, "UI", b"1.9.77.100.5"),
            one(0x00020102, "OB", b"CANARYINFO"),
        ]
    )
    head = one(0x00020000, "UL", struct.pack("<I", len(rest)))
    return b"CANARYPREAMBLE".ljust(128, b"C") + b"DICM" + head + rest


def read(data: bytes) -> FileDataset:
    """Read a file from memory, with pydicom's complaints about canaries kept quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data))


def written(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Return a data set as a file."""
    out = io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def plain_ct(name: str = "Zebrowski^Quillon", identifier: str = "MRN7731904") -> Dataset:
    """Return a valid small CT image of an invented patient."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.9.77.1.1"
    ds.StudyDate, ds.SeriesDate, ds.AcquisitionDate, ds.ContentDate = "20240229", "20240229", "20240301", "20240301"
    ds.StudyTime, ds.ContentTime = "101112", "101113.5"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "ACC99887", "CT", "Maker"
    ds.ReferringPhysicianName = "Okonkwo^Ada"
    ds.BodyPartExamined = "CHEST"
    ds.InstitutionName, ds.StationName = "St Quorum Hospital", "CTROOM3"
    ds.StudyDescription = "CT chest of Zebrowski, 29.02.2024"
    ds.SeriesDescription = "Lung 1.0 B60f"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = name, identifier, "19470813", "F"
    ds.PatientAge, ds.PatientWeight = "076Y", "61.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.9.77.2", "1.9.77.3", "1.9.77.4"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "S1", "2", "3", "1"
    ds.PositionReferenceIndicator, ds.PatientPosition, ds.KVP = "", "HFS", "120"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.8, 0.7], "2.5"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 2, 4
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.PixelData = np.arange(8, dtype="<u2").tobytes()
    return ds


def with_item(dataset: Dataset, tag: int, item: Dataset) -> Dataset:
    """Add a sequence of one item."""
    dataset.add(DataElement(tag, "SQ", Sequence([item])))
    return dataset
