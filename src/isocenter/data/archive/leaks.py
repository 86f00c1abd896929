"""The leak report of an archive, from what its runs noted down: what was removed, replaced, blanked, and is suspicious.

It is a function of the archive's private tables and its catalog, so it is the same however the archive came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from isocenter.core.errors import DataError
from isocenter.data.archive.layout import Archive
from isocenter.data.archive.rows import IN_FACE, IN_PIXELS, IN_TEXT
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Anonymity, LeakReport
from isocenter.data.deidentify.leaks import SMALL_CLASS
from isocenter.data.images.body_parts import may_show_face

__all__ = ["QUASI", "Findings", "Suspect", "leak_report", "look_for_leaks"]

QUASI = ("sex", "age", "modalities")
"""Columns that others may know of a person with images."""
_PEOPLE = """
SELECT min(sex) AS sex, floor(min(age_years)) AS age,
    string_agg(DISTINCT modalities, ' ' ORDER BY modalities) AS modalities
FROM studies GROUP BY patient_key
"""
_TAG = r"^[0-9A-F]{4}([0-9A-F]{4}|xxxx) "
_TEXTUAL = ("US", "XA", "RF", "SC", "OT", "ES", "GM", "XC", "OP", "DX", "CR", "MG", "PX", "IO", "DG")


_COUNTS = {
    "instances": "FROM instances",
    "pictures": "FROM instances WHERE form = 'picture' AND role = 'image'",
    "arrays": "FROM instances WHERE form = 'npz' AND role = 'image'",
    "screens": "FROM instances WHERE form = 'dicom' AND role = 'image' AND modality IN "
    f"({', '.join(repr(m) for m in _TEXTUAL)})",
    "reports": "FROM reports",
    "records": "FROM records WHERE text IS NOT NULL",
}
_PARTS = """
SELECT body_part, count(*) FROM series WHERE role = 'image' AND modality IN ('CT', 'MR', 'PT') GROUP BY ALL
"""


@dataclass(frozen=True)
class Suspect:
    """What a person should look at.

    Args:
        tag: Of the element, "" for the file as a whole.
        reason: What it is, and what was done.
        count: How many.
        first: Name of the first file; it may hold an identifier.
    """

    tag: str
    reason: str
    count: int
    first: str


@dataclass(frozen=True)
class Findings:
    """What is known of an archive's leaks.

    Args:
        report: Counts, and how patients with images hide among each other.
        suspects: What is suspicious, by tag and reason.
        classes: Of patients by `QUASI`, smallest first: their values, and how many patients ("patients").
        not_done: What was not de-identified, or not looked at, as sentences with counts.
    """

    report: LeakReport
    suspects: tuple[Suspect, ...]
    classes: tuple[dict[str, Any], ...]
    not_done: tuple[str, ...]


def look_for_leaks(archive: Archive) -> Findings:
    """Return what de-identification did, and did not do, in an archive.

    Raises:
        DataError: Its private tables, or its catalog, are missing.
    """
    report, suspects = _noted(archive)
    with closing(open_catalog(archive.root).connect()) as database:
        told = ", ".join(f"(SELECT count(*) {query})" for query in _COUNTS.values())
        counts = dict(zip(_COUNTS, database.execute(f"SELECT {told}").fetchall()[0], strict=True))
        parts = database.execute(_PARTS).fetchall()
        columns = ", ".join(QUASI)
        classes = database.execute(
            f"SELECT {columns}, count(*) AS patients FROM ({_PEOPLE}) GROUP BY {columns} ORDER BY patients, {columns}"
        ).fetchall()
    if archive.pixels and not archive.policy.off:
        report.objects = counts["instances"]
    report.texts = counts["reports"]
    if classes:
        report.anonymity.append(_anonymity([row[-1] for row in classes]))
    heads = sum(count for part, count in parts if may_show_face(part))
    named = tuple(dict(zip((*QUASI, "patients"), row, strict=True)) for row in classes)
    return Findings(report, tuple(suspects), named, tuple(_not_done(archive, counts, heads)))


def leak_report(archive: Archive) -> LeakReport:
    """Return the leak report as far as exports ask for it: nothing of it is read from the catalog.

    Raises:
        DataError: The archive's private tables are missing.
    """
    return _noted(archive)[0]


def _noted(archive: Archive) -> tuple[LeakReport, list[Suspect]]:
    """Return what runs have noted down."""
    report = LeakReport(archive.policy)
    with closing(_private(archive)) as database:
        removed = database.execute('SELECT "where", action, "count" FROM removed ORDER BY ALL').fetchall()
        refused = database.execute("SELECT reason, count(*) FROM problems WHERE kind = 'refused' GROUP BY reason")
        report.refused.update({str(reason): int(count) for reason, count in refused.fetchall()})
        suspicious = database.execute(
            f"SELECT regexp_extract(reason, '{_TAG}').trim() AS tag, regexp_replace(reason, '{_TAG}', '') AS why, "
            "count(*), min(name) FROM problems WHERE kind = 'suspicious' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    for where, action, count in removed:
        if where == IN_TEXT:
            report.replaced[action] += int(count)
        elif where == IN_PIXELS:
            report.blanked += int(count)
        elif where == IN_FACE:
            report.faces += int(count)
        else:
            report.removed[where, action] += int(count)
    suspects = [Suspect(str(tag), str(why), int(count), str(first)) for tag, why, count, first in suspicious]
    for suspect in suspects:
        report.suspicious[suspect.tag, suspect.reason] += suspect.count
    return report, suspects


def _anonymity(sizes: list[int]) -> Anonymity:
    """Return k-anonymity of classes of so many patients, smallest first: the same as `k_anonymity` of the patients."""
    total = sum(sizes)
    small = sum(size for size in sizes if size < SMALL_CLASS)
    return Anonymity(QUASI, total, len(sizes), sizes[0], small / total, sizes.count(1) / total)


def _not_done(archive: Archive, counts: dict[str, int], heads: int) -> Iterator[str]:
    policy = archive.policy
    if policy.off:
        yield "Nothing was de-identified: this archive holds identified data."
        return
    if not archive.pixels:
        yield f"Images were not copied: {counts['instances']} stay where they are, with all that they say of patients."
    if policy.retain_dates == "full":
        yield "Dates were kept: they identify together with little else."
    if policy.retain_uids:
        yield "UIDs were kept: whoever has the original archive finds the patient."
    if not policy.deface and heads:
        yield f"Faces were not removed: {heads} CT, MR and PET series are of a head or neck, or do not say of what."
    if policy.deface:
        yield (
            "Faces were removed from volumes of CT and MR alone: not from PET, radiographs and photographs, and an "
            "outline of the body (RTSTRUCT, masks) still shows one. Ears stay."
        )
    pictures, screens = counts["pictures"], counts["screens"]
    if not policy.clean_pixels and archive.pixels and pictures + screens:
        yield (
            f"Burnt-in text was not looked for: {screens} DICOM images of kinds that carry it, and {pictures} pictures."
        )
    if counts["arrays"] and archive.pixels:
        yield f"Voxels of arrays are kept as they are: {counts['arrays']} images in .npz files were not looked at."
    texts = counts["reports"] + counts["records"]
    if texts:
        yield f"Texts were cleaned by rules: in {texts} reports and records, a bare name that no rule knows stays."


def _private(archive: Archive) -> duckdb.DuckDBPyConnection:
    """Return a database with what runs have noted down as its tables."""
    database = duckdb.connect()
    try:
        for name in ("removed", "problems"):
            file = archive.private / f"{name}.parquet"
            if not file.is_file():
                raise DataError(
                    "the private folder, which the leak report is made of, is not here; run isocenter ingest again, or "
                    "copy it from where the archive was made",
                    source=archive.root,
                )
            place = str(file).replace("'", "''")
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet('{place}')")
    except (PermissionError, duckdb.IOException) as error:
        database.close()
        raise DataError("the private folder may not be read by you; ask its owner", source=archive.root) from error
    except DataError:
        database.close()
        raise
    return database
