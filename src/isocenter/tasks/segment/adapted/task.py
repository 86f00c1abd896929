"""An adapted task: no prompt, one structure, answered plane by plane from the confirmed cases it keeps.

It abstains from images that are not like the confirmed ones: by the card, by spacing, size and orientation, and by how
light and dark lie in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from isocenter.core import Image, Mask, Prediction, Prompt, Segment, Step, Study, TaskCard, Uncertainty
from isocenter.models.interactive.adapted import (
    adapted_model,
    tidy,
)
from isocenter.models.interactive.confirmed import Confirmed, Unprompted, answer_from_cases
from isocenter.models.orientation import Turned
from isocenter.models.weights import Weights
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.tasks.segment.adapted.channel import finite_channel
from isocenter.tasks.segment.answer import input_name, model_ref, only_image

__all__ = ["Adapted", "AdaptedSettings"]


@dataclass(frozen=True, eq=False)
class AdaptedSettings:
    """What makes one adapted task.

    Args:
        card: Its card.
        label: Name of the structure.
        fit: What an image must be like.
        rank: Of LoRA.
        scale: What its change is multiplied by.
        parts: Most parts that the structure had in a confirmed case.
        cases: Confirmed images with their masks, to look things up in.
    """

    card: TaskCard
    label: str
    fit: Fit
    rank: int
    scale: float
    parts: int
    cases: tuple[tuple[Image, Bool[np.ndarray, "z y x"]], ...]


class Adapted:
    """The task.

    Args:
        base: Weights of the interactive network for planes.
        adapter: Its adapter.
        settings: What makes it.

    Raises:
        WeightsError: Base and adapter are not of one network.
    """

    def __init__(self, base: Weights, adapter: Weights, settings: AdaptedSettings) -> None:
        self._settings, self._passport = settings, adapter.card
        self._model = adapted_model(base, dict(adapter.arrays), rank=settings.rank, scale=settings.scale)
        self._confirmed = Confirmed(self._model)
        for image, mask in settings.cases:
            turn = Turned.to(image.geometry, settings.fit.orientation)
            self._confirmed.add(finite_channel(image, turn)[0], turn.forward(mask))

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return self._settings.card

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Outline the structure, or abstain with a reason; takes no prompts."""
        name = self.card.name
        image = only_image(study)
        if isinstance(image, str):
            return Prediction.abstain(name, image)
        inputs = (input_name(image),)
        reason = self.card.misfit(image) or self._settings.fit.misfit(image)
        if reason is None and prompts:
            reason = "takes no prompts; use the interactive task for a structure that you point at"
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs)
        turn = Turned.to(image.geometry, self._settings.fit.orientation)
        volume, notes = finite_channel(image, turn)
        if float(np.ptp(volume)) == 0.0:
            return Prediction.abstain(name, "the image is flat: there is nothing to outline", inputs=inputs)
        reason = self._settings.fit.unlike(volume)
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs)
        answer = answer_from_cases([self._model.open(plane) for plane in volume], self._confirmed)
        mask = tidy(answer.probability >= 0.5, self._settings.parts)
        if not mask.any():
            return Prediction.abstain(name, f"{self._settings.label!r} was not found in this image", inputs=inputs)
        return self._prediction(image, turn.backward(mask), answer, turn, notes, inputs)

    def _prediction(
        self,
        image: Image,
        mask: Bool[np.ndarray, "z y x"],
        answer: Unprompted,
        turn: Turned,
        notes: tuple[str, ...],
        inputs: tuple[str, ...],
    ) -> Prediction:
        settings = self._settings
        segment = Segment(1, settings.label, algorithm_type="AUTOMATIC", algorithm_name=self.card.name)
        steps = (
            Step("turn", MappingProxyType({"axes": turn.order, "flips": turn.flips})),
            Step("intensity", MappingProxyType({"per_window_percentiles": (1.0, 99.0)})),
            Step(
                "outline",
                MappingProxyType(
                    {
                        "examples": len(settings.cases),
                        "threshold": 0.5,
                        "most_parts": settings.parts,
                    }
                ),
            ),
        )
        return Prediction(
            value=Mask(mask.astype(np.uint16), image.geometry, (segment,), image.source),
            task=self.card.name,
            uncertainty=self._uncertainty(answer),
            model=model_ref(self._passport),
            inputs=inputs,
            steps=steps,
            notes=notes,
        )

    def _uncertainty(self, answer: Unprompted) -> Uncertainty:
        """Say what the cross-validation promises: the next case lies between its least and largest Dice this often."""
        held_out = self._passport.calibration.get("held_out_dice")
        values = [float(str(v)) for v in held_out] if isinstance(held_out, list | tuple) else []
        expected = round(2 * answer.expected_iou / (1 + answer.expected_iou), 4)
        if len(values) < 2:
            promise = "Dice that the network expects of its own outline. Not measured: look at the outline."
            return Uncertainty("quality", promise, per_segment=MappingProxyType({1: expected}))
        low, high, level = min(values), max(values), (len(values) - 1) / (len(values) + 1)
        promise = (
            f"Least and largest Dice of {len(values)} confirmed cases in cross-validation; for an image like those, "
            f"Dice lies between them with a chance of {level:.0%}. By segment: what the network expects of it."
        )
        return Uncertainty("quality", promise, low, high, level, per_segment=MappingProxyType({1: expected}))
