"""Real volumes as shards: the same voxels at the same place of the patient as other software reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Segment
from isocenter.data.images import read_nifti, read_nifti_mask

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from isocenter.data.shards import open_shard, write_shard

pytestmark = pytest.mark.real


@pytest.mark.parametrize("case", ["hippocampus_003", "hippocampus_004", "hippocampus_006"])
def test_patches_lie_where_nibabel_says(shared_data: Path, tmp_path: Path, case: str) -> None:
    import nibabel

    folder = shared_data / "mr_hippocampus_msd"
    image = read_nifti(folder / "images" / f"{case}.nii.gz", modality="MR")
    segments = (Segment(1, "anterior"), Segment(2, "posterior"))
    mask = read_nifti_mask(folder / "labels" / f"{case}.nii.gz", segments)
    write_shard(image, tmp_path / "case.b2nd", mask=mask)
    shard = open_shard(tmp_path / "case.b2nd")
    assert shard.geometry.orientation == "SPL"
    reference = nibabel.load(folder / "images" / f"{case}.nii.gz")
    labels = np.asarray(nibabel.load(folder / "labels" / f"{case}.nii.gz").dataobj)
    values = np.asarray(reference.dataobj)
    rng = np.random.default_rng(0)
    assert shard.mask is not None
    for _ in range(20):
        size = (7, 6, 5)
        start = [int(rng.integers(n - e)) for n, e in zip(shard.geometry.shape, size, strict=True)]
        index = np.argwhere(np.ones(size, np.bool_)) + start
        ras = shard.geometry.to_world(index) * [-1, -1, 1]
        ijk = np.rint(nibabel.affines.apply_affine(np.linalg.inv(reference.affine), ras)).astype(int)
        want = values[tuple(ijk.T)]
        assert np.array_equal(shard.patch(start, size)[0].reshape(-1), want)
        assert np.array_equal(shard.mask.patch(start, size)[0].reshape(-1), labels[tuple(ijk.T)])
    back = shard.read(as_source=True)
    assert back.array.tobytes() == image.array.tobytes()
    assert back.geometry == image.geometry
