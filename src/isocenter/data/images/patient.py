"""One patient or two? The one rule that the reader of DICOM and every writer of it go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Patient", "doubtful", "identifies", "two_patients"]

_NOBODY = frozenset(
    ["anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "noid", "nopatientid", "none", "null",
     "na", "unknown", "unnamed", "noname", "patient", "patientid", "test", "tbd", "removed", "redacted"]
)  # fmt: skip


def identifies(identifier: str) -> bool:
    """Tell whether a Patient ID names somebody, and is not what devices and programs write for everybody.

    Example:
        >>> [identifies(i) for i in ("4711", "ANONYMOUS", "0000", "", "N/A")]
        [True, False, False, False, False]
    """
    letters = "".join(c for c in identifier.casefold() if c.isalnum())
    return bool(letters.strip("0")) and letters not in _NOBODY and set(letters) != {"x"}


@dataclass(frozen=True)
class Patient:
    """What a header says of whose it is; "" for what it does not say.

    Args:
        identifier: Patient ID.
        issuer: Issuer of Patient ID.
        name: Patient's Name.
        birth_date: Patient's Birth Date.
        sex: Patient's Sex.
    """

    identifier: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""

    @classmethod
    def of(cls, text: Callable[[str], str]) -> Patient:
        """Take the fields from a header; `text` returns an element's text by keyword, "" where it has none."""
        return cls(
            text("PatientID"),
            text("IssuerOfPatientID"),
            text("PatientName"),
            text("PatientBirthDate"),
            text("PatientSex").upper(),
        )

    @property
    def known(self) -> int:
        """How many fields are filled."""
        return sum(map(bool, (self.identifier, self.issuer, self.name, self.birth_date, self.sex)))


def two_patients(headers: Iterable[tuple[str, Patient]]) -> tuple[int, int] | None:
    """Find two headers that can't be of one patient.

    Patients differ if their identifiers do (where both have one), or the issuers of equal identifiers. Equal ones
    prove nothing where a device gives everybody the same: names that differ in their letters make two patients when a
    birth date or sex differs too, or when an identifier is missing. Inside one series, which one device acquired of one
    person, a difference in any one of name, birth date or sex is enough. What a header does not say fits everybody.

    Args:
        headers: Series Instance UID ("" for none) and patient of each.

    Returns:
        The places of the first two that differ, None where all agree.
    """
    # Few are distinct: a study of thousands of files has one patient, or two.
    known: dict[tuple[str, Patient], int] = {}
    for place, entry in enumerate(headers):
        if entry in known:
            continue
        for (series, patient), earlier in known.items():
            one_series = bool(series) and series == entry[0]
            if patient != entry[1] and _differ(patient, entry[1], one_series=one_series):
                return earlier, place
        known[entry] = place
    return None


def doubtful(patients: Iterable[Patient]) -> bool:
    """Tell whether patients that `two_patients` took for one differ in name, birth date or sex all the same."""
    distinct = list(dict.fromkeys(patients))
    return any(
        _names_differ(a, b) or _births_differ(a, b) or _sexes_differ(a, b)
        for place, a in enumerate(distinct)
        for b in distinct[:place]
    )


def _differ(a: Patient, b: Patient, *, one_series: bool) -> bool:
    both_identified = bool(a.identifier and b.identifier)
    if both_identified and a.identifier != b.identifier:
        return True
    if both_identified and a.issuer and b.issuer and a.issuer != b.issuer:
        return True
    facts = _births_differ(a, b) or _sexes_differ(a, b)
    if one_series:
        return facts or _names_differ(a, b)
    return _names_differ(a, b) and (facts or not both_identified)


def _births_differ(a: Patient, b: Patient) -> bool:
    return bool(a.birth_date and b.birth_date and a.birth_date != b.birth_date)


def _sexes_differ(a: Patient, b: Patient) -> bool:
    return {a.sex, b.sex} == {"M", "F"}  # "O" and codes of older systems say nothing against either


def _names_differ(a: Patient, b: Patient) -> bool:
    one, other = _spellings(a.name), _spellings(b.name)
    return bool(one and other and not one & other)


def _spellings(name: str) -> set[str]:
    """Return the letters of a name in each of its scripts.

    Files of one series may be encoded in different character sets, and then only the ASCII letters are comparable; they
    are what counts where there are any.
    """
    out = set()
    for group in name.upper().split("="):
        letters = "".join(c for c in group if c.isalnum())
        out.add("".join(c for c in letters if c.isascii()) or letters)
    return out - {""}
