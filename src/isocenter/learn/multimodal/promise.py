"""What held-out answers promise of a further one: a temperature, sets that hold the true answer, whether looking helps.

All is fitted on the validation patients, whom the training never learnt from; test patients measure it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.calibration import top_label_calibration_error
from isocenter.evaluate.statistics.proportion import share_by_patient
from isocenter.learn.multimodal.measure import Answered, GapFigure
from isocenter.safety.calibration import Temperature, fit_temperature
from isocenter.safety.sets import SetRule, fit_sets

__all__ = ["HeldTo", "answer_promise", "held_to", "probabilities"]

_FOLDS = 10
_DEALT = 41


def probabilities(scores: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Return calibrated probabilities of the answers of a closed set."""
    return Temperature(temperature).apply(scores)


def _inside(rule: SetRule, p: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n k"]:
    """Return which answers are in the set of each question, as the task forms it: always with the likeliest."""
    inside = rule.sets(p)
    inside[np.arange(len(p)), p.argmax(axis=1)] = True
    return inside


def _shown(
    inside: Bool[np.ndarray, "n k"], truth: Int64[np.ndarray, " n"], patients: Sequence[str]
) -> dict[str, float | int | None]:
    """Return how often the set holds the true answer among the questions that are answered, with its interval.

    A set of all answers is never shown: the task abstains. Those sets always hold the truth, so that what is shown
    holds it less often than the sets of all questions do.
    """
    answered = np.flatnonzero(~inside.all(axis=1))
    if not len(answered):
        return {"shown": 0, "shown_coverage": None, "shown_low": None, "shown_high": None}
    share = share_by_patient(inside[answered, truth[answered]], [patients[int(i)] for i in answered])
    return {
        "shown": len(answered), "shown_coverage": share.value, "shown_low": share.low, "shown_high": share.high,
    }  # fmt: skip


def _shown_by_folds(one: Answered, level: float, by_class: bool) -> dict[str, float | int | None] | None:
    """Return the same of questions on whose patients nothing was fitted; None with too few cases for that."""
    names = list(dict.fromkeys(one.patients))
    order = np.random.default_rng(_DEALT).permutation(len(names))
    fold_of = {names[int(at)]: number % _FOLDS for number, at in enumerate(order)}
    folds = np.array([fold_of[patient] for patient in one.patients])
    inside: Bool[np.ndarray, "n k"] = np.zeros(one.scores.shape, dtype=bool)
    for fold in sorted(set(fold_of.values())):
        mine, others = folds == fold, folds != fold
        if not others.any():
            return None
        temperature = fit_temperature(one.scores[others], one.truth[others]).value
        p = probabilities(one.scores[others], temperature)
        try:
            rule = fit_sets(p, one.truth[others], level=level, by_class=by_class)
        except DataError:  # with these left out, cases are too few for the level
            return None
        inside[mine] = _inside(rule, probabilities(one.scores[mine], temperature))
    return _shown(inside, one.truth, one.patients)


def _looking(gap: GapFigure | None) -> str:
    """Say what is known of looking; see `tasks.answer.cards.Asked`."""
    if gap is None:
        return "no twin"
    if gap.gap_low is None:
        return "too few patients"
    return "helps" if gap.gap_low > 0 else "does not help"


def answer_promise(one: Answered, level: float, gap: GapFigure | None) -> dict[str, object]:
    """Return what validation answers of a kind promise, JSON-ready; see `tasks.answer.cards.Asked`.

    Sets are fitted within each answer where each has enough cases, else over all; where there are too few for the
    level, none are promised. The temperature comes from the same cases: it is one number, and test patients say
    what the sets come to. A set is a promise over all questions, and the task shows none that holds every answer:
    what those that are shown come to is measured by folds of the patients, each left out in turn.

    Args:
        one: Answers to validation questions.
        level: The chance asked of sets.
        gap: Of this kind on validation questions; None where no blind twin was trained.
    """
    temperature = fit_temperature(one.scores, one.truth).value
    p = probabilities(one.scores, temperature)
    rule: SetRule | None = None
    for by_class in (True, False):
        try:
            rule = fit_sets(p, one.truth, level=level, by_class=by_class)
            break
        except DataError:  # too few cases of an answer, or of all: a weaker promise, or none
            rule = None
    shown = None if rule is None else _shown_by_folds(one, level, rule.by == "class")
    return {
        "kind": one.kind,
        "answers": list(one.answers),
        "temperature": temperature,
        "sets": None if rule is None else rule.as_card(),
        "level": level,
        "cases": len(one.truth),
        "patients": len(set(one.patients)),
        "looking": _looking(gap),
        **(shown or {"shown": None, "shown_coverage": None, "shown_low": None, "shown_high": None}),
    }


@dataclass(frozen=True)
class HeldTo:
    """What a promise came to on test questions.

    Args:
        coverage: Share of sets that hold the true answer; None where no sets are promised.
        set_size: Answers in a set, on average.
        undecided: Share of questions that are not answered: a set that holds all answers.
        ece: Top-label calibration error of the probabilities.
        shown: Questions that are answered: their set does not hold all answers; None where no sets are promised.
        shown_coverage: Share of sets that hold the true answer among those; None with none.
        shown_low: Lower end of its exact 95 % interval.
        shown_high: Upper end.
    """

    coverage: float | None
    set_size: float | None
    undecided: float | None
    ece: float
    shown: int | None = None
    shown_coverage: float | None = None
    shown_low: float | None = None
    shown_high: float | None = None

    def as_row(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)


def held_to(promise: dict[str, object], one: Answered) -> HeldTo:
    """Return what a promise came to on test questions.

    Args:
        promise: From `answer_promise`.
        one: Answers to test questions.
    """
    from_card = promise["sets"]
    p = probabilities(one.scores, float(str(promise["temperature"])))
    ece = top_label_calibration_error(one.truth, p)
    if not isinstance(from_card, dict):
        return HeldTo(None, None, None, ece)
    inside = _inside(SetRule.from_card(from_card), p)
    held, sizes = inside[np.arange(len(one.truth)), one.truth], inside.sum(axis=1)
    undecided = sizes == p.shape[1]
    shown: dict[str, Any] = _shown(inside, one.truth, one.patients)
    return HeldTo(float(held.mean()), float(sizes.mean()), float(undecided.mean()), ece, **shown)
