"""STOW-RS: instances that come by HTTP go into the same holding as those of C-STORE, and are answered alike.

Source:
    DICOM PS3.18, 10.5 (store), I.2 (response); PS3.4, GG.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from isocenter.clinic.dicomweb.multipart import Body, Head, Parts, Tail, read_media_type
from isocenter.clinic.dimse.holding import OUT_OF_RESOURCES, Arrival, Holding, Refused
from isocenter.clinic.dimse.messages import C_STORE, Command
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import TransportError
from isocenter.data.images.quiet import quiet

__all__ = ["MOST_PARTS", "Stored", "Storing"]

MOST_PARTS: Final = 20_000
"""Instances of one request; its answer lists each."""
_MOST_META = 64 << 10
_NOT_UNDERSTOOD: Final = 0xC000
_BROKEN = (
    InvalidDicomError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, NotImplementedError,
    OverflowError, RecursionError, struct.error,
)  # fmt: skip
"""What pydicom raises on File Meta Information that is none."""


@dataclass(frozen=True)
class Stored:
    """What became of one part.

    Args:
        sop_class: Its SOP Class UID; "" where it could not be read.
        sop: Its SOP Instance UID; "" where it could not be read.
        status: 0, or the reason of failure.
        comment: The reason in words.
        path: Where it is retrieved, below the service; "" where it is not held.
    """

    sop_class: str
    sop: str
    status: int
    comment: str = ""
    path: str = ""


@dataclass
class Storing:
    """One request, fed as it arrives; call from one thread at a time.

    Args:
        holding: Where instances go.
        content_type: Of the request.
        study: Study Instance UID that all must have; "" for any.
        titles: Who sends (a name of at most 16 characters, as of an application entity), and to whom.

    Raises:
        TransportError: Not multipart/related of application/dicom with a boundary (415).
    """

    holding: Holding
    content_type: str
    study: str = ""
    titles: tuple[str, str] = ("STOW-RS", "")
    results: list[Stored] = field(default_factory=list)

    def __post_init__(self) -> None:
        media = read_media_type(self.content_type)
        inner = media.parameters.get("type", "").lower()
        if media.name != "multipart/related" or inner not in ("application/dicom", ""):
            raise TransportError('instances are sent as multipart/related; type="application/dicom"')
        self._parts = Parts(media.parameters.get("boundary", "").encode("latin-1", "replace"))
        self._part: _Part | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            TransportError: They are not of a multipart body, or there are too many parts.
        """
        for event in self._parts.feed(chunk):
            if isinstance(event, Head):
                if len(self.results) >= MOST_PARTS:
                    raise TransportError(f"more than {MOST_PARTS} instances in one request")
                self._part = _Part(self.holding, self.titles, event.headers.get("content-type", "application/dicom"))
            elif self._part is not None and isinstance(event, Body):
                self._part.write(event.data)
            elif self._part is not None and isinstance(event, Tail):
                self.results.append(self._part.finish(self.study))
                self._part = None

    def end(self) -> None:
        """Say that nothing follows.

        Raises:
            TransportError: The body was cut off; what came whole before is held.
        """
        self._parts.end()

    def abandon(self) -> None:
        """Forget the part that did not come whole."""
        if self._part is not None:
            self._part.abandon()
            self._part = None

    @property
    def code(self) -> int:
        """The status of the answer: 200 all, 202 some, 409 none, 503 none for want of room, 400 nothing came."""
        failed = [one for one in self.results if one.status]
        if not self.results:
            return 400
        if not failed:
            return 200
        if len(failed) < len(self.results):
            return 202
        return 503 if all(one.status == OUT_OF_RESOURCES for one in failed) else 409

    def answer(self, root: str) -> dict[str, Any]:
        """Return the answer in the DICOM JSON model.

        Args:
            root: Address of the service.
        """
        told: dict[str, Any] = {}
        good = [_item(one, root) for one in self.results if not one.status]
        bad = [_item(one, root) for one in self.results if one.status]
        if self.study and good:
            told["00081190"] = {"vr": "UR", "Value": [f"{root}/studies/{self.study}"]}
        if bad:
            told["00081198"] = {"vr": "SQ", "Value": bad}
        if good:
            told["00081199"] = {"vr": "SQ", "Value": good}
        return told


def _item(one: Stored, root: str) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for tag, uid in (("00081150", one.sop_class), ("00081155", one.sop)):
        if uid:
            item[tag] = {"vr": "UI", "Value": [uid]}
    if one.path:
        item["00081190"] = {"vr": "UR", "Value": [f"{root}/{one.path}"]}
    if one.status:
        item["00081197"] = {"vr": "US", "Value": [one.status]}
    return item


class _Part:
    """One instance on its way in: its File Meta Information is read and made anew, its data set goes to the holding."""

    def __init__(self, holding: Holding, titles: tuple[str, str], content_type: str) -> None:
        self._holding, self._titles = holding, titles
        self._head = bytearray()
        self._arrival: Arrival | None = None
        self._failed: Stored | None = None
        self._command = Command(C_STORE, 0, "", "", has_data=True)
        if content_type.partition(";")[0].strip().lower() != "application/dicom":
            self._failed = Stored("", "", _NOT_UNDERSTOOD, "a part that is not application/dicom")

    def write(self, data: bytes) -> None:
        """Take the next bytes; what can't be taken is passed over, and told at the end."""
        if self._failed is not None:
            return
        try:
            if self._arrival is None:
                self._head += data
                length = _meta_length(self._head)
                if length is None or len(self._head) < length:
                    return
                self._arrival = self._begun(length)
                data = bytes(self._head[length:])
                self._head = bytearray()
            if data:
                self._arrival.write(memoryview(data))
        except Refused as refused:
            self._fail(refused)

    def finish(self, study: str) -> Stored:
        """Hold it, or say why not."""
        if self._failed is None and self._arrival is None:
            self._failed = Stored("", "", _NOT_UNDERSTOOD, "a part that is no DICOM file")
        if self._failed is None and self._arrival is not None:
            try:
                held = self._arrival.finish(study)
                path = f"studies/{held.study}/series/{held.series}/instances/{held.sop_uid}"
                return Stored(self._command.sop_class, held.sop_uid, 0, path=path)
            except Refused as refused:
                self._fail(refused)
        return self._failed or Stored("", "", _NOT_UNDERSTOOD)

    def abandon(self) -> None:
        """Forget it."""
        if self._arrival is not None:
            self._arrival.abandon()

    def _begun(self, length: int) -> Arrival:
        with quiet():
            try:
                # Only group 2 is read: what follows may be deflated, or anything else.
                meta = read_dataset(BytesIO(bytes(self._head[132:length])), False, True)
                sop_class, sop, syntax = (
                    str(meta.get(word) or "")
                    for word in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
                )
            except _BROKEN as error:
                raise Refused(_NOT_UNDERSTOOD, "File Meta Information that can't be read") from error
        if not (is_uid(sop_class) and is_uid(sop) and is_uid(syntax)):
            raise Refused(_NOT_UNDERSTOOD, "File Meta Information without its UIDs")
        if not UID(syntax).is_private and not UID(syntax).is_transfer_syntax:
            raise Refused(_NOT_UNDERSTOOD, "File Meta Information whose Transfer Syntax UID names something else")
        self._command = Command(C_STORE, 0, sop_class, sop, has_data=True)
        return self._holding.arrival(self._command, syntax, *self._titles)

    def _fail(self, refused: Refused) -> None:
        self.abandon()
        self._head = bytearray()
        if refused.status == OUT_OF_RESOURCES:
            self._holding.hindered()
        command = self._command
        self._failed = Stored(command.sop_class, command.sop_instance, refused.status, refused.comment)


def _meta_length(head: bytearray) -> int | None:
    """Return the length of preamble and File Meta Information; None where more is needed to know.

    Raises:
        Refused: It is no DICOM file.
    """
    if len(head) < 144:
        return None
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\0\0\0UL\x04\0":
        raise Refused(_NOT_UNDERSTOOD, "a part that is no DICOM file")
    length = 144 + int.from_bytes(head[140:144], "little")
    if length > _MOST_META:
        raise Refused(_NOT_UNDERSTOOD, "File Meta Information without end")
    return length
