"""How two archives, or two halves of one by date, differ: column by column, images alone."""

from __future__ import annotations

from typing import Any

from isocenter.core.errors import DataError
from isocenter.data.catalog.catalog import Catalog
from isocenter.evaluate.drift import drift_of_numbers, drift_of_words
from isocenter.verbs.description.document import DriftEntry

__all__ = ["drift_between", "drift_by_date"]

_WORDS = ("modality", "body_part", "manufacturer", "model", "laterality", "view", "kernel", "contrast", "sex")
_NUMBERS = (
    "rows", "columns", "instances", "pixel_spacing_x_mm", "slice_thickness_mm", "spacing_mm", "kvp",
    "repetition_time_ms", "echo_time_ms", "age_years",
)  # fmt: skip
_MOST = 100_000
Rows = list[dict[str, Any]]


def drift_between(old: Catalog, new: Catalog) -> tuple[DriftEntry, ...]:
    """Return how images of two archives differ."""
    return _drift(_rows(old), _rows(new))


def drift_by_date(catalog: Catalog) -> tuple[DriftEntry, ...]:
    """Return how images of the earlier half of patients, by their first date, differ from those of the later."""
    rows = [row for row in _rows(catalog) if row["study_date"] is not None]
    first: dict[str, Any] = {}
    for row in rows:
        key = row["patient_key"]
        first[key] = min(first.get(key, row["study_date"]), row["study_date"])
    order = sorted(first, key=lambda key: (first[key], key))
    early = set(order[: len(order) // 2])
    return _drift([r for r in rows if r["patient_key"] in early], [r for r in rows if r["patient_key"] not in early])


def _rows(catalog: Catalog) -> Rows:
    found: Rows = catalog.find("role = 'image'").select(["patient_key", "study_date", *_WORDS, *_NUMBERS]).to_pylist()
    # Evenly spread over series in the order of their UIDs, which are keyed hashes: a random sample.
    step = -(-len(found) // _MOST)
    return found[::step] if step > 1 else found


def _drift(old: Rows, new: Rows) -> tuple[DriftEntry, ...]:
    out = []
    for column in (*_WORDS, *_NUMBERS):
        one, other = ([(r[column], r["patient_key"]) for r in rows if r[column] is not None] for rows in (old, new))
        if not one or not other:
            continue
        try:
            if column in _WORDS:
                found = drift_of_words(
                    [str(v) for v, _ in one], [k for _, k in one], [str(v) for v, _ in other], [k for _, k in other]
                )
            else:
                found = drift_of_numbers(
                    [float(v) for v, _ in one], [k for _, k in one], [float(v) for v, _ in other], [k for _, k in other]
                )
        except DataError:  # too few patients on a side: nothing can be said of this column
            continue
        out.append(
            DriftEntry(
                column=column, measure=found.measure, value=round(found.value, 4), low=round(found.low, 4),
                high=round(found.high, 4), by_chance=round(found.by_chance, 4), beyond_chance=found.beyond_chance,
                missing_old=1 - len(one) / len(old), missing_new=1 - len(other) / len(new),
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda e: (not e.beyond_chance, -e.value)))
