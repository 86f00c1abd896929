"""What changed between two dates: volumes, sums of diameters, and the response category of RECIST 1.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isocenter.core.errors import DataError

__all__ = ["Category", "Lesion", "Response", "VolumeChange", "response_category", "sum_of_diameters", "volume_change"]

Category = Literal["CR", "PR", "SD", "PD", "NE"]
NonTarget = Literal["none", "CR", "non-CR/non-PD", "PD", "NE"]

_LEAST_MM = 10.0
_LEAST_NODE_MM = 15.0
_NORMAL_NODE_MM = 10.0
_PARTIAL, _PROGRESS, _PROGRESS_MM = 0.30, 0.20, 5.0
_MOST_TARGETS = 5
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Lesion:
    """A target lesion at one date.

    Args:
        name: The same at both dates.
        longest_mm: Longest diameter in an axial plane; 0 where it has disappeared.
        short_mm: Short axis at a right angle to it.
        nodal: Whether it is a lymph node, whose short axis counts.

    Raises:
        DataError: A diameter is not a number of 0 or more, or the short axis is the longer one.
    """

    name: str
    longest_mm: float
    short_mm: float
    nodal: bool = False

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) and v >= 0 for v in (self.longest_mm, self.short_mm)):
            raise DataError("a lesion's diameters must be numbers of 0 or more, in mm")
        if self.short_mm > self.longest_mm + 1e-6:
            raise DataError("a lesion's short axis can't be longer than its longest diameter")

    @property
    def counts_mm(self) -> float:
        """What the lesion adds to the sum: the short axis of a node, else the longest diameter."""
        return self.short_mm if self.nodal else self.longest_mm


@dataclass(frozen=True)
class Response:
    """A response and how it came about.

    Args:
        category: Overall: CR, PR, SD, PD, or NE (not evaluable).
        target: Of the target lesions alone.
        baseline_mm: Sum of diameters at baseline.
        current_mm: Sum now.
        nadir_mm: Smallest sum so far, the baseline among them.
        from_baseline: Change against the baseline, as a share of it.
        from_nadir: Change against the nadir, as a share; None where the nadir is 0.
        reasons: Which rule decided, in sentences.
        notes: What a reader must know, e.g. lesions too small to be targets.
    """

    category: Category
    target: Category
    baseline_mm: float
    current_mm: float
    nadir_mm: float
    from_baseline: float
    from_nadir: float | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeChange:
    """How a volume changed.

    Args:
        difference_ml: Later less earlier.
        share: Difference as a share of the earlier; minus an ejection fraction, where that is what is measured.
        doubling_days: Time in which it would double at this pace; negative where it halves; None without days or
            change, or where either is 0.
    """

    difference_ml: float
    share: float
    doubling_days: float | None


def sum_of_diameters(lesions: Sequence[Lesion]) -> float:
    """Return the sum of diameters in mm: longest ones, and short axes of nodes.

    Example:
        >>> sum_of_diameters([Lesion("liver", 30.0, 20.0), Lesion("node", 25.0, 16.0, nodal=True)])
        46.0
    """
    return float(sum(lesion.counts_mm for lesion in lesions))


def response_category(
    baseline: Sequence[Lesion],
    current: Sequence[Lesion],
    *,
    nadir_mm: float | None = None,
    new_lesions: bool = False,
    non_target: NonTarget = "none",
) -> Response:
    """Return the response category between two dates.

    Args:
        baseline: Target lesions before treatment, at least one.
        current: The same lesions now; one that has disappeared has diameters of 0. One that is missing makes the
            targets not evaluable.
        nadir_mm: Smallest sum of diameters at any date so far; None for the baseline's.
        new_lesions: Whether a lesion has appeared. Not every bright spot is one: RECIST asks for it to be unequivocal.
        non_target: What became of lesions that are not measured.

    Raises:
        DataError: There is no target, names repeat, a node became another lesion, a lesion is new in `current`, the
            baseline sums to 0, or the nadir is negative or above the baseline.

    Source:
        RECIST 1.1 (Eisenhauer 2009), sections 3 and 4, table 1.

    Example:
        >>> before, after = [Lesion("liver", 30.0, 20.0)], [Lesion("liver", 20.0, 15.0)]
        >>> response_category(before, after).category
        'PR'
    """
    paired = _paired(baseline, current)
    before = sum_of_diameters(baseline)
    if before <= 0:
        raise DataError("the target lesions have no size at baseline, so that no change can be a share of it")
    lowest = before if nadir_mm is None else nadir_mm
    if not 0 <= lowest <= before + 1e-6:
        raise DataError("the nadir must be 0 or more and not above the baseline, which is one of the sums so far")
    now = sum_of_diameters(current)
    if len(paired) < len(baseline):
        target: Category = "NE"
        reason = "a target lesion of the baseline was not measured now"
    else:
        target, reason = _target_response(current, before, now, lowest)
    overall, why = _overall(target, new_lesions, non_target)
    return Response(
        overall,
        target,
        before,
        now,
        min(lowest, before),
        (now - before) / before,
        (now - lowest) / lowest if lowest > 0 else None,
        tuple(filter(None, (reason, why))),
        _notes(baseline),
    )


def _paired(baseline: Sequence[Lesion], current: Sequence[Lesion]) -> dict[str, Lesion]:
    if not baseline:
        raise DataError("there is no target lesion at baseline")
    before = {lesion.name: lesion for lesion in baseline}
    after = {lesion.name: lesion for lesion in current}
    if len(before) != len(baseline) or len(after) != len(current):
        raise DataError("two target lesions have the same name")
    unknown = sorted(set(after) - set(before))
    if unknown:
        raise DataError(f"{len(unknown)} lesions now are no targets of the baseline; say that there are new lesions")
    if any(before[name].nodal != lesion.nodal for name, lesion in after.items()):
        raise DataError("a lesion is a lymph node at one date and none at the other")
    return after


def _target_response(current: Sequence[Lesion], before: float, now: float, lowest: float) -> tuple[Category, str]:
    gone = all(lesion.short_mm < _NORMAL_NODE_MM if lesion.nodal else lesion.longest_mm == 0 for lesion in current)
    if gone:
        return "CR", "all target lesions have disappeared, nodes are below 10 mm in short axis"
    grown = now - lowest
    if grown >= _PROGRESS * lowest - _ROUNDING and grown >= _PROGRESS_MM - _ROUNDING:
        return "PD", "the sum is at least 20 % and 5 mm above the smallest so far"
    if now <= (1 - _PARTIAL) * before + _ROUNDING:
        return "PR", "the sum is at least 30 % below the baseline"
    return "SD", "the sum changed neither enough for a partial response nor enough for progression"


def _overall(target: Category, new_lesions: bool, non_target: NonTarget) -> tuple[Category, str]:
    if new_lesions:
        return "PD", "there are new lesions"
    if non_target == "PD":
        return "PD", "lesions that are not measured have progressed"
    if target == "PD":
        return "PD", ""
    if target == "CR" and non_target in ("non-CR/non-PD", "NE"):
        return "PR", "lesions that are not measured have not disappeared, or were not evaluated"
    return target, ""


def _notes(baseline: Sequence[Lesion]) -> tuple[str, ...]:
    small = [
        lesion.name
        for lesion in baseline
        if (lesion.short_mm < _LEAST_NODE_MM if lesion.nodal else lesion.longest_mm < _LEAST_MM)
    ]
    notes = []
    if small:
        notes.append(
            f"{len(small)} of {len(baseline)} lesions are too small at baseline to be targets (10 mm; nodes 15 mm in "
            "short axis)"
        )
    if len(baseline) > _MOST_TARGETS:
        notes.append(f"{len(baseline)} targets; RECIST 1.1 takes at most 5, and 2 of one organ")
    return tuple(notes)


def volume_change(earlier_ml: float, later_ml: float, *, days: float | None = None) -> VolumeChange:
    """Return how a volume changed between two dates, or between two phases of the heart.

    Args:
        earlier_ml: Volume then, above 0.
        later_ml: Volume later.
        days: Days between.

    Raises:
        DataError: A volume is not a number of 0 or more, the earlier one is 0, or the days are not above 0.

    Example:
        >>> volume_change(10.0, 20.0, days=100.0).doubling_days
        100.0
    """
    if not (math.isfinite(earlier_ml) and math.isfinite(later_ml) and later_ml >= 0):
        raise DataError("volumes must be numbers of 0 or more, in mL")
    if earlier_ml <= 0:
        raise DataError("a change can't be a share of an earlier volume of 0")
    if days is not None and not (math.isfinite(days) and days > 0):
        raise DataError("the days between two dates must be above 0; the later date comes second")
    pace = None
    if days is not None and later_ml > 0 and later_ml != earlier_ml:
        pace = days * math.log(2) / math.log(later_ml / earlier_ml)
    return VolumeChange(later_ml - earlier_ml, (later_ml - earlier_ml) / earlier_ml, pace)
