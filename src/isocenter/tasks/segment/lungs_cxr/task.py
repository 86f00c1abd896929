"""Lungs in a frontal chest X-ray: upright, letterboxed, outlined, and checked for the shape of two lungs.

Which lung is which is said only where the header tells how the picture lies in the patient (DICOM Patient Orientation);
a picture without one gets a single segment "Lungs", because a guessed side is the gravest mistake there is. A picture
whose Patient Orientation is not that of a frontal view is not outlined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt16
from scipy import ndimage

from isocenter.core import Code, Geometry, Image, Mask, Prediction, Prompt, Segment, Step, Study, TaskCard
from isocenter.core.errors import PixelError
from isocenter.core.mask import ANATOMICAL_STRUCTURE
from isocenter.models.segmentation import build_unet, prepare_picture, segment_prepared, self_agreement
from isocenter.models.weights import load_weights
from isocenter.tasks.segment.answer import (
    alike_prepared,
    doubtful,
    expected_quality,
    gate_beside,
    input_name,
    model_ref,
    only_image,
)
from isocenter.tasks.segment.lungs_cxr.cards import CARD

__all__ = ["LungShape", "LungsCxr", "implausible_shape", "lung_shape"]

LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")

LEAST_SIDE_PIXELS = 64
NOT_FRONTAL = ("LL", "RL", "LLD", "RLD", "LATERAL")
"""DICOM View Position values that are not frontal."""


@dataclass(frozen=True)
class _Upright:
    """How a picture is brought to "row towards patient left, column towards feet", and whether that is known."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool
    known: bool

    @classmethod
    def of(cls, geometry: Geometry) -> _Upright:
        row, column = (text[:1].upper() for text in geometry.patient_orientation)
        if {row, column} & {"L", "R"} and {row, column} & {"H", "F"}:
            transpose = row in "HF"
            across, down = (column, row) if transpose else (row, column)
            return cls(transpose, down == "H", across == "R", known=True)
        return cls(transpose=False, flip_rows=False, flip_columns=False, known=False)

    def forward(self, picture: Shaped[np.ndarray, "a b"]) -> Shaped[np.ndarray, "c d"]:
        turned = picture.T if self.transpose else picture
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def backward(self, picture: Shaped[np.ndarray, "c d"]) -> Shaped[np.ndarray, "a b"]:
        turned = picture[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return turned.T if self.transpose else turned


class LungsCxr:
    """The task `lungs-cxr`; loads its weights when made.

    Args:
        weights: Built-in name, or path of a ``.safetensors`` file with its card.

    Raises:
        WeightsError: The weights or their gate are missing, altered or of another network.
    """

    def __init__(self, weights: str = CARD.weights) -> None:
        loaded = load_weights(weights)
        self._passport = loaded.card
        self._side = int(str(loaded.card.preparation["side_pixels"]))
        self._net = build_unet(loaded)
        self._gate = gate_beside(weights)

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        return CARD

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Outline the lungs, or abstain with a reason; takes no prompts."""
        image = only_image(study)
        if isinstance(image, str):
            return Prediction.abstain(CARD.name, image)
        inputs = (input_name(image),)
        reason = _unfit(image, prompts)
        if reason is not None:
            return Prediction.abstain(CARD.name, reason, inputs=inputs)
        upright = _Upright.of(image.geometry)
        picture = upright.forward(image.array[0, 0]).astype(np.float32)
        if image.dark_is_high:
            picture = -picture
        try:
            box, prepared = prepare_picture(picture, self._side)
        except PixelError as error:
            return Prediction.abstain(CARD.name, str(error), inputs=inputs)
        likeness, reason = alike_prepared(self._gate, prepared)
        if reason is not None:
            return Prediction.abstain(CARD.name, reason, inputs=inputs, likeness=likeness)
        looked, labels = segment_prepared(self._net, box, prepared)
        agreement = self_agreement(looked)
        sides = _split_sides(labels) if upright.known else None
        quality = expected_quality(self._passport, agreement, {1: 1, 2: 1} if sides is not None else {1: 1})
        reason = implausible_shape(lung_shape(labels > 0)) or doubtful(self._passport, agreement)
        if reason is not None:
            return Prediction.abstain(CARD.name, reason, inputs=inputs, likeness=likeness)
        array = upright.backward(labels if sides is None else sides)
        return Prediction(
            Mask(np.ascontiguousarray(array)[None], image.geometry, _segments(sides is not None), image.source),
            CARD.name,
            uncertainty=quality,
            model=model_ref(self._passport),
            inputs=inputs,
            steps=_steps(upright, self._side, negated=image.dark_is_high),
            notes=_notes(upright, sides is not None),
            likeness=likeness,
        )


def _unfit(image: Image, prompts: Sequence[Prompt]) -> str | None:
    misfit = CARD.misfit(image)
    if misfit is not None:
        return misfit
    if prompts:
        return "takes no prompts; use an interactive task for a structure that you point at"
    if image.array.shape[0] != 1:
        return f"needs a grey picture, this image has {image.array.shape[0]} channels"
    if min(image.array.shape[2:]) < LEAST_SIDE_PIXELS:
        return f"needs at least {LEAST_SIDE_PIXELS} pixels each way, this image has {image.array.shape[2:]}"
    view = str(image.meta.get("ViewPosition", "")).upper()
    if view in NOT_FRONTAL:
        return f"needs a frontal view (PA or AP), the header says {view}"
    if any(image.geometry.patient_orientation) and not _Upright.of(image.geometry).known:
        return (
            "needs a frontal view (PA or AP): the header's Patient Orientation does not name left or right along one "
            "side of the picture and head or feet along the other"
        )
    return None


@dataclass(frozen=True)
class LungShape:
    """Plain facts about a lung mask, each a share between 0 and 1 (the last may be more).

    Args:
        area: Share of the picture that is lung.
        balance: Smaller over larger of the areas on both sides of the middle between the mask's left and right ends.
        gap: Share of the middle tenth of the mask's box that is not lung (the mediastinum).
        height: Height of the mask's box over its width.
    """

    area: float
    balance: float
    gap: float
    height: float


def lung_shape(mask: Bool[np.ndarray, "rows columns"]) -> LungShape:
    """Measure the shape of a lung mask that stands upright; an empty mask gives zeros."""
    if not mask.any():
        return LungShape(0.0, 0.0, 0.0, 0.0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    half = box.shape[1] // 2
    left, right = float(box[:, :half].sum()), float(box[:, box.shape[1] - half :].sum())
    tenth = max(1, box.shape[1] // 20)
    middle = box[:, max(0, half - tenth) : half + tenth]
    return LungShape(
        float(mask.mean()),
        min(left, right) / max(left, right, 1.0),
        float(1 - middle.mean()),
        box.shape[0] / box.shape[1],
    )


def implausible_shape(shape: LungShape) -> str | None:
    """Return why a mask can't be two upright lungs, or None.

    The limits lie outside everything seen in the labelled set and in 421 other chest X-rays; see the weights' card.
    """
    limits = {"area": (0.08, 0.75), "balance": (0.3, 1.0), "gap": (0.3, 1.0), "height": (0.5, 1.6)}
    for name, (low, high) in limits.items():
        value = float(getattr(shape, name))
        if not low <= value <= high:
            return (
                f"what was found does not have the shape of two upright lungs ({name} {value:.2f}, expected {low} to "
                f"{high}); check that this is an upright frontal chest X-ray with both lungs in view"
            )
    return None


def _split_sides(labels: UInt16[np.ndarray, "rows columns"]) -> UInt16[np.ndarray, "rows columns"] | None:
    """Return 1 on the patient's right and 2 on the left, or None where the lungs are not two separate parts.

    Columns grow towards the patient's left.
    """
    parts: Integer[np.ndarray, "rows columns"]
    parts, found = ndimage.label(labels > 0, np.ones((3, 3), dtype=bool))
    if found != 2:
        return None
    columns = [np.flatnonzero((parts == number).any(0)) for number in (1, 2)]
    centres = [float(np.average(np.arange(parts.shape[1]), weights=(parts == n).sum(0))) for n in (1, 2)]
    middle = (min(c[0] for c in columns) + max(c[-1] for c in columns)) / 2
    if not min(centres) < middle < max(centres):
        return None
    right = 1 if centres[0] < centres[1] else 2
    return np.where(parts == 0, 0, np.where(parts == right, 1, 2)).astype(np.uint16)


def _segments(sided: bool) -> tuple[Segment, ...]:
    if not sided:
        return (Segment(1, "Lungs", ANATOMICAL_STRUCTURE, LUNG, algorithm_name=CARD.name, colour=(60, 150, 220)),)
    return (
        Segment(1, "Right lung", ANATOMICAL_STRUCTURE, LUNG, RIGHT, algorithm_name=CARD.name, colour=(60, 150, 220)),
        Segment(2, "Left lung", ANATOMICAL_STRUCTURE, LUNG, LEFT, algorithm_name=CARD.name, colour=(230, 120, 40)),
    )


def _notes(upright: _Upright, sided: bool) -> tuple[str, ...]:
    extent = "The outline includes the lung behind the heart, as the outlines that it learnt from do."
    if sided:
        return (extent,)
    if upright.known:
        return (extent, "Right and left are not stated: the lungs were not found as two separate parts.")
    return (
        extent,
        "Right and left are not stated: the header does not say how the picture lies in the patient. It was taken to "
        "stand upright.",
    )


def _steps(upright: _Upright, side: int, *, negated: bool) -> tuple[Step, ...]:
    turn = {
        "transpose": upright.transpose, "flip_rows": upright.flip_rows, "flip_columns": upright.flip_columns,
        "known": upright.known,
    }  # fmt: skip
    negate = (Step("negate the values: MONOCHROME1, larger is darker"),) if negated else ()
    return (
        Step("turn upright by Patient Orientation", MappingProxyType(turn)),
        *negate,
        Step("clip to percentiles, mean 0, deviation 1", MappingProxyType({"percentiles": (0.5, 99.5)})),
        Step("letterbox into a square", MappingProxyType({"side_pixels": side})),
        Step("mean of the picture and its left-right mirror image"),
    )
