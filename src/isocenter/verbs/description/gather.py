"""Counts, missing values, histograms, labels and splits of an archive, by questions to its catalog."""

from __future__ import annotations

from typing import Any

import numpy as np

from isocenter.data.catalog.catalog import Catalog
from isocenter.verbs.description.document import CountEntry, HistogramEntry, LabelEntry, MissingEntry, TroubleCount

__all__ = ["counts", "held_rows", "histograms", "labels", "missing", "splits", "tables"]

_MOST = 24
_MOST_LABELS = 12
_MOST_VALUES = 6
_BINS = 24
_IMAGES = "FROM series WHERE role = 'image' AND held IS NULL"
_GROUP = """
SELECT {what} AS name, {detail} AS detail, count(*) AS count, count(DISTINCT patient_key) AS patients,
    sum(instances)::BIGINT AS instances, sum(bytes)::BIGINT AS bytes
FROM series WHERE role = 'image' AND held IS NULL GROUP BY ALL ORDER BY count DESC, name, detail
"""
_HISTOGRAMS = (
    ("slice_thickness_mm", "slice thickness", "mm"),
    ("spacing_mm", "distance between slices", "mm"),
    ("pixel_spacing_x_mm", "pixel spacing", "mm"),
    ("rows", "rows", "pixels"),
)
_MISSING = {
    "series": (
        "modality", "body_part", "laterality", "view", "series_description", "manufacturer", "model",
        "slice_thickness_mm", "spacing_mm", "pixel_spacing_x_mm", "orientation",
    ),
    "studies": ("study_date", "study_description", "accession_key", "age_years", "sex"),
    "patients": ("sex",),
    "reports": ("study_uid", "date", "language"),
    "records": ("code", "unit", "time"),
}  # fmt: skip
_NONE = "not stated"


def _ask(catalog: Catalog, query: str) -> list[dict[str, Any]]:
    return list(catalog.sql(query).to_pylist())


def tables(catalog: Catalog) -> dict[str, int]:
    """Return the rows of each table."""
    return {name: int(told["rows"]) for name, told in catalog.tables.items()}


def counts(catalog: Catalog) -> dict[str, tuple[CountEntry, ...]]:
    """Return series by modality, body part, scanner, and studies by year."""
    out = {}
    for key, what, detail in (
        ("modalities", f"coalesce(modality, '{_NONE}')", "form"),
        ("body_parts", f"coalesce(body_part, '{_NONE}')", "''"),
        ("scanners", f"coalesce(manufacturer, '{_NONE}')", "coalesce(model, '')"),
    ):
        out[key] = _cut([CountEntry(**row) for row in _ask(catalog, _GROUP.format(what=what, detail=detail))])
    rows = _ask(
        catalog,
        f"SELECT coalesce(year(study_date)::VARCHAR, '{_NONE}') AS name, count(*) AS count, "
        "count(DISTINCT patient_key) AS patients FROM studies WHERE held IS NULL GROUP BY 1 ORDER BY 1",
    )
    out["years"] = tuple(CountEntry(**row) for row in rows)
    return out


def _cut(entries: list[CountEntry]) -> tuple[CountEntry, ...]:
    """Keep the largest; the rest becomes one entry without patients, who may be in several."""
    if len(entries) <= _MOST:
        return tuple(entries)
    rest = entries[_MOST - 1 :]
    total = CountEntry(name=f"{len(rest)} others", count=sum(e.count for e in rest))
    return (*entries[: _MOST - 1], total)


def missing(catalog: Catalog) -> tuple[MissingEntry, ...]:
    """Return how often columns are empty; of series, images alone."""
    out = []
    for table, columns in _MISSING.items():
        where = "WHERE held IS NULL" if table != "records" else ""
        where += " AND role = 'image'" if table == "series" else ""
        told = ", ".join(f'count(*) FILTER ("{c}" IS NULL) AS "{c}"' for c in columns)
        row = _ask(catalog, f"SELECT count(*) AS all_rows, {told} FROM {table} {where}")[0]
        if row["all_rows"]:
            out += [MissingEntry(table=table, column=c, rows=row["all_rows"], missing=row[c]) for c in columns]
    return tuple(out)


def histograms(catalog: Catalog) -> tuple[HistogramEntry, ...]:
    """Return how spacings, thicknesses and sizes are spread; the outer hundredths are counted, not drawn."""
    out = []
    for column, name, unit in _HISTOGRAMS:
        values = np.array(
            [v for v in catalog.sql(f'SELECT "{column}" AS v {_IMAGES}').column(0).to_pylist() if v is not None],
            dtype=np.float64,
        )
        total = int(catalog.sql(f"SELECT count(*) {_IMAGES}").column(0)[0].as_py())
        if not len(values):
            continue
        low, high = np.percentile(values, (1, 99))
        inside = values[(values >= low) & (values <= high)]
        width = (high - low) or max(abs(low), 1.0) * 0.1
        edges = np.linspace(max(0.0, low - 0.02 * width), high + 0.02 * width, _BINS + 1)
        found, _ = np.histogram(inside, edges)
        out.append(
            HistogramEntry(
                name=name, unit=unit, of="series of images", edges=tuple(float(e) for e in edges),
                counts=tuple(int(c) for c in found), beyond=len(values) - len(inside), missing=total - len(values),
            )
        )  # fmt: skip
    return tuple(out)


def labels(catalog: Catalog) -> tuple[LabelEntry, ...]:
    """Return the balance of labels, those with most rows first; of numbers with many values, none."""
    names = _ask(
        catalog,
        "SELECT name, kind, count(*) AS n, count(DISTINCT value) AS v FROM labels WHERE kind IN ('class', 'finding', "
        "'number') GROUP BY ALL HAVING v <= 40 OR kind = 'finding' ORDER BY n DESC, name LIMIT 40",
    )[:_MOST_LABELS]
    out = []
    for row in names:
        found = catalog.sql(
            "SELECT value, count(*) AS n FROM labels WHERE name = ? AND kind = ? GROUP BY 1 ORDER BY n DESC, value",
            [row["name"], row["kind"]],
        ).to_pylist()
        out.append(
            LabelEntry(
                name=row["name"], kind=row["kind"], rows=row["n"],
                values=tuple((str(f["value"]), int(f["n"])) for f in found[:_MOST_VALUES]),
                others=sum(int(f["n"]) for f in found[_MOST_VALUES:]),
            )
        )  # fmt: skip
    return tuple(out)


def splits(catalog: Catalog) -> tuple[CountEntry, ...]:
    """Return patients by cohort and part, as makers of sets chose them."""
    rows = _ask(
        catalog,
        "SELECT cohort AS name, split AS detail, count(DISTINCT patient_key) AS count FROM splits GROUP BY ALL "
        "ORDER BY ALL",
    )
    return _cut([CountEntry(**row) for row in rows])


def held_rows(catalog: Catalog) -> tuple[TroubleCount, ...]:
    """Return instances that are held back, by reason."""
    rows = _ask(catalog, "SELECT held, count(*) AS n FROM instances WHERE held IS NOT NULL GROUP BY 1 ORDER BY n DESC")
    return tuple(TroubleCount(kind="held back", reason=row["held"], count=row["n"]) for row in rows)
