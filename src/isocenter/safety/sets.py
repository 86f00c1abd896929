"""Sets of classes that hold the true one with a promised chance.

Three scores say how strange a class is for an image: LAC (one minus its probability; the smallest sets on average), APS
(the probability of all classes at least as likely; harder images get larger sets) and RAPS (APS with a penalty on long
tails). A rule is fitted on held-out cases: over all of them, for each class (the promise then holds whatever the true
class is), or for each group that is known before the answer (a device, a sex).

The promise: a further case that is exchangeable with the calibration cases (of its class, of its group) has its true
class in the set with a chance of at least the level. It is a promise over images, not over one image; it says nothing
of images of another kind.

Source:
    Sadinle, Lei, Wasserman, JASA 2019 (LAC, by class); Romano, Sesia, Candès, NeurIPS 2020 (APS); Angelopoulos et al.,
    ICLR 2021 (RAPS, and how its two numbers are tuned); Vovk, ACML 2012 (by class and by group: Mondrian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from
from isocenter.safety.quantiles import check_level, least_cases, unit_of, upper_quantile

__all__ = ["SetRule", "check_probabilities", "class_scores", "fit_sets", "tune_raps"]

Score = Literal["lac", "aps", "raps"]
_ALL = "all"
_PENALTIES = (0.0, 0.001, 0.01, 0.1, 0.2, 0.5)
_TUNED_SHARE = 0.3
_TOLERANCE = 1e-3


def check_probabilities(probabilities: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"] | None = None) -> None:
    """Refuse what are not probabilities of two classes or more, or labels that are not among them.

    Raises:
        DataError: So it is.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise DataError(f"probabilities of two classes or more are needed, got shape {probabilities.shape}")
    if not len(probabilities):
        raise DataError("there is no case")
    if not np.isfinite(probabilities).all():
        raise DataError("a probability is not finite; leave out cases without an answer")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise DataError(f"probabilities must lie in 0..1, got {probabilities.min():g} to {probabilities.max():g}")
    gap = float(np.abs(probabilities.sum(axis=1) - 1).max())
    if gap > _TOLERANCE:
        raise DataError(
            f"probabilities of one case must sum to 1; one sums to 1 by {gap:.3g}; divide them by their sum"
        )
    if truth is None:
        return
    if len(truth) != len(probabilities):
        raise DataError(f"{len(truth)} labels for {len(probabilities)} cases")
    if truth.min() < 0 or truth.max() >= probabilities.shape[1]:
        raise DataError(f"a label is not among the {probabilities.shape[1]} classes")


def class_scores(
    probabilities: Float[np.ndarray, "n k"],
    score: Score,
    units: Float[np.ndarray, " n"],
    *,
    free: int = 1,
    penalty: float = 0.0,
) -> Float[np.ndarray, "n k"]:
    """Return how strange every class is for every case.

    Args:
        probabilities: Of every class.
        score: Which score.
        units: Share of a class's own probability that counts (APS and RAPS); 1 is the cautious, not randomised one.
        free: Classes without a penalty (RAPS).
        penalty: For each class beyond them (RAPS).

    Example:
        >>> class_scores(np.array([[0.7, 0.2, 0.1]]), "aps", np.ones(1)).round(3).tolist()
        [[0.7, 0.9, 1.0]]
    """
    if score == "lac":
        return np.asarray(1 - probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_p = np.take_along_axis(probabilities, order, axis=1)
    before = np.cumsum(sorted_p, axis=1) - sorted_p
    found = before + units[:, None] * sorted_p
    if score == "raps":
        found = found + penalty * np.maximum(0, np.arange(1, found.shape[1] + 1) - free)
    out: Float[np.ndarray, "n k"] = np.empty_like(found)
    np.put_along_axis(out, order, found, axis=1)
    return out


@dataclass(frozen=True)
class SetRule:
    """A fitted rule; JSON-ready with `as_card`.

    Args:
        score: "lac", "aps" or "raps".
        level: The chance promised.
        by: What the promise holds within: "all" cases, each "class", or each "group".
        limits: Largest score of a member: of "all", of each class's number, or of each group.
        cases: Calibration cases behind each limit.
        free: Classes without a penalty (RAPS).
        penalty: For each class beyond them (RAPS).
        randomised: Whether a share of a class's own probability counts, by the image's hash.

    Raises:
        ConfigError: A field is out of range.
    """

    score: Score
    level: float
    by: Literal["all", "class", "group"]
    limits: Mapping[str, float]
    cases: Mapping[str, int] = field(default_factory=dict)
    free: int = 1
    penalty: float = 0.0
    randomised: bool = False

    def __post_init__(self) -> None:
        check_level(self.level)
        if self.score not in get_args(Score) or self.by not in ("all", "class", "group") or not self.limits:
            raise ConfigError(f"not a rule for sets: score {self.score!r} by {self.by!r}, {len(self.limits)} limits")

    @property
    def calibration_cases(self) -> int:
        """All calibration cases."""
        return sum(self.cases.values())

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {**asdict(self), "limits": dict(self.limits), "cases": dict(self.cases)}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> SetRule:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        return rule_from(cls, values, "a rule for sets")

    def sets(
        self, probabilities: Float[np.ndarray, "n k"], *, groups: Sequence[str] = (), keys: Sequence[str] = ()
    ) -> Bool[np.ndarray, "n k"]:
        """Return which classes are in the set of each case.

        Args:
            probabilities: Of every class.
            groups: The group of each case, where the rule is by group.
            keys: What names each case (the sha256 of its image), where the rule is randomised.

        Raises:
            DataError: Not probabilities, a group that was not calibrated, or a key that is missing.
        """
        check_probabilities(probabilities)
        n, k = probabilities.shape
        scores = class_scores(probabilities, self.score, self._units(keys, n), free=self.free, penalty=self.penalty)
        found: Bool[np.ndarray, "n k"] = scores <= self._limits(groups, n, k)
        if self.score != "lac":  # a set without the likeliest class helps nobody, and one with it covers no less
            found[np.arange(n), probabilities.argmax(axis=1)] = True
        return found

    def _units(self, keys: Sequence[str], n: int) -> Float[np.ndarray, " n"]:
        return _units(keys, n, randomised=self.randomised)

    def _limits(self, groups: Sequence[str], n: int, k: int) -> Float[np.ndarray, "n k"]:
        if self.by == "class":
            if set(self.limits) != {str(number) for number in range(k)}:
                raise DataError(f"the rule is for {len(self.limits)} classes, the probabilities are of {k}")
            row = np.array([self.limits[str(number)] for number in range(k)])
            return np.tile(row, (n, 1))
        if self.by == "all":
            return np.full((n, k), self.limits[_ALL])
        if len(groups) != n:
            raise DataError(f"the promise is by group: {len(groups)} groups for {n} cases")
        missing = sorted(set(groups) - set(self.limits))
        if missing:
            raise DataError(f"nothing is promised for the group {missing[0]!r}: it was not among the calibration cases")
        return np.repeat(np.array([self.limits[g] for g in groups])[:, None], k, axis=1)


def _units(keys: Sequence[str], n: int, *, randomised: bool) -> Float[np.ndarray, " n"]:
    if not randomised:
        return np.ones(n)
    if len(keys) != n:
        raise DataError(f"a randomised set needs the hash of each image: {len(keys)} for {n} cases")
    return np.array([unit_of(key) for key in keys])


def fit_sets(
    probabilities: Float[np.ndarray, "n k"],
    truth: Int[np.ndarray, " n"],
    *,
    score: Score = "lac",
    level: float = 0.9,
    by_class: bool = False,
    groups: Sequence[str] = (),
    keys: Sequence[str] = (),
    randomised: bool = False,
) -> SetRule:
    """Fit a rule on held-out cases.

    Args:
        probabilities: Of every class, from a network that never saw the case.
        truth: Number of the true class.
        score: Which score; RAPS is tuned on three tenths of the cases, which then do not calibrate it.
        level: The chance asked.
        by_class: Whether the promise shall hold within each class.
        groups: The group of each case, if it shall hold within each group.
        keys: What names each case, where it is randomised or tuned (without, by its number).
        randomised: Whether a share of a class's own probability counts (APS and RAPS).

    Raises:
        ConfigError: By class and by group at once, or a randomised LAC.
        DataError: Not probabilities, labels of one class only, or a class or group with too few cases for the level.

    Example:
        >>> p = np.repeat([[0.8, 0.2], [0.4, 0.6]], 10, axis=0)
        >>> rule = fit_sets(p, np.repeat([0, 1], 10))
        >>> rule.sets(np.array([[0.7, 0.3]])).tolist()
        [[True, False]]
    """
    check_probabilities(probabilities, truth)
    if (by_class and len(groups)) or (randomised and score == "lac"):
        raise ConfigError("a promise is by class or by group, and LAC is never randomised")
    if len(np.unique(truth)) < 2:
        raise DataError("all calibration cases are of one class: a set of classes would say nothing; give others too")
    free, penalty, kept = 1, 0.0, np.ones(len(truth), dtype=bool)
    if score == "raps":
        kept = ~_tuned(keys, len(truth))
        units = _units(keys, len(truth), randomised=randomised)
        free, penalty = tune_raps(probabilities[~kept], truth[~kept], level=level, units=units[~kept])
        probabilities, truth = probabilities[kept], truth[kept]
        groups, keys = ([v for v, k in zip(some, kept, strict=True) if k] if some else () for some in (groups, keys))
    units = _units(keys, len(truth), randomised=randomised)
    scores = class_scores(probabilities, score, units, free=free, penalty=penalty)[np.arange(len(truth)), truth]
    if by_class:
        names = [str(number) for number in range(probabilities.shape[1])]
        member, by = [str(t) for t in truth.tolist()], "class"
    elif len(groups):
        if len(groups) != len(truth):
            raise DataError(f"{len(groups)} groups for {len(truth)} cases")
        names, member, by = sorted(set(groups)), list(groups), "group"
    else:
        names, member, by = [_ALL], [_ALL] * len(truth), "all"
    mine = {name: np.array([m == name for m in member]) for name in names}
    limits = {name: upper_quantile(scores[at], level, of=_named(by, name)) for name, at in mine.items()}
    cases = {name: int(at.sum()) for name, at in mine.items()}
    return SetRule(score, level, by, limits, cases, free, penalty, randomised)  # type: ignore[arg-type]


def _named(by: str, name: str) -> str:
    return "all" if by == "all" else f"{by} {name}"


def _tuned(keys: Sequence[str], n: int) -> Bool[np.ndarray, " n"]:
    """Return which cases tune RAPS: by their keys' hashes (their numbers', without), not by their order."""
    if len(keys) not in (0, n):
        raise DataError(f"{len(keys)} keys for {n} cases")
    return np.array([unit_of(f"tune {key}") < _TUNED_SHARE for key in (keys or range(n))])


def tune_raps(
    probabilities: Float[np.ndarray, "n k"],
    truth: Int[np.ndarray, " n"],
    *,
    level: float,
    units: Float[np.ndarray, " n"],
) -> tuple[int, float]:
    """Return the number of classes without a penalty, and the penalty: those of the smallest mean set.

    Args:
        probabilities: Of cases that will not calibrate the rule.
        truth: Their classes.
        level: The chance asked.
        units: As in `class_scores`.

    Raises:
        DataError: Too few cases.

    Source:
        Angelopoulos et al., ICLR 2021, appendix E.
    """
    least = 2 * least_cases(level)
    if len(truth) < least:
        raise DataError(f"{len(truth)} cases are too few to tune RAPS with; at least {least} are needed, or use LAC")
    own = probabilities[np.arange(len(truth)), truth]
    ranks = (probabilities >= own[:, None]).sum(axis=1).astype(np.float64)
    free = max(1, round(upper_quantile(ranks, level)))
    half = np.arange(len(truth)) % 2 == 0
    best = (np.inf, 0.0)
    for penalty in _PENALTIES:
        scores = class_scores(probabilities, "raps", units, free=free, penalty=penalty)
        limit = upper_quantile(scores[half, truth[half]], level)
        found = scores[~half] <= limit
        found[np.arange(len(found)), probabilities[~half].argmax(axis=1)] = True
        best = min(best, (float(found.sum(axis=1).mean()), penalty))
    return free, best[1]
