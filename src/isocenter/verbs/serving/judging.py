"""A person's sentences beside the ledger: each is held to it like the composer's, or withheld with the reason.

What the embedded composer writes of the reading may always stand, in any language. English words of a person are
judged by `safety.claims.judge`; the ledger reads no other language, so words in another are withheld unless they are
the composer's. Indication and comparison are the request's and are printed as given; what stood elsewhere, or was
withheld, can't be moved there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from isocenter.safety.claims import Ledger, judge
from isocenter.tasks.report.compose import Draft, Language, SectionName

__all__ = ["GIVEN", "Judged", "Part", "judged", "split_sentences"]

Verdict = Literal["held", "edited", "given", "withheld"]
GIVEN = frozenset({"indication", "comparison"})
"""Sections of the request, which are printed as given."""
_END = re.compile(r"(?<=[.!?。！？])\s+(?=\S)")
_OTHER_LANGUAGE = "the ledger reads English alone: in this language only the composer's own sentences can be signed"


@dataclass(frozen=True)
class Judged:
    """A sentence and what may be made of it; `claims` are names in the whole result ("1.c3")."""

    text: str
    verdict: Verdict
    claims: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a draft as the composer writes it, with its ledger.

    Args:
        number: Of the ledger in the result, from 1.
        draft: Of the composer.
        ledger: Its ledger.
    """

    number: int
    draft: Draft
    ledger: Ledger

    @property
    def exam(self) -> str:
        """Which kind of examination."""
        return self.ledger.exam

    def named(self, claims: Sequence[str]) -> tuple[str, ...]:
        """Return claims of this ledger by their names in the whole result."""
        return tuple(f"{self.number}.{name}" for name in claims)

    def evidence(self, claims: Sequence[str]) -> tuple[str, ...]:
        """Return names of what claims (named in the whole result) rest on."""
        own = {f"{self.number}.{c.id}": c.evidence for c in self.ledger.claims}
        return tuple(f"{self.number}.{e}" for e in dict.fromkeys(e for name in claims for e in own.get(name, ())))

    @cached_property
    def written(self) -> tuple[tuple[SectionName, Judged], ...]:
        """What the composer writes, by section, with its verdict."""
        return tuple(self._written())

    def _written(self) -> Iterator[tuple[SectionName, Judged]]:
        for section in self.draft.sections:
            for s in section.sentences:
                if s.withheld:
                    yield section.name, Judged(s.text, "withheld", (), "; ".join(s.withheld))
                else:
                    given: Verdict = "given" if section.name in GIVEN else "held"
                    yield section.name, Judged(s.text, given, self.named(s.claims))


def split_sentences(text: str) -> tuple[str, ...]:
    """Return a text's sentences, each on one line; none of an empty text.

    Example:
        >>> split_sentences("No effusion. Left lung: area 2.0 cm².  ")
        ('No effusion.', 'Left lung: area 2.0 cm².')
    """
    plain = " ".join(text.split())
    return tuple(part for part in _END.split(plain) if part)


def judged(text: str, section: str, part: Part, language: Language) -> Judged:
    """Say whether a sentence that a person wrote, or left as it was, may be signed.

    Args:
        text: One sentence, as `split_sentences` gives it.
        section: In which it stands.
        part: Of the draft that it belongs to.
        language: Of the draft.
    """
    own = [one for where, one in part.written if (where, one.text) == (section, text)]
    if own:
        return own[0]
    if section in GIVEN:
        return Judged(text, "given")
    elsewhere = [one for _, one in part.written if one.text == text and one.verdict == "held" and one.claims]
    if elsewhere:  # moved from findings to the impression, or back
        return elsewhere[0]
    if language != "en":
        return Judged(text, "withheld", (), _OTHER_LANGUAGE)
    bare = text.removeprefix(f"{part.ledger.of}: ") if part.ledger.of else text
    verdict = judge(bare, part.ledger)
    if verdict.supported and not verdict.claims and section != "limits":
        return Judged(text, "withheld", (), "a limit of the examination belongs to the limits")
    if not verdict.supported:
        # A side, a part or a word that is not there is told before the numbers that it spoils.
        reasons = sorted(verdict.reasons, key=lambda reason: not reason.startswith("it says "))
        return Judged(text, "withheld", (), "; ".join(reasons))
    return Judged(text, "edited" if verdict.claims else "held", part.named(verdict.claims))
