from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

import seg_cases as cases
from isocenter.core import Geometry, Mask
from isocenter.core.errors import DataError, GeometryError, PixelError
from isocenter.data.images.seg import read_seg, scan, write_seg
from isocenter.data.images.seg.colour import from_dicom_lab, to_dicom_lab
from isocenter.data.images.seg.scan import frame_table

SHAPE = (4, 3, 5)


@pytest.fixture
def source(tmp_path):
    return cases.ct_headers(tmp_path / "ct", shape=SHAPE)


@pytest.fixture
def written(tmp_path, source):
    """A BINARY file of 12 frames of 15 bits, and its mask."""
    headers, geometry = source
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers)
    return tmp_path / "seg.dcm", mask


def reordered(dataset: Dataset, order: list[int]) -> Dataset:
    """The same segmentation with its frames in another order, or some of them left out."""
    size = dataset.Rows * dataset.Columns
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: dataset.NumberOfFrames * size].reshape(-1, size)[order]
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = [groups[i] for i in order]
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    return dataset


def test_frames_may_come_in_any_order(tmp_path, written):
    path, mask = written
    order = np.random.default_rng(3).permutation(12).tolist()
    reordered(dcmread(path), order).save_as(tmp_path / "shuffled.dcm")
    back = read_seg(tmp_path / "shuffled.dcm", geometry=mask.geometry)
    assert np.array_equal(back.array, mask.array)


def test_planes_without_a_frame_are_empty(tmp_path, written):
    path, mask = written
    kept = [i for i in range(12) if i % 4 in (0, 3)]  # first and last plane of every segment
    reordered(dcmread(path), kept).save_as(tmp_path / "gaps.dcm")
    back = read_seg(tmp_path / "gaps.dcm", geometry=mask.geometry)
    expected = mask.array.copy()
    expected[1:3] = 0
    assert np.array_equal(back.array, expected)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda u: u.name
)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_other_encodings_give_the_same_mask(tmp_path, source, syntax, kind):
    headers, geometry = source
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers, kind=kind)
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.file_meta.TransferSyntaxUID = syntax
    pixels = np.frombuffer(dataset.PixelData, np.uint8)
    if syntax == ExplicitVRBigEndian and kind == "BINARY":
        dataset["PixelData"].VR = "OW"
        dataset.PixelData = pixels.view("<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    for _ in dataset.iterall():
        pass  # decodes every element, so that it can be written in another byte order
    dcmwrite(buffer, dataset, enforce_file_format=True)
    (tmp_path / "other.dcm").write_bytes(buffer.getvalue())
    back = read_seg(tmp_path / "other.dcm", geometry=geometry)
    for number in (1, 2, 3):
        assert np.array_equal(back.segment_array(number), mask.array == number)


def test_rle_label_maps_are_decoded(tmp_path, source):
    headers, geometry = source
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers, kind="LABELMAP")
    dataset = dcmread(tmp_path / "seg.dcm")
    dataset.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
    dataset.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(read_seg(tmp_path / "rle.dcm", geometry=geometry).array, mask.array)


def test_sequences_of_undefined_length_are_read_by_pydicom(tmp_path, written):
    path, mask = written
    dataset = dcmread(path)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.is_undefined_length_sequence_item = True
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    dataset.save_as(tmp_path / "undefined.dcm")
    assert dcmread(tmp_path / "undefined.dcm").get_item(0x52009230).is_undefined_length
    back = read_seg(tmp_path / "undefined.dcm", geometry=mask.geometry)
    assert np.array_equal(back.array, mask.array)


def test_the_fast_scan_and_pydicom_agree(written, monkeypatch):
    path, _ = written
    fast = frame_table(dcmread(path))
    calls = []
    slow_way = scan._table_from_datasets
    monkeypatch.setattr(scan, "_table_from_datasets", lambda *args: calls.append(1) or slow_way(*args))
    assert frame_table(dcmread(path)) == fast
    assert not calls  # the file is of the layout that can be scanned
    decoded = dcmread(path)
    assert len(decoded.PerFrameFunctionalGroupsSequence) == 12  # decodes it
    assert frame_table(decoded) == fast
    assert calls


def test_a_dataset_is_read_like_its_file(written):
    path, mask = written
    back = read_seg(dcmread(path), geometry=mask.geometry)
    assert np.array_equal(back.array, mask.array)


def test_some_segments_only(written):
    path, mask = written
    back = read_seg(path, geometry=mask.geometry, segments=[3, 1])
    assert [s.number for s in back.segments] == [3, 1]
    assert np.array_equal(back.array, np.where(mask.array == 2, 0, mask.array))
    with pytest.raises(PixelError, match=r"\[9\]"):
        read_seg(path, segments=[1, 9])


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_some_segments_of_other_kinds(tmp_path, source, kind):
    headers, geometry = source
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers, kind=kind)
    back = read_seg(tmp_path / "seg.dcm", geometry=geometry, segments=[2])
    assert [s.number for s in back.segments] == [2]
    assert np.array_equal(back.segment_array(2), mask.array == 2)


def test_own_grid_ascends_along_the_normal(tmp_path):
    headers, geometry = cases.ct_headers(tmp_path / "ct", 40, shape=SHAPE)
    assert np.linalg.det(geometry.affine[:3, :3][:, ::-1]) > 0
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers)
    back = read_seg(tmp_path / "seg.dcm")
    assert back.geometry.same_grid(geometry, tolerance_mm=1e-6)
    assert np.array_equal(back.array, mask.array)


def test_laid_on_a_larger_turned_grid(written):
    path, mask = written
    wide = mask.geometry.cropped((-2, -1, -3), (9, 6, 11)).reoriented((2, 0, 1), (False, True, True))
    back = read_seg(path, geometry=wide)
    assert back.geometry is wide
    big = np.zeros((9, 6, 11), dtype=np.uint16)
    big[2:6, 1:4, 3:8] = mask.array
    assert np.array_equal(back.array, np.flip(big.transpose(2, 0, 1), axis=(1, 2)))


def test_a_grid_that_is_not_its_own_is_refused(written):
    path, mask = written
    affine = mask.geometry.affine.copy()
    affine[:3, 3] += mask.geometry.affine[:3, 2] * 0.3
    with pytest.raises(GeometryError, match="voxels of the image"):
        read_seg(path, geometry=Geometry(SHAPE, affine, mask.geometry.frame_uid))
    with pytest.raises(GeometryError, match="outside"):
        read_seg(path, geometry=mask.geometry.cropped((1, 0, 0), (3, 3, 5)))
    with pytest.raises(GeometryError, match="frame of reference"):
        read_seg(path, geometry=Geometry(SHAPE, mask.geometry.affine, "1.9"))
    with pytest.raises(GeometryError, match="common grid"):
        read_seg(path, geometry=Geometry(SHAPE))


def test_every_truncation_is_one_clear_error(tmp_path, written):
    path, _ = written
    whole = path.read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in [*range(0, len(whole) - 24, 397), *range(len(whole) - 24, len(whole) - 1, 5)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_seg(cut)
        assert str(caught.value).startswith("cut.dcm: "), length
        assert "\n" not in str(caught.value)


def test_damaged_bytes_give_a_data_error_or_a_mask(tmp_path, written):
    path, _ = written
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(5)
    start = whole.index(b"\x00\x52\x30\x92")
    outcomes = set()
    for position in rng.integers(start, len(whole), 50).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        (tmp_path / "bad.dcm").write_bytes(damaged)
        try:
            outcomes.add(type(read_seg(tmp_path / "bad.dcm")))
        except DataError as error:
            outcomes.add(DataError)
            assert str(error).startswith("bad.dcm: ")
    assert outcomes == {Mask, DataError}


def changed(path, change) -> Dataset:
    dataset = dcmread(path)
    change(dataset)
    return dataset


def position_of(dataset: Dataset, frame: int) -> Dataset:
    return dataset.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]


def shift(dataset: Dataset, along: int, by: float) -> None:
    """Move the second plane (frames 1, 5, 9) along the normal (0) or along a row (1)."""
    orientation = np.array(
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    )
    direction = np.cross(orientation[:3], orientation[3:]) if along == 0 else orientation[:3]
    for frame in (1, 5, 9):
        place = position_of(dataset, frame)
        moved = np.array(place.ImagePositionPatient, dtype=float) + by * direction
        place.ImagePositionPatient = [f"{v:.6f}" for v in moved]


CHANGES = [
    (lambda d: shift(d, 0, 0.7), GeometryError, "not evenly spaced"),
    (lambda d: shift(d, 1, 0.7), GeometryError, "shifted against each other"),
    (lambda d: setattr(d, "SegmentationType", "OTHER"), DataError, "not a DICOM Segmentation"),
    (lambda d: setattr(d, "NumberOfFrames", 11), PixelError, "announces 11 frames and describes 12"),
    (lambda d: setattr(d, "Columns", 6), PixelError, "announces 27 bytes"),
    (lambda d: setattr(d, "BitsAllocated", 16), PixelError, "16 bits"),
    (lambda d: setattr(d, "DimensionOrganizationType", "TILED_FULL"), GeometryError, "slide"),
    (lambda d: d.SegmentSequence.pop(), PixelError, "not described"),
    (lambda d: setattr(d.SegmentSequence[1], "SegmentNumber", 1), PixelError, r"unique|not described"),
    (lambda d: position_of(d, 2).__delattr__("ImagePositionPatient"), GeometryError, "some frames"),
    (
        lambda d: setattr(position_of(d, 1), "ImagePositionPatient", position_of(d, 0).ImagePositionPatient),
        GeometryError,
        "two frames",
    ),
    (
        lambda d: d.SharedFunctionalGroupsSequence[0].__delattr__("PlaneOrientationSequence"),
        GeometryError,
        "no orientation",
    ),
    (lambda d: d.SharedFunctionalGroupsSequence[0].__delattr__("PixelMeasuresSequence"), GeometryError, "no pixel"),
]


@pytest.mark.parametrize(("change", "error", "words"), CHANGES)
def test_wrong_headers_are_refused_with_a_reason(tmp_path, written, change, error, words):
    path, _ = written
    changed(path, change).save_as(tmp_path / "wrong.dcm")
    with pytest.raises(error, match=words):
        read_seg(tmp_path / "wrong.dcm")


def test_two_orientations_or_spacings_are_refused(tmp_path, written):
    path, _ = written

    def turn(dataset):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            other = Dataset()
            other.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if number else [0, 1, 0, 0, 0, 1]
            frame.PlaneOrientationSequence = [other]
        del shared.PlaneOrientationSequence

    changed(path, turn).save_as(tmp_path / "turned.dcm")
    with pytest.raises(GeometryError, match="more than one orientation"):
        read_seg(tmp_path / "turned.dcm")

    def stretch(dataset):
        measures = Dataset()
        measures.PixelSpacing = [1, 2]
        dataset.PerFrameFunctionalGroupsSequence[3].PixelMeasuresSequence = [measures]

    changed(path, stretch).save_as(tmp_path / "stretched.dcm")
    with pytest.raises(GeometryError, match="more than one pixel spacing"):
        read_seg(tmp_path / "stretched.dcm")


def test_orientation_in_every_frame_is_the_same_as_shared(tmp_path, written):
    path, mask = written

    def distribute(dataset):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence

    changed(path, distribute).save_as(tmp_path / "each.dcm")
    assert np.array_equal(read_seg(tmp_path / "each.dcm", geometry=mask.geometry).array, mask.array)


def test_one_plane_of_unknown_thickness_gets_no_invented_spacing(tmp_path):
    headers, geometry = cases.ct_headers(tmp_path / "ct", shape=(1, 3, 5))
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers)
    back = read_seg(tmp_path / "seg.dcm")
    assert back.geometry.same_grid(geometry, tolerance_mm=1e-6)
    dataset = dcmread(tmp_path / "seg.dcm")
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SliceThickness, measures.SpacingBetweenSlices
    dataset.save_as(tmp_path / "thin.dcm")
    thin = read_seg(tmp_path / "thin.dcm")
    assert thin.geometry.affine is None
    assert thin.geometry.pixel_spacing_mm == pytest.approx((0.8, 0.7))
    assert np.array_equal(thin.array, mask.array)


def test_fractions_above_their_maximum_are_refused(tmp_path, source):
    headers, geometry = source
    write_seg(cases.probabilities(geometry), tmp_path / "seg.dcm", headers=headers, kind="FRACTIONAL")
    changed(tmp_path / "seg.dcm", lambda d: setattr(d, "MaximumFractionalValue", 100)).save_as(tmp_path / "over.dcm")
    with pytest.raises(PixelError, match="Maximum Fractional Value 100"):
        read_seg(tmp_path / "over.dcm")


def test_label_map_values_without_a_segment_are_refused_and_padding_is_background(tmp_path, source):
    headers, geometry = source
    mask = cases.labels(geometry)
    write_seg(mask, tmp_path / "seg.dcm", headers=headers, kind="LABELMAP")

    def pad(dataset):
        dataset.PixelPaddingValue = 3
        dataset.SegmentSequence.pop()

    changed(tmp_path / "seg.dcm", pad).save_as(tmp_path / "padded.dcm")
    back = read_seg(tmp_path / "padded.dcm", geometry=geometry)
    assert np.array_equal(back.array, np.where(mask.array == 3, 0, mask.array))
    changed(tmp_path / "seg.dcm", lambda d: d.SegmentSequence.pop()).save_as(tmp_path / "unknown.dcm")
    with pytest.raises(PixelError, match=r"\[3\]"):
        read_seg(tmp_path / "unknown.dcm")


def test_what_is_not_a_segmentation_is_refused(tmp_path):
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(DataError, match=r"text\.dcm"):
        read_seg(tmp_path / "text.dcm")
    with pytest.raises(DataError, match="does not exist"):
        read_seg(tmp_path / "nothing.dcm")
    cases.ct_headers(tmp_path / "ct", shape=(1, 3, 5))
    with pytest.raises(DataError, match="not a DICOM Segmentation"):
        read_seg(next((tmp_path / "ct").iterdir()))


def test_explicit_little_endian_is_what_is_written(written):
    path, _ = written
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_retired_and_modern_laterality_codes_are_one(written, tmp_path):
    path, mask = written

    def retire(dataset):
        modifier = dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
        item = modifier.SegmentedPropertyTypeModifierCodeSequence[0]
        item.CodeValue, item.CodingSchemeDesignator = "G-A101", "SRT"

    changed(path, retire).save_as(tmp_path / "srt.dcm")
    back = read_seg(tmp_path / "srt.dcm")
    assert back.segments[0] == replace(mask.segments[0], laterality=cases.LEFT)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (17, 180, 93)])
def test_colours_survive_lab(colour):
    assert from_dicom_lab(to_dicom_lab(colour)) == colour


def test_pure_red_has_the_lab_value_of_the_icc():
    # L* 54.29, a* 80.80, b* 69.89 for sRGB red under D50.
    lightness, a, b = to_dicom_lab((255, 0, 0))
    assert lightness * 100 / 65535 == pytest.approx(54.29, abs=0.02)
    assert a / 257 - 128 == pytest.approx(80.80, abs=0.05)
    assert b / 257 - 128 == pytest.approx(69.89, abs=0.05)
