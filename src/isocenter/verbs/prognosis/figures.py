"""What held-out predictions are worth: order, sharpness and calibration, each with an interval over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_statistic
from isocenter.evaluate.competing import competing_brier, competing_concordance
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import brier_at, dynamic_auc, integrated_brier, kaplan_meier, uno_concordance
from isocenter.evaluate.tables import or_nan
from isocenter.tasks.prognose.competing import aalen_johansen
from isocenter.tasks.prognose.learners import Times
from isocenter.tasks.prognose.nested import HeldOut
from isocenter.verbs.prognosis.document import CalibrationEntry, FigureEntry, TakenEntry

__all__ = ["COMPETING_ORDER", "ORDER", "calibration_at", "figures_of", "fold_uno", "integral_days", "taken_of"]

ORDER, COMPETING_ORDER = "Harrell's C", "C of the event"
_GROUPS, _LEAST_GROUP, _POINTS = 5, 20, 25
Statistic = Callable[[Int64[np.ndarray, " k"]], float]


def integral_days(times: Times, horizon_days: float) -> Float[np.ndarray, " t"]:
    """Return the days of the integrated Brier score: from the first twentieth of events to the horizon."""
    first = float(np.quantile(times.days[times.happened], 0.05))
    return np.linspace(min(first, horizon_days / 2), horizon_days, _POINTS)


def fold_uno(
    times: Times, risk: Float[np.ndarray, " n"], folds: Int64[np.ndarray, " n"], *, until_days: float | None
) -> float:
    """Return Uno's C, mean over folds weighted by their events: risks of two models have no common scale.

    Args:
        times: Of people.
        risk: Higher for earlier events.
        folds: Of each.
        until_days: Events before this day count; None for the last day of each fold.

    Returns:
        NaN where no fold has a pair in known order.
    """
    sums, count = 0.0, 0
    for number in np.unique(folds):
        one = folds == number
        part = times.rows(one)
        last = float(part.days.max()) if until_days is None else until_days
        try:
            found = uno_concordance(part.days, part.happened, risk[one], until_days=last)
        except DataError:  # nobody in sight on the day of an event: not defined on this resample
            continue
        events = int((part.happened & (part.days < last)).sum())
        if np.isfinite(found) and events:
            sums, count = sums + events * found, count + events
    return sums / count if count else float("nan")


def figures_of(
    held_out: HeldOut,
    times: Times,
    patients: Sequence[str],
    *,
    horizon_days: float,
    at_days: Float[np.ndarray, " q"],
    resamples: int = 500,
    seed: int = 0,
) -> tuple[FigureEntry, ...]:
    """Return the figures of held-out predictions.

    Args:
        held_out: The predictions; survival on `at_days`, of which the first is the horizon and the others are those of
            the integrated Brier score.
        times: What happened.
        patients: Of each row.
        horizon_days: Day that is asked about.
        at_days: Of the survival.
        resamples: Of patients.
        seed: Of them.
    """
    at_horizon = held_out.survival[:, 0]
    by = f"by day {horizon_days:g}"
    measures: list[tuple[str, str, Statistic]] = []
    risk, folds = held_out.risk, held_out.folds
    if times.codes is not None:
        codes = times.codes
        order = lambda i: competing_concordance(times.days[i], codes[i], risk[i], folds[i])  # noqa: E731
        measures.append((COMPETING_ORDER, "who had another outlasts all", order))
        brier = or_nan(competing_brier)
        measures.append(("Brier", by, lambda i: brier(times.days[i], codes[i], 1 - at_horizon[i], day=horizon_days)))
        never = or_nan(lambda i: _observed(times.rows(i), horizon_days)[0] / float((1 - at_horizon[i]).mean()))
        measures.append(("observed / predicted", by, never))
        return _with_intervals(measures, patients, resamples, seed)
    grid = at_days[1:].tolist()
    integral, at_day, auc = or_nan(integrated_brier), or_nan(_brier), or_nan(_auc)
    measures += [
        (ORDER, "", lambda i: concordance(times.days[i], times.happened[i], risk[i], folds[i])),
        ("Uno's C", "", lambda i: fold_uno(times.rows(i), risk[i], folds[i], until_days=None)),
        ("dynamic AUC", by, lambda i: auc(times.rows(i), 1 - at_horizon[i], horizon_days)),
        ("Brier", by, lambda i: at_day(times.rows(i), at_horizon[i], horizon_days)),
        ("Brier of nobody told apart", by, lambda i: at_day(times.rows(i), _everybody(times.rows(i), horizon_days),
            horizon_days)),
        ("integrated Brier", f"day {grid[0]:.0f} to {grid[-1]:.0f}", lambda i: integral(
            times.days[i], times.happened[i], held_out.survival[i, 1:], at_days=grid)),
        ("observed / predicted", by, or_nan(
            lambda i: _observed(times.rows(i), horizon_days)[0] / float((1 - at_horizon[i]).mean()))),
    ]  # fmt: skip
    return _with_intervals(measures, patients, resamples, seed)


def taken_of(
    held_out: HeldOut, times: Times, patients: Sequence[str], *, resamples: int = 500, seed: int = 0
) -> tuple[TakenEntry, ...]:
    """Return what each modality is worth: concordance of held-out people with it taken away, and what that loses.

    Args:
        held_out: The predictions.
        times: What happened.
        patients: Of each row.
        resamples: Of patients.
        seed: Of them.
    """
    folds = held_out.folds

    def order(risk: Float[np.ndarray, " n"], i: Int64[np.ndarray, " k"]) -> float:
        if times.codes is not None:
            return competing_concordance(times.days[i], times.codes[i], risk[i], folds[i])
        return concordance(times.days[i], times.happened[i], risk[i], folds[i])

    found = []
    for name, risk in held_out.taken.items():
        measures: list[tuple[str, str, Statistic]] = [
            ("without", "", lambda i, r=risk: order(r, i)),  # type: ignore[misc]
            ("lost", "", lambda i, r=risk: order(held_out.risk, i) - order(r, i)),  # type: ignore[misc]
        ]
        told = {f.name: f for f in _with_intervals(measures, patients, resamples, seed)}
        if "without" in told and "lost" in told:
            without, lost = told["without"], told["lost"]
            found.append(
                TakenEntry(
                    modality=name,
                    value=without.value,
                    low=without.low,
                    high=without.high,
                    lost=lost.value,
                    lost_low=lost.low,
                    lost_high=lost.high,
                )
            )
    return tuple(found)


def _brier(times: Times, survival: Float[np.ndarray, " n"], day: float) -> float:
    return float(brier_at(times.days, times.happened, survival[:, None], at_days=[day])[0])


def _auc(times: Times, risk: Float[np.ndarray, " n"], day: float) -> float:
    return float(dynamic_auc(times.days, times.happened, risk, at_days=[day]).auc[0])


def _everybody(times: Times, day: float) -> Float[np.ndarray, " n"]:
    share = float(kaplan_meier(times.days, times.happened).at(np.array([day]))[0])
    return np.full(len(times.days), share)


def _observed(times: Times, day: float) -> tuple[float, float | None, float | None]:
    """Return the share with the event by a day, and its interval where there is one."""
    if times.codes is not None:
        if not times.happened.any():
            return 0.0, None, None
        return float(aalen_johansen(times.days, times.codes).at(np.array([day]))[0, 0]), None, None
    curve = kaplan_meier(times.days, times.happened)
    place = int(np.searchsorted(curve.days, day, side="right")) - 1
    if place < 0:
        return 0.0, None, None
    return 1 - float(curve.survival[place]), 1 - float(curve.high[place]), 1 - float(curve.low[place])


def _with_intervals(
    measures: Sequence[tuple[str, str, Statistic]], patients: Sequence[str], resamples: int, seed: int
) -> tuple[FigureEntry, ...]:
    found = []
    everyone = np.arange(len(patients), dtype=np.int64)
    enough = len(set(patients)) >= LEAST_PATIENTS
    for name, of, statistic in measures:
        value = float(statistic(everyone))
        if not np.isfinite(value):
            continue
        low = high = None
        if enough:
            try:
                interval = bootstrap_statistic(statistic, patients, resamples=resamples, seed=seed)
                low, high = interval.low, interval.high
            except DataError:  # not defined on most resamples: the figure stands without an interval
                pass
        found.append(FigureEntry(name=name, of=of, value=value, low=low, high=high))
    return tuple(found)


def calibration_at(
    at_horizon: Float[np.ndarray, " n"], times: Times, *, horizon_days: float
) -> tuple[CalibrationEntry, ...]:
    """Return what was said and what happened, in up to five groups of like predicted risk of 20 people or more.

    Args:
        at_horizon: Predicted chance of being without the event at the horizon.
        times: What happened.
        horizon_days: The horizon.
    """
    groups = max(1, min(_GROUPS, len(at_horizon) // _LEAST_GROUP))
    place: Bool[np.ndarray, " n"]
    found = []
    for part in np.array_split(np.argsort(-at_horizon, kind="stable"), groups):
        place = np.zeros(len(at_horizon), dtype=bool)
        place[part] = True
        observed, low, high = _observed(times.rows(place), horizon_days)
        found.append(
            CalibrationEntry(
                count=len(part), predicted=float((1 - at_horizon[part]).mean()), observed=observed, low=low, high=high
            )
        )
    return tuple(found)
