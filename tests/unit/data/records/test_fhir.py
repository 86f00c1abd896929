"""FHIR R4 and R5: values, references, reports, and what is refused."""

from __future__ import annotations

import base64
import io
import json

import pytest

from isocenter.core.errors import DataError
from isocenter.data.records.fhir import read_fhir, stream_ndjson

PATIENT = {
    "resourceType": "Patient", "id": "p1",
    "identifier": [{"system": "urn:ssn", "value": "999", "type": {"coding": [{"code": "SS"}]}},
                   {"system": "urn:hosp", "value": "4711", "type": {"coding": [{"code": "MR"}]}}],
    "name": [{"use": "official", "family": "Muster", "given": ["Max", "M"], "prefix": ["Dr"]}],
    "gender": "male", "birthDate": "1950-02-03", "deceasedDateTime": "2024-03", "telecom": [{"value": "030-555"}],
    "address": [{"line": ["Street 1"], "city": "Town"}],
}  # fmt: skip
REF = {"reference": "urn:uuid:1"}
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def code(value, display="", system=LOINC):
    return {"coding": [{"system": system, "code": value, "display": display}]}


def bundle(*resources, first=PATIENT):
    entries = [{"fullUrl": f"urn:uuid:{n}", "resource": r} for n, r in enumerate((first, *resources), start=1)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def read(*resources):
    return read_fhir(json.dumps(bundle(*resources)).encode(), "b.json")


def observation(**fields):
    return {
        "resourceType": "Observation", "id": "o1", "status": "final", "subject": REF, "code": code("718-7", "Hb"),
        "effectiveDateTime": "2024-01-31T16:05:00+01:00", **fields,
    }  # fmt: skip


def quantity(value, unit, **more):
    return {"value": value, "unit": unit, "code": unit, "system": UCUM, **more}


def test_a_patient():
    (patient,) = read().patients
    assert (patient.issuer, patient.identifier) == ("urn:hosp", "4711")
    assert patient.other_identifiers == (("urn:ssn", "999"), ("Patient", "p1"))
    assert (patient.name, patient.sex, patient.birth_date) == ("Muster^Max^M^Dr", "M", "1950-02-03")
    assert (patient.deceased, patient.death_time) == (True, "2024-03")
    assert {"030-555", "Street 1", "Town"} <= set(patient.words)


@pytest.mark.parametrize(
    ("value", "number", "unit", "text"),
    [
        ({"valueQuantity": quantity(12.5, "g/dL")}, 12.5, "g/dL", ""),
        ({"valueQuantity": quantity(5, "mg/L", comparator="<")}, None, "mg/L", "<5"),
        ({"valueString": "cloudy"}, None, "", "cloudy"),
        ({"valueBoolean": True}, None, "", "true"),
        ({"valueInteger": 3}, 3.0, "", ""),
        ({"valueRange": {"low": quantity(1, "mm"), "high": quantity(2, "mm")}}, None, "mm", "1-2"),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}, None, "", "1:128"),
        ({"valueCodeableConcept": code("10828004", "Positive", "http://snomed.info/sct")}, None, "", "Positive"),
    ],
)
def test_values(value, number, unit, text):
    (record,) = read(observation(**value)).records
    assert (record.patient, record.code, record.system, record.display) == ("4711", "718-7", LOINC, "Hb")
    assert (record.number, record.unit, record.text) == (number, unit, text)
    assert (record.time, record.status, record.identifier) == ("2024-01-31T16:05:00+01:00", "final", "Observation/o1")


def test_components_share_their_identifier_and_a_date_is_no_text():
    parts = [{"code": code("8480-6", "Systolic"), "valueQuantity": quantity(120, "mm[Hg]")},
             {"code": code("8462-4", "Diastolic"), "valueQuantity": quantity(80, "mm[Hg]")}]  # fmt: skip
    found = read(observation(component=parts), observation(id="o2", valueDateTime="2024-01-02"))
    assert [(r.display, r.number, r.identifier) for r in found.records[:2]] == [
        ("Systolic", 120.0, "Observation/o1"), ("Diastolic", 80.0, "Observation/o1"),
    ]  # fmt: skip
    assert (found.records[2].value_time, found.records[2].text) == ("2024-01-02", "")


def test_conditions_procedures_and_medications():
    condition = {
        "resourceType": "Condition", "id": "c", "subject": REF, "code": code("E11", "Diabetes", "urn:icd"),
        "onsetDateTime": "2010", "abatementDateTime": "2020-01", "clinicalStatus": code("resolved", "", "urn:c"),
        "verificationStatus": code("confirmed", "", "urn:v"),
    }  # fmt: skip
    refuted = {**condition, "id": "r", "verificationStatus": code("refuted", "", "urn:v")}
    procedure = {
        "resourceType": "Procedure", "id": "p", "status": "completed", "subject": REF, "code": {"text": "CABG"},
        "performedPeriod": {"start": "2015-05-05"},
    }  # fmt: skip
    not_done = {**procedure, "id": "n", "status": "not-done"}
    drug = {"resourceType": "Medication", "id": "m", "code": code("1191", "Aspirin", "urn:rx")}
    request = {
        "resourceType": "MedicationRequest", "id": "q", "status": "active", "subject": REF, "authoredOn": "2024-01-01",
        "medicationReference": {"reference": "Medication/m"},
        "dosageInstruction": [{"text": "daily", "doseAndRate": [{"doseQuantity": quantity(100, "mg")}]}],
    }  # fmt: skip
    r5 = {
        "resourceType": "MedicationStatement", "id": "s", "status": "recorded", "subject": REF,
        "medication": {"concept": {"text": "Metformin"}}, "effectiveDateTime": "2023",
    }  # fmt: skip
    found = read(condition, refuted, procedure, not_done, drug, request, r5)
    got = {r.identifier: r for r in found.records}
    assert (got["Condition/c"].kind, got["Condition/c"].time, got["Condition/c"].value_time) == (
        "condition", "2010", "2020-01",
    )  # fmt: skip
    assert (got["Condition/c"].status, got["Condition/r"].status) == ("final", "withdrawn")
    assert (got["Procedure/p"].time, got["Procedure/n"].status) == ("2015-05-05", "withdrawn")
    aspirin = got["MedicationRequest/q"]
    assert (aspirin.display, aspirin.number, aspirin.unit, aspirin.text) == ("Aspirin", 100.0, "mg", "daily")
    assert got["MedicationStatement/s"].display == "Metformin"
    assert [r.reason for r in found.refused] == ["1 resource Medication: they are read only for what others refer to"]


def report(**fields):
    return {
        "resourceType": "DiagnosticReport", "id": "d", "status": "final", "subject": REF,
        "code": code("36643-5", "Chest X-ray"), "effectiveDateTime": "2024-01-31", "issued": "2024-02-01T08:00:00Z",
        **fields,
    }  # fmt: skip


def form(text, kind="text/plain"):
    return {"contentType": kind, "data": base64.b64encode(text.encode()).decode()}


def test_a_report_finds_its_study_by_references():
    study = {
        "resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": REF, "started": "2024-01-31",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}], "basedOn": [{"reference": "urn:uuid:2"}],
    }  # fmt: skip
    order = {
        "resourceType": "ServiceRequest", "id": "s", "subject": REF,
        "identifier": [{"system": "urn:acc", "value": "A77", "type": {"coding": [{"code": "ACSN"}]}}],
    }  # fmt: skip
    reader = {"resourceType": "Practitioner", "id": "x", "name": [{"family": "Reader", "given": ["Rita"]}]}
    one = report(
        imagingStudy=[{"reference": "ImagingStudy/i"}], presentedForm=[form("<p>Lungs <b>clear</b>.</p>", "text/html")],
        conclusion="Normal.", conclusionCode=[code("17621005", "Normal", "urn:sct")],
        resultsInterpreter=[{"reference": "Practitioner/x", "display": "R. Reader"}],
    )  # fmt: skip
    found = read(order, study, reader, one)
    (made,), (link,) = found.reports, found.studies
    assert (made.accession, made.accession_issuer, made.study_uid) == ("A77", "urn:acc", "1.2.3")
    assert made.sections == (("text", "Lungs clear."), ("impression", "Normal."))
    assert (made.time, made.study_time, made.title) == ("2024-02-01T08:00:00+00:00", "2024-01-31", "Chest X-ray")
    assert set(made.people) == {"R. Reader", "Reader^Rita"}
    assert (link.study_uid, link.accession, link.patient) == ("1.2.3", "A77", "4711")
    assert [(label.name, label.file) for label in found.labels] == [("Normal", "DiagnosticReport/d")]


def test_results_contained_narrative_and_what_is_not_read():
    inner = {"resourceType": "Observation", "id": "a", "status": "final", "code": code("59776-5", "Findings"),
             "valueString": "No effusion."}  # fmt: skip
    found = read(report(contained=[inner], result=[{"reference": "#a"}]))
    assert found.reports[0].sections == (("findings", "No effusion."),)
    assert found.records[0].patient == "4711"
    told = read(report(text={"status": "generated", "div": "<div>Only <i>this</i>.</div>"}))
    assert told.reports[0].text == "Only this."
    pdf = read(report(presentedForm=[form("x", "application/pdf"), {"contentType": "text/plain", "url": "http://x"}]))
    assert not pdf.reports
    assert len(pdf.refused) == 3
    corrected = read(report(status="corrected", conclusion="New."))
    assert (corrected.reports[0].status, corrected.reports[0].amends) == ("corrected", "DiagnosticReport/d")


def test_lines_reach_no_other_line_and_patients_carry_their_id():
    lines = [PATIENT, observation(subject={"reference": "Patient/p1"}, valueInteger=1), {"resourceType": "Encounter"}]
    data = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n{broken\n"
    parts = list(stream_ndjson(io.BytesIO(data), "x.ndjson"))
    (record,) = [r for part in parts for r in part.records]
    (patient,) = [p for part in parts for p in part.patients]
    assert (record.issuer, record.patient) in patient.other_identifiers
    said = [(r.where, r.kind) for part in parts for r in part.refused]
    assert said == [("x.ndjson, line 4", "refused"), ("x.ndjson", "ignored")]


def test_two_numbers_of_one_patient_are_linked():
    other = {**PATIENT, "id": "p2", "identifier": [{"system": "urn:hosp", "value": "5000"}],
             "link": [{"type": "replaced-by", "other": {"reference": "urn:uuid:1"}}]}  # fmt: skip
    assert ("urn:hosp", "4711") in read(other).patients[1].other_identifiers


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (observation(), "has no value"),
        (observation(valueSampledData={"data": "1 2"}), "is not read"),
        (observation(status=7, valueInteger=1), "status is no text"),
        (observation(subject={}, valueInteger=1), "names no patient"),
        (observation(valueInteger=1, modifierExtension=[{"url": "x"}]), "modifierExtension"),
        (observation(effectiveDateTime="2024-02-31", valueInteger=1), "no time"),
        (observation(dataAbsentReason=code("not-performed", "", "urn:x")), "not-performed"),
        ({"resourceType": "Condition", "subject": REF}, "no code"),
        ({"resourceType": "OperationOutcome"}, "may not be whole"),
        ({"id": 3}, "resourceType"),
    ],
)
def test_what_is_not_understood_is_said(resource, reason):
    found = read(resource)
    assert any(reason in r.reason for r in found.refused), found.refused
    assert all(r.where.startswith("b.json") for r in found.refused)


def test_no_fhir():
    with pytest.raises(DataError, match="no JSON"):
        read_fhir(b"{", "x")
    assert "without a FHIR resource" in read_fhir(b'{"a": 1}', "x").refused[0].reason
    assert "without a resource" in read_fhir(b'{"resourceType": "Bundle"}', "x").refused[0].reason
    deep = {"resourceType": "Bundle", "entry": []}
    for _ in range(20):
        deep = {"resourceType": "Bundle", "entry": [{"resource": deep}]}
    with pytest.raises(DataError, match="without end"):
        read_fhir(json.dumps(deep).encode(), "x")


def test_our_examples_are_fhir_to_an_independent_reader():
    r4 = pytest.importorskip("fhir.resources.R4B.bundle")
    resources = [observation(valueQuantity=quantity(1, "g")), report(presentedForm=[form("x")], conclusion="y")]
    r4.Bundle.model_validate(bundle(*resources))
