"""Fetching studies: in-process servers of both kinds, and Debian's Orthanc where it is installed."""

from __future__ import annotations

import socket

import pytest
from pydicom import dcmread

from image_servers import INSTANCES, dimse_archive, encoded, instance, orthanc, web_server
from isocenter.clinic.retrieve import (
    DicomWebServer,
    DimseNode,
    Patience,
    Query,
    retrieve_dicomweb,
    retrieve_get,
    retrieve_move,
)
from isocenter.clinic.retrieve.multipart import parts_of
from isocenter.core.errors import ConfigError, OutputError, TransportError

pytestmark = pytest.mark.enable_socket
QUICK = Patience(retries=2, backoff_s=0.0, timeout_s=5.0)
ALL = Query(everything=True)


@pytest.fixture
def web():
    with web_server() as made:
        yield made


@pytest.fixture
def archive():
    with dimse_archive() as made:
        yield made


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.dcm"))}


def check(folder, instances=INSTANCES):
    got = files(folder)
    assert set(got) == {f"{d.StudyInstanceUID}/{d.SeriesInstanceUID}/{d.SOPInstanceUID}.dcm" for d in instances}
    for d in instances:
        read = dcmread(folder / d.StudyInstanceUID / d.SeriesInstanceUID / f"{d.SOPInstanceUID}.dcm")
        assert read.PixelData == d.PixelData
    assert not list(folder.rglob(".partial-*"))


def test_dicomweb_fetches_all_and_nothing_twice(web, tmp_path):
    server = DicomWebServer(web.url)
    first = retrieve_dicomweb(server, ALL, tmp_path, patience=QUICK)
    assert (first.studies, first.fetched, first.present, first.failures) == (("1.2.3.1", "1.2.3.2"), 12, 0, ())
    assert first.bytes == sum(len(data) for data in files(tmp_path).values())
    check(tmp_path)
    web.asked.clear()
    again = retrieve_dicomweb(server, ALL, tmp_path, patience=QUICK)
    assert (again.fetched, again.present, again.bytes) == (0, 12, 0)
    assert all(path.endswith(("studies", "instances")) for path in web.asked), "only lists were asked for"


def test_dicomweb_takes_up_where_it_was_cut(web, tmp_path):
    server = DicomWebServer(web.url)
    retrieve_dicomweb(server, ALL, tmp_path, patience=QUICK)
    victims = sorted(tmp_path.rglob("*.dcm"))[:2]
    victims[0].unlink()
    victims[1].write_bytes(victims[1].read_bytes()[:-10])
    web.asked.clear()
    again = retrieve_dicomweb(server, ALL, tmp_path, patience=QUICK)
    assert (again.fetched, again.present) == (2, 10)
    assert len([path for path in web.asked if "/series/" in path]) == 2
    check(tmp_path)


def test_dicomweb_survives_cuts_and_busy_servers(web, tmp_path):
    web.cut = 1
    web.fail = {"/studies": [503, 429], "/studies/1.2.3.1/series/1.2.3.1.2/instances/1.2.3.1.2.3": [502]}
    waits = []
    found = retrieve_dicomweb(
        DicomWebServer(web.url),
        ALL,
        tmp_path,
        patience=Patience(retries=3, backoff_s=0.5, timeout_s=5),
        sleep=waits.append,
    )
    assert found.complete
    assert waits[:2] == [0.5, 1.0]
    check(tmp_path)


def test_dicomweb_lists_what_it_could_not_get(web, tmp_path):
    web.lost = {"1.2.3.1.1.2"}
    web.fail = {"/studies/1.2.3.2/instances": [500] * 9}
    found = retrieve_dicomweb(DicomWebServer(web.url), ALL, tmp_path, patience=QUICK)
    assert not found.complete
    assert [(f.study_uid, f.sop_uid) for f in found.failures] == [("1.2.3.1", "1.2.3.1.1.2"), ("1.2.3.2", "")]
    assert "404" in found.failures[0].reason
    check(tmp_path, [d for d in INSTANCES[:6] if d.SOPInstanceUID not in web.lost])


def test_dicomweb_query_token_and_limits(web, tmp_path):
    web.token = "secret"
    with pytest.raises(TransportError, match="does not let us in"):
        retrieve_dicomweb(DicomWebServer(web.url), ALL, tmp_path, patience=QUICK)
    server = DicomWebServer(web.url, token="secret")
    assert "secret" not in repr(server)
    one = retrieve_dicomweb(server, Query({"AccessionNumber": "A2"}), tmp_path / "a", patience=QUICK)
    assert one.studies == ("1.2.3.2",)
    few = retrieve_dicomweb(server, ALL, tmp_path / "b", patience=Patience(max_studies=1, backoff_s=0))
    assert (few.fetched, [f.reason for f in few.failures]) == (6, ["beyond max_studies"])
    little = retrieve_dicomweb(server, ALL, tmp_path / "c", patience=Patience(max_bytes=1, backoff_s=0))
    assert [f.reason for f in little.failures] == ["beyond max_bytes"]


def test_dicomweb_keeps_nothing_that_was_not_asked_for(web, tmp_path):
    web.instances = [instance(1, 1, 1)]
    wrong = instance(9, 9, 9)
    web.answer = lambda request, real=web.answer: (
        real(request)
        if request.path.split("?")[0].endswith(("studies", "instances"))
        else _send(request, encoded(wrong))
    )
    found = retrieve_dicomweb(DicomWebServer(web.url), ALL, tmp_path, patience=QUICK)
    assert "not asked for" in found.failures[0].reason
    assert not files(tmp_path)


def _send(request, body):
    request.send_response(200)
    request.send_header("Content-Type", "application/dicom")
    request.end_headers()
    request.wfile.write(body)


def test_no_server_and_a_folder_that_can_not_be(tmp_path, web):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match="does not answer"):
        retrieve_dicomweb(DicomWebServer(f"http://127.0.0.1:{port}"), ALL, tmp_path, patience=QUICK)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        retrieve_dicomweb(DicomWebServer(web.url), ALL, tmp_path / "file", patience=QUICK)


def test_settings_are_checked():
    for wrong in (lambda: Query(), lambda: Query({"Nonsense": "x"}), lambda: Patience(retries=-1),
                  lambda: DicomWebServer("ftp://x"), lambda: DicomWebServer("http://pacs.example.org", token="t"),
                  lambda: DimseNode("h", 0, "A"), lambda: DimseNode("h", 104, "A" * 17)):  # fmt: skip
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_parts_do_not_depend_on_how_they_arrive(size):
    bodies = [b"one\r\n--b", b"", b"three\r\n\r\n"]
    raw = b"preamble\r\n" + b"".join(b"--bound\r\nA: b\r\n\r\n" + body + b"\r\n" for body in bodies) + b"--bound--\r\n"
    chunks = [raw[i : i + size] for i in range(0, len(raw), size)]
    assert [b"".join(part) for part in parts_of(chunks, b"bound")] == bodies
    with pytest.raises(TransportError, match="cut off"):
        [b"".join(part) for part in parts_of([raw[:-30]], b"bound")]


def fetch(archive, way, query, to, patience=QUICK):
    if way == "get":
        return retrieve_get(archive.node, query, to, patience=patience)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        archive.destination = free.getsockname()
    return retrieve_move(archive.node, query, to, listen=archive.destination, patience=patience)


@pytest.mark.parametrize("way", ["get", "move"])
def test_dimse_fetches_all_and_nothing_twice(archive, way, tmp_path):
    first = fetch(archive, way, ALL, tmp_path)
    assert (set(first.studies), first.fetched, first.failures) == ({"1.2.3.1", "1.2.3.2"}, 12, ())
    check(tmp_path)
    victim = sorted(tmp_path.rglob("*.dcm"))[0]
    victim.unlink()
    archive.sent.clear()
    again = fetch(archive, way, ALL, tmp_path)
    assert (again.fetched, again.present, archive.sent) == (1, 11, [victim.stem])
    check(tmp_path)


@pytest.mark.parametrize("way", ["get", "move"])
def test_dimse_asks_again_and_lists_what_never_came(archive, way, tmp_path):
    archive.lost = {"1.2.3.1.1.2": 1, "1.2.3.1.2.1": 99}
    found = fetch(archive, way, Query({"AccessionNumber": "A1"}), tmp_path)
    assert (found.studies, found.fetched) == (("1.2.3.1",), 5)
    assert [(f.study_uid, f.sop_uid) for f in found.failures] == [("1.2.3.1", "1.2.3.1.2.1")]
    assert found.failures[0].reason


# pynetdicom drops the socket of a connection that failed without closing it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_dimse_without_an_answer(tmp_path):
    pytest.importorskip("pynetdicom")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match="does not answer"):
        retrieve_get(DimseNode("127.0.0.1", port, "X"), ALL, tmp_path, patience=QUICK)


def test_orthanc_by_all_three_ways(tmp_path):
    """The same files by DICOMweb, C-GET and C-MOVE, from an archive of other makers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        mover = free.getsockname()
    with orthanc(tmp_path, mover[1]) as (url, node):
        found = {
            "web": retrieve_dicomweb(DicomWebServer(url), ALL, tmp_path / "web", patience=QUICK),
            "get": retrieve_get(node, ALL, tmp_path / "get", patience=QUICK),
            "move": retrieve_move(node, ALL, tmp_path / "move", listen=mover, patience=QUICK),
        }
        for way, one in found.items():
            assert (way, one.fetched, one.failures) == (way, 12, ())
            check(tmp_path / way)
        again = retrieve_dicomweb(DicomWebServer(url), Query({"PatientID": "P1"}), tmp_path / "web", patience=QUICK)
        assert (again.fetched, again.present) == (0, 6)
