"""Random patches for PyTorch: the same for the same seed, epoch and index, whoever draws them."""

from __future__ import annotations

import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from torch.utils.data import DataLoader  # noqa: E402

from isocenter.core import Geometry, Image, Mask, Segment  # noqa: E402
from isocenter.core.errors import ConfigError, DataError  # noqa: E402
from isocenter.data.shards import Staging, ToShard, open_shard, write_shards  # noqa: E402
from isocenter.learn.shard_patches import PatchArgs, ShardPatches, ShardPatchStream, shards_in  # noqa: E402

SHAPES = [(30, 40, 50), (33, 20, 41), (6, 44, 39)]


def case(n: int, *, mask: bool = True) -> tuple[Image, Mask | None]:
    geometry = Geometry.axial(SHAPES[n], spacing_mm=(2.5, 0.8, 0.7))
    rng = np.random.default_rng(n)
    image = Image(rng.integers(-1000, 1000, (1, *SHAPES[n])).astype(np.float32), geometry)
    labels = np.zeros(SHAPES[n], np.uint16)
    labels[1:5, 10:16, 5:30] = 1
    if n == 1:
        labels[2, 3, 4] = 7
    return image, Mask(labels, geometry, (Segment(1, "large"), Segment(7, "tiny"))) if mask else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    write_shards([ToShard(f"case-{n}", lambda n=n: case(n)) for n in range(3)], path, patch=(4, 4, 4))  # type: ignore[misc]
    return path


def patches(folder: Path, **settings: object) -> ShardPatches:
    return ShardPatches(shards_in(folder), PatchArgs(**{"size": (12, 10, 8), "per_epoch": 40, **settings}))  # type: ignore[arg-type]


def test_a_patch_is_the_voxels_of_its_place(folder: Path) -> None:
    for sample in (patches(folder, masks=True)[i] for i in range(40)):
        shard = open_shard(shards_in(folder)[sample["shard"]])
        start = sample["start_zyx"].tolist()
        assert sample["image"].dtype == torch.float32
        assert sample["mask"].dtype == torch.int32
        assert np.array_equal(sample["image"].numpy(), shard.patch(start, (12, 10, 8)))
        assert shard.mask is not None
        assert np.array_equal(sample["mask"].numpy(), shard.mask.patch(start, (12, 10, 8)))
        for s, e, n in zip(start, (12, 10, 8), shard.geometry.shape, strict=True):
            assert 0 <= s <= n - e or s == -((e - n) // 2)


def test_patches_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    one, two = patches(folder, balanced=0.5), patches(folder, balanced=0.5)
    places = [one.place(i) for i in range(40)]
    assert places == [two.place(i) for i in reversed(range(40))][::-1]
    two.set_epoch(1)
    assert places != [two.place(i) for i in range(40)]
    assert places != [patches(folder, balanced=0.5, seed=1).place(i) for i in range(40)]
    with pytest.raises(IndexError):
        one.place(40)


def test_places_are_spread_evenly(folder: Path) -> None:
    data = patches(folder, per_epoch=3000, size=(4, 4, 4))
    drawn = [data.place(i) for i in range(3000)]
    assert all(900 < n < 1100 for n in Counter(p.shard for p in drawn).values())
    starts = np.array([p.start_zyx for p in drawn if p.shard == 0])
    assert (starts.min(0) == 0).all()
    assert (starts.max(0) == np.array(SHAPES[0]) - 4).all()
    assert np.allclose(starts.mean(0), (np.array(SHAPES[0]) - 4) / 2, rtol=0.1)


def test_balanced_patches_hold_each_label_alike(folder: Path) -> None:
    data = patches(folder, balanced=0.75, per_epoch=2000, masks=True, size=(8, 8, 8))
    places = [data.place(i) for i in range(2000)]
    counts = Counter(p.label for p in places)
    assert 430 < counts[0] < 570, "a quarter lies anywhere"
    assert all(670 < counts[n] < 830 for n in (1, 7)), "one voxel of label 7 is drawn as often as 600 of label 1"
    assert {p.shard for p in places if p.label == 7} == {1}
    assert {p.shard for p in places if p.label == 1} == {0, 1, 2}
    for place in places[:100]:
        if place.label:
            assert (data.read(place)["mask"] == place.label).any()


def test_workers_hand_out_the_same_patches_in_every_epoch(folder: Path) -> None:
    alone, shared = patches(folder, balanced=0.5, masks=True), patches(folder, balanced=0.5, masks=True)
    loader = DataLoader(shared, batch_size=10, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        for number, batch in enumerate(loader):
            for k in range(10):
                want = alone[number * 10 + k]
                assert torch.equal(batch["image"][k], want["image"])
                assert torch.equal(batch["mask"][k], want["mask"])
    del loader


def test_a_stream_deals_out_each_patch_once(folder: Path) -> None:
    data = patches(folder)
    seen: list[int] = []
    for rank in range(3):
        stream = ShardPatchStream(data, rank=rank, world=3, start=5)
        for worker in range(2):
            seen += stream.indices(worker, 2)
    assert sorted(seen) == list(range(5, 40))
    loader = DataLoader(ShardPatchStream(data, rank=1, world=2), batch_size=None, num_workers=2)
    got = Counter((int(s["shard"]), tuple(s["start_zyx"].tolist())) for s in loader)
    assert got == Counter((data.place(i).shard, data.place(i).start_zyx) for i in range(1, 40, 2))
    with pytest.raises(ConfigError, match="not possible"):
        ShardPatchStream(data, rank=3, world=3)


def test_a_volume_smaller_than_the_patch_lies_in_its_middle(folder: Path) -> None:
    data = patches(folder, size=(10, 10, 10), per_epoch=60, masks=True)
    thin = next(p for p in (data.place(i) for i in range(60)) if p.shard == 2)
    assert thin.start_zyx[0] == -2
    sample = data.read(thin)
    image = case(2)[0].array
    assert (sample["image"][:, :2] == image.min()).all()
    assert (sample["image"][:, 8:] == image.min()).all()
    assert (sample["mask"][:, :2] == 0).all()
    padded = ShardPatches(data.names, PatchArgs(size=(10, 10, 10), pad=0.25)).read(thin)
    assert (padded["image"][:, :2] == 0.25).all()
    assert torch.equal(padded["image"][:, 2:8], sample["image"][:, 2:8])


def test_scaling_is_by_the_whole_image(folder: Path) -> None:
    plain, scaled = patches(folder)[3], patches(folder, scale="zscore")[3]
    whole = case(plain["shard"])[0].array.astype(np.float64)
    want = (plain["image"].numpy() - whole.mean()) / whole.std()
    assert np.allclose(scaled["image"].numpy(), want, atol=1e-5)


def test_few_shards_are_open_at_once(folder: Path) -> None:
    data = ShardPatches(shards_in(folder), PatchArgs(size=(4, 4, 4), per_epoch=50), most_open=1)
    reference = ShardPatches(shards_in(folder), PatchArgs(size=(4, 4, 4), per_epoch=50))
    for i in range(50):
        assert torch.equal(data[i]["image"], reference[i]["image"])
        assert len(data._open) == 1
    data.close()
    assert not data._open


def test_patches_need_no_more_than_their_chunks(tmp_path: Path) -> None:
    """What is asked of the file, and what Python holds at most: of a volume of 8 MiB, patches of 1 KiB."""
    array = np.random.default_rng(0).integers(-999, 999, (1, 128, 128, 256)).astype(np.int16)
    image = Image(array, Geometry.axial((128, 128, 256), spacing_mm=(1.0, 1.0, 1.0)))
    write_shards([ToShard("case", lambda: (image, None))], tmp_path, patch=(8, 8, 8))
    data = ShardPatches(shards_in(tmp_path), PatchArgs(size=(8, 8, 8), per_epoch=100))
    shard = data.shard(0)
    asked: list[tuple[int, int]] = []
    shard.backing.need = lambda ranges: asked.extend(ranges)  # type: ignore[method-assign]
    tracemalloc.start()
    for i in range(8):
        assert data[i]["image"].shape == (1, 8, 8, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A patch of 8^3 overlaps at most 8 chunks of 16 x 16 x 32 voxels.
    assert 0 < sum(b - a for a, b in asked) <= 8 * 8 * 16 * 16 * 32 * 2
    assert peak < 2**20, "an eighth of the volume"


def test_a_data_set_can_be_sent_to_another_process(folder: Path) -> None:
    data = patches(folder)
    again: ShardPatches = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[7]["image"], data[7]["image"])


def test_from_object_storage_no_volume_is_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.data.shards.backing._MERGE", 0)  # these volumes are smaller than what is merged
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: no object storage")
    store = fsspec.filesystem("memory")
    for file in folder.iterdir():
        store.pipe_file(f"/patches/{file.name}", file.read_bytes())
    try:
        with Staging(tmp_path / "stage") as staging:
            names = shards_in("memory://patches", staging=staging)
            data = ShardPatches(names, PatchArgs(size=(4, 4, 4), per_epoch=20), staging=staging)
            local = ShardPatches(shards_in(folder), data.args)
            assert torch.equal(data[0]["image"], local[0]["image"])
            size = store.size("/patches/" + Path(names[data.place(0).shard]).name)
            assert staging.fetched_bytes < size
            assert all(torch.equal(data[i]["image"], local[i]["image"]) for i in range(20))
            before = staging.fetched_bytes
            assert all(torch.equal(data[i]["image"], local[i]["image"]) for i in range(20))
            assert staging.fetched_bytes == before, "the second pass is local"
            data.close()
            again = ShardPatches(names, data.args, staging=staging)
            for sample in DataLoader(again, batch_size=None, num_workers=2):
                assert sample["image"].shape == (1, 4, 4, 4)
            assert list((tmp_path / "stage").iterdir()) == [staging.folder], "workers leave nothing behind"
    finally:
        store.rm("/patches", recursive=True)


def test_what_makes_no_sense_is_refused(folder: Path, tmp_path: Path) -> None:
    for bad in ({"size": (0, 1, 1)}, {"balanced": 1.5}, {"per_epoch": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            PatchArgs(**bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one shard"):
        ShardPatches([], PatchArgs())
    with pytest.raises(ConfigError, match=r"\[9\]"):
        patches(folder, balanced=0.5, labels=(1, 9))
    with pytest.raises(ConfigError, match="negative"):
        patches(folder).set_epoch(-1)
    write_shards([ToShard("plain", lambda: case(0, mask=False))], tmp_path)
    with pytest.raises(DataError, match="no mask beside it"):
        patches(tmp_path, balanced=0.5)
    with pytest.raises(DataError, match="no mask beside it"):
        patches(tmp_path, masks=True)[0]
