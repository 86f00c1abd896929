"""What is told of one person: benefit and harm per option in natural frequencies, or why nothing is.

The words for an observational table are "association", never "effect": nobody dealt the treatment out, and something
that nobody wrote down may have decided both who got it and what became of them.

Source:
    Gigerenzer et al., Psychological Science in the Public Interest 2007 (natural frequencies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.core import Code, Effect, ModelRef, Prediction, Uncertainty
from isocenter.core.knowledge.concept import LOCAL_SCHEME
from isocenter.tasks.treat.support import Refusal

__all__ = ["Amount", "PersonAnswer", "Wording", "answer_person", "frequency_words", "verdict_words"]

NO_RECOMMENDATION = "insufficient support for this person: no recommendation"


@dataclass(frozen=True)
class Amount:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Wording:
    """How an outcome is told.

    Args:
        treatment: Name of the option.
        comparator: Name of the other.
        outcome: What is told of an option, as after "of 100 people like this, 40": "are without the event at day 900".
        unit: UCUM code of the outcome; "1" for a chance.
        chance: Whether the outcome is a chance, told in natural frequencies.
        observational: Whether nobody dealt the treatment out.
        level: Coverage asked of the intervals.
        horizon_days: Up to which the outcome is meant; None where there are no times.
        bad: Whether more of it is worse (a harm).
        event: What the outcome is being without; "" where it is something else.
    """

    treatment: str
    comparator: str
    outcome: str
    unit: str
    chance: bool
    observational: bool
    level: float
    horizon_days: float | None = None
    bad: bool = False
    event: str = ""

    @property
    def claim(self) -> str:
        """Return "effect", or "association" where nobody dealt the treatment out."""
        return "association" if self.observational else "effect"

    @property
    def direction(self) -> str:
        """Return what is better, in words."""
        if self.event:
            return f"{self.event} is {'good' if self.bad else 'bad'}"
        return "lower is better" if self.bad else "higher is better"


@dataclass(frozen=True)
class PersonAnswer:
    """What is told of a person.

    Args:
        verdict: "favours OPTION", "no sure difference", either with what is surely bought by harms and what is better,
            or that there is no recommendation.
        refusal: Why nothing is told; None where something is.
        effect: Difference, treatment less comparator; None with a refusal.
        untreated: Outcome under the comparator.
        treated: Outcome under the treatment.
        sentences: In words.
        prediction: The same as the house's type.
    """

    verdict: str
    refusal: Refusal | None
    effect: Amount | None
    untreated: Amount | None
    treated: Amount | None
    sentences: tuple[str, ...]
    prediction: Prediction


def _in_100(amount: Amount) -> str:
    return f"{100 * amount.value:.0f} ({100 * amount.low:.0f} to {100 * amount.high:.0f})"


def frequency_words(wording: Wording, untreated: Amount, treated: Amount, effect: Amount) -> tuple[str, ...]:
    """Return what is to be expected under each option, in words.

    Args:
        wording: How.
        untreated: Under the comparator.
        treated: Under the treatment.
        effect: Their difference.

    Example:
        >>> wording = Wording("new", "usual", "are alive at day 900", "1", True, True, 0.9)
        >>> told = frequency_words(wording, Amount(0.4, 0.3, 0.5), Amount(0.52, 0.4, 0.6), Amount(0.12, 0.02, 0.22))
        >>> print(told[0])
        Of 100 people like this, about 40 (30 to 50) are alive at day 900 with usual, and 52 (40 to 60) with new.
        >>> print(told[1])
        That is 12 more in 100 (2 to 22) with new. This is an association, not proof that new does it.
    """
    if wording.chance:
        first = (
            f"Of 100 people like this, about {_in_100(untreated)} {wording.outcome} with {wording.comparator}, and "
            f"{_in_100(treated)} with {wording.treatment}."
        )
        # The difference of the rounded numbers that stand before it, or readers could not follow.
        more = round(100 * treated.value) - round(100 * untreated.value)
        low, high = 100 * effect.low, 100 * effect.high
        said = f"{abs(more)} {'more' if more >= 0 else 'fewer'} in 100"
        if more < 0:
            low, high = -high, -low
        second = f"That is {said} ({_signed(low)} to {_signed(high)}) with {wording.treatment}."
    else:
        unit = "" if wording.unit == "1" else " d" if wording.unit == "d" else f" {wording.unit}"
        first = (
            f"For people like this, {wording.outcome}: {_number(untreated)}{unit} with {wording.comparator}, and "
            f"{_number(treated)}{unit} with {wording.treatment}."
        )
        second = f"That is a difference of {_number(effect)}{unit} with {wording.treatment}."
    if wording.observational:
        second += f" This is an association, not proof that {wording.treatment} does it."
    return first, second


def _signed(value: float) -> str:
    text = f"{value:.0f}"
    return "0" if text == "-0" else text.replace("-", "−")


def _number(amount: Amount) -> str:
    """Write a number as exactly as its interval allows.

    Example:
        >>> _number(Amount(1041.2, 980.4, 1102.0)), _number(Amount(-0.123, -0.2, 0.01))
        ('1041 (980 to 1102)', '−0.123 (−0.200 to 0.010)')
    """
    width = amount.high - amount.low
    digits = 0 if width >= 20 else 1 if width >= 2 else 3
    return f"{amount.value:.{digits}f} ({amount.low:.{digits}f} to {amount.high:.{digits}f})".replace("-", "−")


def verdict_words(wording: Wording, effect: Amount, harms: Sequence[tuple[str, Amount]] = ()) -> str:
    """Return which option is favoured; one that surely harms more is never plainly favoured.

    Args:
        wording: How.
        effect: Difference of the outcome, treatment less comparator.
        harms: Name and difference of each harm.

    Example:
        >>> wording = Wording("new", "usual", "are alive at day 900", "1", True, False, 0.9)
        >>> verdict_words(wording, Amount(0.12, 0.02, 0.22))
        'favours new (higher is better)'
    """
    costs = {
        wording.treatment: " and ".join(f"more {name}" for name, harm in harms if harm.low > 0),
        wording.comparator: " and ".join(f"more {name}" for name, harm in harms if harm.high < 0),
    }
    notes = f"({wording.direction}{'; association' if wording.observational else ''})"
    if effect.low <= 0 <= effect.high:
        said = [f"{cost} with {option}" for option, cost in costs.items() if cost]
        return f"no sure difference{', but ' if said else ''}{', and '.join(said)} {notes}"
    favoured = wording.treatment if (effect.low > 0) != wording.bad else wording.comparator
    if not costs[favoured]:
        return f"favours {favoured} {notes}"
    more = ("fewer" if wording.bad else "more") if wording.chance else "lower" if wording.bad else "higher"
    return f"{more} {wording.outcome} with {favoured}, but {costs[favoured]} {notes}"


def answer_person(
    wording: Wording,
    refusal: Refusal | None,
    effect: Amount,
    levels: tuple[Amount, Amount],
    *,
    width_limit: float,
    model: ModelRef,
    inputs: tuple[str, ...],
    harms: Sequence[tuple[str, Amount]] = (),
) -> PersonAnswer:
    """Tell what a treatment would change for a person, or why that is not known.

    Args:
        wording: How.
        refusal: Why nothing can be said, from `Support`; None where something can.
        effect: Difference, treatment less comparator.
        levels: Outcome under comparator and treatment.
        width_limit: An interval of the difference that is wider says too little.
        model: Which learner.
        inputs: Hash of the table.
        harms: Name and difference of each harm.
    """
    if refusal is None and effect.high - effect.low > width_limit:
        wide = f"the interval of the difference, {_number(effect)}, is wider than {width_limit:.3g}"
        refusal = Refusal("interval", wide)
    if refusal is not None:
        reason = f"{NO_RECOMMENDATION}: {refusal.reason}"
        task = Prediction.abstain("treat", reason, inputs=inputs)
        return PersonAnswer(NO_RECOMMENDATION, refusal, None, None, None, (f"{reason[0].upper()}{reason[1:]}.",), task)
    unit = {"1": "no units", "d": "day"}.get(wording.unit, wording.unit)
    value = Effect(
        Code("T-1", LOCAL_SCHEME, wording.treatment[:64]), Code("T-0", LOCAL_SCHEME, wording.comparator[:64]),
        effect.value, Code(wording.unit[:16], "UCUM", unit[:64]), wording.horizon_days,
    )  # fmt: skip
    sure = Uncertainty(
        "interval", f"{wording.claim} for people like this; coverage asked for, not promised", effect.low, effect.high,
        wording.level, unit=value.unit,
    )  # fmt: skip
    notes = ("an association: the treatment was not dealt out by chance",) if wording.observational else ()
    task = Prediction(value, "treat", sure, model=model, inputs=inputs, notes=notes)
    sentences = frequency_words(wording, levels[0], levels[1], effect)
    verdict = verdict_words(wording, effect, harms)
    return PersonAnswer(verdict, None, effect, levels[0], levels[1], sentences, task)
