"""Servers as sources of `ingest`: what they have is fetched into the archive's private folder, and taken in from there.

    ARCHIVE/private/servers/ID/
      about.json     which server and which studies, and whose identifiers are theirs; nothing that lets one in
      missing.json   what could not be fetched, with reasons; not there where nothing is missing
      files/         STUDY/SERIES/INSTANCE.dcm, as they came: identified

Where the archive holds copies of its own, what it has taken in is removed from `files`, and not asked for again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isocenter.clinic.retrieve import (
    Access,
    Failure,
    Retrieved,
    ServerAddress,
    access_to,
    drop_taken,
    fetch,
    forget_taken,
    is_server_address,
    read_address,
)
from isocenter.core.errors import ConfigError, TransportError
from isocenter.data.archive.layout import Archive
from isocenter.data.archive.taken import taken_dicom
from isocenter.data.archive.walk import Place
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.verbs.ingest import ServerEntry

__all__ = ["Asked", "asked_for", "drop_copies", "entries_of", "fetch_all", "missing_of"]

Progress = Callable[[str, float], None]
_FOLDER = "servers"
_STAMP_NS = 0
"""When a file came says nothing of it: one that is fetched again is the same to the archive."""


@dataclass(frozen=True)
class Asked:
    """A server among the sources.

    Args:
        number: Of the source.
        place: As it was given.
        address: As it was read.
        access: What lets one in.
    """

    number: int
    place: Place
    address: ServerAddress
    access: Access

    def folder(self, archive: Archive) -> Path:
        """Return its folder in an archive."""
        token = hashlib.sha256(self.address.identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return archive.private.resolve() / _FOLDER / token

    def fetched_place(self, archive: Archive) -> Place:
        """Return where what it has lies once it is fetched."""
        return Place(str(self.folder(archive) / "files"), self.place.domain)


def asked_for(places: list[Place], environ: Mapping[str, str]) -> list[Asked]:
    """Return the servers among sources.

    Raises:
        ConfigError: An address is none, is there twice, or lets nobody in.
    """
    found = [(n, place, read_address(place.where)) for n, place in enumerate(places) if is_server_address(place.where)]
    if len({address.identity for _, _, address in found}) < len(found):
        raise ConfigError("two sources are the same studies of the same server; name it once")
    access = access_to([address for _, _, address in found], environ)
    return [Asked(n, place, address, one) for (n, place, address), one in zip(found, access, strict=True)]


def fetch_all(archive: Archive, asked: list[Asked], progress: Progress) -> list[Retrieved]:
    """Fetch what servers have and the archive has not; return what came of it.

    A server that does not answer is a failure in its result: what others have is taken in all the same.

    Raises:
        OutputError: The archive can't be written.
        CapabilityError: httpx or pynetdicom is not installed.
    """
    out = []
    for one in asked:
        folder = one.folder(archive)
        _prepare(folder, one)
        files = folder / "files"

        def tell(_study: str, number: int, many: int, name: str = one.address.name) -> None:
            progress(f"{name}: study {number} of {many}", 0.0)

        try:
            found = fetch(one.address, one.access, files, progress=tell)
        except TransportError as error:
            found = Retrieved(failures=(Failure("", "", str(error)),))
        try:
            files.mkdir(exist_ok=True)
            for file in files.rglob("*.dcm"):
                os.utime(file, ns=(_STAMP_NS, _STAMP_NS))
            _note_missing(folder, found)
        except OSError as error:
            raise explain_os_error(error, folder, doing="write") from error
        out.append(found)
    return out


def drop_copies(archive: Archive, asked: list[Asked]) -> list[int]:
    """Remove what the archive has copies of; return how many files, for each server.

    Raises:
        OutputError: The folder can't be written.
    """
    if asked:
        # Copies and journal must be on the disk, not only on their way to it, before what they were made of goes.
        os.sync()
    counts = []
    for one in asked:
        files = one.folder(archive) / "files"
        studies: dict[str, list[tuple[str, str]]] = {}
        count = 0
        for path in taken_dicom(archive, files):
            study, series, _ = path.relative_to(files).parts
            studies.setdefault(study, []).append((series, path.stem))
            count += 1
        for study, instances in studies.items():
            drop_taken(files, study, instances)
        counts.append(count)
    return counts


def entries_of(
    archive: Archive, asked: list[Asked], fetched: list[Retrieved], removed: list[int]
) -> tuple[ServerEntry, ...]:
    """Return what servers gave, for who asked."""
    return tuple(
        ServerEntry(
            server=one.address.name,
            studies=len(found.studies),
            fetched=found.fetched,
            present=found.present,
            missing=len(found.failures),
            missing_list=str(one.folder(archive) / "missing.json") if found.failures else "",
            removed=count,
        )
        for one, found, count in zip(asked, fetched, removed, strict=True)
    )


def missing_of(asked: list[Asked], fetched: list[Retrieved]) -> list[str]:
    """Return what servers did not give, each with its reason."""
    return [
        " ".join(filter(None, (one.address.name, failure.sop_uid or failure.study_uid))) + f": {failure.reason}"
        for one, found in zip(asked, fetched, strict=True)
        for failure in found.failures
    ]


def _prepare(folder: Path, one: Asked) -> None:
    """Make a server's folder; where its identifiers were another's before, all is taken in anew, as those."""
    content = json.dumps({"server": one.address.identity.split("\n"), "domain": one.place.domain}, indent=2) + "\n"
    file = folder / "about.json"
    try:
        for place in (folder.parent, folder):
            place.mkdir(mode=0o700, exist_ok=True)
        if file.is_file() and file.read_text("utf-8") == content:
            return
        forget_taken(folder / "files")
        with atomic_path(file) as temporary:
            temporary.write_text(content, "utf-8")
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error


def _note_missing(folder: Path, found: Retrieved) -> None:
    file = folder / "missing.json"
    if not found.failures:
        file.unlink(missing_ok=True)
        return
    rows = [{"study_uid": f.study_uid, "sop_uid": f.sop_uid, "reason": f.reason} for f in found.failures]
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
