"""Nothing that a table or a record says of a person stays: labels, units and words of local codes are texts too."""

from __future__ import annotations

from typing import get_args

import pytest

from isocenter.data.archive.record_rows import Speaker, add_found, shift_moment
from isocenter.data.archive.rows import Rows
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.data.deidentify.policy import Dates
from isocenter.data.records import Found, Manifest, ManifestRow, RawLabel, RawPatient, RawRecord, RawReport

from .conftest import KEY

PERSON = "Seen by Dr. Zyxwvut Quimby, telephone 030 1234567"


NAMES = Pseudonyms(KEY.encode())


def added(found: Found, policy: Policy | None = None) -> Rows:
    rows = Rows()
    add_found(found, rows, Speaker(NAMES, policy or Policy(), "here", "table.csv"), "table.csv")
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


@pytest.mark.parametrize("dates", get_args(Dates))
def test_dates_in_texts_go_as_the_policy_says(dates: Dates) -> None:
    told = "CT of 2024-03-01, compared with 2023-11-07"
    rows = added(
        Found(
            reports=(RawReport("", "P1", (("", told),), time="2024-03-01", title=told),),
            records=(
                RawRecord(
                    "", "P1", "observation", "X1", "local", told, text=told, value_time="2024-03-01", time="2024"
                ),
            ),
            labels=(RawLabel("read", told, patient="P1", rater=told),),
            manifests=(Manifest("t.csv", "file", (ManifestRow("a.png", {"comment": told}, "P1"),)),),
        ),
        Policy(retain_dates=dates),
    )
    days = NAMES.shift_days(NAMES.patient("here", "P1"))
    one, other = (str(shift_moment(day, days)) for day in ("2024-03-01", "2023-11-07"))
    said = {
        "full": told,
        "none": "CT of [DATE], compared with [DATE]",
        "shifted": f"CT of {one}, compared with {other}",
    }[dates]
    texts = [
        text
        for table, columns in (("reports", ("text", "title")), ("records", ("text", "display")),
                               ("labels", ("value", "rater")))
        for name in columns
        for text in column(rows, table, name)
        if text is not None
    ]  # fmt: skip
    assert texts == [said] * 7
    times = [*column(rows, "records", "value_time"), *column(rows, "reports", "date")]
    assert [t and str(t) for t in times] == [{"full": "2024-03-01", "none": None, "shifted": one}[dates]] * 2
