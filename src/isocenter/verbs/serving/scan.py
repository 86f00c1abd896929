"""Looking through a folder: which files belong to which study, from their headers alone.

A file's header is read once: what was found is kept in the work folder by name, size and time, so that a server that
starts again asks the disk for names alone. DICOM files of one Study Instance UID and one patient are a study; any other
file is one of its own, as nothing says what belongs together.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import atomic_path, make_parent
from isocenter.data.images.dicom.header import WANTED, Header, scan_head
from isocenter.data.images.dicom.identity import patient_key
from isocenter.data.images.discover import sniff_bytes
from isocenter.data.images.quiet import quiet
from isocenter.verbs.serving.identifiers import identifier

__all__ = ["FoundFile", "FoundStudy", "Scan"]

_HEAD_BYTES = 1 << 13
_FIRST = 20
_PUBLISH_SECONDS = 0.5
_EXTRA = {
    0x00080020: ("StudyDate", "text"),
    0x00080050: ("AccessionNumber", "text"),
    0x00081030: ("StudyDescription", "text"),
    0x00080005: ("SpecificCharacterSet", "text"),
}
_WANTED = {**WANTED, **_EXTRA}
_KINDS = ("dicom", "nifti", "nrrd", "metaimage", "picture")
_NOT_IMAGES = ("SR", "KO", "PR", "RTSTRUCT", "RTPLAN", "RTRECORD", "SEG", "REG", "DOC", "PLAN", "AU")
_CACHE_FORM = 1


@dataclass(frozen=True)
class FoundFile:
    """A file that can be read.

    Args:
        name: Relative to the folder, with forward slashes.
        size: In bytes.
        time_ns: When it was changed.
        kind: What it is.
        study: Study it is of.
        series: Series Instance UID; its own name where it has none.
        patient_key: Pseudonym.
        modality: DICOM modality, "" where not known.
        date: YYYY-MM-DD, "" where not known.
        description: Of the study.
        accession: Accession number, "" where there is none.
    """

    name: str
    size: int
    time_ns: int
    kind: str
    study: str
    series: str
    patient_key: str
    modality: str = ""
    date: str = ""
    description: str = ""
    accession: str = ""


@dataclass
class FoundStudy:
    """Files of one study, and what they say of it."""

    id: str
    patient_key: str
    files: list[FoundFile] = field(default_factory=list)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of its images, sorted."""
        return tuple(sorted({f.modality for f in self.files if f.modality}))

    @property
    def series(self) -> int:
        """Number of series."""
        return len({f.series for f in self.files})

    def first(self, what: str) -> str:
        """Return the first of its files' values that is not empty."""
        return next((str(getattr(f, what)) for f in self.files if getattr(f, what)), "")


class Scan:
    """The files of a folder, looked through by a thread of its own; see the module.

    Args:
        root: The folder, or one file.
        cache: File that keeps what was found; None for none.
        leave_out: Folders that are not looked into.
    """

    def __init__(self, root: Path, *, cache: Path | None = None, leave_out: tuple[Path, ...] = ()) -> None:
        self.root = root
        self._cache = cache
        self._leave_out = frozenset(os.path.realpath(p) for p in leave_out)
        self._lock = threading.Lock()
        self._studies: Mapping[str, FoundStudy] = {}
        self._known: dict[str, FoundFile | None] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._last = 0.0
        self._took = 0.0
        self.not_read = 0

    @property
    def running(self) -> bool:
        """Whether it is being looked through now."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def complete(self) -> bool:
        """Whether it was looked through once."""
        return self._last > 0.0

    @property
    def studies(self) -> Mapping[str, FoundStudy]:
        """What was found so far."""
        return self._studies

    def start(self) -> None:
        """Look through the folder, unless that is going on."""
        with self._lock:
            if self.running or self._stop.is_set():
                return
            self._thread = threading.Thread(target=self._run, name="isocenter-scan", daemon=True)
            self._thread.start()

    def refresh(self, *, after_seconds: float = 30.0) -> None:
        """Look again where the last look is long ago; a large folder is looked at more rarely."""
        if time.monotonic() - self._last > max(after_seconds, 20 * self._took):
            self.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has been looked through; tell whether it was."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self.running

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self.wait(10.0)

    def _run(self) -> None:
        begin = time.monotonic()
        if not self._known:
            self._load()
        seen: set[str] = set()
        new, publish_at = 0, time.monotonic() + _PUBLISH_SECONDS
        with quiet():
            for path, name, size, time_ns in _walk(self.root, self._leave_out):
                if self._stop.is_set():
                    return
                seen.add(name)
                if self._stamps.get(name) == (size, time_ns):
                    continue
                self._known[name] = self._look(path, name, size, time_ns)
                self._stamps[name] = (size, time_ns)
                new += 1
                if new == _FIRST or time.monotonic() > publish_at:
                    publish_at = self._publish()
        gone = set(self._stamps) - seen
        for name in gone:
            del self._stamps[name]
            self._known.pop(name, None)
        self._publish()
        self._last, self._took = time.monotonic(), time.monotonic() - begin
        if new or gone:
            self._save()

    def _look(self, path: Path, name: str, size: int, time_ns: int) -> FoundFile | None:
        try:
            with path.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
            kind = sniff_bytes(head, size)
            if kind not in _KINDS:
                return None
            if kind != "dicom":
                key = identifier("file", name)
                return FoundFile(name, size, time_ns, kind, identifier("study", "file", name), name, key)
            return self._of_header(scan_head(path, name, head, size, wanted=_WANTED), time_ns)
        except (DataError, OSError):
            # Said when its study is opened, if it is of one; a list is no place for it.
            self.not_read += 1
            return None

    def _of_header(self, header: Header, time_ns: int) -> FoundFile | None:
        modality = header.text("Modality")
        study_uid = header.text("StudyInstanceUID")
        if not study_uid and not header.has_pixels:
            return None
        parts = (header.text("PatientID"), header.text("IssuerOfPatientID"), study_uid)
        if parts not in self._keys:
            self._keys[parts] = patient_key([header])[0]
        key = self._keys[parts]
        date = header.text("StudyDate")
        return FoundFile(
            name=header.name,
            size=header.file_bytes,
            time_ns=time_ns,
            kind="dicom",
            study=identifier("study", study_uid or f"file {header.name}", key),
            series=header.text("SeriesInstanceUID") or header.name,
            patient_key=key,
            modality="" if modality in _NOT_IMAGES else modality,
            date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 and date.isdecimal() else "",
            description=_decoded(header, "StudyDescription"),
            accession=_decoded(header, "AccessionNumber"),
        )

    def _publish(self) -> float:
        """Show what was found so far; return when to do so again, rarer the longer it takes."""
        begin = time.monotonic()
        studies: dict[str, FoundStudy] = {}
        for name in sorted(self._known):
            found = self._known[name]
            if found is not None:
                studies.setdefault(found.study, FoundStudy(found.study, found.patient_key)).files.append(found)
        self._studies = studies
        now = time.monotonic()
        return now + max(_PUBLISH_SECONDS, 10 * (now - begin))

    def _load(self) -> None:
        if self._cache is None or not self._cache.is_file():
            return
        try:
            content: dict[str, Any] = json.loads(self._cache.read_text("utf-8"))
            if content["form"] != _CACHE_FORM:
                return
            for row in content["files"]:
                name, size, time_ns, *rest = row
                self._stamps[name] = (size, time_ns)
                self._known[name] = FoundFile(name, size, time_ns, *rest) if rest else None
        except (OSError, ValueError, KeyError, TypeError):
            # A cache is never needed: what can't be read of it is looked for again.
            self._stamps.clear()
            self._known.clear()

    def _save(self) -> None:
        if self._cache is None:
            return
        rows = []
        for name, stamp in self._stamps.items():
            f = self._known.get(name)
            more = () if f is None else (
                f.kind, f.study, f.series, f.patient_key, f.modality, f.date, f.description, f.accession
            )  # fmt: skip
            rows.append([name, *stamp, *more])
        try:
            make_parent(self._cache)
            with atomic_path(self._cache) as temporary:
                temporary.write_text(json.dumps({"form": _CACHE_FORM, "files": rows}), "utf-8")
        except (DataError, OSError):
            self._cache = None  # a full disk: the next start looks again


def _decoded(header: Header, keyword: str) -> str:
    """Return a text in the character set that its file names; what can't be told apart is left as it is."""
    text = header.text(keyword)
    if text.isascii():
        return text
    sets = header.texts("SpecificCharacterSet")
    encoding = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}.get(sets[-1] if sets else "", "latin-1")
    try:
        return text.encode("latin-1").decode(encoding)
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text


def _walk(root: Path, leave_out: frozenset[str]) -> Iterator[tuple[Path, str, int, int]]:
    """Yield the regular files below a folder; links to folders that were seen are not followed again."""
    if root.is_file():
        status = root.stat()
        yield root, root.name, status.st_size, status.st_mtime_ns
        return
    visited: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            status = (root / below).stat()
            if (status.st_dev, status.st_ino) in visited or os.path.realpath(root / below) in leave_out:
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / below), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                if entry.is_dir():
                    waiting.append(name)
                elif entry.is_file():
                    status = entry.stat()
                    yield Path(entry.path), name, status.st_size, status.st_mtime_ns
            except OSError:
                continue
