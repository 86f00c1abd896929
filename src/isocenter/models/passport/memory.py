"""Is there room for these weights? Asked before anything is built: a machine that runs out of memory kills the work."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from isocenter.core.errors import CapabilityError, WeightsError

__all__ = ["available_bytes", "needed_bytes", "refuse_a_plan_beyond", "refuse_what_does_not_fit", "size_words"]

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Return the memory that is free for this process, or None where the system doesn't say.

    The smaller of what the machine has free and what a container's limit leaves.
    """
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):
        limit, used = ((_GROUP / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        found.append(max(0, int(limit) - int(used)))
    if not found:
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    return min(found) if found else None


def needed_bytes(parameters: int, bytes_each: int = 4) -> int:
    """Return the least memory that a network takes: its parameters alone."""
    return parameters * bytes_each


def size_words(count: float) -> str:
    """Return a size for people.

    Example:
        >>> size_words(3_400_000_000), size_words(52_000)
        ('3.4 GB', '0.052 MB')
    """
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def refuse_what_does_not_fit(what: str, parameters: int, bytes_each: int = 4) -> None:
    """Raise where the parameters alone don't fit into memory.

    Args:
        what: For the message.
        parameters: How many.
        bytes_each: Bytes of each in memory: 4 for float32.

    Raises:
        CapabilityError: They don't fit; says how much is needed and how much is there.
    """
    there, needed = available_bytes(), needed_bytes(parameters, bytes_each)
    if there is not None and needed > there:
        raise CapabilityError(
            f"{what}: its {parameters:,} parameters need {size_words(needed)} of memory and {size_words(there)} are "
            "free; close other programs, or use a machine with more memory"
        )


def refuse_a_plan_beyond(what: str, planned: int, held: int, bytes_each: int = 4) -> None:
    """Raise where a configuration describes a network that doesn't fit into memory, and its weights would.

    Args:
        what: For the message.
        planned: Parameters that the configuration describes.
        held: Numbers in the file.
        bytes_each: Bytes of each in memory.

    Raises:
        WeightsError: Configuration and weights can't be of one network.
    """
    there = available_bytes()
    if there is not None and planned > held and needed_bytes(planned, bytes_each) > there:
        raise WeightsError(
            f"{what}: the configuration describes {planned:,} parameters, which need "
            f"{size_words(needed_bytes(planned, bytes_each))} of memory, and the file holds {held:,}; they are not of "
            "one network: take both from one source"
        )
