"""Modalities beside a clinical table: numbers or text of each patient, from a file or from folders of phenotypes.

A file is CSV, a row for each patient, or for each patient and region ("region", "label" or "segment" in its heading):
then a region's numbers become columns of their own. A folder holds a folder for each patient, named by the patient's
key, as `isocenter phenotype` writes them. No patient stands in it twice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.tables.columns import (
    BooleanColumn,
    CategoryColumn,
    Column,
    DateColumn,
    FreeTextError,
    NumberColumn,
    split_heading,
    typed_column,
)
from isocenter.data.tables.reading import read_cells

__all__ = ["BlockTable", "read_block", "read_texts"]

_KEYS = ("patient", "patient_id", "id")
_REGIONS = ("region", "label", "segment")
_PHENOTYPE, _ROWS = "phenotype.csv", "features.csv"
_LEAST_SHARE = 0.5
"""A region that fewer of the patients have is left out: it would be a column of gaps."""


@dataclass(frozen=True, eq=False)
class BlockTable:
    """What patients have of one modality.

    Args:
        source: Where it came from.
        patients: Key of each row; no one twice.
        lines: Of each row in its file; 0 where it has a folder of its own.
        columns: Names of the numbers; empty for text.
        units: Of the numbers.
        values: Of each row; NaN where a number is not known.
        texts: Of each row; empty for numbers.
        dates: Columns of dates, a value for each row.
        batches: Scanner of each row, "" where it is not told; empty where no column was named.
        left_out: What is not read, and why.
        synthetic: Whether it says that its patients are invented.
    """

    source: str
    patients: tuple[str, ...]
    lines: tuple[int, ...]
    columns: tuple[str, ...]
    units: tuple[str, ...]
    values: Float[np.ndarray, "n k"]
    texts: tuple[str, ...] = ()
    dates: tuple[DateColumn, ...] = ()
    batches: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    synthetic: bool = False


def read_block(path: Path, *, patient: str, batch: str | None = None) -> BlockTable:
    """Read numbers of patients.

    Args:
        path: CSV or ARFF, or a folder with a folder for each patient.
        patient: Column of the patient; without it "patient", "patient_id" or "id" is taken.
        batch: Column of the scanner; it may not be there.

    Raises:
        DataError: It can't be read, names no patient, a patient twice, or holds no number.
    """
    if path.is_dir():
        return _phenotypes(path)
    heading, rows, stated = read_cells(path)
    names = _headings(heading, path)
    key = _key(names, patient, path)
    region = next((n for wanted in _REGIONS for n in names if n.casefold() == wanted and n != batch), None)
    skipped = {key, region, batch, *(n for n in names if n.casefold() in _REGIONS)}
    lines = [number for number, _ in rows]
    columns, left_out = {}, []
    synthetic = False
    for place, (name, unit) in enumerate(names.items()):
        cells = [row[place] for _, row in rows]
        synthetic |= any(cell.strip().casefold() == "synthetic" for cell in cells)
        if name in skipped:
            continue
        try:
            columns[name] = typed_column(name, unit, cells, lines, stated.get(name))
        except FreeTextError:
            left_out.append(f"{name}: free text")
        except DataError as error:
            raise type(error)(str(error), source=path) from error
    found, words = _numbers(columns)
    left_out += [f"{name}: words" for name in words]
    if not found:
        raise DataError("holds no column of numbers", source=path)

    def cells_of(name: str) -> list[str]:
        number = list(names).index(name)
        return [row[number].strip() for _, row in rows]

    made = _Rows(
        str(path), _keys(cells_of(key), lines, path), lines, list(found), [c.unit for c in found.values()],
        np.stack([c.values for c in found.values()], axis=1),
        [c for c in columns.values() if isinstance(c, DateColumn)],
        cells_of(batch) if batch is not None and batch in names else [], left_out, synthetic,
    )  # fmt: skip
    return _by_region(made, cells_of(region)) if region is not None else _one_each(made)


def read_texts(path: Path, *, patient: str, column: str) -> BlockTable:
    """Read texts of patients.

    Args:
        path: CSV.
        patient: Column of the patient; without it "patient", "patient_id" or "id" is taken.
        column: Of the text.

    Raises:
        DataError: It can't be read, names no patient, a patient twice, or has no such column.
    """
    heading, rows, _ = read_cells(path)
    names = _headings(heading, path)
    if column not in names:
        raise DataError(f"has no column {column!r}; it has {', '.join(names)}", source=path)
    key = _key(names, patient, path)
    lines = [number for number, _ in rows]
    place = list(names)
    texts = tuple(row[place.index(column)].strip() for _, row in rows)
    dates = []
    for number, name in enumerate(place):
        if name in (key, column):
            continue
        try:
            made = typed_column(name, names[name], [row[number] for _, row in rows], lines, None)
        except FreeTextError:  # beside the text only dates are of interest
            continue
        except DataError as error:
            raise type(error)(str(error), source=path) from error
        dates += [made] if isinstance(made, DateColumn) else []
    patients = _keys([row[place.index(key)].strip() for _, row in rows], lines, path)
    _refuse_twins(patients, lines, str(path))
    synthetic = any("synthetic" in text[:200].casefold() for text in texts)
    return BlockTable(
        str(path), tuple(patients), tuple(lines), (), (), np.zeros((len(rows), 0)), texts, tuple(dates),
        synthetic=synthetic,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Rows:
    """Numbers of rows, of which several may be one patient's."""

    source: str
    patients: list[str]
    lines: list[int]
    columns: list[str]
    units: list[str]
    values: Float[np.ndarray, "n k"]
    dates: list[DateColumn]
    batches: list[str]
    left_out: list[str]
    synthetic: bool


def _headings(heading: Sequence[str], path: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in heading:
        try:
            name, unit = split_heading(text)
        except DataError as error:
            raise type(error)(str(error), source=path) from error
        if not name or name in found:
            raise DataError(f"column {name!r} stands twice, or has no name", source=path)
        found[name] = unit
    return found


def _key(names: Mapping[str, str | None], patient: str, path: Path) -> str:
    found = patient if patient in names else next((k for k in _KEYS if k in names), None)
    if found is None:
        raise DataError(
            f"names no patient: it needs a column {patient!r} (or {', '.join(_KEYS)}); it has {', '.join(names)}",
            source=path,
        )
    return found


def _keys(cells: list[str], lines: Sequence[int], path: Path) -> list[str]:
    for line, cell in zip(lines, cells, strict=True):
        if not cell:
            raise DataError(f"line {line} has no patient", source=path)
    return cells


def _refuse_twins(patients: Sequence[str], lines: Sequence[int], source: str) -> None:
    first: dict[str, int] = {}
    for patient, line in zip(patients, lines, strict=True):
        if patient in first:
            raise DataError(
                f"line {line} is of the patient of line {first[patient]}: one row for each patient, or a column "
                f"{' or '.join(_REGIONS)} that tells a patient's rows apart",
                source=source,
            )
        first[patient] = line


def _numbers(columns: Mapping[str, Column]) -> tuple[dict[str, NumberColumn], list[str]]:
    found, words = {}, []
    for name, column in columns.items():
        if isinstance(column, NumberColumn):
            found[name] = column
        elif isinstance(column, BooleanColumn):
            found[name] = NumberColumn(name, "1", column.values)
        elif isinstance(column, CategoryColumn):
            words.append(name)
    return found, words


def _one_each(made: _Rows) -> BlockTable:
    _refuse_twins(made.patients, made.lines, made.source)
    return BlockTable(
        made.source, tuple(made.patients), tuple(made.lines), tuple(made.columns), tuple(made.units), made.values, (),
        tuple(made.dates), tuple(made.batches), tuple(made.left_out), made.synthetic,
    )  # fmt: skip


def _by_region(made: _Rows, regions: Sequence[str]) -> BlockTable:
    """Give every region columns of its own: a patient's regions come into one row."""
    _refuse_twins([f"{p}\0{r}" for p, r in zip(made.patients, regions, strict=True)], made.lines, made.source)
    patients = list(dict.fromkeys(made.patients))
    place = {p: n for n, p in enumerate(patients)}
    rows = np.array([place[p] for p in made.patients])
    names, left_out = [], list(made.left_out)
    named = np.asarray(regions, dtype=str)
    for region in sorted(set(regions)):
        share = len(set(rows[named == region].tolist())) / len(patients)
        if share < _LEAST_SHARE:
            left_out.append(f"region {region}: of {share:.0%} of the patients alone")
        else:
            names.append(region)
    if not names:
        raise DataError(
            f"no region is found in {_LEAST_SHARE:.0%} of the patients: regions must be called alike",
            source=made.source,
        )
    width = len(made.columns)
    values = np.full((len(patients), width * len(names)), np.nan)
    for number, region in enumerate(names):
        own = named == region
        values[rows[own], width * number : width * (number + 1)] = made.values[own]
    # Always with the region: the numbers of a node must never stand for those of a mass.
    columns = tuple(f"{region}: {c}" for region in names for c in made.columns)
    first = np.array([made.patients.index(p) for p in patients])
    # The latest of a patient's dates is what decides whether the row was known in time.
    dates = tuple(_latest(column, rows, len(patients)) for column in made.dates)
    batches = tuple(made.batches[n] for n in first) if made.batches else ()
    for n, patient in enumerate(made.patients):
        if batches and made.batches[n] != batches[place[patient]]:
            raise DataError(f"line {made.lines[n]} is of another scanner than the patient's first", source=made.source)
    return BlockTable(
        made.source, tuple(patients), tuple(made.lines[n] for n in first), columns, tuple(made.units) * len(names),
        values, (), dates, batches, tuple(left_out), made.synthetic,
    )  # fmt: skip


def _latest(column: DateColumn, rows: np.ndarray, count: int) -> DateColumn:
    values = np.full(count, np.datetime64("NaT", "us"))
    timed = np.zeros(count, dtype=np.bool_)
    for n, row in enumerate(rows):
        value = column.values[n].astype("datetime64[us]")
        if not np.isnat(value) and (np.isnat(values[row]) or value > values[row]):
            values[row] = value
            timed[row] = column.timed is not None and bool(column.timed[n])
    return DateColumn(column.name, values, timed)


def _phenotypes(folder: Path) -> BlockTable:
    """Read what `isocenter phenotype` wrote of each patient: folders named by the patient's key."""
    patients, regions, tables, days = [], [], [], []
    invented = False
    units: dict[str, str] = {}
    try:
        files = sorted(f for f in folder.glob(f"*/{_PHENOTYPE}") if f.is_file())
    except OSError as error:
        raise explain_os_error(error, folder, doing="read") from error
    if not files:
        raise DataError(f"holds no folder of a patient with {_PHENOTYPE} in it", source=folder)
    for file in files:
        synthetic, day = _made_and_acquired(file)
        invented |= synthetic
        for region, own in _phenotype(file, units).items():
            days.append(day)
            patients.append(file.parent.name)
            regions.append(region)
            tables.append(own)
    columns = list(units)
    values = np.array([[one.get(c, math.nan) for c in columns] for one in tables])
    made = _Rows(
        str(folder),
        patients,
        [0] * len(patients),
        columns,
        [units[c] for c in columns],
        values,
        _acquired(days, folder),
        [],
        [],
        invented,
    )
    return _by_region(made, regions)


def _acquired(days: Sequence[str], folder: Path) -> list[DateColumn]:
    """Return when each image was made, where at least one says so: the others are then not told to be in time."""
    if not any(days):
        return []
    try:
        column = typed_column("acquired", None, days, [0] * len(days), "date")
    except DataError as error:
        raise DataError(f"'acquired' in a {_ROWS} holds what is no date; write 2024-01-31", source=folder) from error
    return [column] if isinstance(column, DateColumn) else []


def _made_and_acquired(file: Path) -> tuple[bool, str]:
    """Return what the rows beside a phenotype's table say: whether the image is invented, and when it was made."""
    rows = file.with_name(_ROWS)
    try:
        with rows.open(encoding="utf-8", newline="") as stream:
            found = list(csv.DictReader(stream))
    except FileNotFoundError:  # of an older version
        return False, ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("no rows of a phenotype that can be read", source=rows) from error
    invented = any(str(row.get("made", "")).casefold() == "synthetic" for row in found)
    return invented, max((str(row.get("acquired") or "").strip() for row in found), default="")


def _phenotype(file: Path, units: dict[str, str]) -> dict[str, dict[str, float]]:
    """Return the numbers of each region of one phenotype; units of new columns are added."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            found = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("no table of a phenotype that can be read", source=file) from error
    regions: dict[str, dict[str, float]] = {}
    segments: dict[str, str] = {}
    for line, row in enumerate(found, start=2):
        try:
            segment, tag, value, unit = row["segment"], row["tag"], row["value"], row["unit"]
            region = row["label"] or segment
            number = float(value) if value else math.nan
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"line {line} is not of a phenotype", source=file) from error
        if segments.setdefault(region, segment) != segment:
            raise DataError(f"line {line}: two segments of one patient are called alike", source=file)
        if units.setdefault(tag, unit) != unit:
            raise DataError(f"line {line}: {tag} has another unit than that of the patients before", source=file)
        regions.setdefault(region, {})[tag] = number
    return regions
