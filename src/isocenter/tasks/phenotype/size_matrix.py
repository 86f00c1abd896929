"""Features of the matrices that count (grey level, size): runs, zones, distances and dependences share one set.

The matrix is a list of what occurs in it, so a zone of a million voxels costs no more than one of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocenter.tasks.phenotype.cooccurrence import averaged
from isocenter.tasks.phenotype.levels import LevelStack, tally

__all__ = ["SizeMatrix", "by_slice_and_region", "size_features"]

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class SizeMatrix:
    """How often each (group, level, size) occurs.

    Args:
        group: Matrix that an entry belongs to, from 0.
        level: Grey level, from 1.
        size: Length, size, distance or number of dependences, from 1.
        count: How often.
        voxels: Of each matrix: voxels that could have been an element of their own.
    """

    group: np.ndarray
    level: np.ndarray
    size: np.ndarray
    count: np.ndarray
    voxels: np.ndarray

    @classmethod
    def of(cls, group: np.ndarray, level: np.ndarray, size: np.ndarray, voxels: np.ndarray) -> SizeMatrix:
        """Count elements, one of each given."""
        return cls._tallied(group, level, size, None, voxels)

    @classmethod
    def _tallied(
        cls, group: np.ndarray, level: np.ndarray, size: np.ndarray, count: np.ndarray | None, voxels: np.ndarray
    ) -> SizeMatrix:
        n = int(level.max(initial=0)) + 1
        largest = int(size.max(initial=0)) + 1
        keys, counts = tally((group * n + level) * largest + size, count, size=len(voxels) * n * largest)
        rest, sizes = np.divmod(keys, largest)
        groups, levels = np.divmod(rest, n)
        return cls(groups, levels, sizes, counts, voxels)

    def regrouped(self, new: np.ndarray, n_groups: int) -> SizeMatrix:
        """Merge matrices: each group's new one."""
        voxels = np.bincount(new, self.voxels, minlength=n_groups)
        return self._tallied(new[self.group], self.level, self.size, self.count, voxels)

    def joined(self, other: SizeMatrix) -> SizeMatrix:
        """Add another's entries to the same groups."""
        parts = zip(
            (self.group, self.level, self.size, self.count), (other.group, other.level, other.size, other.count),
            strict=True,
        )  # fmt: skip
        group, level, size, count = (np.concatenate(p) for p in parts)
        return self._tallied(group, level, size, count, self.voxels + other.voxels)


_NAMES = {
    "rlm": "sre lre lgre hgre srlge srhge lrlge lrhge glnu glnu_norm rlnu rlnu_norm r_perc gl_var rl_var rl_entr",
    "szm": "sze lze lgze hgze szlge szhge lzlge lzhge glnu glnu_norm zsnu zsnu_norm z_perc gl_var zs_var zs_entr",
    "dzm": "sde lde lgze hgze sdlge sdhge ldlge ldhge glnu glnu_norm zdnu zdnu_norm z_perc gl_var zd_var zd_entr",
    "ngl": "lde hde lgce hgce ldlge ldhge hdlge hdhge glnu glnu_norm dcnu dcnu_norm dc_perc gl_var dc_var dc_entr",
}
"""Tags of the sixteen features of each family, in the one order in which `size_features` makes them."""


def size_features(matrix: SizeMatrix, family: str) -> Values:
    """Return the features of each group's matrix; NaN where it is empty.

    Args:
        matrix: Counts.
        family: "rlm", "szm", "dzm" or "ngl": how they are called.
    """
    g, n_groups = matrix.group, len(matrix.voxels)
    i, j, c = matrix.level.astype(np.float64), matrix.size.astype(np.float64), matrix.count
    total = np.bincount(g, c, minlength=n_groups)

    def summed(weights: np.ndarray) -> np.ndarray:
        return np.bincount(g, weights, minlength=n_groups)

    with np.errstate(divide="ignore", invalid="ignore"):
        share = c / total[g]
        low, high, few, many = 1 / i**2, i**2, 1 / j**2, j**2
        n, largest = int(matrix.level.max(initial=0)) + 1, int(matrix.size.max(initial=0)) + 1
        by_level = _squares(g * n + matrix.level, c, n, n_groups)
        by_size = _squares(g * largest + matrix.size, c, largest, n_groups)
        level_mean, size_mean = summed(share * i), summed(share * j)
        values = [
            summed(share * few), summed(share * many), summed(share * low), summed(share * high),
            summed(share * few * low), summed(share * few * high), summed(share * many * low),
            summed(share * many * high),
            by_level / total, by_level / total**2, by_size / total, by_size / total**2,
            total / matrix.voxels,
            summed(share * (i - level_mean[g]) ** 2), summed(share * (j - size_mean[g]) ** 2),
            -summed(share * np.log2(share)),
        ]  # fmt: skip
        named = dict(zip(_NAMES[family].split(), values, strict=True))
        if family == "ngl":
            named["dc_energy"] = summed(share**2)
    return {tag: np.where(total > 0, v, np.nan) for tag, v in named.items()}


def _squares(keys: np.ndarray, counts: np.ndarray, width: int, n_groups: int) -> np.ndarray:
    """Return each group's sum of squares of the counts that share a key."""
    found, sums = tally(keys, counts, size=n_groups * width)
    return np.bincount(found // width, sums**2, minlength=n_groups)


def by_slice_and_region(flat: SizeMatrix, solid: SizeMatrix, stack: LevelStack, family: str) -> Values:
    """Return the features of matrices by slice, averaged and merged, and of those by region.

    Args:
        flat: One matrix for each slice.
        solid: One for each region, from neighbours in all directions.
        stack: The regions.
        family: As in `size_features`.
    """
    found: Values = {}
    n = stack.n_regions
    for tag, values in size_features(flat, family).items():
        found[f"{family}_{tag}_2D"] = averaged(values, stack.plane_region, n)
    for tag, values in size_features(flat.regrouped(stack.plane_region, n), family).items():
        found[f"{family}_{tag}_2_5D"] = values
    for tag, values in size_features(solid, family).items():
        found[f"{family}_{tag}_3D"] = values
    return found
