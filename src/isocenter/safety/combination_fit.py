"""Fitting an image's probability together with a clinical table (`safety.combination`), and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import auroc
from isocenter.safety.combination import Combination, covariates_of, log_odds

__all__ = ["check_combination", "fit_combination"]

_EACH = 5
"""Cases of the rarer outcome for each number that is fitted."""
_PENALTY = 1.0
_FOLDS = 5


def fit_combination(
    p: Float[np.ndarray, "n outputs"],
    truth: Float[np.ndarray, "n outputs"],
    patients: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    *,
    exclusive: bool,
) -> Combination:
    """Fit a combination on held-out answers.

    Args:
        p: Probabilities of the image alone, by networks that never saw the case.
        truth: 1 there, 0 not, NaN not known.
        patients: Of each case.
        columns: Cells of the clinical table by heading.
        exclusive: Whether outputs are classes of which one is true.

    Raises:
        DataError: Too few cases for so many columns, or a column can't be joined.
    """
    check_combination(truth, columns)
    covariates = covariates_of(columns)
    rows = [{name: cells[i] for name, cells in columns.items()} for i in range(len(p))]
    x = np.array([[v for c in covariates for v in c.encode(row[c.column])[0]] for row in rows])
    folds = {name: number % _FOLDS for number, name in enumerate(sorted(set(patients)))}
    fold = np.array([folds[name] for name in patients])
    scores = log_odds(p)
    fits, losses, areas = [], [], []
    for k in range(p.shape[1]):
        known = np.isfinite(truth[:, k])
        y = truth[known, k] == 1
        s, z = scores[known, k], x[known]
        fits.append(_fit(s, z, y))
        alone, both = np.zeros(len(y)), np.zeros(len(y))
        for number in range(_FOLDS):
            out = fold[known] == number
            if out.any() and 0 < y[~out].sum() < (~out).sum():
                alone[out] = _line(_fit(s[~out], z[~out, :0], y[~out]), s[out], z[out, :0])
                both[out] = _line(_fit(s[~out], z[~out], y[~out]), s[out], z[out])
        losses.append([_loss(v, y) for v in (alone, both)])
        areas.append([auroc(y, v) for v in (alone, both)])
    loss, area = np.mean(losses, axis=0), np.mean(areas, axis=0)
    return Combination(
        covariates, exclusive, tuple(float(f[0]) for f in fits), tuple(float(f[1]) for f in fits),
        tuple(tuple(float(w) for w in f[2:]) for f in fits), len(p), float(loss[0]), float(loss[1]), float(area[0]),
        float(area[1]),
    )  # fmt: skip


def check_combination(truth: Float[np.ndarray, "n outputs"], columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse what can't be fitted: for a call before anything is learnt.

    Args:
        truth: 1 there, 0 not, NaN not known.
        columns: Cells of the clinical table by heading.

    Raises:
        DataError: Too few cases for so many columns, or a column can't be joined.
    """
    terms = sum(len(c.terms) for c in covariates_of(columns))
    wanted = _EACH * (terms + 2)
    for k in range(truth.shape[1]):
        rarer = int(min((truth[:, k] == 1).sum(), (truth[:, k] == 0).sum()))
        if rarer < wanted:
            raise DataError(
                f"{terms} numbers of the clinical table need {wanted} held-out cases with and without each class or "
                f"finding; the {k + 1}. has {rarer}: give more cases or fewer columns"
            )


def _line(
    fitted: Float[np.ndarray, " m"], s: Float[np.ndarray, " n"], z: Float[np.ndarray, "n terms"]
) -> Float[np.ndarray, " n"]:
    return np.asarray(fitted[0] * s + fitted[1] + z @ fitted[2:])


def _loss(line: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"]) -> float:
    return float(np.logaddexp(0, np.where(y, -line, line)).mean())


def _fit(
    s: Float[np.ndarray, " n"], z: Float[np.ndarray, "n terms"], y: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    """Return slope, bias and weights of the penalised logistic line."""
    a = np.column_stack([s, np.ones(len(s)), z])
    centre = np.array([1.0, 0.0, *np.zeros(z.shape[1])])
    pull = _PENALTY * np.array([1.0, 0.0, *np.ones(z.shape[1])])

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        line = a @ w
        value = np.logaddexp(0, np.where(y, -line, line)).sum() + 0.5 * (pull * (w - centre) ** 2).sum()
        return float(value), a.T @ (expit(line) - y) + pull * (w - centre)

    return np.asarray(minimize(loss, centre, jac=True, method="L-BFGS-B").x, dtype=np.float64)
