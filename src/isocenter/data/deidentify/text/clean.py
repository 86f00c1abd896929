"""Free text without identity: all finders together, and what they found replaced by marks or moved dates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from isocenter.data.deidentify.identity import KnownIdentity, pattern
from isocenter.data.deidentify.text.dates import find_dates
from isocenter.data.deidentify.text.engines import TextEngine
from isocenter.data.deidentify.text.names import find_names
from isocenter.data.deidentify.text.numbers import find_emails, find_ids, find_labelled_ids, find_phones, find_urls
from isocenter.data.deidentify.text.places import find_addresses, find_hospitals

__all__ = ["CleanText", "Span", "clean_text"]


@dataclass(frozen=True)
class Span:
    """One place of a text that was replaced.

    Args:
        start: First character in the text as it came in.
        end: After its last.
        kind: "name", "date", "id", "address", "phone", "email", "url", "hospital", "age".
        replacement: What stands there now.
    """

    start: int
    end: int
    kind: str
    replacement: str


@dataclass(frozen=True)
class CleanText:
    """A text without identity, and what was replaced.

    Args:
        text: The text.
        spans: What was replaced, in order, by places of the text as it came in.
    """

    text: str
    spans: tuple[Span, ...]


_MARKS = {
    "name": "[NAME]",
    "id": "[ID]",
    "phone": "[PHONE]",
    "email": "[EMAIL]",
    "url": "[URL]",
    "address": "[ADDRESS]",
    "hospital": "[HOSPITAL]",
}
_FIRST: tuple[tuple[str, Callable[[str], list[tuple[int, int]]]], ...] = (
    ("email", find_emails),
    ("url", find_urls),
    ("id", find_labelled_ids),
)
_THEN: tuple[tuple[str, Callable[[str], list[tuple[int, int]]]], ...] = (
    ("phone", find_phones),
    ("id", find_ids),
    ("name", find_names),
    ("address", find_addresses),
    ("hospital", find_hospitals),
)
_OLD = re.compile(
    r"(?<![\w.])(?P<v>9\d|1[01]\d)(?=[\s-]*(?:years?|yrs?|y[./]?o\b|y/o|year-old|jahre|jährig|años|岁|[MF]\b|yo\b))"
    r"|(?<![\w.])(?P<u>(?:9\d|1[01]\d)[.,]\d{1,2})(?=[\s-]*(?:years?|yrs?|jahre|años|岁))"
    r"|\b(?:aged?|age:|alter:?|edad:?)\s*(?P<w>9\d|1[01]\d)(?![\d.])",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def clean_text(
    text: str,
    *,
    known: KnownIdentity | None = None,
    shift_days: int | None = None,
    day_first: bool | None = None,
    engines: tuple[TextEngine, ...] = (),
) -> CleanText:
    """Replace what identifies: names, dates, numbers, addresses, telephones, mail, institutions, ages of 90 and above.

    Rules alone, without a model: they find what has a shape, a label, a title or a common name. A bare name that is
    none of the common ones, with no word beside it that says so, stays; pass the patient's own as known.

    Args:
        text: Free text in English, Spanish, German or Chinese.
        known: Words of the patient, replaced wherever they are.
        shift_days: By how many days dates move back; None removes them, 0 leaves them. What can be read in two ways
            is removed.
        day_first: Whether 03/04/2024 is the third of April; None decides by the other dates of the text.
        engines: Other finders; they only add to what the rules find.

    Example:
        >>> clean_text("Seen by Dr Jane Roe on 2024-03-01, MRN 123456.", shift_days=1).text
        'Seen by Dr [NAME] on 2024-02-29, MRN [ID].'
    """
    if not text.strip() or len(text) < 2:
        return CleanText(text, ())
    spans: list[Span] = []
    wanted = pattern(known) if known is not None else None
    if wanted is not None:
        for hit in wanted.finditer(text):
            kind = hit.lastgroup or "id"
            spans.append(Span(hit.start(), hit.end(), kind, _MARKS[kind]))
    for kind, find in _FIRST:
        spans += [Span(start, end, kind, _MARKS[kind]) for start, end in find(text) if end > start]
    spans += [Span(f.start, f.end, "date", f.replacement) for f in find_dates(text, shift_days, day_first=day_first)]
    for kind, find in _THEN:
        spans += [Span(start, end, kind, _MARKS[kind]) for start, end in find(text) if end > start]
    for engine in engines:
        spans += [Span(start, end, kind, _MARKS.get(kind, "[ID]")) for start, end, kind in engine.find(text)]
    for hit in _OLD.finditer(text):
        start, end = hit.span(hit.lastgroup or 0)
        spans.append(Span(start, end, "age", "90+"))
    return _replaced(text, _apart(text, spans))


def _apart(text: str, spans: list[Span]) -> list[Span]:
    """Return spans that do not overlap: what overlaps is one, of the kind that came first, and of no moved date."""
    chosen: list[Span] = []
    for span in spans:
        touching = [other for other in chosen if span.start < other.end and span.end > other.start]
        if not touching:
            if any(sign.isalnum() for sign in text[span.start : span.end]):
                chosen.append(span)
            continue
        first = touching[0]
        start, end = min(span.start, *(o.start for o in touching)), max(span.end, *(o.end for o in touching))
        if (start, end) == (first.start, first.end):
            continue
        mark = "[DATE]" if first.kind == "date" else first.replacement
        chosen = [other for other in chosen if other not in touching]
        chosen.append(Span(start, end, first.kind, mark))
    return sorted(chosen, key=lambda span: span.start)


def _replaced(text: str, spans: list[Span]) -> CleanText:
    out, at = [], 0
    changed = []
    for span in spans:
        if text[span.start : span.end] == span.replacement:
            continue
        out += [text[at : span.start], span.replacement]
        at = span.end
        changed.append(span)
    return CleanText("".join([*out, text[at:]]), tuple(changed))
