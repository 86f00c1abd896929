"""What held-out cases say of the task: figures with intervals, and what they promise of a further image (`safety`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import DataError
from isocenter.data.labelled import Event
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_mean, bootstrap_statistic
from isocenter.evaluate.ranking import auroc, auroc_macro, concordance
from isocenter.learn.adaptation.held_out import MaskRow, VectorRow
from isocenter.learn.adaptation.rules import LEAST, LEVEL, Estimates, Wish, interval_rules, set_rules
from isocenter.models.learnt.agreement import spread_number
from isocenter.safety.calibration import fit_temperature
from isocenter.safety.masks import fit_mask_threshold
from isocenter.safety.quality import fit_quality
from isocenter.safety.risks import RiskRule, fit_risks
from isocenter.safety.sets import fit_sets

__all__ = ["joined", "mask_figures", "mask_promise", "vector_figures", "vector_promise"]

Figure = dict[str, object]


def joined(rows: Sequence[VectorRow]) -> list[VectorRow]:
    """Return one row for each case: the mean of the answers of its networks, and how far they lie apart."""
    by_name: dict[str, list[VectorRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    return [_joined(some) for some in by_name.values()]


def _joined(rows: Sequence[VectorRow]) -> VectorRow:
    if len(rows) == 1:
        return rows[0]
    answers = np.array([row.answer for row in rows])
    numbers = {name: float(np.mean([row.numbers[name] for row in rows])) for name in rows[0].numbers}
    if numbers:
        numbers["networks"] = spread_number(answers[:, 0])
    mean = tuple(float(v) for v in answers.mean(axis=0))
    return VectorRow(rows[0].name, rows[0].patient, -1, rows[0].target, mean, numbers)


def _figure(name: str, structure: str, how: str, values: tuple[float, float | None, float | None, int]) -> Figure:
    value, low, high, count = values
    found: Figure = {"name": name, "structure": structure, "value": value, "count": count, "how": how}
    if low is not None and high is not None:
        found |= {"low": low, "high": high, "level": 0.95}
    return found


def mask_figures(rows: Sequence[MaskRow], classes: Sequence[str], how: str) -> list[Figure]:
    """Return the mean Dice of every class and of all, with intervals over patients where there are enough.

    Args:
        rows: Held-out cases.
        classes: Names.
        how: How they were held out, in words.
    """
    found = []
    for number, name in [*enumerate(classes), (-1, "mean of classes")]:
        pairs = [(row.dice[number] if number >= 0 else row.mean, row.patient) for row in rows]
        known = [(d, p) for d, p in pairs if not math.isnan(d)]
        if not known:
            continue
        values, patients = [d for d, _ in known], [p for _, p in known]
        low = high = None
        if len(set(patients)) >= LEAST_PATIENTS:
            interval = bootstrap_mean(values, patients)
            low, high = interval.low, interval.high
        found.append(_figure("Dice", name, how, (float(np.mean(values)), low, high, len(set(patients)))))
    return found


def mask_promise(
    rows: Sequence[MaskRow], spoilt: Sequence[MaskRow] = (), wish: Wish | None = None, *, gated: bool = True
) -> dict[str, object]:
    """Return what an answer's own numbers are worth, and what is promised of volumes, as a task's `Promise`.

    Args:
        rows: Held-out cases.
        spoilt: Spoilt copies of them.
        wish: What is asked of the promises of volumes.
        gated: Whether the task has a gate, and so knows how strange an image is.
    """
    wish = wish or Wish()
    known = [row for row in (*rows, *spoilt) if not math.isnan(row.mean) and row.numbers]
    names = sorted(set.intersection(*(set(row.numbers) for row in known))) if known else []
    promise: dict[str, object] = {"level": LEVEL, "cases": len({row.name for row in rows if not math.isnan(row.mean)})}
    with suppress(DataError):  # too few cases promise nothing, and the task says so
        table = np.array([[row.numbers[name] for name in names] for row in known], dtype=np.float64)
        dice = np.array([row.mean for row in known])
        patients = [row.patient for row in known]
        promise["quality"] = fit_quality(table.reshape(len(known), -1), dice, patients, names, level=LEVEL).as_card()
    one_each = list({row.name: row for row in rows}.values())
    promise |= _volumes(one_each, wish, gated=gated)
    margins: dict[str, object] = {}
    for number in range(len(rows[0].volumes) if rows else 0):
        with suppress(DataError):
            missed = np.array([row.missed[number] for row in one_each if row.volumes[number][1] > 0])
            margins[str(number + 1)] = fit_mask_threshold(missed, most_missed=1 - LEVEL).as_card()
    return promise | {"margins": margins}


def _volumes(rows: Sequence[MaskRow], wish: Wish, *, gated: bool) -> dict[str, object]:
    """Return the fields of a `Promise` that are of volumes; a segment with too few cases has none."""
    volumes: dict[str, object] = {}
    difficulties: dict[str, object] = {}
    groups: dict[str, dict[str, object]] = {}
    for number in range(len(rows[0].volumes) if rows else 0):
        some = [row for row in rows if row.volumes[number][0] > 0]
        answers, truth = (np.array([row.volumes[number][i] for row in some], dtype=np.float64) for i in (0, 1))
        numbers = tuple({k: v for k, v in row.numbers.items() if gated or k != "strange"} for row in some)
        names, patients = tuple(row.name for row in some), tuple(row.patient for row in some)
        with suppress(DataError):
            found = interval_rules(Estimates(names, patients, answers, truth, numbers), wish, volumes=True)
            volumes[str(number + 1)] = found.interval
            if found.difficulty is not None:
                difficulties[str(number + 1)] = found.difficulty
            for group, card in found.groups.items():
                groups.setdefault(group, {})[str(number + 1)] = card
    return {"volumes": volumes, "difficulties": difficulties, "by": wish.by, "group_volumes": groups}


def _interval(
    statistic: Callable[[Int64[np.ndarray, " n"]], float], patients: Sequence[str]
) -> tuple[float, float | None, float | None, int]:
    try:
        found = bootstrap_statistic(statistic, patients)
    except DataError:
        every = np.arange(len(patients), dtype=np.int64)
        return float(statistic(every)), None, None, len(set(patients))
    return found.value, found.low, found.high, found.patients


def vector_figures(kind: Kind, rows: Sequence[VectorRow], classes: Sequence[str], how: str) -> list[Figure]:
    """Return the figures of a kind, with intervals over patients.

    Args:
        kind: Of the labels.
        rows: Held-out cases, one row each.
        classes: Names.
        how: How they were held out, in words.
    """
    patients = [row.patient for row in rows]
    answers = np.array([row.answer for row in rows])
    found: list[Figure] = []

    def add(name: str, structure: str, statistic: Callable[[Int64[np.ndarray, " n"]], float]) -> None:
        values = _interval(statistic, patients)
        if math.isfinite(values[0]):
            found.append(_figure(name, structure, how, values))

    if kind == "classify":
        truth = np.array([row.target for row in rows if isinstance(row.target, int)])
        right = answers.argmax(1) == truth
        add("AUROC", "all classes", lambda i: auroc_macro(truth[i], answers[i]))
        add("accuracy", "all classes", lambda i: float(right[i].mean()))
        add("balanced accuracy", "all classes", lambda i: _balanced(right[i], truth[i]))
        for number, name in enumerate(classes if len(classes) > 2 else ()):
            add("AUROC", name, lambda i, n=number: auroc(truth[i] == n, answers[i, n]))  # type: ignore[misc]
    elif kind == "multilabel":
        table = np.array([row.target for row in rows if isinstance(row.target, tuple)])
        for number, name in enumerate(classes):
            add("AUROC", name, lambda i, n=number: _known_auroc(table[i, n], answers[i, n]))  # type: ignore[misc]
        add("AUROC", "mean of findings", lambda i: _mean_auroc(table[i], answers[i]))
    elif kind == "regress":
        values = np.array([float(row.target) for row in rows if isinstance(row.target, int | float)])
        gaps = np.abs(answers[:, 0] - values)
        add("mean absolute error", classes[0], lambda i: float(gaps[i].mean()))
    else:
        events = [row.target for row in rows if isinstance(row.target, Event)]
        days, happened = np.array([e.days for e in events]), np.array([e.happened for e in events])
        own = np.array([row.network for row in rows])
        add("Harrell's C", classes[0], lambda i: concordance(days[i], happened[i], answers[i, 0], own[i]))
    return found


def _balanced(right: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([right[truth == c].mean() for c in np.unique(truth)]))


def _known_auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    known = truth >= 0
    return auroc(truth[known] == 1, scores[known])


def _mean_auroc(table: np.ndarray, scores: np.ndarray) -> float:
    areas = [_known_auroc(table[:, n], scores[:, n]) for n in range(table.shape[1])]
    known = [a for a in areas if not math.isnan(a)]
    return float(np.mean(known)) if known else float("nan")


def vector_promise(
    kind: Kind, rows: Sequence[VectorRow], wish: Wish | None = None, *, gated: bool = True
) -> dict[str, object]:
    """Return what held-out cases promise, in the form of a task's `Promise`.

    Args:
        kind: Of the labels.
        rows: Held-out cases, one row each.
        wish: What is asked of the promises.
        gated: Whether the task has a gate, and so knows how strange an image is.

    Raises:
        DataError: A set that was asked for can't be promised.
    """
    wish = wish or Wish()
    promise: dict[str, object] = {"level": LEVEL, "cases": len(rows), "by": wish.by}
    answers = np.array([row.answer for row in rows])
    enough = len(rows) >= LEAST
    if kind == "classify" and enough:
        truth = np.array([row.target for row in rows if isinstance(row.target, int)])
        logits = np.log(np.clip(answers, 1e-7, 1))
        temperature = fit_temperature(logits, truth)
        promise["temperature"] = temperature.value
        names = [row.name for row in rows]
        try:
            promise |= set_rules(temperature.apply(logits), truth, names, wish)
        except DataError:
            if wish.sets != "auto" or wish.by:  # asked for: never left out in silence
                raise
    elif kind == "multilabel" and enough:
        table = np.array([row.target for row in rows if isinstance(row.target, tuple)])
        p = np.clip(answers, 1e-7, 1 - 1e-7)
        known = table >= 0
        logits = np.stack([np.zeros(int(known.sum())), np.log(p / (1 - p))[known]], axis=1)
        temperature = fit_temperature(logits, table[known])
        promise["temperature"] = temperature.value
        promise["findings"] = _finding_sets(p, table, temperature.value)
    elif kind == "regress" and enough:
        values = np.array([float(row.target) for row in rows if isinstance(row.target, int | float)])
        numbers = tuple({k: v for k, v in row.numbers.items() if gated or k != "strange"} for row in rows)
        names, patients = [row.name for row in rows], tuple(row.patient for row in rows)
        found = interval_rules(Estimates(tuple(names), patients, answers[:, 0], values, numbers), wish)
        promise |= {"interval": found.interval, "difficulty": found.difficulty, "group_intervals": found.groups}
    elif kind == "survive":
        events = [row.target for row in rows if isinstance(row.target, Event)]
        promise |= _baseline(events, answers[:, 0])
        with suppress(DataError):
            promise["risk"] = _risks(events, answers[:, 0], float(str(promise["horizon_days"]))).as_card()
    return promise


def _finding_sets(
    p: Float[np.ndarray, "n k"], table: Int64[np.ndarray, "n k"], temperature: float
) -> dict[str, dict[str, object]]:
    """Return for each finding the rule for its set of present and absent; none with too few cases of either."""
    found = {}
    for number in range(table.shape[1]):
        known = table[:, number] >= 0
        q = 1 / (1 + np.exp(-np.log(p[known, number] / (1 - p[known, number])) / temperature))
        with suppress(DataError):
            rule = fit_sets(np.stack([1 - q, q], axis=1), table[known, number], level=LEVEL, by_class=True)
            found[str(number + 1)] = rule.as_card()
    return found


def _risks(events: Sequence[Event], risk: Float[np.ndarray, " n"], horizon: float) -> RiskRule:
    """Fit what scores stand for on the cases that are known up to the horizon, each for those like it that are not.

    Source:
        Graf et al., Statistics in Medicine 1999 (weights by the inverse chance of not being censored).
    """
    days, happened = np.array([e.days for e in events]), np.array([e.happened for e in events])
    known = happened & (days <= horizon) | (days > horizon)
    # Chance of not being censored up to just before a time (Kaplan-Meier of the censoring).
    at = np.where(days > horizon, horizon, days)
    kept = np.ones(len(days))
    for moment in np.unique(days[~happened]):
        here = float(((days == moment) & ~happened).sum()) / float((days >= moment).sum())
        kept[at > moment] *= 1 - here
    weights = 1 / np.maximum(kept[known], 0.05)
    return fit_risks(risk[known], (happened & (days <= horizon))[known].astype(np.float64), weights)


def _baseline(events: Sequence[Event], risk: Float[np.ndarray, " n"]) -> dict[str, object]:
    """Return Breslow's cumulative hazard at the median time, of held-out cases with their held-out risks."""
    days, happened = np.array([e.days for e in events]), np.array([e.happened for e in events])
    horizon = max(float(np.median(days)), 1e-9)
    weight, total = np.exp(np.clip(risk, -20, 20)), 0.0
    for at in np.unique(days[happened & (days <= horizon)]):
        total += float((happened & (days == at)).sum() / weight[days >= at].sum())
    return {"horizon_days": horizon, "baseline": total}
