"""A clinical table into covariates and times: what is left out, and why, is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.tables import (
    BooleanColumn,
    CategoryColumn,
    ClinicalTable,
    Codes,
    Column,
    DateColumn,
    NumberColumn,
    Outcome,
    features_in_time,
    missingness,
    read_outcome,
)
from isocenter.data.tables.columns import plain_number
from isocenter.data.tables.timing import dating_of
from isocenter.models.covariates import Block, Covariate, Covariates
from isocenter.tasks.prognose.learners import Times
from isocenter.verbs.leakage import copies, id_columns, telling
from isocenter.verbs.prognosis.blocks import ReadBlock, joined
from isocenter.verbs.prognosis.document import BlockEntry, ColumnEntry, MissingEntry

__all__ = ["MARKER", "Asked", "Cohort", "cohort_of", "covariates_of", "is_synthetic", "people_of"]

MARKER = "SYNTHETIC.txt"
"""Stands in the folder of a synthetic cohort (`synth.patients`)."""


@dataclass(frozen=True)
class Asked:
    """What a table is asked.

    Args:
        time: Column of the time.
        event: Column of the event.
        codes: What its values mean.
        index_time: Column of the moment of prediction.
        features: Columns that are learnt from; empty for all that may be.
        leave_out: Columns that are not.
        group: Column by which what is missing is told.
        dated_by: Date column of other columns.
        batch: Column of the scanner.
        components: Of each block at most.
    """

    time: str
    event: str
    codes: Codes
    index_time: str | None = None
    features: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    group: str | None = None
    dated_by: Mapping[str, str] | None = None
    batch: str | None = None
    components: int = 8


@dataclass(frozen=True, eq=False)
class Cohort:
    """People to learn from.

    Args:
        people: What is known of them.
        times: Their times.
        patients: Of each row.
        patients_known: Whether a column says it.
        left_out: Columns and rows that were left out, and why.
        missing: By column.
        blocks: What is told of the blocks.
        synthetic: Whether the table or a block says that its people are invented.
    """

    people: Covariates
    times: Times
    patients: tuple[str, ...]
    patients_known: bool
    left_out: tuple[str, ...]
    missing: tuple[MissingEntry, ...]
    blocks: tuple[BlockEntry, ...] = ()
    synthetic: bool = False


def cohort_of(table: ClinicalTable, asked: Asked, blocks: Sequence[ReadBlock] = ()) -> Cohort:
    """Return people to learn from.

    Args:
        table: Read.
        asked: What it is asked.
        blocks: Modalities beside it.

    Raises:
        DataError: Times that can't be, no events, dates in the future, or a column that was named and is dated later
            than the index time or tells the outcome by its gaps or by itself.
        ConfigError: A column that was named is not there, or one names patients and nobody said so.
    """
    unread = {*table.text, *(["row"] if table.row_names else [])}
    for name in (*asked.features, *asked.leave_out, *filter(None, (asked.group, asked.index_time))):
        if name not in table.columns and not (name in asked.leave_out and name in unread):
            raise ConfigError(f"there is no column {name!r}; there are {', '.join(table.columns)}")
    used = {asked.time, asked.event, asked.index_time, asked.group, *asked.leave_out}
    ids = id_columns(table, used, asked.features)
    outcome = read_outcome(table, asked.time, asked.event, asked.codes)
    left_out = [f"column {name}: free text" for name in table.text if name not in asked.leave_out]
    left_out += [f"column {name}: names people or cases" for name in ids]
    if table.row_names:
        left_out.append("the first column, without a heading: names of rows")
    lost = int((~outcome.known).sum())
    if lost:
        left_out.append(f"{lost} rows: no time or no event")
    known = table.rows(outcome.known)
    marks = _marks(table)
    left_out += [f"column {name}: says that these people are invented" for name in marks]
    outer = {asked.time, asked.event, *asked.leave_out, *ids, *marks, *((asked.batch,) if asked.batch else ())}
    groups = _words(known.column(asked.group)) if asked.group else None
    kept = {name: c for name, c in known.columns.items() if name not in outer and name != asked.group}
    if asked.features:
        dated = set((asked.dated_by or {}).values()) | {asked.index_time}
        kept = {
            name: c for name, c in kept.items() if name in asked.features or isinstance(c, DateColumn) or name in dated
        }
    stated = asked.dated_by or {}
    dating = {n: by for n, by in dating_of(known, stated).items() if by in kept or n in stated}
    # Dates of columns alone that are not learnt from have nothing left to tell.
    idle = set(dating.values()) - {by for n, by in dating.items() if n in kept} - {asked.index_time, *asked.features}
    kept = {name: c for name, c in kept.items() if name not in idle}
    found = features_in_time(
        known.with_columns(kept), asked.index_time, dated_by={n: by for n, by in dating.items() if n in kept},
        today=datetime.now(UTC).date(), refuse=False,
    )  # fmt: skip
    reasons = {
        n: f"dated later than the index time, or not told to be earlier, in {k} rows" for n, k in found.refused.items()
    }
    features = dict(found.table.columns)
    if asked.features:
        named = {*asked.features, *(f"{name} before {asked.index_time}" for name in asked.features)}
        features = {name: c for name, c in features.items() if name in named}
    chosen = known.with_columns(features)
    reasons |= copies(chosen, outcome.codes) | telling(chosen, outcome.happened, outcome.days)
    wrong = [n for n in reasons if n in asked.features]
    if wrong:
        raise DataError(
            f"leakage: {'; '.join(f'{n}: {reasons[n]}' for n in wrong)}; what was not known at the time of "
            "prediction is no feature",
            source=table.source,
        )
    left_out += [f"column {name}: {why}" for name, why in reasons.items()]
    features = {name: c for name, c in features.items() if name not in reasons}
    if not features and not blocks:
        raise DataError("no column is left to learn from", source=table.source)
    chosen = known.with_columns(features)
    codes = outcome.codes if len(outcome.competing) else None
    times = Times(outcome.days, outcome.happened, codes)
    missing = _missing(chosen, outcome.happened, groups)
    beside, told, out = _beside(known, table, asked, blocks, outcome)
    people = Covariates(covariates_of(chosen).columns if features else (), beside)
    made = is_synthetic(table) or any(b.table.synthetic for b in blocks)
    return Cohort(
        people, times, known.patients, known.patients_known, (*left_out, *out), missing, told, made
    )  # fmt: skip


def is_synthetic(table: ClinicalTable) -> bool:
    """Return whether a table says, in a column or in a text beside it, that its people are invented."""
    column = any(
        "synthetic" in (level.casefold() for level in c.levels)
        for c in table.columns.values() if isinstance(c, CategoryColumn)
    )  # fmt: skip
    file = Path(table.source)
    return column or (file.is_file() and (file.parent / MARKER).is_file())


def _beside(
    known: ClinicalTable, table: ClinicalTable, asked: Asked, read: Sequence[ReadBlock], outcome: Outcome
) -> tuple[tuple[Block, ...], tuple[BlockEntry, ...], tuple[str, ...]]:
    """Return the blocks of people, without numbers that tell the outcome by themselves."""
    clash = [b.name for b in read if b.name in table.columns or b.name in table.text]
    if clash:
        raise ConfigError(f"block {clash[0]!r} is called like a column of the table; choose another name")
    moment = known.columns.get(asked.index_time or "")
    blocks, entries, left_out = joined(
        read, known, everyone=table.patients, moment=moment if isinstance(moment, DateColumn) else None,
        happened=outcome.happened, batch=asked.batch, components=asked.components,
    )  # fmt: skip
    kept: list[Block] = []
    told: list[BlockEntry] = []
    out = list(left_out)
    for block, entry in zip(blocks, entries, strict=True):
        if entry.text:
            kept.append(block)
            told.append(entry)
            continue
        columns: dict[str, Column] = {c: NumberColumn(c, "1", block.values[:, n]) for n, c in enumerate(block.columns)}
        numbers = known.with_columns(columns)
        reasons = copies(numbers, outcome.codes) | telling(numbers, outcome.happened, outcome.days)
        out += [f"block {block.name}, {name}: {why}" for name, why in reasons.items()]
        stay = [n for n, c in enumerate(block.columns) if c not in reasons]
        if not stay:
            raise DataError(f"block {block.name!r}: every number of it tells the outcome by itself")
        names = tuple(block.columns[n] for n in stay)
        kept.append(replace(block, columns=names, values=block.values[:, stay]))
        told.append(entry.model_copy(update={"columns": names, "units": tuple(entry.units[n] for n in stay)}))
    return tuple(kept), tuple(told), tuple(out)


def _words(column: Column) -> list[str]:
    if isinstance(column, CategoryColumn):
        return [column.levels[c] if c >= 0 else "not known" for c in column.codes]
    if isinstance(column, DateColumn):
        raise ConfigError(f"{column.name!r} holds dates: it makes no groups")
    return ["not known" if np.isnan(v) else plain_number(float(v)) for v in column.values]


def _missing(
    table: ClinicalTable, happened: Bool[np.ndarray, " n"], groups: Sequence[str] | None
) -> tuple[MissingEntry, ...]:
    by_event = missingness(table, ["with" if h else "without" for h in happened])
    by_group = missingness(table, groups) if groups is not None else by_event
    return tuple(
        MissingEntry(
            column=m.column, share=m.share, with_event=m.by_group.get("with", 0.0),
            without_event=m.by_group.get("without", 0.0), by_group=dict(g.by_group) if groups is not None else {},
        )
        for m, g in zip(by_event, by_group, strict=True)
    )  # fmt: skip


def _marks(table: ClinicalTable) -> list[str]:
    """Return columns that hold nothing but the mark of invented people."""
    return [
        name for name, c in table.columns.items()
        if isinstance(c, CategoryColumn) and [level.casefold() for level in c.levels] == ["synthetic"]
    ]  # fmt: skip


def covariates_of(table: ClinicalTable) -> Covariates:
    """Return the columns of a table as covariates; yes and no are words.

    Raises:
        DataError: A column of dates, or no column.
    """
    columns = []
    for name, column in table.columns.items():
        if isinstance(column, NumberColumn):
            columns.append(Covariate(name, column.values, column.unit))
        elif isinstance(column, BooleanColumn):
            columns.append(Covariate(name, column.values, "", ("no", "yes")))
        elif isinstance(column, CategoryColumn):
            values = np.where(column.codes < 0, np.nan, column.codes.astype(np.float64))
            columns.append(Covariate(name, values, "", column.levels))
        else:
            raise DataError(f"{name!r} holds dates; an index time makes them days before it", source=table.source)
    return Covariates(tuple(columns))


def people_of(table: ClinicalTable, columns: Sequence[ColumnEntry], blocks: tuple[Block, ...] = ()) -> Covariates:
    """Return people to be answered for, in the units and words that the model learnt with.

    Args:
        table: Of these people; what it does not hold is not known.
        columns: Of the model.
        blocks: Of these people.

    Raises:
        DataError: No column of the model is there, or one is of another kind.
        UnitsError: A unit does not convert.
    """
    if not any(c.name in table.columns for c in columns) and not blocks:
        raise DataError(f"no column that the model learnt with is there: {', '.join(c.name for c in columns)}")
    made = []
    for entry in columns:
        column = table.columns.get(entry.name)
        if column is None:
            nothing = np.full(len(table), np.nan)
            made.append(Covariate(entry.name, nothing, entry.unit, entry.levels))
        elif entry.levels:
            words = _level_words(column, entry)
            levels = (*entry.levels, *sorted(set(words) - set(entry.levels) - {""}))
            place = {level: float(n) for n, level in enumerate(levels)}
            values = np.array([place[w] if w else np.nan for w in words])
            made.append(Covariate(entry.name, values, "", levels))
        else:
            made.append(Covariate(entry.name, table.number(entry.name, entry.unit).values, entry.unit))
    return Covariates(tuple(made), blocks)


def _level_words(column: Column, entry: ColumnEntry) -> list[str]:
    if isinstance(column, CategoryColumn):
        return [column.levels[c] if c >= 0 else "" for c in column.codes]
    if isinstance(column, DateColumn):
        raise DataError(f"column {entry.name!r} holds dates; the model learnt words")
    if entry.levels == ("no", "yes"):
        words = {0.0: "no", 1.0: "yes"}
        return ["" if np.isnan(v) else words.get(float(v), plain_number(float(v))) for v in column.values]
    return ["" if np.isnan(v) else plain_number(float(v)) for v in column.values]
