"""Write an image as a folder of DICOM slices, with a free hand to break them: for tests, never for patients.

The files are valid CT instances of an invented patient. File names, UIDs and Instance Numbers are in random order,
so that a reader which sorts by any of them fails at once. A hook sees every slice before it is written and may change
it, or drop it by returning None; that is how tests make missing slices, gantry tilt, two patients or a PET.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from isocenter.core import Image
from isocenter.core.errors import GeometryError, PixelError

__all__ = ["PHANTOM_PATIENT_ID", "write_ct_series"]

PHANTOM_PATIENT_ID = "ISOCENTER-PHANTOM"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT_HU = -1024


def write_ct_series(
    folder: Path,
    image: Image,
    *,
    seed: int = 0,
    name: str = "phantom",
    transfer_syntax_uid: str = str(ExplicitVRLittleEndian),
    change: Callable[[int, Dataset], Dataset | None] | None = None,
) -> list[Path]:
    """Write one channel of integers as CT slices (12-bit style: signed 16 bits, rescale intercept -1024).

    Args:
        folder: Where to; made if absent.
        image: (1, Z, Y, X) whole numbers with an affine; its values are HU in -31744..31743.
        seed: Of the order of file names, UIDs and Instance Numbers.
        name: Makes the UIDs of study, series and frame of reference; the same name is the same series.
        transfer_syntax_uid: Any that pydicom encodes: native little endian, deflated, RLE, JPEG-LS (not for slices of
            a few voxels), JPEG 2000.
        change: Called with (z index, dataset) before writing; returns the dataset to write, or None to leave it out.

    Returns:
        The files in the order of the z axis (those left out are missing).

    Raises:
        PixelError: Not one channel of whole numbers, or outside the range.
        GeometryError: The image has no affine.
    """
    affine = image.geometry.require_affine("write_ct_series")
    values = image.array
    if values.shape[0] != 1 or not np.array_equal(values, np.round(values)):
        raise PixelError("write_ct_series needs one channel of whole numbers")
    if values.min() < -32768 - INTERCEPT_HU or values.max() > 32767 + INTERCEPT_HU:
        raise PixelError("values must lie in -31744..31743 to fit signed 16 bits with an intercept of -1024")
    stored = (values[0].astype(np.int32) - INTERCEPT_HU).astype("<i2")
    folder.mkdir(parents=True, exist_ok=True)
    places = np.random.default_rng(seed).permutation(len(stored)).tolist()
    paths = []
    for index, place in enumerate(places):
        original = _slice(image, name, place)
        centre = affine @ np.array([index, 0.0, 0.0, 1.0])
        original.ImagePositionPatient = [format_number_as_ds(float(v)) for v in centre[:3]]
        original.PixelData = stored[index].tobytes()
        dataset = original if change is None else change(index, original)
        if dataset is None:
            continue
        uid = UID(transfer_syntax_uid)
        if uid.is_encapsulated:
            dataset.compress(uid, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = uid
        path = folder / f"{place:05d}.dcm"
        dataset.save_as(path, enforce_file_format=True, implicit_vr=uid.is_implicit_VR, little_endian=True)
        paths.append(path)
    return paths


def _slice(image: Image, name: str, place: int) -> Dataset:
    """Make the header of one slice; `place` numbers it in the shuffled order."""
    directions = image.geometry.directions
    spacing = image.geometry.spacing_mm
    if directions is None or spacing is None:
        raise GeometryError("write_ct_series needs an affine")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(CT_IMAGE_STORAGE)
    dataset.SOPClassUID = UID(CT_IMAGE_STORAGE)
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name, "instance", str(place)])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[name, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    dataset.FrameOfReferenceUID = image.geometry.frame_uid or generate_uid(entropy_srcs=[name, "frame"])
    dataset.PatientID = PHANTOM_PATIENT_ID
    dataset.PatientName = "Phantom^Isocenter"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.PatientPosition = "HFS"
    dataset.StudyID = "1"
    dataset.StudyDate = "20260101"
    dataset.StudyTime = "120000"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "Isocenter"
    dataset.Modality = "CT"
    dataset.BodyPartExamined = image.body_part or "CHEST"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber = "1"
    dataset.AcquisitionNumber = "1"
    dataset.InstanceNumber = str(place + 1)
    dataset.KVP = "120"
    dataset.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in (*directions[:, 2], *directions[:, 1])]
    dataset.PixelSpacing = [format_number_as_ds(v) for v in spacing[1:]]
    dataset.SliceThickness = format_number_as_ds(spacing[0])
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.geometry.shape[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(INTERCEPT_HU), "1", "HU"
    return dataset
