"""Scanner to Orthanc to node and back: found by QIDO and C-FIND, opened by highdicom, passed by dciodvfy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from clinic_cases import round_trip, takes_minutes
from postgres_peer import Cluster, Databases

pytestmark = [pytest.mark.enable_socket, takes_minutes]


def check(found: list[Dataset], folder: Path) -> None:
    sent = {str(d) for d in (found[0].PatientID, found[0].PatientName)}
    assert sent == {"ZEBRA-ID-7", "Zebraname^Given"}, "a result belongs to the patient it came from"
    log = (folder / "node.log").read_text()
    assert "ZEBRA" not in log.upper(), "no patient's value in the log"


def test_a_study_comes_back_answered_over_tls(study: Path, toy_folder: Path, tmp_path: Path) -> None:
    check(round_trip(tmp_path, study, toy_folder, tls=True), tmp_path)


def test_a_study_comes_back_answered(study: Path, toy_folder: Path, tmp_path: Path) -> None:
    check(round_trip(tmp_path, study, toy_folder, tls=False), tmp_path)


def test_a_study_comes_back_answered_with_postgresql(
    study: Path, toy_folder: Path, tmp_path: Path, postgresql: Cluster
) -> None:
    databases = Databases(postgresql)
    check(round_trip(tmp_path, study, toy_folder, tls=False, **databases.settings(tmp_path / "store")), tmp_path)
    assert not list((tmp_path / "store").glob("*.db"))
    databases.close()
