"""The checks of `isocenter check`: each says passed, failed, not measured or not applicable, with what was found.

What is not known is "not measured", and never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import binomtest

from isocenter.core import Image, Mask, Prediction, Scores, Study, TaskEntry
from isocenter.core.errors import IsocenterError, PluginError
from isocenter.core.units import Quantity
from isocenter.evaluate.overlap import dice
from isocenter.models.weights import WeightsCard
from isocenter.plugins import missing_packages
from isocenter.testing import check_task
from isocenter.verbs.evaluation.document import CheckEntry, EvaluationDocument
from isocenter.verbs.evaluation.runs import Kept, Outcome
from isocenter.verbs.learnt_folder import LearntFile
from isocenter.verbs.running import run_task

__all__ = [
    "Weights",
    "calibration_check",
    "coverage_checks",
    "gate_check",
    "preflight_checks",
    "statement_checks",
    "subgroup_check",
    "task_checks",
    "verdict",
]

_UNKNOWN = ("", "unknown", "not stated")
_SAME = 0.95
"""Least Dice with itself of an answer to the same image stored otherwise."""
_SAME_PROBABILITY = 0.05
_SIGNIFICANT = 0.05
_DOUBT = 0.99
_ESSENTIAL = ("licence", "intended use", "contract", "repeatable", "weights", "calibration")
_PROMISED = {
    "segment": "quality", "classify": "sets", "multilabel": "temperature", "regress": "interval", "survive": "risk",
}  # fmt: skip
"""Of a learnt task's promises (`tasks.learnt.cards.Promise`) the one that an answer of its kind can't do without."""
_SIDES = ("laterality", "orientation")
_SPEED = "latency"
_LESS_IS_BETTER = ("memory", "output", _SPEED)


@dataclass(frozen=True, eq=False)
class Weights:
    """One file of weights behind a task: a built-in name or a path, and its card."""

    place: str | Path
    card: WeightsCard


def statement_checks(entry: TaskEntry, weights: Sequence[Weights]) -> list[CheckEntry]:
    """Check what the card and the weights say of themselves, and what is installed."""
    card = entry.card
    lacking = missing_packages(card)
    licences = sorted({card.licence, *(w.card.licence for w in weights)})
    unknown = [name for name in licences if name.strip().lower() in _UNKNOWN]
    found = [
        CheckEntry(
            name="packages",
            status="failed" if lacking else "passed",
            words=f"not installed: {', '.join(lacking)}" if lacking else "all that it needs is installed",
        ),
        CheckEntry(
            name="licence",
            status="failed" if unknown else "passed",
            words="not stated; find out, and put it on the card" if unknown else ", ".join(licences),
        ),
    ]
    for name, said in (("intended use", card.intended_use), ("not for", card.not_for)):
        stated = said.strip().lower() not in _UNKNOWN
        found.append(
            CheckEntry(name=name, status="passed" if stated else "failed", words=said if stated else "not stated")
        )
    return found


def preflight_checks(weights: Sequence[Weights], tell: Callable[[str, float], None]) -> list[CheckEntry]:
    """Run the pre-flight of each network; of several the worst is told. An adapter is checked with the task alone."""
    weights = [one for one in weights if "base" not in one.card.network]
    names = ("files", "weights", "memory", "output", _SPEED, "intensity", "laterality")
    if not weights:
        words = "the weights of this task are not known to Isocenter"
        return [CheckEntry(name=name, status="not measured", words=words) for name in names]
    door, preflight = (import_module(f"isocenter.models.passport.{name}") for name in ("door", "preflight"))
    seen: dict[str, list[tuple[str, Any]]] = {}
    for number, one in enumerate(weights):
        tell(f"pre-flight of {one.card.name}", number / len(weights))
        try:
            report = preflight.check_weights(door.locate(one.place))
        except IsocenterError as error:
            for name in names:
                seen.setdefault(name, []).append(
                    (one.card.name, CheckEntry(name=name, status="not measured", words=str(error)))
                )
            continue
        for check in report.checks:
            if check.name in names:
                seen.setdefault(check.name, []).append((one.card.name, check))
    return [_worst(name, seen[name]) for name in names if name in seen]


def _worst(name: str, found: Sequence[tuple[str, Any]]) -> CheckEntry:
    rank = {"failed": 0, "not measured": 1, "not applicable": 2, "passed": 3}
    said = [(who, check, _status(check)) for who, check in found]
    more = -1.0 if name in _LESS_IS_BETTER else 1.0
    who, check, status = min(said, key=lambda item: (rank[item[2]], more * (item[1].number or 0.0)))
    words = check.words if len(found) == 1 else f"{who}: {check.words} (the worst of {len(found)} networks)"
    return CheckEntry(name=name, status=status, words=words, number=check.number, unit=check.unit)


def _status(check: Any) -> Any:
    """Return a status; what the source does not say, or was not run, was not measured."""
    unsaid = check.status == "not applicable" and ("states neither" in check.words or check.words.startswith("not run"))
    return "not measured" if unsaid else check.status


def task_checks(entry: TaskEntry, case: Study | None, seed: int) -> list[CheckEntry]:
    """Hold the task to its contract, and look whether it answers the same when asked again or told otherwise.

    Args:
        entry: The task.
        case: A study of a real case; None where no set was given, and an invented one is used.
        seed: Of everything random.
    """
    usable = case is not None and entry.card.misfit(case.images[0]) is None and not entry.card.needs_prompt
    study = case if usable else None
    try:
        report = check_task(entry, study=study)
    except PluginError as error:
        contract = CheckEntry(name="contract", status="failed", words=str(error))
        rest = "not run: the contract is broken"
        return [contract, *(CheckEntry(name=n, status="not measured", words=rest) for n in ("repeatable", *_ASKED))]
    words = f"{', '.join(report.checks)}; {report.answered} answers, {report.abstained} abstentions"
    found = [CheckEntry(name="contract", status="passed", words=words)]
    if report.answered:
        found.append(CheckEntry(name="repeatable", status="passed", words="the same study twice: the same answer"))
    else:
        why = "it abstained from every image it was shown; give --data SET with an image that it answers"
        found.append(CheckEntry(name="repeatable", status="not measured", words=why))
    if study is None:
        why = "needs a case that the task answers: give --data SET"
        if entry.card.needs_prompt and report.answered:
            same = "the outline lies where the prompt points, in straight, permuted, mirrored and oblique grids"
            return [
                *found,
                CheckEntry(name="orientation", status="passed", words=same),
                _unmeasured("intensity scale", why),
            ]
        return [*found, *(_unmeasured(name, why) for name in _ASKED)]
    return [*found, _orientation(entry, study, seed), _scale(entry, study, seed)]


_ASKED = ("orientation", "intensity scale")


def _unmeasured(name: str, why: str) -> CheckEntry:
    return CheckEntry(name=name, status="not measured", words=why)


def _answer(entry: TaskEntry, study: Study, seed: int) -> Prediction:
    return run_task(entry, study, 0, (), named=True, seed=seed).prediction


def _orientation(entry: TaskEntry, study: Study, seed: int) -> CheckEntry:
    """Store the same patient along other axes: the answer must lie at the same place in the patient."""
    name, image = "orientation", study.images[0]
    if not image.is_volume:
        return CheckEntry(name=name, status="not applicable", words="a picture without a place in the patient")
    first = _answer(entry, study, seed)
    if first.abstained is not None:
        return _unmeasured(name, f"it abstained from the case: {first.abstained}")
    worst = 1.0
    for axes, flips in (((0, 1, 2), (False, False, True)), ((1, 2, 0), (True, False, False))):
        other = _answer(entry, replace(study, images=(_stored(image, axes, flips),)), seed)
        if other.abstained is not None:
            words = f"it abstained when the same patient was stored along other axes: {other.abstained}"
            return CheckEntry(name=name, status="failed", words=words)
        worst = min(worst, _alike(first, _unstored(other, axes, flips)))
    same = worst >= _SAME
    words = f"the same patient stored along other axes: answers agree by {worst:.3f} (1 is the same, {_SAME} is asked)"
    return CheckEntry(name=name, status="passed" if same else "failed", words=words, number=worst, unit="1")


Axes = tuple[int, int, int]
Flips = tuple[bool, bool, bool]


def _turned(array: np.ndarray, axes: Axes, flips: Flips) -> np.ndarray:
    moved = array.transpose(axes)
    return np.ascontiguousarray(np.flip(moved, tuple(i for i, flip in enumerate(flips) if flip)))


def _stored(image: Image, axes: Axes, flips: Flips) -> Image:
    array = np.stack([_turned(channel, axes, flips) for channel in image.array])
    return replace(image, array=array, geometry=image.geometry.reoriented(axes, flips))


def _unstored(prediction: Prediction, axes: Axes, flips: Flips) -> object:
    value = prediction.value
    if not isinstance(value, Mask):
        return value
    back = np.argsort(axes)
    arrays = {}
    for segment in value.segments:
        inside = np.flip(value.segment_array(segment.number), tuple(i for i, flip in enumerate(flips) if flip))
        arrays[segment.number] = inside.transpose(tuple(int(b) for b in back))
    return arrays


def _alike(first: Prediction, other: object) -> float:
    """Return how alike two answers are, 1 for the same: Dice of masks, 1 minus the largest difference of others."""
    value = first.value
    if isinstance(value, Mask) and isinstance(other, dict):
        return min(dice(value.segment_array(s.number), other.get(s.number, np.zeros_like(value.array, bool)))
                   for s in value.segments)  # fmt: skip
    if isinstance(value, Scores) and isinstance(other, Scores):
        return 1 - max(abs(a - b) for (_, a), (_, b) in zip(value.probabilities, other.probabilities, strict=True))
    one, two = (float(getattr(v, "value", getattr(v, "probability", np.nan))) for v in (value, other))
    return 1 - abs(one - two) / max(abs(one), abs(two), 1e-12)


def _scale(entry: TaskEntry, study: Study, seed: int) -> CheckEntry:
    """Multiply intensities that have no unit: the answer must stay."""
    name, image = "intensity scale", study.images[0]
    if image.quantity != Quantity.ARBITRARY:
        return CheckEntry(name=name, status="not applicable", words=f"intensities have a unit ({image.quantity.name})")
    first = _answer(entry, study, seed)
    if first.abstained is not None:
        return _unmeasured(name, f"it abstained from the case: {first.abstained}")
    louder = replace(image, array=image.array.astype(np.float32) * 0.5)
    other = _answer(entry, replace(study, images=(louder,)), seed)
    if other.abstained is not None:
        words = f"it abstained when the intensities, which have no unit, were halved: {other.abstained}"
        return CheckEntry(name=name, status="failed", words=words)
    value: object = other.value
    if isinstance(other.value, Mask):
        value = {s.number: other.value.segment_array(s.number) for s in other.value.segments}
    alike = _alike(first, value)
    words = f"intensities halved (they have no unit): answers agree by {alike:.3f} ({_SAME} is asked)"
    return CheckEntry(
        name=name, status="passed" if alike >= _SAME else "failed", words=words, number=alike, unit="1"
    )  # fmt: skip


def calibration_check(weights: Sequence[Weights], learnt: LearntFile | None) -> CheckEntry:
    """Check that the card says what an answer's own certainty is worth.

    Args:
        weights: Behind the task.
        learnt: What the folder of a learnt task says; None for others.
    """
    name = "calibration"
    if learnt is not None:
        promise, wanted = learnt.promise, _PROMISED[learnt.kind]
        if not promise.model_dump()[wanted] or (wanted == "temperature" and promise.temperature == 1.0):
            words = f"no {wanted} is promised: its {promise.cases} held-out cases were too few"
            return CheckEntry(name=name, status="failed", words=words)
        words = f"{wanted}, from {promise.cases} held-out cases"
        return CheckEntry(name=name, status="passed", words=words, number=promise.cases, unit="1")
    if not weights:
        return _unmeasured(name, "the weights of this task are not known to Isocenter")
    lacking = [w.card.name for w in weights if not w.card.calibration]
    if lacking:
        return CheckEntry(name=name, status="failed", words=f"no calibration on the card of {', '.join(lacking)}")
    return CheckEntry(name=name, status="passed", words=f"on the card of {', '.join(w.card.name for w in weights)}")


def coverage_checks(outcome: Outcome | None) -> list[CheckEntry]:
    """Check that promises of each kind were kept as often as they say, on the cases of the set."""
    name = "coverage"
    if outcome is None:
        return [_unmeasured(name, "needs cases with labels: give --data SET")]
    if not outcome.kept:
        return [_unmeasured(name, "no answer made a promise with a level")]
    found = []
    for what in dict.fromkeys(one.what for one in outcome.kept):
        some = [one for one in outcome.kept if one.what == what]
        found.append(_coverage(f"{name} of {what}", some))
    return found


def _coverage(name: str, kept: Sequence[Kept]) -> CheckEntry:
    level = kept[0].level
    count, total = sum(one.kept for one in kept), len(kept)
    interval = binomtest(count, total).proportion_ci(_DOUBT, method="exact")
    spread = f"{interval.low:.0%} to {interval.high:.0%}, {_DOUBT:.0%}"
    words = f"{count} of {total} promises of {level:.0%} were kept ({spread})"
    kept_enough = interval.high >= level
    if not kept_enough:
        words += ": fewer than promised; calibrate again on cases like these"
    return CheckEntry(
        name=name, status="passed" if kept_enough else "failed", words=words, number=count / total, unit="1"
    )  # fmt: skip


def gate_check(document: LearntFile | None) -> CheckEntry:
    """Check that a learnt task has a gate against images unlike those that it learnt from.

    Args:
        document: What its task.json holds; None for other tasks.
    """
    name = "gate"
    if document is None:
        return _unmeasured(name, "whether it refuses images unlike its own is measured by showing it such images")
    if document.gate is not None:
        words = "images unlike those that it learnt from are refused (gate.npz)"
        return CheckEntry(name=name, status="passed", words=words)
    why = document.ungated or "its folder holds no gate; adapt again"
    return _unmeasured(name, f"there is no gate: {why}")


def subgroup_check(document: EvaluationDocument | None, largest: float) -> CheckEntry:
    """Check that no group is worse than the rest by more than is tolerated."""
    name = "subgroups"
    block = None if document is None else document.subgroups
    if block is None or not {c for row in block.rows for c in row.columns} - {"size in voxels"}:
        return _unmeasured(name, "needs cases with labels and groups: give --data SET and --groups TABLE")
    if not block.tested:
        return _unmeasured(name, "no group had enough patients to be tested")
    bad = [
        row for row in block.rows
        if row.gap is not None and row.p_corrected is not None and row.p_corrected <= _SIGNIFICANT
        and abs(row.gap) > largest and row.name == block.worst
    ]  # fmt: skip
    worst = next((row for row in block.rows if row.name == block.worst), None)
    if worst is None or worst.gap is None:
        words = f"{block.tested} groups tested, none on the worse side of the rest"
        return CheckEntry(name=name, status="passed", words=words)
    words = (
        f"{block.tested} groups tested; worst: {worst.name}, {block.name} {worst.gap:+.3f} against the rest, "
        f"corrected p {worst.p_corrected:.3f}; a gap of {largest:g} that is more than chance is not tolerated"
    )
    return CheckEntry(name=name, status="failed" if bad else "passed", words=words, number=worst.gap, unit="1")


def latency_check(outcome: Outcome | None) -> list[CheckEntry]:
    """Tell how long whole answers took, where a set was answered."""
    if outcome is None or not outcome.seconds:
        return []
    middle, longest = 1000 * median(outcome.seconds), 1000 * max(outcome.seconds)
    words = f"{middle:.0f} ms for a whole answer (median of {len(outcome.seconds)}), longest {longest:.0f} ms"
    return [CheckEntry(name="latency of answers", status="passed", words=words, number=middle, unit="ms")]


def verdict(checks: Sequence[CheckEntry]) -> tuple[bool, list[CheckEntry]]:
    """Return whether a task may serve, and what stands against it.

    It may where no check failed, what is essential was measured, and left and right were looked at.
    """
    against = [c for c in checks if c.status == "failed"]
    against += [c for c in checks if c.name in _ESSENTIAL and c.status == "not measured"]
    sides = [c for c in checks if c.name in _SIDES]
    if not any(c.status in ("passed", "not applicable") for c in sides):
        against += [c for c in sides if c.status == "not measured"]
    return not against, against
