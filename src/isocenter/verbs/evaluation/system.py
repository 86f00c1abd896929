"""A system's answers to a set of cases, whatever they are: figures over any of the cases, and what to show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.verbs.evaluation.document import CurveEntry, Kind, ReliabilityEntry, RocEntry

__all__ = ["Indices", "Measure", "System", "mean_measure"]

Indices = Int64[np.ndarray, " i"]


@dataclass(frozen=True, eq=False)
class Measure:
    """A figure that can be taken over any of the cases.

    Args:
        name: The field's own name.
        structure: What it is of; "" for all.
        statistic: From indices of cases to the figure; NaN where it is not defined for them.
        unit: UCUM unit.
        higher_is_better: Which way is good; None for neither.
        values: Of each case, where the figure is their mean; NaN or infinite where a case has none.
        test: How two systems are compared by it.
        scores: Of each case, for comparing two AUROCs.
        truth: Of each case, for the same.
        biased: Why no interval is told: resampling shifts the figure itself; "" where it does not.
    """

    name: str
    structure: str
    statistic: Callable[[Indices], float]
    unit: str = "1"
    higher_is_better: bool | None = True
    values: Float[np.ndarray, " n"] | None = None
    test: Literal["mean", "accuracy", "auroc", "statistic"] = "statistic"
    scores: Float[np.ndarray, " n"] | None = None
    truth: Bool[np.ndarray, " n"] | None = None
    biased: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Name and structure."""
        return self.name, self.structure


def mean_measure(
    name: str,
    structure: str,
    values: Sequence[float] | Float[np.ndarray, " n"],
    *,
    unit: str = "1",
    higher_is_better: bool | None = True,
    test: Literal["mean", "accuracy"] = "mean",
) -> Measure:
    """Return the measure that is the mean of one value a case, over those that are finite."""
    array = np.asarray(values, dtype=np.float64)

    def statistic(i: Indices) -> float:
        some = array[i]
        some = some[np.isfinite(some)]
        return float(some.mean()) if len(some) else float("nan")

    return Measure(name, structure, statistic, unit, higher_is_better, array, test)


@dataclass(frozen=True, eq=False)
class System:
    """What one system answered.

    Args:
        kind: Of its answers.
        cases: Names, in a fixed order.
        patients: The patient of each case.
        patients_known: Whether the input says so; else each case counts as one.
        measures: The first is what groups, curves and worst cases are told by.
        rows: Of the table of cases: column to value.
        badness: Of each case: the higher, the worse it went; for the list of worst cases.
        roc: ROC curves.
        reliability: Reliability diagrams.
        curves: Other curves.
        notes: What was noticed, and decided.
        inputs: sha256 of what went in, by what it is.
        columns: Further columns of each case that groups may be made of.
        truth: What is true of each case, as text, where two tables may disagree on it; empty where they can't.
    """

    kind: Kind
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    patients_known: bool
    measures: tuple[Measure, ...]
    rows: tuple[Mapping[str, object], ...]
    badness: Float[np.ndarray, " n"] | None = None
    roc: tuple[RocEntry, ...] = ()
    reliability: tuple[ReliabilityEntry, ...] = ()
    curves: tuple[CurveEntry, ...] = ()
    notes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    truth: tuple[str, ...] = ()
