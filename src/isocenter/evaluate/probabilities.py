"""How good probabilities are as such (Brier score, log loss), and what acting on them is worth (net benefit)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import ConfigError
from isocenter.evaluate.tables import check_classes, check_probabilities, check_same_length, check_yes_no

__all__ = ["DecisionCurve", "brier", "brier_classes", "decision_curve", "log_loss", "log_loss_classes", "net_benefit"]

_LEAST = float(np.finfo(np.float64).eps)
"""A certain and wrong answer costs what this probability would, not infinity."""


def _check(truth: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> None:
    check_yes_no(truth)
    check_same_length(truth, probability)
    check_probabilities(probability)


def brier(truth: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> float:
    """Return the mean squared error of probabilities: 0 is perfect, 1 the worst.

    Raises:
        DataError: Lengths that differ, or what is no probability.

    Source:
        Brier, Monthly Weather Review 1950 (halved, as is usual for two classes).

    Example:
        >>> round(brier(np.array([True, False]), np.array([0.8, 0.4])), 6)
        0.1
    """
    _check(truth, probability)
    return float(((probability.astype(np.float64) - truth) ** 2).mean())


def _one_hot(truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n c"]) -> Bool[np.ndarray, "n c"]:
    check_same_length(truth, probability)
    check_probabilities(probability)
    check_classes(truth, probability.shape[1])
    happened: Bool[np.ndarray, "n c"] = truth[:, None] == np.arange(probability.shape[1])
    return happened


def brier_classes(truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n c"]) -> float:
    """Return the Brier score of several classes: squared errors added up over classes, 0 to 2.

    Raises:
        DataError: Lengths that differ, a class that there is not, or rows that are no probabilities.

    Source:
        Brier, Monthly Weather Review 1950.
    """
    happened = _one_hot(truth, probability)
    return float(((probability.astype(np.float64) - happened) ** 2).sum(axis=1).mean())


def log_loss(truth: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"]) -> float:
    """Return the mean of minus the logarithm of the probability given to what is true, in nats; 0 is perfect.

    Probabilities are held 2.2e-16 away from 0 and 1, so that one certain and wrong answer costs 36, not infinity.

    Raises:
        DataError: Lengths that differ, or what is no probability.

    Source:
        Good, Journal of the Royal Statistical Society B 1952.
    """
    _check(truth, probability)
    p = np.clip(probability.astype(np.float64), _LEAST, 1 - _LEAST)
    return float(-np.log(np.where(truth, p, 1 - p)).mean())


def log_loss_classes(truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n c"]) -> float:
    """Return the log loss of several classes, as `log_loss`.

    Raises:
        DataError: Lengths that differ, a class that there is not, or rows that are no probabilities.
    """
    happened = _one_hot(truth, probability)
    return float(-np.log(np.clip(probability.astype(np.float64)[happened], _LEAST, 1 - _LEAST)).mean())


def net_benefit(truth: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, threshold: float) -> float:
    """Return what acting on all at or above a threshold is worth, in true positives per case.

    A threshold of 0.1 says that one missed case is as bad as nine that were treated for nothing.

    Args:
        truth: Who has it.
        probability: Of having it.
        threshold: From which probability on one acts; between 0 and 1.

    Raises:
        DataError: Lengths that differ, or what is no probability.
        ConfigError: The threshold is not between 0 and 1.

    Source:
        Vickers and Elkin, Medical Decision Making 2006.

    Example:
        >>> net_benefit(np.array([True, False, False, False]), np.array([0.9, 0.6, 0.1, 0.1]), threshold=0.5)
        0.0
    """
    _check(truth, probability)
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold must lie between 0 and 1, got {threshold}")
    acts = probability >= threshold
    right, wrong = float((acts & truth).mean()), float((acts & ~truth).mean())
    return right - wrong * threshold / (1 - threshold)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit over thresholds; a model is of use where it is above both of the others.

    Args:
        thresholds: From which probability on one acts.
        model: Net benefit of acting on the model.
        everyone: Net benefit of acting on all. Acting on nobody is worth 0.
    """

    thresholds: Float[np.ndarray, " t"]
    model: Float[np.ndarray, " t"]
    everyone: Float[np.ndarray, " t"]


def decision_curve(
    truth: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, thresholds: Sequence[float]
) -> DecisionCurve:
    """Return the net benefit at several thresholds.

    Raises:
        DataError: Lengths that differ, or what is no probability.
        ConfigError: A threshold is not between 0 and 1.

    Source:
        Vickers and Elkin, Medical Decision Making 2006.
    """
    found = np.array([net_benefit(truth, probability, threshold=t) for t in thresholds])
    odds = np.array([t / (1 - t) for t in thresholds])
    return DecisionCurve(np.asarray(thresholds, dtype=np.float64), found, truth.mean() - (1 - truth.mean()) * odds)
