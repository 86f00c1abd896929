"""The gate of a learnt task: what its images are like, and a limit that held-out ones set."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import DataError
from isocenter.learn.adaptation.alter import alter_values, cut
from isocenter.learn.adaptation.masks import MaskCase
from isocenter.learn.adaptation.plan import Plan
from isocenter.learn.adaptation.settings import DataSettings
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
        copy: Number of the changed copy; 0 is the image itself.
    """

    name: str
    network: int
    blocks: Mapping[str, float]
    copy: int = 0

    @property
    def strange(self) -> float:
        """How strange the image is: the strangest block."""
        return combined([self.blocks])[0]


def _features(
    net: nn.Module,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    blocks: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Return the numbers of an image, those of some blocks alone where they are named."""
    seen = blocks is None or bool({"embedding", "energy"} & set(blocks))
    found = {**(network_features(net, image, window) if seen else {}), **descriptors(image)}
    return found if blocks is None else {name: found[name] for name in blocks if name in found}


def _shown(case: MaskCase | VectorCase, plan: Plan, copies: int) -> Iterator[Float[np.ndarray, "channel *space"]]:
    """Give an image and changed copies of it, each image's always the same."""
    yield case.image
    how, rng = replace(plan.alteration, moved=1.0), np.random.default_rng((91, zlib.crc32(case.name.encode())))
    for _ in range(copies):
        image, _ = cut(case.image, None, None, case.image.shape[1:], how, rng, thick=plan.thick)
        image = alter_values(image, how, rng)
        if plan.preparation.intensity == "image":
            image = ((image - image.mean()) / max(float(image.std()), 1e-6)).astype(np.float32)
        yield image


def reference_of(
    net: nn.Module, plan: Plan, learnt: Sequence[MaskCase | VectorCase], settings: DataSettings | None = None
) -> Reference | None:
    """Describe the images that a network learnt from; None where they are too few to know others by.

    Args:
        net: The network.
        plan: What was settled.
        learnt: Cases that it learnt from; of many, some that are spread over all.
        settings: Which numbers count, and how many changed copies of each image.
    """
    how = settings or DataSettings()
    chosen = [learnt[i] for i in np.linspace(0, len(learnt) - 1, min(len(learnt), _MOST_KNOWN)).round().astype(int)]
    targets = [case.target for case in chosen if isinstance(case, VectorCase)]
    classes = [t for t in targets if isinstance(t, int) and not isinstance(t, bool)]
    shown = [image for case in chosen for image in _shown(case, plan, how.gate_copies)]
    labels = [c for c in classes for _ in range(1 + how.gate_copies)] if len(classes) == len(chosen) else []
    try:
        return fit_reference([_features(net, image, plan.window, how.gate_blocks) for image in shown], labels)
    except DataError:
        return None


def strangeness_of(
    reference: Reference,
    net: nn.Module,
    plan: Plan,
    held: Sequence[MaskCase | VectorCase],
    number: int,
    *,
    copies: int = 0,
) -> list[GateRow]:
    """Return how strange held-out images, and changed copies of them, are to a network."""
    blocks = tuple(reference.blocks)
    return [
        GateRow(case.name, number, reference.strangeness(_features(net, image, plan.window, blocks)), copy=place)
        for case in held
        for place, image in enumerate(_shown(case, plan, copies))
    ]


def strange_number(
    reference: Reference | None, net: nn.Module, image: Float[np.ndarray, "channel *space"], window: Sequence[int]
) -> dict[str, float]:
    """Return how strange an image is as one of the numbers that tell a poor answer; nothing without a reference."""
    if reference is None:
        return {}
    features = _features(net, image, window, tuple(reference.blocks))
    return {"strange": combined([reference.strangeness(features)])[0]}


def gate_of(references: Sequence[Reference | None], rows: Sequence[GateRow]) -> tuple[Gate | None, str]:
    """Return the gate, or None with the reason why there is none.

    Args:
        references: Of each network.
        rows: Held-out images, of all networks.
    """
    known = [r for r in references if r is not None]
    if len(known) < len(references):
        return None, "some network learnt from too few images to know others by"
    shown: dict[str, dict[int, list[Mapping[str, float]]]] = {}
    for row in rows:
        shown.setdefault(row.name, {}).setdefault(row.copy, []).append(row.blocks)
    # An image counts once, by the strangest of it and its copies.
    held = [max(copies.values(), key=lambda each: combined(each)[0]) for copies in shown.values()]
    copies = max((row.copy for row in rows), default=0)
    try:
        return replace(fit_gate(known, held), copies=copies), ""
    except DataError as error:
        return None, str(error)
