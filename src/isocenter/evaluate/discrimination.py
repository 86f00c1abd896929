"""How well a score separates those who have a finding from those who have not: the area under the ROC curve.

Source:
    Hanley and McNeil, Radiology 1982 (the area is the chance that one who has it scores higher than one who has not).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval, bootstrap_statistic
from isocenter.evaluate.ranking import auroc

__all__ = ["bootstrap_roc_auc", "roc_auc"]


def roc_auc(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve; ties count half, and 0.5 is chance.

    Raises:
        DataError: All have it or none has, lengths differ, or a score is not finite.

    Example:
        >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    if scores.shape != present.shape or not np.isfinite(scores).all():
        raise DataError("an area under the ROC curve needs one finite score for each answer")
    with_it = int(present.sum())
    if with_it in (0, len(present)):
        raise DataError(f"{with_it} of {len(present)} have it: both kinds are needed to tell them apart")
    return auroc(present, scores)


def bootstrap_roc_auc(
    scores: Float[np.ndarray, " n"],
    present: Bool[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the area under the ROC curve with an interval over patients, by percentiles.

    Resamples in which all have it or none has say nothing, and are left out.

    Raises:
        DataError: As `roc_auc`; or fewer than 10 patients, or fewer than two with the finding or without.
    """
    roc_auc(scores, present)
    index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    enough = len(set(index.tolist())) >= LEAST_PATIENTS
    if enough and any(len(set(index[chosen])) < 2 for chosen in (present, ~present)):
        raise DataError("one patient alone has the finding, or has not: an interval would say nothing")
    return bootstrap_statistic(
        lambda i: auroc(present[i], scores[i]), patients, level=level, resamples=resamples, seed=seed
    )
