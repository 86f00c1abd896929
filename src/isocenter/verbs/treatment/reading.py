"""From the table to people: who got which option, what became of them, and what was known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.tables import (
    BooleanColumn,
    CategoryColumn,
    ClinicalTable,
    Codes,
    DateColumn,
    NumberColumn,
    features_in_time,
    missingness,
    read_clinical,
    read_outcome,
)
from isocenter.data.tables.columns import split_heading
from isocenter.data.tables.reading import read_cells
from isocenter.data.tables.timing import dating_of
from isocenter.evaluate.treatment import pseudo_values
from isocenter.tasks.treat import Blocks, Cases, Lived, Wording, check_cases
from isocenter.verbs.prognosis.blocks import ReadBlock
from isocenter.verbs.prognosis.inputs import is_synthetic
from isocenter.verbs.treatment.document import BlockEntry, MissingEntry
from isocenter.verbs.treatment.features import FeaturePlan, Known, Wanted, feature_plan
from isocenter.verbs.treatment.joining import Joined, join

__all__ = ["Asked", "Others", "OutcomeRead", "PeopleRead", "patient_column", "read_others", "read_people"]

KEYS = ("patient", "case", "id", "person")
MADE = "made"
"""Column that says how a row came about: synthetic."""
_ZERO, _ONE = ("0", "no", "false", "n", "f"), ("1", "yes", "true", "y", "t")


@dataclass(frozen=True)
class Asked:
    """Which columns are what.

    Args:
        treatment: Column of the option that each person got.
        option: Value that is the treatment; None where the column holds 0 and 1.
        against: Value that is the comparator.
        outcome: Column of a number, or of yes or no.
        time: Column of times.
        event: Column of whether the event happened.
        event_name: What the event is called.
        horizon_days: Up to which the outcome is meant.
        scale: "survival" or "days".
        harms: Columns of yes or no.
        features: Columns to take; none takes all that can be.
        leave_out: Columns not to take.
        lower_is_better: Of `outcome`.
        event_is_good: Of `event`.
        observational: Whether nobody dealt the treatment out.
        level: Coverage asked of intervals.
        patient: Column of the patient; None takes the first of patient, case, id and person.
        index_time: Column of the moment of the decision; what is dated later is no feature.
        dated_by: Date column of other columns.
        kinds: What columns hold, by name.
        blocks: Features that come from elsewhere, as they were read.
        others: People that blocks may hold too: those that are asked about.
    """

    treatment: str
    option: str | None
    against: str | None
    outcome: str | None
    time: str | None
    event: str | None
    event_name: str
    horizon_days: float | None
    scale: str
    harms: tuple[str, ...]
    features: tuple[str, ...]
    leave_out: tuple[str, ...]
    lower_is_better: bool
    event_is_good: bool
    observational: bool
    level: float
    patient: str | None = None
    index_time: str | None = None
    dated_by: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[ReadBlock, ...] = ()
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class OutcomeRead:
    """An outcome of everyone.

    Args:
        name: Of its column.
        values: Numbers; pseudo-values where there are times.
        binary: Whether it is yes or no.
        lived: Times, or None.
        wording: How it is told.
    """

    name: str
    values: Float[np.ndarray, " n"]
    binary: bool
    lived: Lived | None
    wording: Wording

    def cases(self, features: Float[np.ndarray, "n p"], treated: Bool[np.ndarray, " n"], blocks: Blocks = ()) -> Cases:
        """Return people with this outcome."""
        return Cases(features, treated, self.values, self.binary, self.lived, blocks)


@dataclass(frozen=True, eq=False)
class PeopleRead:
    """Everyone of a table.

    Args:
        plan: Which columns are features.
        raw: Features, NaN where not stated.
        treated: Who got the treatment.
        outcome: What the treatment is for.
        harms: Others.
        options: Names of comparator and treatment.
        notes: What else to know.
        synthetic: Whether the table, or a block, says that its people are invented.
        missing: How much of each column is not known.
        blocks: Of each block, who has it.
        asked: What the table was asked, names of columns without units.
        patients: Everyone of the table, also those who were left out.
    """

    plan: FeaturePlan
    raw: Float[np.ndarray, "n q"]
    treated: Bool[np.ndarray, " n"]
    outcome: OutcomeRead
    harms: tuple[OutcomeRead, ...]
    options: tuple[str, str]
    notes: tuple[str, ...]
    synthetic: bool
    missing: tuple[MissingEntry, ...]
    blocks: tuple[BlockEntry, ...]
    asked: Asked
    patients: tuple[str, ...]


def _bare(asked: Asked) -> tuple[Asked, dict[str, str]]:
    """Return settings with names of columns without units, and the units that were asked for with them."""
    units: dict[str, str] = {}

    def bare(name: str) -> str:
        name, unit = split_heading(name)
        if unit is not None:
            units[name] = unit
        return name

    def one(name: str | None) -> str | None:
        return None if name is None else bare(name)

    a = asked
    made = replace(
        a, treatment=bare(a.treatment), outcome=one(a.outcome), time=one(a.time), event=one(a.event),
        harms=tuple(bare(n) for n in a.harms), features=tuple(bare(n) for n in a.features),
        leave_out=tuple(bare(n) for n in a.leave_out), index_time=one(a.index_time),
    )  # fmt: skip
    return made, units


def read_people(file: Path, asked: Asked) -> PeopleRead:
    """Read everyone who got one of two options.

    Args:
        file: CSV or ARFF, one row per person.
        asked: Which columns are what.

    Raises:
        ConfigError: Settings do not belong together, or the options must be named.
        DataError: Everyone got the same option, no event happened, a time is negative, a cell is wrong, too few, or a
            block does not fit.
        UnitsError: A unit is not of UCUM or does not convert.
    """
    asked, units = _bare(asked)
    table = _one_row_each(file, asked, units)
    for name in (asked.treatment, asked.outcome, asked.time, asked.event, *asked.harms, *asked.leave_out):
        if name is not None and name not in table.columns and name not in table.text:
            raise DataError(f"needs a column {name!r}; it has {', '.join(table.columns)}", source=file)
    everyone, synthetic = table.patients, _invented(table)
    beside = _beside(table, asked)
    table, treated, options, notes = _two_options(beside.table, asked)
    table, treated, lost = _with_outcome(table, treated, asked, options)
    outcome = _lived(table, treated, asked, options) if asked.time else _valued(table, asked, options)
    harms = tuple(_harm(table, name, asked, options) for name in asked.harms)
    for one in (outcome, *harms):
        check_cases(one.cases(np.zeros((len(treated), 1)), treated))
    taken = {asked.treatment, asked.outcome, asked.time, asked.event, *asked.harms, *asked.leave_out, MADE}
    wanted = Wanted(
        frozenset(n for n in taken if n is not None), asked.features, beside.columns,
        asked.index_time, asked.dated_by,
    )  # fmt: skip
    plan = feature_plan(table, wanted, [_known(one, treated) for one in (outcome, *harms)])
    raw, _ = plan.values(table)
    notes = [
        *notes,
        *lost,
        *(f"block {n}: {int(p.sum())} of {len(p)} people have it" for n, p in beside.present.items()),
    ]
    notes += [f"{name!r} is no feature: {why}" for name, why in plan.left_out]
    notes += [f"no feature: {text}" for text in beside.left_out]
    return PeopleRead(
        plan, raw, treated, outcome, harms, options, tuple(notes), synthetic or bool(beside.synthetic),
        _missing(table, plan, treated), _block_entries(beside, plan, table.patients, treated), asked,
        everyone,
    )  # fmt: skip


def _one_row_each(file: Path, asked: Asked, units: Mapping[str, str]) -> ClinicalTable:
    """Read the table; a person in two rows would be learnt from and held out."""
    key = patient_column(file, asked.patient)
    kinds = {asked.treatment: "category", **asked.kinds}
    bare = [split_heading(h)[0] for h in read_cells(file)[0]]
    if asked.treatment not in bare:
        raise DataError(f"needs a column {asked.treatment!r}; it has {', '.join(bare)}", source=file)
    table = read_clinical(
        file, kinds=kinds, patient=key, lenient_kinds={MADE: "category"},
        units={n: u for n, u in units.items() if n in bare and n not in (asked.time, asked.treatment)},
    )  # fmt: skip
    _refuse_twins(table)
    return table


def _refuse_twins(table: ClinicalTable) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(table.patients):
        before = first.setdefault(name, row)
        if before != row:
            raise DataError(
                f"line {int(table.lines[row])} is of the person of line {int(table.lines[before])}; one row per person "
                "is needed",
                source=table.source,
            )


def patient_column(file: Path, stated: str | None) -> str | None:
    """Return which column says whose a row is: as stated, else patient, case, id or person, the first that is there."""
    names = [split_heading(h)[0] for h in read_cells(file)[0]]
    return stated or next((key for key in KEYS if key in names), None)


def _invented(table: ClinicalTable) -> bool:
    """Return whether a table says that its people are invented, in a column, beside it, or by their names."""
    return is_synthetic(table) or any(p.startswith("synthetic-") for p in table.patients)


def _beside(table: ClinicalTable, asked: Asked, *, needed: bool = True) -> Joined:
    if asked.blocks and not table.patients_known:
        raise ConfigError(
            f"blocks are joined by patient: {Path(table.source).name} needs a column of the patient (--patient-column)"
        )
    column = table.columns.get(asked.index_time or "")
    moment = column if isinstance(column, DateColumn) else None
    return join(asked.blocks, table, moment=moment, others=asked.others, needed=needed)


@dataclass(frozen=True, eq=False)
class Others:
    """People to tell something of.

    Args:
        names: Of each.
        raw: Features, NaN where not known.
        unseen: What of each nobody learnt from had.
        synthetic: Whether their table says that they are invented.
    """

    names: tuple[str, ...]
    raw: Float[np.ndarray, "n q"]
    unseen: list[str | None]
    synthetic: bool


def read_others(file: Path, read: PeopleRead) -> Others:
    """Read people to tell something of, in any units that convert to those learnt from.

    Args:
        file: CSV or ARFF, with the features' columns.
        read: Who was learnt from.

    Raises:
        DataError: It can't be read, names a person twice, no column that was learnt from is there, or what is known of
            a person is dated later than the index time.
        UnitsError: A unit does not convert.
        ConfigError: Blocks were learnt from, and no column says whose a row is.
    """
    asked = read.asked
    key = patient_column(file, asked.patient)
    lenient = {**read.plan.kinds, MADE: "category"}
    table = read_clinical(file, patient=key, lenient_kinds={n: k for n, k in lenient.items() if n != key})
    _refuse_twins(table)
    beside = _beside(table, replace(asked, others=frozenset(read.patients)), needed=False)
    raw, unseen = read.plan.values(_others_in_time(beside.table, read))
    return Others(table.patients, raw, unseen, _invented(table) or bool(beside.synthetic))


def _others_in_time(table: ClinicalTable, read: PeopleRead) -> ClinicalTable:
    """Return what was known of people in time; what is dated later is refused, where they have an index time."""
    moment = read.asked.index_time
    if moment is None or moment not in table.columns:
        return table.with_columns({n: c for n, c in table.columns.items() if not isinstance(c, DateColumn)})
    names = {c.name for c in read.plan.columns}
    features = {n for n in table.columns if n in names or f"{n} before {moment}" in names}
    stated = {n: by for n, by in read.asked.dated_by.items() if n in table.columns and by in table.columns}
    dating = {n: by for n, by in dating_of(table, stated).items() if n in features}
    kept = {n: c for n, c in table.columns.items() if n in {*features, *dating.values(), moment}}
    today = datetime.now(UTC).date()
    return features_in_time(table.with_columns(kept), moment, dated_by=dating, today=today).table


def _missing(table: ClinicalTable, plan: FeaturePlan, treated: Bool[np.ndarray, " n"]) -> tuple[MissingEntry, ...]:
    """Return how much of each column that has gaps is not known, with either option; of blocks see their entries."""
    of_blocks = {c for _, columns in plan.blocks for c in columns}
    groups = ["treated" if t else "untreated" for t in treated]
    return tuple(
        MissingEntry(
            column=m.column, share=m.share, untreated=m.by_group["untreated"], treated=m.by_group["treated"]
        )
        for m in missingness(table, groups)
        if m.count and m.column in {c.name for c in plan.columns} - of_blocks
    )  # fmt: skip


def _block_entries(
    beside: Joined, plan: FeaturePlan, patients: Sequence[str], treated: Bool[np.ndarray, " n"]
) -> tuple[BlockEntry, ...]:
    place = {name: n for n, name in enumerate(beside.table.patients)}
    rows = [place[p] for p in patients]
    features = dict(plan.blocks)
    return tuple(
        BlockEntry(
            name=name, people=int(has[rows].sum()), untreated=int(has[rows][~treated].sum()),
            treated=int(has[rows][treated].sum()), columns=len(beside.columns[name]),
            features=len(features.get(name, ())), synthetic=name in beside.synthetic,
        )
        for name, has in beside.present.items()
    )  # fmt: skip


def _words(table: ClinicalTable, column: str) -> list[str]:
    """Return the treatment of each person in words, "" where nobody wrote it down."""
    found = table.column(column)
    if not isinstance(found, CategoryColumn):
        raise DataError(f"{column!r} must hold words or numbers, the options", source=table.source)
    return [found.levels[c] if c >= 0 else "" for c in found.codes]


def _two_options(
    table: ClinicalTable, asked: Asked
) -> tuple[ClinicalTable, Bool[np.ndarray, " n"], tuple[str, str], list[str]]:
    notes = []
    cells = _words(table, asked.treatment)
    stated = np.array([bool(cell) for cell in cells])
    if not stated.any():
        raise DataError(f"{asked.treatment!r} is empty for everyone", source=table.source)
    if not stated.all():
        notes.append(f"of {int((~stated).sum())} people {asked.treatment} is not stated: they were left out")
        table, cells = table.rows(stated), [cell for cell in cells if cell]
    kinds = sorted(set(cells))
    if (asked.option is None) != (asked.against is None):
        raise ConfigError("name both options: --option and --against")
    if asked.option is not None and asked.against is not None:
        for value in (asked.option, asked.against):
            if value not in kinds:
                raise DataError(f"nobody has the option {value!r} in {asked.treatment!r}", source=table.source)
        if asked.option == asked.against:
            raise ConfigError("the two options are one and the same")
        keep = np.array([cell in (asked.option, asked.against) for cell in cells])
        if not keep.all():
            notes.append(f"{int((~keep).sum())} people got another option and were left out")
        treated = np.array([cell == asked.option for cell in cells])[keep]
        return table.rows(keep), treated, (asked.against, asked.option), notes
    if len(kinds) == 1:
        raise DataError(
            "everyone got the same option: what another would have done can't be learnt", source=table.source
        )
    if len(kinds) == 2 and kinds[0].lower() in _ZERO and kinds[1].lower() in _ONE:
        return table, np.array([c == kinds[1] for c in cells]), (f"no {asked.treatment}", asked.treatment), notes
    raise ConfigError(
        f"{asked.treatment!r} holds {len(kinds)} options that are not 0 and 1: name the two to compare by --option and "
        "--against"
    )


def _with_outcome(
    table: ClinicalTable, treated: Bool[np.ndarray, " n"], asked: Asked, options: tuple[str, str]
) -> tuple[ClinicalTable, Bool[np.ndarray, " m"], list[str]]:
    """Leave out people whose outcome is not stated, and say how many of each option: that may not be chance."""
    names = [n for n in (asked.outcome, asked.time, asked.event) if n is not None]
    lacking = np.zeros(len(treated), dtype=np.bool_)
    for name in names:
        lacking |= table.column(name).missing
    if lacking.all():
        raise DataError(f"the outcome ({', '.join(names)}) is empty for everyone", source=table.source)
    if not lacking.any():
        return table, treated, []
    counts = int((lacking & ~treated).sum()), int((lacking & treated).sum())
    note = (
        f"of {sum(counts)} people the outcome is not stated ({counts[0]} with {options[0]}, {counts[1]} with "
        f"{options[1]}): they were left out, which is harmless only if that does not depend on the outcome"
    )
    return table.rows(~lacking), treated[~lacking], [note]


def _known(one: OutcomeRead, treated: Bool[np.ndarray, " n"]) -> Known:
    if one.lived is not None:
        return Known(one.name, treated, None, False, one.lived.days, one.lived.happened)
    return Known(one.name, treated, one.values, one.binary)


def _lived(
    table: ClinicalTable, treated: Bool[np.ndarray, " n"], asked: Asked, options: tuple[str, str]
) -> OutcomeRead:
    if asked.event is None or asked.time is None or asked.horizon_days is None:
        raise ConfigError("times need all three: --time, --event and --horizon DAYS")
    read = read_outcome(table, asked.time, asked.event, Codes())
    days, happened = read.days, read.happened
    horizon = asked.horizon_days
    lived = Lived(days, happened, horizon, asked.scale)
    # Before pseudo-values, which would answer with a lesser reason.
    check_cases(Cases(np.zeros((len(days), 1)), treated, days, False, lived))
    values = np.empty(len(days))
    scale: Literal["survival", "days"] = "days" if asked.scale == "days" else "survival"
    for option, group in zip(options, (~treated, treated), strict=True):
        try:
            values[group] = pseudo_values(days[group], happened[group], horizon_days=horizon, scale=scale)
        except DataError as error:
            raise DataError(f"those with {option}: {error}", source=table.source) from error
    words = f"have had no {asked.event_name} by day {horizon:g}"
    if asked.scale == "days":
        words = f"mean days without {asked.event_name} up to day {horizon:g}"
    return OutcomeRead(asked.event_name, values, False, lived, Wording(
        options[1], options[0], words, "d" if asked.scale == "days" else "1", asked.scale != "days",
        asked.observational, asked.level, horizon, asked.event_is_good, asked.event_name,
    ))  # fmt: skip


def _valued(table: ClinicalTable, asked: Asked, options: tuple[str, str]) -> OutcomeRead:
    if asked.outcome is None:
        raise ConfigError("say what the treatment is for: --outcome COL, or --time COL and --event COL")
    name = asked.outcome
    column = table.column(name)
    if not isinstance(column, BooleanColumn | NumberColumn):
        raise DataError(f"the outcome {name!r} must hold numbers, or yes and no", source=table.source)
    unit = column.unit if isinstance(column, NumberColumn) else "1"
    binary = isinstance(column, BooleanColumn) or (unit == "1" and bool(np.isin(column.values, (0, 1)).all()))
    words = f"have {name}" if binary else f"mean {name}"
    told = name if unit == "1" else f"{name} [{unit}]"
    return OutcomeRead(told, column.values.astype(float), binary, None, Wording(
        options[1], options[0], words, "1" if binary else unit, binary, asked.observational, asked.level, None,
        asked.lower_is_better,
    ))  # fmt: skip


def _harm(table: ClinicalTable, name: str, asked: Asked, options: tuple[str, str]) -> OutcomeRead:
    column = table.column(name)
    values = column.values if isinstance(column, BooleanColumn | NumberColumn) else np.full(len(table), np.nan)
    wrong = np.flatnonzero(~np.isin(values, (0, 1)))
    if len(wrong):
        line = int(table.lines[wrong[0]])
        raise DataError(f"line {line}: {name} is neither 1 nor 0 (yes nor no)", source=table.source)
    return OutcomeRead(name, values.astype(float), True, None, Wording(
        options[1], options[0], f"have {name}", "1", True, asked.observational, asked.level, None, True,
    ))  # fmt: skip
