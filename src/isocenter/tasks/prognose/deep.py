"""DeepSurv and discrete-time networks on a table: learnt with torch, kept and used as plain matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from isocenter.core.errors import TrainingError
from isocenter.models.fusion.heads import cox_loss, hazard_loss
from isocenter.models.fusion.intervals import Intervals, cut_time
from isocenter.tasks.prognose.learners import Curves, Score, Setting, Times
from isocenter.tasks.prognose.networks import HazardNetwork, Layer, risk_network

__all__ = ["NetworkLearner"]

_STEPS, _RATE = 200, 0.01


@dataclass(frozen=True)
class NetworkLearner:
    """A small network with Cox's likelihood ("deepsurv") or hazards over intervals ("discrete").

    Args:
        name: Which of the two.
        widths: Of the hidden layer, to choose from.
        decays: Of weights, to choose from.
        steps: Of training, all people at once.
    """

    name: Literal["deepsurv", "discrete"]
    widths: tuple[int, ...] = (16,)
    decays: tuple[float, ...] = (1.0, 0.1, 0.01)
    steps: int = _STEPS

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return widths and decays, the strongest decay first."""
        del x, times
        return [{"width": w, "decay": d} for d in sorted(self.decays, reverse=True) for w in self.widths]

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Learn with one setting.

        Raises:
            TrainingError: The loss is no number.
        """
        intervals = cut_time(times.days, times.happened) if self.name == "discrete" else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = self._trained(x, times, setting, intervals)
        if intervals is not None:
            return HazardNetwork(layers, intervals)
        return risk_network(layers, x, times.days, times.happened)

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the concordance of people held out."""
        return score(times.days, times.happened, model.risk(x))

    def _trained(
        self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, intervals: Intervals | None
    ) -> tuple[Layer, ...]:
        width, outputs = int(setting["width"]), 1 if intervals is None else len(intervals)
        net = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, outputs))
        rows = torch.from_numpy(x.astype(np.float32))
        days, happened = torch.from_numpy(times.days.astype(np.float32)), torch.from_numpy(times.happened)
        passed = event = torch.zeros(0)
        if intervals is not None:
            passed, event = (torch.from_numpy(part) for part in intervals.place(times.days, times.happened))
            _begin(net[-1], passed.numpy(), event.numpy())
        # Biases are the hazards of everybody: they are not drawn to nothing.
        weights: list[torch.Tensor] = [m.weight for m in net if isinstance(m, nn.Linear)]
        biases: list[torch.Tensor] = [m.bias for m in net if isinstance(m, nn.Linear)]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=_RATE, weight_decay=float(setting["decay"]))
        for _ in range(self.steps):
            optimiser.zero_grad(set_to_none=True)
            out = net(rows)
            loss = cox_loss(out[:, 0], days, happened) if intervals is None else hazard_loss(out, passed, event)
            if not torch.isfinite(loss):
                raise TrainingError("the loss is no number; the covariates may be of very different scale")
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        linear = [m for m in net if isinstance(m, nn.Linear)]
        return tuple(
            Layer(m.weight.detach().numpy().astype(np.float64), m.bias.detach().numpy().astype(np.float64))
            for m in linear
        )


def _begin(last: nn.Module, passed: Int64[np.ndarray, " n"], event: Bool[np.ndarray, " n"]) -> None:
    """Begin with the hazards of everybody, and little said of anybody."""
    if not isinstance(last, nn.Linear):
        raise TrainingError("the last layer of a network of hazards must be linear")
    number = np.arange(last.out_features)
    risky = (passed[:, None] + event[:, None] > number).sum(axis=0)
    came = ((passed[:, None] == number) & event[:, None]).sum(axis=0)
    share = (came + 0.5) / (risky + 1.0)
    with torch.no_grad():
        last.bias.copy_(torch.from_numpy(np.log(share / (1 - share)).astype(np.float32)))
        last.weight.mul_(0.1)
