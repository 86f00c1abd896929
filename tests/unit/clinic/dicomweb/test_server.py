"""The DICOMweb server over HTTP: searched, read and stored to by our own client, dicomweb-client and Orthanc."""

from __future__ import annotations

import json
import socket
import threading
import time
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from isocenter.clinic.dicomweb import Catalog, DicomWeb, router
from isocenter.clinic.dicomweb.multipart import Body, Parts, Tail, read_media_type
from isocenter.clinic.dicomweb.stow import Storing
from isocenter.clinic.dimse.holding import HINDERED, QUEUE_FULL, Holding, Limits, recover
from isocenter.clinic.node import receiving_since
from isocenter.clinic.retrieve import DicomWebServer, Patience, Query, retrieve_dicomweb
from isocenter.clinic.workflow.ledger import Completeness, Ledger, open_ledger
from postgres_peer import KINDS, Databases, databases_of

fastapi = pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
pytestmark = pytest.mark.enable_socket
CT = "1.2.840.10008.5.1.4.1.1.2"


def instance(study=1, series=1, number=1, syntax=ExplicitVRLittleEndian, frames=1, modality="CT"):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{study}.{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{study}.{series}"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientID, ds.PatientName, ds.Modality = f"P{study}", f"Müller^Nr{study}", modality
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = f"2024010{study}", "120000", f"A{study}", "1"
    ds.SeriesNumber, ds.InstanceNumber, ds.StationName = series, number, "ROOM7"
    ds.RescaleSlope, ds.RescaleIntercept, ds.WindowCenter, ds.WindowWidth = 1, -1000, 0, 256
    ds.Rows, ds.Columns = 8, 6
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if frames > 1:
        ds.NumberOfFrames = frames
    pixels = (np.arange(48 * frames, dtype="<u2") + 900 + 10 * number).reshape(frames, 8, 6)
    if syntax == JPEGLSLossless:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelData = pixels.tobytes()
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
    else:
        ds.PixelData = pixels.tobytes()
    return ds


def encoded(ds):
    out = BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def multipart(*bodies, boundary=b"=_x y", kind=b"application/dicom"):
    parts = b"".join(b"\r\n--" + boundary + b"\r\nContent-Type: " + kind + b"\r\n\r\n" + body for body in bodies)
    return parts + b"\r\n--" + boundary + b"--"


STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="=_x y"'}


def bodies(answer):
    parts = Parts(read_media_type(answer.headers["Content-Type"]).parameters["boundary"].encode())
    found, one = [], bytearray()
    for event in parts.feed(answer.content):
        if isinstance(event, Body):
            one += event.data
        elif isinstance(event, Tail):
            found.append(bytes(one))
            one = bytearray()
    parts.end()
    return found


class Node:
    def __init__(self, folder: Path, limits: Limits | None = None, databases: Databases | None = None) -> None:
        self.folder = folder
        self.holding = Holding(folder, ("1.2.3.4", "TEST"), limits or Limits())
        self.ledger = open_ledger((databases or Databases()).url(folder))
        self.catalog = Catalog(self.ledger.engine, folder)
        self.told: list = []
        app = fastapi.FastAPI()
        app.include_router(router(DicomWeb(self.catalog, self.holding, told=self.told.append)), prefix="/dicom-web")
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=20)

    def take_in(self):
        self.ledger.take_in(self.folder / "journal")
        return self.catalog.take_in()

    def close(self):
        self.http.close()
        self.server.should_exit = True
        self.thread.join(10)
        self.ledger.engine.dispose()


@pytest.fixture(params=["sqlite"])
def databases(request):
    yield from databases_of(request)


both = pytest.mark.parametrize("databases", KINDS, indirect=True)


@pytest.fixture
def node(databases, tmp_path):
    made = Node(tmp_path / "node", databases=databases)
    yield made
    made.close()


@pytest.fixture
def filled(node):
    studies = [instance(s, q, n) for s in (1, 2) for q in (1, 2) for n in (1, 2)]
    answer = node.http.post("/studies", content=multipart(*map(encoded, studies)), headers=STOW)
    assert answer.status_code == 200
    assert node.take_in() == 8
    return node


def uids(answer, tag="0020000D"):
    return [item[tag]["Value"][0] for item in answer.json()]


@both
def test_what_is_stored_is_held_as_by_c_store_and_found(filled):
    answer = filled.http.get("/studies")
    assert answer.headers["content-type"] == "application/dicom+json"
    assert uids(answer) == ["1.2.3.1", "1.2.3.2"]
    first = answer.json()[0]
    assert first["00100010"]["Value"] == [{"Alphabetic": "Müller^Nr1"}]
    assert first["00080061"]["Value"] == ["CT"]
    assert (first["00201206"]["Value"], first["00201208"]["Value"]) == ([2], [4])
    assert first["00081190"]["Value"] == [f"{filled.url}/studies/1.2.3.1"]
    again = recover(filled.folder)
    assert (again.unfinished, again.broken, again.noted) == (0, 0, 0)
    assert {a.what for a in filled.told} == {"store", "search"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/studies?PatientID=P2", ["1.2.3.2"]),
        ("/studies?00100020=P2", ["1.2.3.2"]),
        ("/studies?PatientName=müller*", ["1.2.3.1", "1.2.3.2"]),
        ("/studies?PatientName=M?ller^Nr1", ["1.2.3.1"]),
        ("/studies?StudyDate=20240102-", ["1.2.3.2"]),
        ("/studies?StudyDate=-20240101", ["1.2.3.1"]),
        ("/studies?StudyInstanceUID=1.2.3.2,1.2.3.9", ["1.2.3.2"]),
        ("/studies?ModalitiesInStudy=CT&limit=1&offset=1", ["1.2.3.2"]),
        ("/series?PatientID=P1", ["1.2.3.1", "1.2.3.1"]),
        ("/series?ModalitiesInStudy=CT&limit=3", ["1.2.3.1", "1.2.3.1", "1.2.3.2"]),
        ("/instances?SOPInstanceUID=1.2.3.1.2.2", ["1.2.3.1"]),
        ("/studies/1.2.3.1/series/1.2.3.1.2/instances?InstanceNumber=2", ["1.2.3.1"]),
    ],
)
def test_searches(filled, path, found):
    assert uids(filled.http.get(path)) == found


@pytest.fixture
def mixed(filled):
    stranger = instance(1, 2, 9)
    stranger.PatientID, stranger.PatientName, stranger.Modality = "Q", "Stranger^A", "SR"
    answer = filled.http.post("/studies", content=multipart(encoded(stranger)), headers=STOW)
    assert answer.status_code == 200
    assert filled.take_in() == 1
    return filled


def test_a_study_of_two_patients_is_a_result_for_each_and_a_header_warns(mixed):
    def told(path):
        answer = mixed.http.get(path)
        words = ("0020000D", "00100020", "00201208", "00080061", "00201209")
        found = [tuple(tuple(one[tag]["Value"]) for tag in words if tag in one) for one in answer.json()]
        return sorted(found), "1 of the studies found hold instances of more than one" in answer.headers.get(
            "warning", ""
        )

    first, second = (("1.2.3.1",), ("P1",), (4,), ("CT",)), (("1.2.3.1",), ("Q",), (1,), ("SR",))
    assert told("/studies?StudyInstanceUID=1.2.3.1") == ([first, second], True)
    assert told("/studies?PatientID=Q") == ([second], True)
    assert told("/studies?PatientID=P1") == ([first], True)
    assert told("/studies?PatientID=P2")[1] is False
    series, warned = told("/studies/1.2.3.1/series")
    assert warned and [one[1] for one in series] == [("P1",), ("P1",), ("Q",)]
    assert told("/studies/1.2.3.1/series?PatientID=Q")[0] == [(("1.2.3.1",), ("Q",), (1,))]
    assert len(told("/series?ModalitiesInStudy=SR")[0]) == 3, "modalities are of the study, whoever it names"


def test_an_index_that_told_no_patients_apart_does_so_at_the_next_start(mixed):
    engine = mixed.ledger.engine
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table web_instances drop column patient")
    again = Catalog(engine, mixed.folder)
    assert again.mixed({"1.2.3.1", "1.2.3.2"}) == {"1.2.3.1"}
    assert [one["00100020"]["Value"] for one, _ in again.find("studies")] == [["P1"], ["Q"], ["P2"]]


def test_what_matches_nothing_is_204_and_what_is_no_search_400(filled):
    assert filled.http.get("/studies?PatientID=nobody").status_code == 204
    for bad in ("Patient=1", "limit=-1", "limit=x", "offset=", "fuzzymatching=maybe", "includefield=nonsense",
                "PatientID=a&PatientID=b", "StationName=ROOM7", "SOPInstanceUID=1.2", "PatientName=" + "*?" * 20,
                "PatientID=" + "x" * 2000):  # fmt: skip
        assert filled.http.get(f"/studies?{bad}").status_code == 400, bad
    assert filled.http.get("/studies/..x/series").status_code == 400
    assert filled.http.get("/studies/1.2.9/series").status_code == 404
    assert filled.http.get("/studies", headers={"Accept": "application/dicom+xml"}).status_code == 406
    fuzzy = filled.http.get("/studies?fuzzymatching=true&PatientName=Mueller*")
    assert fuzzy.status_code == 204
    assert "only literal matching" in fuzzy.headers["warning"].lower()


@both
def test_pages_say_that_there_is_more_and_too_much_is_413(filled, monkeypatch):
    page = filled.http.get("/instances?limit=3")
    assert len(page.json()) == 3
    assert "additional results" in page.headers["warning"]
    assert "warning" not in filled.http.get("/instances?limit=8").headers
    monkeypatch.setattr("isocenter.clinic.dicomweb.qido.MOST", 5)
    assert filled.http.get("/instances").status_code == 413
    assert len(filled.http.get("/instances?limit=8").json()) == 5


def test_included_fields_come_from_the_file(filled):
    path = "/studies/1.2.3.1/series/1.2.3.1.1/instances"
    assert "00081010" not in filled.http.get(path).json()[0]
    assert filled.http.get(f"{path}?includefield=StationName").json()[0]["00081010"]["Value"] == ["ROOM7"]
    whole = filled.http.get(f"{path}?includefield=all").json()[0]
    assert whole["00281052"]["Value"] == [-1000]
    assert "7FE00010" not in whole


def test_our_own_client_fetches_what_was_stored(filled, tmp_path):
    found = retrieve_dicomweb(
        DicomWebServer(filled.url), Query(everything=True), tmp_path / "got", patience=Patience(0)
    )
    assert (found.fetched, found.failures) == (8, ())
    for ds in (instance(s, q, n) for s in (1, 2) for q in (1, 2) for n in (1, 2)):
        got = pydicom.dcmread(
            tmp_path / "got" / ds.StudyInstanceUID / ds.SeriesInstanceUID / f"{ds.SOPInstanceUID}.dcm"
        )
        assert got.PixelData == ds.PixelData
        assert [got[e.tag].value == e.value for e in ds] == [True] * len(ds)


def test_transfer_syntax_is_negotiated(node):
    kept = instance(syntax=JPEGLSLossless)
    implicit = instance(number=2, syntax=ImplicitVRLittleEndian)
    node.http.post("/studies", content=multipart(encoded(kept), encoded(implicit)), headers=STOW)
    node.take_in()
    one = "/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1"
    other = one[:-1] + "2"

    def got(path, accept):
        answer = node.http.get(path, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return [pydicom.dcmread(BytesIO(body)) for body in bodies(answer)]

    related = 'multipart/related; type="application/dicom"'
    (stored,) = got(one, f"{related}; transfer-syntax=*")
    assert stored.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert stored.PixelData == kept.PixelData
    for path, source in ((one, kept), (other, implicit)):
        (plain,) = got(path, related)
        assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert np.array_equal(plain.pixel_array, source.pixel_array)
        assert plain.PatientName == source.PatientName
    assert len(got("/studies/1.2.3.1", related)) == 2
    assert [d.file_meta.TransferSyntaxUID for d in got(one, f"{related}; transfer-syntax={JPEGLSLossless}")] == [
        JPEGLSLossless
    ]
    for refused in (f"{related}; transfer-syntax=1.2.840.10008.1.2.4.90", "application/zip", "image/gif"):
        assert node.http.get(one, headers={"Accept": refused}).status_code == 406
    single = node.http.get(one, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert pydicom.dcmread(BytesIO(single.content)).PixelData == kept.PixelData
    assert node.http.get(one, headers={"Accept": "x"}).status_code == 400
    assert node.http.get("/studies/1.2.3.9").status_code == 404


def test_frames_as_stored_and_decoded(node):
    kept = instance(syntax=JPEGLSLossless, frames=3)
    plain = instance(number=2, frames=3)
    node.http.post("/studies", content=multipart(encoded(kept), encoded(plain)), headers=STOW)
    node.take_in()
    series = "/studies/1.2.3.1/series/1.2.3.1.1/instances"
    raw = "multipart/related; type=application/octet-stream"
    for number, source in ((1, kept), (2, plain)):
        answer = node.http.get(f"{series}/1.2.3.1.1.{number}/frames/3,1", headers={"Accept": raw})
        want = source.pixel_array
        assert [np.frombuffer(b, "<u2").tolist() for b in bodies(answer)] == [want[i].ravel().tolist() for i in (2, 0)]
    (jls,) = bodies(
        node.http.get(f"{series}/1.2.3.1.1.1/frames/2", headers={"Accept": "multipart/related; type=image/jls"})
    )
    assert jls[:2] == b"\xff\xd8"
    assert node.http.get(f"{series}/1.2.3.1.1.2/frames/2", headers={"Accept": "image/gif"}).status_code == 406
    for bad in ("0", "4", "x", "1,", "1;2"):
        assert node.http.get(f"{series}/1.2.3.1.1.2/frames/{bad}").status_code == 400


def test_metadata_point_at_the_pixels(filled):
    answer = filled.http.get("/studies/1.2.3.1/metadata")
    assert len(answer.json()) == 4
    one = answer.json()[0]
    assert one["00100010"]["Value"] == [{"Alphabetic": "Müller^Nr1"}]
    back = pydicom.Dataset.from_json(json.dumps({k: v for k, v in one.items() if "BulkDataURI" not in v}))
    assert back.WindowWidth == 256
    url = one["7FE00010"]["BulkDataURI"]
    (pixels,) = bodies(filled.http.get(url))
    assert pixels == instance(1, 1, 1).PixelData
    assert filled.http.get(url.replace("7FE00010", "00100010")).status_code == 404


def test_rendered_is_what_a_screen_shows(filled):
    path = "/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1/rendered"
    answer = filled.http.get(path, headers={"Accept": "image/png"})
    shown = np.array(Picture.open(BytesIO(answer.content)))
    hu = instance(1, 1, 1).pixel_array.astype(float) - 1000
    # PS3.3 C.11.2.1.2.1, literally
    want = np.clip(((hu - (0 - 0.5)) / (256 - 1) + 0.5), 0, 1) * 255
    assert np.abs(shown - want).max() <= 0.5001
    narrow = filled.http.get(path + "?window=-80,10,linear", headers={"Accept": "image/png"})
    assert np.array(Picture.open(BytesIO(narrow.content))).max() == 255
    assert filled.http.get(path).headers["content-type"] == "image/jpeg"
    small = filled.http.get(path + "?viewport=3,4&quality=50")
    assert max(Picture.open(BytesIO(small.content)).size) <= 4
    for bad in ("window=1", "quality=0", "viewport=0,1", "window=1,0,linear", "quality=101"):
        assert filled.http.get(f"{path}?{bad}").status_code == 400, bad
    assert filled.http.get(path, headers={"Accept": "image/gif"}).status_code == 406
    every = filled.http.get(
        "/studies/1.2.3.1/series/1.2.3.1.1/rendered", headers={"Accept": "multipart/related; type=image/png"}
    )
    assert len(bodies(every)) == 2


def test_part_of_a_request_that_fails_is_told(node):
    good, other = instance(1), instance(2)
    wrong = encoded(instance(1, 1, 2)).replace(b"1.2.3.1.1.2", b"1.2.3.9.9.9", 1)
    answer = node.http.post(
        "/studies/1.2.3.1", content=multipart(encoded(good), encoded(other), wrong, b"no DICOM"), headers=STOW
    )
    assert answer.status_code == 202
    told = answer.json()
    (stored,) = told["00081199"]["Value"]
    assert stored["00081155"]["Value"] == [good.SOPInstanceUID]
    assert stored["00081190"]["Value"][0].endswith(f"/instances/{good.SOPInstanceUID}")
    failed = told["00081198"]["Value"]
    assert [f["00081197"]["Value"][0] for f in failed] == [0xA900, 0xA900, 0xC000]
    assert "00081155" not in failed[2]
    again = node.http.post("/studies", content=multipart(encoded(good)), headers=STOW)
    assert again.status_code == 200
    changed = instance(1)
    changed.PatientID = "other"
    conflict = node.http.post("/studies", content=multipart(encoded(changed)), headers=STOW)
    assert conflict.status_code == 409
    assert conflict.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC111]
    node.take_in()
    assert len(node.ledger.conflicts()) == 1
    assert not list((node.folder / "spool").iterdir())


def test_half_a_study_is_not_complete_while_its_sender_waits_to_send_the_rest(tmp_path):
    node = Node(tmp_path / "node")
    try:
        sent = [encoded(instance(number=n)) for n in range(4)]
        assert node.http.post("/studies", content=multipart(*sent[:2]), headers=STOW).status_code == 200
        assert not (node.folder / HINDERED).exists()
        (node.folder / QUEUE_FULL).touch()
        node.holding._looked = -99.0
        refused = node.http.post("/studies", content=multipart(*sent[2:]), headers=STOW)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    finally:
        node.close()
    since, now = receiving_since(node.folder, 0.0), time.time()
    assert now - since < 30
    later = Ledger(node.ledger.engine, lambda: since + 59.0)
    later.take_in(node.folder / "journal")
    assert later.complete(Completeness(quiet_s=60.0), since=since) == []
    later = Ledger(node.ledger.engine, lambda: since + 60.0)
    assert [(s.study, s.instances) for s in later.complete(Completeness(quiet_s=60.0), since=since)] == [("1.2.3.1", 2)]
    node.ledger.engine.dispose()


def test_the_silence_of_whoever_was_refused_for_want_of_room_says_nothing(tmp_path):
    holding = Holding(tmp_path, ("1.2.3.4", "TEST"))

    def stored(*numbers):
        storing = Storing(holding, STOW["Content-Type"])
        storing.feed(multipart(*(encoded(instance(number=n)) for n in numbers)))
        storing.end()
        return storing.code

    assert stored(1, 2) == 200
    assert stored(1) == 200
    assert receiving_since(tmp_path, 0.0) == 0.0
    began = time.time() - 0.1  # files' times are coarser
    (tmp_path / QUEUE_FULL).touch()
    holding._looked = -99.0
    assert stored(3, 4) == 503
    assert receiving_since(tmp_path, 0.0) >= began


def test_no_room_is_503_and_what_is_not_multipart_is_415(tmp_path):
    node = Node(tmp_path / "node", Limits(quota_bytes=100, reserve_bytes=0))
    try:
        answer = node.http.post("/studies", content=multipart(encoded(instance())), headers=STOW)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
        for kind in ("application/dicom", "multipart/related; type=application/dicom", "text/html", "",
                     'multipart/related; type="application/dicom+json"; boundary=x'):  # fmt: skip
            got = node.http.post("/studies", content=b"x", headers={"Content-Type": kind})
            assert got.status_code == 415, kind
        for body in (b"", b"junk", multipart(encoded(instance()))[:-20], b"--=_x y\r\n" + b"A" * 20_000):
            assert node.http.post("/studies", content=body, headers=STOW).status_code == 400
        empty = node.http.post("/studies", content=b"--=_x y--", headers=STOW)
        assert empty.status_code == 400
        assert not list((node.folder / "spool").iterdir())
    finally:
        node.close()


@both
def test_what_the_node_made_is_shown_too(filled):
    made = filled.folder / "results" / "x.dcm"
    made.parent.mkdir()
    ds = instance(1, 7, 1, modality="SEG")
    made.write_bytes(encoded(ds))
    filled.catalog.add(made)
    filled.catalog.add(made)
    assert filled.http.get("/studies?PatientID=P1").json()[0]["00080061"]["Value"] == ["CT", "SEG"]
    assert uids(filled.http.get("/series?Modality=SEG"), "0020000E") == ["1.2.3.1.7"]
    made.unlink()
    answer = filled.http.get("/studies/1.2.3.1", headers={"Accept": 'multipart/related; type="application/dicom"'})
    assert (answer.status_code, len(bodies(answer))) == (206, 4)


def test_a_held_file_that_is_damaged_is_told_not_a_crash(filled):
    file = next(iter(filled.catalog.instances("1.2.3.1"))).file
    file.chmod(0o600)
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    path = "/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1"
    assert filled.http.get(f"{path}/rendered").status_code in (404, 406)
    assert filled.http.get(f"{path}/frames/1").status_code in (404, 406)
    file.write_bytes(b"x" * 300)
    for end in ("/rendered", "/frames/1", "/metadata", "/bulkdata/7FE00010"):
        assert filled.http.get(path + end).status_code in (404, 406), end


def test_dicomweb_client_speaks_with_it(filled):
    module = pytest.importorskip("dicomweb_client")
    client = module.DICOMwebClient(filled.url)
    assert [s["0020000D"]["Value"][0] for s in client.search_for_studies(search_filters={"PatientID": "P1"})] == [
        "1.2.3.1"
    ]
    assert len(client.retrieve_study("1.2.3.2")) == 4
    assert len(client.retrieve_series_metadata("1.2.3.1", "1.2.3.1.1")) == 2
    frame = client.retrieve_instance_frames("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.1", [1])
    assert frame == [instance(1, 1, 1).PixelData]
    answer = client.store_instances([pydicom.dcmread(BytesIO(encoded(instance(3, 1, 1))))])
    assert "FailedSOPSequence" not in answer
    assert len(answer.ReferencedSOPSequence) == 1


@both
def test_a_damaged_element_keeps_no_other_instance_from_being_found(filled):
    broken = instance(study=3)
    del broken.PixelData
    del broken.Columns, broken.Rows
    damaged = encoded(broken).replace(b"\x28\x00\x00\x01US", b"\x28\x00\x10\x00US\x03\x00abc\x28\x00\x00\x01US", 1)
    assert filled.http.post("/studies", content=multipart(damaged, encoded(instance(study=4))), headers=STOW).is_success
    assert filled.take_in() == 2
    found = filled.http.get("/instances", params={"includefield": "all", "PatientID": "P3"})
    assert found.status_code == 200
    assert uids(found) == ["1.2.3.3"]
    assert uids(filled.http.get("/studies", params={"PatientID": "P4"})) == ["1.2.3.4"]
    (told,) = filled.http.get("/studies/1.2.3.3/metadata").json()
    assert told["00100020"]["Value"] == ["P3"]
    assert "00280010" not in told
