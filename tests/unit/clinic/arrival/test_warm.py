"""What is kept of arriving studies: the very bytes or nothing; bounded; and never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.clinic.arrival import FolderMemo, arrival_folder, tidy
from isocenter.core.memo import Memo, current_memo, key_of, recalled, remembering


def memo(folder: Path, **more: int | bool) -> FolderMemo:
    return FolderMemo(folder / "memo", reserve_bytes=0, **more)


@pytest.mark.parametrize("kind", ["<f4", "<i2", "<u1", "<f8", "?"])
def test_what_is_kept_comes_back_bit_for_bit(tmp_path: Path, kind: str) -> None:
    value = np.random.default_rng(1).integers(0, 2, (2, 3, 5)).astype(kind)
    if kind == "<f4":
        value[0, 0, 0], value[0, 0, 1] = np.nan, -0.0
    kept = memo(tmp_path)
    assert isinstance(kept, Memo)
    kept.put("a" * 64, value)
    found = memo(tmp_path).get("a" * 64)
    assert found is not None
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())
    assert found.flags.writeable
    assert (tmp_path / "memo").stat().st_mode & 0o077 == 0
    assert (tmp_path / "memo" / ("a" * 64)).stat().st_mode & 0o077 == 0


def test_a_file_that_is_cut_off_altered_or_renamed_is_not_used(tmp_path: Path) -> None:
    kept, value = memo(tmp_path), np.arange(100, dtype=np.float32)
    key = "b" * 64
    kept.put(key, value)
    file = tmp_path / "memo" / key
    whole = file.read_bytes()
    for length in (0, 7, 20, 43, 60, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert kept.get(key) is None
        assert not file.exists(), "what is not sound is removed"
    for place in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert kept.get(key) is None
    (tmp_path / "memo" / ("c" * 64)).write_bytes(whole)
    assert kept.get("c" * 64) is None, "the seal covers the name"
    file.write_bytes(whole)
    assert kept.get(key) is not None


def test_another_version_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = key_of("x", np.zeros(3))
    assert mine != key_of("x", np.zeros((3, 1)))
    assert mine != key_of("x", np.zeros(3, np.float32))
    monkeypatch.setattr("isocenter.core.memo.__version__", "another")
    assert mine != key_of("x", np.zeros(3))


def test_no_more_than_the_limit_is_kept_and_nothing_on_a_full_disk(tmp_path: Path) -> None:
    small = memo(tmp_path, limit_bytes=3000)
    for number in range(10):
        small.put(f"{number:064d}", np.zeros(250, np.float32))
    assert len(list((tmp_path / "memo").iterdir())) == 2
    full = FolderMemo(tmp_path / "full", reserve_bytes=1 << 60)
    full.put("d" * 64, np.zeros(1))
    assert full.get("d" * 64) is None
    reader = memo(tmp_path / "r", read_only=True)
    reader.put("d" * 64, np.zeros(1))
    assert not (tmp_path / "r").exists()


def test_tidying_keeps_the_living_and_the_newest(tmp_path: Path) -> None:
    for study in ("1.2", "1.3"):
        kept = FolderMemo(arrival_folder(tmp_path, study) / "memo", reserve_bytes=0)
        for number in range(4):
            kept.put(f"{number:064d}", np.zeros(250, np.float32))
    left = tidy(tmp_path, {"1.2"}, 1 << 30)
    assert not arrival_folder(tmp_path, "1.3").exists()
    assert left == sum(f.stat().st_size for f in (arrival_folder(tmp_path, "1.2") / "memo").iterdir())
    assert tidy(tmp_path, {"1.2"}, 2200) <= 2200
    assert len(list((arrival_folder(tmp_path, "1.2") / "memo").iterdir())) == 2
    assert tidy(tmp_path, (), 1 << 30) == 0


def test_what_is_remembered_is_made_once(tmp_path: Path) -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.array([len(made)])

    for _ in range(2):
        assert recalled(current_memo(), lambda: key_of("x"), make)[0] == len(made)
    assert len(made) == 2, "nothing is remembered unless somebody asks for it"
    with remembering(memo(tmp_path)):
        first = [recalled(current_memo(), lambda: key_of("x"), make)[0] for _ in range(3)]
    assert first == [3, 3, 3]
    assert current_memo() is None
