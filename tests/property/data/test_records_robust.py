"""Readers of records: whatever the bytes, rows or refusals come out, or one of our own errors; never another."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core.errors import IsocenterError
from isocenter.data.records.fhir import read_fhir
from isocenter.data.records.hl7 import read_hl7
from isocenter.data.records.moments import as_moment, dicom_moment, fhir_moment, hl7_moment, table_moment
from isocenter.data.records.read import tell_form
from isocenter.data.records.tables import read_table
from isocenter.data.records.text import read_text

SECRET = "Zyxwv4711"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.sampled_from(["", "final", "2024", "Patient/1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["id", "code", "coding", "text", "subject", "reference", "status", "value", "valueQuantity", "name",
             "identifier", "system", "contained", "result", "presentedForm", "data", "component", "family"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = st.sampled_from(
    [
        "id",
        "code",
        "subject",
        "status",
        "valueQuantity",
        "valueString",
        "name",
        "identifier",
        "component",
        "contained",
        "presentedForm",
        "effectiveDateTime",
        "text",
        "birthDate",
        "gender",
        "result",
        "link",
        "dosageInstruction",
    ]
)
KINDS = ["Patient", "Observation", "Condition", "Procedure", "MedicationRequest", "DiagnosticReport", "ImagingStudy"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(FIELDS, JSON, max_size=6)), max_size=4))
def test_any_json_of_fhir(resources):
    entries = [{"resource": {**fields, "resourceType": kind}} for kind, fields in resources]
    read_fhir(json.dumps({"resourceType": "Bundle", "entry": entries}).encode(), "x")


PIECES = st.sampled_from(
    ["MSH|^~\\&|||||||ORU^R01|1|P|2.5", "PID|||1^^^A", "OBR|1||F", "OBX|1|TX|a||t", "OBX|2|NM|b||1|kg",
     "OBX|3|SN|c||<^1", "OBX", "NTE|1||x", "ZDS|1.2", "\\X41\\", "\\Xzz\\", "|", "^", "~", "&", "\\", "\r", "\n",
     "BTS|9", "BHS|^~\\&|", "é"]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(PIECES, max_size=25), st.sampled_from(["\r", "\n", ""]))
def test_any_hl7(pieces, joined):
    read_hl7(joined.join(pieces).encode())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="ab,;\t\"\n\r1.#'", max_size=200).map(str.encode))
def test_any_table_and_any_text(data):
    tell_form(data, "x.txt")
    read_text(data, "x.txt")
    with suppress(IsocenterError):
        read_table(data, "x.csv")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(alphabet='ab,";\n ', max_size=5), min_size=2, max_size=2), min_size=1, max_size=8))
def test_every_row_of_a_table_is_read_or_named(rows):
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["patient", "v"])
    writer.writerows([str(n), row[0], "z"] if n % 3 == 0 else [f"p{n}", f"x{row[0]}"] for n, row in enumerate(rows))
    found = read_table(out.getvalue().encode(), "x.csv")
    good = [n for n in range(len(rows)) if n % 3]
    assert [r.patient for r in found.records] == [f"p{n}" for n in good]
    if len(good) < len(rows):
        assert any("cells" in r.reason for r in found.refused)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789-T:Z+./ ", max_size=26))
def test_a_moment_is_one_that_python_reads(text):
    for read in (hl7_moment, fhir_moment, table_moment, lambda t: dicom_moment(t, t)):
        found = read(text)
        if found:
            assert as_moment(found) is not None


@pytest.mark.parametrize("place", range(8))
def test_no_refusal_holds_a_value(place):
    """A value put where each reader complains never comes back in a complaint."""
    head = "MSH|^~\\&|||||||ORU^R01|1|P|2.5\r"
    observation = {"resourceType": "Observation", "status": SECRET, "subject": SECRET, "code": {"text": SECRET}}
    form = {"contentType": SECRET, "data": SECRET}
    patient = {"resourceType": "Patient", "gender": SECRET, "birthDate": SECRET, "name": SECRET}
    report = {"resourceType": "DiagnosticReport", "presentedForm": [form]}
    obx = f"PID|||1\rOBR|1||F\rOBX|1|{SECRET}|{SECRET}||{SECRET}|{SECRET}\r"
    cases = [
        lambda: read_hl7(f"{head}PID|||{SECRET}||{SECRET}||{SECRET}|{SECRET}\r".encode()),
        lambda: read_hl7(f"MSH|^~\\&|||||||{SECRET}^{SECRET}|1|P|2.5||||||{SECRET}\rPID|||1\r".encode()),
        lambda: read_hl7(f"{SECRET}\r{head}{obx}".encode()),
        lambda: read_fhir(json.dumps(patient).encode()),
        lambda: read_fhir(json.dumps({**observation, "dataAbsentReason": {"text": SECRET}}).encode()),
        lambda: read_table(f"patient,dob,date,sex\n{SECRET},{SECRET},1/2/2024,{SECRET}\n{SECRET}\n".encode(), "x"),
        lambda: read_fhir(json.dumps(report).encode()),
        lambda: read_text(f"Study date: {SECRET}\nStudy UID: {SECRET}\nFindings: nothing to see\n".encode(), "x.txt"),
    ]
    found = cases[place]()
    assert found.refused
    assert SECRET.lower() not in " ".join(f"{r.where} {r.reason}" for r in found.refused).lower()
    assert SECRET not in " ".join(found.notes)
