"""Small networks of people as plain matrices: what was learnt with torch is used without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

from isocenter.models.fusion.intervals import Intervals
from isocenter.tasks.prognose.cox import CoxModel, breslow_baseline

__all__ = ["HazardNetwork", "Layer", "RiskNetwork", "risk_network"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer; between two layers what is negative becomes 0."""

    weight: Float[np.ndarray, "out into"]
    bias: Float[np.ndarray, " out"]


def _through(layers: tuple[Layer, ...], x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n k"]:
    for number, layer in enumerate(layers):
        x = (np.maximum(x, 0) if number else x) @ layer.weight.T + layer.bias
    return x


@dataclass(frozen=True, eq=False)
class RiskNetwork:
    """A network that says the logarithm of the hazard ratio (DeepSurv).

    Args:
        layers: Of the network.
        baseline: Breslow's.
    """

    layers: tuple[Layer, ...]
    baseline: CoxModel

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the logarithm of the hazard ratio to the average person."""
        return self.baseline.risk(_through(self.layers, x))

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day."""
        return self.baseline.survival(_through(self.layers, x), at_days)


@dataclass(frozen=True, eq=False)
class HazardNetwork:
    """A network that says the hazard of each interval.

    Args:
        layers: Of the network.
        intervals: Of time.
    """

    layers: tuple[Layer, ...]
    intervals: Intervals

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the cumulative hazard, mean over the intervals' ends."""
        hazards = expit(_through(self.layers, x))
        return np.asarray(np.cumsum(-np.log1p(-np.minimum(hazards, 1 - 1e-7)), axis=1).mean(axis=1))

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day; constant beyond the last interval."""
        return self.intervals.survival(expit(_through(self.layers, x)), at_days)


def risk_network(
    layers: tuple[Layer, ...],
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
) -> RiskNetwork:
    """Return a network of risks with the baseline of the people that it learnt from."""
    return RiskNetwork(layers, breslow_baseline(_through(layers, x)[:, 0], days, happened))
