"""Columns of a clinical table as the features that an effect may depend on, and what of a person is not known.

Columns of numbers become one feature, of words one for each but the first; what tells an outcome by itself or by its
gaps is left out and named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.tables import ClinicalTable, DateColumn, NumberColumn, features_in_time, telling_gaps
from isocenter.data.tables.timing import dating_of
from isocenter.tasks.treat import Blocks
from isocenter.verbs.leakage import copies, id_columns, telling
from isocenter.verbs.prognosis.document import ColumnEntry
from isocenter.verbs.prognosis.inputs import covariates_of, people_of

__all__ = ["FeaturePlan", "Known", "Wanted", "feature_plan", "known_in_time"]

_MOST_LEVELS, _LEAST_STATED, _TELLS = 20, 30, 0.97
_GAPS = "missing for nearly all with one {what} and hardly any with the other: it was filled in because of the {what}"


@dataclass(frozen=True)
class Wanted:
    """Which columns may be features.

    Args:
        taken: Columns that are something else, or are left out.
        features: Columns to take; none takes all that can be. Columns of blocks are taken in any case.
        blocks: Columns of each block, by its name.
        index_time: Column of the moment of the decision.
        dated_by: Date column of other columns.
    """

    taken: frozenset[str]
    features: tuple[str, ...] = ()
    blocks: Mapping[str, tuple[str, ...]] | None = None
    index_time: str | None = None
    dated_by: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Known:
    """What an outcome is, as far as columns may tell it.

    Args:
        name: Of the outcome.
        treated: Who got the treatment.
        values: Of the outcome; None where there are times.
        binary: Whether it is yes or no.
        days: Until the event; None where there are no times.
        happened: Whether the event happened; None where there are no times.
    """

    name: str
    treated: Bool[np.ndarray, " n"]
    values: Float[np.ndarray, " n"] | None
    binary: bool
    days: Float[np.ndarray, " n"] | None = None
    happened: Bool[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class FeaturePlan:
    """Which columns are features, and how.

    Args:
        columns: In order.
        blocks: Columns of each block, by its name.
        left_out: Column and why it is no feature.
    """

    columns: tuple[ColumnEntry, ...]
    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features: one per column of numbers, one per word but the first."""
        return tuple(name for c in self.columns for name in _names(c))

    @property
    def places(self) -> Blocks:
        """Of each block the places of its features."""
        of: dict[str, list[int]] = {name: [] for name, _ in self.blocks}
        owner = {column: name for name, columns in self.blocks for column in columns}
        place = 0
        for c in self.columns:
            width = len(_names(c))
            if c.name in owner:
                of[owner[c.name]] += range(place, place + width)
            place += width
        return tuple((name, tuple(places)) for name, places in of.items())

    @property
    def kinds(self) -> dict[str, str]:
        """What each column holds, for reading another table."""
        return {
            c.name: "number" if not c.levels else "boolean" if c.levels == ("no", "yes") else "category"
            for c in self.columns
        }

    def values(self, table: ClinicalTable) -> tuple[Float[np.ndarray, "n q"], list[str | None]]:
        """Return the features of a table's rows, NaN for what is not known, and of each row what was never seen.

        Raises:
            DataError: No column is there, or one is of another kind.
            UnitsError: A column's unit does not convert to that learnt from.
        """
        people = people_of(table, self.columns)
        parts: list[Float[np.ndarray, "n k"]] = []
        unseen: list[str | None] = [None] * len(table)
        for own, column in zip(self.columns, people.columns, strict=True):
            if not own.levels:
                parts.append(column.values[:, None])
                continue
            strange = column.values >= len(own.levels)
            for row in np.flatnonzero(strange):
                unseen[row] = unseen[row] or f"nobody among those learnt from has this value of {own.name}"
            coded = (column.values[:, None] == np.arange(1, len(own.levels))).astype(np.float64)
            coded[np.isnan(column.values)] = np.nan
            parts.append(coded)
        return np.concatenate(parts, axis=1), unseen

    def not_known(self, raw: Float[np.ndarray, " q"]) -> tuple[str, ...]:
        """Return what is not known of a person: columns, and of a block how many of its columns.

        Args:
            raw: The person's features.
        """
        owner = {column: name for name, columns in self.blocks for column in columns}
        found: list[str] = []
        counts: dict[str, list[int]] = {}
        place = 0
        for c in self.columns:
            width = len(_names(c))
            gap = bool(np.isnan(raw[place : place + width]).any())
            if c.name in owner:
                counts.setdefault(owner[c.name], []).append(gap)
            elif gap:
                found.append(c.name)
            place += width
        for name, gaps in counts.items():
            if all(gaps):
                found.append(f"{name} (all of it)")
            elif any(gaps):
                found.append(f"{name} ({sum(gaps)} of {len(gaps)} columns)")
        return tuple(found)


def _names(column: ColumnEntry) -> list[str]:
    if column.levels:
        return [f"{column.name}: {level}" for level in column.levels[1:]]
    return [column.name if column.unit == "1" else f"{column.name} [{column.unit}]"]


def known_in_time(table: ClinicalTable, wanted: Wanted) -> tuple[ClinicalTable, dict[str, str]]:
    """Return columns that may be features, and which are not and why.

    Args:
        table: People.
        wanted: Which may be.

    Raises:
        ConfigError: A column that is named is not there, or one names people and nobody said so.
        DataError: A column that was named is no feature; dates without an index time, or in the future.
    """
    for name in (*wanted.features, *filter(None, (wanted.index_time,))):
        if name not in table.columns:
            raise ConfigError(f"there is no column {name!r}; there are {', '.join(table.columns)}")
    clash = [name for name in wanted.features if name in wanted.taken]
    if clash:
        raise DataError(
            f"{clash[0]!r} can't be a feature: it is the treatment or an outcome, or is left out", source=table.source
        )
    reasons = {name: "free text" for name in table.text if name not in wanted.taken}
    ids = id_columns(table, {*wanted.taken, wanted.index_time}, wanted.features)
    reasons |= dict.fromkeys(ids, "it names people or cases")
    kept = {n: c for n, c in table.columns.items() if n not in wanted.taken and n not in ids}
    of_blocks = {n for names in (wanted.blocks or {}).values() for n in names}
    if wanted.features:
        dated = {*(wanted.dated_by or {}).values(), wanted.index_time}
        asked = {*wanted.features, *of_blocks}
        kept = {n: c for n, c in kept.items() if n in asked or isinstance(c, DateColumn) or n in dated}
    stated = wanted.dated_by or {}
    dating = {n: by for n, by in dating_of(table, stated).items() if by in kept or n in stated}
    # Dates of columns alone that are no features have nothing left to tell.
    idle = set(dating.values()) - {by for n, by in dating.items() if n in kept} - {wanted.index_time, *wanted.features}
    kept = {n: c for n, c in kept.items() if n not in idle}
    found = features_in_time(
        table.with_columns(kept), wanted.index_time, dated_by={n: by for n, by in dating.items() if n in kept},
        today=datetime.now(UTC).date(), refuse=False,
    )  # fmt: skip
    reasons |= {
        n: f"leakage: dated later than the index time, or not told to be earlier, in {k} rows"
        for n, k in found.refused.items()
    }
    columns = dict(found.table.columns)
    if wanted.features:
        named = {*wanted.features, *of_blocks, *(f"{name} before {wanted.index_time}" for name in wanted.features)}
        columns = {n: c for n, c in columns.items() if n in named}
    _refuse(reasons, wanted.features, table.source)
    return table.with_columns(columns), reasons


def _refuse(reasons: Mapping[str, str], features: Collection[str], source: str) -> None:
    wrong = [name for name in reasons if name in features]
    if wrong:
        told = "; ".join(f"{name!r} can't be a feature: {reasons[name]}" for name in wrong)
        raise DataError(told, source=source)


def feature_plan(table: ClinicalTable, wanted: Wanted, outcomes: Sequence[Known] = ()) -> FeaturePlan:
    """Decide which columns are features.

    Args:
        table: People that are learnt from.
        wanted: Which columns may be.
        outcomes: What no column may tell by itself.

    Raises:
        ConfigError: A column that is named is not there, or one names people and nobody said so.
        DataError: A column that was named is no feature, dates without an index time or in the future, or no column
            is left.
    """
    made, reasons = known_in_time(table, wanted)
    for outcome in outcomes:
        reasons |= {n: f"leakage: {why}" for n, why in _leaks(made, outcome).items()}
    kept = {n: c for n, c in made.columns.items() if n not in reasons}
    entries = []
    for column in covariates_of(made.with_columns(kept)).columns if kept else ():
        values = column.values[~np.isnan(column.values)]
        present = tuple(w for n, w in enumerate(column.levels) if (values == n).any())
        if len(np.unique(values)) < 2:
            reasons[column.name] = "it is the same for everyone"
        elif len(present) > _MOST_LEVELS:
            reasons[column.name] = f"its words are of more than {_MOST_LEVELS} kinds"
        else:
            entries.append(ColumnEntry(name=column.name, unit=column.unit, levels=present))
    _refuse(reasons, wanted.features, table.source)
    if not entries:
        raise DataError("has no column that can be a feature", source=table.source)
    there = {e.name for e in entries}
    for name, columns in (wanted.blocks or {}).items():
        if not there & set(columns):
            why = next((reasons[c] for c in columns if c in reasons), "it holds none")
            raise DataError(f"no column of block {name!r} can be a feature: {why}", source=table.source)
    blocks = tuple(
        (name, tuple(c for c in columns if c in there))
        for name, columns in (wanted.blocks or {}).items()
        if any(c in there for c in columns)
    )
    return FeaturePlan(tuple(entries), blocks, _shortened(reasons, wanted.blocks or {}))


def _shortened(reasons: Mapping[str, str], blocks: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    """Say what is left out; of a block's columns how many, for each reason."""
    owner = {column: name for name, columns in blocks.items() for column in columns}
    found = [(name, why) for name, why in reasons.items() if name not in owner]
    counts: dict[tuple[str, str], list[str]] = {}
    for name, why in reasons.items():
        if name in owner:
            counts.setdefault((owner[name], why), []).append(name)
    for (block, why), names in counts.items():
        found.append((names[0] if len(names) == 1 else f"{len(names)} columns of {block} ({names[0]} first)", why))
    return tuple(found)


def _leaks(table: ClinicalTable, outcome: Known) -> dict[str, str]:
    """Return columns that tell who got what or what became of people, and how."""
    found = dict.fromkeys(telling_gaps(table, outcome.treated), _GAPS.format(what="treatment"))
    if outcome.days is not None and outcome.happened is not None:
        return {
            **found,
            **copies(table, outcome.happened.astype(np.int64)),
            **telling(table, outcome.happened, outcome.days),
        }
    if outcome.values is None:
        return found
    if outcome.binary:
        had = outcome.values > 0.5
        found |= dict.fromkeys(telling_gaps(table, had), _GAPS.format(what="outcome"))
        return {**found, **copies(table, had.astype(np.int64))}
    found |= dict.fromkeys(
        telling_gaps(table, outcome.values > np.median(outcome.values)), _GAPS.format(what="outcome")
    )
    for name, column in table.columns.items():
        if isinstance(column, NumberColumn) and _follows(column.values, outcome.values):
            found[name] = f"by itself it tells {outcome.name!r} almost perfectly"
    return found


def _follows(values: Float[np.ndarray, " n"], outcome: Float[np.ndarray, " n"]) -> bool:
    """Return whether a column has a rank correlation above 0.97 with an outcome."""
    stated = np.isfinite(values)
    ranks, own = rankdata(values[stated]), outcome[stated]
    if len(own) < _LEAST_STATED or np.ptp(ranks) == 0 or np.ptp(own) == 0:
        return False
    return bool(abs(np.corrcoef(ranks, rankdata(own))[0, 1]) > _TELLS)
