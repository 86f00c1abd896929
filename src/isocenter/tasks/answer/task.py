"""A task that answers a question in words with one of a closed set, calibrated; it abstains wherever that fails.

It abstains from a question that it did not learn, from a kind of question that it answered no better with the image
than without, or of which too few validation patients say so; from an image unlike those it learnt from; and where the
image does not decide: when the set that holds the true answer with the promised chance holds all answers. The chance is
over all images asked, answered or not; of answers that are shown it is promised where validation did not speak against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from isocenter.core import (
    Code,
    Image,
    Measurement,
    ModelRef,
    Prediction,
    Prompt,
    Scores,
    Step,
    Study,
    TaskCard,
    Uncertainty,
)
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.core.units import UCUM
from isocenter.core.wording import plain_question
from isocenter.models.layout import layout
from isocenter.models.multimodal import Multimodal
from isocenter.models.multimodal.inputs import array_of
from isocenter.safety.calibration import Temperature
from isocenter.safety.sets import SetRule
from isocenter.tasks.answer.cards import Asked, answer_codes
from isocenter.tasks.segment.answer import input_name, model_ref, only_image

__all__ = ["AnswerTask", "Answering"]


@dataclass(frozen=True, eq=False)
class Answering:
    """What makes one task.

    Args:
        card: Its card.
        asked: The kinds of question that it learnt.
        layouts: Light and dark of images that it learnt from (`models.layout`).
        least_likeness: How like one of them a further image must be.
    """

    card: TaskCard
    asked: tuple[Asked, ...]
    layouts: tuple[tuple[float, ...], ...]
    least_likeness: float


class AnswerTask:
    """The task.

    Args:
        model: Who answers.
        settings: What makes it.

    Raises:
        WeightsError: The model has no card.
    """

    def __init__(self, model: Multimodal, settings: Answering) -> None:
        if model.card is None:
            raise WeightsError(f"{settings.card.name}: its model has no card that vouches for it; adapt again")
        self._model, self._settings = model, settings
        self._reference: ModelRef = model_ref(model.card)
        self._asked = {wording: asked for asked in settings.asked for wording in asked.wordings}

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return self._settings.card

    def questions(self) -> tuple[str, ...]:
        """Return the questions that it learnt, for whoever plans what to ask."""
        return tuple(self._asked)

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Answer one question (a text prompt) about the study's one image, or abstain with a reason."""
        name = self.card.name
        image = only_image(study)
        if isinstance(image, str):
            return Prediction.abstain(name, image)
        inputs = (input_name(image),)
        question = _question(prompts)
        asked = self._known(question) if question else None
        if question is None or asked is None:
            lacking = "needs exactly one question in words (a text prompt)" if question is None else self._unknown()
            return Prediction.abstain(name, lacking, inputs=inputs)
        reason = self.card.misfit(image) or _refused(asked)
        if reason is not None:
            return Prediction.abstain(name, reason, inputs=inputs)
        try:
            plane = array_of(image, self._model.image_input.dims)
            reason = self._unlike(plane)
            if reason is not None:
                return Prediction.abstain(name, reason, inputs=inputs)
            scores = self._model.score([plane], question, asked.answers)
        except (DataError, ConfigError) as error:
            return Prediction.abstain(name, str(error), inputs=inputs)
        return self._answered(image, asked, scores, inputs)

    def _known(self, question: str) -> Asked | None:
        return self._asked.get(plain_question(question))

    def _unknown(self) -> str:
        some = "; ".join(f"{asked.wordings[0]}?" for asked in self._settings.asked[:4])
        return f"the question is not one that it learnt; there are {len(self._settings.asked)} kinds, such as: {some}"

    def _unlike(self, plane: Float[np.ndarray, "*space"]) -> str | None:
        settings = self._settings
        if not settings.layouts:
            return None
        mine = layout(self._seen(plane))
        alike = float((np.asarray(settings.layouts, dtype=np.float32) @ mine).max())
        if alike >= settings.least_likeness:
            return None
        return (
            f"the image is unlike those it learnt from: light and dark lie otherwise (likeness {alike:.2f}, at least "
            f"{settings.least_likeness:.2f} is needed)"
        )

    def _seen(self, plane: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "z y x"]:
        """Return what the first channel of the tower sees, as a volume."""
        prepared = self._model.image_input.prepare(plane)[0]
        volume: Float[np.ndarray, "z y x"] = prepared[None] if prepared.ndim == 2 else prepared
        return volume

    def _answered(
        self, image: Image, asked: Asked, scores: Float[np.ndarray, " k"], inputs: tuple[str, ...]
    ) -> Prediction:
        p = Temperature(asked.temperature).apply(scores[None])[0]
        codes = answer_codes(asked)
        members = _members(asked, codes, p)
        if asked.sets is not None and len(members) == len(codes):
            reason = (
                f"the image does not decide: every answer stays possible (set of {asked.level:.0%}, fitted on "
                f"{asked.cases} validation questions)"
            )
            return Prediction.abstain(self.card.name, reason, inputs=inputs)
        note = None
        if asked.looking == "no twin":
            note = "Whether it looks at the image to answer this was not established: no blind twin was trained."
        size = self._model.image_input.size
        return Prediction(
            Scores(tuple(zip(codes, (float(v) for v in p), strict=True))),
            self.card.name,
            uncertainty=_uncertainty(asked, members),
            model=self._reference,
            inputs=inputs,
            steps=(
                Step("fit", MappingProxyType({"from": image.geometry.shape, "to": size})),
                Step("intensity", MappingProxyType({"by": "image"})),
                Step("answer", MappingProxyType({"kind": asked.kind, "temperature": asked.temperature})),
            ),
            measurements=tuple(
                Measurement(Code(c.value, c.scheme, f"Probability of {c.meaning}"[:64]), float(v), UCUM["1"])
                for c, v in zip(codes, p, strict=True)
            ),
            notes=() if note is None else (note,),
        )


def _question(prompts: Sequence[Prompt]) -> str | None:
    """Return the one question, or None where there is not exactly one."""
    if len(prompts) != 1 or prompts[0].kind != "text" or not prompts[0].text.strip():
        return None
    return prompts[0].text


def _refused(asked: Asked) -> str | None:
    if asked.looking == "does not help":
        return (
            f"on {asked.cases} validation questions of this kind it answered no better with the image than without: "
            "its answer would be a guess from the words"
        )
    if asked.looking == "too few patients":
        return (
            f"whether it looks at the image to answer this is not known: {asked.patients} validation patients (or "
            "images) are too few to compare it with its blind twin; its answer might be a guess from the words"
        )
    if asked.images != 1:
        return f"this question is of {asked.images} images, and a task is asked about one"
    return None


def _members(asked: Asked, codes: Sequence[Code], p: Float[np.ndarray, " k"]) -> tuple[Code, ...]:
    """Return the set of an answer; empty where none was fitted."""
    if asked.sets is None:
        return ()
    inside = SetRule.from_card(asked.sets).sets(p[None])[0]
    inside[p.argmax()] = True  # a set without the likeliest answer helps nobody, and one with it covers no less
    return tuple(code for code, member in zip(codes, inside, strict=True) if member)


def _uncertainty(asked: Asked, members: tuple[Code, ...]) -> Uncertainty:
    """Say what is promised; a level only where answers that would be shown were seen to keep it."""
    if asked.sets is None:
        return Uncertainty("set", f"No set of answers is promised: {asked.cases} validation cases are too few.")
    seen = _seen_of_shown(asked)
    if not asked.keeps_its_level:
        return Uncertainty("set", f"No set of answers is promised: {seen}.")
    whose = f"{asked.patients} patients that it never learnt from"
    if not asked.patients_known:
        whose = f"{asked.patients} images that it never learnt from (some may be of patients that it did learn from)"
    said = (
        f"Over all images asked, answered or not, the true answer is in such a set with a chance of about "
        f"{asked.level:.0%}, from {asked.cases} validation questions of {whose} "
        f"(split conformal, LAC). Of the answered ones alone: {seen}. It holds for questions of this kind about "
        "images like those."
    )
    return Uncertainty("set", said, level=asked.level, members=members)


def _seen_of_shown(asked: Asked) -> str:
    if asked.shown is None:
        return f"{asked.cases} validation cases are too few to see how often the set of an answer that is shown holds"
    if asked.shown_coverage is None or asked.shown_low is None or asked.shown_high is None:
        return f"of {asked.cases} validation questions none would have been answered, so nothing is known of answers"
    share = f"{asked.shown_coverage:.0%} (95% interval {asked.shown_low:.0%} to {asked.shown_high:.0%})"
    below = "" if asked.keeps_its_level else f", less than the {asked.level:.0%} asked"
    return f"the set held the true answer in {share} of {asked.shown} validation questions it would answer{below}"
