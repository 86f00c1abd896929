"""Whether those who got a treatment and those who did not can be compared."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError

__all__ = ["effective_sample_size", "inverse_weights", "standardised_differences"]


def standardised_differences(
    features: Float[np.ndarray, "n p"], treated: Bool[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, " p"]:
    """Return the difference of means between the two groups in deviations, feature by feature.

    Args:
        features: Finite.
        treated: Who got the treatment.
        weights: Of each person in the means; None for one each. Deviations are always those without weights, so that
            differences before and after weighting are on one scale.

    Returns:
        0 where the groups agree; 0.1 and less is usually called balanced. 0 for a feature without spread.

    Raises:
        DataError: A group is empty, or lengths differ.

    Source:
        Austin, Statistics in Medicine 2009; Austin and Stuart, Statistics in Medicine 2015.

    Example:
        >>> treated = np.array([True, True, False, False])
        >>> standardised_differences(np.array([[1.0], [3.0], [0.0], [2.0]]), treated).round(3).tolist()
        [0.707]
    """
    _check_groups(treated, len(features))
    weights = np.ones(len(features)) if weights is None else weights
    one, none = features[treated], features[~treated]
    means = np.average(one, axis=0, weights=weights[treated]) - np.average(none, axis=0, weights=weights[~treated])
    spread = np.sqrt((_variance(one) + _variance(none)) / 2)
    return np.asarray(np.where(spread > 0, means / np.where(spread > 0, spread, 1.0), 0.0))


def _variance(values: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " p"]:
    return np.asarray(values.var(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1]))


def _check_groups(treated: Bool[np.ndarray, " n"], count: int) -> None:
    if len(treated) != count:
        raise DataError(f"{count} people, treatment of {len(treated)}")
    if treated.all() or not treated.any():
        raise DataError("everyone got the same option: nothing can be compared")


def inverse_weights(
    propensity: Float[np.ndarray, " n"], treated: Bool[np.ndarray, " n"], *, floor: float = 1e-3
) -> Float[np.ndarray, " n"]:
    """Return one over the chance of the option that each person got, with mean 1 within each group.

    Args:
        propensity: Chance of the treatment.
        treated: Who got it.
        floor: Chances below are taken as this.

    Source:
        Hajek 1971; Rosenbaum, JASA 1987.
    """
    chance = np.clip(np.where(treated, propensity, 1 - propensity), floor, 1.0)
    weights = 1 / chance
    for group in (treated, ~treated):
        if group.any():
            weights[group] /= weights[group].mean()
    return np.asarray(weights)


def effective_sample_size(weights: Float[np.ndarray, " n"]) -> float:
    """Return how many people of equal weight would tell as much (Kish).

    Example:
        >>> effective_sample_size(np.array([1.0, 1.0, 1.0])), round(effective_sample_size(np.array([9.0, 1.0, 1.0])), 2)
        (3.0, 1.46)
    """
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square else 0.0
