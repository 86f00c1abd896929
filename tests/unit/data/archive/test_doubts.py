"""Headers that say what can't be, and files that end too early."""

import io

import pydicom
import pytest
from pydicom.data import get_testdata_file

from isocenter.core.errors import DataError
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED
from isocenter.data.archive.doubts import doubts_of, refuse_cut_off
from isocenter.data.images.dicom.header import scan_bytes


def header(cut: int = 0, **values: str):
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for keyword, value in values.items():
        dataset[keyword] = pydicom.DataElement(keyword, dataset[keyword].VR, value, validation_mode=0)
    stream = io.BytesIO()
    dataset.save_as(stream)
    content = stream.getvalue()
    return scan_bytes(content[: len(content) - cut], "x.dcm", wanted=ARCHIVE_WANTED)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ()),
        ({"StudyDate": "2004.01.19"}, ()),
        ({"StudyDate": "20041399"}, ("Study Date is no date",)),
        ({"StudyDate": "18000101"}, ("Study Date lies before the first X-ray picture (1895)",)),
        ({"PatientBirthDate": "20300101"}, ("Study Date lies before the patient's birth",)),
        ({"PatientBirthDate": "18600101"}, ("the patient would be older than 130 years",)),
        ({"PatientBirthDate": "about 1950"}, ("Patient's Birth Date is no date",)),
    ],
)
def test_dates_that_cannot_be(values: dict[str, str], said: tuple[str, ...]) -> None:
    assert doubts_of(header(**values)) == said


def test_an_image_without_pixels_is_doubted() -> None:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del dataset.PixelData
    stream = io.BytesIO()
    dataset.save_as(stream)
    (said,) = doubts_of(scan_bytes(stream.getvalue(), "x.dcm", wanted=ARCHIVE_WANTED))
    assert "holds no pixel data" in said


def test_pixel_data_that_is_cut_off_is_refused() -> None:
    refuse_cut_off(header())
    with pytest.raises(DataError, match="is cut off: 32768 bytes of pixel data announced, 32668 there"):
        refuse_cut_off(header(cut=100 + _padding()))


def _padding() -> int:
    """Bytes behind the pixel data of the file."""
    whole = header()
    assert whole.pixel_offset is not None and whole.pixel_bytes is not None
    return whole.file_bytes - whole.pixel_offset - whole.pixel_bytes
