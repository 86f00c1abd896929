"""What held-out cases say of the task: figures with intervals, and what they promise of a further image.

Source:
    Guo et al., ICML 2017 (temperature); Vovk et al., Algorithmic Learning in a Random World (split conformal).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int64
from scipy.optimize import minimize_scalar

from isocenter.core.errors import DataError
from isocenter.data.labelled import Event
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_mean, bootstrap_statistic
from isocenter.evaluate.ranking import auroc, auroc_macro, concordance
from isocenter.learn.adaptation.held_out import MaskRow, VectorRow
from isocenter.models.segmentation import calibrate

__all__ = ["joined", "mask_figures", "mask_promise", "vector_figures", "vector_promise"]

LEVEL = 0.9
_LEAST = 20
"""Fewer held-out cases than this promise nothing."""

Figure = dict[str, object]


def joined(rows: Sequence[VectorRow]) -> list[VectorRow]:
    """Return one row for each case: the mean of the answers of its networks."""
    by_name: dict[str, list[VectorRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    return [
        VectorRow(
            first[0].name, first[0].patient, first[0].network if len(first) == 1 else -1, first[0].target,
            tuple(float(v) for v in np.mean([r.answer for r in first], axis=0)),
        )
        for first in by_name.values()
    ]  # fmt: skip


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


def mask_promise(rows: Sequence[MaskRow]) -> dict[str, object]:
    """Return what sharpness is worth, in the form of a task's `Promise`."""
    pairs = []
    for row in rows:
        there = [a for a in row.agreement if a > 0]
        if there and not math.isnan(row.mean):
            pairs.append((float(np.mean(there)), row.mean))
    promise: dict[str, object] = {"level": LEVEL, "cases": len(pairs)}
    if len(pairs) >= _LEAST:
        agreement, dice = (np.array([p[i] for p in pairs]) for i in (0, 1))
        promise["expected_dice"] = calibrate(agreement, dice, level=LEVEL, bins=max(1, min(8, len(pairs) // _LEAST)))
    return promise


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


def _temperature(logits: Float[np.ndarray, "n k"], truth: np.ndarray) -> float:
    """Return the temperature at which cases are least surprising; as if one more of each outcome had been seen.

    Without that a set whose held-out cases are all right would promise certainty, however few they are.

    Source:
        Guo et al., ICML 2017; the added cases: Platt, Advances in Large Margin Classifiers 1999.
    """
    unsure = 1 / (len(truth) + 2)

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        top = scaled.max(1, keepdims=True)
        whole = top[:, 0] + np.log(np.exp(scaled - top).sum(1))
        own = scaled[np.arange(len(truth)), truth]
        others = (scaled.sum(1) - own) / max(1, scaled.shape[1] - 1)
        return float((whole - (1 - unsure) * own - unsure * others).mean())

    return float(math.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def vector_promise(kind: Kind, rows: Sequence[VectorRow]) -> dict[str, object]:
    """Return what held-out cases promise, in the form of a task's `Promise`.

    Args:
        kind: Of the labels.
        rows: Held-out cases, one row each.
    """
    promise: dict[str, object] = {"level": LEVEL, "cases": len(rows)}
    answers = np.array([row.answer for row in rows])
    enough = len(rows) >= _LEAST
    if kind == "classify" and enough:
        truth = np.array([row.target for row in rows if isinstance(row.target, int)])
        logits = np.log(np.clip(answers, 1e-7, 1))
        temperature = _temperature(logits, truth)
        raised = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
        p = raised / raised.sum(1, keepdims=True)
        own = np.sort(p[np.arange(len(truth)), truth])
        # The (n + 1)(1 - level) smallest probability of the true class: what is as likely makes the set.
        rank = math.floor((len(own) + 1) * (1 - LEVEL))
        promise |= {"temperature": temperature, "least_probability": float(own[rank - 1]) if rank else 0.0}
    elif kind == "multilabel" and enough:
        table = np.array([row.target for row in rows if isinstance(row.target, tuple)])
        p = np.clip(answers, 1e-7, 1 - 1e-7)
        known = table >= 0
        logits = np.stack([np.zeros(int(known.sum())), np.log(p / (1 - p))[known]], axis=1)
        promise["temperature"] = _temperature(logits, table[known])
    elif kind == "regress" and enough:
        values = np.array([float(row.target) for row in rows if isinstance(row.target, int | float)])
        gaps = np.sort(np.abs(answers[:, 0] - values))
        rank = min(len(gaps), math.ceil((len(gaps) + 1) * LEVEL))
        promise["error"] = float(gaps[rank - 1])
    elif kind == "survive":
        promise |= _baseline([row.target for row in rows if isinstance(row.target, Event)], answers[:, 0])
    return promise


def _baseline(events: Sequence[Event], risk: Float[np.ndarray, " n"]) -> dict[str, object]:
    """Return Breslow's cumulative hazard at the median time, of held-out cases with their held-out risks."""
    days, happened = np.array([e.days for e in events]), np.array([e.happened for e in events])
    horizon = max(float(np.median(days)), 1e-9)
    weight, total = np.exp(np.clip(risk, -20, 20)), 0.0
    for at in np.unique(days[happened & (days <= horizon)]):
        total += float((happened & (days == at)).sum() / weight[days >= at].sum())
    return {"horizon_days": horizon, "baseline": total}
