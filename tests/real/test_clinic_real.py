"""STS_002 (soft-tissue sarcoma, CC BY 3.0), real CT from scanner to Orthanc to node and back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clinic_cases import round_trip, takes_minutes
from toy_plugin import install_toy

pytestmark = [pytest.mark.real, takes_minutes, pytest.mark.enable_socket]


def test_a_real_ct_comes_back_answered(shared_data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for number, file in enumerate(sorted((shared_data / "ct_mr_pet_sts/dicom/STS_002/CT/image").iterdir())):
        shutil.copyfile(file, study / f"{number}.dcm")
    toy = install_toy(tmp_path / "toy", {"toy-bright": "BRIGHT"})
    found = round_trip(tmp_path, study, toy, tls=False)
    assert {str(d.PatientID) for d in found} == {"STS_002"}
