"""A threshold on probabilities that bounds the share of a structure that a mask misses.

A mask of all voxels above one half promises nothing. Lower thresholds give larger masks that miss less. On held-out
cases the highest threshold is chosen at which the expected missed share (the false-negative rate: volume of the
structure outside the mask, over its volume) of a further case is at most `most_missed`: conformal risk control, whose
correction for n cases counts one further case that misses everything.

The promise is of the mean over images, not of each, and for images exchangeable with the calibration cases.

Source:
    Angelopoulos, Bates, Fisch, Lei, Schuster, Conformal Risk Control, ICLR 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError, GeometryError
from isocenter.safety.card import rule_from

__all__ = ["THRESHOLDS", "MaskRule", "fit_mask_threshold", "missed_shares"]

THRESHOLDS = tuple(round(0.01 * number, 2) for number in range(1, 100))
"""Thresholds that are looked at, rising."""


@dataclass(frozen=True)
class MaskRule:
    """A fitted threshold; JSON-ready with `as_card`.

    Args:
        threshold: Voxels of this probability or more are in the mask.
        most_missed: The expected missed share is at most this.
        mean_missed: Mean missed share of the calibration cases.
        cases: Calibration cases behind it.
    """

    threshold: float
    most_missed: float
    mean_missed: float
    cases: int

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> MaskRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        return rule_from(cls, values, "a threshold of masks")

    def mask(self, probability: Float[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
        """Return the mask."""
        return np.asarray(probability >= self.threshold)


def missed_shares(
    probability: Float[np.ndarray, "*space"], reference: Bool[np.ndarray, "*space"]
) -> Float[np.ndarray, " thresholds"]:
    """Return the share of a structure outside the mask, at each of `THRESHOLDS`.

    Args:
        probability: Of the structure, voxel by voxel.
        reference: Where it is.

    Returns:
        Shares that never fall from one threshold to the next; all 0 where there is no structure to miss.

    Raises:
        GeometryError: The grids differ.
        DataError: Not probabilities.

    Example:
        >>> shares = missed_shares(np.array([0.2, 0.6, 0.9]), np.array([False, True, True]))
        >>> float(shares[THRESHOLDS.index(0.5)]), float(shares[THRESHOLDS.index(0.7)])
        (0.0, 0.5)
    """
    if probability.shape != reference.shape:
        raise GeometryError(f"the grids differ: {probability.shape} and {reference.shape}")
    inside = probability[reference].astype(np.float64)
    if not np.isfinite(probability).all() or (probability.size and (probability.min() < 0 or probability.max() > 1)):
        raise DataError("probabilities must be finite and lie in 0..1")
    if not inside.size:
        return np.zeros(len(THRESHOLDS))
    return np.asarray(np.searchsorted(np.sort(inside), np.array(THRESHOLDS), side="left") / inside.size)


def fit_mask_threshold(missed: Float[np.ndarray, "n thresholds"], *, most_missed: float = 0.1) -> MaskRule:
    """Choose the highest threshold whose expected missed share is bounded.

    Args:
        missed: Of each held-out case, from `missed_shares`.
        most_missed: The bound.

    Raises:
        ConfigError: The bound is not between 0 and 1.
        DataError: Too few cases for the bound, or even the lowest threshold misses too much.

    Example:
        >>> missed = np.tile(np.array(THRESHOLDS) / 2, (99, 1))
        >>> fit_mask_threshold(missed, most_missed=0.1).threshold
        0.18
    """
    if not 0 < most_missed < 1:
        raise ConfigError(f"the bound of the missed share must lie between 0 and 1, got {most_missed:g}")
    if missed.shape[1:] != (len(THRESHOLDS),):
        raise DataError(f"shares at {len(THRESHOLDS)} thresholds are needed, got shape {missed.shape}")
    count, least = len(missed), math.ceil(round(1 / most_missed - 1, 9))
    if count < least:
        raise DataError(
            f"{count} cases are too few to bound the missed share by {most_missed:.0%}; at least {least} are needed"
        )
    if not np.isfinite(missed).all() or missed.min() < 0 or missed.max() > 1:
        raise DataError("missed shares must be finite and lie in 0..1")
    mean = np.maximum.accumulate(missed.mean(axis=0))
    bound = (count * mean + 1) / (count + 1)
    allowed = np.flatnonzero(bound <= most_missed + 1e-12)
    if not len(allowed):
        raise DataError(
            f"even at a threshold of {THRESHOLDS[0]} the expected missed share is {bound[0]:.0%}, more than "
            f"{most_missed:.0%}: the network does not see the structure in some cases; allow more"
        )
    chosen = int(allowed[-1])
    return MaskRule(THRESHOLDS[chosen], most_missed, float(mean[chosen]), count)
