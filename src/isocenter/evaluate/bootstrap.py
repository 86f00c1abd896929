"""Confidence intervals by resampling patients, not images.

Images of one patient resemble each other; resampling them one by one would promise more than the data hold. So a
resample draws whole patients, with all their images, and the statistic is the mean over the images drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import ndtr, ndtri

from isocenter.core.errors import DataError

__all__ = [
    "LEAST_PATIENTS",
    "Draws",
    "Interval",
    "bootstrap_draws",
    "bootstrap_mean",
    "bootstrap_statistic",
    "refuse_few",
]

LEAST_PATIENTS = 10
"""With fewer patients an interval is refused: its coverage could not be trusted."""

_MOST_LEFT_OUT = 2000
"""With more patients, leaving out each once costs more than what BCa would mend."""


@dataclass(frozen=True)
class Interval:
    """A mean, or another statistic, and its interval.

    Args:
        value: The mean (the statistic) over all images.
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
    refuse_few(count)
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


@dataclass(frozen=True, eq=False)
class Draws:
    """A figure on resampled patients.

    Args:
        value: The figure on all images.
        found: The figure on each resample where it is defined, sorted.
        interval: From them.
    """

    value: float
    found: Float[np.ndarray, " b"]
    interval: Interval

    @property
    def p_zero(self) -> float:
        """Two-sided bootstrap p of the figure being zero: twice the smaller tail beyond it, one resample added."""
        count = len(self.found)
        below, above = int((self.found <= 0).sum()), int((self.found >= 0).sum())
        return min(1.0, 2 * (min(below, above) + 1) / (count + 1))


def refuse_few(count: int) -> None:
    """Refuse an interval over fewer than 10 patients.

    Raises:
        DataError: So few.
    """
    if count < LEAST_PATIENTS:
        raise DataError(f"{count} patients are too few for an interval; at least {LEAST_PATIENTS} are needed")


def bootstrap_statistic(
    statistic: Callable[[Int64[np.ndarray, " n"]], float],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    method: Literal["bca", "percentile"] = "percentile",
) -> Interval:
    """Return any statistic of images with an interval over patients.

    Args:
        statistic: From the indices of images (some more than once) to the figure; NaN where it is not defined for them,
            as an AUROC is not without both classes: such resamples are left out.
        patients: The patient of each image, any label.
        level: Coverage asked of the interval.
        resamples: How many resamples.
        seed: Decides them.
        method: "bca" leaves each patient out once more to find the acceleration; with more than 2000 patients, or
            where the figure is not defined without one of them, percentiles are taken and the interval says so.

    Raises:
        DataError: Fewer than 10 patients, the figure is not defined on all images, or on most resamples it is not.

    Source:
        Davison and Hinkley 1997, section 3.8 (resampling clusters); Efron, JASA 1987 (BCa).

    Example:
        >>> values = np.arange(12.0)
        >>> bootstrap_statistic(lambda i: float(np.median(values[i])), list("abcdefghijkl"), method="bca").value
        5.5
    """
    return bootstrap_draws(
        statistic, patients, level=level, resamples=resamples, seed=seed, method=method
    ).interval  # fmt: skip


def bootstrap_draws(
    statistic: Callable[[Int64[np.ndarray, " n"]], float],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    method: Literal["bca", "percentile"] = "percentile",
) -> Draws:
    """Return what `bootstrap_statistic` does, with the resamples' figures; see there."""
    if not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1, got {level}")
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    refuse_few(len(names))
    value = float(statistic(np.arange(len(index), dtype=np.int64)))
    if not np.isfinite(value):
        raise DataError("the figure is not defined on these images")
    order = np.argsort(index, kind="stable")
    ends = np.cumsum(np.bincount(index, minlength=len(names)))
    members = np.split(order, ends[:-1])
    rng = np.random.default_rng(seed)
    single = all(len(m) == 1 for m in members)
    found = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(names), len(names))
        images = order[drawn] if single else np.concatenate([members[d] for d in drawn])
        found.append(float(statistic(images.astype(np.int64))))
    known = np.sort([f for f in found if np.isfinite(f)])
    if len(known) < 0.5 * resamples:
        raise DataError("the figure is not defined on most resamples: too few images of one class")
    tails, used = np.array([(1 - level) / 2, (1 + level) / 2]), "percentile"
    if method == "bca" and known[0] < known[-1] and len(names) <= _MOST_LEFT_OUT:
        everyone = np.arange(len(index), dtype=np.int64)
        left_out = np.array([float(statistic(everyone[index != n])) for n in range(len(names))])
        if np.isfinite(left_out).all():
            tails, used = _bca_tails(tails, known, value, left_out), "bca"
    elif method == "bca" and known[0] == known[-1]:
        used = "bca"  # one value under either method
    low, high = np.quantile(known, tails)
    return Draws(value, known, Interval(value, float(low), float(high), level, len(names), len(index), used))


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
