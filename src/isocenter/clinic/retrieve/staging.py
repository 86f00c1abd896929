"""The folder that instances arrive in: STUDY/SERIES/INSTANCE.dcm, each there whole or not at all.

Beside them, `received.txt` of a study says how many bytes every instance has. An instance is not asked for again where
its file is there with that many bytes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import DataError, TransportError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.quiet import quiet

__all__ = ["Staging"]

_LIST = "received.txt"
_PARTIAL = ".partial-"


class Staging:
    """One folder that studies arrive in; safe to be written from several threads.

    Args:
        folder: Made where it is not there.

    Attributes:
        fetched: Instances written.
        bytes: Written.

    Raises:
        OutputError: The folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.fetched = 0
        self.bytes = 0
        self._known: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(f"{_PARTIAL}*"):
                left.unlink()
        except OSError as error:
            raise explain_os_error(error, self.folder, doing="write") from error

    def has(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Tell whether an instance is there, whole."""
        size = self._of_study(study_uid).get(sop_uid)
        file = self._file(study_uid, series_uid, sop_uid)
        return size is not None and file.is_file() and file.stat().st_size == size

    def store(self, chunks: Iterable[bytes], study_uid: str, wanted: frozenset[str] | None = None) -> str:
        """Write an instance as it arrives, and keep it if it is what it should be.

        Args:
            chunks: Of a DICOM file with its preamble.
            study_uid: The study that it must be of.
            wanted: SOP Instance UIDs of which it must be one; None for any.

        Returns:
            Its SOP Instance UID.

        Raises:
            TransportError: What arrived is no DICOM file, or another one than was asked for.
            OutputError: It can't be written.
        """
        temporary = self.folder / f"{_PARTIAL}{secrets.token_hex(8)}"
        try:
            try:
                size = 0
                with temporary.open("wb") as stream:
                    for chunk in chunks:
                        stream.write(chunk)
                        size += len(chunk)
                study, series, sop = _identity(temporary)
                if study != study_uid or (wanted is not None and sop not in wanted):
                    raise TransportError("the other system sent an instance that was not asked for")
                final = self._file(study, series, sop)
                final.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(final)
                self._note(study, sop, size)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.folder, doing="write") from error
        return sop

    def _file(self, study_uid: str, series_uid: str, sop_uid: str) -> Path:
        return self.folder / study_uid / series_uid / f"{sop_uid}.dcm"

    def _of_study(self, study_uid: str) -> dict[str, int]:
        with self._lock:
            if study_uid not in self._known:
                sizes = {}
                listed = self.folder / study_uid / _LIST
                if listed.is_file():
                    for line in listed.read_text(encoding="ascii", errors="replace").splitlines():
                        sop, _, size = line.partition(" ")
                        if is_uid(sop) and size.isdigit():
                            sizes[sop] = int(size)
                self._known[study_uid] = sizes
            return self._known[study_uid]

    def _note(self, study_uid: str, sop_uid: str, size: int) -> None:
        known = self._of_study(study_uid)
        with self._lock:
            with (self.folder / study_uid / _LIST).open("a", encoding="ascii") as stream:
                stream.write(f"{sop_uid} {size}\n")
            known[sop_uid] = size
            self.fetched += 1
            self.bytes += size


@quiet()
def _identity(file: Path) -> tuple[str, str, str]:
    """Return the three UIDs of a file.

    Raises:
        TransportError: It is no DICOM file, or has UIDs that are none.
    """
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        found = tuple(str(header.get(k) or "") for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    except (InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, EOFError, DataError) as error:
        raise TransportError("the other system sent what is no DICOM file") from error
    if not all(is_uid(uid) for uid in found):
        raise TransportError("the other system sent an instance with UIDs that are none")
    return found[0], found[1], found[2]
