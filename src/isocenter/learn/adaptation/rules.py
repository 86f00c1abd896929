"""By which rules a task's promises are fitted on held-out cases: sets and intervals; over all, by class, by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.labelled import Target
from isocenter.data.labelled.cases import Kind
from isocenter.learn.adaptation.settings import SetsChoice
from isocenter.safety.difficulty import LEAST_CASES, choose_difficulty, chooses
from isocenter.safety.intervals import IntervalRule, fit_absolute, fit_normalised, fit_ratio
from isocenter.safety.sets import fit_sets

__all__ = ["LEAST", "LEVEL", "Estimates", "Intervals", "Wish", "check_wish", "interval_rules", "set_rules"]

LEVEL = 0.9
LEAST = 20
"""Fewer held-out cases than this promise nothing."""
_GROUPED = ("segment", "classify", "regress")


@dataclass(frozen=True)
class Wish:
    """What is asked of a task's promises.

    Args:
        sets: Rule of the sets of classes; "auto" leaves it to the number of cases.
        by: Column of groups that promises shall hold within; "" for none.
        groups: The group of each case, by the case's name; "" or nothing where it is not known.
        keys: sha256 of each case's image, by the case's name: the chance of a randomised set comes from it.
    """

    sets: SetsChoice = "auto"
    by: str = ""
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def large(self, names: Sequence[str]) -> dict[str, Bool[np.ndarray, " n"]]:
        """Return the groups with cases enough for a promise of their own, and which cases are theirs."""
        member = [self.groups.get(name, "") for name in names] if self.by else []
        counts = Counter(group for group in member if group)
        return {
            group: np.array([one == group for one in member], dtype=bool)
            for group in sorted(counts)
            if counts[group] >= LEAST
        }


def check_wish(
    kind: Kind, classes: Sequence[str], names: Sequence[str], targets: Sequence[Target], wish: Wish
) -> dict[str, int]:
    """Refuse before anything is learnt what the held-out cases can't promise.

    Args:
        kind: Of the labels.
        classes: Their names.
        names: Of the cases that will be held out.
        targets: Their labels.
        wish: What is asked.

    Returns:
        The groups that get a promise of their own, and their held-out cases.

    Raises:
        ConfigError: It is not for labels of this kind, or asks for two promises at once.
        DataError: Too few cases will be held out, of all, of a class or of every group, with the number.
    """
    if wish.sets != "auto" and kind != "classify":
        raise ConfigError(f"--sets is for one class of several; the labels of this set are of the kind {kind!r}")
    if wish.sets == "class" and wish.by:
        raise ConfigError("a promise is by class or by group: give --sets class or --promise-by, one of them")
    if wish.by and kind not in _GROUPED:
        raise ConfigError(
            f"nothing that is promised of labels of the kind {kind!r} is by group: leave --promise-by out"
        )
    asked = wish.sets != "auto" or bool(wish.by)
    if asked and len(names) < LEAST:
        raise DataError(f"a promise needs {LEAST} held-out cases, and {len(names)} will be held out; give more cases")
    if wish.sets == "class":
        counts = Counter(targets)
        rarest = min(range(len(classes)), key=lambda number: counts[number])
        if counts[rarest] < LEAST:
            raise DataError(
                f"a promise by class needs {LEAST} held-out cases of each class; {classes[rarest]!r} has "
                f"{counts[rarest]}: give more, or choose --sets lac"
            )
    large = wish.large(names)
    if wish.by and not large:
        most = max(Counter(g for g in map(wish.groups.get, names) if g).values(), default=0)
        raise DataError(
            f"a promise by {wish.by!r} needs {LEAST} held-out cases of a group, and the largest has {most}; give more "
            "cases, or leave --promise-by out"
        )
    if asked and kind == "classify":  # what the fit would refuse at the end: it counts cases, whatever is answered
        truth = np.array([t for t in targets if isinstance(t, int)])
        set_rules(np.full((len(truth), len(classes)), 1 / len(classes)), truth, names, wish)
    return {group: int(at.sum()) for group, at in large.items()}


def set_rules(
    probabilities: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"], names: Sequence[str], wish: Wish
) -> dict[str, object]:
    """Return the fields of a task's `Promise` that are of sets of classes.

    Without a wish it is LAC, within each class where each has cases enough: a rare class is then held as often as a
    common one. APS and RAPS are randomised by the image's hash: smaller sets, and the same one each time.

    Args:
        probabilities: Of every class, of held-out cases.
        truth: Number of the true class.
        names: Of the cases.
        wish: What is asked.

    Raises:
        DataError: Too few cases, or all of one class.
    """
    by_class = wish.sets == "class"
    if wish.sets == "auto":
        by_class = int(np.bincount(truth, minlength=probabilities.shape[1]).min()) >= LEAST
    score = wish.sets if wish.sets in ("aps", "raps") else "lac"
    drawn, keys = score != "lac", [wish.keys.get(name, name) for name in names]
    rule = fit_sets(probabilities, truth, score=score, level=LEVEL, by_class=by_class, keys=keys, randomised=drawn)
    found: dict[str, object] = {"sets": rule.as_card()}
    large = wish.large(names)
    if large:
        kept = np.any(list(large.values()), axis=0)
        some = [i for i, one in enumerate(kept) if one]
        grouped = fit_sets(
            probabilities[kept], truth[kept], score=score, level=LEVEL, groups=[wish.groups[names[i]] for i in some],
            keys=[keys[i] for i in some], randomised=drawn,
        )  # fmt: skip
        found["group_sets"] = grouped.as_card()
    return found


@dataclass(frozen=True, eq=False)
class Estimates:
    """Held-out estimates of one number.

    Args:
        names: Of the cases.
        patients: Whose each is.
        answers: Of networks that never saw the case; of volumes, positive.
        truth: The true numbers.
        numbers: Of each answer, what may tell how far off it is; empty where nothing does.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    answers: Float[np.ndarray, " n"]
    truth: Float[np.ndarray, " n"]
    numbers: tuple[Mapping[str, float], ...] = ()

    @property
    def shared(self) -> list[str]:
        """Names of the numbers that each answer has."""
        return sorted(set.intersection(*map(set, self.numbers))) if self.numbers else []


@dataclass(frozen=True)
class Intervals:
    """Fitted intervals, as cards.

    Args:
        interval: Of all groups together (`safety.intervals`).
        difficulty: By which its width varies (`safety.difficulty`); None for one width, or one ratio.
        groups: Of each group with cases enough.
    """

    interval: dict[str, object]
    difficulty: dict[str, object] | None
    groups: dict[str, dict[str, object]]


def interval_rules(found: Estimates, wish: Wish, *, volumes: bool = False) -> Intervals:
    """Fit intervals of a number, wide where answers are unsure if that makes them narrower on the whole.

    Where there are cases enough, a third of the patients chooses that (`safety.difficulty`) and the others calibrate.

    Args:
        found: Held-out estimates.
        wish: What is asked.
        volumes: Whether widths are in proportion to the answer, and both ends are fitted.

    Raises:
        DataError: Too few cases, or a number that is not finite.
    """
    units = found.answers if volumes else np.ones(len(found.answers))
    first, names, rule = chooses(found.patients), found.shared, None
    calibrates = np.ones(len(first), dtype=bool)
    spread = units
    if names and min(int(first.sum()), int((~first).sum())) >= LEAST_CASES:
        table = np.array([[one[name] for name in names] for one in found.numbers], dtype=np.float64)
        patients = [patient for patient, one in zip(found.patients, first, strict=True) if one]
        rule = choose_difficulty(
            (found.truth - found.answers)[first], units[first], table[first], names, patients, level=LEVEL,
            sided=volumes,
        )  # fmt: skip
        calibrates = ~first
        spread = units if rule is None else units * rule.of_table(table)

    def fitted(at: Bool[np.ndarray, " n"]) -> IntervalRule:
        answers, truth = found.answers[at], found.truth[at]
        if rule is not None:
            return fit_normalised(answers, truth, spread[at], level=LEVEL, sided=volumes)
        return (fit_ratio if volumes else fit_absolute)(answers, truth, level=LEVEL)

    large = wish.large([name for name, one in zip(found.names, calibrates, strict=True) if one])
    where = np.flatnonzero(calibrates)
    groups = {}
    for group, member in large.items():
        at = np.zeros(len(calibrates), dtype=bool)
        at[where[member]] = True
        groups[group] = fitted(at).as_card()
    return Intervals(fitted(calibrates).as_card(), None if rule is None else rule.as_card(), groups)
