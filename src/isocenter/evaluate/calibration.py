"""How far probabilities can be believed: the expected calibration error of binary events.

Source:
    Naeini et al., AAAI 2015; Guo et al., ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, PixelError

__all__ = ["Reliability", "reliability"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed frequency, in bins of equal width.

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
    if not probability.size or bins < 2:
        raise ConfigError(f"calibration needs an event and two bins, got {probability.size} and {bins}")
    if not (np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1):
        raise PixelError("probabilities must be finite and lie in 0..1")
    place = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins).astype(np.float64)
    safe = np.where(counts > 0, counts, np.nan)
    said = np.bincount(place, probability.astype(np.float64), minlength=bins) / safe
    seen = np.bincount(place, happened.astype(np.float64), minlength=bins) / safe
    return Reliability(counts, said, seen)
