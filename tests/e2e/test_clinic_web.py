"""All ways at once: from Orthanc to the node, back to Orthanc, to a FHIR record and by HL7; and found by DICOMweb."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from clinic_cases import SEG, SR, node, results, settings, store_scu, takes_minutes, wait_for
from dcmtk_peer import need_dcmtk
from isocenter.clinic.hl7 import MllpPeer, MllpServer, send
from isocenter.data.records.hl7 import parse_message
from isocenter.verbs.clinic import clinic_status
from orthanc_peer import free_port, orthanc

pytestmark = [pytest.mark.enable_socket, takes_minutes]
TOKEN = "a-token-of-many-letters"
ORDER = (
    "MSH|^~\\&|RIS|HOSP|NODE||20260101||OMI^O23^OMI_O23|{control}|P|2.5.1\r"
    "PID|1||{patient}\rORC|NW|PL{control}\rTQ1|1||||||||S\rOBR|1|PL{control}||CT^CT^L\r"
    "IPC|{control}|RP1|{study}|SPS1|CT\r"
)


@contextmanager
def record() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a FHIR server that takes all it gets."""
    bundles: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bundles.append(bundle)
            self.send_response(200)
            self.end_headers()
            entries = [{"response": {"status": "201"}} for _ in bundle["entry"]]
            self.wfile.write(json.dumps({"resourceType": "Bundle", "entry": entries}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bundles
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_study_goes_all_ways(study: Path, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_dcmtk("storescu", "findscu")
    monkeypatch.setenv("NODE_TOKEN", TOKEN)
    port, web, hl7 = free_port(), free_port(), free_port()
    messages: list[bytes] = []
    ris = MllpServer(lambda _message, data: messages.append(data))
    ris_port = ris.start("127.0.0.1", 0)
    headers = [dcmread(file, stop_before_pixels=True) for file in sorted(study.rglob("*.dcm"))]
    uid, sent = str(headers[0].StudyInstanceUID), {str(h.SOPInstanceUID) for h in headers}
    with orthanc(tmp_path / "orthanc", port, None) as archive, record() as (url, bundles):
        destinations = {
            "pacs": {"kind": "dimse", "title": "ORTHANC", "host": "127.0.0.1", "port": archive.dicom},
            "record": {"kind": "fhir", "url": url, "patient_system": "urn:oid:1.2.3"},
            "ris": {"kind": "hl7", "host": "127.0.0.1", "port": ris_port},
        }
        rule = {"name": "bright", "modalities": ["CT"], "tasks": ["toy-bright"], "to": list(destinations)}
        config = settings(
            tmp_path, port, archive.dicom, destinations=destinations, rules=[rule],
            web={"port": web, "token": {"env": "NODE_TOKEN"}}, hl7={"listen": {"port": hl7}},
        )  # fmt: skip
        with node(config, toy_folder), httpx.Client(base_url=f"http://127.0.0.1:{web}") as client:
            assert wait_for(lambda: _alive(client), 150)
            assert client.get("/dicomweb/studies").status_code == 401
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            peer = MllpPeer("127.0.0.1", hl7, timeout_s=10)
            for control, patient in (("C1", headers[0].PatientID), ("C2", "SOMEBODY-ELSE")):
                text = ORDER.format(control=control, patient=patient, study=uid)
                assert send(peer, text.encode()).taken
            store_scu(archive, study, None)
            wait_for(lambda: clinic_status(config).deliveries.get("delivered", 0) >= 4, 150)
            status, log = clinic_status(config), (tmp_path / "node.log").read_text()
            assert status.studies == {"answered": 1}, f"{status}\n{log}"
            assert status.deliveries == {"delivered": 4}, f"{status}\n{log}"
            results(archive, uid, sent, None)

            found = client.get(f"/dicomweb/studies/{uid}/instances").json()
            made = {one["00080018"]["Value"][0]: one["00080016"]["Value"][0] for one in found}
            assert sorted(kind for sop, kind in made.items() if sop not in sent) == sorted([SEG, SR])
            assert sent <= set(made)
            assert wait_for(lambda: _states(client) == ["COMPLETED"]), _states(client)
            item = client.get("/dicomweb/workitems").json()[0]
            assert item["00741200"]["Value"] == ["HIGH"]
            assert all(sop in json.dumps(item) for sop in made)
            states = {one["accession"]: one["studies"] for one in client.get("/node/v1/orders").json()}
            assert states == {"C1": {uid: "used"}, "C2": {uid: "conflict"}}
            events = [e for e in status.events if e["kind"] == "conflict"]
            assert [e["study"] for e in events] == [uid]
    ris.stop()
    (bundle,), (message,) = bundles, messages
    reports = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport"]
    assert [r["subject"]["identifier"]["value"] for r in reports] == [headers[0].PatientID]
    assert next(s for s in parse_message(message).segments if s.name == "PID").text(3) == headers[0].PatientID
    for value in ("ZEBRA", "SOMEBODY", TOKEN):
        assert value not in (tmp_path / "node.log").read_text().upper()


def _alive(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def _states(client: httpx.Client) -> list[str]:
    answer = client.get("/dicomweb/workitems")
    return [one["00741000"]["Value"][0] for one in answer.json()] if answer.status_code == 200 else []
