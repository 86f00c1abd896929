"""A study: the images, reports and records of one patient, joined, up to one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isocenter.core.errors import DataError
from isocenter.core.image import Image
from isocenter.core.mask import Mask
from isocenter.core.report import Report
from isocenter.core.units import Code

__all__ = ["Record", "Study"]


@dataclass(frozen=True)
class Record:
    """One entry of the clinical record.

    Args:
        code: What was observed.
        value: Number, code or text.
        unit: UCUM unit of a number, None otherwise.
        time: When it became known.
    """

    code: Code
    value: float | Code | str
    unit: Code | None
    time: datetime


@dataclass(frozen=True, eq=False)
class Study:
    """What is known of one patient's study.

    Args:
        patient_key: A pseudonym (keyed hash), never an identifier from a header.
        study_uid: Study Instance UID, "" where there is none.
        images: Images, each on its own grid.
        reports: Reports.
        records: Clinical records.
        index_time: Nothing later than it may be used as a feature; None where the study has no time.
        masks: Masks that came with the study (SEG, RTSTRUCT), as input or reference.
        notes: What was read and what was not, and why: ("refused", file, reason) in words.

    Raises:
        DataError: A record is later than `index_time`.
    """

    patient_key: str
    study_uid: str = ""
    images: tuple[Image, ...] = ()
    reports: tuple[Report, ...] = ()
    records: tuple[Record, ...] = ()
    index_time: datetime | None = None
    masks: tuple[Mask, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.index_time is not None and any(r.time > self.index_time for r in self.records):
            raise DataError("a record is later than the study's index time and would leak the future")
