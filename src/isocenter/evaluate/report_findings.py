"""What two reports claim, finding by finding, and whether they claim the same: by rules, the same way every time.

A claim is a finding, whether it is there (present, absent, uncertain), its side and its grade. Claims are read off
sentence by sentence:

1. Words are matched with phrases of a vocabulary, the longest first.
2. A cue that denies or doubts reaches over what follows, to a word that ends it or to a new statement after a comma
   ("no effusion, heart is enlarged"); some cues reach back ("effusion is not seen"), over a list at most.
3. Parts are judged by predicates: "the heart is enlarged" claims cardiomegaly, "the lungs are clear" denies opacities.
4. A side or grade belongs to the finding that follows it; behind "in the", "on the" or a verb, to the one before it.
   Lists joined by "and" share a side.
5. Claims of one finding are drawn together: present outweighs uncertain outweighs absent, left and right make both,
   the graver grade counts. What is denied has neither side nor grade.

Rules misread: irony of grammar, references to earlier images, and whatever the vocabulary does not hold. They do so
alike on both reports, so they blur a comparison more than they bias it; they are no substitute for a reader.

Source:
    Chapman et al., Journal of Biomedical Informatics 2001 (NegEx); Irvin et al., AAAI 2019 (claims of reports as
    labels); Yu et al., Patterns 2023 (why such figures are needed beside BLEU and ROUGE).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from isocenter.evaluate.chest_terms import CHEST, Vocabulary

__all__ = ["Claim", "ReportAgreement", "read_claims", "report_agreement"]

Status = Literal["present", "absent", "uncertain"]
Side = Literal["left", "right", "both"]
Grade = Literal["mild", "moderate", "severe"]

_WEIGHT: dict[Status, int] = {"absent": 0, "uncertain": 1, "present": 2}
_GRADES: tuple[Grade, ...] = ("mild", "moderate", "severe")
_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[.,;:?!()\n]")
_ENDS = frozenset(".;:?!\n")
_PLACED = frozenset({"the", "in", "on", "at", "of", "within", "involving", "involve"})
_TOLD = frozenset({"identified", "seen", "noted", "present", "evident", "visualized", "demonstrated", "detected"})
_GRADE_REACH = 5
_SAME = frozenset(
    {"pleural", "pneumothorax", "congestive", "basis", "was", "has", "is", "status", "gas", "mass", "thorax"}
)


@dataclass(frozen=True, order=True)
class Claim:
    """What a report says of one finding.

    Args:
        finding: Its name in the vocabulary.
        status: Whether it is there.
        side: Where, or None where it is not said or there are no sides.
        grade: How much, or None where it is not said.
    """

    finding: str
    status: Status
    side: Side | None = None
    grade: Grade | None = None


@dataclass
class _Item:
    """A phrase that was found in a sentence."""

    kind: str
    value: str
    start: int
    end: int


@dataclass
class _Mention:
    """A finding that was spoken of."""

    finding: str
    start: int
    end: int
    status: Status | Literal["past"] = "present"
    side: Side | None = None
    grade: Grade | None = None


@lru_cache(maxsize=20000)
def _stem(word: str) -> str:
    """Bring a plural to its singular, so that phrases stand in the vocabulary once."""
    if len(word) < 4 or word in _SAME or word.endswith(("ss", "us", "is", "ous", "ax")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


@lru_cache(maxsize=8)
def _phrases(vocabulary: Vocabulary) -> dict[str, tuple[tuple[tuple[str, ...], str, str], ...]]:
    """Return, by first word, the phrases that begin with it, the longest first."""
    rows: list[tuple[str, str, str]] = []
    for kind, table in (
        *(("finding", vocabulary.findings), ("predicate", vocabulary.predicates)),
        *(("side", vocabulary.sides), ("grade", vocabulary.grades)),
    ):
        rows += [(phrase, kind, value) for value, phrases in table.items() for phrase in phrases]
    rows += [(phrase, kind, "") for kind, phrases in vocabulary.cues.items() for phrase in phrases]
    rows += [(phrase, "subject", name) for name, (phrases, _) in vocabulary.subjects.items() for phrase in phrases]
    found: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for phrase, kind, value in rows:
        words = tuple(_stem(w) for w in phrase.split())
        found.setdefault(words[0], []).append((words, kind, value))
    return {first: tuple(sorted(rest, key=lambda r: -len(r[0]))) for first, rest in found.items()}


def _sentences(text: str) -> Iterator[list[str]]:
    words: list[str] = []
    for found in _TOKEN.findall(text.lower().replace("\n\n", "\n.\n")):
        if found in _ENDS:
            # A line that is only broken goes on; a question mark doubts the sentence.
            if found == "\n":
                continue
            if found == "?":
                words.append("?")
            if words:
                yield words
            words = []
        else:
            words.append(_stem(found))
    if words:
        yield words


def _items(words: list[str], phrases: dict[str, tuple[tuple[tuple[str, ...], str, str], ...]]) -> list[_Item]:
    items, place = [], 0
    while place < len(words):
        word = words[place]
        if word in (",", "(", ")"):
            items.append(_Item("comma", "", place, place + 1))
        for phrase, kind, value in phrases.get(word, ()):
            if len(phrase) == 1 or tuple(words[place : place + len(phrase)]) == phrase:
                items.append(_Item(kind, value, place, place + len(phrase)))
                place += len(phrase) - 1
                break
        place += 1
    return items


class _Sentence:
    """One sentence on its way to claims."""

    def __init__(self, words: list[str], items: list[_Item], vocabulary: Vocabulary) -> None:
        self.words, self.items, self.vocabulary = words, items, vocabulary
        self.mentions: list[_Mention] = []
        self.subjects: list[_Item] = []
        self.waiting: _Item | None = None
        self.judged = False
        self.scope: Status | Literal["past"] | None = None
        self.since_comma: list[_Mention] | None = None
        self.listed = False

    def read(self) -> list[_Mention]:
        """Go through the phrases once, from left to right."""
        for index, item in enumerate(self.items):
            getattr(self, f"_{item.kind}")(item, index)
        if self.words[-1] == "?":
            for mention in self.mentions:
                mention.status = "uncertain" if mention.status == "present" else mention.status
        self._place_sides()
        self._place_grades()
        return [m for m in self.mentions if m.status != "past"]

    def _add(self, finding: str, item: _Item, status: Status | Literal["past"] | None = None) -> None:
        mention = _Mention(finding, item.start, item.end, status or self.scope or "present")
        self.mentions.append(mention)
        if self.since_comma is not None:
            self.since_comma.append(mention)

    def _finding(self, item: _Item, _: int) -> None:
        self._add(item.value, item)

    def _comma(self, item: _Item, index: int) -> None:
        after = self.items[index + 1] if index + 1 < len(self.items) else None
        joined = after is not None and after.kind in ("or", "and", "deny") and after.start == item.end
        # "No edema or effusion, ...": "or" stood before the last of the list, so the comma ends what is denied.
        if self.listed and not joined:
            self.scope = None
        self.since_comma = None if joined else []
        self.waiting = None

    def _verb(self, item: _Item, _: int) -> None:
        """A verb behind a comma begins a statement of its own: what denied before does not reach it.

        "No nodule, mass or effusion is seen" is a list all the same: "or" and "is seen" tell.
        """
        told = item.end < len(self.words) and self.words[item.end] in _TOLD
        if self.scope and self.since_comma is not None and not told:
            for mention in self.since_comma:
                mention.status = "present"
            self.scope = None
        self.waiting = None

    def _stop(self, _item: _Item, _: int) -> None:
        self.scope, self.since_comma, self.waiting = None, None, None

    def _open(self, scope: Status | Literal["past"]) -> None:
        self.scope, self.since_comma, self.listed = scope, None, False

    def _last(self, index: int) -> bool:
        """Whether nothing that could be denied or doubted stands behind."""
        return not any(i.kind in ("finding", "subject", "predicate") for i in self.items[index + 1 :])

    def _deny(self, _item: _Item, index: int) -> None:
        if self._last(index) and self.mentions:
            self._backwards(index, "absent")
            return
        self._open("absent")

    def _hedge(self, _item: _Item, index: int) -> None:
        if self._last(index) and self.mentions:
            self._backwards(index, "uncertain")
            return
        fresh = self.since_comma is not None and not self.since_comma
        if self.scope != "absent" or fresh:
            self._open("uncertain")

    def _past(self, item: _Item, _: int) -> None:
        self._open("past")

    def _none(self, _item: _Item, _: int) -> None:
        """Nothing: the phrase only keeps its words from being read as something else."""

    _and = _side = _grade = _none

    def _or(self, _item: _Item, _: int) -> None:
        """A list goes on, and this is its last part."""
        self.listed = True
        if self.since_comma:
            self.since_comma = None

    def _denied(self, _item: _Item, index: int) -> None:
        self._backwards(index, "absent")

    def _hedged(self, _item: _Item, index: int) -> None:
        self._backwards(index, "uncertain")

    def _backwards(self, index: int, status: Status) -> None:
        """Deny or doubt what stands before, over a list at most."""
        list_like, seen = False, False
        for item in reversed(self.items[:index]):
            if item.kind in ("stop", "deny", "denied", "hedged", "predicate"):
                return
            if item.kind in ("or", "and"):
                list_like = True
            if item.kind == "comma" and seen and not list_like:
                return
            for mention in self.mentions:
                if mention.start == item.start:
                    seen = True
                    mention.status = status if mention.status != "absent" else "absent"

    def _subject(self, item: _Item, _: int) -> None:
        if self.waiting is not None:
            self._judge(item, self.waiting, item)
            return
        if self.judged:
            self.subjects, self.judged = [], False
        self.subjects.append(item)

    def _predicate(self, item: _Item, _: int) -> None:
        fitting = [s for s in self.subjects if item.value in self.vocabulary.subjects[s.value][1]]
        for subject in fitting:
            self._judge(subject, item, item)
        self.judged = bool(fitting)
        self.waiting = None if fitting else item

    def _judge(self, subject: _Item, predicate: _Item, last: _Item) -> None:
        """Claim what a predicate says of a part; the claim stands where the latter of the two stands."""
        findings = self.vocabulary.subjects[subject.value][1].get(predicate.value)
        if findings is None:
            return
        status: Status | Literal["past"] = self.scope or "present"
        if predicate.value == "normal":
            status = "present" if self.scope == "absent" else "absent"
        for finding in findings.split("|"):
            self._add(finding, last, status)

    def _place_sides(self) -> None:
        for item in self.items:
            if item.kind != "side":
                continue
            before = [m for m in self.mentions if m.end <= item.start]
            after = [m for m in self.mentions if m.start >= item.end]
            behind = item.start > 0 and self.words[item.start - 1] in _PLACED
            adverb = self.words[item.end - 1] == "bilaterally"
            if before and (behind or adverb or not after) and not self._parted(before[-1].end, item.start):
                self._give_side(before[-1], item.value)
            elif after and not self._parted(item.end, after[0].start):
                for earlier, mention in zip([None, *after], after, strict=False):
                    if earlier is not None and not self._joined(earlier.end, mention.start):
                        break
                    self._give_side(mention, item.value)

    def _parted(self, start: int, end: int) -> bool:
        return any(i.kind in ("stop", "deny") for i in self.items if start <= i.start < end)

    def _joined(self, start: int, end: int) -> bool:
        between = [i.kind for i in self.items if start <= i.start < end]
        return bool({"or", "and"} & set(between)) and not {"comma", "side", "stop", "deny", "verb"} & set(between)

    def _give_side(self, mention: _Mention, side: str) -> None:
        if mention.finding in self.vocabulary.unsided:
            return
        if mention.side is None:
            mention.side = _as_side(side)
        elif mention.side != side:
            mention.side = "both"

    def _place_grades(self) -> None:
        for item in self.items:
            if item.kind != "grade":
                continue
            after = [m for m in self.mentions if item.end <= m.start <= item.end + _GRADE_REACH - 1]
            between = [i.kind for i in self.items if after and item.end <= i.start < after[0].start]
            if after and not {"comma", "verb", "deny", "stop"} & set(between):
                after[0].grade = _graver(after[0].grade, item.value)
                continue
            before = [m for m in self.mentions if item.start - _GRADE_REACH + 1 <= m.end <= item.start]
            if before and any(i.kind == "verb" for i in self.items if before[-1].end <= i.start < item.start):
                before[-1].grade = _graver(before[-1].grade, item.value)


def _as_side(value: str) -> Side:
    return "left" if value == "left" else "right" if value == "right" else "both"


def _graver(first: Grade | None, second: str | None) -> Grade | None:
    return max((g for g in _GRADES if g in (first, second)), key=_GRADES.index, default=None)


def read_claims(text: str, vocabulary: Vocabulary = CHEST) -> tuple[Claim, ...]:
    """Return what a report claims, one claim for each finding and side, sorted by name.

    Args:
        text: Findings and impression; leave out what was asked (indication), which claims nothing.
        vocabulary: Words of this kind of report.

    Example:
        >>> for claim in read_claims("Small left pleural effusion. No pneumothorax. Heart size is normal."):
        ...     print(claim.finding, claim.status, claim.side, claim.grade)
        cardiomegaly absent None None
        pleural effusion present left mild
        pneumothorax absent None None
    """
    phrases = _phrases(vocabulary)
    mentions: list[_Mention] = []
    for words in _sentences(text):
        items = _items(words, phrases)
        if items:
            mentions += _Sentence(words, items, vocabulary).read()
    return tuple(sorted(_together(mentions), key=lambda c: (c.finding, c.side or "")))


def _together(mentions: Iterable[_Mention]) -> Iterator[Claim]:
    by_finding: dict[str, list[_Mention]] = {}
    for mention in mentions:
        by_finding.setdefault(mention.finding, []).append(mention)
    for finding, said in by_finding.items():
        status = max((m.status for m in said if m.status != "past"), key=_WEIGHT.__getitem__)
        if status == "absent":
            yield Claim(finding, "absent")
            continue
        counted = [m for m in said if m.status == status]
        # "Blunting, suggesting small left effusions": what was doubted may still tell the side.
        doubted = [m for m in said if m.status not in ("absent", "past")]
        sides = {m.side for m in counted if m.side} or {m.side for m in doubted if m.side}
        side: Side | None = None
        if sides:
            side = "both" if len(sides) > 1 else next(iter(sides))
        grade: Grade | None = None
        for mention in counted:
            grade = _graver(grade, mention.grade)
        yield Claim(finding, status, side, grade)


@dataclass(frozen=True)
class ReportAgreement:
    """How far two reports claim the same.

    Args:
        reference: Claims of the report taken as true.
        answer: Claims of the report that is judged.
    """

    reference: tuple[Claim, ...]
    answer: tuple[Claim, ...]

    def _pairs(self) -> list[tuple[Claim, Claim]]:
        answered = {c.finding: c for c in self.answer}
        return [(c, answered[c.finding]) for c in self.reference if c.finding in answered]

    @property
    def precision(self) -> float:
        """Share of the answer's claims that the reference makes word for word; 1 where neither claims anything."""
        return _share(self.reference, self.answer)

    @property
    def recall(self) -> float:
        """Share of the reference's claims that the answer makes word for word; 1 where neither claims anything."""
        return _share(self.answer, self.reference)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two: finding, status, side and grade must all be the same."""
        return _f1(self.reference, self.answer)

    @property
    def positive_f1(self) -> float:
        """F1 of the claims that something is or may be there; denials, of which reports are full, are left out."""
        return _f1(*(tuple(c for c in claims if c.status != "absent") for claims in (self.reference, self.answer)))

    @property
    def finding_f1(self) -> float:
        """F1 of what was claimed to be there or not, whatever its side and grade."""
        return _f1(*({(c.finding, c.status) for c in claims} for claims in (self.reference, self.answer)))

    @property
    def status_agreement(self) -> float:
        """Share of the findings that both speak of with the same status; NaN where there are none."""
        return _mean([a.status == b.status for a, b in self._pairs()])

    @property
    def side_agreement(self) -> float:
        """Of findings that both hold for there or possible, and one gives a side: share with the same side."""
        return _mean([a.side == b.side for a, b in self._there() if a.side or b.side])

    @property
    def grade_agreement(self) -> float:
        """Of findings that both hold for there or possible, and one gives a grade: share with the same grade."""
        return _mean([a.grade == b.grade for a, b in self._there() if a.grade or b.grade])

    def _there(self) -> list[tuple[Claim, Claim]]:
        return [(a, b) for a, b in self._pairs() if "absent" not in (a.status, b.status)]

    @property
    def contradicted(self) -> tuple[str, ...]:
        """Findings that one report claims and the other denies."""
        return tuple(a.finding for a, b in self._pairs() if {a.status, b.status} == {"present", "absent"})

    @property
    def wrong_side(self) -> tuple[str, ...]:
        """Findings that are left in one report and right in the other."""
        return tuple(a.finding for a, b in self._there() if {a.side, b.side} == {"left", "right"})


def _share(right: Iterable[object], claims: Iterable[object]) -> float:
    right, claims = set(right), set(claims)
    if not claims:
        return 0.0 if right else 1.0
    return len(right & claims) / len(claims)


def _f1(reference: Iterable[object], answer: Iterable[object]) -> float:
    a, b = set(reference), set(answer)
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def report_agreement(reference: str, answer: str, *, vocabulary: Vocabulary = CHEST) -> ReportAgreement:
    """Compare what two reports claim.

    Args:
        reference: The report taken as true.
        answer: The report that is judged.
        vocabulary: Words of this kind of report.

    Example:
        >>> found = report_agreement("Small left effusion. No pneumothorax.", "Small right effusion, no pneumothorax.")
        >>> found.f1, found.finding_f1, found.wrong_side
        (0.5, 1.0, ('pleural effusion',))
    """
    return ReportAgreement(read_claims(reference, vocabulary), read_claims(answer, vocabulary))
