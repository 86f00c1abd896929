"""Intervals of numbers that hold the true one with a promised chance.

Four scores: the absolute gap (one width for all), the gap over a spread that the network states for each image (wide
where it is unsure), the gap beyond two quantiles that the network states (CQR), and the ratio of the true number to the
answer (volumes: errors grow with size, and a network that outlines too much is put right on average).

The promise: a further case that is exchangeable with the calibration cases lies inside with a chance of at least the
level. It is a promise over images, not over one image.

Source:
    Lei et al., JASA 2018 (absolute and normalised gap); Romano, Patterson, Candès, NeurIPS 2019 (CQR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from
from isocenter.safety.quantiles import check_level, lower_quantile, upper_quantile

__all__ = ["IntervalRule", "fit_absolute", "fit_normalised", "fit_quantiles", "fit_ratio"]

Gap = Literal["absolute", "normalised", "quantiles", "ratio"]


@dataclass(frozen=True)
class IntervalRule:
    """A fitted rule; JSON-ready with `as_card`.

    Args:
        gap: "absolute", "normalised", "quantiles" or "ratio".
        level: The chance promised.
        low: What is added below: minus the half-width, in the unit of the gap; the least ratio.
        high: What is added above; the largest ratio.
        cases: Calibration cases behind it.

    Raises:
        ConfigError: A field is out of range.
    """

    gap: Gap
    level: float
    low: float
    high: float
    cases: int

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.gap not in get_args(Gap) or not math.isfinite(self.low) or not math.isfinite(self.high):
            raise ConfigError(f"not a rule for intervals: gap {self.gap!r}, {self.low:g} to {self.high:g}")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> IntervalRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        return rule_from(cls, values, "a rule for intervals")

    def around(
        self, answer: float, *, spread: float = 1.0, quantiles: tuple[float, float] | None = None
    ) -> tuple[float, float]:
        """Return the interval of an answer.

        Args:
            answer: The number; a volume for "ratio".
            spread: That the network states, for "normalised".
            quantiles: Low and high that the network states, for "quantiles".

        Raises:
            DataError: The answer is not finite, a volume is negative, or the spread or the quantiles don't fit.

        Example:
            >>> IntervalRule("ratio", 0.9, 0.9, 1.2, 100).around(10.0)
            (9.0, 12.0)
        """
        if not math.isfinite(answer):
            raise DataError("an interval needs a finite answer")
        if self.gap == "ratio":
            if answer < 0:
                raise DataError("an interval by ratio is for numbers that are not negative")
            return answer * self.low, answer * self.high
        if self.gap == "normalised":
            if not (math.isfinite(spread) and spread > 0):
                raise DataError(f"the spread of an answer must be positive, got {spread:g}")
            return answer + self.low * spread, answer + self.high * spread
        if self.gap == "quantiles":
            if quantiles is None or not quantiles[0] <= quantiles[1]:
                raise DataError("a rule by quantiles needs the two that the network states, low before high")
            low, high = quantiles[0] + self.low, quantiles[1] + self.high
            # A negative correction may turn a narrow interval over: then it is its middle.
            return (low, high) if low <= high else ((low + high) / 2,) * 2
        return answer + self.low, answer + self.high


def _checked(truth: Float[np.ndarray, " n"], *others: Float[np.ndarray, " n"]) -> None:
    if any(len(other) != len(truth) for other in others):
        raise DataError(f"{[len(o) for o in others]} answers for {len(truth)} true numbers")
    if not all(np.isfinite(one).all() for one in (truth, *others)):
        raise DataError("a number of the calibration cases is not finite; leave out cases without an answer")


def fit_absolute(
    answers: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"], *, level: float = 0.9
) -> IntervalRule:
    """Fit one half-width for all.

    Args:
        answers: Of a network that never saw the cases.
        truth: The true numbers.
        level: The chance asked.

    Raises:
        DataError: Too few cases, or a number that is not finite.

    Example:
        >>> fit_absolute(np.zeros(19), np.arange(19.0)).around(5.0)
        (-12.0, 22.0)
    """
    _checked(truth, answers)
    half = upper_quantile(np.abs(truth - answers), level)
    return IntervalRule("absolute", level, -half, half, len(truth))


def fit_normalised(
    answers: Float[np.ndarray, " n"],
    truth: Float[np.ndarray, " n"],
    spread: Float[np.ndarray, " n"],
    *,
    level: float = 0.9,
    sided: bool = False,
) -> IntervalRule:
    """Fit a half-width in units of a spread that is stated for each case (by the network, or by `safety.difficulty`).

    Args:
        answers: Of a network that never saw the cases.
        truth: The true numbers.
        spread: Of each case, positive; what states it never saw the cases either.
        level: The chance asked.
        sided: Whether both ends are fitted, each exceeded by half of the rest: a network that is off to one side on
            average is put right.

    Raises:
        DataError: Too few cases, a number that is not finite, or a spread that is not positive.
    """
    _checked(truth, answers, spread)
    if not (spread > 0).all():
        raise DataError("a spread is not positive")
    scores, side = (truth - answers) / spread, (1 + level) / 2
    if sided:
        return IntervalRule("normalised", level, lower_quantile(scores, side), upper_quantile(scores, side), len(truth))
    half = upper_quantile(np.abs(scores), level)
    return IntervalRule("normalised", level, -half, half, len(truth))


def fit_quantiles(
    low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"], *, level: float = 0.9
) -> IntervalRule:
    """Fit how far two stated quantiles must be moved apart, or may be moved together (CQR).

    Raises:
        DataError: Too few cases, a number that is not finite, or a low quantile above its high one.
    """
    _checked(truth, low, high)
    if (low > high).any():
        raise DataError("a low quantile lies above its high one")
    move = upper_quantile(np.maximum(low - truth, truth - high), level)
    return IntervalRule("quantiles", level, -move, move, len(truth))


def fit_ratio(answers: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"], *, level: float = 0.9) -> IntervalRule:
    """Fit the least and the largest ratio of the true number to the answer, each exceeded by half of the rest.

    Args:
        answers: Volumes, positive.
        truth: True volumes, not negative.
        level: The chance asked.

    Raises:
        DataError: Too few cases, a number that is not finite, or an answer that is not positive.
    """
    _checked(truth, answers)
    if not (answers > 0).all() or (truth < 0).any():
        raise DataError("ratios need positive answers and true numbers that are not negative; leave out empty answers")
    ratio, side = truth / answers, (1 + level) / 2
    return IntervalRule("ratio", level, lower_quantile(ratio, side), upper_quantile(ratio, side), len(truth))
