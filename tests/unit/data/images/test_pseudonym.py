"""The key behind pseudonyms: kept for the user alone, drawn once, and never what anybody could read in a result."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from isocenter.data.images import pseudonym as room
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.pseudonym import key_file, pseudonym, pseudonym_key
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import PHANTOM_PATIENT_ID, write_ct_series


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    room._of_this_process.cache_clear()
    return tmp_path


def test_the_key_is_drawn_once_and_for_the_user_alone(home: Path) -> None:
    key, lasting = pseudonym_key()
    assert (lasting, len(key)) == (True, 32)
    assert pseudonym_key() == (key, True)
    file = key_file()
    assert file == home / "config" / "isocenter" / "pseudonym.key"
    assert [p.name for p in file.parent.iterdir()] == ["pseudonym.key"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert repr(key) == str(key) == f"{key}" == "Key(...)"
    file.unlink()
    assert pseudonym_key()[0] != key


def test_the_environment_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "shared by two machines")
    assert pseudonym_key() == (b"shared by two machines", True)
    assert not key_file().exists()


def test_where_no_key_can_be_kept_this_process_has_one(home: Path) -> None:
    (home / "config").write_bytes(b"")  # a file where the folder should be
    key, lasting = pseudonym_key()
    assert not lasting and pseudonym_key() == (key, False)
    write_ct_series(home / "in", phantom())
    study, _, _ = read_dicom(sorted((home / "in").iterdir()), root=home / "in")
    assert any("holds for this run alone; set ISOCENTER_PSEUDONYM_KEY" in note for note in study.notes)


def test_a_key_that_is_cut_off_is_not_used(home: Path) -> None:
    key_file().parent.mkdir(parents=True)
    key_file().write_bytes(b"short")
    assert pseudonym_key()[1] is False


def test_processes_that_draw_at_once_end_with_one_key(home: Path) -> None:
    code = "from isocenter.data.images.pseudonym import pseudonym_key; print(bytes(pseudonym_key()[0]).hex())"
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home / "config")}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = {process.communicate(timeout=120)[0] for process in started}
    assert len(said) == 1 and len(next(iter(said)).strip()) == 2 * len(key_file().read_bytes())
    assert all(process.returncode == 0 for process in started)


def test_the_pseudonym_cannot_be_looked_up_with_what_a_result_holds(home: Path) -> None:
    write_ct_series(home / "in", phantom())
    study, _, _ = read_dicom(sorted((home / "in").iterdir()), root=home / "in")
    image = study.images[0]
    known = {"", "isocenter", study.study_uid, image.source.series_uid, *image.source.instance_uids}
    for secret in known:
        for message in (f"{PHANTOM_PATIENT_ID}\0", PHANTOM_PATIENT_ID, f"{PHANTOM_PATIENT_ID}\0\0"):
            guess = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]
            assert guess != study.patient_key
    assert study.patient_key == pseudonym(key_file().read_bytes(), PHANTOM_PATIENT_ID, "")
