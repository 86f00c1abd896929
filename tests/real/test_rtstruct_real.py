"""Structure sets of other makers: dicompyler's breast plan, rt-utils' samples."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core import Geometry
from isocenter.core.errors import DataError
from isocenter.data.images.rtstruct import open_rtstruct, rasterise

pytestmark = pytest.mark.real


def test_dicompyler_plan(shared_data):
    structures = open_rtstruct(shared_data / "dicom" / "dicompyler" / "example_data" / "rtss.dcm")
    assert [r.segment.label for r in structures.regions] == [
        "BODY",
        "Areola",
        "Borders",
        "Breast",
        "Heart",
        "Lt Lung",
        "Nodes",
        "Scar",
        "Tumor Bed",
        "Tumor Bed Block",
    ]
    assert len(structures.regions[0].contours) == 141
    assert structures.regions[0].segment.type.value == "C44.9"  # Skin, NOS
    corner = np.concatenate([c.points_lps_mm for c in structures.regions[0].contours]).min(axis=0)
    grid = Geometry.axial(
        (98, 180, 220),
        spacing_mm=(3.0, 2.5, 2.5),
        origin_mm=(corner[0], corner[1], -122.44),
        frame_uid=structures.regions[0].frame_uid,
    )
    mask, notes = rasterise(structures, grid)
    volume_ml = {
        s.label: np.count_nonzero(mask.segment_array(s.number)) * grid.voxel_volume_mm3 / 1000 for s in mask.segments
    }
    # Contour areas times 3 mm by the shoelace formula, nested contours subtracted: independent of the rasteriser.
    for region in structures.regions:
        if region.segment.label in ("Heart", "Lt Lung", "Tumor Bed Block"):
            expected = sum(_area_mm2(c.points_lps_mm) for c in region.contours) * 3 / 1000
            assert volume_ml[region.segment.label] == pytest.approx(expected, rel=0.02)
    assert volume_ml["Areola"] == 0
    assert 300 < volume_ml["Heart"] < 900
    assert any("gaps" in n for n in notes) or notes == ()


def _area_mm2(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@pytest.mark.parametrize(
    ("file", "regions"),
    [
        ("mock_data/rt.dcm", 1),
        ("mock_data/invalid_reference_rt.dcm", 4),
        ("mock_data/non_existent_reference_rt.dcm", 4),
        ("empty/dummy_rt.dcm", 4),
    ],
)
def test_rt_utils_samples(shared_data, file, regions):
    structures = open_rtstruct(shared_data / "dicom" / "rt_utils" / file)
    assert [r.segment.label for r in structures.regions] == [f"ROI-{n}" for n in range(1, regions + 1)]


def test_a_file_of_another_kind_is_refused(shared_data):
    with pytest.raises(DataError, match="not an RT Structure Set"):
        open_rtstruct(shared_data / "dicom" / "rt_utils" / "mock_data" / "ct_1.dcm")
