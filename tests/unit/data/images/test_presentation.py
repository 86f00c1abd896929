"""Presentation states: display coordinates against the header's own formula, other orientations, what is caught."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from unittest import mock

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from air_cases import write_picture
from dciodvfy import dciodvfy_errors
from isocenter.core import Geometry, Image, Mask, ModelRef, Quantity, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError, ProofError
from isocenter.data.images.marks import Marks
from isocenter.data.images.presentation import Drawing, Spot, read_presentation_state, write_presentation_state
from isocenter.data.images.presentation import write as writer
from isocenter.data.images.presentation.display import describe_display
from isocenter.data.images.seg.sources import SourcePlane
from isocenter.testing import phantom_geometry
from isocenter.testing.dicom_phantom import write_ct_series

SHAPE = (4, 11, 13)
SEGMENTS = (Segment(1, "Hook", colour=(10, 200, 30)), Segment(2, "Ring", tracking_id="ring", tracking_uid="1.2.3"))


def series(folder, orientation=0, change=None):
    geometry = phantom_geometry(orientation, degrees=(8.0, -5.0, 11.0), shape=SHAPE)
    array = (np.arange(np.prod(SHAPE)).reshape((1, *SHAPE)) % 900 - 300).astype(np.int16)
    image = Image(array, geometry, quantity=Quantity.HU, modality="CT")
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in write_ct_series(folder, image, change=change)]
    return replace(geometry, frame_uid=str(headers[0].FrameOfReferenceUID)), headers


def mask_on(geometry: Geometry) -> Mask:
    array = np.zeros(SHAPE, np.uint16)
    array[1, 2:6, 3], array[1, 5, 3:8] = 1, 1
    array[1:3, 1:6, 8:13], array[1:3, 3, 10] = 2, 0
    return Mask(array, geometry, SEGMENTS)


def in_patient(header, column, row):
    """PS3.3 C.7.6.2.1.1, from a display coordinate: the centre of the first pixel is (0.5, 0.5)."""
    x, y = (np.array([float(v) for v in header.ImageOrientationPatient[i : i + 3]]) for i in (0, 3))
    origin = np.array([float(v) for v in header.ImagePositionPatient])
    rows_mm, columns_mm = (float(v) for v in header.PixelSpacing)
    return origin + x * columns_mm * (column - 0.5) + y * rows_mm * (row - 0.5)


def area_and_centre(points):
    """Of a polygon of corners (column, row)."""
    x, y = points.T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    area = cross.sum() / 2
    return area, ((points[:-1] + points[1:]) * cross[:, None]).sum(axis=0) / (6 * area)


@pytest.mark.parametrize("orientation", [0, 5, 11, 18, 23, 30, 37, 47])
def test_outlines_lie_on_their_voxels_in_the_patient(orientation, tmp_path):
    geometry, headers = series(tmp_path / "ct", orientation)
    mask = mask_on(geometry)
    write_presentation_state(Drawing(geometry, mask), tmp_path / "pr.dcm", headers=headers)
    state, by_uid = pydicom.dcmread(tmp_path / "pr.dcm"), {str(h.SOPInstanceUID): h for h in headers}
    seen = set()
    for item in state.GraphicAnnotationSequence:
        header = by_uid[str(item.ReferencedImageSequence[0].ReferencedSOPInstanceUID)]
        number = int(str(item.GraphicLayer).split()[1])
        (graphic,) = item.GraphicObjectSequence
        area, centre = area_and_centre(np.array(graphic.GraphicData).reshape(-1, 2))
        z = int(np.argmin([np.linalg.norm(geometry.to_world([[k, 0, 0]])[0] - in_patient(header, 0.5, 0.5))
                           for k in range(SHAPE[0])]))  # fmt: skip
        voxels = np.argwhere(mask.array[z] == number)
        wanted = geometry.to_world([[z, *voxels.mean(axis=0)]])[0]
        assert abs(area) == pytest.approx(len(voxels), rel=0.02)
        assert np.linalg.norm(in_patient(header, *centre) - wanted) < 0.02
        seen.add((z, number))
    assert seen == {(1, 1), (1, 2), (2, 2)}


def test_one_voxel_in_display_coordinates(tmp_path):
    geometry, headers = series(tmp_path / "ct")
    array = np.zeros(SHAPE, np.uint16)
    array[2, 4, 7] = 1
    mask = Mask(array, geometry, SEGMENTS[:1])
    proof = write_presentation_state(Drawing(geometry, mask), tmp_path / "pr.dcm", headers=headers)
    (shape,) = proof.state.shapes
    assert (shape.points_xy.min(axis=0), shape.points_xy.max(axis=0)) == (
        pytest.approx((7.001, 4.001), abs=1e-5), pytest.approx((7.999, 4.999), abs=1e-5)
    )  # fmt: skip
    assert (shape.points_xy[0] == shape.points_xy[-1]).all(), "an outline is closed"
    assert proof.outlines is not None and proof.outlines.exact


def test_a_place_is_pointed_at_in_the_patient(tmp_path):
    geometry, headers = series(tmp_path / "ct", 23)
    drawing = Drawing(geometry, spots=(Spot((3.0, 2.0, 9.0), "here", "spot", "1.2.9"),))
    proof = write_presentation_state(drawing, tmp_path / "pr.dcm", headers=headers)
    (shape,) = proof.state.shapes
    header = next(h for h in headers if str(h.SOPInstanceUID) == shape.plane.sop_instance_uid)
    assert np.linalg.norm(in_patient(header, *shape.points_xy[0]) - geometry.to_world([[3, 2, 9]])[0]) < 1e-3
    assert (shape.text, shape.tracking, shape.kind) == ("here", ("spot", "1.2.9"), "CIRCLE")
    assert proof.spot_error_mm is not None and proof.spot_error_mm < 1e-3


def moved(change):
    """Read a state back with its shapes changed."""
    honest = read_presentation_state

    def reader(file, headers):
        state = honest(file, headers)
        return replace(state, shapes=tuple(change(s, headers) for s in state.shapes))

    return mock.patch.object(writer, "read_presentation_state", reader)


def mirrored(shape, _):
    return replace(
        shape, points_xy=np.column_stack([shape.plane.shape[1] - shape.points_xy[:, 0], shape.points_xy[:, 1]])
    )


def half_a_pixel(shape, _):
    return replace(shape, points_xy=shape.points_xy + 0.5)


def on_the_next_image(shape, headers):
    from isocenter.data.images.seg.sources import source_planes

    planes = source_planes(headers)
    place = next(i for i, p in enumerate(planes) if p.sop_instance_uid == shape.plane.sop_instance_uid)
    return replace(shape, plane=planes[place - 1])


@pytest.mark.parametrize("change", [mirrored, half_a_pixel, on_the_next_image])
@pytest.mark.parametrize("what", ["outlines", "spot"])
def test_a_drawing_in_another_place_is_caught_and_not_kept(change, what, tmp_path):
    geometry, headers = series(tmp_path / "ct", 5)
    spot = Spot((2.0, 3.0, 4.0), "here")
    drawing = Drawing(geometry, mask_on(geometry)) if what == "outlines" else Drawing(geometry, spots=(spot,))
    with moved(change), pytest.raises((ProofError, GeometryError)):
        write_presentation_state(drawing, tmp_path / "pr.dcm", headers=headers)
    assert not (tmp_path / "pr.dcm").exists()


def test_what_it_says_is_valid_and_the_same_each_time(tmp_path):
    def windowed(index, header):
        header.WindowCenter, header.WindowWidth = "40", "400"
        return header

    geometry, headers = series(tmp_path / "ct", change=windowed)
    marks = Marks((ModelRef("finder", "2", "ab" * 32, "MIT"),))
    for name in ("a", "b"):
        drawing = Drawing(geometry, mask_on(geometry), (Spot((2, 3, 4), "here"),))
        write_presentation_state(drawing, tmp_path / f"{name}.dcm", headers=headers, marks=marks)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert dciodvfy_errors(tmp_path / "a.dcm") == []
    state = pydicom.dcmread(tmp_path / "a.dcm")
    assert (state.ContentQualification, state.ContributingEquipmentSequence[0].ManufacturerModelName) == (
        "RESEARCH", "finder"
    )  # fmt: skip
    assert (float(state.RescaleIntercept), state.RescaleType, state.PresentationLUTShape) == (-1024, "HU", "IDENTITY")
    assert [float(w.WindowWidth) for w in state.SoftcopyVOILUTSequence] == [400]
    assert [str(i.GraphicLayerDescription) for i in state.GraphicLayerSequence] == ["Hook", "Ring", "here"]


def enhanced(rescales, windows):
    """A header of four frames with a rescale and a window of each."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = "1.2.840.10008.5.1.4.1.1.130", "1.2.9", "PT"
    header.SamplesPerPixel, header.PhotometricInterpretation, header.NumberOfFrames = 1, "MONOCHROME2", len(rescales)
    header.PerFrameFunctionalGroupsSequence = []
    for slope, width in zip(rescales, windows, strict=True):
        frame, values, window = Dataset(), Dataset(), Dataset()
        values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "0", slope, "BQML"
        window.WindowCenter, window.WindowWidth = "50", width
        frame.PixelValueTransformationSequence, frame.FrameVOILUTSequence = [values], [window]
        header.PerFrameFunctionalGroupsSequence.append(frame)
    return header


def shown(headers, frames=(None,)):
    planes = [SourcePlane("1", str(h.SOPInstanceUID), frame, (4, 5), None, None) for h in headers for frame in frames]
    state = Dataset()
    describe_display(state, headers, planes)
    return state


def test_frames_are_shown_as_each_of_them_says_and_one_rescale_is_not_given_to_all():
    header = enhanced(["2", "2", "2", "7"], ["100", "300", "100", "100"])
    state = shown([header], (1, 2, 3))
    assert float(state.RescaleSlope) == 2
    told = {
        float(w.WindowWidth): w.ReferencedImageSequence[0].ReferencedFrameNumber for w in state.SoftcopyVOILUTSequence
    }
    assert told == {100.0: [1, 3], 300.0: 2}
    one = shown([header], (4,))
    assert float(one.RescaleSlope) == 7 and "ReferencedImageSequence" not in one.SoftcopyVOILUTSequence[0]
    with pytest.raises(DataError, match="frames have not one rescale"):
        shown([header], (3, 4))


def test_tables_of_a_header_are_those_of_its_state():
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.9", "MG"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    table.add_new("LUTData", "US", [0, 9, 90, 900])
    table.LUTExplanation = "NORMAL"
    header.VOILUTSequence = [table]
    other = deepcopy(header)
    other.SOPInstanceUID, other.WindowCenter, other.WindowWidth = "1.2.10", "10", "20"
    state = shown([header, other])
    voi, window = state.SoftcopyVOILUTSequence
    assert [v.ReferencedImageSequence[0].ReferencedSOPInstanceUID for v in (voi, window)] == ["1.2.9", "1.2.10"]
    assert voi.VOILUTSequence[0].LUTData == [0, 9, 90, 900] and "VOILUTSequence" not in window
    header.ModalityLUTSequence = [table]
    assert shown([header]).ModalityLUTSequence[0].LUTDescriptor == [4, 0, 16]
    with pytest.raises(DataError, match="one rescale"):
        shown([header, other])


@pytest.mark.parametrize(("colour", "kind"), [(False, "11.1"), (True, "11.2")])
def test_an_image_without_a_place_is_drawn_on_by_its_pixels(colour, kind, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3) if colour else (20, 30)).astype(np.uint8)
    path = write_picture(tmp_path / "us.dcm", pixels, "US")
    headers = [pydicom.dcmread(path, stop_before_pixels=True)]
    array = np.zeros((1, 20, 30), bool)
    array[0, 3:9, 20:28] = True
    mask = Mask(array[None], Geometry((1, 20, 30)), (Segment(1, "Lesion"),))
    proof = write_presentation_state(Drawing(mask.geometry, mask), tmp_path / "pr.dcm", headers=headers)
    assert proof.state.sop_class_uid.endswith(kind) and dciodvfy_errors(tmp_path / "pr.dcm") == []
    assert proof.state.shapes[0].points_xy.max(axis=0) == pytest.approx((27.999, 8.999), abs=1e-4)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    geometry, headers = series(tmp_path / "ct")
    with pytest.raises(DataError, match="nothing to draw"):
        Drawing(geometry)
    empty = Mask(np.zeros(SHAPE, np.uint16), geometry, SEGMENTS)
    with pytest.raises(DataError, match="no segment holds a voxel"):
        write_presentation_state(Drawing(geometry, empty), tmp_path / "pr.dcm", headers=headers)
    with pytest.raises(ConfigError, match="capitals"):
        write_presentation_state(
            Drawing(geometry, mask_on(geometry)), tmp_path / "pr.dcm", headers=headers, label="lower"
        )
    with pytest.raises(GeometryError, match="resampled"):
        write_presentation_state(Drawing(geometry, mask_on(geometry)), tmp_path / "pr.dcm", headers=headers[:1])
    with pytest.raises(DataError, match="not a softcopy"):
        read_presentation_state(headers[0], headers)
