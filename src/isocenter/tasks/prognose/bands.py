"""How far a person's curve could have come out otherwise: models of resampled patients.

The band is of the estimate: how much the curve moves when other patients of the same kind had been learnt from. It is
not where this person's own time will fall. Forests are grown again with a quarter of their trees, and of the networks
of a fusion one is learnt again, which makes their bands a little too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import ndtri

from isocenter.core.errors import ConfigError, DataError, TrainingError
from isocenter.models.covariates import Covariates
from isocenter.tasks.prognose.learners import Learner, Times, Trained, prepared

__all__ = ["Band", "band_around", "refits"]

_LEAST_TREES = 25


@dataclass(frozen=True, eq=False)
class Band:
    """An interval of each point of a curve.

    Args:
        low: Lower ends.
        high: Upper ends.
        level: Coverage asked of each point.
        models: Behind it.
    """

    low: Float[np.ndarray, "n q"]
    high: Float[np.ndarray, "n q"]
    level: float
    models: int


def refits(
    learner: Learner,
    trained: Trained,
    people: Covariates,
    times: Times,
    patients: Sequence[str],
    *,
    count: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Trained, ...]:
    """Fit the model again on resamples of patients, with the settings that were chosen.

    Args:
        learner: What learnt it.
        trained: The model.
        people: What it learnt from.
        times: Their times.
        patients: Of each row: whole patients are drawn.
        count: How many; resamples without an event, or on which nothing comes to rest, are left out.
        seed: Decides them.
        progress: Told the share that is done.

    Raises:
        DataError: Most resamples could not be learnt from.
    """
    index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        drawn = rng.integers(0, len(members), len(members))
        rows: Int64[np.ndarray, " k"] = np.concatenate([members[d] for d in drawn]).astype(np.int64)
        part, ours = people.rows(rows), times.rows(rows)
        if not ours.happened.any():
            continue
        try:
            ready, preparation, x = prepared(learner, part)
            setting = dict(trained.setting)
            if "trees" in setting:
                setting["trees"] = max(_LEAST_TREES, setting["trees"] // 4)
            if "columns" in setting:
                setting["columns"] = min(setting["columns"], x.shape[1])
            if "networks" in setting:
                setting["networks"] = 1
            model = ready.fit(x, ours, setting, seed + 1 + number)
        except TrainingError:
            continue
        found.append(Trained(trained.learner, preparation, model, setting))
        if progress is not None:
            progress((number + 1) / count)
    if len(found) < max(2, count / 2):
        raise DataError("most resamples could not be learnt from: too few events for a band")
    return tuple(found)


def band_around(
    survival: Float[np.ndarray, "n q"], again: Sequence[Float[np.ndarray, "n q"]], *, level: float = 0.9
) -> Band:
    """Return the band of curves: normal on the scale of the arcsine of the root, which is steady also near 0 and 1.

    Args:
        survival: Of the model.
        again: Of the models of resamples.
        level: Coverage asked of each point.

    Raises:
        ConfigError: The level is not between 0 and 1, or fewer than two models.

    Example:
        >>> band = band_around(np.array([[0.5]]), [np.array([[0.45]]), np.array([[0.55]])])
        >>> bool(band.low[0, 0] < 0.5 < band.high[0, 0])
        True
    """
    if not 0 < level < 1 or len(again) < 2:
        raise ConfigError(f"a band needs a level between 0 and 1 and two models, got {level} and {len(again)}")

    def scaled(share: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0, 1))))

    middle = scaled(survival)
    # About the model's own curve, not about the resamples' mean: what they are off by on average widens it too.
    spread = np.sqrt(np.mean([(scaled(one) - middle) ** 2 for one in again], axis=0))
    half = float(ndtri((1 + level) / 2)) * spread
    low, high = (np.sin(np.clip(end, 0, np.pi / 2)) ** 2 for end in (middle - half, middle + half))
    # Curves fall, and so do the ends of their band.
    low = np.minimum.accumulate(np.minimum(low, survival), axis=1)
    high = np.maximum.accumulate(np.maximum(high, survival)[:, ::-1], axis=1)[:, ::-1]
    return Band(low, high, level, len(again))
