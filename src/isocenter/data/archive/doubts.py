"""What a DICOM header says that can't be: dates that are none or out of order, and objects that end too early."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from pydicom.uid import UID

from isocenter.core.errors import DataError
from isocenter.data.images.dicom.header import Header

__all__ = ["doubts_of", "refuse_cut_off"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_FIRST_X_RAY = date(1895, 11, 8)
_OLDEST_YEARS = 130


def refuse_cut_off(header: Header) -> None:
    """Refuse a file that ends before its pixel data does.

    Raises:
        DataError: It does.
    """
    if header.pixel_offset is None or header.pixel_bytes is None or header.transfer_syntax_uid == _DEFLATED:
        return
    there = header.file_bytes - header.pixel_offset
    if there < header.pixel_bytes:
        raise DataError(
            f"is cut off: {header.pixel_bytes} bytes of pixel data announced, {max(there, 0)} there; copy it again",
            source=header.name,
        )


def doubts_of(header: Header) -> tuple[str, ...]:
    """Tell what of a header can't be; the object is taken in all the same.

    Args:
        header: Read with `ARCHIVE_WANTED`.

    Returns:
        Sentences without a value of the patient.
    """
    found = _dates(header.text("StudyDate"), header.text("PatientBirthDate"))
    if not header.has_pixels and _is_image(header.text("SOPClassUID")):
        found = (*found, "is of a class of images and holds no pixel data: cut off, or sent without")
    return found


@lru_cache(maxsize=4096)
def _dates(studied: str, born: str) -> tuple[str, ...]:
    when, birth = _date(studied), _date(born)
    found = []
    if studied and when is None:
        found.append("Study Date is no date")
    if born and birth is None:
        found.append("Patient's Birth Date is no date")
    if when is not None and when < _FIRST_X_RAY:
        found.append("Study Date lies before the first X-ray picture (1895)")
    if when is not None and birth is not None:
        if when < birth:
            found.append("Study Date lies before the patient's birth")
        elif when.year - birth.year > _OLDEST_YEARS:
            found.append(f"the patient would be older than {_OLDEST_YEARS} years")
    return tuple(found)


def _date(text: str) -> date | None:
    """Read a date of DICOM, in today's form or in that of ACR-NEMA (2001.05.17)."""
    plain = text.replace(".", "") if len(text) == 10 else text
    if len(plain) != 8 or not plain.isascii() or not plain.isdigit():
        return None
    try:
        return date(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _is_image(uid: str) -> bool:
    return "Image Storage" in UID(uid).name if uid else False
