"""The row of a DICOM file says no more than its copy: names in any letters, and dates as the policy has them."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from deidentify_cases import plain_ct, read, written
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED, instance_row, person_of
from isocenter.data.deidentify import Policy, Pseudonyms, deidentify_bytes
from isocenter.data.deidentify.policy import Dates
from isocenter.data.images.dicom.header import scan_bytes

NAMES = Pseudonyms(b"a key for tests")


def row_of(dataset: Dataset, policy: Policy | None = None) -> dict[str, Any]:
    header = scan_bytes(written(dataset), "a.dcm", wanted=ARCHIVE_WANTED)
    return instance_row(header, person_of(header, NAMES, ""), NAMES, policy or Policy())


def test_a_name_in_other_letters_is_in_no_column() -> None:
    ds = plain_ct(name="Иванов^Пётр")
    ds.SpecificCharacterSet = "ISO_IR 144"
    ds.Manufacturer, ds.ManufacturerModelName = "ACME ИВАНОВ", "Томограф"
    ds.SeriesDescription = "Грудь иванов"
    row = row_of(ds)
    assert row["manufacturer"] is None
    assert row["model"] == "Томограф"
    assert row["series_description"] == "Грудь [NAME]"


def test_a_name_where_a_code_belongs_stays_neither_in_the_row_nor_in_the_copy() -> None:
    ds = plain_ct(name="Zebrowski^Head")
    ds.BodyPartExamined = "HEAD"
    for keyword in ("Modality", "ImageLaterality", "ViewPosition", "BurnedInAnnotation"):
        ds[keyword] = DataElement(keyword, "CS", "ZEBROWSKI", validation_mode=0)
    done = deidentify_bytes(written(ds), NAMES, Policy())
    copy, row = read(done.data), row_of(ds)
    assert "ZEBROWSKI" not in str(copy).upper() + str(row).upper()
    assert (copy.BodyPartExamined, copy.ViewPosition) == ("HEAD", "")
    assert done.suspicious


def test_a_description_is_cleaned_of_everybody_whom_the_copy_is_cleaned_of() -> None:
    ds = plain_ct()
    ds.OperatorsName, ds.PerformingPhysicianName = ["Quimby^Zora", "HEAD"], "Vandersloot^Ian"
    ds.OtherPatientIDs, ds.PatientBirthName = "OLDMRN-4711", "Featherstonehaugh"
    ds.StudyDescription = "Head: Quimby, Vandersloot, OLDMRN-4711, Featherstonehaugh"
    copy = read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert row_of(ds)["study_description"] == copy.StudyDescription == "Head: [NAME], [ID], [NAME]"


@pytest.mark.parametrize("dates", get_args(Dates))
def test_dates_in_descriptions_go_as_the_policy_says(dates: Dates) -> None:
    policy = Policy(retain_dates=dates)
    ds = plain_ct()
    ds.StudyDescription = "CT thorax 2024-03-01"
    done = deidentify_bytes(written(ds), NAMES, policy)
    row = row_of(ds, policy)
    days = NAMES.shift_days(done.patient_key)
    moved = date.fromordinal(date(2024, 3, 1).toordinal() - days).isoformat()
    said = {"full": "2024-03-01", "none": "[DATE]", "shifted": moved}[dates]
    assert row["study_description"] == read(done.data).StudyDescription == f"CT thorax {said}"
    assert (row["study_date"] is None) == (dates == "none")
