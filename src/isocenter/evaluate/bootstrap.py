"""Confidence intervals by resampling patients, not images.

Images of one patient resemble each other; resampling them one by one would promise more than the data hold. So a
resample draws whole patients, with all their images, and the statistic is the mean over the images drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from isocenter.core.errors import DataError

__all__ = ["LEAST_PATIENTS", "Interval", "bootstrap_mean"]

LEAST_PATIENTS = 10
"""With fewer patients an interval is refused: its coverage could not be trusted."""


@dataclass(frozen=True)
class Interval:
    """A mean and its interval.

    Args:
        value: The mean over all images.
        low: Lower end.
        high: Upper end.
        level: Coverage asked.
        patients: Patients resampled.
        images: Images behind the mean.
        method: "bca" or "percentile".
    """

    value: float
    low: float
    high: float
    level: float
    patients: int
    images: int
    method: str


def bootstrap_mean(
    values: Sequence[float] | Float[np.ndarray, "n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """Return the mean of per-image values with an interval over patients.

    Args:
        values: One value per image.
        patients: The patient of each image, any label.
        level: Coverage asked of the interval.
        resamples: How many resamples.
        seed: Decides them.
        method: Bias-corrected and accelerated, or plain percentiles. BCa falls back to nothing: where all resamples
            are equal, the interval is that one value under either method.

    Raises:
        DataError: Fewer than 10 patients, lengths that differ, or a value that is not finite.

    Source:
        Efron, JASA 1987 (BCa); Davison and Hinkley 1997, section 3.8 (resampling clusters).

    Example:
        >>> bootstrap_mean([0.5] * 10, list("abcdefghij")).low
        0.5
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) != len(patients):
        raise DataError(f"{len(array)} values for {len(patients)} patient labels")
    if not np.isfinite(array).all():
        raise DataError("an interval of the mean needs finite values; report the share that is not finite beside it")
    if not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1, got {level}")
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    count = len(names)
    if count < LEAST_PATIENTS:
        raise DataError(f"{count} patients are too few for an interval; at least {LEAST_PATIENTS} are needed")
    sums, sizes = np.bincount(index, array, count), np.bincount(index, minlength=count).astype(np.float64)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    means = np.sort(weights @ sums / (weights @ sizes))
    mean = float(sums.sum() / sizes.sum())
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca" and means[0] < means[-1]:
        leave_one_out = (sums.sum() - sums) / (sizes.sum() - sizes)
        tails = _bca_tails(tails, means, mean, leave_one_out)
    low, high = np.quantile(means, tails)
    return Interval(mean, float(low), float(high), level, count, len(array), method)


def _bca_tails(
    tails: Float[np.ndarray, "2"], means: Float[np.ndarray, "b"], mean: float, leave_one_out: Float[np.ndarray, "p"]
) -> Float[np.ndarray, "2"]:
    """Move the two tail probabilities by bias and acceleration."""
    # Ties count half, or a discrete statistic would look biased; kept off 0 and 1, where the normal score is infinite.
    below = (float((means < mean).sum()) + 0.5 * float((means == mean).sum())) / len(means)
    bias = float(ndtri(np.clip(below, 1 / (2 * len(means)), 1 - 1 / (2 * len(means)))))
    spread = leave_one_out.mean() - leave_one_out
    square = float((spread**2).sum())
    acceleration = float((spread**3).sum()) / (6 * square**1.5) if square > 0 else 0.0
    score = bias + ndtri(tails)
    moved: Float[np.ndarray, "2"] = ndtr(bias + score / (1 - acceleration * score))
    return moved
