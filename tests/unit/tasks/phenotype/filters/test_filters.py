"""Filters against their definitions, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.tasks.phenotype.filters import Filter, response_map
from isocenter.tasks.phenotype.filters.apply import filtered_image
from isocenter.tasks.phenotype.filters.kernels import LAWS, wavelet_pair
from isocenter.tasks.phenotype.filters.spectral import riesz_transform

SPACING = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["haar", *(f"db{n}" for n in range(1, 11)), "coif1"])
def test_wavelets_are_orthogonal(name):
    low, high = wavelet_pair(name)
    for shift in range(0, len(low), 2):
        expected = 1.0 if shift == 0 else 0.0
        for a, b, value in ((low, low, expected), (high, high, expected), (low, high, 0.0)):
            assert a[shift:] @ b[: len(b) - shift] == pytest.approx(value, abs=1e-7)
    assert low.sum() == pytest.approx(math.sqrt(2))


def test_daubechies_2_is_the_published_one():
    root = math.sqrt(3)
    published = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * math.sqrt(2))
    assert wavelet_pair("db2")[0][::-1] == pytest.approx(published)


def test_laws_kernels_have_unit_length():
    assert all(np.linalg.norm(k) == pytest.approx(1) for k in LAWS.values())


def test_log_of_a_quadratic_is_its_curvature():
    z, y, x = np.indices((41, 41, 41)) - 20.0
    image = 0.5 * x**2 + 1.5 * y**2 + z
    found = response_map(image, Filter("log", deviation_mm=2.0, cutoff=6.0), SPACING)
    # Convolved with the Laplacian of a Gaussian of volume 1, so the sum of second derivatives: 1 + 3.
    assert found[20, 20, 20] == pytest.approx(4.0, rel=1e-3)


def test_log_in_millimetres_does_not_depend_on_the_voxels():
    fine, coarse = np.zeros((31, 61, 61)), np.zeros((31, 31, 31))
    for array, step in ((fine, 1.0), (coarse, 2.0)):
        _, y, x = np.indices(array.shape, dtype=float)
        array += np.cos((x * step) * 2 * np.pi / 20) * np.cos((y * step) * 2 * np.pi / 20)
    found = [
        response_map(a, Filter("log", deviation_mm=5.0, flat=True), (2.0, s, s))[15, ::n, ::n] / s**0
        for a, s, n in ((fine, 1.0, 2), (coarse, 2.0, 1))
    ]
    # Second derivatives are by voxel: twice as far apart, four times as large.
    assert found[1][10:20, 10:20] == pytest.approx(4 * found[0][10:20, 10:20], abs=0.02)


def test_riesz_keeps_the_energy_and_squares_to_minus_one():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(9, 11, 13))
    image -= image.mean()
    first = [riesz_transform(image, o) for o in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert sum((f**2).sum() for f in first) == pytest.approx((image**2).sum())
    twice = sum(riesz_transform(f, o) for f, o in zip(first, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), strict=True))
    assert twice == pytest.approx(-image)
    second = [riesz_transform(image, o) for o in ((2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1))]
    assert sum((f**2).sum() for f in second) == pytest.approx((image**2).sum())


def _summed_riesz(image, orders_xyz):
    """Riesz by its definition, in explicit sums: no FFT, no code that the package shares."""
    found = np.zeros(image.shape, complex)
    sides = image.shape
    grid = np.indices(sides).reshape(3, -1)
    flat = image.reshape(-1)
    total, (ox, oy, oz) = sum(orders_xyz), orders_xyz
    scale = math.sqrt(math.factorial(total) / (math.factorial(ox) * math.factorial(oy) * math.factorial(oz)))
    for index in np.ndindex(sides):
        if index == (0, 0, 0):
            continue
        wave = [(k if k <= n // 2 else k - n) / n for k, n in zip(index, sides, strict=True)]
        phase = np.exp(-2j * np.pi * sum(w * g for w, g in zip(wave, grid, strict=True)))
        amplitude = (flat * phase).sum() / flat.size
        kz, ky, kx = wave
        factor = (-1j) ** total * scale * kx**ox * ky**oy * kz**oz / math.hypot(kx, ky, kz) ** total
        found += (amplitude * factor * phase.conj()).reshape(sides)
    return found.real


@pytest.mark.parametrize("orders", [(1, 0, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (1, 0, 2)])
def test_riesz_is_what_its_definition_sums_to(orders):
    image = np.random.default_rng(8).normal(size=(5, 7, 9))
    assert riesz_transform(image, orders) == pytest.approx(_summed_riesz(image, orders), abs=1e-12)


def test_riesz_of_a_plane_wave_is_its_sine_times_the_direction():
    z, y, x = np.indices((12, 16, 20))
    phase = 2 * np.pi * (2 * x / 20 + 3 * y / 16 + 1 * z / 12)
    kx, ky, kz = 2 / 20, 3 / 16, 1 / 12
    length = math.hypot(kx, ky, kz)
    for orders, k in (((1, 0, 0), kx), ((0, 1, 0), ky), ((0, 0, 1), kz)):
        assert riesz_transform(np.cos(phase), orders) == pytest.approx(k / length * np.sin(phase), abs=1e-12)


def test_riesz_of_a_blob_is_the_singular_integral_in_space():
    # R_x f(p) = 1/pi2 PV integral of r_x / |r|^4 f(p - r): by the midpoint rule, p on a corner of the fine grid.
    side, middle, sigma = 49, 24, 3.0
    z, y, x = np.indices((side,) * 3) - middle
    found = riesz_transform(np.exp(-(x**2 + y**2 + z**2) / (2 * sigma**2)), (1, 0, 0))

    def direct(step, dz, dy, dx):
        line = np.arange(-20 + step / 2, 20, step)
        rz, ry, rx = np.meshgrid(line, line, line, indexing="ij", sparse=True)
        kernel = rx / (rx**2 + ry**2 + rz**2) ** 2
        blob = np.exp(-((dx - rx) ** 2 + (dy - ry) ** 2 + (dz - rz) ** 2) / (2 * sigma**2))
        return (kernel * blob).sum() * step**3 / np.pi**2

    for dz, dy, dx in ((0, 0, 3), (0, 2, -4), (1, -3, 2), (0, 0, 0)):
        # The rule's error is of the first order in the step, for the kernel's peak: two steps take it out.
        expected = 2 * direct(0.25, dz, dy, dx) - direct(0.5, dz, dy, dx)
        assert found[middle + dz, middle + dy, middle + dx] == pytest.approx(expected, abs=0.01 * found.max())


def test_riesz_along_x_is_odd_in_x():
    image = np.zeros((9, 9, 9))
    image[4, 4, 4] = 1
    found = riesz_transform(image, (1, 0, 0))
    assert found[4, 4, 3] == pytest.approx(-found[4, 4, 5])
    assert abs(found[4, 4, 3]) > 0.01
    assert found[4, 3, 4] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "laws", "kernels": "E5L5S5"},
        {"kind": "wavelet", "wavelet": "db2", "bands": "LHL", "level": 2},
        {"kind": "laws", "kernels": "L5S5", "flat": True},
    ],
)
def test_rotation_invariance_is_what_it_says(settings):
    image = np.random.default_rng(1).normal(size=(16, 16, 16))
    how = Filter(**settings, invariant=True, boundary="periodic")
    turned = np.rot90(image, axes=(1, 2))
    assert response_map(turned, how, SPACING) == pytest.approx(np.rot90(response_map(image, how, SPACING), axes=(1, 2)))


def test_a_simoncelli_band_with_riesz_is_the_riesz_of_the_band_but_for_its_grid():
    x = np.indices((32, 32, 32))[2]
    image = np.cos(2 * np.pi * 6 * x / 32)
    found = response_map(image, Filter("simoncelli", orders=(1, 0, 0)), SPACING)
    band = response_map(image, Filter("simoncelli"), SPACING)
    assert found == pytest.approx(riesz_transform(band, (1, 0, 0)), abs=0.05)


def test_bad_input_is_refused():
    for wrong in (
        {"kind": "sobel"},
        {"kind": "mean", "support": 4},
        {"kind": "mean", "boundary": "wrap"},
        {"kind": "log", "deviation_mm": 0.0},
        {"kind": "laws", "kernels": "L5"},
        {"kind": "laws", "kernels": "L5E5", "flat": False},
        {"kind": "wavelet", "bands": "LH"},
        {"kind": "wavelet", "wavelet": "db99", "bands": "LHL"},
        {"kind": "riesz"},
        {"kind": "riesz", "orders": (0, 0, 0)},
        {"kind": "gabor", "invariant": True},
    ):
        with pytest.raises((ConfigError, TypeError)):
            Filter(**wrong)
    with pytest.raises(GeometryError, match="alike"):
        response_map(np.zeros((3, 4, 5)), Filter("gabor"), (2.5, 0.8, 0.7))
    with pytest.raises(PixelError, match="finite"):
        response_map(np.full((3, 4, 5), np.nan), Filter("mean"), SPACING)
    grid = Geometry.axial((3, 4, 5), spacing_mm=(2.5, 0.8, 0.7))
    found = filtered_image(Image(np.ones((1, 3, 4, 5)), grid, Quantity.HU), Filter("mean"))
    assert found.quantity is Quantity.ARBITRARY
    with pytest.raises(GeometryError, match="not known"):
        filtered_image(Image(np.ones((1, 3, 4, 5)), Geometry((3, 4, 5))), Filter("mean"))
