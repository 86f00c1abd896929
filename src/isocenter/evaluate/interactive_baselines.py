"""Simple methods behind the harness's door: what a promptable model must beat to be worth its weights.

Planes are shrunk to at most `MOST_PIXELS` along their longer side, as these methods grow slow with size; volumes are
answered slice by slice, and only slices that carry a positive act are answered. The picture's border counts as
background until a negative act says more.

Source:
    Grady, TPAMI 2006 (random walker); Criminisi et al., ECCV 2008 (geodesic distance); Otsu, 1979.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from isocenter.core.errors import CapabilityError
from isocenter.evaluate.interactive_user import Act

__all__ = ["GeodesicDistance", "OtsuInBox", "RandomWalker"]

MOST_PIXELS = 160
_INSIDE, _OUTSIDE = 1, 2

Plane = Float[np.ndarray, "h w"]
Seeds = Int[np.ndarray, "h w"]
Volume = Float[np.ndarray, "z y x"]
Method = Callable[[Plane, Seeds], Bool[np.ndarray, "h w"]]


def _skimage(part: str) -> ModuleType:
    try:
        return import_module(f"skimage.{part}")
    except ModuleNotFoundError as error:
        raise CapabilityError("the baselines need scikit-image: pip install 'isocenter[demo]'") from error


class _Seeded:
    """One image and the seeds so far; each act is answered from all of them."""

    def __init__(self, image: Volume, method: Method) -> None:
        self._image, self._method, self._acts = image, method, list[Act]()

    def act(self, act: Act) -> Volume:
        """Return 1 inside and 0 outside."""
        self._acts.append(act)
        answer = np.zeros(self._image.shape, dtype=np.float32)
        marked = {round(float(z)) for a in self._acts if a.positive for z in a.index_zyx[:, 0]}
        for index in sorted(z for z in marked if 0 <= z < len(self._image)):
            answer[index] = self._plane(index)
        return answer

    def _plane(self, index: int) -> Plane:
        plane = self._image[index]
        shrink = min(1.0, MOST_PIXELS / max(plane.shape))
        small = np.asarray(ndimage.zoom(plane, shrink, order=1) if shrink < 1 else plane, dtype=np.float64)
        low, high = np.percentile(small, (1, 99))
        small = np.clip((small - low) / max(high - low, 1e-6), 0, 1)
        seeds = np.zeros(small.shape, dtype=np.int8)
        seeds[[0, -1], :], seeds[:, [0, -1]] = _OUTSIDE, _OUTSIDE
        for act in self._acts:
            for z, row, column in act.index_zyx:
                if round(float(z)) == index:
                    r, c = (
                        int(np.clip(round(float(v) * shrink), 0, n - 1))
                        for v, n in zip((row, column), small.shape, strict=True)
                    )
                    seeds[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2] = _INSIDE if act.positive else _OUTSIDE
        if not (seeds == _INSIDE).any() or not (seeds == _OUTSIDE).any():
            return np.zeros(plane.shape, dtype=np.float32)
        inside = self._method(small, seeds).astype(np.float32)
        back = [n / s for n, s in zip(plane.shape, inside.shape, strict=True)]
        whole = ndimage.zoom(inside, back, order=1, grid_mode=True, mode="nearest") if shrink < 1 else inside
        return np.asarray(whole >= 0.5, dtype=np.float32)


class RandomWalker:
    """Random walker of scikit-image, beta 300."""

    name = "random walker"

    def begin(self, image: Volume, spacing_mm: tuple[float, float, float] | None) -> _Seeded:
        """Take an image; the spacing is not used."""
        walk = _skimage("segmentation").random_walker

        def method(plane: Plane, seeds: Seeds) -> Bool[np.ndarray, "h w"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(walk(plane, seeds, beta=300, mode="cg_j", tol=1e-3) == _INSIDE)

        return _Seeded(image, method)


class GeodesicDistance:
    """Each pixel goes to the seed that is nearer along paths that avoid change (minimal path cost of scikit-image)."""

    name = "geodesic distance"

    def begin(self, image: Volume, spacing_mm: tuple[float, float, float] | None) -> _Seeded:
        """Take an image; the spacing is not used."""
        paths = _skimage("graph").MCP_Geometric

        def method(plane: Plane, seeds: Seeds) -> Bool[np.ndarray, "h w"]:
            cost = 0.02 + np.hypot(*np.gradient(ndimage.gaussian_filter(plane, 1.0)))
            near, far = (paths(cost).find_costs(np.argwhere(seeds == side))[0] for side in (_INSIDE, _OUTSIDE))
            return np.asarray(near < far)

        return _Seeded(image, method)


class _Boxed:
    """One image; the last box is answered."""

    def __init__(self, image: Volume) -> None:
        self._image = image
        self._threshold = _skimage("filters").threshold_otsu

    def act(self, act: Act) -> Volume:
        """Return 1 inside and 0 outside."""
        answer = np.zeros(self._image.shape, dtype=np.float32)
        low, high = np.rint(act.index_zyx.min(axis=0)), np.rint(act.index_zyx.max(axis=0))
        box = tuple(slice(int(max(a, 0)), int(b) + 1) for a, b in zip(low, high, strict=True))
        part = self._image[box]
        if act.kind != "box" or not part.size:
            return answer
        bright = part > self._threshold(part) if np.ptp(part) > 0 else np.ones(part.shape, dtype=bool)
        middle = bright[tuple(slice(n // 4, -(n // 4) or None) for n in part.shape)]
        answer[box] = bright if middle.mean() >= 0.5 else ~bright
        return answer


class OtsuInBox:
    """Otsu's threshold inside a box: the side that holds the box's middle. It answers boxes and nothing else."""

    name = "Otsu in a box"

    def begin(self, image: Volume, spacing_mm: tuple[float, float, float] | None) -> _Boxed:
        """Take an image; the spacing is not used."""
        return _Boxed(image)
