"""Two tables, of what is in the images and of what was found: FROC and average precision.

Images without a thing belong to it, for what is found in them is false: a reference row with an empty place names one,
or a table of all images does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import ConfigError, DataError, GeometryError, UnitsError
from isocenter.evaluate.detection import (
    COCO_IOUS,
    FROC_RATES,
    BoxRule,
    Matches,
    PointRule,
    RadiusRule,
    Rule,
    match_answers,
)
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.boxes import Corners, Placed, read_places
from isocenter.verbs.evaluation.document import CurveEntry
from isocenter.verbs.evaluation.scores import Cases
from isocenter.verbs.evaluation.system import Indices, Measure, System
from isocenter.verbs.evaluation.tables import Table, patients_for, read_table, several

__all__ = ["DetectionSettings", "detection_system", "detections_of_tables"]

_MEAN = "mean of classes"
_OPERATING = 1.0
"""False positives an image at which the table of cases says what was found."""
_POINTS = 200
_KEPT = 20_000
"""Resamples whose figures are remembered."""


@dataclass(frozen=True)
class DetectionSettings:
    """How places are read and matched.

    Args:
        corners: What the corners of boxes in pixels are.
        least_iou: From which IoU on a box is found, in FROC.
        images: Table of all images, those without a thing among them; None where the references name them.
    """

    corners: Corners | None = None
    least_iou: float = 0.1
    images: Table | None = None


def detections_of_tables(
    predictions: Path, references: Path, settings: DetectionSettings, patients: Table | None
) -> System:
    """Read what was found and what is there, and return the system.

    Raises:
        DataError: A table is not what it must be, or an image of one side is unknown to the other.
        GeometryError: Boxes and points of different axes, or a box that is none.
        UnitsError: One table in pixels, the other in mm, or points without a radius.
        ConfigError: Nobody said what the corners of boxes are.
    """
    there = read_places(read_table(references), settings.corners, scored=False)
    found = read_places(read_table(predictions), settings.corners, scored=True)
    _refuse_misfits(there, found)
    cases = _cases(there, found, settings.images, patients)
    made = detection_system(cases, there, found, settings.least_iou)
    digests = {"predictions": file_sha256(predictions), "references": file_sha256(references)}
    return System(**{**vars(made), "inputs": digests})


def _refuse_misfits(there: Placed, found: Placed) -> None:
    file = found.table.file
    if there.axes != found.axes:
        raise GeometryError(f"holds {found.form}es of {found.axes} axes, the references are of {there.axes}"
                            .replace("pointes", "points"), source=file)  # fmt: skip
    if there.unit != found.unit:
        raise UnitsError(f"is in {found.unit}, the references are in {there.unit}: give both in one unit", source=file)
    if there.form == "point" and found.form == "box":
        raise GeometryError("holds boxes, the references are points: give a point (x,y) for each answer", source=file)
    if there.form == "point" and not there.radius:
        raise UnitsError(
            "needs a column radius (in the unit of the points): how near to its centre a thing counts as found",
            source=there.table.file,
        )
    if there.known_classes != found.known_classes:
        lacking = found if there.known_classes else there
        raise DataError(
            "has no column class, and the other table has one: what is of which class must be known on both sides; "
            "leave the column out of both to find things of any class",
            source=lacking.table.file,
        )
    if not there.filled.any():
        raise DataError("no image holds a thing to be found: there is no sensitivity", source=there.table.file)


def _cases(there: Placed, found: Placed, listed: Table | None, patients: Table | None) -> Cases:
    """Return all images and their patients.

    Raises:
        DataError: An image is not in the list, stands in it twice, or is of two patients.
    """
    known = set(there.images)
    if listed is not None:
        names = listed.names("image")
        if len(set(names)) < len(names):
            twice = next(row for row, name in enumerate(names) if name in names[:row])
            raise DataError(f"line {listed.line(twice)} names an image again", source=listed.file)
        lost = sorted(known - set(names))
        if lost:
            line = there.table.line(there.images.index(lost[0]))
            raise DataError(
                f"lacks {len(lost)} images of {there.table.file.name}, that of its line {line} among them",
                source=listed.file,
            )
        known = set(names)
    lost = sorted(set(found.images) - known)
    if lost:
        raise DataError(
            f"{len(lost)} images of the predictions are not among those of the references, that of line "
            f"{found.table.line(found.images.index(lost[0]))} among them. An answer in an image "
            "without a thing is false: name such images in the references with an empty place, or give --images TABLE "
            "with all images",
            source=found.table.file,
        )
    images = sorted(known)
    who, stated, notes = _patients(images, there.table, listed, patients)
    silent = len(known - set(found.images))
    without = len(known - {i for i, filled in zip(there.images, there.filled, strict=True) if filled})
    notes = [
        *notes,
        f"{without} of {len(images)} images hold nothing to be found, and what is found in them is false"
        if without
        else "every image holds a thing to be found: how many false answers come in images without one is not known "
        "(name those in the references with an empty place, or give --images TABLE)",
    ]
    if silent:
        notes.append(f"{silent} of {len(images)} images have no answer: nothing was found in them")
    return Cases(tuple(images), tuple(who), stated, tuple(notes))


def _patients(
    images: Sequence[str], references: Table, listed: Table | None, patients: Table | None
) -> tuple[list[str], bool, Sequence[str]]:
    tables = [t for t in (listed, references) if t is not None and "patient" in t.columns]
    if patients is not None or not tables:
        return patients_for(images, patients)
    known: dict[str, str] = {}
    for one in tables:
        for row, (image, name) in enumerate(zip(one.column("image"), one.names("patient"), strict=True)):
            if known.setdefault(image, name) != name:
                raise DataError(f"line {one.line(row)} gives its image to another patient", source=one.file)
    lost = [image for image in images if image not in known]
    if lost:
        raise DataError(
            f"the patient of {len(lost)} images is not known: give the column patient in --images too, or --patients "
            "TABLE (case,patient; a case is an image)",
            source=tables[0].file,
        )
    who = [known[image] for image in images]
    return who, True, several(who)


@dataclass(frozen=True, eq=False)
class _Class:
    """One class: its answers under every rule."""

    name: str
    loose: Matches
    precise: Mapping[str, tuple[Matches, ...]]

    def figures(self, times: Int64[np.ndarray, " images"]) -> Float[np.ndarray, " figures"]:
        """Return all figures of the images, each as often as it counts; NaN where nothing is to be found."""
        if not int(self.loose.things @ times):
            return np.full(1 + len(self.precise) + len(FROC_RATES), np.nan)
        curve = self.loose.froc(times=times)
        areas = [
            float(np.mean([m.precision(times=times, points="coco" if len(some) > 1 else "all") for m in some]))
            for some in self.precise.values()
        ]
        return np.array([curve.mean, *areas, *curve.at_rates])


class _Remembered:
    """All figures of all classes for a resample: every measure of one resample is asked for, one after the other."""

    def __init__(self, classes: Sequence[_Class], images: int) -> None:
        self._classes, self._images = classes, images
        self._known: dict[bytes, Float[np.ndarray, "classes figures"]] = {}

    def __call__(self, i: Indices, figure: int, place: int | None) -> float:
        """Return a figure of a class; of all classes that occur, the mean, where none is named."""
        times = np.bincount(i, minlength=self._images).astype(np.int64)
        key = times.tobytes()
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = np.stack([one.figures(times) for one in self._classes])
        column = self._known[key][:, figure]
        if place is not None:
            return float(column[place])
        column = column[np.isfinite(column)]
        return float(column.mean()) if len(column) else float("nan")


def _rule(there: Placed, found: Placed, least_iou: float) -> tuple[Rule, str, dict[str, tuple[Rule, ...]]]:
    """Return the rule of FROC, it in words, and those of average precisions by name."""
    if found.form == "box":
        if not 0 < least_iou <= 1:
            raise ConfigError(f"--iou must lie above 0 and up to 1, got {least_iou}")
        words = f"a box is found by one of its class whose IoU with it is {least_iou:g} or more"
        return (
            BoxRule(least_iou),
            words,
            {
                "AP at IoU 0.1": (BoxRule(0.1),),
                "AP at IoU 0.5": (BoxRule(0.5),),
                "AP, mean of IoU 0.5 to 0.95": tuple(BoxRule(iou) for iou in COCO_IOUS),
            },
        )
    if there.form == "box":
        return PointRule(), "a box is found by a point of its class inside it", {"AP": (PointRule(),)}
    return (
        RadiusRule(),
        f"a thing is found by a point of its class within its radius of its centre (in {there.unit})",
        {"AP": (RadiusRule(),)},
    )


def detection_system(cases: Cases, there: Placed, found: Placed, least_iou: float) -> System:
    """Return the system of answers in images.

    Args:
        cases: All images.
        there: What is to be found.
        found: What was found.
        least_iou: From which IoU on a box is found, in FROC.
    """
    names = sorted({c for c, filled in zip(there.classes, there.filled, strict=True) if filled})
    rule, words, precise = _rule(there, found, least_iou)
    split = partial(_of_images, cases.names)
    classes = []
    for name in names:
        things, answers = split(there, name), split(found, name)
        scores = [found.scores[rows] if found.scores is not None else np.zeros(0) for rows in answers]
        matched: Callable[[Rule], Matches] = partial(
            _matched, [there.numbers[r] for r in things], [found.numbers[r] for r in answers], scores
        )
        areas = {title: tuple(matched(one) for one in rules) for title, rules in precise.items()}
        classes.append(_Class(name, matched(rule), areas))
    titles = [
        "FROC mean sensitivity", *precise, *(f"sensitivity at {_rate(r)} false positives an image" for r in FROC_RATES)
    ]  # fmt: skip
    ask = _Remembered(classes, len(cases.names))
    measures = []
    for n, title in enumerate(titles):
        if len(classes) > 1:
            measures.append(Measure(title, _MEAN, partial(ask, figure=n, place=None)))
        measures += [Measure(title, one.name, partial(ask, figure=n, place=k)) for k, one in enumerate(classes)]
    rows, bad = _rows(cases, classes)
    return System(
        "detections", cases.names, cases.patients, cases.known, tuple(measures), rows, bad,
        notes=(*cases.notes, *_notes(there, found, names, words)),
        curves=tuple(_curve(one) for one in classes),
    )  # fmt: skip


def _of_images(images: Sequence[str], places: Placed, name: str) -> list[Int64[np.ndarray, " _"]]:
    """Return the rows of a class in each image."""
    rows: dict[str, list[int]] = {image: [] for image in images}
    for row, (image, one, filled) in enumerate(zip(places.images, places.classes, places.filled, strict=True)):
        if filled and one == name:
            rows[image].append(row)
    return [np.array(some, dtype=np.int64) for some in rows.values()]


def _matched(
    things: Sequence[Float[np.ndarray, "_ _"]],
    answers: Sequence[Float[np.ndarray, "_ _"]],
    scores: Sequence[Float[np.ndarray, " _"]],
    rule: Rule,
) -> Matches:
    return match_answers(things, answers, scores, rule=rule)


def _rate(rate: float) -> str:
    """Write a rate as the field does.

    Example:
        >>> [_rate(r) for r in (0.125, 0.5, 2.0)]
        ['1/8', '1/2', '2']
    """
    return f"1/{round(1 / rate)}" if rate < 1 else f"{rate:g}"


def _notes(there: Placed, found: Placed, names: Sequence[str], words: str) -> list[str]:
    notes = [
        f"{words}; a further answer to a thing that was found already is left out in FROC (as in LUNA16) and false in "
        "average precision (as in PASCAL VOC and COCO)"
    ]
    if found.form == "box":
        notes.append(
            "AP at one IoU takes all points of the curve (PASCAL VOC since 2010), the mean of IoU 0.5 to 0.95 takes "
            "101 (COCO), of all answers and not of the first 100 an image"
        )
        flat = int((found.numbers[:, found.axes :] == found.numbers[:, : found.axes]).any(axis=1).sum())
        if flat:
            notes.append(f"{flat} answers are boxes that hold nothing: they are false")
    unknown = [c for c in found.classes if c not in names]
    if unknown:
        notes.append(
            f"{len(unknown)} answers are of {len(set(unknown))} classes of which no image holds a thing: no figure "
            "counts them"
        )
    notes.append(f"{int(there.filled.sum())} things to be found, {len(found.images)} answers")
    return notes


def _threshold(matches: Matches) -> float:
    """Return the lowest score with at most one false answer an image above it; infinite where there is none."""
    curve = matches.froc()
    allowed = curve.thresholds[curve.false_per_image <= _OPERATING]
    return float(allowed.min()) if len(allowed) else float("inf")


def _rows(cases: Cases, classes: Sequence[_Class]) -> tuple[tuple[dict[str, object], ...], Float[np.ndarray, " n"]]:
    count = len(cases.names)
    things, answers, right, wrong = (np.zeros(count, dtype=np.int64) for _ in range(4))
    for one in classes:
        m = one.loose
        said = m.scores >= _threshold(m)
        things += m.things
        answers += np.bincount(m.image, minlength=count)
        right += np.bincount(m.image[said & m.true], minlength=count)
        wrong += np.bincount(m.image[said & ~m.true & ~m.repeat], minlength=count)
    rows = tuple(
        {"number": n, "case": case, "patient": patient, "things": int(t), "answers": int(a), "found": int(f),
         "missed": int(t - f), "false": int(w)}
        for n, (case, patient, t, a, f, w) in enumerate(
            zip(cases.names, cases.patients, things, answers, right, wrong, strict=True), start=1
        )
    )  # fmt: skip
    return rows, (things - right + wrong).astype(np.float64)


def _curve(one: _Class) -> CurveEntry:
    curve = one.loose.froc()
    keep = np.unique(np.linspace(0, len(curve.thresholds) - 1, min(len(curve.thresholds), _POINTS)).round().astype(int))
    return CurveEntry(
        title="FROC",
        name=one.name or "all",
        x_label="false positives an image",
        y_label="sensitivity",
        x=tuple(round(float(v), 6) for v in curve.false_per_image[keep]),
        y=tuple(round(float(v), 6) for v in curve.sensitivity[keep]),
        x_most=FROC_RATES[-1],
    )
