"""Bad input and bad luck: one clear line, a documented exit code, nothing half-written, no patient's value."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from e2e.conftest import MARKERS, Run, ct_image, marked
from isocenter.testing.dicom_phantom import write_ct_series


def _fails(command: Run, path: Path, folder: Path, code: int, *words: str) -> None:
    before = sorted(folder.rglob("*"))
    got, text, errors = command("read", path, "--out", folder / "out", "--task", "toy-bright")
    _is_one_line(got, text, errors, code, *words)
    assert sorted(folder.rglob("*")) == before, "something was left behind"


def _is_one_line(got: int, text: str, errors: str, code: int, *words: str) -> None:
    assert got == code, errors
    assert text == ""
    assert errors.startswith("isocenter: ") and errors.count("\n") == 1 and errors.endswith("\n"), errors
    assert "Traceback" not in errors and ".partial" not in errors
    assert [m for m in MARKERS if m in errors] == []
    for word in words:
        assert word in errors


def test_a_path_that_does_not_exist(command: Run, tmp_path: Path) -> None:
    _fails(command, tmp_path / "nowhere", tmp_path, 3, "nowhere")


def test_an_empty_folder(command: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    _fails(command, tmp_path / "in", tmp_path, 3, "in")


def test_a_folder_of_text_files(command: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("letter.txt", "table.csv", "noname"):
        (tmp_path / "in" / name).write_text("Zebraname, ZEBRA-ID-7\n" * 50, "utf-8")
    _fails(command, tmp_path / "in", tmp_path, 3)


def test_a_truncated_file(command: Run, study: Path, tmp_path: Path) -> None:
    data = min(study.iterdir()).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[: len(data) - 300])
    _fails(command, tmp_path / "cut.dcm", tmp_path, 3, "cut.dcm")


def test_a_header_alone(command: Run, study: Path, tmp_path: Path) -> None:
    (tmp_path / "stub.dcm").write_bytes(min(study.iterdir()).read_bytes()[:200])
    _fails(command, tmp_path / "stub.dcm", tmp_path, 3, "stub.dcm", "it is cut off, or no image; fetch it again")


def test_an_encrypted_zip(command: Run, tmp_path: Path) -> None:
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.dcm", b"\0" * 300)
    raw = bytearray(path.read_bytes())
    # The flag of encryption, in the local header (offset 6) and in the central directory (offset 8).
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    _fails(command, path, tmp_path, 3, "locked.zip")


def test_a_zip_bomb(command: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.dcm", b"\0" * 50_000_000)
    _fails(command, tmp_path / "bomb.zip", tmp_path, 3, "bomb.zip")


def test_two_patients(command: Run, tmp_path: Path) -> None:
    def second(index: int, dataset: Dataset) -> Dataset:
        dataset = marked(index, dataset)
        dataset.PatientID, dataset.PatientName = "ZEBRA-ID-7-other", "Zebraname^Other"
        return dataset

    write_ct_series(tmp_path / "in" / "a", ct_image(), change=marked, name="a")
    write_ct_series(tmp_path / "in" / "b", ct_image(), change=second, name="b")
    _fails(command, tmp_path / "in", tmp_path, 3, "patient")


def _shut(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Take the right to read away from the files of a name, from root too."""
    opened, access = Path.open, os.access

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "access", lambda path, *a, **k: Path(path).name != name and access(path, *a, **k))


def test_a_file_may_not_be_read(command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    _shut(monkeypatch, "a.zip")
    _fails(command, tmp_path / "a.zip", tmp_path, 3, "a.zip: cannot read: no permission; change the permissions")
    got, text, errors = command("read", study, "--out", tmp_path / "out", "--prompt", tmp_path / "a.zip")
    _is_one_line(got, text, errors, 2, "a.zip: can't be read: Permission denied")


def test_a_slice_that_may_not_be_read_is_named(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ct_series(tmp_path / "in", ct_image(), change=marked)
    name = sorted(p.name for p in (tmp_path / "in").iterdir())[2]
    _shut(monkeypatch, name)
    words = ("1 missing slice", f"And a file was not opened: {name}: cannot read: no permission")
    _fails(command, tmp_path / "in", tmp_path, 3, *words)


def test_a_folder_for_the_result_that_may_not_be_looked_into(
    command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()

    def refuse(_self: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        got, text, errors = command("read", study, "--out", tmp_path / "out", "--overwrite")
    _is_one_line(got, text, errors, 6, "out: cannot write: no permission")


def test_a_missing_slice(command: Run, tmp_path: Path) -> None:
    def drop(index: int, dataset: Dataset) -> Dataset | None:
        return None if index == 3 else marked(index, dataset)

    write_ct_series(tmp_path / "in", ct_image(), change=drop)
    _fails(command, tmp_path / "in", tmp_path, 3, "1 missing slice", "--on-irregular resample")
    code, _, _ = command(
        "read", tmp_path / "in", "--out", tmp_path / "out", "--task", "toy-bright", "--on-irregular", "resample"
    )
    assert code == 0


_POINT = '{"label": "x", "prompts": [{"kind": "point", "coordinates": [[0, 0, 0]]}]}'
_TEXT = '{"label": "x", "prompts": [{"kind": "text", "text": "kidney"}]}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "line 1, column 2"),
        ('{"prompts_version": "1.0", "targets": [{"label": "x"}]}', "targets[0].prompts"),
        (f'{{"prompts_version": "1.0", "targets": [{_POINT}, {_POINT}]}}', "both called 'x'"),
        (f'{{"prompts_version": "1.0", "targets": [{_TEXT}]}}', "targets[0] ('x'): no task would answer it"),
    ],
)
def test_a_bad_prompt_file(command: Run, study: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "p.json").write_text(content, "utf-8")
    got, text, errors = command("read", study, "--out", tmp_path / "out", "--prompt", tmp_path / "p.json")
    _is_one_line(got, text, errors, 2, "prompt file" if "no task" in words else "p.json", words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    ["read", "read x", "read x --out y --colour red", "paint", "read x --out y --seed z"],
)
def test_wrong_usage(command: Run, arguments: str) -> None:
    code, text, errors = command(*arguments.split())
    _is_one_line(code, text, errors, 2, "; see isocenter ")


def test_a_parent_folder_that_is_not_there(command: Run, study: Path, tmp_path: Path) -> None:
    got, text, errors = command("read", study, "--out", tmp_path / "no" / "out", "--task", "toy-bright")
    _is_one_line(got, text, errors, 6, "out: cannot write: the folder does not exist; create it first")
    assert list(tmp_path.iterdir()) == []


def test_no_write_permission(command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shut"
    folder.mkdir()
    if os.geteuid() == 0:  # nothing is shut to root, so the refusal is made

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        folder.chmod(0o500)
    got, text, errors = command("read", study, "--out", folder / "out", "--task", "toy-bright")
    _is_one_line(got, text, errors, 6, "out: cannot write: no permission; change the permissions")
    assert list(folder.iterdir()) == []


def test_a_full_disk(process: Callable[..., subprocess.Popen[str]], study: Path, tmp_path: Path) -> None:
    """The system's own limit on the size of a file stands for the disk: a real refusal while writing."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))

    run = process("read", study, "--out", tmp_path / "out", "--task", "toy-bright", preexec_fn=limit)
    text, errors = run.communicate(timeout=120)
    _is_one_line(run.returncode, text, errors, 6, "cannot write: the file is larger than", "out")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_at_the_end(
    command: Run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    got, text, errors = command("read", study, "--out", tmp_path / "out", "--task", "toy-bright")
    _is_one_line(got, text, errors, 6, "cannot write: the disk is full; free some space")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_halfway(
    process: Callable[..., subprocess.Popen[str]],
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
    code: int,
) -> None:
    folder, mark = tmp_path / "results", tmp_path / "started"
    folder.mkdir()
    monkeypatch.setenv("TOY_MARK", str(mark))

    def heed_interrupts() -> None:
        # A shell lets its background jobs ignore Ctrl-C; the tests may be one.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    run = process("read", study, "--out", folder / "out", "--task", "toy-slow", preexec_fn=heed_interrupts)
    while not mark.exists() and run.poll() is None:
        time.sleep(0.05)
    assert len(list(folder.iterdir())) == 1, "the unfinished folder stands beside the final one"
    run.send_signal(sent)
    text, errors = run.communicate(timeout=60)
    _is_one_line(
        run.returncode, text, errors.replace("a task that prints\n", ""), code, "stopped; nothing half-written is left"
    )
    assert list(folder.iterdir()) == []
