"""What a synthetic patient has, in sentences: many phrasings, explicit negations, and what each sentence claims.

A sentence carries its claim in a form that can be held against the findings (`Claim.holds`), so that a test can prove
that no report ever says what its picture does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from isocenter.core.errors import ConfigError

__all__ = ["KINDS", "SIDES", "Claim", "PairedFinding", "Sentence", "write_sentences"]

KINDS = ("effusion", "opacity", "consolidation", "cardiomegaly", "device")
"""Kinds of finding."""

SIDES = ("left", "right")
"""Sides of the patient."""

_LUNG = ("effusion", "opacity", "consolidation")
_SIZED = ("effusion", "opacity")
_ZONED = ("opacity", "consolidation")


@dataclass(frozen=True)
class PairedFinding:
    """One finding at one side.

    Args:
        kind: One of `KINDS`.
        side: The patient's; "" for the heart.
        zone: "upper" or "lower" for what lies in a zone of a lung.
        size: "small" or "large" for effusions and round opacities (a small one is called a nodule, a large one a mass).

    Raises:
        ConfigError: A field is missing, or is not one that such a finding has.
    """

    kind: str
    side: str = ""
    zone: str = ""
    size: str = ""

    def __post_init__(self) -> None:
        allowed = {
            "side": ("",) if self.kind == "cardiomegaly" else SIDES,
            "zone": ("upper", "lower") if self.kind in _ZONED else ("",),
            "size": ("small", "large") if self.kind in _SIZED else ("",),
        }
        wrong = [name for name, values in allowed.items() if getattr(self, name) not in values]
        if self.kind not in KINDS or wrong:
            raise ConfigError(f"no such finding: {self}; kinds are {', '.join(KINDS)}, look at {', '.join(wrong)}")


@dataclass(frozen=True)
class Claim:
    """What a sentence says: that such a finding is there, or that none such is.

    Args:
        kinds: The kinds spoken of; several in one negation ("the lungs are clear").
        present: Whether it is said to be there.
        sides: The sides spoken of; empty where none is named.
        zone: As in `PairedFinding`; "" where not said.
        size: As in `PairedFinding`; "" where not said.
    """

    kinds: tuple[str, ...]
    present: bool
    sides: tuple[str, ...] = ()
    zone: str = ""
    size: str = ""

    def holds(self, findings: Sequence[PairedFinding]) -> bool:
        """Return whether the claim is true of these findings.

        Example:
            >>> left = [PairedFinding("effusion", "left", size="small")]
            >>> Claim(("effusion",), True, ("right",)).holds(left), Claim(("effusion",), False, ("right",)).holds(left)
            (False, True)
        """
        meant = [
            f
            for f in findings
            if f.kind in self.kinds and self.zone in ("", f.zone) and self.size in ("", f.size)
        ]  # fmt: skip
        if not self.present:
            return not any(f.side in self.sides or not self.sides for f in meant)
        return bool(meant) and all(any(f.side == side for f in meant) for side in self.sides)


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report and what it claims."""

    text: str
    claim: Claim


_PRESENT = MappingProxyType(
    {
        "effusion": (
            "{Size} {side} pleural effusion.",
            "There is a {size} {side} pleural effusion.",
            "A {size} pleural effusion is seen on the {side}.",
            "Blunting of the {side} costophrenic angle by a {size} effusion.",
            "{Side} pleural effusion, {size}.",
        ),
        "opacity": (
            "{Noun} in the {side} {zone} zone.",
            "There is a {noun} in the {side} {zone} zone.",
            "A round {noun} projects over the {side} {zone} zone.",
            "The {side} {zone} zone shows a {noun}.",
        ),
        "consolidation": (
            "Patchy consolidation in the {side} {zone} zone.",
            "There is consolidation in the {side} {zone} zone.",
            "Airspace shadowing is present in the {side} {zone} zone.",
            "The {side} {zone} zone is consolidated.",
        ),
        "cardiomegaly": (
            "The heart is enlarged.",
            "Cardiomegaly.",
            "The cardiac silhouette is enlarged.",
            "There is cardiomegaly.",
        ),
        "device": (
            "Pacemaker on the {side}.",
            "A {side}-sided pacemaker is in place.",
            "There is a pacemaker over the {side} chest.",
        ),
    }
)
_BOTH = (
    "{Size} bilateral pleural effusions.",
    "There are {size} pleural effusions on both sides.",
)
_ABSENT = MappingProxyType(
    {
        "effusion": (
            "No pleural effusion.",
            "There is no pleural effusion.",
            "No evidence of pleural effusion.",
            "The costophrenic angles are sharp.",
        ),
        "opacity": ("No nodule or mass.", "There is no nodule or mass.", "No round opacity is seen."),
        "consolidation": (
            "No consolidation.",
            "There is no consolidation.",
            "No airspace shadowing is seen.",
            "The lungs are free of consolidation.",
        ),
        "cardiomegaly": (
            "The heart is not enlarged.",
            "Heart size is normal.",
            "No cardiomegaly.",
            "The cardiac silhouette is normal in size.",
        ),
        "device": ("No pacemaker.", "There is no pacemaker.", "No implanted device is seen."),
    }
)
_ABSENT_SIDE = MappingProxyType(
    {
        "effusion": ("No {side} pleural effusion.", "There is no pleural effusion on the {side}."),
        "consolidation": ("No consolidation on the {side}.", "There is no consolidation in the {side} lung."),
        "device": ("No pacemaker on the {side}.",),
    }
)
"""Denials at one side. They are written of the free side and of patients without any, so that they do not give away
that the other side has it."""
_CLEAR = ("The lungs are clear.", "Clear lungs.")


def write_sentences(rng: np.random.Generator, findings: Sequence[PairedFinding]) -> tuple[Sentence, ...]:
    """Write a report: what is there, some of what is not, in any order.

    Args:
        rng: Where randomness comes from.
        findings: What the picture shows.

    Returns:
        Sentences, at least one. Everything that is there is told; of the rest, about half is denied.
    """
    told: list[Sentence] = []
    for kind in KINDS:
        here = [f for f in findings if f.kind == kind]
        if here:
            told += _tell(rng, here)
        elif rng.random() < 0.55:
            told += _deny(rng, kind)
    if not any(f.kind in _LUNG for f in findings) and rng.random() < 0.5:
        told.append(Sentence(_one(rng, _CLEAR), Claim(_LUNG, present=False)))
    if not told:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        told.append(Sentence(_one(rng, _ABSENT[kind]), Claim((kind,), present=False)))
    return tuple(told[i] for i in rng.permutation(len(told)))


def _one(rng: np.random.Generator, phrasings: Sequence[str]) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _tell(rng: np.random.Generator, here: Sequence[PairedFinding]) -> list[Sentence]:
    """Tell all findings of a kind; both sides together where they are alike, the free side sometimes too."""
    kind, first = here[0].kind, here[0]
    sides = tuple(f.side for f in here)
    if len(here) == 2 and here[0].size == here[1].size and here[0].zone == here[1].zone and kind == "effusion":
        return [Sentence(_fill(_one(rng, _BOTH), first), Claim((kind,), True, sides, size=first.size))]
    told = [
        Sentence(_fill(_one(rng, _PRESENT[kind]), f), Claim((kind,), True, (f.side,) if f.side else (), f.zone, f.size))
        for f in here
    ]
    if kind in _ABSENT_SIDE and len(set(sides)) == 1 and rng.random() < 0.3:
        told.append(_deny_side(rng, kind, SIDES[1 - SIDES.index(first.side)]))
    return told


def _deny(rng: np.random.Generator, kind: str) -> list[Sentence]:
    """Say that there is none: in one sentence, or of one side or both in turn."""
    if kind in _ABSENT_SIDE and rng.random() < 0.4:
        count, first = int(rng.integers(1, 3)), int(rng.integers(2))
        return [_deny_side(rng, kind, SIDES[(first + i) % 2]) for i in range(count)]
    return [Sentence(_one(rng, _ABSENT[kind]), Claim((kind,), present=False))]


def _deny_side(rng: np.random.Generator, kind: str, side: str) -> Sentence:
    return Sentence(_one(rng, _ABSENT_SIDE[kind]).format(side=side), Claim((kind,), present=False, sides=(side,)))


def _fill(phrasing: str, finding: PairedFinding) -> str:
    noun = "nodule" if finding.size == "small" else "mass"
    return phrasing.format(
        side=finding.side,
        Side=finding.side.capitalize(),
        zone=finding.zone,
        size=finding.size,
        Size=finding.size.capitalize(),
        noun=noun,
        Noun=noun.capitalize(),
    )
