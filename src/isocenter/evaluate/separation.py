"""How well a score separates those who have a finding from those who have not: the truth first, then the scores.

The area under the ROC curve, average precision, and the point of the curve at a sensitivity or specificity that was
asked for. Several classes are taken one against the rest (`one_against_rest`), several findings one by one
(`each_finding`). Where all have it or none has, there is no figure: that is refused (`tables.or_nan` makes it NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import auroc
from isocenter.evaluate.tables import check_both_classes, check_classes, check_same_length, check_yes_no, or_nan

__all__ = [
    "OperatingPoint",
    "area_under_roc",
    "average_precision",
    "each_finding",
    "one_against_rest",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
]


def area_under_roc(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve; ties count half, and 0.5 is chance.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.

    Source:
        Hanley and McNeil, Radiology 1982.

    Example:
        >>> area_under_roc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    _check(truth, scores)
    return auroc(truth, scores)


def _check(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> None:
    check_yes_no(truth)
    check_same_length(truth, scores)
    check_both_classes(truth)


def average_precision(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Return the area under the precision-recall curve as a sum of steps (AUPRC); chance is the prevalence.

    Equal scores enter together. Nothing is drawn between the steps, which would promise too much.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.

    Source:
        Davis and Goadrich, ICML 2006 (no linear interpolation); equal to scikit-learn's average_precision_score.

    Example:
        >>> round(average_precision(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
        0.8333
    """
    _check(truth, scores)
    counts = _counts(truth, scores)
    precision = counts.true / (counts.true + counts.false)
    recall = counts.true / counts.true[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True, eq=False)
class _Counts:
    """Cases at or above each different score, the highest first."""

    thresholds: Float[np.ndarray, " t"]
    true: Float[np.ndarray, " t"]
    false: Float[np.ndarray, " t"]


def _counts(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> _Counts:
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    true = np.cumsum(truth[order])[last].astype(np.float64)
    return _Counts(sorted_scores[last], true, last + 1.0 - true)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it gives on the cases that it was chosen on.

    Choose it on one set of cases and tell its figures on another: on the same ones they promise too much.

    Args:
        threshold: From which score on it is a yes; infinity where nothing may be one.
        sensitivity: Share found of those that have it.
        specificity: Share left alone of those that have it not.
    """

    threshold: float
    sensitivity: float
    specificity: float


def _points(
    truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Return thresholds from infinity downwards, with sensitivity and specificity."""
    _check(truth, scores)
    counts = _counts(truth, scores)
    return (
        np.append(np.inf, counts.thresholds),
        np.append(0.0, counts.true / counts.true[-1]),
        1 - np.append(0.0, counts.false / counts.false[-1]),
    )


def sensitivity_at_specificity(
    truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], *, specificity: float
) -> OperatingPoint:
    """Return the point of greatest sensitivity whose specificity is at least that asked; no drawing between points.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.
        ConfigError: The specificity is not from 0 to 1.

    Example:
        >>> point = sensitivity_at_specificity(
        ...     np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]), specificity=0.9)
        >>> point.threshold, point.sensitivity, point.specificity
        (0.8, 0.5, 1.0)
    """
    if not 0 <= specificity <= 1:
        raise ConfigError(f"specificity must lie in 0..1, got {specificity}")
    thresholds, found, spared = _points(truth, scores)
    # 1 - 1/10 is a little below 0.9 in floating point: what was reached must count as reached. Sensitivity grows down
    # the thresholds, so the first of the best has the most specificity.
    best = int(np.argmax(np.where(spared >= specificity - 1e-12, found, -1.0)))
    return OperatingPoint(float(thresholds[best]), float(found[best]), float(spared[best]))


def specificity_at_sensitivity(
    truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], *, sensitivity: float
) -> OperatingPoint:
    """Return the point of greatest specificity whose sensitivity is at least that asked.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.
        ConfigError: The sensitivity is not from 0 to 1.
    """
    if not 0 <= sensitivity <= 1:
        raise ConfigError(f"sensitivity must lie in 0..1, got {sensitivity}")
    thresholds, found, spared = _points(truth, scores)
    enough = np.where(found >= sensitivity - 1e-12, spared, -1.0)
    # Of those that spare as many, the one that finds the most.
    best = int(np.flatnonzero(enough == enough.max())[-1])
    return OperatingPoint(float(thresholds[best]), float(found[best]), float(spared[best]))


Figure = Callable[[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]], float]
"""From who has it and scores to a number: `area_under_roc`, `average_precision`."""


def one_against_rest(
    figure: Figure, truth: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " classes"]:
    """Return a figure for each class against all others; its mean is the macro average.

    Args:
        figure: `area_under_roc`, `average_precision`, or one like them.
        truth: Number of the class.
        scores: Of every class.

    Returns:
        NaN for a class that no case, or every case, is of; a mean over classes then is NaN too, unless they are left
        out, which is to be said.

    Raises:
        DataError: Lengths that differ, a score that is not finite, or a class that there is not.

    Example:
        >>> one_against_rest(area_under_roc, np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])).tolist()
        [1.0, 1.0]
    """
    check_same_length(truth, scores)
    check_classes(truth, scores.shape[1])
    return each_finding(figure, truth[:, None] == np.arange(scores.shape[1]), scores)


def each_finding(
    figure: Figure, present: Bool[np.ndarray, "n findings"], scores: Float[np.ndarray, "n findings"]
) -> Float[np.ndarray, " findings"]:
    """Return a figure for each of several findings, any number of which a case may have.

    Returns:
        NaN for a finding that all cases have, or none has.

    Raises:
        DataError: Shapes that differ, or a score that is not finite.
    """
    check_yes_no(present)
    check_same_length(present, scores)
    if scores.shape != present.shape:
        raise DataError(f"scores of {scores.shape[1]} findings for answers of {present.shape[1]}")
    defined = or_nan(figure)
    return np.array([defined(present[:, i], scores[:, i]) for i in range(scores.shape[1])])
