"""STS_002 (soft-tissue sarcoma, CC BY 3.0): its RTSTRUCTs land on the same voxels as the NIfTI masks beside them.

The NIfTI files lie on the very grid of the DICOM series (one voxel per voxel, RAS instead of LPS), so no resampling
stands between the two, and nothing may be lost.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest

from isocenter.core import Geometry
from isocenter.data.images.rtstruct import open_rtstruct, rasterise, read_rtstruct, write_rtstruct

pytestmark = pytest.mark.real

VOXELS = {"CT": 17090, "MR_T1": 17090, "PET": 555}


@pytest.fixture(scope="module", params=sorted(VOXELS))
def patient(request, shared_data):
    """Name, DICOM headers sorted by place, their grid, the RTSTRUCT's path, the mask of the NIfTI on the same grid."""
    folder = shared_data / "ct_mr_pet_sts"
    dicom = folder / "dicom" / "STS_002" / request.param
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in (dicom / "image").iterdir()]
    headers.sort(key=lambda h: float(h.ImagePositionPatient[2]))
    first, last = (np.array(h.ImagePositionPatient, dtype=float) for h in (headers[0], headers[-1]))
    shape = (len(headers), int(headers[0].Rows), int(headers[0].Columns))
    assert [float(v) for v in headers[0].ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    row_mm, column_mm = (float(v) for v in headers[0].PixelSpacing)
    spacing = (float((last - first)[2] / (shape[0] - 1)), row_mm, column_mm)
    geometry = Geometry.axial(
        shape, spacing_mm=spacing, origin_mm=tuple(first), frame_uid=str(headers[0].FrameOfReferenceUID)
    )
    nifti = nibabel.load(folder / "nifti" / "STS_002" / f"{request.param}_mask.nii.gz")
    ras_of_xyz = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine @ np.eye(4)[[2, 1, 0, 3]]
    assert np.allclose(nifti.affine, ras_of_xyz, atol=2e-3), "the NIfTI no longer lies on the DICOM grid"
    truth = np.asarray(nifti.dataobj).transpose(2, 1, 0) > 0
    return request.param, headers, geometry, dicom / "mask" / "RS.dcm", truth


def test_rtstruct_lands_on_the_voxels_of_the_nifti_mask(patient):
    name, _, geometry, path, truth = patient
    mask, notes = rasterise(open_rtstruct(path), geometry)
    got = mask.segment_array(1)
    dice = 2 * np.count_nonzero(got & truth) / (np.count_nonzero(got) + np.count_nonzero(truth))
    assert dice >= 0.98
    assert np.array_equal(got, truth), "measured 2026: not one voxel differs"
    assert np.count_nonzero(got) == VOXELS[name]
    assert mask.segments[0].label == f"GTV_Mass_{name}"
    assert notes == ()


def test_the_structure_set_names_its_series(patient):
    _, headers, geometry, path, _ = patient
    structures = open_rtstruct(path)
    assert structures.series_uids == (str(headers[0].SeriesInstanceUID),)
    assert structures.regions[0].frame_uid == geometry.frame_uid


def test_written_again_it_is_the_same_tumour(patient, tmp_path):
    _, headers, geometry, path, truth = patient
    mask = read_rtstruct(path, geometry)
    proof = write_rtstruct(mask, tmp_path / "RS.dcm", headers=headers)
    assert proof.exact
    assert np.array_equal(read_rtstruct(tmp_path / "RS.dcm", geometry).segment_array(1), truth)
