from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, PixelError, WeightsError
from isocenter.models.preparation import Letterbox, keep_largest, normalise, pad_to_multiple
from isocenter.models.segmentation import Probabilities, calibrate, expected_dice, self_agreement


def test_normalise_forgets_gain_and_offset():
    image = np.random.default_rng(0).gamma(2.0, 30.0, (20, 31))
    assert np.allclose(normalise(image), normalise(5 * image - 400), atol=1e-5)
    assert abs(float(normalise(image).mean())) < 1e-6


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_a_flat_image_is_refused(value):
    with pytest.raises(PixelError, match="flat"):
        normalise(np.full((4, 4), value))


def test_nan_is_refused():
    with pytest.raises(PixelError, match="not finite"):
        normalise(np.array([1.0, np.nan]))


@pytest.mark.parametrize(("rows", "columns"), [(200, 300), (300, 200), (77, 91), (40, 40)])
def test_a_blob_comes_back_from_the_letterbox_to_its_place(rows, columns):
    y, x = np.mgrid[:rows, :columns]
    picture = (((y - 0.4 * rows) ** 2 + (x - 0.7 * columns) ** 2) < (0.2 * min(rows, columns)) ** 2).astype(np.float32)
    box = Letterbox(rows, columns, 96)
    back = box.backward(box.forward(picture)) >= 0.5
    centre = [float(np.mean(axis)) for axis in np.nonzero(back)]
    truth = [float(np.mean(axis)) for axis in np.nonzero(picture)]
    assert np.allclose(centre, truth, atol=0.15)
    assert back.sum() == pytest.approx(picture.sum(), rel=0.02)


def test_padding_is_undone_by_its_slices():
    array = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    padded, inner = pad_to_multiple(array, 4)
    assert padded.shape == (4, 4, 8)
    assert np.array_equal(padded[inner], array)
    assert padded.sum() == array.sum()


def test_the_two_largest_parts_stay_and_small_ones_go():
    labels = np.array([[1, 1, 1, 0, 2, 2, 0, 1]], dtype=np.uint16)
    assert keep_largest(labels, 2).tolist() == [[1, 1, 1, 0, 2, 2, 0, 0]]
    assert keep_largest(labels, 3, least_share=0.5).tolist() == [[1, 1, 1, 0, 2, 2, 0, 0]]


def test_agreement_is_one_for_a_sure_answer_and_zero_for_none():
    sure = np.zeros((2, 4, 4), np.float32)
    sure[1, :2], sure[0, 2:] = 1, 1
    assert self_agreement(Probabilities(sure, (sure, sure))).tolist() == pytest.approx([1.0])
    nothing = np.stack([np.full((4, 4), 0.9), np.full((4, 4), 0.1)]).astype(np.float32)
    assert self_agreement(Probabilities(nothing, (nothing, nothing))).tolist() == [0.0]
    half = np.stack([np.full((4, 4), 0.4), np.full((4, 4), 0.6)]).astype(np.float32)
    assert self_agreement(Probabilities(half, (half, half)))[0] == pytest.approx((2 * 0.6 / 1.6 + 1) / 2)


def test_the_interval_of_the_calibration_covers_what_it_promises():
    rng = np.random.default_rng(4)
    agreement = rng.uniform(0.5, 1, 4000)
    dice = np.clip(agreement - 0.1 + rng.normal(0, 0.05, 4000), 0, 1)
    table = calibrate(agreement[:2000], dice[:2000], level=0.9)
    held = [expected_dice(table, float(a)) for a in agreement[2000:]]
    inside = np.mean([e.low <= d <= e.high for e, d in zip(held, dice[2000:], strict=True)])
    assert 0.88 <= inside <= 0.94
    assert expected_dice(table, 0.55).median < expected_dice(table, 0.95).median
    assert expected_dice(table, 0.0).count == 2000


def test_too_few_images_are_not_calibrated():
    with pytest.raises(ConfigError, match="too few"):
        calibrate(np.linspace(0, 1, 30), np.linspace(0, 1, 30))


def test_a_damaged_calibration_is_refused():
    with pytest.raises(WeightsError, match="damaged"):
        expected_dice({"edges": [0.5], "median_low_high": [[1, 1, 1]], "level": 0.9, "count": 1}, 0.4)
