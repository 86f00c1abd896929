"""Finding things and saying where: FROC and average precision, of boxes or points, in planes or volumes.

What counts as found is always said, by a rule:

* `BoxRule`: the IoU of the two boxes is at least so much.
* `PointRule`: the answer's point lies within so many millimetres of the thing's; or, where things are boxes, inside.

Answers of an image are taken by falling score. Each takes, of the things that it fits and nobody has taken yet, the one
that it fits best. One that fits only things already taken is a repeat: false in average precision (as in PASCAL VOC and
COCO), or left out in FROC (as in LUNA16); either can be asked for. Answers of equal score enter the curves together, so
that the order of a file decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError, GeometryError, UnitsError

__all__ = ["FROC_RATES", "BoxRule", "Froc", "PointRule", "box_iou", "detection_precision", "froc"]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which sensitivity is told, as in LUNA16."""

Places = Float[np.ndarray, "n corners"]
Answered = Float[np.ndarray, "m numbers"]
OfImages = Sequence[Float[np.ndarray, "_ _"]]
Repeats = Literal["false", "ignored"]


@dataclass(frozen=True)
class BoxRule:
    """A box is found by a box whose IoU with it is at least so much.

    Args:
        least_iou: Above 0 to 1; 0.1 is usual in volumes, 0.5 in photographs.
    """

    least_iou: float = 0.5

    def fit(self, reference: Places, found: Answered) -> Float[np.ndarray, "n m"]:
        """Return how well each thing and each answer fit, 0 where they do not."""
        if not 0 < self.least_iou <= 1:
            raise ConfigError(f"least_iou must lie above 0 and up to 1, got {self.least_iou}")
        iou = box_iou(reference, found)
        return np.where(iou >= self.least_iou, iou, 0.0)


@dataclass(frozen=True)
class PointRule:
    """A thing is found by a point near it.

    Args:
        within_mm: Greatest distance between two points; None where things are boxes and a point must lie inside.
    """

    within_mm: float | None = None

    def fit(self, reference: Places, found: Answered) -> Float[np.ndarray, "n m"]:
        """Return how well each thing and each answer fit, the nearer the better, 0 where they do not."""
        axes = found.shape[1]
        if self.within_mm is None:
            _check_boxes(reference, axes)
            low, high = reference[:, None, :axes], reference[:, None, axes:]
            inside = ((found >= low) & (found <= high)).all(axis=2)
            away = np.linalg.norm(found - (low + high) / 2, axis=2)
            return np.where(inside, 1 / (1 + away), 0.0)
        if not (np.isfinite(self.within_mm) and self.within_mm > 0):
            raise UnitsError(f"within_mm must be above zero, got {self.within_mm}")
        if reference.shape[1] != axes:
            raise GeometryError(f"points of {reference.shape[1]} axes and of {axes}")
        away = np.linalg.norm(reference[:, None] - found[None], axis=2)
        return np.where(away <= self.within_mm, 1 / (1 + away), 0.0)


def _check_boxes(boxes: Places, axes: int) -> None:
    if boxes.shape[1] != 2 * axes or axes not in (2, 3):
        raise GeometryError(f"a box is a low and a high corner, so 4 or 6 numbers; got {boxes.shape[1]}")
    if (boxes[:, :axes] > boxes[:, axes:]).any():
        row = int((boxes[:, :axes] > boxes[:, axes:]).any(axis=1).argmax())
        raise GeometryError(f"box {row} ends before it begins; give the low corner first, then the high one")


def box_iou(reference: Places, found: Answered) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of each pair of boxes.

    Args:
        reference: Low corner, then high corner: 4 numbers in a plane, 6 in a volume, in any unit and order of axes.
        found: The same.

    Returns:
        0 to 1; 0 for boxes without an extent.

    Raises:
        GeometryError: Not 4 or 6 numbers, not the same for both, or a high corner below the low one.

    Example:
        >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(4).tolist()
        [[0.3333, 0.0]]
    """
    axes = reference.shape[1] // 2
    _check_boxes(reference, axes)
    _check_boxes(found, axes)
    low = np.maximum(reference[:, None, :axes], found[None, :, :axes])
    high = np.minimum(reference[:, None, axes:], found[None, :, axes:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = [(b[:, axes:] - b[:, :axes]).prod(axis=1) for b in (reference, found)]
    union = sizes[0][:, None] + sizes[1][None, :] - shared
    iou: Float[np.ndarray, "n m"] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers of all images."""

    scores: Float[np.ndarray, " n"]
    true: Bool[np.ndarray, " n"]
    things: int


def _answers(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    rule: BoxRule | PointRule,
    repeats: Repeats,
) -> _Answers:
    if not len(reference) == len(found) == len(scores) or not len(reference):
        raise DataError(f"{len(reference)} images of things, {len(found)} of answers, {len(scores)} of scores")
    all_scores, all_true = [], []
    for image, (things, answers, values) in enumerate(zip(reference, found, scores, strict=True)):
        if len(answers) != len(values):
            raise DataError(f"image {image}: {len(answers)} answers with {len(values)} scores")
        if not all(np.isfinite(a).all() for a in (things, answers, values)):
            raise DataError(f"image {image}: a coordinate or a score is not finite")
        true, repeat = (np.zeros(len(answers), dtype=bool) for _ in range(2))
        if len(things) and len(answers):
            true, repeat = _matched(rule.fit(things, answers), values)
        kept = ~repeat if repeats == "ignored" else np.ones(len(answers), dtype=bool)
        all_scores.append(values[kept])
        all_true.append(true[kept])
    things_in_all = sum(len(things) for things in reference)
    if not things_in_all:
        raise DataError("no image holds a thing to be found: there is no sensitivity")
    return _Answers(np.concatenate(all_scores).astype(np.float64), np.concatenate(all_true), things_in_all)


def _matched(
    fit: Float[np.ndarray, "n m"], scores: Float[np.ndarray, " m"]
) -> tuple[Bool[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Return which answers found a thing, and which fit only things that were found already."""
    true, repeat = np.zeros(len(scores), dtype=bool), np.zeros(len(scores), dtype=bool)
    free = np.ones(len(fit), dtype=bool)
    # Of equal scores the better fit first, so that their order in a file decides nothing.
    for answer in np.lexsort((-fit.max(axis=0), -scores)):
        column = np.where(free, fit[:, answer], 0.0)
        if column.any():
            free[int(column.argmax())] = False
            true[answer] = True
        else:
            repeat[answer] = bool(fit[:, answer].any())
    return true, repeat


def _curve(
    answers: _Answers,
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Return each different score, the highest first, with the answers at or above it that are true and false."""
    order = np.argsort(-answers.scores, kind="stable")
    scores = answers.scores[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1) if len(scores) else np.zeros(0, dtype=np.int64)
    true = np.cumsum(answers.true[order])[last].astype(np.float64)
    return scores[last], true, last + 1.0 - true


@dataclass(frozen=True, eq=False)
class Froc:
    """Sensitivity against false positives per image.

    Args:
        thresholds: Each different score, the highest first.
        false_per_image: False answers at or above it, per image.
        sensitivity: Share of things found at or above it.
        rates: False positives per image asked for.
        at_rates: Greatest sensitivity with at most so many; nothing is drawn between points.
    """

    thresholds: Float[np.ndarray, " t"]
    false_per_image: Float[np.ndarray, " t"]
    sensitivity: Float[np.ndarray, " t"]
    rates: tuple[float, ...]
    at_rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean sensitivity over the rates asked for (the competition performance metric of LUNA16)."""
        return float(np.mean(self.at_rates))


def froc(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    *,
    rule: BoxRule | PointRule,
    rates: Sequence[float] = FROC_RATES,
    repeats: Repeats = "ignored",
) -> Froc:
    """Return the free-response operating characteristic over all images.

    Args:
        reference: The things of each image, boxes or points; none is an array of no rows.
        found: The answers of each image.
        scores: Of each answer.
        rule: What counts as found.
        rates: False positives per image at which sensitivity is told.
        repeats: Whether a second answer for one thing is false or ignored.

    Raises:
        DataError: Images or scores that are missing on one side, what is not finite, or nothing to be found in any
            image.
        GeometryError: What is no box, or boxes and points of different axes.
        ConfigError: A rate below 0.

    Source:
        Bunch et al., Proc. SPIE 1977; Setio et al., Medical Image Analysis 2017 (LUNA16: rates and mean).

    Example:
        >>> things = [np.array([[10.0, 10, 10]]), np.zeros((0, 3))]
        >>> answers = [np.array([[11.0, 10, 10], [40, 40, 40]]), np.array([[5.0, 5, 5]])]
        >>> curve = froc(things, answers, [np.array([0.7, 0.2]), np.array([0.9])], rule=PointRule(within_mm=3))
        >>> curve.sensitivity.tolist(), curve.false_per_image.tolist(), curve.at_rates[:3]
        ([0.0, 1.0, 1.0], [0.5, 0.5, 1.0], (0.0, 0.0, 1.0))
    """
    if any(not rate >= 0 for rate in rates):
        raise ConfigError(f"false positives per image must be 0 or more, got {tuple(rates)}")
    answers = _answers(reference, found, scores, rule, repeats)
    thresholds, true, false = _curve(answers)
    per_image, sensitivity = false / len(reference), true / answers.things
    reached = tuple(float(sensitivity[per_image <= rate].max(initial=0.0)) for rate in rates)
    return Froc(thresholds, per_image, sensitivity, tuple(float(r) for r in rates), reached)


def detection_precision(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    *,
    rule: BoxRule | PointRule,
    repeats: Repeats = "false",
) -> float:
    """Return the average precision over all images: the area under precision over sensitivity, at all points.

    Precision at a sensitivity is the greatest at that sensitivity or above, as in PASCAL VOC since 2010; COCO takes
    101 points of the same curve.

    Args:
        reference: The things of each image, boxes or points; none is an array of no rows.
        found: The answers of each image.
        scores: Of each answer.
        rule: What counts as found.
        repeats: Whether a second answer for one thing is false or ignored.

    Returns:
        0 to 1; 0 without an answer.

    Raises:
        DataError: As `froc`.
        GeometryError: As `froc`.

    Source:
        Everingham et al., IJCV 2010 and its development kit.

    Example:
        >>> things = [np.array([[0.0, 0, 4, 4], [10, 10, 14, 14]])]
        >>> answers = [np.array([[0.0, 0, 4, 4], [20, 20, 24, 24], [10, 10, 14, 13]])]
        >>> round(detection_precision(things, answers, [np.array([0.9, 0.8, 0.7])], rule=BoxRule(0.5)), 4)
        0.8333
    """
    answers = _answers(reference, found, scores, rule, repeats)
    _, true, false = _curve(answers)
    if not len(true):
        return 0.0
    precision = np.maximum.accumulate((true / (true + false))[::-1])[::-1]
    return float((np.diff(true / answers.things, prepend=0.0) * precision).sum())
