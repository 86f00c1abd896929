"""A head to take the face from: the real brain of MNI152 in an invented head."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage


@cache
def head():
    """Return (values, brain, nose, chin, affine to LPS) at 3 mm."""
    datasets = pytest.importorskip("nilearn.datasets")
    template = datasets.load_mni152_template(resolution=3)
    brain = np.asarray(template.dataobj) > 0.05
    pad = 18
    brain = np.pad(brain, pad)
    to_ras = template.affine.copy()
    to_ras[:3, 3] -= to_ras[:3, :3] @ np.full(3, pad)
    scalp = ndimage.distance_transform_edt(~ndimage.binary_fill_holes(brain), sampling=3) < 14
    x, y, z = (to_ras[a, a] * np.arange(n) + to_ras[a, 3] for a, n in enumerate(brain.shape))
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    face = ((x / 62) ** 2 + ((y - 38) / 48) ** 2 + ((z + 75) / 62) ** 2) < 1
    nose = (x / 10) ** 2 + ((y - 92) / 16) ** 2 + ((z + 62) / 14) ** 2 < 1
    chin = (x / 20) ** 2 + ((y - 72) / 16) ** 2 + ((z + 122) / 14) ** 2 < 1
    neck = ((x / 50) ** 2 + ((y + 30) / 55) ** 2 < 1) & (z < -50)
    values = np.where(scalp | face | nose | chin | neck, 300.0, 0.0)
    values[brain] = 600.0
    # (x, y, z) arrays in RAS become (z, y, x) arrays in LPS.
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ to_ras[:3, [2, 1, 0]]
    affine[:3, 3] = np.array([-1, -1, 1]) * to_ras[:3, 3]
    return *(np.ascontiguousarray(part.transpose(2, 1, 0)) for part in (values, brain, nose, chin)), affine
