"""Diameters, uptake, diffusion and response categories, by hand and by the rules of RECIST 1.1."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import DataError, GeometryError, UnitsError
from isocenter.tasks.phenotype.clinical import axial_diameters, clinical_measurements, diffusion_statistics, uptake
from isocenter.tasks.phenotype.response import Lesion, response_category, sum_of_diameters, volume_change

GRID = Geometry.axial((9, 30, 30), spacing_mm=(5.0, 2.0, 1.0))


def test_longest_diameter_is_not_that_of_the_largest_area():
    inside = np.zeros(GRID.shape, bool)
    inside[2, 5:15, 5:15] = True  # 20 x 10 mm
    inside[6, 20, 2:28] = True  # 2 x 26 mm
    found = axial_diameters(GRID, inside)
    assert found.longest_mm == pytest.approx(26.0, abs=0.2)
    assert found.plane == 6
    # Outlines run midway between voxels along the axes, so corners are cut: 20 mm by 10 mm, less a little.
    square = axial_diameters(GRID, inside & (np.indices(GRID.shape)[0] == 2))
    assert square.product_mm2 == pytest.approx(square.longest_mm * square.short_mm)
    assert found.product_mm2 == pytest.approx(square.product_mm2)


def test_parts_of_a_plane_are_measured_apart():
    inside = np.zeros(GRID.shape, bool)
    inside[4, 2:4, 2:6] = True
    inside[4, 20:22, 20:28] = True
    assert axial_diameters(GRID, inside).longest_mm == pytest.approx(np.hypot(8, 2), abs=0.6)


def test_a_stack_of_sagittal_planes_is_measured_across_its_own_axis():
    turned = GRID.reoriented((2, 0, 1), (False, False, False))
    inside = np.zeros(GRID.shape, bool)
    inside[2:7, 5:15, 5:12] = True
    straight = axial_diameters(GRID, inside)
    again = axial_diameters(turned, inside.transpose(2, 0, 1))
    assert (again.longest_mm, again.short_mm) == pytest.approx((straight.longest_mm, straight.short_mm))


def test_no_axial_planes_no_diameter():
    angle = np.radians(40)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    tilted = Geometry.from_directions(
        GRID.shape, turn @ np.eye(3)[:, ::-1], spacing_mm=(5.0, 2.0, 1.0), origin_mm=(0, 0, 0)
    )
    inside = np.ones(GRID.shape, bool)
    with pytest.raises(GeometryError, match="tilted by 40 degrees"):
        axial_diameters(tilted, inside)


def _pet(values, quantity=Quantity.SUVBW):
    geometry = Geometry.axial(values.shape, spacing_mm=(3.0, 2.0, 2.0))
    inside = np.zeros(values.shape, np.uint16)
    inside[4:8, 6:12, 6:12] = 1
    return Image(values[None], geometry, quantity, "PT"), Mask(inside, geometry, (Segment(1, "lesion"),))


def test_uptake_by_hand():
    values = np.random.default_rng(0).gamma(4, 1, (12, 18, 18))
    image, mask = _pet(values)
    box = (slice(4, 8), slice(6, 12), slice(6, 12))
    found = uptake(image, mask.array[box] == 1, box, 1)
    inside = values[box]
    places = np.argwhere(np.ones(values.shape, bool)) * (3.0, 2.0, 2.0)
    peaks = [
        values.ravel()[np.linalg.norm(places - np.array(p) * (3.0, 2.0, 2.0), axis=1) <= 6.2035].mean()
        for p in np.argwhere(mask.array == 1)
    ]
    volume_ml = inside.size * 12 / 1000
    expected = (inside.max(), inside.mean(), max(peaks), inside.mean() * volume_ml)
    assert [m.value for m in found] == pytest.approx(list(expected))


def test_uptake_needs_suv():
    image, mask = _pet(np.ones((12, 18, 18)), Quantity.BQML)
    box = (slice(4, 8), slice(6, 12), slice(6, 12))
    with pytest.raises(UnitsError, match="without weight, dose or times"):
        uptake(image, mask.array[box] == 1, box, 1)
    found, missing = clinical_measurements(image, mask)
    assert {m.name.value for m in found} == {"RECIST-LONGEST", "RECIST-SHORT", "WHO-PRODUCT"}
    assert any("not SUVbw" in m for m in missing)


def test_diffusion_checks_its_unit():
    values = np.array([0.8, 1.0, 1.2])
    assert diffusion_statistics(values, "10-3.mm2/s")[0].value == pytest.approx(1000)
    assert diffusion_statistics(values * 1000, "um2/s")[0].value == pytest.approx(1000)
    for wrong in ("um2/s", "mm2/s"):
        with pytest.raises(UnitsError, match="another unit"):
            diffusion_statistics(values, wrong)
    with pytest.raises(UnitsError, match="not in"):
        diffusion_statistics(values, "mm")
    with pytest.raises(UnitsError, match="finite"):
        diffusion_statistics(np.array([1.0, np.nan]), "um2/s")


def _lesions(*sizes, nodal=False):
    return [Lesion(f"L{n}", s, s if nodal else s / 2, nodal) for n, s in enumerate(sizes)]


@pytest.mark.parametrize(
    ("before", "after", "nadir", "category"),
    [
        ((50.0, 50.0), (0.0, 0.0), None, "CR"),
        ((50.0, 50.0), (35.0, 35.0), None, "PR"),
        ((50.0, 50.0), (35.0, 35.1), None, "SD"),
        ((50.0, 50.0), (60.0, 60.0), None, "PD"),
        ((50.0, 50.0), (60.0, 59.9), None, "SD"),
        ((10.0, 10.0), (12.0, 12.4), None, "SD"),  # 22 %, but below 5 mm
        ((50.0, 50.0), (30.0, 30.0), 40.0, "PD"),  # half of the baseline, and half above the nadir
        ((50.0, 50.0), (22.0, 22.0), 40.0, "PR"),
        ((50.0, 50.0), (3.0, 3.0), 0.0, "PD"),  # came back after all had gone
        ((50.0, 50.0), (2.0, 2.0), 0.0, "PR"),
    ],
)
def test_target_response(before, after, nadir, category):
    assert response_category(_lesions(*before), _lesions(*after), nadir_mm=nadir).category == category


def test_nodes_count_by_their_short_axis_and_are_normal_below_10_mm():
    before = [Lesion("node", 30.0, 20.0, nodal=True)]
    assert sum_of_diameters(before) == 20
    assert response_category(before, [Lesion("node", 25.0, 9.9, nodal=True)]).category == "CR"
    assert response_category(before, [Lesion("node", 25.0, 10.0, nodal=True)]).category == "PR"


@pytest.mark.parametrize(
    ("after", "new", "other", "category"),
    [
        (0.0, False, "CR", "CR"),
        (0.0, False, "non-CR/non-PD", "PR"),
        (0.0, False, "NE", "PR"),
        (20.0, False, "NE", "PR"),
        (50.0, False, "non-CR/non-PD", "SD"),
        (0.0, True, "CR", "PD"),
        (50.0, False, "PD", "PD"),
        (None, False, "non-CR/non-PD", "NE"),
        (None, True, "none", "PD"),
    ],
)
def test_overall_response_is_table_1(after, new, other, category):
    now = [] if after is None else _lesions(after)
    assert response_category(_lesions(50.0), now, new_lesions=new, non_target=other).category == category


def test_small_targets_are_noted_and_nonsense_is_refused():
    assert "too small" in response_category(_lesions(9.0), _lesions(9.0)).notes[0]
    for wrong in (
        lambda: response_category([], []),
        lambda: response_category(_lesions(20.0), _lesions(20.0, 10.0)),
        lambda: response_category(_lesions(20.0), _lesions(20.0, nodal=True)),
        lambda: response_category(_lesions(20.0), _lesions(20.0), nadir_mm=30.0),
        lambda: response_category(_lesions(0.0), _lesions(0.0)),
        lambda: Lesion("x", -1.0, 0.0),
        lambda: Lesion("x", float("nan"), 0.0),
        lambda: Lesion("x", 1.0, 2.0),
        lambda: volume_change(0.0, 1.0),
        lambda: volume_change(1.0, 1.0, days=-3.0),
    ):
        with pytest.raises(DataError):
            wrong()


def test_an_ejection_fraction_is_a_share_of_volume():
    assert -volume_change(120.0, 50.0).share == pytest.approx(0.5833, abs=1e-4)
    assert volume_change(8.0, 4.0, days=30.0).doubling_days == pytest.approx(-30)


@pytest.mark.parametrize(
    ("quantity", "modality"), [(Quantity.HU, "CT"), (Quantity.SUVBW, "PT"), (Quantity.ARBITRARY, "CT")]
)
def test_nothing_is_measured_in_a_quantity_that_the_image_does_not_have(quantity, modality):
    geometry = Geometry((4, 4, 4), np.diag([1.0, 1.0, 1.0, 1.0]))
    array = np.full((1, 4, 4, 4), 45.0, np.float32)
    array[0, 1, 1, 1] = 50.0
    labels = np.zeros((4, 4, 4), np.uint16)
    labels[1:3, 1:3, 1:3] = 1
    mask = Mask(labels, geometry, (Segment(1, "a"),))
    with pytest.raises(UnitsError, match="map of MR"):
        clinical_measurements(Image(array, geometry, quantity, modality=modality), mask, diffusion_unit="um2/s")
    _, missing = clinical_measurements(Image(array, geometry, Quantity.SUVBW, modality="MR"), mask)
    assert "SUV and glycolysis: the image is MR, not PT" in missing
