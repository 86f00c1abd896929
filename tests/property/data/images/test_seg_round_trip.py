from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seg_cases as cases
from isocenter.core.errors import GeometryError
from isocenter.data.images.seg import read_seg, write_seg
from isocenter.data.images.seg.encode import FrameGroups
from isocenter.data.images.seg.stored import StoredFrames

angles = st.floats(-30, 30).map(lambda a: round(a, 3))
shapes = st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9))


def centroid_lps_mm(array, geometry):
    return geometry.to_world(np.argwhere(array)).mean(axis=0)


def assert_same_patient_voxels(mask, back):
    """Compared in patient mm alone, without the code that aligns grids."""
    for segment in mask.segments:
        before, after = mask.segment_array(segment.number), back.segment_array(segment.number)
        assert np.count_nonzero(before) == np.count_nonzero(after)
        if not before.any():
            continue
        here, there = centroid_lps_mm(before, mask.geometry), centroid_lps_mm(after, back.geometry)
        assert np.linalg.norm(here - there) < 0.01
        middle = mask.geometry.to_world([[(n - 1) / 2 for n in mask.geometry.shape]])[0, 0]
        assert abs(here[0] - middle) < 1e-6 or (here[0] > middle) == (there[0] > middle)
        points = mask.geometry.to_world(np.argwhere(before))
        found = np.rint(back.geometry.to_index(points)).astype(int)
        assert np.abs(back.geometry.to_index(points) - found).max() < 1e-3
        assert after[tuple(found.T)].all()
    assert back.geometry.voxel_volume_mm3 == pytest.approx(mask.geometry.voxel_volume_mm3, rel=1e-9)


def written_once_per_kind(tmp_path, degrees, kinds):
    for orientation in range(48):
        headers, geometry = cases.ct_headers(tmp_path / str(orientation), orientation, degrees=degrees)
        for kind in kinds:
            yield headers, geometry, cases.labels(geometry, seed=orientation), kind


@pytest.mark.parametrize(
    ("degrees", "kinds"),
    [(cases.STRAIGHT, ["BINARY"]), (cases.OBLIQUE, ["BINARY", "LABELMAP", "FRACTIONAL"])],
    ids=["straight", "oblique"],
)
def test_all_48_orientations(tmp_path, degrees, kinds):
    for headers, geometry, mask, kind in written_once_per_kind(tmp_path, degrees, kinds):
        proof = write_seg(mask, tmp_path / "seg.dcm", headers=headers, kind=kind)
        assert proof.grid in ("identical", "reordered")
        assert_same_patient_voxels(mask, read_seg(tmp_path / "seg.dcm"))
        back = read_seg(tmp_path / "seg.dcm", geometry=geometry)
        for number in (1, 2, 3):
            assert np.array_equal(back.segment_array(number), mask.array == number)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orientation=st.integers(0, 47),
    degrees=st.tuples(angles, angles, angles),
    shape=shapes,
    kind=st.sampled_from(["BINARY", "LABELMAP", "FRACTIONAL", "OVERLAP"]),
    seed=st.integers(0, 999),
)
def test_what_is_read_is_what_was_written(tmp_path_factory, orientation, degrees, shape, kind, seed):
    folder = tmp_path_factory.mktemp("seg")
    headers, geometry = cases.ct_headers(folder / "ct", orientation, shape=shape, degrees=degrees)
    mask = (cases.overlapping if kind == "OVERLAP" else cases.labels)(geometry, seed)
    write_seg(mask, folder / "seg.dcm", headers=headers, kind="BINARY" if kind == "OVERLAP" else kind)
    assert_same_patient_voxels(mask, read_seg(folder / "seg.dcm"))


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_a_writer_that_flips_columns_is_caught_in_every_orientation(tmp_path, monkeypatch, orientation):
    headers, geometry = cases.ct_headers(tmp_path / "ct", orientation)
    right = StoredFrames.pixels

    def flipped(self, mask):
        return right(self, type(mask)(mask.array[..., ::-1].copy(), mask.geometry, mask.segments))

    monkeypatch.setattr(StoredFrames, "pixels", flipped)
    with pytest.raises(GeometryError):
        write_seg(cases.labels(geometry), tmp_path / "seg.dcm", headers=headers, kind="LABELMAP")
    assert not (tmp_path / "seg.dcm").exists()


def test_a_writer_that_stacks_slices_backwards_is_caught(tmp_path, monkeypatch):
    headers, geometry = cases.ct_headers(tmp_path / "ct", shape=(4, 3, 5))
    places = {}
    right = FrameGroups.__init__

    def backwards(self, source, position, index):
        places[index] = position
        right(self, source, [-v for v in position], index)

    monkeypatch.setattr(FrameGroups, "__init__", backwards)
    with pytest.raises(GeometryError):
        write_seg(cases.labels(geometry), tmp_path / "seg.dcm", headers=headers)
    assert len(places) == 4
    assert not (tmp_path / "seg.dcm").exists()
