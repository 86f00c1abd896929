"""Real NIfTI and NRRD files: same voxels at the same place as SimpleITK says, and the same after writing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from isocenter.data.images.nifti import read_nifti, write_nifti
from isocenter.data.images.nrrd import read_nrrd, write_nrrd

pytestmark = pytest.mark.real


def test_real_volumes_agree_with_simpleitk(shared_data, tmp_path):
    files = sorted(p for p in shared_data.rglob("*.nii*") if p.stat().st_size < 5_000_000)[::40]
    files += sorted(p for p in shared_data.rglob("*.nrrd") if p.stat().st_size < 5_000_000)[:4]
    assert len(files) >= 10
    for file in files:
        is_nrrd = file.suffix == ".nrrd"
        image = read_nrrd(file) if is_nrrd else read_nifti(file)
        theirs = sitk.ReadImage(str(file))
        array = sitk.GetArrayFromImage(theirs)
        if array.ndim != 3:
            continue
        np.testing.assert_array_equal(image.array[0], array, err_msg=file.name)
        assert image.geometry.affine is not None, file.name
        for corner in np.ndindex(2, 2, 2):
            index = [int(c * (n - 1)) for c, n in zip(corner, array.shape, strict=True)]
            place = theirs.TransformIndexToPhysicalPoint(index[::-1])
            np.testing.assert_allclose(image.geometry.to_world([index])[0], place, atol=1e-3, err_msg=file.name)
        proof = write_nrrd(image, tmp_path / "a.nrrd") if is_nrrd else write_nifti(image, tmp_path / "a.nii.gz")
        assert proof.grid == "identical"
        assert proof.exact
