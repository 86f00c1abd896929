"""Treatment and outcome of a synthetic patient: both outcomes, the one that is seen, and the truth of the effect.

Without treatment the time until death is Weibull, its hazard growing with severity. Treatment multiplies the hazard by
a ratio of the patient's own: it helps those whose lesion takes much up, and helps the old and those with necrotic
lesions less, or harms them. The luck of a patient is the same under both options.

Source:
    Rubin, Journal of Educational Psychology 1974 (two outcomes of one person); Bender et al., Statistics in Medicine
    2005 (survival times from hazards).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, gamma, gammainc

from isocenter.synth.patients.cause import Cause, PatientSettings, Stream, stream

__all__ = ["Fate", "draw_fate", "log_hazard_ratio", "mean_days", "propensity"]

_SHAPE, _SCALE_DAYS = 1.2, 1150.0
_CLOSED_DAYS, _RECRUITED_DAYS, _LOST_DAYS = 1825.0, 730.0, 4000.0


@dataclass(frozen=True)
class Fate:
    """What becomes of a patient.

    Args:
        treated: Whether the treatment is given.
        days: Until death or until last seen, whole days, 1 or more; the one outcome that is seen.
        died: Whether death was seen.
        toxicity: Whether a severe adverse event was seen.
        propensity: Chance of being treated, given all that decides it.
        days_untreated: Until death without the treatment; never seen of the treated.
        days_treated: Until death with it; never seen of the others.
        mean_days_untreated: Expected days alive up to the horizon without it (restricted mean survival time).
        mean_days_treated: The same with it.
        survival_untreated: Chance of being alive at the horizon without it.
        survival_treated: The same with it.
        toxicity_risk_untreated: Chance of a severe adverse event without it.
        toxicity_risk_treated: The same with it.
        entered_day: Day of recruitment, from the first.
    """

    treated: bool
    days: float
    died: bool
    toxicity: bool
    propensity: float
    days_untreated: float
    days_treated: float
    mean_days_untreated: float
    mean_days_treated: float
    survival_untreated: float
    survival_treated: float
    toxicity_risk_untreated: float
    toxicity_risk_treated: float
    entered_day: int

    @property
    def effect_days(self) -> float:
        """Days alive that the treatment adds up to the horizon, in expectation for such a patient."""
        return self.mean_days_treated - self.mean_days_untreated


def propensity(cause: Cause, settings: PatientSettings) -> float:
    """Return the chance of treatment.

    Between 0.08 and 0.92 in the confounded design but for the group without overlap, so that this group alone lacks it.
    """
    if settings.design == "randomised":
        return 0.5
    if settings.no_overlap and cause.without_overlap:
        return 0.0
    return float(0.08 + 0.84 * expit(-0.1 + settings.strength * cause.severity + settings.hidden * cause.hidden))


def log_hazard_ratio(cause: Cause) -> float:
    """Return what the treatment does to the log of a patient's hazard; below 0 where it helps."""
    return float(
        -0.45
        - 0.55 * (np.log(cause.uptake_suv) - 1.9) / 0.4
        + 0.25 * (cause.age_a - 63) / 10
        + 0.25 * (cause.necrosis - 0.2) / 0.12
    )


def mean_days(log_hazard: float, horizon_days: float) -> float:
    """Return the expected days alive up to a horizon.

    Example:
        >>> round(mean_days(-20.0, 1000.0))
        1000
    """
    rate = float(np.exp(log_hazard))
    reached = rate * (horizon_days / _SCALE_DAYS) ** _SHAPE
    return float(
        _SCALE_DAYS * rate ** (-1 / _SHAPE) * gamma(1 / _SHAPE) / _SHAPE * gammainc(1 / _SHAPE, reached)
    )  # fmt: skip


def _alive(log_hazard: float, days: float) -> float:
    return float(np.exp(-np.exp(log_hazard) * (days / _SCALE_DAYS) ** _SHAPE))


def draw_fate(seed: int, cause: Cause, settings: PatientSettings) -> Fate:
    """Draw treatment and outcome.

    Args:
        seed: Of the cohort.
        cause: The patient.
        settings: How treatment is given.
    """
    chance = propensity(cause, settings)
    treated = bool(stream(seed, cause.number, Stream.TREATMENT).random() < chance)
    luck = stream(seed, cause.number, Stream.OUTCOME)
    untreated = 0.75 * cause.severity + 0.6 * settings.hidden * cause.hidden
    hazards = (untreated, untreated + log_hazard_ratio(cause))
    patience, dice = luck.exponential(), luck.random()
    times = [float(_SCALE_DAYS * (patience * np.exp(-h)) ** (1 / _SHAPE)) for h in hazards]
    risks = [float(expit(-2.6 + 0.35 * (cause.age_a - 63) / 10 + 1.3 * given)) for given in (0, 1)]
    lost = stream(seed, cause.number, Stream.CENSORING)
    entered = int(lost.integers(0, int(_RECRUITED_DAYS)))
    last = min(_CLOSED_DAYS - entered, float(lost.exponential(_LOST_DAYS)))
    own = times[treated]
    horizon = settings.horizon_days
    return Fate(
        treated, max(1.0, float(np.ceil(min(own, last)))), own <= last, bool(dice < risks[treated]), chance,
        times[0], times[1], mean_days(hazards[0], horizon), mean_days(hazards[1], horizon),
        _alive(hazards[0], horizon), _alive(hazards[1], horizon), risks[0], risks[1], entered,
    )  # fmt: skip
