"""What a learnt task promises of one answer, from what its held-out cases allow (`safety`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from isocenter.core import Code, Geometry, Measurement, Risk, Uncertainty
from isocenter.core.errors import ConfigError
from isocenter.core.knowledge import PRESENCE_CODES
from isocenter.core.units import UCUM
from isocenter.safety.difficulty import DifficultyRule
from isocenter.safety.intervals import IntervalRule
from isocenter.safety.masks import MaskRule
from isocenter.safety.quality import QualityRule
from isocenter.safety.risks import RiskRule
from isocenter.safety.sets import SetRule
from isocenter.tasks.learnt.cards import Promise

__all__ = [
    "class_set", "event_risk", "expected_quality", "finding_sets", "no_set", "number_interval",
    "volume_promises",
]  # fmt: skip


_STATES = (PRESENCE_CODES["absent"], PRESENCE_CODES["present"])
_HOLDS = "It holds for images like those."
_LIKELIEST = " The likeliest class is always in it."
_RULES = {
    "lac": "LAC (one minus the class's probability)",
    "aps": "APS (the probability of all classes at least as likely, randomised by the image's hash)",
    "raps": "RAPS (as APS, with a penalty on large sets)",
}


def class_set(
    codes: Sequence[Code], p: Float[np.ndarray, " k"], promise: Promise, *, group: str | None = None, key: str = ""
) -> Uncertainty:
    """Return the set of classes that holds the true one.

    Args:
        codes: Of the classes.
        p: Probability of each.
        promise: What held-out cases promise.
        group: Of the image, where it is known (`tasks.learnt.groups`).
        key: sha256 of the image, from which a randomised rule takes its chance.
    """
    if promise.sets is None:
        return Uncertainty("set", "No set of classes is promised: too few cases were held out.")
    rule, own = SetRule.from_card(promise.sets), False
    if promise.group_sets is not None and group is not None:
        grouped = SetRule.from_card(promise.group_sets)
        own = group in grouped.limits
        rule = grouped if own else rule
    keys = [key] if rule.randomised else ()
    inside = rule.sets((p / p.sum())[None], groups=[str(group)] if own else (), keys=keys)[0]
    inside = inside | (np.arange(len(p)) == int(p.argmax()))  # alone, LAC could hold only what is unlikely
    whichever = ", whichever class that is" if rule.by == "class" else ""
    cases = rule.cases[str(group)] if own else rule.calibration_cases
    by_class = ""
    if rule.by == "class":
        counts = ", ".join(f"{rule.cases[str(n)]} of {code.meaning}" for n, code in enumerate(codes))
        by_class = f" (fitted for each class: {counts})"
    return Uncertainty(
        "set",
        f"The true class is in this set with a chance of about {promise.chance}{whichever}, from {cases} "
        f"held-out cases{by_class} by {_RULES[rule.score]} (split conformal on networks that never saw them; in a "
        "cross-validation one network answered each, where this answer is the mean of all, which tends to hold it more "
        f"often).{_for_whom(promise, group, cases if own else None)}{_LIKELIEST if rule.score == 'lac' else ''} "
        f"{_HOLDS}",
        level=promise.level,
        members=tuple(code for code, member in zip(codes, inside, strict=True) if member),
    )


def _for_whom(promise: Promise, group: str | None, own: int | None) -> str:
    """Say whom a promise is of: the image's group, or all; nothing where the task promises nothing by group."""
    if not promise.by:
        return ""
    if own is not None:
        return f" It is the promise for the group {promise.by} = {group} alone."
    if group is None:
        return f" It is the promise over all groups: the study does not say its {promise.by}."
    return f" It is the promise over all groups: too few cases of its {promise.by} were held out for one of their own."


def finding_sets(
    codes: Sequence[Code], p: Float[np.ndarray, " k"], promise: Promise
) -> tuple[Uncertainty, ...]:  # fmt: skip
    """Return for each finding whether it is present, absent, or either, with the promised chance.

    The promise holds within each of the two: a rare finding that is there is missed as seldom as a common one. Alone,
    the rule could so call present what is unlikely; the likelier of the two is always added, which breaks no promise.

    Args:
        codes: Of the findings.
        p: Probability of each.
        promise: What held-out cases promise.
    """
    found = []
    for number, (code, chance) in enumerate(zip(codes, p, strict=True), start=1):
        card = promise.findings.get(str(number))
        if card is None:
            continue
        rule = SetRule.from_card(card)
        (inside,) = rule.sets(np.array([[1 - chance, chance]]))
        inside = inside | np.array([chance < 0.5, chance >= 0.5])
        found.append(
            Uncertainty(
                "set",
                f"Whether {code.meaning} is present: the truth, as the set's own labels have it, is in this set with a "
                f"chance of about {promise.chance}, be it present or absent, from held-out cases ({rule.cases['1']} "
                f"with it, {rule.cases['0']} without; split conformal on networks that never saw them; the likelier of "
                f"the two is always in it). {_HOLDS}",
                level=promise.level,
                members=tuple(state for state, member in zip(_STATES, inside, strict=True) if member),
                about=code,
            )
        )
    return tuple(found)


def no_set(promise: Promise) -> Uncertainty:
    """Say that findings make no set together."""
    each = " Each has one of its own, of present and absent." if promise.findings else ""
    return Uncertainty(
        "set",
        f"Findings are not exclusive: no set of them is promised.{each} {promise.cases} cases were held out for the "
        "figures.",
    )


def number_interval(
    number: float, promise: Promise, *, numbers: Mapping[str, float] | None = None, group: str | None = None
) -> Uncertainty:
    """Return the interval that holds the true number.

    Args:
        number: The answer.
        promise: What held-out cases promise.
        numbers: Of the answer, that tell how far off it may be.
        group: Of the image, where it is known.
    """
    if promise.interval is None:
        return Uncertainty("interval", "No interval is promised: too few cases were held out.")
    card = promise.group_intervals.get(group or "")
    rule = IntervalRule.from_card(card or promise.interval)
    spread, how = _spread(promise.difficulty, numbers or {})
    low, high = rule.around(number, spread=spread)
    return Uncertainty(
        "interval",
        f"The true number lies inside with a chance of about {promise.chance}, from {rule.cases} held-out cases "
        f"(split conformal on networks that never saw them{how})."
        f"{_for_whom(promise, group, None if card is None else rule.cases)} {_HOLDS}",
        low,
        high,
        promise.level,
    )


def _spread(difficulty: Mapping[str, object] | None, numbers: Mapping[str, float]) -> tuple[float, str]:
    """Return what the width of an interval is multiplied by, and that in words."""
    if difficulty is None:
        return 1.0, ""
    rule = DifficultyRule.from_card(difficulty)
    value = rule.of(numbers)
    return value, f"; {value:.2f} times the usual width, by how unsure this answer is, learnt on {rule.cases} others"


def event_risk(
    each: Float[np.ndarray, "n k"], code: Code, promise: Promise
) -> tuple[Risk, tuple[Measurement, ...], Uncertainty]:
    """Return the chance of an event up to the horizon, and how far that chance is known.

    Raises:
        ConfigError: The task does not say up to when.
    """
    if promise.horizon_days is None or promise.baseline is None:
        raise ConfigError("the task does not say up to when a chance is meant; adapt again")
    name = Code(code.value, code.scheme, f"Chance of {code.meaning} in {promise.horizon_days:g} days"[:64])
    if promise.risk is not None:
        rule = RiskRule.from_card(promise.risk)
        low, chance, high = rule.around(float(each[:, 0].mean()))
        unsure = Uncertainty(
            "interval",
            f"Chance among held-out cases with such a score, as if this one had no event and as if it had "
            f"(Venn-Abers, {rule.cases} cases that are known up to then): one of the two ends is calibrated, and where "
            f"cases are few they lie far apart. It is no promise for one patient. {_HOLDS}",
            low,
            high,
        )
    else:
        chances = 1 - np.exp(-promise.baseline * np.exp(np.clip(each[:, 0], -20, 20)))
        chance = float(chances.mean())
        unsure = Uncertainty(
            "interval",
            f"Least and largest chance among {len(each)} networks; what this covers was not established "
            f"({promise.cases} held-out cases).",
            float(chances.min()),
            float(chances.max()),
        )
    return Risk(code, chance, promise.horizon_days), (Measurement(name, chance, UCUM["1"]),), unsure


def expected_quality(promise: Promise, each: Sequence[Mapping[str, float]]) -> Uncertainty:
    """Return the Dice that a mask can be expected to have.

    Args:
        promise: What held-out cases promise.
        each: Numbers of the answer of each network; their mean is what held-out cases, each answered by one network,
            were like.
    """
    if promise.quality is None:
        return Uncertainty(
            "quality", "The expected Dice is not known: too few cases were held out to tell it. Look at the outline."
        )
    rule = QualityRule.from_card(promise.quality)
    worth = rule.expect({name: float(np.mean([one[name] for one in each])) for name in rule.names})
    return Uncertainty(
        "quality",
        f"Dice expected against the set's own labels: {worth.value:.2f}, {worth.level:.0%} interval, from {rule.cases} "
        f"held-out answers of {rule.patients} patients, spoilt copies of images among them; each of one network, where "
        f"this answer is the mean of {len(each)}. On patients left out it correlated {rule.correlation:.2f} with the "
        f"true Dice, {rule.error:.2f} off on average. It holds for images like those.",
        worth.low,
        worth.high,
        worth.level,
    )


def volume_promises(
    promise: Promise,
    classes: Sequence[str],
    probabilities: Float[np.ndarray, "k z y x"],
    geometry: Geometry,
    *,
    each: Sequence[Mapping[str, float]] = (),
    group: str | None = None,
) -> tuple[Uncertainty, ...]:
    """Return for each segment the interval of its volume, and the volume of a mask that misses little of it.

    Args:
        promise: What held-out cases promise.
        classes: Names of the segments.
        probabilities: Of every class, background first, on the image's own voxels.
        geometry: Of the image; without spacing, or for a single plane, no volume is stated.
        each: Numbers of the answer of each network.
        group: Of the image, where it is known.
    """
    voxel_mm3 = geometry.voxel_volume_mm3 if geometry.spacing_mm is not None and geometry.shape[0] > 1 else None
    if voxel_mm3 is None:
        return ()
    numbers = {name: float(np.mean([one[name] for one in each])) for name in (each[0] if each else {})}
    found, answer = [], probabilities.argmax(0)
    for number, name in enumerate(classes, start=1):
        volume = float((answer == number).sum()) * voxel_mm3 / 1000
        card = promise.group_volumes.get(group or "", {}).get(str(number))
        rule = card or promise.volumes.get(str(number))
        if rule is not None and volume > 0:
            fitted = IntervalRule.from_card(rule)
            spread, how = _spread(promise.difficulties.get(str(number)), numbers)
            low, high = fitted.around(volume, spread=volume * spread)
            whom = _for_whom(promise, group, None if card is None else fitted.cases)
            found.append(
                Uncertainty(
                    "interval",
                    f"The volume of {name} in the set's own labels lies inside with a chance of about "
                    f"{fitted.level:.0%}, from {fitted.cases} held-out cases (ratios to the answers of networks that "
                    f"never saw them{how}).{whom} {_HOLDS}",
                    max(low, 0.0),
                    high,
                    fitted.level,
                    segment=number,
                    unit=UCUM["mL"],
                )
            )
        margin = promise.margins.get(str(number))
        if margin is not None:
            wide = MaskRule.from_card(margin)
            larger = float(wide.mask(probabilities[number]).sum()) * voxel_mm3 / 1000
            found.append(
                Uncertainty(
                    "margin",
                    f"From the outline of {name} to the larger one of all voxels with a probability of "
                    f"{wide.threshold:.2f} or more, which misses at most {wide.most_missed:.0%} of {name} on average "
                    f"over images (conformal risk control, {wide.cases} held-out cases). {_HOLDS}",
                    min(volume, larger),
                    max(volume, larger),
                    segment=number,
                    unit=UCUM["mL"],
                )
            )
    return tuple(found)
