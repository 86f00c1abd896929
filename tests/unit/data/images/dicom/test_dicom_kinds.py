"""Kinds of objects beyond the plain CT series: enhanced, cine, radiograph, ultrasound, dose, colour; and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from isocenter.core import Image, Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.dicom.facts import body_part, flat_spacing
from isocenter.data.images.dicom.header import scan
from isocenter.data.images.dicom.identity import patient_key
from isocenter.data.images.instance import open_instance
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import PHANTOM_PATIENT_ID, write_ct_series


def read_one(path: Path) -> Image:
    study, _, refused = read_dicom([path], root=path.parent)
    assert refused == ()
    (image,) = study.images
    return image


def one_file(folder: Path, change: Callable[[Dataset], None], image: Image | None = None) -> Path:
    def hook(index: int, dataset: Dataset) -> Dataset | None:
        if index:
            return None
        change(dataset)
        return dataset

    (path,) = write_ct_series(folder, image or phantom(degrees=(0, 0, 0)), change=hook)
    return path


def enhanced(folder: Path, image: Image, order: list[int], channels: int = 1) -> Path:
    """Write an enhanced CT with frames in a given order; channel c holds the values plus 100 c."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = [pydicom.dcmread(p) for p in write_ct_series(folder / "slices", image)]
    dataset = slices[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared, frames, pixels = Dataset(), [], []
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = dataset.PixelSpacing, dataset.SliceThickness
    orientation = Dataset()
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for channel in range(channels):
        for index in order:
            frame, position, transform, content = Dataset(), Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = slices[index].ImagePositionPatient
            transform.RescaleIntercept, transform.RescaleSlope, transform.RescaleType = -1024 + 100 * channel, 1, "HU"
            content.TemporalPositionIndex = channel + 1
            frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [transform]
            frame.FrameContentSequence = [content]
            frames.append(frame)
            pixels.append(slices[index].PixelData)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(dataset, keyword)
    dataset.RescaleIntercept = "77"  # a decoy: the frames' own transformation counts
    dataset.NumberOfFrames = len(frames)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], Sequence(frames)
    dataset.PixelData = b"".join(pixels)
    path = folder / "enhanced.dcm"
    dataset.save_as(path)
    return path


def test_enhanced_frames_are_ordered_by_position(tmp_path: Path) -> None:
    written = phantom(40, degrees=(5, 6, 7), shape=(4, 3, 5))
    image = read_one(enhanced(tmp_path, written, [2, 0, 3, 1]))
    np.testing.assert_array_equal(image.array, written.array)
    assert image.geometry.same_grid(written.geometry)
    assert image.quantity is Quantity.HU
    assert len(set(image.source.instance_uids)) == 1
    assert len(image.source.instance_uids) == 4


def test_enhanced_time_points_are_channels(tmp_path: Path) -> None:
    written = phantom(40, degrees=(0, 0, 0), shape=(3, 3, 5))
    image = read_one(enhanced(tmp_path, written, [2, 0, 1], channels=2))
    assert image.array.shape == (2, 3, 3, 5)
    np.testing.assert_array_equal(image.array[0], written.array[0])
    np.testing.assert_array_equal(image.array[1], written.array[0] + 100)


def test_headers_come_back_in_z_order_with_identity(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, phantom(7, shape=(5, 2, 3)), seed=5)
    study, headers, _ = read_dicom(sorted(paths), root=tmp_path)
    image = study.images[0]
    found = headers.series(image.source.series_uid)
    assert [h.SOPInstanceUID for h in found] == list(image.source.instance_uids)
    assert found == headers.image(image)
    assert found[0].PatientID == PHANTOM_PATIENT_ID
    assert "PixelData" not in found[0]
    assert headers.series_uids() == (image.source.series_uid,)
    with pytest.raises(DataError, match="no image of this series"):
        headers.series("1.2.3")
    paths[0].unlink()
    with pytest.raises(DataError, match="gone"):
        headers.image(image)


def test_no_identity_in_the_study(tmp_path: Path) -> None:
    write_ct_series(tmp_path, phantom())
    study, _, _ = read_dicom(sorted(tmp_path.iterdir()), root=tmp_path)
    told = repr(study.images[0].meta) + repr(study.images[0]) + study.patient_key + study.images[0].description
    for secret in (PHANTOM_PATIENT_ID, "Phantom^Isocenter", "20260101"):
        assert secret not in told
    assert len(study.patient_key) == 32


def test_patient_key_depends_on_key_and_identifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = scan(write_ct_series(tmp_path / "a", phantom())[0])
    other = scan(one_file(tmp_path / "b", lambda d: setattr(d, "PatientID", "B")))
    assert patient_key([header], key=b"k") != patient_key([other], key=b"k")
    assert patient_key([header], key=b"k") != patient_key([header], key=b"l")
    without = patient_key([header])
    assert without == patient_key([header])
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "k")
    assert patient_key([header]) == patient_key([header], key=b"k") != without


def test_patient_key_without_an_identifier_is_the_studys_own(tmp_path: Path) -> None:
    headers = [
        scan(write_ct_series(tmp_path / name, phantom(), name=name, change=_without_identifier)[0]) for name in "ab"
    ]
    assert patient_key([headers[0]]) != patient_key([headers[1]])


def _without_identifier(_index: int, dataset: Dataset) -> Dataset:
    dataset.PatientID = ""
    return dataset


def test_unsigned_with_overlay_bits_and_intercept(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        stored = np.array([0x0FFF, 0xF001, 0x8000, 0x0123] * 3 + [0, 1, 2], dtype="<u2")
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
        dataset.PixelData = stored.tobytes()

    image = read_one(one_file(tmp_path, change))
    assert image.array.dtype == np.int16
    assert image.array.ravel()[:4].tolist() == [4095 - 1024, 1 - 1024, -1024, 0x123 - 1024]


def test_signed_values_of_twelve_bits(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = np.array([0x0FFF, 0x0800, 0x07FF] * 5, dtype="<u2").tobytes()
        dataset.RescaleIntercept = "0"

    image = read_one(one_file(tmp_path, change))
    assert image.array.ravel()[:3].tolist() == [-1, -2048, 2047]


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype", "expected"),
    [
        ("1", "0", np.uint16, 65535),
        ("1", "-1024", np.int32, 64511),
        ("1", "-40000", np.int16, 25535),
        ("0.5", "-3", np.float32, 32764.5),
    ],
)
def test_type_of_the_result(tmp_path: Path, slope: str, intercept: str, dtype: type, expected: float) -> None:
    def change(dataset: Dataset) -> None:
        dataset.PixelRepresentation = 0
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = np.array([65535] + [40000] * 14, dtype="<u2").tobytes()

    image = read_one(one_file(tmp_path, change))
    assert image.array.dtype == dtype
    assert image.array.ravel()[0] == expected


def test_modality_lut(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            delattr(dataset, keyword)
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [4, 0, 16])
        item.ModalityLUTType = "US"
        item.add_new("LUTData", "US", [10, 200, 3000, 40000])
        dataset.ModalityLUTSequence = [item]
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.array([0, 1, 2, 3, 9] * 3, dtype="<u2").tobytes()

    image = read_one(one_file(tmp_path, change))
    assert image.array.ravel()[:5].tolist() == [10, 200, 3000, 40000, 40000]


def test_real_world_value_mapping(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        item, unit = Dataset(), Dataset()
        item.RealWorldValueSlope, item.RealWorldValueIntercept = 0.25, 7.0
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "{SUVbw}g/ml", "UCUM", "SUVbw"
        item.MeasurementUnitsCodeSequence = [unit]
        dataset.RealWorldValueMappingSequence = [item]
        dataset.Modality = "PT"

    image = read_one(one_file(tmp_path, change))
    assert image.quantity is Quantity.SUVBW
    np.testing.assert_allclose(image.array[0, 0], (phantom().array[0, 0] + 1024.0) * 0.25 + 7)


def test_lone_slice_without_thickness_has_no_place(tmp_path: Path) -> None:
    image = read_one(one_file(tmp_path, lambda d: delattr(d, "SliceThickness")))
    assert image.geometry.affine is None
    assert image.geometry.pixel_spacing_mm == (0.8, 0.7)
    assert image.geometry.stack == "space"


def test_frames_without_a_place_are_a_stack_in_time(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.Modality, dataset.NumberOfFrames = "XA", "2"
        dataset.PixelData = dataset.PixelData * 2
        dataset.ImagerPixelSpacing = ["0.3", "0.2"]
        del dataset.PixelSpacing

    image = read_one(one_file(tmp_path, change))
    assert image.geometry.stack == "time"
    assert image.geometry.affine is None
    assert image.geometry.pixel_spacing_mm == (0.3, 0.2)
    assert not image.is_volume
    assert "detector" in image.notes[-1]


def test_frame_count_that_is_not_a_number(tmp_path: Path) -> None:
    path = one_file(tmp_path, lambda _: None)
    dataset = pydicom.dcmread(path)
    dataset.add_new("NumberOfFrames", "SH", "1A")
    dataset["NumberOfFrames"].VR = "SH"
    dataset.save_as(path)
    with pytest.raises(PixelError, match="not a number"):
        read_dicom([path], root=tmp_path)


def test_more_pixels_than_described(tmp_path: Path) -> None:
    path = one_file(tmp_path, lambda d: setattr(d, "PixelData", d.PixelData * 3))
    with pytest.raises(PixelError, match="holds 90 bytes of pixel data where its header describes 30"):
        read_dicom([path], root=tmp_path)


def test_dose_planes_follow_their_offsets() -> None:
    image = read_one(Path(get_testdata_file("rtdose.dcm")))
    assert image.modality == "RTDOSE"
    assert image.geometry.shape == (15, 10, 10)
    assert image.geometry.spacing_mm == (5.0, 10.0, 10.0)


def _radiograph(**elements: object) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "DX"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def test_radiograph_spacing_says_where_it_holds() -> None:
    spacing, notes = flat_spacing(_radiograph(ImagerPixelSpacing=["0.15", "0.14"]), None)
    assert spacing == (0.15, 0.14)
    assert "at the detector" in notes[0]
    spacing, notes = flat_spacing(_radiograph(PixelSpacingCalibrationType="FIDUCIAL"), (0.1, 0.1))
    assert spacing == (0.1, 0.1)
    assert "calibrated" in notes[0]
    assert flat_spacing(_radiograph(), None) == (None, ())


def _ultrasound(*regions: tuple[float, float, int]) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "US"
    items = []
    for x, y, unit in regions:
        item = Dataset()
        item.PhysicalDeltaX, item.PhysicalDeltaY = x, y
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = unit
        items.append(item)
    dataset.SequenceOfUltrasoundRegions = items
    return dataset


def test_ultrasound_spacing_is_that_of_its_one_region() -> None:
    assert flat_spacing(_ultrasound((0.02, 0.03, 3)), None)[0] == (0.3, 0.2)
    assert flat_spacing(_ultrasound((0.02, 0.03, 4)), None)[0] is None, "seconds are not millimetres"
    spacing, notes = flat_spacing(_ultrasound((0.02, 0.03, 3), (0.01, 0.01, 3)), (1.0, 1.0))
    assert spacing is None
    assert "2 ultrasound regions" in notes[0]


def _with_body_part(text: str) -> Dataset:
    """As read from a file: pydicom does not object to lower case there."""
    dataset = Dataset()
    dataset[0x00180015] = DataElement(0x00180015, "CS", text, validation_mode=pydicom.config.IGNORE)
    return dataset


@pytest.mark.parametrize(
    ("stated", "part"), [("Thorax", "CHEST"), ("CHEST", "CHEST"), ("Head and Neck", "HEADNECK"), ("", "")]
)
def test_body_part(stated: str, part: str) -> None:
    dataset = _with_body_part(stated)
    assert body_part(dataset) == (part, ())


def test_body_part_that_is_free_text_is_not_passed_on() -> None:
    dataset = _with_body_part("MR SMITH LEFT")
    part, notes = body_part(dataset)
    assert part == ""
    assert "SMITH" not in notes[0]


def test_lean_scanner_and_pydicom_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.data.images.dicom import header

    names = ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "rtdose.dcm", "examples_rgb_color.dcm"]
    names += ["MR_small_implicit.dcm", "JPEG2000.dcm", "examples_palette.dcm"]
    paths = [Path(get_testdata_file(name)) for name in names]
    lean = [scan(path) for path in paths]
    assert all(h.lean for h in lean)

    def never(*_: object) -> None:
        raise header.Unusual

    monkeypatch.setattr(header, "_scan_lean", never)
    for one, path in zip(lean, paths, strict=True):
        other = scan(path)
        assert not other.lean
        assert other.values == one.values
        assert other.transfer_syntax_uid == one.transfer_syntax_uid


def test_broken_headers_never_crash_the_scanner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = write_ct_series(tmp_path, phantom())[0].read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "broken.dcm"
    outcomes = set()
    for n in range(120):
        data = bytearray(whole if n % 2 else whole[: rng.integers(133, len(whole))])
        for place in rng.integers(132, len(data), size=1 + n % 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            study, _, _ = read_dicom([path], root=tmp_path)
            outcomes.add("read" if study.images else "ignored")
        except DataError as error:
            outcomes.add(type(error).__name__)
            assert PHANTOM_PATIENT_ID not in str(error)
    assert caplog.records == [], "pydicom's remarks quote header values"
    assert "read" in outcomes
    assert "PixelError" in outcomes


@pytest.mark.parametrize("share", [0.4, 0.8, 0.98])
def test_a_deflated_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, share: float) -> None:
    whole = Path(get_testdata_file("image_dfl.dcm")).read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PixelError, match=r"cut\.dcm: is cut off or damaged"):
        read_dicom([path], root=tmp_path)
    with pytest.raises(DataError, match="damaged"):
        open_instance(path)


def test_damaged_run_lengths_do_not_reach_the_decoder_that_panics(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """pylibjpeg-rle raises a BaseException on them and prints a back trace."""
    whole = Path(get_testdata_file("MR_small_RLE.dcm")).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "broken.dcm"
    outcomes = set()
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(len(data) - 6000, len(data), size=8):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_dicom([path], root=tmp_path)
        except PixelError as error:
            outcomes.add(str(error).split(": ")[1])
    assert "its pixels (RLE Lossless) cannot be decoded" in outcomes
    assert capfd.readouterr().err == ""


def test_instances_of_two_studies_are_told(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "a", phantom(), name="a")
    write_ct_series(tmp_path / "b", phantom(), name="b")
    study, _, _ = read_dicom(sorted(tmp_path.rglob("*.dcm")), root=tmp_path)
    assert len(study.images) == 2
    assert study.notes == ("2 studies of one patient were read together",)
    assert generate_uid(entropy_srcs=["a", "study"]) in {i.source.study_uid for i in study.images}
