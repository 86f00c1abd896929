"""A clinical table joined with the answers of held-out cases (`safety.combination`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError
from isocenter.data.labelled import Target
from isocenter.data.labelled.cases import Kind
from isocenter.learn.adaptation.held_out import VectorRow
from isocenter.safety.calibration import Temperature
from isocenter.safety.combination import Combination
from isocenter.safety.combination_fit import check_combination, fit_combination

__all__ = ["check_clinical", "combination_of"]


def _truth(kind: Kind, classes: int, targets: Sequence[Target]) -> Float[np.ndarray, "n classes"]:
    if kind == "classify":
        return np.array([[float(t == k) for k in range(classes)] for t in targets])
    return np.array([[float(v) if v >= 0 else np.nan for v in t] for t in targets if isinstance(t, tuple)])


def check_clinical(kind: Kind, classes: int, targets: Sequence[Target], columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse a clinical table that can't be joined, before anything is learnt.

    Args:
        kind: Of the labels.
        classes: How many.
        targets: Of the cases that will be held out.
        columns: Cells of the table by heading, in their order.

    Raises:
        ConfigError: The labels are neither classes nor findings.
        DataError: Too few cases for so many columns, or a column can't be joined.
    """
    if kind not in ("classify", "multilabel"):
        raise ConfigError("a clinical table is joined with classes or findings, not with masks, numbers or events")
    check_combination(_truth(kind, classes, targets), columns)


def combination_of(
    kind: Kind, rows: Sequence[VectorRow], temperature: float, columns: Mapping[str, Sequence[str]]
) -> Combination:
    """Fit a combination on held-out answers.

    Args:
        kind: Of the labels.
        rows: Held-out cases, one row each.
        temperature: Of the task's probabilities.
        columns: Cells of the table by heading, in the order of the rows.

    Raises:
        DataError: Too few cases for so many columns, or a column can't be joined.
    """
    answers = np.clip(np.array([row.answer for row in rows]), 1e-7, 1 - 1e-7)
    if kind == "classify":
        p = Temperature(temperature).apply(np.log(answers))
    else:
        p = 1 / (1 + np.exp(-np.log(answers / (1 - answers)) / temperature))
    truth = _truth(kind, answers.shape[1], [row.target for row in rows])
    return fit_combination(p, truth, [row.patient for row in rows], columns, exclusive=kind == "classify")
