"""Checkpoints that a training killed at any moment resumes from exactly.

A checkpoint holds tensors and plain values only, is written beside its final name and moved there in one act, and is
read without unpickling code.
"""

from __future__ import annotations

import contextlib
import csv
import os
import pickle  # for the name of the restricted reader's error; nothing is unpickled with it
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from isocenter.core.errors import WeightsError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["CsvLog", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; an interruption leaves the one before.

    Args:
        path: Final name.
        state: Tensors, numbers, strings, and lists or dictionaries of them.

    Raises:
        OutputError: The disk is full, or the folder can't be written; the checkpoint before is whole.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        cause = _system_error(error)
        if cause is None:
            raise
        raise explain_os_error(cause, path, doing="write") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return what the operating system said; torch hides it behind an error of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        WeightsError: It is missing, or not a checkpoint.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint {path.name!r} in {path.parent.name!r}; start without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path.name!r} is not a checkpoint that can be read; start without --resume") from error
    return state


class CsvLog:
    """A table with one row per step, cut back to the checkpoint when a training resumes.

    Args:
        path: The file.
        columns: Names of the columns, the first is the step.
        keep_until: Rows of later steps are dropped; None begins anew.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, keep_until: int | None = None) -> None:
        rows: list[dict[str, str]] = []
        if keep_until is not None and path.is_file():
            with path.open(newline="") as stream:
                rows = [r for r in csv.DictReader(stream) if int(r[columns[0]]) <= keep_until]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("w", newline="")
        self._writer = csv.DictWriter(self._stream, columns)
        self._writer.writeheader()
        self._writer.writerows(rows)
        self._stream.flush()

    def add(self, row: Mapping[str, object]) -> None:
        """Write one row."""
        self._writer.writerow(row)
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
