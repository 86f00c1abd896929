"""Intensity of a region: statistics, histogram, intensity-volume histogram and local peaks.

IBSI families UHIW, ZVCW, P88C and 9ST6.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import signal

__all__ = ["histogram_features", "intensity_statistics", "intensity_volume_features", "local_peaks", "peak_map"]

Value = float | str
"""A number, or why there is none."""

PEAK_RADIUS_MM = (3 / (4 * np.pi)) ** (1 / 3) * 10
"""Radius of a sphere of 1 cm3: 6.2 mm."""


def intensity_statistics(values: Float[np.ndarray, "n"], family: str = "stat") -> dict[str, Value]:
    """Return the statistics that intensities and their histogram share.

    Args:
        values: Intensities (or levels); at least one, all finite.
        family: "stat", which has energy and root mean square too, or "ih".

    Source:
        IBSI manual, intensity-based statistical features. Percentiles interpolate linearly.

    Example:
        >>> round(intensity_statistics(np.array([1.0, 2.0, 6.0]))["stat_var"], 3)
        4.667
    """
    mean = float(values.mean())
    deviation = values - mean
    squares = deviation * deviation
    variance = float(squares.mean())
    tenth, first, median, third, ninetieth = np.percentile(values, (10, 25, 50, 75, 90)).tolist()
    robust = values[(values >= tenth) & (values <= ninetieth)]
    low, high = float(values.min()), float(values.max())
    constant = low == high
    found: dict[str, Value] = {
        "mean": mean,
        "var": 0.0 if constant else variance,
        # A constant has neither, and both are 0 by IBSI.
        "skew": 0.0 if constant else float(np.mean(squares * deviation)) / variance**1.5,
        "kurt": 0.0 if constant else float(np.mean(squares * squares)) / variance**2 - 3,
        "median": median,
        "min": low,
        "p10": tenth,
        "p90": ninetieth,
        "max": high,
        "iqr": third - first,
        "range": high - low,
        "mad": float(np.abs(deviation).mean()),
        "rmad": float(np.abs(robust - robust.mean()).mean()),
        "medad": float(np.abs(values - median).mean()),
        "cov": "the mean is 0" if mean == 0 else np.sqrt(0.0 if constant else variance) / mean,
        "qcod": "the quartiles sum to 0" if third + first == 0 else (third - first) / (third + first),
    }
    if family == "stat":
        energy = float(values @ values)
        found |= {"energy": energy, "rms": float(np.sqrt(energy / len(values)))}
    return {f"{family}_{tag}": v for tag, v in found.items()}


def histogram_features(levels: np.ndarray, count: int) -> dict[str, Value]:
    """Return the features of the histogram of grey levels.

    Args:
        levels: Level of each voxel, from 1.
        count: How many levels there are.

    Source:
        IBSI manual, intensity histogram features.
    """
    found = intensity_statistics(levels.astype(np.float64), "ih")
    counts = np.bincount(levels, minlength=count + 1)[1:].astype(np.float64)
    share = counts[counts > 0] / counts.sum()
    most = np.flatnonzero(counts == counts.max()) + 1
    found["ih_mode"] = float(most[np.abs(most - levels.mean()).argmin()])
    found["ih_entropy"] = float(-(share * np.log2(share)).sum() + 0.0)
    found["ih_uniformity"] = float((share**2).sum())
    gradients = ("ih_max_grad", "ih_max_grad_g", "ih_min_grad", "ih_min_grad_g")
    if count < 2:
        return found | dict.fromkeys(gradients, "a histogram of one level has no gradient")
    slope = np.gradient(counts)
    steepest, deepest = int(slope.argmax()), int(slope.argmin())
    numbers = (float(slope[steepest]), float(steepest + 1), float(slope[deepest]), float(deepest + 1))
    return found | dict(zip(gradients, numbers, strict=True))


def intensity_volume_features(levels: np.ndarray, intensities: Float[np.ndarray, "k"]) -> dict[str, Value]:
    """Return the features of the intensity-volume histogram.

    Args:
        levels: Level of each voxel, from 1.
        intensities: What each level stands for, lowest first.

    Source:
        IBSI manual, intensity-volume histogram features.
    """
    tags = [f"ivh_{t}" for t in ("v10", "v90", "i10", "i90", "diff_v10_v90", "diff_i10_i90", "auc")]
    if len(intensities) < 2:
        return dict.fromkeys(tags, "constant intensity: there are no fractions of its range")
    counts = np.bincount(levels, minlength=len(intensities) + 1)[1:]
    fraction = (intensities - intensities[0]) / (intensities[-1] - intensities[0])
    volume = 1 - np.concatenate([[0], np.cumsum(counts)[:-1]]) / counts.sum()
    step = intensities[1] - intensities[0]

    def volume_at(share: float) -> float:
        return float(volume[fraction >= share - 1e-12].max())

    def intensity_at(share: float) -> float:
        # Where even the highest level holds more than this share, the next one up would hold none.
        below = intensities[volume <= share + 1e-12]
        return float(below.min()) if len(below) else float(intensities[-1] + step)

    v10, v90, i10, i90 = volume_at(0.1), volume_at(0.9), intensity_at(0.1), intensity_at(0.9)
    area = float(np.trapezoid(volume, fraction))
    return dict(zip(tags, (v10, v90, i10, i90, v10 - v90, i10 - i90, area), strict=True))


def local_peaks(
    values: Float[np.ndarray, "z y x"], counted: Bool[np.ndarray, "z y x"], steps: Float[np.ndarray, "3 3"]
) -> dict[str, Value]:
    """Return the local and the global intensity peak: the mean of a sphere of 1 cm3.

    Args:
        values: Intensities of the region and of what lies within 6.2 mm of it, as far as the image reaches.
        counted: The region; not empty.
        steps: Columns are the millimetres of one step along z, y and x.

    Source:
        IBSI manual, local intensity features. Of several voxels of highest intensity the highest peak is taken.
        Spheres that reach out of the image, or hold voxels that are not finite, are means of the rest.
    """
    peaks = peak_map(values, steps)[counted]
    inside = values[counted]
    return {
        "loc_peak_loc": float(peaks[inside == inside.max()].max()),
        "loc_peak_glob": float(peaks.max()),
    }


def peak_map(values: Float[np.ndarray, "z y x"], steps: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "z y x"]:
    """Return for each voxel the mean of a sphere of 1 cm3 around it."""
    reach = np.ceil(PEAK_RADIUS_MM * np.linalg.norm(np.linalg.inv(steps), axis=1)).astype(int)
    offsets = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    places = np.stack([o.ravel() for o in offsets]).astype(np.float64)
    sphere = (np.linalg.norm(steps @ places, axis=0) <= PEAK_RADIUS_MM).reshape(offsets[0].shape).astype(np.float64)
    known = np.isfinite(values)
    # Taken from the mean, so that rounding of the transforms stays far below any intensity.
    middle = float(values[known].mean()) if known.any() else 0.0
    sums = signal.fftconvolve(np.where(known, values - middle, 0.0), sphere, mode="same")
    # How many voxels of a sphere are in the image and known: all, but near an edge or a gap.
    counts = np.rint(signal.fftconvolve(known.astype(np.float64), sphere, mode="same"))
    return np.asarray(sums / np.maximum(counts, 1) + middle)
