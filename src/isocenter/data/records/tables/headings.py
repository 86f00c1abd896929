"""What the words of a heading say of numbers below it: an age, a date, a number of one person or thing alone.

Numbers are never cleaned as texts are, so these three have to be told from measurements, counts and categories: by the
heading together with the cells, and never by the heading alone where the cells may say otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from isocenter.data.records.moments import table_moment

__all__ = [
    "age_unit",
    "compact_moment",
    "folded",
    "heading_words",
    "is_date",
    "may_number",
    "numbers_people",
    "says_age",
    "says_moments",
    "says_number_of_one",
]

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[^\W\d_]+")
_COMPACT = re.compile(r"((?:1[89]|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}(?:\d{2})?)?)(?:\.0+)?")
_YEAR = re.compile(r"(?:1[89]|20)\d\d(?:\.0+)?")
_WHOLE = re.compile(r"(\d{1,20})(?:\.0+)?")
_PART_OF_DAY = re.compile(r"(\d{1,20})(?:\.\d+)?")
_NOTHING = re.compile(r"[-+]?0+(?:\.0+)?")
_MOST = 0.9
_LEAST_DIGITS, _LONG = 5, 7


def _of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_AGE = frozenset({"age", "ages", "alter", "edad", "eta"})
_NO_AGE = _of(
    "bone lesion tumor tumour stent graft implant device scanner machine adjusted standardized standardised normalized "
    "norm percentile centile z zscore score sq squared ratio gap difference diff index related appropriate specific "
    "dependent"
)
"""Words by which a heading with an age in it is another quantity, or is of no person."""
_OF_WHOM = _of(
    "patient patients subject participant person case donor mother father child onset death diagnosis dx admission "
    "menarche menopause"
)
_UNITS = {
    **dict.fromkeys(("months", "month", "mo", "mos", "monate", "meses"), "mo"),
    **dict.fromkeys(("weeks", "week", "wks", "wk", "wochen", "semanas"), "wk"),
    **dict.fromkeys(("days", "day", "tage", "dias"), "d"),
}
_DATE = _of("date dates datum fecha datetime timestamp dt dttm charttime")
_UNDATED = frozenset({"update", "mandate", "candidate", "validate", "outdate", "predate", "postdate"})
_BETWEEN = _of(
    "days day months month weeks week years hours minutes diff difference delta interval since until between age count "
    "n number num flag known missing valid type format precision offset"
)
"""Words by which a heading with a date in it is a span of time, or says something of the date."""
_YEARS = frozenset({"year", "yr", "jahr", "ano", "annee", "anno"})
_ID = _of("id ids identifier identification kennung identificador identifiant guid uuid barcode")
_NUMBER = _of("number no nr num nummer numero nbr")
_ALONE = _of("account acct konto npi csn")
_OWNERS = _ALONE | _of(
    "case fall visit encounter enc admission hadm stay icustay transfer episode order accession requisition request "
    "referral report chart card record member membership registration registry reference invoice claim bill licence "
    "license certificate serial national citizen personal identity tax social security insurance policy hospital "
    "health passport sample specimen donor employee staff provider caregiver booking ticket unit"
)
_CATEGORIES = _of(
    "item concept code test analyte class category type kind site center centre group arm label scanner model protocol "
    "drug rxcui ndc gene entrez snp rs atlas region roi organ structure segment loinc snomed icd hpo taxon pubmed pmid "
    "dataset fold cluster batch plate slice series frame image ward department"
)
_MEASURES = _of(
    "count counts volume vol voxel voxels pixel pixels area size sum total energy dose cost charge charges price value "
    "load copies cells titer titre platelets plt wbc rbc length intensity mean median min max variance std bytes "
    "offset seed hash"
)


def folded(name: str) -> str:
    """Return a heading in small letters without accents, blanks and marks."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in plain if c.isalnum() and not unicodedata.combining(c))


@lru_cache(maxsize=8192)
def heading_words(heading: str) -> tuple[str, ...]:
    """Return the words of a heading, folded.

    Example:
        >>> heading_words("nationalID"), heading_words("age_at_diagnosis")
        (('national', 'id'), ('age', 'at', 'diagnosis'))
    """
    return tuple(folded(word) for word in _WORDS.findall(heading))


@lru_cache(maxsize=8192)
def says_age(heading: str) -> bool:
    """Tell whether a heading speaks of a person's age, by its words.

    Example:
        >>> says_age("age_at_diagnosis"), says_age("onset age (years)"), says_age("AgeAtDx"), says_age("ageatdeath")
        (True, True, True, True)
        >>> says_age("age of the lesion"), says_age("bone age"), says_age("age_adjusted_rate"), says_age("Stage")
        (False, False, False, False)
    """
    words = heading_words(heading)
    if any(word.startswith(("ageat", "agein", "ageyear", "ageyr")) for word in words):
        return True
    places = [place for place, word in enumerate(words) if word in _AGE]
    if not places or _NO_AGE & set(words):
        return False
    after = [word for word in words[places[0] + 1 :] if word != "the"]
    return after[:1] != ["of"] or (bool(after[1:2]) and after[1] in _OF_WHOM)


@lru_cache(maxsize=8192)
def age_unit(heading: str) -> str:
    """Return the unit that a heading of ages ends with: "mo", "wk", "d", else "a".

    Example:
        >>> age_unit("age in months"), age_unit("age_days"), age_unit("age at 30 days"), age_unit("age")
        ('mo', 'd', 'a', 'a')
    """
    words = heading_words(heading)
    return "a" if not words or "at" in words else _UNITS.get(words[-1], "a")


@lru_cache(maxsize=8192)
def is_date(heading: str) -> bool:
    """Tell whether a heading is that of dates, by its words.

    Example:
        >>> is_date("surgery_date"), is_date("OPDatum"), is_date("SurgeryDt"), is_date("diagnosisdate")
        (True, True, True, True)
        >>> is_date("days to date"), is_date("last update"), is_date("candidate"), is_date("date_known")
        (False, False, False, False)
    """
    words = heading_words(heading)
    if _BETWEEN & set(words):
        return False
    return any(
        word in _DATE or (word.endswith(("date", "datum", "fecha", "日期")) and word not in _UNDATED) for word in words
    )


def compact_moment(cell: str) -> str | None:
    """Return a date of eight digits, with or without a time behind, as ISO 8601; None for other numbers.

    Example:
        >>> compact_moment("20190304"), compact_moment("20190304.0"), compact_moment("201903041605")
        ('2019-03-04', '2019-03-04', '2019-03-04T16:05')
        >>> compact_moment("20190231"), compact_moment("33445566"), compact_moment("2019")
        (None, None, None)
    """
    found = _COMPACT.fullmatch(cell.strip())
    return table_moment(found[1]) if found is not None else None


def says_moments(heading: str, known: Sequence[str]) -> bool:
    """Tell whether numbers are dates: most are dates of eight digits, or years or others under such a heading.

    Zeros say nothing where others do.

    Example:
        >>> says_moments("x", ["20190304", "20200102"]), says_moments("exam_year", ["2019"])
        (True, True)
        >>> says_moments("op_date", ["43528"]), says_moments("visit_date", ["0", "14"]), says_moments("hu", ["2019"])
        (True, False, False)
        >>> says_moments("op_date", ["43528.604", "0"]), says_moments("readmitted", ["0", "0", "0", "20190304"])
        (True, True)
    """
    known = [cell for cell in known if not _NOTHING.fullmatch(cell)]
    if not known:
        return False
    if 2 * sum(compact_moment(cell) is not None for cell in known) >= len(known):
        return True
    if is_date(heading):  # days of a spreadsheet, seconds of a clock: nobody would move them
        return all((found := _PART_OF_DAY.fullmatch(cell)) and len(found[1]) >= _LEAST_DIGITS for cell in known)
    return bool(_YEARS & set(heading_words(heading))) and all(_YEAR.fullmatch(cell) for cell in known)


def says_number_of_one(heading: str, number: str) -> bool:
    """Tell whether a long whole number is one by which a person, their visit or a thing of theirs is known.

    Example:
        >>> says_number_of_one("hadm_id", "22334455"), says_number_of_one("account no.", "5512345")
        (True, True)
        >>> says_number_of_one("concept_id", "22334455"), says_number_of_one("visit number", "12")
        (False, False)
    """
    found = _WHOLE.fullmatch(number)
    words = _apart(heading)
    return found is not None and len(found[1]) >= _LONG and _is_number(words) and bool(words & _OWNERS)


def numbers_people(heading: str, known: Sequence[str]) -> bool:
    """Tell whether a column numbers people, their visits or things, one by one: by its heading and its cells.

    Whole numbers of at least five digits, nearly all different; or of seven, where the heading says whose they are.

    Example:
        >>> numbers_people("national_id", ["123456789", "223456789"]), numbers_people("hadm_id", ["22334455"] * 3)
        (True, True)
        >>> numbers_people("site_id", ["10001", "10002"]), numbers_people("platelet number", ["150000", "251000"])
        (False, False)
        >>> numbers_people("tumor_id", ["1", "2"]), numbers_people("rx_id", ["1234567"] * 3)
        (False, False)
    """
    words = _apart(heading)
    lengths = _lengths(known)
    if not _is_number(words) or not lengths:
        return False
    owned = bool(words & _OWNERS) and min(lengths) >= _LONG
    return owned or (min(lengths) >= _LEAST_DIGITS and _different(known))


def may_number(heading: str, known: Sequence[str]) -> bool:
    """Tell whether a column may number people though its heading does not say so.

    Whole numbers of seven digits or more under the heading of a number; or under any but that of a measurement, where
    there are several, nearly all different and all of one length, as measurements are not.

    Example:
        >>> may_number("rx_id", ["1234567"] * 3), may_number("ref", ["10033455", "20033456"])
        (True, True)
        >>> may_number("voxels", ["10033455", "20033456"]), may_number("load", ["1003345", "33456000"])
        (False, False)
    """
    words = _apart(heading)
    lengths = _lengths(known)
    if not lengths or min(lengths) < _LONG or words & (_MEASURES | _CATEGORIES):
        return False
    return _is_number(words) or (len(known) > 1 and len(set(lengths)) == 1 and _different(known))


@lru_cache(maxsize=8192)
def _apart(heading: str) -> frozenset[str]:
    """Return the words of a heading, those of compounds too ("Fallnummer", "hadmid")."""
    out: set[str] = set()
    for word in heading_words(heading):
        ends = (end for end in ("nummer", "number", "id", "no", "nr") if word.endswith(end))
        end = next((end for end in ends if word.removesuffix(end) in _OWNERS), "")
        out |= {word.removesuffix(end), end} - {""} if end else {word}
    return frozenset(out)


def _is_number(words: frozenset[str]) -> bool:
    if words & _CATEGORIES:
        return False
    return bool(words & (_ID | _ALONE)) or bool(words & _NUMBER and words & _OWNERS)


def _lengths(known: Sequence[str]) -> list[int]:
    """Return how many digits the cells have; none where more than a few of them are no whole numbers."""
    found = [match for cell in known if (match := _WHOLE.fullmatch(cell))]
    return [len(match[1]) for match in found] if known and len(found) >= _MOST * len(known) else []


def _different(known: Sequence[str]) -> bool:
    return len(set(known)) >= _MOST * len(known)
