"""The Dice that a mask can be expected to have, from numbers of the answer itself: failure detection.

A ridge regression of the true Dice on a few numbers of the answer (how sharp it is, how far views of the image
disagree, how it is shaped, how strange the image is), then a function that never falls, so that its output is a Dice.
It is fitted on held-out cases **and on spoilt copies of them** (noise, blur, contrast): on clean cases alone there are
no failures to learn from, and the expectation would not hold on images of a poorer scanner.

The interval comes from the errors of rules that were fitted without the patient, within bins of equal expectation. It
is conformal within a bin as far as cases are exchangeable; copies of one patient resemble each other, so it is
approximate.

Source:
    Jungo et al., Frontiers in Neuroscience 2020, and Zenk et al., Medical Image Analysis 2025 (what failure detection
    for segmentation should be measured by); Hoerl and Kennard, Technometrics 1970 (ridge); Vovk et al. 2005 (Mondrian).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from
from isocenter.safety.quantiles import check_level, least_cases, lower_quantile, unit_of, upper_quantile

__all__ = ["LEAST_PATIENTS", "ExpectedQuality", "QualityRule", "fit_quality"]

LEAST_PATIENTS = 20
"""Fewer patients than this promise nothing (a convention of ours)."""
_RIDGE, _FOLDS, _MOST_BINS = 0.01, 5, 6
_FARTHEST = 6.0


@dataclass(frozen=True)
class ExpectedQuality:
    """What an answer is expected to be worth.

    Args:
        value: Expected Dice.
        low: Lower end of its interval.
        high: Upper end.
        level: Coverage asked of the interval.
    """

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class QualityRule:
    """A fitted rule; JSON-ready with `as_card`.

    Args:
        names: Of the numbers, in their order.
        centre: Median of each number.
        spread: Deviation of each number.
        weights: Of the line, one for each number, and for how far each lies below and above its usual range.
        index: Values of the line, rising.
        dice: Expected Dice there, never falling.
        edges: Between bins of expected Dice.
        below: For each bin, the error that is rarely undercut (not positive).
        above: For each bin, the error that is rarely exceeded.
        level: Coverage asked of the interval.
        patients: Behind it.
        cases: Images behind it, spoilt copies too.
        correlation: Of expected and true Dice, on patients that a rule was fitted without.
        error: Mean absolute error there.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    index: tuple[float, ...]
    dice: tuple[float, ...]
    edges: tuple[float, ...] = ()
    below: tuple[float, ...] = (-1.0,)
    above: tuple[float, ...] = (1.0,)
    level: float = 0.9
    patients: int = 0
    cases: int = 0
    correlation: float = math.nan
    error: float = math.nan

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> QualityRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown, or lists don't belong together.
        """
        made = rule_from(cls, values, "a rule of expected quality")
        count, bins = len(made.names), len(made.edges) + 1
        lengths = {len(made.centre), len(made.spread), len(made.weights) // 3}
        if (
            lengths != {count}
            or len(made.below) != bins
            or len(made.above) != bins
            or len(made.index) != len(made.dice)
        ):
            raise ConfigError("this is not a rule of expected quality: its lists do not belong together")
        return made

    def expect(self, numbers: Mapping[str, float]) -> ExpectedQuality:
        """Return what an answer is expected to be worth.

        Args:
            numbers: Of the answer, by name.

        Raises:
            DataError: A number is missing or not finite.
        """
        missing = [name for name in self.names if not math.isfinite(numbers.get(name, math.nan))]
        if missing:
            raise DataError(f"the expected quality needs a finite number of {missing[0]!r}")
        value = float(self.dice_of(np.array([[numbers[name] for name in self.names]]))[0])
        number = int(np.searchsorted(np.array(self.edges), value))
        low, high = value + self.below[number], value + self.above[number]
        return ExpectedQuality(value, min(max(low, 0.0), value), max(min(high, 1.0), value), self.level)

    def dice_of(self, table: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Return the expected Dice of many answers, one row each."""
        return np.asarray(np.interp(self._line(table), self.index, self.dice))

    def _line(self, table: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return np.asarray(_columns(table, np.array(self.centre), np.array(self.spread)) @ np.array(self.weights))


def _columns(
    table: Float[np.ndarray, "n d"], centre: Float[np.ndarray, " d"], spread: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "n e"]:
    z = np.clip((table - centre) / spread, -_FARTHEST, _FARTHEST)
    return np.concatenate([z, np.minimum(z + 1, 0), np.maximum(z - 1, 0)], axis=1)


def _fitted(table: Float[np.ndarray, "n d"], dice: Float[np.ndarray, " n"], names: Sequence[str]) -> QualityRule:
    centre = np.median(table, axis=0)
    spread = 1.4826 * np.median(np.abs(table - centre), axis=0)
    spread = np.where(spread > 1e-9, spread, np.maximum(table.std(axis=0), 1e-9))
    x = _columns(table, centre, spread)
    middle = x.mean(axis=0)
    apart = x - middle
    penalty = _RIDGE * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(apart.T @ apart + penalty, apart.T @ (dice - dice.mean()))
    line = x @ weights
    order = np.argsort(line, kind="stable")
    steps = np.clip(isotonic_regression(dice[order]).x, 0, 1)
    # The middle of each step: between them the expectation rises along a straight line instead of jumping.
    ends = np.flatnonzero(np.append(np.diff(steps) != 0, True))
    starts = np.append(0, ends[:-1] + 1)
    index = np.array([line[order][a : b + 1].mean() for a, b in zip(starts, ends, strict=True)])
    return QualityRule(
        tuple(names), _listed(centre), _listed(spread), _listed(weights), _listed(index), _listed(steps[ends])
    )


def _listed(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _folds(patients: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Deal patients to folds by their names' hashes in turn."""
    names = sorted(set(patients), key=lambda p: unit_of(f"fold {p}"))
    place = {name: number % _FOLDS for number, name in enumerate(names)}
    return np.array([place[p] for p in patients], dtype=np.int64)


def fit_quality(
    table: Float[np.ndarray, "n d"],
    dice: Float[np.ndarray, " n"],
    patients: Sequence[str],
    names: Sequence[str],
    *,
    level: float = 0.9,
) -> QualityRule:
    """Fit the expected Dice.

    Args:
        table: Numbers of each answer, of held-out cases and of spoilt copies of them.
        dice: True Dice of each.
        patients: Whose each is.
        names: Of the numbers.
        level: Coverage asked of the interval.

    Raises:
        ConfigError: The level is not between 0 and 1.
        DataError: Too few patients or cases, lengths that differ, a number that is not finite, or a Dice outside 0..1.
    """
    check_level(level)
    if len(patients) != len(table) or table.shape[1] != len(names):
        raise DataError(f"{len(patients)} patients and {len(names)} names for a table of shape {table.shape}")
    if not np.isfinite(table).all() or not np.isfinite(dice).all() or dice.min() < 0 or dice.max() > 1:
        raise DataError("numbers of answers must be finite, and a Dice lies in 0..1")
    count, least = len(set(patients)), least_cases((1 + level) / 2)
    if count < LEAST_PATIENTS or len(table) < least:
        raise DataError(
            f"{len(table)} answers of {count} patients are too few for an expected Dice; at least {least} of "
            f"{LEAST_PATIENTS} patients are needed"
        )
    fold, out = _folds(patients), np.empty(len(dice))
    for number in range(_FOLDS):
        rest, mine = fold != number, fold == number
        out[mine] = _fitted(table[rest], dice[rest], names).dice_of(table[mine])
    gaps = dice - out
    bins = max(1, min(_MOST_BINS, len(table) // (2 * least)))
    edges = np.unique(np.quantile(out, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, out)
    if min(np.bincount(place, minlength=len(edges) + 1)) < least:  # many equal expectations
        edges, place = np.zeros(0), np.zeros(len(out), dtype=np.int64)
    side = (1 + level) / 2
    limits = [
        (lower_quantile(gaps[place == b], side), upper_quantile(gaps[place == b], side)) for b in range(len(edges) + 1)
    ]
    varied = min(float(out.std()), float(dice.std())) > 1e-9
    return replace(
        _fitted(table, dice, names),
        edges=_listed(edges),
        below=tuple(min(0.0, low) for low, _ in limits),
        above=tuple(max(0.0, high) for _, high in limits),
        level=level,
        patients=count,
        cases=len(table),
        correlation=float(np.corrcoef(out, dice)[0, 1]) if varied else 0.0,
        error=float(np.abs(gaps).mean()),
    )
