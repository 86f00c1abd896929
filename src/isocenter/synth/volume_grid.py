"""Where the voxels of a volume lie in the scene, and cheap arithmetic on cubes.

Everything that is smooth is evaluated on a coarse lattice and brought to full resolution by one small matrix per axis;
everything that is small is evaluated in its own box. Both together make a volume cost about as much as a few pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = [
    "SPLINE_GAIN",
    "Box",
    "Cube",
    "Grid",
    "Points",
    "View",
    "gaussian",
    "product",
    "resampled",
    "separable",
    "smooth_field",
]

Cube = Float[np.ndarray, "z y x"]
Points = Float[np.ndarray, "3 n"]
ONE_THREAD = 2**18  # multiplications up to which OpenBLAS uses one thread; more threads would round otherwise
SPLINE_GAIN = 3.0  # what brings white coefficients to a field of unit deviation
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def spline_basis(positions: Float[np.ndarray, " n"], cells: int) -> Float[np.ndarray, "n cells"]:
    """Return the cubic B-spline basis over [-1, 1], one row per position."""
    grid = (np.clip(positions, -1.3, 1.3) + 1.3) / 2.6 * (cells - 3) + 1
    t = np.abs(grid[:, None] - np.arange(cells)[None, :])
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.clip(2 - t, 0, None) ** 3 / 6
    return np.asarray(np.where(t < 1, inner, outer), dtype=np.float32)


def _from_left(
    matrix: Float[np.ndarray, "a k"], values: Float[np.ndarray, "k n"], out: Float[np.ndarray, "a n"]
) -> None:
    """Write matrix @ values into `out`, in blocks that a BLAS does not divide among threads."""
    step = max(1, ONE_THREAD // matrix.size)
    for first in range(0, values.shape[1], step):
        np.matmul(matrix, values[:, first : first + step], out=out[:, first : first + step])


def product(matrix: Float[np.ndarray, "a k"], values: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "a n"]:
    """Return matrix @ values; the bytes do not depend on the number of threads."""
    out = np.empty((matrix.shape[0], values.shape[1]), dtype=np.float32)
    _from_left(np.asarray(matrix, dtype=np.float32), values, out)
    return out


def separable(
    values: Cube, along: tuple[Float[np.ndarray, "a z"], Float[np.ndarray, "b y"], Float[np.ndarray, "c x"]]
) -> Float[np.ndarray, "a b c"]:
    """Apply one matrix along each axis; the bytes do not depend on the number of threads.

    Example:
        >>> double = 2 * np.eye(2, dtype=np.float32)
        >>> separable(np.ones((2, 2, 2), np.float32), (double, double, double))[0, 0].tolist()
        [8.0, 8.0]
    """
    z, y, x = values.shape
    a, b, c = (len(matrix) for matrix in along)
    rows, across = values.reshape(z * y, x), np.ascontiguousarray(along[2].T)
    flat = np.empty((z * y, c), dtype=np.float32)
    step = max(1, ONE_THREAD // across.size)
    for first in range(0, z * y, step):
        np.matmul(rows[first : first + step], across, out=flat[first : first + step])
    middle = np.empty((z, b, c), dtype=np.float32)
    for plane, out in zip(flat.reshape(z, y, c), middle, strict=True):
        _from_left(along[1], plane, out)
    whole = np.empty((a, b * c), dtype=np.float32)
    _from_left(along[0], middle.reshape(z, b * c), whole)
    return whole.reshape(a, b, c)


def resampled(positions: Float[np.ndarray, " n"], count: int) -> Float[np.ndarray, "n count"]:
    """Return the matrix that interpolates linearly between `count` samples at fractional sample positions."""
    at = np.clip(positions, 0, count - 1)
    weights = np.clip(1 - np.abs(at[:, None] - np.arange(count)[None, :]), 0, None)
    return np.asarray(weights, dtype=np.float32)


def gaussian(n: int, sigma: float) -> Float[np.ndarray, "n n"]:
    """Return the matrix that smooths n samples with a Gaussian; rows sum to one, so borders do not darken."""
    index = np.arange(n)
    kernel = np.exp(-(((index[:, None] - index[None, :]) / max(sigma, 1e-3)) ** 2) / 2)
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), dtype=np.float32)


def smooth_field(rng: np.random.Generator, voxels: int, cells: int, amplitude: float) -> Cube:
    """Return a smooth random field whose details are about 2 / cells of the cube's side wide."""
    basis = spline_basis((np.arange(voxels) + 0.5) / voxels * 2 - 1, cells)
    coefficients = rng.standard_normal((cells, cells, cells), dtype=np.float32) * np.float32(amplitude * SPLINE_GAIN)
    return separable(coefficients, (basis, basis, basis))


@dataclass(frozen=True, eq=False)
class View:
    """A cubic window on the scene, turned, and bent by a displacement of its own.

    Args:
        centre: Scene point in the middle.
        half: Half of its side, scene units.
        turn: Rotation from the window's axes to the scene's.
        warp: B-spline coefficients of the displacement, as a share of `half`.
    """

    centre: Float[np.ndarray, "3"]
    half: float
    turn: Float[np.ndarray, "3 3"]
    warp: Float[np.ndarray, "3 c c c"]


class Grid:
    """Scene coordinates of the voxels of a view, on lattices of several pitches.

    Args:
        view: The window.
        voxels: Along each side.
    """

    def __init__(self, view: View, voxels: int) -> None:
        self.view = view
        self.voxels = voxels
        self.voxel = 2 * view.half / voxels
        self._lattices: dict[int, Float[np.ndarray, "3 z y x"]] = {}
        coarse = np.linspace(-1, 1, 7, dtype=np.float32)
        bends = np.stack([self._displacement(d, coarse) for d in range(3)])
        slopes = [np.abs(np.diff(bends, axis=axis)).max() * 3 for axis in (1, 2, 3)]
        self.slack = 1 / (1 - min(0.6, float(np.linalg.norm(slopes))))

    def _displacement(self, axis: int, positions: Float[np.ndarray, " n"]) -> Cube:
        basis = spline_basis(positions, self.view.warp.shape[1])
        return separable(self.view.warp[axis], (basis, basis, basis))

    def lattice(self, stride: int) -> Float[np.ndarray, "3 z y x"]:
        """Return scene coordinates (z, y, x) at every stride-th voxel, one lattice point beyond the last voxel."""
        if stride not in self._lattices:
            count = -(-(self.voxels - 1) // stride) + 1
            window = ((np.arange(count, dtype=np.float32) * stride + np.float32(0.5)) / self.voxels) * 2 - 1
            half, turn = np.float32(self.view.half), self.view.turn.astype(np.float32)
            z, y, x = window[:, None, None], window[None, :, None], window[None, None, :]
            points = np.empty((3, count, count, count), dtype=np.float32)
            for axis in range(3):
                bent = self._displacement(axis, window)
                bent += turn[axis, 0] * z + np.float32(self.view.centre[axis] / self.view.half)
                bent += turn[axis, 1] * y
                bent += turn[axis, 2] * x
                np.multiply(bent, half, out=points[axis])
            self._lattices[stride] = points
        return self._lattices[stride]

    def locate(self, centres: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "m 3"]:
        """Return where scene points lie in the window, [-1, 1] along each axis, by a few fixed-point steps."""
        straight = (centres - self.view.centre) / self.view.half
        cells = self.view.warp.shape[1]
        flat = self.view.warp.reshape(3, -1)
        at = straight @ self.view.turn
        for _ in range(3):
            z, y, x = (spline_basis(at[:, axis], cells) for axis in range(3))
            weights = (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]).reshape(len(at), -1)
            at = (straight - weights @ flat.T) @ self.view.turn
        return np.asarray(at, dtype=np.float64)

    def box(self, at: Float[np.ndarray, "3"], reach: float, stride: int) -> Box | None:
        """Return the lattice box around a located point that holds everything within `reach`, or None if none does."""
        last = -(-(self.voxels - 1) // stride)
        spread = reach / self.view.half * self.slack + 3 / self.voxels
        if not np.isfinite(spread) or spread > 4:
            return ((0, last + 1),) * 3
        sides = []
        for centre in at:
            low = int(np.floor(((centre - spread + 1) * self.voxels / 2 - 0.5) / stride))
            high = int(np.ceil(((centre + spread + 1) * self.voxels / 2 - 0.5) / stride))
            low, high = max(low, 0), min(high, last)
            if low >= high:
                return None
            sides.append((low, high + 1))
        return sides[0], sides[1], sides[2]

    def refine(
        self, values: Cube, box: Box, stride: int
    ) -> tuple[Float[np.ndarray, "a b c"], tuple[slice, slice, slice]]:
        """Bring values on a lattice box to full resolution; also return where they lie among the voxels."""
        where, matrices = [], []
        for low, high in box:
            first, last = low * stride, min((high - 1) * stride, self.voxels - 1)
            where.append(slice(first, last + 1))
            matrices.append(resampled(np.arange(last + 1 - first) / stride, high - low))
        place = (where[0], where[1], where[2])
        if stride == 1:
            return values, place
        return separable(values, (matrices[0], matrices[1], matrices[2])), place
