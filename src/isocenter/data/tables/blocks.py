"""Blocks of columns that come from elsewhere: features of images, a row for each patient and region, joined by patient.

What a block does not hold of a patient stays empty, and who has what is counted. Nothing is guessed about whose a row
is: a patient that the table does not know, two rows of one patient and region, or no row in common are errors. A row
that is dated later than its patient's index time is leakage.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.tables.columns import BooleanColumn, CategoryColumn, Column, DateColumn, NumberColumn
from isocenter.data.tables.reading import ClinicalTable, read_clinical

__all__ = [
    "FEATURES",
    "KEYS",
    "Block",
    "block_files",
    "block_table",
    "heading_of",
    "join_block",
    "named_values",
    "patient_key",
    "says_synthetic",
]

KEYS = ("patient", "case", "id", "person")
"""Names of a column that says whose a row is, the first that is there."""
FEATURES = "features.csv"
"""What `isocenter phenotype` writes into each folder: a row for each region."""
_REGIONS = ("region", "label")
_MADE = "made"
_MOST_REGIONS = 20


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of one block, a value for each patient of the table it was joined to.

    Args:
        name: Of the block ("ct").
        source: Where it came from.
        columns: By "NAME: COLUMN", or "NAME: REGION: COLUMN" where there are several regions.
        present: Whose row it holds.
        regions: Names of regions, where there are several.
        left_out: Columns that are no features, and why.
        synthetic: Whether it says that its patients are invented.
    """

    name: str
    source: str
    columns: Mapping[str, Column]
    present: Bool[np.ndarray, " n"]
    regions: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=())
    synthetic: bool = False

    @property
    def counted(self) -> str:
        """Who has it, in words."""
        return f"{self.name}: {int(self.present.sum())} of {len(self.present)} people have it"


def block_files(texts: Sequence[str]) -> dict[str, Path]:
    """Read "NAME=FILE", once for each block.

    Raises:
        ConfigError: A text is none, or a name stands twice.

    Example:
        >>> {name: file.name for name, file in block_files(["ct=ct.csv", "pet=pet"]).items()}
        {'ct': 'ct.csv', 'pet': 'pet'}
    """
    return {name: Path(file) for name, file in named_values(texts, "--block").items()}


def named_values(texts: Sequence[str], option: str) -> dict[str, str]:
    """Read "NAME=VALUE", once for each name.

    Args:
        texts: As they were given.
        option: What they were given to, for messages.

    Raises:
        ConfigError: A text is none, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name or not value:
            raise ConfigError(f"{option} takes NAME=VALUE, for example ct=features.csv or age=number")
        if name in found:
            raise ConfigError(f"{option}: {name!r} is given twice")
        found[name] = value
    return found


def patient_key(names: Collection[str]) -> str | None:
    """Return which column says whose a row is."""
    return next((key for key in KEYS if key in names), None)


def says_synthetic(table: ClinicalTable) -> bool:
    """Return whether a table says that its people are invented: any cell of a column "made" holds the word.

    One such row is enough: what is mixed with invented people is no evidence either.
    """
    made = table.columns.get(_MADE)
    words = made.levels if isinstance(made, CategoryColumn) else ()
    return any("synthetic" in w.lower() for w in words) or any(p.startswith("synthetic-") for p in table.patients)


def block_table(name: str, path: Path) -> ClinicalTable:
    """Read a block.

    Args:
        name: Of the block.
        path: CSV or ARFF with a column of the patient, or a folder whose subfolders hold a `features.csv` each, as
            `isocenter phenotype --patient NAME` writes them.

    Raises:
        DataError: It can't be read, or no column says whose a row is; of a folder: it holds none, or their columns
            differ.
    """
    if path.is_dir():
        return _folder(name, path)
    key = patient_key(heading_of(path))
    if key is None:
        raise DataError(f"block {name!r} needs a column of the patient: {', '.join(KEYS)}", source=path)
    return read_clinical(path, patient=key, lenient_kinds=dict.fromkeys(_REGIONS, "category"))


def heading_of(path: Path) -> list[str]:
    """Return the headings of a CSV or ARFF file, with their units.

    Raises:
        DataError: It can't be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error
    except UnicodeDecodeError as error:
        raise DataError("not a table in UTF-8", source=path) from error
    if path.suffix.lower() == ".arff":
        return [line.split()[1].strip("'\"") for line in text.splitlines() if line.lower().startswith("@attribute ")]
    return [cell.strip() for cell in next(csv.reader(text.splitlines()), [])]


def _folder(name: str, path: Path) -> ClinicalTable:
    files = sorted(path.rglob(FEATURES))
    if not files:
        raise DataError(f"block {name!r}: no folder in it holds a {FEATURES}", source=path)
    tables = [block_table(name, file) for file in files]
    names = list(dict.fromkeys(c for table in tables for c in table.columns))
    columns: dict[str, Column] = {}
    for column in names:
        columns[column] = _stacked(column, tables)
    patients = tuple(p for table in tables for p in table.patients)
    lines = np.arange(1, len(patients) + 1)
    text = tuple(dict.fromkeys(t for table in tables for t in table.text))
    return ClinicalTable(str(path), columns, lines, patients, True, text)


def _stacked(name: str, tables: Sequence[ClinicalTable]) -> Column:
    """Put the parts of one column under each other; a table that lacks it has nothing there."""
    own = [(table, table.columns.get(name)) for table in tables]
    kinds = {type(c) for _, c in own if c is not None and not c.missing.all()}
    if len(kinds) > 1:
        source = next(t.source for t, c in own if c is not None and type(c) is not type(own[0][1]))
        raise DataError(f"column {name!r} is of another kind than in the files before", source=source)
    kind = kinds.pop() if kinds else NumberColumn
    if kind is NumberColumn:
        unit = next((c.unit for _, c in own if isinstance(c, NumberColumn)), "1")
        parts = [
            (c.values if c.unit == unit else c.to(unit).values)
            if isinstance(c, NumberColumn)
            else np.full(len(t), np.nan)
            for t, c in own
        ]
        return NumberColumn(name, unit, np.concatenate(parts))
    if kind is CategoryColumn:
        levels = tuple(sorted({w for _, c in own if isinstance(c, CategoryColumn) for w in c.levels}))
        codes = [
            np.array([levels.index(c.levels[k]) if k >= 0 else -1 for k in c.codes], dtype=np.int64)
            if isinstance(c, CategoryColumn)
            else np.full(len(t), -1, dtype=np.int64)
            for t, c in own
        ]
        return CategoryColumn(name, levels, np.concatenate(codes))
    if kind is BooleanColumn:
        values = [c.values if isinstance(c, BooleanColumn) else np.full(len(t), np.nan) for t, c in own]
        return BooleanColumn(name, np.concatenate(values))
    days = [
        c.values.astype("datetime64[us]") if isinstance(c, DateColumn) else np.full(len(t), "NaT", "datetime64[us]")
        for t, c in own
    ]
    timed = [
        np.zeros(len(t), dtype=np.bool_) if not isinstance(c, DateColumn) or c.timed is None else c.timed
        for t, c in own
    ]
    return DateColumn(name, np.concatenate(days), np.concatenate(timed))


def join_block(
    name: str,
    table: ClinicalTable,
    patients: Sequence[str],
    *,
    index_time: DateColumn | None = None,
    others: Collection[str] = (),
    needed: bool = True,
) -> Block:
    """Join a block to people by patient.

    Args:
        name: Of the block.
        table: From `block_table`.
        patients: Of the table that it is joined to, one row each, in order.
        index_time: Moment of prediction of each of them; a block with dates needs it.
        others: Patients that may stand in the block too (people that are asked about, or were learnt from).
        needed: Whether nobody in common is an error; people that are asked about may lack a block.

    Raises:
        DataError: A patient that nobody knows, two rows of one patient and region, nobody in common, regions that are
            not named or too many, dates without an index time, or a row that is dated later than it.
    """
    place = {patient: n for n, patient in enumerate(patients)}
    _check_known(name, table, {*place, *others})
    region, regions = _regions(name, table)
    _check_twins(name, table, region)
    rows = np.array([place.get(p, -1) for p in table.patients], dtype=np.int64)
    if needed and not (rows >= 0).any():
        raise DataError(f"block {name!r} has no patient in common with the table", source=table.source)
    dates = [c for c in table.columns.values() if isinstance(c, DateColumn)]
    _check_dates(name, table, dates, rows, index_time)
    columns: dict[str, Column] = {}
    features = {n: c for n, c in table.columns.items() if n not in (*_REGIONS, _MADE) and not isinstance(c, DateColumn)}
    for label in regions or ("",):
        own = rows.copy()
        if label and region is not None:
            own[np.array([region.levels[k] != label for k in region.codes])] = -1
        for feature, column in features.items():
            told = f"{name}: {label}: {feature}" if label else f"{name}: {feature}"
            columns[told] = _placed(told, column, own, len(patients))
    if not columns:
        raise DataError(f"block {name!r} has no column of features", source=table.source)
    present = np.zeros(len(patients), dtype=np.bool_)
    present[rows[rows >= 0]] = True
    left_out = tuple(f"{name}: {text}: free text" for text in table.text)
    left_out += tuple(f"{name}: {c.name}: a date" for c in dates)
    return Block(name, table.source, columns, present, regions, left_out, says_synthetic(table))


def _check_known(name: str, table: ClinicalTable, known: Collection[str]) -> None:
    strange = [n for n, patient in enumerate(table.patients) if patient not in known]
    if len(strange) == len(table.patients):
        raise DataError(f"block {name!r} has no patient in common with the table", source=table.source)
    if strange:
        raise DataError(
            f"block {name!r}: {len(strange)} of {len(table.patients)} rows are of patients that the table does not "
            f"know, the first on line {int(table.lines[strange[0]])}; correct the names, or take the rows out",
            source=table.source,
        )


def _regions(name: str, table: ClinicalTable) -> tuple[CategoryColumn | None, tuple[str, ...]]:
    """Return the column of regions, and their names where there are several."""
    column = next((table.columns[r] for r in _REGIONS if r in table.columns), None)
    if not isinstance(column, CategoryColumn):
        return None, ()
    if column.missing.any():
        line = int(table.lines[np.flatnonzero(column.missing)[0]])
        raise DataError(f"block {name!r}: line {line} has no {column.name}", source=table.source)
    if len(column.levels) > _MOST_REGIONS:
        raise DataError(
            f"block {name!r} has {len(column.levels)} different regions; with more than {_MOST_REGIONS} a region of "
            "one patient is hardly that of another: name them alike",
            source=table.source,
        )
    return column, column.levels if len(column.levels) > 1 else ()


def _check_twins(name: str, table: ClinicalTable, region: CategoryColumn | None) -> None:
    first: dict[tuple[str, int], int] = {}
    codes: Int64[np.ndarray, " n"] = np.zeros(len(table), dtype=np.int64) if region is None else region.codes
    for row, key in enumerate(zip(table.patients, codes.tolist(), strict=True)):
        before = first.setdefault(key, row)
        if before != row:
            what = "patient" if region is None else "patient and region"
            raise DataError(
                f"block {name!r}: line {int(table.lines[row])} is of the {what} of line {int(table.lines[before])}; "
                f"one row for each {what} is needed",
                source=table.source,
            )


def _check_dates(
    name: str,
    table: ClinicalTable,
    dates: Sequence[DateColumn],
    rows: Int64[np.ndarray, " n"],
    index_time: DateColumn | None,
) -> None:
    """Refuse rows that are dated later than their patient's index time, or without a date that tells."""
    if not dates:
        return
    if index_time is None:
        raise DataError(
            f"block {name!r} has dates ({', '.join(c.name for c in dates)}); they need --index-time, or what is dated "
            "later can't be told",
            source=table.source,
        )
    inside = rows >= 0
    timed = index_time.timed
    moments = DateColumn(
        index_time.name, index_time.values[rows[inside]], None if timed is None else timed[rows[inside]]
    )
    for column in dates:
        own = DateColumn(column.name, column.values[inside], None if column.timed is None else column.timed[inside])
        late = own.later_than(moments) | own.missing
        if late.any():
            line = int(table.lines[inside][np.flatnonzero(late)[0]])
            raise DataError(
                f"leakage: block {name!r}: {int(late.sum())} rows are dated ({column.name}) later than the index time "
                f"{index_time.name!r}, or are not told to be earlier, the first on line {line}; what was not known "
                "then is no feature: take these rows out",
                source=table.source,
            )


def _placed(name: str, column: Column, rows: Int64[np.ndarray, " n"], count: int) -> Column:
    """Return a column with a value for each person, nothing where the block holds none."""
    inside = rows >= 0
    if isinstance(column, CategoryColumn):
        codes = np.full(count, -1, dtype=np.int64)
        codes[rows[inside]] = column.codes[inside]
        return CategoryColumn(name, column.levels, codes)
    values = np.full(count, np.nan)
    values[rows[inside]] = column.values[inside]
    if isinstance(column, BooleanColumn):
        return BooleanColumn(name, values)
    return NumberColumn(name, column.unit if isinstance(column, NumberColumn) else "1", values)
