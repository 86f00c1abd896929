"""Against scipy, tables of textbooks, and the definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.bootstrap import bootstrap_mean, bootstrap_statistic
from isocenter.evaluate.ranking import auroc
from isocenter.evaluate.statistics import (
    benjamini_hochberg,
    compare_accuracy,
    compare_auroc,
    compare_means,
    compare_statistic,
    delong,
    holm,
    mcnemar,
    patients_for_power,
    sample_size,
    sign_flip,
)


def _patients(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def _scores(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    common = rng.normal(0, 1, count)
    return truth, truth * 0.8 + common + rng.normal(0, 0.7, count), truth * 1.4 + common + rng.normal(0, 0.7, count)


@pytest.mark.parametrize("name", ["median", "ratio"])
def test_bca_of_any_statistic_agrees_with_scipy(name: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.gamma(2, 1, 40), rng.gamma(3, 1, 40)
    statistic = (lambda i: float(np.mean(x[i]) / np.mean(y[i]))) if name == "ratio" else (lambda i: float(np.var(x[i])))
    theirs = stats.bootstrap(
        (np.arange(40),), lambda i: statistic(i.astype(int)), n_resamples=4000, method="BCa", vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    ours = bootstrap_statistic(statistic, _patients(40), resamples=4000, method="bca")
    assert ours.method == "bca"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.04)


def test_bca_of_the_mean_is_that_of_bootstrap_mean() -> None:
    values = np.random.default_rng(0).beta(8, 2, 30)
    patients = np.repeat(_patients(15), 2).tolist()
    one = bootstrap_mean(values, patients, resamples=20000)
    other = bootstrap_statistic(lambda i: float(values[i].mean()), patients, resamples=20000, method="bca")
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.003)


def test_a_jackknife_that_is_not_defined_falls_back_and_says_so() -> None:
    truth = np.array([False] * 4 + [True] + [False] * 10)
    scores = np.linspace(1, 0, 15)
    found = bootstrap_statistic(lambda i: auroc(truth[i], scores[i]), _patients(15), method="bca")
    assert found.method == "percentile"
    with pytest.raises(DataError, match="too few"):
        bootstrap_statistic(lambda i: float(scores[i].mean()), _patients(9))


@pytest.mark.parametrize("count", [8, 40])
def test_sign_flips_agree_with_scipy(count: int) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.normal(0, 1, count), rng.normal(0.4, 1, count)
    theirs = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20000, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    p, how = sign_flip(b - a, _patients(count), draws=20000)
    assert p == pytest.approx(theirs, abs=1e-12 if count == 8 else 0.01)
    assert how == ("all exchanges" if count == 8 else "20000 exchanges")


def test_a_patients_cases_are_exchanged_together() -> None:
    differences = np.array([1.0, 1.0, 1.0, 1.0])
    assert sign_flip(differences, ["a", "a", "a", "a"])[0] == 1.0
    assert sign_flip(differences, ["a", "b", "c", "d"])[0] == 2 / 16


def test_no_difference_is_not_found_more_often_than_the_level() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        a, b = rng.normal(0, 1, (2, 12))
        found += compare_means(a, b, _patients(12), resamples=200).p <= 0.05
    assert found / 200 <= 0.09


def test_mcnemar_is_the_binomial() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.random(80) < 0.7, rng.random(80) < 0.85
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(min(b, c), b + c, 0.5).pvalue, abs=1e-12)
    assert mcnemar(first, first) == 1.0
    whole = compare_accuracy(first, second, _patients(80), resamples=300)
    assert (whole.test, whole.p) == ("McNemar, exact", mcnemar(first, second))
    assert whole.difference.value == pytest.approx((c - b) / 80)
    clustered = compare_accuracy(first, second, np.repeat(_patients(40), 2).tolist(), resamples=300)
    assert clustered.test.startswith("sign flip")


def test_delong_is_its_definition() -> None:
    """The structural components one by one, as DeLong et al. write them."""
    truth, first, second = _scores(1)
    kernels = []
    for scores in (first, second):
        x, y = scores[truth][:, None], scores[~truth][None, :]
        kernels.append((x > y) + 0.5 * (x == y))
    s10 = np.cov([k.mean(axis=1) for k in kernels])
    s01 = np.cov([k.mean(axis=0) for k in kernels])
    covariance = s10 / truth.sum() + s01 / (~truth).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    gap = kernels[1].mean() - kernels[0].mean()
    difference, error, p = delong(truth, first, second)
    assert difference == pytest.approx(gap, abs=1e-12) and error == pytest.approx(np.sqrt(variance), abs=1e-12)
    assert p == pytest.approx(2 * stats.norm.sf(abs(gap) / np.sqrt(variance)), abs=1e-12)
    with pytest.raises(DataError, match="two cases"):
        delong(np.array([True, False, False]), np.arange(3.0), np.arange(3.0))


def test_delong_with_ties() -> None:
    truth, first, second = _scores(5)
    rounded = np.round(first), np.round(second)
    assert delong(truth, *rounded)[0] == pytest.approx(auroc(truth, rounded[1]) - auroc(truth, rounded[0]))


def test_two_areas_are_compared() -> None:
    truth, first, second = _scores(7, 120)
    found = compare_auroc(truth, first, second, _patients(120), resamples=600)
    error = delong(truth, first, second)[1]
    assert found.test == "DeLong" and found.difference.low < found.difference.value < found.difference.high
    width = found.difference.high - found.difference.low
    assert width == pytest.approx(2 * 1.96 * error, rel=0.15), "the bootstrap and DeLong agree on the spread"
    clustered = compare_auroc(truth, first, second, np.repeat(_patients(60), 2).tolist(), resamples=200)
    assert clustered.test.startswith("paired bootstrap")
    assert compare_statistic(lambda i: 1.0, lambda i: 1.0, _patients(12), resamples=50).p == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_corrections_against_scipy_and_the_definition(seed: int) -> None:
    p = np.random.default_rng(seed).random(9) ** 3
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    order = np.argsort(p)
    expected = np.maximum.accumulate([min(1, (9 - k) * p[i]) for k, i in enumerate(order)])
    assert holm(p)[order] == pytest.approx(expected)
    assert (holm(p) >= benjamini_hochberg(p) - 1e-12).all() and (benjamini_hochberg(p) >= p).all()


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(DataError, match="p values"):
        holm([0.1, 1.2])
    with pytest.raises(DataError, match="p values"):
        benjamini_hochberg([float("nan")])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize(("effect", "patients"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_sample_sizes_of_the_tables(effect: float, patients: int) -> None:
    """Cohen's small, medium and large effect; paired t test, 5 % two-sided, power 0.8 (Cohen 1988; G*Power)."""
    assert patients_for_power(effect) == patients_for_power(-effect) == patients


def test_sample_size_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 1, 40)
    found = sample_size(_patients(40), differences)
    assert found.half_interval == 120
    needed = patients_for_power(differences.mean() / differences.std(ddof=1))
    assert needed is not None and found.difference == needed - 40
    assert sample_size(_patients(12), np.zeros(12)).difference is None
    assert sample_size(_patients(12), np.full(12, 0.3)).difference == 0
    assert patients_for_power(1e-7) is None
    assert patients_for_power(0.01) == pytest.approx((1.959964 + 0.841621) ** 2 / 0.01**2, rel=0.001)
    with pytest.raises(DataError, match="finite"):
        sample_size(_patients(12), np.full(12, np.nan))
    with pytest.raises(ConfigError, match="power"):
        patients_for_power(0.5, power=1.0)


@pytest.mark.parametrize(
    ("first", "second", "count", "words"),
    [
        (np.zeros(12), np.zeros(11), 12, "same cases of both"),
        (np.zeros(12), np.full(12, np.nan), 12, "finite"),
        (np.zeros(9), np.ones(9), 9, "too few"),
    ],
)
def test_bad_pairs_are_refused(first: np.ndarray, second: np.ndarray, count: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        compare_means(first, second, _patients(count))
