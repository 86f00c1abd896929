"""A table of times to an event and of predicted risks.

case,patient,days,event,risk                     event 1, or last seen without it 0; risk: higher for earlier
case,patient,days,event,risk,risk_365,risk_730   and the chance of the event by day 365, by day 730
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import brier_at, dynamic_auc, integrated_brier, uno_concordance
from isocenter.evaluate.tables import or_nan
from isocenter.verbs.evaluation.scores import Cases, cases_of
from isocenter.verbs.evaluation.system import Indices, Measure, System
from isocenter.verbs.evaluation.tables import Table

__all__ = ["survival_of_table", "survival_system"]

_PREFIX = "risk_"
_LEAST_EVENTS = 10


def survival_of_table(table: Table, patients: Table | None) -> System:
    """Read a table of survival and return the system.

    Raises:
        DataError: A column is missing, a time is negative, an event is not 0 or 1, or a chance is not one.
    """
    cases = cases_of(table, patients)
    days = np.array(table.numbers("days" if "days" in table.columns else "time", low=0, what="time in days"))
    events = table.column("event")
    for row, text in enumerate(events):
        if text not in ("0", "1"):
            raise DataError(
                f"line {table.line(row)}: event must be 1 (it happened) or 0 (last seen without)", source=table.file
            )
    chances: dict[float, Float[np.ndarray, " n"]] = {}
    for column in table.columns:
        if column.startswith(_PREFIX):
            try:
                horizon = float(column.removeprefix(_PREFIX))
            except ValueError as error:
                raise DataError(
                    f"column {column!r}: {_PREFIX}DAYS needs a number of days", source=table.file
                ) from error
            chances[horizon] = np.array(table.numbers(column, low=0, high=1, what="probability"))
    if "risk" in table.columns:
        risk = np.array(table.numbers("risk", what="finite risk"))
    elif chances:
        risk = chances[max(chances)]
    else:
        raise DataError("needs a column risk, or risk_DAYS", source=table.file)
    return survival_system(cases, days, np.array([text == "1" for text in events]), risk, chances)


def survival_system(
    cases: Cases,
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"],
    chances: Mapping[float, Float[np.ndarray, " n"]] | None = None,
) -> System:
    """Return the system of a risk for each case.

    Args:
        cases: Which cases.
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        risk: Higher for earlier events.
        chances: Of the event by a day, by that day.

    Raises:
        DataError: Nobody had the event, or a day is beyond those on which cases were seen.
    """
    count = int(happened.sum())
    if not count:
        raise DataError("one class only: nobody had the event, so no order can be judged")
    by_day = dict(sorted((chances or {}).items()))
    beyond = [day for day in by_day if not days.min() <= day < days.max()]
    if beyond:
        raise DataError(
            f"day {beyond[0]:g} lies beyond those on which cases were seen ({days.min():g} to before {days.max():g})"
        )
    uno = or_nan(uno_concordance)
    measures = [
        Measure("Harrell's C", "", lambda i: concordance(days[i], happened[i], risk[i])),
        # Beyond the last event nobody is compared: where all are lost by then, weights would have no bound.
        Measure("Uno's C", "", lambda i: uno(days[i], happened[i], risk[i], until_days=float(days[i].max()))),
    ]
    notes = list(cases.notes)
    horizons = list(by_day) or _horizons(days, happened)
    if not by_day:
        notes.append(
            f"no chance by a day on which cases were seen is given (in a table: risk_DAYS): AUC is "
            "told at the days by which a quarter, half and three quarters of "
            f"the events had happened ({', '.join(f'{d:g}' for d in horizons)}), and no Brier score"
        )
    measures += [
        Measure("dynamic AUC", f"by day {day:g}", partial(_auc, days, happened, by_day.get(day, risk), day))
        for day in horizons
    ]
    measures += [
        Measure("Brier", f"by day {day:g}", partial(_brier, days, happened, p, day), higher_is_better=False)
        for day, p in by_day.items()
    ]
    if len(by_day) > 1:
        measures.append(
            Measure(
                "integrated Brier", f"day {min(by_day):g} to {max(by_day):g}",
                partial(_integrated, days, happened, 1 - np.stack(list(by_day.values()), axis=1), tuple(by_day)),
                higher_is_better=False,
            )
        )  # fmt: skip
    if count < _LEAST_EVENTS:
        notes.append(f"only {count} events: whatever is told here is uncertain")
    wrong = np.abs(rankdata(risk) - rankdata(-days)) / len(days)
    rows = [
        {"number": n, "case": c, "patient": w, "days": float(d), "event": int(h), "risk": float(r)}
        | {f"{_PREFIX}{day:g}": float(p[n - 1]) for day, p in by_day.items()}
        for n, (c, w, d, h, r) in enumerate(
            zip(cases.names, cases.patients, days, happened, risk, strict=True), start=1
        )
    ]
    return System(
        "survival", cases.names, cases.patients, cases.known, tuple(measures), tuple(rows),
        np.where(happened, wrong, 0.0), notes=tuple(notes),
        truth=tuple(f"{d:.12g} {int(h)}" for d, h in zip(days.tolist(), happened.tolist(), strict=True)),
    )  # fmt: skip


def _horizons(days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> list[float]:
    found = np.unique(np.quantile(days[happened], (0.25, 0.5, 0.75), method="lower"))
    return [float(day) for day in found if days.min() <= day < days.max()]


def _auc(
    days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], risk: Float[np.ndarray, " n"], day: float,
    i: Indices,
) -> float:  # fmt: skip
    try:
        return float(dynamic_auc(days[i], happened[i], risk[i], at_days=[day]).auc[0])
    except DataError:
        return float("nan")


def _brier(
    days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], day: float, i: Indices
) -> float:
    try:
        return float(brier_at(days[i], happened[i], (1 - p[i])[:, None], at_days=[day])[0])
    except DataError:
        return float("nan")


def _integrated(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    survival: Float[np.ndarray, "n t"],
    at_days: tuple[float, ...],
    i: Indices,
) -> float:
    try:
        return integrated_brier(days[i], happened[i], survival[i], at_days=list(at_days))
    except DataError:
        return float("nan")
