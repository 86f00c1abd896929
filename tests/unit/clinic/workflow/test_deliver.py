"""Delivery to pynetdicom and to a small STOW-RS server: every answer sorted into taken, later or never."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pynetdicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select

from isocenter.clinic.fhir import FhirServer
from isocenter.clinic.ports import Deliverer, Outcome
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.workflow import open_ledger
from isocenter.clinic.workflow.deliver import Deliveries, StoreDestination, StowDestination, sorted_status
from isocenter.clinic.workflow.messages import BundleDestination
from isocenter.clinic.workflow.tables import DELIVERIES
from isocenter.core.errors import ConfigError
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


class Untrusted:
    """A destination whose certificates can't be read any more."""

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        raise ConfigError("a file of certificates can't be read")


def test_a_destination_that_cannot_be_used_stops_no_other(databases: Databases, tmp_path: Path) -> None:
    ledger = open_ledger(databases.url(tmp_path))
    hold(tmp_path, dataset("1.2", 1))
    ledger.take_in(tmp_path / "journal")
    row = {"delivery": "d", "study": "1.2", "version": 1, "destination": "x", "form": "dicom", "file": "a"}
    ledger.queue([row])
    deliveries = Deliveries(ledger, {"x": Untrusted()}, store=tmp_path)
    assert deliveries.send("x") == 0
    with ledger.engine.connect() as connection:
        found = connection.execute(select(DELIVERIES)).one()
    assert (found.state, found.tries) == ("waiting", 1)
    assert "certificates" in found.error
    deliveries.close()
    ledger.engine.dispose()


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
