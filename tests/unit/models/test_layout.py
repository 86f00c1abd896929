"""The layout of light and dark: the same whatever the size and unit, another when overturned, inverted or of noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from isocenter.core.errors import DataError
from isocenter.models.layout import layout, least_likeness, likeness


def picture(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """A bright thing above the middle, left, and a faint one below, with noise."""
    z, y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    clean = np.exp(-((y - 0.3) ** 2 + (x - 0.3) ** 2) / 0.02) + 0.4 * np.exp(-((y - 0.8) ** 2 + (x - 0.6) ** 2) / 0.03)
    return (clean * (1 + z) + np.random.default_rng(seed).normal(0, 0.1, shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 50, 70), (11, 30, 26)])
def test_size_and_unit_do_not_matter_and_overturning_does(shape: tuple[int, int, int]) -> None:
    known = [layout(picture(seed, shape)).tolist() for seed in range(3)]
    least = least_likeness(known)
    assert 0.3 < least < 0.6
    larger = ndimage.zoom(picture(7, shape), (1, 2.3, 1.7), order=1)
    assert likeness(known, larger * 40 - 1000) > least
    for other in (larger[:, ::-1], larger[:, :, ::-1], -larger, np.random.default_rng(0).normal(size=larger.shape)):
        assert likeness(known, other.astype(np.float32)) < least
    np.testing.assert_allclose(np.linalg.norm(layout(larger)), 1, rtol=1e-5)


def test_blocks_are_means_of_what_they_cover() -> None:
    """32 columns into 16 blocks: two columns each, by hand."""
    array = np.arange(32, dtype=np.float32)[None, None].repeat(16, axis=1)
    low, high = np.percentile(array, (1, 99))
    pairs = np.clip(array[0, 0], low, high).reshape(16, 2).mean(axis=1)
    expected = pairs - pairs.mean()
    found = layout(array).reshape(16, 16)[3]
    np.testing.assert_allclose(found / found[-1], expected / expected[-1], rtol=1e-4)


def test_odd_images_are_defined() -> None:
    assert not layout(np.full((1, 4, 4), 3.0, np.float32)).any(), "a flat image is like nothing"
    assert np.isfinite(layout(np.ones((2, 1, 3), np.float32) * np.arange(3, dtype=np.float32))).all()
    assert least_likeness([[1.0, 0.0], [-1.0, 0.0]]) == -1.0
    with pytest.raises(DataError, match="planes and of volumes"):
        likeness([[1.0, 0.0], [0.0, 1.0]], np.ones((1, 4, 4), np.float32))
