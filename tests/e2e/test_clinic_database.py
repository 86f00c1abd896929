"""A node whose PostgreSQL goes away: it says so, receives all the same, and answers when the database is back."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pydicom
import pytest

from clinic_cases import node, settings, takes_minutes, wait_for
from e2e.test_clinic_observed import send
from isocenter.verbs.clinic import clinic_status
from orthanc_peer import free_port
from postgres_peer import Databases, server

pytestmark = [pytest.mark.enable_socket, takes_minutes]


def test_a_database_that_is_away_keeps_nothing_from_being_received(
    study: Path, toy_folder: Path, tmp_path: Path
) -> None:
    port, web = free_port(), free_port()
    token = tmp_path / "token"
    token.write_text("a-token-of-many-letters")
    token.chmod(0o600)
    first = [pydicom.dcmread(file) for file in sorted(study.rglob("*.dcm"))]
    second = [pydicom.dcmread(file) for file in sorted(study.rglob("*.dcm"))]
    for one in second:
        for word in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(one, word, f"{getattr(one, word)[:60]}.9")
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID

    def ready() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web}/ready", timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    with server(
        flushed=True
    ) as own:  # not the one that other tests use, which forgets in a crash what it committed last
        databases = Databases(own)
        config = settings(
            tmp_path, port, free_port(), web={"port": web, "token": {"file": str(token)}},
            **databases.settings(tmp_path / "store"),
        )  # fmt: skip
        with node(config, toy_folder):
            assert wait_for(lambda: ready() == 200, 150)
            assert send(port, first) == [0] * len(first)
            assert wait_for(lambda: clinic_status(config).studies == {"answered": 1}, 150), str(clinic_status(config))
            own.stop(signal.SIGQUIT)
            assert wait_for(lambda: ready() == 503, 60)
            assert send(port, second) == [0] * len(second), "received without the database"
            own.start()
            assert wait_for(lambda: clinic_status(config).studies == {"answered": 2}, 150), str(clinic_status(config))
            assert wait_for(lambda: ready() == 200, 60)
