"""The folder that instances arrive in: STUDY/SERIES/INSTANCE.dcm, each there whole or not at all.

Beside them, `.received` of a study says how many bytes every instance has. An instance is not asked for again where its
file is there with that many bytes, or where whoever fetched it has taken it away (`drop_taken`).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import DataError, TransportError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.images.quiet import quiet

__all__ = ["Staging", "drop_taken", "forget_taken"]

_LIST = ".received"
_TAKEN = "taken"
_GONE = -1
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
        """Tell whether an instance is there, whole, or was taken away from here."""
        size = self._of_study(study_uid).get(sop_uid)
        if size == _GONE:
            return True
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
                        if is_uid(sop) and (size.isdigit() or size == _TAKEN):
                            sizes[sop] = _GONE if size == _TAKEN else int(size)
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


def drop_taken(folder: Path, study_uid: str, instances: Sequence[tuple[str, str]]) -> None:
    """Remove instances that stand elsewhere by now, and note that, so that they are not asked for again.

    The note comes before the removal and is on the disk by then: cut off between them, a file stays, and nothing else.

    Args:
        folder: That they arrived in.
        study_uid: Of the study.
        instances: Series and SOP Instance UIDs.

    Raises:
        OutputError: The folder can't be written.
    """
    place = folder / study_uid
    try:
        with (place / _LIST).open("a", encoding="ascii") as stream:
            stream.writelines(f"{sop} {_TAKEN}\n" for _, sop in instances)
            stream.flush()
            os.fsync(stream.fileno())
        for series, sop in instances:
            (place / series / f"{sop}.dcm").unlink(missing_ok=True)
        for series in {series for series, _ in instances}:
            if (place / series).is_dir() and not any((place / series).iterdir()):
                (place / series).rmdir()
    except OSError as error:
        raise explain_os_error(error, place, doing="write") from error


def forget_taken(folder: Path) -> None:
    """Forget what was taken away: it is asked for again.

    Raises:
        OutputError: The folder can't be written.
    """
    try:
        for listed in folder.glob(f"*/{_LIST}"):
            lines = listed.read_text(encoding="ascii", errors="replace").splitlines()
            gone = {line.partition(" ")[0] for line in lines if line.endswith(f" {_TAKEN}")}
            with atomic_path(listed) as temporary:
                temporary.write_text("".join(f"{x}\n" for x in lines if x.partition(" ")[0] not in gone), "ascii")
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error


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
