"""A table of people, of reports, of measurements or of files, row by row to the rows of an archive.

What a table is follows from its columns: one of files makes a manifest; one of texts makes reports, and labels of them;
a code with a value makes one record a row; any other table makes a record of every cell.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

from isocenter.core.errors import ConfigError
from isocenter.data.records.complaints import Complaints
from isocenter.data.records.moments import table_moment
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.people import as_sex, is_ucum, words_of
from isocenter.data.records.rows import (
    Found,
    Manifest,
    ManifestRow,
    RawLabel,
    RawPatient,
    RawRecord,
    RawReport,
    Refusal,
    Status,
    merge,
)
from isocenter.data.records.tables.delimited import RawTable, opened_table
from isocenter.data.records.tables.headings import may_number, numbers_people
from isocenter.data.records.tables.roles import (
    SECTIONS,
    ColumnRole,
    day_comes_first,
    is_age,
    is_missing,
    tell_roles,
)

__all__ = ["read_table", "rows_of_table", "stream_table"]

_SAMPLE = 1000
_CHUNK = 5000
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*|\d+(?=\.)|)(\.\d*)?([eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_ROW_NUMBER = re.compile(r"(row)?[-_ ]?id", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,3})([YMWD])", re.IGNORECASE)
_AGE_UNITS = {"Y": "a", "M": "mo", "W": "wk", "D": "d"}
_SPLITS = {
    "train": "train", "training": "train", "tr": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "dev": "validation", "validate": "validation", "test": "test", "testing": "test",
    "ts": "test", "holdout": "test",
}  # fmt: skip
_STATES: dict[str, Status] = {
    **dict.fromkeys(("final", "finalized", "final report", "signed", "approved", "freigegeben", "vidiert"), "final"),
    **dict.fromkeys(("preliminary", "prelim", "draft", "unsigned", "vorläufig", "provisional"), "preliminary"),
    **dict.fromkeys(("corrected", "correction", "korrigiert"), "corrected"),
    **dict.fromkeys(("addendum", "appended"), "appended"),
    "amended": "amended", "cancelled": "cancelled", "canceled": "cancelled",
}  # fmt: skip


class _Value(NamedTuple):
    number: float | None = None
    unit: str = ""
    text: str = ""
    moment: str = ""


@dataclass
class _Reading:
    """A table being read: its columns, and what was found in the rows so far."""

    source: str
    form: str
    columns: list[ColumnRole]
    options: ReadOptions
    complaints: Complaints
    day_first: Mapping[int, bool | None]
    decimal_comma: bool
    unit: str
    whole: bool

    def of(self, *roles: str) -> list[ColumnRole]:
        return [c for c in self.columns if c.role in roles]

    def one(self, role: str) -> ColumnRole | None:
        return next(iter(self.of(role)), None)

    def inside(self, cells: Sequence[str]) -> str | None:
        """Return None where a row has an identifier that other tables know it by too, else what its number counts in.

        A column that is called no more than "id" numbers the rows of one table, as lines do.
        """
        column = self.one("identifier")
        own = column is not None and not _ROW_NUMBER.fullmatch(column.name) and not is_missing(cells[column.place])
        return None if own else _inside(self.source)


def read_table(data: bytes, source: str, options: ReadOptions | None = None) -> Found:
    r"""Read a text table of bytes.

    Args:
        data: CSV, TSV, semicolons, strokes, blanks; ARFF where it begins so.
        source: What it is called in refusals and in the manifest.
        options: What can't be told.

    Raises:
        DataError: It is no table.
        ConfigError: An option names what is not there.

    Example:
        >>> found = read_table(b"patient,hb [g/dL],sex\n7,12.5,f\n8,NA,m\n", "lab.csv")
        >>> [(r.patient, r.code, r.number, r.unit) for r in found.records if r.number is not None]
        [('7', 'hb', 12.5, 'g/dL')]
        >>> [(p.identifier, p.sex) for p in found.patients]
        [('7', 'F'), ('8', 'M')]
    """
    return merge(stream_table(io.BytesIO(data), source, options))


def stream_table(
    stream: io.BufferedIOBase, source: str, options: ReadOptions | None = None, *, arff: bool | None = None
) -> Iterator[Found]:
    """Yield what a text table holds, some thousand rows at a time; what was refused comes last.

    Args:
        stream: Seekable bytes.
        source: What it is called.
        options: What can't be told.
        arff: Whether it is ARFF; None tells it by its beginning.

    Raises:
        DataError: It is no table.
        ConfigError: An option names what is not there.
    """
    if arff is None:
        head = stream.read(4096)
        stream.seek(0)
        arff = re.search(rb"^\s*@relation\b", head, re.IGNORECASE | re.MULTILINE) is not None
    complaints = Complaints(source)
    with opened_table(stream, complaints, arff=arff) as table:
        yield from rows_of_table(table, complaints, options)


def rows_of_table(table: RawTable, complaints: Complaints, options: ReadOptions | None = None) -> Iterator[Found]:
    """Yield what an open table holds.

    Raises:
        ConfigError: An option names what is not there.
    """
    options = options or ReadOptions()
    sample = list(itertools.islice(table.rows, _SAMPLE))
    bodiless = _without_heading(table, sample, complaints.where)
    if bodiless is not None:
        yield bodiless
        return
    try:
        columns, notes = tell_roles(table.heading, [cells for _, cells in sample], options.roles)
    except ConfigError as error:
        raise ConfigError(f"{complaints.where}: {error}") from error
    day_first = {
        c.place: day_comes_first([cells[c.place] for _, cells in sample])
        if options.day_first is None
        else options.day_first
        for c in columns
    }
    whole = all(
        re.fullmatch(r"\d+\.0|", cells[c.place].strip()) for c in columns if c.role == "patient" for _, cells in sample
    )
    reading = _Reading(
        complaints.where, table.form, columns, options, complaints, day_first, table.decimal_comma, table.unit, whole
    )
    notes = [*table.notes, *notes]
    if table.decimal_comma:
        notes.append("numbers are written with a decimal comma")
    if (
        whole
        and reading.one("patient") is not None
        and any("." in c[reading.of("patient")[0].place] for _, c in sample)
    ):
        notes.append("patients are written as 7.0 and read as 7")
    if not sample:
        complaints.add("a heading without a row", 1)
    suspects = tuple(_suspects(columns, sample, complaints))
    yield Found(notes=tuple(f"{complaints.where}: {note}" for note in notes), suspicious=suspects)
    rows = itertools.chain(sample, table.rows)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        yield _of_chunk(reading, chunk)
    yield Found(refused=complaints.refusals())


def _suspects(
    columns: Sequence[ColumnRole], sample: Sequence[tuple[int, list[str]]], complaints: Complaints
) -> Iterator[Refusal]:
    """Yield columns that are kept and may number people; complain of those that do, so that no column goes unsaid."""
    for column in columns:
        if column.unit or column.role not in ("", "person"):
            continue
        known = [cells[column.place].strip() for _, cells in sample if not is_missing(cells[column.place])]
        if column.role and numbers_people(column.name, known):
            reason = f"column {column.heading!r} numbers people or what is theirs: no value is taken from it"
            complaints.add(reason, 1, "ignored")
        elif not column.role and may_number(column.name, known):
            reason = f"column {column.heading!r} holds long whole numbers that may number people or times; they stay"
            yield Refusal(complaints.where, reason, "ignored")


def _without_heading(table: RawTable, sample: Sequence[tuple[int, list[str]]], source: str) -> Found | None:
    """One column whose first cell is a sentence has no heading: every row is a report."""
    heading = table.heading
    if len(heading) != 1 or len(heading[0]) < 40 or heading[0].count(" ") < 5:
        return None
    rows, inside = itertools.chain([(1, heading)], sample, table.rows), _inside(source)
    reports = tuple(
        RawReport("", "", (("", cells[0]),), form=table.form, identifier=f"row {number}", inside=inside)
        for number, (_, cells) in enumerate(rows, start=1)
        if cells[0].strip()
    )
    return Found(reports=reports, notes=("one column without a heading: every row is taken for a report",))


def _of_chunk(reading: _Reading, chunk: Sequence[tuple[int, list[str]]]) -> Found:
    patients: dict[RawPatient, None] = {}
    reports: list[RawReport] = []
    records: list[RawRecord] = []
    labels: list[RawLabel] = []
    files: list[ManifestRow] = []
    file, texts = reading.one("file"), reading.of("text", *SECTIONS)
    tall = reading.one("code") is not None and reading.one("value") is not None
    for line, cells in chunk:
        patient = _patient(reading, line, cells)
        if patient is not None:
            patients.setdefault(patient)
        shared = _shared(reading, line, cells, patient)
        if texts:
            report = _report(reading, cells, shared, line)
            if report is not None:
                reports.append(report)
            elif file is None:
                reading.complaints.add("holds no text of a report", line)
            if file is None:
                labels += _labels(reading, cells, shared)
        if file is not None:
            row = _manifest_row(reading, line, cells, file, shared)
            files.extend([row] if row is not None else [])
        elif tall:
            records += _tall(reading, line, cells, shared)
        elif not texts:
            records += _wide(reading, line, cells, shared)
    manifests: tuple[Manifest, ...] = ()
    if file is not None and files:
        named = {c.heading: c.role for c in reading.columns if c.role}
        units = {c.heading: c.unit for c in reading.columns if c.unit}
        patient_column, split = reading.one("patient"), reading.one("split")
        manifests = (
            Manifest(
                reading.source, file.heading, tuple(files), patient_column.heading if patient_column else "",
                split.heading if split else "", MappingProxyType(units), MappingProxyType(named),
            ),
        )  # fmt: skip
    return Found(tuple(patients), tuple(reports), tuple(records), tuple(labels), manifests)


def _cell(column: ColumnRole | None, cells: Sequence[str]) -> str:
    return "" if column is None or is_missing(cells[column.place]) else cells[column.place].strip()


def _identifier(reading: _Reading, cells: Sequence[str]) -> str:
    text = _cell(reading.one("patient"), cells)
    return text[:-2] if reading.whole and text.endswith(".0") else text


def _patient(reading: _Reading, line: int, cells: Sequence[str]) -> RawPatient | None:
    identifier = _identifier(reading, cells)
    if not identifier:
        if reading.one("patient") is not None:
            reading.complaints.add("has no patient", line)
        elif any(_cell(c, cells) for c in reading.of("name", "person", "birth_date")):
            reading.complaints.add("names a person, but no column of the table numbers them; that is left out", line)
        return None
    sex = as_sex(_cell(reading.one("sex"), cells))
    if sex is None:
        reading.complaints.add("holds a sex that is a code here; say which it is by another column", line, "ignored")
    moments = {}
    for role in ("birth_date", "deceased_date"):
        column = reading.one(role)
        moments[role] = _moment(reading, column, cells, line) if column is not None else ""
    name = _cell(reading.one("name"), cells)
    return RawPatient(
        _cell(reading.one("issuer"), cells) or reading.options.issuer, identifier, (), name, moments["birth_date"][:10],
        sex or "", True if moments["deceased_date"] else None, moments["deceased_date"],
        words_of(_cell(c, cells) for c in reading.of("person")), reading.form,
    )  # fmt: skip


def _moment(reading: _Reading, column: ColumnRole, cells: Sequence[str], line: int) -> str:
    text = _cell(column, cells)
    if not text:
        return ""
    found = table_moment(text, day_first=reading.day_first[column.place])
    if found is None and (whole := re.fullmatch(r"(\d{4}|\d{8}|\d{12}|\d{14})\.0+", text)):
        found = table_moment(whole[1])
    if found is None:
        parts = re.fullmatch(r"(\d{1,2})/(\d{1,2})/\d{4}", text)
        both = parts is not None and all(1 <= int(part) <= 12 for part in parts.groups())
        told = "is a date that reads both ways; say day_first" if both else "is no date"
        reading.complaints.add(f"column {column.heading!r} {told}", line)
    return found or ""


def _shared(reading: _Reading, line: int, cells: Sequence[str], patient: RawPatient | None) -> RawRecord:
    """Return what all records of a row have in common."""
    date, inside = reading.one("date"), _inside(reading.source)
    place = f"{inside}, " if inside else ""  # two tables of one archive have lines of the same number
    return RawRecord(
        issuer=patient.issuer if patient is not None else "",
        patient=patient.identifier if patient is not None else "",
        kind="table",
        code="",
        time=_moment(reading, date, cells, line) if date is not None else "",
        form=reading.form,
        identifier=_cell(reading.one("identifier"), cells)
        or f"{place}{'row' if reading.unit == 'row' else 'line'} {line}",
        accession=_cell(reading.one("accession"), cells),
        study_uid=_cell(reading.one("study_uid"), cells),
    )


_NO_VALUE = frozenset(
    ("patient", "issuer", "accession", "study_uid", "identifier", "date", "birth_date", "deceased_date", "name",
     "person", "text", "title", "language", "status", "file", "mask", "split", "rater", "row", *SECTIONS)
)  # fmt: skip


def _wide(reading: _Reading, line: int, cells: Sequence[str], shared: RawRecord) -> Iterator[RawRecord]:
    for column in reading.columns:
        if column.role in _NO_VALUE or is_missing(cells[column.place]):
            continue
        value = _value(reading, column, cells, line)
        if value is not None:
            yield replace(
                shared, code=column.name, display=column.name, number=value.number, unit=value.unit, text=value.text,
                value_time=value.moment,
            )  # fmt: skip


def _value(reading: _Reading, column: ColumnRole, cells: Sequence[str], line: int) -> _Value | None:
    """Return what a cell says; None where it is refused."""
    text = _cell(column, cells)
    number = _number(reading, text)
    if column.role == "moment" or _dated(text):
        moment = _moment(reading, column, cells, line)
        return _Value(moment=moment) if moment else None
    if (column.role == "age" or is_age(column.name)) and (told := _AGE.fullmatch(text)):
        return _Value(float(told[1]), _AGE_UNITS[told[2].upper()])
    if number is not None:
        return _Value(number, column.unit)
    if column.unit and re.fullmatch(r"[<>]=? ?[\d.,]+", text) is None:
        reading.complaints.add(f"column {column.heading!r} has a unit and holds what is no number", line)
        return None
    return _Value(None, column.unit, text)


def _inside(source: str) -> str:
    """Return the file that a table is, where it stands inside of an archive."""
    return source.partition("/")[2]


def _dated(text: str) -> bool:
    """A date in a column of other words must not pass for a word: nothing would move it."""
    return re.fullmatch(r"(\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{4}).{0,20}", text) is not None


def _number(reading: _Reading, text: str) -> float | None:
    """Return a number; not one with a leading zero, which is a name written in digits."""
    if reading.decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not text or not _NUMBER.fullmatch(text) or not re.search(r"\d", text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _tall(reading: _Reading, line: int, cells: Sequence[str], shared: RawRecord) -> Iterator[RawRecord]:
    code, value = reading.one("code"), reading.one("value")
    name = _cell(code, cells)
    if code is None or value is None or not name:
        reading.complaints.add("has no code; what was measured can't be told", line)
        return
    if is_missing(cells[value.place]):
        reading.complaints.add("has no value", line, "ignored")
        return
    made = _value(reading, value, cells, line)
    if made is None:
        return
    unit = _cell(reading.one("unit"), cells) or value.unit
    if unit and made.number is not None and not is_ucum(unit):
        reading.complaints.add("has a unit that is not of UCUM; it is kept as it stands", line, "ignored")
    display = _cell(reading.one("display"), cells) or name
    system = _cell(reading.one("system"), cells)
    yield replace(
        shared, kind="observation", code=name, display=display, system=system, number=made.number,
        unit="" if made.moment else unit, text=made.text, value_time=made.moment,
    )  # fmt: skip


def _report(reading: _Reading, cells: Sequence[str], shared: RawRecord, line: int) -> RawReport | None:
    sections = []
    for column in reading.of("text", *SECTIONS):
        text = cells[column.place]
        if not is_missing(text):
            sections.append(("" if column.role == "text" else column.role, text))
    if not sections:
        return None
    if len(sections) > 1:  # beside others, a text without a name has that of its column
        sections = [(name or "text", text) for name, text in sections]
    status = _cell(reading.one("status"), cells).casefold()
    if status and status not in _STATES:
        reading.complaints.add("states a status that is not known here", line, "ignored")
    file = _cell(reading.one("file"), cells)
    return RawReport(
        shared.issuer, shared.patient, tuple(sections), shared.accession, "", shared.study_uid, shared.time, "",
        _cell(reading.one("language"), cells), _cell(reading.one("title"), cells), _STATES.get(status, ""),
        shared.form, shared.identifier, images=(file,) if file else (), inside=reading.inside(cells),
    )  # fmt: skip


def _labels(reading: _Reading, cells: Sequence[str], shared: RawRecord) -> Iterator[RawLabel]:
    """Yield the other columns of a table of reports: what somebody said of each."""
    for column in reading.columns:
        text = _cell(column, cells)
        if column.role in _NO_VALUE or column.role in ("sex", "age", "moment") or not text or _dated(text):
            continue
        number = _number(reading, text)
        kind: Literal["class", "finding", "number"] = "class"
        if number is not None:
            kind = "finding" if number in (-1, 0, 1) else "number"
        yield RawLabel(
            column.name, text, shared.issuer, shared.patient, shared.identifier, shared.accession, shared.study_uid,
            "", kind, shared.form, reading.inside(cells),
        )  # fmt: skip


def _manifest_row(
    reading: _Reading, line: int, cells: Sequence[str], file: ColumnRole, shared: RawRecord
) -> ManifestRow | None:
    name = _cell(file, cells).replace("\\", "/")
    if not name:
        reading.complaints.add("names no file", line)
        return None
    split = _cell(reading.one("split"), cells)
    left_out = ("file", "mask", "split", "patient", "name", "person", "row", "text", *SECTIONS)
    values = {c.heading: text for c in reading.columns if c.role not in left_out and (text := _cell(c, cells))}
    mask = _cell(reading.one("mask"), cells).replace("\\", "/")
    folded = _SPLITS.get(split.casefold(), split)
    words = words_of(_cell(c, cells) for c in reading.of("name", "person"))
    return ManifestRow(name, MappingProxyType(values), shared.patient, folded, mask, line, words)
