"""What decides a synthetic patient: who it is, the lesion, and the laboratory that follows from both.

Everything later (images, words, treatment, outcome) is a function of a `Cause` and of noise with a stream of its own,
so that the same patient under another treatment rule, or without images, is the same patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from isocenter.core.errors import ConfigError

__all__ = ["Cause", "PatientSettings", "Stream", "draw_cause", "stream"]

_DOMAIN = 2_718_281  # keeps this stream apart from the others with the same seed and index


class Stream(IntEnum):
    """Sources of randomness of one patient; each is drawn from alone."""

    CAUSE = 0
    TREATMENT = 1
    OUTCOME = 2
    CENSORING = 3
    ANATOMY = 4
    NOISE = 5
    WORDS = 6


def stream(seed: int, number: int, which: Stream) -> np.random.Generator:
    """Return one source of randomness of one patient.

    Raises:
        ConfigError: Seed or number is negative.
    """
    if min(seed, number) < 0:
        raise ConfigError(f"seed and number of a patient must be 0 or more, got {seed} and {number}")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number, _DOMAIN, int(which)])))


@dataclass(frozen=True)
class PatientSettings:
    """How treatment is given, and what is asked of the outcome.

    Args:
        design: "randomised": a fair coin; "confounded": the sicker are treated more often.
        strength: Log-odds of treatment per deviation of severity, in the confounded design.
        no_overlap: Whether, in the confounded design, nobody whose creatinine exceeds 150 umol/L is treated: a group in
            which nothing can be learnt of the treatment.
        hidden: Strength with which something that no table holds decides treatment and outcome alike; 0 for nothing.
        horizon_days: Up to which the truth of the effect is stated.

    Raises:
        ConfigError: A number is out of range.
    """

    design: Literal["randomised", "confounded"] = "confounded"
    strength: float = 1.0
    no_overlap: bool = True
    hidden: float = 0.0
    horizon_days: float = 1095.0

    def __post_init__(self) -> None:
        if self.design not in ("randomised", "confounded"):
            raise ConfigError(f"design must be 'randomised' or 'confounded', got {self.design!r}")
        if not (0 <= self.strength <= 5 and 0 <= self.hidden <= 5 and 1 <= self.horizon_days <= 1095):
            raise ConfigError(f"strength and hidden must lie in 0..5, horizon_days in 1..1095, got {self}")


@dataclass(frozen=True)
class Cause:
    """One patient before anything is done.

    Args:
        number: Of the patient.
        age_a: Age in years.
        male: Sex.
        weight_kg: Body weight.
        radius_mm: Of a ball of the lesion's volume.
        irregularity: Of the lesion's border, 0 (round) to 1.
        necrosis: Share of the lesion without uptake, 0 to 0.6.
        uptake_suv: Standardised uptake of the lesion's living part.
        left: Whether the lesion lies at the patient's left.
        albumin_g_l: Serum albumin.
        creatinine_umol_l: Serum creatinine.
        haemoglobin_g_dl: Haemoglobin.
        ldh_u_l: Lactate dehydrogenase.
        hidden: What no table holds, in deviations.
    """

    number: int
    age_a: float
    male: bool
    weight_kg: float
    radius_mm: float
    irregularity: float
    necrosis: float
    uptake_suv: float
    left: bool
    albumin_g_l: float
    creatinine_umol_l: float
    haemoglobin_g_dl: float
    ldh_u_l: float
    hidden: float

    @property
    def volume_ml(self) -> float:
        """Volume of the lesion in mL."""
        return float(4 / 3 * np.pi * self.radius_mm**3 / 1000)

    @property
    def severity(self) -> float:
        """How sick the patient is, in about unit deviations: of what the table holds, and nothing else."""
        size, enzyme = (np.log(self.volume_ml) - 2.85) / 0.9, (np.log(self.ldh_u_l) - 5.45) / 0.3
        protein, age = (self.albumin_g_l - 38) / 4, (self.age_a - 63) / 10
        return float((0.55 * size + 0.40 * enzyme - 0.45 * protein + 0.25 * age) / 1.25)

    @property
    def without_overlap(self) -> bool:
        """Whether the patient is of the group that is never treated where `no_overlap` is set."""
        return self.creatinine_umol_l > 150


def draw_cause(seed: int, number: int) -> Cause:
    """Draw who a patient is.

    Values are rounded as the table states them, so that nothing decides treatment or outcome that the table does not
    hold, but for `hidden`.

    Raises:
        ConfigError: Seed or number is negative.

    Example:
        >>> draw_cause(1, 7) == draw_cause(1, 7), draw_cause(1, 7) == draw_cause(1, 8)
        (True, False)
    """
    rng = stream(seed, number, Stream.CAUSE)
    age = float(np.clip(rng.normal(63, 10), 30, 90))
    male = bool(rng.random() < 0.55)
    weight = float(np.clip(rng.normal(82 if male else 69, 13), 42, 140))
    radius = float(np.clip(np.exp(rng.normal(2.76, 0.3)), 7, 38))
    irregularity, necrosis = float(rng.beta(2, 3)), float(0.6 * rng.beta(1.5, 3))
    uptake = float(np.clip(np.exp(rng.normal(1.9, 0.4)), 1.5, 25))
    left = bool(rng.random() < 0.5)
    size = (np.log(radius) - 2.76) / 0.3
    albumin = float(np.clip(rng.normal(38.2 - 1.4 * size - 0.06 * (age - 63), 3.4), 20, 50))
    kidney = rng.random() < 0.09  # failing kidneys: the group that is never treated
    creatinine = float(
        rng.uniform(155, 420) if kidney else np.clip(np.exp(rng.normal(4.35 + 0.006 * (age - 63), 0.18)), 40, 145)
    )
    haemoglobin = float(np.clip(rng.normal((13.9 if male else 12.7) - 0.4 * size, 1.3), 6.5, 18))
    ldh = float(np.exp(rng.normal(5.42 + 0.14 * size + 0.25 * necrosis, 0.25)))
    hidden = float(rng.normal())
    return Cause(
        number, round(age, 1), male, round(weight, 1), round(radius, 2), round(irregularity, 3), round(necrosis, 3),
        round(uptake, 2), left, round(albumin, 1), round(creatinine, 0), round(haemoglobin, 1), round(ldh, 0), hidden,
    )  # fmt: skip
