"""Two people are never made one: neither by an identifier that both have, nor by the name of a file."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from isocenter.core.errors import IdentityLeak
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.data.images import read_study
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import KEY, picture, series, table

NAMES = Pseudonyms(KEY.encode())


def changed(path: Path, **values: str) -> None:
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def test_one_series_of_two_people_is_held_back_whatever_their_names(tmp_path: Path) -> None:
    cases = [(n, o) for n in ("A^B", "") for o in ({"PatientBirthDate": "19990101"}, {"PatientSex": "F"})]
    for number, (name, other) in enumerate(cases):
        paths = series(tmp_path / "s" / str(number), f"n{number}", patient=f"TWO{number}", person="x")
        for path in paths:
            changed(path, PatientName=name, PatientBirthDate="19500101", PatientSex="M")
        changed(paths[1], **other)
        with pytest.raises(IdentityLeak):
            read_study(tmp_path / "s" / str(number))  # the rule that reading a study goes by
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.conflicts == 3 * len(cases)
    assert open_catalog(tmp_path / "a").find().num_rows == 0


def test_another_birth_date_in_another_series_is_a_typing_error(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann", birth="19500102")
    series(tmp_path / "s" / "b", "two", patient="P1", person="Ann", birth="19500201", seed=1)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.conflicts == 0
    assert open_catalog(tmp_path / "a").find().num_rows == 2


def test_a_picture_is_not_of_the_patient_whom_its_name_is_the_number_of(tmp_path: Path) -> None:
    series(tmp_path / "north" / "x", "one", patient="P1", person="Ann")
    picture(tmp_path / "north" / "12.png", 0)
    picture(tmp_path / "north" / "x" / "13.png", 1)
    series(tmp_path / "south", "two", patient="12", person="Bob", seed=1)
    picture(tmp_path / "14.png", 2)
    series(tmp_path / "south" / "y", "three", patient="14", person="Eve", seed=2)
    sources = [str(tmp_path / n) for n in ("north", "south", "14.png")]
    ingest(sources, tmp_path / "a", workers=1)
    rows = open_catalog(tmp_path / "a").sql("SELECT DISTINCT patient_key, form FROM instances").to_pylist()
    assert len(rows) == len({r["patient_key"] for r in rows}) == 6
    assert NAMES.patient("", "12") in {r["patient_key"] for r in rows if r["form"] == "dicom"}


def test_a_table_and_a_folder_still_say_whose_a_picture_is(tmp_path: Path) -> None:
    series(tmp_path / "s" / "set" / "dicom", "one", patient="12", person="Ann")
    picture(tmp_path / "s" / "set" / "a.png", 0)
    picture(tmp_path / "s" / "set" / "12" / "image.png", 1)
    table(tmp_path / "s" / "set" / "t.csv", [{"image": "a.png", "patient": "12"}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    rows = open_catalog(tmp_path / "a").sql("SELECT DISTINCT patient_key, patient_from FROM instances").to_pylist()
    assert {r["patient_key"] for r in rows} == {NAMES.patient("", "12")}
    assert {r["patient_from"] for r in rows} == {"header", "table", "folder"}


def test_people_of_whom_records_alone_speak_are_told_too(tmp_path: Path) -> None:
    people = [
        {"patient": "P1", "patient name": "Ann Able", "birth date": "1950-01-02", "hb": "12"},
        {"patient": "P1", "patient name": "Bob Baker", "birth date": "1970-01-02", "hb": "13"},
    ]
    table(tmp_path / "s" / "t.csv", people)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.conflicts == 1
    assert [r for k, r, _, _ in problems_of(tmp_path / "a") if k == "conflict"] == [
        "two people have this identifier: held back"
    ]
    catalog = open_catalog(tmp_path / "a")
    assert catalog.find(level="records").num_rows == 0
    assert catalog.find(level="records", held=True).num_rows == 2
