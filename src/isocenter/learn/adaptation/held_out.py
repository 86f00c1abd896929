"""What networks are worth on cases that they never saw, on the images' own voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from torch import nn

from isocenter.data.labelled import Target
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.overlap import dice
from isocenter.learn.adaptation.alter import Alteration, alter_values
from isocenter.learn.adaptation.fingerprint import Read
from isocenter.learn.adaptation.likeness import strange_number
from isocenter.learn.adaptation.masks import MaskCase
from isocenter.learn.adaptation.plan import Plan
from isocenter.learn.adaptation.vectors import Scale, VectorCase, answers_by_view
from isocenter.models.learnt import views_of
from isocenter.models.learnt.agreement import answer_numbers, estimate_numbers
from isocenter.safety.gate import Reference
from isocenter.safety.masks import missed_shares

__all__ = ["MaskRow", "VectorRow", "measure_masks", "measure_spoilt", "measure_vectors"]

_MOST_SPOILT = 16
_SPOILT_SHARES = (0.3, 0.65, 1.0)


@dataclass(frozen=True)
class MaskRow:
    """A held-out case with a mask.

    Args:
        name: Of the case.
        patient: Whose it is.
        network: Which network answered.
        dice: Of each class; NaN where it is neither in the label nor in the answer.
        numbers: Of the answer (`models.learnt.agreement.answer_numbers`), and how strange the image is.
        missed: Of each class, the share of it outside of masks of lower and higher thresholds (`safety.masks`).
        volumes: Of each class, voxels of the answer and of the label.
    """

    name: str
    patient: str
    network: int
    dice: tuple[float, ...]
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    missed: tuple[tuple[float, ...], ...] = ()
    volumes: tuple[tuple[float, float], ...] = ()

    @property
    def mean(self) -> float:
        """Mean Dice of the classes that there are; NaN where there is none."""
        known = [d for d in self.dice if not math.isnan(d)]
        return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True)
class VectorRow:
    """A held-out case with another label.

    Args:
        name: Of the case.
        patient: Whose it is.
        network: Which network answered.
        target: The label.
        answer: Probabilities, a number, or a risk.
        numbers: Of a number's answer (`models.learnt.agreement.estimate_numbers`), and how strange the image is.
    """

    name: str
    patient: str
    network: int
    target: Target
    answer: tuple[float, ...]
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def _overlaps(answer: np.ndarray, label: np.ndarray, classes: int) -> tuple[float, ...]:
    found = []
    for value in range(1, classes + 1):
        ours, theirs = np.asarray(answer == value), np.asarray(label == value)
        found.append(dice(theirs, ours) if ours.any() or theirs.any() else float("nan"))
    return tuple(found)


def measure_masks(
    net: nn.Module,
    plan: Plan,
    held: Sequence[tuple[Read, MaskCase]],
    number: int,
    strange: Mapping[str, float],
) -> list[MaskRow]:
    """Answer held-out cases and compare on the voxels of their labels.

    Args:
        net: The network.
        plan: What was settled.
        held: The cases, read and prepared.
        number: Of the network.
        strange: How strange each case's image is to it, by name; empty where that can't be told.
    """
    rows, outputs = [], plan.network.outputs
    for read, case in held:
        if read.mask is None:
            continue
        prepared = plan.preparation.forward(read.image)
        # The windows stand where they will for this image: a promise holds for answers that are made as these are.
        views = views_of(net, case.image, plan.window, outputs, plan.alteration.mirror, prepared.first)
        back = np.clip(prepared.back(np.mean(views, axis=0)), 0, 1)
        answer, label = back.argmax(0), read.mask.array
        missed = tuple(
            tuple(float(v) for v in missed_shares(back[value], np.asarray(label == value)))
            for value in range(1, outputs)
        )
        volumes = tuple((float((answer == v).sum()), float((label == v).sum())) for v in range(1, outputs))
        numbers = {**answer_numbers(views), **({"strange": strange[case.name]} if case.name in strange else {})}
        overlaps = _overlaps(answer, label, outputs - 1)
        rows.append(MaskRow(case.name, read.case.patient, number, overlaps, numbers, missed, volumes))
    return rows


def measure_spoilt(
    net: nn.Module,
    plan: Plan,
    held: Sequence[tuple[Read, MaskCase]],
    number: int,
    reference: Reference | None = None,
) -> list[MaskRow]:
    """Answer copies of held-out cases that were spoilt mildly to severely, and compare on the network's grid.

    On clean cases alone there are hardly any failures to learn from what an answer is worth.

    Args:
        net: The network.
        plan: What was settled.
        held: The cases, read and prepared.
        number: Of the network.
        reference: What the images are like that it learnt from; None where they are too few.
    """
    rows, outputs = [], plan.network.outputs
    for place, (read, case) in enumerate(held[:_MOST_SPOILT]):
        rng = np.random.default_rng((77, number, place))
        first = plan.preparation.forward(read.image).first
        for share in _SPOILT_SHARES:
            image = alter_values(case.image, _spoiling(share), rng)
            if plan.preparation.intensity == "image":
                spread = max(float(image.std()), 1e-6)
                image = ((image - image.mean()) / spread).astype(np.float32)
            views = views_of(net, image, plan.window, outputs, plan.alteration.mirror, first)
            numbers = {**answer_numbers(views), **strange_number(reference, net, image, plan.window)}
            overlaps = _overlaps(np.mean(views, axis=0).argmax(0), case.label, outputs - 1)
            rows.append(MaskRow(case.name, read.case.patient, number, overlaps, numbers))
    return rows


def _spoiling(share: float) -> Alteration:
    """Return how a copy is spoilt: far beyond what a network learns with, at the full share."""
    return Alteration(
        contrast=1.2 * share, shading=1.0 * share, noise=2.5 * share, blur=3.5 * share, coarse=1 + 4 * share
    )


def measure_vectors(
    net: nn.Module,
    plan: Plan,
    held: Sequence[tuple[Read, VectorCase]],
    kind: Kind,
    scale: Scale,
    number: int,
    strange: Mapping[str, float],
) -> list[VectorRow]:
    """Answer held-out cases.

    Args:
        net: The network.
        plan: What was settled.
        held: The cases, read and prepared.
        kind: Of the labels.
        scale: Of numbers.
        number: Of the network.
        strange: How strange each case's image is to it, by name; empty where that can't be told.
    """
    if not held:
        return []
    found, views = answers_by_view(net, [case for _, case in held], kind, scale=scale, mirror=plan.alteration.mirror)
    rows = []
    for (read, case), answer, several in zip(held, found, views, strict=True):
        numbers: dict[str, float] = {}
        if kind == "regress":
            numbers = estimate_numbers(several[None, :, 0])
            numbers |= {"strange": strange[case.name]} if case.name in strange else {}
        values = tuple(float(v) for v in answer)
        rows.append(VectorRow(case.name, read.case.patient, number, case.target, values, numbers))
    return rows
