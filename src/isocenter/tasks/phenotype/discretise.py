"""From a segment to the region that features are computed on: cut, resegmented, discretised, and what was done said."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core import Quantity
from isocenter.core.errors import UnitsError
from isocenter.tasks.phenotype.settings import MOST_LEVELS, Discretisation, FeatureSettings

__all__ = ["Binned", "Region", "discretise", "resegment", "volume_discretisation"]

_LOWEST = {Quantity.HU: -1000.0, Quantity.SUVBW: 0.0, Quantity.BQML: 0.0, Quantity.GY: 0.0, Quantity.PROBABILITY: 0.0}
_MOST_VOLUME_LEVELS = 1 << 20


@dataclass(frozen=True)
class Region:
    """One segment, cut out.

    Args:
        number: Of the segment.
        box: Where its bounding box lies in the image.
        inside: Its voxels in the box.
        counted: Those that count for intensity.
        values: Intensities of the box, 0 where not finite.
        problem: Why intensities can't be used; "" where they can.
        steps: What was done, by name.
    """

    number: int
    box: tuple[slice, slice, slice]
    inside: Bool[np.ndarray, "z y x"]
    counted: Bool[np.ndarray, "z y x"]
    values: Float[np.ndarray, "z y x"]
    problem: str = ""
    steps: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Binned:
    """Grey levels of a region's counted voxels.

    Args:
        levels: From 1, in the order of the box.
        count: N_g.
        intensities: What the levels stand for, in the image's unit (for "fixed bin number" and "none": the level).
        record: What was done.
    """

    levels: np.ndarray
    count: int
    intensities: Float[np.ndarray, "k"]
    record: dict[str, object]


def resegment(
    number: int,
    box: tuple[slice, slice, slice],
    inside: Bool[np.ndarray, "z y x"],
    values: np.ndarray,
    settings: FeatureSettings,
) -> Region:
    """Return the region of a segment: voxels out of range and outliers don't count for intensity.

    Source:
        IBSI manual, re-segmentation. The mean and deviation of outliers are of the voxels within the range.
    """
    finite = np.isfinite(values)
    bad = int(np.count_nonzero(inside & ~finite))
    clean = np.where(finite, values, 0).astype(np.float64)
    counted = inside.copy()
    low, high = settings.intensity_range
    steps: dict[str, object] = {}
    if low is not None:
        counted &= clean >= low
    if high is not None:
        counted &= clean <= high
    if low is not None or high is not None:
        steps["range"] = {"low": low, "high": high, "left_out": int(inside.sum() - counted.sum())}
    if settings.outlier_deviations is not None and counted.any():
        chosen = clean[counted]
        limit = settings.outlier_deviations * float(chosen.std())
        before = len(chosen)
        counted &= np.abs(clean - chosen.mean()) <= limit
        steps["outliers"] = {"deviations": settings.outlier_deviations, "left_out": before - int(counted.sum())}
    problem = ""
    if bad:
        problem = f"{bad} of {int(inside.sum())} voxels of the region are not finite numbers"
    elif not counted.any():
        problem = "no voxel of the region is left after resegmentation"
    return Region(number, box, inside, counted, clean, problem, steps)


def discretise(region: Region, how: Discretisation, settings: FeatureSettings, quantity: Quantity) -> Binned | str:
    """Return the levels of a region's counted voxels, or why there are none.

    Args:
        region: Without a problem.
        how: The method.
        settings: Whose range gives the lowest intensity of a fixed bin size.
        quantity: Gives it where the range doesn't: -1000 HU, 0 SUV, 0 Gy.

    Raises:
        UnitsError: A fixed bin size for a quantity without a known lowest intensity, and no range was given.

    Source:
        IBSI manual, intensity discretisation.
    """
    values = region.values[region.counted]
    low, high = float(values.min()), float(values.max())
    if how.method == "none":
        return _whole(values, low)
    if how.method == "fixed bin number":
        if low == high:
            return "constant intensity: a fixed number of bins has no width"
        # As IBSI says: the highest intensity belongs to the last bin, not to one of its own.
        levels = np.minimum(np.floor(how.bins * (values - low) / (high - low)) + 1, how.bins).astype(np.int64)
        record: dict[str, object] = {"method": how.method, "bins": how.bins, "low": low, "high": high}
        return Binned(levels, how.bins, np.arange(1.0, how.bins + 1), record)
    start = settings.intensity_range[0]
    start = _LOWEST.get(quantity) if start is None else start
    if start is None:
        raise UnitsError(
            f"a fixed bin size needs the lowest intensity that counts, and {quantity.value} has none of its own; give "
            "an intensity range, or use a fixed bin number"
        )
    width = how.width or 1.0
    if low < start:
        return f"intensities lie below {start:g}, where bins of a fixed size begin; give an intensity range"
    levels = np.floor((values - start) / width).astype(np.int64) + 1
    count = int(levels.max())
    centres = start + (np.arange(1, count + 1) - 0.5) * width
    record = {"method": how.method, "width": width, "low": start, "bins": count}
    return Binned(levels, count, centres, record)


def _whole(values: Float[np.ndarray, "n"], low: float) -> Binned | str:
    levels = np.rint(values)
    if low < 1 or not np.array_equal(levels, values):
        return "intensities are not whole numbers from 1, so they must be discretised"
    count = int(levels.max())
    return Binned(levels.astype(np.int64), count, np.arange(1.0, count + 1), {"method": "none", "bins": count})


def volume_discretisation(
    region: Region, settings: FeatureSettings, quantity: Quantity, texture: Discretisation
) -> Binned | str:
    """Return the levels of the intensity-volume histogram: as asked, or as fits the quantity."""
    how = settings.volume_discretisation
    values = region.values[region.counted]
    low, high = float(values.min()), float(values.max())
    if how is None and quantity is Quantity.SUVBW:
        how = Discretisation("fixed bin size", width=0.1)
    if how is None and texture.method == "none":
        how = texture
    whole = np.array_equal(np.rint(values), values) and high - low < _MOST_VOLUME_LEVELS
    if how is None and not (quantity is Quantity.HU and whole):
        how = Discretisation("fixed bin number", bins=1000)
    if how is not None and how.method != "none":
        return discretise(region, how, settings, quantity)
    if not whole:
        return "intensities are not whole numbers, so they must be discretised"
    # Definite intensities: each whole number is a level of its own, from the lowest that counts to the highest.
    bottom = low if settings.intensity_range[0] is None else float(math.floor(settings.intensity_range[0]))
    top = high if settings.intensity_range[1] is None else float(math.ceil(settings.intensity_range[1]))
    intensities = np.arange(bottom, top + 1)
    levels = (values - bottom).astype(np.int64) + 1
    return Binned(levels, len(intensities), intensities, {"method": "none", "low": bottom, "high": top})


def too_many(binned: Binned) -> str:
    """Return why texture can't be computed on so many levels, or ""."""
    if binned.count <= MOST_LEVELS:
        return ""
    return f"{binned.count} grey levels are more than {MOST_LEVELS}; use wider bins"
