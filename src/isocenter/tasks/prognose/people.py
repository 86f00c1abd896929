"""The nearest patients, and who is too far from all of them for an answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import DataError
from isocenter.models.covariates import Covariates
from isocenter.safety.quantiles import least_cases
from isocenter.tasks.prognose.preparing import PeoplePreparation

__all__ = ["Support", "fit_support"]

_NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Support:
    """The people that were learnt from, and how far apart such people lie.

    Args:
        preparation: Of covariates.
        known: Their matrix; columns of one covariate share its weight.
        usual: Distance of each of them to its fifth nearest other patient, growing.
        refused_share: Share of people like them that is refused.
    """

    preparation: PeoplePreparation
    known: Float[np.ndarray, "n p"]
    usual: Float[np.ndarray, " n"]
    refused_share: float

    def distances(self, person: Covariates) -> Float[np.ndarray, " n"]:
        """Return how far each of the people learnt from is from one person."""
        x = self.preparation.matrix(person) * self.preparation.weights
        return np.asarray(np.sqrt(((self.known - x[:1]) ** 2).sum(axis=1)))

    def nearest(self, person: Covariates, count: int) -> Int64[np.ndarray, " k"]:
        """Return the rows of the nearest people, the nearest first."""
        return np.argsort(self.distances(person), kind="stable")[:count]

    def refuses(self, person: Covariates) -> str | None:
        """Return why there is no answer for a person, naming covariates and no value; None where there is one."""
        outside = self.preparation.outside(person)[0]
        if outside:
            return (
                f"insufficient support: {', '.join(outside)} lies beyond everybody that was learnt from; "
                "check the unit, or use a model that has learnt from such people"
            )
        rank = min(_NEIGHBOURS, len(self.known)) - 1
        far = float(np.partition(self.distances(person), rank)[rank])
        beyond = len(self.usual) - int(np.searchsorted(self.usual, far, side="left"))
        p_value = (1 + beyond) / (len(self.usual) + 1)
        if p_value <= self.refused_share:
            return (
                f"insufficient support: no {_NEIGHBOURS} patients that were learnt from are near; only {p_value:.1%} "
                f"of them lie as far from others (limit {self.refused_share:.1%})"
            )
        return None


def fit_support(
    preparation: PeoplePreparation, people: Covariates, patients: tuple[str, ...], *, refused_share: float = 0.01
) -> Support:
    """Learn how far people lie apart.

    Args:
        preparation: Of covariates.
        people: That were learnt from.
        patients: Of each row: a patient's other rows are not its neighbours.
        refused_share: Share of people like them that is refused.

    Raises:
        DataError: Too few people for the share.
    """
    least = least_cases(1 - refused_share)
    if len(people) < least:
        raise DataError(
            f"{len(people)} people are too few to refuse {refused_share:.1%} of such people; at least {least} are "
            "needed"
        )
    known = preparation.matrix(people) * preparation.weights
    same = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    usual = np.empty(len(known))
    rank = min(_NEIGHBOURS, len(known) - 1) - 1
    for first in range(0, len(known), 256):
        part = known[first : first + 256]
        square = (part**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * part @ known.T
        square[same[first : first + 256, None] == same[None]] = np.inf
        usual[first : first + 256] = np.sqrt(np.maximum(np.partition(square, rank, axis=1)[:, rank], 0))
    if not np.isfinite(usual).all():
        raise DataError("all rows are of one patient: nobody is near anybody else")
    return Support(preparation, known, np.sort(usual), refused_share)
