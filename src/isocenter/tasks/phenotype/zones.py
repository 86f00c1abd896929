"""Grey level size zone (IBSI 9SAK) and distance zone (VMDZ) matrices of many regions at once."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from isocenter.tasks.phenotype.levels import DIRECTIONS, IN_PLANE, LevelStack
from isocenter.tasks.phenotype.size_matrix import SizeMatrix, by_slice_and_region

__all__ = ["zone_features"]

Values = dict[str, np.ndarray]


def zone_features(stack: LevelStack) -> Values:
    """Return every size zone and distance zone feature of every region.

    Zones are connected over 26 neighbours (8 within a slice). The distance of a zone is the least number of steps over
    faces (edges within a slice) from one of its voxels to outside of the region's shape; 1 at its border.

    Args:
        stack: The regions.

    Returns:
        By tag, one value for each region.

    Source:
        IBSI manual, grey level size zone and grey level distance zone based features.
    """
    (flat_sizes, flat_distances), (sizes, distances) = _zones(stack, True), _zones(stack, False)
    return by_slice_and_region(flat_sizes, sizes, stack, "szm") | by_slice_and_region(
        flat_distances, distances, stack, "dzm"
    )


def _zones(stack: LevelStack, planes: bool) -> tuple[SizeMatrix, SizeMatrix]:
    directions = IN_PLANE if planes else DIRECTIONS
    rows, columns = [], []
    for way, direction in enumerate(directions):
        same = np.flatnonzero(stack.ahead[way] == stack.level)
        rows.append(same.astype(np.int32))
        columns.append(stack.position[stack.index[same] + stack.offset(direction)])
    row, column = np.concatenate(rows), np.concatenate(columns)
    n = len(stack.level)
    graph = coo_array((np.ones(len(row), np.bool_), (row, column)), shape=(n, n)).tocsr()
    n_zones, zone = connected_components(graph, directed=False)
    groups, n_groups = stack.groups(planes)
    group, level = np.zeros(n_zones, np.int64), np.zeros(n_zones, np.int64)
    group[zone], level[zone] = groups, stack.level
    voxels = np.bincount(groups, minlength=n_groups)
    distance = np.full(n_zones, np.iinfo(np.int64).max)
    np.minimum.at(distance, zone, _steps_to_outside(stack, planes))
    return (
        SizeMatrix.of(group, level, np.bincount(zone, minlength=n_zones), voxels),
        SizeMatrix.of(group, level, distance, voxels),
    )


def _steps_to_outside(stack: LevelStack, planes: bool) -> np.ndarray:
    cross = ndimage.generate_binary_structure(3, 1)
    if planes:
        cross[[0, 2]] = False
    steps = ndimage.distance_transform_cdt(stack.shape_mask, metric=cross)
    return np.asarray(steps.ravel()[stack.index]).astype(np.int64)
