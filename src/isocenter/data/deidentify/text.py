"""Free text without names, numbers, dates, addresses: first version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from isocenter.data.deidentify.identity import KnownIdentity, pattern

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


@lru_cache(maxsize=8192)
def clean_text(text: str, *, known: KnownIdentity | None = None, shift_days: int | None = None) -> CleanText:
    """Replace what identifies.

    Args:
        text: Free text.
        known: Words of the patient, replaced wherever they are.
        shift_days: By how many days dates move back; None removes them, 0 leaves them.
    """
    wanted = pattern(known) if known is not None else None
    if wanted is None:
        return CleanText(text, ())
    spans = tuple(
        Span(hit.start(), hit.end(), hit.lastgroup or "id", "[NAME]" if hit.lastgroup == "name" else "[ID]")
        for hit in wanted.finditer(text)
    )
    out, at = [], 0
    for span in spans:
        out += [text[at : span.start], span.replacement]
        at = span.end
    return CleanText("".join([*out, text[at:]]), spans)
