"""What networks are worth on cases that they never saw, on the images' own voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from isocenter.data.labelled import Target
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.overlap import dice
from isocenter.learn.adaptation.fingerprint import Read
from isocenter.learn.adaptation.masks import MaskCase, probabilities
from isocenter.learn.adaptation.plan import Plan
from isocenter.learn.adaptation.vectors import Scale, VectorCase, answers
from isocenter.models.learnt.agreement import sharpness

__all__ = ["MaskRow", "VectorRow", "measure_masks", "measure_vectors"]


@dataclass(frozen=True)
class MaskRow:
    """A held-out case with a mask.

    Args:
        name: Of the case.
        patient: Whose it is.
        network: Which network answered.
        dice: Of each class; NaN where it is neither in the label nor in the answer.
        agreement: How sharp the answer was, of each class.
    """

    name: str
    patient: str
    network: int
    dice: tuple[float, ...]
    agreement: tuple[float, ...]

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
    """

    name: str
    patient: str
    network: int
    target: Target
    answer: tuple[float, ...]


def measure_masks(
    net: nn.Module, plan: Plan, held: Sequence[tuple[Read, MaskCase]], classes: Sequence[str], number: int
) -> list[MaskRow]:
    """Answer held-out cases and compare on the voxels of their labels.

    Args:
        net: The network.
        plan: What was settled.
        held: The cases, read and prepared.
        classes: Names, background left out.
        number: Of the network.
    """
    rows = []
    for read, case in held:
        if read.mask is None:
            continue
        found = probabilities(net, case.image, plan.window, len(classes) + 1, plan.alteration.mirror)
        prepared = plan.preparation.forward(read.image)
        answer = prepared.back(found).argmax(0)
        overlaps = []
        for value in range(1, len(classes) + 1):
            ours, theirs = np.asarray(answer == value), np.asarray(read.mask.array == value)
            overlaps.append(dice(theirs, ours) if ours.any() or theirs.any() else float("nan"))
        rows.append(
            MaskRow(case.name, read.case.patient, number, tuple(overlaps), tuple(float(v) for v in sharpness(found)))
        )
    return rows


def measure_vectors(
    net: nn.Module, plan: Plan, held: Sequence[tuple[Read, VectorCase]], kind: Kind, scale: Scale, number: int
) -> list[VectorRow]:
    """Answer held-out cases.

    Args:
        net: The network.
        plan: What was settled.
        held: The cases, read and prepared.
        kind: Of the labels.
        scale: Of numbers.
        number: Of the network.
    """
    if not held:
        return []
    found: Float[np.ndarray, "n outputs"] = answers(
        net, [case for _, case in held], kind, scale=scale, mirror=plan.alteration.mirror
    )
    return [
        VectorRow(case.name, read.case.patient, number, case.target, tuple(float(v) for v in row))
        for (read, case), row in zip(held, found, strict=True)
    ]
