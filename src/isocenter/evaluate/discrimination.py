"""How well a score separates those who have a finding from those who have not.

The area under the ROC curve, average precision, and the point of the curve at a sensitivity or specificity that was
asked for. Several classes are taken one against the rest (`one_against_rest`), several findings one by one
(`each_finding`).

Source:
    Hanley and McNeil, Radiology 1982 (the area is the chance that one who has it scores higher than one who has not).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval, bootstrap_statistic
from isocenter.evaluate.ranking import auroc
from isocenter.evaluate.tables import check_both_classes, check_classes, check_same_length, or_nan

__all__ = [
    "OperatingPoint",
    "average_precision",
    "bootstrap_roc_auc",
    "each_finding",
    "one_against_rest",
    "roc_auc",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
]


def roc_auc(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve; ties count half, and 0.5 is chance.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.

    Example:
        >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    if scores.shape != present.shape or not np.isfinite(scores).all():
        raise DataError("an area under the ROC curve needs one finite score for each answer")
    with_it = int(present.sum())
    if with_it in (0, len(present)):
        raise DataError(f"{with_it} of {len(present)} have it: both kinds are needed to tell them apart")
    return auroc(present, scores)


def average_precision(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> float:
    """Return the area under the precision-recall curve as a sum of steps (AUPRC); chance is the prevalence.

    Equal scores enter together. Nothing is drawn between the steps, which would promise too much.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.

    Source:
        Davis and Goadrich, ICML 2006 (no linear interpolation); equal to scikit-learn's average_precision_score.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])), 4)
        0.8333
    """
    check_same_length(scores, present)
    check_both_classes(present)
    counts = _counts(scores, present)
    precision = counts.true / (counts.true + counts.false)
    recall = counts.true / counts.true[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True, eq=False)
class _Counts:
    """Cases at or above each different score, the highest first."""

    thresholds: Float[np.ndarray, " t"]
    true: Float[np.ndarray, " t"]
    false: Float[np.ndarray, " t"]


def _counts(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> _Counts:
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    true = np.cumsum(present[order])[last].astype(np.float64)
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
    scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Return thresholds from infinity downwards, with sensitivity and specificity."""
    check_same_length(scores, present)
    check_both_classes(present)
    counts = _counts(scores, present)
    return (
        np.append(np.inf, counts.thresholds),
        np.append(0.0, counts.true / counts.true[-1]),
        1 - np.append(0.0, counts.false / counts.false[-1]),
    )


def sensitivity_at_specificity(
    scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"], *, specificity: float
) -> OperatingPoint:
    """Return the point of greatest sensitivity whose specificity is at least that asked; no drawing between points.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.
        ConfigError: The specificity is not from 0 to 1.

    Example:
        >>> point = sensitivity_at_specificity(
        ...     np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), specificity=0.9)
        >>> point.threshold, point.sensitivity, point.specificity
        (0.8, 0.5, 1.0)
    """
    if not 0 <= specificity <= 1:
        raise ConfigError(f"specificity must lie in 0..1, got {specificity}")
    thresholds, found, spared = _points(scores, present)
    # 1 - 1/10 is a little below 0.9 in floating point: what was reached must count as reached. Sensitivity grows down
    # the thresholds, so the first of the best has the most specificity.
    best = int(np.argmax(np.where(spared >= specificity - 1e-12, found, -1.0)))
    return OperatingPoint(float(thresholds[best]), float(found[best]), float(spared[best]))


def specificity_at_sensitivity(
    scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"], *, sensitivity: float
) -> OperatingPoint:
    """Return the point of greatest specificity whose sensitivity is at least that asked.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.
        ConfigError: The sensitivity is not from 0 to 1.
    """
    if not 0 <= sensitivity <= 1:
        raise ConfigError(f"sensitivity must lie in 0..1, got {sensitivity}")
    thresholds, found, spared = _points(scores, present)
    enough = np.where(found >= sensitivity - 1e-12, spared, -1.0)
    # Of those that spare as many, the one that finds the most.
    best = int(np.flatnonzero(enough == enough.max())[-1])
    return OperatingPoint(float(thresholds[best]), float(found[best]), float(spared[best]))


Figure = Callable[[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]], float]
"""From scores and who has it to a number: `roc_auc`, `average_precision`."""


def one_against_rest(
    figure: Figure, scores: Float[np.ndarray, "n classes"], truth: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " classes"]:
    """Return a figure for each class against all others; its mean is the macro average.

    Args:
        figure: `roc_auc`, `average_precision`, or one like them.
        scores: Of every class.
        truth: Number of the class.

    Returns:
        NaN for a class that no case, or every case, is of; a mean over classes then is NaN too, unless they are left
        out, which is to be said.

    Raises:
        DataError: Lengths that differ, a score that is not finite, or a class that there is not.

    Example:
        >>> one_against_rest(roc_auc, np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])).tolist()
        [1.0, 1.0]
    """
    check_same_length(scores, truth)
    check_classes(truth, scores.shape[1])
    return each_finding(figure, scores, truth[:, None] == np.arange(scores.shape[1]))


def each_finding(
    figure: Figure, scores: Float[np.ndarray, "n findings"], present: Bool[np.ndarray, "n findings"]
) -> Float[np.ndarray, " findings"]:
    """Return a figure for each of several findings, any number of which a case may have.

    Returns:
        NaN for a finding that all cases have, or none has.

    Raises:
        DataError: Shapes that differ, or a score that is not finite.
    """
    check_same_length(scores, present)
    if scores.shape != present.shape:
        raise DataError(f"scores of {scores.shape[1]} findings for answers of {present.shape[1]}")
    defined = or_nan(figure)
    return np.array([defined(scores[:, i], present[:, i]) for i in range(scores.shape[1])])


def bootstrap_roc_auc(
    scores: Float[np.ndarray, " n"],
    present: Bool[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the area under the ROC curve with an interval over patients, by percentiles.

    Resamples in which all have it or none has say nothing, and are left out.

    Raises:
        DataError: As `roc_auc`; or fewer than 10 patients, or fewer than two with the finding or without.
    """
    roc_auc(scores, present)
    index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    enough = len(set(index.tolist())) >= LEAST_PATIENTS
    if enough and any(len(set(index[chosen])) < 2 for chosen in (present, ~present)):
        raise DataError("one patient alone has the finding, or has not: an interval would say nothing")
    return bootstrap_statistic(
        lambda i: auroc(present[i], scores[i]), patients, level=level, resamples=resamples, seed=seed
    )
