"""Radiomic features against slow, plain definitions, and what they say of regions that have none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st
from skimage.measure import marching_cubes, mesh_surface_area

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import ConfigError, GeometryError, PixelError, UnitsError
from isocenter.tasks.phenotype import Discretisation, FeatureSettings, morphology, radiomic_features
from isocenter.tasks.phenotype.features import tags_of
from isocenter.tasks.phenotype.intensity import PEAK_RADIUS_MM
from isocenter.tasks.phenotype.mesh import mesh_area_volume
from isocenter.tasks.phenotype.names import feature_name

SPACING = (2.5, 0.8, 0.7)


def _case(seed=0, shape=(6, 9, 11), *, levels=5):
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    inside = ((z - 2.6) / 2.6) ** 2 + ((y - 4.2) / 4.0) ** 2 + ((x - 5.1) / 5.0) ** 2 < 1
    values = rng.integers(1, levels + 1, shape).astype(np.float64)
    geometry = Geometry.axial(shape, spacing_mm=SPACING)
    return values, inside, geometry


def _features(values, inside, geometry, **settings):
    mask = Mask(inside.astype(np.uint16), geometry, (Segment(1, "region"),))
    (found,) = radiomic_features(Image(values[None], geometry), mask, FeatureSettings(**settings))
    return found


def _got(found):
    return {f.tag: f.value for f in found.features}


def _ball(radius, shape=(20, 22, 24)):
    centre = np.array(shape).reshape(3, 1, 1, 1) / 2 - 0.4
    return ((np.indices(shape) - centre) ** 2).sum(0) < radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_mesh_is_that_of_the_usual_tables(spacing):
    inside = _ball(8.3)
    vertices, faces, _, _ = marching_cubes(np.pad(inside, 1).astype(float), 0.5, spacing=spacing)
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    area, volume = mesh_area_volume(inside, np.diag(spacing))
    assert area == pytest.approx(float(mesh_surface_area(vertices, faces)), rel=1e-4)
    assert volume == pytest.approx(abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum())) / 6, rel=1e-4)


def test_mesh_does_not_depend_on_how_the_grid_lies():
    inside = np.random.default_rng(3).random((5, 6, 7)) > 0.6
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    straight = mesh_area_volume(inside, np.diag(SPACING))
    assert mesh_area_volume(inside, np.ascontiguousarray(turn @ np.diag(SPACING))) == pytest.approx(straight)
    assert mesh_area_volume(inside[::-1, :, ::-1], np.diag(SPACING)) == pytest.approx(straight)


def test_moran_and_geary_over_all_pairs():
    values, inside, geometry = _case()
    got = _got(_features(values, inside, geometry, families=("morph",)))
    points, x = np.argwhere(inside) * SPACING, values[inside]
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    weights = np.divide(1, distance, out=np.zeros_like(distance), where=distance > 0)
    d, n = x - x.mean(), len(x)
    moran = n / weights.sum() * (d @ weights @ d) / (d @ d)
    geary = (n - 1) / (2 * weights.sum()) * (weights * (x[:, None] - x[None]) ** 2).sum() / (d @ d)
    assert got["morph_moran_i"] == pytest.approx(moran, rel=1e-9)
    assert got["morph_geary_c"] == pytest.approx(geary, rel=1e-9)


def test_large_regions_use_single_precision_and_larger_ones_are_refused(monkeypatch):
    values, inside, geometry = _case()
    double = _got(_features(values, inside, geometry, families=("morph",)))
    monkeypatch.setattr(morphology, "_SINGLE", 0)
    single = _got(_features(values, inside, geometry, families=("morph",)))
    assert single["morph_geary_c"] != double["morph_geary_c"]
    for tag in ("morph_moran_i", "morph_geary_c"):
        assert single[tag] == pytest.approx(double[tag], rel=1e-4)
    monkeypatch.setattr(morphology, "_MOST", 10)
    refused = _features(values, inside, geometry, families=("morph",))
    assert "too large" in next(f.reason for f in refused.features if f.tag == "morph_moran_i")


def test_local_peaks_by_hand():
    values, inside, geometry = _case()
    got = _got(_features(values, inside, geometry, families=("loc",)))
    places = np.argwhere(np.ones(inside.shape, bool))
    means = np.array(
        [
            values.ravel()[np.linalg.norm((places - p) * SPACING, axis=1) <= PEAK_RADIUS_MM].mean()
            for p in np.argwhere(inside)
        ]
    )
    highest = values[inside] == values[inside].max()
    assert got["loc_peak_glob"] == pytest.approx(means.max())
    assert got["loc_peak_loc"] == pytest.approx(means[highest].max())


def test_cooccurrence_in_three_dimensions_by_hand():
    values, inside, geometry = _case()
    got = _got(_features(values, inside, geometry, discretisation=Discretisation("none"), families=("cm",)))
    n = int(values[inside].max())
    whole = np.zeros((n, n))
    directions = [d for d in itertools.product((-1, 0, 1), repeat=3) if d != (0, 0, 0)]
    for p in np.argwhere(inside):
        for d in directions:
            q = p + d
            if (q >= 0).all() and (q < inside.shape).all() and inside[tuple(q)]:
                whole[int(values[tuple(p)]) - 1, int(values[tuple(q)]) - 1] += 1
    p = whole / whole.sum()
    i, j = np.indices(p.shape) + 1
    px, mu = p.sum(0), (i * p).sum()
    assert got["cm_contrast_3D_comb"] == pytest.approx((p * (i - j) ** 2).sum())
    assert got["cm_corr_3D_comb"] == pytest.approx(((i - mu) * (j - mu) * p).sum() / (((i - mu) ** 2) * p).sum())
    hxy, hx = -(p * np.log2(p)).sum(), -(px * np.log2(px)).sum()
    hxy1 = -(p * np.log2(px[:, None] * px[None])).sum()
    hxy2 = -(px[:, None] * px[None] * np.log2(px[:, None] * px[None])).sum()
    assert got["cm_info_corr1_3D_comb"] == pytest.approx((hxy - hxy1) / hx)
    assert got["cm_info_corr2_3D_comb"] == pytest.approx(np.sqrt(1 - np.exp(-2 * (hxy2 - hxy))))
    assert got["cm_inv_diff_mom_norm_3D_comb"] == pytest.approx((p / (1 + (i - j) ** 2 / n**2)).sum())


def test_many_regions_at_once_are_each_as_alone():
    rng = np.random.default_rng(5)
    shape = (14, 15, 16)
    geometry = Geometry.axial(shape, spacing_mm=SPACING)
    values = rng.normal(size=shape)
    labels = np.zeros(shape, np.uint16)
    for number, (z, y, x) in enumerate(itertools.product((0, 7), (1, 8), (2, 9)), start=1):
        part = labels[z : z + 3 + number % 4, y : y + 6, x : x + 5]
        part[rng.random(part.shape) > 0.3] = number
    segments = tuple(Segment(n, f"r{n}") for n in range(1, 9))
    together = radiomic_features(Image(values[None], geometry), Mask(labels, geometry, segments))
    for region in together:
        alone = _features(values, labels == region.segment, geometry)
        assert [f.value for f in region.features] == pytest.approx([f.value for f in alone.features], rel=1e-9)


def test_no_feature_is_nan_and_each_missing_one_says_why():
    values, inside, geometry = _case()
    one = np.zeros_like(inside)
    one[3, 4, 5] = True
    for mask in (inside, one, np.ones_like(inside), np.zeros_like(inside)):
        for numbers in (values, np.full_like(values, 7.0), np.zeros_like(values)):
            found = _features(numbers, mask, geometry)
            assert tuple(f.tag for f in found.features) == tags_of(FeatureSettings())
            assert all((f.value is None) == bool(f.reason) for f in found.features)
            assert all(f.value is None or np.isfinite(f.value) for f in found.features)


def test_reasons_are_the_right_ones():
    values, inside, geometry = _case()
    constant = _features(np.full_like(values, 7.0), inside, geometry)
    reasons = {f.tag: f.reason for f in constant.features}
    assert "constant intensity" in reasons["cm_contrast_3D_avg"]
    assert "constant intensity" in reasons["morph_moran_i"]
    assert constant.value("stat_skew") == 0
    holes = values.copy()
    holes[3, 4, 5] = np.nan
    found = _features(holes, inside, geometry)
    assert "1 of" in next(f.reason for f in found.features if f.tag == "stat_mean")
    assert found.value("morph_volume") is not None
    empty = _features(values, np.zeros_like(inside), geometry)
    assert {f.reason for f in empty.features} == {"the segment is empty"}
    gone = _features(values, inside, geometry, intensity_range=(100.0, None))
    assert gone.counted == 0
    assert "resegmentation" in next(f.reason for f in gone.features if f.tag == "stat_mean")


def test_a_border_is_noted_and_unknown_spacing_refuses_millimetres_only():
    values, inside, geometry = _case()
    within = np.zeros_like(inside)
    within[1:-1, 1:-1, 1:-1] = inside[1:-1, 1:-1, 1:-1]
    assert not _features(values, within, geometry).touches_border
    cut = _features(values, np.ones_like(inside), geometry)
    assert cut.touches_border
    assert "edge of the image" in cut.notes[0]
    nowhere = Geometry(inside.shape)
    found = _features(values, inside, nowhere)
    assert found.value("morph_volume") is None
    assert found.value("loc_peak_loc") is None
    known = _features(values, inside, geometry)
    assert found.value("cm_contrast_3D_avg") == known.value("cm_contrast_3D_avg")


def test_a_single_plane_has_flat_features_only():
    values, inside, _ = _case()
    plane = Geometry((1, *inside.shape[1:]))
    found = _features(values[3:4], inside[3:4], plane)
    for f in found.features:
        flat = f.tag.split("_")[0] in ("stat", "ih", "ivh") or feature_name(f.tag).aggregation.startswith("2")
        assert (f.value is not None) == flat, f.tag


def test_resegmentation_and_bins_are_recorded():
    values, inside, geometry = _case(levels=40)
    found = _features(
        values, inside, geometry, intensity_range=(3.0, 38.0), outlier_deviations=1.5,
        discretisation=Discretisation("fixed bin size", width=4.0),
    )  # fmt: skip
    kept = values[inside & (values >= 3) & (values <= 38)]
    expected = np.abs(kept - kept.mean()) <= 1.5 * kept.std()
    assert found.counted == expected.sum()
    assert found.steps["range"]["left_out"] == inside.sum() - len(kept)
    assert found.steps["outliers"]["left_out"] == len(kept) - expected.sum()
    assert found.steps["discretisation"] == {
        "method": "fixed bin size", "width": 4.0, "low": 3.0,
        "bins": int((kept[expected].max() - 3) // 4) + 1,
    }  # fmt: skip


def test_bad_input_is_refused():
    values, inside, geometry = _case()
    mask = Mask(inside.astype(np.uint16), geometry, (Segment(1, "region"),))
    other = Geometry.axial(inside.shape, spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(GeometryError, match="resample the mask"):
        radiomic_features(Image(values[None], other), mask)
    with pytest.raises(PixelError, match="one channel"):
        radiomic_features(Image(np.stack([values, values]), geometry), mask)
    width = FeatureSettings(Discretisation("fixed bin size", width=1.0))
    with pytest.raises(UnitsError, match="lowest intensity"):
        radiomic_features(Image(values[None], geometry), mask, width)
    (found,) = radiomic_features(Image(values[None], geometry, Quantity.HU), mask, width)
    assert found.steps["discretisation"]["low"] == -1000
    for wrong in (
        lambda: Discretisation("bins"),
        lambda: Discretisation(bins=1),
        lambda: Discretisation("fixed bin size"),
        lambda: FeatureSettings(families=("shape",)),
        lambda: FeatureSettings(intensity_range=(2.0, 1.0)),
        lambda: FeatureSettings(outlier_deviations=0.0),
    ):
        with pytest.raises(ConfigError):
            wrong()


@settings_(max_examples=15, deadline=None)
@given(flips=st.tuples(st.booleans(), st.booleans(), st.booleans()), seed=st.integers(0, 1000))
def test_a_mirrored_patient_has_the_same_features(flips, seed):
    values, inside, geometry = _case(seed)
    inside &= np.random.default_rng(seed).random(inside.shape) > 0.1
    axes = [a for a, flip in enumerate(flips) if flip]
    one = _got(_features(values, inside, geometry))
    other = _got(_features(np.flip(values, axes), np.flip(inside, axes), geometry))
    for tag, value in one.items():
        # The least box is searched for, and ties of the search may fall otherwise.
        tolerance = 0.05 if "ombb" in tag else 1e-3 if "mvee" in tag else 1e-6
        assert other[tag] == (None if value is None else pytest.approx(value, rel=tolerance, abs=1e-9)), tag


def test_a_grid_that_lies_otherwise_has_the_same_features():
    values, inside, geometry = _case()
    turn, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(3, 3)))
    oblique = Geometry.from_directions(inside.shape, turn, spacing_mm=SPACING, origin_mm=(10.0, 20.0, 30.0))
    one, other = (_got(_features(values, inside, g)) for g in (geometry, oblique))
    for tag, value in one.items():
        tolerance = 0.05 if "ombb" in tag else 1e-3 if "mvee" in tag else 1e-6
        assert other[tag] == pytest.approx(value, rel=tolerance, abs=1e-9), tag
