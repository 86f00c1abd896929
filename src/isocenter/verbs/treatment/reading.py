"""From the table to people: who got which option, what became of them, and what was known before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.treatment import pseudo_values
from isocenter.tasks.treat import Cases, Lived, Wording, check_cases
from isocenter.verbs.evaluation.tables import Table
from isocenter.verbs.treatment.table import (
    EMPTY,
    FeaturePlan,
    convert,
    feature_plan,
    patients_of,
    split_heading,
    yes_no,
)

__all__ = ["Asked", "OutcomeRead", "PeopleRead", "read_people"]

_ZERO, _ONE = ("0", "0.0", "no", "false"), ("1", "1.0", "yes", "true")
_LEAST_STATED, _TELLS = 30, 0.97


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

    def cases(self, features: Float[np.ndarray, "n p"], treated: Bool[np.ndarray, " n"]) -> Cases:
        """Return people with this outcome."""
        return Cases(features, treated, self.values, self.binary, self.lived)


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
        synthetic: Whether the table says that its people are invented.
    """

    plan: FeaturePlan
    raw: Float[np.ndarray, "n q"]
    treated: Bool[np.ndarray, " n"]
    outcome: OutcomeRead
    harms: tuple[OutcomeRead, ...]
    options: tuple[str, str]
    notes: tuple[str, ...]
    synthetic: bool


def read_people(table: Table, asked: Asked) -> PeopleRead:
    """Read everyone who got one of two options.

    Raises:
        ConfigError: Settings do not belong together, or the options must be named.
        DataError: Everyone got the same option, no event happened, a time is negative, a cell is wrong, or too few.
        UnitsError: The unit of the times is not one of time.
    """
    table, treated, options, notes = _two_options(table, asked)
    patients_of(table)
    taken = {asked.treatment, asked.outcome, asked.time, asked.event, *asked.harms, *asked.leave_out} - {None}
    for name in asked.leave_out:
        table.column(name)
    plan = feature_plan(table, [t for t in taken if t is not None], asked.features)
    outcome = _lived(table, treated, asked, options) if asked.time else _valued(table, asked, options)
    if outcome.lived is None:
        plan = _without_telling(table, plan, outcome, asked.features)
    raw, _ = plan.values(table)
    harms = tuple(_harm(table, name, asked, options) for name in asked.harms)
    for one in (outcome, *harms):
        check_cases(one.cases(np.zeros((len(treated), 1)), treated))
    notes += [f"{heading!r} is no feature: {why}" for heading, why in plan.left_out]
    said = any("synthetic" in cell.lower() for cell in table.rows[0].values())
    return PeopleRead(plan, raw, treated, outcome, harms, options, tuple(notes), said)


def _some(table: Table, keep: list[int]) -> Table:
    rows, lines = tuple(table.rows[i] for i in keep), tuple(table.lines[i] for i in keep)
    return Table(table.file, table.columns, rows, lines)


def _stated(table: Table, treatment: str) -> tuple[Table, list[str]]:
    """Leave out people whose treatment nobody wrote down, and say how many."""
    cells = table.column(treatment)
    keep = [i for i, cell in enumerate(cells) if cell.lower() not in EMPTY]
    if len(keep) == len(cells):
        return table, []
    if not keep:
        raise DataError(f"{treatment!r} is empty for everyone", source=table.file)
    return _some(table, keep), [f"of {len(cells) - len(keep)} people {treatment} is not stated: they were left out"]


def _two_options(table: Table, asked: Asked) -> tuple[Table, Bool[np.ndarray, " n"], tuple[str, str], list[str]]:
    table, notes = _stated(table, asked.treatment)
    cells = table.column(asked.treatment)
    kinds = sorted(set(cells))
    name = split_heading(asked.treatment)[0]
    if (asked.option is None) != (asked.against is None):
        raise ConfigError("name both options: --option and --against")
    if asked.option is not None and asked.against is not None:
        for value in (asked.option, asked.against):
            if value not in kinds:
                raise DataError(f"nobody has the option {value!r} in {asked.treatment!r}", source=table.file)
        if asked.option == asked.against:
            raise ConfigError("the two options are one and the same")
        keep = [i for i, cell in enumerate(cells) if cell in (asked.option, asked.against)]
        if len(keep) < len(cells):
            notes.append(f"{len(cells) - len(keep)} people got another option and were left out")
        some = _some(table, keep)
        return some, np.array([cells[i] == asked.option for i in keep]), (asked.against, asked.option), notes
    if len(kinds) == 1:
        raise DataError("everyone got the same option: what another would have done can't be learnt", source=table.file)
    if len(kinds) == 2 and kinds[0].lower() in _ZERO and kinds[1].lower() in _ONE:
        return table, np.array([cell == kinds[1] for cell in cells]), (f"no {name}", name), notes
    raise ConfigError(
        f"{asked.treatment!r} holds {len(kinds)} options that are not 0 and 1: name the two to compare by --option and "
        "--against"
    )


def _without_telling(table: Table, plan: FeaturePlan, outcome: OutcomeRead, wanted: tuple[str, ...]) -> FeaturePlan:
    """Leave out columns of numbers that tell the outcome by themselves: they were hardly known before treatment."""
    kept, left_out = [], list(plan.left_out)
    for column in plan.columns:
        values = FeaturePlan((column,), ()).values(table)[0][:, 0]
        if column.levels or not _tells(values, outcome):
            kept.append(column)
            continue
        why = f"leakage: by itself it tells {outcome.name!r} almost perfectly"
        if wanted:
            raise DataError(f"{column.heading!r} can't be a feature: {why}", source=table.file)
        left_out.append((column.heading, why))
    if not kept:
        raise DataError("no column is left that can be a feature", source=table.file)
    return FeaturePlan(tuple(kept), tuple(left_out))


def _tells(values: Float[np.ndarray, " n"], outcome: OutcomeRead) -> bool:
    """Return whether a column has an area under the curve (of numbers: a rank correlation) above 0.97."""
    stated = np.isfinite(values)
    ranks, own = rankdata(values[stated]), outcome.values[stated]
    if len(own) < _LEAST_STATED or np.ptp(ranks) == 0 or np.ptp(own) == 0:
        return False
    if not outcome.binary:
        return bool(abs(np.corrcoef(ranks, rankdata(own))[0, 1]) > _TELLS)
    cases = int(own.sum())
    area = (ranks[own > 0].sum() - cases * (cases + 1) / 2) / (cases * (len(own) - cases))
    return bool(max(area, 1 - area) > _TELLS)


def _lived(table: Table, treated: Bool[np.ndarray, " n"], asked: Asked, options: tuple[str, str]) -> OutcomeRead:
    if asked.event is None or asked.time is None or asked.horizon_days is None:
        raise ConfigError("times need all three: --time, --event and --horizon DAYS")
    name, unit = split_heading(asked.time)
    factor = convert(name, unit or "d", "d")
    days = factor * np.array(table.numbers(asked.time, low=0.0, what="time, counted from the index time,"))
    happened = yes_no(table, asked.event)
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
            raise DataError(f"those with {option}: {error}", source=table.file) from error
    words = f"have had no {asked.event_name} by day {horizon:g}"
    if asked.scale == "days":
        words = f"mean days without {asked.event_name} up to day {horizon:g}"
    return OutcomeRead(asked.event_name, values, False, lived, Wording(
        options[1], options[0], words, "d" if asked.scale == "days" else "1", asked.scale != "days",
        asked.observational, asked.level, horizon, asked.event_is_good, asked.event_name,
    ))  # fmt: skip


def _valued(table: Table, asked: Asked, options: tuple[str, str]) -> OutcomeRead:
    if asked.outcome is None:
        raise ConfigError("say what the treatment is for: --outcome COL, or --time COL and --event COL")
    cells = {cell.lower() for cell in table.column(asked.outcome)}
    name, unit = split_heading(asked.outcome)
    binary = cells <= {*_ZERO, *_ONE}
    values = yes_no(table, asked.outcome).astype(float) if binary else np.array(table.numbers(asked.outcome))
    words = f"have {name}" if binary else f"mean {name}"
    return OutcomeRead(asked.outcome, values, binary, None, Wording(
        options[1], options[0], words, "1" if binary else unit or "1", binary, asked.observational, asked.level, None,
        asked.lower_is_better,
    ))  # fmt: skip


def _harm(table: Table, heading: str, asked: Asked, options: tuple[str, str]) -> OutcomeRead:
    name = split_heading(heading)[0]
    return OutcomeRead(heading, yes_no(table, heading).astype(float), True, None, Wording(
        options[1], options[0], f"have {name}", "1", True, asked.observational, asked.level, None, True,
    ))  # fmt: skip
