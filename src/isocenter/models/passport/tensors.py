"""What a safetensors file holds, read from its header alone: no torch, no numbers, no trust.

Source:
    The safetensors format: eight bytes with the length of the header, the header as JSON, then the numbers of all
    tensors without gaps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from isocenter.core.errors import WeightsError

__all__ = ["TensorEntry", "count_parameters", "dtypes", "name_a_few", "read_header", "read_json"]

_MOST_HEADER = 100_000_000
_BITS = {
    "BOOL": ("bool", 8), "U8": ("uint8", 8), "I8": ("int8", 8), "I16": ("int16", 16), "U16": ("uint16", 16),
    "I32": ("int32", 32), "U32": ("uint32", 32), "I64": ("int64", 64), "U64": ("uint64", 64),
    "F16": ("float16", 16), "BF16": ("bfloat16", 16), "F32": ("float32", 32), "F64": ("float64", 64),
    "F8_E4M3": ("float8_e4m3", 8), "F8_E5M2": ("float8_e5m2", 8),
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file.

    Args:
        dtype: As torch names it.
        shape: Its sides.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers that it holds."""
        return prod(self.shape)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        WeightsError: The file can't be read, or holds something else.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: can't be read as JSON; take it from its source again") from error
    if not isinstance(read, dict):
        raise WeightsError(f"{path}: must hold a JSON object; take it from its source again")
    return read


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return what a safetensors file holds, by name, once its header and its length agree.

    Raises:
        WeightsError: Not a safetensors file, cut off, or with tensors of an unknown type.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= length <= min(_MOST_HEADER, size - 8):
                raise WeightsError(f"{path}: not a safetensors file, or cut off; take it from its source again")
            header = json.loads(stream.read(length))
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its safetensors header is damaged; take it from its source again") from error
    try:
        entries, end = _entries(path, header)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path}: its safetensors header is damaged; take it from its source again") from error
    if end != size - 8 - length:
        raise WeightsError(
            f"{path}: its header describes {end:,} bytes of numbers and the file holds {size - 8 - length:,}; it is "
            "cut off or damaged: take it from its source again"
        )
    return entries


def _entries(path: Path, header: Mapping[str, Mapping[str, object]]) -> tuple[dict[str, TensorEntry], int]:
    entries, end = {}, 0
    for name, told in header.items():
        if name == "__metadata__":
            continue
        code, shape, offsets = str(told["dtype"]), told["shape"], told["data_offsets"]
        if code not in _BITS:
            raise WeightsError(f"{path}: {name!r} is of the type {code}, which is not known; convert it to F32 or BF16")
        dtype, bits = _BITS[code]
        if not isinstance(shape, list) or not isinstance(offsets, list) or any(int(n) < 0 for n in shape):
            raise ValueError(name)
        entry = TensorEntry(dtype, tuple(int(n) for n in shape))
        start, stop = (int(n) for n in offsets)
        if start < 0 or (stop - start) * 8 != entry.count * bits:
            raise ValueError(name)
        entries[name], end = entry, max(end, stop)
    return entries, end


def count_parameters(entries: Iterable[TensorEntry]) -> int:
    """Return how many numbers there are."""
    return sum(entry.count for entry in entries)


def dtypes(entries: Iterable[TensorEntry]) -> tuple[str, ...]:
    """Return the types of the numbers, the most frequent first."""
    counts: Counter[str] = Counter()
    for entry in entries:
        counts[entry.dtype] += entry.count
    return tuple(name for name, _ in counts.most_common())


def name_a_few(names: Iterable[str], most: int = 3) -> str:
    """Name a few, and say how many more there are.

    Example:
        >>> name_a_few(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
