"""Delivery to pynetdicom and to a small STOW-RS server: every answer sorted into taken, later or never."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pynetdicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select, update

from isocenter.clinic.fhir import FhirServer, send_bundle
from isocenter.clinic.ports import Deliverer, Outcome
from isocenter.clinic.retrieve import DicomWebServer, DimseNode, Patience, Query, retrieve_dicomweb
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.deliver import Deliveries, StoreDestination, StowDestination, sorted_status
from isocenter.clinic.workflow.messages import BundleDestination
from isocenter.clinic.workflow.tables import DELIVERIES
from isocenter.core.errors import ConfigError, TransportError
from postgres_peer import Databases
from unit.clinic.workflow.test_engine import dataset, hold

CT, SC = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
pytestmark = pytest.mark.enable_socket


def file(folder: Path, number: int, sop_class: str = CT) -> Path:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = sop_class
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = f"1.2.{number}"
    one.StudyInstanceUID, one.SeriesInstanceUID = "1.2", "1.2.0"
    made = folder / f"{number}.dcm"
    one.save_as(made, enforce_file_format=True)
    return made


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0x0000, "taken"), (0xB000, "taken"), (0xB006, "taken"), (0xB007, "taken"), (0x0111, "taken"),
     (0xA700, "later"), (0xA702, "later"), (0x0110, "later"), (0x0213, "later"), (0x0210, "later"),
     (0xA900, "never"), (0xC000, "never"), (0xC123, "never"), (0x0122, "never"), (0x0124, "never"), (0x0117, "never")],
)  # fmt: skip
def test_statuses(status: int, kind: str) -> None:
    assert sorted_status(status).kind == kind


# pynetdicom drops the socket of a connection that failed without closing it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_c_store_tells_of_each_file(tmp_path: Path) -> None:
    answers = {"1.2.1": 0x0000, "1.2.2": 0xA700, "1.2.3": 0xC000}
    entity = pynetdicom.AE(ae_title="PACS")
    entity.add_supported_context(CT, ExplicitVRLittleEndian)
    handlers = [(pynetdicom.evt.EVT_C_STORE, lambda e: answers[str(e.dataset.SOPInstanceUID)])]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    to = StoreDestination(DimseNode("127.0.0.1", server.server_address[1], "PACS"), timeout_s=5)
    assert isinstance(to, Deliverer)
    (tmp_path / "none.dcm").write_bytes(b"no DICOM")
    files = [file(tmp_path, n) for n in (1, 2, 3)] + [
        tmp_path / "away.dcm",
        file(tmp_path, 4, SC),
        tmp_path / "none.dcm",
    ]
    try:
        found = to.deliver(files)
    finally:
        server.shutdown()
    assert [o.kind for o in found] == ["taken", "later", "never", "never", "never", "never"]
    assert "not there" in found[3].reason and "takes no such object" in found[4].reason
    assert [o.kind for o in to.deliver(files[:2])] == ["later", "later"], "nobody is there any more"
    assert [o.kind for o in to.deliver(files[3:4])] == ["never"]


class Stow:
    """Answers as told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.bodies: list[tuple[str, str, bytes]] = []


@pytest.fixture
def stow() -> Iterator[tuple[Stow, str]]:
    told = Stow()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.bodies.append((self.path, self.headers["Authorization"] or "", body))
            status, headers, content = told.answers.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told, f"http://127.0.0.1:{server.server_address[1]}/dicom-web/"
    server.shutdown()
    thread.join()
    server.server_close()


def failed(reason: int) -> bytes:
    return json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}).encode()


def test_stow_tells_of_each_file(stow: tuple[Stow, str], tmp_path: Path) -> None:
    told, url = stow
    xml = (
        '<NativeDicomModel><DicomAttribute tag="00081198" vr="SQ"><Item number="1"><DicomAttribute tag="00081197" '
        'vr="US"><Value number="1">42752</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>'
    )
    told.answers = [
        (200, {}, b"{}"), (503, {"Retry-After": "7"}, b""), (401, {}, b""), (409, {}, failed(0xA700)),
        (409, {}, failed(0xC000)), (409, {}, failed(0x0111)),
        (409, {"Content-Type": "application/dicom+xml"}, xml.encode()), (400, {}, b"<"),
    ]  # fmt: skip
    to = StowDestination(url, token="secret")
    assert isinstance(to, Deliverer) and "secret" not in repr(to)
    found = to.deliver([*[file(tmp_path, n) for n in range(8)], tmp_path / "away.dcm"])
    kinds = ["taken", "later", "never", "later", "never", "taken", "later", "never", "never"]
    assert [o.kind for o in found] == kinds
    assert found[1].wait_s == 7
    path, token, body = told.bodies[0]
    assert (path, token) == ("/dicom-web/studies", "Bearer secret")
    assert (tmp_path / "0.dcm").read_bytes() in body


def test_stow_without_a_server(tmp_path: Path) -> None:
    to = StowDestination("http://127.0.0.1:9/dicom-web", timeout_s=2)
    assert [o.kind for o in to.deliver([file(tmp_path, 1), file(tmp_path, 2)])] == ["later", "later"]
    with pytest.raises(ConfigError, match="http"):
        StowDestination("ftp://x")


class Failing:
    """A destination that fails at some files, or at all."""

    def __init__(self, error: Exception, at: str = "") -> None:
        self.error, self.at = error, at

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        if any(self.at in file.name for file in files):
            raise self.error
        return [Outcome("taken")] * len(files)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConfigError("a file of certificates can't be read"), "certificates"),
        (FileNotFoundError("no such file"), "FileNotFoundError"),
        (RecursionError("too deep"), "RecursionError"),
        (ValueError("Zebra^Anna"), "ValueError"),
    ],
)
def test_a_destination_that_cannot_be_used_stops_no_other(
    databases: Databases, tmp_path: Path, error: Exception, told: str
) -> None:
    ledger = open_ledger(databases.url(tmp_path))
    hold(tmp_path, dataset("1.2", 1))
    ledger.take_in(tmp_path / "journal")
    row = {"delivery": "d", "study": "1.2", "version": 1, "destination": "x", "form": "dicom", "file": "a"}
    ledger.queue([row])
    deliveries = Deliveries(ledger, {"x": Failing(error)}, store=tmp_path)
    for _ in range(2):
        deliveries.pump()  # would raise what stopped the thread, and end the workflow's process
        deliveries._busy["x"].result(10)
    with ledger.engine.connect() as connection:
        found = connection.execute(select(DELIVERIES)).one()
    assert (found.state, found.tries) == ("waiting", 1)
    assert told in found.error and "Zebra" not in found.error
    deliveries.close()
    ledger.engine.dispose()


class Archive:
    """A destination that is down, or takes what it gets."""

    def __init__(self) -> None:
        self.down, self.got = False, list[str]()

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        if self.down:
            return [Outcome("later", "no association")] * len(files)
        self.got += [file.as_posix() for file in files]
        return [Outcome("taken")] * len(files)


def result(version: int, rule: str = "ct", destination: str = "ris", study: str = "1.2") -> dict[str, Any]:
    name = f"{study} {version} {rule} {destination}"
    return {"delivery": name, "study": study, "version": version, "destination": destination, "form": "hl7",
            "file": f"results/{study}/v{version}/{rule}/a.hl7"}  # fmt: skip


def states(ledger: Ledger) -> dict[str, str]:
    with ledger.engine.connect() as connection:
        return {row.delivery: row.state for row in connection.execute(select(DELIVERIES))}


def test_what_was_amended_never_comes_after_what_amends_it(databases: Databases, tmp_path: Path) -> None:
    made, now = open_ledger(databases.url(tmp_path)), [1000.0]
    hold(tmp_path, dataset("1.2", 1))
    ledger = Ledger(made.engine, lambda: now[0])
    ledger.take_in(tmp_path / "journal")
    ris = Archive()
    deliveries = Deliveries(ledger, {"ris": ris})
    ris.down = True
    ledger.queue([result(1)])
    for _ in range(12):
        deliveries.send("ris")
        now[0] += 900.0
    deliveries.send("ris")  # and now it waits its ten minutes
    assert not ledger.due()
    ledger.queue([result(2)])
    ris.down = False
    for _ in range(200):
        deliveries.send("ris")
        now[0] += 10.0
    assert ris.got == ["results/1.2/v2/ct/a.hl7"]
    assert states(ledger) == {"1.2 1 ct ris": "withdrawn", "1.2 2 ct ris": "delivered"}
    assert [e["detail"] for e in ledger.events() if e["kind"] == "withdrawn"] == [
        "1 deliveries of a version that is amended"
    ]
    ledger.queue([result(1, "slow"), result(2, "slow")])
    assert ledger.queue([result(1, "late")]) == ledger.queue([result(2, "late")]) == 1
    assert ledger.queue([result(1, "later")]) == 1
    assert {name: state for name, state in states(ledger).items() if "slow" in name or "late" in name} == {
        "1.2 1 slow ris": "withdrawn", "1.2 2 slow ris": "waiting", "1.2 1 late ris": "withdrawn",
        "1.2 2 late ris": "waiting", "1.2 1 later ris": "waiting",
    }, "each rule has versions of its own"  # fmt: skip
    deliveries.close()
    made.engine.dispose()


def test_an_earlier_version_that_is_ready_after_a_later_one_is_not_sent(databases: Databases, tmp_path: Path) -> None:
    ledger = open_ledger(databases.url(tmp_path))
    hold(tmp_path, dataset("1.2", 1), dataset("1.3", 1))
    ledger.take_in(tmp_path / "journal")
    ledger.queue([result(2), result(2, destination="pacs")])
    ledger.delivered("1.2 2 ct ris")
    ledger.queue([result(1), result(1, study="1.3"), result(1, destination="other")])
    assert {row["delivery"] for row in ledger.due()} == {"1.2 1 ct other", "1.2 2 ct pacs", "1.3 1 ct ris"}
    ledger.engine.dispose()


def test_a_dead_letter_that_was_amended_is_not_sent_again(databases: Databases, tmp_path: Path) -> None:
    ledger = open_ledger(databases.url(tmp_path))
    hold(tmp_path, dataset("1.2", 1))
    ledger.take_in(tmp_path / "journal")
    ledger.queue([result(1), result(1, "mr")])
    for name in ("1.2 1 ct ris", "1.2 1 mr ris"):
        ledger.failed(name, "refused with status C000", wait_s=None)
    ledger.queue([result(2)])
    assert [row["delivery"] for row in ledger.dead_letters()] == ["1.2 1 mr ris"]
    # As an older version of the node left them: both of one rule, one dead, one waiting, a later one taken.
    ledger.delivered("1.2 2 ct ris")
    with ledger.engine.begin() as connection:
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.delivery == "1.2 1 ct ris").values(state="dead"))
    assert ledger.replay(["1.2 1 ct ris"]) == 0
    assert ledger.replay() == 1
    assert states(ledger) == {"1.2 1 ct ris": "withdrawn", "1.2 1 mr ris": "waiting", "1.2 2 ct ris": "delivered"}
    with ledger.engine.begin() as connection:
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.delivery == "1.2 1 ct ris").values(state="waiting"))
    ledger.withdraw_amended()
    assert states(ledger)["1.2 1 ct ris"] == "withdrawn"
    ledger.engine.dispose()


def test_an_odd_file_holds_up_no_other(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    hold(tmp_path, dataset("1.2", 1))
    ledger.take_in(tmp_path / "journal")
    row = {"study": "1.2", "version": 1, "destination": "x", "form": "dicom"}
    ledger.queue([{**row, "delivery": name, "file": name} for name in ("a", "odd", "z")])
    deliveries = Deliveries(ledger, {"x": Failing(RecursionError(), "odd")}, store=tmp_path)
    assert deliveries.send("x") == 2
    assert ledger.counts() == {"arriving": 1, "delivery delivered": 2, "delivery waiting": 1}
    deliveries.close()
    ledger.engine.dispose()


@pytest.mark.parametrize(
    ("status", "wait", "content", "told"),
    [
        (200, "", b"[" * 100_000, ("taken", 0.0)),
        (409, "", b"[" * 100_000, ("never", 0.0)),
        (409, "", b'{"00081198": {"Value": [{"00081197": {"Value": [1e999]}}]}}', ("never", 0.0)),
        (503, "\u00b2", b"", ("later", 0.0)),
        (503, "9" * 400, b"", ("later", 300.0)),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", b"", ("later", 0.0)),
        (503, "7", b"", ("later", 7.0)),
    ],
)
def test_an_odd_answer_neither_stops_the_node_nor_ends_the_tries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, wait: str, content: bytes, told: tuple[str, float]
) -> None:
    headers = [(b"Retry-After", wait.encode("latin-1"))]
    answer = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=content))
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=answer))
    (found,) = StowDestination("http://pacs.example").deliver([file(tmp_path, 1)])
    assert (found.kind, found.wait_s) == told


def test_the_same_answers_stop_no_message_and_no_retrieve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    headers, query = [(b"Retry-After", b"\xb2")], Query(everything=True)
    answer = httpx.MockTransport(lambda _: httpx.Response(503, headers=headers))
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=answer))
    with pytest.raises(TransportError, match="answered 503"):
        send_bundle(FhirServer("http://ris.example", retries=0), {"resourceType": "Bundle", "entry": []})
    with pytest.raises(TransportError, match="answered 503"):
        retrieve_dicomweb(DicomWebServer("http://pacs.example"), query, tmp_path, patience=Patience(retries=0))


def test_certificates_that_cannot_be_read_are_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="certificates"):
        StowDestination("https://pacs.example", verify=tmp_path / "away.pem").deliver([file(tmp_path, 1)])


def test_an_answer_that_cannot_be_decoded_is_no_end_of_the_node(tmp_path: Path) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"none")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "bundle").write_text(json.dumps({"resourceType": "Bundle", "entry": []}))
    try:
        assert [o.kind for o in StowDestination(url).deliver([file(tmp_path, 1)])] == ["later"]
        record = BundleDestination(FhirServer(url, retries=0))
        assert [o.kind for o in record.deliver([tmp_path / "bundle"])] == ["later"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
