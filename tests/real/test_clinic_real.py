"""STS_002 (soft-tissue sarcoma, CC BY 3.0), real CT from scanner to Orthanc to node and back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread

from clinic_cases import round_trip, takes_minutes
from postgres_peer import Databases
from toy_plugin import install_toy

pytestmark = [pytest.mark.real, takes_minutes, pytest.mark.enable_socket]


@pytest.fixture
def ct(shared_data: Path, tmp_path: Path) -> Path:
    study = tmp_path / "study"
    study.mkdir()
    for number, file in enumerate(sorted((shared_data / "ct_mr_pet_sts/dicom/STS_002/CT/image").iterdir())):
        shutil.copyfile(file, study / f"{number}.dcm")
    return study


@pytest.mark.parametrize(
    ("databases", "tls"),
    [
        pytest.param("sqlite", False, id="plain"),
        pytest.param("sqlite", True, id="tls"),
        pytest.param("postgresql", False, id="postgresql"),
    ],
    indirect=["databases"],
)
def test_a_real_ct_comes_back_answered(databases: Databases, tls: bool, ct: Path, tmp_path: Path) -> None:
    toy = install_toy(tmp_path / "toy", {"toy-bright": "BRIGHT"})
    found = round_trip(tmp_path, ct, toy, tls=tls, **databases.settings(tmp_path / "store"))
    first = dcmread(next(ct.iterdir()), stop_before_pixels=True)
    for word in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert {str(one.get(word)) for one in found} == {str(first.get(word))}, word
    assert {str(one.PatientID) for one in found} == {"STS_002"}
    assert bool(list((tmp_path / "store").glob("*.db"))) == (databases.cluster is None)
