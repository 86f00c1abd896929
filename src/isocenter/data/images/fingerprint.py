"""What a reader asks of the voxels it decoded: their name (`core.fingerprint`), and whether a header can be true."""

from __future__ import annotations

import os
from pathlib import Path

from isocenter.core.errors import PixelError
from isocenter.core.fingerprint import fingerprint

__all__ = ["check_size", "fingerprint"]

_MOST_DEFLATE = 1100
"""Deflate cannot shrink data by more than about 1032 to 1; a header that promises more is false."""


def check_size(expected_bytes: int, file: Path, *, compressed: bool, name: str) -> None:
    """Refuse a header that promises more voxels than the file can hold, or than this machine can.

    Args:
        expected_bytes: Bytes of the voxels as the header describes them.
        file: The file that holds them.
        compressed: Whether they are compressed there.
        name: The file's name for the message.

    Raises:
        PixelError: The file is too small, or the memory.
    """
    stored = file.stat().st_size
    most = stored * _MOST_DEFLATE if compressed else stored
    if expected_bytes > most:
        raise PixelError(
            f"the header promises {expected_bytes} bytes of voxels and the file holds {stored}: it is truncated or "
            "damaged; fetch it again",
            source=name,
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if expected_bytes > memory:
        raise PixelError(
            f"its voxels need {expected_bytes / 2**30:.1f} GiB and this machine has {memory / 2**30:.1f} GiB of "
            "memory; crop it, or use a larger machine",
            source=name,
        )
