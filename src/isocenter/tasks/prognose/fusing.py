"""Fusion networks as plain matrices: what was learnt with torch is used without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import erf, expit, softmax

from isocenter.models.fusion.intervals import Intervals
from isocenter.tasks.prognose.cox import CoxModel

__all__ = ["FusedNetworks", "Parts"]

Parts = Mapping[str, np.ndarray]
"""Weights of one network, by name."""
_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class FusedNetworks:
    """The mean of several fusion networks.

    Args:
        layout: Name and width of each modality, in the order of the matrix.
        scales: Centre and scale of each modality's numbers.
        nets: Weights of each network.
        heads: Of the attention.
        intervals: Of time, where hazards were learnt.
        baseline: Breslow's, where a risk was learnt.
        usual: Mean outputs of those learnt from: what is said of who has no modality at all.
    """

    layout: tuple[tuple[str, int], ...]
    scales: tuple[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]], ...]
    nets: tuple[Parts, ...]
    heads: int
    intervals: Intervals | None
    baseline: CoxModel | None
    usual: Float[np.ndarray, " k"]

    def outputs(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n k"]:
        """Return hazards of intervals, or the logarithm of the hazard ratio (one column)."""
        vectors, present = self._sources(x)
        raws = [_through(net, vectors, present, self.heads)[0] for net in self.nets]
        if self.intervals is not None:
            raws = [expit(raw) for raw in raws]
        found = np.mean(raws, axis=0)
        return np.asarray(np.where(present.any(axis=1, keepdims=True), found, self.usual))

    def attention(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n sources"]:
        """Return how much each modality was attended to; NaN for who has none at all."""
        vectors, present = self._sources(x)
        found = np.mean([_through(net, vectors, present, self.heads)[1] for net in self.nets], axis=0)
        return np.asarray(np.where(present.any(axis=1, keepdims=True), found, np.nan))

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the logarithm of the hazard ratio, or the cumulative hazard, mean over the intervals' ends."""
        outputs = self.outputs(x)
        if self.baseline is not None:
            return self.baseline.risk(outputs)
        return np.asarray(np.cumsum(-np.log1p(-np.minimum(outputs, 1 - 1e-7)), axis=1).mean(axis=1))

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day; constant beyond the last interval."""
        outputs = self.outputs(x)
        if self.baseline is not None:
            return self.baseline.survival(outputs, at_days)
        return (self.intervals or Intervals(np.ones(1))).survival(outputs, at_days)

    def _sources(self, x: Float[np.ndarray, "n p"]) -> tuple[list[np.ndarray], Bool[np.ndarray, "n sources"]]:
        ends = np.cumsum([width for _, width in self.layout])
        parts = np.split(x, ends[:-1], axis=1)
        present = np.stack([~np.isnan(part[:, 0]) for part in parts], axis=1)
        scaled = [np.nan_to_num((p - centre) / scale) for p, (centre, scale) in zip(parts, self.scales, strict=True)]
        return scaled, present


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * 0.5 * (1 + erf(x / 2**0.5)))


def _norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.asarray(
        (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + _EPSILON) * weight + bias
    )


def _through(
    net: Parts, vectors: list[np.ndarray], present: Bool[np.ndarray, "n sources"], heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs and attention of one network: `models.fusion.network.FusionNet.forward` when it does not learn."""
    tokens, straight = [], np.zeros((len(present), 1))
    for number, vector in enumerate(vectors):
        has = present[:, number, None]
        own = np.where(has, vector, 0.0)
        seen = _gelu(own @ net[f"project.{number}.0.weight"].T + net[f"project.{number}.0.bias"])
        straight = straight + own @ net[f"straight.{number}.weight"].T
        tokens.append(np.where(has, seen, net["missing"][number]) + net["kind"][number])
    row = _norm(np.stack(tokens, axis=1), net["norm.weight"], net["norm.bias"])
    count, sources, width = row.shape
    into, added = net["attention.in_proj_weight"], net["attention.in_proj_bias"]
    question = net["question"][0] @ into[:width].T + added[:width]
    keys = row @ into[width : 2 * width].T + added[width : 2 * width]
    values = row @ into[2 * width :].T + added[2 * width :]
    own_width = width // heads
    asked = question.reshape(heads, own_width)
    keys = keys.reshape(count, sources, heads, own_width)
    weights = softmax(np.einsum("hd,nshd->nhs", asked, keys) / own_width**0.5, axis=2)
    taken = np.einsum("nhs,nshd->nhd", weights, values.reshape(count, sources, heads, own_width)).reshape(count, width)
    pooled = taken @ net["attention.out_proj.weight"].T + net["attention.out_proj.bias"]
    hidden = _norm(pooled, net["answer.0.weight"], net["answer.0.bias"])
    hidden = _gelu(hidden @ net["answer.1.weight"].T + net["answer.1.bias"])
    return hidden @ net["answer.4.weight"].T + net["answer.4.bias"] + straight, weights.mean(axis=1)
