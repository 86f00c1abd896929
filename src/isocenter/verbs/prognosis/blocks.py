"""Modalities beside the table: read, joined by patient key, counted; what is dated too late or tells the outcome not.

A block is named as NAME=FILE (numbers), NAME=FOLDER (phenotypes), NAME=FILE:COLUMN (text), or NAME=:COLUMN (text of the
table itself).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.core.ucum import convert_units
from isocenter.data.tables import (
    BlockTable,
    CategoryColumn,
    ClinicalTable,
    Column,
    DateColumn,
    NumberColumn,
    read_block,
    read_texts,
)
from isocenter.data.tables.columns import plain_number
from isocenter.models.covariates import Block
from isocenter.models.hashed_text import LENGTH, hashed_text
from isocenter.tasks.prognose.preparing import TABLE
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.prognosis.document import BlockEntry

__all__ = ["ReadBlock", "blocks_of_people", "joined", "read_blocks", "refuse_late", "scanners"]

_TEXT_COLUMNS = tuple(f"hashed {n}" for n in range(LENGTH))
_TELLING_GAP = 0.8
"""A difference of shares that no mishap of recording makes (a convention, as of columns)."""
_COLUMNS_TOLD = 3


@dataclass(frozen=True, eq=False)
class ReadBlock:
    """A block as it was read.

    Args:
        name: Of the modality.
        table: What patients have of it.
        is_text: Whether it holds text.
        sha256: Of its file, or of all files of its folder; "" where it is a column of the table.
    """

    name: str
    table: BlockTable
    is_text: bool
    sha256: str


def read_blocks(asked: Sequence[str], *, table: Path | None, patient: str | None, batch: str | None) -> tuple[
    ReadBlock, ...
]:  # fmt: skip
    """Read the blocks that are asked for.

    Args:
        asked: As NAME=FILE, NAME=FOLDER, NAME=FILE:COLUMN or NAME=:COLUMN.
        table: The clinical table.
        patient: Column of the patient.
        batch: Column of the scanner.

    Raises:
        ConfigError: A block is not named so, a name is given twice, or no column names the patient.
        DataError: A block can't be read.
    """
    if asked and patient is None:
        raise ConfigError("blocks are joined by patient: name the patient's column with --patient-column")
    found: list[ReadBlock] = []
    for text in asked:
        name, sign, place = text.partition("=")
        name = name.strip()
        if not sign or not name or not place or name == TABLE or name in [b.name for b in found]:
            raise ConfigError(
                f"a block is given as NAME=FILE, NAME=FILE:COLUMN or NAME=:COLUMN, each name once and none {TABLE!r}"
            )
        found.append(_read(name, place, table, patient or "", batch))
    return tuple(found)


def _read(name: str, place: str, table: Path | None, patient: str, batch: str | None) -> ReadBlock:
    if Path(place).exists():
        made = read_block(Path(place), patient=patient, batch=batch)
        return ReadBlock(name, made, False, _hash(Path(place)))
    file, colon, column = place.rpartition(":")
    if not colon or not column:
        raise ConfigError(f"block {name!r}: there is no {Path(place).name}")
    if file:
        return ReadBlock(name, read_texts(Path(file), patient=patient, column=column), True, file_sha256(Path(file)))
    if table is None:
        raise ConfigError(f"block {name!r} is a column of the table, and no table is given")
    return ReadBlock(name, read_texts(table, patient=patient, column=column), True, "")


def _hash(path: Path) -> str:
    if path.is_file():
        return file_sha256(path)
    files = sorted(path.glob("*/phenotype.csv"))
    return file_sha256(files[0]) if len(files) == 1 else _hash_of([file_sha256(f) for f in files])


def _hash_of(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def joined(
    read: Sequence[ReadBlock],
    known: ClinicalTable,
    *,
    everyone: Sequence[str],
    moment: DateColumn | None,
    happened: Bool[np.ndarray, " n"],
    batch: str | None,
    components: int,
) -> tuple[tuple[Block, ...], tuple[BlockEntry, ...], tuple[str, ...]]:
    """Join blocks to people.

    Args:
        read: As they were read.
        known: The people.
        everyone: Patients of the whole table.
        moment: Index time of each.
        happened: Whether each had the event.
        batch: Column of the scanner.
        components: Of each block at most.

    Returns:
        The blocks, what is told of them, and what was left out.

    Raises:
        DataError: No patient in common, patients that the table does not know, a date later than the index time, or a
            block that only those with the event have.
        ConfigError: The column of the scanner is nowhere.
    """
    if batch and batch not in known.columns and not any(b.table.batches for b in read):
        raise ConfigError(f"there is no column {batch!r} of scanners, neither in a block nor in the table")
    blocks, entries, left_out = [], [], []
    for one in read:
        rows = _rows(one, known, everyone)
        refuse_late(one, rows, moment)
        values, columns, units = _values(one)
        taken = np.full((len(known), len(columns)), np.nan)
        taken[rows >= 0] = values[rows[rows >= 0]]
        batches = () if one.is_text or not batch else _batches(one, known, rows, batch)
        block = Block(one.name, columns, taken, batches, components)
        _refuse_telling(block, happened)
        blocks.append(block)
        left_out += [f"block {one.name}: {what}" for what in one.table.left_out]
        entries.append(_entry(block, one, units, happened))
    return tuple(blocks), tuple(entries), tuple(left_out)


def _rows(one: ReadBlock, known: ClinicalTable, everyone: Sequence[str]) -> np.ndarray:
    """Return the row of the block of each person, -1 for none."""
    place = {p: n for n, p in enumerate(one.table.patients)}
    here = set(everyone)
    unknown = [n for n, p in enumerate(one.table.patients) if p not in here]
    lacking = here - set(place)
    if len(unknown) == len(place):
        raise DataError(
            f"block {one.name!r}: none of its {len(place)} patients is in the table; keys must be written alike",
            source=one.table.source,
        )
    if unknown and lacking:
        line = one.table.lines[unknown[0]]
        where = f", the first on line {line}" if line else ""
        raise DataError(
            f"block {one.name!r}: {len(unknown)} of its patients are not in the table{where}, while {len(lacking)} of "
            "the table's have no row: write keys alike, or leave those rows out",
            source=one.table.source,
        )
    return np.array([place.get(p, -1) for p in known.patients], dtype=np.int64)


def refuse_late(one: ReadBlock, rows: np.ndarray, moment: DateColumn | None) -> None:
    """Refuse a block that is dated later than the index time.

    Args:
        one: The block.
        rows: Its row of each person, -1 for none.
        moment: Index time of each person.

    Raises:
        DataError: A row is dated later, or not told to be earlier; or there are dates and no index time.
    """
    has = rows >= 0
    for column in one.table.dates:
        if moment is None:
            raise DataError(
                f"block {one.name!r} has dates ({column.name}): name the column of the index time, or what is dated "
                "later can't be told",
                source=one.table.source,
            )
        timed = None if column.timed is None else column.timed[rows[has]]
        own = DateColumn(column.name, column.values[rows[has]], timed)
        of = DateColumn(moment.name, moment.values[has], None if moment.timed is None else moment.timed[has])
        late = int((own.missing | own.later_than(of)).sum())
        if late:
            raise DataError(
                f"leakage: block {one.name!r} is dated later than the index time {moment.name!r}, or not told to be "
                f"earlier, in {late} rows ({column.name}); what was not known at the time of prediction is no feature",
                source=one.table.source,
            )


def _values(one: ReadBlock) -> tuple[Float[np.ndarray, "n k"], tuple[str, ...], tuple[str, ...]]:
    if one.is_text:
        return hashed_text(one.table.texts), _TEXT_COLUMNS, ()
    return one.table.values, one.table.columns, one.table.units


def _batches(one: ReadBlock, known: ClinicalTable, rows: np.ndarray, batch: str) -> tuple[str, ...]:
    if one.table.batches:
        return tuple(one.table.batches[r] if r >= 0 else "" for r in rows)
    column = known.columns.get(batch)
    return () if column is None else scanners(column)


def scanners(column: Column) -> tuple[str, ...]:
    """Return a column of scanners as words, "" where nothing is known.

    Raises:
        ConfigError: It holds dates, or yes and no.
    """
    if isinstance(column, CategoryColumn):
        return tuple(column.levels[c] if c >= 0 else "" for c in column.codes)
    if isinstance(column, NumberColumn):
        return tuple("" if np.isnan(v) else plain_number(float(v)) for v in column.values)
    raise ConfigError("the column of scanners must hold words or numbers")


def _refuse_telling(block: Block, happened: Bool[np.ndarray, " n"]) -> None:
    has = block.present
    if not has.any():
        raise DataError(f"block {block.name!r}: nobody with a known outcome has it")
    if happened.any() and not happened.all():
        gap = float(has[happened].mean()) - float(has[~happened].mean())
        if abs(gap) > _TELLING_GAP:
            raise DataError(
                f"leakage: block {block.name!r} is there for nearly all with the event and hardly any without it, or "
                "the other way round: it was taken because of the outcome"
            )


def _entry(block: Block, one: ReadBlock, units: tuple[str, ...], happened: Bool[np.ndarray, " n"]) -> BlockEntry:
    has = block.present
    counts: dict[str, int] = {}
    for name, h in zip(block.batches, has, strict=False):
        if h:
            counts[name or "not known"] = counts.get(name or "not known", 0) + 1
    return BlockEntry(
        name=block.name, text=one.is_text, columns=() if one.is_text else block.columns, units=units,
        people=int(has.sum()), share=float(has.mean()), with_event=float(has[happened].mean()),
        without_event=float(has[~happened].mean()) if (~happened).any() else 0.0,
        batches=dict(sorted(counts.items())), components=block.components,
        dated=bool(one.table.dates), sha256=one.sha256,
    )  # fmt: skip


def blocks_of_people(
    entries: Sequence[BlockEntry], read: Sequence[ReadBlock], keys: Sequence[str | None], told: Sequence[str]
) -> tuple[Block, ...]:
    """Return the blocks of people who are asked about, in the columns and units that were learnt with.

    Args:
        entries: Of the model.
        read: Blocks that are given.
        keys: Of each person; None where nobody said it.
        told: Scanner of each person, "" where it is not known; of blocks whose file does not say it.

    Raises:
        ConfigError: A block that the model does not know.
        DataError: A block of another kind, or numbers that it learnt with are not there.
        UnitsError: A unit does not convert.
    """
    strange = [b.name for b in read if b.name not in [e.name for e in entries]]
    if strange:
        known = ", ".join(e.name for e in entries) or "none"
        raise ConfigError(f"the model knows no block {strange[0]!r}; it learnt with {known}")
    given = {b.name: b for b in read}
    blocks = []
    for entry in entries:
        columns = _TEXT_COLUMNS if entry.text else entry.columns
        values = np.full((len(keys), len(columns)), np.nan)
        batches = list(told)
        one = given.get(entry.name)
        if one is not None:
            all_of_them, scanner = _as_learnt(one, entry), one.table.batches
            place = {p: n for n, p in enumerate(one.table.patients)}
            for person, key in enumerate(keys):
                row = place.get(key, -1) if key is not None else -1
                if row >= 0:
                    values[person] = all_of_them[row]
                    batches[person] = scanner[row] if scanner else batches[person]
        harmonised = tuple(batches) if entry.batches else ()
        blocks.append(Block(entry.name, columns, values, harmonised, entry.components))
    return tuple(blocks)


def _as_learnt(one: ReadBlock, entry: BlockEntry) -> Float[np.ndarray, "n k"]:
    if one.is_text != entry.text:
        kinds = ("numbers", "text")
        raise DataError(
            f"block {one.name!r} holds {kinds[one.is_text]}; the model learnt with {kinds[entry.text]}",
            source=one.table.source,
        )
    if one.is_text:
        return hashed_text(one.table.texts)
    place = {c: n for n, c in enumerate(one.table.columns)}
    lacking = [c for c in entry.columns if c not in place]
    if lacking:
        raise DataError(
            f"block {one.name!r} lacks {len(lacking)} of the {len(entry.columns)} numbers that the model learnt with: "
            f"{', '.join(lacking[:_COLUMNS_TOLD])}{', ...' if len(lacking) > _COLUMNS_TOLD else ''}",
            source=one.table.source,
        )
    found = np.stack([one.table.values[:, place[c]] for c in entry.columns], axis=1)
    for number, (column, unit) in enumerate(zip(entry.columns, entry.units, strict=True)):
        own = one.table.units[place[column]]
        if own != unit:
            what = f"column {column!r} of block {one.name!r}"
            found[:, number] = convert_units(found[:, number], own, unit, what=what)
    return found
