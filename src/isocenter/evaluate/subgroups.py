"""For whom it works less well: a figure by sex, age, site, scanner, modality, size, and by two of them at once.

Each group is compared with all other cases: gap, interval over patients, and p corrected (Holm) for all groups of its
family: groups of one column are one family, and groups of two columns at once, of which there may be hundreds, another,
so that looking at pairs costs single columns nothing. Groups that are too small to be tested are listed with their
counts; none is dropped in silence, and a case whose column says nothing is of the group "not stated". Two columns at
once: groups of the very cases of a group that is there already are not told again, and what is not stated is not
crossed with anything. What so few patients share that it may name them is pooled, and columns that name patients make
no groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval, bootstrap_statistic
from isocenter.evaluate.statistics import compare_groups, holm
from isocenter.evaluate.statistics.unpaired import ENOUGH_BEYOND

__all__ = [
    "LEAST_NAMED",
    "NOT_STATED",
    "Subgroup",
    "SubgroupReport",
    "SubgroupSettings",
    "age_bands",
    "as_groups",
    "by_subgroup",
    "names_patients",
    "thirds",
]

NOT_STATED = "not stated"
LEAST_NAMED = 5
"""A level of fewer patients is not listed under its own name: so few may be told by it."""
_AGE_EDGES = (18, 40, 65, 80)
_MOST_LEVELS = 30
_FEW_NUMBERS = 6
"""A column of so many different numbers or fewer is taken as it is (a grade, a centre's number)."""

Statistic = Callable[[Int64[np.ndarray, " n"]], float]


@dataclass(frozen=True)
class SubgroupSettings:
    """How groups are compared.

    Args:
        higher_is_better: Which way a gap is bad.
        least_patients: Groups with fewer are listed, not tested; 10 or more.
        intersections: Whether groups of two columns at once are looked at.
        alpha: Chance of even one false finding in a family that is borne; decides how far p is looked into.
        level: Coverage asked of the intervals.
        resamples: How many resamples.
        seed: Decides them.

    Raises:
        DataError: Fewer than 10 patients are asked of a group.
    """

    higher_is_better: bool = True
    least_patients: int = LEAST_PATIENTS
    intersections: bool = True
    alpha: float = 0.05
    level: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.least_patients < LEAST_PATIENTS:
            raise DataError(f"a group needs at least {LEAST_PATIENTS} patients for an interval")


@dataclass(frozen=True)
class Subgroup:
    """One group.

    Args:
        columns: What it is a group by: one column, or two.
        levels: Their values.
        patients: Patients in it.
        cases: Cases in it.
        value: Figure of the group; None where it is not defined or the group is too small.
        interval: Of the figure; None where there is none.
        gap: Group minus all others; None where it was not tested.
        p: Of the gap.
        p_corrected: The same, corrected for all groups of its family that were tested.
        p_least: The least `p_corrected` that the test could have given; above the level nothing could have been found.
        reason: Why something is missing; "" where nothing is.
    """

    columns: tuple[str, ...]
    levels: tuple[str, ...]
    patients: int
    cases: int
    value: float | None = None
    interval: Interval | None = None
    gap: Interval | None = None
    p: float | None = None
    p_corrected: float | None = None
    p_least: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What people call it.

        Example:
            >>> Subgroup(("sex", "site"), ("F", "A"), 12, 12).name
            'sex F, site A'
        """
        return ", ".join(f"{column} {level}" for column, level in zip(self.columns, self.levels, strict=True))


@dataclass(frozen=True)
class SubgroupReport:
    """All groups.

    Args:
        overall: Figure of all cases.
        rows: Every group, in the order of columns and levels, two columns at once last.
        worst: The tested group with the worst gap; None where none was tested or no gap is for the worse.
        tested: How many groups were tested, in both families.
        notes: What was left out.
    """

    overall: float
    rows: tuple[Subgroup, ...]
    worst: Subgroup | None
    tested: int
    notes: tuple[str, ...] = ()

    @property
    def too_small(self) -> tuple[Subgroup, ...]:
        """Groups that were not tested."""
        return tuple(row for row in self.rows if row.gap is None)


def by_subgroup(
    statistic: Statistic,
    patients: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    settings: SubgroupSettings | None = None,
) -> SubgroupReport:
    """Look at a figure group by group.

    Args:
        statistic: From the indices of cases to the figure; NaN where it is not defined for them.
        patients: The patient of each case.
        groups: Value of each case, by column; "" where it is not stated. `as_groups` makes bands of numbers.
        settings: How groups are compared.

    Raises:
        DataError: A column has not one value for each case, or the figure is not defined on all cases.

    Example:
        >>> values = np.repeat([0.9, 0.5], 12)
        >>> found = by_subgroup(lambda i: float(values[i].mean()), [f"p{n}" for n in range(24)],
        ...     {"site": ["A"] * 12 + ["B"] * 12}, SubgroupSettings(resamples=200))
        >>> found.worst.name, round(found.worst.gap.value, 3)
        ('site B', -0.4)
    """
    how = settings or SubgroupSettings()
    columns = {name: [str(v).strip() or NOT_STATED for v in values] for name, values in groups.items()}
    for name, values in columns.items():
        if len(values) != len(patients):
            raise DataError(f"column {name!r} has {len(values)} values for {len(patients)} cases")
    overall = float(statistic(np.arange(len(patients), dtype=np.int64)))
    if not math.isfinite(overall):
        raise DataError("the figure is not defined on these cases")
    columns = {name: _pooled(values, patients) for name, values in columns.items()}
    seen: set[bytes] = set()
    rows, notes = _family([(name,) for name in columns], columns, (statistic, patients, how), seen)
    if how.intersections:
        pairs, more = _family(list(combinations(columns, 2)), columns, (statistic, patients, how), seen)
        rows, notes = [*rows, *pairs], [*notes, *more]
    tested = sum(row.p is not None for row in rows)
    return SubgroupReport(
        overall, tuple(rows), _worst(rows, higher_is_better=how.higher_is_better), tested, tuple(notes)
    )  # fmt: skip


def _pooled(values: Sequence[str], patients: Sequence[str]) -> list[str]:
    """Return the levels of a column; those of fewer than 5 patients together, without their names."""
    whose: dict[str, set[str]] = {}
    for value, patient in zip(values, patients, strict=True):
        whose.setdefault(value, set()).add(patient)
    few = {v for v, some in whose.items() if len(some) < LEAST_NAMED and v != NOT_STATED}
    together = f"other ({len(few)} level{'s' * (len(few) != 1)})"
    return [together if value in few else value for value in values]


_Compared = tuple[Statistic, Sequence[str], SubgroupSettings]


def _family(
    wanted: Sequence[tuple[str, ...]], columns: Mapping[str, Sequence[str]], compared: _Compared, seen: set[bytes]
) -> tuple[list[Subgroup], list[str]]:
    """Return the groups of one column, or of two at once, p corrected for all of them, and notes."""
    statistic, patients, how = compared
    rows: list[Subgroup] = []
    members: dict[int, Bool[np.ndarray, " n"]] = {}
    unnamed = 0
    for names in wanted:
        together: list[tuple[str, ...]] = list(zip(*(columns[name] for name in names), strict=True))
        levels = sorted(set(together), key=_order)
        if len(names) == 1 and len(levels) == 1:
            rows.append(_only(names, levels[0], patients))
            continue
        for level in levels:
            member = np.array([one == level for one in together])
            if len(names) == 2 and (NOT_STATED in level or member.tobytes() in seen):
                continue
            seen.add(member.tobytes())
            count = len({p for p, there in zip(patients, member, strict=True) if there})
            if len(names) == 2 and count < LEAST_NAMED:
                unnamed += 1
                continue
            members[len(rows)] = member
            rows.append(Subgroup(names, level, count, int(member.sum())))
    size = sum(rows[at].patients >= how.least_patients for at in members)
    for at, member in members.items():
        rows[at] = _group(rows[at], statistic, patients, member, how, most=math.ceil(ENOUGH_BEYOND * size / how.alpha))
    tested = [i for i, row in enumerate(rows) if row.p is not None]
    for i, p in zip(tested, holm([row.p for row in rows if row.p is not None]), strict=True):
        # The smallest p of a family is multiplied by their number: no test can be told below that.
        least = min(1.0, (rows[i].p_least or 0.0) * len(tested))
        rows[i] = replace(rows[i], p_corrected=float(p), p_least=least)
    notes = [f"{unnamed} pairs of groups with fewer than {LEAST_NAMED} patients are not listed"] if unnamed else []
    return rows, notes


def _only(names: tuple[str, ...], level: tuple[str, ...], patients: Sequence[str]) -> Subgroup:
    reason = "all cases are of this group: there is nothing to compare it with"
    return Subgroup(names, level, len(set(patients)), len(patients), reason=reason)


def _group(
    row: Subgroup,
    statistic: Statistic,
    patients: Sequence[str],
    member: Bool[np.ndarray, " n"],
    how: SubgroupSettings,
    *,
    most: int,
) -> Subgroup:
    inside = np.flatnonzero(member).astype(np.int64)
    if row.patients < how.least_patients:
        few = f"too few patients to say anything: {row.patients}, and {how.least_patients} are needed"
        return replace(row, reason=few)
    value = float(statistic(inside))
    if not math.isfinite(value):
        return replace(row, reason="the figure is not defined in this group (one class only, or no value)")
    row = replace(row, value=value)
    try:
        interval = bootstrap_statistic(
            lambda i: statistic(inside[i]),
            [patients[int(i)] for i in inside],
            level=how.level,
            resamples=how.resamples,
            seed=how.seed,
            method="bca",
        )
        row = replace(row, interval=interval)
        gap = compare_groups(
            statistic, patients, member, level=how.level, resamples=how.resamples, most=most, seed=how.seed
        )  # fmt: skip
    except DataError as error:
        return replace(row, reason=str(error))
    return replace(row, gap=gap.difference, p=gap.p, p_least=gap.least_p)


def _worst(rows: Sequence[Subgroup], *, higher_is_better: bool) -> Subgroup | None:
    sign = 1 if higher_is_better else -1
    bad = [row for row in rows if row.gap is not None and sign * row.gap.value < 0]
    return min(bad, key=lambda row: sign * row.gap.value if row.gap is not None else 0.0, default=None)


def age_bands(ages: Sequence[str]) -> list[str]:
    """Return bands of age in years: under 18, to 39, to 64, to 79, 80 and over.

    Args:
        ages: Numbers as text, or as DICOM writes them ("045Y", "018M"); "" where not stated.

    Raises:
        DataError: One is not an age.

    Example:
        >>> age_bands(["17", "045Y", "018M", "", "80"])
        ['under 18', '40 to 64', 'under 18', '', '80 and over']
    """
    found: list[str] = []
    for number, text in enumerate(ages, start=1):
        years = _years(text.strip())
        if years is None:
            found.append("")
            continue
        if not 0 <= years <= 130:
            raise DataError(f"the age of case {number} is not one in years, from 0 to 130")
        at = int(np.searchsorted(_AGE_EDGES, years, side="right"))
        found.append(
            f"under {_AGE_EDGES[0]}" if at == 0
            else f"{_AGE_EDGES[-1]} and over" if at == len(_AGE_EDGES)
            else f"{_AGE_EDGES[at - 1]} to {_AGE_EDGES[at] - 1}"
        )  # fmt: skip
    return found


def _years(text: str) -> float | None:
    if not text:
        return None
    share = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}.get(text[-1].upper())
    number = _number(text if share is None else text[:-1])
    return math.inf if number is None else number * (share or 1.0)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def thirds(values: Sequence[str]) -> list[str]:
    """Return which third of the numbers each lies in, with its limits.

    Args:
        values: Numbers as text; "" where not stated.

    Raises:
        DataError: One is not a number.

    Example:
        >>> thirds(["1", "2", "3", "4", "5", "6", ""])[::2]
        ['1 to 2', '3 to 4', '5 to 6', '']
    """
    numbers = [None if not v.strip() else _number(v) for v in values]
    known = np.array([n for n in numbers if n is not None])
    wrong = [i for i, (n, v) in enumerate(zip(numbers, values, strict=True), start=1) if n is None and v.strip()]
    if wrong:
        raise DataError(f"the value of case {wrong[0]} is not a number")
    if not len(known):
        return ["" for _ in values]
    edges = np.quantile(known, [1 / 3, 2 / 3])
    which = [None if n is None else int(np.searchsorted(edges, n, side="left")) for n in numbers]
    names = {}
    for part in {w for w in which if w is not None}:
        inside = [n for n, w in zip(numbers, which, strict=True) if w == part and n is not None]
        names[part] = f"{_figure(min(inside))} to {_figure(max(inside))}"
    return ["" if w is None else names[w] for w in which]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _order(level: tuple[str, ...]) -> list[tuple[float, str]]:
    """Order levels by the number they begin with, those without one by name, what was pooled or not stated last."""
    found = []
    for text in level:
        first = re.search(r"-?[\d,]+(?:\.\d+)?", text)
        number = float(first[0].replace(",", "") or 0) if first and any(map(str.isdigit, first[0])) else 0.0
        pooled = text.startswith("other (") and text.endswith((" level)", " levels)"))
        place = math.inf if text == NOT_STATED else 1e300 if pooled else number - 0.5 * text.startswith("under")
        found.append((place, text))
    return found


_OF_PATIENTS = frozenset({
    "name", "firstname", "lastname", "givenname", "familyname", "middlename", "surname", "forename", "fullname",
    "maidenname", "birthname", "mothersbirthname", "mothersname", "othernames", "otherpatientnames",
    "responsibleperson", "id", "otherids", "otherpatientids", "issuerofpatientid", "subjectid", "personid", "caseid",
    "studyid", "admissionid", "mrn", "medicalrecordnumber", "medicalrecordlocator", "recordnumber", "number",
    "accession", "accessionnumber",
    "ssn", "socialsecuritynumber", "insuranceplanidentification", "address", "street", "postcode", "zipcode", "zip",
    "phone", "telephone", "phonenumber", "telephonenumber", "telephonenumbers", "email", "emailaddress", "dob", "born",
    "birthday", "birthtime", "comments",
})  # fmt: skip
"""Names of columns, without case and spaces, that say who somebody is: DICOM PS3.15 table E.1-1 and common words."""
_NO_DATES = ("candidate", "update", "mandate", "validate")
_NO_UIDS = ("fluid", "liquid", "druid", "squid")


def names_patients(column: str) -> bool:
    """Tell whether a column, by its name, holds who somebody is, or a date; written with any case, spaces or lines.

    Source:
        DICOM PS3.15 table E.1-1 (attributes that identify); 45 CFR 164.514(b)(2) (dates, record numbers).

    Example:
        >>> [names_patients(name) for name in ("PatientName", "birth_date", "Study Instance UID", "accession number")]
        [True, True, True, True]
        >>> [names_patients(name) for name in ("sex", "age", "site_id", "StationName", "candidate", "pleural fluid")]
        [False, False, False, False, False, False]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", column)
    plain = re.sub(r"^patients?(?=[a-z])", "", "".join(words).lower())
    person = any(part in plain for part in ("physician", "operatorsname", "operatorname", "birthdate", "dateofbirth"))
    date = plain.endswith(("date", "datetime")) and not plain.endswith(_NO_DATES)
    uid = plain.endswith(("uid", "uids")) and not plain.endswith(_NO_UIDS)
    return plain in _OF_PATIENTS or person or date or uid


def as_groups(columns: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Make groups of a table's columns: ages become bands, other numbers thirds, words stay.

    Args:
        columns: Text of each case, by column.

    Returns:
        The groups, and notes on columns that are none.

    Example:
        >>> groups, notes = as_groups({"age": ["30", "70"], "sex": ["F", "M"]})
        >>> groups["age"], groups["sex"], notes
        (['18 to 39', '65 to 79'], ['F', 'M'], ())
    """
    groups: dict[str, list[str]] = {}
    notes: list[str] = []
    for name, given in columns.items():
        values = [str(v).strip() for v in given]
        known = {v for v in values if v}
        if names_patients(name):
            notes.append(f"column {name!r} says who patients are, or a date: no groups were made of it")
        elif not known:
            notes.append(f"column {name!r} says nothing of any case: no groups were made of it")
        elif name.lower() in ("age", "patientage", "patient_age", "age_years"):
            groups[name] = age_bands(values)
        elif len(known) > _FEW_NUMBERS and all(_number(v) is not None for v in known):
            groups[name] = thirds(values)
        elif len(known) > _MOST_LEVELS:
            notes.append(f"column {name!r} has {len(known)} different values: no groups were made of it")
        else:
            groups[name] = values
    return groups, tuple(notes)
