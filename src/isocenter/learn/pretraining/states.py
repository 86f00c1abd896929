"""What a checkpoint of a training holds, in one file or in parts, and back from either into any number of processes.

One file (`checkpoint.pt`) is written where every process holds the whole learner; parts (`checkpoint/`) with
`parallel: fsdp`. Which of them there is does not matter to who reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.learn.checkpoint import load_checkpoint, save_checkpoint
from isocenter.learn.pretraining.learner import Learner
from isocenter.learn.pretraining.sharding import fill
from isocenter.learn.sharded_checkpoint import SHARDED, has_shards, load_shards, read_state, save_shards

__all__ = ["CHECKPOINT", "State", "fill_module", "has_checkpoint", "into", "named", "plain_of", "save"]

CHECKPOINT = "checkpoint.pt"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class State:
    """The tensors of a training.

    Args:
        learner: What learns.
        average: Its averaged twin, where the trainer keeps one.
        optimiser: Of the learner's parameters.
    """

    learner: Learner
    average: Learner | None
    optimiser: torch.optim.Optimizer


def named(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Give every tensor that a checkpoint holds once, by its first name: a learner may know its backbone by two."""
    kept = module.state_dict().keys()
    yield from ((name, parameter) for name, parameter in module.named_parameters())
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in kept)


def has_checkpoint(run: Path) -> bool:
    """Whether a run's folder holds a checkpoint of either form."""
    return (run / CHECKPOINT).is_file() or has_shards(run)


def save(run: Path, state: State, plain: Mapping[str, Any], *, parts: bool, first: bool) -> None:
    """Write the checkpoint; every process calls it.

    Args:
        run: Folder of the run.
        state: The tensors.
        plain: JSON-ready values; `step` among them.
        parts: Whether every process writes its own part, or the first writes all.
        first: Whether this is the first process.

    Raises:
        OutputError: The disk is full, or the folder can't be written; the checkpoint before is whole.
    """
    if parts:
        steps: dict[str, float] = {}
        save_shards(run, int(plain["step"]), _tensors(state, steps), {**plain, "updates": steps})
        if first:
            (run / CHECKPOINT).unlink(missing_ok=True)
    elif first:
        average = state.average.state_dict() if state.average is not None else None
        tensors = {"learner": state.learner.state_dict(), "average": average, "optimiser": state.optimiser.state_dict()}
        save_checkpoint(run / CHECKPOINT, {**plain, **tensors})
        if has_shards(run):
            shutil.rmtree(run / SHARDED)


def _tensors(state: State, updates: dict[str, float]) -> dict[str, torch.Tensor]:
    found = {f"learner.{k}": v.detach() for k, v in named(state.learner)}
    if state.average is not None:
        found |= {f"average.{k}": v.detach() for k, v in named(state.average)}
    for name, parameter in state.learner.named_parameters():
        known = state.optimiser.state.get(parameter)
        if known:
            updates[name] = float(known["step"])
            found |= {f"optimiser.{name}.{moment}": known[moment] for moment in _MOMENTS}
    return found


def plain_of(run: Path) -> dict[str, Any]:
    """Return the values of the latest checkpoint; `in_parts` says which form it has, `tensors` what one file held.

    Raises:
        WeightsError: There is none, or it is damaged.
    """
    parts = read_state(run) if has_shards(run) else None
    if parts is not None and not (run / CHECKPOINT).is_file():
        return {**parts, "in_parts": True}
    whole = load_checkpoint(run / CHECKPOINT)
    # Both are there only if a kill came between writing one and removing the other.
    if parts is not None and parts["step"] > whole["step"]:
        return {**parts, "in_parts": True}
    tensors = {k: whole.pop(k) for k in ("learner", "average", "optimiser")}
    return {**whole, "in_parts": False, "tensors": tensors}


def into(run: Path, plain: Mapping[str, Any], state: State) -> None:
    """Fill a training, whole or shared out among processes, from the checkpoint that `plain_of` found.

    Raises:
        WeightsError: It is of another training, or damaged.
    """
    if plain["in_parts"]:
        targets = _targets(state, plain["updates"])
        load_shards(run, targets)
        return
    tensors = plain["tensors"]
    fill_module(state.learner, tensors["learner"])
    if state.average is not None:
        fill_module(state.average, tensors["average"])
    order = [p for group in state.optimiser.param_groups for p in group["params"]]
    for number, known in tensors["optimiser"]["state"].items():
        _begin_moments(state.optimiser, order[number], float(known["step"]))
        for moment in _MOMENTS:
            fill(state.optimiser.state[order[number]][moment], known[moment])


def _targets(state: State, updates: Mapping[str, float]) -> dict[str, torch.Tensor]:
    parameters = dict(state.learner.named_parameters())
    for name, steps in updates.items():
        if name not in parameters:
            raise WeightsError(f"the checkpoint is of another training: it knows a weight {name}")
        _begin_moments(state.optimiser, parameters[name], steps)
    return _tensors(state, {})


def _begin_moments(optimiser: torch.optim.Optimizer, parameter: torch.Tensor, steps: float) -> None:
    moments: dict[str, Any] = {moment: torch.zeros_like(parameter) for moment in _MOMENTS}
    device = parameter.device if parameter.device.type == "cuda" else "cpu"
    optimiser.state[parameter] = {"step": torch.tensor(steps, dtype=torch.float32, device=device), **moments}


def fill_module(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Fill a module, whole or shared out, from whole values by name.

    Raises:
        WeightsError: A value is missing or has another shape.
    """
    for name, target in named(module):
        if name not in values or values[name].shape != target.shape:
            raise WeightsError(f"the checkpoint is of another training: {name} is missing or has another shape")
        fill(target, values[name])
