"""A task asked about every case of a labelled set, as it is and made worse on purpose."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Estimate, Image, Mask, Prediction, Risk, Scores, Study, TaskEntry
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.sides import names_a_side
from isocenter.data.labelled import Event, LabelledCase, LabelledSet
from isocenter.evaluate.corruption import CORRUPTIONS, corrupt, corruptions_for
from isocenter.evaluate.tables import check_probabilities
from isocenter.safety.audit import AuditedAnswer
from isocenter.verbs.audit import audited_prediction
from isocenter.verbs.evaluation.masks import CaseScores, MaskSettings, masks_of_scores, mean_dice, measure_case
from isocenter.verbs.evaluation.scores import Cases, classes_system, findings_system, numbers_system
from isocenter.verbs.evaluation.survival import survival_system
from isocenter.verbs.evaluation.system import System
from isocenter.verbs.evaluation.tables import several
from isocenter.verbs.report import overlay_png
from isocenter.verbs.running import run_task

__all__ = ["Kept", "Outcome", "RunSettings", "ask", "case_pictures", "system_of"]

Answer = CaseScores | np.ndarray | float | Risk
"""What was measured on a mask, probabilities, a number, or the chance of an event by a day."""

CLEAN = ("", 0)
"""Key of the images as they are."""
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class RunSettings:
    """How a task is asked.

    Args:
        corrupt: Names of corruptions; "auto" for all that are meant for the images.
        corrupt_cases: Most cases that are made worse; None for all.
        masks: How masks are measured.
        modality: Of images whose file says none.
        body_part: Of images whose file says none.
        seed: Of everything random.
    """

    corrupt: tuple[str, ...] = ()
    corrupt_cases: int | None = None
    masks: MaskSettings = field(default_factory=MaskSettings)
    modality: str = ""
    body_part: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Kept:
    """One promise with a level: what it was of, whether it was kept, and of whom the case is."""

    what: str
    kept: bool
    level: float
    patient: str = ""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a task answered.

    Args:
        labelled: The set.
        cases: Cases whose image could be read.
        answers: Of each, by corruption and grade; None where the task abstained.
        reasons: Why it abstained from images as they are, and how often.
        notes: What was noticed.
        seconds: Of each answer to an image as it is.
        inputs: sha256 over all images.
        hashes: sha256 of each image.
        worse: Names of the cases that were made worse, by corruption.
        kept: Promises with a level of answers to images as they are, and whether they were kept.
        asked: Of each image as it is, what a record keeps of the answer.
    """

    labelled: LabelledSet
    cases: tuple[LabelledCase, ...]
    answers: Mapping[tuple[str, int], list[Answer | None]]
    reasons: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: tuple[float, ...]
    inputs: str
    worse: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()
    hashes: tuple[str, ...] = ()
    asked: tuple[AuditedAnswer, ...] = ()

    def answered(self, key: tuple[str, int]) -> np.ndarray:
        """Return which cases were answered."""
        return np.array([one is not None for one in self.answers[key]], dtype=bool)

    def kinds(self) -> list[str]:
        """Return the corruptions that were made."""
        return sorted({kind for kind, _ in self.answers if kind})


def ask(entry: TaskEntry, labelled: LabelledSet, settings: RunSettings, tell: Callable[[str, float], None]) -> Outcome:
    """Ask a task about a labelled set.

    Raises:
        ConfigError: The task needs a prompt, or a corruption is unknown.
        DataError: No case can be read, or the answers are of another kind than the labels.
    """
    if entry.card.needs_prompt:
        raise ConfigError(
            f"task {entry.card.name!r} needs someone who points; it is measured with simulated users by "
            "`python -m benchmarks.interactive_dice`, not here"
        )
    unknown = [name for name in settings.corrupt if name != "auto" and name not in CORRUPTIONS]
    if unknown:
        raise ConfigError(f"no corruption is named {unknown[0]!r}; there are: {', '.join(CORRUPTIONS)}")
    asking = _Asking(entry, labelled, settings)
    limit = len(labelled.cases) if settings.corrupt_cases is None else settings.corrupt_cases
    worse = _spread(labelled.cases, limit) if settings.corrupt else frozenset()
    for number, case in enumerate(labelled.cases):
        tell(f"{entry.card.name}, case {number + 1} of {len(labelled.cases)}", number / len(labelled.cases))
        asking.case(case, worse=case.name in worse)
    return asking.outcome()


def _spread(cases: Sequence[LabelledCase], limit: int) -> frozenset[str]:
    """Return the names of so many cases, evenly over the set."""
    if limit < 1:
        return frozenset()
    at = {round(place) for place in np.linspace(0, len(cases) - 1, min(limit, len(cases))).tolist()}
    return frozenset(cases[i].name for i in at)


class _Asking:
    """Collects what a task answers."""

    def __init__(self, entry: TaskEntry, labelled: LabelledSet, settings: RunSettings) -> None:
        self._entry, self._labelled, self._settings = entry, labelled, settings
        self._cases: list[LabelledCase] = []
        self._answers: dict[tuple[str, int], list[Answer | None]] = {CLEAN: []}
        self._worse: dict[tuple[str, int], dict[str, Answer | None]] = {}
        self._reasons: dict[str, int] = {}
        self._notes: dict[str, None] = {}
        self._failed: dict[str, str] = {}
        self._seconds: list[float] = []
        self._kept: list[Kept] = []
        self._hashes: list[str] = []
        self._asked: list[AuditedAnswer] = []

    def case(self, case: LabelledCase, *, worse: bool) -> None:
        """Ask about one case, as it is and, if told to, made worse."""
        try:
            image = read_stated(case, self._settings)
            reference = case.mask(image.geometry).array if case.mask is not None else None
        except (DataError, OSError) as error:
            self._failed[case.name] = str(error)
            return
        self._cases.append(case)
        self._hashes.append(image.sha256)
        prediction, seconds = self._run(image, case)
        self._asked.append(audited_prediction(self._entry.card.name, image.sha256, prediction))
        answer, reason = self._answer(prediction, image, reference), prediction.abstained
        kept = keeps_promises(prediction, answer, case, self._labelled.classes, image.geometry.voxel_volume_mm3)
        self._kept += [replace(one, patient=case.patient) for one in kept]
        self._answers[CLEAN].append(answer)
        self._seconds.append(seconds)
        if reason is not None:
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        for kind in self._kinds(image) if worse else ():
            for grade in CORRUPTIONS[kind].grades:
                made = corrupt(image, kind, grade, seed=self._settings.seed, mask=reference)
                found = self._answer(self._run(made.image, case)[0], made.image, made.mask)
                self._worse.setdefault((kind, grade), {})[case.name] = found

    def _kinds(self, image: Image) -> list[str]:
        fitting = [one.name for one in corruptions_for(image)]
        if "auto" in self._settings.corrupt:
            return fitting
        for name in self._settings.corrupt:
            if name not in fitting:
                reason = CORRUPTIONS[name].misfit(image)
                self._notes[f"{name} was not made of some images: {reason}"] = None
        return [name for name in fitting if name in self._settings.corrupt]

    def _run(self, image: Image, case: LabelledCase) -> tuple[Prediction, float]:
        study = Study(case.patient, images=(image,))
        answer = run_task(self._entry, study, 0, (), named=True, seed=self._settings.seed)
        return answer.prediction, answer.seconds

    def _answer(
        self, prediction: Prediction, image: Image, reference: Shaped[np.ndarray, "z y x"] | None
    ) -> Answer | None:
        if prediction.abstained is None:
            return self._measured(prediction, image, reference)
        if reference is None or self._settings.masks.missing != "count-as-zero":
            return None
        labels = list(range(1, len(self._labelled.classes) + 1))
        empty = measure_case(reference, np.zeros_like(reference), image.geometry, self._settings.masks, labels)
        return replace(empty, note="abstained: counted as empty")

    def _measured(self, prediction: Prediction, image: Image, reference: Shaped[np.ndarray, "z y x"] | None) -> Answer:
        value, classes = prediction.value, self._labelled.classes
        if isinstance(value, Mask) and reference is not None:
            found, note = as_classes(value, classes)
            if note:
                self._notes[note] = None
            labels = list(range(1, len(classes) + 1))
            return measure_case(reference, found, image.geometry, self._settings.masks, labels)
        if isinstance(value, Scores) and self._labelled.kind in ("classify", "multilabel"):
            by_name = {code.meaning: p for code, p in value.probabilities}
            lost = [name for name in classes if name[:64] not in by_name]
            if lost:
                raise DataError(
                    f"the task says nothing of the class {lost[0]!r} of this set; it knows {', '.join(by_name)}",
                    source=self._labelled.name,
                )
            return np.array([by_name[name[:64]] for name in classes])
        if isinstance(value, Estimate) and self._labelled.kind == "regress":
            return float(value.value)
        if isinstance(value, Risk) and self._labelled.kind == "survive":
            return value
        raise DataError(
            f"the task answers with a {type(value).__name__}, and the set's labels are of the kind "
            f"{self._labelled.kind!r}: they can't be compared",
            source=self._labelled.name,
        )

    def outcome(self) -> Outcome:
        """Return what was answered."""
        if not self._cases:
            first = next(iter(self._failed.values()), "there is none")
            raise DataError(f"no case can be read; the first: {first}", source=self._labelled.name)
        answers = dict(self._answers)
        for key, found in self._worse.items():
            answers[key] = [found.get(case.name) for case in self._cases]
        worse = {name for found in self._worse.values() for name in found}
        notes = [f"{len(self._failed)} cases could not be read and were left out"] if self._failed else []
        if self._worse and len(worse) < len(self._cases):
            notes.append(f"{len(worse)} of {len(self._cases)} cases were made worse")
        notes += list(self._notes)
        return Outcome(
            self._labelled,
            tuple(self._cases),
            answers,
            self._reasons,
            tuple(notes),
            tuple(self._seconds),
            hashlib.sha256("\n".join(self._hashes).encode()).hexdigest(),
            {kind: frozenset(found) for (kind, _), found in self._worse.items()},
            tuple(self._kept),
            tuple(self._hashes),
            tuple(self._asked),
        )


def keeps_promises(
    prediction: Prediction,
    answer: Answer | None,
    case: LabelledCase,
    classes: Sequence[str],
    voxel_mm3: float | None = None,
) -> list[Kept]:
    """Return what an answer promised with a level, and whether that was kept.

    A mask promises a Dice (the mean of the structures that are in the label or the answer) and volumes, classes a set
    that holds the true one, a number an interval.
    """
    sure, found = prediction.uncertainty, []
    if sure is None or answer is None:
        return []
    if sure.level is not None:
        if isinstance(answer, CaseScores) and sure.low is not None:
            dice = mean_dice(answer)
            if not math.isnan(dice):
                inside = sure.low <= dice <= (1.0 if sure.high is None else sure.high)
                found.append(Kept("the expected Dice", inside, sure.level))
        elif isinstance(answer, np.ndarray) and isinstance(case.target, int):
            members = {code.meaning for code in sure.members}
            found.append(Kept("the set of classes", classes[case.target][:64] in members, sure.level))
        elif isinstance(answer, float) and sure.low is not None and sure.high is not None:
            found.append(Kept("the interval", sure.low <= float(str(case.target)) <= sure.high, sure.level))
    for further in prediction.further:
        label, low, high = further.segment, further.low, further.high
        if further.kind != "interval" or further.level is None or low is None or high is None:
            continue
        if isinstance(answer, CaseScores) and voxel_mm3 is not None and label is not None and label in answer.scores:
            volume_ml = answer.scores[label].reference_voxels * voxel_mm3 / 1000
            found.append(Kept("volumes", low <= volume_ml <= high, further.level))
    return found


def read_stated(case: LabelledCase, settings: RunSettings) -> Image:
    """Read a case's image; modality and body part are filled in where its file says none."""
    image = case.image()
    if settings.modality and not image.modality:
        image = replace(image, modality=settings.modality)
    if settings.body_part and not image.body_part:
        image = replace(image, body_part=settings.body_part)
    return image


def as_classes(mask: Mask, classes: Sequence[str]) -> tuple[Shaped[np.ndarray, "z y x"], str]:
    """Return a task's segments as the classes of a set, and how they were matched.

    By name where every class has a segment of its name; all segments together where the set has one class; else by
    number. Classes or segments that name a side are matched by name alone: by number, left could become right.

    Raises:
        DataError: None of these fits.
    """
    names = {s.label.casefold(): s.number for s in mask.segments}
    arrays = {s.number: mask.segment_array(s.number) for s in mask.segments}
    wanted = [name.casefold()[:64] for name in classes]
    if all(name in names for name in wanted):
        chosen, note = [arrays[names[name]] for name in wanted], ""
    elif any(names_a_side(name) for name in (*classes, *([] if len(classes) == 1 else names))):
        raise DataError(
            f"a class of the set ({', '.join(classes)}) or a segment of the task "
            f"({', '.join(s.label for s in mask.segments)}) names a side, and their names are not the same: they are "
            "not matched by number, or left could become right; give the set the task's names"
        )
    elif len(classes) == 1:
        chosen = [np.any(list(arrays.values()), axis=0)]
        said = ", ".join(s.label for s in mask.segments)
        note = f"the set has one class, {classes[0]!r}: it was compared with all that the task outlined ({said})"
    elif set(arrays) <= set(range(1, len(classes) + 1)):
        shape = mask.geometry.shape
        chosen = [arrays.get(n, np.zeros(shape, dtype=bool)) for n in range(1, len(classes) + 1)]
        pairs = ", ".join(f"{s.label} with {classes[s.number - 1]}" for s in mask.segments)
        note = f"segments were matched with classes by number: {pairs}"
    else:
        raise DataError(
            f"the task's segments ({', '.join(s.label for s in mask.segments)}) are not the classes of the set "
            f"({', '.join(classes)}), and can't be matched by number"
        )
    found = np.zeros(mask.geometry.shape, dtype=np.uint16)
    for number, inside in enumerate(chosen, start=1):
        found[inside] = number
    return found, note


def system_of(outcome: Outcome, key: tuple[str, int] = CLEAN) -> System:
    """Return the system of the cases that were answered.

    Raises:
        DataError: None was, or those that were are of one class only.
    """
    answers, labelled = outcome.answers[key], outcome.labelled
    kept = [i for i, one in enumerate(answers) if one is not None]
    if not kept:
        first = next(iter(outcome.reasons), "it abstained")
        raise DataError(f"no case was answered; the first reason: {first}", source=labelled.name)
    names = tuple(outcome.cases[i].name for i in kept)
    patients = tuple(outcome.cases[i].patient for i in kept)
    notes = [*outcome.notes, *_abstentions(outcome), *(several(patients) if labelled.patients_known else ())]
    if not labelled.patients_known:
        notes.append("the set does not say which cases are of one patient: each counts as one")
    inputs = {"images": outcome.inputs}
    targets = [outcome.cases[i].target for i in kept]
    cases = Cases(names, patients, labelled.patients_known, tuple(notes))
    if labelled.kind == "segment":
        scores = [one for one in answers if isinstance(one, CaseScores)]
        classes = dict(enumerate(labelled.classes, start=1))
        return masks_of_scores(names, patients, labelled.patients_known, scores, classes, notes, inputs)
    if labelled.kind == "survive":
        events = [t for t in targets if isinstance(t, Event)]
        made = _survival(cases, events, [one for one in answers if isinstance(one, Risk)])
    elif labelled.kind == "regress":
        said = np.array([one for one in answers if isinstance(one, float)])
        made = numbers_system(cases, np.array([float(str(t)) for t in targets]), said)
    else:
        p = np.array([one for one in answers if isinstance(one, np.ndarray)])
        truth = np.array(targets, dtype=np.int64)
        build = classes_system if labelled.kind == "classify" else findings_system
        made = build(cases, truth, p, labelled.classes)
    return replace(made, inputs=inputs)


def _survival(cases: Cases, events: Sequence[Event], risks: Sequence[Risk]) -> System:
    """Return the system of the chance of an event by one day, which is all that a task answers.

    Raises:
        DataError: Answers are of different days, a chance is none, or nobody had the event.
    """
    horizons = sorted({risk.horizon_days for risk in risks})
    if len(horizons) > 1:
        raise DataError(f"the task's chances are meant up to different days ({horizons[0]:g} to {horizons[-1]:g})")
    chance = np.array([risk.probability for risk in risks], dtype=np.float64)
    check_probabilities(chance)
    days = np.array([event.days for event in events], dtype=np.float64)
    happened = np.array([event.happened for event in events], dtype=bool)
    day, notes = horizons[0], []
    reached = bool(days.min() <= day < days.max())
    if not reached:
        notes.append(
            f"the task's chance is meant up to day {day:g}, and cases were seen from day {days.min():g} to "
            f"{days.max():g}: whether it is right (Brier score) can't be told, only its order"
        )
    notes.append(
        "the task answers with one chance by one day: there is no survival curve, so no integrated Brier score; equal "
        "chances count half in C"
    )
    told = Cases(cases.names, cases.patients, cases.known, (*cases.notes, *notes))
    return survival_system(told, days, happened, chance, {day: chance} if reached else {})


def _abstentions(outcome: Outcome) -> list[str]:
    total = sum(outcome.reasons.values())
    if not total:
        return []
    shown = sorted(outcome.reasons.items(), key=lambda item: -item[1])[:_SHOWN_REASONS]
    words = "; ".join(f"{count} times: {reason}" for reason, count in shown)
    more = (
        "" if len(outcome.reasons) <= _SHOWN_REASONS else f"; and {len(outcome.reasons) - _SHOWN_REASONS} more reasons"
    )
    return [f"the task abstained from {total} of {len(outcome.cases)} cases: {words}{more}"]


def case_pictures(entry: TaskEntry, outcome: Outcome, case: str, settings: RunSettings) -> tuple[bytes, bytes | None]:
    """Draw a case: the task's answer, and the reference where it is a mask; PNG.

    Returns:
        The answer's picture, and the reference's; the second is None where the label is no mask.

    Raises:
        DataError: The image can't be read any more.
    """
    found = next(c for c in outcome.cases if c.name == case)
    image = read_stated(found, settings)
    plane: Literal["axial", "native"] = "axial" if image.is_volume else "native"
    if found.mask is None:
        return overlay_png(image, None, plane=plane), None
    answer = run_task(entry, Study(found.patient, images=(image,)), 0, (), named=True, seed=settings.seed)
    mask = answer.prediction.value
    drawn = overlay_png(image, mask if isinstance(mask, Mask) else None, plane=plane)
    return drawn, overlay_png(image, found.mask(image.geometry), plane=plane)
