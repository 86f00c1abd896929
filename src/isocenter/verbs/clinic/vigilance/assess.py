"""How a rule and task does now, beside its reference: evidence of change, rates beside their limits, one window beside.

Nothing is kept between two looks: the same record gives the same assessment. Alarms rest on e-processes
(`evaluate.sequential`), so that looking every minute costs nothing; the window's p values describe, corrected for how
many features are looked at (Benjamini and Hochberg), and end an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from isocenter.clinic.vigilance import Episode, Observation, Said
from isocenter.evaluate.sequential import (
    conformal_of_numbers,
    conformal_of_words,
    exchangeability,
    rate_beyond,
    window_p,
)
from isocenter.evaluate.statistics import benjamini_hochberg, share_by_patient
from isocenter.verbs.clinic.config_vigilance import VigilanceConfig
from isocenter.verbs.clinic.vigilance.streams import Feature, Study, features_of, studies_of, tie_of, value_of

__all__ = ["Assessment", "FeatureState", "RateState", "Stream", "assess"]

RATES: Final = ("failed", "abstained", "overridden", "uncovered")
_DAY_S: Final = 86_400.0
_MOST_POINTS: Final = 240
_LIKE_AGAIN: Final = 0.05
_LEAST_ANSWERS: Final = 30
"""With fewer answers of the present model its outputs are not watched: it is not known by them."""


@dataclass(frozen=True)
class Stream:
    """What is assessed.

    Args:
        rule: Of the rule.
        arm: "live" or "candidate".
        task: Name.
        rows: Observations, in order.
        said: What readers said, by study.
        reference: Rows of a reference file; None takes the first studies of the stream.
        episodes: Alarms so far.
    """

    rule: str
    arm: str
    task: str
    rows: Sequence[Observation]
    said: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    reference: Sequence[Observation] | None = None
    episodes: Sequence[Episode] = ()


@dataclass(frozen=True)
class FeatureState:
    """A feature now.

    Args:
        name: Of the feature.
        kind: "numbers" or "words".
        output: Whether it comes out of the model.
        evidence: Log10 of the capital now.
        peak: Largest since the process began.
        limit: Log10 of the capital at which there is an alarm.
        since: Number of the observation at which the limit was reached; None where it was not.
        window_p: Of one look at the window.
        window_q: The same, corrected for the number of features.
        before: The reference in words.
        now: The window in words.
        trace: Evidence over time, thinned.
        points: The values over time, thinned; of words the index of the word.
        reference_values: Of numbers, sorted quantiles of the reference; of words their shares.
        window_values: The same of the window.
        count: Values since the process began.
        is_like_again: Whether the window is like the reference.
    """

    name: str
    kind: Literal["numbers", "words"]
    output: bool
    evidence: float
    peak: float
    limit: float
    since: int | None
    window_p: float
    window_q: float
    before: str
    now: str
    trace: tuple[float, ...]
    points: tuple[float, ...]
    reference_values: tuple[float, ...] | dict[str, float]
    window_values: tuple[float, ...] | dict[str, float]
    count: int
    is_like_again: bool


@dataclass(frozen=True)
class RateState:
    """A rate beside its limit.

    Args:
        name: "failed", "abstained", "overridden" or "uncovered".
        limit: That is allowed; None for none.
        happened: In the window.
        cases: In the window.
        low: Lower end of the 95 % interval of the window's rate.
        high: Upper end.
        total: Rate over all.
        total_cases: Cases over all.
        evidence: Log10 of the capital that it is beyond the limit.
        peak: Largest since the process began.
        alarm_at: Log10 of the capital at which there is an alarm.
        since: Number of the observation at which the limit was reached; None where it was not.
        trace: Evidence over time, thinned.
        is_like_again: Whether the window's rate is within the limit.
    """

    name: str
    limit: float | None
    happened: int
    cases: int
    low: float
    high: float
    total: float
    total_cases: int
    evidence: float
    peak: float
    alarm_at: float
    since: int | None
    trace: tuple[float, ...]
    is_like_again: bool


@dataclass(frozen=True)
class Assessment:
    """A rule and task.

    Args:
        rule: Of the rule.
        arm: "live" or "candidate".
        task: Name.
        weights: Of the model that answers now.
        model: Its name and version.
        reference: Studies of the reference that are there.
        wanted: Studies that the reference is to have; 0 where it is a file.
        studies: Studies after the reference.
        ungated: Share of answers to images that no gate looked at.
        seconds: Median time of an answer in the window; NaN for none.
        features: What is watched; empty until the reference is whole.
        rates: Beside their limits.
        latest: Number of the latest observation.
    """

    rule: str
    arm: str
    task: str
    weights: str
    model: str
    reference: int
    wanted: int
    studies: int
    ungated: float
    seconds: float
    features: tuple[FeatureState, ...]
    rates: tuple[RateState, ...]
    latest: int

    @property
    def ready(self) -> bool:
        """Whether the reference is whole."""
        return self.wanted == 0 or self.reference >= self.wanted


def assess(stream: Stream, settings: VigilanceConfig) -> Assessment:
    """Assess a rule and task.

    Args:
        stream: What was observed.
        settings: Of the node.
    """
    studies = studies_of(stream.rows, stream.said)
    weights, model = _present(studies)
    fixed = None if stream.reference is None else studies_of(stream.reference, {})
    usable = [s for s in studies if s.row.state != "failed" and s.row.reason not in ("misfit", "prompt", "missing")]
    wanted = 0 if fixed is not None else settings.reference_studies
    reference = fixed if fixed is not None else usable[:wanted]
    after = usable if fixed is not None else usable[wanted:]
    features: list[FeatureState] = []
    if fixed is not None or len(reference) >= wanted:
        features = _features(stream, settings, (reference, after, usable), weights)
    answered = [s.row for s in studies if s.row.state == "answered"]
    window = answered[-settings.window :]
    return Assessment(
        stream.rule, stream.arm, stream.task, weights, model, len(reference), wanted, len(after),
        sum(not r.gated for r in answered) / len(answered) if answered else 0.0,
        float(np.median([r.seconds for r in window])) if window else math.nan,
        tuple(features), tuple(_rates(stream, settings, studies)), studies[-1].row.number if studies else 0,
    )  # fmt: skip


def _present(studies: Sequence[Study]) -> tuple[str, str]:
    for study in reversed(studies):
        if study.row.state == "answered":
            return study.row.weights, study.row.model
    return "", ""


def _features(
    stream: Stream, settings: VigilanceConfig, parts: tuple[list[Study], list[Study], list[Study]], weights: str
) -> list[FeatureState]:
    reference, after, usable = parts
    # Of what a model puts out, the reference is the first studies of the present weights.
    same = [s for s in usable if s.row.state == "answered" and s.row.weights == weights]
    own = [s for s in reference if s.row.state == "answered" and s.row.weights == weights]
    if stream.reference is None and len(own) < settings.reference_studies // 2:
        own, same_after = same[: settings.reference_studies], same[settings.reference_studies :]
    elif stream.reference is not None:
        same_after = same
    else:
        last = max(s.row.number for s in own)
        same_after = [s for s in same if s.row.number > last]
    watched = [f for f in features_of(reference) if not f.output]
    if len(own) >= _LEAST_ANSWERS:
        watched += [f for f in features_of(own) if f.output]
    limit = math.log(2 * len(watched) / settings.alpha)  # half of alpha is for features, half for rates
    found = [
        _feature(f, (own, same_after) if f.output else (reference, after), stream, settings, limit) for f in watched
    ]
    if not found:
        return []
    corrected = benjamini_hochberg([f.window_p for f in found])
    return [
        FeatureState(**{**vars(f), "window_q": float(q), "is_like_again": bool(q > _LIKE_AGAIN)})
        for f, q in zip(found, corrected, strict=True)
    ]


def _feature(
    feature: Feature, parts: tuple[list[Study], list[Study]], stream: Stream, settings: VigilanceConfig, limit: float
) -> FeatureState:
    reference, after = parts
    raw = [v for s in reference if (v := value_of(s, feature)) is not None]
    known = frozenset(str(v) for v in raw) | {"other"} if feature.kind == "words" else frozenset()
    pairs = [(s, v) for s in after if (v := value_of(s, feature, known)) is not None]
    begin, calm = _begin(stream, feature.name, [s for s, _ in pairs], settings)
    # What an alarm spoke of is no part of what further values are compared with.
    pool = [*raw, *(v for s, v in pairs if s.row.number < begin and calm(s))]
    live = [(s, v) for s, v in pairs if s.row.number >= begin]
    ties = [tie_of(s, feature) for s, _ in live]
    if feature.kind == "numbers":
        ranks = conformal_of_numbers([float(v) for v in pool], [float(v) for _, v in live], ties)
    else:
        ranks = conformal_of_words([str(v) for v in pool], [str(v) for _, v in live], ties)
    path = exchangeability(ranks)
    beyond = np.nonzero(path >= limit)[0]
    window = [v for _, v in pairs[-settings.window :]]
    before, now = _shown(feature, raw), _shown(feature, window)
    return FeatureState(
        feature.name, "numbers" if feature.kind == "numbers" else "words", feature.output,
        float(path[-1] / math.log(10)) if len(path) else 0.0, float(path.max() / math.log(10)) if len(path) else 0.0,
        limit / math.log(10), live[int(beyond[0])][0].row.number if len(beyond) else None,
        _look(feature, raw, window), 1.0, before[0], now[0], _thin(path / math.log(10)),
        _thin(np.array([_height(v, known) for _, v in pairs])), before[1], now[1], len(live), True,
    )  # fmt: skip


def _look(feature: Feature, raw: Sequence[float | str], window: Sequence[float | str]) -> float:
    if feature.kind == "numbers":
        return window_p([float(v) for v in raw], [float(v) for v in window])
    return window_p([str(v) for v in raw], [str(v) for v in window])


class _Calm:
    """Tells whether a study lies outside every alarm of a feature."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._spans = spans

    def __call__(self, study: Study) -> bool:
        return not any(a <= study.row.number <= b for a, b in self._spans)


def _begin(stream: Stream, feature: str, studies: Sequence[Study], settings: VigilanceConfig) -> tuple[int, _Calm]:
    """Return the observation at which the present process begins: of this period, and after the last alarm."""
    mine = [e for e in stream.episodes if e.feature == feature]
    spans = [(e.opened, e.closed) for e in mine if e.closed is not None]
    begin = max([b + 1 for _, b in spans], default=0)
    if studies:
        period = settings.period_days * _DAY_S
        first, last = studies[0].row.at, studies[-1].row.at
        start = first + math.floor(max(0.0, last - first) / period) * period
        begin = max(begin, next((s.row.number for s in studies if s.row.at >= start), 0))
    return begin, _Calm(spans)


def _rates(stream: Stream, settings: VigilanceConfig, studies: Sequence[Study]) -> list[RateState]:
    fit = [s for s in studies if s.row.reason not in ("misfit", "prompt", "missing", "study")]
    told = [s for s in studies if s.said]
    covered = [s for s in told if any(x.covered is not None for x in s.said)]
    cases: dict[str, list[tuple[Study, bool]]] = {
        "failed": [(s, s.row.state == "failed") for s in fit],
        "abstained": [(s, s.row.state == "abstained") for s in fit if s.row.state != "failed"],
        "overridden": [(s, any(x.kind == "override" for x in s.said)) for s in told],
        "uncovered": [(s, any(x.covered is False for x in s.said)) for s in covered],
    }
    limits = {name: getattr(settings, name) for name in RATES}
    asked = sum(limit is not None for limit in limits.values())
    return [_rate(name, limits[name], cases[name], stream, settings, asked) for name in RATES]


def _rate(
    name: str, limit: float | None, cases: Sequence[tuple[Study, bool]], stream: Stream, settings: VigilanceConfig,
    asked: int,
) -> RateState:  # fmt: skip
    begin, _ = _begin(stream, f"rate {name}", [s for s, _ in cases], settings)
    live = [(s, y) for s, y in cases if s.row.number >= begin]
    path = rate_beyond([y for _, y in live], limit) if limit is not None else np.zeros(0)
    alarm_at = math.log(2 * max(asked, 1) / settings.alpha)
    beyond = np.nonzero(path >= alarm_at)[0]
    window = [y for _, y in cases[-settings.window :]]
    share = share_by_patient(window, [str(n) for n in range(len(window))]) if window else None
    return RateState(
        name, limit, sum(window), len(window), share.low if share else math.nan, share.high if share else math.nan,
        sum(y for _, y in cases) / len(cases) if cases else math.nan, len(cases),
        float(path[-1] / math.log(10)) if len(path) else 0.0, float(path.max() / math.log(10)) if len(path) else 0.0,
        alarm_at / math.log(10), live[int(beyond[0])][0].row.number if len(beyond) else None,
        _thin(path / math.log(10)), limit is None or not window or sum(window) / len(window) <= limit,
    )  # fmt: skip


def _shown(feature: Feature, values: Sequence[float | str]) -> tuple[str, tuple[float, ...] | dict[str, float]]:
    """Return values in words, and as what a plot needs."""
    if not values:
        return "nothing yet", () if feature.kind == "numbers" else {}
    if feature.kind == "numbers":
        found = np.percentile(np.array([float(v) for v in values]), (5, 25, 50, 75, 95))
        return f"{found[2]:.3g} ({found[0]:.3g} to {found[4]:.3g})", tuple(float(v) for v in found)
    words = sorted({str(v) for v in values}, key=lambda w: (-list(values).count(w), w))
    shares = {word: list(values).count(word) / len(values) for word in words}
    return ", ".join(f"{word} {share:.0%}" for word, share in list(shares.items())[:3]), shares


def _height(value: float | str, known: frozenset[str]) -> float:
    return float(value) if not isinstance(value, str) else float(sorted(known).index(value))


def _thin(values: np.ndarray) -> tuple[float, ...]:
    step = max(1, math.ceil(len(values) / _MOST_POINTS))
    return tuple(float(v) for v in values[len(values) % step if len(values) > step else 0 :: step])
