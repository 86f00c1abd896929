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
from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.data.deidentify import LeakReport, k_anonymity
from isocenter.data.images.body_parts import may_show_face

__all__ = ["QUASI", "Suspect", "leak_report", "not_done", "smallest_classes", "suspects"]

QUASI = ("sex", "age", "modalities")
"""Columns that others may know of a person with images."""
_PEOPLE = """
SELECT min(sex) AS sex, floor(min(age_years)) AS age,
    string_agg(DISTINCT modalities, ' ' ORDER BY modalities) AS modalities
FROM studies GROUP BY patient_key
"""
_TAG = r"^[0-9A-F]{4}([0-9A-F]{4}|xxxx) "
_TEXTUAL = ("US", "XA", "RF", "SC", "OT", "ES", "GM", "XC", "OP", "DX", "CR", "MG", "PX", "IO", "DG")


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


def leak_report(archive: Archive, *, anonymity: bool = True) -> LeakReport:
    """Return the leak report of an archive.

    Args:
        archive: The archive; its private folder must be there.
        anonymity: Whether to measure how patients with images hide among each other.

    Raises:
        DataError: Its private tables are missing, or were written before there was a report.
    """
    report = LeakReport(archive.policy)
    for where, action, count in _rows(archive, "removed", 'SELECT "where", action, "count" FROM private ORDER BY ALL'):
        if where == IN_TEXT:
            report.replaced[action] += int(count)
        elif where == IN_PIXELS:
            report.blanked += int(count)
        elif where == IN_FACE:
            report.faces += int(count)
        else:
            report.removed[where, action] += int(count)
    for suspect in suspects(archive):
        report.suspicious[suspect.tag, suspect.reason] += suspect.count
    for reason, count in _rows(
        archive, "problems", "SELECT reason, count(*) FROM private WHERE kind = 'refused' GROUP BY reason ORDER BY ALL"
    ):
        report.refused[reason] += int(count)
    catalog = open_catalog(archive.root)
    if archive.pixels and not archive.policy.off:
        report.objects = _number(catalog, "SELECT count(*) FROM instances")
    report.texts = _number(catalog, "SELECT count(*) FROM reports")
    if anonymity:
        people = catalog.sql(_PEOPLE).to_pylist()
        if people:
            report.anonymity.append(k_anonymity(people, QUASI))
    return report


def suspects(archive: Archive) -> list[Suspect]:
    """Return what is suspicious, by tag and reason, with the first file of each.

    Raises:
        DataError: The archive's private tables are missing.
    """
    query = f"""
        SELECT regexp_extract(reason, '{_TAG}').trim() AS tag, regexp_replace(reason, '{_TAG}', '') AS why,
            count(*), min(name)
        FROM private WHERE kind = 'suspicious' GROUP BY ALL ORDER BY ALL
    """
    return [Suspect(str(t), str(r), int(c), str(f)) for t, r, c, f in _rows(archive, "problems", query)]


def smallest_classes(archive: Archive, most: int) -> list[dict[str, Any]]:
    """Return the smallest classes of patients by what others may know of them, smallest first."""
    columns = ", ".join(QUASI)
    query = f"SELECT {columns}, count(*) AS patients FROM ({_PEOPLE}) GROUP BY {columns} ORDER BY patients, {columns}"
    rows: list[dict[str, Any]] = open_catalog(archive.root).sql(f"{query} LIMIT {int(most)}").to_pylist()
    return rows


def not_done(archive: Archive) -> list[str]:
    """Return what was not de-identified, or not looked at, as sentences with counts."""
    return list(_not_done(archive, open_catalog(archive.root)))


def _not_done(archive: Archive, catalog: Catalog) -> Iterator[str]:
    policy = archive.policy
    if policy.off:
        yield "Nothing was de-identified: this archive holds identified data."
        return
    if not archive.pixels:
        count = _number(catalog, "SELECT count(*) FROM instances")
        yield f"Images were not copied: {count} stay where they are, with all that they say of patients."
    if policy.retain_dates == "full":
        yield "Dates were kept: they identify together with little else."
    if policy.retain_uids:
        yield "UIDs were kept: whoever has the original archive finds the patient."
    parts = catalog.sql(
        "SELECT body_part, count(*) AS n FROM series WHERE role = 'image' AND modality IN ('CT', 'MR', 'PT') "
        "GROUP BY ALL"
    ).to_pylist()
    count = sum(row["n"] for row in parts if may_show_face(row["body_part"]))
    if not policy.deface and count:
        yield f"Faces were not removed: {count} CT, MR and PET series are of a head or neck, or do not say of what."
    if policy.deface:
        yield (
            "Faces were removed from volumes of CT and MR alone: not from PET, radiographs and photographs, and an "
            "outline of the body (RTSTRUCT, masks) still shows one. Ears stay."
        )
    pictures = _number(catalog, "SELECT count(*) FROM instances WHERE form = 'picture' AND role = 'image'")
    arrays = _number(catalog, "SELECT count(*) FROM instances WHERE form = 'npz' AND role = 'image'")
    told = ", ".join(f"'{m}'" for m in _TEXTUAL)
    screens = _number(
        catalog, f"SELECT count(*) FROM instances WHERE form = 'dicom' AND role = 'image' AND modality IN ({told})"
    )
    if not policy.clean_pixels and archive.pixels and pictures + screens:
        yield (
            f"Burnt-in text was not looked for: {screens} DICOM images of kinds that carry it, and {pictures} pictures."
        )
    if arrays and archive.pixels:
        yield f"Arrays are kept as they are: {arrays} images in .npz files were not looked at."
    texts = _number(catalog, "SELECT count(*) FROM reports") + _number(
        catalog, "SELECT count(*) FROM records WHERE text IS NOT NULL"
    )
    if texts:
        yield f"Texts were cleaned by rules: in {texts} reports and records, a bare name that no rule knows stays."


def _rows(archive: Archive, name: str, query: str) -> list[tuple[Any, ...]]:
    file = archive.private / f"{name}.parquet"
    try:
        if not file.is_file():
            raise DataError(
                "the private folder, which the leak report is made of, is not here; run isocenter ingest again, or "
                "copy it from where the archive was made",
                source=archive.root,
            )
        place = str(file).replace("'", "''")
        with closing(duckdb.connect()) as database:
            database.execute(f"CREATE VIEW private AS SELECT * FROM read_parquet('{place}')")
            return database.execute(query).fetchall()
    except (PermissionError, duckdb.IOException) as error:
        raise DataError("the private folder may not be read by you; ask its owner", source=archive.root) from error


def _number(catalog: Catalog, query: str) -> int:
    return int(catalog.sql(query).column(0)[0].as_py())
