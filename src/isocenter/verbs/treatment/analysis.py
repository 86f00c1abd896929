"""The analysis of one outcome: average, refutations, bound, calibration of differences, and policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import Interval
from isocenter.evaluate.calibration import expected_calibration_error, reliability
from isocenter.evaluate.separation import area_under_roc
from isocenter.evaluate.treatment import (
    OptionScores,
    average_effect,
    best_linear_predictor,
    doubly_robust_scores,
    e_value,
    effective_sample_size,
    group_effects,
    inverse_weights,
    policy_value,
    risk_ratio_of_difference,
    robustness_value,
    standardised_differences,
)
from isocenter.tasks.treat import Cases, Nuisance, Wording, cross_fit, cross_fitted_effects, refute
from isocenter.verbs.treatment.document import (
    AmountEntry,
    BalanceEntry,
    CalibrationBlock,
    GroupEntry,
    OutcomeBlock,
    OverlapBlock,
    PolicyBlock,
    RefutationEntry,
)

__all__ = ["AS_PREDICTED", "Plan", "amount_entry", "analyse", "balance_of", "overlap_of"]

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_GROUPS, _BINS = 5, 10
_SURE = 0.05
AS_PREDICTED = "people differ about as predicted"


@dataclass(frozen=True)
class Plan:
    """How outcomes are analysed.

    Args:
        randomised: Whether a coin decided.
        method: Learner of differences between people.
        level: Coverage asked of intervals.
        folds: Of cross-fitting.
        tries: Of each refutation.
        seed: Decides everything random.
    """

    randomised: bool
    method: str
    level: float
    folds: int
    tries: int
    seed: int


def amount_entry(interval: Interval) -> AmountEntry:
    """Return an interval as the document writes it."""
    return AmountEntry(value=interval.value, low=interval.low, high=interval.high, level=interval.level)


def overlap_of(nuisance: Nuisance, treated: Bool[np.ndarray, " n"]) -> OverlapBlock:
    """Return whether both options were given to people alike."""
    weights = inverse_weights(nuisance.propensity, treated)
    bins = reliability(nuisance.predicted, treated, bins=_BINS)
    return OverlapBlock(
        learner=nuisance.propensity_learner,
        quantiles=tuple(float(q) for q in np.quantile(nuisance.propensity, _QUANTILES)),
        discrimination=float(area_under_roc(treated, nuisance.predicted)),
        calibration_error=float(expected_calibration_error(treated, nuisance.predicted, bins=_BINS)),
        bins=tuple(
            (float(p), float(o), int(c))
            for p, o, c in zip(bins.predicted, bins.observed, bins.counts, strict=True)
            if c
        ),
        effective_untreated=effective_sample_size(weights[~treated]),
        effective_treated=effective_sample_size(weights[treated]),
    )


def balance_of(
    features: Float[np.ndarray, "n p"], names: tuple[str, ...], nuisance: Nuisance, treated: Bool[np.ndarray, " n"]
) -> tuple[BalanceEntry, ...]:
    """Return the standardised difference of each feature before and after weighting, largest before first.

    Weights are of the propensity that features tell, also in a trial: there they take out what chance left.
    """
    weights = inverse_weights(np.clip(nuisance.predicted, 0.01, 0.99), treated)
    before = standardised_differences(features, treated)
    after = standardised_differences(features, treated, weights)
    order = np.argsort(-np.abs(before), kind="stable")
    return tuple(BalanceEntry(feature=names[i], before=float(before[i]), after=float(after[i])) for i in order)


def analyse(
    cases: Cases,
    wording: Wording,
    plan: Plan,
    name: str,
    *,
    tell: Callable[[float], None],
    nuisance: Nuisance | None = None,
) -> tuple[OutcomeBlock, Float[np.ndarray, " n"]]:
    """Analyse one outcome on people that something can be said of.

    Args:
        cases: People.
        wording: How the outcome is told.
        plan: How it is analysed.
        name: Of its column.
        tell: Told the share that is done.
        nuisance: Of the outcome that the treatment is for: differences between people and policies are looked at too.
            None for a harm.

    Returns:
        What was found, and the differences of people on held-out folds (empty for harms).

    Raises:
        DataError: Too few people.
    """
    main = nuisance is not None
    if nuisance is None:
        nuisance = cross_fit(cases, randomised=plan.randomised, folds=plan.folds, seed=plan.seed)
    scores = doubly_robust_scores(cases.outcome, cases.treated, nuisance.propensity, nuisance.expected)
    average = average_effect(scores, level=plan.level)
    tell(0.1)
    refutations = refute(
        cases, nuisance, randomised=plan.randomised, tries=plan.tries, folds=plan.folds, seed=plan.seed
    )
    tell(0.4)
    everyone = np.ones(len(cases.treated), dtype=bool)
    means = policy_value(scores, ~everyone, level=plan.level), policy_value(scores, everyone, level=plan.level)
    calibration, policy, predicted = None, None, np.zeros(0)
    if main:
        predicted = cross_fitted_effects(
            cases, plan.method, folds=plan.folds, seed=plan.seed, progress=lambda done: tell(0.4 + 0.6 * done)
        )
        calibration = _calibration(scores, predicted, plan, wording)
        policy = _policy(scores, -predicted if wording.bad else predicted, plan)
    bound = _bound(cases, means, average, wording)
    block = OutcomeBlock(
        name=name, words=wording.outcome, unit=wording.unit, chance=wording.chance, bad=wording.bad,
        average=amount_entry(average), untreated=amount_entry(means[0]), treated=amount_entry(means[1]),
        learner=nuisance.outcome_learner,
        refutations=tuple(
            RefutationEntry(name=r.name, estimate=r.estimate, low=r.low, high=r.high, passed=r.passed, words=r.words)
            for r in refutations
        ),
        e_value=bound[0], e_value_interval=bound[1], robustness=bound[2], bound=bound[3],
        calibration=calibration, policy=policy,
    )  # fmt: skip
    return block, predicted


def _calibration(
    scores: OptionScores, predicted: Float[np.ndarray, " n"], plan: Plan, wording: Wording
) -> CalibrationBlock:
    groups = tuple(
        GroupEntry(predicted=g.predicted, found=amount_entry(g.found))
        for g in group_effects(scores, predicted, groups=_GROUPS, level=plan.level)
    )
    if float(np.ptp(predicted)) == 0:
        return CalibrationBlock(
            slope=None, p_no_heterogeneity=None, groups=groups, told="the learner sees no differences between people"
        )
    line = best_linear_predictor(scores, predicted, level=plan.level)
    p = line.p_no_heterogeneity
    if p > _SURE:
        told = (
            f"that {wording.claim}s differ between people is not shown (p {p:.2f}): what is told of single people may "
            "be no better than the average"
        )
    elif line.slope.low > 1:
        told = "people differ more than predicted"
    elif line.slope.high < 1:
        told = "people differ, but less than predicted: what is told of single people is too far from the average"
    else:
        told = AS_PREDICTED
    return CalibrationBlock(slope=amount_entry(line.slope), p_no_heterogeneity=p, groups=groups, told=told)


def _policy(scores: OptionScores, benefit: Float[np.ndarray, " n"], plan: Plan) -> PolicyBlock:
    chosen, predicted = benefit > 0, benefit
    everyone, level = np.ones(len(predicted), dtype=bool), plan.level
    return PolicyBlock(
        value=amount_entry(policy_value(scores, chosen, level=level)),
        treat_all=amount_entry(policy_value(scores, everyone, level=level)),
        treat_none=amount_entry(policy_value(scores, ~everyone, level=level)),
        over_all=amount_entry(policy_value(scores, chosen, against=everyone, level=level)),
        over_none=amount_entry(policy_value(scores, chosen, against=~everyone, level=level)),
        share_treated=float(chosen.mean()),
    )


def _bound(
    cases: Cases, means: tuple[Interval, Interval], average: Interval, wording: Wording
) -> tuple[float, float, float, str]:
    """Return both E-values, the robustness value, and words."""
    deviation = float(cases.outcome.std(ddof=1))
    if not deviation > 0:
        raise DataError("the outcome is the same for everyone")

    def ratio(difference: float) -> float:
        # Of a chance, its own ratio where both means are inside of 0..1; else the deviation's scale.
        base = means[0].value
        if wording.chance and 0 < base < 1 and 0 < base + difference < 1:
            return (base + difference) / base
        return risk_ratio_of_difference(difference, deviation)

    nearest = 0.0 if average.low <= 0 <= average.high else average.low if average.low > 0 else average.high
    whole, end = e_value(ratio(average.value)), e_value(ratio(nearest))
    half = (average.high - average.low) / 2
    z = abs(average.value) / half * _z(average.level) if half > 0 else 0.0
    robust = robustness_value(z, max(len(cases.treated) - cases.reduced()[0].features.shape[1] - 2, 1))
    told = (
        f"something that was not measured would have to go with treatment and with outcome by a risk ratio of "
        f"{whole:.2f} each ({end:.2f} to reach the interval), or explain {100 * robust:.0f} % of what is left of both, "
        "to explain the average away"
    )
    return whole, end, robust, told


def _z(level: float) -> float:
    return float(ndtri((1 + level) / 2))
