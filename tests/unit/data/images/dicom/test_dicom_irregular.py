"""Series that make no regular grid: refused with what, where and what to do; or resampled on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from isocenter.core import Geometry, Image, Study
from isocenter.core.errors import DataError, GeometryError, IdentityLeak, PixelError
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.fingerprint import fingerprint
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import PHANTOM_PATIENT_ID, write_ct_series

Change = Callable[[int, Dataset], Dataset | None]


def ramp(shape: tuple[int, int, int] = (6, 5, 7)) -> Image:
    """Values linear in x, y and z, so that linear interpolation is exact."""
    z, y, x = np.indices(shape)
    geometry = Geometry.axial(shape, spacing_mm=(2.0, 1.0, 1.0), origin_mm=(5.0, -7.0, 11.0), frame_uid="1.2.3")
    return Image((10 * z + 3 * y + x).astype(np.int16)[None], geometry)


def read(folder: Path, **options: str) -> Study:
    study, _, refused = read_dicom(sorted(folder.rglob("*.dcm")), root=folder, **options)
    assert refused == ()
    return study


def write(folder: Path, change: Change | None = None, image: Image | None = None, **options: str) -> list[Path]:
    return write_ct_series(folder, image or ramp(), change=change, **options)


def moved(distances: list[float], shift_per_mm: tuple[float, float] = (0.0, 0.0)) -> Change:
    """Put the slices at these z, sheared by so many mm along (x, y) per mm."""

    def change(index: int, dataset: Dataset) -> Dataset:
        z = distances[index]
        dataset.ImagePositionPatient = [5.0 + shift_per_mm[0] * z, -7.0 + shift_per_mm[1] * z, 11.0 + z]
        return dataset

    return change


def test_missing_slice_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, lambda n, d: None if n == 2 else d)
    with pytest.raises(GeometryError, match=r"1 missing slice: 4\.00 mm between") as error:
        read(tmp_path)
    assert paths[1].name in str(error.value)
    assert paths[2].name in str(error.value)
    assert "on_irregular='resample'" in str(error.value)
    assert PHANTOM_PATIENT_ID not in str(error.value)


def test_missing_slice_is_interpolated_on_request(tmp_path: Path) -> None:
    write(tmp_path, lambda n, d: None if n in (2, 3) else d)
    (image,) = read(tmp_path, on_irregular="resample").images
    np.testing.assert_allclose(image.array, ramp().array, atol=1e-4)
    assert image.geometry.same_grid(ramp().geometry)
    assert "resampled (linear) to 6 slices at 2 mm: 2 missing slices" in image.notes[-1]
    assert image.source.sha256 == fingerprint(image.array, image.geometry)


def test_irregular_spacing(tmp_path: Path) -> None:
    distances = [0.0, 2.0, 4.0, 5.0, 8.0, 10.0]
    write(tmp_path, moved(distances))
    with pytest.raises(GeometryError, match=r"irregular spacing: 1\.00 to 3\.00 mm"):
        read(tmp_path)
    (image,) = read(tmp_path, on_irregular="resample").images
    assert image.geometry.spacing_mm == (2.0, 1.0, 1.0)
    assert image.array.dtype == np.float32
    # Slice 3 of the uniform grid lies at 6 mm, a third of the way from the slice at 5 mm (30) to that at 8 mm (40).
    np.testing.assert_allclose(image.array[0, 3, 0, 0], 30 + 10 / 3, atol=1e-5)


def test_rounded_positions_are_regular(tmp_path: Path) -> None:
    write(tmp_path, moved([0.0, 1.3, 2.5, 3.8, 5.0, 6.3]))
    (image,) = read(tmp_path).images
    np.testing.assert_allclose(image.geometry.spacing_mm, (1.26, 1.0, 1.0))


def test_gantry_tilt(tmp_path: Path) -> None:
    tangent = float(np.tan(np.deg2rad(12)))
    write(tmp_path, moved([2.0 * n for n in range(6)], (0.0, tangent)))
    with pytest.raises(GeometryError, match=r"gantry tilt: .* sheared by 12\.00 degrees"):
        read(tmp_path)
    (image,) = read(tmp_path, on_irregular="resample").images
    assert "gantry tilt" in image.notes[-1]
    geometry = image.geometry
    np.testing.assert_allclose(geometry.directions, np.eye(3)[:, ::-1], atol=1e-12)
    assert geometry.shape[1] > 5
    # A point of slice 4, straight above the first slice's origin: its row there is 4 * 2 * tan 12 degrees further up.
    point = np.array([[5.0 + 3.0, -7.0 + 4.0, 11.0 + 8.0]])
    k, j, i = geometry.to_index(point)[0]
    below = image.array[0, round(k), :, round(i)]
    expected = 10 * 4 + 3 * (4.0 - 8.0 * tangent) + 3
    np.testing.assert_allclose(np.interp(j, np.arange(len(below)), below), expected, atol=1e-3)


def test_one_slice_out_of_line(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        if index == 3:
            dataset.ImagePositionPatient = [6.5, -7.0, 17.0]
        return dataset

    paths = write(tmp_path, change)
    with pytest.raises(GeometryError, match=r"shifted in their plane: .* lies 1\.50 mm off the line") as error:
        read(tmp_path)
    assert paths[3].name in str(error.value)


def test_slightly_turned_slice_is_mixed_orientation(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        if index == 3:
            dataset.ImageOrientationPatient = [np.cos(0.01), np.sin(0.01), 0, -np.sin(0.01), np.cos(0.01), 0]
        return dataset

    write(tmp_path, change)
    with pytest.raises(GeometryError, match="mixed orientation"):
        read(tmp_path)


def test_orientation_that_is_not_perpendicular(tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> Dataset:
        dataset.ImageOrientationPatient = [1, 0, 0, 0.6, 0.8, 0]
        return dataset

    write(tmp_path, change)
    with pytest.raises(DataError, match="not perpendicular"):
        read(tmp_path)


def test_orthogonal_localiser_is_an_image_of_its_own(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        if index == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        return dataset

    write(tmp_path, change)
    study = read(tmp_path)
    assert sorted(i.geometry.shape for i in study.images) == [(1, 5, 7), (5, 5, 7)]
    assert {i.description.split()[-1] for i in study.images} == {"LOCALIZER", "AXIAL"}


def test_duplicate_positions_without_a_difference(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", _other_instances)
    with pytest.raises(GeometryError, match="2 slices lie at one position"):
        read(tmp_path)


def _other_instances(_: int, dataset: Dataset) -> Dataset:
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def test_copies_of_a_file_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    study, _, refused = read_dicom(sorted(tmp_path.rglob("*.dcm")), root=tmp_path)
    assert len(study.images) == 1
    assert len(refused) == 6
    assert {r.kind for r in refused} == {"ignored"}
    assert all(r.where.startswith("b/") and "is a copy of a/" in r.reason for r in refused)


@pytest.mark.parametrize(
    ("keyword", "values", "told_apart_by"),
    [
        ("EchoTime", ["4.6", "2.3"], "EchoTime"),
        ("TemporalPositionIdentifier", ["2", "1"], "TemporalPosition"),
        ("DiffusionBValue", [1000.0, 0.0], "DiffusionBValue"),
    ],
)
def test_repeats_become_channels(tmp_path: Path, keyword: str, values: list, told_apart_by: str) -> None:
    base = phantom(0, degrees=(0, 0, 0), shape=(3, 4, 5))
    later = Image(base.array + np.int16(1000), base.geometry)
    for name, image, value in (("a", later, values[0]), ("b", base, values[1])):

        def change(index: int, dataset: Dataset, value: object = value) -> Dataset:
            setattr(dataset, keyword, value)
            return _other_instances(index, dataset)

        write_ct_series(tmp_path / name, image, change=change)
    (image,) = read(tmp_path).images
    assert image.meta["ChannelKeys"] == (told_apart_by,)
    assert image.array.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(image.array[1] - image.array[0], 1000)
    assert len(image.source.instance_uids) == 6
    assert image.source.sha256 == fingerprint(image.array, image.geometry)


def test_repeats_told_apart_by_reconstruction_become_images(tmp_path: Path) -> None:
    for kernel in ("SHARP", "SOFT"):

        def change(index: int, dataset: Dataset, kernel: str = kernel) -> Dataset:
            dataset.ConvolutionKernel = kernel
            return _other_instances(index, dataset)

        write(tmp_path / kernel, change)
    study = read(tmp_path)
    assert [i.array.shape for i in study.images] == [(1, 6, 5, 7)] * 2
    assert {i.meta["ConvolutionKernel"] for i in study.images} == {"SHARP", "SOFT"}


def test_an_irregular_series_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "good", name="good")
    write(tmp_path / "bad", lambda n, d: None if n == 2 else d, name="bad")
    study, _, refused = read_dicom(sorted(tmp_path.rglob("*.dcm")), root=tmp_path)
    assert len(study.images) == 1
    (refusal,) = refused
    assert refusal.kind == "refused"
    assert refusal.where.startswith("series 2.25.") or refusal.where.startswith("series 1.2.826.")
    assert "missing slice" in refusal.reason


def test_two_patients(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        if index == 1:
            dataset.PatientID = "SOMEBODY-ELSE"
        return dataset

    write(tmp_path, change)
    with pytest.raises(IdentityLeak, match="two patients") as error:
        read(tmp_path)
    assert "SOMEBODY" not in str(error.value)
    assert PHANTOM_PATIENT_ID not in str(error.value)


def test_truncated_pixel_data(tmp_path: Path) -> None:
    paths = write(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-20])
    study, _, refused = read_dicom(paths, root=tmp_path, on_irregular="resample")
    assert len(study.images) == 1
    assert [(r.where, r.kind) for r in refused] == [(paths[2].name, "refused")]
    assert "ends after 50 of 70 bytes" in refused[0].reason
    with pytest.raises(PixelError, match="cut off"):
        read_dicom(paths[2:3], root=tmp_path)


def test_encrypted_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "letter.dcm").write_bytes(b"Dear colleague, this is not an image at all." * 20)
    (tmp_path / "secret.dcm").write_bytes(b"\x30\x82\x04\x00" + bytes(range(256)) * 8)
    (tmp_path / "empty.dcm").write_bytes(b"")
    write(tmp_path / "good")
    study, _, refused = read_dicom(sorted(tmp_path.rglob("*.dcm")), root=tmp_path)
    assert len(study.images) == 1
    assert {r.where: r.reason.split(" (")[0] for r in refused} == {
        "empty.dcm": "is not a DICOM file",
        "letter.dcm": "is not a DICOM file",
        "secret.dcm": "is encrypted",
    }


def test_absurd_sizes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    def huge(_: int, dataset: Dataset) -> Dataset:
        dataset.Rows, dataset.Columns = 65535, 65535
        return dataset

    paths = write(tmp_path / "huge", huge)
    with pytest.raises(PixelError, match="more than 2 GiB"):
        read_dicom(paths[:1], root=tmp_path)

    def frames(_: int, dataset: Dataset) -> Dataset:
        dataset.NumberOfFrames = "1000000000"
        return dataset

    paths = write(tmp_path / "frames", frames, name="frames")
    with pytest.raises(PixelError, match="cut off"):
        read_dicom(paths[:1], root=tmp_path)


def test_nothing_readable_among_several(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"no")
    with pytest.raises(DataError, match="none of 2 series or files could be read"):
        read_dicom([tmp_path / "a", tmp_path / "b"], root=tmp_path)


def test_progress_grows_to_one(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    read_dicom(write(tmp_path), root=tmp_path, progress=lambda what, fraction: told.append((what, fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [what for what, _ in told].count("reading headers") == 6
