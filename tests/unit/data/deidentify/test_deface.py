"""The face goes, the brain stays: the real brain of MNI152 in an invented head, in several orientations and tilts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from head_cases import head
from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import GeometryError
from isocenter.data.deidentify.deface import deface, face_mask
from isocenter.data.images import read_nifti


def _image(values, affine, quantity=Quantity.ARBITRARY):
    return Image(values[None].astype(np.float32), Geometry(values.shape, affine), quantity, "MR")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_face_goes_and_the_brain_stays(axes):
    values, brain, nose, chin, affine = head()
    order = list(axes)
    image = _image(values.transpose(axes)[::-1], _flipped(affine[:, [*order, 3]], values.transpose(axes).shape))
    mask = face_mask(image)
    brain, nose, chin = (part.transpose(axes)[::-1] for part in (brain, nose, chin))
    assert not (mask & brain).any()
    assert mask[nose].mean() > 0.99
    assert mask[chin].mean() > 0.99
    done = deface(image)
    assert np.array_equal(done.array[0][brain], image.array[0][brain])
    assert (done.array[0][nose] == 0).mean() > 0.99
    assert image.array[0][nose].max() > 0


def _flipped(affine, shape):
    out = affine.copy()
    out[:3, 3] += affine[:3, 0] * (shape[0] - 1)
    out[:3, 0] *= -1
    return out


@pytest.mark.parametrize("degrees", [-5, 5])
def test_a_tilted_head(degrees):
    values, brain, nose, _, affine = head()
    turned = ndimage.rotate(values, degrees, axes=(0, 1), order=0, reshape=False)
    brain, nose = (
        ndimage.rotate(part.astype(np.uint8), degrees, axes=(0, 1), order=0, reshape=False) > 0
        for part in (brain, nose)
    )
    mask = face_mask(_image(turned, affine))
    assert mask[brain].mean() < 0.002
    assert mask[nose].mean() > 0.9


def test_hounsfield_units():
    values, brain, nose, _, affine = head()
    image = _image(np.where(values > 0, values / 10, -1000.0), affine, Quantity.HU)
    mask = face_mask(image)
    assert not (mask & brain).any()
    assert mask[nose].mean() > 0.99


def test_what_is_no_whole_head_is_refused():
    values, _, _, _, affine = head()
    top = np.flatnonzero(values.any(axis=(1, 2)))[-1]
    with pytest.raises(GeometryError, match="top of the head"):
        face_mask(_image(values[: top - 10], affine))
    with pytest.raises(GeometryError, match="above the mouth"):
        shifted = affine.copy()
        shifted[:3, 3] += affine[:3, 0] * (top - 25)
        face_mask(_image(values[top - 25 :], shifted))
    with pytest.raises(GeometryError, match="air"):
        face_mask(_image(np.zeros_like(values), affine))
    with pytest.raises(GeometryError, match="size of a head"):
        face_mask(_image(values, affine @ np.diag([0.4, 0.4, 0.4, 1.0])))


def test_a_real_head_against_pydeface():
    """The average of real heads that pydeface brings along, and the part of it that pydeface takes for the face."""
    found = find_spec("pydeface")
    if found is None or found.origin is None:
        pytest.skip("pydeface is not installed: pip install pydeface")
    folder = Path(found.origin).parent / "data"
    image = read_nifti(folder / "mean_reg2mean.nii.gz")
    theirs = read_nifti(folder / "facemask.nii.gz").array[0] < 0.5
    ours = face_mask(image)
    tissue = image.array[0] > 0.12 * np.percentile(image.array, 99)
    assert (ours & theirs & tissue).sum() > 0.8 * (theirs & tissue).sum()
    assert (ours & ~theirs & tissue).sum() < 0.02 * tissue.sum()
    # Nothing behind the forehead is touched above the floor of the frontal lobes.
    assert not ours[150:, :120].any()
