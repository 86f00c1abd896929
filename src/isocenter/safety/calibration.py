"""Probabilities brought to what held-out cases were: temperature, Platt's line, an isotonic step function.

Temperature keeps the order of classes and has one number: it needs few cases. Platt's line has two, and puts a shift
right. Isotonic regression follows any rising curve, and needs hundreds of cases. Each fit returns a frozen object that
is kept as JSON.

Source:
    Guo et al., ICML 2017 (temperature); Platt, Advances in Large Margin Classifiers 1999 (and his targets, as if one
    more case of each outcome had been seen); Zadrozny and Elkan, KDD 2002 (isotonic).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression, minimize, minimize_scalar

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from

__all__ = ["Isotonic", "Platt", "Temperature", "fit_isotonic", "fit_platt", "fit_temperature"]

_RANGE = (-2.0, 2.0)
"""Logarithms of the temperatures that are looked at: 0.14 to 7.4."""


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by one number.

    Args:
        value: The number; above 1 makes answers less sure.

    Raises:
        ConfigError: It is not positive.
    """

    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ConfigError(f"a temperature must be positive, got {self.value:g}")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    def apply(self, logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Return probabilities of exclusive classes.

        Example:
            >>> Temperature(2.0).apply(np.array([[np.log(4.0), 0.0]])).round(3).tolist()
            [[0.667, 0.333]]
        """
        scaled = logits / self.value
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Platt:
    """A probability is the logistic function of a line in the score.

    Args:
        slope: Of the line.
        intercept: Of the line.
    """

    slope: float
    intercept: float

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    def apply(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return probabilities."""
        return np.asarray(_logistic(self.slope * scores + self.intercept))


@dataclass(frozen=True)
class Isotonic:
    """A rising function of the score: steps of held-out frequencies, straight between their ends.

    Args:
        scores: Where the function is known, rising.
        values: Its values there, 0 to 1, never falling.

    Raises:
        ConfigError: It falls, or a value is no probability.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.scores), np.array(self.values)
        if not len(x) or len(x) != len(y) or (np.diff(x) < 0).any() or (np.diff(y) < 0).any():
            raise ConfigError("an isotonic map needs rising scores and values that never fall, one for each")
        if y.min() < 0 or y.max() > 1:
            raise ConfigError("the values of an isotonic map must lie in 0..1")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"scores": list(self.scores), "values": list(self.values)}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> Isotonic:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        return rule_from(cls, values, "an isotonic map")

    def apply(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return values; beyond the ends the nearest one."""
        return np.asarray(np.interp(scores, self.scores, self.values))


def _logistic(x: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -50, 50))))


def fit_temperature(logits: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"]) -> Temperature:
    """Return the temperature at which held-out cases are least surprising, as if one more of each had been seen.

    Without that a set whose held-out cases are all right would promise certainty, however few they are.

    Args:
        logits: Of every class.
        truth: Number of the class.

    Raises:
        DataError: No case, or a logit that is not finite.
    """
    if logits.ndim != 2 or not len(logits) or len(truth) != len(logits):
        raise DataError(f"a temperature needs cases: {len(truth)} labels, logits of shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise DataError("a logit is not finite; clip probabilities before their logarithm is taken")
    unsure = 1 / (len(truth) + 2)

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        top = scaled.max(1, keepdims=True)
        whole = top[:, 0] + np.log(np.exp(scaled - top).sum(1))
        own = scaled[np.arange(len(truth)), truth]
        others = (scaled.sum(1) - own) / max(1, scaled.shape[1] - 1)
        return float((whole - (1 - unsure) * own - unsure * others).mean())

    return Temperature(float(math.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x)))


def _both(scores: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    if len(scores) != len(happened) or not np.isfinite(scores).all():
        raise DataError(f"{len(happened)} outcomes for {len(scores)} scores, all of which must be finite")
    positives = int(happened.sum())
    if positives in (0, len(happened)):
        raise DataError("all cases are of one class: there is nothing to calibrate by; give cases of both")
    return positives, len(happened) - positives


def fit_platt(scores: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> Platt:
    """Fit Platt's line by maximum likelihood with his smoothed targets.

    Args:
        scores: Of held-out cases; any scale.
        happened: Whether the event did.

    Raises:
        DataError: One class only, or a score that is not finite.
    """
    positives, negatives = _both(scores, happened)
    target = np.where(happened, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, spread = float(scores.mean()), max(float(scores.std()), 1e-12)
    x = (scores - middle) / spread

    def loss(ab: Float[np.ndarray, "2"]) -> tuple[float, Float[np.ndarray, "2"]]:
        z = ab[0] * x + ab[1]
        gap = _logistic(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(gap * x).mean(), gap.mean()])

    start = np.array([0.0, math.log((positives + 1) / (negatives + 1))])
    slope, intercept = minimize(loss, start, jac=True, method="BFGS").x
    return Platt(float(slope / spread), float(intercept - slope * middle / spread))


def fit_isotonic(scores: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> Isotonic:
    """Fit the rising function of least squared error (pool adjacent violators).

    Args:
        scores: Of held-out cases; any scale.
        happened: Whether the event did.

    Raises:
        DataError: One class only, or a score that is not finite.

    Example:
        >>> fit_isotonic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])).values
        (0.0, 0.5, 0.5, 1.0)
    """
    _both(scores, happened)
    names, place = np.unique(scores, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    mean = np.bincount(place, happened.astype(np.float64)) / weights
    fitted = np.clip(isotonic_regression(mean, weights=weights).x, 0, 1)
    # Only the ends of steps are kept: the rest lies on the straight line between them.
    ends = np.ones(len(fitted), dtype=bool)
    ends[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return Isotonic(tuple(float(v) for v in names[ends]), tuple(float(v) for v in fitted[ends]))
