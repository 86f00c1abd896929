"""How voxels are cut into chunks and blocks, and packed: measured for random patches of 96^3 voxels and of planes.

Blosc2 cuts an array twice: a chunk is what is read and checked at once, a block is what is unpacked at once. A random
patch touches every block that it overlaps, so small blocks waste little: with blocks of 16^3 voxels a patch of 96^3
unpacks on average 1.6 times its voxels, with 32^3 it is 2.3 times. Below 8 KB a block, the work of each block
outweighs that. LZ4HC unpacks as fast as LZ4 and packs a little tighter. Zstandard packs a quarter tighter and unpacks
at less than half the speed. Shuffling the bytes of a number helps images; labels of one byte have nothing to shuffle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isocenter.core.errors import ConfigError

__all__ = ["PATCH_PLANE", "PATCH_VOLUME", "Layout", "layout_for"]

PATCH_VOLUME = (96, 96, 96)
PATCH_PLANE = (1, 256, 256)
_BLOCK_BYTES = 8192
_CHUNK_BLOCKS = (2, 2, 4)
_PLANE_CHUNK_BLOCKS = (1, 4, 4)


@dataclass(frozen=True)
class Layout:
    """How an array (channel, z, y, x) is stored.

    Args:
        chunks: Voxels of a chunk.
        blocks: Voxels of a block.
        shuffle: Whether the bytes of each number are sorted by their place before packing with LZ4HC.
    """

    chunks: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    shuffle: bool


def layout_for(shape: tuple[int, int, int, int], dtype: np.dtype[np.generic], *, patch: tuple[int, int, int]) -> Layout:
    """Choose chunks, blocks and filter.

    Args:
        shape: (channel, z, y, x).
        dtype: Of the stored values.
        patch: Voxels (z, y, x) of the patches that are expected.

    Returns:
        Blocks of about 8 KB that are shaped like the patch, in chunks of a few of them.

    Raises:
        ConfigError: The patch is not three positive numbers.

    Example:
        >>> layout_for((1, 256, 256, 256), np.dtype("int16"), patch=(96, 96, 96)).blocks
        (1, 16, 16, 16)
        >>> layout_for((1, 300, 512, 512), np.dtype("int16"), patch=(1, 256, 256)).blocks
        (1, 1, 64, 64)
    """
    if len(patch) != 3 or min(patch) < 1:
        raise ConfigError(f"a patch must be three positive numbers (z, y, x), got {patch}")
    target = [min(p, n) for p, n in zip(patch, shape[1:], strict=True)]
    voxels = _BLOCK_BYTES // max(1, min(dtype.itemsize, 2))
    # Powers of two, doubled in turn along the axis of which the block covers least, x before y before z.
    block = [1, 1, 1]
    while block[0] * block[1] * block[2] * 2 <= voxels:
        open_axes = [a for a in (2, 1, 0) if block[a] < target[a]]
        if not open_axes:
            break
        axis = min(open_axes, key=lambda a: block[a] / target[a])
        block[axis] *= 2
    blocks = tuple(min(b, n) for b, n in zip(block, shape[1:], strict=True))
    planar = target[0] == 1
    times = _PLANE_CHUNK_BLOCKS if planar else _CHUNK_BLOCKS
    chunks = tuple(min(b * t, n) for b, t, n in zip(blocks, times, shape[1:], strict=True))
    shuffle = dtype.itemsize > 1
    return Layout((1, chunks[0], chunks[1], chunks[2]), (1, blocks[0], blocks[1], blocks[2]), shuffle)
