"""Duplicates: images that an archive holds twice, or nearly twice; those across splits first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from isocenter.verbs.archive_folder import require_packages

__all__ = ["DuplicatesDocument", "duplicates"]

Progress = Callable[[str, float], None]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PairEntry(_Strict):
    """Two series that show the same; distance in bits of 64, correlation of their fine parts."""

    first: str
    second: str
    exact: bool
    distance: int
    correlation: float


class GroupEntry(_Strict):
    """Series that show the same, directly or by others between them."""

    where: Literal["across splits", "across patients", "within a patient"]
    series: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    pairs: tuple[PairEntry, ...]


class DuplicatesDocument(_Strict):
    """What an archive holds twice.

    Attributes:
        archive: Its folder.
        catalog_hash: Of the state that was looked at.
        looked_at: Series whose pictures were compared.
        flat: Series whose picture is flat, which match nothing.
        unread: Series that could not be read, by reason.
        groups: Across splits first.
    """

    archive: str
    catalog_hash: str
    looked_at: int
    flat: int
    unread: dict[str, int]
    groups: tuple[GroupEntry, ...]


def duplicates(
    archive: Path | str, *, near: bool = True, progress: Progress | None = None
) -> DuplicatesDocument:  # fmt: skip
    """Find what an archive holds twice.

    Args:
        archive: Its folder.
        near: Whether near duplicates are looked for, too.
        progress: Called with what is being done and the fraction done.

    Raises:
        DataError: There is no archive, or it holds no copies of images.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.duplicates import find_duplicates

    catalog = open_catalog(Path(archive))
    found = find_duplicates(catalog, near=near, progress=progress)
    unread: dict[str, int] = {}
    for _, reason in found.unread:
        unread[reason] = unread.get(reason, 0) + 1
    return DuplicatesDocument(
        archive=str(archive), catalog_hash=catalog.hash, looked_at=found.looked_at, flat=found.flat, unread=unread,
        groups=tuple(
            GroupEntry(
                where=g.where, series=g.series, patients=g.patients, splits=g.splits,
                pairs=tuple(
                    PairEntry(first=p.first, second=p.second, exact=p.exact, distance=p.distance,
                              correlation=p.correlation)
                    for p in g.pairs
                ),
            )
            for g in found.groups
        ),
    )  # fmt: skip
