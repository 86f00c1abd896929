"""All labels of a case in one call: the same figures as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, GeometryError, PixelError, UnitsError
from isocenter.evaluate.overlap import dice, iou, surface_distances, volume_error
from isocenter.evaluate.segmentation import segmentation_scores

SPACING_MM = (2.5, 0.8, 0.7)


def _maps():
    rng = np.random.default_rng(5)
    a = np.zeros((9, 15, 13), np.uint16)
    a[1:5, 2:9, 3:8], a[5:, 8:, 8:], a[0, 0, 0] = 1, 2, 7
    b = np.roll(a, (1, 1, -1), axis=(0, 1, 2))
    b[rng.random(a.shape) < 0.02] = 9
    return a, b


@pytest.mark.parametrize("surface", ["border", "elements"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_each_label_is_measured_as_on_its_own(surface, dtype):
    a, b = (m.astype(dtype) for m in _maps())
    rows = segmentation_scores(a, b, spacing_mm=SPACING_MM, tolerance_mm=0.9, surface=surface)
    assert [r.label for r in rows] == [1, 2, 7, 9]
    for row in rows:
        p, q = a == row.label, b == row.label
        alone = surface_distances(p, q, spacing_mm=SPACING_MM, surface=surface)
        volume = volume_error(p, q, spacing_mm=SPACING_MM)
        assert (row.dice, row.iou) == (dice(p, q), iou(p, q))
        assert (row.reference_voxels, row.prediction_voxels) == (p.sum(), q.sum())
        assert row.volume_error_ml == pytest.approx(volume.absolute_ml)
        assert row.relative_error == volume.relative
        assert (row.nsd, row.hd_mm, row.hd95_mm) == (
            alone.nsd(0.9),
            alone.hausdorff_mm(100),
            alone.hausdorff_mm(95),
        )
        assert (row.assd_mm, row.masd_mm) == (alone.assd_mm(), alone.masd_mm())


def test_labels_asked_for_are_told_even_where_nothing_is():
    a, b = _maps()
    tolerances = {2: 0.5, 4: 1.0}
    two, four = segmentation_scores(a, b, spacing_mm=SPACING_MM, labels=(2, 4), tolerance_mm=tolerances)
    assert (two.label, two.tolerance_mm, four.tolerance_mm) == (2, 0.5, 1.0)
    assert (four.dice, four.nsd, four.hd95_mm, four.relative_error) == (1.0, 1.0, 0.0, 0.0)
    nine = segmentation_scores(b, a, spacing_mm=SPACING_MM, labels=(9,))[0]
    assert (nine.dice, nine.hd95_mm, nine.relative_error, nine.nsd) == (0.0, np.inf, -1.0, None)


def test_unknown_spacing_gives_no_millimetres():
    a, b = _maps()
    row = segmentation_scores(a, b, spacing_mm=None, tolerance_mm=1.0)[0]
    assert 0 < row.dice < 1
    assert {row.nsd, row.hd_mm, row.hd95_mm, row.assd_mm, row.masd_mm, row.volume_error_ml} == {None}


def test_planes_and_bool():
    a, b = _maps()
    row = segmentation_scores(a[3] == 1, b[3] == 1, spacing_mm=SPACING_MM[1:])[0]
    assert row.label == 1
    assert row.volume_error_ml is None
    assert np.isfinite(row.hd95_mm)


def test_what_can_not_be_measured_is_refused():
    a, b = _maps()
    with pytest.raises(GeometryError, match="different grids"):
        segmentation_scores(a, b[1:], spacing_mm=SPACING_MM)
    with pytest.raises(GeometryError, match="two or three axes"):
        segmentation_scores(a[None], b[None], spacing_mm=SPACING_MM)
    with pytest.raises(PixelError, match="whole numbers"):
        segmentation_scores(a, b.astype(float), spacing_mm=SPACING_MM)
    with pytest.raises(PixelError, match="must lie in"):
        segmentation_scores(a, b.astype(int) - 1, spacing_mm=SPACING_MM)
    with pytest.raises(UnitsError, match="positive distances"):
        segmentation_scores(a, b, spacing_mm=(1.0, 1.0))
    with pytest.raises(UnitsError, match="tolerance_mm"):
        segmentation_scores(a, b, spacing_mm=SPACING_MM, tolerance_mm=-1.0)
    with pytest.raises(ConfigError, match="no tolerance_mm"):
        segmentation_scores(a, b, spacing_mm=SPACING_MM, tolerance_mm={1: 1.0})
    with pytest.raises(ConfigError, match="different numbers"):
        segmentation_scores(a, b, spacing_mm=SPACING_MM, labels=(1, 1))
