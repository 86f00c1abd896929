"""Nothing that a table or a record says of a person stays: labels, units and words of local codes are texts too."""

from __future__ import annotations

from isocenter.data.archive.record_rows import Speaker, add_found
from isocenter.data.archive.rows import Rows
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.data.records import Found, RawLabel, RawPatient, RawRecord, RawReport

from .conftest import KEY

PERSON = "Seen by Dr. Zyxwvut Quimby, telephone 030 1234567"


def added(found: Found) -> Rows:
    rows = Rows()
    add_found(found, rows, Speaker(Pseudonyms(KEY.encode()), Policy(), "here", "table.csv"), "table.csv")
    return rows


def column(rows: Rows, table: str, name: str) -> list[object]:
    return rows.tables()[table].column(name).to_pylist()


def test_labels_units_and_words_of_local_codes_are_cleaned() -> None:
    rows = added(
        Found(
            records=(
                RawRecord("", "P1", "observation", "X1", system="local", display=PERSON, number=1.0, unit=PERSON),
                RawRecord(
                    "", "P1", "observation", "718-7", system="http://loinc.org", display="Hemoglobin [Mass/volume]"
                ),
            ),
            labels=(RawLabel("read", PERSON, patient="P1", rater=PERSON), RawLabel("grade", "G2", patient="P1")),
        )
    )
    said = [*column(rows, "records", "display"), *column(rows, "records", "unit"), *column(rows, "labels", "rater")]
    values = column(rows, "labels", "value")
    for text in filter(None, [*said, *values]):
        assert "Quimby" not in str(text)
        assert "1234567" not in str(text)
    assert "Hemoglobin [Mass/volume]" in said
    assert "G2" in values


def test_what_names_nobody_is_nobodys() -> None:
    rows = added(
        Found(
            patients=(RawPatient("", "ANONYMOUS", name="Ann"), RawPatient("", "ANONYMOUS", name="Bob")),
            reports=(RawReport("", "ANONYMOUS", (("", "One."),)), RawReport("", "ANONYMOUS", (("", "Two."),))),
            records=(RawRecord("", "none", "observation", "a"), RawRecord("", "none", "observation", "b")),
        )
    )
    keys = [key for table in ("persons", "reports", "records") for key in column(rows, table, "patient_key")]
    assert len(set(keys)) == len(keys) == 6
