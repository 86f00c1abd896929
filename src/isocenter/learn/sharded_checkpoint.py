"""Checkpoints of which every process writes its own part, and that any number of processes can read.

    checkpoint/latest.json              names the folder that counts; replaced in one act
    checkpoint/step-00000500/           shard-00001-model-....safetensors, one for each process, and state.json

Tensors go through `torch.distributed.checkpoint` in its safetensors form, everything else is JSON: nothing is pickled
on disk, and so nothing is unpickled. (The default form of `torch.distributed.checkpoint` keeps a pickled `.metadata`,
which runs whatever code a stranger put there.) A kill or a full disk at any moment leaves the checkpoint before.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import distributed
from torch.distributed import checkpoint
from torch.distributed.checkpoint.api import CheckpointException

from isocenter.core.errors import CapabilityError, IsocenterError, OutputError, WeightsError
from isocenter.data.images.atomic import atomic_path, explain_os_error

__all__ = ["SHARDED", "has_shards", "load_shards", "read_state", "save_shards"]

SHARDED = "checkpoint"
dcp: Any = checkpoint  # its stubs hide what it exports
_LATEST, _STATE, _PARTS = "latest.json", "state.json", "parts"


def has_shards(run: Path) -> bool:
    """Whether a run's folder holds a checkpoint in parts."""
    return (run / SHARDED / _LATEST).is_file()


def save_shards(run: Path, step: int, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
    """Write a checkpoint; every process must call it, with its own part of every tensor.

    Args:
        run: Folder of the run, the same for all processes.
        step: Names the checkpoint; one of the same step is kept as it is.
        tensors: By name; a `DTensor` is written in parts.
        plain: JSON-ready values that all processes have alike.

    Raises:
        CapabilityError: The torch that is installed can't write this form.
        OutputError: A disk is full, or the folder can't be written; the checkpoint before is whole.
    """
    if not hasattr(dcp, "HuggingFaceStorageWriter"):
        raise CapabilityError("checkpoints in parts need a newer torch (2.8): install one, or train with parallel ddp")
    home, folder = run / SHARDED, run / SHARDED / f"step-{step:08d}"
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    if has_shards(run) and _latest(run) == folder.name:
        _agree(None, run)
        return
    error: BaseException | None = None
    if first:
        try:
            _sweep(home, keep=_latest(run) if has_shards(run) else "")
            folder.mkdir(parents=True)
        except (OSError, WeightsError) as found:
            error = found
    _agree(error, run)
    try:
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        with _quietly():
            dcp.save(dict(tensors), storage_writer=writer, no_dist=not distributed.is_initialized())
    except (CheckpointException, OSError, RuntimeError) as found:
        error = found
    try:
        _agree(error, run)
        if first:
            _publish(home, folder, plain)
    except (OSError, IsocenterError) as found:
        error = found
    finally:
        if error is not None and first:
            shutil.rmtree(folder, ignore_errors=True)
    _agree(error, run)


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what torch says of a single process: here it is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is")
        yield


def _publish(home: Path, folder: Path, plain: Mapping[str, Any]) -> None:
    parts = {part.name: part.stat().st_size for part in sorted(folder.glob("*.safetensors"))}
    for file, values in (
        (folder / _STATE, {**plain, _PARTS: parts}),
        (home / _LATEST, {"folder": folder.name}),
    ):
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")
    _sweep(home, keep=folder.name)


def _sweep(home: Path, *, keep: str) -> None:
    """Remove the checkpoints that do not count: older ones, and those that a kill left half-written."""
    for old in home.glob("step-*"):
        if old.name != keep:
            shutil.rmtree(old)


def _agree(error: BaseException | None, run: Path) -> None:
    """Raise in every process where one has failed: with its own reason there, with that of the others elsewhere."""
    failed = error is not None
    if distributed.is_initialized() and distributed.get_world_size() > 1:
        device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        count = torch.tensor(int(failed), device=device)
        distributed.all_reduce(count)
        failed = int(count) > 0
    if not failed:
        return
    if isinstance(error, IsocenterError):
        raise error
    cause = _system_error(error)
    if cause is not None:
        raise explain_os_error(cause, run / SHARDED, doing="write") from error
    if error is not None and not isinstance(error, CheckpointException):
        raise error
    raise OutputError("a process could not write its part of the checkpoint; the one before is whole", source=run)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return what the operating system said, from wherever torch hides it."""
    seen: list[BaseException | None] = [error]
    if isinstance(error, CheckpointException):
        seen += [failure[0] for failure in error.failures.values()]
    for one in seen:
        while one is not None and not isinstance(one, OSError):
            one = one.__cause__ or one.__context__
        if one is not None:
            return one
    return None


def _latest(run: Path) -> str:
    try:
        name = json.loads((run / SHARDED / _LATEST).read_text("utf-8"))["folder"]
        if isinstance(name, str) and name.startswith("step-") and (run / SHARDED / name).is_dir():
            return name
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise WeightsError(f"{SHARDED}/{_LATEST} in {run.name!r} names no checkpoint; start without --resume")


def read_state(run: Path) -> dict[str, Any]:
    """Return the values of the checkpoint that counts, without its tensors.

    Raises:
        WeightsError: There is none, or it is damaged.
    """
    if not has_shards(run):
        raise WeightsError(f"no checkpoint in {run.name!r}; start without --resume")
    folder = run / SHARDED / _latest(run)
    try:
        state = dict(json.loads((folder / _STATE).read_text("utf-8")))
        # A part that is missing would leave what it held unread, and nobody would know.
        lost = [name for name, size in state.pop(_PARTS).items() if (folder / name).stat().st_size != size]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"the checkpoint in {run.name!r} is damaged; start without --resume") from error
    if lost:
        raise WeightsError(f"the checkpoint in {run.name!r} is damaged ({lost[0]}); start without --resume")
    return state


def load_shards(run: Path, tensors: Mapping[str, torch.Tensor], *, alone: bool = False) -> None:
    """Read a checkpoint into tensors, whole or shared out, of as many processes as there are now.

    Args:
        run: Folder of the run.
        tensors: What to fill, by name; a subset of what was saved.
        alone: Whether this process reads by itself, whatever others do.

    Raises:
        WeightsError: It is damaged, or of something else.
    """
    read_state(run)
    reader = dcp.HuggingFaceStorageReader(str(run / SHARDED / _latest(run)))
    try:
        known = reader.read_metadata().state_dict_metadata
        wrong = sorted(
            k for k, v in tensors.items() if k not in known or tuple(v.shape) != tuple(getattr(known[k], "size", ()))
        )
        if wrong:
            raise WeightsError(
                f"the checkpoint in {run.name!r} is of another training, or a part of it is missing ({wrong[0]})"
            )
        with _quietly():
            dcp.load(dict(tensors), storage_reader=reader, no_dist=alone or not distributed.is_initialized())
    except (CheckpointException, SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(f"the checkpoint in {run.name!r} is damaged; start without --resume") from error
