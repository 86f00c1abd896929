"""Counting lesions under each rule of matching."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import ndimage

from isocenter.core.errors import ConfigError, GeometryError
from isocenter.evaluate.lesions import lesion_scores
from peers import peer


def _row(*ranges, length=40):
    mask = np.zeros((1, length), bool)
    for start, stop in ranges:
        mask[0, start:stop] = True
    return mask


def test_by_hand():
    reference = _row((0, 4), (6, 10), (12, 16), (30, 31))
    prediction = _row((0, 4), (7, 12), (20, 22), (30, 33))
    found = lesion_scores(reference, prediction)
    # 0..4 fits; 6..10 and 7..12 share 3 of 6, which is not above 0.5; of 30..31 and 30..33 one of three.
    assert (found.reference, found.prediction, found.found, found.false) == (4, 4, 1, 3)
    assert (found.sensitivity, found.precision, found.f1) == (0.25, 0.25, 0.25)
    assert (found.matched_iou, found.panoptic_quality, found.pairs) == (1.0, 0.25, ((1, 1),))
    loose = lesion_scores(reference, prediction, rule="dice", threshold=0.4)
    assert (loose.found, loose.false, loose.pairs) == (3, 1, ((1, 1), (2, 2), (4, 4)))
    assert loose.matched_iou == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_one_to_one_or_many():
    reference, prediction = _row((0, 10)), _row((0, 3), (5, 8))
    one = lesion_scores(reference, prediction, threshold=0.1)
    many = lesion_scores(reference, prediction, rule="overlap")
    assert (one.found, one.false, one.pairs) == (1, 1, ((1, 1),))
    assert (many.found, many.false, many.f1) == (1, 0, 1.0)


def test_partners_are_chosen_together():
    """Taking the best pair first would leave the other without a partner."""
    reference, prediction = _row((0, 10), (11, 15)), _row((4, 13))
    assert lesion_scores(reference, prediction, threshold=0.1).pairs == ((1, 1),)
    reference, prediction = _row((0, 8), (9, 20)), _row((0, 3), (4, 14))
    assert lesion_scores(reference, prediction, threshold=0.2).pairs == ((1, 1), (2, 2))


def test_connection_and_least_size():
    diagonal = np.eye(4, dtype=bool)
    assert lesion_scores(diagonal, diagonal).reference == 1
    assert lesion_scores(diagonal, diagonal, connected="face").reference == 4
    assert lesion_scores(diagonal, diagonal, connected="face", least_voxels=2).reference == 0


def test_nothing_on_one_side_or_both():
    nothing, some = _row(), _row((3, 5))
    assert (lesion_scores(nothing, nothing).f1, lesion_scores(nothing, nothing).panoptic_quality) == (1.0, 1.0)
    missed, invented = lesion_scores(some, nothing), lesion_scores(nothing, some)
    assert (missed.f1, missed.sensitivity, missed.panoptic_quality) == (0.0, 0.0, 0.0)
    assert (invented.f1, invented.precision, invented.false) == (0.0, 0.0, 1)
    assert np.isnan(missed.precision)
    assert np.isnan(invented.sensitivity)


def test_refused():
    with pytest.raises(ConfigError, match="threshold"):
        lesion_scores(_row((0, 1)), _row(), threshold=2.0)
    with pytest.raises(GeometryError):
        lesion_scores(_row((0, 1)), _row((0, 1))[:, 1:])


@pytest.mark.parametrize("seed", range(4))
def test_panoptic_quality_equals_monai(seed):
    torch = pytest.importorskip("torch")
    theirs = peer("monai.metrics")
    rng = np.random.default_rng(seed)
    reference = ndimage.binary_dilation(rng.random((40, 40)) < 0.01, iterations=2)
    prediction = np.roll(reference, 1, axis=seed % 2) ^ (rng.random((40, 40)) < 0.02)
    numbered = [torch.from_numpy(ndimage.label(m, np.ones((3, 3)))[0]) for m in (prediction, reference)]
    found = lesion_scores(reference, prediction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, ours in (("pq", found.panoptic_quality), ("rq", found.f1)):
            expected = theirs.compute_panoptic_quality(*numbered, metric_name=name, match_iou_threshold=0.5)
            assert ours == pytest.approx(float(expected), abs=1e-4)  # MONAI adds a little to denominators
