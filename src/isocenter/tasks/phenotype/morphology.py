"""Morphology of a region (IBSI HCUG), from its mesh, its voxels and the bodies around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft
from scipy.spatial import ConvexHull

from isocenter.tasks.phenotype.enclosing import ellipsoid_area, least_box, least_ellipsoid
from isocenter.tasks.phenotype.mesh import line_ends, mesh_area_volume

__all__ = ["Shape", "longest_distance", "morphology_features"]

Value = float | str
"""A number, or why there is none."""

# Above these the transforms of Moran's I and Geary's C use single precision, or would not fit into memory.
_SINGLE = 1 << 24
_MOST = 1 << 26
_FLAT = 1e-9


@dataclass(frozen=True)
class Shape:
    """A region in its bounding box.

    Args:
        inside: Its voxels before any were left out for their intensity.
        counted: Those left for intensity.
        values: Intensity of the whole box; looked at where `counted`.
        steps: Columns are the millimetres of one step along z, y and x.
        finite: Whether every counted intensity is a finite number.
    """

    inside: Bool[np.ndarray, "z y x"]
    counted: Bool[np.ndarray, "z y x"]
    values: Float[np.ndarray, "z y x"]
    steps: Float[np.ndarray, "3 3"]
    finite: bool = True


def morphology_features(shape: Shape) -> dict[str, Value]:
    """Return every morphological feature, or why there is none.

    Args:
        shape: The region; not empty.

    Source:
        IBSI manual, morphological features. Moran's I and Geary's C take all pairs of voxels, by Fourier transforms.
    """
    area, volume = mesh_area_volume(shape.inside, shape.steps)
    voxel = abs(float(np.linalg.det(shape.steps)))
    count = int(np.count_nonzero(shape.inside))
    ends = np.concatenate([line_ends(shape.inside, axis) for axis in range(3)])
    hull = ConvexHull(ends @ shape.steps.T)
    corners = hull.points[hull.vertices]
    spheres = 36 * np.pi * volume**2
    found: dict[str, Value] = {
        "morph_volume": volume,
        "morph_vol_approx": count * voxel,
        "morph_area_mesh": area,
        "morph_av": area / volume,
        "morph_comp_1": volume / (np.sqrt(np.pi) * area**1.5),
        "morph_comp_2": spheres / area**3,
        "morph_sph_dispr": area / spheres ** (1 / 3),
        "morph_sphericity": spheres ** (1 / 3) / area,
        "morph_asphericity": (area**3 / spheres) ** (1 / 3) - 1,
        "morph_diam": longest_distance(corners),
    }
    spacing = np.linalg.norm(shape.steps, axis=0)
    edges = np.array(shape.inside.shape) * spacing
    found |= _densities("aabb", volume, area, float(np.prod(edges)), _box_area(edges))
    box = least_box(hull)
    found |= _densities("ombb", volume, area, float(np.prod(box)), _box_area(box))
    semi = least_ellipsoid(corners)
    found |= _densities("mvee", volume, area, 4 / 3 * np.pi * float(np.prod(semi)), ellipsoid_area(semi))
    found |= _densities("conv_hull", volume, area, float(hull.volume), float(hull.area))
    return found | _axes(shape, volume, area) | _with_intensity(shape, volume)


def longest_distance(points: Float[np.ndarray, "n d"]) -> float:
    """Return the longest distance between two points."""
    best = 0.0
    for start in range(0, len(points), 512):
        block = points[start : start + 512]
        squared = (block**2).sum(1)[:, None] - 2 * block @ points[start:].T + (points[start:] ** 2).sum(1)[None]
        row, column = np.unravel_index(int(squared.argmax()), squared.shape)
        best = max(best, float(np.linalg.norm(block[row] - points[start + column])))
    return best


def _box_area(edges: Float[np.ndarray, "3"]) -> float:
    a, b, c = edges.tolist()
    return float(2 * (a * b + b * c + c * a))


def _densities(body: str, volume: float, area: float, body_volume: float, body_area: float) -> dict[str, Value]:
    return {f"morph_vol_dens_{body}": volume / body_volume, f"morph_area_dens_{body}": area / body_area}


def _axes(shape: Shape, volume: float, area: float) -> dict[str, Value]:
    """Principal axes of the voxel centres, and the ellipsoid that they make."""
    places = [a.astype(np.float64) for a in np.nonzero(shape.inside)]
    count = len(places[0])
    tags = ("maj_axis", "min_axis", "least_axis", "elongation", "flatness")
    if count < 2:
        reason = "a region of one voxel has no principal axes"
        missing: dict[str, Value] = dict.fromkeys((f"morph_pca_{t}" for t in tags), reason)
        return missing | {"morph_vol_dens_aee": reason, "morph_area_dens_aee": reason}
    centred = [a - a.mean() for a in places]
    moments = np.array([[a @ b for a in centred] for b in centred]) / (count - 1)
    spread = np.maximum(np.linalg.eigvalsh(shape.steps @ moments @ shape.steps.T)[::-1], 0.0)
    spread[spread < _FLAT * spread[0]] = 0.0
    lengths = 4 * np.sqrt(spread)
    major, minor, least = lengths.tolist()
    found: dict[str, Value] = {
        "morph_pca_maj_axis": major,
        "morph_pca_min_axis": minor,
        "morph_pca_least_axis": least,
        "morph_pca_elongation": minor / major,
        "morph_pca_flatness": least / major,
    }
    if least == 0:
        reason = "the region's voxel centres lie in one plane: the ellipsoid of its principal axes has no volume"
        return found | {"morph_vol_dens_aee": reason, "morph_area_dens_aee": reason}
    semi = lengths / 2
    return found | _densities("aee", volume, area, 4 / 3 * np.pi * float(np.prod(semi)), ellipsoid_area(semi))


def _with_intensity(shape: Shape, volume: float) -> dict[str, Value]:
    tags = ("morph_com", "morph_integ_int", "morph_moran_i", "morph_geary_c")
    if not shape.counted.any():
        return dict.fromkeys(tags, "no voxel is left after resegmentation")
    values = shape.values[shape.counted]
    if not shape.finite:
        return dict.fromkeys(tags, "the region holds intensities that are not finite numbers")
    found: dict[str, Value] = {"morph_integ_int": volume * float(values.mean())}
    total = float(values.sum())
    if total == 0:
        found["morph_com"] = "intensities sum to 0: their centre of mass is not defined"
    else:
        weighted = np.array([values @ a / total for a in np.nonzero(shape.counted)])
        shift = np.array([a.mean() for a in np.nonzero(shape.inside)]) - weighted
        found["morph_com"] = float(np.linalg.norm(shape.steps @ shift))
    return found | _spatial(shape, values)


def _spatial(shape: Shape, values: Float[np.ndarray, "n"]) -> dict[str, Value]:
    """Moran's I and Geary's C with weights of one over the distance, over all pairs."""
    tags = ("morph_moran_i", "morph_geary_c")
    n = len(values)
    if n < 2:
        return dict.fromkeys(tags, "a region of one voxel has no pair of voxels")
    deviation = values - values.mean()
    variance = float(deviation @ deviation)
    if variance == 0:
        return dict.fromkeys(tags, "constant intensity: autocorrelation is not defined")
    size = tuple(int(fft.next_fast_len(2 * n_along - 1, real=True)) for n_along in shape.counted.shape)
    if np.prod(size) > _MOST:
        return dict.fromkeys(tags, f"the region's box is too large for all pairs of voxels ({n} voxels)")
    kind = np.float32 if np.prod(size) > _SINGLE else np.float64
    kernel = fft.rfftn(_inverse_distances(size, shape.steps).astype(kind)).real
    box = np.zeros(shape.counted.shape, kind)
    box[shape.counted] = 1
    near = fft.irfftn(fft.rfftn(box, size) * kernel, size)[tuple(map(slice, box.shape))][shape.counted]
    box[shape.counted] = deviation
    spectrum = fft.rfftn(box, size)
    # By Parseval: the half spectrum counts twice but for its first plane, and its last where the length is even.
    power = (spectrum.real**2 + spectrum.imag**2) * kernel
    whole = 2 * float(power.sum(dtype=np.float64)) - float(power[..., 0].sum(dtype=np.float64))
    if size[2] % 2 == 0:
        whole -= float(power[..., -1].sum(dtype=np.float64))
    product = whole / float(np.prod(size))
    weights = float(near.sum(dtype=np.float64))
    squares = 2 * (float(deviation**2 @ near) - product)
    return {
        "morph_moran_i": n / weights * product / variance,
        "morph_geary_c": (n - 1) / (2 * weights) * squares / variance,
    }


def _inverse_distances(size: tuple[int, ...], steps: Float[np.ndarray, "3 3"]) -> np.ndarray:
    """Return one over the distance of each offset on a periodic grid; 0 for none."""
    offsets = [fft.fftfreq(s, 1 / s) for s in size]
    gram = steps.T @ steps
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    squared = gram[0, 0] * z**2 + gram[1, 1] * y**2 + gram[2, 2] * x**2
    if np.abs(gram - np.diag(np.diag(gram))).max() > _FLAT * gram.max():
        squared = squared + 2 * (gram[0, 1] * z * y + gram[0, 2] * z * x + gram[1, 2] * y * x)
    squared[0, 0, 0] = np.inf
    return np.asarray(1 / np.sqrt(squared))
