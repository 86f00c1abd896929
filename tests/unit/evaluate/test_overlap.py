from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import GeometryError, PixelError, UnitsError
from isocenter.evaluate.overlap import border, dice, iou, surface_distances, volume_error

SPACING_MM = (2.5, 0.8, 0.7)
EMPTY = np.zeros((2, 3, 5), dtype=bool)


def _blob(shape=(9, 14, 12), centre=(4, 6, 5), radius=3.2):
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def _one(index):
    mask = EMPTY.copy()
    mask[index] = True
    return mask


def test_literal_overlap():
    a, b = _one((0, 0, slice(0, 4))), _one((0, 0, slice(2, 5)))
    assert dice(a, b) == 2 * 2 / 7
    assert iou(a, b) == 2 / 5


def test_literal_distances_use_the_spacing_of_each_axis():
    d = surface_distances(_one((0, 0, 1)), _one((1, 2, 4)), spacing_mm=SPACING_MM)
    expected = np.sqrt(2.5**2 + 1.6**2 + 2.1**2)
    assert d.hausdorff_mm(100) == pytest.approx(expected, abs=1e-12)
    assert d.assd_mm() == pytest.approx(expected, abs=1e-12)
    assert d.nsd(expected - 1e-9) == 0.0
    assert d.nsd(expected + 1e-9) == 1.0


def test_empty_masks_give_what_the_module_states():
    some = _one((1, 1, 1))
    assert (dice(EMPTY, EMPTY), iou(EMPTY, EMPTY)) == (1.0, 1.0)
    assert (dice(some, EMPTY), iou(EMPTY, some)) == (0.0, 0.0)
    both = surface_distances(EMPTY, EMPTY, spacing_mm=SPACING_MM)
    assert (both.nsd(1.0), both.hausdorff_mm(), both.assd_mm()) == (1.0, 0.0, 0.0)
    for pair in ((some, EMPTY), (EMPTY, some)):
        one = surface_distances(*pair, spacing_mm=SPACING_MM)
        assert (one.nsd(1.0), one.hausdorff_mm(), one.assd_mm()) == (0.0, float("inf"), float("inf"))
    voxel_ml = 2.5 * 0.8 * 0.7 / 1000
    assert volume_error(EMPTY, some, spacing_mm=SPACING_MM).relative == float("inf")
    assert volume_error(some, EMPTY, spacing_mm=SPACING_MM).relative == -1.0
    assert volume_error(some, EMPTY, spacing_mm=SPACING_MM).absolute_ml == pytest.approx(-voxel_ml)
    assert volume_error(EMPTY, EMPTY, spacing_mm=SPACING_MM).relative == 0.0


def test_volume_error_is_signed():
    error = volume_error(_one((0, 0, slice(0, 4))), _one((0, 0, slice(0, 5))), spacing_mm=SPACING_MM)
    assert error.relative == 0.25
    assert error.absolute_ml == pytest.approx(0.0014)


def test_every_voxel_at_the_edge_of_the_image_is_border():
    full = np.ones((3, 3, 3), dtype=bool)
    assert border(full).sum() == 26
    assert not border(full)[1, 1, 1]


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_an_exhaustive_search(seed):
    rng = np.random.default_rng(seed)
    a, b = _blob(), _blob(centre=(4, 7, 6), radius=2.7) | (rng.random((9, 14, 12)) < 0.01)
    found = surface_distances(a, b, spacing_mm=SPACING_MM)
    p, q = (np.argwhere(border(m)) * SPACING_MM for m in (a, b))
    table = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    assert np.allclose(found.to_prediction_mm, table.min(1), atol=1e-9)
    assert np.allclose(found.to_reference_mm, table.min(0), atol=1e-9)
    hd95 = max(np.percentile(table.min(1), 95), np.percentile(table.min(0), 95))
    assert found.hausdorff_mm() == pytest.approx(hd95, abs=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_joint_flip_changes_nothing(axis):
    a, b = _blob(), _blob(centre=(5, 6, 6))
    before = surface_distances(a, b, spacing_mm=SPACING_MM)
    after = surface_distances(np.flip(a, axis), np.flip(b, axis), spacing_mm=SPACING_MM)
    assert dice(np.flip(a, axis), np.flip(b, axis)) == dice(a, b)
    assert after.hausdorff_mm() == pytest.approx(before.hausdorff_mm(), abs=1e-9)
    assert after.nsd(1.0) == before.nsd(1.0)


def test_distances_are_symmetric():
    a, b = _blob(), _blob(centre=(5, 8, 4), radius=2.2)
    one, two = (surface_distances(*pair, spacing_mm=SPACING_MM) for pair in ((a, b), (b, a)))
    assert (one.hausdorff_mm(), one.nsd(0.8)) == (two.hausdorff_mm(), two.nsd(0.8))
    assert one.assd_mm() == pytest.approx(two.assd_mm(), abs=1e-12)


def test_masks_on_different_grids_are_refused():
    with pytest.raises(GeometryError, match="different grids"):
        dice(EMPTY, EMPTY[:1])


def test_labelmaps_must_be_compared_with_a_label_first():
    with pytest.raises(PixelError, match="must be bool"):
        iou(EMPTY.astype(np.uint16), EMPTY)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_a_spacing_that_does_not_fit_is_refused(spacing_mm):
    with pytest.raises(UnitsError, match="positive distances"):
        surface_distances(EMPTY, EMPTY, spacing_mm=spacing_mm)
    with pytest.raises(UnitsError, match="positive distances"):
        volume_error(EMPTY, EMPTY, spacing_mm=spacing_mm)


def test_a_negative_tolerance_is_refused():
    with pytest.raises(UnitsError, match="tolerance_mm"):
        surface_distances(EMPTY, EMPTY, spacing_mm=SPACING_MM).nsd(-1.0)
