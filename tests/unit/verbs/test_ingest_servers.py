"""Servers as sources: the same archive as from a folder of the same files, whatever stops on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from image_servers import INSTANCES, dimse_archive, encoded, orthanc, web_server
from isocenter.cli import app
from isocenter.clinic.retrieve import Query, retrieve_get
from isocenter.clinic.retrieve.staging import drop_taken
from isocenter.core.errors import ConfigError, OutputError
from isocenter.data.archive import engine
from isocenter.data.archive.layout import open_archive
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.verbs import ingest_servers
from isocenter.verbs.ingest import ingest

pytestmark = pytest.mark.enable_socket
KEY = "a key for tests alone"
NAMES = Pseudonyms(KEY.encode())


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
    monkeypatch.delenv("ISOCENTER_DICOMWEB_TOKEN", raising=False)
    monkeypatch.delenv("ISOCENTER_SERVER_CREDENTIALS", raising=False)


@pytest.fixture
def web() -> Iterator[Any]:
    with web_server() as made:
        yield made


@pytest.fixture(scope="module")
def from_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the catalog that a folder of the same files gives."""
    root = tmp_path_factory.mktemp("folder")
    (root / "flat").mkdir()
    for number, dataset in enumerate(INSTANCES):
        (root / "flat" / f"{number}.dcm").write_bytes(encoded(dataset))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
        return ingest([str(root / "flat")], root / "a", workers=1).catalog_hash


def address(web: Any, query: str = "everything=yes&retries=0&timeout_s=5") -> str:
    return f"dicomweb+{web.url}?{query}"


def staged(archive: Path) -> list[Path]:
    return sorted((archive / "private" / "servers").rglob("*.dcm"))


def test_a_server_gives_the_archive_of_a_folder(web: Any, from_folder: str, tmp_path: Path) -> None:
    made = ingest([address(web)], tmp_path / "a", workers=1)
    assert made.clean
    assert made.catalog_hash == from_folder
    (server,) = made.servers
    assert (server.studies, server.fetched, server.present, server.missing, server.removed) == (2, 12, 0, 0, 12)
    assert "everything" not in server.server
    assert staged(tmp_path / "a") == [], "what has a copy of its own does not stay here identified"
    web.asked.clear()
    again = ingest([address(web)], tmp_path / "a", workers=1)
    assert all(path.endswith(("studies", "instances")) for path in web.asked), "only lists were asked for"
    assert (again.taken, again.servers[0].fetched, again.servers[0].present) == (0, 0, 12)
    assert again.catalog_hash == from_folder
    private = tmp_path / "a" / "private" / "servers"
    assert oct(private.stat().st_mode & 0o777) == "0o700"


def test_what_is_new_is_fetched_and_nothing_else(web: Any, from_folder: str, tmp_path: Path) -> None:
    web.instances = INSTANCES[:7]
    ingest([address(web)], tmp_path / "a", workers=1)
    web.instances = INSTANCES
    made = ingest([address(web)], tmp_path / "a", workers=1)
    assert (made.servers[0].fetched, made.servers[0].present, made.taken) == (5, 7, 5)
    assert made.catalog_hash == from_folder


def test_a_question_takes_what_it_finds(web: Any, tmp_path: Path) -> None:
    made = ingest([address(web, "AccessionNumber=A2")], tmp_path / "a", workers=1)
    assert made.tables["instances"].rows == 6
    assert open_catalog(tmp_path / "a").find().column("patient_key").to_pylist() == [NAMES.patient("", "P2")] * 2
    none = ingest([address(web, "AccessionNumber=A9")], tmp_path / "a", workers=1)
    assert any("no study" in note for note in none.notes)


def test_headers_alone_keep_what_they_speak_of(web: Any, tmp_path: Path) -> None:
    made = ingest([address(web)], tmp_path / "a", workers=1, pixels=False)
    assert (made.clean, made.servers[0].removed, len(staged(tmp_path / "a"))) == (True, 0, 12)
    again = ingest([address(web)], tmp_path / "a", workers=1, pixels=False)
    assert (again.known, again.taken, again.servers[0].present) == (12, 0, 12)
    assert again.catalog_hash == made.catalog_hash


def test_a_name_says_whose_identifiers_a_server_has(web: Any, tmp_path: Path) -> None:
    ingest([f"north={address(web)}"], tmp_path / "a", workers=1)
    keys = set(open_catalog(tmp_path / "a").sql("SELECT patient_key FROM patients").column(0).to_pylist())
    assert keys == {NAMES.patient("north", "P1"), NAMES.patient("north", "P2")}
    # Another name, later: as with a folder, the last one holds, and nobody is there twice.
    made = ingest([f"south={address(web)}"], tmp_path / "a", workers=1)
    keys = set(open_catalog(tmp_path / "a").sql("SELECT patient_key FROM patients").column(0).to_pylist())
    assert keys == {NAMES.patient("south", "P1"), NAMES.patient("south", "P2")}
    assert (made.clean, made.tables["instances"].rows, staged(tmp_path / "a")) == (True, 12, [])


def test_a_server_that_stops_midway_is_told_and_taken_up(
    web: Any, from_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "answer", stopping(web, after=6))
    first = ingest([address(web)], tmp_path / "a", workers=1)
    assert not first.clean
    assert 0 < first.tables["instances"].rows < 12
    assert first.tables["instances"].rows + first.lost >= 6
    listed = json.loads(Path(first.servers[0].missing_list).read_text())
    assert len(listed) == first.servers[0].missing == first.lost
    assert "1.2.3.2" in {row["study_uid"] for row in listed}
    monkeypatch.setattr(web, "answer", type(web).answer.__get__(web))
    second = ingest([address(web)], tmp_path / "a", workers=1)
    assert (second.clean, second.lost, second.catalog_hash) == (True, 0, from_folder)
    assert not Path(first.servers[0].missing_list).exists()


def stopping(web: Any, after: int) -> Any:
    """Answer so many requests, the last of them by half; then nothing at all."""
    real = web.answer
    left = [after]

    def answer(request: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            if left[0] == 0:
                web.cut = 1
            real(request)
        else:
            request.connection.shutdown(socket.SHUT_RDWR)

    return answer


def test_a_server_that_is_not_there_does_not_keep_others_out(web: Any, from_folder: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gone = f"dicomweb+http://127.0.0.1:{port}?PatientID=SECRET77&retries=0"
    done = CliRunner().invoke(app, ["ingest", gone, address(web), "--to", str(tmp_path / "a"), "--workers", "1"])
    assert done.exit_code == 3
    assert "does not answer" in done.stdout
    assert "SECRET77" not in done.stdout + done.stderr
    assert open_catalog(tmp_path / "a").hash == from_folder
    assert "12 instances fetched" in done.stdout


@pytest.mark.parametrize("where", ["taking in", "before removal", "within removal"])
def test_a_run_that_ends_early_is_taken_up(
    web: Any, from_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        if where == "taking in":
            process, calls = engine.process, []
            patch.setattr(engine, "_BATCH", 5)

            def failing(batch: Any, setup: Any) -> Any:
                calls.append(batch)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                return process(batch, setup)

            patch.setattr(engine, "process", failing)
        else:

            def stopped(folder: Path, study: str, instances: Any) -> None:
                if where == "within removal":
                    with patch.context() as inner:
                        inner.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
                        drop_taken(folder, study, instances)
                raise KeyboardInterrupt

            patch.setattr(ingest_servers, "drop_taken", stopped)
        with pytest.raises(KeyboardInterrupt):
            ingest([address(web)], tmp_path / "a", workers=1)
    assert len(staged(tmp_path / "a")) == 12
    made = ingest([address(web)], tmp_path / "a", workers=1)
    assert (made.servers[0].fetched, made.servers[0].present, made.clean) == (0, 12, True)
    assert made.catalog_hash == from_folder
    assert staged(tmp_path / "a") == []


def test_killed_while_it_fetches_and_run_again(web: Any, from_folder: str, tmp_path: Path) -> None:
    real, running, requests = web.answer, [], []

    def killing(request: Any) -> None:
        requests.append(request.path)
        real(request)
        if len(requests) == 3 and running:
            os.kill(running.pop(), signal.SIGKILL)

    web.answer = killing
    command = [sys.executable, "-m", "isocenter.cli", "ingest", address(web), "--to", str(tmp_path / "a")]
    with subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        running.append(process.pid)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "a" / "catalog" / "current.json").exists()
    web.answer = real
    made = ingest([address(web)], tmp_path / "a", workers=1)
    assert (made.clean, made.catalog_hash) == (True, from_folder)
    assert not list((tmp_path / "a" / "private").rglob(".partial-*"))


def test_two_runs_do_not_fetch_into_one_folder(web: Any, tmp_path: Path) -> None:
    ingest([address(web)], tmp_path / "a", workers=1)
    web.asked.clear()
    with open_archive(tmp_path / "a").locked("servers.lock"), pytest.raises(OutputError, match="another run"):
        ingest([address(web)], tmp_path / "a", workers=1)
    assert web.asked == []
    with pytest.raises(ConfigError, match="name it once"):
        ingest([address(web), f"x={address(web)}"], tmp_path / "a", workers=1)


@pytest.mark.parametrize("way", ["get", "move"])
def test_dimse_gives_the_archive_of_a_folder(tmp_path: Path, way: str) -> None:
    with dimse_archive() as made:
        retrieve_get(made.node, Query(everything=True), tmp_path / "folder")
        expected = ingest([str(tmp_path / "folder")], tmp_path / "of_folder", workers=1)
        assert expected.tables["reports"].rows == 0, "the list of what was received is no report"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            made.destination = free.getsockname()
        listen = f"&listen=127.0.0.1:{made.destination[1]}" if way == "move" else ""
        where = f"dicom://ISOCENTER:ARCHIVE@127.0.0.1:{made.node.port}?method={way}{listen}&everything=yes"
        first = ingest([where], tmp_path / "a", workers=1)
        assert (first.clean, first.servers[0].fetched, first.catalog_hash) == (True, 12, expected.catalog_hash)
        made.sent.clear()
        again = ingest([where], tmp_path / "a", workers=1)
        assert (made.sent, again.taken, again.servers[0].present) == ([], 0, 12)


def test_orthanc_by_all_three_ways(tmp_path: Path, from_folder: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        mover = free.getsockname()[1]
    with orthanc(tmp_path, mover) as (url, node):
        addresses = {
            "web": f"dicomweb+{url}?everything=yes",
            "get": f"dicom://ORTHANC@127.0.0.1:{node.port}?method=get&everything=yes",
            "move": f"dicom://ORTHANC@127.0.0.1:{node.port}?method=move&listen=127.0.0.1:{mover}&everything=yes",
        }
        for way, where in addresses.items():
            made = ingest([where], tmp_path / way, workers=1)
            assert (way, made.clean, made.servers[0].fetched) == (way, True, 12)
            # Orthanc writes heads of files of its own; what the catalog says of images must not depend on the way.
            rows = open_catalog(tmp_path / way).sql(
                "SELECT sop_uid, series_uid, study_uid, patient_key, pixel_sha256 FROM instances ORDER BY ALL"
            )
            assert rows.num_rows == 12
            if way == "web":
                expected = rows
                assert made.catalog_hash == from_folder, "it sends files as they were given to it"
            assert rows.equals(expected)
        again = ingest([addresses["web"]], tmp_path / "web", workers=1)
        assert (again.taken, again.servers[0].fetched, again.servers[0].present) == (0, 0, 12)
        shutil.rmtree(tmp_path / "db", ignore_errors=True)
