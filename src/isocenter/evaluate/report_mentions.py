"""Findings that a text speaks of, mention by mention, by rules: where, whether, which side, how much, what changed.

1. Words are matched with phrases of a vocabulary, the longest first.
2. A cue that denies or doubts reaches over what follows, to a word that ends it or to a new statement after a comma
   ("no effusion, heart is enlarged"); some cues reach back ("effusion is not seen"), over a list at most.
3. Parts are judged by predicates: "the heart is enlarged" claims cardiomegaly, "the lungs are clear" denies opacities.
4. A side or grade belongs to the finding that follows it; behind "in the", "on the" or a verb, to the one before it.
   Lists joined by "and" share a side.
5. A word of change ("new", "stable", "has resolved") belongs to the finding that follows it, and behind a verb or at
   the end to the one before it; lists joined by "and" share it. Of what is denied only "new" ("no new nodule") and
   "resolved" are kept.

Source:
    Chapman et al., Journal of Biomedical Informatics 2001 (NegEx); Irvin et al., AAAI 2019 (claims of reports as
    labels).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from isocenter.evaluate.chest_terms import CHEST, Vocabulary

__all__ = ["Change", "Grade", "Mention", "Side", "Status", "graver", "read_mentions", "stem"]

Status = Literal["present", "absent", "uncertain"]
Side = Literal["left", "right", "both"]
Grade = Literal["mild", "moderate", "severe"]
Change = Literal["new", "worse", "better", "unchanged", "resolved"]

_GRADES: tuple[Grade, ...] = ("mild", "moderate", "severe")
_CHANGES: tuple[Change, ...] = ("new", "worse", "better", "unchanged", "resolved")
_TOKEN = re.compile(r"\n[ \t]*\n|[a-z]+|\d+(?:\.\d+)?|[.,;:?!()\n]")
_ENDS = frozenset(".;:?!")
_PLACED = frozenset({"the", "in", "on", "at", "of", "within", "involving", "involve"})
_TOLD = frozenset({"identified", "seen", "noted", "present", "evident", "visualized", "demonstrated", "detected"})
_BACK = frozenset(
    {"not", "never", "resolved", "possible", "possibly", "probable", "probably", "likely", "questionable"}
    | {"suspected", "equivocal", "apparent", "perhaps", "presumed", "versus", "vs"}
)
_COMMAS = frozenset(",()")
_LONGEST = 400  # words of a sentence; what goes on for longer is cut, so that no text takes minutes
_EITHER = frozenset({"versus", "vs"})
_SMALL = frozenset({"the", "a", "an", "on", "in", "at", "of", "this", "that", "be", "seen", "time", "side", "here"})
_GRADE_REACH = 5
_CHANGE_REACH = 7
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_SAME = frozenset(
    {"pleural", "pneumothorax", "congestive", "basis", "was", "has", "is", "status", "gas", "mass", "thorax"}
)


_Phrases = dict[str, dict[str, list[tuple[list[str], str, str]]]]


@dataclass(frozen=True)
class Mention:
    """A place where a text speaks of a finding.

    Args:
        finding: Its name in the vocabulary.
        status: Whether it is there.
        start: First character of the words that name it.
        end: One past their last character.
        side: Where, or None where it is not said or there are no sides.
        grade: How much, or None where it is not said.
        change: Against an earlier image, or None where it is not said.
        part: The part that was judged ("the heart is enlarged"), or None where the finding was named.
    """

    finding: str
    status: Status
    start: int
    end: int
    side: Side | None = None
    grade: Grade | None = None
    change: Change | None = None
    part: str | None = None


@dataclass
class _Item:
    """A phrase that was found in a sentence."""

    kind: str
    value: str
    start: int
    end: int


@dataclass
class _Mention:
    """A finding that was spoken of; places are numbers of words. `first` and `last` hold all words that name it."""

    finding: str
    start: int
    end: int
    first: int
    last: int
    status: Status | Literal["past"] = "present"
    side: Side | None = None
    grade: Grade | None = None
    change: Change | None = None
    part: str | None = None


@lru_cache(maxsize=20000)
def stem(word: str) -> str:
    """Bring a plural to its singular, so that phrases stand in the vocabulary once."""
    if len(word) < 4 or word in _SAME or word.endswith(("ss", "us", "is", "ous", "ax")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


@lru_cache(maxsize=8)
def _phrases(vocabulary: Vocabulary) -> _Phrases:
    """Return, by first and second word, the phrases that begin with them, the longest first; "" for no second."""
    rows: list[tuple[str, str, str]] = []
    for kind, table in (
        *(("finding", vocabulary.findings), ("predicate", vocabulary.predicates)),
        *(("side", vocabulary.sides), ("grade", vocabulary.grades)),
    ):
        rows += [(phrase, kind, value) for value, phrases in table.items() for phrase in phrases]
    # A cue that tells a change besides ("resolution of" denies) keeps its kind and carries the change as its value.
    changes = {phrase: value for value, phrases in vocabulary.changes.items() for phrase in phrases}
    rows += [(phrase, kind, changes.pop(phrase, "")) for kind, phrases in vocabulary.cues.items() for phrase in phrases]
    rows += [(phrase, "change", value) for phrase, value in changes.items()]
    rows += [(phrase, "subject", name) for name, (phrases, _) in vocabulary.subjects.items() for phrase in phrases]
    found: _Phrases = {}
    for phrase, kind, value in rows:
        words = [stem(w) for w in phrase.split()]
        second = words[1] if len(words) > 1 else ""
        found.setdefault(words[0], {}).setdefault(second, []).append((words, kind, value))
    for seconds in found.values():
        for listed in seconds.values():
            listed.sort(key=lambda row: -len(row[0]))
    return found


def _sentences(text: str) -> Iterator[tuple[list[str], list[tuple[int, int]]]]:
    """Yield sentence by sentence its words, and where each begins and ends in the text."""
    words: list[str] = []
    places: list[tuple[int, int]] = []
    # Lower case of other scripts may have another length, and places must hold.
    lower = text.lower() if text.isascii() else text.translate(_LOWER)
    for match in _TOKEN.finditer(lower):
        found = match[0]
        if found in _ENDS or found[0] == "\n":
            # A line that is only broken goes on; a question mark doubts the sentence.
            if found == "\n":
                continue
            if found == "?":
                words.append("?")
                places.append(match.span())
            if words:
                yield words, places
            words, places = [], []
        else:
            words.append(stem(found))
            places.append(match.span())
            if len(words) == _LONGEST:
                yield words, places
                words, places = [], []
    if words:
        yield words, places


def _items(words: list[str], phrases: _Phrases) -> list[_Item]:
    items, place, count = [], 0, len(words)
    while place < count:
        word = words[place]
        seconds = phrases.get(word)
        end = place + 1
        if seconds is not None:
            following = seconds.get(words[end], ()) if end < count else ()
            for phrase, kind, value in (*following, *seconds.get("", ())):
                if len(phrase) < 3 or words[place : place + len(phrase)] == phrase:
                    end = place + len(phrase)
                    items.append(_Item(kind, value, place, end))
                    break
        elif word in _COMMAS:
            items.append(_Item("comma", "", place, end))
        place = end
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
        self._place_changes()
        return [m for m in self.mentions if m.status != "past"]

    def _add(
        self, finding: str, item: _Item, status: Status | Literal["past"] | None = None, other: _Item | None = None
    ) -> None:
        first, last = (item.start, item.end) if other is None else _over(item, other)
        mention = _Mention(finding, item.start, item.end, first, last, status or self.scope or "present")
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

    def _rest_known(self, index: int) -> bool:
        """Whether all words behind an item are phrases, or too small to be what is denied or doubted."""
        end = self.items[index].end
        known = {n for i in self.items[index + 1 :] for n in range(i.start, i.end)}
        return all(n in known or self.words[n] in _SMALL for n in range(end, len(self.words)))

    def _deny(self, item: _Item, index: int) -> None:
        if self._last(index) and self.mentions:
            # "and/or infiltrate, with no evidence of tuberculosis": what is denied is a word that nobody knows.
            if item.end == len(self.words) or self.words[item.start] in _BACK or self._rest_known(index):
                self._backwards(index, "absent")
            return
        self._open("absent")

    def _hedge(self, item: _Item, index: int) -> None:
        if self._last(index) and self.mentions:
            # "Fibrosis, may be due to treatment" doubts the cause alone.
            if self.words[item.start] in _BACK or self._rest_known(index):
                self._backwards(index, "uncertain")
            return
        if self.words[item.start] in _EITHER and self.mentions and not self._parted(self.mentions[-1].end, item.start):
            # "Atelectasis versus pneumonia": neither is sure.
            last = self.mentions[-1]
            last.status = "uncertain" if last.status == "present" else last.status
        fresh = self.since_comma is not None and not self.since_comma
        if self.scope != "absent" or fresh:
            self._open("uncertain")

    def _past(self, item: _Item, _: int) -> None:
        self._open("past")

    def _none(self, _item: _Item, _: int) -> None:
        """Nothing: the phrase only keeps its words from being read as something else."""

    _and = _side = _grade = _change = _none

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
        if self.judged and item.end < len(self.words) and "with" in self.words[self.subjects[-1].end : item.start]:
            return  # "the heart is normal with a prominent atrium" says "prominent" of something else
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
            self._add(finding, last, status, subject if last is predicate else predicate)
            self.mentions[-1].part = subject.value

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
                after[0].grade = graver(after[0].grade, item.value)
                continue
            before = [m for m in self.mentions if item.start - _GRADE_REACH + 1 <= m.end <= item.start]
            if before and any(i.kind == "verb" for i in self.items if before[-1].end <= i.start < item.start):
                before[-1].grade = graver(before[-1].grade, item.value)

    def _place_changes(self) -> None:
        for index, item in enumerate(self.items):
            if not item.value or item.kind not in ("change", "deny", "denied", "none"):
                continue
            after = [m for m in self.mentions if item.end <= m.start <= item.end + _CHANGE_REACH]
            before = [m for m in self.mentions if item.start - _CHANGE_REACH <= m.end <= item.start]
            told = item.kind == "denied" or (index > 0 and self.items[index - 1].kind == "verb")
            if item.kind == "change" and told and item.start != self.items[index - 1].end:
                told = False
            if after and not (told and before) and not self._away(item.end, after[0].start):
                self._give_change(after, item)
            elif before and not self._away(before[-1].end, item.start - self._but(item), verbs=False):
                self._give_change(before[::-1], item)

    def _but(self, item: _Item) -> int:
        """Return 1 behind a "but", which parts no more than a comma there: "the heart is enlarged but stable"."""
        return int(item.start > 0 and self.words[item.start - 1] == "but")

    def _away(self, start: int, end: int, *, verbs: bool = True) -> bool:
        ends = {"stop", "deny", "comma", "verb"} if verbs else {"stop", "deny"}
        return any(i.kind in ends for i in self.items if start <= i.start < end)

    def _give_change(self, mentions: list[_Mention], item: _Item) -> None:
        """Tell the change of the nearest finding, and of those that are joined to it."""
        denies = item.kind in ("deny", "denied")
        for nearer, mention in zip([None, *mentions], mentions, strict=False):
            if nearer is not None:
                low, high = sorted((nearer, mention), key=lambda m: m.start)
                if not self._joined(low.end, high.start) and not (denies and nearer.status == mention.status):
                    return
            # What is denied has no course, but for the cue that denied it: "no new", "resolution of".
            if (mention.status == "absent") == denies and mention.change is None:
                mention.change = _as_change(item.value)


def _over(item: _Item, other: _Item) -> tuple[int, int]:
    return min(item.start, other.start), max(item.end, other.end)


def _as_change(value: str) -> Change | None:
    return next((change for change in _CHANGES if change == value), None)


def _as_side(value: str) -> Side:
    return "left" if value == "left" else "right" if value == "right" else "both"


def graver(first: Grade | None, second: str | None) -> Grade | None:
    """Return the graver of two grades; None where there is neither."""
    return max((g for g in _GRADES if g in (first, second)), key=_GRADES.index, default=None)


def read_mentions(text: str, vocabulary: Vocabulary = CHEST) -> tuple[Mention, ...]:
    """Return the places where a text speaks of findings, in order.

    Args:
        text: Findings and impression; leave out what was asked (indication), which claims nothing.
        vocabulary: Words of this kind of report.

    Example:
        >>> text = "Stable small left pleural effusion. No new nodule."
        >>> for m in read_mentions(text):
        ...     print(m.finding, m.status, m.side, m.grade, m.change, repr(text[m.start : m.end]))
        pleural effusion present left mild unchanged 'pleural effusion'
        nodule absent None None new 'nodule'
    """
    phrases = _phrases(vocabulary)
    found: list[Mention] = []
    for words, places in _sentences(text):
        items = _items(words, phrases)
        if items:
            found += [_finished(m, places) for m in _Sentence(words, items, vocabulary).read()]
    return tuple(found)


def _finished(mention: _Mention, places: list[tuple[int, int]]) -> Mention:
    status: Status = "present"
    if mention.status == "absent" or mention.status == "uncertain":
        status = mention.status
    start, end = places[mention.first][0], places[mention.last - 1][1]
    return Mention(mention.finding, status, start, end, mention.side, mention.grade, mention.change, mention.part)
