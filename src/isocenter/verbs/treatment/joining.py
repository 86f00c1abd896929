"""Blocks joined to people by patient, as columns beside those of the table: "ct: stat_mean".

Blocks are read as `isocenter prognose` reads them. What a block does not hold of a person stays empty; whose a row is
is never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from isocenter.core.errors import DataError
from isocenter.data.tables import ClinicalTable, Column, DateColumn, NumberColumn
from isocenter.models.hashed_text import LENGTH, hashed_text
from isocenter.verbs.prognosis.blocks import ReadBlock, refuse_late

__all__ = ["Joined", "join"]


@dataclass(frozen=True, eq=False)
class Joined:
    """A table with the columns of blocks.

    Args:
        table: Its columns, and those of blocks.
        columns: Names of the columns of each block, by its name.
        present: Rows that have it, by its name.
        left_out: What was not read, and why.
        synthetic: Blocks that say that their patients are invented.
    """

    table: ClinicalTable
    columns: dict[str, tuple[str, ...]]
    present: dict[str, np.ndarray]
    left_out: tuple[str, ...]
    synthetic: frozenset[str]


def join(
    read: Sequence[ReadBlock],
    table: ClinicalTable,
    *,
    moment: DateColumn | None,
    others: Collection[str] = (),
    needed: bool = True,
) -> Joined:
    """Join blocks to a table.

    Args:
        read: Blocks.
        table: People, one row each.
        moment: Index time of each; blocks with dates need it.
        others: Patients that blocks may hold too: those that are asked about, or that were learnt from.
        needed: Whether nobody in common is an error; people who are asked about may lack a block.

    Raises:
        DataError: No patient in common, patients that nobody knows while others have no row, or rows that are dated
            later than the index time.
    """
    columns: dict[str, Column] = dict(table.columns)
    names: dict[str, tuple[str, ...]] = {}
    present: dict[str, np.ndarray] = {}
    for one in read:
        rows = _rows(one, table, others, needed=needed)
        has = rows >= 0
        refuse_late(one, rows, moment)
        held, units, values = _numbers(one)
        for number, (name, unit) in enumerate(zip(held, units, strict=True)):
            own = np.full(len(table), np.nan)
            own[has] = values[rows[has], number]
            columns[f"{one.name}: {name}"] = NumberColumn(f"{one.name}: {name}", unit, own)
        names[one.name] = tuple(f"{one.name}: {name}" for name in held)
        present[one.name] = has
    left_out = tuple(f"block {b.name}: {what}" for b in read for what in b.table.left_out if what != "made: words")
    synthetic = frozenset(b.name for b in read if b.table.synthetic)
    return Joined(table.with_columns(columns), names, present, left_out, synthetic)


def _numbers(one: ReadBlock) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    if one.is_text:
        return tuple(f"hashed {n}" for n in range(LENGTH)), ("1",) * LENGTH, hashed_text(one.table.texts)
    return one.table.columns, one.table.units, one.table.values


def _rows(one: ReadBlock, table: ClinicalTable, others: Collection[str], *, needed: bool) -> Int64[np.ndarray, " n"]:
    """Return the row of the block of each person, -1 for none."""
    place = {patient: n for n, patient in enumerate(one.table.patients)}
    known = {*table.patients, *others}
    unknown = [n for n, patient in enumerate(one.table.patients) if patient not in known]
    rows = np.array([place.get(patient, -1) for patient in table.patients], dtype=np.int64)
    if len(unknown) == len(place) or (needed and not (rows >= 0).any()):
        raise DataError(
            f"block {one.name!r}: none of its {len(place)} patients is in the table; keys must be written alike",
            source=one.table.source,
        )
    if unknown and (rows < 0).any():
        line = one.table.lines[unknown[0]]
        where = f", the first on line {line}" if line else ""
        raise DataError(
            f"block {one.name!r}: {len(unknown)} of its patients are not in the table{where}, while "
            f"{int((rows < 0).sum())} of the table's have no row: write keys alike, or leave those rows out",
            source=one.table.source,
        )
    return rows
