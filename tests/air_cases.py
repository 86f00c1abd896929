"""Radiographs, ultrasound and MR as DICOM, made of plain arrays, for results to be written on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.core import Image
from isocenter.data.images.identity import derive_uid
from isocenter.testing.dicom_phantom import write_ct_series

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
