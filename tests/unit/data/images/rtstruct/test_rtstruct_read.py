"""Reading structure sets: holes, planes, what is left out and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from isocenter.core import Geometry
from isocenter.core.errors import DataError, GeometryError
from isocenter.data.images.rtstruct import open_rtstruct, rasterise, read_rtstruct

GRID = Geometry.axial((4, 6, 8), spacing_mm=(3.0, 1.0, 0.5), origin_mm=(10, 20, 30), frame_uid="1.2.3")


def square(top, left, bottom, right, *, z=1.0):
    """Index-space square through the given corners, in slice z."""
    return [(z, top, left), (z, top, right), (z, bottom, right), (z, bottom, left)]


def structure_set(*contours, kind="CLOSED_PLANAR", name="Region", number="1", frame="1.2.3"):
    roi, drawn, dataset = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
    drawn.ReferencedROINumber, drawn.ContourSequence = number, []
    for index in contours:
        item = Dataset()
        item.ContourGeometricType = kind
        item.ContourData = [f"{v:.6f}" for v in GRID.to_world(index).ravel()]
        drawn.ContourSequence.append(item)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [roi], [drawn]
    return dataset


def plane(dataset, k=1):
    return read_rtstruct(dataset, GRID).array[0][k].astype(int).tolist()


def test_centres_inside_and_on_the_line_count():
    expected = np.zeros((6, 8), int)
    expected[1:4, 2:6] = 1
    assert plane(structure_set(square(1, 2, 3, 5))) == expected.tolist()
    assert plane(structure_set(square(0.6, 1.6, 3.4, 5.4))) == expected.tolist()


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_contour_inside_another_is_a_hole_and_one_inside_that_an_island(kind, reverse):
    contours = [square(-0.4, -0.4, 5.4, 6.4), square(0.6, 0.6, 4.4, 5.4), square(1.6, 2.6, 3.4, 3.4)]
    expected = np.zeros((6, 8), int)
    expected[:, :7] = 1
    expected[1:5, 1:6] = 0
    expected[2:4, 3] = 1
    assert plane(structure_set(*(contours[::-1] if reverse else contours), kind=kind)) == expected.tolist()


def test_plain_contours_that_overlap_are_added_and_exclusive_ones_cancel():
    two = [square(0.6, 0.6, 3.4, 3.4), square(0.6, 1.6, 3.4, 5.4)]
    added, cancelled = np.zeros((6, 8), int), np.zeros((6, 8), int)
    added[1:4, 1:6] = 1
    cancelled[1:4, [1, 4, 5]] = 1
    assert plane(structure_set(*two)) == added.tolist()
    assert plane(structure_set(*two, kind="CLOSEDPLANAR_XOR")) == cancelled.tolist()


def test_the_same_contour_twice_is_not_a_hole():
    one = square(0.6, 0.6, 3.4, 3.4)
    assert plane(structure_set(one, one[2:] + one[:2])) == plane(structure_set(one))


def test_a_keyhole_leaves_its_hole_empty():
    outer, inner = square(-0.4, -0.4, 5.4, 6.4), square(1.6, 1.6, 3.4, 4.4)
    keyhole = [*outer, outer[0], *inner[::-1][3:], *inner[::-1][:3], inner[0]]
    expected = np.zeros((6, 8), int)
    expected[:, :7] = 1
    expected[2:4, 2:5] = 0
    assert plane(structure_set(keyhole)) == expected.tolist()


def test_between_slices_goes_to_the_nearer_one_and_the_nearest_plane_wins():
    near, far = square(0.6, 0.6, 3.4, 3.4, z=1.2), square(0.6, 0.6, 5.4, 6.4, z=0.6)
    mask = read_rtstruct(structure_set(near, far), GRID).array[0]
    assert mask[1].sum() == 9
    assert mask.sum() == 9
    assert read_rtstruct(structure_set(square(1, 1, 3, 3, z=1.4)), GRID).array[0][1].sum() == 9


@pytest.mark.parametrize(("axis", "other"), [(1, 2), (2, 1)])
def test_coronal_and_sagittal_contours_are_filled_in_their_plane(axis, other):
    corners = np.array(square(0.6, 0.6, 2.4, 4.4))[:, 1:]
    index = np.zeros((4, 3))
    index[:, 0], index[:, other], index[:, axis] = corners[:, 0], corners[:, 1], 3
    expected = np.zeros(GRID.shape, bool)
    inside = [slice(1, 3), slice(None), slice(None)]
    inside[other], inside[axis] = slice(1, 5), slice(3, 4)
    expected[tuple(inside)] = True
    assert np.array_equal(read_rtstruct(structure_set(index), GRID).array[0], expected)


def test_a_tilted_contour_is_refused_with_its_region():
    with pytest.raises(GeometryError, match="region 1: its contours lie in no plane"):
        read_rtstruct(structure_set([(0, 0, 0), (1, 0, 5), (2, 4, 5), (1, 4, 0)]), GRID)


def test_another_frame_of_reference_is_refused():
    with pytest.raises(GeometryError, match=r"frame of reference 9\.9"):
        read_rtstruct(structure_set(square(1, 1, 3, 3), frame="9.9"), GRID)


def test_points_and_open_contours_are_left_out_with_a_note():
    mask, notes = rasterise(open_rtstruct(structure_set([(1, 2, 2)], kind="POINT")), GRID)
    assert not mask.array.any()
    assert notes == ("region 1: 1 contour(s) of kind POINT left out: only closed planar ones have a volume",)


def test_outside_the_image_and_gaps_are_noted():
    far = square(1, 1, 3, 3, z=9)
    mask, notes = rasterise(open_rtstruct(structure_set(far, square(1, 1, 3, 3, z=0), square(1, 1, 3, 3, z=3))), GRID)
    assert mask.array[0].any(axis=(1, 2)).tolist() == [True, False, False, True]
    assert any("1 contour(s) lie outside" in n for n in notes)
    assert any("gaps" in n for n in notes)


def test_numbers_that_cannot_be_segment_numbers_are_renumbered_with_a_note():
    structures = open_rtstruct(structure_set(square(1, 1, 3, 3), number="0", name=""))
    assert structures.regions[0].segment.number == 1
    assert "numbered in their order" in structures.notes[0]


def test_damage_and_other_kinds_are_refused(tmp_path):
    broken = structure_set(square(1, 1, 3, 3))
    broken.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2"]
    with pytest.raises(DataError, match="not points in space"):
        open_rtstruct(broken)
    (tmp_path / "a.dcm").write_text("not DICOM at all, but long enough to look at " * 9)
    with pytest.raises(DataError, match=r"^a\.dcm: "):
        open_rtstruct(tmp_path / "a.dcm")
    with pytest.raises(DataError, match="cannot be read"):
        open_rtstruct(tmp_path / "absent.dcm")
