"""People who got one of two options, what was known of them before, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import DataError
from isocenter.tasks.treat.reduce import Blocks, Reduction, fit_reduction

__all__ = ["LEAST_PER_OPTION", "Cases", "Lived", "check_cases", "subset"]

LEAST_PER_OPTION = 30
"""With fewer people under an option nothing about differences between people can be learnt."""


@dataclass(frozen=True, eq=False)
class Lived:
    """Times until an event.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        horizon_days: Up to which the outcome is meant.
        scale: "survival" where the outcome is being without the event at the horizon, "days" where it is the days up
            to there.
    """

    days: Float[np.ndarray, " n"]
    happened: Bool[np.ndarray, " n"]
    horizon_days: float
    scale: str


@dataclass(frozen=True, eq=False)
class Cases:
    """One row per person: rows of one person would stand on both sides of a fold.

    Args:
        features: Known before treatment, finite.
        treated: Who got the treatment; the others got the comparator.
        outcome: A number; pseudo-values where there are times.
        binary: Whether the outcome is yes or no (1 or 0).
        lived: Times behind the outcome; None where there are none.
        blocks: Columns of features that belong together; who learns reduces those of many.
    """

    features: Float[np.ndarray, "n p"]
    treated: Bool[np.ndarray, " n"]
    outcome: Float[np.ndarray, " n"]
    binary: bool = False
    lived: Lived | None = None
    blocks: Blocks = ()

    @property
    def chance(self) -> bool:
        """Whether an expected outcome is a chance, 0 to 1."""
        return self.binary or (self.lived is not None and self.lived.scale == "survival")

    def reduced(self) -> tuple[Cases, Reduction]:
        """Return these people with blocks of many columns as components, learnt from them, and how."""
        reduction = fit_reduction(self.features, self.blocks)
        if not reduction.parts:
            return self, reduction
        return replace(self, features=reduction(self.features), blocks=()), reduction


def check_cases(cases: Cases) -> None:
    """Refuse people from whom nothing can be learnt.

    Raises:
        DataError: Everyone got the same option, fewer than 30 people got one, an outcome has no spread under any
            option, no event happened, or a time is negative.
    """
    count = len(cases.treated)
    if not len(cases.features) == len(cases.outcome) == count:
        raise DataError("features, treatment and outcome differ in length")
    if not (np.isfinite(cases.features).all() and np.isfinite(cases.outcome).all()):
        raise DataError("a feature or an outcome is not a finite number")
    given = int(cases.treated.sum())
    if given in (0, count):
        raise DataError("everyone got the same option: what the other would have done can't be learnt")
    if min(given, count - given) < LEAST_PER_OPTION:
        raise DataError(
            f"only {min(given, count - given)} people got one of the options; at least {LEAST_PER_OPTION} are needed"
        )
    lived = cases.lived
    if lived is not None:
        if lived.days.min() < 0:
            raise DataError("a time lies before the start; days are counted from the index time")
        for name, group in (("treatment", cases.treated), ("comparator", ~cases.treated)):
            if not lived.happened[group].any():
                raise DataError(f"no events under the {name}: nothing can be learnt of when they happen")
    elif cases.outcome.std() == 0:
        raise DataError("the outcome is the same for everyone")


def subset(cases: Cases, keep: Bool[np.ndarray, " n"] | Int[np.ndarray, " m"]) -> Cases:
    """Return some of the people, by a mask or by numbers (some perhaps more than once)."""
    lived = cases.lived
    if lived is not None:
        lived = Lived(lived.days[keep], lived.happened[keep], lived.horizon_days, lived.scale)
    return Cases(cases.features[keep], cases.treated[keep], cases.outcome[keep], cases.binary, lived, cases.blocks)
