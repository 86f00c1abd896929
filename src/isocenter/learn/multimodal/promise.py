"""What held-out answers promise of a further one: a temperature, sets that hold the true answer, whether looking helps.

All is fitted on the validation patients, whom the training never learnt from; test patients measure it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.evaluate.calibration import top_label_calibration_error
from isocenter.learn.multimodal.measure import Answered, GapFigure
from isocenter.safety.calibration import Temperature, fit_temperature
from isocenter.safety.sets import SetRule, fit_sets

__all__ = ["HeldTo", "answer_promise", "held_to", "probabilities"]


def probabilities(scores: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Return calibrated probabilities of the answers of a closed set."""
    return Temperature(temperature).apply(scores)


def answer_promise(one: Answered, level: float, gap: GapFigure | None) -> dict[str, object]:
    """Return what validation answers of a kind promise, JSON-ready; see `tasks.answer.cards.Asked`.

    Sets are fitted within each answer where each has enough cases, else over all; where there are too few for the
    level, none are promised. The temperature comes from the same cases: it is one number, and test patients say
    what the sets come to.

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
    looked = None if gap is None or gap.gap_low is None else bool(gap.gap_low > 0)
    return {
        "kind": one.kind,
        "answers": list(one.answers),
        "temperature": temperature,
        "sets": None if rule is None else rule.as_card(),
        "level": level,
        "cases": len(one.truth),
        "patients": len(set(one.patients)),
        "looking_helps": looked,
    }


@dataclass(frozen=True)
class HeldTo:
    """What a promise came to on test questions.

    Args:
        coverage: Share of sets that hold the true answer; None where no sets are promised.
        set_size: Answers in a set, on average.
        undecided: Share of questions that are not answered: a set that holds all answers.
        ece: Top-label calibration error of the probabilities.
    """

    coverage: float | None
    set_size: float | None
    undecided: float | None
    ece: float

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
    inside = SetRule.from_card(from_card).sets(p)
    inside[np.arange(len(p)), p.argmax(axis=1)] = True  # as the task does
    held, sizes = inside[np.arange(len(one.truth)), one.truth], inside.sum(axis=1)
    undecided = sizes == p.shape[1]
    return HeldTo(float(held.mean()), float(sizes.mean()), float(undecided.mean()), ece)
