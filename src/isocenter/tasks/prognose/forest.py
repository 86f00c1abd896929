"""A random survival forest whose trees all grow at once, level by level, in numpy.

A node is split where the log-rank statistic of its two parts is largest. With the node's own Nelson-Aalen curve, the
numerator of that statistic is a sum over one part of martingale residuals (event minus cumulative hazard), and with the
variance over permutations the best cut of a column is found by one cumulative sum over people in order of its values;
so all nodes of all trees of a level are one sort. A leaf keeps its Kaplan-Meier curve; a forest's curve is the mean.

Source:
    Ishwaran et al., Annals of Applied Statistics 2008 (forest, mortality); Hothorn and Lausen, CSDA 2003 (log-rank
    scores and their permutation variance).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import ConfigError, DataError

__all__ = ["Forest", "ForestSettings", "fit_forest"]

_MOST_CUTS, _MOST_DAYS = 255, 256
_BATCH = 150_000
"""People (over all trees) that grow at once: larger takes more memory and is no faster."""
_CHUNK = 2_000_000


@dataclass(frozen=True)
class ForestSettings:
    """How a forest grows.

    Args:
        trees: How many.
        columns: Tried at each node; None for the square root of all.
        least_leaf: People that a leaf holds at least.
        deepest: Levels at most.

    Raises:
        ConfigError: A number below 1.
    """

    trees: int = 200
    columns: int | None = None
    least_leaf: int = 10
    deepest: int = 40

    def __post_init__(self) -> None:
        if min(self.trees, self.least_leaf, self.deepest, 1 if self.columns is None else self.columns) < 1:
            raise ConfigError("a forest needs a tree, a column, a level and a person in a leaf")


@dataclass(frozen=True, eq=False)
class Forest:
    """A fitted forest: nodes of all trees in one row.

    Args:
        column: That a node asks; -1 in a leaf.
        cut: People with at most this go to the left.
        left: Node on the left; in a leaf the number of the leaf. The node on the right stands after it.
        roots: First node of each tree.
        days: On which curves have their steps.
        survival: Of each leaf after each of these days.
        mortality: Of each leaf: its cumulative hazard summed over all days with an event.
    """

    column: Int64[np.ndarray, " nodes"]
    cut: Float[np.ndarray, " nodes"]
    left: Int64[np.ndarray, " nodes"]
    roots: Int64[np.ndarray, " trees"]
    days: Float[np.ndarray, " t"]
    survival_of_leaves: Float[np.ndarray, "leaves t"]
    mortality: Float[np.ndarray, " leaves"]

    def leaves(self, x: Float[np.ndarray, "n p"]) -> Int64[np.ndarray, "n trees"]:
        """Return the leaf that each person falls into, of each tree."""
        node = np.tile(self.roots, (len(x), 1))
        rows = np.arange(len(x))[:, None]
        while True:
            column = self.column[node]
            inner = column >= 0
            if not inner.any():
                return np.asarray(self.left[node])
            right = x[rows, np.maximum(column, 0)] > self.cut[node]
            node = np.where(inner, self.left[node] + right, node)

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the mortality: events expected if all people were as this one."""
        return np.concatenate([self.mortality[self.leaves(part)].mean(axis=1) for part in self._parts(x, 1)])

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day."""
        place = np.searchsorted(self.days, at_days, side="right")
        table = np.concatenate([np.ones((len(self.mortality), 1)), self.survival_of_leaves], axis=1)[:, place]
        found = [table[self.leaves(part)].mean(axis=1) for part in self._parts(x, len(at_days))]
        return np.concatenate(found).astype(np.float64)

    def _parts(self, x: Float[np.ndarray, "n p"], each: int) -> list[Float[np.ndarray, "m p"]]:
        size = max(1, _CHUNK // (len(self.roots) * max(each, 1)))
        return [x[first : first + size] for first in range(0, len(x), size)]


@dataclass(eq=False)
class _Grown:
    """What has grown so far."""

    column: list[np.ndarray] = field(default_factory=list)
    cut: list[np.ndarray] = field(default_factory=list)
    left: list[np.ndarray] = field(default_factory=list)
    nodes: int = 0
    leaves: int = 0
    leaf_of: list[np.ndarray] = field(default_factory=list)
    day_of: list[np.ndarray] = field(default_factory=list)
    hazard: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _People:
    """People in order of time, their columns as numbers of cuts."""

    codes: Int64[np.ndarray, "n p"]
    cuts: tuple[Float[np.ndarray, " _"], ...]
    day: Int64[np.ndarray, " n"]
    happened: Float[np.ndarray, " n"]


def fit_forest(
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    settings: ForestSettings | None = None,
    *,
    seed: int = 0,
) -> Forest:
    """Grow a random survival forest.

    Args:
        x: A row for each person.
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        settings: How it grows.
        seed: Decides who is drawn and which columns are tried.

    Raises:
        DataError: Nobody had the event, or a number is not finite.
    """
    chosen = settings or ForestSettings()
    if not happened.any():
        raise DataError("nobody had the event: nothing can be learnt")
    if not (np.isfinite(x).all() and np.isfinite(days).all()):
        raise DataError("a covariate or a time is not finite")
    order = np.lexsort((~happened, days))
    cuts = tuple(_cuts(column) for column in x.T)
    codes = np.stack([np.searchsorted(c, v, side="left") for c, v in zip(cuts, x[order].T, strict=True)], axis=1)
    all_days, day = np.unique(days[order], return_inverse=True)
    people = _People(codes.astype(np.int64), cuts, day.astype(np.int64), happened[order].astype(np.float64))
    rng = np.random.default_rng(seed)
    grown = _Grown()
    roots: list[np.ndarray] = []
    n, left = len(days), chosen.trees
    while left:
        batch = min(left, max(1, _BATCH // n))
        # Draws in growing order are in order of time: people are.
        rows = np.sort(rng.integers(0, n, (batch, n)), axis=1).ravel()
        roots.append(np.arange(grown.nodes, grown.nodes + batch))
        _grow(people, rows, np.repeat(np.arange(batch), n), chosen, rng, grown)
        left -= batch
    return _forest(grown, np.concatenate(roots), all_days, people)


def _cuts(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " c"]:
    """Return where a column may be cut: between its values, or between its quantiles where there are many."""
    unique = np.unique(values)
    if len(unique) > _MOST_CUTS + 1:
        unique = np.unique(np.quantile(values, np.linspace(0, 1, _MOST_CUTS + 1), method="inverted_cdf"))
    return np.asarray((unique[:-1] + unique[1:]) / 2)


def _grow(
    people: _People,
    rows: Int64[np.ndarray, " m"],
    node: Int64[np.ndarray, " m"],
    settings: ForestSettings,
    rng: np.random.Generator,
    grown: _Grown,
) -> None:
    """Grow a batch of trees; `rows` are sorted by node, and by time within a node."""
    for level in range(settings.deepest + 1):
        starts = np.flatnonzero(np.append(True, node[1:] != node[:-1]))
        sizes = np.diff(np.append(starts, len(node)))
        runs, hazard, residual = _residuals(people, rows, node, starts, sizes)
        events = np.add.reduceat(people.happened[rows], starts)
        may = (sizes >= 2 * settings.least_leaf) & (events > 0) & (level < settings.deepest)
        column, code = _best(people, rows, node, (starts, sizes, may), residual, settings, rng)
        split = column >= 0
        first_child = grown.nodes + len(starts)
        left = np.where(split, first_child + 2 * (np.cumsum(split) - 1), grown.leaves + np.cumsum(~split) - 1)
        grown.column.append(column)
        grown.cut.append(np.array([people.cuts[c][k] if c >= 0 else 0.0 for c, k in zip(column, code, strict=True)]))
        grown.left.append(left)
        in_leaf = ~split[node[runs]]
        grown.leaf_of.append(left[node[runs]][in_leaf])
        grown.day_of.append(people.day[rows[runs]][in_leaf])
        grown.hazard.append(hazard[in_leaf])
        grown.nodes += len(starts)
        grown.leaves += int((~split).sum())
        going = split[node]
        rows, node = rows[going], node[going]
        if not len(rows):
            return
        child = 2 * (np.cumsum(split) - 1)[node] + (people.codes[rows, column[node]] > code[node])
        order = np.argsort(child, kind="stable")
        rows, node = rows[order], child[order]


def _residuals(
    people: _People,
    rows: Int64[np.ndarray, " m"],
    node: Int64[np.ndarray, " m"],
    starts: Int64[np.ndarray, " k"],
    sizes: Int64[np.ndarray, " k"],
) -> tuple[Int64[np.ndarray, " r"], Float[np.ndarray, " r"], Float[np.ndarray, " m"]]:
    """Return where each day of a node begins, the hazard on it, and each person's martingale residual in the node."""
    day = people.day[rows]
    new = np.append(True, (day[1:] != day[:-1]) | (node[1:] != node[:-1]))
    runs = np.flatnonzero(new)
    happened = people.happened[rows]
    ends = (starts + sizes)[node[runs]]
    hazard = np.add.reduceat(happened, runs) / (ends - runs)
    total = np.cumsum(hazard)
    before = np.append(0.0, total)[np.searchsorted(runs, starts)]
    cumulative = total[np.cumsum(new) - 1] - before[node]
    return runs, hazard, happened - cumulative


def _best(
    people: _People,
    rows: Int64[np.ndarray, " m"],
    node: Int64[np.ndarray, " m"],
    shape: tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Bool[np.ndarray, " k"]],
    residual: Float[np.ndarray, " m"],
    settings: ForestSettings,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Return the column and the number of the cut that part each node best; -1 where none does.

    As many columns are tried as the settings say, and more where none of them can part the node.
    """
    _, sizes, may = shape
    p = people.codes.shape[1]
    tried = min(p, settings.columns or max(1, round(p**0.5)))
    asked = rng.random((len(sizes), p)).argsort(axis=1)
    best = np.full(len(sizes), -np.inf)
    column, code = np.full(len(sizes), -1, dtype=np.int64), np.zeros(len(sizes), dtype=np.int64)
    for slot in range(p):
        active = may if slot < tried else may & (column < 0)
        if not active.any():
            break
        chosen = active[node]
        own, which = node[chosen], asked[:, slot]
        codes = people.codes[rows[chosen], which[own]]
        key = own * (_MOST_CUTS + 1) + codes
        order = np.argsort(key, kind="stable")
        key, own, summed = key[order], own[order], np.cumsum(residual[chosen][order])
        begins = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
        place = np.cumsum(np.append(True, own[1:] != own[:-1])) - 1
        count = np.diff(np.append(begins, len(own)))[place]
        below = np.arange(1, len(own) + 1) - begins[place]
        part = summed - np.append(0.0, summed)[begins][place]
        above = count - below
        fits = (below >= settings.least_leaf) & (above >= settings.least_leaf)
        fits &= np.append(key[1:] != key[:-1], False)
        value = np.where(fits, part**2 / np.maximum(below * above, 1), -np.inf)
        top = np.maximum.reduceat(value, begins)
        at = np.minimum.reduceat(np.where(value == top[place], np.arange(len(own)), len(own)), begins)
        nodes = own[begins]
        better = (top > best[nodes]) & (top > 0)
        best[nodes[better]] = top[better]
        column[nodes[better]] = which[nodes[better]]
        code[nodes[better]] = (key[at] % (_MOST_CUTS + 1))[better]
    return column, code


def _forest(
    grown: _Grown, roots: Int64[np.ndarray, " trees"], all_days: Float[np.ndarray, " d"], people: _People
) -> Forest:
    leaf, day, hazard = (np.concatenate(part) for part in (grown.leaf_of, grown.day_of, grown.hazard))
    with_event = np.unique(people.day[people.happened > 0])
    steps = with_event
    if len(steps) > _MOST_DAYS:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, _MOST_DAYS).round().astype(np.int64))]
    counted = hazard > 0
    leaf, day, hazard = leaf[counted], day[counted], hazard[counted]
    # A step that falls between two days of the curve is taken on the second.
    place = leaf * len(steps) + np.searchsorted(steps, day)
    size = grown.leaves * len(steps)
    logs = np.bincount(place, np.log1p(-np.minimum(hazard, 1 - 1e-12)), minlength=size).reshape(grown.leaves, -1)
    after = len(with_event) - np.searchsorted(with_event, day)
    return Forest(
        np.concatenate(grown.column), np.concatenate(grown.cut), np.concatenate(grown.left), roots, all_days[steps],
        np.exp(np.cumsum(logs, axis=1)).astype(np.float32), np.bincount(leaf, hazard * after, minlength=grown.leaves),
    )  # fmt: skip
