"""What reading a path gives: the study, the headers that writers need, and what was refused and why.

The core types carry no identity. A writer of DICOM (SEG, RTSTRUCT, SR) has to copy the patient and study modules from
the source, and gets them from `Headers`, which stays beside the study and is never written anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydicom import Dataset

from isocenter.core import Image, Source, Study

__all__ = ["Headers", "Refusal", "StudyFiles"]


@dataclass(frozen=True)
class Refusal:
    """A file, series or object that is not in the study, and why.

    Args:
        where: File or folder name relative to what the user passed, or "series <UID>".
        reason: What is wrong and what to do, in one line; never a patient's value.
        kind: "refused": it should have been readable and was not. "ignored": not for this reader (a text file, a
            DICOMDIR, a treatment plan), left out without harm.
    """

    where: str
    reason: str
    kind: Literal["refused", "ignored"] = "refused"


@runtime_checkable
class Headers(Protocol):
    """The DICOM headers behind a study, with identities, without pixel data; read when asked for."""

    def series_uids(self) -> tuple[str, ...]:
        """Series Instance UIDs that were read, in the order of the study."""
        ...

    def series(self, series_uid: str) -> list[Dataset]:
        """Return the headers of a series in the z order of its image (images one after another if it has several).

        Raises:
            DataError: There is no such series, or its files are gone.
        """
        ...

    def image(self, image: Image | Source) -> list[Dataset]:
        """Return the headers of one image, one per instance in the order of ``source.instance_uids``.

        A multi-frame image has one header, however many frames it has.

        Raises:
            DataError: The image did not come from here, or its files are gone.
        """
        ...


@dataclass(frozen=True, eq=False)
class StudyFiles:
    """A study as read from a path.

    Args:
        study: The study.
        headers: DICOM headers of its images, None where nothing was DICOM.
        refused: What was left out, and why, in the order of its place.
    """

    study: Study
    headers: Headers | None = None
    refused: tuple[Refusal, ...] = ()
