"""A folder of shards, written in one call that may be killed and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Image, Mask, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError, OutputError
from isocenter.testing import phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from isocenter.data.shards import ToShard, open_shard, read_index, write_shards

SHAPE = (9, 8, 7)


def case(n: int) -> tuple[Image, Mask | None]:
    geometry = phantom_geometry(n % 48, shape=SHAPE)
    rng = np.random.default_rng(n)
    image = Image(rng.integers(0, 99, (1, *SHAPE)).astype(np.int16), geometry)
    if n % 2:
        return image, None
    return image, Mask(rng.integers(0, 3, SHAPE).astype(np.uint16), geometry, (Segment(1, "a"), Segment(2, "b")))


def items(count: int = 4, *, origin: bool = False) -> list[ToShard]:
    return [ToShard(f"case-{n}", lambda n=n: case(n), f"source {n}" if origin else "") for n in range(count)]  # type: ignore[misc]


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_second_call_writes_nothing(tmp_path: Path) -> None:
    first = write_shards(items(), tmp_path)
    assert (first.written, first.kept) == (("case-0", "case-1", "case-2", "case-3"), ())
    before, times = content(tmp_path), [(tmp_path / "case-0.b2nd").stat().st_mtime_ns]
    second = write_shards(reversed(items()), tmp_path)
    assert second.written == ()
    assert sorted(second.kept) == sorted(first.written)
    assert content(tmp_path) == before
    assert times == [(tmp_path / "case-0.b2nd").stat().st_mtime_ns]


def test_a_source_of_known_origin_is_not_read_again(tmp_path: Path) -> None:
    write_shards(items(origin=True), tmp_path)

    def refuse() -> tuple[Image, Mask | None]:
        raise GeometryError("was read")

    again = write_shards([ToShard("case-0", refuse, "source 0"), ToShard("case-1", refuse, "source 9")], tmp_path)
    assert again.kept == ("case-0",)
    assert again.refused == (("case-1", "was read"),)


def test_what_changed_is_written_again(tmp_path: Path) -> None:
    write_shards(items(), tmp_path)
    assert write_shards([ToShard("case-0", lambda: case(6))], tmp_path).written == ("case-0",)
    assert write_shards([ToShard("case-0", lambda: (case(6)[0], None))], tmp_path).written == ("case-0",)
    assert not (tmp_path / "case-0.mask.b2nd").exists()
    renamed = case(2)[1]
    assert renamed is not None
    other = Mask(renamed.array, renamed.geometry, (Segment(1, "another name"), Segment(2, "b")))
    assert write_shards([ToShard("case-2", lambda: (case(2)[0], other))], tmp_path).written == ("case-2",)


def test_a_damaged_shard_is_written_again(tmp_path: Path) -> None:
    write_shards(items(origin=True), tmp_path)
    before = content(tmp_path)
    (tmp_path / "case-2.b2nd").write_bytes(before["case-2.b2nd"][:-9])
    (tmp_path / "case-0.mask.b2nd").unlink()
    assert write_shards(items(origin=True), tmp_path).written == ("case-0", "case-2")
    assert content(tmp_path) == before


def test_what_cannot_be_read_is_listed_and_the_others_are_written(tmp_path: Path) -> None:
    def broken() -> tuple[Image, Mask | None]:
        raise DataError("is no image", source="x.nii")

    done = write_shards([*items(2), ToShard("bad", broken), *items(4)[2:]], tmp_path)
    assert done.refused == (("bad", "x.nii: is no image"),)
    assert len(done.written) == 4
    assert [e.file for e in read_index(tmp_path)] == [f"case-{n}.b2nd" for n in range(4)]


def test_the_index_says_what_is_there(tmp_path: Path) -> None:
    write_shards(items(2), tmp_path)
    labelled, plain = read_index(tmp_path)
    mask = case(0)[1]
    assert mask is not None
    assert labelled.voxels == tuple((n, int((mask.array == n).sum())) for n in (1, 2))
    assert (labelled.has_mask, plain.has_mask, plain.voxels) == (True, False, ())
    assert labelled.shape == open_shard(tmp_path / labelled.file).shape
    (tmp_path / "shards.json").write_text("{}")
    with pytest.raises(DataError, match="no index of shards"):
        read_index(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_index(tmp_path / "none")


@pytest.mark.parametrize("name", ["../case", "a/b", "", ".hidden", "case.b2nd", "case.mask", "two words"])
def test_names_that_are_no_plain_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no plain name"):
        write_shards([ToShard(name, lambda: case(0))], tmp_path)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="comes twice"):
        write_shards([*items(1), *items(1)], tmp_path)


def test_a_full_disk_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_shards(items(), tmp_path)


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from isocenter.data.shards import write_shards
from test_folder import items
calls, last, real = 0, int(sys.argv[2]), os.fsync
def fsync(descriptor):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
write_shards(items(), Path(sys.argv[1]))
"""


def test_killed_anywhere_and_run_again_it_is_the_same(tmp_path: Path) -> None:
    write_shards(items(), tmp_path / "whole")
    want = content(tmp_path / "whole")
    for last in (1, 2, 6, 13):
        folder = tmp_path / str(last)
        arguments = [sys.executable, "-c", SCRIPT, str(folder), str(last), str(Path(__file__).parent)]
        done = subprocess.run(arguments, env=dict(os.environ), capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert content(folder) != want
        write_shards(items(), folder)
        assert content(folder) == want
