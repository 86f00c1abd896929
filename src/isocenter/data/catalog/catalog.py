"""Asking a catalog: by an expression over series, by SQL, or for studies that are read when they are looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from isocenter.core import Image, Report, Study
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog.schema import TABLES
from isocenter.data.images import read_files
from isocenter.data.images.atomic import explain_os_error

__all__ = ["LEVELS", "Catalog", "StudyRow", "open_catalog"]

LEVELS = ("patients", "studies", "series", "instances", "reports", "records")
_FORM = "CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM read_parquet('{file}')"
_BASE = """
SELECT s.*, t.study_date, t.study_description, t.modalities, t.age_years, coalesce(t.sex, p.sex) AS sex, p.patient_from
FROM series s LEFT JOIN studies t USING (study_uid, patient_key) LEFT JOIN patients p USING (patient_key)
"""
_PIECES = {
    "report": (
        "SELECT study_uid, patient_key, string_agg(text, chr(10) ORDER BY report_key) AS report FROM reports "
        "WHERE held IS NULL AND study_uid IS NOT NULL {only} GROUP BY ALL",
        "study_uid, patient_key",
    ),
    "labels": (
        "SELECT series_uid, patient_key, map_from_entries(list((name, value) ORDER BY name)) AS labels FROM ("
        "SELECT series_uid, patient_key, name, string_agg(DISTINCT value, '|' ORDER BY value) AS value FROM labels "
        "WHERE series_uid IS NOT NULL AND kind <> 'mask' {only} GROUP BY ALL) GROUP BY ALL",
        "series_uid, patient_key",
    ),
    "split": (
        "SELECT patient_key, min(split) AS split FROM splits WHERE from_source {only} GROUP BY ALL",
        "patient_key",
    ),
}
"""What is joined to series: columns that many rows make, and by what they are joined."""


def _wide(where: str) -> str:
    """Return the question for series and all that is told of them.

    Only what the condition speaks of is joined before it is judged; the rest is joined to what was found, so that a
    question about ten million instances does not first write out all of their reports.
    """
    words = set(re.findall(r"[A-Za-z_]+", where))
    joins = " ".join(
        f"LEFT JOIN ({query.format(only='')}) AS {name}_piece USING ({keys})"
        for name, (query, keys) in _PIECES.items()
        if name in words
    )
    used = "".join(f", {name}" for name in _PIECES if name in words)
    kept = ", ".join(name for name in _PIECES if name in words)
    later = " ".join(
        f"LEFT JOIN ({query.format(only=f'AND {first} IN (SELECT {first} FROM hit)')}) AS {name}_later USING ({keys})"
        for name, (query, keys) in _PIECES.items()
        if name not in words
        for first in (keys.split(",")[0],)
    )
    order = ", ".join(TABLES["series"].order)
    more = "".join(f", {name}" for name in _PIECES if name not in words)
    bare = f"hit.* EXCLUDE ({kept})" if kept else "hit.*"
    return (
        f"WITH hit AS (SELECT base.*{used} FROM ({_BASE}) AS base {joins} WHERE {where}) "
        f"SELECT {bare}{used}{more} FROM hit {later} ORDER BY {order}"
    )


@dataclass(frozen=True)
class StudyRow:
    """A study that was found; its images are read when they are asked for.

    Args:
        study_uid: Study Instance UID, as the archive has it.
        patient_key: The patient's pseudonym.
        files: Of its images, absolute.
        reports: Texts, cleaned.
    """

    study_uid: str
    patient_key: str
    files: tuple[Path, ...]
    reports: tuple[str, ...]

    def read(self) -> Study:
        """Read the study: images, reports, and whose it is, as the catalog says.

        Raises:
            DataError: A file is gone, or can't be read.
        """
        # The folders may hold more: what is held back, and what no row speaks of.
        gone = sum(not file.is_file() for file in self.files)
        if gone:
            raise DataError(f"{gone} of {len(self.files)} files of this study are gone; restore the archive's images")
        images: list[Image] = []
        masks: list[Any] = []
        notes: list[str] = []
        folders: dict[Path, list[Path]] = {}
        for file in self.files:
            folders.setdefault(file.parent, []).append(file)
        for folder, files in sorted(folders.items()):
            read = read_files(files, root=folder)
            images.extend(read.study.images)
            masks.extend(read.study.masks)
            notes.extend(read.study.notes)
            notes.extend(f"{refusal.where}: {refusal.reason}" for refusal in read.refused)
        reports = tuple(Report(sections={"text": text}) for text in self.reports)
        return Study(self.patient_key, self.study_uid, tuple(images), reports, masks=tuple(masks), notes=tuple(notes))


class Catalog:
    """The tables of an archive, as one state of it.

    Args:
        root: Folder of the archive.
        current: What `catalog/current.json` holds.
    """

    def __init__(self, root: Path, current: Mapping[str, Any]) -> None:
        self.root = root
        self.hash = str(current["hash"])
        self.tables: Mapping[str, Any] = current["tables"]

    def connect(self, *, memory_mb: int = 1024, cohort: pa.Table | None = None) -> duckdb.DuckDBPyConnection:
        """Return a database whose views are the tables; it can read nothing else and write nothing.

        Args:
            memory_mb: Memory that it may use.
            cohort: Rows that stand in it as the table `cohort`.
        """
        database = duckdb.connect(config={"memory_limit": f"{memory_mb}MB"})
        if cohort is not None:
            database.register("given", cohort)
            database.execute("CREATE TEMP TABLE cohort AS SELECT * FROM given")
            database.unregister("given")
        database.execute("SET enable_progress_bar = false")
        files = []
        for name in TABLES:
            file = (self.root / "catalog" / self.tables[name]["file"]).resolve()
            files.append(str(file))
            database.execute(_FORM.format(name=name, file=str(file).replace("'", "''")))
        database.execute(f"SET allowed_paths = [{', '.join(_text(f) for f in files)}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        return database

    def sql(
        self, query: str, parameters: Sequence[object] = (), *, cohort: pa.Table | None = None
    ) -> pa.Table:  # fmt: skip
        """Ask by SQL: patients, studies, series, instances, reports, records, labels, splits.

        Args:
            query: One SELECT.
            parameters: For the question marks in it.
            cohort: Rows that it may name as the table `cohort`.

        Raises:
            ConfigError: It is no single question, or DuckDB does not understand it.
        """
        try:
            statements = duckdb.extract_statements(query)
        except duckdb.Error as error:
            raise ConfigError(_first_line(error)) from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigError("give one SELECT; a catalog is read, never changed")
        with closing(self.connect(cohort=cohort)) as database:
            try:
                return database.execute(query, list(parameters)).to_arrow_table()
            except duckdb.Error as error:
                raise ConfigError(_first_line(error)) from error

    def find(
        self, expression: str = "", *, level: str = "series", limit: int | None = None, held: bool = False,
        cohort: pa.Table | None = None,
    ) -> pa.Table:  # fmt: skip
        """Find what an expression is true of.

        Args:
            expression: As after WHERE in SQL, over the columns of series, its study (`study_date`, `modalities`,
                `age_years`, `sex`), `report` (the texts of its study), `labels` (a map) and `split`; "" for all. At
                other levels: over the columns of that table.
            level: What is returned: series, studies, patients, instances, reports or records.
            limit: At most so many rows.
            held: Whether rows that are held back (two people of one identifier, two images of one UID) count too; with
                an image its study is held back.
            cohort: Series (series_uid, patient_key) beyond which nothing is looked for; reports and records of their
                patients.

        Raises:
            ConfigError: The expression is none, or names what there is not.

        Example:
            >>> LEVELS[0]
            'patients'
        """
        if level not in LEVELS:
            raise ConfigError(f"level is one of {', '.join(LEVELS)}")
        _check_expression(expression)
        where = f"({expression}\n)" if expression.strip() else "true"
        free = "" if held else "held IS NULL AND "
        if level == "records" and not held:
            free = "patient_key NOT IN (SELECT patient_key FROM patients WHERE held IS NOT NULL) AND "
        if cohort is not None:
            within = "patient_key IN (SELECT patient_key FROM cohort)"
            if level not in ("reports", "records"):
                within = "(series_uid, patient_key) IN (SELECT (series_uid, patient_key) FROM cohort)"
            free += f"{within} AND "
        more = "" if limit is None else f" LIMIT {int(limit)}"
        order = ", ".join(TABLES[level].order)
        if level in ("series", "studies", "patients"):
            query = _wide(f"{free}{where}")
            if level != "series":
                key = "(study_uid, patient_key)" if level == "studies" else "patient_key"
                free = "" if held else "held IS NULL AND "
                query = f"SELECT * FROM {level} WHERE {free}{key} IN (SELECT {key} FROM ({query})) ORDER BY {order}"
            query += more
        else:
            query = f"SELECT * FROM {level} WHERE {free}{where} ORDER BY {order}{more}"
        return self.sql(query, cohort=cohort)

    def studies(self, expression: str = "", *, held: bool = False) -> Iterator[StudyRow]:
        """Yield the studies that hold a series of which an expression is true; nothing is read yet.

        Raises:
            ConfigError: As `find`.
            DataError: The archive holds no copies of images.
        """
        found = self.find(expression, level="studies", held=held)
        free = "" if held else "AND held IS NULL "
        query = (
            "SELECT DISTINCT path FROM instances WHERE study_uid = ? AND patient_key = ? AND role <> 'report' "
            f"{free}ORDER BY path"
        )
        with closing(self.connect()) as database:
            for uid, key in zip(
                found.column("study_uid").to_pylist(), found.column("patient_key").to_pylist(), strict=True
            ):
                paths = [p for (p,) in database.execute(query, [uid, key]).fetchall()]
                if any(p is None for p in paths):
                    raise DataError(
                        "this archive holds no copies of images; take them in with pixels", source=self.root
                    )
                texts = database.execute(
                    "SELECT text FROM reports WHERE study_uid = ? AND patient_key = ? AND held IS NULL "
                    "ORDER BY report_key, sha256",
                    [uid, key],
                ).fetchall()
                yield StudyRow(uid, key, tuple(self.root / p for p in paths), tuple(t for (t,) in texts))


def open_catalog(root: Path) -> Catalog:
    """Open the catalog of an archive.

    Raises:
        DataError: There is none, or it is damaged.
    """
    file = root / "catalog" / "current.json"
    try:
        return Catalog(root, json.loads(file.read_text("utf-8")))
    except FileNotFoundError as error:
        raise DataError("no catalog here; make one with isocenter ingest", source=root) from error
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the catalog is damaged; run isocenter ingest again on this archive", source=root) from error


def _check_expression(expression: str) -> None:
    """Refuse what is more than an expression: it would leave its brackets, and what it is asked within.

    Without brackets around it, one that is not open is an error; in brackets, what may follow a WHERE is.
    """
    if not expression.strip():
        return
    for around in ("{}\n", "({}\n)"):
        try:
            statements = duckdb.extract_statements("SELECT 1 WHERE " + around.format(expression))
        except duckdb.Error as error:
            raise ConfigError(f"not an expression: {_first_line(error)}") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigError("give one expression, as after WHERE in SQL")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
