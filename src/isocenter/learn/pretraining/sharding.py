"""How several processes hold one learner: each a whole copy (DDP), or each a part of every weight (FSDP2).

Blocks of a transformer and levels of a residual encoder are gathered one by one while they are computed; everything
else is one part of its own. The averaged twin is shared out in the same way, so that averaging stays local.

Source:
    Zhao et al., PyTorch FSDP, VLDB 2023; `torch.distributed.fsdp.fully_shard` (FSDP2).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from isocenter.core.errors import ConfigError
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.learner import Learner
from isocenter.learn.pretraining.parallel import World

__all__ = ["Layout", "clipped", "fill", "layout_of", "shard"]

Layout = Literal["one", "ddp", "fsdp"]


def layout_of(args: PretrainingArgs, world: World) -> Layout:
    """Return how the processes there are hold the learner.

    Raises:
        ConfigError: torch.compile is wanted together with FSDP.
    """
    if args.parallel == "fsdp" and args.compile:
        raise ConfigError("`compile: true` and `parallel: fsdp` do not go together; leave one of them out")
    if world.size == 1:
        return "one"
    return "fsdp" if args.parallel == "fsdp" else "ddp"


def shard(learner: Learner, device: torch.device, world: World, *, bfloat16: bool) -> None:
    """Share out the weights of a learner among all processes, in place.

    Args:
        learner: Built alike in every process.
        device: Of this process.
        world: This process among all.
        bfloat16: Whether blocks are gathered and computed in bfloat16; gradients are summed in float32 always. What is
            no block (ends, heads, prototypes) stays in float32.
    """
    mesh = init_device_mesh(device.type, (world.size,))
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for part in learner.units():
        fully_shard(part, mesh=mesh, mp_policy=half if bfloat16 else exact, reshard_after_forward=True)
    fully_shard(learner, mesh=mesh, mp_policy=exact, reshard_after_forward=True)
    register_fsdp_forward_method(learner, "watched")


def clipped(learner: nn.Module, longest: float) -> float:
    """Shorten the gradients of all parts together to a length; return what it was."""
    norm = nn.utils.clip_grad_norm_(learner.parameters(), longest)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def fill(target: torch.Tensor, values: Any) -> None:
    """Put whole values into a tensor, or this process's part of them where it is shared out."""
    with torch.no_grad():
        if isinstance(target, DTensor):
            whole = values.to(target.device, target.dtype)
            target.copy_(distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None))
        else:
            target.copy_(values)
