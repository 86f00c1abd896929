"""Neighbourhood grey tone difference (IBSI IPET) and neighbouring grey level dependence (REK0) of many regions at once.

Both look at the voxels around each: 26, or 8 within a slice.
"""

from __future__ import annotations

import numpy as np

from isocenter.tasks.phenotype.cooccurrence import averaged
from isocenter.tasks.phenotype.levels import DIRECTIONS, IN_PLANE, LevelStack
from isocenter.tasks.phenotype.size_matrix import SizeMatrix, by_slice_and_region

__all__ = ["neighbourhood_features"]

Values = dict[str, np.ndarray]

# Coarseness of a region without any difference (IBSI QCDE).
_NO_DIFFERENCE = 1e6
_PAIRS_AT_ONCE = 1 << 22


def neighbourhood_features(stack: LevelStack, *, difference: int = 0) -> Values:
    """Return every feature of both families of every region.

    Args:
        stack: The regions.
        difference: Largest difference of level at which a neighbour depends on the voxel (alpha).

    Returns:
        By tag, one value for each region; NaN where no voxel has a neighbour.

    Source:
        IBSI manual, neighbourhood grey tone difference and neighbouring grey level dependence based features:
        Chebyshev distance 1.
    """
    level = stack.level.astype(np.int32)
    total, near, alike = (np.zeros(len(level), np.int32) for _ in range(3))
    matrices: list[SizeMatrix] = []
    tones: list[tuple[np.ndarray, np.ndarray]] = []
    for planes, ways in ((True, range(len(IN_PLANE))), (False, range(len(IN_PLANE), len(DIRECTIONS)))):
        for way in ways:
            for other in (stack.ahead[way], stack.behind[way]):
                inside = other > 0
                total += other
                near += inside
                alike += _depends(other, stack.level, inside, difference)
        groups, n_groups = stack.groups(planes)
        voxels = np.bincount(groups, minlength=n_groups)
        matrices.append(SizeMatrix.of(groups, level.astype(np.int64), alike.astype(np.int64) + 1, voxels))
        tones.append(_tones(level, total, near, groups, (n_groups, stack.n_levels + 1)))
    found = by_slice_and_region(matrices[0], matrices[1], stack, "ngl")
    n, width = stack.n_regions, stack.n_levels + 1
    counts, differences = tones[0]
    for tag, values in _tone_features(counts, differences).items():
        found[f"ngt_{tag}_2D"] = averaged(values, stack.plane_region, n)
    merged = [np.zeros((n, width)) for _ in range(2)]
    for sink, source in zip(merged, (counts, differences), strict=True):
        np.add.at(sink, stack.plane_region, source)
    for tag, values in _tone_features(*merged).items():
        found[f"ngt_{tag}_2_5D"] = values
    for tag, values in _tone_features(*tones[1]).items():
        found[f"ngt_{tag}_3D"] = values
    return found


def _depends(other: np.ndarray, level: np.ndarray, inside: np.ndarray, difference: int) -> np.ndarray:
    if difference == 0:
        return np.asarray(other == level)
    apart = np.abs(other.astype(np.int32) - level)
    return np.asarray((apart <= difference) & inside)


def _tones(
    level: np.ndarray, total: np.ndarray, near: np.ndarray, groups: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return by group and level: voxels with a neighbour, and their summed difference from their neighbours' mean."""
    known = near > 0
    keys, size = (groups * shape[1] + level)[known], shape[0] * shape[1]
    differences = np.abs(level[known] - total[known] / near[known])
    counts = np.bincount(keys, minlength=size).astype(np.float64)
    return counts.reshape(shape), np.bincount(keys, differences, minlength=size).reshape(shape)


def _tone_features(counts: np.ndarray, differences: np.ndarray) -> Values:
    """Return the five features of each group, from its counts n_i and differences s_i by level."""
    n_groups, width = counts.shape
    total = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(total[:, None] > 0, counts / total[:, None], 0.0)
    i = np.arange(width, dtype=np.float64)
    present = (p > 0).sum(axis=1)
    sums = {name: np.zeros(n_groups) for name in ("busyness", "complexity", "strength")}
    at_once = max(1, _PAIRS_AT_ONCE // width**2)
    for start in range(0, n_groups, at_once):
        part = slice(start, start + at_once)
        for name, numbers in _pair_sums(p[part], differences[part], i).items():
            sums[name][part] = numbers
    all_differences = differences.sum(axis=1)
    coarse = (p * differences).sum(axis=1)
    spread = 2 * ((p * i**2).sum(axis=1) - (p * i).sum(axis=1) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "coarseness": np.where(coarse > 0, 1 / coarse, _NO_DIFFERENCE),
            "contrast": np.where(present > 1, spread / (present * (present - 1.0)) * all_differences / total, 0.0),
            "busyness": np.where(present > 1, coarse / sums["busyness"], 0.0),
            "complexity": sums["complexity"] / total,
            "strength": np.where(all_differences > 0, sums["strength"] / all_differences, 0.0),
        }
    return {tag: np.where(total > 0, v, np.nan) for tag, v in values.items()}


def _pair_sums(p: np.ndarray, s: np.ndarray, i: np.ndarray) -> Values:
    used = p.any(axis=0)  # a level that no group of the part has is in no sum
    p, s, i = p[:, used], s[:, used], i[used]
    both = (p[:, :, None] > 0) & (p[:, None, :] > 0)
    apart = np.abs(i[:, None] - i[None, :])
    weighted, ps = p * i, p * s
    together = np.where(both, p[:, :, None] + p[:, None, :], 1.0)
    return {
        "busyness": (np.abs(weighted[:, :, None] - weighted[:, None, :]) * both).sum(axis=(1, 2)),
        "complexity": ((ps[:, :, None] + ps[:, None, :]) / together * apart * both).sum(axis=(1, 2)),
        "strength": (together * apart**2 * both).sum(axis=(1, 2)),
    }
