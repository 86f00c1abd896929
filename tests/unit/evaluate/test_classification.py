"""Decisions, scores and probabilities against scikit-learn, and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.bootstrap import bootstrap_statistic
from isocenter.evaluate.classification import (
    BinaryCounts,
    accuracy,
    balanced_accuracy,
    binary_counts,
    confusion_matrix,
    f1_macro,
    f1_per_class,
    kappa,
    mcc,
)
from isocenter.evaluate.probabilities import (
    brier,
    brier_classes,
    decision_curve,
    log_loss,
    log_loss_classes,
    net_benefit,
)
from isocenter.evaluate.separation import (
    area_under_roc,
    average_precision,
    each_finding,
    one_against_rest,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from isocenter.evaluate.tables import check_same_length, check_yes_no, or_nan


def _binary(seed, ties=True):
    rng = np.random.default_rng(seed)
    truth = rng.random(80) < 0.3
    scores = np.clip(0.3 * truth + rng.random(80) * 0.7, 0, 1)
    return truth, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_binary_figures_equal_scikit_learn(seed, ties):
    truth, p = _binary(seed, ties)
    said = p >= 0.5
    counts = binary_counts(truth, said)
    assert counts.sensitivity == pytest.approx(sk.recall_score(truth, said))
    assert counts.specificity == pytest.approx(sk.recall_score(~truth, ~said))
    assert counts.positive_predictive_value == pytest.approx(sk.precision_score(truth, said))
    assert counts.negative_predictive_value == pytest.approx(sk.precision_score(~truth, ~said))
    assert counts.accuracy == pytest.approx(sk.accuracy_score(truth, said))
    assert counts.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(truth, said))
    assert counts.f1 == pytest.approx(sk.f1_score(truth, said))
    assert counts.mcc == pytest.approx(sk.matthews_corrcoef(truth, said))
    plus, minus = sk.class_likelihood_ratios(truth, said)
    assert counts.positive_likelihood_ratio == pytest.approx(plus)
    assert counts.negative_likelihood_ratio == pytest.approx(minus)
    assert average_precision(truth, p) == pytest.approx(sk.average_precision_score(truth, p))
    assert area_under_roc(truth, p) == pytest.approx(sk.roc_auc_score(truth, p))
    assert brier(truth, p) == pytest.approx(sk.brier_score_loss(truth, p))
    assert log_loss(truth, p) == pytest.approx(sk.log_loss(truth, p))


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_several_classes_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 90)
    scores = rng.dirichlet(np.ones(4), 90) + 0.2 * np.eye(4)[truth]
    p = scores / scores.sum(axis=1, keepdims=True)
    said = p.argmax(axis=1)
    assert np.array_equal(confusion_matrix(truth, said, classes=4), sk.confusion_matrix(truth, said))
    assert accuracy(truth, said) == pytest.approx(sk.accuracy_score(truth, said))
    assert balanced_accuracy(truth, said) == pytest.approx(sk.balanced_accuracy_score(truth, said))
    assert f1_per_class(truth, said, classes=4) == pytest.approx(sk.f1_score(truth, said, average=None))
    assert f1_macro(truth, said, classes=4) == pytest.approx(sk.f1_score(truth, said, average="macro"))
    assert mcc(truth, said) == pytest.approx(sk.matthews_corrcoef(truth, said))
    for weights in ("none", "linear", "quadratic"):
        expected = sk.cohen_kappa_score(truth, said, weights=None if weights == "none" else weights)
        assert kappa(truth, said, classes=4, weights=weights) == pytest.approx(expected)
    assert brier_classes(truth, p) == pytest.approx(((p - np.eye(4)[truth]) ** 2).sum(1).mean())
    assert log_loss_classes(truth, p) == pytest.approx(sk.log_loss(truth, p))
    found = one_against_rest(area_under_roc, truth, p)
    assert found == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average=None))
    present = np.eye(4, dtype=bool)[truth] | (rng.random((90, 4)) < 0.1)
    found = each_finding(average_precision, present, p)
    assert found == pytest.approx(sk.average_precision_score(present, p, average=None))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("asked", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_operating_points_by_trying_every_threshold(seed, asked):
    truth, p = _binary(seed)
    every = [binary_counts(truth, p >= t) for t in [np.inf, *np.unique(p)]]
    point = sensitivity_at_specificity(truth, p, specificity=asked)
    again = binary_counts(truth, p >= point.threshold)
    assert (again.sensitivity, again.specificity) == pytest.approx((point.sensitivity, point.specificity))
    assert point.sensitivity == max(c.sensitivity for c in every if c.specificity >= asked)
    point = specificity_at_sensitivity(truth, p, sensitivity=asked)
    again = binary_counts(truth, p >= point.threshold)
    assert (again.sensitivity, again.specificity) == pytest.approx((point.sensitivity, point.specificity))
    assert point.specificity == pytest.approx(max(c.specificity for c in every if c.sensitivity >= asked))


def test_a_specificity_that_is_just_reached_counts():
    scores, truth = np.append(np.arange(10) / 10, 0.85), np.append(np.zeros(10, bool), True)
    assert sensitivity_at_specificity(truth, scores, specificity=0.9).sensitivity == 1.0


def test_net_benefit_by_hand():
    truth = np.array([True] * 10 + [False] * 90)
    p = np.where(truth, 0.6, 0.1)
    p[10:28] = 0.3
    # At 0.2 all 10 and 18 more are treated: 0.1 - 0.18 / 4.
    assert net_benefit(truth, p, threshold=0.2) == pytest.approx(0.055)
    curve = decision_curve(truth, p, thresholds=(0.2, 0.5))
    assert curve.model == pytest.approx([0.055, 0.1])
    assert curve.everyone == pytest.approx([0.1 - 0.9 / 4, 0.1 - 0.9])


def test_shares_of_nothing_are_nan():
    none = BinaryCounts(0, 0, 0, 5)
    assert np.isnan([none.sensitivity, none.positive_predictive_value, none.f1, none.balanced_accuracy]).all()
    assert np.isnan([none.positive_likelihood_ratio, none.negative_likelihood_ratio]).all()
    assert (none.specificity, none.mcc, none.accuracy) == (1.0, 0.0, 1.0)
    assert BinaryCounts(3, 0, 1, 4).positive_likelihood_ratio == np.inf
    assert BinaryCounts(3, 2, 1, 0).negative_likelihood_ratio == np.inf
    one = np.zeros(4, int)
    assert mcc(one, np.array([0, 0, 1, 1])) == 0.0
    assert np.isnan(f1_per_class(one, one, classes=2)).tolist() == [False, True]


def test_a_class_that_does_not_occur():
    p = np.array([[0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert np.isnan(one_against_rest(area_under_roc, np.array([0, 1, 0]), p)).tolist() == [False, False, True]


@pytest.mark.parametrize("figure", [area_under_roc, average_precision])
def test_one_class_or_what_is_no_number_is_refused(figure):
    scores, truth = np.array([0.2, 0.4, 0.9]), np.array([False, True, True])
    for all_alike in (np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(DataError, match="both kinds are needed"):
            figure(all_alike, scores)
        assert np.isnan(or_nan(figure)(all_alike, scores))
    with pytest.raises(DataError, match="finite"):
        figure(truth, np.array([0.2, np.nan, 0.9]))


def test_bad_tables_are_refused():
    truth = np.array([True, False])
    for figure in (brier, log_loss):
        with pytest.raises(DataError, match=r"0\.\.1"):
            figure(truth, np.array([0.5, 1.2]))
        with pytest.raises(DataError, match="row 1 holds a value that is not finite"):
            figure(truth, np.array([0.5, np.nan]))
        with pytest.raises(DataError, match="one answer for each case"):
            figure(truth[:0], np.zeros(0))
    # Where shapes are executed, as in these tests, lengths that differ never get as far as the check.
    with pytest.raises(DataError, match="got 2 and 1"):
        check_same_length(truth, np.array([0.5]))
    with pytest.raises(DataError, match="truth comes first"):
        check_yes_no(np.array([0.5]))
    with pytest.raises(DataError, match="row 1 do not add up to 1"):
        brier_classes(np.array([0, 1]), np.array([[0.5, 0.5], [0.9, 0.9]]))
    with pytest.raises(DataError, match=r"classes must lie in 0\.\.1"):
        log_loss_classes(np.array([0, 2]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    with pytest.raises(DataError, match="classes must lie"):
        confusion_matrix(np.array([-1]), np.array([0]), classes=2)
    with pytest.raises(DataError, match="beyond chance"):
        kappa(np.zeros(3, int), np.zeros(3, int), classes=2)
    with pytest.raises(ConfigError, match="threshold"):
        net_benefit(truth, np.array([0.5, 0.5]), threshold=1.0)
    with pytest.raises(ConfigError, match="specificity"):
        sensitivity_at_specificity(truth, np.array([0.5, 0.4]), specificity=90.0)


def test_undefined_resamples_are_left_out_of_an_interval():
    rng = np.random.default_rng(0)
    truth = np.arange(20) < 3
    scores = truth + rng.random(20)
    figure = or_nan(average_precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap_statistic(lambda i: figure(truth[i], scores[i]), [f"p{i}" for i in range(20)], resamples=200)
    assert found.low <= found.value <= found.high
