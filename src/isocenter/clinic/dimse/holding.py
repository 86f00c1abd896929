"""Where received instances are held: each there whole and on the disk, or not at all.

    spool/        instances on their way in
    held/aa/STUDY/INSTANCE.dcm    by hashes of their UIDs, which come from outside and name no file
    journal/      what was received, by process

An instance is written under a temporary name with a seal in its File Meta Information (private, PS3.10 table 7.1-1):
the length and the hash of its data set. Then it is linked to its own name, which fails where that is taken, and
synchronised with one call; only then the sender is told. A file without a seal that fits was never answered for, so
`recover` removes it. The same instance again is answered alike; another of its UID is refused.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pydicom.filereader

from isocenter.clinic.dimse.clock import minutes_from_now
from isocenter.clinic.dimse.journal import Journal, read_lines
from isocenter.clinic.dimse.messages import Command
from isocenter.clinic.dimse.unpacked import unpacks_within
from isocenter.core.errors import DataError, OutputError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.dicom.header import Wanted, scan, scan_head

__all__ = [
    "HINDERED",
    "OUT_OF_RESOURCES",
    "QUEUE_FULL",
    "Arrival",
    "Held",
    "Holding",
    "Limits",
    "Recovered",
    "Refused",
    "dataset_of",
    "place_of",
    "recover",
]

_WANTED: Wanted = {
    0x00080005: ("SpecificCharacterSet", "text"),
    0x00080012: ("InstanceCreationDate", "text"),
    0x00080013: ("InstanceCreationTime", "text"),
    0x00080016: ("SOPClassUID", "text"),
    0x00080018: ("SOPInstanceUID", "text"),
    0x00080060: ("Modality", "text"),
    0x00080201: ("TimezoneOffsetFromUTC", "text"),
    0x0020000D: ("StudyInstanceUID", "text"),
    0x0020000E: ("SeriesInstanceUID", "text"),
}
_IN_MEMORY = 1 << 22
_DEFLATED: Final = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95")
_MOST_UNPACKED: Final = 1 << 29
"""Whoever reads a deflated instance holds all of it in memory."""
_HEAD = 1 << 15
_UID = frozenset("0123456789.")
_COUNT_EVERY_S = 30.0
_SEAL = struct.Struct("<Q32s")
_UNSURE_S = 600.0
_FRESH_S = 60.0
_SETTLE_S = 5.0

HINDERED: Final = "hindered"
"""A file whose time says when a sender was last turned away for want of room, or found nobody."""

QUEUE_FULL: Final = "queue-full"
"""A file that the workflow keeps fresh while more studies wait than may; nothing is taken then."""

OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
OTHER_CONTENT: Final = 0xC111
"""Refused: an instance of this UID with other content is held. PS3.7 has no status for it in C-STORE."""


class Refused(Exception):
    """An instance that is not taken; the status and the comment go to the sender."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment


@dataclass(frozen=True)
class Limits:
    """When instances are refused rather than lost.

    Args:
        quota_bytes: Most that is held; None for no limit.
        reserve_bytes: Room on the disk that is never used.
        instance_bytes: Longest instance.
    """

    quota_bytes: int | None = None
    reserve_bytes: int = 256 << 20
    instance_bytes: int = 8 << 30


@dataclass(frozen=True)
class Held:
    """An instance that is held.

    Args:
        sop_uid: Its SOP Instance UID.
        sha256: Of its data set as it came.
        again: Whether it was held before.
        study: Its Study Instance UID.
        series: Its Series Instance UID.
    """

    sop_uid: str
    sha256: str
    again: bool
    study: str = ""
    series: str = ""


def place_of(folder: Path, study_uid: str, sop_uid: str) -> Path:
    """Return where an instance is held."""
    study, sop = (hashlib.blake2b(uid.encode(), digest_size=16).hexdigest() for uid in (study_uid, sop_uid))
    return folder / "held" / study[:2] / study / f"{sop}.dcm"


@dataclass(eq=False)
class Holding:
    """A folder of received instances, as one process sees it; safe for threads.

    Args:
        folder: Made where it is not there, readable by us alone.
        implementation: Our implementation class UID and version name, for File Meta Information.
        limits: When to refuse.

    Raises:
        OutputError: It can't be written.
    """

    folder: Path
    implementation: tuple[str, str]
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        try:
            for name in ("", "spool", "held", "journal"):
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.folder, doing="write") from error
        self._journal = self._new_journal()
        self._lock = threading.Lock()
        self._room = 0
        self._looked = self._counted = -_COUNT_EVERY_S
        self._used = 0

    def _new_journal(self) -> Journal:
        return Journal(self.folder / "journal" / f"{time.time_ns():020d}-{os.getpid()}.jsonl")

    def hindered(self) -> None:
        """Remember that a sender may just have been turned away: its silence does not say that it has finished.

        The time of a file is set, which a full disk allows.
        """
        try:
            os.utime(self.folder / HINDERED)
        except OSError:
            with suppress(OSError):
                (self.folder / HINDERED).touch(mode=0o600)

    def note(self, entry: Mapping[str, object]) -> None:
        """Write a line into the journal; it is on the disk when this returns.

        Raises:
            OutputError: It can't be; the next line goes to a new file.
        """
        journal = self._journal
        try:
            journal.append(entry)
        except OutputError:
            with self._lock:
                if self._journal is journal:
                    self._journal = self._new_journal()
            raise

    def arrival(self, command: Command, transfer_syntax: str, calling: str, called: str) -> Arrival:
        """Begin to take an instance."""
        return Arrival(self, command, transfer_syntax, (calling, called))

    def take_room(self, size: int) -> None:
        """Refuse what there is no room for.

        Args:
            size: Bytes about to be written.

        Raises:
            Refused: The quota is used up, or the disk is.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._looked > 1 or self._room < size:
                if self._queue_is_full():
                    raise Refused(OUT_OF_RESOURCES, "too many studies wait; send again later")
                self._room, self._looked = self._measure(now), now
            if self._room < size:
                raise Refused(OUT_OF_RESOURCES, "no room; send again later")
            self._room -= size
            self._used += size

    def _queue_is_full(self) -> bool:
        """Tell whether the workflow says so, and lately: one that is down is no reason to refuse."""
        try:
            return time.time() - (self.folder / QUEUE_FULL).stat().st_mtime < _FRESH_S
        except OSError:
            return False

    def _measure(self, now: float) -> int:
        """Return the room that is left. All that is held is counted twice a minute, what we add ourselves always."""
        try:
            disk = os.statvfs(self.folder)
            free = disk.f_bavail * disk.f_frsize - self.limits.reserve_bytes
            quota = self.limits.quota_bytes
            if quota is None:
                return free
            if now - self._counted >= _COUNT_EVERY_S:
                self._used = sum(file.stat().st_size for file in (self.folder / "held").rglob("*.dcm"))
                self._counted = now
            return min(free, quota - self._used)
        except OSError as error:
            raise Refused(OUT_OF_RESOURCES, "the store can't be looked at") from error


class Arrival:
    """An instance on its way in.

    Args:
        holding: Where it goes.
        command: The C-STORE request.
        transfer_syntax: Of its presentation context.
        titles: Calling and called application entity.

    Attributes:
        ahead_min: How many minutes after now its header says that it was made; 0 where it does not.
    """

    def __init__(self, holding: Holding, command: Command, transfer_syntax: str, titles: tuple[str, str]) -> None:
        self._holding, self._command, self._titles, self._syntax = holding, command, titles, transfer_syntax
        self._meta, self._seal_at = _file_meta(command, transfer_syntax, titles, holding.implementation)
        # One buffer and not a list of pieces: they may be of a byte each, or of none.
        self._waiting = bytearray()
        self._size = self._length = self.ahead_min = 0
        self._digest = hashlib.sha256()
        self._head = b""
        self._descriptor: int | None = None
        self._temporary = holding.folder / "spool" / secrets.token_hex(12)

    def write(self, piece: memoryview) -> None:
        """Take the next bytes of the data set.

        Raises:
            Refused: It is too long, or there is no room.
        """
        self._size += len(piece)
        if self._size > self._holding.limits.instance_bytes:
            raise Refused(OUT_OF_RESOURCES, "longer than what is taken")
        self._digest.update(piece)
        self._waiting += piece
        if len(self._waiting) > _IN_MEMORY:
            self._spill()

    def finish(self, study: str = "") -> Held:
        """Hold the instance: it is on the disk, and in the journal, when this returns.

        Args:
            study: Study Instance UID that it must have; "" for any.

        Raises:
            Refused: It is not what was announced, another of its UID is held, or there is no room.
        """
        try:
            return self._finish(study)
        except (OutputError, OSError) as error:
            raise Refused(OUT_OF_RESOURCES, "can't be written; send again later") from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget what came."""
        self._waiting = bytearray()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._temporary.unlink(missing_ok=True)

    def _spill(self) -> None:
        """Write what is in memory.

        Raises:
            Refused: There is no room.
        """
        self._holding.take_room(len(self._waiting))
        content = bytes(self._waiting) if self._descriptor is not None else self._meta + self._waiting
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._temporary, flags, 0o600)
            self._head = self._head or content[:_HEAD]
            self._length += len(content)
            write_all(self._descriptor, content)
        except OSError as error:
            raise Refused(OUT_OF_RESOURCES, "can't be written; send again later") from error
        self._waiting = bytearray()

    def _finish(self, wanted: str) -> Held:
        holding, command = self._holding, self._command
        self._spill()
        study, series, modality = self._checked()
        if wanted and study != wanted:
            raise Refused(DOES_NOT_MATCH, "Study Instance UID of request and data set differ")
        place = place_of(holding.folder, study, command.sop_instance)
        digest = self._digest.hexdigest()
        again = place.exists() or not self._link(place)
        found = _settled_sha256(place) if again else digest
        if found is None:
            raise Refused(OUT_OF_RESOURCES, "can't be written; send again later")
        if found != digest:
            self._note(study, series, modality, digest, conflict=True)
            raise Refused(OTHER_CONTENT, "another object of this SOP Instance UID is held")
        self._note(study, series, modality, digest, again=again)
        return Held(command.sop_instance, digest, again, study, series)

    def _link(self, place: Path) -> bool:
        """Give the instance its name; return whether that was free."""
        if self._descriptor is None:
            raise OutputError("nothing was written", source=self._holding.folder)
        try:
            os.pwrite(self._descriptor, _seal(self._size, self._digest.digest()), self._seal_at)
            try:
                os.link(self._temporary, place)
            except FileNotFoundError:
                _make_folder(self._holding.folder / "held", place.parent)
                os.link(self._temporary, place)
        except FileExistsError:
            return False
        except OSError as error:
            raise explain_os_error(error, self._holding.folder, doing="write") from error
        try:
            # One call for the contents and, on the file systems of Linux, for the name: it is in the same transaction.
            os.fsync(self._descriptor)
        except OSError as error:
            _take_back(place)
            raise explain_os_error(error, self._holding.folder, doing="write") from error
        return True

    def _checked(self) -> tuple[str, str, str]:
        """Return study, series and modality of the instance, which must be the one announced."""
        if self._syntax in _DEFLATED and not unpacks_within(self._temporary, len(self._meta), _MOST_UNPACKED):
            raise Refused(NOT_UNDERSTOOD, "deflated data that can't be unpacked, or to too much")
        try:
            header = scan_head(self._temporary, "the instance", self._head, self._length, wanted=_WANTED)
        except DataError as error:
            raise Refused(NOT_UNDERSTOOD, "the data set can't be read") from error
        study, series = header.text("StudyInstanceUID"), header.text("SeriesInstanceUID")
        if header.text("SOPInstanceUID") != self._command.sop_instance:
            raise Refused(DOES_NOT_MATCH, "SOP Instance UID of command and data set differ")
        if header.text("SOPClassUID") != self._command.sop_class:
            raise Refused(DOES_NOT_MATCH, "SOP Class UID of command and data set differ")
        for uid in (study, series, self._command.sop_instance):
            if not uid or len(uid) > 64 or not _UID.issuperset(uid):
                raise Refused(NOT_UNDERSTOOD, "a UID of study, series or instance is missing or none")
        made_on, made_at = header.text("InstanceCreationDate"), header.text("InstanceCreationTime")
        self.ahead_min = max(0, minutes_from_now(made_on, made_at, header.text("TimezoneOffsetFromUTC")))
        return study, series, header.text("Modality")

    def _note(
        self, study: str, series: str, modality: str, digest: str, *, again: bool = False, conflict: bool = False
    ) -> None:
        calling, called = self._titles
        entry: dict[str, object] = {
            "study": study, "series": series, "sop": self._command.sop_instance, "class": self._command.sop_class,
            "syntax": self._syntax, "modality": modality, "sha256": digest, "bytes": self._size,
            "calling": calling, "called": called, "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }  # fmt: skip
        if again:
            entry["again"] = True
        if conflict:
            entry["conflict"] = True
        self._holding.note(entry)


def _file_meta(
    command: Command, syntax: str, titles: tuple[str, str], implementation: tuple[str, str]
) -> tuple[bytes, int]:
    """Write preamble and File Meta Information (PS3.10 section 7.1); return them, and where the seal goes."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) % 2)
        head = b"\x02\x00" + number.to_bytes(2, "little") + vr
        if vr == b"OB":
            return head + b"\0\0" + len(value).to_bytes(4, "little") + value
        return head + len(value).to_bytes(2, "little") + value

    uid, version = implementation
    calling, called = (title.encode("ascii", "replace") for title in titles)
    body = b"".join(
        (
            element(0x0001, b"OB", b"\0\1"),
            element(0x0002, b"UI", command.sop_class.encode()),
            element(0x0003, b"UI", command.sop_instance.encode()),
            element(0x0010, b"UI", syntax.encode()),
            element(0x0012, b"UI", uid.encode()),
            element(0x0013, b"SH", version.encode()),
            element(0x0016, b"AE", calling),
            element(0x0018, b"AE", called) if called else b"",  # who sends by STOW-RS calls no title
            element(0x0100, b"UI", uid.encode()),
            element(0x0102, b"OB", bytes(_SEAL.size)),  # the last element: the seal ends where the data set begins
        )
    )
    length = element(0x0000, b"UL", len(body).to_bytes(4, "little"))
    meta = b"\0" * 128 + b"DICM" + length + body
    return meta, len(meta) - _SEAL.size


def _seal(size: int, digest: bytes) -> bytes:
    return _SEAL.pack(size, digest)


def _make_folder(top: Path, folder: Path) -> None:
    """Make a folder of a study whose name outlasts a power cut."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for made in (folder, folder.parent, top):
            _synchronise(made)
    except OSError:
        for made in (folder, folder.parent):  # found there the next time, they would be taken for synchronised
            with suppress(OSError):
                made.rmdir()
        raise


def _take_back(place: Path) -> None:
    """Take the name from an instance whose contents may not be on the disk.

    An error of the disk is told once: who found the instance there later, and synchronised it again, would be told that
    all is well.
    """
    with suppress(OSError):
        place.unlink()
        _synchronise(place.parent)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settled_sha256(place: Path) -> str | None:
    """Return the hash of an instance that is held; None where it is no longer, as the disk did not take it.

    It may have been linked a moment ago, by somebody who still waits for the disk: then it has its temporary name too,
    which goes last.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (told := os.fstat(descriptor)).st_nlink > 1 and 0 <= time.time() - told.st_mtime < _SETTLE_S:
                time.sleep(0.01)
            os.fsync(descriptor)
            found = dataset_sha256(place)
            return found if os.path.samestat(told, place.stat()) else None
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None


def _meta_length(head: bytes) -> int:
    """Return the length of preamble and File Meta Information of a file that we wrote."""
    return 132 + 12 + int.from_bytes(head[140:144], "little")


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of some bytes: `os.write` may write less."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def dataset_of(file: Path) -> bytes:
    """Return the data set of a held instance, as it came."""
    content = file.read_bytes()
    return content[_meta_length(content) :]


def dataset_sha256(file: Path) -> str:
    """Return the hash of the data set of a held instance, as it came."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        stream.seek(_meta_length(stream.read(144)))
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Recovered:
    """What was found at the start.

    Args:
        unfinished: Instances on their way in, removed.
        broken: Files that a power cut left incomplete, removed: they had not been answered for.
        noted: Instances that no line of the journal spoke of; there is one now.
    """

    unfinished: int
    broken: int
    noted: int


def recover(folder: Path) -> Recovered:
    """Put a folder of received instances in order, while nothing is received.

    Args:
        folder: Of a `Holding`.

    Raises:
        OutputError: It can't be written.
    """
    try:
        spool, held, journals = (folder / name for name in ("spool", "held", "journal"))
        unfinished = list(spool.iterdir()) if spool.is_dir() else []
        for file in unfinished:
            file.unlink(missing_ok=True)
        known = {
            place_of(folder, str(entry.get("study")), str(entry.get("sop")))
            for journal in (sorted(journals.glob("*.jsonl")) if journals.is_dir() else ())
            for _, entry in read_lines(journal)
            if not entry.get("conflict")
        }
        # Only what came last can have been caught by a power cut.
        files = {file: file.stat().st_mtime for file in held.rglob("*.dcm")}
        since = max(files.values(), default=0.0) - _UNSURE_S
        broken = [
            file for file, changed in files.items() if (changed >= since or file not in known) and not _whole(file)
        ]
        for file in broken:
            file.unlink()
        lost = sorted(file for file in files if file not in known and file not in set(broken))
        if lost:
            journal = Journal(journals / f"{time.time_ns():020d}-{os.getpid()}-recovered.jsonl")
            for file in lost:
                journal.append(_line_of(file))
            journal.close()
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    return Recovered(len(unfinished), len(broken), len(lost))


def _whole(file: Path) -> bool:
    """Tell whether an instance is what its seal says."""
    with file.open("rb") as stream:
        head = stream.read(144)
        if len(head) < 144 or head[128:132] != b"DICM":
            return False
        at = _meta_length(head)
        stream.seek(at - _SEAL.size)
        seal = stream.read(_SEAL.size)
        if len(seal) < _SEAL.size:
            return False
        size, digest = _SEAL.unpack(seal)
    return file.stat().st_size == at + int(size) and dataset_sha256(file) == bytes(digest).hex()


def _line_of(file: Path) -> dict[str, object]:
    """Return the journal's line of an instance, from the file."""
    header = scan(file, "a held instance", wanted=_WANTED)
    meta = pydicom.filereader.read_file_meta_info(file)
    return {
        "study": header.text("StudyInstanceUID"), "series": header.text("SeriesInstanceUID"),
        "sop": header.text("SOPInstanceUID"), "class": header.text("SOPClassUID"),
        "syntax": header.transfer_syntax_uid, "modality": header.text("Modality"), "sha256": dataset_sha256(file),
        "bytes": len(dataset_of(file)), "calling": str(meta.get("SourceApplicationEntityTitle", "")),
        "called": str(meta.get("ReceivingApplicationEntityTitle", "")),
        "at": datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="milliseconds"), "recovered": True,
    }  # fmt: skip
