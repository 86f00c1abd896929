"""Where orders come from: HL7 with an allow-list, a FHIR server page by page, a worklist of dcmtk's making."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from isocenter.cli_clinic import app
from isocenter.clinic.fhir import FhirServer
from isocenter.clinic.fhir.polling import ask_for_orders
from isocenter.clinic.hl7 import MllpPeer, send
from isocenter.clinic.workflow import open_ledger
from isocenter.clinic.workflow.noted import take_in_notes
from isocenter.clinic.workflow.orders import Orders, Patient
from isocenter.core.errors import ConfigError, TransportError
from isocenter.verbs.clinic import clinic_worklist, load_clinic_config
from isocenter.verbs.clinic.ordering import _FhirLook, check_orders, run_orders, worklist_orders
from isocenter.verbs.clinic.wiring import _tried
from unit.clinic.workflow.test_orders import ORDER
from unit.verbs.clinic.test_clinic_config import written

pytestmark = pytest.mark.enable_socket
SYSTEM = "urn:oid:1.2.3"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


@contextmanager
def running(config: Any) -> Iterator[Orders]:
    config.store.mkdir(mode=0o700, exist_ok=True)
    stop = threading.Event()
    thread = threading.Thread(target=run_orders, args=(config, stop.is_set))
    thread.start()
    ledger = open_ledger(config.database_url("ledger.db"))
    try:
        yield Orders(ledger, config.store)
    finally:
        stop.set()
        thread.join(10)
        ledger.engine.dispose()


def until(what: Any) -> Any:
    for _ in range(200):
        if found := what():
            return found
        time.sleep(0.05)
    return what()


def message(**more: str) -> bytes:
    given = {"time": "20260101120000", "patient": "P1", "issuer": "", "what": "NW", "priority": "S",
             "reason": "^pain", "number": "1", "accession": "ACC1", "control": "C1", "placer": "PL1", "filler": "",
             "status": ""}  # fmt: skip
    return ORDER.format(**{**given, **more}).encode()


def test_hl7_orders_are_kept_once_and_bad_ones_refused(tmp_path: Path) -> None:
    port = free_port()
    config = load_clinic_config(written(tmp_path, {"hl7": {"listen": {"port": port}}}))
    check_orders(config)
    peer = MllpPeer("127.0.0.1", port, timeout_s=5)
    with running(config) as orders:
        until(lambda: (tmp_path / "store/hl7").is_dir())
        assert until(lambda: _sent(peer, message())) == "AA"
        assert send(peer, message()).code == "AA"
        until(lambda: orders.listed())
        assert [one["accession"] for one in orders.listed()] == ["ACC1"]
        assert send(peer, message(control="C2", patient="")).code == "AE"
        assert send(peer, message(control="C3").replace(b"ORM^O01", b"ADT^A01")).code == "AR"
        assert send(peer, message(control="C4").replace(b"|P|2.3", b"|T|2.3")).code == "AR"
        with pytest.raises(ConfigError, match="taken"):
            check_orders(config)
    assert len(orders.listed()) == 1
    ledger = open_ledger(config.database_url("ledger.db"))
    take_in_notes(ledger, config.store)
    refused = [one["detail"] for one in ledger.events() if one["kind"] == "HL7 refused"]
    assert sorted(one.split()[4] for one in refused) == ["AE", "AR", "AR"], refused
    ledger.engine.dispose()


def _sent(peer: MllpPeer, data: bytes) -> str:
    try:
        return send(peer, data).code
    except TransportError:
        return ""


def test_who_is_not_allowed_is_not_heard(tmp_path: Path) -> None:
    port = free_port()
    listen = {"port": port, "hosts": ["10.0.0.0/8"]}
    config = load_clinic_config(written(tmp_path, {"hl7": {"listen": listen}}))
    with running(config) as orders:
        until(lambda: _open(port))
        with pytest.raises(TransportError):
            send(MllpPeer("127.0.0.1", port, timeout_s=5), message())
        assert orders.listed() == []
        assert not (config.store / "hl7" / "messages.jsonl").read_bytes()


def _open(port: int) -> bool:
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"hl7": {"listen": {"hosts": []}}}, "hosts"),
        ({"hl7": {"listen": {"hosts": ["nowhere"]}}}, "nowhere"),
        ({"hl7": {"listen": {"tls": {}}}}, "certificate and key"),
        ({"fhir": {"requests": {}}}, "requests"),
        ({"fhir": {"requests": {"ris": {"url": "http://x"}}}}, "patient_system"),
        ({"worklist": {"title": "RIS", "host": "x", "port": 0}}, "port"),
    ],
)
def test_settings_that_are_wrong_are_named(section: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load_clinic_config(written(tmp_path, section))


def request(number: int, **more: Any) -> dict[str, Any]:
    accession = {"type": {"coding": [{"code": "ACSN"}]}, "value": f"ACC{number}"}
    return {
        "resourceType": "ServiceRequest", "id": str(number), "status": "active", "intent": "order",
        "priority": "urgent", "subject": {"reference": "Patient/7"}, "identifier": [accession],
        "code": {"coding": [{"system": "x", "code": "CT"}], "text": "CT head"}, "reasonCode": [{"text": "fall"}],
        **more,
    }  # fmt: skip


class Server:
    """A FHIR server that has its orders on two pages."""

    def __init__(self) -> None:
        patient = {
            "resourceType": "Patient", "id": "7",
            "identifier": [{"system": SYSTEM, "value": "P1"}, {"system": "other", "value": "P2"}],
        }  # fmt: skip
        self.pages = [
            [request(1), patient, request(2, intent="plan"), {"resourceType": "ServiceRequest", "id": "3"}],
            [
                request(4, status="revoked"),
                request(5, doNotPerform=True),
                request(6, subject={"reference": "Patient/8"}),
            ],
        ]
        self.status, self.asked, self.url, self.next = 200, [], "", ""

    def answer(self, path: str) -> bytes:
        query = parse_qs(urlsplit(path).query)
        self.asked.append(query)
        page = int(query.get("page", ["0"])[0])
        bundle: dict[str, Any] = {"resourceType": "Bundle", "entry": [{"resource": r} for r in self.pages[page]]}
        if page == 0:
            bundle["link"] = [{"relation": "next", "url": self.next or f"{self.url}/ServiceRequest?page=1"}]
        return json.dumps(bundle).encode()


@pytest.fixture
def fhir() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = made.answer(self.path)
            self.send_response(made.status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_fhir_orders_come_page_by_page(fhir: Server) -> None:
    found, refused = ask_for_orders(FhirServer(fhir.url), SYSTEM, datetime(2026, 1, 1, tzinfo=UTC))
    assert [(one.number, one.patients, one.canceled) for one in found] == [
        ("1", ("P1",), False), ("4", ("P1",), True), ("5", ("P1",), True), ("6", (), False),
    ]  # fmt: skip
    assert len(refused) == 1
    assert "ServiceRequest" in refused[0]
    assert fhir.asked[0]["_lastUpdated"] == ["ge2026-01-01T00:00:00+00:00"]
    fhir.next = "http://evil.example/ServiceRequest?page=1"
    with pytest.raises(TransportError, match="another server"):
        ask_for_orders(FhirServer(fhir.url), SYSTEM, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_fhir_server_that_is_down_is_asked_again(fhir: Server, tmp_path: Path) -> None:
    fhir.status = 503
    asked = {"url": fhir.url, "patient_system": SYSTEM, "every_s": 1}
    config = load_clinic_config(written(tmp_path, {"fhir": {"requests": {"ris": asked}}}))
    with running(config) as orders:
        until(lambda: fhir.asked)
        assert orders.listed() == []
        fhir.status = 200
        until(lambda: len(orders.listed()) == 4)
    told = {one["accession"]: (one["priority"], one["canceled"]) for one in orders.listed()}
    assert told == {"ACC1": ("asap", False), "ACC4": ("asap", True), "ACC5": ("asap", True), "ACC6": ("asap", False)}


def scheduled() -> Dataset:
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepID = "CT", "CT1", "SPS1"
    step.ScheduledProcedureStepStartDate = f"{datetime.now().astimezone():%Y%m%d}"
    step.ScheduledProcedureStepStartTime, step.ScheduledProcedureStepDescription = "101500", "CT head plain"
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Zebra^Anna", "P1", "19500101", "F"
    made.AccessionNumber, made.StudyInstanceUID = "ACC1", "1.2.1"
    made.RequestedProcedureID, made.RequestedProcedureDescription = "RP1", "CT head"
    made.RequestedProcedurePriority, made.ReasonForTheRequestedProcedure = "STAT", "fall"
    made.ScheduledProcedureStepSequence = [step]
    return made


# pynetdicom leaves a socket open where nobody answers.
leaks = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def worklist_server(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("wlmscpfs")
    if program is None:
        pytest.skip("dcmtk is not installed: wlmscpfs")
    folder = tmp_path / "wl" / "RIS"
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    scheduled().save_as(folder / "1.wl", enforce_file_format=True)
    port = free_port()
    process = subprocess.Popen([program, "-dfp", str(folder.parent), str(port)])
    try:
        until(lambda: _open(port))
        yield port
    finally:
        process.kill()
        process.wait()


def test_the_worklist_is_asked_printed_and_used(worklist_server: int, tmp_path: Path) -> None:
    section = {"title": "RIS", "host": "127.0.0.1", "port": worklist_server, "every_s": None}
    file = written(tmp_path, {"worklist": section})
    (one,) = clinic_worklist(file)
    assert (one.study_uid, one.accession, one.priority, one.modality) == ("1.2.1", "ACC1", "stat", "CT")
    assert one.patient_id == "P1"
    assert "patient" not in repr(one)
    printed = CliRunner().invoke(app, ["worklist", str(file)])
    assert printed.exit_code == 0, printed.output
    assert "CT1  ACC1  stat  CT head plain" in printed.output
    assert "Zebra" not in printed.output
    assert "Zebra" in CliRunner().invoke(app, ["worklist", str(file), "--patients", "--json"]).output
    (placed,) = worklist_orders((one,), "RIS")
    assert (placed.priority, placed.reason, placed.patients[0].number) == ("stat", "fall", "P1")
    other = load_clinic_config(written(tmp_path, {"worklist": {**section, "modality": "MR"}}))
    assert clinic_worklist(other) == ()


@leaks
def test_a_worklist_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no section worklist"):
        clinic_worklist(written(tmp_path))
    section = {"title": "RIS", "host": "127.0.0.1", "port": free_port(), "timeout_s": 2}
    with pytest.raises(TransportError, match="does not answer"):
        clinic_worklist(written(tmp_path, {"worklist": section}))


@pytest.mark.parametrize(
    ("reference", "patients"),
    [
        ("Patient/7/_history/9", ("P1",)),
        ("{url}/Patient/7", ("P1",)),
        ("https://other.example/Patient/7", ()),
        ("Patient/9/_history/7", ("P9",)),
        ("RelatedPatient/7", ()),
    ],
)
def test_a_reference_names_one_patient_of_this_server(fhir: Server, reference: str, patients: tuple[str, ...]) -> None:
    other = {"resourceType": "Patient", "id": "9", "identifier": [{"system": SYSTEM, "value": "P9"}]}
    fhir.pages[1] = [request(6, subject={"reference": reference.format(url=fhir.url)}), other]
    found, _ = ask_for_orders(FhirServer(fhir.url), SYSTEM, datetime(2026, 1, 1, tzinfo=UTC))
    assert [one.patients for one in found if one.number == "6"] == [patients]


def test_an_order_of_another_issuer_says_so(fhir: Server, tmp_path: Path) -> None:
    asked = {"url": fhir.url, "patient_system": SYSTEM, "patient_issuer": "HOSP"}
    config = load_clinic_config(written(tmp_path, {"fhir": {"requests": {"ris": asked}}}))
    assert config.fhir is not None
    (found, *_), _ = ask_for_orders(FhirServer(fhir.url), SYSTEM, datetime(2026, 1, 1, tzinfo=UTC))
    placed = _FhirLook("ris", config.fhir.requests["ris"])._placed(found)
    assert placed.patients == (Patient("P1", ("HOSP",)),)
    assert not placed.patients[0].is_one_of([Patient("P1", ("OTHER",))])


def test_what_is_done_now_and_then_outlives_a_defect(caplog: pytest.LogCaptureFixture) -> None:
    def full() -> None:
        raise OSError("no room")

    _tried(full)
    assert "tried again: OSError" in caplog.text
    _tried({}.popitem)
    assert "defect" in caplog.text
