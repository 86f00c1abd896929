"""Studies that are still arriving: checked slice by slice, and worked on ahead."""

from __future__ import annotations

from isocenter.clinic.arrival.expect import Expectation, Expected
from isocenter.clinic.arrival.series import Alert, Patience, Series
from isocenter.clinic.arrival.warm import FolderMemo, arrival_folder, tidy
from isocenter.clinic.arrival.watch import ArrivingStudy, Watch, WatchSettings

__all__ = [
    "Alert",
    "ArrivingStudy",
    "Expectation",
    "Expected",
    "FolderMemo",
    "Patience",
    "Series",
    "Watch",
    "WatchSettings",
    "arrival_folder",
    "tidy",
]
