"""How a training runs on this machine: in which precision, compiled or not. Chosen once, kept for the whole run."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.learner import Learner
from isocenter.learn.pretraining.parallel import World, mean_over

__all__ = ["Choices", "choose", "compiled", "device_of"]

_WORTH_IT = 1.1
"""bfloat16 must be this much faster to be taken: it costs digits."""
_REPEATS = 3


@dataclass(frozen=True)
class Choices:
    """What was chosen, and why.

    Args:
        bfloat16: Whether the forward pass runs in bfloat16.
        float32_seconds: Of a forward and backward pass; None where nothing had to be measured.
        bfloat16_seconds: The same in bfloat16.
    """

    bfloat16: bool
    float32_seconds: float | None = None
    bfloat16_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the values for a checkpoint."""
        return asdict(self)


def device_of(args: PretrainingArgs, world: World) -> torch.device:
    """Return where to train: what is configured, or a GPU of this process's own where there is one."""
    if args.device != "auto":
        return torch.device(args.device)
    if torch.cuda.is_available():
        return torch.device("cuda", world.rank % torch.cuda.device_count())
    return torch.device("cpu")


def choose(args: PretrainingArgs, learner: Learner, batch: Mapping[str, torch.Tensor], device: torch.device) -> Choices:
    """Choose the precision; "auto" times both on a copy of the learner, on this device."""
    if args.bfloat16 != "auto":
        return Choices(bool(args.bfloat16))
    copied = copy.deepcopy(learner).train().to(device)
    seconds = {}
    for half in (False, True):
        found = []
        for _ in range(_REPEATS + 1):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            before = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss, _ = copied(dict(batch))
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found.append(time.perf_counter() - before)
            copied.zero_grad(set_to_none=True)
        mean = mean_over(torch.tensor(statistics.median(found[1:]), device=device))  # all processes choose alike
        seconds[half] = float(mean)
    return Choices(seconds[False] > _WORTH_IT * seconds[True], seconds[False], seconds[True])


def compiled(learner: Learner, batch: Mapping[str, torch.Tensor], *, half: bool) -> tuple[nn.Module, str]:
    """Compile a learner, and run it once forward and back to see that it works.

    Returns:
        What to call, and what went wrong: the learner itself then.
    """
    device = next(learner.parameters()).device
    state = copy.deepcopy(learner.state_dict())
    try:
        call: nn.Module = torch.compile(learner)  # type: ignore[assignment]
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss, _ = call(dict(batch))
        loss.backward()
    except (RuntimeError, ImportError, OSError, AttributeError, TypeError, ValueError) as error:
        torch.compiler.reset()
        call = learner
        line = (str(error).strip().splitlines() or [""])[0][:160]
        told = f"torch.compile does not work here ({type(error).__name__}: {line}); it runs without"
    else:
        told = ""
    learner.load_state_dict(state)  # what the trial changed, a centre for one
    learner.zero_grad(set_to_none=True)
    return call, told
