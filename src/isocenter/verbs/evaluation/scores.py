"""A table of scores: one class a case, several findings a case, or a number; and what they are worth.

case,patient,truth,p_normal,p_pneumonia      one class a case; probabilities that add up to 1
case,patient,truth,p                         yes (1) or no (0); the probability of yes
case,patient,truth,score                     the same; any number, higher for yes: ranks alone, no calibration
case,patient,truth_mass,p_mass,truth_...     several findings; truth 1, 0 or empty where not known
case,patient,truth,prediction                a number
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import DataError
from isocenter.evaluate.calibration import (
    adaptive_calibration_error,
    expected_calibration_error,
    recalibration,
    reliability,
)
from isocenter.evaluate.classification import balanced_accuracy, binary_counts
from isocenter.evaluate.probabilities import brier, brier_classes, net_benefit
from isocenter.evaluate.ranking import auroc
from isocenter.evaluate.separation import average_precision, sensitivity_at_specificity
from isocenter.evaluate.tables import check_probabilities, or_nan
from isocenter.verbs.evaluation.document import ReliabilityEntry, RocEntry
from isocenter.verbs.evaluation.system import Indices, Measure, System, mean_measure
from isocenter.verbs.evaluation.tables import Table, patients_for, several

__all__ = ["Cases", "binary_system", "classes_system", "findings_system", "numbers_system", "score_system"]

SPECIFICITY = 0.9
"""At which the sensitivity is told."""
THRESHOLD = 0.5
"""From which probability on an answer is a yes."""
_BINS = 10
_BIASED = (
    "resampling the same cases raises a calibration error by itself, so that its interval need not hold it; the "
    "slope and the difference in the large have intervals"
)
_POINTS = 200


@dataclass(frozen=True)
class Cases:
    """Which cases a table is of.

    Args:
        names: Of the cases.
        patients: Of each.
        known: Whether the input says who is whose.
        notes: What was noticed.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    known: bool
    notes: tuple[str, ...] = ()


def cases_of(table: Table, patients: Table | None) -> Cases:
    """Return a table's cases and their patients: from its own column, else from the other table.

    Raises:
        DataError: A case stands twice, or a patient is missing.
    """
    names = table.cases()
    if "patient" in table.columns and patients is None:
        who = table.names("patient")
        return Cases(tuple(names), tuple(who), True, several(who))
    found, known, notes = patients_for(names, patients)
    return Cases(tuple(names), tuple(found), known, notes)


def score_system(table: Table, patients: Table | None) -> System:
    """Read a table of scores and return the system.

    Raises:
        DataError: A column is missing, a value is not what its column holds, or one class alone is there.
    """
    cases = cases_of(table, patients)
    findings = [c.removeprefix("truth_") for c in table.columns if c.startswith("truth_")]
    classes = [c.removeprefix("p_") for c in table.columns if c.startswith("p_")]
    if findings:
        return _findings_of(table, cases, findings)
    truth = table.names("truth")
    if classes:
        return _classes_of(table, cases, truth, classes)
    if "prediction" in table.columns:
        return numbers_system(cases, np.array(table.numbers("truth")), np.array(table.numbers("prediction")))
    column = next((c for c in ("p", "probability", "score") if c in table.columns), None)
    if column is None:
        raise DataError(
            "needs a column of answers: p (a probability), score (any number), p_CLASS for each class, truth_FINDING "
            f"and p_FINDING for each finding, or prediction (a number); it has {', '.join(table.columns)}",
            source=table.file,
        )
    present = _yes(table, "truth")
    if column == "score":
        scores = np.array(table.numbers("score", what="finite score"))
        note = "a score is taken for a rank: no calibration is told; call the column p if it is a probability"
        return binary_system(replace(cases, notes=(*cases.notes, note)), present, scores, probability=False)
    chance = np.array(table.numbers(column, low=0, high=1, what="probability"))
    return binary_system(cases, present, chance)


def _yes(table: Table, column: str) -> Bool[np.ndarray, " n"]:
    found = table.column(column)
    for row, text in enumerate(found):
        if text not in ("0", "1"):
            raise DataError(f"line {table.line(row)}: {column} must be 0 or 1", source=table.file)
    return np.array([text == "1" for text in found])


def _classes_of(table: Table, cases: Cases, truth: Sequence[str], classes: Sequence[str]) -> System:
    for row, name in enumerate(truth):
        if name not in classes:
            raise DataError(
                f"line {table.line(row)}: the truth is none of the classes {', '.join(classes)}", source=table.file
            )
    columns = [table.numbers(f"p_{name}", low=0, high=1, what="probability") for name in classes]
    p = np.array(columns).T
    numbers = np.array([classes.index(name) for name in truth], dtype=np.int64)
    return classes_system(cases, numbers, p, classes)


def _findings_of(table: Table, cases: Cases, findings: Sequence[str]) -> System:
    truth, answers = [], []
    for name in findings:
        column = table.column(f"truth_{name}")
        for row, text in enumerate(column):
            if text not in ("", "0", "1"):
                raise DataError(
                    f"line {table.line(row)}: truth_{name} must be 1, 0, or empty where it is not known",
                    source=table.file,
                )
        truth.append([-1 if text == "" else int(text) for text in column])
        answers.append(table.numbers(f"p_{name}", low=0, high=1, what="probability"))
    return findings_system(cases, np.array(truth, dtype=np.int64).T, np.array(answers).T, findings)


def _two_kinds(present: Bool[np.ndarray, " n"], what: str = "") -> None:
    count = int(present.sum())
    if count in (0, len(present)):
        of = f" of {what}" if what else ""
        raise DataError(
            f"one class only{of}: {count} of {len(present)} cases are positive, and both kinds are needed to tell "
            "them apart"
        )


def _binary_measures(
    structure: str, present: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], *, probability: bool
) -> list[Measure]:
    """Return the figures of a yes or no."""
    precision, at = or_nan(average_precision), or_nan(_sensitivity)

    def auc(i: Indices) -> float:
        return auroc(present[i], scores[i])

    measures = [
        Measure("AUROC", structure, auc, test="auroc", scores=scores, truth=present),
        Measure("AUPRC", structure, lambda i: precision(present[i], scores[i])),
        Measure(f"sensitivity at {SPECIFICITY:.0%} specificity", structure, lambda i: at(present[i], scores[i])),
    ]
    if not probability:
        return measures
    said = scores >= THRESHOLD
    right = (said == present).astype(np.float64)
    squares = (scores - present) ** 2
    slope, large = or_nan(_slope), or_nan(_in_the_large)

    def count(i: Indices, what: str) -> float:
        return float(getattr(binary_counts(present[i], said[i]), what))

    for name in ("balanced_accuracy", "sensitivity", "specificity"):
        shown = f"{name.replace('_', ' ')} at {THRESHOLD:g}"
        measures.append(Measure(shown, structure, partial(count, what=name)))
    return [
        *measures,
        mean_measure(f"accuracy at {THRESHOLD:g}", structure, right, test="accuracy"),
        mean_measure("Brier", structure, squares, higher_is_better=False),
        Measure("ECE", structure, lambda i: _ece(present[i], scores[i]), higher_is_better=False, biased=_BIASED),
        Measure("adaptive ECE", structure, lambda i: adaptive_calibration_error(present[i], scores[i], bins=_BINS),
                higher_is_better=False, biased=_BIASED),
        Measure("calibration slope", structure, lambda i: slope(present[i], scores[i]), higher_is_better=None),
        Measure("calibration in the large", structure, lambda i: large(present[i], scores[i]), higher_is_better=None),
        Measure(
            f"net benefit at {THRESHOLD:g}", structure,
            lambda i: net_benefit(present[i], scores[i], threshold=THRESHOLD),
        ),
    ]  # fmt: skip


def _sensitivity(present: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    return sensitivity_at_specificity(present, scores, specificity=SPECIFICITY).sensitivity


def _slope(present: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]) -> float:
    return recalibration(present, p).slope


def _in_the_large(present: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]) -> float:
    return recalibration(present, p).in_the_large


def _ece(present: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]) -> float:
    return expected_calibration_error(present, p, bins=_BINS)


def binary_system(
    cases: Cases, present: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], *, probability: bool = True
) -> System:
    """Return the system of a yes or no for each case.

    Raises:
        DataError: All are positive or none is.
    """
    _two_kinds(present)
    # The rank of a score among those of the other kind: how far on the wrong side a case lies.
    bad = np.array([float(np.mean(scores[present != p] >= s if p else scores[present != p] <= s)) for p, s in zip(
        present, scores, strict=True)])  # fmt: skip
    rows = [
        {"number": n, "case": c, "patient": w, "truth": int(t), "p" if probability else "score": float(s)}
        for n, (c, w, t, s) in enumerate(zip(cases.names, cases.patients, present, scores, strict=True), start=1)
    ]
    return System(
        "classes", cases.names, cases.patients, cases.known,
        tuple(_binary_measures("", present, scores, probability=probability)), tuple(rows), bad,
        roc=(roc_of("", present, scores),),
        reliability=(reliability_of("", present, scores),) if probability else (),
        notes=cases.notes, inputs={}, columns={}, truth=tuple(str(int(t)) for t in present),
    )  # fmt: skip


def classes_system(
    cases: Cases, truth: Int[np.ndarray, " n"], p: Float[np.ndarray, "n classes"], classes: Sequence[str]
) -> System:
    """Return the system of one class for each case.

    Raises:
        DataError: One class alone is there, or rows do not add up to 1.
    """
    check_probabilities(p)
    if len(classes) < 2 or len(set(truth.tolist())) < 2:
        raise DataError(f"one class only: all {len(truth)} cases are of it, and two are needed to tell them apart")
    right = p.argmax(axis=1) == truth
    rows = [
        {"number": n, "case": case, "patient": patient, "truth": classes[t], "answer": classes[int(row.argmax())]}
        | {f"p_{name}": float(v) for name, v in zip(classes, row, strict=True)}
        for n, (case, patient, t, row) in enumerate(
            zip(cases.names, cases.patients, truth.tolist(), p, strict=True), start=1
        )
    ]
    if len(classes) == 2:
        measures = _binary_measures(classes[1], truth == 1, p[:, 1], probability=True)
        curves = [(classes[1], truth == 1, p[:, 1])]
    else:
        measures = _class_measures(truth, p, right, classes)
        curves = [(name, truth == n, p[:, n]) for n, name in enumerate(classes) if 0 < (truth == n).sum() < len(truth)]
    drawn = curves if len(classes) == 2 else [("the answer", right, p.max(axis=1))]
    return System(
        "classes", cases.names, cases.patients, cases.known, tuple(measures), tuple(rows),
        1 - p[np.arange(len(truth)), truth],
        roc=tuple(roc_of(*curve) for curve in curves),
        reliability=tuple(reliability_of(*one) for one in drawn),
        notes=cases.notes, truth=tuple(classes[t] for t in truth.tolist()),
    )  # fmt: skip


def _class_measures(
    truth: Int[np.ndarray, " n"], p: Float[np.ndarray, "n k"], right: Bool[np.ndarray, " n"], classes: Sequence[str]
) -> list[Measure]:
    there = [n for n in range(len(classes)) if (truth == n).any()]

    def macro(i: Indices) -> float:
        return float(np.mean([auroc(truth[i] == n, p[i, n]) for n in there]))

    def one(i: Indices, n: int) -> float:
        return auroc(truth[i] == n, p[i, n])

    areas = [
        Measure("AUROC", classes[n], partial(one, n=n), test="auroc",
                scores=p[:, n], truth=truth == n)
        for n in there
    ]  # fmt: skip
    balanced = or_nan(balanced_accuracy)
    said = p.argmax(axis=1)
    return [
        Measure("AUROC, each class against the rest", "mean of classes", macro),
        *areas,
        mean_measure("accuracy", "", right.astype(np.float64), test="accuracy"),
        Measure("balanced accuracy", "", lambda i: balanced(truth[i], said[i])),
        Measure("Brier", "", lambda i: brier_classes(truth[i], p[i]), higher_is_better=False),
        Measure(
            "ECE", "the answer", lambda i: _ece(right[i], p[i].max(axis=1)), higher_is_better=False, biased=_BIASED
        ),
    ]


def findings_system(
    cases: Cases, truth: Int[np.ndarray, "n k"], p: Float[np.ndarray, "n k"], findings: Sequence[str]
) -> System:
    """Return the system of several findings for each case; -1 where one is not known.

    Raises:
        DataError: No finding has both kinds of case.
    """
    notes, kept = [], []
    for k, name in enumerate(findings):
        known = truth[:, k] >= 0
        if len(set(truth[known, k].tolist())) < 2:
            notes.append(f"{name}: one class only among the cases where it is known; it was left out")
            continue
        kept.append(k)
    if not kept:
        raise DataError("one class only: of no finding are there cases with it and without it")

    def auc(i: Indices, k: int) -> float:
        some = i[truth[i, k] >= 0]
        return auroc(truth[some, k] == 1, p[some, k])

    measures = [
        Measure("AUROC", "mean of findings", lambda i: float(np.mean([auc(i, k) for k in kept]))),
        *(Measure("AUROC", findings[k], partial(auc, k=k)) for k in kept),
        *(Measure("Brier", findings[k], partial(_known_brier, truth[:, k], p[:, k]), higher_is_better=False)
          for k in kept),
        *(Measure("ECE", findings[k], partial(_known_ece, truth[:, k], p[:, k]), higher_is_better=False,
                  biased=_BIASED)
          for k in kept),
    ]  # fmt: skip
    known = truth >= 0
    bad = np.where(known, np.abs(truth - p), 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    rows = [
        {"number": n, "case": case, "patient": patient}
        | {f"truth_{f}": "" if t < 0 else int(t) for f, t in zip(findings, truth[n - 1], strict=True)}
        | {f"p_{f}": float(v) for f, v in zip(findings, p[n - 1], strict=True)}
        for n, (case, patient) in enumerate(zip(cases.names, cases.patients, strict=True), start=1)
    ]
    parts = [(findings[k], truth[known[:, k], k] == 1, p[known[:, k], k]) for k in kept]
    return System(
        "findings", cases.names, cases.patients, cases.known, tuple(measures), tuple(rows), bad,
        roc=tuple(roc_of(*part) for part in parts), reliability=tuple(reliability_of(*part) for part in parts),
        notes=(*cases.notes, *notes), truth=tuple(repr(row) for row in truth.tolist()),
    )  # fmt: skip


def _known_brier(truth: Int[np.ndarray, " n"], p: Float[np.ndarray, " n"], i: Indices) -> float:
    known = i[truth[i] >= 0]
    return brier(truth[known] == 1, p[known]) if len(known) else float("nan")


def _known_ece(truth: Int[np.ndarray, " n"], p: Float[np.ndarray, " n"], i: Indices) -> float:
    known = i[truth[i] >= 0]
    return _ece(truth[known] == 1, p[known]) if len(known) else float("nan")


def numbers_system(cases: Cases, truth: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"]) -> System:
    """Return the system of a number for each case."""
    error = said - truth

    def together(i: Indices) -> float:
        a, b = truth[i], said[i]
        spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
        return float(2 * np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread > 0 else float("nan")

    measures = (
        mean_measure("mean absolute error", "", np.abs(error), higher_is_better=False),
        mean_measure("mean error", "", error, higher_is_better=None),
        Measure(
            "root mean squared error", "", lambda i: float(np.sqrt(np.mean(error[i] ** 2))), higher_is_better=False
        ),
        Measure("concordance correlation", "", together),
    )
    rows = [
        {"number": n, "case": c, "patient": w, "truth": float(t), "prediction": float(s)}
        for n, (c, w, t, s) in enumerate(zip(cases.names, cases.patients, truth, said, strict=True), start=1)
    ]
    return System(
        "numbers", cases.names, cases.patients, cases.known, measures, tuple(rows), np.abs(error), notes=cases.notes,
        truth=tuple(f"{t:.12g}" for t in truth.tolist()),
    )  # fmt: skip


def roc_of(structure: str, present: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> RocEntry:
    """Return the corners of a ROC curve, thinned to at most 200."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true, false = np.cumsum(present[order])[last], np.cumsum(~present[order])[last]
    x, y = np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int))
    return RocEntry(
        structure=structure,
        false_positive_rate=tuple(round(float(v), 6) for v in x[keep]),
        sensitivity=tuple(round(float(v), 6) for v in y[keep]),
    )


def reliability_of(structure: str, happened: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]) -> ReliabilityEntry:
    """Return a reliability diagram of ten bins."""
    found = reliability(p, happened, bins=_BINS)
    return ReliabilityEntry(
        structure=structure,
        counts=tuple(int(n) for n in found.counts),
        predicted=tuple(_or_none(found.predicted)),
        observed=tuple(_or_none(found.observed)),
        expected_calibration_error=found.expected_calibration_error,
    )


def _or_none(values: Float[np.ndarray, " n"]) -> Iterator[float | None]:
    yield from (round(float(v), 6) if np.isfinite(v) else None for v in values)
