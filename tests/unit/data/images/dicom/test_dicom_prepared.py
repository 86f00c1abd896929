"""An image before its pixels are decoded: some planes are what the whole has there, and the whole is what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from isocenter.core import Geometry, Image
from isocenter.core.errors import ConfigError, DataError, GeometryError, IdentityLeak
from isocenter.data.images.dicom import open_dicom, read_dicom
from isocenter.testing.dicom_phantom import write_ct_series


def ramp(shape: tuple[int, int, int] = (6, 5, 7)) -> Image:
    z, y, x = np.indices(shape)
    geometry = Geometry.axial(shape, spacing_mm=(2.0, 1.0, 0.5), origin_mm=(5.0, -7.0, 11.0), frame_uid="1.2.3")
    return Image((100 * z + 10 * y + x).astype(np.int16)[None], geometry)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"])
def test_planes_are_those_of_the_image(tmp_path: Path, syntax: str) -> None:
    files = write_ct_series(tmp_path, ramp((6, 64, 64)), transfer_syntax_uid=syntax)
    study, _, refused = read_dicom(files, root=tmp_path)
    (read,) = study.images
    opened = open_dicom(files, root=tmp_path)
    (prepared,) = opened.images
    assert refused == opened.refused == ()
    assert prepared.is_regular and prepared.geometry == read.geometry
    assert prepared.source.instance_uids == read.source.instance_uids and prepared.source.sha256 == ""
    for first, count in ((0, 1), (5, 1), (1, 3), (0, 6)):
        np.testing.assert_array_equal(prepared.planes(first, count), read.array[:, first : first + count])
    whole = prepared.image()
    assert whole.sha256 == read.sha256 and whole.meta == read.meta and whole.notes == read.notes
    for first, count in ((-1, 1), (0, 0), (5, 2), (6, 1)):
        with pytest.raises(ConfigError, match="lie outside"):
            prepared.planes(first, count)


def test_values_of_every_plane_have_their_own_slope(tmp_path: Path) -> None:
    def change(index: int, dataset: Dataset) -> Dataset:
        dataset.RescaleSlope = str(1 + index / 2)
        return dataset

    files = write_ct_series(tmp_path, ramp(), change=change)
    (prepared,) = open_dicom(files, root=tmp_path).images
    whole = prepared.image()
    np.testing.assert_array_equal(np.concatenate([prepared.planes(z, 1) for z in range(6)], axis=1), whole.array)


def test_channels_stay_together(tmp_path: Path) -> None:
    """Two echoes at each position are two channels of one image, and so are those of some of its planes."""
    files = []
    for echo in (1, 2):

        def change(index: int, dataset: Dataset, echo: int = echo) -> Dataset:
            dataset.EchoTime, dataset.EchoNumbers = 10.0 * echo, echo
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{echo}.{index + 1}"
            return dataset

        image = Image(ramp().array * echo, ramp().geometry)
        files += write_ct_series(tmp_path / str(echo), image, change=change)
    (prepared,) = open_dicom(files, root=tmp_path).images
    whole = prepared.image()
    assert whole.array.shape == (2, 6, 5, 7) and "2 channels" in whole.notes[-1]
    np.testing.assert_array_equal(prepared.planes(2, 3), whole.array[:, 2:5])


def test_an_irregular_series_has_no_planes_of_its_own(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, ramp(), change=lambda n, d: None if n == 2 else d)
    with pytest.raises(GeometryError, match="missing slice"):
        open_dicom(files, root=tmp_path)
    (prepared,) = open_dicom(files, root=tmp_path, on_irregular="resample").images
    assert not prepared.is_regular
    with pytest.raises(GeometryError, match="missing slice"):
        prepared.planes(0, 1)
    assert prepared.image().array.shape == (1, 6, 5, 7)


def test_two_patients_are_refused(tmp_path: Path) -> None:
    def other(_: int, dataset: Dataset) -> Dataset:
        dataset.PatientID = "SOMEBODY ELSE"
        return dataset

    files = [*write_ct_series(tmp_path / "a", ramp()), *write_ct_series(tmp_path / "b", ramp(), name="b", change=other)]
    with pytest.raises(IdentityLeak):
        open_dicom(files, root=tmp_path)


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path, ramp())
    files[0].write_bytes(files[0].read_bytes()[:-4])
    opened = open_dicom(files, root=tmp_path)
    assert [r.where for r in opened.refused] == [files[0].name] and len(opened.images[0].stack.planes) == 5
    files[1].write_bytes(b"no DICOM at all")
    with pytest.raises(DataError, match="not a DICOM file"):
        open_dicom(files[1:2], root=tmp_path)
