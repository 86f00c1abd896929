"""Radiographs, ultrasound and MR as DICOM, made of plain arrays, and a whole result set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.core import (
    Code,
    EvidenceMap,
    Image,
    Mask,
    Measurement,
    ModelRef,
    Prediction,
    Scores,
    Segment,
    TaskCard,
    TaskEntry,
)
from isocenter.core.knowledge import PRESENCE_CODES
from isocenter.core.prediction import Uncertainty
from isocenter.core.units import UCUM
from isocenter.data.images.identity import derive_uid
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.air import AirRun, AirSettings, CriticalFinding, marks_of, tracked, write_air
from isocenter.verbs.read import ReadConfig, read_study
from isocenter.verbs.running import Answer
from isocenter.verbs.writing import write_image

CR, US, MR = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.4"


def write_picture(path: Path, array: np.ndarray, modality: str, **more: object) -> Path:
    """Write a picture of bytes (y, x) or (y, x, 3) as a CR or US image without a place in the patient."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Zebraname^Given", "ZEBRA-ID-7", "", ""
    name = f"{array.shape}{array.sum()}{modality}"
    made.StudyInstanceUID, made.SeriesInstanceUID = derive_uid("study", name), derive_uid("series", name)
    made.SOPInstanceUID = derive_uid("instance", name)
    made.SOPClassUID = CR if modality == "CR" else US
    made.StudyDate, made.StudyTime, made.StudyID = "20260304", "101112", "7"
    made.AccessionNumber, made.ReferringPhysicianName, made.Manufacturer = "", "", "Phantom"
    made.Modality, made.SeriesNumber, made.InstanceNumber = modality, 1, 1
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PatientOrientation = ""
    if modality == "CR":
        made.BodyPartExamined, made.ViewPosition, made.Laterality = "CHEST", "PA", ""
    made.SamplesPerPixel = 3 if array.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
    if array.ndim == 3:
        made.PlanarConfiguration = 0
    made.Rows, made.Columns = array.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.LossyImageCompression = "00"
    data = np.ascontiguousarray(array, dtype=np.uint8).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"
    for keyword, value in more.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def write_mr_series(folder: Path, image: Image) -> list[Path]:
    """Write an image as an MR series."""
    files = [Path(f) for f in write_ct_series(folder, image)]
    for file in files:
        header = pydicom.dcmread(file)
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = MR
        header.Modality, header.BodyPartExamined = "MR", "BRAIN"
        header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "GR", "NONE", ""
        header.MRAcquisitionType, header.EchoTime, header.EchoTrainLength, header.RepetitionTime = "3D", "3", "1", "10"
        for keyword in ("RescaleType", "KVP"):
            if keyword in header:
                del header[keyword]
        header.save_as(file)
    return files


LESION = Code("52988006", "SCT", "Lesion")
NODULE = Code("27925004", "SCT", "Nodule")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
MODEL = ModelRef("finder", "2.1", "ab" * 32, "MIT")


def card(name: str) -> TaskCard:
    return TaskCard(name, f"Task {name}", (), (), None, False, (), False, "Tests.", "Patients.", "MIT")


def result_set(folder: Path, **settings: Any) -> Path:
    """Write a CT, and a whole result set on it, into one folder: segments, findings with a map, an abstention."""
    mark = settings.pop("mark", "")
    image = phantom(5, shape=(5, 16, 17))

    def requested(_: int, header: Dataset) -> Dataset:
        request = Dataset()
        request.RequestedProcedureID, request.RequestedProcedureDescription = "RP-1", "Chest"
        header.AccessionNumber, header.RequestAttributesSequence = "ACC-4711", [request]
        header.WindowCenter, header.WindowWidth = "40", "400"
        return header

    write_ct_series(folder / "images", image, change=requested)
    config = ReadConfig(path=folder / "images", out=folder / "none")
    files = read_study(config, lambda *_: None)
    (found,) = files.study.images
    array = np.zeros(found.geometry.shape, np.uint16)
    array[1:4, 2:9, 3:9], array[2, 4:6, 5:7], array[2:4, 11:15, 12:16] = 1, 0, 2
    segments = (Segment(1, "Lesion", type=LESION), Segment(2, "Nodule", type=NODULE))
    sure = Uncertainty("quality", "nothing is promised")
    common: dict[str, Any] = {"model": MODEL, "inputs": ("x",)}
    volume = Measurement(Code("118565006", "SCT", "Volume"), 12.5, UCUM["mL"], 1)
    outlined = Prediction(Mask(array, found.geometry, segments, found.source), "outlines", sure,
                          measurements=(volume,), **common)  # fmt: skip
    said = tuple(
        Uncertainty("set", "nine in ten", level=0.9, members=(PRESENCE_CODES[word],), about=code)
        for code, word in ((EFFUSION, "present"), (NODULE, "absent"))
    )
    chances = Measurement(EFFUSION, 0.97, UCUM["1"])
    scored = Prediction(Scores(((EFFUSION, 0.97), (NODULE, 0.02))), "findings", sure, measurements=(chances,),
                        further=said, **common)  # fmt: skip
    none = Prediction.abstain("breast-us", "the image is unlike those it learnt from")
    heat = np.zeros(found.geometry.shape)
    heat[3, 4, 6] = 1.0
    maps = ((), (EvidenceMap(EFFUSION, heat, found.geometry, "by hand"),), ())
    answers = tracked([Answer(0, found, TaskEntry(card(p.task), "none:none"), p) for p in (outlined, scored, none)])
    critical = CriticalFinding(value=EFFUSION.value, scheme="SCT", category=2)
    run = AirRun.begin(
        AirSettings(**{"inference_time": False, "critical": (critical,), **settings}), folder, files.headers, mark=mark
    )
    written = write_image(
        answers, folder, files.headers, rtstruct=False, mark=mark, marking=lambda m: (marks_of(run, [m]), run.inferred)
    )
    write_air(run, answers, maps, written)
    assert not written.not_done, written.not_done
    return folder
