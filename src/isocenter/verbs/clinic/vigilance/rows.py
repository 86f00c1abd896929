"""From a result to the rows of the record: one for each task and image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from isocenter.clinic.ports import Work
from isocenter.clinic.vigilance import Observation
from isocenter.verbs.clinic.vigilance.inputs import Seen, read_seen
from isocenter.verbs.result import PredictionEntry, ResultDocument, read_result

__all__ = ["category", "failed_rows", "rows_of"]

_MOST_OUTPUTS: Final = 24
_MISFIT: Final = (
    "needs modality ",
    "needs body part ",
    "needs a volume",
    "needs a single plane",
    "needs voxel spacing",
)


def category(prediction: PredictionEntry) -> str:
    """Return why a task abstained, as a word of a closed list: "unlike", "misfit", "prompt", "missing", "other"."""
    reason = prediction.abstained or ""
    if not reason:
        return ""
    if prediction.likeness is not None and prediction.likeness.p_value <= prediction.likeness.refused_share:
        return "unlike"
    if reason.startswith(_MISFIT):
        return "misfit"
    if reason.startswith("needs a prompt"):
        return "prompt"
    return "missing" if "not installed" in reason else "other"


def rows_of(work: Work, arm: Literal["live", "candidate"], folder: Path | None = None) -> list[Observation]:
    """Return the rows of a study that was answered.

    Args:
        work: Which.
        arm: Whose answer it is.
        folder: Of the result; None takes the work's.

    Raises:
        DataError: The result can't be read.
    """
    folder = folder or work.out
    result = read_result(folder / "result.json")
    _, seen = read_seen(folder)
    weights = _weights(result)
    return [
        Observation(
            work.study, work.version, work.route.name, arm, one.task, one.image,
            "answered" if one.abstained is None else "abstained", category(one), one.likeness is not None,
            one.model.weights_sha256 if one.model else weights.get(one.task, ""),
            f"{one.model.name} {one.model.version}" if one.model else "", one.seconds,
            {**_inputs(seen.get(one.image)), **outputs(one)}, {**_words(seen.get(one.image)), **verdicts(one)},
        )
        for one in result.predictions
    ]  # fmt: skip


def failed_rows(work: Work, arm: Literal["live", "candidate"], tasks: Sequence[str], reason: str) -> list[Observation]:
    """Return the rows of a study that could not be answered: one for each task that was asked.

    Args:
        work: Which study.
        arm: Whose answer it was to be.
        tasks: That were asked, as the rule names them; of a folder the last part is its name.
        reason: "model" where the tasks failed, "study" where the study could not be read by any.
    """
    return [
        Observation(work.study, work.version, work.route.name, arm, Path(task).name, -1, "failed", reason)
        for task in tasks
    ]


def outputs(one: PredictionEntry) -> dict[str, float]:
    """Return the numbers of an answer: the gate's, volumes, probabilities, estimates, sizes of sets and intervals."""
    found: dict[str, float] = {}
    if one.likeness is not None:
        found |= {"gate score": one.likeness.score, "gate p": one.likeness.p_value}
    if one.abstained is not None:
        return _finite(found)
    labels = {s.number: s.label for s in one.segments}
    for m in one.measurements:
        name, of = m.name.meaning, "" if m.segment is None else f" of {labels.get(m.segment, m.segment)}"
        wanted = name == "Volume" or name.startswith("Probability of ") or (m.segment is None and m.derivation is None)
        if wanted and len(found) < _MOST_OUTPUTS:
            found.setdefault(f"{name}{of}"[:100].lower(), m.value)
    promised = [*((one.uncertainty,) if one.uncertainty else ()), *one.further]
    sets = [len(p.members) for p in promised if p.kind == "set"]
    if sets:
        found["set size"] = float(sum(sets)) / len(sets)
    widths = [p.high - p.low for p in promised if p.kind == "interval" and p.low is not None and p.high is not None]
    if widths:
        found["interval width"] = sum(widths) / len(widths)
    if one.uncertainty is not None and one.uncertainty.per_segment:
        found["expected quality"] = min(one.uncertainty.per_segment.values())
    return _finite(found)


def verdicts(one: PredictionEntry) -> dict[str, str]:
    """Return what an answer says, as a word: the members of its sets where it promises some."""
    if one.abstained is not None:
        return {}
    promised = [*((one.uncertainty,) if one.uncertainty else ()), *one.further]
    found = {}
    for p in promised:
        if p.kind == "set":
            about = "answer" if p.about is None else p.about.meaning.lower()
            found[f"set of {about}"[:100]] = " or ".join(sorted(c.meaning for c in p.members)) or "none"
    return dict(list(found.items())[:_MOST_OUTPUTS])


def _inputs(seen: Seen | None) -> dict[str, float]:
    return dict(seen.numbers) if seen is not None else {}


def _words(seen: Seen | None) -> dict[str, str]:
    return dict(seen.words) if seen is not None else {}


def _weights(result: ResultDocument) -> dict[str, str]:
    """Return each task's weights, where it answered for some image."""
    return {p.task: p.model.weights_sha256 for p in result.predictions if p.model is not None}


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    return {k: float(v) for k, v in numbers.items() if math.isfinite(v)}
