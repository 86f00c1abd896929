"""Fill a network with a state dictionary, when each of its names and shapes is the network's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.models.passport.checkpoint import State
from isocenter.models.passport.memory import refuse_a_plan_beyond
from isocenter.models.passport.tensors import name_a_few

__all__ = ["make_and_fill"]

_WRONG = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def make_and_fill(make: Callable[[], nn.Module], state: State, where: Path) -> nn.Module:
    """Build a network and fill it, in evaluation mode.

    Args:
        make: Builds it; raises whatever the network's class raises for wrong arguments.
        state: All of its tensors, by name.
        where: For messages.

    Raises:
        WeightsError: The network can't be built so, or the tensors are another's.
    """
    try:
        with torch.device("meta"):
            planned = sum(parameter.numel() for parameter in make().parameters())
    except _WRONG:
        planned = 0  # some networks compute while they are built, which a network without numbers can't
    refuse_a_plan_beyond(str(where), planned, sum(tensor.numel() for tensor in state.values()))
    try:
        network = make()
    except _WRONG as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{where}: the network can't be built as its configuration says: {why}") from error
    own = network.state_dict()
    shapes = [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(own[key].shape)} by the configuration"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    for words, found in (("of another shape", shapes), ("missing", missing), ("not of this network", surplus)):
        if found:
            raise WeightsError(
                f"{where}: the weights are not those of the network that is described: {len(found)} {words}: "
                f"{name_a_few(found)}; take both from one source"
            )
    network.load_state_dict(state)
    return network.eval()
