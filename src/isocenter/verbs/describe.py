"""Describe: what an archive holds and what of it should be looked at, as one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.data.images.atomic import atomic_path, make_parent
from isocenter.verbs.archive_folder import problems_of, require_packages
from isocenter.verbs.description.document import DescriptionDocument, DriftEntry, TroubleCount
from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.data.archive.layout import Archive
    from isocenter.data.catalog.catalog import Catalog

__all__ = ["DescriptionDocument", "describe", "write_page"]

Progress = Callable[[str, float], None]
_MOST_REASONS = 30


def describe(
    archive: Path | str, *, against: Path | str | None = None, progress: Progress | None = None
) -> DescriptionDocument:
    """Describe an archive.

    Args:
        archive: Its folder.
        against: An earlier archive, or one of another place, that drift is measured from.
        progress: Called with what is being done and the fraction done.

    Returns:
        Counts, missing values, spacings, labels, splits, outliers with pictures, duplicates, what was refused, and
        drift. No name of a file, and no value of a patient but what the catalog holds.

    Raises:
        DataError: There is no archive.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.archive.layout import open_archive
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.duplicates import find_duplicates
    from isocenter.data.catalog.pictures import pictures_of, places_of
    from isocenter.verbs.description import gather
    from isocenter.verbs.description.outliers import RULE, find_outliers
    from isocenter.verbs.leaks import anonymity_of

    place, catalog = open_archive(Path(archive)), open_catalog(Path(archive))
    pictures = pictures_of(catalog, places_of(catalog), progress=progress) if place.pixels else None
    outliers, many = find_outliers(catalog, pictures, coarse=not place.policy.clean_pixels)
    twice: dict[str, int] | None = None
    unread: dict[str, int] = {}
    if pictures is not None:
        found = find_duplicates(catalog, progress=progress)
        twice = dict.fromkeys(("across splits", "across patients", "within a patient"), 0)
        for group in found.groups:
            twice[group.where] += 1
        for _, reason in found.unread:
            unread[reason] = unread.get(reason, 0) + 1
    drift, drift_of = _drift(catalog, place, against)
    reasons = [TroubleCount(kind=k, reason=r, count=c) for k, r, c, _ in problems_of(place.root)]
    return DescriptionDocument(
        version=__version__, archive=place.root.resolve().name, catalog_hash=catalog.hash,
        identified=place.policy.off, dates="full" if place.policy.off else place.policy.retain_dates,
        pixels=place.pixels, pixels_cleaned=place.policy.clean_pixels and not place.policy.off,
        tables=gather.tables(catalog), **gather.counts(catalog), missing=gather.missing(catalog),
        histograms=gather.histograms(catalog), labels=gather.labels(catalog), splits=gather.splits(catalog),
        outliers=outliers, outlier_count=many, outlier_rule=RULE, duplicates=twice, unread=unread,
        held=gather.held_rows(catalog), troubles=tuple(reasons[:_MOST_REASONS]), anonymity=anonymity_of(place.root),
        drift=drift, drift_of=drift_of, notes=tuple(_notes(place)),
    )  # fmt: skip


def write_page(document: DescriptionDocument, file: Path) -> None:
    """Write the page.

    Raises:
        OutputError: It can't be written.
    """
    from isocenter.verbs.description.page import render_description

    make_parent(file)
    with atomic_path(file) as temporary:
        temporary.write_text(render_description(document), "utf-8")


def _drift(catalog: Catalog, place: Archive, against: Path | str | None) -> tuple[tuple[DriftEntry, ...], str]:
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.verbs.description.drifting import drift_between, drift_by_date

    few = "too few patients on a side, or no column that both state"
    if against is not None:
        other = open_catalog(Path(against))
        found = drift_between(other, catalog)
        return found, f"Images of archive {Path(against).resolve().name} before, of this one after" if found else few
    if place.policy.off or place.policy.retain_dates == "full":
        found = drift_by_date(catalog)
        told = "The earlier half of patients, by their first study, before; the later half after"
        return found, told if found else few
    return (), (
        "dates are shifted for each patient, or left out, so that no earlier and later half can be told; give another "
        "archive with --against"
    )


def _notes(place: Archive) -> list[str]:
    notes = [
        "Whether a label or a report is right, and whether an image shows what its header says.",
        "An outlier in a group of fewer than 20 series, or one that is like many others.",
    ]
    if not place.pixels:
        notes.append("Pixels: this archive holds headers alone, so nothing is said of duplicates or brightness.")
    elif not place.policy.clean_pixels:
        notes.append("Text that is burnt into pixels: it was not looked for. Pictures below are too coarse to read it.")
    notes.append("Drift in what images show: it is measured on columns of the catalog alone.")
    return notes
