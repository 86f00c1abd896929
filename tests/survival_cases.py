"""People whose times to an event are drawn by a rule that tests know."""

from __future__ import annotations

import numpy as np

from isocenter.models.covariates import Covariate, Covariates
from isocenter.tasks.prognose.learners import Times


def matrix(n: int = 300, p: int = 5, *, seed: int = 0, tied: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix with standard columns, days and events: hazard ratio e for the first column, e^-0.5 for the second."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    event = rng.exponential(30 * np.exp(-x[:, 0] + 0.5 * x[:, 1]))
    lost = rng.exponential(60, n)
    days = np.minimum(event, lost)
    return x, np.ceil(days) if tied else days, event <= lost


def people(n: int = 300, *, seed: int = 0) -> tuple[Covariates, Times]:
    """Age and a marker that matter, a stage of three, and gaps; the marker is missing for every eighth person."""
    rng = np.random.default_rng(seed)
    age, marker, stage = rng.normal(60, 10, n), rng.normal(size=n), rng.integers(0, 3, n).astype(np.float64)
    event = rng.exponential(300 * np.exp(-0.06 * (age - 60) - 0.8 * marker - 0.4 * stage))
    lost = rng.uniform(100, 900, n)
    seen = marker.copy()
    seen[::8] = np.nan
    columns = (
        Covariate("age", age, "a"), Covariate("marker", seen, "ug/L"),
        Covariate("stage", stage, "", ("I", "II", "III")),
    )  # fmt: skip
    return Covariates(columns), Times(np.minimum(event, lost), event <= lost)
