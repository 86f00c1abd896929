"""Shards in object storage: only what a patch needs is fetched, once, and the disk that it takes is bounded."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Image, Mask, Segment
from isocenter.core.errors import CapabilityError, ConfigError, DataError
from isocenter.testing import phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")
fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: no object storage")

from isocenter.data.shards import Shard, Staging, open_shard, write_shard  # noqa: E402
from isocenter.data.shards.backing import merged  # noqa: E402

SHAPE = (64, 64, 64)


def upload(folder: Path, name: str, seed: int) -> Shard:
    """Write a shard and its mask, and put both into the memory's file system."""
    geometry = phantom_geometry(13, shape=SHAPE)
    rng = np.random.default_rng(seed)
    image = Image(rng.integers(-1000, 1000, (1, *SHAPE)).astype(np.int16), geometry)
    mask = Mask((rng.random(SHAPE) > 0.5).astype(np.uint16), geometry, (Segment(1, "a"),))
    shard = write_shard(image, folder / f"{name}.b2nd", mask=mask, patch=(8, 8, 8))
    store = fsspec.filesystem("memory")
    for file in folder.glob(f"{name}*.b2nd"):
        store.pipe_file(f"/shards/{file.name}", file.read_bytes())
    return shard


@pytest.fixture
def bucket() -> Iterator[str]:
    yield "memory://shards"
    store = fsspec.filesystem("memory")
    if store.exists("/shards"):
        store.rm("/shards", recursive=True)


def test_patches_of_a_remote_shard_are_those_of_the_local_one(tmp_path: Path, bucket: str) -> None:
    local = upload(tmp_path, "a", 0)
    with Staging(tmp_path / "stage") as staging:
        remote = open_shard(f"{bucket}/a.b2nd", staging=staging)
        assert remote.geometry == local.geometry
        rng = np.random.default_rng(1)
        assert remote.mask is not None and local.mask is not None
        for _ in range(20):
            start = rng.integers(-5, 60, 3).tolist()
            assert np.array_equal(remote.patch(start, (9, 8, 7)), local.patch(start, (9, 8, 7)))
            assert np.array_equal(remote.mask.patch(start, (9, 8, 7)), local.mask.patch(start, (9, 8, 7)))
        assert np.array_equal(remote.read(as_source=True).array, local.read(as_source=True).array)
    assert not any((tmp_path / "stage").iterdir())


def test_a_patch_fetches_its_chunks_once_and_no_volume(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.data.shards.backing._MERGE", 0)  # this volume is hardly larger than what is merged
    upload(tmp_path, "a", 0)
    whole = (tmp_path / "a.b2nd").stat().st_size
    with Staging(tmp_path / "stage") as staging:
        shard = open_shard(f"{bucket}/a.b2nd", staging=staging)
        opened = staging.fetched_bytes
        assert opened < whole / 10
        shard.patch((1, 1, 1), (16, 16, 16))
        first = staging.fetched_bytes - opened
        assert 0 < first < whole / 3
        shard.patch((2, 2, 2), (16, 16, 16))
        assert staging.fetched_bytes - opened == first


def test_what_lies_on_the_disk_is_bounded_and_patches_stay_right(tmp_path: Path, bucket: str) -> None:
    local = [upload(tmp_path, str(n), n) for n in range(5)]
    whole = (tmp_path / "0.b2nd").stat().st_size
    limit = int(1.2 * whole)
    rng = np.random.default_rng(0)
    with Staging(tmp_path / "stage", limit_bytes=limit) as staging:
        remote = [open_shard(f"{bucket}/{n}.b2nd", staging=staging) for n in range(5)]
        most = 0
        for _ in range(80):
            n, start = int(rng.integers(5)), rng.integers(0, 40, 3).tolist()
            assert np.array_equal(remote[n].patch(start, (20, 20, 20)), local[n].patch(start, (20, 20, 20)))
            most = max(most, staging.staged_bytes)
            on_disk = sum(f.stat().st_blocks * 512 for f in staging.folder.iterdir())
            assert on_disk <= limit
        assert whole / 2 < most <= limit
        assert staging.fetched_bytes > limit, "the bound was reached, or this shows nothing"


def test_a_limit_below_one_patch_is_said(tmp_path: Path, bucket: str) -> None:
    upload(tmp_path, "a", 0)
    with Staging(limit_bytes=20_000) as staging:
        shard = open_shard(f"{bucket}/a.b2nd", staging=staging)
        with pytest.raises(ConfigError, match="limit is too small"):
            shard.patch((0, 0, 0), (64, 64, 64))
    with pytest.raises(ConfigError, match="must be positive"):
        Staging(limit_bytes=0)


def test_an_object_that_is_altered_cut_or_gone_is_refused(tmp_path: Path, bucket: str) -> None:
    upload(tmp_path, "a", 0)
    store = fsspec.filesystem("memory")
    raw = bytearray((tmp_path / "a.b2nd").read_bytes())
    with Staging() as staging:
        shard = open_shard(f"{bucket}/a.b2nd", staging=staging)
        raw[len(raw) // 2] ^= 4
        store.pipe_file("/shards/a.b2nd", bytes(raw))
        with pytest.raises(DataError, match="checksum"):
            shard.patch((0, 0, 0), SHAPE)
        store.pipe_file("/shards/a.b2nd", bytes(raw[:-100]))
        with pytest.raises(DataError, match="it is cut"):
            open_shard(f"{bucket}/a.b2nd", staging=staging)
        with pytest.raises(DataError, match="does not exist"):
            open_shard(f"{bucket}/none.b2nd", staging=staging)


def test_an_object_that_became_another_shard_is_refused(tmp_path: Path, bucket: str) -> None:
    upload(tmp_path, "a", 0)
    with Staging() as staging:
        shard = open_shard(f"{bucket}/a.b2nd", staging=staging)
        upload(tmp_path, "a", 1)
        shard.close()
        with pytest.raises(DataError, match=r"replaced|contradicts|no shard"):
            shard.patch((0, 0, 0), (8, 8, 8))


def test_storage_that_vanishes_midway_is_refused(tmp_path: Path, bucket: str) -> None:
    upload(tmp_path, "a", 0)
    with Staging() as staging:
        shard = open_shard(f"{bucket}/a.b2nd", staging=staging)
        fsspec.filesystem("memory").rm("/shards", recursive=True)
        with pytest.raises(DataError, match=r"does not exist|sent less"):
            shard.patch((0, 0, 0), SHAPE)


def test_a_kind_of_storage_that_nobody_knows_is_refused() -> None:
    with pytest.raises(CapabilityError, match="fsspec cannot open it"):
        open_shard("nosuchthing://bucket/case.b2nd")


def test_a_remote_shard_travels_with_its_staging(tmp_path: Path, bucket: str) -> None:
    local = upload(tmp_path, "a", 0)
    with Staging(tmp_path / "stage", limit_bytes=10**8) as staging:
        again: Shard = pickle.loads(pickle.dumps(open_shard(f"{bucket}/a.b2nd", staging=staging)))
        assert np.array_equal(again.patch((1, 2, 3), (4, 5, 6)), local.patch((1, 2, 3), (4, 5, 6)))
        assert again.backing.staging.limit_bytes == 10**8  # type: ignore[attr-defined]
        again.backing.staging.close()  # type: ignore[attr-defined]


def test_what_a_killed_process_has_left_is_swept_away(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left, alive = tmp_path / f"shards-{int(gone.stdout)}-abc", tmp_path / f"shards-{os.getppid()}-abc"
    for folder in (left, alive, tmp_path / "shards-of-mine"):
        folder.mkdir()
    with Staging(tmp_path) as staging:
        assert staging.folder.parent == tmp_path
        assert not left.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, "shards-of-mine"])


def test_near_ranges_become_one_request() -> None:
    assert merged([(200_000, 200_010), (0, 10), (20, 30)], 10) == [(0, 30), (200_000, 200_010)]
