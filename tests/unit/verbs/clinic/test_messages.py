"""Messages of results: whose they are, which side, that they are no diagnosis; a repeat makes no second one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from isocenter.clinic.fhir import FhirServer
from isocenter.clinic.hl7 import MllpPeer, MllpServer
from isocenter.clinic.hl7.mllp import Refusal
from isocenter.clinic.ports import ResultFile, Route, Said, Work, Worked
from isocenter.clinic.workflow.messages import BundleDestination, MllpDestination
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.records.hl7 import parse_message
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.testing.phantom import phantom
from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.config_messages import FhirDestination, Hl7Destination
from isocenter.verbs.clinic.messages import MARK, MessagingRunner, subject_of
from isocenter.verbs.clinic.wiring import destinations_of
from isocenter.verbs.result import CodeEntry
from unit.verbs.clinic.test_clinic_config import content, written
from unit.verbs.test_result import _document

FHIR = FhirDestination(kind="fhir", url="http://x", patient_system="urn:oid:1.2.3", accession_system="urn:oid:1.2.4")
HL7 = Hl7Destination(kind="hl7", host="x", port=1, application="RIS", facility="HOSP")
LEFT = CodeEntry(value="7771000", scheme="SCT", meaning="Left")


class Answering:
    """A runner whose document has an answer with a side, and an abstention."""

    def run(self, work: Work) -> Worked:
        work.out.mkdir(exist_ok=True)
        made = _document()
        answer = made.predictions[0]
        sided = answer.model_copy(update={"segments": (answer.segments[0].model_copy(update={"laterality": LEFT}),)})
        made = made.model_copy(update={"predictions": (sided, made.predictions[1])})
        (work.out / "result.json").write_text(made.to_json())
        seg = work.out / "a.seg.dcm"
        seg.write_bytes(sorted(work.folder.iterdir())[0].read_bytes())
        return Worked((Said("t", "answered"),), (ResultFile(seg),))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    folder = tmp_path / "study"
    write_ct_series(folder, phantom())
    change(folder, AccessionNumber="ACC7", PatientName="Zebra^Anna", PatientBirthDate="19500101")
    route = Route("r", ("t",), ("pacs", "record", "ris"))
    return Work("1.2", 1, route, folder, "0", tmp_path / "out")


def change(folder: Path, only: int | None = None, **values: str) -> None:
    for number, file in enumerate(sorted(folder.iterdir())):
        if only is None or number == only:
            dataset = dcmread(file)
            for word, value in values.items():
                setattr(dataset, word, value)
            dataset.save_as(file)


def test_messages_say_whose_which_side_and_that_they_are_no_diagnosis(work: Work) -> None:
    worked = MessagingRunner(Answering(), {"record": FHIR, "ris": HL7}).run(work)
    assert [(f.form, f.to) for f in worked.files] == [("dicom", ("pacs",)), ("fhir", ("record",)), ("hl7", ("ris",))]
    header = dcmread(sorted(work.folder.iterdir())[0])

    bundle = json.loads(worked.files[1].path.read_text())
    resources = [entry["resource"] for entry in bundle["entry"]]
    assert all("ifNoneExist" in entry["request"] for entry in bundle["entry"])
    (report,) = [r for r in resources if r["resourceType"] == "DiagnosticReport"]
    assert report["status"] == "preliminary"
    assert report["subject"]["identifier"] == {"system": "urn:oid:1.2.3", "value": header.PatientID}
    assert report["conclusion"].startswith(MARK)
    assert "no reason" in report["conclusion"]
    (study,) = [r for r in resources if r["resourceType"] == "ImagingStudy"]
    assert study["identifier"][0]["value"] == f"urn:oid:{header.StudyInstanceUID}"
    assert study["basedOn"][0]["identifier"]["value"] == "ACC7"
    volume, abstained = [r for r in resources if r["resourceType"] == "Observation"]
    assert volume["bodySite"]["text"] == "One (Left)"
    assert volume["component"][0]["valueCodeableConcept"]["coding"][0]["code"] == "7771000"
    assert volume["note"][0]["text"] == MARK
    assert abstained["status"] == "cancelled"

    message = parse_message(worked.files[2].path.read_bytes())
    found = {name: [s for s in message.segments if s.name == name] for name in ("PID", "OBR", "OBX")}
    assert found["PID"][0].text(3) == header.PatientID
    assert (found["OBR"][0].text(18), found["OBR"][0].text(25)) == ("ACC7", "P")
    assert message.header.text(5) == "RIS"
    texts = [segment.text(5) for segment in found["OBX"]]
    assert texts[0] == MARK
    assert "Segment 1: One (Left)" in texts
    assert [s.text(5) for s in found["OBX"] if s.text(3) == "272741003"] == ["7771000"]
    (no_answer,) = [s for s in found["OBX"] if s.text(11) == "X"]
    assert "no reason" in no_answer.text(5)


def test_the_same_answer_is_the_same_message_and_a_new_version_says_so(work: Work) -> None:
    runner = MessagingRunner(Answering(), {"record": FHIR, "ris": HL7})
    before = [file.path.read_bytes() for file in runner.run(work).files[1:]]
    assert [file.path.read_bytes() for file in runner.run(work).files[1:]] == before
    again = Work(work.study, 2, work.route, work.folder, work.inputs, work.out)
    for file, old in zip(runner.run(again).files[1:], before, strict=True):
        assert b"it replaces the earlier ones" in file.path.read_bytes()
        assert file.path.read_bytes() != old


@pytest.mark.parametrize(
    ("word", "value"), [("PatientBirthDate", "19600101"), ("PatientName", "Other^Anna"), ("PatientID", "another")]
)
def test_where_headers_disagree_nothing_is_told_of_anybody(work: Work, word: str, value: str) -> None:
    change(work.folder, 1, **{word: value})
    worked = MessagingRunner(Answering(), {"record": FHIR, "ris": HL7}).run(work)
    assert [file.form for file in worked.files] == ["dicom"]
    assert word in worked.told[0]
    assert value not in worked.told[0]
    assert "Zebra" not in worked.told[0]


def test_a_patient_without_an_identifier_gets_no_message(work: Work) -> None:
    change(work.folder, PatientID="")
    worked = MessagingRunner(Answering(), {"ris": HL7}).run(work)
    assert [file.form for file in worked.files] == ["dicom"]
    assert "without a patient's identifier" in worked.told[0]


def test_two_accession_numbers_are_none(work: Work) -> None:
    change(work.folder, 1, AccessionNumber="ACC8")
    subject, notes = subject_of(work.folder)
    assert subject.accession == ""
    assert "2 accession numbers" in notes[0]


def test_routes_without_identity_reach_no_record(work: Work, tmp_path: Path) -> None:
    to = {**content()["destinations"], "ris": HL7.model_dump(mode="json")}
    rules = [{"name": "x", "tasks": ["t"], "to": ["ris"], "identity": "remove"}]
    with pytest.raises(ConfigError, match="removes identities"):
        load_clinic_config(written(tmp_path, {"destinations": to, "rules": rules}))
    route = Route("r", ("t",), ("ris",), "remove")
    with pytest.raises(DataError, match="without identity"):
        MessagingRunner(Answering(), {"ris": HL7}).run(Work("1", 1, route, work.folder, "0", work.out))


def test_destinations_are_made_of_settings(tmp_path: Path) -> None:
    to = {"ris": HL7.model_dump(mode="json"), "record": {**FHIR.model_dump(mode="json")}}
    made = destinations_of(load_clinic_config(written(tmp_path, {"destinations": to, "rules": []})))
    assert isinstance(made["ris"], MllpDestination)
    assert isinstance(made["record"], BundleDestination)
    to["ris"]["tls"] = {"authorities": str(tmp_path / "away.pem")}
    with pytest.raises(ConfigError, match="PEM"):
        destinations_of(load_clinic_config(written(tmp_path, {"destinations": to, "rules": []})))


class Record:
    """A FHIR server that makes a resource only where there is none of its identifier."""

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}
        self.code = 200

    def answer(self, bundle: dict[str, Any]) -> list[dict[str, Any]]:
        codes = []
        for entry in bundle["entry"]:
            key = f"{entry['request']['url']}?{entry['request']['ifNoneExist']}"
            codes.append("200" if key in self.there else "201")
            self.there[key] = entry["resource"]
        return [{"response": {"status": code}} for code in codes]


@pytest.fixture
def record() -> Iterator[tuple[Record, BundleDestination]]:
    made = Record()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"resourceType": "Bundle", "entry": made.answer(bundle)} if made.code == 200 else {})
            self.send_response(made.code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made, BundleDestination(FhirServer(f"http://127.0.0.1:{server.server_port}", retries=0))
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.enable_socket
def test_a_bundle_that_is_sent_twice_makes_everything_once(
    work: Work, record: tuple[Record, BundleDestination]
) -> None:
    server, destination = record
    file = MessagingRunner(Answering(), {"record": FHIR}).run(work).files[1].path
    assert [o.kind for o in destination.deliver([file, file])] == ["taken", "taken"]
    assert len(server.there) == len(json.loads(file.read_text())["entry"])
    for code, kind in ((503, "later"), (422, "never")):
        server.code = code
        assert [o.kind for o in destination.deliver([file])] == [kind]
    assert [o.kind for o in destination.deliver([file.parent / "away"])] == ["never"]


@pytest.mark.enable_socket
def test_a_record_that_is_down_is_asked_again_later(work: Work) -> None:
    _, file, message = (f.path for f in MessagingRunner(Answering(), {"record": FHIR, "ris": HL7}).run(work).files)
    down = BundleDestination(FhirServer("http://127.0.0.1:9", retries=0, timeout_s=2))
    assert [o.kind for o in down.deliver([file, file])] == ["later", "later"]
    peer = MllpDestination(MllpPeer("127.0.0.1", 9, timeout_s=2))
    assert [o.kind for o in peer.deliver([message, message])] == ["later", "later"]


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (None, "taken"),
        (Refusal("AE", ("101", "Required field missing")), "never"),
        (Refusal("AE", ("207", "Application internal error")), "later"),
        (Refusal("AR", ("200", "Unsupported message type")), "never"),
        (Refusal("AR", ("207", "Application internal error")), "later"),
    ],
)
def test_what_the_other_side_answers(work: Work, refusal: Refusal | None, kind: str) -> None:
    got: list[bytes] = []

    def take(_message: object, data: bytes) -> None:
        got.append(data)
        if refusal is not None:
            raise refusal

    server = MllpServer(take)
    port = server.start("127.0.0.1", 0)
    try:
        file = MessagingRunner(Answering(), {"ris": HL7}).run(work).files[1].path
        (outcome,) = MllpDestination(MllpPeer("127.0.0.1", port, timeout_s=5)).deliver([file])
    finally:
        server.stop()
    assert outcome.kind == kind
    assert got == [file.read_bytes()]


class Marked(Answering):
    """A runner whose results bear a mark of the site."""

    def run(self, work: Work) -> Worked:
        worked = super().run(work)
        file = work.out / "result.json"
        made = json.loads(file.read_text())
        made["provenance"]["config"]["mark"] = "Trial only (model on trial)"
        file.write_text(json.dumps(made))
        return worked


def test_messages_bear_the_mark_that_objects_bear(work: Work) -> None:
    _, record, message = MessagingRunner(Marked(), {"record": FHIR, "ris": HL7}).run(work).files
    resources = [entry["resource"] for entry in json.loads(record.path.read_text())["entry"]]
    said = [r["conclusion"] for r in resources if r["resourceType"] == "DiagnosticReport"]
    said += [s.text(5) for s in parse_message(message.path.read_bytes()).segments if s.name == "OBX"][:1]
    assert len(said) == 2
    assert all(one.startswith(f"{MARK} Trial only (model on trial).") for one in said)


def test_the_same_number_of_another_hospital_is_not_filed(work: Work) -> None:
    def forms(issuer: str | list[str] | None, named: str) -> list[str]:
        change(work.folder, IssuerOfPatientID=named)
        given = {} if issuer is None else {"patient_issuer": issuer}
        to = FhirDestination.model_validate(
            {"kind": "fhir", "url": "http://x", "patient_system": "urn:oid:1.2.3", **given}
        )
        worked = MessagingRunner(Answering(), {"record": to, "ris": HL7}).run(work)
        found = [f.form for f in worked.files]
        assert len(worked.told) == (0 if "fhir" in found else 1)
        assert all("patient_issuer" in one and named not in one.split() for one in worked.told)
        return found

    both, one = ["dicom", "fhir", "hl7"], ["dicom", "hl7"]
    assert forms(None, "") == both
    assert forms(None, "HOSP") == one, "nothing says that the server's patients are this hospital's"
    assert (forms("HOSP", "HOSP"), forms("HOSP", "OTHER"), forms("HOSP", "")) == (both, one, one)
    assert (forms(["HOSP", ""], ""), forms(["HOSP", ""], "OTHER"), forms("*", "OTHER")) == (both, one, both)


def test_a_file_that_is_no_message_is_given_up_and_not_tried_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM")
    assert [o.kind for o in MllpDestination(MllpPeer("127.0.0.1", 9)).deliver([tmp_path / "a.dcm"])] == ["never"]
