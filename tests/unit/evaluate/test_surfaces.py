"""Surface metrics under both definitions, against the libraries they are equal to and against literal values."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, GeometryError, PixelError, UnitsError
from isocenter.evaluate.surface_elements import element_codes, element_sizes
from isocenter.evaluate.surfaces import assd, border, hausdorff, hd95, masd, nsd, surface_distances
from peers import peer

SPACING_MM = (2.5, 0.8, 0.7)
SHAPE = (12, 22, 18)


def _ball(centre, radii, shape=SHAPE):
    return sum(((g - c) / r) ** 2 for g, c, r in zip(np.indices(shape), centre, radii, strict=True)) <= 1


def _pairs():
    """Masks of every awkward kind; never empty."""
    rng = np.random.default_rng(3)
    a, b = _ball((5, 10, 8), (3.2, 6, 5)), _ball((5.5, 11, 8), (3, 5.5, 6))
    corner, one, far = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    corner[:3, :4, :5], one[4, 5, 6], far[-1, -1, -1] = True, True, True
    full = np.ones(SHAPE, bool)
    yield "balls", a, b
    yield "same", a, a
    yield "one voxel", one, a
    yield "one voxel and a far one", one, far
    yield "at the image's border", corner, full
    yield "speckled", a ^ (rng.random(SHAPE) < 0.03), b ^ (rng.random(SHAPE) < 0.03)
    yield "noise", rng.random((5, 12, 10)) < 0.4, rng.random((5, 12, 10)) < 0.4
    yield "ball in noise", a, rng.random(SHAPE) < 0.002


PAIRS = list(_pairs())
BORDER = {"hd95": 2.4813003540, "nsd": 0.8197115659}
ELEMENTS = {"hd95": 1.6, "nsd": 0.9150391961230679, "means": (0.4097325972552064, 0.34247109471371495)}
NAMES = [p[0] for p in PAIRS]


@pytest.mark.parametrize(("name", "a", "b"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("spacing_mm", [SPACING_MM, (1.0, 1.0, 1.0), (0.3, 4.0, 1.1)])
@pytest.mark.parametrize("plane", [False, True], ids=["volume", "plane"])
def test_elements_equal_surface_distance(name, a, b, spacing_mm, plane):
    theirs = peer("surface_distance")
    if plane:
        a, b, spacing_mm = a.any(axis=0), b.any(axis=0), spacing_mm[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d = theirs.compute_surface_distances(a, b, spacing_mm)
    ours = surface_distances(a, b, spacing_mm=spacing_mm, surface="elements")
    for percentile in (100, 95, 50):
        expected = theirs.compute_robust_hausdorff(d, percentile)
        assert ours.hausdorff_mm(percentile) == pytest.approx(expected, abs=1e-6)
    for tolerance in (0.0, 0.9, 3.0):
        assert ours.nsd(tolerance) == pytest.approx(theirs.compute_surface_dice_at_tolerance(d, tolerance), abs=1e-6)
    assert ours.directed_means_mm() == pytest.approx(theirs.compute_average_surface_distance(d), abs=1e-6)


@pytest.mark.parametrize(("name", "a", "b"), PAIRS, ids=NAMES)
def test_border_voxels_equal_monai(name, a, b):
    torch = pytest.importorskip("torch")
    theirs = peer("monai.metrics")
    tensors = [torch.from_numpy(np.stack([~m, m])[None]) for m in (b, a)]
    ours = surface_distances(a, b, spacing_mm=SPACING_MM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for percentile in (100, 95):
            found = theirs.compute_hausdorff_distance(*tensors, percentile=percentile, spacing=SPACING_MM)
            assert ours.hausdorff_mm(percentile) == pytest.approx(float(found), rel=1e-6)
        found = theirs.compute_surface_dice(*tensors, class_thresholds=[1.0], spacing=SPACING_MM)
        assert ours.nsd(1.0) == pytest.approx(float(found), abs=1e-6)
        found = theirs.compute_average_surface_distance(*tensors, symmetric=True, spacing=SPACING_MM)
        assert ours.assd_mm() == pytest.approx(float(found), rel=1e-6)


def test_sizes_of_elements_equal_surface_distance():
    tables = peer("surface_distance.lookup_tables")
    for spacing in [(1.0, 1.0, 1.0), SPACING_MM, (0.1, 3.0, 7.0)]:
        expected = tables.create_table_neighbour_code_to_surface_area(spacing)
        assert np.allclose(element_sizes(spacing), expected, atol=1e-9)
        expected = tables.create_table_neighbour_code_to_contour_length(spacing[:2])
        assert np.allclose(element_sizes(spacing[:2]), expected, atol=1e-9)


def test_literal_values_of_both_definitions():
    """Computed with MONAI 1.6.1 (border voxels) and surface-distance 0.1 (elements)."""
    _, a, b = PAIRS[0]
    ours = surface_distances(a, b, spacing_mm=SPACING_MM)
    assert ours.hausdorff_mm(95) == pytest.approx(BORDER["hd95"], rel=1e-6)  # MONAI counts in float32
    assert ours.nsd(1.0) == pytest.approx(BORDER["nsd"], abs=1e-6)
    ours = surface_distances(a, b, spacing_mm=SPACING_MM, surface="elements")
    assert ours.hausdorff_mm(95) == pytest.approx(ELEMENTS["hd95"], abs=1e-6)
    assert ours.nsd(1.0) == pytest.approx(ELEMENTS["nsd"], abs=1e-6)
    assert ours.directed_means_mm() == pytest.approx(ELEMENTS["means"], abs=1e-6)


def test_a_flat_side_has_the_area_of_its_voxels():
    slab = np.zeros((6, 9, 7), bool)
    slab[:3] = True
    codes = element_codes(slab)
    inner = codes[3, 1:-1, 1:-1]
    assert set(inner.ravel().tolist()) == {0b11110000}
    assert element_sizes(SPACING_MM)[0b11110000] == pytest.approx(0.8 * 0.7)
    assert element_sizes((2.0, 3.0))[0b1100] == 3.0


def test_one_voxel_is_an_octahedron_of_eight_triangles():
    codes = element_codes(np.ones((1, 1, 1), bool))
    total = element_sizes(SPACING_MM)[codes].sum()
    half = np.asarray(SPACING_MM) / 2
    sides = half[0] * half[1], half[0] * half[2], half[1] * half[2]
    assert total == pytest.approx(8 * 0.5 * np.sqrt(sum(s**2 for s in sides)))


def test_sizes_know_no_direction():
    """Turned, mirrored and inside out, a pattern keeps its area."""
    table = element_sizes((1.1, 1.1, 1.1))
    for code in range(256):
        cube = np.array([code >> (7 - i) & 1 for i in range(8)], bool).reshape(2, 2, 2)
        for axes in itertools.permutations(range(3)):
            for flips in itertools.product((False, True), repeat=3):
                turned = np.flip(cube.transpose(axes), [i for i in range(3) if flips[i]])
                other = int("".join(str(int(v)) for v in turned.ravel()), 2)
                assert table[other] == pytest.approx(table[code])
        assert table[255 - code] == pytest.approx(table[code])


@pytest.mark.parametrize("surface", ["border", "elements"])
@pytest.mark.parametrize(("name", "a", "b"), PAIRS, ids=NAMES)
def test_distances_are_those_of_an_exhaustive_search(name, a, b, surface):
    """Near neighbours and the tree together must miss nothing."""
    ours = surface_distances(a, b, spacing_mm=SPACING_MM, surface=surface)
    if surface == "border":
        there, back = border(a), border(b)
    else:
        there, back = ((c != 0) & (c != 255) for c in (element_codes(a), element_codes(b)))
    p, q = (np.argwhere(m) * SPACING_MM for m in (there, back))
    table = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    assert np.allclose(ours.to_prediction_mm, table.min(1), atol=1e-9)
    assert np.allclose(ours.to_reference_mm, table.min(0), atol=1e-9)


@pytest.mark.parametrize("surface", ["border", "elements"])
def test_empty_masks_give_what_is_stated(surface):
    empty, some = np.zeros(SHAPE, bool), PAIRS[0][1]
    both = surface_distances(empty, empty, spacing_mm=SPACING_MM, surface=surface)
    assert (both.hausdorff_mm(), both.assd_mm(), both.masd_mm(), both.nsd(1.0)) == (0, 0, 0, 1)
    for pair in ((some, empty), (empty, some)):
        one = surface_distances(*pair, spacing_mm=SPACING_MM, surface=surface)
        assert (one.hausdorff_mm(), one.assd_mm(), one.masd_mm(), one.nsd(1.0)) == (np.inf, np.inf, np.inf, 0)


def test_mean_distances_of_surfaces_of_different_size():
    a, b = np.zeros((1, 12), bool), np.zeros((1, 12), bool)
    a[0, 0], b[0, [0, 2, 4]] = True, True
    ours = surface_distances(a, b, spacing_mm=(1.0, 1.0))
    assert ours.directed_means_mm() == (0.0, 2.0)
    assert (ours.assd_mm(), ours.masd_mm()) == (1.5, 1.0)


def test_what_does_not_fit_is_refused():
    a = PAIRS[0][1]
    with pytest.raises(GeometryError, match="different grids"):
        surface_distances(a, a[1:], spacing_mm=SPACING_MM)
    with pytest.raises(PixelError, match="must be bool"):
        surface_distances(a.astype(float), a, spacing_mm=SPACING_MM)
    with pytest.raises(UnitsError, match="positive distances"):
        surface_distances(a, a, spacing_mm=(1.0, 1.0))
    with pytest.raises(ConfigError, match="percentile"):
        surface_distances(a, a, spacing_mm=SPACING_MM).hausdorff_mm(101)
    line = np.ones(4, bool)
    with pytest.raises(GeometryError, match="two or three axes"):
        surface_distances(line, line, spacing_mm=(1.0,), surface="elements")


@pytest.mark.parametrize("surface", ["border", "elements"])
def test_single_figures_are_those_of_the_distances(surface):
    _, a, b = PAIRS[0]
    d = surface_distances(a, b, spacing_mm=SPACING_MM, surface=surface)
    how = {"spacing_mm": SPACING_MM, "surface": surface}
    assert nsd(a, b, tolerance_mm=0.9, **how) == d.nsd(0.9)
    assert (hausdorff(a, b, **how), hd95(a, b, **how)) == (d.hausdorff_mm(100), d.hausdorff_mm(95))
    assert (assd(a, b, **how), masd(a, b, **how)) == (d.assd_mm(), d.masd_mm())
