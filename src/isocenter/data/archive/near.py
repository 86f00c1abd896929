"""What the files of a batch have taught for those beside them, by folder and by series, so that they are read faster.

It makes no difference to any result: only what is the same in two files is not worked out twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED
from isocenter.data.deidentify.dicom.neighbours import Neighbours
from isocenter.data.images.dicom.neighbours import HeaderNeighbours

__all__ = ["Near", "SeriesNear"]

K = TypeVar("K")
V = TypeVar("V")
_MOST = 32
"""Folders and series that are remembered; those that were not asked for longest are forgotten."""


@dataclass(eq=False)
class SeriesNear:
    """What the files of one series have taught.

    Args:
        originals: Of taking their identity out.
        copies: Of reading the copies back.
    """

    originals: Neighbours = field(default_factory=Neighbours)
    copies: HeaderNeighbours = field(default_factory=lambda: HeaderNeighbours(ARCHIVE_WANTED))


class Near:
    """Finds what a folder or a series has taught."""

    def __init__(self) -> None:
        self._series: OrderedDict[tuple[str, str], SeriesNear] = OrderedDict()
        self._folders: OrderedDict[str, HeaderNeighbours] = OrderedDict()

    def of_series(self, patient: str, series: str) -> SeriesNear:
        """Return what a series of a patient has taught."""
        return _remembered(self._series, (patient, series), SeriesNear)

    def of_folder(self, locator: str) -> HeaderNeighbours:
        """Return what the files beside a file have taught."""
        return _remembered(self._folders, locator.rpartition("/")[0], lambda: HeaderNeighbours(ARCHIVE_WANTED))


def _remembered(known: OrderedDict[K, V], key: K, new: Callable[[], V]) -> V:
    found = known.get(key)
    if found is None:
        found = known[key] = new()
        if len(known) > _MOST:
            known.popitem(last=False)
    else:
        known.move_to_end(key)
    return found
