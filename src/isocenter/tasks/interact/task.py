"""The task `interact`: prompts and an image in, an outline on the image's own grid out.

The answer depends on nothing but the image and the prompts in their order, so undoing a prompt is asking again without
it. Each label of the prompts becomes one segment; where two segments claim a voxel, the more probable one has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core import (
    Geometry,
    Image,
    Mask,
    ModelRef,
    Prediction,
    Prompt,
    Segment,
    Step,
    Study,
    TaskCard,
    Uncertainty,
)
from isocenter.models.interactive.part import Part
from isocenter.models.weights import WeightsCard
from isocenter.tasks.interact.cards import CARD, VOLUME_WEIGHTS
from isocenter.tasks.interact.channel import one_channel
from isocenter.tasks.interact.engine import Engine, Outline
from isocenter.tasks.interact.placing import Placed, place

__all__ = ["Interact"]

_COLOURS = ((230, 80, 60), (70, 140, 230), (90, 190, 90), (235, 180, 50), (170, 100, 210), (60, 190, 190))


@dataclass(frozen=True, eq=False)
class _Outlined:
    label: str
    placed: Placed
    outline: Outline
    passport: WeightsCard


class Interact:
    """The task `interact`; loads its weights when made.

    Args:
        plane: Weights of the network for planes: a built-in name, or path of a ``.safetensors`` file with its card.
        volume: The same for volumes; None to go from slice to slice.

    Raises:
        WeightsError: The weights are missing, altered or of another network.
    """

    def __init__(self, plane: str = CARD.weights, volume: str | None = VOLUME_WEIGHTS) -> None:
        self._engine = Engine(plane, volume)

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return CARD

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Outline what the prompts point at, or abstain with a reason.

        Args:
            study: With exactly one image.
            prompts: In the order they were made.

        Returns:
            A labelmap on the image's own grid, with the Dice that the model expects of each segment.
        """
        if len(study.images) != 1:
            return Prediction.abstain(
                CARD.name, f"needs a study with exactly one image, this one has {len(study.images)}; choose one"
            )
        image = study.images[0]
        inputs = (_input_name(image),)
        if not prompts:
            return Prediction.abstain(CARD.name, "needs a prompt: a point, a box, a scribble or a lasso", inputs=inputs)
        volume, notes = one_channel(image)
        finite = np.isfinite(volume)
        if not finite.any() or float(np.ptp(volume[finite])) == 0.0:
            return Prediction.abstain(CARD.name, "the image is flat: there is nothing to outline", inputs=inputs)
        if not finite.all():
            notes += (f"{int((~finite).sum())} voxels are not finite and were taken as the median of their slice",)
        outlined: list[_Outlined] = []
        for label in dict.fromkeys(p.label for p in prompts):
            one = self._outline(label, [p for p in prompts if p.label == label], volume, image.geometry)
            if isinstance(one, str):
                return Prediction.abstain(CARD.name, one, inputs=inputs)
            outlined.append(one)
        return self._prediction(image, outlined, inputs, notes)

    def _outline(
        self, label: str, prompts: list[Prompt], volume: Float[np.ndarray, "z y x"], geometry: Geometry
    ) -> _Outlined | str:
        placed = place(prompts, geometry)
        name = f"{label[:40]!r}: "
        if isinstance(placed, str):
            return name + placed
        stack = np.moveaxis(volume, placed.axis, 0)
        blank = _blank(stack)
        pointed = [index for index, marks in placed.marks.items() if any(mark.positive for mark in marks)]
        nothing = sorted(index for index in pointed if blank[index])
        if nothing:
            planes = ", ".join(map(str, nothing))
            return (
                f"{name}plane {planes} (from 0, along {'zyx'[placed.axis]}), where a prompt points, is flat or has no "
                "finite value: there is nothing to outline; point where the structure is seen"
            )
        opened = self._engine.open(volume, geometry)
        outline = _without(opened.answer(placed), blank, placed.axis)
        if not (outline.probability >= 0.5).any():
            return name + "nothing was found there; add a point at its middle, or a box round it"
        return _Outlined(label, placed, outline, opened.passport)

    def _prediction(
        self, image: Image, outlined: list[_Outlined], inputs: tuple[str, ...], notes: tuple[str, ...]
    ) -> Prediction:
        labels = np.zeros(image.geometry.shape, dtype=np.uint16)
        best = np.full(image.geometry.shape, 0.5, dtype=np.float32)
        for number, one in enumerate(outlined, start=1):
            probability = one.outline.probability
            wins = probability >= best
            labels[wins], best[wins] = number, probability[wins]
        passport = outlined[0].passport
        segments = tuple(
            Segment(
                number,
                one.label[:64] or "object",
                algorithm_type="SEMIAUTOMATIC",
                algorithm_name=f"Isocenter {passport.name}",
                colour=_COLOURS[(number - 1) % len(_COLOURS)],
            )
            for number, one in enumerate(outlined, start=1)
        )
        expected = {number: one.outline.expected_dice for number, one in enumerate(outlined, start=1)}
        promise = (
            "Dice that the model expects of its own outline, from its predicted overlap. It learnt this "
            "on synthetic images; how far it is off on real ones is on its card. Not a guarantee: look at the outline."
        )
        mean = float(np.mean(list(expected.values())))
        steps = [Step("intensity", {"channels_in": image.array.shape[0], "per_window_percentiles": (1.0, 99.0)})]
        for number, one in enumerate(outlined, start=1):
            steps.append(Step("outline", {"segment": number, **one.outline.how, "threshold": 0.5}))
        return Prediction(
            value=Mask(labels, image.geometry, segments, image.source),
            task=CARD.name,
            uncertainty=Uncertainty(
                "quality", promise, low=min(expected.values()), high=mean, per_segment=MappingProxyType(expected)
            ),
            model=ModelRef(passport.name, passport.version, passport.sha256, passport.licence),
            inputs=inputs,
            steps=tuple(steps),
            notes=notes,
        )


def _blank(stack: Float[np.ndarray, "n h w"]) -> Bool[np.ndarray, " n"]:
    """Tell which planes show nothing: one value everywhere, or none that is finite."""
    finite = np.isfinite(stack)
    low = np.where(finite, stack, np.inf).min(axis=(1, 2))
    high = np.where(finite, stack, -np.inf).max(axis=(1, 2))
    return np.asarray(low >= high)


def _without(outline: Outline, blank: Bool[np.ndarray, " n"], axis: int) -> Outline:
    """Take from an answer what it says about planes that show nothing, where it can only be a guess."""
    if not blank.any():
        return outline
    probability = outline.probability
    np.moveaxis(probability, axis, 0)[blank] = 0
    return replace(outline, part=Part.of(probability))


def _input_name(image: Image) -> str:
    """Return the sha256 that names an image: the reader's, or that of its voxels and place."""
    if image.source.sha256:
        return image.source.sha256
    digest = hashlib.sha256(np.ascontiguousarray(image.array).tobytes())
    digest.update(repr((image.array.dtype.str, image.array.shape)).encode())
    if image.geometry.affine is not None:
        digest.update(image.geometry.affine.tobytes())
    return digest.hexdigest()
