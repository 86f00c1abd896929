from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import bootstrap_mean


def _patients(count):
    return [f"p{i}" for i in range(count)]


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(0.8, 0.1, 30)
    assert bootstrap_mean(values, _patients(30), seed=3) == bootstrap_mean(values, _patients(30), seed=3)
    assert bootstrap_mean(values, _patients(30), seed=3) != bootstrap_mean(values, _patients(30), seed=4)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_one_image_a_patient_agrees_with_scipy(method):
    values = np.random.default_rng(1).beta(8, 2, 40)
    ours = bootstrap_mean(values, _patients(40), resamples=20000, method=method)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20000,
        method="BCa" if method == "bca" else "percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.002)
    assert ours.high == pytest.approx(theirs.high, abs=0.002)


def test_copies_of_a_patients_images_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(0.7, 0.1, 20)
    once = bootstrap_mean(values, _patients(20), seed=1)
    nine_times = bootstrap_mean(np.repeat(values, 9), np.repeat(_patients(20), 9).tolist(), seed=1)
    assert (nine_times.low, nine_times.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert (nine_times.patients, nine_times.images) == (20, 180)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        centre = rng.normal(0.6, 0.1, 30)
        sizes = rng.integers(1, 4, 30)
        values = np.concatenate([c + rng.normal(0, 0.02, n) for c, n in zip(centre, sizes, strict=True)])
        interval = bootstrap_mean(values, np.repeat(_patients(30), sizes).tolist(), level=0.9, resamples=400, seed=1)
        covered += interval.low <= 0.6 <= interval.high
    assert 0.82 <= covered / 200 <= 0.96


def test_equal_values_give_a_point():
    interval = bootstrap_mean([0.25] * 12, _patients(12))
    assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)


def test_fewer_than_ten_patients_are_refused():
    with pytest.raises(DataError, match="too few"):
        bootstrap_mean([0.1] * 40, _patients(8) * 5)


@pytest.mark.parametrize(
    ("values", "patients", "level", "words"),
    [
        ([0.1] * 11, _patients(12), 0.9, "11 values for 12"),
        ([0.1] * 11 + [float("inf")], _patients(12), 0.9, "finite"),
        ([0.1] * 12, _patients(12), 1.0, "level"),
    ],
)
def test_bad_input_is_refused(values, patients, level, words):
    with pytest.raises(DataError, match=words):
        bootstrap_mean(values, patients, level=level)
