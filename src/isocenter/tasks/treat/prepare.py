"""Features as learners take them: no cell empty, long tails drawn in, one scale.

Nothing here looks at treatment or outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError
from isocenter.tasks.treat.packages import needed
from isocenter.tasks.treat.reduce import MANY, Blocks

__all__ = ["Preparation", "fit_preparation"]


@dataclass(frozen=True, eq=False)
class Preparation:
    """Fitted on people, then applied to anyone.

    Args:
        names: Of what comes out.
        filled: What an empty cell is taken as, by column.
        gaps: Columns in which cells were empty: each has a column of its own that says so.
        kept: Columns that are not the same for everyone.
        transform: Power transform to about unit deviation.
        least: Of each column, in its own numbers.
        most: Of each column.
        blocks: Columns of what comes out that belong together.
        many: Columns of what goes in that are of blocks of many.
    """

    names: tuple[str, ...]
    filled: Float[np.ndarray, " p"]
    gaps: tuple[int, ...]
    kept: Bool[np.ndarray, " q"]
    transform: Any
    least: Float[np.ndarray, " p"]
    most: Float[np.ndarray, " p"]
    blocks: Blocks = ()
    many: tuple[int, ...] = ()

    def __call__(self, raw: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n k"]:
        """Return features; NaN in `raw` is an empty cell.

        Raises:
            DataError: Another number of columns.
        """
        if raw.shape[1] != len(self.filled):
            raise DataError(f"{raw.shape[1]} columns, {len(self.filled)} were learnt from")
        return np.asarray(self.transform.transform(_filled(raw, self.filled, self.gaps)[:, self.kept]))

    def outside(self, raw: Float[np.ndarray, "n p"], *, margin: float = 0.1) -> Bool[np.ndarray, "n p"]:
        """Return which numbers nobody learnt from comes near; the transform is bounded and can't tell.

        Args:
            raw: As for a call; an empty cell is not outside.
            margin: Numbers may lie this share of the range beyond its ends.
        """
        # Of a block of many columns some number is always beyond: there components are looked at instead.
        room = margin * (self.most - self.least)
        room[list(self.many)] = np.inf
        return np.asarray((raw < self.least - room) | (raw > self.most + room))


def _filled(
    raw: Float[np.ndarray, "n p"], filled: Float[np.ndarray, " p"], gaps: tuple[int, ...]
) -> Float[np.ndarray, "n q"]:
    empty = ~np.isfinite(raw)
    values = np.where(empty, filled, raw)
    return np.concatenate([values, empty[:, list(gaps)].astype(np.float64)], axis=1)


def fit_preparation(raw: Float[np.ndarray, "n p"], names: Sequence[str], blocks: Blocks = ()) -> Preparation:
    """Learn how features are prepared.

    Args:
        raw: Numbers; NaN is an empty cell. Words are columns of 0 and 1.
        names: Of the columns.
        blocks: Columns that belong together: that a block is missing is said once, not of each of its columns.

    Raises:
        DataError: No column differs between people.
        CapabilityError: scikit-learn is not installed.

    Source:
        Yeo and Johnson, Biometrika 2000.
    """
    if raw.shape[1] != len(names):
        raise DataError(f"{raw.shape[1]} columns, {len(names)} names")
    empty = ~np.isfinite(raw)
    filled = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in raw.T])
    some = empty.any(axis=0) & ~empty.all(axis=0)
    for _, columns in blocks:
        own = list(columns)
        absent = empty[:, own].all(axis=1)
        alike = [i for i in own if (empty[:, i] == absent).all()]
        some[own] = False
        if absent.any() and alike:
            some[alike[0]] = True
    gaps = tuple(int(i) for i in np.flatnonzero(some))
    values = _filled(raw, filled, gaps)
    kept = np.ptp(values, axis=0) > 0
    if not kept.any():
        raise DataError("no feature differs between people")
    of_block = {i: name for name, columns in blocks for i in columns}
    both = [*names, *(f"{of_block.get(i, names[i])}, not stated" for i in gaps)]
    scaled = _Scaled(values[:, kept])
    place = np.cumsum(kept) - 1
    stated = np.where(empty, filled, raw)  # the median lies within: it moves neither end
    return Preparation(
        tuple(n for n, k in zip(both, kept, strict=True) if k), filled, gaps, kept, scaled, stated.min(axis=0),
        stated.max(axis=0), tuple((name, tuple(int(place[i]) for i in columns if kept[i])) for name, columns in blocks),
        tuple(i for _, columns in blocks for i in columns if len(columns) > MANY),
    )  # fmt: skip


class _Scaled:
    """Power transform of what has many values; mean and deviation of what has two."""

    def __init__(self, values: Float[np.ndarray, "n q"]) -> None:
        self._many = np.array([len(np.unique(c)) > 10 for c in values.T])
        preprocessing = needed("sklearn.preprocessing")
        self._power = preprocessing.PowerTransformer() if self._many.any() else None
        if self._power is not None:
            # Columns are scaled first: the transform of large numbers of little spread would round to a constant.
            self._first = preprocessing.StandardScaler().fit(values[:, self._many])
            self._power.fit(self._first.transform(values[:, self._many]))
        few = values[:, ~self._many]
        self._mean, self._spread = few.mean(axis=0), np.where(few.std(axis=0) > 0, few.std(axis=0), 1.0)

    def transform(self, values: Float[np.ndarray, "n q"]) -> Float[np.ndarray, "n q"]:
        out = np.empty(values.shape)
        if self._power is not None:
            out[:, self._many] = self._power.transform(self._first.transform(values[:, self._many]))
        out[:, ~self._many] = (values[:, ~self._many] - self._mean) / self._spread
        return out
