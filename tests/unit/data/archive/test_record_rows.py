"""Nothing that a table or a record says of a person stays: labels, units and words of local codes are texts too."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from isocenter.data.archive.record_rows import Speaker, add_found, shift_moment
from isocenter.data.archive.rows import Rows
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.data.deidentify.policy import Dates
from isocenter.data.records import Found, Manifest, ManifestRow, RawLabel, RawPatient, RawRecord, RawReport
from isocenter.data.records.fhir import read_fhir
from isocenter.data.records.hl7 import read_hl7

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


SAID = "As told by Zyxwvut Quimby, MRN 88991234, on 2024-03-01"


def test_words_in_the_place_of_a_code_are_a_text() -> None:
    """FHIR's code.text and HL7's second component stand where a code does, and are typed by people."""
    bundle = {
        "resourceType": "Bundle", "type": "collection",
        "entry": [{"resource": resource} for resource in (
            {"resourceType": "Patient", "id": "p1", "identifier": [{"value": "88991234"}],
             "name": [{"family": "Quimby", "given": ["Zyxwvut"]}]},
            {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p1"}, "code": {"text": SAID},
             "onsetAge": {"value": 97, "unit": "a", "code": "a", "system": "http://unitsofmeasure.org"}},
            {"resourceType": "Condition", "id": "e", "subject": {"reference": "Patient/p1"},
             "code": {"coding": [{"system": "http://snomed.info/sct", "code": "5913000"}], "text": SAID},
             "abatementAge": {"value": 95.5, "unit": "a", "code": "a", "system": "http://unitsofmeasure.org"}},
            {"resourceType": "Procedure", "id": "f", "subject": {"reference": "Patient/p1"},
             "code": {"coding": [{"system": SAID, "code": SAID, "display": SAID}]}},
            {"resourceType": "MedicationStatement", "id": "m", "subject": {"reference": "Patient/p1"},
             "medicationReference": {"display": SAID}},
            {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/p1"},
             "code": {"coding": [{"system": "http://loinc.org", "code": "30525-0", "display": "Age"}]},
             "valueQuantity": {"value": 1164, "unit": "mo", "code": "mo", "system": "http://unitsofmeasure.org"}},
            {"resourceType": "Observation", "id": "v", "subject": {"reference": "Patient/p1"},
             "code": {"coding": [{"system": "urn:local", "code": "X1"}]},
             "valueCodeableConcept": {"coding": [{"system": "urn:local", "code": SAID, "display": SAID}]}},
            {"resourceType": "DiagnosticReport", "id": "d", "status": "final", "subject": {"reference": "Patient/p1"},
             "language": SAID, "code": {"text": SAID}, "conclusion": "Clear.", "conclusionCode": [{"text": SAID}]},
        )],
    }  # fmt: skip
    hl7 = (
        "MSH|^~\\&|R|||||x|ORU^R01|1|P|2.5\rPID|||88991234^^^H||Quimby^Zyxwvut\rOBR|1||A1|LAB^Lab\r"
        f"OBX|1|CE|^{SAID}^L||^{SAID}^L||||||F\rOBX|2|CE|{SAID}||{SAID}^x^L||||||F\r"
        f"OBX|3|CE|718-7^{SAID}^LN||10^^^^^^^^{SAID}||||||F\rOBX|4|NM|AGE^Age^L||97|a|||||F\r"
    )
    tables: list[dict[str, list[dict[str, object]]]] = []
    for found in (read_fhir(json.dumps(bundle).encode(), "b.json"), read_hl7(hl7.encode(), "m.hl7")):
        assert found.records
        rows = added(found)
        tables.append({name: table.to_pylist() for name, table in rows.tables().items()})
        every = [row for table in tables[-1].values() for row in table]
        told = [
            t for row in every for name, t in row.items() if not name.endswith(("_key", "sha256")) and _tells(str(t))
        ]
        assert not told
    records = tables[0]["records"]
    texts = [str(row["text"]) for row in records]
    assert any("onset 90+ years" in text for text in texts)
    assert any("abatement 90+ years" in text for text in texts)
    codes = [row["code"] for row in records]
    assert {"5913000", "30525-0", "X1"} <= set(codes)
    assert [row["number"] for row in records if row["code"] == "30525-0"] == [1080.0]
    assert [row["number"] for row in tables[1]["records"] if row["code"] == "AGE"] == [90.0]


def _tells(text: str) -> bool:
    return any(word in text for word in ("Zyxwvut", "Quimby", "88991234", "2024-03-01", "97", "95.5"))


@pytest.mark.parametrize(
    ("code", "system"),
    [
        ("2345-7", "http://loinc.org"), ("S72.00", "ICD10"), ("A17.0+", "http://fhir.de/icd-10-gm"), ("GLU", "L"),
        ("LAB0012345", "L"), ("220045", ""), ("3D0100000019201", "urn:jlac"), ("age_at_surgery", ""),
        ("88991234", "SCT"), ("T1:tumor-size", "99LOCAL"), ("10334455", "urn:local"),
    ],
)  # fmt: skip
def test_codes_stay(code: str, system: str) -> None:
    record = RawRecord("", "P1", "observation", code, system, value_code=(system, code))
    rows = added(Found(records=(record,), labels=(RawLabel(code, "1", patient="P1"),)))
    values = [*column(rows, "records", "code"), *column(rows, "records", "value_code"), *column(rows, "labels", "name")]
    assert values == [code] * 3
    assert column(rows, "records", "system") == [system or None]


@pytest.mark.parametrize(("code", "system"), [("88991234", "L"), ("2024-03-01", "L"), ("20240301", ""), ("Quimby", "")])
def test_what_is_of_the_person_is_no_code(code: str, system: str) -> None:
    person = RawPatient("", "88991234", name="Quimby^Zyxwvut")
    record = RawRecord("", "88991234", "observation", code, system, value_code=(system, code))
    rows = added(Found(patients=(person,), records=(record,), labels=(RawLabel(code, "1", patient="88991234"),)))
    values = [*column(rows, "records", "code"), *column(rows, "records", "value_code"), *column(rows, "labels", "name")]
    assert not any(_tells(str(value)) or "20240301" in str(value) for value in values)


def test_numbers_that_are_dates_or_number_people_are_cleaned_as_texts_are() -> None:
    """FHIR's valueInteger, HL7's NM, a code with a value in a table: the name of what was asked is all there is."""
    rows = added(
        Found(
            records=(
                RawRecord("", "P1", "observation", "X1", "L", "Surgery date", 20190304.0),
                RawRecord("", "P1", "observation", "surgery_date", text="20190304"),
                RawRecord("", "P1", "table", "exam_year", value_time="2019"),
                RawRecord("", "P1", "table", "hadm_id", number=22334455.0),
                RawRecord("", "P1", "observation", "age at surgery", text=">97"),
                RawRecord("", "P1", "observation", "age_at_surgery", number=97.0),
                RawRecord("", "P1", "observation", "age_months", number=1164.0),
                RawRecord("", "P1", "table", "platelets", number=20190304.0),
                RawRecord("", "P1", "table", "surgery_date_known", number=1.0),
                RawRecord("", "P1", "table", "age_months", number=97.0),
                RawRecord("", "P1", "table", "age", number=999.0),
                RawRecord("", "P1", "table", "bone age", number=180.0, unit="mo"),
                RawRecord("", "P1", "condition", "H35.3", "ICD10", "Age-related maculopathy", text="drusen 97"),
            ),
            labels=(
                RawLabel("op_date", "20190304", patient="P1"), RawLabel("hadm_id", "22334455", patient="P1"),
                RawLabel("age_at_surgery", "97", patient="P1"), RawLabel("diameter", "97", patient="P1"),
            ),
            manifests=(
                Manifest("t.csv", "file", (ManifestRow("a.png", {"op_date": "20190304", "Age": "97+"}, "P1"),)),
            ),
        )
    )  # fmt: skip
    days = NAMES.shift_days(NAMES.patient("here", "P1"))
    moved = str(shift_moment("2019-03-04", days))
    table = zip(*(column(rows, "records", name) for name in ("number", "text", "value_time")), strict=True)
    assert list(table) == [
        (None, None, moved), (None, None, moved), (None, None, str(shift_moment("2019-07-01", days))[:4]),
        (None, "[ID]", None), (None, ">90", None), (90.0, None, None), (1080.0, None, None), (20190304.0, None, None),
        (1.0, None, None), (97.0, None, None), (999.0, None, None), (180.0, None, None), (None, "drusen 97", None),
    ]  # fmt: skip
    compact = moved.replace("-", "")
    labels = list(zip(*(column(rows, "labels", name) for name in ("name", "value", "number")), strict=True))
    assert labels == [
        ("op_date", compact, None), ("hadm_id", "[ID]", None), ("age_at_surgery", "90", 90.0), ("diameter", "97", 97.0),
        ("op_date", compact, None), ("Age", "90+", None),
    ]  # fmt: skip
