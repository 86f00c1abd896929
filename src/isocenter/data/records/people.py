"""Persons, sexes and states of a report, alike whatever form they came in."""

from __future__ import annotations

from collections.abc import Iterable

from isocenter.core.errors import UnitsError
from isocenter.core.ucum import read_unit
from isocenter.data.records.rows import Sex

__all__ = ["as_sex", "is_ucum", "person_name", "words_of"]

_SEXES: dict[str, Sex] = {
    **dict.fromkeys(("m", "male", "man", "männlich", "maennlich", "mann", "masculino", "hombre", "homme", "masculin",
                     "maschio", "masculine", "男", "男性"), "M"),
    **dict.fromkeys(("f", "w", "female", "woman", "weiblich", "frau", "femenino", "mujer", "femme", "féminin",
                     "feminin", "femmina", "女", "女性"), "F"),
    **dict.fromkeys(("o", "other", "a", "d", "divers", "diverse", "x", "otro", "autre"), "O"),
}  # fmt: skip


def as_sex(text: str) -> Sex | None:
    """Return a sex as DICOM has it; "" for unknown, None for a word that is not known here.

    Example:
        >>> as_sex("female"), as_sex("W"), as_sex("unknown"), as_sex("7")
        ('F', 'F', '', None)
    """
    small = text.strip().casefold()
    if small in ("", "u", "unknown", "n", "na", "n/a", "nan", "not applicable", "unk", "unbekannt", "?"):
        return ""
    return _SEXES.get(small)


def person_name(family: str = "", given: str = "", middle: str = "", prefix: str = "", suffix: str = "") -> str:
    """Return a name as DICOM writes it (PS3.5 6.2, PN).

    Example:
        >>> person_name("Muster", "Max", suffix="Jr")
        'Muster^Max^^^Jr'
    """
    parts = (family, given, middle, prefix, suffix)
    return "^".join(part.replace("^", " ").replace("=", " ").strip() for part in parts).rstrip("^")


def words_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return what is no empty text, once each, in order."""
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def is_ucum(unit: str) -> bool:
    """Tell whether a unit is one of UCUM that is known here."""
    try:
        read_unit(unit)
    except UnitsError:
        return False
    return True
