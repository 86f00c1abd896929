"""Grey level run length matrices (IBSI TP0I) of many regions at once, in all six ways to bring them together."""

from __future__ import annotations

import numpy as np

from isocenter.tasks.phenotype.cooccurrence import averaged
from isocenter.tasks.phenotype.levels import DIRECTIONS, IN_PLANE, LevelStack
from isocenter.tasks.phenotype.size_matrix import SizeMatrix, size_features

__all__ = ["run_features"]

Values = dict[str, np.ndarray]


def run_features(stack: LevelStack) -> Values:
    """Return every run length feature of every region.

    Args:
        stack: The regions.

    Returns:
        By tag, one value for each region.

    Source:
        IBSI manual, grey level run length based features.
    """
    flat, every = len(IN_PLANE), len(DIRECTIONS)
    n = stack.n_regions
    in_plane = _runs(stack, range(flat), True)
    across = _runs(stack, range(flat, every), False)
    slices, ways = np.divmod(np.arange(stack.n_slices * flat), flat)
    region = stack.plane_region[slices]
    by_direction = in_plane.regrouped(region * flat + ways, n * flat)
    owner, order = np.divmod(np.arange(n * flat), flat)
    far, way = np.divmod(np.arange(n * (every - flat)), every - flat)
    solid = by_direction.regrouped(owner * every + order, n * every).joined(
        across.regrouped(far * every + way + flat, n * every)
    )
    each, all_ways = np.arange(n), np.repeat(np.arange(n), every)
    ways_of_aggregation = {
        "2D_avg": (in_plane, region),
        "2D_comb": (in_plane.regrouped(slices, stack.n_slices), stack.plane_region),
        "2_5D_avg": (by_direction, owner),
        "2_5D_comb": (by_direction.regrouped(owner, n), each),
        "3D_avg": (solid, all_ways),
        "3D_comb": (solid.regrouped(all_ways, n), each),
    }
    found: Values = {}
    for end, (matrix, owners) in ways_of_aggregation.items():
        values = size_features(matrix, "rlm")
        found |= {f"rlm_{tag}_{end}": averaged(v, owners, n) for tag, v in values.items()}
    return found


def _runs(stack: LevelStack, ways: range, planes: bool) -> SizeMatrix:
    """Return the runs along some directions; group = slice (or region) * directions + direction."""
    groups, n_groups = stack.groups(planes)
    parts = []
    for order, way in enumerate(ways):
        level = stack.level
        goes_on = stack.ahead[way] == level
        start = np.flatnonzero(stack.behind[way] != level)
        length = np.ones(len(start), np.int64)
        step = stack.offset(DIRECTIONS[way])
        running = np.flatnonzero(goes_on[start])
        at = start[running]
        # Every pass takes one step along the runs that are not yet at their end.
        while len(running):
            at = stack.position[stack.index[at] + step]
            length[running] += 1
            on = goes_on[at]
            running, at = running[on], at[on]
        parts.append((groups[start] * len(ways) + order, level[start].astype(np.int64), length))
    group, level, size = (np.concatenate(p) for p in zip(*parts, strict=True))
    voxels = np.repeat(np.bincount(groups, minlength=n_groups), len(ways))
    return SizeMatrix.of(group, level, size, voxels)
