"""Checks of transactions by name, and the image that they store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

__all__ = ["CHECKS", "Failed", "Skipped", "Verdict", "encoded", "judge", "small_image"]

CHECKS: Final[dict[str, tuple[str, str]]] = {
    "dimse.echo": ("C-ECHO is answered with success", "DICOM PS3.4 annex A; PS3.7 9.1.5"),
    "dimse.called": ("An association that calls another title is rejected", "DICOM PS3.8 9.3.4"),
    "dimse.caller": (
        "An association of an unknown title is rejected",
        "DICOM PS3.8 9.3.4 (calling AE title not recognized)",
    ),
    "dimse.context": ("An unknown service is refused, and the association goes on", "DICOM PS3.8 9.3.3.2"),
    "dimse.store": ("C-STORE of an image is answered with success", "DICOM PS3.4 B.2.3"),
    "dimse.store-again": ("C-STORE of the same image again does no harm", "DICOM PS3.4 B.2.3"),
    "dimse.store-class": (
        "C-STORE of another class than its context's is refused",
        "DICOM PS3.4 B.2.3, table B.2-1 (A9xx)",
    ),
    "dimse.commit": ("Storage commitment reports what is held as committed", "DICOM PS3.4 J.3"),
    "dimse.commit-unknown": ("Storage commitment reports what is not held as failed, with 0112H", "DICOM PS3.4 J.3.3"),
    "web.stow": ("STOW-RS stores an image and says so", "DICOM PS3.18 10.5"),
    "web.qido": ("QIDO-RS finds the study by its UID", "DICOM PS3.18 10.6"),
    "web.qido-none": ("QIDO-RS answers 204, or an empty list, where nothing matches", "DICOM PS3.18 10.6"),
    "web.wado": ("WADO-RS gives the very pixels back", "DICOM PS3.18 10.4"),
    "web.metadata": ("WADO-RS gives metadata in the DICOM JSON model", "DICOM PS3.18 10.4, annex F"),
    "web.not-found": ("WADO-RS answers 404 for what is not there", "DICOM PS3.18 10.4"),
    "ups.create": ("A workitem is created, and its address told", "DICOM PS3.18 11.4"),
    "ups.create-again": ("A workitem of a UID that there is, is refused with 409", "DICOM PS3.18 11.4"),
    "ups.retrieve": ("A workitem is SCHEDULED, and its Transaction UID never told", "DICOM PS3.18 11.5; PS3.4 CC.2.7"),
    "ups.search": ("A workitem is found by its state", "DICOM PS3.18 11.9"),
    "ups.no-jump": ("SCHEDULED does not become COMPLETED without a claim", "DICOM PS3.4 CC.1.1"),
    "ups.claim": ("A workitem is claimed with a Transaction UID", "DICOM PS3.18 11.7; PS3.4 CC.2.1"),
    "ups.claimed-once": ("A claimed workitem is not claimed again", "DICOM PS3.4 CC.1.1"),
    "ups.other-transaction": ("Another Transaction UID changes nothing", "DICOM PS3.4 CC.2.1"),
    "ups.final-state": ("A workitem without what COMPLETED needs is not completed", "DICOM PS3.4 CC.2.1, CC.2.5"),
    "ups.cancel": ("A claimed workitem is canceled by who claimed it", "DICOM PS3.4 CC.1.1"),
}
"""What is checked, and where it is asked for."""


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Args:
        name: Of the check.
        title: What it asks.
        source: Where it is asked for.
        state: "pass", "fail" or "not applicable".
        faults: What was answered instead, or why it was not checked.
    """

    name: str
    title: str
    source: str
    state: Literal["pass", "fail", "not applicable"]
    faults: tuple[str, ...] = ()


class Failed(Exception):
    """A check that failed, and how."""


class Skipped(Exception):
    """A check that can't be made, and why."""


def judge(name: str, check: Callable[[], None], *troubles: type[Exception]) -> Verdict:
    """Make a check.

    Args:
        name: Of it.
        check: Raises `Failed` or `Skipped`, or returns.
        troubles: What the transport may raise; told by its kind.
    """
    title, source = CHECKS[name]
    try:
        check()
    except Failed as error:
        return Verdict(name, title, source, "fail", (str(error),))
    except Skipped as error:
        return Verdict(name, title, source, "not applicable", (str(error),))
    except troubles as error:
        return Verdict(name, title, source, "fail", (f"no answer: {type(error).__name__}",))
    return Verdict(name, title, source, "pass")


def small_image() -> Dataset:
    """Return a small image of nobody, in a study of its own."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.PatientName, made.PatientID = "Conformance^Test", "CONFORMANCE-TEST"
    made.PatientBirthDate = made.PatientSex = made.StudyDate = made.StudyTime = ""
    made.ReferringPhysicianName = made.StudyID = made.AccessionNumber = made.PatientOrientation = made.Laterality = ""
    made.Modality, made.SeriesNumber, made.InstanceNumber, made.ConversionType = "OT", "1", "1", "SYN"
    made.SeriesDescription = "Conformance check"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns, made.PixelRepresentation = 4, 4, 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    made.PixelData = bytes(range(16))
    made["PixelData"].VR = "OB"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def encoded(dataset: Dataset) -> bytes:
    """Return a data set as a file of PS3.10."""
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
