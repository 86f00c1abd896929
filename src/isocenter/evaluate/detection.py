"""Finding things and saying where: FROC and average precision, of boxes or points, in planes or volumes.

What counts as found is always said, by a rule:

* `BoxRule`: the IoU of the two boxes is at least so much.
* `PointRule`: the answer's point lies within so many millimetres of the thing's; or, where things are boxes, inside.
* `RadiusRule`: the answer's point lies within the thing's own radius of its centre, as in LUNA16.

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
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import ConfigError, DataError, GeometryError, UnitsError

__all__ = [
    "COCO_IOUS",
    "FROC_RATES",
    "BoxRule",
    "Froc",
    "Matches",
    "PointRule",
    "RadiusRule",
    "box_iou",
    "detection_precision",
    "froc",
    "match_answers",
]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which sensitivity is told, as in LUNA16."""

COCO_IOUS = tuple(float(v) for v in np.linspace(0.5, 0.95, 10))
"""IoUs over which COCO takes the mean of average precisions."""

Places = Float[np.ndarray, "n corners"]
Answered = Float[np.ndarray, "m numbers"]
OfImages = Sequence[Float[np.ndarray, "_ _"]]
Repeats = Literal["false", "ignored"]
Points = Literal["all", "coco"]
Times = Int64[np.ndarray, " images"]

_COCO_POINTS = np.linspace(0.0, 1.0, 101)
_NO_PLACE = np.zeros(0, dtype=np.int64)


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


@dataclass(frozen=True)
class RadiusRule:
    """A thing, a centre with a radius, is found by a point no further from the centre than that."""

    def fit(self, reference: Places, found: Answered) -> Float[np.ndarray, "n m"]:
        """Return how well each thing and each answer fit, the nearer the better, 0 where they do not."""
        axes = found.shape[1]
        if reference.shape[1] != axes + 1:
            raise GeometryError(f"a thing is a centre of {axes} axes and a radius; got {reference.shape[1]} numbers")
        if not (reference[:, axes] > 0).all():
            raise UnitsError(f"the radius of thing {int((reference[:, axes] <= 0).argmax())} must be above zero")
        away = np.linalg.norm(reference[:, None, :axes] - found[None], axis=2)
        return np.where(away <= reference[:, None, axes], 1 / (1 + away), 0.0)


Rule = BoxRule | PointRule | RadiusRule


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


@dataclass(frozen=True, eq=False)
class Matches:
    """What every answer of a set of images found: matched once, for every threshold and every resample of images.

    Args:
        scores: Of all answers, the highest first.
        true: Whether an answer found a thing.
        repeat: Whether it fits only things that were found already.
        image: Place of the image that it is of.
        things: How many there are to be found in each image.
    """

    scores: Float[np.ndarray, " n"]
    true: Bool[np.ndarray, " n"]
    repeat: Bool[np.ndarray, " n"]
    image: Int64[np.ndarray, " n"]
    things: Int64[np.ndarray, " images"]

    def froc(
        self, *, rates: Sequence[float] = FROC_RATES, repeats: Repeats = "ignored", times: Times | None = None
    ) -> Froc:
        """Return the free-response operating characteristic, as `froc` does.

        Args:
            rates: False positives per image at which sensitivity is told.
            repeats: Whether a second answer for one thing is false or ignored.
            times: How often each image counts, for resamples; None for once.

        Raises:
            DataError: Nothing is to be found in any image that counts.
            ConfigError: A rate below 0.
        """
        if any(not rate >= 0 for rate in rates):
            raise ConfigError(f"false positives per image must be 0 or more, got {tuple(rates)}")
        thresholds, true, false, things = self._curve(repeats, times)
        images = len(self.things) if times is None else int(times.sum())
        per_image, sensitivity = false / images, true / things
        reached = tuple(float(sensitivity[per_image <= rate].max(initial=0.0)) for rate in rates)
        return Froc(thresholds, per_image, sensitivity, tuple(float(r) for r in rates), reached)

    def precision(self, *, repeats: Repeats = "false", points: Points = "all", times: Times | None = None) -> float:
        """Return the average precision, as `detection_precision` does.

        Args:
            repeats: Whether a second answer for one thing is false or ignored.
            points: All points of the curve (PASCAL VOC), or its 101 at sensitivities 0, 0.01 to 1 (COCO).
            times: How often each image counts, for resamples; None for once.

        Raises:
            DataError: Nothing is to be found in any image that counts.
        """
        _, true, false, things = self._curve(repeats, times)
        if not len(true):
            return 0.0
        raw = np.divide(true, true + false, out=np.zeros_like(true), where=true + false > 0)
        precision, sensitivity = np.maximum.accumulate(raw[::-1])[::-1], true / things
        if points == "coco":
            place = np.searchsorted(sensitivity, _COCO_POINTS, side="left")
            return float(np.append(precision, 0.0)[place].mean())
        return float((np.diff(sensitivity, prepend=0.0) * precision).sum())

    def _curve(
        self, repeats: Repeats, times: Times | None
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"], int]:
        """Return each different score, the answers at or above it that are true and false, and what there is."""
        things = int(self.things.sum() if times is None else self.things @ times)
        if not things:
            raise DataError("no image holds a thing to be found: there is no sensitivity")
        kept = ~self.repeat if repeats == "ignored" else np.ones(len(self.scores), dtype=bool)
        scores, found = self.scores[kept], self.true[kept]
        counts = np.ones(len(scores), dtype=np.int64) if times is None else times[self.image[kept]]
        last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1) if len(scores) else _NO_PLACE
        true = np.cumsum(counts * found)[last].astype(np.float64)
        return scores[last], true, np.cumsum(counts)[last] - true, things


def match_answers(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    *,
    rule: Rule,
) -> Matches:
    """Match the answers of every image with its things, each image by itself.

    Args:
        reference: The things of each image; none is an array of no rows.
        found: The answers of each image.
        scores: Of each answer.
        rule: What counts as found.

    Raises:
        DataError: Images or scores that are missing on one side, or what is not finite.
        GeometryError: What is no box, or boxes and points of different axes.
    """
    if not len(reference) == len(found) == len(scores) or not len(reference):
        raise DataError(f"{len(reference)} images of things, {len(found)} of answers, {len(scores)} of scores")
    all_true, all_repeat = [], []
    for image, (things, answers, values) in enumerate(zip(reference, found, scores, strict=True)):
        if len(answers) != len(values):
            raise DataError(f"image {image}: {len(answers)} answers with {len(values)} scores")
        if not all(np.isfinite(a).all() for a in (things, answers, values)):
            raise DataError(f"image {image}: a coordinate or a score is not finite")
        true, repeat = (np.zeros(len(answers), dtype=bool) for _ in range(2))
        if len(things) and len(answers):
            true, repeat = _matched(rule.fit(things, answers), values)
        all_true.append(true)
        all_repeat.append(repeat)
    values = np.concatenate(list(scores)).astype(np.float64)
    order = np.argsort(-values, kind="stable")
    places = np.repeat(np.arange(len(scores)), [len(s) for s in scores]).astype(np.int64)
    return Matches(
        values[order], np.concatenate(all_true)[order], np.concatenate(all_repeat)[order], places[order],
        np.array([len(t) for t in reference], dtype=np.int64),
    )  # fmt: skip


def froc(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    *,
    rule: Rule,
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
    return match_answers(reference, found, scores, rule=rule).froc(rates=rates, repeats=repeats)


def detection_precision(
    reference: OfImages,
    found: OfImages,
    scores: Sequence[Float[np.ndarray, " _"]],
    *,
    rule: Rule,
    repeats: Repeats = "false",
    points: Points = "all",
) -> float:
    """Return the average precision over all images: the area under precision over sensitivity, at all points.

    Precision at a sensitivity is the greatest at that sensitivity or above, as in PASCAL VOC since 2010; COCO takes
    101 points of the same curve, and 100 answers an image at most, where all are taken here.

    Args:
        reference: The things of each image, boxes or points; none is an array of no rows.
        found: The answers of each image.
        scores: Of each answer.
        rule: What counts as found.
        repeats: Whether a second answer for one thing is false or ignored.
        points: All points of the curve, or COCO's 101.

    Returns:
        0 to 1; 0 without an answer.

    Raises:
        DataError: As `froc`.
        GeometryError: As `froc`.

    Source:
        Everingham et al., IJCV 2010 and its development kit; Lin et al., ECCV 2014 (COCO).

    Example:
        >>> things = [np.array([[0.0, 0, 4, 4], [10, 10, 14, 14]])]
        >>> answers = [np.array([[0.0, 0, 4, 4], [20, 20, 24, 24], [10, 10, 14, 13]])]
        >>> round(detection_precision(things, answers, [np.array([0.9, 0.8, 0.7])], rule=BoxRule(0.5)), 4)
        0.8333
    """
    return match_answers(reference, found, scores, rule=rule).precision(repeats=repeats, points=points)
