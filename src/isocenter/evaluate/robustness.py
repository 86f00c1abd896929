"""How fast a figure falls as images get worse, and how far it lies apart at two sites."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import Interval, bootstrap_statistic
from isocenter.evaluate.statistics import Gap, compare_groups

__all__ = ["CurvePoint", "DropCurve", "domain_shift", "drop_curve"]

Graded = Callable[[int, Int64[np.ndarray, " n"]], float]


@dataclass(frozen=True)
class CurvePoint:
    """A figure at one grade.

    Args:
        grade: 0 for the images as they are, 1 to 5.
        answered: Cases that were answered.
        cases: All of them.
        value: Figure of those that were answered; None where it is not defined.
        interval: Of the figure.
        drop: Figure at this grade minus that of the images as they are, on cases that were answered both times.
        reason: Why something is missing; "" where nothing is.
    """

    grade: int
    answered: int
    cases: int
    value: float | None = None
    interval: Interval | None = None
    drop: Interval | None = None
    reason: str = ""


@dataclass(frozen=True)
class DropCurve:
    """A figure against how severely images were changed.

    Args:
        kind: What was done to them.
        points: By grade, 0 first.
    """

    kind: str
    points: tuple[CurvePoint, ...]


def drop_curve(
    kind: str,
    figure: Graded,
    answered: Mapping[int, Bool[np.ndarray, " n"]],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> DropCurve:
    """Draw the curve of a figure over grades, with intervals by patient.

    A task that refuses bad images keeps its figure and answers fewer of them: so both are told for each grade.

    Args:
        kind: What was done to the images.
        figure: From a grade and indices of cases (all answered at that grade) to the figure.
        answered: Which cases were answered, by grade; grade 0 must be there.
        patients: The patient of each case.
        level: Coverage asked of the intervals.
        resamples: How many resamples.
        seed: Decides them.

    Raises:
        DataError: Grade 0 is missing.

    Example:
        >>> values = {0: np.full(12, 0.9), 3: np.full(12, 0.7)}
        >>> curve = drop_curve("noise", lambda g, i: float(values[g][i].mean()),
        ...     {g: np.ones(12, bool) for g in values}, [f"p{n}" for n in range(12)], resamples=50)
        >>> [(p.grade, round(p.drop.value, 2)) for p in curve.points]
        [(0, 0.0), (3, -0.2)]
    """
    if 0 not in answered:
        raise DataError("a drop curve starts with the images as they are (grade 0)")
    points = []
    for grade in sorted(answered):
        here, both = (np.flatnonzero(m).astype(np.int64) for m in (answered[grade], answered[grade] & answered[0]))
        value = float(figure(grade, here)) if len(here) else math.nan
        point = CurvePoint(grade, len(here), len(patients))
        if not math.isfinite(value):
            reason = "no case was answered" if not len(here) else "the figure is not defined on what was answered"
            points.append(CurvePoint(grade, len(here), len(patients), reason=reason))
            continue
        try:
            interval = _interval(partial(figure, grade), here, patients, level, resamples, seed)
            drop = _interval(partial(_fall, figure, grade), both, patients, level, resamples, seed)
            point = CurvePoint(grade, len(here), len(patients), value, interval, drop)
        except DataError as error:
            point = CurvePoint(grade, len(here), len(patients), value, reason=str(error))
        points.append(point)
    return DropCurve(kind, tuple(points))


def _fall(figure: Graded, grade: int, i: Int64[np.ndarray, " n"]) -> float:
    return figure(grade, i) - figure(0, i)


def _interval(
    statistic: Callable[[Int64[np.ndarray, " n"]], float],
    chosen: Int64[np.ndarray, " m"],
    patients: Sequence[str],
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    return bootstrap_statistic(
        lambda i: statistic(chosen[i]), [patients[c] for c in chosen], level=level, resamples=resamples, seed=seed,
        method="bca",
    )  # fmt: skip


def domain_shift(
    statistic: Callable[[Int64[np.ndarray, " n"]], float],
    patients: Sequence[str],
    sites: Sequence[str],
    between: tuple[str, str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Gap:
    """Compare a figure at two sites: the second minus the first, with its interval.

    Args:
        statistic: From indices of cases to the figure.
        patients: The patient of each case.
        sites: The site of each case.
        between: Where it was at home, and where it went.
        level: Coverage asked of the interval.
        resamples: How many resamples.
        seed: Decides them.

    Returns:
        `inside` is the figure of the second site, `outside` that of the first.

    Raises:
        DataError: A site has fewer than 10 patients, or the two are one.

    Example:
        >>> values = np.repeat([0.9, 0.8], 10)
        >>> found = domain_shift(lambda i: float(values[i].mean()), [f"p{n}" for n in range(20)],
        ...     ["A"] * 10 + ["B"] * 10, ("A", "B"), resamples=100)
        >>> round(found.difference.value, 3)
        -0.1
    """
    first, second = between
    if first == second:
        raise DataError(f"a shift is between two sites, got {first!r} twice")
    chosen = np.array([i for i, site in enumerate(sites) if site in between], dtype=np.int64)
    member = np.array([sites[i] == second for i in chosen], dtype=bool)
    return compare_groups(
        lambda i: statistic(chosen[i]), [patients[i] for i in chosen], member, level=level, resamples=resamples,
        seed=seed,
    )  # fmt: skip
