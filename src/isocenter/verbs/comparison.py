"""An earlier result of the same patient beside this one: what surely changed, and what did not.

A change is called sure only where what both answers promise excludes that nothing changed: intervals that do not
overlap, sets (of classes, or of a finding's present and absent) with nothing in common. A probability alone promises no
interval, and is put side by side. Both answers may be wrong by chance: at 90 % each, about one in five pairs has one
whose promise does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from isocenter.core.errors import ConfigError, DataError
from isocenter.verbs.result import (
    ComparisonEntry,
    ImageEntry,
    MeasurementEntry,
    PredictionEntry,
    ResultDocument,
    UncertaintyEntry,
    read_result,
)

__all__ = ["check_prior", "compared"]

_PROBABILITY = "Probability of "


def check_prior(prior: Path, patient_key: str) -> ResultDocument:
    """Read an earlier result, and refuse another patient's.

    Args:
        prior: Folder or result.json.
        patient_key: Of the present study.

    Raises:
        DataError: It can't be read, or is of another patient; or one of the two does not say whose it is.
    """
    document = read_result(prior)
    if not patient_key or not document.study.patient_key:
        raise DataError("a study without a patient's pseudonym can't be compared with another", source=prior)
    if document.study.patient_key != patient_key:
        raise DataError(
            "this earlier result bears another pseudonym: it is of another patient, or was read with another key of "
            "pseudonyms (ISOCENTER_PSEUDONYM_KEY); nothing was compared",
            source=prior,
        )
    return document


def compared(before: ResultDocument, now: ResultDocument) -> tuple[ComparisonEntry, ...]:
    """Return what both results say of the same things; one entry where an answer has nothing to be compared with.

    Args:
        before: The earlier result.
        now: The present one.

    Raises:
        ConfigError: Both are of the same images.
    """
    if {image.sha256 for image in before.images} & {image.sha256 for image in now.images}:
        raise ConfigError("the earlier result is of the same image: there is nothing to compare")
    out: list[ComparisonEntry] = []
    earlier, present = ({image.index: image for image in one.images} for one in (before, now))
    for prediction in now.answered:
        same = [p for p in before.predictions if p.task == prediction.task]
        alike = [p for p in same if _same_view(earlier[p.image], present[prediction.image])]
        reason = _why_not(prediction, same, alike)
        if reason is None and [p.task for p in now.answered].count(prediction.task) > 1:
            reason = "it answered for several images of this study, and which belongs to the earlier one is not known"
        if reason is not None:
            out.append(_not_comparable(prediction, reason))
            continue
        out += _pairs(alike[0], prediction)
    return tuple(out)


def _same_view(one: ImageEntry, other: ImageEntry) -> bool:
    return (one.modality, one.body_part) == (other.modality, other.body_part)


def _why_not(now: PredictionEntry, same: list[PredictionEntry], alike: list[PredictionEntry]) -> str | None:
    if not same:
        return "the earlier result holds no answer of this task"
    if not alike:
        return "the earlier answer is of another modality or part of the body"
    if len(alike) > 1:
        return "the earlier result holds answers of this task for several images"
    if alike[0].abstained is not None:
        return "the task abstained from the earlier image"
    if now.model is None or alike[0].model is None or alike[0].model.weights_sha256 != now.model.weights_sha256:
        return "the earlier answer is of other weights: a difference may be theirs"
    return None


def _not_comparable(prediction: PredictionEntry, why: str) -> ComparisonEntry:
    title = prediction.title or prediction.task
    return ComparisonEntry(task=prediction.task, about=title, verdict="not comparable", text=f"Not compared: {why}.")


def _pairs(before: PredictionEntry, now: PredictionEntry) -> Iterator[ComparisonEntry]:
    yield from _sets(before, now)
    earlier = {_key(m, before): m for m in before.measurements}
    for measurement in now.measurements:
        old = earlier.get(_key(measurement, now))
        if old is not None:
            yield _values(before, now, old, measurement)


def _key(measurement: MeasurementEntry, prediction: PredictionEntry) -> tuple[str, str, str, str]:
    label = next((s.label for s in prediction.segments if s.number == measurement.segment), "")
    how = "" if measurement.derivation is None else measurement.derivation.meaning
    return measurement.name.meaning, how, measurement.unit.value, label


def _sets(before: PredictionEntry, now: PredictionEntry) -> Iterator[ComparisonEntry]:
    """Compare sets of classes, and each finding's set of present and absent, where both answers promise one."""
    earlier = _promised_sets(before)
    for about, new in _promised_sets(now).items():
        old = earlier.get(about, set())
        if not old or not new:
            continue
        changed = not old & new
        yield ComparisonEntry(
            task=now.task,
            about=about or now.title or now.task,
            verdict="changed" if changed else "no sure change",
            text=f"The promised set was {', '.join(sorted(old))} and is {', '.join(sorted(new))}: "
            + ("they have nothing in common." if changed else "no sure change, as they share a member."),
        )


def _promised_sets(prediction: PredictionEntry) -> dict[str, set[str]]:
    """Return the members of each promised set by the finding that it speaks of, "" for the whole answer."""
    every = [*prediction.further, *([prediction.uncertainty] if prediction.uncertainty else [])]
    return {
        "" if one.about is None else one.about.meaning: {code.meaning for code in one.members}
        for one in every
        if one.kind == "set" and one.level is not None
    }


def _values(
    before: PredictionEntry, now: PredictionEntry, old: MeasurementEntry, new: MeasurementEntry
) -> ComparisonEntry:
    ends = [_interval(before, old), _interval(now, new)]
    label = next((s.label for s in now.segments if s.number == new.segment), "")
    about = f"{label}: {new.name.meaning}" if label else new.name.meaning
    verdict: Literal["higher", "lower", "no sure change"] = "no sure change"
    how = "no interval is promised for it" if None in ends else "the promised intervals overlap"
    if ends[0] is not None and ends[1] is not None:
        verdict = "higher" if ends[1][0] > ends[0][1] else "lower" if ends[1][1] < ends[0][0] else verdict
    said = f"{old.value:.4g} before, {new.value:.4g} now"
    text = f"{said}: {verdict}, as the promised intervals do not overlap." if verdict != "no sure change" else (
        f"{said}: no sure change, as {how}."
    )  # fmt: skip
    return ComparisonEntry(
        task=now.task, about=about, unit=new.unit.value, before=old.value, now=new.value, verdict=verdict, text=text
    )


def _interval(prediction: PredictionEntry, measurement: MeasurementEntry) -> tuple[float, float] | None:
    """Return the interval that is promised of a measured value; None where none is."""
    if measurement.name.meaning.startswith(_PROBABILITY):
        return None
    own: list[UncertaintyEntry] = list(prediction.further)
    if measurement.segment is None and prediction.uncertainty is not None:
        own.append(prediction.uncertainty)
    for one in own:
        if one.kind != "interval" or one.level is None or one.low is None or one.high is None:
            continue
        unit = "1" if one.unit is None else one.unit.value
        if one.segment == measurement.segment and unit == measurement.unit.value:
            return one.low, one.high
    return None
