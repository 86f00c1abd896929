"""Nothing half-written under a final name, and nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from isocenter.core.errors import DataError
from isocenter.data.images import atomic
from isocenter.data.images.atomic import atomic_folder, atomic_path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_only_at_the_end(tmp_path):
    final = tmp_path / "mask.nii.gz"
    with atomic_path(final) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("mask.nii.gz")
        temporary.write_bytes(b"whole")
        assert not final.exists()
    assert names(tmp_path) == ["mask.nii.gz"]
    assert final.read_bytes() == b"whole"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_what_stood_there_stays_when_the_block_fails(tmp_path, error):
    final = tmp_path / "a.dcm"
    final.write_bytes(b"old")
    with pytest.raises(error), atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert names(tmp_path) == ["a.dcm"]
    assert final.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "no permission; change the permissions"),
        (errno.EROFS, "read-only; choose another folder"),
    ],
)
def test_operating_system_errors_become_one_line(tmp_path, code, words):
    with pytest.raises(DataError, match=words) as caught, atomic_path(tmp_path / "a.nii") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert caught.value.source == str(tmp_path / "a.nii")
    assert "partial" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_full_disk_met_only_when_flushing(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full"), atomic_path(tmp_path / "a.nii") as temporary:
        temporary.write_bytes(b"buffered")
    assert names(tmp_path) == []


def test_missing_folder_file_as_folder_and_folder_as_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for target, words in [
        (tmp_path / "none" / "a.nii", "the folder does not exist; create it first"),
        (tmp_path / "file" / "a.nii", "a part of the path is a file"),
        (tmp_path / "folder", "a folder stands under this name"),
        (tmp_path / ("a" * 300), "the name is too long"),
    ]:
        entered = False
        with pytest.raises(DataError, match=words), atomic_path(target):
            entered = True
        assert not entered
    assert names(tmp_path) == ["file", "folder"]


def test_a_writer_that_writes_nothing_is_caught(tmp_path):
    with pytest.raises(DataError, match="produced no file"), atomic_path(tmp_path / "a.nii"):
        pass


def test_longest_name_still_has_its_suffix(tmp_path):
    final = tmp_path / ("x" * 245 + ".nii.gz")
    with atomic_path(final) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")
    assert final.exists()


def test_folder_appears_only_at_the_end(tmp_path):
    final = tmp_path / "out"
    with atomic_folder(final) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_bytes(b"1")
        assert not final.exists()
    assert names(tmp_path) == ["out"]
    assert (final / "deep" / "a").read_bytes() == b"1"


def test_folder_is_not_replaced_unless_told(tmp_path):
    final = tmp_path / "out"
    final.mkdir()
    (final / "precious").write_bytes(b"1")
    with pytest.raises(DataError, match="not empty stands under this name"), atomic_folder(final):
        pass
    with pytest.raises(KeyboardInterrupt), atomic_folder(final, replace=True) as temporary:
        (temporary / "new").write_bytes(b"2")
        raise KeyboardInterrupt
    assert names(final) == ["precious"]
    with atomic_folder(final, replace=True) as temporary:
        (temporary / "new").write_bytes(b"2")
    assert names(final) == ["new"]
    assert names(tmp_path) == ["out"]


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "new").write_bytes(b"2")
    assert names(tmp_path / "out") == ["new"]


def test_folder_does_not_replace_a_file_or_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(DataError, match="something already stands"), atomic_folder(tmp_path / name, replace=True):
            pass
    assert names(tmp_path) == ["file", "link"]


@pytest.mark.parametrize(("after", "kept"), [(1, "old"), (2, "new")])
def test_an_interrupt_right_after_a_rename_never_loses_the_name(tmp_path, monkeypatch, after, kept):
    """A signal handler runs between any two steps: a rename may have happened although it seems to have failed."""
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").write_bytes(b"1")
    rename, count = Path.rename, 0

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal count
        moved = rename(self, target)
        count += 1
        if count == after:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(final, replace=True) as temporary:
        (temporary / "new").write_bytes(b"2")
    assert names(tmp_path) == ["out"]
    assert names(final) == [kept]


def test_an_interrupt_while_the_old_folder_is_removed_leaves_the_new_one_alone(tmp_path, monkeypatch):
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").write_bytes(b"1")
    remove, count = atomic.shutil.rmtree, 0

    def interrupted(folder: Path, **options: bool) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise KeyboardInterrupt
        remove(folder, **options)

    monkeypatch.setattr(atomic.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(final, replace=True) as temporary:
        (temporary / "new").write_bytes(b"2")
    assert (names(tmp_path), names(final)) == (["out"], ["new"])


def test_a_full_disk_is_named_also_where_pydicom_wraps_it(tmp_path):
    def full() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:  # as pydicom's writer does, with the tag in front
            raise OSError("With tag (3006,0039) got exception: [Errno 28]") from error

    with pytest.raises(DataError, match=r"a\.dcm: cannot write: the disk is full"), atomic_path(tmp_path / "a.dcm"):
        full()
    assert names(tmp_path) == []
