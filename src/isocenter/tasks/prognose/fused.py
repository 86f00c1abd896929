"""Fusion networks as learners of times: modalities of which any may be missing, learnt with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.models.fusion.fit import Sources, fit_times
from isocenter.models.fusion.network import FusionNet, FusionSettings
from isocenter.tasks.prognose.cox import breslow_baseline
from isocenter.tasks.prognose.fusing import FusedNetworks, Parts
from isocenter.tasks.prognose.learners import Curves, Score, Setting, Times

__all__ = ["FusionLearner"]

_STEPS = 300


@dataclass(frozen=True)
class FusionLearner:
    """Networks over modalities, with hazards over intervals ("fusion") or Cox's likelihood ("fusion-deepsurv").

    Args:
        name: Which of the two.
        layout: Name and width of each modality.
        decays: Of weights, to choose from.
        networks: Whose mean answers; one of them does while settings are chosen.
        steps: Of training, all people at once.
    """

    name: Literal["fusion", "fusion-deepsurv"]
    layout: tuple[tuple[str, int], ...] = ()
    decays: tuple[float, ...] = (1.0, 0.1)
    networks: int = 5
    steps: int = _STEPS

    def over(self, layout: tuple[tuple[str, int], ...]) -> FusionLearner:
        """Return the learner for these modalities."""
        return replace(self, layout=layout)

    @property
    def whole(self) -> Setting:
        """What is set once the rest is chosen: all networks."""
        return {"networks": self.networks}

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return decays, the strongest first."""
        del x, times
        return [{"decay": d, "networks": 1} for d in sorted(self.decays, reverse=True)]

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Learn with one setting.

        Raises:
            DataError: Too few events, or nobody known.
            TrainingError: The loss is no number.
            CapabilityError: Cox's likelihood is asked for and torchsurv is not installed.
        """
        if sum(width for _, width in self.layout) != x.shape[1]:
            raise DataError("fusion needs to know the modalities of its matrix")
        ends = np.cumsum([width for _, width in self.layout])
        parts = np.split(x, ends[:-1], axis=1)
        sources = Sources({name: part for (name, _), part in zip(self.layout, parts, strict=True)})
        known = np.asarray(sources.present.any(axis=1))
        begun = FusionSettings(self.layout, "discrete" if self.name == "fusion" else "cox", 1)
        made = fit_times(
            sources.rows(known), times.days[known], times.happened[known], settings=begun, steps=self.steps,
            networks=int(setting["networks"]), decay=float(setting["decay"]), seed=seed,
        )  # fmt: skip
        scales = tuple((made.centres[n], made.scales[n]) for n, _ in self.layout)
        nets = tuple(parts_of(net) for net in made.nets)
        network = FusedNetworks(self.layout, scales, nets, begun.heads, made.intervals, None, np.zeros(1))
        outputs = network.outputs(x[known])
        usual = outputs.mean(axis=0)
        if made.intervals is not None:
            return replace(network, usual=usual)
        baseline = breslow_baseline(outputs[:, 0], times.days[known], times.happened[known])
        return replace(network, usual=usual, baseline=baseline)

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the concordance of people held out."""
        return score(times.days, times.happened, model.risk(x))


def parts_of(net: FusionNet) -> Parts:
    """Return the weights of a network as plain arrays."""
    return {name: value.detach().numpy().astype(np.float64) for name, value in net.state_dict().items()}
