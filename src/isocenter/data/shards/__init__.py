"""Shards: images and masks in Blosc2 files, made for random patches from a local disk or object storage.

`write_shard` and `write_shards` write them, `open_shard` opens one lazily, `export_ome_zarr` hands one on. The PyTorch
data set over many is `isocenter.learn.shard_patches`. Blosc2 itself is imported when a shard is first written or
opened: pip install 'isocenter[archive]'.
"""

from __future__ import annotations

from isocenter.data.shards.backing import Staging
from isocenter.data.shards.folder import Entry, ToShard, Written, read_index, write_shards
from isocenter.data.shards.form import Content, Counts, Statistics
from isocenter.data.shards.layout import Layout, layout_for
from isocenter.data.shards.ome_zarr import export_ome_zarr
from isocenter.data.shards.ome_zarr_folder import write_ome_zarrs
from isocenter.data.shards.shard import Shard, open_shard, random_voxel
from isocenter.data.shards.write import mask_path, narrowest, write_shard

__all__ = [
    "Content",
    "Counts",
    "Entry",
    "Layout",
    "Shard",
    "Staging",
    "Statistics",
    "ToShard",
    "Written",
    "export_ome_zarr",
    "layout_for",
    "mask_path",
    "narrowest",
    "open_shard",
    "random_voxel",
    "read_index",
    "write_ome_zarrs",
    "write_shard",
    "write_shards",
]
