"""The gate of a learnt task: what its images are like, and a limit that held-out ones set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import DataError
from isocenter.learn.adaptation.masks import MaskCase
from isocenter.learn.adaptation.plan import Plan
from isocenter.learn.adaptation.vectors import VectorCase
from isocenter.models.learnt import network_features
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate, Reference, combined, fit_gate, fit_reference

__all__ = ["GateRow", "gate_of", "reference_of", "strange_number", "strangeness_of"]

_MOST_KNOWN = 400
"""Images that say what the set is like; more would say it no better."""


@dataclass(frozen=True)
class GateRow:
    """How strange a held-out image is to a network that never saw it.

    Args:
        name: Of the case.
        network: Which network.
        blocks: How strange each block of its numbers is.
    """

    name: str
    network: int
    blocks: Mapping[str, float]

    @property
    def strange(self) -> float:
        """How strange the image is: the strangest block."""
        return combined([self.blocks])[0]


def _features(
    net: nn.Module, image: Float[np.ndarray, "channel *space"], window: Sequence[int]
) -> dict[str, np.ndarray]:
    return {**network_features(net, image, window), **descriptors(image)}


def reference_of(net: nn.Module, plan: Plan, learnt: Sequence[MaskCase | VectorCase]) -> Reference | None:
    """Describe the images that a network learnt from; None where they are too few to know others by.

    Args:
        net: The network.
        plan: What was settled.
        learnt: Cases that it learnt from; of many, some that are spread over all.
    """
    chosen = [learnt[i] for i in np.linspace(0, len(learnt) - 1, min(len(learnt), _MOST_KNOWN)).round().astype(int)]
    targets = [case.target for case in chosen if isinstance(case, VectorCase)]
    classes = [t for t in targets if isinstance(t, int) and not isinstance(t, bool)]
    try:
        return fit_reference(
            [_features(net, case.image, plan.window) for case in chosen], classes if len(classes) == len(chosen) else ()
        )
    except DataError:
        return None


def strangeness_of(
    reference: Reference, net: nn.Module, plan: Plan, held: Sequence[MaskCase | VectorCase], number: int
) -> list[GateRow]:
    """Return how strange held-out images are to a network."""
    return [GateRow(case.name, number, reference.strangeness(_features(net, case.image, plan.window))) for case in held]


def strange_number(
    reference: Reference | None, net: nn.Module, image: Float[np.ndarray, "channel *space"], window: Sequence[int]
) -> dict[str, float]:
    """Return how strange an image is as one of the numbers that tell a poor answer; nothing without a reference."""
    if reference is None:
        return {}
    return {"strange": combined([reference.strangeness(_features(net, image, window))])[0]}


def gate_of(references: Sequence[Reference | None], rows: Sequence[GateRow]) -> tuple[Gate | None, str]:
    """Return the gate, or None with the reason why there is none.

    Args:
        references: Of each network.
        rows: Held-out images, of all networks.
    """
    known = [r for r in references if r is not None]
    if len(known) < len(references):
        return None, "some network learnt from too few images to know others by"
    by_case: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        by_case.setdefault(row.name, []).append(row.blocks)
    try:
        return fit_gate(known, list(by_case.values())), ""
    except DataError as error:
        return None, str(error)
