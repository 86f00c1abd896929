"""QIDO-RS: which studies, series and instances there are.

What can't be matched is refused rather than passed over: a search that quietly ignores a patient's identifier answers
with other patients. A study whose instances name several patients is a result for each of them, with the numbers of its
own instances, as Orthanc has it (which tells studies apart by Patient ID and Study Instance UID); a header warns of it.

Source:
    DICOM PS3.18, 10.6 and 8.3.4; PS3.4, C.2.2.2 (matching).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from isocenter.clinic.dicomweb.index import (
    INSTANCE_WORDS,
    SERIES_WORDS,
    STUDY_WORDS,
    Entry,
    Index,
    Level,
    element_in_json,
    tag_of,
)
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import DataError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet

__all__ = ["BadRequest", "Found", "Search", "TooMany", "matches", "read_search", "search"]

_STUDY_MATCH: Final = (*STUDY_WORDS, "ModalitiesInStudy")
_MATCHABLE: Final[dict[Level, tuple[str, ...]]] = {
    "studies": _STUDY_MATCH,
    "series": (*_STUDY_MATCH, *SERIES_WORDS),
    "instances": (*_STUDY_MATCH, *SERIES_WORDS, *INSTANCE_WORDS),
}
_NO_SEQUENCE: Final = "RequestAttributesSequence"
MOST: Final = 5000
"""Results of one answer."""
_LONGEST_VALUE = 1024
_MOST_STARS = 8


class BadRequest(ValueError):
    """A request that can't be understood, or asks for what is not offered (400)."""


class TooMany(Exception):
    """A search that is too broad (413)."""


@dataclass(frozen=True)
class Search:
    """A search.

    Args:
        level: Of what.
        match: What is to match, by tag.
        include: Further attributes to tell, by tag.
        everything: Whether all attributes are to be told.
        limit: Most results; None for all.
        offset: Results to pass over.
        warnings: What could not be done as asked.
    """

    level: Level
    match: Mapping[str, str]
    include: tuple[str, ...] = ()
    everything: bool = False
    limit: int | None = None
    offset: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        results: In the DICOM JSON model.
        more: Whether there are further results.
        mixed: How many of the studies that were found name several patients.
    """

    results: tuple[Mapping[str, Any], ...]
    more: bool
    mixed: int = 0


def read_search(level: Level, query: Sequence[tuple[str, str]]) -> Search:
    """Read the parameters of a search.

    Args:
        level: Of what.
        query: Names and values in order.

    Raises:
        BadRequest: A parameter that is not known, can't be matched at this level, or a value that is none.
    """
    match: dict[str, str] = {}
    include: list[str] = []
    numbers = {"limit": -1, "offset": 0}
    everything = False
    warnings: list[str] = []
    for name, value in query:
        if len(value) > _LONGEST_VALUE:
            raise BadRequest("a value that is too long")
        if name in numbers:
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise BadRequest(f"{name} is a number, 0 or more")
            numbers[name] = int(value)
        elif name == "fuzzymatching":
            if value not in ("true", "false"):
                raise BadRequest("fuzzymatching is true or false")
            if value == "true":
                warnings.append(
                    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
                )
        elif name == "includefield":
            for one in value.split(","):
                everything = everything or one == "all"
                include += [] if one == "all" else [_tag(one)]
        elif name not in ("accept", "charset"):
            tag = _tag(name)
            if tag in match:
                raise BadRequest("an attribute is to match twice; give a list of UIDs with commas")
            if tag not in {tag_of(word) for word in _MATCHABLE[level] if word != _NO_SEQUENCE}:
                raise BadRequest(f"{keyword_for_tag(tag) or tag} can't be matched among {level}")
            if value:
                match[tag] = value
    limit = numbers["limit"] if numbers["limit"] >= 0 else None
    return Search(level, match, tuple(include), everything, limit, numbers["offset"], tuple(warnings))


def _tag(name: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        if not keyword_for_tag(name):
            raise BadRequest("a tag that is not in the dictionary")
        return name.upper()
    number = tag_for_keyword(name) if name.isalnum() else None
    if number is None:
        raise BadRequest(
            "a parameter that is not known; attributes are given by keyword or by eight hexadecimal digits"
        )
    return f"{number:08X}"


def search(index: Index, asked: Search, within: tuple[str, str], url: Callable[[Level, Entry], str]) -> Found:
    """Search.

    Args:
        index: Where.
        asked: For what.
        within: Study and series of the path; "" for none.
        url: Gives the address where a result is retrieved.

    Raises:
        TooMany: No limit was given, and there are more results than one answer holds.
    """
    study = within[0] or _only(asked.match.get(tag_of("StudyInstanceUID"), ""))
    series = within[1] or _only(asked.match.get(tag_of("SeriesInstanceUID"), ""))
    most = MOST if asked.limit is None else min(asked.limit, MOST)
    results: list[Mapping[str, Any]] = []
    studies: set[str] = set()
    passed = 0
    more = False
    for attributes, entry in _matching(index, asked, study, series):
        passed += 1
        if passed <= asked.offset:
            continue
        if len(results) >= most:
            if asked.limit is None:
                raise TooMany(f"more than {MOST} results; narrow the search, or ask for pages with limit and offset")
            more = True
            break
        studies.add(entry.study)
        told = dict(attributes)
        if asked.everything or any(tag not in told for tag in asked.include):
            told = {**_of_file(entry, asked), **told}
        told[tag_of("RetrieveURL")] = {"vr": "UR", "Value": [url(asked.level, entry)]}
        results.append(dict(sorted(told.items())))
    return Found(tuple(results), more, len(index.mixed(studies)))


def _only(value: str) -> str:
    return value if is_uid(value) else ""


def _matching(index: Index, asked: Search, study: str, series: str) -> Iterator[tuple[Mapping[str, Any], Entry]]:
    """Yield what matches. What a series does not say of its study is looked up among the studies."""
    in_study = tag_of("ModalitiesInStudy")
    modalities = asked.match.get(in_study, "")
    wanted = asked.match if asked.level == "studies" else {t: v for t, v in asked.match.items() if t != in_study}
    allowed: dict[str, bool] = {}
    for attributes, entry in index.find(asked.level, study, series):
        if not all(matches(attributes.get(tag), tag, value) for tag, value in wanted.items()):
            continue
        if modalities and asked.level != "studies":
            if entry.study not in allowed:
                of_study = [told for told, _ in index.find("studies", entry.study)]
                allowed[entry.study] = any(matches(told.get(in_study), in_study, modalities) for told in of_study)
            if not allowed[entry.study]:
                continue
        yield attributes, entry


@quiet()
def _of_file(entry: Entry, asked: Search) -> dict[str, Any]:
    """Return attributes that the index does not keep, from the file of the entry."""
    try:
        header = open_instance(entry.file, pixels=False)
    except DataError:
        return {}
    told: dict[str, Any] = {}
    for number in sorted(header.keys()):
        tag = f"{int(number):08X}"
        if tag in asked.include or (asked.everything and asked.level == "instances"):
            made = element_in_json(header, number)
            if tag in asked.include or made.get(tag, {}).get("vr") not in ("OB", "OW"):
                told |= made
    return told


def matches(found: Mapping[str, Any] | None, tag: str, wanted: str) -> bool:
    """Tell whether an element matches a value.

    Args:
        found: Element in the DICOM JSON model, or None.
        tag: Its tag.
        wanted: A value, a list of UIDs, a pattern with * and ?, or a range of dates or times.

    Example:
        >>> matches({"vr": "PN", "Value": [{"Alphabetic": "Muster^Max"}]}, "00100010", "muster*")
        True
        >>> matches({"vr": "DA", "Value": ["20240131"]}, "00080020", "20240101-20240130")
        False
    """
    vr = dictionary_VR(int(tag, 16))
    held = found.get("Value") if isinstance(found, Mapping) else None
    values = [_text(value) for value in held] if isinstance(held, list | tuple) else []
    if wanted in ("", "*", '""'):
        return wanted != '""' or not any(values)
    if vr == "UI":
        return bool({part.strip() for part in re.split(r"[,\\]", wanted)} & set(values))
    if vr in ("DA", "TM", "DT") and "-" in wanted:
        low, _, high = wanted.partition("-")
        return any((not low or one >= low) and (not high or one[: len(high)] <= high) for one in values if one)
    if vr in ("IS", "DS", "US", "UL", "SS", "SL"):
        return any(_number(value) == _number(wanted) for value in values)
    if wanted.count("*") > _MOST_STARS:
        raise BadRequest(f"a pattern with more than {_MOST_STARS} stars")
    fold = str.lower if vr == "PN" else str
    parts = [part for value in values for part in ([value, *value.split("=")] if vr == "PN" else [value])]
    return any(_is_like(fold(part.strip()), fold(wanted.strip())) for part in parts)


def _is_like(text: str, pattern: str) -> bool:
    """Tell whether a text is like a pattern with * and ?.

    Not by a regular expression: for some texts that takes time exponential in the number of stars.
    """
    at = mark = 0
    star = -1
    here = 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "=".join(str(value.get(part, "")) for part in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return str(value)


def _number(text: str) -> float | str:
    return float(text) if re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{0,15})?", text.strip()) else text
