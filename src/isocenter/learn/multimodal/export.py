"""From a finished training and its blind twin to weights with their card, held-out answers, and what is promised."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from isocenter.core.wording import plain_question
from isocenter.learn.multimodal.cases import Cases
from isocenter.learn.multimodal.config import ReportData, SyntheticQuestions
from isocenter.learn.multimodal.measure import (
    Answered,
    Free,
    GapFigure,
    answer_closed,
    free_losses,
    gap_figures,
    shuffled_images,
)
from isocenter.learn.multimodal.promise import HeldTo, answer_promise, held_to, probabilities
from isocenter.learn.multimodal.trainer import Trainer
from isocenter.models.layout import layout, least_likeness
from isocenter.models.multimodal import learnt_arrays, save_multimodal, whole_arrays

__all__ = [
    "Measured",
    "Outcome",
    "card_metrics",
    "export",
    "held_out_rows",
    "known_layouts",
    "measure_pair",
    "outcome",
    "unlike_share",
    "write_rows",
]

VERSION = "1"
_LAYOUTS = 64
INTENDED = "Answering the questions that it learnt about images like those it learnt from; research only."
NOT_FOR = (
    "Diagnosis or any decision about a patient; other questions; images that lie otherwise than those it learnt from "
    "(mirrored, turned, another view)."
)
LIMITATIONS = (
    "What it writes freely nothing vouches for; an answer enters a ledger only as a calibrated choice of a closed set.",
    "Where the gap to the blind twin is near zero it answers from the words of the question, not from the image.",
    "It takes images as they are hung. A mirrored image is read with sides exchanged, without a warning.",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """Answers on one split.

    Args:
        sighted: With the image.
        blind: Of the blind twin; None where none was trained.
        shuffled: With another patient's image.
        free: Losses of free answers: with the image, of the blind twin, with another patient's image.
        figures: Of closed kinds.
    """

    sighted: tuple[Answered, ...]
    blind: tuple[Answered, ...] | None
    shuffled: tuple[Answered, ...]
    free: tuple[Free, Free | None, Free]
    figures: tuple[GapFigure, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training came to.

    Args:
        validation: On whom the promises are fitted.
        test: On whom everything is measured.
        promises: By closed kind, JSON-ready.
        held_to: By closed kind, what they came to on test questions.
    """

    validation: Measured
    test: Measured
    promises: tuple[dict[str, object], ...]
    held_to: tuple[HeldTo, ...]


def measure_pair(sighted: Trainer, blind: Trainer | None, split: str) -> Measured:
    """Answer the questions of a split with the image, without it, and with another patient's.

    Raises:
        DataError: A kind is asked of one patient only.
    """
    cases = sighted.cases
    places = cases.of(split)
    swap = shuffled_images(cases, places, sighted.config.seed)
    with sighted.averaged() as model:
        seen = answer_closed(model, cases, places, cases.prepared)
        other = answer_closed(model, cases, places, cases.prepared, of=swap)
        free = free_losses(model, cases, places, cases.prepared)
        free_other = free_losses(model, cases, places, cases.prepared, of=swap)
    twin, free_twin = None, None
    if blind is not None:
        with blind.averaged() as model:
            twin = answer_closed(model, cases, places, blind.image_of)
            free_twin = free_losses(model, cases, places, blind.image_of)
    figures = gap_figures(seen, twin, other, _priors(cases))
    return Measured(seen, twin, other, (free, free_twin, free_other), figures)


def _priors(cases: Cases) -> dict[str, float]:
    """Return by kind the share of the most frequent answer in training."""
    found = {}
    for kind in cases.closed:
        counts = Counter(cases.cases[i].answer for i in cases.of("train") if cases.cases[i].kind == kind)
        found[kind] = max(counts.values()) / sum(counts.values())
    return found


def outcome(sighted: Trainer, blind: Trainer | None) -> Outcome:
    """Measure on validation and test patients, and fit what is promised on the former.

    Raises:
        DataError: A kind is asked of one patient only.
    """
    cases = sighted.cases
    validation, test = measure_pair(sighted, blind, "validation"), measure_pair(sighted, blind, "test")
    gaps = {figure.kind: figure for figure in validation.figures}
    promises = []
    for one in validation.sighted:
        found = answer_promise(one, sighted.config.level, gaps[one.kind] if blind is not None else None)
        mine = [cases.cases[i] for i in cases.of("train") if cases.cases[i].kind == one.kind]
        found["wordings"] = sorted({plain_question(case.question) for case in mine})
        found["patients_known"] = cases.known_patients
        found["images"] = max(len(case.images) for case in mine)
        promises.append(found)
    tested = {one.kind: one for one in test.sighted}
    known = [p for p in promises if p["kind"] in tested]
    return Outcome(validation, test, tuple(known), tuple(held_to(p, tested[str(p["kind"])]) for p in known))


def held_out_rows(cases: Cases, found: Outcome) -> list[dict[str, object]]:
    """Return what each test question was answered: by number of its row, without the patient."""
    rows: list[dict[str, object]] = []
    temperatures = {str(p["kind"]): float(str(p["temperature"])) for p in found.promises}
    for number, one in enumerate(found.test.sighted):
        p = probabilities(one.scores, temperatures.get(one.kind, 1.0))
        others = {"shuffled": found.test.shuffled[number]}
        if found.test.blind is not None:
            others["blind"] = found.test.blind[number]
        for at, place in enumerate(one.places):
            best = int(p[at].argmax())
            rows.append(
                {
                    "number": cases.cases[place].number,
                    "kind": one.kind,
                    "truth": one.answers[int(one.truth[at])],
                    "answer": one.answers[best],
                    "probability": round(float(p[at, best]), 6),
                    **{name: o.answers[int(o.scores[at].argmax())] for name, o in others.items()},
                }
            )
    return rows


def _layout_of(cases: Cases, name: str) -> Float[np.ndarray, " d"]:
    prepared = cases.prepared(name)[0]
    return layout(prepared[None] if prepared.ndim == 2 else prepared)


def _names(cases: Cases, split: str) -> list[str]:
    return list(dict.fromkeys(name for i in cases.of(split) for name in cases.cases[i].images))


def known_layouts(cases: Cases) -> tuple[list[list[float]], float]:
    """Return light and dark of training images, and how like one of them a further image must be."""
    names = _names(cases, "train")
    some = [names[int(i)] for i in np.linspace(0, len(names) - 1, min(_LAYOUTS, len(names)))]
    found = [[round(float(v), 4) for v in _layout_of(cases, name)] for name in some]
    return found, least_likeness(found) if len(found) > 1 else -1.0


def unlike_share(cases: Cases, known: tuple[list[list[float]], float]) -> float:
    """Return the share of test images that the task would refuse as unlike those it learnt from.

    Args:
        cases: The set.
        known: From `known_layouts`.
    """
    among = np.asarray(known[0], dtype=np.float32)
    alike = [float((among @ _layout_of(cases, name)).max()) for name in _names(cases, "test")]
    return float(np.mean(np.array(alike) < known[1]))


def export(
    trainer: Trainer, found: Outcome, out: Path, *, command: str, machine: str, blind_seconds: float | None
) -> Path:
    """Write the averaged weights with their card.

    Args:
        trainer: The sighted training, finished.
        found: What it came to.
        out: Where weights, words and card go.
        command: What trained it, for the card.
        machine: What it was trained on, for the card.
        blind_seconds: Processor time of the blind twin; None where none was trained.

    Returns:
        The file of the weights.
    """
    config, cases = trainer.config, trainer.cases
    adapter = config.save == "adapter"
    with trainer.averaged() as model:
        arrays = learnt_arrays(trainer.net) if adapter else whole_arrays(trainer.net)
        training: dict[str, Any] = {
            "command": command,
            "config": _without_paths(config.model_dump(mode="json")),
            "began_from": trainer.beginning.began_from,
            "data": cases.identity,
            "steps": trainer.step,
            "questions": len(trainer.train_places),
            "cpu_hours": round(trainer.seconds / 3600, 3),
            "cpu_hours_blind_twin": None if blind_seconds is None else round(blind_seconds / 3600, 3),
            "learnt_numbers": int(sum(p.numel() for p in trainer.changing.values())),
            "machine": machine,
        }
        limits = LIMITATIONS if cases.known_patients else (*LIMITATIONS, _NO_PATIENTS)
        return save_multimodal(
            out,
            arrays,
            model,
            {
                "name": config.name,
                "version": VERSION,
                "title": "Questions about images",
                "licence": config.licence,
                "intended_use": INTENDED,
                "not_for": NOT_FOR,
                "training_data": _training_data(trainer),
                "training": training,
                "metrics": card_metrics(found, config.level),
                "limitations": limits,
            },
            base=trainer.beginning.base if adapter else None,
            learning=trainer.learning if adapter else None,
        )


_NO_PATIENTS = (
    "The set does not say which images are of one patient: some may be in training and test, and the figures too good."
)


def _without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the names of folders and files alone: where they lie is nobody's business."""
    named = ("start_from", "whole", "folder")
    return {
        k: _without_paths(v) if isinstance(v, dict) else Path(v).name if k in named and v is not None else v
        for k, v in values.items()
    }


def _training_data(trainer: Trainer) -> list[dict[str, object]]:
    data, cases = trainer.config.data, trainer.cases
    if isinstance(data, SyntheticQuestions):
        return []
    mine = [cases.cases[at] for at in trainer.train_places]
    return [
        {
            "name": data.table,
            "licence": data.licence,
            "source": data.source,
            "cases": len({name for case in mine for name in case.images}),
            "patients": len({case.patient for case in mine}) if cases.known_patients else None,
            "note": "reports" if isinstance(data, ReportData) else f"{len(mine)} questions",
        }
    ]


def card_metrics(found: Outcome, level: float) -> list[dict[str, object]]:
    """Return the figures of a card: accuracy, the gap to the blind twin, and what sets came to."""
    rows: list[dict[str, object]] = []
    for f in found.test.figures:
        how = f"{f.questions} questions of test patients; most frequent answer {f.prior:.3f}"
        rows.append(_row("accuracy", f.kind, f.sighted, (f.low, f.high), f.patients, how))
        other = "the image replaced by another patient's"
        rows.append(_row("accuracy, shuffled", f.kind, f.shuffled, (None, None), f.patients, other))
        if f.blind is not None and f.gap is not None:
            rows.append(_row("accuracy, blind", f.kind, f.blind, (None, None), f.patients, "the blind twin"))
            gap = (f.gap_low, f.gap_high)
            rows.append(_row("gap to blind", f.kind, f.gap, gap, f.patients, "paired bootstrap by patient"))
    for promise, held in zip(found.promises, found.held_to, strict=True):
        patients = len(set(next(o for o in found.test.sighted if o.kind == promise["kind"]).patients))
        if held.coverage is not None:
            how = f"sets of {level:.0%}; {held.undecided:.0%} undecided"
            rows.append(_row("coverage", str(promise["kind"]), held.coverage, (None, None), patients, how))
        if held.shown_coverage is not None:
            how, ends = f"of {held.shown} questions that are answered", (held.shown_low, held.shown_high)
            rows.append(_row("coverage, answered", str(promise["kind"]), held.shown_coverage, ends, patients, how))
        rows.append(_row("ECE", str(promise["kind"]), held.ece, (None, None), patients, "top label, 15 bins"))
    sighted, blind, shuffled = found.test.free
    named: Sequence[tuple[str, Free | None]] = (("", sighted), (", blind", blind), (", shuffled", shuffled))
    for words, free in named:
        if free is not None and len(free.values):
            count, value = len(set(free.patients)), float(free.values.mean())
            rows.append(_row(f"loss{words}", "free answers", value, (None, None), count, "nats a token"))
    return rows


def _row(
    name: str, kind: str, value: float, ends: tuple[float | None, float | None], count: int, how: str
) -> dict[str, object]:
    low, high = ends
    known = low is not None and high is not None
    return {
        "name": name, "structure": kind, "value": value, "low": low if known else None,
        "high": high if known else None, "level": 0.95 if known else None, "count": count, "how": how,
    }  # fmt: skip


def write_rows(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["number"])
        writer.writeheader()
        writer.writerows(rows)
