"""What another treatment would change for one person, and for whom nothing can be said."""

from __future__ import annotations

from isocenter.tasks.treat.answer import Amount, PersonAnswer, Wording, answer_person
from isocenter.tasks.treat.cases import Cases, Lived, check_cases, subset
from isocenter.tasks.treat.models import METHODS, EffectModel, Effects, fit_effects
from isocenter.tasks.treat.nuisance import Nuisance, cross_fit, folds_of
from isocenter.tasks.treat.options import OptionLevels, OptionModel, fit_options
from isocenter.tasks.treat.people import Learnt, cross_fitted_effects, learn
from isocenter.tasks.treat.prepare import Preparation, fit_preparation
from isocenter.tasks.treat.reduce import Blocks, Reduction, fit_reduction
from isocenter.tasks.treat.refute import Refutation, refute
from isocenter.tasks.treat.support import Refusal, Support, fit_support, supported

__all__ = [
    "METHODS",
    "Amount",
    "Blocks",
    "Cases",
    "EffectModel",
    "Effects",
    "Learnt",
    "Lived",
    "Nuisance",
    "OptionLevels",
    "OptionModel",
    "PersonAnswer",
    "Preparation",
    "Reduction",
    "Refusal",
    "Refutation",
    "Support",
    "Wording",
    "answer_person",
    "check_cases",
    "cross_fit",
    "cross_fitted_effects",
    "fit_effects",
    "fit_options",
    "fit_preparation",
    "fit_reduction",
    "fit_support",
    "folds_of",
    "learn",
    "refute",
    "subset",
    "supported",
]
