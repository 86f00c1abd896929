"""Reports, clinical records and tables become rows: identifiers to pseudonyms, dates moved, text cleaned."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from isocenter.data.archive.datasets import told_values
from isocenter.data.archive.naming import stem
from isocenter.data.archive.rows import IN_TEXT, Rows
from isocenter.data.deidentify import KnownIdentity, Policy, Pseudonyms, clean_text
from isocenter.data.deidentify.identity import pattern
from isocenter.data.images.patient import identifies
from isocenter.data.records import Found, ManifestRow, RawLabel, RawPatient, RawRecord, RawReport, RawStudy
from isocenter.data.records.tables import age_unit, compact_moment, is_age, is_date, says_number_of_one

__all__ = ["Speaker", "add_found", "capped", "number_in", "number_of", "said_of", "shift_moment"]

_MOMENT = re.compile(r"(\d{4})-(\d{2})-(\d{2})(.*)")
_YEAR = re.compile(r"\d{4}")
_OLDEST, _NO_AGE = 89.0, 150.0
_OLD = re.compile(r"(?<![\d.])0*(?:9\d|1[0-4]\d)(?:\.\d+)?(?!\d)")
_AGE_CODES = frozenset(
    ["30525-0", "21612-7", "29553-5", "35659-2", "63900-5", "397669002", "424144002", "445518008", "121033"]
)
"""Of LOINC, SNOMED CT and DICOM: how old somebody is, or was at some event."""
_YEARS = ("a", "y", "yr", "yrs", "year", "years")
_YEARS_PER = {**dict.fromkeys(_YEARS, 1.0), "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
_FEW = 16
_SHORT = 3
"""A text of so few letters is a code, and names nobody."""
_DESIGNATORS = frozenset(
    ["ln", "loinc", "sct", "srt", "snomed", "sny", "icd10", "i10", "i10c", "i9", "i9c", "icd9", "rxnorm", "ucum", "atc",
     "dcm", "cvx", "c4", "fma", "radlex"]
)  # fmt: skip
_TERMINOLOGIES = (
    "http://loinc.org", "http://snomed.info/", "http://hl7.org/", "http://terminology.hl7.org/", "http://unitsofmeasure.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm", "http://hl7.org/fhir/sid/", "http://www.whocc.no/atc",
    "http://dicom.nema.org/", "urn:oid:2.16.840.1.113883.6.",
)  # fmt: skip
"""Systems whose codes everybody has."""
_CODE = re.compile(r"[A-Za-z0-9.:_+*!†-]{1,32}")
_DAY = re.compile(r"(?:19|20)\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])(?!\d)")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,4}")


@dataclass(frozen=True)
class Speaker:
    """Who turns rows of a source into rows of a catalog.

    Args:
        names: Makes pseudonyms.
        policy: What is kept.
        domain: Whose identifiers these are where a source does not say.
        place: Of the file among those of its set: names people where a table has no column of patients.
        collection: Name of its set for the catalog, "" for none.
        told: Rows that take up how much was replaced in texts, None for nobody.
        root_name: Name of its set's folder: files are told apart within that.
    """

    names: Pseudonyms
    policy: Policy
    domain: str
    place: str
    collection: str = ""
    told: Rows | None = None
    root_name: str = ""

    def key(self, issuer: str, identifier: str, row: str) -> str:
        """Return the pseudonym of a patient, or of a row where no patient is named."""
        if identifies(identifier):
            return self.names.patient(issuer or self.domain, identifier)
        return self.names.patient(self.domain, f"{self.place} {row}")

    def file_key(self, file: str) -> str | None:
        """Return what a report and the rows of a table share that name it: within a set, and without the ending."""
        return self.names.token("file", self.domain, self.root_name, _bare(file)) if file else None

    def days(self, key: str) -> int | None:
        """Return by how many days the dates of a patient move; None: dates are removed."""
        if self.policy.off or self.policy.retain_dates == "full":
            return 0
        return None if self.policy.retain_dates == "none" else self.names.shift_days(key)

    def moment(self, text: str, key: str) -> str | None:
        """Return a moment moved back; None where it is none, or too vague to be moved."""
        days = self.days(key)
        return None if days is None else shift_moment(text, days)

    def value_moment(self, text: str, key: str) -> str | None:
        """Return a value that is a moment, as `moment`; of a year alone the year that its middle moves to."""
        days = self.days(key)
        if days and _YEAR.fullmatch(text):
            return (shift_moment(f"{text}-07-01", days) or "")[:4] or None
        return self.moment(text, key)

    def clean(self, text: str, known: KnownIdentity, key: str) -> str:
        """Return text without what names anybody."""
        if self.policy.off or len(text) <= _SHORT:
            return text
        clean, replaced = _clean(text, known, self.days(key))
        if self.told is not None:
            for kind, count in replaced:
                self.told.add("removed", {"where": IN_TEXT, "action": kind, "count": count})
        return clean

    def code(self, code: str, system: str, known: KnownIdentity, key: str) -> str:
        """Return a code; what stands in its place and has not the shape of one is a text like others.

        A code that everybody has stays. One of a local system stays unless it is a date, or a word of the person.
        """
        shaped = _CODE.fullmatch(code) is not None
        if shaped and _is_common(system):
            return code
        words = pattern(known)
        if shaped and not _DAY.match(code) and (words is None or not words.search(code)):
            return code
        return self.clean(code, known, key)


@lru_cache(maxsize=16384)
def _clean(text: str, known: KnownIdentity, days: int | None) -> tuple[str, tuple[tuple[str, int], ...]]:
    done = clean_text(text, known=known, shift_days=days)
    return done.text, tuple(sorted(Counter(span.kind for span in done.spans).items()))


def shift_moment(text: str, days: int) -> str | None:
    """Move an ISO 8601 moment back by whole days; a year or month alone can't be moved.

    Example:
        >>> shift_moment("2024-03-01T16:05+01:00", 61), shift_moment("2024", 61)
        ('2023-12-31T16:05+01:00', None)
    """
    found = _MOMENT.fullmatch(text)
    if days == 0 and text:
        return text
    if found is None:
        return None
    try:
        moved = date.fromordinal(date(int(found[1]), int(found[2]), int(found[3])).toordinal() - days)
    except ValueError:
        return None
    return moved.isoformat() + found[4]


def add_found(found: Found, rows: Rows, speaker: Speaker, name: str, about: ManifestRow | None = None) -> None:
    """Add what a file of reports, records or tables holds.

    Args:
        found: As its reader gives it, identified.
        rows: Where to.
        speaker: Makes it anonymous.
        name: Of the file, for what could not be read.
        about: What a table says of the file: of its report, where it holds one.
    """
    if len(found.reports) != 1:
        about = None
    known: dict[str, KnownIdentity] = {}
    for number, patient in enumerate(found.patients):
        key = speaker.key(patient.issuer, patient.identifier, f"person {number}")
        known[key] = _identity(patient, key).with_more(known.get(key))
        rows.add("persons", _person_row(patient, key, speaker))
    for number, report in enumerate(found.reports):
        made = _report_row(report, number, speaker, known)
        if about is not None:
            made["file_key"] = speaker.names.token("file", made["report_key"])
            for told in _told(about, about.values, speaker, made["file_key"], known):
                rows.add("labels", told)
        rows.add("reports", made)
    for number, record in enumerate(found.records):
        rows.add("records", _record_row(record, number, speaker, known))
    _add_links(found.studies, rows, speaker, name)
    for label in found.labels:
        rows.add("labels", _label_row(label, speaker, known))
    for manifest in found.manifests:
        for row in manifest.rows:
            for told in _told(row, told_values(manifest, row), speaker, speaker.file_key(row.file), known):
                rows.add("labels", told)
    for refusal in found.refused:
        inner = "" if refusal.where in ("", name, name.rsplit("/", 1)[-1]) else f": {refusal.where}"
        rows.trouble(name + inner, refusal.reason, refusal.kind)
    for suspect in found.suspicious:
        rows.trouble(name, suspect.reason, "suspicious")


def _add_links(studies: Sequence[RawStudy], rows: Rows, speaker: Speaker, name: str) -> None:
    """Add which study an accession number is of; what lacks one of them, or the patient, joins nothing and is told."""
    without = 0
    for study in studies:
        if not (identifies(study.patient) and study.accession and study.study_uid):
            without += 1
            continue
        link = {
            "patient_key": speaker.key(study.issuer, study.patient, ""),
            "study_uid": _study(study.study_uid, speaker),
            "accession_key": _accession(study.accession, speaker),
        }
        rows.add("links", link)
    if without:
        said = f"{without} imaging studies without patient, accession number or UID: nothing can be joined by them"
        rows.trouble(name, said, "ignored")


def _identity(patient: RawPatient, key: str) -> KnownIdentity:
    born = patient.birth_date.replace("-", "")
    numbers = (patient.identifier, *(i for _, i in patient.other_identifiers))
    return KnownIdentity((patient.name, *patient.words), numbers, (born,) if len(born) == 8 else (), key)


def _person_row(patient: RawPatient, key: str, speaker: Speaker) -> dict[str, Any]:
    letters = "".join(c for c in patient.name.upper() if c.isalnum())
    born = patient.birth_date.replace("-", "")
    token = speaker.names.token
    return {
        "patient_key": key,
        "patient_from": "record",
        "sex": patient.sex or None,
        "name_key": token("name", letters) if letters else "",
        "birth_key": token("birth", born) if len(born) == 8 else "",
    }


def _report_row(report: RawReport, number: int, speaker: Speaker, known: dict[str, KnownIdentity]) -> dict[str, Any]:
    key = speaker.key(report.issuer, report.patient, _place(report.identifier or f"row {number}", report.inside))
    who = known.get(key, KnownIdentity(patient_key=key)).with_more(
        KnownIdentity(report.people, tuple(i for i in (report.patient, report.accession, report.order) if i))
    )
    text = speaker.clean(report.text, who, key)
    moment = speaker.moment(report.time, key)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "report_key": _report_key(speaker, key, report.identifier or digest, report.inside),
        "file_key": _file_key(report, speaker),
        "patient_key": key,
        "study_uid": _study(report.study_uid, speaker),
        "accession_key": _accession(report.accession, speaker),
        "collection": speaker.collection or None,
        "date": date.fromisoformat(moment[:10]) if moment and len(moment) >= 10 else None,
        "language": _language(report.language, speaker, who, key) or None,
        "title": speaker.clean(report.title, who, key) or None,
        "status": report.status or None,
        "form": report.form or None,
        "text": text,
        "sha256": digest,
    }


def _record_row(record: RawRecord, number: int, speaker: Speaker, known: dict[str, KnownIdentity]) -> dict[str, Any]:
    key = speaker.key(record.issuer, record.patient, record.identifier or f"row {number}")
    who = known.get(key, KnownIdentity(patient_key=key))
    system = record.system
    amount, text, moment = _valued(record, speaker.policy)
    # Rows of a table are told apart by their place; entries of a record by the identifier that the source gives.
    own = record.identifier or f"{record.time} {record.number} {record.text}"
    value_system, value = record.value_code or ("", "")
    return {
        "record_key": speaker.names.token(
            "record", key, speaker.place if record.kind == "table" else "", own, record.code
        ),
        "patient_key": key,
        "study_uid": _study(record.study_uid, speaker),
        "accession_key": _accession(record.accession, speaker),
        "collection": speaker.collection or None,
        "kind": record.kind,
        "system": _system(system, speaker, who, key) or None,
        "code": speaker.code(record.code, system, who, key) or None,
        "display": speaker.clean(record.display, who, key) or None,
        "number": amount,
        "unit": speaker.clean(record.unit, who, key) or None,
        "text": speaker.clean(text, who, key) or None,
        "value_time": speaker.value_moment(moment, key) if moment else None,
        "value_system": _system(value_system, speaker, who, key) or None,
        "value_code": speaker.code(value, value_system, who, key) or None,
        "time": speaker.moment(record.time, key) if record.time else None,
        "status": record.status or None,
        "form": record.form or None,
    }


def _valued(record: RawRecord, policy: Policy) -> tuple[float | None, str, str]:
    """Return number, text and moment of a value: a number that is a date is a moment, one of people a text."""
    number, text, moment = record.number, record.text, record.value_time
    for name in dict.fromkeys((record.code, record.display)):
        if policy.off or (number is not None and record.unit) or moment:
            break
        said = text if number is None else f"{number:.0f}" if number.is_integer() else ""
        if is_date(name) and (found := compact_moment(said)):
            return None, "", found
        if says_number_of_one(name, said):
            return None, said, moment
    aged = record.kind in ("observation", "table") and (
        is_age(record.code) or is_age(record.display) or record.code in _AGE_CODES
    )
    if aged and not policy.off:
        unit = record.unit or age_unit(record.code)
        number = _capped_as(number, unit, policy)
        if unit in _YEARS and len(text) <= _FEW:  # ">93", "093Y"
            text = _OLD.sub("90", text)
    return number, text, moment


def _is_common(system: str) -> bool:
    """Tell whether a system's codes are everybody's; those of a local one may be anything."""
    folded = system.casefold()
    return folded in _DESIGNATORS or folded.startswith(_TERMINOLOGIES)


def _system(system: str, speaker: Speaker, known: KnownIdentity, key: str) -> str:
    """Return the name of a system; words in its place are a text."""
    return system if " " not in system.strip() else speaker.clean(system, known, key)


def _language(language: str, speaker: Speaker, known: KnownIdentity, key: str) -> str:
    return language if _LANGUAGE.fullmatch(language) else speaker.clean(language, known, key)


def _label_row(label: RawLabel, speaker: Speaker, known: Mapping[str, KnownIdentity]) -> dict[str, Any]:
    key = speaker.key(label.issuer, label.patient, _place(label.file, label.inside))
    who = known.get(key, KnownIdentity(patient_key=key))
    number, value = number_in(label.name, label.value, speaker.policy)
    if number is None:
        value = speaker.clean(value, who, key)
    return {
        "patient_key": key,
        "study_uid": _study(label.study_uid, speaker),
        "report_key": _report_key(speaker, key, label.file, label.inside) if label.file else None,
        "name": speaker.code(label.name, "", who, key),
        "value": value,
        "number": number,
        "kind": label.kind,
        "rater": speaker.clean(label.rater, who, key) or None,
        "form": label.form or None,
    }


def _place(identifier: str, inside: str | None) -> str:
    """Return where a report of nobody stands in its file: it stands for the person then."""
    return f"report {inside} {identifier}" if inside else f"report {identifier}"


def _report_key(speaker: Speaker, key: str, identifier: str, inside: str | None) -> str:
    """Return what the versions of a report share: a number of lines or a file's name is another report's elsewhere."""
    if inside is None:
        return speaker.names.token("report", key, identifier)
    return speaker.names.token("report", key, speaker.place, inside, identifier)


def _bare(file: str) -> str:
    """Return a name without its ending; the last number of a UID is none.

    Example:
        >>> _bare("a/CXR1.xml"), _bare("1.2.3.45"), _bare("v1.0/r")
        ('a/CXR1', '1.2.3.45', 'v1.0/r')
    """
    folder, slash, base = file.rpartition("/")
    short = stem(base)
    return file if base[len(short) + 1 :].isdigit() else folder + slash + short


def _file_key(report: RawReport, speaker: Speaker) -> str | None:
    """Return by what rows of tables find a report: what the source calls it, or its file inside of an archive.

    A file that stands by itself is found where it lies (`Sets.place`), a row of a table by nobody.
    """
    if report.inside is None:
        return speaker.file_key(report.identifier.replace("/", " "))
    return speaker.file_key(report.inside) if report.form == "text" and report.inside else None


def _told(
    row: ManifestRow,
    values: Mapping[str, str],
    speaker: Speaker,
    file_key: str | None,
    known: Mapping[str, KnownIdentity],
) -> Iterator[dict[str, Any]]:
    """Yield what a table says of a file, without whose it is: it counts where a report of that name is found."""
    key = speaker.names.patient(speaker.domain, row.patient or row.file)
    who = KnownIdentity(row.words, patient_key=key).with_more(known.get(key))
    for name, value in values.items():
        yield {"file_key": file_key, **said_of(name, value, speaker, who, key), "form": "table"}


def said_of(name: str, value: str, speaker: Speaker, known: KnownIdentity, key: str) -> dict[str, Any]:
    """Return name, value, number and kind of what a column of a table says of a file, without what names anybody."""
    number, value = number_in(name, value, speaker.policy)
    return {
        "name": speaker.code(name, "", known, key),
        "value": speaker.clean(value, known, key) if number is None else value,
        "number": number,
        "kind": "class" if number is None else "number",
    }


def capped(years: float | None, policy: Policy) -> float | None:
    """Return an age, where it is not kept in full: above 89 all are 90.

    Source:
        The Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)(i)(C)).

    Example:
        >>> capped(93, Policy()), capped(89, Policy()), capped(93, Policy(off=True))
        (90.0, 89, 93)
    """
    return years if policy.off or years is None or years <= _OLDEST else _OLDEST + 1


def number_in(name: str, value: str, policy: Policy) -> tuple[float | None, str]:
    """Return the number that a value is, and the value; under the heading of an age, as `capped`.

    None for words, and for a number that is a date or numbers people by its heading: whoever cleans texts knows both.

    Example:
        >>> number_in("age", "93", Policy()), number_in("size", "93", Policy()), number_in("grade", "G2", Policy())
        ((90.0, '90'), (93.0, '93'), (None, 'G2'))
        >>> number_in("op_date", "20190304", Policy()), number_in("age", ">93", Policy())
        ((None, '20190304'), (None, '>90'))
    """
    number = number_of(value)
    if policy.off:
        return number, value
    if (is_date(name) and compact_moment(value)) or says_number_of_one(name, value):
        return None, value.strip().split(".")[0]
    if not is_age(name):
        return number, value
    unit = age_unit(name)
    if number is None:
        return None, _OLD.sub("90", value) if unit == "a" and len(value) <= _FEW else value
    most = _capped_as(number, unit, policy)
    return most, value if most == number else f"{most:g}"


def _capped_as(age: float | None, unit: str, policy: Policy) -> float | None:
    """Return an age in a unit of time, 90 years where it is above 89; what has another unit is no age."""
    if age is None or unit not in _YEARS_PER:
        return age
    years = age * _YEARS_PER[unit]
    most = capped(years, policy)
    if most is None or most == years or years > _NO_AGE:
        return age
    return float(math.ceil(most / _YEARS_PER[unit]))


def number_of(text: str) -> float | None:
    """Return a finite number that a text is, None for others.

    Example:
        >>> number_of("1e3"), number_of("nan"), number_of("G2")
        (1000.0, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _study(uid: str, speaker: Speaker) -> str | None:
    if not uid:
        return None
    return uid if speaker.policy.off or speaker.policy.retain_uids else speaker.names.uid(uid)


def _accession(number: str, speaker: Speaker) -> str | None:
    return speaker.names.accession("", number) if number else None
