"""Archives to fetch from: in-process servers of DICOMweb and DIMSE, and Debian's Orthanc where it is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.clinic.retrieve import DimseNode

CT = "1.2.840.10008.5.1.4.1.1.2"


def instance(study, series, number):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{study}.{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{study}.{series}"
    ds.PatientID, ds.PatientName, ds.Modality = f"P{study}", "Muster^Max", "CT"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240131", "120000", f"A{study}", "1"
    ds.PatientBirthDate, ds.PatientSex, ds.ReferringPhysicianName = "", "", ""
    ds.SeriesNumber, ds.InstanceNumber = series, number
    ds.Rows = ds.Columns = 8
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = np.full(64, 100 * study + number, np.uint16).tobytes()
    return ds


def encoded(ds):
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


INSTANCES = [instance(s, q, n) for s in (1, 2) for q in (1, 2) for n in (1, 2, 3)]


class Web:
    """A DICOMweb server that does as told, and counts what it was asked."""

    def __init__(self, instances=INSTANCES):
        self.instances = instances
        self.asked: list[str] = []
        self.fail: dict[str, list[int]] = {}
        self.cut = 0
        self.lost: set[str] = set()
        self.token = ""
        self.url = ""

    def answer(self, request):
        path = urlsplit(request.path)
        self.asked.append(path.path)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return request.send_error(401)
        codes = self.fail.get(path.path)
        if codes:
            return request.send_error(codes.pop(0))
        parts = path.path.strip("/").split("/")
        chosen = [d for d in self.instances if len(parts) < 2 or d.StudyInstanceUID == parts[1]]
        if parts[-1] in ("studies", "instances"):
            return self.listed(request, chosen, parse_qs(path.query), level=parts[-1])
        chosen = [d for d in chosen if d.SOPInstanceUID not in self.lost]
        if len(parts) == 6:
            chosen = [d for d in chosen if d.SOPInstanceUID == parts[5]]
        if not chosen:
            return request.send_error(404)
        body = (
            b"".join(b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + encoded(d) + b"\r\n" for d in chosen)
            + b"--XX--"
        )
        if self.cut:
            self.cut -= 1
            body = body[: len(body) // 2]
        request.send_response(200)
        request.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=XX')
        request.end_headers()
        request.wfile.write(body)
        return None

    def listed(self, request, chosen, query, level):
        wanted = {"AccessionNumber": query.get("AccessionNumber", [""])[0]}
        chosen = [d for d in chosen if wanted["AccessionNumber"] in ("", d.AccessionNumber)]
        key = "StudyInstanceUID" if level == "studies" else "SOPInstanceUID"
        once = list({d[key].value: d for d in chosen}.values())
        start = int(query["offset"][0])
        tags = ("0020000D", "0020000E", "00080018")
        page = [{t: {"vr": "UI", "Value": [str(d[t].value)]} for t in tags} for d in once[start : start + 4]]
        request.send_response(200)
        request.end_headers()
        request.wfile.write(json.dumps(page).encode())


@contextmanager
def web_server():
    """Run one, for as long as it is needed."""
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            made.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Archive:
    """An archive by pynetdicom: finds, sends back, moves; may lose some on the way."""

    def __init__(self, net):
        self.net = net
        self.lost: dict[str, int] = {}
        self.sent: list[str] = []
        self.destination = ("127.0.0.1", 0)

    def chosen(self, ds):
        out = INSTANCES
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber"):
            wanted = ds.get(key)
            if wanted:
                wanted = [wanted] if isinstance(wanted, str) else list(wanted)
                out = [d for d in out if d[key].value in wanted]
        kept = []
        for d in out:
            if self.lost.get(d.SOPInstanceUID, 0):
                self.lost[d.SOPInstanceUID] -= 1
            else:
                kept.append(d)
        return kept

    def find(self, event):
        request = event.identifier
        key = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
        lost, self.lost = self.lost, {}
        once = {d[key[request.QueryRetrieveLevel]].value: d for d in self.chosen(request)}
        self.lost = lost
        for d in once.values():
            answer = Dataset()
            for element in request:
                setattr(answer, element.keyword, d.get(element.keyword, request.get(element.keyword)))
            yield 0xFF00, answer

    def send(self, event):
        chosen = self.chosen(event.identifier)
        if event.event.name == "EVT_C_MOVE":
            yield self.destination
        yield len(chosen)
        for d in chosen:
            self.sent.append(d.SOPInstanceUID)
            yield 0xFF00, d


@contextmanager
def dimse_archive():
    """Run one, for as long as it is needed."""
    net = pytest.importorskip("pynetdicom")
    made = Archive(net)
    ae = net.AE(ae_title="ARCHIVE")
    for uid in ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"):
        ae.add_supported_context(uid)
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    ae.add_requested_context(CT)
    evt = net.evt
    handlers = [(evt.EVT_C_FIND, made.find), (evt.EVT_C_GET, made.send), (evt.EVT_C_MOVE, made.send)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    made.node = DimseNode("127.0.0.1", server.server_address[1], "ARCHIVE")
    try:
        yield made
    finally:
        server.shutdown()


@contextmanager
def orthanc(folder, mover):
    """Run Debian's Orthanc that holds `INSTANCES`, for as long as it is needed; skip where it is not there."""
    program = shutil.which("Orthanc") or shutil.which("orthanc")
    plugin = next((p for p in ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so",) if shutil.os.path.exists(p)), None)
    if program is None or plugin is None:
        pytest.skip("Orthanc with its DICOMweb plug-in (orthanc, orthanc-dicomweb) is not installed")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    settings = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": ports[0],
        "DicomPort": ports[1], "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [plugin], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowGet": True,
        "DicomModalities": {"us": ["ISOCENTER", "127.0.0.1", mover]}, "HttpServerEnabled": True,
    }  # fmt: skip
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(config)], stdout=log, stderr=log)
    try:
        import urllib.request

        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/system", timeout=1):
                    break
            except OSError:
                if process.poll() is not None:
                    pytest.fail((folder / "log").read_text()[-2000:])
                time.sleep(0.05)
        for d in INSTANCES:
            body = urllib.request.Request(f"http://127.0.0.1:{ports[0]}/instances", data=encoded(d), method="POST")
            urllib.request.urlopen(body, timeout=5).close()
        yield f"http://127.0.0.1:{ports[0]}/dicom-web", DimseNode("127.0.0.1", ports[1], "ORTHANC")
    finally:
        process.terminate()
        process.wait(20)
