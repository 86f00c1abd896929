"""FHIR R4: bundles against R4's own models, what comes in checked, and a server that answers as told."""

from __future__ import annotations

import copy
import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from isocenter.clinic.fhir import (
    FhirRefused,
    FhirServer,
    Sent,
    Systems,
    read_imaging_study,
    read_service_request,
    result_bundle,
    send_bundle,
)
from isocenter.clinic.subject import Subject
from isocenter.core import Code, Finding, Measurement, ModelRef, Report, Segment
from isocenter.core.errors import ConfigError, DataError, TransportError
from isocenter.core.units import UCUM
from isocenter.data.images.sr import Abstention, Answer, SrContent

pytestmark = pytest.mark.enable_socket
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SYSTEMS = Systems("urn:oid:1.2.3", "urn:oid:1.2.4")
SUBJECT = Subject(
    "4711", "HOSP", "Muster^Max", "19500101", "M", "1.2.3.4", "ACC1", "20260101", "120000", "CT", "1.2.3.4.1"
)
LUNG = Code("39607008", "SCT", "Lung")
OBJECTS = [("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.5.1", "1.2.3.5", "SEG")]


def content(volume=1234.5):
    answer = Answer(
        "lungs",
        ModelRef("unet", "1.2", "0" * 64, "Apache-2.0"),
        (Measurement(Code("118565006", "SCT", "Volume"), volume, UCUM["mL"], 2),),
        (Segment(2, "Lung right", type=LUNG),),
        None,
        Report({"Impression": "Nothing."}, findings=(Finding(Code("60046008", "SCT", "Pleural effusion"), "absent"),)),
    )
    return SrContent((answer,), (Abstention("hippocampus", "needs MR, this is CT"),))


def bundle(**more):
    return result_bundle(content(), SUBJECT, SYSTEMS, at=AT, objects=OBJECTS, **more)


def by_kind(made):
    found: dict[str, list] = {}
    for entry in made["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


def test_a_bundle_says_what_the_report_says():
    found = by_kind(bundle())
    assert {kind: len(all_) for kind, all_ in found.items()} == {
        "ImagingStudy": 1, "Device": 1, "Observation": 3, "DiagnosticReport": 1, "Provenance": 1,
    }  # fmt: skip
    volume, effusion, abstained = found["Observation"]
    assert volume["valueQuantity"] == {
        "value": 1234.5, "unit": "mL", "system": "http://unitsofmeasure.org", "code": "mL",
    } or volume["valueQuantity"]["code"] == "mL"  # fmt: skip
    assert volume["bodySite"]["coding"][0]["code"] == "39607008"
    assert effusion["valueCodeableConcept"]["coding"][0]["code"] == "2667000"
    assert abstained["status"] == "cancelled"
    assert "needs MR" in abstained["note"][0]["text"]
    (study,) = found["ImagingStudy"]
    assert [s["uid"] for s in study["series"]] == ["1.2.3.4.1", "1.2.3.5"]
    assert all(r["subject"]["identifier"]["value"] == "4711" for r in found["Observation"])
    assert "Muster" not in json.dumps(bundle())


def test_a_mean_and_a_maximum_do_not_go_by_one_name():
    hu = Code("112031", "DCM", "Attenuation Coefficient")
    how = [Code("373098007", "SCT", "Mean"), Code("56851009", "SCT", "Maximum")]
    answer = Answer("t", ModelRef("m", "1"), tuple(Measurement(hu, 1.0, UCUM["HU"], None, one) for one in how))
    found = by_kind(result_bundle(SrContent((answer,), ()), SUBJECT, SYSTEMS, at=AT))["Observation"]
    assert [(o["code"]["text"], o["method"]["coding"][0]["code"]) for o in found] == [
        ("Attenuation Coefficient, Mean", "373098007"), ("Attenuation Coefficient, Maximum", "56851009"),
    ]  # fmt: skip
    assert found[0]["identifier"] != found[1]["identifier"]


def test_every_reference_is_resolved_and_every_resource_is_made_once():
    made = bundle()
    urls = [entry["fullUrl"] for entry in made["entry"]]
    assert len(set(urls)) == len(urls)
    text = json.dumps(made)
    assert {part.split('"')[0] for part in text.split('"reference": "')[1:]} <= set(urls)
    for entry in made["entry"]:
        if entry["resource"]["resourceType"] != "Provenance":
            (identifier,) = entry["resource"]["identifier"]
            assert entry["request"]["ifNoneExist"] == f"identifier={identifier['system']}|{identifier['value']}"
    assert bundle() == made
    amended = bundle(status="amended")
    assert by_kind(amended)["DiagnosticReport"][0]["identifier"] != by_kind(made)["DiagnosticReport"][0]["identifier"]
    assert by_kind(amended)["Device"] == by_kind(made)["Device"]
    again = result_bundle(content(7.0), SUBJECT, SYSTEMS, at=AT)
    assert by_kind(again)["Observation"][0]["identifier"] != by_kind(made)["Observation"][0]["identifier"]


def test_r4_models_of_another_maker_take_it():
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    read = models.Bundle.model_validate(bundle())
    assert len(read.entry) == 7
    only = result_bundle(SrContent((), (Abstention("x", "y"),)), SUBJECT, SYSTEMS, at=AT)
    models.Bundle.model_validate(only)


# R4's required elements and bindings, by hand: the models above are not everywhere.
REQUIRED = {
    "ImagingStudy": ("status", "subject"), "Device": (), "Observation": ("status", "code"),
    "DiagnosticReport": ("status", "code"), "Provenance": ("target", "recorded", "agent"),
}  # fmt: skip
STATUS = {
    "ImagingStudy": {"registered", "available", "cancelled", "entered-in-error", "unknown"},
    "Device": {"active", "inactive", "entered-in-error", "unknown"},
    "Observation": {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error",
                    "unknown"},
    "DiagnosticReport": {"registered", "partial", "preliminary", "final", "amended", "corrected", "appended",
                         "cancelled", "entered-in-error", "unknown"},
}  # fmt: skip


@pytest.mark.parametrize("status", ["preliminary", "final", "amended"])
def test_what_r4_requires_is_there(status):
    for entry in bundle(status=status)["entry"]:
        resource = entry["resource"]
        kind = resource["resourceType"]
        assert all(resource.get(name) for name in REQUIRED[kind]), kind
        if kind in STATUS:
            assert resource["status"] in STATUS[kind]
        assert None not in resource.values()
        assert [] not in resource.values()


def test_what_cannot_be_filed_is_not_made():
    with pytest.raises(ConfigError, match="system"):
        result_bundle(content(), SUBJECT, Systems(""), at=AT)
    with pytest.raises(ConfigError, match="zone"):
        result_bundle(content(), SUBJECT, SYSTEMS, at=datetime(2026, 1, 1))
    with pytest.raises(DataError, match="identifier"):
        result_bundle(content(), Subject(study_uid="1.2"), SYSTEMS, at=AT)


ORDER = {
    "resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "stat",
    "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "ACC1"}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2"}]},
    "subject": {"reference": "Patient/4711"}, "occurrenceDateTime": "2026-01-02T08:00:00Z",
}  # fmt: skip
STUDY = {
    "resourceType": "ImagingStudy", "status": "available", "subject": {"reference": "Patient/4711"},
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.4"}],
    "series": [{"uid": "1.2.3.4.1", "modality": {"code": "CT"},
                "instance": [{"uid": "1.2.3.4.1.1", "sopClass": {"code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}}]}],
}  # fmt: skip


def test_orders_and_studies_are_read():
    order = read_service_request(ORDER)
    assert (order.priority, order.accession, order.codes) == ("stat", "ACC1", (("http://loinc.org", "24627-2"),))
    study = read_imaging_study(STUDY)
    assert (study.study_uid, study.series, study.instances) == ("1.2.3.4", (("1.2.3.4.1", "CT"),), ("1.2.3.4.1.1",))
    assert "4711" not in repr(order) + repr(study)
    ours = by_kind(bundle())["ImagingStudy"][0]
    assert read_imaging_study(ours).instances == ("1.2.3.5.1",)


def changed(resource, path, value):
    made = copy.deepcopy(resource)
    place = made
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("read", "resource", "path", "value"),
    [
        (read_service_request, ORDER, ["status"], None),
        (read_service_request, ORDER, ["status"], "4711"),
        (read_service_request, ORDER, ["intent"], None),
        (read_service_request, ORDER, ["priority"], "now"),
        (read_service_request, ORDER, ["priority"], {}),
        (read_service_request, ORDER, ["subject"], None),
        (read_service_request, ORDER, ["subject"], []),
        (read_service_request, ORDER, ["code"], "x"),
        (read_service_request, ORDER, ["identifier"], "x"),
        (read_service_request, ORDER, ["identifier"], ["x"]),
        (read_service_request, ORDER, ["occurrenceDateTime"], "x4711"),
        (read_service_request, ORDER, ["resourceType"], "Patient"),
        (read_service_request, ORDER, ["modifierExtension"], [{}]),
        (read_imaging_study, STUDY, ["status"], None),
        (read_imaging_study, STUDY, ["identifier"], None),
        (read_imaging_study, STUDY, ["identifier", 0, "value"], "4711x"),
        (read_imaging_study, STUDY, ["series", 0, "uid"], None),
        (read_imaging_study, STUDY, ["series", 0, "modality"], None),
        (read_imaging_study, STUDY, ["series", 0, "instance", 0, "sopClass"], None),
        (read_imaging_study, STUDY, ["series", 0, "instance", 0, "uid"], 7),
        (read_imaging_study, STUDY, ["series"], {}),
        (read_imaging_study, STUDY, ["series", 0], "x"),
    ],
)
def test_what_r4_forbids_is_refused_without_a_value(read, resource, path, value):
    with pytest.raises(DataError) as told:
        read(changed(resource, path, value))
    assert "4711" not in str(told.value)
    for junk in (None, [], "x", {}):
        with pytest.raises(DataError):
            read(junk)


class Server:
    def __init__(self):
        self.answers: list[tuple[int, object]] = []
        self.asked: list[tuple[dict, dict]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((dict(self.headers), body))
                code, told = outer.answers.pop(0)
                content = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/r4"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def taken(codes):
    return {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": c}} for c in codes],
    }


def test_a_bundle_is_sent_again_where_that_may_help(server):
    server.answers = [(503, b""), (429, {}), (200, taken(["201 Created"] * 5 + ["200 OK"] * 2))]
    waits: list[float] = []
    sent = send_bundle(FhirServer(server.url, token="secret"), bundle(), sleep=waits.append)
    assert sent == Sent(created=5, present=2)
    assert waits == [1.0, 2.0]
    headers, body = server.asked[-1]
    assert headers["Authorization"] == "Bearer secret"
    assert body == bundle()


def test_a_refusal_is_told_by_code_and_place_alone(server):
    issue = {
        "severity": "error",
        "code": "business-rule",
        "diagnostics": "Patient 4711 Muster",
        "expression": ["Bundle.entry[0]"],
    }
    server.answers = [
        (422, {"resourceType": "OperationOutcome", "issue": [issue, {"code": "Max 4711", "expression": ["4711 x"]}, 7]})
    ]
    with pytest.raises(FhirRefused) as told:
        send_bundle(FhirServer(server.url), bundle(), sleep=lambda _: None)
    assert "business-rule at Bundle.entry[0]" in str(told.value)
    assert "4711" not in str(told.value)
    assert len(server.asked) == 1
    server.answers = [(401, b"<html>")]
    with pytest.raises(FhirRefused, match="401: it does not say why"):
        send_bundle(FhirServer(server.url), bundle())


@pytest.mark.parametrize("answer", [b"", b"[]", {"entry": []}, {"entry": [{}] * 7}, taken(["400 Bad"] * 7)])
def test_a_success_that_is_none_is_not_believed(server, answer):
    server.answers = [(200, answer)]
    with pytest.raises(TransportError):
        send_bundle(FhirServer(server.url), bundle())


def test_no_answer_is_a_failure_that_passes(server):
    server.answers = [(500, b"")] * 3
    with pytest.raises(TransportError, match="500"):
        send_bundle(FhirServer(server.url, retries=2), bundle(), sleep=lambda _: None)
    with pytest.raises(ConfigError, match="https"):
        FhirServer("http://fhir.example.org", token="x")
    assert "secret" not in repr(FhirServer("https://fhir.example.org", token="secret"))
