"""How far a claim about the effect of a treatment can be trusted: overlap, balance, averages, calibration, policies.

Numbers in, numbers out: which model claimed the effects is not known here. Every score of a person must come from
models that never saw that person (cross-fitting), or intervals are too narrow.
"""

from __future__ import annotations

from isocenter.evaluate.treatment.balance import (
    effective_sample_size,
    inverse_weights,
    standardised_differences,
)
from isocenter.evaluate.treatment.doubly_robust import (
    BestLinearPredictor,
    GroupEffect,
    OptionScores,
    average_effect,
    best_linear_predictor,
    doubly_robust_scores,
    group_effects,
    policy_value,
)
from isocenter.evaluate.treatment.pseudo import pseudo_values
from isocenter.evaluate.treatment.sensitivity import e_value, risk_ratio_of_difference, robustness_value
from isocenter.evaluate.treatment.truth import interval_coverage, pehe, policy_regret

__all__ = [
    "BestLinearPredictor",
    "GroupEffect",
    "OptionScores",
    "average_effect",
    "best_linear_predictor",
    "doubly_robust_scores",
    "e_value",
    "effective_sample_size",
    "group_effects",
    "interval_coverage",
    "inverse_weights",
    "pehe",
    "policy_regret",
    "policy_value",
    "pseudo_values",
    "risk_ratio_of_difference",
    "robustness_value",
    "standardised_differences",
]
