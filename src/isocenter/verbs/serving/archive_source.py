"""Studies of an archive: listed by its catalog, opened from its de-identified copies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import duckdb

from isocenter.core.errors import DataError, NotFound
from isocenter.data.archive.layout import open_archive
from isocenter.data.catalog.catalog import open_catalog
from isocenter.verbs.serving.listing import Standing, stand
from isocenter.verbs.serving.sources import PlainFile, StudyParts
from isocenter.viewer.ports import ReportItem, StudyItem, StudyPage, StudyQuery

__all__ = ["ArchiveSource"]

_MEMORY_MB = 512
_SERVED = """
CREATE TEMP TABLE served AS
SELECT substr(sha256('study|' || study_uid || '|' || patient_key), 1, 16) AS id, study_uid, patient_key, study_date,
    coalesce(study_description, '') AS description, coalesce(modalities, '') AS modalities, series, instances,
    accession_key,
    CASE WHEN study_date IS NULL THEN 0
        ELSE rank() OVER (PARTITION BY patient_key ORDER BY study_date NULLS LAST) - 1 END AS prior
FROM studies WHERE held IS NULL
"""
_ORDERS = {
    "date": "study_date DESC NULLS LAST, id DESC",
    "-date": "study_date ASC NULLS LAST, id ASC",
    "patient": "patient_key, study_date, id",
    "-patient": "patient_key DESC, study_date DESC, id DESC",
    "description": "lower(description), id",
    "-description": "lower(description) DESC, id DESC",
}
_COLUMNS = "id, patient_key, study_date, description, modalities, series, instances, accession_key, prior"
_FILES = """
SELECT DISTINCT path, member, form, role, coalesce(modality, '') FROM instances
WHERE study_uid = ? AND patient_key = ? AND held IS NULL AND role <> 'report' ORDER BY path, member
"""
_REPORTS = """
SELECT date, coalesce(title, ''), text FROM reports WHERE study_uid = ? AND patient_key = ? AND held IS NULL
ORDER BY report_key
"""


class ArchiveSource:
    """An archive; a catalog that a later `isocenter ingest` wrote is taken up when the list is asked for.

    Args:
        root: Its folder.

    Raises:
        DataError: It is none, or damaged.
    """

    kind: Literal["folder", "archive"] = "archive"

    def __init__(self, root: Path) -> None:
        self.root = root
        archive = open_archive(root)
        self._pixels = archive.pixels
        self.identified = archive.policy.off
        self._lock = threading.Lock()
        self._hash = ""
        self._database: duckdb.DuckDBPyConnection | None = None

    def start(self) -> None:
        """Open the catalog."""
        with self._asked():
            pass

    def close(self) -> None:
        """Close the catalog."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def page(self, query: StudyQuery, standing: Standing) -> StudyPage:
        """List studies."""
        where, values = _condition(query)
        order = _ORDERS.get(query.order, _ORDERS["date"])
        by_standing = bool(query.status) or query.order.lstrip("-") == "status"
        with self._asked() as database:
            question = f"SELECT {_COLUMNS} FROM served WHERE {where} ORDER BY {order}"  # noqa: S608  # of our own words
            if not by_standing:
                counted = database.execute(f"SELECT count(*) FROM served WHERE {where}", values).fetchone()  # noqa: S608
                rows = database.execute(f"{question} LIMIT {query.limit} OFFSET {query.offset}", values).fetchall()
                return StudyPage(int(counted[0]) if counted else 0, tuple(stand(_items(rows), standing)))
            rows = database.execute(question, values).fetchall()
        # How far the work on a study is stands in the work folder, of which the catalog knows nothing.
        found = [i for i in stand(_items(rows), standing) if not query.status or i.status == query.status]
        if query.order.lstrip("-") == "status":
            ranks = ("new", "open", "read", "signed")
            found.sort(key=lambda i: ranks.index(i.status), reverse=query.order.startswith("-"))
        return StudyPage(len(found), tuple(found[query.offset : query.offset + query.limit]))

    def item(self, study: str, standing: Standing) -> StudyItem:
        """Return a study of the list."""
        with self._asked() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM served WHERE id = ?", [study]).fetchall()  # noqa: S608
        if not rows:
            raise NotFound("there is no such study (any more); list the studies again")
        return stand(_items(rows), standing)[0]

    def priors(self, study: str, standing: Standing) -> tuple[StudyItem, ...]:
        """Return the earlier studies of the patient, newest first."""
        question = (
            f"SELECT {_COLUMNS} FROM served WHERE patient_key = (SELECT patient_key FROM served WHERE id = $1) "  # noqa: S608
            "AND study_date < (SELECT study_date FROM served WHERE id = $1) ORDER BY study_date DESC, id DESC"
        )
        with self._asked() as database:
            rows = database.execute(question, [study]).fetchall()
        return tuple(stand(_items(rows), standing))

    def study_of_series(self, series_uid: str) -> str | None:
        """Return None: an archive's series have other UIDs than those that a viewer outside it knows."""
        return None

    def names(self, study: str) -> frozenset[str]:
        """Return nothing: in an archive a patient is found by the pseudonym, and files have names of no meaning."""
        return frozenset()

    def parts(self, study: str) -> StudyParts:
        """Return the files of a study."""
        with self._asked() as database:
            row = database.execute("SELECT study_uid, patient_key FROM served WHERE id = ?", [study]).fetchone()
            if row is None:
                raise NotFound("there is no such study (any more); list the studies again")
            files = database.execute(_FILES, list(row)).fetchall()
            texts = database.execute(_REPORTS, list(row)).fetchall()
        if not self._pixels or any(path is None for path, *_ in files):
            raise DataError(
                "this archive holds no copies of images: there is nothing to look at; take them in with pixels"
            )
        dicom = dict.fromkeys(self.root / path for path, _, form, _, _ in files if form == "dicom")
        plain = tuple(
            PlainFile(self.root / path, form, member or Path(path).name, modality, member or "")
            for path, member, form, role, modality in files
            if form != "dicom" and role != "mask"
        )
        reports = tuple(
            ReportItem(None if date is None else date.isoformat(), title, text) for date, title, text in texts
        )
        return StudyParts(self.root, tuple(dicom), plain, reports, str(row[1]))

    @contextmanager
    def _asked(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the catalog as it stands now; one question at a time, as each takes milliseconds."""
        with self._lock:
            catalog = open_catalog(self.root)
            if self._database is None or catalog.hash != self._hash:
                fresh = catalog.connect(memory_mb=_MEMORY_MB)
                fresh.execute(_SERVED)
                if self._database is not None:
                    self._database.close()
                self._database, self._hash = fresh, catalog.hash
            yield self._database


def _condition(query: StudyQuery) -> tuple[str, list[Any]]:
    parts, values = ["true"], []
    for word in query.q.split():
        parts.append(
            "contains(lower(concat_ws(' ', description, modalities, patient_key, id, accession_key, study_date)), ?)"
        )
        values.append(word.lower())
    for text, value in (
        ("list_contains(string_split(modalities, ' '), ?)", query.modality),
        ("patient_key = ?", query.patient),
        ("study_date >= CAST(? AS DATE)", query.date_from),
        ("study_date <= CAST(? AS DATE)", query.date_to),
    ):
        if value:
            parts.append(text)
            values.append(value)
    return " AND ".join(parts), values


def _items(rows: Sequence[tuple[Any, ...]]) -> list[StudyItem]:
    return [
        StudyItem(
            id=name,
            patient_key=key,
            study_date=None if date is None else date.isoformat(),
            description=description,
            modalities=tuple(sorted({m for m in _words(modalities) if m})),
            series=int(series or 0),
            instances=int(instances or 0),
            accession=accession,
            prior=int(prior),
        )
        for name, key, date, description, modalities, series, instances, accession, prior in rows
    ]


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text).split()
