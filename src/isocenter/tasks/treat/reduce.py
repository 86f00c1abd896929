"""Blocks of many features as a few principal components, learnt from those who are learnt from and from no others.

A block (the features of a CT, say) may hold hundreds of columns that repeat each other. Whoever learns fits the
components on the people it learns from: inside each fold, so that nobody who is held out is looked at. Neither
treatment nor outcome is looked at.

Source:
    Hotelling, Journal of Educational Psychology 1933.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["MANY", "Blocks", "Reduction", "fit_reduction"]

Blocks = tuple[tuple[str, tuple[int, ...]], ...]
"""Of each block its name and the places of its columns."""
MANY = 8
"""A block of more columns is reduced, to this many components at most."""
_SHARE = 0.95


@dataclass(frozen=True, eq=False)
class _Part:
    name: str
    columns: tuple[int, ...]
    centre: Float[np.ndarray, " p"]
    axes: Float[np.ndarray, "p k"]


@dataclass(frozen=True, eq=False)
class Reduction:
    """Fitted on people, then applied to anyone.

    Args:
        rest: Places of columns that stay as they are; they come first.
        parts: Of each block that is reduced.
    """

    rest: tuple[int, ...]
    parts: tuple[_Part, ...]

    def __call__(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n k"]:
        """Return columns that stay, then components of about unit deviation."""
        if not self.parts:
            return features
        made = [(features[:, part.columns] - part.centre) @ part.axes for part in self.parts]
        return np.concatenate([features[:, self.rest], *made], axis=1)

    def names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what the columns are called."""
        if not self.parts:
            return tuple(names)
        told = [f"{part.name}, component {n}" for part in self.parts for n in range(1, part.axes.shape[1] + 1)]
        return (*(names[i] for i in self.rest), *told)

    def in_own_numbers(
        self, raw: Float[np.ndarray, "n p"], features: Float[np.ndarray, "n p"]
    ) -> Float[np.ndarray, "n k"]:
        """Return columns that stay in the table's own numbers; a component has none but itself."""
        if not self.parts:
            return raw
        return np.concatenate([raw[:, self.rest], self(features)[:, len(self.rest) :]], axis=1)


def fit_reduction(features: Float[np.ndarray, "n p"], blocks: Blocks) -> Reduction:
    """Learn the components of blocks that have more than eight columns.

    Args:
        features: Of those who are learnt from.
        blocks: Which columns belong together.

    Returns:
        What keeps 95 % of the variance of each block, and at most eight components; the identity without such a block.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> two = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 12))
        >>> fit_reduction(two, (("ct", tuple(range(12))),))(two).shape
        (50, 2)
    """
    parts = []
    for name, columns in blocks:
        if len(columns) <= MANY:
            continue
        own = features[:, columns]
        centre = own.mean(axis=0)
        _, spread, axes = np.linalg.svd(own - centre, full_matrices=False)
        share = np.cumsum(spread**2) / max(float((spread**2).sum()), np.finfo(float).tiny)
        count = min(MANY, int(np.searchsorted(share, _SHARE)) + 1, int((spread > 1e-9 * max(spread[0], 1e-300)).sum()))
        if count < 1:
            continue
        # The sign of a component is chance: the largest weight is made positive, so that a rerun tells the same.
        kept = axes[:count]
        signs = np.sign(kept[np.arange(count), np.abs(kept).argmax(axis=1)])
        deviations = spread[:count] / np.sqrt(len(own))
        parts.append(_Part(name, columns, centre, np.asarray((kept * (signs / deviations)[:, None]).T)))
    taken = {column for part in parts for column in part.columns}
    return Reduction(tuple(i for i in range(features.shape[1]) if i not in taken), tuple(parts))
