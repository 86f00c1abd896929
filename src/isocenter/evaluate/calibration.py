"""How far probabilities can be believed: the expected calibration error, and the slope and intercept of recalibration.

Calibration errors depend on their bins, so the bins are part of the name: ECE has bins of equal width, adaptive ECE
bins of equal count. Both are above zero even for true probabilities where there are few cases; the slope and intercept
need no bins. All take what happened first, then the probability; `reliability` alone takes them the other way round.

Source:
    Naeini et al., AAAI 2015; Guo et al., ICML 2017 (ECE); Nixon et al., CVPR Workshops 2019 (adaptive and class-wise);
    Cox, Biometrika 1958; Van Calster et al., BMC Medicine 2019 (slope and intercept).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy.special import expit, logit, ndtri

from isocenter.core.errors import ConfigError, DataError, PixelError
from isocenter.evaluate.tables import (
    check_both_classes,
    check_classes,
    check_probabilities,
    check_same_length,
    check_yes_no,
)

__all__ = [
    "Recalibration",
    "Reliability",
    "adaptive_calibration_error",
    "adaptive_reliability",
    "class_wise_calibration_error",
    "expected_calibration_error",
    "recalibration",
    "reliability",
    "top_label_calibration_error",
    "wilson_interval",
]

_ROUNDS = 100
_SLOPE_LIMIT = 1e4


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed frequency, bin by bin: what a reliability diagram shows.

    Args:
        counts: Events in each bin.
        predicted: Mean probability of each bin; NaN where it is empty.
        observed: Share of the bin's events that happened; NaN where it is empty.
    """

    counts: Float[np.ndarray, " bins"]
    predicted: Float[np.ndarray, " bins"]
    observed: Float[np.ndarray, " bins"]

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between predicted and observed frequency, each bin weighted by its events (ECE)."""
        used = self.counts > 0
        gaps = np.abs(self.predicted[used] - self.observed[used])
        return float(np.average(gaps, weights=self.counts[used]))

    @property
    def maximum_calibration_error(self) -> float:
        """Largest gap of a bin that is not empty."""
        return float(np.nanmax(np.abs(self.predicted - self.observed)))

    def observed_interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
        """Return the lower and upper end of Wilson's interval of each observed share; NaN where a bin is empty."""
        return wilson_interval(self.observed * self.counts, self.counts, level=level)


def wilson_interval(
    happened: Float[np.ndarray, " n"], cases: Float[np.ndarray, " n"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the interval of a share, which unlike the textbook's stays within 0..1 and is right for few cases.

    Args:
        happened: How often it happened.
        cases: Of how many; NaN comes back for none.
        level: Coverage asked.

    Raises:
        ConfigError: The level is not between 0 and 1.

    Source:
        Wilson, Journal of the American Statistical Association 1927.

    Example:
        >>> low, high = wilson_interval(np.array([8.0]), np.array([10.0]))
        >>> round(float(low[0]), 4), round(float(high[0]), 4)
        (0.4902, 0.9433)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    score = float(ndtri((1 + level) / 2))
    n = np.where(cases > 0, cases, np.nan)
    share = happened / n
    middle = share + score**2 / (2 * n)
    half = score * np.sqrt(share * (1 - share) / n + score**2 / (4 * n**2))
    whole = 1 + score**2 / n
    return np.clip((middle - half) / whole, 0, 1), np.clip((middle + half) / whole, 0, 1)


def reliability(
    probability: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], *, bins: int = 15
) -> Reliability:
    """Compare probabilities with what happened.

    Args:
        probability: Of each event, 0 to 1.
        happened: Whether it did.
        bins: Of equal width.

    Raises:
        ConfigError: No event, or fewer than two bins.
        PixelError: A probability is not finite or outside 0..1.

    Example:
        >>> said = np.array([0.9, 0.9, 0.9, 0.9])
        >>> found = reliability(said, np.array([True, True, True, False]), bins=5)
        >>> round(found.expected_calibration_error, 6)
        0.15
    """
    _check(probability, bins)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return _binned(probability, happened, place.astype(np.int64), bins)


def adaptive_reliability(
    happened: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, bins: int = 15
) -> Reliability:
    """Compare probabilities with what happened, in bins of as equal a count as can be.

    Equal probabilities are never torn apart: a run of them goes where its middle falls, so a bin may be larger than
    others, or empty, and the order of the cases decides nothing.

    Args:
        happened: Whether each event did.
        probability: Of each event, 0 to 1.
        bins: Of equal count.

    Raises:
        ConfigError: No event, or fewer than two bins.
        PixelError: A probability is not finite or outside 0..1.
        DataError: What happened is not bool.

    Source:
        Nixon et al., CVPR Workshops 2019.
    """
    check_yes_no(happened)
    _check(probability, bins)
    _, run, sizes = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    place = np.minimum((middle * bins / len(probability)).astype(np.int64), bins - 1)[run]
    return _binned(probability, happened, place, bins)


def _check(probability: Float[np.ndarray, " n"], bins: int) -> None:
    if not probability.size or bins < 2:
        raise ConfigError(f"calibration needs an event and two bins, got {probability.size} and {bins}")
    if not (np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1):
        raise PixelError("probabilities must be finite and lie in 0..1")


def _binned(
    probability: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], place: Int64[np.ndarray, " n"], bins: int
) -> Reliability:
    counts = np.bincount(place, minlength=bins).astype(np.float64)
    safe = np.where(counts > 0, counts, np.nan)
    said = np.bincount(place, probability.astype(np.float64), minlength=bins) / safe
    seen = np.bincount(place, happened.astype(np.float64), minlength=bins) / safe
    return Reliability(counts, said, seen)


def expected_calibration_error(
    happened: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, bins: int = 15
) -> float:
    """Return the mean gap between predicted and observed frequency in bins of equal width (ECE), 0 to 1.

    Raises:
        DataError: What happened is not bool.
        ConfigError: No event, or fewer than two bins.
        PixelError: A probability is not finite or outside 0..1.
    """
    check_yes_no(happened)
    return reliability(probability, happened, bins=bins).expected_calibration_error


def adaptive_calibration_error(
    happened: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, bins: int = 15
) -> float:
    """Return the mean gap in bins of equal count (adaptive ECE), 0 to 1.

    Raises:
        DataError: What happened is not bool.
        ConfigError: No event, or fewer than two bins.
        PixelError: A probability is not finite or outside 0..1.
    """
    return adaptive_reliability(happened, probability, bins=bins).expected_calibration_error


def top_label_calibration_error(
    truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n classes"], *, bins: int = 15
) -> float:
    """Return the ECE of the answer itself: of the greatest probability, against whether its class was right.

    Raises:
        DataError: Lengths that differ, a class that there is not, or rows that are no probabilities.
        ConfigError: Fewer than two bins.

    Source:
        Guo et al., ICML 2017.
    """
    _check_classes(truth, probability)
    return expected_calibration_error(probability.argmax(axis=1) == truth, probability.max(axis=1), bins=bins)


def class_wise_calibration_error(
    truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n classes"], *, bins: int = 15
) -> float:
    """Return the mean over classes of the ECE of each class against the rest.

    Raises:
        DataError: Lengths that differ, a class that there is not, or rows that are no probabilities.
        ConfigError: Fewer than two bins.

    Source:
        Nixon et al., CVPR Workshops 2019 (static calibration error).
    """
    _check_classes(truth, probability)
    return float(
        np.mean(
            [
                expected_calibration_error(truth == number, probability[:, number], bins=bins)
                for number in range(probability.shape[1])
            ]
        )
    )


def _check_classes(truth: Int[np.ndarray, " n"], probability: Float[np.ndarray, "n classes"]) -> None:
    check_same_length(truth, probability)
    check_probabilities(probability)
    check_classes(truth, probability.shape[1])


@dataclass(frozen=True)
class Recalibration:
    """The logistic curve through what happened, over the log odds of what was predicted.

    Args:
        slope: 1 is right; below 1 the probabilities are too extreme, above 1 too timid.
        intercept: Of the curve with that slope; 0 is right where the slope is 1.
        in_the_large: Intercept with the slope held at 1: above 0 the event is more frequent than was predicted.
        slope_error: Standard error of the slope.
        in_the_large_error: Standard error of the intercept in the large.
    """

    slope: float
    intercept: float
    in_the_large: float
    slope_error: float
    in_the_large_error: float


def recalibration(
    happened: Bool[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, least: float = 1e-6
) -> Recalibration:
    """Fit slope and intercept by iterated reweighted least squares: plain maximum likelihood, nothing penalised.

    Args:
        happened: Whether each event did.
        probability: Of each event, 0 to 1.
        least: Probabilities are held this far away from 0 and 1, whose log odds are infinite.

    Raises:
        DataError: All happened or none did, lengths that differ, what is no probability, or no slope exists: all
            probabilities are alike, or those of what happened all lie above (or below) those of what did not.

    Source:
        Cox, Biometrika 1958; Van Calster et al., BMC Medicine 2019.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> p = rng.uniform(0.05, 0.95, 20000)
        >>> round(recalibration(rng.random(20000) < p, p).slope, 1)
        1.0
    """
    check_yes_no(happened)
    check_same_length(happened, probability)
    check_probabilities(probability)
    check_both_classes(happened)
    odds = logit(np.clip(probability.astype(np.float64), least, 1 - least))
    _check_overlap(odds, happened)
    design = np.stack([np.ones_like(odds), odds], axis=1)
    (intercept, slope), errors = _fit(design, happened, np.zeros_like(odds))
    (shift,), shift_error = _fit(design[:, :1], happened, odds)
    return Recalibration(float(slope), float(intercept), float(shift), float(errors[1]), float(shift_error[0]))


def _check_overlap(odds: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> None:
    """Refuse data for which the likelihood has no maximum."""
    if odds.min() == odds.max():
        raise DataError("all probabilities are alike: they have no calibration slope")
    yes, no = odds[happened], odds[~happened]
    if yes.min() >= no.max() or yes.max() <= no.min():
        raise DataError("probabilities part the two kinds without overlap: the calibration slope has no bound")


def _fit(
    design: Float[np.ndarray, "n k"], happened: Bool[np.ndarray, " n"], offset: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return the coefficients of a logistic regression and their standard errors."""
    weights = np.zeros(design.shape[1])

    def likelihood(w: Float[np.ndarray, " k"]) -> float:
        z = offset + design @ w
        return float((happened * z - np.logaddexp(0, z)).sum())

    now = likelihood(weights)
    for _ in range(_ROUNDS):
        p = expit(offset + design @ weights)
        gradient = design.T @ (happened - p)
        information = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        # Full steps can overshoot where probabilities are extreme: halve until the likelihood grows.
        while likelihood(weights + step) < now - 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        now = likelihood(weights)
        if np.abs(step).max() < 1e-10 or np.abs(weights).max() > _SLOPE_LIMIT:
            break
    p = expit(offset + design @ weights)
    information = (design * (p * (1 - p))[:, None]).T @ design
    return weights, np.sqrt(np.diag(np.linalg.pinv(information)))
