"""Cohorts: series chosen by an expression, split by patient, kept under a name and a version, hashed.

    ARCHIVE/cohorts/NAME-v1.json      expression, hash of the catalog, split, counts, own hash
    ARCHIVE/cohorts/NAME-v1.parquet   its series: series_uid, study_uid, patient_key, part

A version is never written again: another catalog, expression or split makes the next one. Whoever reads a cohort
checks its hash. What is held back never enters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.archive.layout import open_archive
from isocenter.data.catalog.catalog import Catalog
from isocenter.data.catalog.duplicates import find_duplicates
from isocenter.data.catalog.joining import Joined
from isocenter.data.catalog.pictures import Progress
from isocenter.data.catalog.splitting import check_parts, source_parts, split_patients
from isocenter.data.images.atomic import atomic_path, explain_os_error

__all__ = ["Cohort", "Split", "compare", "list_cohorts", "make_cohort", "read_cohort"]

SOURCE = "source"
"""The split that the makers of a set chose."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FILE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,63})-v(?P<version>[1-9][0-9]*)\.json")
_ROWS = ("series_uid", "study_uid", "patient_key", "part")


@dataclass(frozen=True)
class Split:
    """How a cohort is split.

    Args:
        parts: Shares by name; empty for the split of the set's makers.
        by: "patient", or a column of series: who shares its value stands on one side, too.
        seed: Key of the hash that decides.
        stratify: "label", or a column of series: shares are kept for each of its values.
        duplicates: Whether patients with images that are exact or near duplicates stand on one side.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    by: str = "patient"
    seed: int = 0
    stratify: str = ""
    duplicates: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name; the order of parts matters."""
        return {"parts": [list(item) for item in self.parts.items()] or SOURCE, "by": self.by, "seed": self.seed,
                "stratify": self.stratify, "duplicates": self.duplicates}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cohort:
    """A cohort.

    Args:
        name: Its name.
        version: From 1.
        content: What its file says: expression, catalog, split, counts, notes.
        rows: Its series: series_uid, study_uid, patient_key, part ("" where it is not split).
        sha256: Of content and rows.
    """

    name: str
    version: int
    content: Mapping[str, Any]
    rows: pa.Table
    sha256: str

    @property
    def parts(self) -> dict[str, int]:
        """Return the patients of each part."""
        found: dict[str, set[str]] = {}
        for key, part in zip(
            self.rows.column("patient_key").to_pylist(), self.rows.column("part").to_pylist(), strict=True
        ):
            found.setdefault(part, set()).add(key)
        return {part: len(keys) for part, keys in sorted(found.items())}

    def part(self, name: str = "") -> pa.Table:
        """Return the series of a part, or all.

        Raises:
            ConfigError: There is no such part.
        """
        if not name:
            return self.rows
        if name not in self.parts:
            raise ConfigError(f"cohort {self.name} has no part {name!r}; it has {', '.join(self.parts) or 'none'}")
        return self.rows.filter(pa.compute.equal(self.rows.column("part"), name))


def make_cohort(
    catalog: Catalog, name: str, expression: str, split: Split | None = None, *, progress: Progress | None = None
) -> tuple[Cohort, bool]:
    """Make a cohort, or return its newest version where that is the same.

    Args:
        catalog: The catalog.
        name: Lower-case letters, digits, - and _.
        expression: As for `Catalog.find`.
        split: How patients are split; None for not at all.
        progress: Called with what is being done and the fraction done.

    Returns:
        The cohort, and whether it is new.

    Raises:
        ConfigError: The name, expression or split is none, or nothing is found.
        DataError: Patients stand in two parts of their set, or duplicates can't be looked for.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("a cohort's name is of lower-case letters, digits, - and _, at most 64")
    found = catalog.find(expression).select(["series_uid", "study_uid", "patient_key"])
    if not found.num_rows:
        raise ConfigError("the expression is true of no series; a cohort needs one")
    with open_archive(catalog.root).locked():
        earlier = [c for c in list_cohorts(catalog.root) if c[0] == name]
        last = read_cohort(catalog.root, name) if earlier else None
        assigned, notes = ({}, []) if split is None else _assign(catalog, expression, found, split, last, progress)
        rows = _table(found, assigned, split is not None)
        if not rows.num_rows:
            raise ConfigError("no patient of these stands in a part of their set; split by shares")
        content = {
            "name": name, "expression": expression, "catalog": catalog.hash,
            "split": None if split is None else split.to_dict(), "series": rows.num_rows,
            "patients": len(set(rows.column("patient_key").to_pylist())), "rows_sha256": _rows_hash(rows),
        }  # fmt: skip
        if last is not None and {k: last.content.get(k) for k in content} == content:
            return last, False
        if last is not None:
            before = dict(zip(last.rows.column("patient_key").to_pylist(), last.rows.column("part").to_pylist(),
                              strict=True))  # fmt: skip
            moved = sum(1 for key, part in assigned.items() if before.get(key, part) != part)
            notes += [f"{moved} patients stand in another part than in version {last.version}"] if moved else []
        version = 1 + (last.version if last else 0)
        return _write(catalog.root, name, version, {**content, "version": version, "notes": notes}, rows), True


def _assign(
    catalog: Catalog, expression: str, found: pa.Table, split: Split, last: Cohort | None, progress: Progress | None
) -> tuple[dict[str, str], list[str]]:
    patients = sorted(set(found.column("patient_key").to_pylist()))
    notes: list[str] = []
    together = list(find_duplicates(catalog, progress=progress).patients()) if split.duplicates else []
    if not split.duplicates:
        notes.append("duplicates were not looked for: two parts may hold the same image")
    if split.by != "patient":
        together += _sharing(catalog, expression, split.by)
    if not split.parts:
        told = _told(catalog, set(patients))
        assigned, left = source_parts(told, together)
        if left:
            notes.append(f"{len(left)} patients left out: they share an image with one of a held-out part")
        if len(told) < len(patients):
            notes.append(f"{len(patients) - len(told)} patients left out: their set puts them into no part")
    else:
        strata = _strata(catalog, expression, split.stratify) if split.stratify else None
        kept = {}
        if last is not None and strata is not None and last.content["split"] == split.to_dict():
            kept = dict(zip(last.rows.column("patient_key").to_pylist(), last.rows.column("part").to_pylist(),
                            strict=True))  # fmt: skip
        assigned = split_patients(patients, split.parts, seed=split.seed, together=together, strata=strata, kept=kept)
        empty = [part for part in split.parts if part not in assigned.values()]
        notes += [f"part {part} is empty: there are too few patients, or too many belong together" for part in empty]
    check_parts(assigned, together)
    joined: Joined[str] = Joined(together)
    groups: dict[str, int] = {}
    for key in assigned:
        groups[joined.of(key)] = groups.get(joined.of(key), 0) + 1
    several = [size for size in groups.values() if size > 1]
    if several:
        notes.append(f"{sum(several)} patients stand together in {len(several)} groups, the largest of {max(several)}")
    return assigned, notes


def _told(catalog: Catalog, patients: set[str]) -> dict[str, str]:
    """Return the part of each patient, as their set has it."""
    told: dict[str, str] = {}
    two = 0
    for row in catalog.sql("SELECT DISTINCT patient_key, split FROM splits WHERE from_source ORDER BY ALL").to_pylist():
        if row["patient_key"] in patients:
            two += row["patient_key"] in told
            told[row["patient_key"]] = row["split"]
    if two:
        raise DataError(f"{two} patients stand in two parts of their sets; split by shares", source=catalog.root)
    return told


def _column(catalog: Catalog, expression: str, column: str) -> list[tuple[str, str]]:
    """Return (patient, value) of a column of series, or of labels, of what is found."""
    if column == "label":
        found = catalog.find(expression).select(["patient_key", "labels"]).to_pylist()
        rows = [(r["patient_key"], str(v)) for r in found for k, v in r["labels"] or () if k == "label"]
        if not rows:
            raise ConfigError("no series found has a label called 'label'; name another column, as labels.NAME")
    elif column.startswith("labels."):
        name = column.removeprefix("labels.")
        found = catalog.find(expression).select(["patient_key", "labels"]).to_pylist()
        rows = [(r["patient_key"], str(v)) for r in found for k, v in r["labels"] or () if k == name]
        if not rows:
            raise ConfigError(f"no series found has a label called {name!r}")
    else:
        found = catalog.find(expression)
        if column not in found.column_names:
            raise ConfigError(f"series have no column {column!r}")
        values = found.column(column).to_pylist()
        rows = [
            (k, str(v)) for k, v in zip(found.column("patient_key").to_pylist(), values, strict=True) if v is not None
        ]
    return rows


def _sharing(catalog: Catalog, expression: str, column: str) -> list[tuple[str, str]]:
    """Return pairs of patients that share a value of a column."""
    first: dict[str, str] = {}
    return [(first.setdefault(value, key), key) for key, value in _column(catalog, expression, column)]


def _strata(catalog: Catalog, expression: str, column: str) -> dict[str, str]:
    values: dict[str, set[str]] = {}
    for key, value in _column(catalog, expression, column):
        values.setdefault(key, set()).add(value)
    return {key: "|".join(sorted(some)) for key, some in values.items()}


def _table(found: pa.Table, assigned: Mapping[str, str], is_split: bool) -> pa.Table:
    rows = found.to_pylist()
    kept = [{**r, "part": assigned.get(r["patient_key"], "")} for r in rows
            if not is_split or r["patient_key"] in assigned]  # fmt: skip
    kept.sort(key=lambda r: tuple(str(r[c]) for c in _ROWS))
    return pa.Table.from_pylist(kept, schema=pa.schema([(c, pa.string()) for c in _ROWS]))


def _rows_hash(rows: pa.Table) -> str:
    digest = hashlib.sha256()
    for row in zip(*(rows.column(c).to_pylist() for c in _ROWS), strict=True):
        digest.update(("\t".join(row) + "\n").encode())
    return digest.hexdigest()


def _content_hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(root: Path, name: str, version: int, content: dict[str, Any], rows: pa.Table) -> Cohort:
    folder = root / "cohorts"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    with atomic_path(folder / f"{name}-v{version}.parquet") as temporary:
        pq.write_table(rows, temporary, compression="zstd")
    sha256 = _content_hash(content)
    # The text comes last: a cohort without it is none.
    with atomic_path(folder / f"{name}-v{version}.json") as temporary:
        temporary.write_text(json.dumps({**content, "sha256": sha256}, indent=2) + "\n", "utf-8")
    return Cohort(name, version, content, rows, sha256)


def list_cohorts(root: Path) -> list[tuple[str, int]]:
    """Return names and versions of the cohorts of an archive, in order."""
    found = (_FILE.fullmatch(file.name) for file in (root / "cohorts").glob("*.json"))
    return sorted((m["name"], int(m["version"])) for m in found if m)


def read_cohort(root: Path, name: str, version: int | None = None) -> Cohort:
    """Read a cohort and check it.

    Args:
        root: Folder of the archive.
        name: Its name, or NAME-vN.
        version: The newest by default.

    Raises:
        ConfigError: There is none.
        DataError: It was altered, or is damaged.
    """
    if (named := _FILE.fullmatch(f"{name}.json")) is not None and version is None:
        name, version = named["name"], int(named["version"])
    versions = [v for n, v in list_cohorts(root) if n == name]
    if not versions or (version is not None and version not in versions):
        known = ", ".join(f"{n}-v{v}" for n, v in list_cohorts(root)) or "none"
        raise ConfigError(f"no such cohort; there are: {known}")
    version = version or max(versions)
    file = root / "cohorts" / f"{name}-v{version}.json"
    try:
        content = json.loads(file.read_text("utf-8"))
        sha256 = content.pop("sha256")
        with closing(duckdb.connect()) as database:
            rows = database.execute(
                "SELECT series_uid, study_uid, patient_key, part FROM read_parquet(?) ORDER BY ALL",
                [str(file.with_suffix(".parquet"))],
            ).to_arrow_table()
        good = _content_hash(content) == sha256 and _rows_hash(rows) == content["rows_sha256"]
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, KeyError, TypeError, AttributeError, duckdb.Error) as error:
        raise DataError("the cohort is damaged; make it anew under another name", source=file) from error
    if not good:
        raise DataError("the cohort was altered after it was made: its hash does not fit", source=file)
    return Cohort(name, version, content, rows, sha256)


def compare(old: Cohort, new: Cohort) -> dict[str, Any]:
    """Return how two cohorts differ: series and patients that came, went, or stand in another part."""
    mine, theirs = ({tuple(r[key] for key in _ROWS[:3]) for r in c.rows.to_pylist()} for c in (old, new))
    one, other = ({r["patient_key"]: r["part"] for r in c.rows.to_pylist()} for c in (old, new))
    return {
        "old": f"{old.name}-v{old.version}", "new": f"{new.name}-v{new.version}",
        "same_catalog": old.content["catalog"] == new.content["catalog"],
        "same_expression": old.content["expression"] == new.content["expression"],
        "same_split": old.content["split"] == new.content["split"],
        "series_added": len(theirs - mine), "series_removed": len(mine - theirs),
        "patients_added": len(other.keys() - one.keys()), "patients_removed": len(one.keys() - other.keys()),
        "patients_moved": sum(1 for key in one.keys() & other.keys() if one[key] != other[key]),
    }  # fmt: skip
