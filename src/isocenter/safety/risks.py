"""The chance that a score stands for, as an interval.

Whether a patient has an event is yes or no, so no interval can hold "the true chance": nobody ever sees it. What can be
promised is calibration: of all cases that are told "20 %", about 20 % have the event. A Venn-Abers predictor gives two
chances, one as if the patient had no event and one as if he had; one of the two is exactly calibrated (in the long
run, for exchangeable cases), and where cases are few the two lie far apart. So their gap says how much is not known.

Source:
    Vovk and Petej, Venn-Abers predictors, UAI 2014.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from isocenter.core.errors import DataError
from isocenter.safety.card import rule_from

__all__ = ["LEAST_OUTCOMES", "RiskRule", "fit_risks"]

LEAST_OUTCOMES = 10
"""Fewer cases with the event, or without it, than this say nothing of a chance (a convention of ours)."""


@dataclass(frozen=True)
class RiskRule:
    """Held-out scores and what happened; JSON-ready with `as_card`.

    Args:
        scores: Of held-out cases, rising.
        happened: 1 where the event happened; between 0 and 1 for the share of cases with equal scores.
        weights: How much each counts.
        cases: Calibration cases behind it.
    """

    scores: tuple[float, ...]
    happened: tuple[float, ...]
    weights: tuple[float, ...]
    cases: int

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "scores": list(self.scores), "happened": list(self.happened), "weights": list(self.weights),
            "cases": self.cases,
        }  # fmt: skip

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> RiskRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        return rule_from(cls, values, "a rule for risks")

    def around(self, score: float) -> tuple[float, float, float]:
        """Return the low, the merged and the high chance of a score.

        Raises:
            DataError: The score is not finite.
        """
        if not np.isfinite(score):
            raise DataError("a chance needs a finite score")
        low, high = self._with(score, 0.0), self._with(score, 1.0)
        # The merged chance of least regret under the logarithmic loss (Vovk and Petej, section 5).
        return low, high / (1 - low + high), high

    def _with(self, score: float, outcome: float) -> float:
        scores = np.array([*self.scores, score])
        happened, weights = np.array([*self.happened, outcome]), np.array([*self.weights, 1.0])
        names, place = np.unique(scores, return_inverse=True)
        total = np.bincount(place, weights)
        mean = np.bincount(place, weights * happened) / total
        fitted = isotonic_regression(mean, weights=total).x
        return float(fitted[np.searchsorted(names, score)])


def fit_risks(
    scores: Float[np.ndarray, " n"],
    happened: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"] | None = None,
) -> RiskRule:
    """Keep what held-out scores stood for.

    Args:
        scores: Higher for likelier events; of a network that never saw the case.
        happened: 1 where the event happened, 0 where it did not.
        weights: How much each case counts: those that are known in spite of censoring count for those that are not.
            With weights the calibration holds on average, and not exactly.

    Raises:
        DataError: A score is not finite, an outcome is not 0 or 1, or fewer than 10 cases have the event, or have not.

    Example:
        >>> rule = fit_risks(np.arange(40.0), (np.arange(40) >= 20).astype(float))
        >>> rule.around(0.0)[0], rule.around(39.5)[2]
        (0.0, 1.0)
    """
    counts = np.ones(len(scores)) if weights is None else weights
    if not len(scores) == len(happened) == len(counts):
        raise DataError(f"{len(happened)} outcomes and {len(counts)} weights for {len(scores)} scores")
    if not np.isfinite(scores).all() or not np.isfinite(counts).all() or (counts <= 0).any():
        raise DataError("a score or weight of the calibration cases is not finite, or a weight not positive")
    if not np.isin(happened, (0, 1)).all():
        raise DataError("an outcome must be 0 or 1")
    seen = int(happened.sum())
    if min(seen, len(happened) - seen) < LEAST_OUTCOMES:
        raise DataError(
            f"{seen} of {len(happened)} calibration cases have the event; at least {LEAST_OUTCOMES} with it and "
            f"{LEAST_OUTCOMES} without are needed"
        )
    names, place = np.unique(scores, return_inverse=True)
    total = np.bincount(place, counts)
    mean = np.bincount(place, counts * happened) / total
    return RiskRule(
        tuple(float(v) for v in names), tuple(float(v) for v in mean), tuple(float(v) for v in total), len(scores)
    )
