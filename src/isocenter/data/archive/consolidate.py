"""From the parts of the journal to the tables of the catalog: joined, sorted, nothing twice, what conflicts held back.

The tables are a pure function of what was taken in: neither the order of arrival nor the number of runs is in them.
DuckDB does the work, in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from isocenter.core.errors import OutputError
from isocenter.data.archive.faces import SeriesOfFaces, deface_all, superseded
from isocenter.data.archive.layout import STAGE, Archive
from isocenter.data.archive.rows import IN_FACE, JOURNAL
from isocenter.data.catalog.schema import TABLES, Type
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.patient import Patient, two_patients

__all__ = ["CURRENT", "SamePixels", "consolidate", "live_items"]

CURRENT = "current.json"
SamePixels = Callable[[list[str]], bool]
"""Tells whether files of the archive, given by path, hold the same pixels once decoded."""
_SQL_TYPES: Mapping[Type, str] = {
    "text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "date": "DATE", "boolean": "BOOLEAN",
}  # fmt: skip
TWO_PEOPLE = "two people have this identifier"
_MIXED = "some of its files say a part of the body that has no face, and some do not"
_REPLACED = ("path", "bytes", "header_sha256", "pixel_sha256", "transfer_syntax", "image_type")
LATER = "a later version of this report is there"
_MEANING = (
    "laterality", "pixel_spacing_y_mm", "pixel_spacing_x_mm", "slice_position_mm", "orientation", "frame_uid", "rows",
    "columns", "frames", "placed", "scaled",
)  # fmt: skip
"""Columns in which copies of one image agree, where both say it: else the same pixels are another picture."""
SAME_UID = "another instance has the same SOP Instance UID"


def connect(archive: Archive, *, memory_mb: int = 256) -> duckdb.DuckDBPyConnection:
    """Return an empty database in the archive's private folder: tables larger than memory lie on the disk."""
    scratch = archive.private / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    database = duckdb.connect(
        str(scratch / "work.duckdb"),
        config={
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(scratch),
            "threads": 2 if memory_mb > 256 else 1,  # each thread takes room of its own
            "preserve_insertion_order": False,
        },
    )
    # It would be written to standard output, which is the caller's.
    database.execute("SET enable_progress_bar = false")
    return database


def live_items(database: duckdb.DuckDBPyConnection, archive: Archive) -> None:
    """Make the table `live`: the items that count, and the part of the journal that each stands in.

    Of a file that is not DICOM, the last state that was read counts; of DICOM every state does, since folders that
    images are sent to are used again and again. What could not be read, or was no image, counts no more once DICOM was
    read in its place.
    """
    _journal(database, archive, "items")
    database.execute(
        """
        CREATE TABLE live AS SELECT item, hint, part, outcome, locator, name FROM (
            SELECT *, row_number() OVER (
                PARTITION BY CASE WHEN outcome = 'dicom' THEN item ELSE locator END ORDER BY part DESC, item, hint
            ) AS place, max(part) FILTER (outcome = 'dicom') OVER (PARTITION BY locator) AS read_in FROM journal_items
        ) WHERE place = 1 AND (outcome = 'dicom' OR read_in IS NULL OR read_in <= part)
        """
    )


def consolidate(archive: Archive, same_pixels: SamePixels, *, memory_mb: int = 256, workers: int = 1) -> dict[str, Any]:
    """Write the catalog anew from the journal.

    Args:
        archive: The archive.
        same_pixels: Decides about instances of one UID that are stored in different transfer syntaxes.
        memory_mb: Of the database; more is spilled to the disk.
        workers: Processes that remove faces.

    Returns:
        What `current.json` holds: files, rows and hashes of the tables, and one hash of all.

    Raises:
        OutputError: The disk is full.
    """
    database = connect(archive, memory_mb=memory_mb)
    try:
        live_items(database, archive)
        for name in JOURNAL:
            if name != "items":
                _journal(database, archive, name)
                # Instances are gone over again and again: the parts that they stand in are read once.
                kind = "TABLE" if name == "instances" else "VIEW"
                database.execute(
                    f"CREATE {kind} new_{name} AS SELECT j.* EXCLUDE (hint, part) FROM journal_{name} j "
                    "JOIN live USING (item, hint, part)"
                )
        _instances(database, same_pixels)
        waiting = _faces(database, archive, workers)
        _people(database)
        _series(database)
        _numbers(database)
        _reports(database)
        _others(database)
        written = {name: _write(database, archive, name) for name in TABLES}
        _private(database, archive)
        gone = _superseded(database, archive, waiting)
    except duckdb.OutOfMemoryException as error:
        raise OutputError(
            f"the catalog needs more room than {memory_mb} MB and the disk hold", source=archive.root
        ) from error
    except (duckdb.IOException, duckdb.TransactionException) as error:
        # A commit that finds no room on the disk is an error of the transaction, not of input and output.
        raise OutputError("the catalog can't be written: is the disk full?", source=archive.root) from error
    finally:
        database.close()
    total = hashlib.sha256("".join(f"{n} {w['rows']} {w['hash']}\n" for n, w in sorted(written.items())).encode())
    current = {"hash": total.hexdigest(), "tables": written}
    with atomic_path(archive.catalog / CURRENT) as temporary:
        temporary.write_text(json.dumps(current, indent=2, sort_keys=True) + "\n", "utf-8")
    keep = {str(w["file"]) for w in written.values()}
    for file in archive.catalog.glob("*.parquet"):
        if file.name not in keep:
            file.unlink()
    for path in gone:
        path.unlink(missing_ok=True)
        for folder in path.relative_to(archive.root).parents[:-2]:
            with suppress(OSError):  # it is not empty
                (archive.root / folder).rmdir()
    return current


def _journal(database: duckdb.DuckDBPyConnection, archive: Archive, name: str) -> None:
    """Make a view of one table of all parts; `part` is the folder's name, which sorts by age."""
    columns = {**JOURNAL[name], "part": "text"}
    found = (part / f"{name}.parquet" for part in sorted(archive.journal.glob("[0-9]*")))
    oldest = next((file for file in found if file.exists()), None)
    # Parts that an earlier version wrote lack columns that are new: nothing is known of them.
    lacks = oldest is None or not set(JOURNAL[name]) <= set(pq.read_schema(oldest).names)
    made = ", ".join(f'"{c}" {_SQL_TYPES[t]}' for c, t in columns.items())
    if oldest is None:
        database.execute(f"CREATE TABLE journal_{name} ({made})")
        return
    pattern = str(archive.journal / "[0-9]*" / f"{name}.parquet").replace("'", "''")
    parts = (
        "SELECT * EXCLUDE filename, string_split(filename, '/')[-2] AS part FROM "
        f"read_parquet('{pattern}', filename = true{', union_by_name = true' if lacks else ''})"
    )
    if lacks:
        database.execute(f"CREATE TABLE columns_{name} ({made})")
        parts = f"FROM columns_{name} UNION ALL BY NAME {parts}"
    database.execute(f"CREATE VIEW journal_{name} AS {parts}")


def _instances(database: duckdb.DuckDBPyConnection, same_pixels: SamePixels) -> None:
    """One row an instance; instances of one UID that differ are all kept, and held back."""
    contrary = " OR ".join(f'count(DISTINCT "{c}") > 1' for c in _MEANING)
    database.execute(
        f"""
        CREATE TABLE several AS SELECT sop_uid FROM new_instances GROUP BY sop_uid HAVING count(*) > 1;
        CREATE TABLE contrary AS
        SELECT sop_uid FROM new_instances SEMI JOIN several USING (sop_uid) GROUP BY sop_uid HAVING {contrary};
        CREATE TABLE conflicts AS
        SELECT sop_uid FROM new_instances SEMI JOIN several USING (sop_uid) GROUP BY sop_uid
        HAVING count(DISTINCT coalesce(pixel_sha256, header_sha256)) > 1
            OR count(DISTINCT (patient_key, study_uid, series_uid)) > 1
        UNION SELECT sop_uid FROM contrary
        """
    )
    maybe = database.execute(
        """
        SELECT sop_uid, list(DISTINCT path ORDER BY path), count(DISTINCT (patient_key, study_uid, series_uid)),
               count(DISTINCT transfer_syntax)
        FROM new_instances JOIN (FROM conflicts ANTI JOIN contrary USING (sop_uid)) USING (sop_uid)
        WHERE form = 'dicom' AND path IS NOT NULL
        GROUP BY sop_uid ORDER BY sop_uid
        """
    ).fetchall()
    same = [uid for uid, paths, places, syntaxes in maybe if places == 1 and syntaxes > 1 and same_pixels(paths)]
    database.execute("CREATE TABLE equal_pixels (sop_uid VARCHAR)")
    if same:
        database.executemany("INSERT INTO equal_pixels VALUES (?)", [[uid] for uid in same])
    columns = ", ".join(f'"{c}"' for c in TABLES["instances"].columns if c != "held")
    # Equal copies may be of files that differ in what is not kept; which of them is told must not hang on their order.
    told = ", ".join(f'coalesce(n."{c}"::VARCHAR, chr(0))' for c in JOURNAL["instances"] if c not in ("item", "hint"))
    meaning = ", ".join(f"coalesce(n.\"{c}\"::VARCHAR, '-')" for c in _MEANING)
    silent = " + ".join(f'(n."{c}" IS NULL)::INTEGER' for c in _MEANING)
    database.execute(
        f"""
        CREATE TABLE told AS SELECT {columns}, name_key, birth_key, item, held FROM (
            SELECT n.*, CASE WHEN c.sop_uid IS NOT NULL THEN '{SAME_UID}' END AS held,
                row_number() OVER (
                    PARTITION BY n.sop_uid, CASE WHEN c.sop_uid IS NULL THEN '' ELSE concat_ws(' ',
                        coalesce(pixel_sha256, header_sha256), patient_key, study_uid, series_uid, {meaning}) END
                    ORDER BY coalesce(lossy, false), {silent}, transfer_syntax, header_sha256, pixel_sha256, path,
                        accession_key NULLS LAST, collection NULLS LAST, concat_ws(' ', {told}), item
                ) AS place
            FROM (FROM new_instances SEMI JOIN several USING (sop_uid)) n
            LEFT JOIN (FROM conflicts ANTI JOIN equal_pixels USING (sop_uid)) c USING (sop_uid)
        ) WHERE place = 1
        UNION ALL
        SELECT {columns}, name_key, birth_key, item, NULL FROM new_instances ANTI JOIN several USING (sop_uid)
        """
    )


def _faces(database: duckdb.DuckDBPyConnection, archive: Archive, workers: int) -> list[SeriesOfFaces]:
    """Put in the place of images that wait for it what they are without the face; leave out series where it stays."""
    database.execute("CREATE TABLE left_out (name VARCHAR, reason VARCHAR); CREATE TABLE with_faces (count BIGINT)")
    if not archive.policy.deface:
        return []
    series = "patient_key, study_uid, series_uid"
    rows = database.execute(
        f"""
        SELECT {series}, list(path ORDER BY path), count(*) FILTER (path NOT LIKE '{STAGE}/%'),
            count(*) FILTER (held IS NOT NULL)
        FROM told SEMI JOIN (FROM told WHERE path LIKE '{STAGE}/%') s USING ({series})
        GROUP BY {series} ORDER BY {series}
        """
    ).fetchall()
    root = str(archive.root)
    waiting = [
        SeriesOfFaces(root, tuple(paths), _MIXED if other else SAME_UID if held else "")
        for *_, paths, other, held in rows
    ]
    done = deface_all(archive.root, waiting, workers=workers)
    database.execute(
        "CREATE TABLE faceless (was VARCHAR, path VARCHAR, bytes BIGINT, header_sha256 VARCHAR, pixel_sha256 VARCHAR, "
        "transfer_syntax VARCHAR, image_type VARCHAR); CREATE TABLE facing (path VARCHAR, reason VARCHAR)"
    )
    clean = [[was, *(f[c] for c in _REPLACED)] for one in done for was, f in one.files.items()]
    if clean:
        database.executemany("INSERT INTO faceless VALUES (?, ?, ?, ?, ?, ?, ?)", clean)
    kept_out = [[p, one.problem] for s, one in zip(waiting, done, strict=True) if one.problem for p in s.paths]
    if kept_out:
        database.executemany("INSERT INTO facing VALUES (?, ?)", kept_out)
    replaced = ", ".join(f'CASE WHEN f.was IS NULL THEN t."{c}" ELSE f."{c}" END AS "{c}"' for c in _REPLACED)
    database.execute(
        f"""
        INSERT INTO with_faces SELECT {sum(one.faces for one in done)};
        INSERT INTO left_out SELECT j.name, f.reason FROM told t JOIN facing f USING (path) JOIN live j USING (item);
        CREATE TABLE shown AS SELECT t.* REPLACE ({replaced}) FROM (FROM told ANTI JOIN facing USING (path)) t
            LEFT JOIN faceless f ON f.was = t.path;
        DROP TABLE told; ALTER TABLE shown RENAME TO told
        """
    )
    return waiting


def _superseded(database: duckdb.DuckDBPyConnection, archive: Archive, waiting: list[SeriesOfFaces]) -> list[Path]:
    """Return copies that no row speaks of any more: of a table that was corrected, of a series that grew.

    What no part of the journal has ever spoken of is let be: another process that was not stopped may be writing it.
    """
    found = database.execute(
        """
        SELECT DISTINCT path FROM (
            SELECT j.path FROM journal_instances j ANTI JOIN live USING (item, hint, part)
        ) ANTI JOIN (SELECT path FROM new_instances UNION ALL SELECT path FROM told) USING (path)
        WHERE path IS NOT NULL ORDER BY path
        """
    ).fetchall()
    now = {path for (path,) in database.execute("SELECT path FROM told WHERE path IS NOT NULL").fetchall()} if (
        archive.policy.deface) else set()  # fmt: skip
    faces = superseded(archive.root, waiting) if archive.policy.deface else []
    return [archive.root / path for (path,) in found] + [
        p for p in faces if str(p.relative_to(archive.root)) not in now
    ]


def _people(database: duckdb.DuckDBPyConnection) -> None:
    """Hold back patients whose rows can't be of one person, by the rule that reading a study goes by."""
    rows = database.execute(
        """
        SELECT patient_key,
            list(DISTINCT (coalesce(name_key, ''), coalesce(birth_key, ''), coalesce(sex, ''), series_uid))
        FROM (
            SELECT patient_key, name_key, birth_key, sex, series_uid FROM new_instances WHERE name_key IS NOT NULL
            UNION SELECT patient_key, name_key, birth_key, sex, '' FROM new_persons
        ) GROUP BY patient_key
        HAVING count(DISTINCT nullif(name_key, '')) > 1 OR count(DISTINCT nullif(birth_key, '')) > 1
            OR count(DISTINCT sex) FILTER (sex IN ('F', 'M')) > 1
        """
    ).fetchall()
    held = []
    for key, told in rows:
        people = [
            (str(series or ""), Patient(identifier=key, name=n, birth_date=b, sex=s))
            for n, b, s, series in sorted(told)
        ]
        if two_patients(people) is not None:
            held.append(key)
    database.execute("CREATE TABLE held_people (patient_key VARCHAR, why VARCHAR)")
    if held:
        database.executemany("INSERT INTO held_people VALUES (?, ?)", [[key, TWO_PEOPLE] for key in sorted(held)])
    columns = ", ".join(f'"{c}"' for c in TABLES["instances"].columns if c != "held")
    database.execute(
        f"CREATE VIEW instances AS SELECT {columns}, coalesce(h.why, t.held) AS held, item "
        "FROM told t LEFT JOIN held_people h USING (patient_key)"
    )


def _series(database: duckdb.DuckDBPyConnection) -> None:
    plain = [
        c
        for c in TABLES["series"].columns
        if c not in ("series_uid", "study_uid", "patient_key", "instances", "frames", "spacing_mm", "bytes", "held")
    ]
    database.execute(
        f"""
        CREATE TABLE series AS
        WITH steps AS (
            SELECT series_uid, study_uid, patient_key, round(median(step), 4) AS spacing_mm FROM (
                SELECT series_uid, study_uid, patient_key, slice_position_mm - lag(slice_position_mm) OVER (
                    PARTITION BY series_uid, study_uid, patient_key ORDER BY slice_position_mm) AS step
                FROM instances WHERE held IS NULL AND slice_position_mm IS NOT NULL
            ) WHERE step > 0.001 GROUP BY ALL
        )
        SELECT series_uid, study_uid, patient_key, {", ".join(f'min("{c}") AS "{c}"' for c in plain)},
            count(*) AS instances, sum(frames)::BIGINT AS frames, sum(bytes)::BIGINT AS bytes,
            coalesce(min(s.spacing_mm), min(spacing_between_slices_mm)) AS spacing_mm, max(held) AS held
        FROM instances LEFT JOIN steps s USING (series_uid, study_uid, patient_key)
        GROUP BY series_uid, study_uid, patient_key
        """
    )
    database.execute(
        """
        CREATE TABLE studies_bare AS
        SELECT study_uid, patient_key, min(study_date) AS study_date, min(study_description) AS study_description,
            min(accession_key) AS accession_key, string_agg(DISTINCT modality, ' ' ORDER BY modality) AS modalities,
            count(DISTINCT series_uid) AS series, count(*) AS instances, min(age_years) AS age_years,
            CASE WHEN count(DISTINCT sex) = 1 THEN min(sex) END AS sex, max(held) AS held
        FROM instances GROUP BY study_uid, patient_key
        """
    )


def _numbers(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table `numbers`: which study an accession number of a patient is of, and how many it could be of.

    Images say it themselves, and records say it of studies whose images may lie elsewhere (FHIR's ImagingStudy). A UID
    is the study's whoever names it: what a record says of one is true of the patient whose images have it, under
    whichever identifier the record knows that patient; and where it names several for one number, they all are.
    """
    database.execute(
        """
        CREATE TABLE numbers AS
        WITH said AS (
            SELECT accession_key, patient_key, study_uid, 'accession' AS study_from FROM (
                SELECT DISTINCT accession_key, patient_key, study_uid FROM new_instances WHERE accession_key IS NOT NULL
            ) SEMI JOIN studies_bare USING (patient_key, study_uid)
            UNION SELECT accession_key, patient_key, study_uid, 'record' FROM new_links
            UNION SELECT l.accession_key, s.patient_key, every.study_uid, 'record' FROM new_links l
                JOIN studies_bare s USING (study_uid) JOIN new_links every
                ON every.accession_key = l.accession_key AND every.patient_key = l.patient_key
        )
        SELECT accession_key, patient_key, min(study_uid) AS study_uid, min(study_from) AS study_from,
            count(DISTINCT study_uid) AS studies FROM said GROUP BY accession_key, patient_key
        """
    )


def _reports(database: duckdb.DuckDBPyConnection) -> None:
    """Join reports to studies: by UID, by accession number of the same patient, by the only study of that day."""
    columns = ", ".join(f'r."{c}"' for c in TABLES["reports"].columns if c not in ("study_uid", "study_from", "held"))
    database.execute(
        f"""
        CREATE TABLE reports AS
        WITH once AS (
            SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY report_key, sha256 ORDER BY form, study_uid, item)
                AS place, row_number() OVER (PARTITION BY report_key ORDER BY CASE status WHEN 'withdrawn' THEN 0
                WHEN 'corrected' THEN 1 WHEN 'amended' THEN 2 WHEN 'appended' THEN 3 WHEN 'final' THEN 4 ELSE 5 END,
                date DESC NULLS LAST, sha256) AS newest FROM new_reports) WHERE place = 1
        ), by_day AS (
            SELECT study_date, patient_key, min(study_uid) AS study_uid FROM studies_bare
            WHERE study_date IS NOT NULL GROUP BY ALL HAVING count(*) = 1
        )
        SELECT {columns}, coalesce(r.study_uid, n.study_uid, d.study_uid) AS study_uid,
            CASE WHEN r.study_uid IS NOT NULL THEN 'uid' WHEN n.study_uid IS NOT NULL THEN n.study_from
                WHEN d.study_uid IS NOT NULL THEN 'date' END AS study_from,
            coalesce(h.why, CASE WHEN r.newest > 1 THEN '{LATER}'
                WHEN r.status = 'withdrawn' THEN 'entered in error' END) AS held, r.file_key, r.item
        FROM once r
        LEFT JOIN numbers n ON n.accession_key = r.accession_key AND n.patient_key = r.patient_key AND n.studies = 1
        LEFT JOIN by_day d ON d.study_date = r.date AND d.patient_key = r.patient_key AND r.accession_key IS NULL
        LEFT JOIN held_people h ON h.patient_key = r.patient_key
        """
    )


def _others(database: duckdb.DuckDBPyConnection) -> None:
    records = ", ".join(f'"{c}"' for c in TABLES["records"].columns)
    database.execute(f"CREATE TABLE records AS SELECT DISTINCT {records} FROM new_records")
    labels = [c for c in TABLES["labels"].columns if c not in ("patient_key", "report_key", "study_uid")]
    database.execute(
        f"""
        CREATE TABLE labels AS
        SELECT DISTINCT l.patient_key, l.report_key, l.study_uid, {", ".join(f'l."{c}"' for c in labels)}
        FROM new_labels l WHERE l.file_key IS NULL
        UNION
        SELECT DISTINCT r.patient_key, r.report_key, r.study_uid, {", ".join(f'l."{c}"' for c in labels)}
        FROM new_labels l JOIN (
            FROM reports QUALIFY count(DISTINCT report_key) OVER (PARTITION BY file_key) = 1
        ) r USING (file_key) WHERE l.file_key IS NOT NULL
        """
    )
    database.execute(
        "CREATE TABLE splits AS SELECT DISTINCT cohort, patient_key, split, true AS from_source FROM new_splits"
    )
    database.execute(
        """
        CREATE TABLE studies AS SELECT s.*, (SELECT count(*) FROM reports r WHERE r.study_uid = s.study_uid
            AND r.patient_key = s.patient_key) AS reports FROM studies_bare s
        """
    )
    database.execute(
        """
        CREATE TABLE patients AS
        WITH all_keys AS (
            SELECT patient_key, sex, patient_from FROM instances
            UNION ALL SELECT patient_key, sex, patient_from FROM new_persons
            UNION ALL SELECT patient_key, NULL, 'record' FROM reports
            UNION ALL SELECT patient_key, NULL, 'record' FROM records
        ), who AS (
            SELECT patient_key, CASE WHEN count(DISTINCT sex) = 1 THEN min(sex) END AS sex,
                coalesce(min(patient_from) FILTER (patient_from <> 'record'), 'record') AS patient_from
            FROM all_keys GROUP BY patient_key
        ), seen AS (
            SELECT patient_key, count(DISTINCT study_uid) AS studies, count(DISTINCT series_uid) AS series,
                count(*) AS instances FROM instances GROUP BY patient_key
        )
        SELECT w.patient_key, w.sex, w.patient_from, coalesce(s.studies, 0) AS studies, coalesce(s.series, 0) AS series,
            coalesce(s.instances, 0) AS instances, coalesce(r.n, 0) AS reports, coalesce(c.n, 0) AS records,
            h.why AS held
        FROM who w LEFT JOIN seen s USING (patient_key)
        LEFT JOIN (SELECT patient_key, count(*) AS n FROM reports GROUP BY ALL) r USING (patient_key)
        LEFT JOIN (SELECT patient_key, count(*) AS n FROM records GROUP BY ALL) c USING (patient_key)
        LEFT JOIN held_people h USING (patient_key)
        """
    )


def _write(database: duckdb.DuckDBPyConnection, archive: Archive, name: str) -> dict[str, Any]:
    """Write a table under the hash of its rows; the hash knows neither the order nor the form of the file."""
    table = TABLES[name]
    typed = ", ".join(f'"{c}"::{_SQL_TYPES[t]} AS "{c}"' for c, t in table.columns.items())
    database.execute(f"CREATE TEMP VIEW out_{name} AS SELECT {typed} FROM {name}")
    said = ", ".join(f'coalesce("{c}"::VARCHAR, chr(0))' for c in table.columns)
    count, digest = _one(database.execute(
        f"SELECT count(*), coalesce(bit_xor(md5_number(concat_ws(chr(31), {said}))), 0)::VARCHAR FROM out_{name}"
    ).fetchall())  # fmt: skip
    mark = hashlib.sha256(f"{name} {list(table.columns)} {count} {digest}".encode()).hexdigest()
    final = archive.catalog / f"{name}-{mark[:16]}.parquet"
    if not final.exists():
        order = ", ".join(f'"{c}" NULLS FIRST' for c in table.order)
        with atomic_path(final) as temporary:
            database.execute(
                f"COPY (SELECT * FROM out_{name} ORDER BY {order}) TO '{_quoted(temporary)}' "
                "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
            )
    return {"file": final.name, "rows": count, "hash": mark}


def _private(database: duckdb.DuckDBPyConnection, archive: Archive) -> None:
    """Write what may identify: where instances came from, and what could not be read or does not agree."""
    database.execute(
        "CREATE TABLE named AS SELECT DISTINCT patient_key, name_key, birth_key FROM told WHERE name_key <> '' "
        "AND birth_key <> ''"
    )
    queries = {
        "locations": "SELECT i.sop_uid, j.locator, j.name FROM instances i JOIN live j USING (item) ORDER BY ALL",
        "problems": f"""
            SELECT name, reason, kind FROM new_problems
            UNION ALL SELECT name, reason, 'refused' FROM left_out
            UNION ALL SELECT j.name,
                '{
            SAME_UID
        }' || ' and other pixels, another side, place or scale, or another patient or study: held back',
                'conflict'
                FROM instances i JOIN live j USING (item)
                WHERE i.held = '{SAME_UID}'
            UNION ALL SELECT j.name, '{TWO_PEOPLE}: held back', 'conflict'
                FROM instances i JOIN live j USING (item)
                WHERE i.held = '{TWO_PEOPLE}'
            UNION ALL {
            " UNION ALL ".join(
                f"SELECT min(j.name), '{what} Instance UID is also of another patient: each keeps its own', 'conflict' "
                f"FROM instances i JOIN live j USING (item) WHERE i.form = 'dicom' AND i.{uid} IN (SELECT {uid} FROM "
                f"series WHERE form = 'dicom' GROUP BY {uid} HAVING count(DISTINCT patient_key) > 1) "
                f"GROUP BY i.{uid}, i.patient_key"
                for what, uid in (("Study", "study_uid"), ("Series", "series_uid"))
            )
        }
            UNION ALL SELECT DISTINCT 'patient ' || a.patient_key,
                'has the name and birth date of patient ' || b.patient_key || ': one person with two identifiers?',
                'note'
                FROM named a JOIN named b ON a.name_key = b.name_key AND a.birth_key = b.birth_key
                    AND a.patient_key < b.patient_key
            UNION ALL SELECT DISTINCT 'report ' || r.report_key,
                'its accession number is of a study of another patient', 'conflict'
                FROM reports r JOIN studies_bare s USING (accession_key)
                WHERE r.patient_key <> s.patient_key AND coalesce(r.study_from, '') NOT IN ('accession', 'record')
                    AND NOT EXISTS (FROM numbers n WHERE n.accession_key = r.accession_key
                        AND n.patient_key = r.patient_key)
            UNION ALL SELECT DISTINCT 'report ' || r.report_key,
                'its accession number is of ' || n.studies || ' studies: joined to none of them', 'conflict'
                FROM reports r JOIN numbers n USING (accession_key, patient_key)
                WHERE n.studies > 1 AND r.study_uid IS NULL
            UNION ALL SELECT DISTINCT 'report ' || r.report_key,
                'a table names it as it names other reports: it has no labels from there', 'conflict'
                FROM (FROM reports WHERE file_key IS NOT NULL
                    QUALIFY count(DISTINCT report_key) OVER (PARTITION BY file_key) > 1) r
                SEMI JOIN (FROM new_labels WHERE file_key IS NOT NULL) l USING (file_key)
            UNION ALL SELECT j.name, 'a report: ' || r.held || ': held back', 'note'
                FROM reports r JOIN live j USING (item) WHERE r.held <> '{TWO_PEOPLE}'
            UNION ALL SELECT j.name, 'a report: {TWO_PEOPLE}: held back', 'conflict'
                FROM reports r JOIN live j USING (item) WHERE r.held = '{TWO_PEOPLE}'
            UNION ALL SELECT 'patient ' || patient_key, '{TWO_PEOPLE}: held back', 'conflict'
                FROM held_people ANTI JOIN instances USING (patient_key) ANTI JOIN reports USING (patient_key)
            ORDER BY ALL
        """,
        "removed": f"""
            SELECT "where", action, sum(count)::BIGINT AS count FROM (
                SELECT "where", action, count FROM new_removed
                UNION ALL SELECT '{IN_FACE}', 'blank', count FROM with_faces WHERE count > 0
            ) GROUP BY ALL ORDER BY ALL
        """,
    }
    for name, query in queries.items():
        with atomic_path(archive.private / f"{name}.parquet") as temporary:
            database.execute(f"COPY ({query}) TO '{_quoted(temporary)}' (FORMAT parquet, COMPRESSION zstd)")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _one(rows: Iterable[Any]) -> Any:
    return next(iter(rows))
