"""Text tables, opened a row at a time: commas, semicolons, tabs, strokes, blanks, or ARFF.

Comments before the heading, quoted ends of lines, a heading that is one shorter than its rows (as R writes it) are
read; a row of another length is refused with its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from isocenter.core.errors import DataError
from isocenter.data.records.complaints import Complaints
from isocenter.data.records.decoding import opened_text
from isocenter.data.records.tables.roles import is_missing

__all__ = ["MAX_CELL", "RawTable", "Shape", "opened_table", "tell_shape"]

MAX_CELL = 4_000_000
"""Characters of a cell above which a row is refused."""
_SAMPLE = 256 * 1024
_ATTRIBUTE = re.compile(r"^@attribute\s+(?P<name>'[^']*'|\"[^\"]*\"|\S+)\s+(?P<kind>.+)$", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Shape:
    """How a text table is written.

    Args:
        delimiter: One character; a blank for any number of blanks.
        skipped: Lines before the heading.
        row_names: Whether rows have one cell more than the heading.
    """

    delimiter: str
    skipped: int = 0
    row_names: bool = False


@dataclass
class RawTable:
    """An open table.

    Args:
        heading: As it stands.
        rows: Number of the line and the cells; each row once.
        form: "csv", "arff" or "parquet".
        notes: What was decided in opening it.
        decimal_comma: Whether "1,5" is a number.
        unit: What rows are counted in: "line" or "row".
    """

    heading: list[str]
    rows: Iterator[tuple[int, list[str]]]
    form: str
    notes: list[str] = field(default_factory=list)
    decimal_comma: bool = False
    unit: str = "line"


def tell_shape(lines: Sequence[str], *, certain: bool = False) -> Shape | None:
    r"""Tell how the first lines of a text are divided; None where they are no table.

    Args:
        lines: With their ends.
        certain: That it is a table is known (by its name): then one column will do.

    Example:
        >>> tell_shape(["# made today\n", "a;b\n", "1;2\n"]), tell_shape(["No effusion.\n", "Heart normal.\n"])
        (Shape(delimiter=';', skipped=1, row_names=False), None)
    """
    skipped = 0
    if lines and (told := re.fullmatch(r"sep=(.)\s*", lines[0])):
        return Shape(told[1], 1)
    while skipped < len(lines) and (not lines[skipped].strip() or _is_comment(lines, skipped)):
        skipped += 1
    body = [line for line in lines[skipped:] if line.strip()][:200]
    if not body:
        return None
    best: tuple[float, int, str] | None = None
    for delimiter in ("\t", ";", ",", "|"):
        rows = _parsed(body, delimiter)
        width = len(rows[0]) if rows else 0
        if width < 2 or len(rows) < 2 or not all(len(c) <= 120 for c in rows[0]):
            continue
        share = sum(len(row) == width for row in rows[1:]) / (len(rows) - 1)
        if share >= (0.5 if certain else 0.9) and (best is None or (share, width) > best[:2]):
            best = (share, width, delimiter)
    if best is not None:
        return Shape(best[2], skipped)
    blank = _blank_shape(body, skipped)
    if blank is not None:
        return blank
    return Shape(",", skipped) if certain else None


def _blank_shape(body: Sequence[str], skipped: int) -> Shape | None:
    """Columns between blanks: all rows alike and mostly numbers, or it is prose."""
    rows = _parsed([line.strip() + "\n" for line in body], " ")
    if len(rows) < 3 or len(rows[0]) < 2:
        return None
    width = len(rows[1])
    if width - len(rows[0]) not in (0, 1) or width < 2 or any(len(row) != width for row in rows[1:-1]):
        return None
    cells = [c for row in rows[1:] for c in row]
    numbers = sum(bool(_NUMBER.fullmatch(c)) or is_missing(c) for c in cells)
    if numbers < 0.5 * len(cells) or all(_NUMBER.fullmatch(c) for c in rows[0]):
        return None
    return Shape(" ", skipped, width > len(rows[0]))


def _is_comment(lines: Sequence[str], place: int) -> bool:
    """A line that begins with # is a comment, unless it is a heading: as wide as the next, without an empty cell."""
    line = lines[place].lstrip()
    if not line.startswith("#"):
        return False
    following = lines[place + 1] if place + 1 < len(lines) else ""
    if line.startswith("##") or line[1:2].isspace() or not following.strip() or following.startswith("#"):
        return True
    for delimiter in ("\t", ";", ",", "|"):
        mine, its = line.strip().split(delimiter), following.strip().split(delimiter)
        if len(mine) == len(its) >= 2 and all(c.strip() for c in mine):
            return False
    return True


def _parsed(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Parse a sample; its last row may be cut and is left out where others are there."""
    rows = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " "):
            if row:
                rows.append(row)  # noqa: PERF401 what was read before an error counts
    except csv.Error:
        pass
    return rows[:-1] if len(rows) > 3 else rows


@contextmanager
def opened_table(
    stream: io.BufferedIOBase, complaints: Complaints, *, arff: bool = False, certain: bool = True
) -> Iterator[RawTable]:
    """Open a text table.

    Args:
        stream: Bytes; read twice (once for the encoding), so it must be seekable.
        complaints: Takes the rows that are refused.
        arff: Whether it is ARFF.
        certain: As in `tell_shape`.

    Raises:
        DataError: It is no table, or has no heading.
    """
    before = csv.field_size_limit(MAX_CELL)
    try:
        with opened_text(stream) as (text, note):
            table = _arff(text, complaints) if arff else _delimited(text, complaints, certain=certain)
            if note:
                table.notes.insert(0, note)
            yield table
    finally:
        csv.field_size_limit(before)


def _delimited(text: io.TextIOBase, complaints: Complaints, *, certain: bool) -> RawTable:
    sample = text.read(_SAMPLE)
    lines = io.StringIO(sample, newline="").readlines()
    shape = tell_shape(lines, certain=certain)
    if shape is None:
        raise DataError("no table with a heading", source=complaints.where)
    text.seek(0)
    for _ in range(shape.skipped):
        text.readline()
    notes = [f"{shape.skipped} lines before the heading are comments"] if shape.skipped else []
    blank = shape.delimiter == " "
    source = (line.strip() + "\n" for line in text) if blank else iter(text)
    reader = csv.reader(source, delimiter=shape.delimiter, skipinitialspace=blank, strict=True)
    try:
        heading = next((row for row in reader if row), None)
    except csv.Error as error:
        raise DataError("its heading can't be read; is a quote not closed?", source=complaints.where) from error
    if heading is None:
        raise DataError("no table with a heading", source=complaints.where)
    if shape.row_names:
        heading.insert(0, "")
    rows = _rows(reader, len(heading), shape.skipped, complaints)
    return RawTable(heading, rows, "csv", notes, _decimal_comma(lines[shape.skipped :], shape.delimiter))


def _rows(
    reader: Iterator[list[str]], width: int, skipped: int, complaints: Complaints
) -> Iterator[tuple[int, list[str]]]:
    line = getattr(reader, "line_num", 0)
    while True:
        start = skipped + line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            line = getattr(reader, "line_num", 0)
            last = skipped + line
            told = "" if last == start else f" (to line {last})"
            complaints.add(f"can't be read: a quote that is not closed, a cell too long, or a zero byte{told}", start)
            continue
        line = getattr(reader, "line_num", 0)
        if not cells or (width > 1 and not any(c.strip() for c in cells)):
            continue
        if len(cells) > width and not any(c.strip() for c in cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            complaints.add(f"has {len(cells)} cells, the heading has {width}", start)
            continue
        yield start, cells


def _decimal_comma(lines: Sequence[str], delimiter: str) -> bool:
    """Tables of semicolons or tabs from most of Europe write 1,5; where any number has a point, none has a comma."""
    if delimiter not in (";", "\t"):
        return False
    cells = [c.strip() for row in _parsed(lines[:200], delimiter)[1:] for c in row]
    commas = any(re.fullmatch(r"[-+]?\d+,\d+", c) for c in cells)
    return commas and not any(re.fullmatch(r"[-+]?\d+\.\d+", c) for c in cells)


def _arff(text: io.TextIOBase, complaints: Complaints) -> RawTable:
    heading: list[str] = []
    number = 0
    while line := text.readline():
        number += 1
        bare = line.strip()
        if not bare or bare.startswith("%") or bare.lower().startswith("@relation"):
            continue
        if bare.lower().startswith("@data"):
            break
        found = _ATTRIBUTE.match(bare)
        if found is None:
            raise DataError(f"line {number} is not of an ARFF file", source=complaints.where)
        heading.append(found["name"].strip("'\""))
    if not heading:
        raise DataError("an ARFF file without attributes", source=complaints.where)
    return RawTable(heading, _arff_rows(text, number, len(heading), complaints), "arff")


def _arff_rows(text: io.TextIOBase, number: int, width: int, complaints: Complaints) -> Iterator[tuple[int, list[str]]]:
    while line := text.readline():
        number += 1
        bare = line.strip()
        if not bare or bare.startswith("%"):
            continue
        if bare.startswith("{"):
            complaints.add("is a sparse row of ARFF, which is not read", number)
            continue
        quote = '"' if '"' in bare and "'" not in bare else "'"
        try:
            cells = next(csv.reader([bare], quotechar=quote, skipinitialspace=True, strict=True))
        except csv.Error:
            complaints.add("can't be read: a quote that is not closed, or a cell too long", number)
            continue
        if len(cells) != width:
            complaints.add(f"has {len(cells)} cells, the heading has {width}", number)
            continue
        yield number, cells
