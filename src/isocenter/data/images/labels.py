"""Which names of segments DICOM can hold: told before a file is written, not found out when it is read back."""

from __future__ import annotations

from collections.abc import Iterable

from isocenter.core.errors import DataError
from isocenter.core.mask import Segment

__all__ = ["check_labels"]


def check_labels(segments: Iterable[Segment]) -> None:
    r"""Refuse labels that a DICOM string (VR LO) would not give back: ``\`` splits it, and blanks at its ends are lost.

    Raises:
        DataError: A label has such a character; the message names the segment's number.

    Source:
        DICOM PS3.5 table 6.2-1.
    """
    for segment in segments:
        if "\\" in segment.label or not segment.label.isprintable():
            raise DataError(
                f"the label of segment {segment.number} holds a character DICOM has no place for (a backslash, a line "
                "break); rename it"
            )
        if segment.label != segment.label.strip():
            raise DataError(f"the label of segment {segment.number} begins or ends with a blank; rename it")
