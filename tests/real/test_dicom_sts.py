"""STS_002: CT, MR and PET of one patient in one study, equal to SimpleITK and to the NIfTI beside them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from isocenter.core import Image, Quantity, Study
from isocenter.data.images.dicom import read_dicom

pytestmark = pytest.mark.real

FOLDERS = {"CT": "CT", "MR": "MR_T1", "PT": "PET"}


@pytest.fixture(scope="module")
def study(shared_data: Path) -> Study:
    folder = shared_data / "ct_mr_pet_sts" / "dicom" / "STS_002"
    files = sorted(folder.rglob("*.dcm"))
    found, headers, refused = read_dicom(files, root=folder)
    assert refused == ()
    assert len(headers.series_uids()) == 3
    return found


def image_of(study: Study, modality: str) -> Image:
    (image,) = (i for i in study.images if i.modality == modality)
    return image


def test_dicom_sts_one_study(study: Study) -> None:
    assert {i.modality: (i.quantity, i.array.shape) for i in study.images} == {
        "CT": (Quantity.HU, (1, 48, 143, 161)),
        "MR": (Quantity.ARBITRARY, (1, 35, 90, 115)),
        "PT": (Quantity.SUVBW, (1, 48, 27, 30)),
    }
    assert {i.body_part for i in study.images} == {"EXTREMITY"}
    assert len(study.masks) == 3
    assert "STS_002" not in study.patient_key


@pytest.mark.parametrize("modality", FOLDERS)
def test_dicom_sts_equals_simpleitk(study: Study, shared_data: Path, modality: str) -> None:
    folder = shared_data / "ct_mr_pet_sts" / "dicom" / "STS_002" / FOLDERS[modality] / "image"
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    image = image_of(study, modality)
    values = SimpleITK.GetArrayFromImage(theirs)
    if modality == "PT":  # slopes differ from slice to slice; ours is float32
        np.testing.assert_allclose(image.array[0], values, rtol=2e-7, atol=1e-7)
    else:
        np.testing.assert_array_equal(image.array[0], values)
    np.testing.assert_allclose(theirs.GetSpacing()[::-1], image.geometry.spacing_mm, atol=1e-6)
    np.testing.assert_allclose(theirs.GetOrigin(), image.geometry.affine[:3, 3], atol=1e-6)


@pytest.mark.parametrize("modality", FOLDERS)
def test_dicom_sts_equals_the_nifti_beside_it(study: Study, shared_data: Path, modality: str) -> None:
    folder = shared_data / "ct_mr_pet_sts" / "nifti" / "STS_002"
    theirs = nibabel.load(folder / f"{FOLDERS[modality]}_image.nii.gz")
    image = image_of(study, modality)
    corners = np.argwhere(np.ones((2, 2, 2))) * (np.array(image.geometry.shape) - 1)
    ras = image.geometry.to_world(corners) * (-1, -1, 1)
    indices = (np.linalg.inv(theirs.affine) @ np.c_[ras, np.ones(8)].T).T[:, :3]
    np.testing.assert_allclose(indices, corners[:, ::-1], atol=1e-3)
    values = np.asarray(theirs.dataobj).T
    np.testing.assert_allclose(image.array[0], values, rtol=1e-3, atol=0.51)


@pytest.mark.parametrize("modality", FOLDERS)
def test_dicom_sts_structure_set_lands_on_the_same_voxels(study: Study, shared_data: Path, modality: str) -> None:
    folder = shared_data / "ct_mr_pet_sts" / "nifti" / "STS_002"
    theirs = np.asarray(nibabel.load(folder / f"{FOLDERS[modality]}_mask.nii.gz").dataobj).T > 0
    (mask,) = (m for m in study.masks if m.source.files[0].startswith(FOLDERS[modality]))
    assert mask.geometry == image_of(study, modality).geometry
    ours = mask.segment_array(mask.segments[0].number)
    dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert dice >= 0.98
