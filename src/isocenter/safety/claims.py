"""The ledger under a report: what may be claimed, on what evidence; and whether a sentence says no more than that.

A report is a list of claims: a finding or a part of the body, whether it is there, its side, grade, change and
certainty, and numbers with their units. Each is bound to evidence of a prediction. A sentence may be printed only if
all it claims follows from the ledger (`judge`), whoever wrote it:

1. Every word is known: a word of the ontology, of measuring, or of plain English that claims nothing. A finding or an
   organ that the ledger's words do not hold can't be smuggled in.
2. Every finding that it speaks of is in the ledger with the same status; side, grade and change are said only as they
   stand there. What a finding implies may be said for it ("consolidation": "opacity"), and so may the absence of what
   implies something absent.
3. Every number has its name, its unit and its side, and is the ledger's number rounded to the digits that are shown.
4. A side, a part of the body, or a word that denies or doubts, belongs to something that is claimed.
5. Nothing is called certain: a model's answer never is.

The judge reads English. It is strict: of what it does not understand it says no, and the sentence is withheld.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from isocenter.core.errors import DataError
from isocenter.core.knowledge import FINDINGS, Exam
from isocenter.evaluate.report_mentions import Change, Grade, Mention, Side, Status, read_mentions
from isocenter.safety.claim_words import (
    CERTAIN,
    CHANGING,
    DOUBTING,
    GRADING,
    NARROWER,
    PLACES,
    PLAIN,
    known_words,
    stem,
    vocabulary_of,
)

__all__ = ["Ledger", "LedgerClaim", "LedgerEvidence", "Quantity", "Verdict", "judge"]

EvidenceKind = Literal["segment", "measurement", "probability", "comparison"]
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:[²³])?|%|[.,;:?!()]")
_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "ml": "mL", "cm³": "mL", "milliliter": "mL", "millilitre": "mL", "l": "L", "liter": "L", "litre": "L",
        "mm": "mm", "millimeter": "mm", "millimetre": "mm", "cm": "cm", "centimeter": "cm", "centimetre": "cm",
        "cm²": "cm2", "mm²": "mm2", "mm³": "mm3", "hu": "HU", "%": "%", "percent": "%", "day": "d", "year": "a",
        "voxel": "voxel", "pixel": "pixel",
    }
)  # fmt: skip
_NEAREST = 0.06
"""Largest relative difference of a rounded number from the ledger's."""


@dataclass(frozen=True)
class LedgerEvidence:
    """What a claim rests on.

    Args:
        id: Within the ledger, e.g. "e3".
        kind: What it is.
        text: For people, one line, without a patient's name or number.
        task: Which task said so; "" for a reader.
        input: sha256 or UID of the image.
        segment: Number of the segment that shows it, where there is one.
        picture: Picture that shows where, relative to the result; "" for none.
    """

    id: str
    kind: EvidenceKind
    text: str
    task: str = ""
    input: str = ""
    segment: int | None = None
    picture: str = ""


@dataclass(frozen=True)
class Quantity:
    """A number of a claim.

    Args:
        name: Of what is measured, in words: "volume", "long axis", "probability".
        value: The number.
        unit: As it is printed: "mL", "mm", "cm2", "%", ...; "" for none.
        low: Lower end of its interval, or None.
        high: Upper end, or None.
        level: How often the interval holds, in percent; None where it promises nothing.

    Raises:
        DataError: An interval lacks an end, or ends lie the wrong way round.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise DataError(f"the interval of {self.name!r} has one end")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise DataError(f"the interval of {self.name!r} ends before it begins")


@dataclass(frozen=True)
class LedgerClaim:
    """One claim.

    Args:
        id: Within the ledger, e.g. "c1".
        about: Name of a finding (`core.knowledge.FINDINGS`), or of a part of the body that is measured.
        status: Whether it is there; of a part of the body "present".
        side: Where, or None.
        grade: How much, or None.
        change: Against an earlier image, or None.
        quantities: Its numbers.
        place: Which part of a part of the body: "anterior", "posterior", "upper", "lower"; or None.
        evidence: Ids of what it rests on.

    Raises:
        DataError: It rests on nothing, or is about nothing that is known.
    """

    id: str
    about: str
    evidence: tuple[str, ...]
    status: Status = "present"
    side: Side | None = None
    grade: Grade | None = None
    change: Change | None = None
    quantities: tuple[Quantity, ...] = ()
    place: Literal["anterior", "posterior", "upper", "lower"] | None = None

    def __post_init__(self) -> None:
        if not self.evidence:
            raise DataError(f"claim {self.id} rests on no evidence: it may not be made")
        if self.about not in FINDINGS:
            FINDINGS.site(self.about)

    @property
    def site(self) -> str:
        """Name of the part of the body that it is about."""
        name = FINDINGS.named(self.about).site if self.about in FINDINGS else self.about
        return FINDINGS.site(name).name


@dataclass(frozen=True)
class Ledger:
    """What a report may claim.

    Args:
        exam: Kind of examination: whose words are read.
        claims: All of them.
        evidence: What they rest on.
        limits: Sentences about the examination itself (what was not examined, why a task abstained); they claim nothing
            of the patient, and may be printed word for word.
        of: What was imaged how, in a word or two ("CT"), where there are several examinations of one kind.

    Raises:
        DataError: An id stands twice, a claim rests on evidence that there is not, or claims contradict each other.
    """

    exam: Exam
    claims: tuple[LedgerClaim, ...] = ()
    evidence: tuple[LedgerEvidence, ...] = ()
    limits: tuple[str, ...] = ()
    of: str = ""
    _by_site: dict[str, list[LedgerClaim]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        ids = [claim.id for claim in self.claims] + [one.id for one in self.evidence]
        if len(set(ids)) < len(ids):
            raise DataError("an id stands twice in the ledger")
        known = {one.id for one in self.evidence}
        for claim in self.claims:
            lost = [name for name in claim.evidence if name not in known]
            if lost:
                raise DataError(f"claim {claim.id} rests on {lost[0]!r}, which is not in the ledger")
            self._by_site.setdefault(claim.site, []).append(claim)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        said: dict[tuple[str, Side | None], Status] = {}
        for claim in self.claims:
            if claim.about not in FINDINGS:
                continue
            before = said.setdefault((claim.about, claim.side), claim.status)
            if before != claim.status:
                raise DataError(f"{claim.about!r} is both {before} and {claim.status}")
        there = [claim.about for claim in self.claims if claim.about in FINDINGS and claim.status == "present"]
        conflicts = FINDINGS.conflicts(dict.fromkeys(there))
        if conflicts:
            raise DataError(f"{conflicts[0][0]!r} and {conflicts[0][1]!r} can't both be there")

    def at(self, site: str) -> tuple[LedgerClaim, ...]:
        """Return the claims about a part of the body."""
        return tuple(self._by_site.get(site, ()))


@dataclass(frozen=True)
class Verdict:
    """Whether a sentence may be printed.

    Args:
        sentence: The sentence.
        claims: Ids of the claims that it makes, where it may be printed; empty for a limit.
        reasons: Why it may not; empty where it may.
    """

    sentence: str
    claims: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether it may be printed."""
        return not self.reasons


def judge(sentence: str, ledger: Ledger) -> Verdict:
    """Say whether all that a sentence claims follows from the ledger.

    Args:
        sentence: One sentence in English.
        ledger: What may be claimed.

    Example:
        >>> ledger = Ledger(
        ...     "chest radiograph",
        ...     (LedgerClaim("c1", "pleural effusion", ("e1",), side="left"),),
        ...     (LedgerEvidence("e1", "probability", "probability 0.91"),),
        ... )
        >>> judge("There is a left pleural effusion.", ledger).claims
        ('c1',)
        >>> judge("There is a right pleural effusion.", ledger).reasons[0]
        "the ledger has 'pleural effusion' left, not right"
    """
    plain = " ".join(sentence.split())
    if plain in ledger.limits:
        return Verdict(plain)
    reading = _Reading(plain, ledger)
    reading.read()
    if not reading.reasons and not reading.used:
        reading.reasons.append("it claims nothing that is in the ledger")
    used = () if reading.reasons else tuple(dict.fromkeys(reading.used))
    return Verdict(plain, used, tuple(dict.fromkeys(reading.reasons)))


class _Reading:
    """One sentence on its way to a verdict."""

    def __init__(self, sentence: str, ledger: Ledger) -> None:
        self.sentence, self.ledger = sentence, ledger
        self.tokens = [(m[0].lower(), m.start(), m.end()) for m in _WORD.finditer(sentence)]
        self.reasons: list[str] = []
        self.used: list[str] = []
        self.matched: list[LedgerClaim] = []
        self.places: list[tuple[int, list[LedgerClaim]]] = []
        self.mentions: tuple[Mention, ...] = ()

    def read(self) -> None:
        """Go through all that it says."""
        self.mentions = read_mentions(self.sentence, vocabulary_of(self.ledger.exam))
        if self._unknown():
            return
        for mention in self.mentions:
            self._mention(mention)
        self._sites()
        self._numbers()
        self._sides()
        words = {stem(word) for word, _, _ in self.tokens}
        for some, what, met in (
            (DOUBTING, "denies or doubts", bool(self.mentions)),
            (GRADING, "grades", any(m.grade for m in self.mentions)),
            (CHANGING, "tells a change of", any(m.change for m in self.mentions)),
        ):
            if words & some and not met:
                self.reasons.append(f"it {what} something that is no finding of the ledger")

    def _unknown(self) -> bool:
        rest = re.sub(r"[\s\-–/'’\"]", "", _WORD.sub("", self.sentence))
        if rest:
            self.reasons.append(f"it holds signs that are not read: {rest[:5]!r}")
        known = known_words(self.ledger.exam)
        spans = [(m.start, m.end) for m in self.mentions] + [(a, b) for _, a, b in _sites_in(self.tokens)]
        named = {stem(w) for c in self.ledger.claims for w in c.about.split()}
        for word, start, end in self.tokens:
            inside = any(a <= start and end <= b for a, b in spans)
            if stem(word) in NARROWER - named:
                self.reasons.append(f"{word!r} says more than the ledger does")
                continue
            if {word, stem(word)} & CERTAIN:
                self.reasons.append(f"it calls something certain ({word!r})")
            elif (
                word[0].isalpha()
                and not inside
                and not {word, stem(word)} & set(_UNITS)
                and not {word, stem(word)} & known
            ):
                self.reasons.append(f"it says a word that the ledger does not hold: {word!r}")
        return bool(self.reasons)

    def _mention(self, mention: Mention) -> None:
        claims = [c for c in self.ledger.claims if c.about in FINDINGS and _follows(mention, c)]
        spoken = [c for c in self.ledger.claims if c.about in FINDINGS and _about(mention.finding, c.about)]
        if not spoken:
            self.reasons.append(f"{mention.finding!r} is not in the ledger")
            return
        if not claims:
            said = ", ".join(sorted({c.status for c in spoken}))
            self.reasons.append(f"the ledger has {mention.finding!r} {said}, not {mention.status}")
            return
        for what in ("side", "grade", "change"):
            wanted = getattr(mention, what)
            fitting = claims if wanted is None else [c for c in claims if getattr(c, what) == wanted]
            if what == "side" and wanted == "both" and {"left", "right"} <= {c.side for c in claims}:
                fitting = claims
            if not fitting:
                known = (
                    ", ".join(sorted({str(getattr(c, what)) for c in claims if getattr(c, what)})) or f"without {what}"
                )
                self.reasons.append(f"the ledger has {mention.finding!r} {known}, not {wanted}")
                return
            claims = fitting
        self._match(mention.start, claims)
        self.used += [c.id for c in claims]

    def _match(self, place: int, claims: list[LedgerClaim]) -> None:
        self.matched += claims
        self.places.append((place, claims))

    def _nearest(self, place: int) -> list[LedgerClaim]:
        """Return the claims of what was last spoken of before a place in the text, else of what comes first behind."""
        before = [(at, claims) for at, claims in self.places if at < place]
        if before:
            return max(before, key=lambda pair: pair[0])[1]
        return min(self.places, key=lambda pair: pair[0])[1] if self.places else []

    def _sites(self) -> None:
        """Take up claims about parts of the body that are named, and refuse parts that nothing is claimed of."""
        for name, start, end in _sites_in(self.tokens):
            if any(m.start <= start and end <= m.end for m in self.mentions):
                continue
            if any(c.site == name for c in self.matched):
                continue
            measured = [c for c in self.ledger.at(name) if c.about not in FINDINGS]
            if self.mentions and not measured:
                # "no effusion in the chest": the whole that a part belongs to adds nothing.
                if name != "chest":
                    self.reasons.append(f"nothing is claimed of {name!r}")
                continue
            if not measured:
                self.reasons.append(f"nothing is claimed of {name!r}")
            self._match(start, list(measured))

    def _numbers(self) -> None:
        for index, (word, _, _) in enumerate(self.tokens):
            if _NUMBER.fullmatch(word):
                self._number(index)

    def _number(self, index: int) -> None:
        word = self.tokens[index][0]
        name, unit, side = self._name(index), self._unit(index), self._side_of(index)
        if name is None:
            self.reasons.append(f"{word}: a number without a name of what is measured")
            return
        known = [(c, q) for c in self._nearest(self.tokens[index][1]) for q in c.quantities if q.name == name]
        if not known:
            self.reasons.append(f"{word}: the ledger has no {name} of what it speaks of")
            return
        if side is not None:
            known = [(c, q) for c, q in known if c.side in (side, None)]
        elif len({c.side for c, _ in known}) > 1:
            self.reasons.append(f"{word}: it does not say of which side")
            return
        place = self._place_of(index)
        if place is not None:
            known = [(c, q) for c, q in known if c.place == place]
        elif len({c.place for c, _ in known}) > 1:
            self.reasons.append(f"{word}: it does not say of which part")
            return
        within = self._in_interval(index)
        fitting = [c for c, q in known if _same(word, unit, q, within)]
        if not fitting:
            shown = "; ".join(dict.fromkeys(f"{q.value:g} {q.unit}".strip() for _, q in known)) or f"none on the {side}"
            self.reasons.append(f"{word} {unit or ''}".strip() + f": the ledger's {name} is {shown}")
            return
        self.used += [c.id for c in fitting]

    def _name(self, index: int) -> str | None:
        """Return which quantity a number is of: the last that is named before it, else the first behind it."""
        names = sorted({q.name for c in self.ledger.claims for q in c.quantities}, key=len, reverse=True)
        words = [stem(word) for word, _, _ in self.tokens]
        best: tuple[int, str] | None = None
        behind: tuple[int, str] | None = None
        for name in names:
            parts = [stem(p) for p in name.split()]
            for at in range(len(words) - len(parts) + 1):
                if words[at : at + len(parts)] != parts:
                    continue
                if at < index and (best is None or at > best[0]):
                    best = (at, name)
                if at > index and (behind is None or at < behind[0]):
                    behind = (at, name)
        found = best or behind
        return None if found is None else found[1]

    def _unit(self, index: int) -> str | None:
        """Return the unit behind a number; the first end of an interval has that of the second."""
        for at in range(index + 1, min(index + 4, len(self.tokens))):
            word = self.tokens[at][0]
            if word in _UNITS or stem(word) in _UNITS:
                return _UNITS.get(word) or _UNITS[stem(word)]
            if word != "to" and not _NUMBER.fullmatch(word):
                return None
        return None

    def _in_interval(self, index: int) -> Literal["value", "low", "high", "level"]:
        words = [word for word, _, _ in self.tokens]
        if self._unit(index) == "%" and "interval" in words[index : index + 4]:
            return "level"
        if "interval" in words[:index] and "to" in words[index : index + 3]:
            return "low"
        if "interval" in words[:index] and "to" in words[max(0, index - 3) : index]:
            return "high"
        return "value"

    def _side_of(self, index: int) -> Side | None:
        """Return the last side that is said before a number, or the first behind it."""
        before = [w for w, _, _ in self.tokens[:index] if w in ("left", "right")]
        behind = [w for w, _, _ in self.tokens[index:] if w in ("left", "right")]
        word = before[-1] if before else behind[0] if behind else None
        return None if word is None else "left" if word == "left" else "right"

    def _place_of(self, index: int) -> str | None:
        """Return the last part (anterior, ...) that is said before a number, or the first behind it."""
        before = [w for w, _, _ in self.tokens[:index] if w in PLACES]
        behind = [w for w, _, _ in self.tokens[index:] if w in PLACES]
        return before[-1] if before else behind[0] if behind else None

    def _sides(self) -> None:
        if not any(_NUMBER.fullmatch(w) for w, _, _ in self.tokens):
            for word in sorted({w for w, _, _ in self.tokens if w in PLACES} - {c.place for c in self.matched}):
                self.reasons.append(f"it says {word!r} of something that the ledger does not have there")
        said = {w for w, _, _ in self.tokens if w in ("left", "right")}
        said |= {"both"} if any(w in ("bilateral", "bilaterally", "both") for w, _, _ in self.tokens) else set()
        known: set[str | None] = {c.side for c in self.matched}
        if {"left", "right"} <= known:
            known.add("both")
        if "both" in known:
            known |= {"left", "right"} if said >= {"left", "right"} else set()
        for side in sorted(said - {k for k in known if k}):
            self.reasons.append(f"it says {side!r} of something that the ledger does not have there")


def _about(said: str, known: str) -> bool:
    """Tell whether what is known speaks of what is said, itself or by what one implies of the other."""
    return said == known or said in FINDINGS.implied(known) or known in FINDINGS.implied(said)


def _follows(mention: Mention, claim: LedgerClaim) -> bool:
    if mention.status != claim.status:
        return False
    if mention.finding == claim.about:
        return True
    if claim.status == "present":  # a consolidation is an opacity
        return mention.finding in FINDINGS.implied(claim.about)
    # Without an opacity there is no consolidation.
    return claim.status == "absent" and claim.about in FINDINGS.implied(mention.finding)


def _same(word: str, unit: str | None, quantity: Quantity, part: Literal["value", "low", "high", "level"]) -> bool:
    wanted = getattr(quantity, part)
    if wanted is None or (unit or "") != ("%" if part == "level" else quantity.unit):
        return False
    digits = len(word.partition(".")[2])
    value = float(word)
    gap = abs(value - wanted)
    if gap > 0.5 * 10**-digits + 1e-9:
        return False
    if unit == "%":  # a whole percent is told, whatever it is of; but nothing that may happen is told as 0
        return value > 0 or wanted < 0.05
    return bool(gap <= _NEAREST * max(abs(wanted), 1e-12) + 1e-9)


def _sites_in(tokens: Sequence[tuple[str, int, int]]) -> Iterable[tuple[str, int, int]]:
    """Yield the parts of the body that are named, the longest name first, with their place in the text."""
    words, at = [stem(word) for word, _, _ in tokens], 0
    while at < len(words):
        step = 1
        for length in (4, 3, 2, 1):
            name = PLAIN.sites.get(" ".join(words[at : at + length])) if at + length <= len(words) else None
            if name is not None:
                yield name, tokens[at][1], tokens[at + length - 1][2]
                step = length
                break
        at += step
