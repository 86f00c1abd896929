"""Scanner to Orthanc to node and back: found by QIDO and C-FIND, opened by highdicom, passed by dciodvfy."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic_cases import round_trip

pytestmark = pytest.mark.enable_socket


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_study_comes_back_answered(tls: bool, study: Path, toy_folder: Path, tmp_path: Path) -> None:
    found = round_trip(tmp_path, study, toy_folder, tls=tls)
    sent = {str(d) for d in (found[0].PatientID, found[0].PatientName)}
    assert sent == {"ZEBRA-ID-7", "Zebraname^Given"}, "a result belongs to the patient it came from"
    log = (tmp_path / "node.log").read_text()
    assert "ZEBRA" not in log.upper(), "no patient's value in the log"
