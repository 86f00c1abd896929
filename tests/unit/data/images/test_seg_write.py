from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.sequence import Sequence as DicomSequence

import seg_cases as cases
from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import DataError, GeometryError, IdentityLeak, PixelError
from isocenter.data.images.quiet import quiet
from isocenter.data.images.seg import SegOptions, encode, read_seg, write, write_seg
from isocenter.data.images.seg.stored import StoredFrames, stored_frames

KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


@pytest.fixture
def source(tmp_path):
    return cases.ct_headers(tmp_path / "ct", shape=(4, 3, 5))


def left_behind(folder):
    return [p.name for p in folder.iterdir() if p.is_file()]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back_with_their_segments(tmp_path, source, kind):
    headers, geometry = source
    mask = cases.labels(geometry)
    proof = write_seg(mask, tmp_path / "x.dcm", headers=headers, kind=kind)
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    for segment in mask.segments:
        assert np.array_equal(back.segment_array(segment.number), mask.segment_array(segment.number))
    # A segment without a name of its algorithm gets that of the options; everything else comes back as it was.
    assert back.segments == (mask.segments[0], replace(mask.segments[1], algorithm_name="Isocenter"), mask.segments[2])
    assert [s.voxels for s in proof.segments] == [int((mask.array == n).sum()) for n in (1, 2, 3)]
    assert all(s.centroid_error_mm < 1e-6 for s in proof.segments)


def test_overlapping_segments_come_back_as_a_stack(tmp_path, source):
    headers, geometry = source
    mask = cases.overlapping(geometry)
    write_seg(mask, tmp_path / "x.dcm", headers=headers)
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    assert back.array.dtype == np.bool_
    assert np.array_equal(back.array, mask.array)
    assert dcmread(tmp_path / "x.dcm").SegmentsOverlap == "YES"


def test_probabilities_keep_to_half_a_step_and_to_their_side_of_one_half(tmp_path, source):
    headers, geometry = source
    mask = cases.probabilities(geometry)
    write_seg(mask, tmp_path / "x.dcm", headers=headers, kind="FRACTIONAL")
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    assert np.abs(back.array - mask.array).max() <= 0.5 / 255 + 1e-7
    assert np.array_equal(back.array >= 0.5, mask.array >= 0.5)
    assert back.array[0].ravel()[[0, 3]].tolist() == [0.0, 1.0]


def test_probabilities_written_binary_are_inside_from_one_half_on(tmp_path, source):
    headers, geometry = source
    mask = cases.probabilities(geometry)
    write_seg(mask, tmp_path / "x.dcm", headers=headers)
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    assert np.array_equal(np.stack([back.segment_array(n) for n in (1, 2, 3)]), mask.array >= 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_gives_the_same_bytes(tmp_path, source, kind):
    headers, geometry = source
    for name in ("a.dcm", "b.dcm"):
        write_seg(cases.labels(geometry), tmp_path / name, headers=headers, kind=kind)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_another_mask_or_place_or_option_gets_other_uids(tmp_path, source):
    headers, geometry = source
    moved = Geometry(geometry.shape, geometry.affine + np.eye(4)[:, [3]] * [[0, 0, 0, 0.0]], geometry.frame_uid)
    assert moved == geometry
    affine = geometry.affine.copy()
    affine[0, 3] += 1
    shifted = Geometry(geometry.shape, affine, geometry.frame_uid)
    variants = [
        (cases.labels(geometry), SegOptions()),
        (cases.labels(geometry, seed=1), SegOptions()),
        (cases.labels(shifted), SegOptions()),
        (cases.labels(geometry), SegOptions(content_label="OTHER")),
    ]
    uids = set()
    for mask, options in variants:
        write_seg(mask, tmp_path / "x.dcm", headers=headers, options=options)
        header = dcmread(tmp_path / "x.dcm")
        uids |= {header.SOPInstanceUID, header.SeriesInstanceUID}
    assert len(uids) == 2 * len(variants)


def test_no_clock_is_asked(tmp_path, source):
    headers, geometry = source
    write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers)
    header = dcmread(tmp_path / "x.dcm")
    assert (header.ContentDate, header.ContentTime) == (
        headers[0].StudyDate or "19000101",
        headers[0].StudyTime or "000000",
    )
    created = SegOptions(created=datetime(2031, 2, 3, 4, 5, 6))
    write_seg(cases.labels(geometry), tmp_path / "y.dcm", headers=headers, options=created)
    header = dcmread(tmp_path / "y.dcm")
    assert (header.ContentDate, header.ContentTime) == ("20310203", "040506.000000")


def test_patient_study_and_space_are_those_of_the_source(tmp_path, source):
    headers, geometry = source
    for header in headers:
        header.PatientName = "Müller^Jörg"
        header.SpecificCharacterSet = "ISO_IR 100"
    write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers, series_description="Lungs and liver")
    header = dcmread(tmp_path / "x.dcm")
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert header[keyword].value == headers[0][keyword].value
    assert str(header.PatientName) == "Müller^Jörg"
    assert header.Modality == "SEG"
    assert header.SeriesDescription == "Lungs and liver"
    assert header.SeriesInstanceUID != headers[0].SeriesInstanceUID


def test_every_frame_refers_to_the_slice_it_lies_on(tmp_path, source):
    headers, geometry = source
    write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers[::-1])
    header = dcmread(tmp_path / "x.dcm")
    position_of = {h.SOPInstanceUID: np.array(h.ImagePositionPatient, dtype=float) for h in headers}
    frames = header.PerFrameFunctionalGroupsSequence
    assert len(frames) == header.NumberOfFrames == 12
    for frame in frames:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        there = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        assert np.abs(position_of[image.ReferencedSOPInstanceUID] - there).max() < 1e-6
    series = header.ReferencedSeriesSequence
    assert [s.SeriesInstanceUID for s in series] == [headers[0].SeriesInstanceUID]
    assert len(series[0].ReferencedInstanceSequence) == 4
    back = read_seg(tmp_path / "x.dcm", geometry=None)
    planes = [h.SOPInstanceUID for h in headers]
    assert list(back.source.instance_uids) in (planes, planes[::-1])
    assert back.source.series_uid == headers[0].SeriesInstanceUID


def test_a_mask_on_a_grid_of_its_own_refers_to_the_series_only(tmp_path, source):
    headers, geometry = source
    own = Geometry.axial((3, 7, 4), spacing_mm=(1.0, 1.5, 2.0), origin_mm=(-30, 40, 110), frame_uid=geometry.frame_uid)
    mask = cases.labels(own)
    write_seg(mask, tmp_path / "x.dcm", headers=headers)
    back = read_seg(tmp_path / "x.dcm")
    assert np.array_equal(back.array, mask.array)
    assert back.geometry.same_grid(own, tolerance_mm=1e-6)
    header = dcmread(tmp_path / "x.dcm")
    assert all("DerivationImageSequence" not in f for f in header.PerFrameFunctionalGroupsSequence)
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == headers[0].SeriesInstanceUID
    assert back.source.instance_uids == ()


def test_the_extent_of_the_grid_survives_empty_planes(tmp_path, source):
    headers, geometry = source
    array = np.zeros(geometry.shape, dtype=np.uint16)
    array[1, 2, 3] = 2
    write_seg(Mask(array, geometry, cases.SEGMENTS), tmp_path / "x.dcm", headers=headers)
    header = dcmread(tmp_path / "x.dcm")
    assert header.NumberOfFrames == 3  # the voxel, and the first and last plane
    back = read_seg(tmp_path / "x.dcm")
    assert back.geometry.shape == geometry.shape
    assert int(np.count_nonzero(back.array)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_is_written_and_comes_back_empty(tmp_path, source, kind):
    headers, geometry = source
    mask = Mask(np.zeros(geometry.shape, dtype=np.uint16), geometry, cases.SEGMENTS)
    write_seg(mask, tmp_path / "x.dcm", headers=headers, kind=kind)
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    assert not back.array.any()
    assert [s.number for s in back.segments] == [1, 2, 3]


def test_label_maps_take_any_number_in_sixteen_bits(tmp_path, source):
    headers, geometry = source
    array = np.zeros(geometry.shape, dtype=np.uint16)
    array[0, 0, 1], array[2, 1, 4] = 7, 65535
    mask = Mask(array, geometry, (Segment(7, "seven"), Segment(65535, "last")))
    write_seg(mask, tmp_path / "x.dcm", headers=headers, kind="LABELMAP")
    assert dcmread(tmp_path / "x.dcm").BitsAllocated == 16
    assert np.array_equal(read_seg(tmp_path / "x.dcm", geometry=geometry).array, array)
    with pytest.raises(PixelError, match="numbered 1, 2, 3"):
        write_seg(mask, tmp_path / "y.dcm", headers=headers)


def test_bits_run_on_across_frames(source):
    _, geometry = source  # 3 x 5 voxels: 15 bits a frame
    array = np.zeros(geometry.shape, dtype=np.uint16)
    array[0, 0, 0], array[1, 0, 0], array[3, 2, 4] = 1, 1, 1
    mask = Mask(array, geometry, (Segment(1, "one"),))
    frames = stored_frames(mask, "BINARY")
    assert [f.z for f in frames.frames] == [0, 1, 3]
    packed = b"".join(bytes(p) for p in frames.pixels(mask))
    # bit 0, bit 15, bit 44 of 45, least significant first
    assert packed.hex() == "018000000010"
    assert frames.pixel_bytes == 6


def test_aligned_frames_are_packed_a_block_of_rows_at_a_time(tmp_path):
    headers, geometry = cases.ct_headers(tmp_path / "ct", shape=(3, 20, 6))
    mask = cases.labels(geometry)
    frames = stored_frames(mask, "BINARY")
    packed = b"".join(bytes(p) for p in frames.pixels(mask))
    expected = np.concatenate([mask.array == n for n in (1, 2, 3)])
    assert packed == np.packbits(expected.ravel(), bitorder="little").tobytes()
    write_seg(mask, tmp_path / "x.dcm", headers=headers)
    assert np.array_equal(read_seg(tmp_path / "x.dcm", geometry=geometry).array, mask.array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_writer_is_caught_and_leaves_nothing(tmp_path, source, monkeypatch, kind, axis):
    headers, geometry = source
    right = StoredFrames.pixels

    def mirrored(self, mask):
        turned = Mask(np.flip(mask.array, axis=axis).copy(), mask.geometry, mask.segments)
        whole = replace(self, frames=tuple(replace(f, rows=(0, mask.geometry.shape[1])) for f in self.frames))
        return right(whole, turned)

    monkeypatch.setattr(StoredFrames, "pixels", mirrored)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(GeometryError, match=r"mirrored|another place"):
        write_seg(cases.labels(geometry), out / "x.dcm", headers=headers, kind=kind)
    assert left_behind(out) == []


def test_a_writer_of_wrong_positions_is_caught(tmp_path, source, monkeypatch):
    headers, geometry = source
    exact = encode.decimal_strings
    monkeypatch.setattr(encode, "decimal_strings", lambda numbers: exact([-numbers[0], *numbers[1:]]))
    with pytest.raises(GeometryError):
        write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers)
    assert left_behind(tmp_path) == []


def test_a_writer_that_swaps_left_and_right_is_caught(tmp_path, source, monkeypatch):
    headers, geometry = source
    right = StoredFrames.pixels

    def swapped(self, mask):
        table = np.array([0, 2, 1, 3], dtype=np.uint16)
        whole = replace(self, frames=tuple(replace(f, rows=(0, mask.geometry.shape[1])) for f in self.frames))
        return right(whole, Mask(table[mask.array], mask.geometry, mask.segments))

    monkeypatch.setattr(StoredFrames, "pixels", swapped)
    with pytest.raises(GeometryError):
        write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers)
    assert left_behind(tmp_path) == []


def test_another_frame_of_reference_is_refused(tmp_path, source):
    headers, geometry = source
    mask = cases.labels(Geometry(geometry.shape, geometry.affine, "1.9.9"))
    with pytest.raises(GeometryError, match="registration"):
        write_seg(mask, tmp_path / "x.dcm", headers=headers)


def test_an_unnamed_frame_is_taken_only_from_the_same_planes(tmp_path, source):
    headers, geometry = source
    write_seg(cases.labels(Geometry(geometry.shape, geometry.affine)), tmp_path / "x.dcm", headers=headers)
    assert dcmread(tmp_path / "x.dcm").FrameOfReferenceUID == geometry.frame_uid
    affine = geometry.affine.copy()
    affine[:3, 3] += 0.3
    with pytest.raises(GeometryError, match="frame_uid"):
        write_seg(cases.labels(Geometry(geometry.shape, affine)), tmp_path / "y.dcm", headers=headers)


def test_two_patients_two_studies_and_no_headers_are_refused(tmp_path, source):
    headers, geometry = source
    mask = cases.labels(geometry)
    with pytest.raises(DataError, match="headers"):
        write_seg(mask, tmp_path / "x.dcm", headers=[])
    headers[1].PatientID = "SOMEBODY-ELSE"
    with pytest.raises(IdentityLeak) as caught:
        write_seg(mask, tmp_path / "x.dcm", headers=headers)
    assert "SOMEBODY" not in str(caught.value)
    del headers[2].SOPInstanceUID
    with pytest.raises(DataError, match="SOPInstanceUID"):
        write_seg(mask, tmp_path / "x.dcm", headers=headers)
    assert left_behind(tmp_path) == []


def test_a_sheared_grid_is_refused(tmp_path, source):
    headers, geometry = source
    affine = geometry.affine.copy()
    affine[:3, 0] += 0.2 * affine[:3, 1]
    with pytest.raises(GeometryError, match="right angles"):
        write_seg(cases.labels(Geometry(geometry.shape, affine, geometry.frame_uid)), tmp_path / "x", headers=headers)


def test_overlap_is_refused_in_a_label_map(tmp_path, source):
    headers, geometry = source
    with pytest.raises(PixelError, match="BINARY"):
        write_seg(cases.overlapping(geometry), tmp_path / "x.dcm", headers=headers, kind="LABELMAP")


def test_more_than_four_gigabytes_are_refused_before_work(tmp_path, source, monkeypatch):
    headers, geometry = source
    monkeypatch.setattr(write, "_LONGEST_VALUE", 10)
    with pytest.raises(DataError, match="4 GiB"):
        write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers)


def test_half_a_tracking_identity_is_refused(tmp_path, source):
    headers, geometry = source
    mask = Mask(np.zeros(geometry.shape, dtype=np.uint16), geometry, (Segment(1, "x", tracking_id="t"),))
    with pytest.raises(DataError, match="tracking"):
        write_seg(mask, tmp_path / "x.dcm", headers=headers)


def radiograph(frames: int = 1) -> Dataset:
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.100"
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3.101", "1.2.3.102"
    header.PatientID, header.Rows, header.Columns = "ISOCENTER-PHANTOM", 6, 5
    if frames > 1:
        header.NumberOfFrames = frames
    return header


@pytest.mark.parametrize("kind", KINDS)
def test_a_radiograph_has_pixels_and_no_place(tmp_path, kind):
    grid = Geometry((1, 6, 5), None, pixel_spacing_mm=(0.25, 0.2))
    mask = cases.labels(grid)
    header = radiograph()
    header.PatientOrientation = ["L", "F"]
    proof = write_seg(mask, tmp_path / "x.dcm", headers=[header], kind=kind)
    back = read_seg(tmp_path / "x.dcm")
    assert np.array_equal(np.stack([back.segment_array(n) for n in (1, 2, 3)]), [mask.array == n for n in (1, 2, 3)])
    assert back.geometry.affine is None
    assert back.geometry.pixel_spacing_mm == (0.25, 0.2)
    assert "FrameOfReferenceUID" not in dcmread(tmp_path / "x.dcm")
    assert list(dcmread(tmp_path / "x.dcm").PatientOrientation) == ["L", "F"]
    assert back.source.instance_uids == ("1.2.3.100",)
    assert all(s.centroid_lps_mm is None for s in proof.segments)


def test_frames_of_a_cine_keep_their_order(tmp_path):
    grid = Geometry((4, 6, 5), None, stack="time")
    mask = cases.labels(grid)
    write_seg(mask, tmp_path / "x.dcm", headers=[radiograph(frames=4)])
    back = read_seg(tmp_path / "x.dcm")
    assert np.array_equal(back.array, mask.array)
    assert back.geometry.stack == "time"
    assert dcmread(tmp_path / "x.dcm")["PatientOrientation"].is_empty
    frames = dcmread(tmp_path / "x.dcm").PerFrameFunctionalGroupsSequence
    numbers = [f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for f in frames]
    assert numbers == [1, 2, 3, 4] * 3


def test_a_mask_without_a_place_must_be_on_the_pixels_of_its_source(tmp_path, source):
    headers, _ = source
    with pytest.raises(GeometryError, match="no place"):
        write_seg(cases.labels(Geometry((1, 6, 5))), tmp_path / "x.dcm", headers=headers)


def test_frames_of_an_enhanced_source_are_named_by_number(tmp_path, source):
    headers, geometry = source
    enhanced = radiograph(frames=4)
    enhanced.Rows, enhanced.Columns, enhanced.FrameOfReferenceUID = 3, 5, geometry.frame_uid
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = headers[0].ImageOrientationPatient
    measures.PixelSpacing = headers[0].PixelSpacing
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    shared.PixelMeasuresSequence = DicomSequence([measures])
    enhanced.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    for header in (headers[2], headers[0], headers[3], headers[1]):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = header.ImagePositionPatient
        frame.PlanePositionSequence = DicomSequence([position])
        frames.append(frame)
    enhanced.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=[enhanced])
    written = dcmread(tmp_path / "x.dcm").PerFrameFunctionalGroupsSequence[:4]
    numbers = [f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for f in written]
    assert numbers == [2, 4, 1, 3]
    back = read_seg(tmp_path / "x.dcm", geometry=geometry)
    assert np.array_equal(back.array, cases.labels(geometry).array)


def test_a_missing_folder_is_one_clear_line(tmp_path, source):
    headers, geometry = source
    with pytest.raises(DataError, match="does not exist"):
        write_seg(cases.labels(geometry), tmp_path / "no" / "x.dcm", headers=headers)


def test_values_outside_the_standard_are_copied_without_a_word(tmp_path, source):
    headers, geometry = source
    dataset = headers[0]
    for keyword, vr, value in (
        ("PatientAge", "AS", "47"),
        ("StudyDate", "DA", "last year"),
        ("PatientID", "LO", "9" * 70),
    ):
        for header in headers if keyword == "PatientID" else [dataset]:
            header.add(DataElement(keyword, vr, value, validation_mode=config.IGNORE))
    write_seg(cases.labels(geometry), tmp_path / "x.dcm", headers=headers)  # a warning would be an error here
    with quiet():
        header = dcmread(tmp_path / "x.dcm")
        assert (header.PatientAge, header.StudyDate, header.PatientID) == ("47", "last year", "9" * 70)
        assert header.ContentDate == "19000101"
