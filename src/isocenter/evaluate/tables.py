"""What figures on tables of answers have in common: columns that fit, true probabilities, undefined figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from isocenter.core.errors import DataError

__all__ = ["check_both_classes", "check_classes", "check_probabilities", "check_same_length", "check_yes_no", "or_nan"]


def check_same_length(*columns: Shaped[np.ndarray, "..."]) -> None:
    """Refuse columns that do not belong together, are empty, or hold a value that is not finite.

    Raises:
        DataError: One of these.
    """
    lengths = [len(c) for c in columns]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise DataError(f"one answer for each case is needed, got {' and '.join(str(n) for n in lengths)}")
    for column in columns:
        if not np.isfinite(column).all():
            row = int(np.argwhere(~np.isfinite(column))[0][0])
            raise DataError(f"row {row} holds a value that is not finite; leave the case out and say so")


def check_probabilities(probability: Float[np.ndarray, "..."]) -> None:
    """Refuse what is no probability, or rows of several classes that do not add up to one.

    Raises:
        DataError: One of these.
    """
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise DataError(f"probabilities must lie in 0..1, got {probability.min():.4g}..{probability.max():.4g}")
    if probability.ndim == 2:
        away = np.abs(probability.sum(axis=1) - 1)
        if away.max() > 1e-3:
            raise DataError(
                f"the probabilities of row {int(away.argmax())} do not add up to 1; apply the softmax first"
            )


def check_yes_no(truth: Shaped[np.ndarray, "..."]) -> None:
    """Refuse a truth that is not bool: numbers there mean that truth and scores were swapped, or not compared yet.

    Raises:
        DataError: It is not bool.
    """
    if truth.dtype != np.bool_:
        raise DataError(
            f"the truth comes first and must be bool, got {truth.dtype}; compare it with the class asked for"
        )


def check_both_classes(truth: Bool[np.ndarray, " n"]) -> None:
    """Refuse cases of one kind alone.

    Raises:
        DataError: All have it or none has.
    """
    count = int(truth.sum())
    if count in (0, len(truth)):
        raise DataError(f"{count} of {len(truth)} have it: both kinds are needed to tell them apart")


def check_classes(numbers: Int[np.ndarray, " n"], classes: int) -> None:
    """Refuse numbers of classes that there are not.

    Raises:
        DataError: A number below 0, or not below the number of classes.
    """
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < classes):
        raise DataError(f"classes must lie in 0..{classes - 1}, got {numbers.min()}..{numbers.max()}")


def or_nan(figure: Callable[..., float]) -> Callable[..., float]:
    """Return a figure that is NaN where it is not defined, as `bootstrap_statistic` wants it.

    Call the figure itself on all cases first: bad input is then refused with its reason, and not turned into NaN here.

    Args:
        figure: Raises DataError where it is not defined.

    Example:
        >>> from isocenter.evaluate.separation import area_under_roc
        >>> or_nan(area_under_roc)(np.array([True, True]), np.array([0.1, 0.2]))
        nan
    """

    def defined(*args: object, **kwargs: object) -> float:
        try:
            return figure(*args, **kwargs)
        except DataError:
            return float("nan")

    return defined
