"""How hard an image is for a network, so that an interval can be wide where it is unsure and narrow where it is not.

A ridge regression of the logarithm of the gap between answer and truth on a few numbers of the answer (how far views of
the image disagree, how strange the image is, how large the answer is). Difficulty 1 is that of a usual image; it stays
between a quarter and four.

The cases that learn the difficulty, and decide whether intervals by it are narrower on average than those of one width,
do not calibrate the interval: so the promise of the interval (`safety.intervals`) holds as exactly as without it,
however poor the difficulty is.

Source:
    Lei et al., JASA 2018, section 5.2 (the gap divided by a learnt spread); Papadopoulos, Gammerman, Vovk, JAIR 2011
    (its logarithm as what is learnt).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from
from isocenter.safety.quantiles import check_level, lower_quantile, unit_of, upper_quantile

__all__ = ["LEAST_CASES", "DifficultyRule", "choose_difficulty", "chooses", "fit_difficulty"]

LEAST_CASES = 30
"""Of those that choose, and of those that calibrate (a convention of ours); with fewer, one width is for all."""
_SHARE, _FOLDS, _RIDGE = 1 / 3, 5, 0.1
_FARTHEST, _RANGE = 3.0, math.log(4)


@dataclass(frozen=True)
class DifficultyRule:
    """A learnt difficulty; JSON-ready with `as_card`.

    Args:
        names: Of the numbers, in their order.
        centre: Median of each number.
        spread: Deviation of each number.
        weights: Of the logarithm of the difficulty, one for each number in deviations.
        cases: That it was learnt on.

    Raises:
        ConfigError: The lists do not belong together.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    cases: int

    def __post_init__(self) -> None:
        if not self.names or {len(self.centre), len(self.spread), len(self.weights)} != {len(self.names)}:
            raise ConfigError("this is not a rule of difficulty: its lists do not belong together")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> DifficultyRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown, or lists don't belong together.
        """
        return rule_from(cls, values, "a rule of difficulty")

    def of(self, numbers: Mapping[str, float]) -> float:
        """Return the difficulty of one image: 1 is usual.

        Args:
            numbers: Of the answer, by name; others are not looked at.

        Raises:
            DataError: A number is missing or not finite.

        Example:
            >>> rule = DifficultyRule(("doubt",), (0.5,), (0.1,), (0.7,), 40)
            >>> round(rule.of({"doubt": 0.5}), 3), round(rule.of({"doubt": 0.6}), 3), round(rule.of({"doubt": 9}), 3)
            (1.0, 2.014, 4.0)
        """
        missing = [name for name in self.names if not math.isfinite(numbers.get(name, math.nan))]
        if missing:
            raise DataError(f"the difficulty of an image needs a finite number of {missing[0]!r}")
        return float(self.of_table(np.array([[float(numbers[name]) for name in self.names]]))[0])

    def of_table(self, table: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Return the difficulty of many images, one row each."""
        z = np.clip((table - np.array(self.centre)) / np.array(self.spread), -_FARTHEST, _FARTHEST)
        return np.asarray(np.exp(np.clip(z @ np.array(self.weights), -_RANGE, _RANGE)))


def fit_difficulty(
    table: Float[np.ndarray, "n d"], gaps: Float[np.ndarray, " n"], names: Sequence[str]
) -> DifficultyRule:
    """Learn the difficulty.

    Args:
        table: Numbers of each answer, of held-out cases.
        gaps: How far each answer was off, not negative.
        names: Of the numbers.

    Raises:
        DataError: No case, lengths that differ, or a number that is not finite.
    """
    if not len(table) or table.shape != (len(gaps), len(names)):
        raise DataError(f"{len(gaps)} gaps and {len(names)} names for a table of shape {table.shape}")
    if not np.isfinite(table).all() or not np.isfinite(gaps).all() or gaps.min() < 0:
        raise DataError("numbers of answers and gaps must be finite, and gaps not negative")
    centre = np.median(table, axis=0)
    spread = 1.4826 * np.median(np.abs(table - centre), axis=0)
    spread = np.where(spread > 1e-9, spread, np.maximum(table.std(axis=0), 1e-9))
    z = np.clip((table - centre) / spread, -_FARTHEST, _FARTHEST)
    # A lucky hit is no easy image: the logarithm of a gap near 0 would say so.
    log = np.log(gaps + max(0.2 * float(np.median(gaps)), 1e-12))
    apart = z - z.mean(axis=0)
    penalty = _RIDGE * len(z) * np.eye(z.shape[1])
    weights = np.linalg.solve(apart.T @ apart + penalty, apart.T @ (log - log.mean()))
    return DifficultyRule(tuple(names), _listed(centre), _listed(spread), _listed(weights), len(table))


def _listed(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def chooses(patients: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Return which cases learn the difficulty and choose; the others calibrate. By the patient's hash alone.

    Example:
        >>> bool(chooses(["a", "b", "a"])[0] == chooses(["a"])[0])
        True
    """
    return np.array([unit_of(f"difficulty {patient}") < _SHARE for patient in patients], dtype=bool)


def choose_difficulty(
    gaps: Float[np.ndarray, " n"],
    units: Float[np.ndarray, " n"],
    table: Float[np.ndarray, "n d"],
    names: Sequence[str],
    patients: Sequence[str],
    *,
    level: float = 0.9,
    sided: bool = False,
) -> DifficultyRule | None:
    """Return the difficulty by which intervals are narrower than those of one width, or None where none is.

    Each patient's difficulty is judged by a rule that was learnt without the patient.

    Args:
        gaps: True number minus answer, of the cases that choose (`chooses`), none of which calibrates.
        units: What the interval's width is in proportion to anyway: 1, or the answer for volumes.
        table: Numbers of each answer.
        names: Of the numbers.
        patients: Whose each is.
        level: Coverage at which widths are compared.
        sided: Whether both ends are fitted, each on its own; else one half-width.

    Raises:
        ConfigError: The level is not between 0 and 1.
        DataError: Lengths that differ, or a number that is not finite.
    """
    check_level(level)
    if len(gaps) < LEAST_CASES or not names:
        return None
    order = sorted(set(patients), key=lambda p: unit_of(f"fold {p}"))
    place = {patient: number % _FOLDS for number, patient in enumerate(order)}
    fold = np.array([place[p] for p in patients])
    found = np.ones(len(gaps))
    relative = np.abs(gaps) / units
    for number in range(_FOLDS):
        rest, mine = fold != number, fold == number
        if mine.any() and rest.any():
            found[mine] = fit_difficulty(table[rest], relative[rest], names).of_table(table[mine])
    by_difficulty, by_one = (_width(gaps, units * d, level, sided=sided) for d in (found, np.ones(len(gaps))))
    return fit_difficulty(table, relative, names) if by_difficulty < by_one else None


def _width(gaps: Float[np.ndarray, " n"], spread: Float[np.ndarray, " n"], level: float, *, sided: bool) -> float:
    """Return the mean width of intervals that hold these very cases as often as the level says."""
    scores = gaps / spread
    if not sided:
        return 2 * upper_quantile(np.abs(scores), level) * float(spread.mean())
    side = (1 + level) / 2
    return (upper_quantile(scores, side) - lower_quantile(scores, side)) * float(spread.mean())
