"""Grey level co-occurrence matrices (IBSI LFYI) of many regions at once, in all six ways to bring them together.

A matrix is symmetric, so pairs are counted unordered. All features but four depend on its marginal and on how its sums
and differences are distributed, which are short; the joint one is kept as a list of the pairs that occur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.tasks.phenotype.levels import DIRECTIONS, IN_PLANE, LevelStack, tally

__all__ = ["cooccurrence_features"]

_TINY = 1e-12
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Pairs:
    """Unordered pairs of levels, counted by group: (group, low, high, count), levels from 0."""

    group: np.ndarray
    code: np.ndarray  # low * n + high
    count: np.ndarray
    n_groups: int

    def regrouped(self, new: np.ndarray, n_groups: int, n: int) -> _Pairs:
        keys, counts = tally(new[self.group] * (n * n) + self.code, self.count, size=n_groups * n * n)
        return _Pairs(keys // (n * n), keys % (n * n), counts, n_groups)


def cooccurrence_features(stack: LevelStack) -> Values:
    """Return every co-occurrence feature of every region.

    Args:
        stack: The regions.

    Returns:
        By tag, one value for each region; NaN where no two voxels of the region are neighbours.

    Source:
        IBSI manual, grey level co-occurrence based features: Chebyshev distance 1, symmetric matrices.
    """
    n, flat = stack.n_levels, len(IN_PLANE)
    in_plane = _count(stack, range(flat), stack.plane, stack.n_slices)
    across = _count(stack, range(flat, len(DIRECTIONS)), stack.region, stack.n_regions)
    # Groups are slice (or region) by direction: group = slice * directions + direction.
    slices, ways = np.divmod(np.arange(stack.n_slices * flat), flat)
    region = stack.plane_region[slices]
    by_direction = in_plane.regrouped(region * flat + ways, stack.n_regions * flat, n)
    owner, order = np.divmod(np.arange(stack.n_regions * flat), flat)
    solid_in_plane = by_direction.regrouped(owner * len(DIRECTIONS) + order, stack.n_regions * len(DIRECTIONS), n)
    far, way = np.divmod(np.arange(stack.n_regions * (len(DIRECTIONS) - flat)), len(DIRECTIONS) - flat)
    solid_across = across.regrouped(far * len(DIRECTIONS) + way + flat, stack.n_regions * len(DIRECTIONS), n)
    solid = _Pairs(
        np.concatenate([solid_in_plane.group, solid_across.group]),
        np.concatenate([solid_in_plane.code, solid_across.code]),
        np.concatenate([solid_in_plane.count, solid_across.count]),
        solid_in_plane.n_groups,
    )
    every = np.arange(stack.n_regions)
    all_ways = np.repeat(every, len(DIRECTIONS))
    ways_of_aggregation = {
        "2D_avg": (in_plane, region),
        "2D_comb": (in_plane.regrouped(slices, stack.n_slices, n), stack.plane_region),
        "2_5D_avg": (by_direction, owner),
        "2_5D_comb": (by_direction.regrouped(owner, stack.n_regions, n), every),
        "3D_avg": (solid.regrouped(np.arange(solid.n_groups), solid.n_groups, n), all_ways),
        "3D_comb": (solid.regrouped(all_ways, stack.n_regions, n), every),
    }
    found: Values = {}
    for end, (pairs, owners) in ways_of_aggregation.items():
        values = _features(pairs, n, stack.level_counts[owners])
        found |= {f"cm_{tag}_{end}": averaged(v, owners, stack.n_regions) for tag, v in values.items()}
    return found


def averaged(values: Float[np.ndarray, "groups"], owners: np.ndarray, n_regions: int) -> Float[np.ndarray, "regions"]:
    """Return the mean of each region's groups; groups without a matrix (NaN) don't count."""
    known = ~np.isnan(values)
    counts = np.bincount(owners[known], minlength=n_regions)
    sums = np.bincount(owners[known], values[known], minlength=n_regions)
    return np.asarray(np.divide(sums, counts, out=np.full(n_regions, np.nan), where=counts > 0))


def _count(stack: LevelStack, ways: range, groups: np.ndarray, n_groups: int) -> _Pairs:
    n = stack.n_levels
    found, sizes = [], n_groups * len(ways) * n * n
    for order, way in enumerate(ways):
        other = stack.ahead[way]
        inside = np.flatnonzero(other)
        a, b = stack.level[inside], other[inside]
        low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
        found.append((groups[inside] * len(ways) + order) * (n * n) + (low - 1) * n + (high - 1))
    keys, counts = tally(np.concatenate(found), size=sizes)
    return _Pairs(keys // (n * n), keys % (n * n), counts, n_groups * len(ways))


def _features(pairs: _Pairs, n: int, level_counts: np.ndarray) -> Values:
    """Return every feature of each group's matrix."""
    g, n_groups = pairs.group, pairs.n_groups
    low, high = np.divmod(pairs.code, n)
    total = np.bincount(g, pairs.count, minlength=n_groups)
    share = pairs.count / total[g]  # of unordered pairs
    single = np.where(low == high, 1.0, 0.5)  # of one entry of the symmetric matrix
    entry = share * single
    empty = total == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        joint_max = np.zeros(n_groups)
        np.maximum.at(joint_max, g, entry)
        values: Values = {
            "joint_max": joint_max,
            "joint_entr": -np.bincount(g, share * np.log2(entry), minlength=n_groups),
            "energy": np.bincount(g, share * entry, minlength=n_groups),
        }
        ones = [np.bincount(g * n + side, share / 2, minlength=n_groups * n) for side in (low, high)]
        marginal = (ones[0] + ones[1]).reshape(n_groups, n)
        apart = np.bincount(g * n + high - low, share, minlength=n_groups * n).reshape(n_groups, n)
        sums = np.bincount(g * (2 * n - 1) + low + high, share, minlength=n_groups * (2 * n - 1))
        values |= _of_marginals(marginal, apart, sums.reshape(n_groups, 2 * n - 1), level_counts)
        h_xy, h_x = values["joint_entr"], _entropy(marginal)
        # Of a symmetric matrix both of Haralick's HXY1 and HXY2 are twice the entropy of the marginal.
        values["info_corr1"] = np.where(h_x > _TINY, (h_xy - 2 * h_x) / np.where(h_x > _TINY, h_x, 1), 0.0)
        values["info_corr2"] = np.sqrt(np.maximum(0.0, 1 - np.exp(-2 * np.maximum(0.0, 2 * h_x - h_xy))))
    return {tag: np.where(empty, np.nan, v) for tag, v in values.items()}


def _of_marginals(marginal: np.ndarray, apart: np.ndarray, sums: np.ndarray, level_counts: np.ndarray) -> Values:
    n = marginal.shape[1]
    i, k, s = np.arange(1, n + 1), np.arange(n), np.arange(2, 2 * n + 1)
    mean = marginal @ i
    variance = ((i - mean[:, None]) ** 2 * marginal).sum(1)
    diff_avg, sum_avg = apart @ k, sums @ s
    product = (sums @ s**2.0 - apart @ k**2.0) / 4  # i j = ((i + j)^2 - (i - j)^2) / 4
    centred = s - 2 * mean[:, None]
    squares = centred**2 * sums
    relative = k / level_counts[:, None]
    return {
        "joint_avg": mean,
        "joint_var": variance,
        "diff_avg": diff_avg,
        "diff_var": ((k - diff_avg[:, None]) ** 2 * apart).sum(1),
        "diff_entr": _entropy(apart),
        "sum_avg": sum_avg,
        "sum_var": ((s - sum_avg[:, None]) ** 2 * sums).sum(1),
        "sum_entr": _entropy(sums),
        "contrast": apart @ k**2.0,
        "dissimilarity": diff_avg,
        "inv_diff": apart @ (1 / (1.0 + k)),
        "inv_diff_norm": (apart / (1 + relative)).sum(1),
        "inv_diff_mom": apart @ (1 / (1.0 + k**2)),
        "inv_diff_mom_norm": (apart / (1 + relative**2)).sum(1),
        "inv_var": apart[:, 1:] @ (1 / np.arange(1.0, n) ** 2),
        # A matrix of one level has no variance: perfectly correlated, as the peers say.
        "corr": np.where(variance > _TINY, (product - mean**2) / np.where(variance > _TINY, variance, 1), 1.0),
        "auto_corr": product,
        "clust_tend": squares.sum(1),
        "clust_shade": (squares * centred).sum(1),
        "clust_prom": (squares * centred**2).sum(1),
    }


def _entropy(shares: np.ndarray) -> np.ndarray:
    return np.asarray(-(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1))
