"""Dates in free text: found in the usual spellings of four languages, and moved within their own spelling.

A date whose parts can be read in only one way is moved; one that might be day-month or month-day is removed, unless
another date of the same text, or the caller, settles the order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

__all__ = ["Found", "find_dates"]

_MONTHS = {
    "en": "january february march april may june july august september october november december",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "de": "januar februar märz april mai juni juli august september oktober november dezember",
}
_SHORT = {
    "en": "jan feb mar apr may jun jul aug sep oct nov dec",
    "es": "ene feb mar abr may jun jul ago sep oct nov dic",
    "de": "jan feb mär apr mai jun jul aug sep okt nov dez",
}
_OTHER_SPELLINGS = {"sept": 9, "setiembre": 9, "maerz": 3, "mrz": 3, "jänner": 1}
_WEEKDAYS = (
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|tue|wed|thu|fri|sat|sun)\b\.?"
    r"|lunes|martes|miércoles|jueves|viernes|sábado|domingo"
    r"|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag"
)


def _names() -> dict[str, tuple[int, str, bool]]:
    """Return month, language and whether it is the short form, by the spelling in lower case."""
    out: dict[str, tuple[int, str, bool]] = {}
    for short, table in ((True, _SHORT), (False, _MONTHS)):
        for language, text in table.items():
            for number, word in enumerate(text.split(), start=1):
                out.setdefault(word, (number, language, short))
    for word, number in _OTHER_SPELLINGS.items():
        out[word] = (number, "en" if word == "sept" else "es" if word == "setiembre" else "de", word in ("sept", "mrz"))
    for word in ("may", "mai"):
        out[word] = (5, "de" if word == "mai" else "en", False)
    return out


_MONTH = _names()
_MONTH_WORD = "|".join(sorted((re.escape(word) for word in _MONTH), key=len, reverse=True))
_YEAR = r"(?:1[89]|20)\d\d"
_B, _E = r"(?<![\w.,/-])", r"(?![\w/]|[.,-]\d)"
_DAY_WORD = r"(?P<d>[0-3]?\d)(?P<ord>st|nd|rd|th|\.|º|er)?"
_BORN = re.compile(
    r"(?:\bD\.?O\.?B\.?|\bborn(?:\s+on)?|(?:date\s+of\s+)?birth(?:\s*date|day)?|\bnacid[oa](?:\s+el)?"
    r"|fecha\s+de\s+nac\w*"
    r"|\bF\.?\s?N\.?\s*:|\bgeb(?:oren)?\b\.?(?:\s+am)?|geburtsdatum|出生(?:日期)?(?:于)?|生日|\*)\W{0,4}$",
    re.IGNORECASE,
)
_PATTERNS = [
    # 2024-03-01, 2024/3/1, 2024.03.01, with a time behind
    (
        "ymd",
        re.compile(rf"{_B}(?P<y>{_YEAR})(?P<s>[-/.])(?P<m>[01]?\d)(?P=s)(?P<d>[0-3]?\d)(?=T\d\d|(?![\w/]|[.,-]\d))"),
    ),
    (
        "ymd8",
        re.compile(rf"(?<![\w./-])(?P<y>{_YEAR})(?P<m>[01]\d)(?P<d>[0-3]\d)(?=T?\d{{6}}\b|T\d\d|(?![\w/]|[.,-]\d))"),
    ),
    ("zh", re.compile(rf"(?P<y>{_YEAR})\s*年\s*(?P<m>[01]?\d)\s*月(?:\s*(?P<d>[0-3]?\d)\s*[日号])?")),
    ("zh_md", re.compile(r"(?<!\d)(?P<m>[01]?\d)月(?P<d>[0-3]?\d)[日号]")),
    # 1 March 2024, 1st of March, 2024, 01-Mar-24, 12 de marzo de 2024, 1. März 2024
    (
        "dMy",
        re.compile(
            rf"(?<![\w/-])(?:(?:{_WEEKDAYS})[\s,]+(?:den\s+)?)?{_DAY_WORD}(?P<s1>\s*(?:of|de|del)\s+|[\s./-]*)"
            rf"(?P<M>{_MONTH_WORD})(?![^\W\d_])(?P<s2>\.?[\s,./-]*(?:(?:de|del|of)\s+)?)(?P<y>{_YEAR}"
            rf"|['’]?\d\d)?(?![\w/]|[.,]\d)",
            re.IGNORECASE,
        ),
    ),
    # March 1, 2024; Mar 1st 2024; March 1
    (
        "Mdy",
        re.compile(
            rf"(?<![\w/-])(?:(?:{_WEEKDAYS})[\s,]+)?(?P<M>{_MONTH_WORD})(?![^\W\d_])(?P<s1>\.?[\s/-]*){_DAY_WORD}"
            rf"(?P<s2>\s*,?\s*|[-/])(?P<y>{_YEAR}|(?<=[-/])\d\d)?(?![\w/:%]|[.,]\d)",
            re.IGNORECASE,
        ),
    ),
    # March 2024, marzo de 2024
    (
        "My",
        re.compile(
            (
                rf"(?<![\w/-])(?P<M>{_MONTH_WORD})(?![^\W\d_])(?P<s1>\.?[\s,/-]*(?:(?:de|del"
                rf"|of)\s+)?)(?P<y>{_YEAR})(?![\w/]|[.,]\d)"
            ),
            re.IGNORECASE,
        ),
    ),
    # 03/01/2024, 3-1-24, 01.03.2024
    (
        "num",
        re.compile(rf"{_B}(?P<a>[0-3]?\d)(?P<s>[-/.])(?P<b>[0-3]?\d)(?P=s)(?P<y>{_YEAR}|\d\d)(?![\w/%]|[.,-]\d)"),
    ),
    ("my", re.compile(rf"{_B}(?P<m>[01]?\d)(?P<s>[/-])(?P<y>{_YEAR}){_E}")),
    (
        "md",
        re.compile(
            r"(?P<cue>\b(?:on|dated|from|since|until|till|of|to|with|exam|study|CT|MRI?|CXR|visit"
            r"|seen|admitted|discharged"
            r"|vom|am|seit|el|del|desde)\s+)(?P<a>[0-3]?\d)/(?P<b>[0-3]?\d)"
            r"(?!\s*(?:pain|on\b|out\b|scale|strength|systolic|murmur|of\b|[a-z]*segments?|vessels?"
            r"|cores?|lymph|nodes?|positive"
            r"|power|reflex|grade|mg|ml|mm|cm|scans?|months?|weeks?|days?|patients?|visits?|times?"
            r"|motor|points?))(?![\w/%]|[.,-]\d)",
            re.IGNORECASE,
        ),
    ),
    (
        "year",
        re.compile(
            rf"(?P<cue>\b(?:in|since|from|year|early|late|mid|around|circa|until|before|after|dated|en"
            rf"|desde|seit|im Jahr|Jahr)"
            rf"[\s-]+)(?P<y>{_YEAR})(?!\s*(?:m[lLgm]|cc|HU|ms|kg|cm|Hz|rads?|steps|units?|IU)\b)(?![\w/%]|[.,]\d)",
            re.IGNORECASE,
        ),
    ),
]


@dataclass(frozen=True)
class Found:
    """A date found in a text.

    Args:
        start: First character.
        end: After the last.
        replacement: The moved date in the same spelling, or "[DATE]".
    """

    start: int
    end: int
    replacement: str


def find_dates(text: str, shift_days: int | None, *, day_first: bool | None = None) -> list[Found]:
    """Find dates, longest first where they overlap.

    Args:
        text: Free text.
        shift_days: Days to move back; None removes.
        day_first: Whether 03/04/2024 is the third of April; None decides by the text itself.
    """
    if not any(sign.isdigit() for sign in text):
        return []
    order = day_first if day_first is not None else _order(text)
    out: list[Found] = []
    taken: list[tuple[int, int]] = []
    for kind, pattern in _PATTERNS:
        for hit in pattern.finditer(text):
            start = hit.end("cue") if "cue" in hit.groupdict() else hit.start()
            end = hit.end()
            if any(start < stop and end > begin for begin, stop in taken) or not _plausible(kind, hit, text):
                continue
            while text[end - 1] in " ,.-/" and end > start:
                end -= 1
            born = _BORN.search(text[max(0, start - 30) : start]) is not None
            moved = None if shift_days is None or born else _moved(kind, hit, shift_days, order)
            taken.append((start, end))
            out.append(Found(start, end, moved or "[DATE]"))
    return sorted(out, key=lambda found: found.start)


def _order(text: str) -> bool | None:
    """Tell by unambiguous dates of a text whether days come first; None where none is, or they disagree."""
    says: set[bool] = set()
    pattern = next(pattern for kind, pattern in _PATTERNS if kind == "num")
    for hit in pattern.finditer(text):
        first, second = int(hit["a"]), int(hit["b"])
        if first > 12 >= second:
            says.add(True)
        elif second > 12 >= first:
            says.add(False)
    return says.pop() if len(says) == 1 else None


def _plausible(kind: str, hit: re.Match[str], text: str) -> bool:
    """Tell numbers that may be a date from such that are none."""
    parts = hit.groupdict()
    if kind == "num":
        first, second = int(parts["a"]), int(parts["b"])
        return 1 <= min(first, second) <= 12 and 1 <= max(first, second) <= 31
    if kind in ("md", "zh_md"):
        first, second = int(parts.get("a") or parts["m"]), int(parts.get("b") or parts["d"])
        return 1 <= min(first, second) <= 12 and 1 <= max(first, second) <= 31
    if kind in ("dMy", "Mdy"):
        if not 1 <= int(parts["d"]) <= 31:
            return False
        word = parts["M"]
        # "may" is a verb, "mar" and "ago" are words: without a year, the month wears a capital.
        return bool(parts["y"]) or not ((word.islower() and word.lower() in _VERBS) or not _tight(parts))
    if kind in ("ymd", "ymd8", "my"):
        return 1 <= int(parts["m"]) <= 12 and 1 <= int(parts.get("d") or 1) <= 31
    return not (kind == "My" and parts["M"].islower() and parts["M"].lower() in ("may", "mar"))


_VERBS = frozenset(["may", "mar", "ago", "dec", "sep", "mai", "jan", "march", "set"])


def _tight(parts: dict[str, str]) -> bool:
    """Tell whether day and month stand close together, on one line."""
    return "\n" not in parts["s1"] and len(parts["s1"]) <= 5


def _moved(kind: str, hit: re.Match[str], days: int, day_first: bool | None) -> str | None:
    """Return the date moved, in its own spelling; None where it cannot be read in one way only."""
    parts = hit.groupdict()
    if days == 0:
        start = hit.end("cue") if parts.get("cue") else hit.start()
        return hit.string[start : hit.end()].rstrip(" ,.-/")
    readers = {"num": _numeric, "md": None, "zh_md": None, "year": _year_alone}
    reader = readers.get(kind, _written)
    return reader(kind, parts, days, day_first) if reader is not None else None


def _numeric(kind: str, parts: dict[str, str], days: int, day_first: bool | None) -> str | None:
    first, second = int(parts["a"]), int(parts["b"])
    if first > 12:
        day_first = True
    elif second > 12:
        day_first = False
    elif parts["s"] == ".":
        day_first = True
    elif first == second:
        day_first = bool(day_first)
    if day_first is None:
        return None
    day, month = (first, second) if day_first else (second, first)
    moved = _back(_full_year(parts["y"]), month, day, days)
    if moved is None:
        return None
    a, b = (moved.day, moved.month) if day_first else (moved.month, moved.day)
    year = f"{moved.year:04d}" if len(parts["y"]) == 4 else f"{moved.year % 100:02d}"
    return parts["s"].join((_like(parts["a"], a), _like(parts["b"], b), year))


def _year_alone(kind: str, parts: dict[str, str], days: int, day_first: bool | None) -> str | None:
    moved = _back(int(parts["y"]), 7, 1, days)
    return f"{moved.year:04d}" if moved is not None else None


def _written(kind: str, parts: dict[str, str], days: int, day_first: bool | None) -> str | None:
    if not parts.get("y"):
        return None
    word = parts.get("M")
    month = _MONTH[word.lower()][0] if word else int(parts["m"])
    day = int(parts["d"]) if parts.get("d") else 1
    moved = _back(_full_year(parts["y"]), month, day, days)
    if moved is None:
        return None
    year = f"{moved.year:04d}" if len(parts["y"]) == 4 else parts["y"][:-2] + f"{moved.year % 100:02d}"
    tight = (parts.get("s1") or "") in ("-", "", ".", "/")
    name = _month_like(word, moved.month, short=tight) if word else ""
    ordinal = _ordinal(parts.get("ord") or "", moved.day)
    number = ""
    if parts.get("d"):
        spelled = word is not None and not tight and not parts["d"].startswith("0")
        number = str(moved.day) if spelled else _like(parts["d"], moved.day)
    if kind == "zh":
        return f"{year}年{_like(parts['m'], moved.month)}月" + (f"{number}日" if number else "")
    if kind == "ymd8":
        return f"{year}{moved.month:02d}{moved.day:02d}"
    if kind == "ymd":
        return parts["s"].join((year, _like(parts["m"], moved.month), number))
    if kind == "my":
        return f"{_like(parts['m'], moved.month)}{parts['s']}{year}"
    if kind == "dMy":
        return f"{number}{ordinal}{parts['s1']}{name}{parts['s2']}{year}"
    if kind == "Mdy":
        return f"{name}{parts['s1']}{number}{ordinal}{parts['s2']}{year}"
    return f"{name}{parts['s1']}{year}"


def _full_year(text: str) -> int:
    digits = text.lstrip("'’")
    if len(digits) == 4:
        return int(digits)
    return int(digits) + (2000 if int(digits) < 50 else 1900)


def _back(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) - timedelta(days=days)
    except (ValueError, OverflowError):
        return None


def _like(sample: str, number: int) -> str:
    """Write a number with as many digits as the sample, at least."""
    return f"{number:02d}" if len(sample) == 2 else str(number)


def _ordinal(sample: str, day: int) -> str:
    if sample.lower() not in ("st", "nd", "rd", "th"):
        return sample
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _month_like(sample: str, month: int, *, short: bool) -> str:
    """Write a month as long as the sample; "May" is as long as asked."""
    _, language, brief = _MONTH[sample.lower()]
    short = short if sample.lower() in ("may", "mai") else brief
    word = (_SHORT if short else _MONTHS)[language].split()[month - 1]
    if sample.isupper():
        return word.upper()
    return word.capitalize() if sample[0].isupper() else word
