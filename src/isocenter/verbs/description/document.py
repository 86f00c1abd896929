"""What `isocenter describe` says: one strict document, from which the page is written."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from isocenter.verbs.leaks import AnonymityEntry

__all__ = [
    "Block", "CountEntry", "DescriptionDocument", "DriftEntry", "HistogramEntry", "LabelEntry",
    "MissingEntry", "OutlierEntry", "TroubleCount",
]  # fmt: skip


class Block(BaseModel):
    """What is strict and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CountEntry(Block):
    """How many of something: series, patients, instances, bytes, as far as they apply."""

    name: str
    detail: str = ""
    count: int
    patients: int | None = None
    instances: int | None = None
    bytes: int | None = None


class MissingEntry(Block):
    """Share of rows of a table in which a column is empty, of images alone for series."""

    table: str
    column: str
    rows: int
    missing: int


class HistogramEntry(Block):
    """How often numbers fall between edges; numbers beyond the outer ones are counted apart."""

    name: str
    unit: str
    of: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: int
    missing: int


class LabelEntry(Block):
    """Values of one label by name, most first; `others` are further values."""

    name: str
    kind: str
    rows: int
    values: tuple[tuple[str, int], ...]
    others: int


class OutlierEntry(Block):
    """A series that stands out among those of its modality.

    Attributes:
        series_uid: Its UID.
        group: Modality, or the form where it has none.
        why: Column, its value, the median of its group, and the robust z score.
        z: The largest score.
        picture: Path of its picture in the page, as a data URI; "" for none.
    """

    series_uid: str
    group: str
    why: tuple[str, ...]
    z: float
    picture: str = ""


class TroubleCount(Block):
    """What was refused, held back, suspicious or left out: reason and count, no names."""

    kind: str
    reason: str
    count: int


class DriftEntry(Block):
    """How one column differs between two archives, or halves."""

    column: str
    measure: str
    value: float
    low: float
    high: float
    by_chance: float
    beyond_chance: bool
    missing_old: float
    missing_new: float


class DescriptionDocument(Block):
    """What an archive holds, and what of it should be looked at.

    Attributes:
        version: Of Isocenter.
        archive: Name of its folder.
        catalog_hash: Of the state described.
        identified: Whether nothing was de-identified.
        dates: shifted, full or none.
        pixels: Whether it holds copies of images.
        pixels_cleaned: Whether burnt-in text was looked for.
        tables: Rows by table.
        modalities: Images by modality.
        body_parts: Images by body part.
        years: Studies by year of their date, as the archive has it.
        scanners: Images by manufacturer and model.
        missing: By table and column.
        histograms: Spacings and thicknesses.
        labels: Balance.
        splits: Patients by cohort and part.
        outliers: Those that stand out most.
        outlier_count: All that stand out.
        outlier_rule: By which.
        duplicates: Groups by where they stand; None where nothing could be looked at.
        unread: Series whose pixels can't be read, by reason.
        held: Rows that are held back, by reason.
        troubles: Files that were refused, suspicious or left out, by reason.
        anonymity: k-anonymity; None without patients with images.
        drift: By column.
        drift_of: Between what; "" where it was not measured.
        notes: What this page can't see.
    """

    version: str
    archive: str
    catalog_hash: str
    identified: bool
    dates: str
    pixels: bool
    pixels_cleaned: bool
    tables: dict[str, int]
    modalities: tuple[CountEntry, ...]
    body_parts: tuple[CountEntry, ...]
    years: tuple[CountEntry, ...]
    scanners: tuple[CountEntry, ...]
    missing: tuple[MissingEntry, ...]
    histograms: tuple[HistogramEntry, ...]
    labels: tuple[LabelEntry, ...]
    splits: tuple[CountEntry, ...]
    outliers: tuple[OutlierEntry, ...]
    outlier_count: int
    outlier_rule: str
    duplicates: dict[str, int] | None
    unread: dict[str, int]
    held: tuple[TroubleCount, ...]
    troubles: tuple[TroubleCount, ...]
    anonymity: AnonymityEntry | None
    drift: tuple[DriftEntry, ...]
    drift_of: str
    notes: tuple[str, ...]
