"""Reports as text: a folder of .txt files, a table, JSON lines, one file, or bytes.

A report that can't be read as text is kept, with what is wrong with it: in a folder of thousands one file in another
encoding must neither stop the work nor vanish. A table that can't be read at all is refused, with the line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["MAX_CELL", "MAX_FILE", "ReportText", "decode_report", "read_reports"]

MAX_CELL = 4_000_000
"""Characters of a cell or line above which a table is refused: it is no table of reports."""
MAX_FILE = 16_000_000
"""Bytes of one file above which it is no report."""
_ID_COLUMNS = ("id", "report", "report_id", "case", "study_id", "filename", "file")
_TEXT_COLUMNS = ("text", "report_text", "report", "reports", "body")


@dataclass(frozen=True)
class ReportText:
    """A report as text.

    Args:
        name: By which it is known.
        sections: Name and text of each section; "" as a name where the text is whole.
        problem: Why there is no text, or None.
    """

    name: str
    sections: tuple[tuple[str, str], ...]
    problem: str | None = None


def read_reports(path: Path, *, id_column: str | None = None, text_column: str | None = None) -> tuple[ReportText, ...]:
    """Read reports from a folder of .txt files, a table (.csv, .tsv), JSON lines (.jsonl), or one text file.

    Args:
        path: What to read. Tables have a column of names, one of texts, and perhaps "section"; lines of one name are
            sections of one report. JSON lines have the same keys.
        id_column: Column of names; None looks for one of the usual names.
        text_column: Column of texts; None looks for one of the usual names.

    Returns:
        Reports in the order of the table, or sorted by name.

    Raises:
        DataError: It is not there, holds no report, is no table of the form, or names are missing.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if path.suffix.lower() in (".csv", ".tsv"):
            return _grouped(_table(path), path, id_column, text_column)
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            return _grouped(_lines(path), path, id_column, text_column)
        return (_file(path),)
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error


def decode_report(content: bytes, name: str) -> ReportText:
    """Return a report of bytes in UTF-8; of others, what is wrong with them.

    Args:
        content: At most `MAX_FILE` bytes; more are too long.
        name: By which the report is known.
    """
    if len(content) > MAX_FILE:
        return ReportText(name, (), "too long")
    try:
        return ReportText(name, (("", content.decode("utf-8-sig")),))
    except UnicodeDecodeError:
        return ReportText(name, (), "not UTF-8")


def _folder(path: Path) -> tuple[ReportText, ...]:
    files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".txt" and not p.name.startswith("."))
    if not files:
        raise DataError("holds no .txt file; give a folder of texts, a .csv, a .jsonl, or one file", source=path)
    if len({file.stem for file in files}) < len(files):
        raise DataError("two files have the same name but for their ending; a report is known by it", source=path)
    return tuple(_file(file) for file in files)


def _file(file: Path) -> ReportText:
    with file.open("rb") as stream:
        return decode_report(stream.read(MAX_FILE + 1), file.stem)


def _table(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield line by line its number and cells, as they stand: places of words are counted in them."""
    before = csv.field_size_limit(MAX_CELL)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
            columns: list[str] | None = None
            for cells in reader:
                if not cells:
                    continue
                if columns is None:
                    columns = [c.strip() for c in cells]
                    if len(set(columns)) != len(columns):
                        raise DataError("a column stands twice in its heading", source=file)
                    continue
                if len(cells) != len(columns):
                    found = f"line {reader.line_num} has {len(cells)} cells, the heading has {len(columns)}"
                    raise DataError(found, source=file)
                yield reader.line_num, dict(zip(columns, cells, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "not a table in UTF-8 with quoted cells of at most 4 million characters", source=file
        ) from error
    finally:
        csv.field_size_limit(before)


def _lines(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    with file.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_CELL + 1), b""), start=1):
            if len(line) > MAX_CELL:
                raise DataError(f"line {number} is longer than {MAX_CELL:,} bytes", source=file)
            if not line.strip():
                continue
            try:
                found = json.load(io.StringIO(line.decode("utf-8-sig")))
            except (UnicodeDecodeError, ValueError, RecursionError) as error:
                raise DataError(f"line {number} is no JSON object in UTF-8", source=file) from error
            if not isinstance(found, dict):
                raise DataError(f"line {number} is no JSON object", source=file)
            yield number, found


def _grouped(
    rows: Iterable[tuple[int, Mapping[str, object]]], file: Path, id_column: str | None, text_column: str | None
) -> tuple[ReportText, ...]:
    """Draw the lines of one name together: sections of one report."""
    sections: dict[str, list[tuple[str, str]]] = {}
    text_key: str | None = None
    id_key: str | None = None
    for number, row in rows:
        if text_key is None or id_key is None:
            text_key = _column(row, text_column, _TEXT_COLUMNS, "texts", "text", file)
            names = [n for n in _ID_COLUMNS if n != text_key]
            id_key = _column(row, id_column, names, "names of reports", "id", file)
        name, text, section = (row.get(key) for key in (id_key, text_key, "section"))
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"line {number}: {id_key!r} is empty or no text", source=file)
        if not isinstance(text, str) or not isinstance(section, str | None):
            raise DataError(f"line {number}: {text_key!r} or 'section' is no text", source=file)
        if name in sections and section is None:
            raise DataError(
                f"line {number} names a report that an earlier line has named; give a column 'section'", source=file
            )
        parts = sections.setdefault(name, [])
        if any(other.lower() == (section or "").lower() for other, _ in parts):
            raise DataError(f"line {number} names a section of its report that an earlier line has named", source=file)
        parts.append((section or "", text))
    if not sections:
        raise DataError("needs a heading and a row", source=file)
    return tuple(ReportText(name, tuple(parts)) for name, parts in sections.items())


def _column(
    row: Mapping[str, object], given: str | None, usual: Sequence[str], what: str, option: str, file: Path
) -> str:
    if given is not None and given in row:
        return given
    found = [name for name in usual if name in row] if given is None else []
    if not found:
        wanted = f"no column {given!r}" if given is not None else f"no column of {what} ({', '.join(usual)})"
        raise DataError(f"{wanted}; it has {', '.join(row)}; give --{option}-column", source=file)
    return found[0]
