"""Modality performed procedure steps: what a scanner says it is doing, and how many images it made (PS3.4 annex F).

The node is told when a study is finished and of how many instances, so that it need not wait for silence. Each message
is kept as one line; nothing of the patient is.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID

from isocenter.clinic.dimse.association import Answer, Peer
from isocenter.clinic.dimse.clock import minutes_from_now
from isocenter.clinic.dimse.journal import Journal, read_lines
from isocenter.clinic.dimse.messages import N_CREATE, Command
from isocenter.clinic.dimse.unpacked import unpacked_within
from isocenter.core.errors import DataError, OutputError
from isocenter.data.images.dicom.header import whole_header
from isocenter.data.images.quiet import quiet

__all__ = ["PerformedSteps", "decoded"]

_FAR_MIN: Final = 10
_MOST_UNPACKED: Final = 1 << 26
_FINAL: Final = ("COMPLETED", "DISCONTINUED")
_SUCCESS, _FAILURE, _DUPLICATE, _UNKNOWN, _INVALID, _MISSING = 0x0000, 0x0110, 0x0111, 0x0112, 0x0106, 0x0120


def decoded(data: bytes, transfer_syntax: str) -> Dataset | None:
    """Read the data set of a message; None where it can't be read."""
    syntax = UID(transfer_syntax)
    if syntax.is_deflated and unpacked_within(data, _MOST_UNPACKED) is None:
        return None
    try:
        with whole_header("a message"), quiet():
            found = pydicom.dcmread(_as_file(data, syntax), force=True)
            return _looked_at(found)
    except DataError:
        return None


def _looked_at(found: Dataset) -> Dataset:
    """Return a data set of which every element was looked at: what can't be read is told now, and not half-way.

    Raises:
        TypeError: A sequence that is none.
    """
    made = Dataset({element.tag: element for element in found})
    for element in made:
        if element.VR == "SQ":
            for item in element.value or ():
                _looked_at(item)
        elif dictionary_has_tag(element.tag) and dictionary_VR(element.tag) == "SQ":
            raise TypeError("a sequence that is none")
    return made


def _as_file(data: bytes, syntax: UID) -> BytesIO:
    """Return a data set behind the shortest File Meta Information that says how it is written."""
    value = str(syntax).encode() + b"\0" * (len(syntax) % 2)
    element = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value
    length = b"\x02\x00\x00\x00UL\x04\x00" + len(element).to_bytes(4, "little")
    return BytesIO(b"\0" * 128 + b"DICM" + length + element + data)


class PerformedSteps:
    """What handles N-CREATE and N-SET of performed procedure steps.

    Args:
        folder: Of the journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._journal: Journal | None = None

    def handle(self, command: Command, data: bytes, transfer_syntax: str, peer: Peer) -> Answer:
        """Take a message; see `Service`."""
        if not command.sop_instance:
            return Answer(_INVALID, "no SOP Instance UID")
        step = decoded(data, transfer_syntax)
        if step is None:
            return Answer(_FAILURE, "the data set can't be read")
        with self._lock:
            return self._taken(command, step, peer)

    def _taken(self, command: Command, step: Dataset, peer: Peer) -> Answer:
        before = self._state(command.sop_instance)
        status = _text(step.get("PerformedProcedureStepStatus"))
        if command.kind == N_CREATE:
            if before is not None:
                return Answer(_DUPLICATE, "this step was created before")
            if status != "IN PROGRESS":
                return Answer(_INVALID, "a step begins IN PROGRESS")
            studies = [
                _text(item.get("StudyInstanceUID")) for item in step.get("ScheduledStepAttributesSequence") or ()
            ]
            if not any(studies):
                return Answer(_MISSING, "no Study Instance UID")
        else:
            if before is None:
                return Answer(_UNKNOWN, "this step is not known")
            if before["status"] in _FINAL:
                return Answer(_FAILURE, "the step may no longer be updated")
            studies, status = list(before["studies"]), status or str(before["status"])
        clock = _clock(step) if command.kind == N_CREATE else {}
        # What a message leaves out stays as it was; what it has takes the place of what was said before.
        series = _series(step) if before is None or "PerformedSeriesSequence" in step else before["series"]
        try:
            self._note(
                {
                    **clock, "step": command.sop_instance, "status": status, "studies": [s for s in studies if s],
                    "series": series, "calling": peer.calling,
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                }
            )  # fmt: skip
        except OutputError:
            return Answer(0x0213, "out of resources")
        return Answer(_SUCCESS)

    def _note(self, line: dict[str, Any]) -> None:
        if self._journal is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._journal = Journal(self._folder / "steps.jsonl", shared=True)  # one file for all processes
        self._journal.append(line)

    def _state(self, uid: str) -> dict[str, Any] | None:
        file = self._folder / "steps.jsonl"
        found = None
        for _, line in read_lines(file) if file.is_file() else ():
            if line.get("step") == uid:
                found = line
        return found


def _clock(step: Dataset) -> dict[str, int]:
    """Return how far a step that begins is from now, where that is far; in minutes, as nothing finer is to be kept."""
    when = [_text(step.get(f"PerformedProcedureStepStart{part}")) for part in ("Date", "Time")]
    minutes = minutes_from_now(when[0], when[1], _text(step.get("TimezoneOffsetFromUTC")))
    return {"clock_min": minutes} if abs(minutes) >= _FAR_MIN else {}


def _series(step: Dataset) -> dict[str, int]:
    """Return how many instances the scanner says each series has."""
    told: dict[str, int] = {}
    for series in step.get("PerformedSeriesSequence") or ():
        uid = _text(series.get("SeriesInstanceUID"))
        images = len(series.get("ReferencedImageSequence") or ())
        others = len(series.get("ReferencedNonImageCompositeSOPInstanceSequence") or ())
        if uid:
            told[uid] = images + others
    return told


def _text(value: object) -> str:
    return "" if value is None else str(value)
