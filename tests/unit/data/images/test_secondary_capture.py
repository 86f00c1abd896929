"""Secondary captures: the picture comes back, belongs to the patient, and has no place to measure in."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.core.errors import ConfigError, DataError, PixelError
from isocenter.data.images.secondary_capture import write_secondary_capture
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

PICTURE = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    files = write_ct_series(tmp_path_factory.mktemp("ct"), phantom())
    return [pydicom.dcmread(f, stop_before_pixels=True) for f in files]


def test_the_picture_comes_back_and_belongs_to_the_patient(headers, tmp_path):
    uid = write_secondary_capture(PICTURE, tmp_path / "sc.dcm", headers=headers)
    written = pydicom.dcmread(tmp_path / "sc.dcm")
    assert np.array_equal(written.pixel_array, PICTURE)
    assert written.SOPInstanceUID == uid
    assert (written.PatientID, written.StudyInstanceUID) == (headers[0].PatientID, headers[0].StudyInstanceUID)
    assert written.BurnedInAnnotation == "YES", "the careful answer unless the caller knows better"
    assert not {"PixelSpacing", "NominalScannedPixelSpacing", "ImagePositionPatient"} & set(written.dir())


def test_dciodvfy_finds_no_error(headers, tmp_path):
    write_secondary_capture(PICTURE, tmp_path / "sc.dcm", headers=headers, burned_in=False)
    assert dciodvfy_errors(tmp_path / "sc.dcm") == []


def test_the_same_picture_gives_the_same_bytes(headers, tmp_path):
    for name in ("a", "b"):
        write_secondary_capture(PICTURE, tmp_path / name, headers=headers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_no_picture_is_refused_and_leaves_nothing(headers, tmp_path):
    path = tmp_path / "sc.dcm"
    for wrong in (PICTURE[..., 0], PICTURE[..., :2], PICTURE.astype(np.float32), PICTURE[:0]):
        with pytest.raises(PixelError):
            write_secondary_capture(wrong, path, headers=headers)
    with pytest.raises(ConfigError, match="description"):
        write_secondary_capture(PICTURE, path, headers=headers, description="")
    with pytest.raises(DataError, match="needs the headers"):
        write_secondary_capture(PICTURE, path, headers=[])
    assert list(tmp_path.iterdir()) == []
