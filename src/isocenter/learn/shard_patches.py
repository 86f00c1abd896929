"""Random patches from shards for PyTorch: each a pure function of (seed, epoch, index), never a whole volume in memory.

`ShardPatches` is a data set with a length, for a `DataLoader` with any sampler, `DistributedSampler` included.
`ShardPatchStream` hands out the same patches in order and deals them out to workers and ranks by itself; it tells the
disk of the next patch while the present one is unpacked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.shards import Shard, Staging, open_shard, random_voxel, read_index

__all__ = ["PatchArgs", "PatchPlace", "ShardPatchStream", "ShardPatches", "shards_in"]

Zyx = tuple[int, int, int]
Sample = dict[str, Any]

_LONGEST_TRY = 2**31


@dataclass(frozen=True)
class PatchArgs:
    """What patches shall be like.

    Args:
        size: Voxels (z, y, x).
        per_epoch: How many make an epoch.
        seed: Of all chance.
        balanced: Share of patches that are centred on a labelled voxel: a label is drawn, each with the same chance,
            then one of the shards that have it, then one of its voxels. The others lie anywhere in any shard.
        labels: Numbers of the segments that are balanced; by default all that any shard has.
        masks: Whether the mask's patch is handed out too.
        scale: "none", or "zscore" by the whole image's mean and deviation (those of finite values).
        pad: Value outside a volume that is smaller than the patch, before scaling; by default the image's lowest. Masks
            are padded with 0. Patches of larger volumes never reach over the border.

    Raises:
        ConfigError: A size, share or number of patches that makes no sense.
    """

    size: Zyx = (96, 96, 96)
    per_epoch: int = 1000
    seed: int = 0
    balanced: float = 0.0
    labels: tuple[int, ...] | None = None
    masks: bool = False
    scale: Literal["none", "zscore"] = "none"
    pad: float | None = None

    def __post_init__(self) -> None:
        if len(self.size) != 3 or min(self.size) < 1:
            raise ConfigError(f"a patch's size must be three positive numbers (z, y, x), got {self.size}")
        if not 0 <= self.balanced <= 1:
            raise ConfigError(f"the balanced share must lie in 0 to 1, got {self.balanced}")
        if not 1 <= self.per_epoch < _LONGEST_TRY or self.seed < 0:
            raise ConfigError("an epoch needs 1 to 2^31 - 1 patches, and the seed must not be negative")
        if self.scale not in ("none", "zscore"):
            raise ConfigError(f"scale must be 'none' or 'zscore', got {self.scale!r}")


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch lies.

    Args:
        shard: Position in the list of shards.
        start_zyx: First voxel; negative where the volume is smaller than the patch.
        label: The label that it was centred on, or 0.
    """

    shard: int
    start_zyx: Zyx
    label: int


def shards_in(folder: Path | str, *, staging: Staging | None = None) -> list[str]:
    """List the shards of a folder by its index, in the order of their names.

    Args:
        folder: A local folder, or a URL that fsspec understands.
        staging: Whose options open a URL.

    Raises:
        DataError: There is no index.
    """
    return [f"{str(folder).rstrip('/')}/{entry.file}" for entry in read_index(folder, staging=staging)]


class ShardPatches(Dataset[Sample]):
    """Random patches of shards, as a map-style data set.

    An item has "image" (float32, (C, z, y, x)), "shard" (position), "start_zyx" (int64) and "label" (the one it was
    centred on, or 0); with `masks`, "mask" (int32 labels (1, z, y, x), or float32 planes (S, z, y, x)).

    Args:
        shards: Paths or URLs. Their order counts: it is part of what the seed decides on.
        args: What patches shall be like.
        staging: Where parts of remote shards lie meanwhile.
        most_open: How many shards are held open at once; an open shard holds its index, no voxels.
        transform: Applied to each item.

    Raises:
        ConfigError: No shards; labels are asked for that none has.
        DataError: A shard can't be opened, or has no mask where one is needed.
    """

    def __init__(
        self,
        shards: Sequence[str | Path],
        args: PatchArgs,
        *,
        staging: Staging | None = None,
        most_open: int = 64,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        if not shards or most_open < 1:
            raise ConfigError("patches need at least one shard, and at least one open at once")
        self.names = [str(s) for s in shards]
        self.args = args
        self._staging = staging if staging is not None else Staging()
        self._most_open, self._transform = most_open, transform
        self._open: OrderedDict[int, Shard] = OrderedDict()
        # Shared, so that workers that live on see the next epoch too.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._holders: dict[int, tuple[int, ...]] = self._find_labels() if args.balanced > 0 else {}

    def __len__(self) -> int:
        return self.args.per_epoch

    @property
    def epoch(self) -> int:
        """The epoch whose patches are handed out."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch, in this process and in workers that are already running.

        Raises:
            ConfigError: It is negative.
        """
        if epoch < 0:
            raise ConfigError(f"an epoch must not be negative, got {epoch}")
        self._epoch.fill_(epoch)

    def place(self, index: int) -> PatchPlace:
        """Say where the patch of an index lies, without reading it (a balanced one reads one chunk of a mask).

        Args:
            index: 0 to `per_epoch` - 1.

        Raises:
            IndexError: It is not.
        """
        if not 0 <= index < self.args.per_epoch:
            raise IndexError(f"patch {index} of {self.args.per_epoch}")
        rng = np.random.default_rng((self.args.seed, self.epoch, index))
        size = self.args.size
        if rng.random() < self.args.balanced:
            label = tuple(self._holders)[int(rng.integers(len(self._holders)))]
            holders = self._holders[label]
            number = holders[int(rng.integers(len(holders)))]
            shape = self.shard(number).geometry.shape
            voxel = random_voxel(self._mask(number), label, rng)
            starts = [_clamped(v - e // 2, e, n) for v, e, n in zip(voxel, size, shape, strict=True)]
            return PatchPlace(number, (starts[0], starts[1], starts[2]), label)
        number = int(rng.integers(len(self.names)))
        shape = self.shard(number).geometry.shape
        starts = [
            int(rng.integers(n - e + 1)) if n >= e else _clamped(0, e, n) for e, n in zip(size, shape, strict=True)
        ]
        return PatchPlace(number, (starts[0], starts[1], starts[2]), 0)

    def __getitem__(self, index: int) -> Sample:
        return self.read(self.place(index))

    def read(self, place: PatchPlace) -> Sample:
        """Read the patch at a place."""
        shard = self.shard(place.shard)
        values = shard.patch(place.start_zyx, self.args.size, pad=self.args.pad, stored=self.args.pad is None)
        sample: Sample = {
            "image": torch.from_numpy(self._scaled(values, shard)),
            "shard": place.shard,
            "start_zyx": torch.tensor(place.start_zyx),
            "label": place.label,
        }
        if self.args.masks:
            mask = self._mask(place.shard)
            labels = mask.patch(place.start_zyx, self.args.size, stored=True)
            planes = mask.content.kind != "labelmap"
            sample["mask"] = torch.from_numpy(labels.astype(np.float32 if planes else np.int32))
        return sample if self._transform is None else self._transform(sample)

    def ahead(self, place: PatchPlace) -> None:
        """Let the disk begin to read a patch."""
        self.shard(place.shard).ahead(place.start_zyx, self.args.size)

    def shard(self, number: int) -> Shard:
        """Return a shard, open; that which was used longest ago is closed where there are too many."""
        shard = self._open.pop(number, None)
        if shard is None:
            shard = open_shard(self.names[number], staging=self._staging)
            while len(self._open) >= self._most_open:
                _, oldest = self._open.popitem(last=False)
                oldest.close()
        self._open[number] = shard
        return shard

    def close(self) -> None:
        """Let go of all shards, and of what was staged of them."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _scaled(self, values: np.ndarray, shard: Shard) -> np.ndarray:
        """Turn into float32; whole numbers that are stored small are turned only once."""
        out = values.astype(np.float32)
        if self.args.scale == "zscore":
            stated = shard.statistics
            if stated is None:
                raise DataError("is a mask, and has no mean to scale by", source=shard.name)
            out -= np.float32(stated.mean)
            out /= np.float32(stated.deviation or 1.0)
        return out

    def _mask(self, number: int) -> Shard:
        mask = self.shard(number).mask
        if mask is None:
            raise DataError("has no mask beside it, and one is asked for", source=self.names[number])
        return mask

    def _find_labels(self) -> dict[int, tuple[int, ...]]:
        """Return for each label the shards that have a voxel of it."""
        holders: dict[int, list[int]] = {}
        for number in range(len(self.names)):
            mask = self._mask(number)
            for segment, counts in zip(mask.segments, mask.content.counts, strict=True):
                if counts.voxels:
                    holders.setdefault(segment.number, []).append(number)
        wanted = sorted(holders) if self.args.labels is None else list(self.args.labels)
        missing = [n for n in wanted if n not in holders]
        if missing or not wanted:
            raise ConfigError(f"no shard has a voxel of the labels {missing or 'that are balanced'}")
        return {n: tuple(holders[n]) for n in wanted}


class ShardPatchStream(IterableDataset[Sample]):
    """One epoch of patches in order, dealt out to ranks and workers so that each patch comes exactly once.

    Args:
        patches: The data set; `set_epoch` on it takes effect at the next pass.
        rank: Of this process; by default that of torch.distributed, or 0.
        world: How many processes; by default as torch.distributed says, or 1.
        start: First index, to go on in the middle of an epoch.

    Raises:
        ConfigError: The rank is not one of the world's, or the start not of the epoch.
    """

    def __init__(
        self, patches: ShardPatches, *, rank: int | None = None, world: int | None = None, start: int = 0
    ) -> None:
        active = distributed.is_available() and distributed.is_initialized()
        self.patches = patches
        self.rank = rank if rank is not None else distributed.get_rank() if active else 0
        self.world = world if world is not None else distributed.get_world_size() if active else 1
        self.start = start
        if not 0 <= self.rank < self.world or not 0 <= start <= len(patches):
            raise ConfigError(f"rank {self.rank} of {self.world}, from patch {start} of {len(patches)}: not possible")

    def indices(self, worker: int = 0, workers: int = 1) -> range:
        """Return the indices of one worker of this rank."""
        return range(self.start + self.rank + self.world * worker, len(self.patches), self.world * workers)

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        mine = self.indices() if worker is None else self.indices(worker.id, worker.num_workers)
        upcoming: PatchPlace | None = None
        for index in mine:
            place = upcoming if upcoming is not None else self.patches.place(index)
            upcoming = None
            following = index + mine.step
            if following < mine.stop:
                upcoming = self.patches.place(following)
                self.patches.ahead(upcoming)
            yield self.patches.read(place)


def _clamped(start: int, size: int, length: int) -> int:
    """Move a box into the grid; in one that is smaller it lies in the middle."""
    return -((size - length) // 2) if length < size else min(max(0, start), length - size)
