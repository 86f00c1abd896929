"""When images were made: days between two, and never an earlier image that is the later one.

Dates stay in `inputs.json`, which names files too and is not to be shared; the document holds days between two images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from isocenter.core.errors import ConfigError

__all__ = ["INPUTS", "acquired_on", "days_since", "earlier_date"]

INPUTS = "inputs.json"
_ELEMENTS = ("AcquisitionDate", "SeriesDate", "StudyDate")
"""Not the content date: of what was derived later it is the day of that."""


def acquired_on(headers: Sequence[Dataset], stated: date | None) -> date | None:
    """Return when an image was made: as its headers say, else as whoever asked says; the earliest of its slices.

    Args:
        headers: Of the image; empty where it has none.
        stated: By whoever asked.

    Raises:
        ConfigError: Both say, and not the same.
    """
    for element in _ELEMENTS:
        found = [_day(str(h.get(element, "") or "")) for h in headers]
        days = [d for d in found if d is not None]
        if days and len(days) == len(found):
            if stated is not None and stated != min(days):
                raise ConfigError("the image's headers say another date than --acquired; leave it out")
            return min(days)
    return stated


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip()[:8], "%Y%m%d").date()  # a day has no zone
    except ValueError:
        return None


def earlier_date(prior: Path) -> date | None:
    """Return when the image of an earlier phenotype was made, where its own `inputs.json` says so."""
    file = (prior if prior.is_dir() else prior.parent) / INPUTS
    try:
        said = json.loads(file.read_text("utf-8")).get("acquired")
        return None if said is None else date.fromisoformat(str(said))
    except (OSError, ValueError, AttributeError):
        return None


def days_since(earlier: date | None, now: date | None, stated: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Return days between two images, and what the reader must know.

    Args:
        earlier: When the earlier one was made; None where that is not known.
        now: When this one was made.
        stated: Days, by whoever asked.

    Raises:
        ConfigError: This image is the earlier one, or the dates say another number of days.

    Example:
        >>> days_since(date(2020, 1, 1), date(2020, 3, 4), None)
        (63.0, ('the images were made 63 days apart, by their dates',))
    """
    if earlier is None or now is None:
        note = "which image is the earlier one is taken from whoever asked: not both say when they were made"
        return stated, (note,)
    days = (now - earlier).days
    if days < 0:
        raise ConfigError(f"the image of the earlier phenotype was made {-days} days after this one: exchange the two")
    if stated is not None and stated != days:
        raise ConfigError(f"by their dates the images were made {days} days apart, not {stated:g}; leave --days out")
    if days == 0:
        note = "both images are of the same day: which one is the earlier is taken from whoever asked"
        return None, (note,)
    return float(days), (f"the images were made {days} days apart, by their dates",)
