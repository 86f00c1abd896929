"""The holding while the disk fails or the process is killed: no instance is answered for that is not safe."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pynetdicom
import pytest
from pydicom.dataset import Dataset

from isocenter.clinic.dimse import dataset_of, place_of
from isocenter.clinic.dimse.holding import OUT_OF_RESOURCES, Held, Holding, Recovered, Refused, recover
from isocenter.clinic.dimse.journal import Journal, read_lines
from isocenter.clinic.dimse.messages import C_STORE, Command
from isocenter.core.errors import OutputError

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def holding(folder: Path) -> Holding:
    return Holding(folder, ("1.2.3.4", "TEST"))


def encoded(number: int) -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, f"1.2.3.1.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "CT"
    return pynetdicom.dsutils.encode(ds, is_implicit_vr=False, is_little_endian=True) or b""


def store(to: Holding, number: int) -> Held:
    arrival = to.arrival(Command(C_STORE, 1, CT, f"1.2.3.1.{number}", has_data=True), EXPLICIT, "CT1", "RESEARCH")
    arrival.write(memoryview(encoded(number)))
    return arrival.finish()


def held(folder: Path) -> list[Path]:
    return sorted((folder / "held").rglob("*.dcm"))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the next calls of fsync but some fail once, as a disk tells an error."""
    real, left = os.fsync, [-2]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    def arm(after: int) -> None:
        left[0] = after

    monkeypatch.setattr(os, "fsync", fsync)
    return arm


def test_what_the_disk_did_not_take_is_not_found_there_when_it_is_sent_again(
    tmp_path: Path, failing: Callable[[int], None]
) -> None:
    here = holding(tmp_path)
    store(here, 9)  # the study's folder is there
    failing(0)
    with pytest.raises(Refused) as refused:
        store(here, 1)
    assert refused.value.status == OUT_OF_RESOURCES
    place = place_of(tmp_path, "1.2.3", "1.2.3.1.1")
    assert not place.exists()
    assert not list((tmp_path / "spool").iterdir())
    assert not store(here, 1).again, "it is written anew"
    assert dataset_of(place) == encoded(1)


@pytest.mark.parametrize("after", range(3))
def test_a_study_whose_folder_the_disk_did_not_take_is_made_anew(
    tmp_path: Path, failing: Callable[[int], None], after: int
) -> None:
    here = holding(tmp_path)
    failing(after)
    with pytest.raises(Refused):
        store(here, 1)
    assert not list((tmp_path / "held").iterdir()), "a folder that is there is taken for synchronised"
    assert not store(here, 1).again
    assert len(held(tmp_path)) == 1


def test_an_instance_that_is_held_and_can_not_be_looked_at_is_refused_for_now(
    tmp_path: Path, failing: Callable[[int], None]
) -> None:
    here = holding(tmp_path)
    store(here, 1)
    failing(0)
    with pytest.raises(Refused) as refused:
        store(here, 1)
    assert refused.value.status == OUT_OF_RESOURCES
    assert store(here, 1).again


def test_what_a_killed_process_left_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    here = holding(tmp_path)
    store(here, 1)
    (place,) = held(tmp_path)
    (tmp_path / "spool" / "left").hardlink_to(place)
    os.utime(place, (1.0, 1.0))
    assert store(here, 1).again


def test_who_sends_the_same_at_once_is_not_answered_before_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, real = holding(tmp_path), os.fsync
    store(here, 9)
    first, linked, asked = threading.current_thread(), threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        if threading.current_thread() is first and not linked.is_set():
            linked.set()
            assert asked.wait(5)
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    def again() -> Held:
        assert linked.wait(5)
        threading.Timer(0.1, asked.set).start()
        return store(here, 1)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(again)
        with pytest.raises(Refused):
            store(here, 1)
        with pytest.raises(Refused) as refused:
            second.result(10)
    assert refused.value.status == OUT_OF_RESOURCES
    assert len(held(tmp_path)) == 1
    assert not store(here, 1).again


def test_a_line_that_is_written_again_says_who_called_and_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = holding(tmp_path)
    monkeypatch.setattr(here, "note", _killed)
    with pytest.raises(KeyboardInterrupt):
        store(here, 1)
    assert recover(tmp_path) == Recovered(0, 0, 1)
    (journal,) = [file for file in (tmp_path / "journal").iterdir() if "recovered" in file.name]
    ((_, line),) = read_lines(journal)
    assert (line["calling"], line["called"], line["sop"]) == ("CT1", "RESEARCH", "1.2.3.1.1")


def _killed(_entry: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [0, 5, -1])
@pytest.mark.parametrize("shared", [False, True])
def test_a_line_that_a_full_disk_cut_off_swallows_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, shared: bool
) -> None:
    journal, real, left = Journal(tmp_path / "j.jsonl", shared=shared), os.write, [1]
    journal.append({"sop": 1})

    def write(descriptor: int, piece: bytes) -> int:
        if kept and left:
            left.pop()
            return real(descriptor, piece[:kept])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OutputError):
        journal.append({"sop": 2})
    monkeypatch.setattr(os, "write", real)
    journal.append({"sop": 3})
    journal.append({"sop": 4})
    journal.close()
    assert [line["sop"] for _, line in read_lines(journal.file)] == [1, 3, 4]
    assert journal.file.read_bytes().count(b"#") == bool(kept)


def test_processes_that_share_a_journal_do_not_wait_for_their_own_locks_and_mend_what_another_left(
    tmp_path: Path,
) -> None:
    file = tmp_path / "j.jsonl"
    file.write_bytes(b'{"sop":1}\n{"so')
    one, other = Journal(file, shared=True), Journal(file, shared=True)
    for number in range(2, 6):
        (one, other)[number % 2].append({"sop": number})
    assert [line["sop"] for _, line in read_lines(file)] == [1, 2, 3, 4, 5]
    one.close()
    other.close()
