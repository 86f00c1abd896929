"""Intervals, comparisons, groups and curves of a system, as the document tells them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import Interval, bootstrap_mean, bootstrap_statistic
from isocenter.evaluate.robustness import domain_shift, drop_curve
from isocenter.evaluate.statistics import (
    Comparison,
    compare_accuracy,
    compare_auroc,
    compare_means,
    compare_statistic,
    holm,
    patients_for_power,
)
from isocenter.evaluate.subgroups import Subgroup, SubgroupSettings, as_groups, by_subgroup
from isocenter.verbs.evaluation.document import (
    ComparisonEntry,
    DropEntry,
    FigureEntry,
    PointEntry,
    ShiftEntry,
    SubgroupBlock,
    SubgroupEntry,
    WorstEntry,
)
from isocenter.verbs.evaluation.system import Indices, Measure, System

__all__ = ["Intervals", "compare", "drops_of", "figures_of", "groups_of", "shift_of", "worst_by", "worst_of"]

_WORST = 10


@dataclass(frozen=True)
class Intervals:
    """How intervals are made.

    Args:
        level: Coverage asked of them.
        resamples: How many resamples.
        seed: Decides them.
        least_patients: Groups with fewer are listed, not tested.
    """

    level: float = 0.95
    resamples: int = 1000
    seed: int = 0
    least_patients: int = 10


def figures_of(system: System, how: Intervals, tell: Callable[[str, float], None]) -> tuple[FigureEntry, ...]:
    """Return every figure with its interval, or the reason for none."""
    found = []
    for number, measure in enumerate(system.measures):
        tell("intervals", number / len(system.measures))
        found.append(_figure(system, measure, how))
    return tuple(found)


def _figure(system: System, measure: Measure, how: Intervals) -> FigureEntry:
    everyone = np.arange(len(system.cases), dtype=np.int64)
    value = float(measure.statistic(everyone))
    finite = everyone if measure.values is None else np.flatnonzero(np.isfinite(measure.values)).astype(np.int64)
    patients = [system.patients[int(i)] for i in finite]
    entry = FigureEntry(
        name=measure.name, structure=measure.structure, unit=measure.unit,
        value=value if math.isfinite(value) else None,
        patients=len(set(patients)), cases=len(finite), left_out=len(everyone) - len(finite),
        higher_is_better=measure.higher_is_better,
        reason="" if math.isfinite(value) else "not defined on these cases",
    )  # fmt: skip
    if entry.value is None:
        return entry
    if measure.biased:
        return entry.model_copy(update={"reason": f"no interval: {measure.biased}"})
    try:
        interval = _interval(measure, finite, patients, how)
        if not interval.low <= entry.value <= interval.high:
            raise DataError("resampling shifts this figure so far that its interval would not hold it")
    except DataError as error:
        return entry.model_copy(update={"reason": f"no interval: {error}"})
    return entry.model_copy(
        update={"low": interval.low, "high": interval.high, "level": interval.level, "method": interval.method}
    )


def _interval(measure: Measure, finite: Indices, patients: Sequence[str], how: Intervals) -> Interval:
    if measure.values is not None:
        return bootstrap_mean(
            measure.values[finite], patients, level=how.level, resamples=5 * how.resamples, seed=how.seed
        )
    return bootstrap_statistic(
        measure.statistic, patients, level=how.level, resamples=how.resamples, seed=how.seed, method="bca"
    )


def compare(
    first: System, second: System, how: Intervals, tell: Callable[[str, float], None]
) -> tuple[ComparisonEntry, ...]:
    """Compare every figure that both systems have, on the same cases; p values are corrected together.

    Raises:
        DataError: The two are not of the same cases, or disagree on what is true of them or whose they are.
    """
    if first.cases != second.cases:
        both = set(first.cases) & set(second.cases)
        raise DataError(
            f"a paired test needs the same cases of both: {len(set(first.cases) - both)} are in the first alone and "
            f"{len(set(second.cases) - both)} in the second alone"
        )
    for what, one, other in (
        ("what is true of", first.truth, second.truth),
        ("the patient of", *((s.patients if s.patients_known else ()) for s in (first, second))),
    ):
        differ = [n for n, (a, b) in enumerate(zip(one, other, strict=False), start=1) if a != b]
        if differ:
            raise DataError(
                f"the two disagree on {what} {len(differ)} cases, case number {differ[0]} of the first the first of "
                "them; a paired test needs one truth: correct the tables"
            )
    others = {measure.key: measure for measure in second.measures}
    shared = [m for m in first.measures if m.key in others and m.higher_is_better is not None]
    found: list[ComparisonEntry] = []
    for number, measure in enumerate(shared):
        tell("comparing", number / len(shared))
        found.append(_compared(first.patients, measure, others[measure.key], how))
    tested = [i for i, entry in enumerate(found) if entry.p is not None]
    for i, p in zip(tested, holm([found[i].p or 0.0 for i in tested]), strict=True):
        found[i] = found[i].model_copy(update={"p_corrected": float(p)})
    return tuple(found)


def _compared(patients: Sequence[str], one: Measure, other: Measure, how: Intervals) -> ComparisonEntry:
    everyone = np.arange(len(patients), dtype=np.int64)
    figures = [v if math.isfinite(v) else None for v in (float(m.statistic(everyone)) for m in (one, other))]
    entry = ComparisonEntry(name=one.name, structure=one.structure, first=figures[0], second=figures[1])
    note, hint = "", None
    try:
        if one.values is not None and other.values is not None:
            finite = np.isfinite(one.values) & np.isfinite(other.values)
            who = [p for p, use in zip(patients, finite, strict=True) if use]
            if not finite.all():
                note = f"on the {int(finite.sum())} cases where both are finite"
            found = _means(one, other, finite, who, how)
            hint = _further(other.values[finite] - one.values[finite], who)
        elif one.test == "auroc" and one.scores is not None and other.scores is not None and one.truth is not None:
            found = compare_auroc(
                one.truth, one.scores, other.scores, patients, level=how.level, resamples=how.resamples, seed=how.seed
            )
        else:
            found = compare_statistic(
                one.statistic, other.statistic, patients, level=how.level, resamples=how.resamples, seed=how.seed
            )
    except DataError as error:
        return entry.model_copy(update={"reason": f"not tested: {error}"})
    d = found.difference
    return entry.model_copy(
        update={
            "first": found.first, "second": found.second, "difference": d.value, "low": d.low, "high": d.high,
            "p": found.p, "test": found.test, "further_patients": hint, "reason": note,
        }
    )  # fmt: skip


def _means(one: Measure, other: Measure, finite: np.ndarray, who: Sequence[str], how: Intervals) -> Comparison:
    if one.values is None or other.values is None:
        raise DataError("these figures are not means of cases")
    a, b, many = one.values[finite], other.values[finite], 5 * how.resamples
    if one.test == "accuracy":
        return compare_accuracy(a > 0.5, b > 0.5, who, level=how.level, resamples=many, seed=how.seed)
    return compare_means(a, b, who, level=how.level, resamples=many, seed=how.seed)


def _further(differences: np.ndarray, patients: Sequence[str]) -> int | None:
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    means = np.bincount(index, differences, len(names)) / np.bincount(index, minlength=len(names))
    spread = float(means.std(ddof=1))
    if spread == 0 or means.mean() == 0:
        return None
    needed = patients_for_power(float(means.mean()) / spread)
    return None if needed is None else max(0, needed - len(names))


def groups_of(
    system: System, columns: Mapping[str, Sequence[str]], how: Intervals, notes: Sequence[str] = ()
) -> SubgroupBlock:
    """Tell the first figure group by group.

    Raises:
        DataError: A column is not what it must be.
    """
    measure = system.measures[0]
    groups, more = as_groups(columns)
    settings = SubgroupSettings(
        higher_is_better=measure.higher_is_better is not False,
        least_patients=how.least_patients,
        level=how.level,
        resamples=how.resamples,
        seed=how.seed,
    )
    found = by_subgroup(measure.statistic, system.patients, groups, settings)
    return SubgroupBlock(
        name=measure.name,
        structure=measure.structure,
        overall=found.overall,
        rows=tuple(_row(row) for row in found.rows),
        worst="" if found.worst is None else found.worst.name,
        tested=found.tested,
        notes=(*notes, *more, *found.notes),
        higher_is_better=measure.higher_is_better is not False,
    )


def _ends(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    """Return value, lower and upper end; None for an interval that is not there."""
    return (None, None, None) if interval is None else (interval.value, interval.low, interval.high)


def _row(row: Subgroup) -> SubgroupEntry:
    return SubgroupEntry(
        name=row.name, columns=row.columns, levels=row.levels, patients=row.patients, cases=row.cases, value=row.value,
        low=_ends(row.interval)[1], high=_ends(row.interval)[2],
        gap=_ends(row.gap)[0], gap_low=_ends(row.gap)[1], gap_high=_ends(row.gap)[2],
        p=row.p, p_corrected=row.p_corrected, p_least=row.p_least, reason=row.reason,
    )  # fmt: skip


def shift_of(system: System, column: str, sites: Sequence[str], between: tuple[str, str], how: Intervals) -> ShiftEntry:
    """Compare the first figure at two sites."""
    measure = system.measures[0]
    entry = ShiftEntry(
        column=column, name=measure.name, structure=measure.structure, first_site=between[0], second_site=between[1]
    )
    try:
        found = domain_shift(
            measure.statistic, system.patients, sites, between, level=how.level, resamples=how.resamples, seed=how.seed
        )
    except DataError as error:
        return entry.model_copy(update={"reason": str(error)})
    d = found.difference
    return entry.model_copy(
        update={"first": found.outside, "second": found.inside, "difference": d.value, "low": d.low, "high": d.high,
                "p": found.p}
    )  # fmt: skip


def drops_of(
    kind: str,
    title: str,
    graded: Mapping[int, System],
    answered: Mapping[int, np.ndarray],
    patients: Sequence[str],
    how: Intervals,
) -> DropEntry:
    """Draw the first figure over the grades of a corruption.

    Args:
        kind: Of the corruption.
        title: For people.
        graded: The system at each grade, of the cases that were answered at it.
        answered: Which of all cases those are.
        patients: Of all cases.
        how: How intervals are made.
    """
    measure = graded[0].measures[0]
    # A system knows only the cases that were answered: their place in it is their count so far.
    place = {grade: np.cumsum(there) - 1 for grade, there in answered.items()}

    def figure(grade: int, i: Indices) -> float:
        return graded[grade].measures[0].statistic(place[grade][i].astype(np.int64))

    curve = drop_curve(
        kind, figure, answered, patients, level=how.level, resamples=how.resamples, seed=how.seed
    )  # fmt: skip
    points = tuple(
        PointEntry(
            grade=p.grade, answered=p.answered, cases=p.cases, value=p.value,
            low=_ends(p.interval)[1], high=_ends(p.interval)[2],
            drop=_ends(p.drop)[0], drop_low=_ends(p.drop)[1], drop_high=_ends(p.drop)[2],
            reason=p.reason,
        )
        for p in curve.points
    )  # fmt: skip
    return DropEntry(kind=kind, title=title, name=measure.name, structure=measure.structure, points=points)


def worst_of(system: System) -> tuple[WorstEntry, ...]:
    """Return the ten cases that went worst, with the number that `worst_by` names."""
    if system.badness is None:
        return ()
    order = np.argsort(-system.badness, kind="stable")[:_WORST]
    notes = _notes(system)
    values = system.measures[0].values
    shown = system.badness if values is None or not _ordered_by(values, system.badness) else values
    return tuple(
        WorstEntry(
            case=int(i) + 1, value=float(shown[i]) if math.isfinite(shown[i]) else None, note=notes.get(int(i), "")
        )
        for i in order
    )


def worst_by(system: System) -> str:
    """Return the name of what the worst cases are ordered by: the first figure's, or "how far off" where it is not."""
    if system.badness is None:
        return ""
    first = system.measures[0]
    ordered = first.values is not None and _ordered_by(first.values, system.badness)
    return ", ".join(filter(None, (first.name, first.structure))) if ordered else "how far off"


def _ordered_by(values: Float[np.ndarray, " n"], badness: Float[np.ndarray, " n"]) -> bool:
    """Tell whether the badness of cases is their value, or what it lacks of 1."""
    finite = np.isfinite(values)
    return any(np.allclose(badness[finite], other[finite]) for other in (values, 1 - values))


def _notes(system: System) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in system.rows:
        if row.get("note"):
            found[int(str(row["number"])) - 1] = str(row["note"])
    return found
