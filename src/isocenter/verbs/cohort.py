"""Cohort: a name for the series that an expression is true of, split by patient without leaks, versioned and hashed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from isocenter.core.errors import ConfigError
from isocenter.verbs.archive_folder import require_packages
from isocenter.verbs.settings import configured

__all__ = ["CohortConfig", "CohortDocument", "cohort", "cohorts", "compare_cohorts", "show_cohort"]

Progress = Callable[[str, float], None]


class CohortDocument(BaseModel):
    """A cohort.

    Attributes:
        name: Its name.
        version: From 1.
        new: Whether this run made it.
        expression: What is true of its series.
        catalog_hash: Of the state of the catalog that it was made from.
        current: Whether the catalog is still in that state.
        split: How it was split; None for not at all.
        series: How many.
        patients: How many.
        parts: Patients of each part.
        sha256: Of the cohort.
        notes: What else should be known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    version: int
    new: bool
    expression: str
    catalog_hash: str
    current: bool
    split: dict[str, Any] | None
    series: int
    patients: int
    parts: dict[str, int]
    sha256: str
    notes: tuple[str, ...]


class CohortConfig(BaseModel):
    """Configuration of `isocenter cohort`.

    Attributes:
        split: NAME=SHARE,NAME=SHARE; "source" for the parts of the set's makers; "" for none.
        by: patient, or a column of series (manufacturer): who shares its value stands on one side, too.
        seed: Key of the hash that decides.
        stratify: label, labels.NAME, or a column of series: shares are kept for each of its values.
        duplicates: Whether patients who share an image, or nearly, stand on one side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    split: str = ""
    by: str = "patient"
    seed: int = 0
    stratify: str = ""
    duplicates: bool = True


def cohort(
    name: str, expression: str, archive: Path | str, *, progress: Progress | None = None, **options: Any
) -> CohortDocument:
    """Make a cohort, or return its newest version where nothing changed.

    Args:
        name: Lower-case letters, digits, - and _.
        expression: As for `find`; "" for all series.
        archive: Its folder.
        progress: Called with what is being done and the fraction done.
        **options: Fields of `CohortConfig`.

    Raises:
        ConfigError: An option is wrong, or nothing is found.
        DataError: There is no archive, or it can't be split so.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.cohorts import Split, make_cohort
    from isocenter.data.catalog.splitting import parse_parts

    config = configured(CohortConfig, **options)
    split, by, stratify = config.split, config.by, config.stratify
    if not split and (stratify or by != "patient"):
        raise ConfigError("only a split is by something, or stratified; add --split")
    if split == "source" and stratify:
        raise ConfigError("the split of a set's makers is as it is: leave out --stratify")
    how = (
        Split({} if split == "source" else parse_parts(split), by, config.seed, stratify, config.duplicates)
        if split
        else None
    )
    catalog = open_catalog(Path(archive))
    made, new = make_cohort(catalog, name, expression, how, progress=progress)
    return _document(made, catalog.hash, new)


def show_cohort(name: str, archive: Path | str) -> CohortDocument:
    """Read a cohort (NAME or NAME-vN) and check its hash.

    Raises:
        ConfigError: There is none.
        DataError: It was altered.
    """
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.cohorts import read_cohort

    catalog = open_catalog(Path(archive))
    return _document(read_cohort(catalog.root, name), catalog.hash, False)


def cohorts(archive: Path | str) -> list[str]:
    """Return the names and versions of the cohorts of an archive."""
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.cohorts import list_cohorts

    return [f"{name}-v{version}" for name, version in list_cohorts(open_catalog(Path(archive)).root)]


def compare_cohorts(old: str, new: str, archive: Path | str) -> dict[str, Any]:
    """Return how two cohorts (NAME or NAME-vN) differ.

    Raises:
        ConfigError: There is none.
        DataError: One was altered.
    """
    require_packages()
    from isocenter.data.catalog.cohorts import compare, read_cohort

    return compare(read_cohort(Path(archive), old), read_cohort(Path(archive), new))


def _document(made: Any, catalog_hash: str, new: bool) -> CohortDocument:
    content = made.content
    return CohortDocument(
        name=made.name, version=made.version, new=new, expression=content["expression"],
        catalog_hash=content["catalog"], current=content["catalog"] == catalog_hash, split=content["split"],
        series=content["series"], patients=content["patients"], parts=made.parts, sha256=made.sha256,
        notes=tuple(content["notes"]),
    )  # fmt: skip
