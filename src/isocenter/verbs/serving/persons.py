"""By what the patient of a study is found in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PersonOf", "StudyPerson"]


@dataclass(frozen=True)
class StudyPerson:
    """By what the patient of a study may be found in a clinical table.

    Args:
        study_uid: Study Instance UID, "" where there is none.
        patient_key: Pseudonym, "" where it is not known.
        names: Further names that the table may use for this study and no other (of its file); never shown.
    """

    study_uid: str
    patient_key: str
    names: tuple[str, ...] = ()


PersonOf = Callable[[str], StudyPerson]
"""Gives by what the patient of a study is found. Raises `NotFound` for a study that there is not."""
