"""Ingest: sources of every kind into one archive: de-identified, joined, catalogued, and what could not be read listed.

Sources are walked, what is new is read and copied without identity (`data.archive`), and the catalog is written anew.
It may be killed anywhere and run again: the archive is the same as from one run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.data.images.pseudonym import KEY_VARIABLE, pseudonym_key
from isocenter.verbs.archive_folder import problems_of, require_packages
from isocenter.verbs.leaks import AnonymityEntry, LeaksDocument, write_leaks
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = [
    "IngestConfig",
    "IngestDocument",
    "LeakEntry",
    "ServerEntry",
    "TableEntry",
    "TroubleEntry",
    "ingest",
    "run",
]

Progress = Callable[[str, float], None]
_SHOWN = 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngestConfig(_Strict):
    """Configuration of `isocenter ingest`.

    Attributes:
        sources: Folders, files, zip archives, addresses that fsspec opens, servers; NAME=SOURCE says whose identifiers
            these are. Servers: dicomweb+https://HOST/PATH?PatientID=..., or
            dicom://[OWN:]THEIRS@HOST:PORT?method=get&StudyDate=..., or the same with method=move&listen=PORT (OWN,
            THEIRS: application entity titles). Keywords of DICOM choose studies; everything=yes takes all. What lets
            one in comes from ISOCENTER_DICOMWEB_TOKEN, or from the file that ISOCENTER_SERVER_CREDENTIALS names; an
            address with it is refused. What is fetched lies in TO/private/servers until it is copied into the archive,
            de-identified, and is then removed; without copies (pixels=False) it stays there.
        to: Folder of the archive.
        pixels: Whether images are copied, de-identified; else the catalog speaks of files that stay where they are.
        dates: What becomes of dates: shifted (by patient), full (kept: identifying), or none.
        retain_device: Keep serial numbers and station names.
        retain_institution: Keep names of institutions.
        retain_safe_private: Keep private elements that the standard lists as safe.
        clean_pixels: Find burnt-in text and blank it (needs tesseract).
        deface: Remove the face from CT and MR that may show one; what is no whole head is left out.
        identified: Change nothing: an archive of identified data. Whoever sets it takes over.
        workers: Processes; 0 takes all cores.
        engine: local, or ray.
        memory_mb: Of the database that writes the catalog.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    to: Path
    pixels: bool = True
    dates: Literal["shifted", "full", "none"] = "shifted"
    retain_device: bool = False
    retain_institution: bool = False
    retain_safe_private: bool = False
    clean_pixels: bool = False
    deface: bool = False
    identified: bool = False
    workers: int = Field(default=0, ge=0)
    engine: Literal["local", "ray"] = "local"
    memory_mb: int = Field(default=256, ge=128)

    def policy(self) -> Policy:
        """Return the policy of de-identification."""
        return Policy(
            retain_dates=self.dates,
            retain_device=self.retain_device,
            retain_institution=self.retain_institution,
            retain_safe_private=self.retain_safe_private,
            clean_pixels=self.clean_pixels,
            deface=self.deface,
            off=self.identified,
        )


class TableEntry(_Strict):
    """One table of the catalog: its rows, and the hash of their content."""

    rows: int
    hash: str


class TroubleEntry(_Strict):
    """What could not be read, was left out, or conflicts: reason, kind, how many, and the first by name.

    The name may hold an identifier: it is for whoever runs this, and stands in the archive's private folder only.
    """

    reason: str
    kind: str
    count: int
    first: str


class LeakEntry(_Strict):
    """The leak report in short; the whole is `private/leaks.html` and `private/leaks.json`.

    Attributes:
        safe: Whether exports go through.
        why_not: Reasons against it.
        removed: Values removed or changed.
        replaced: Places replaced in texts, by kind.
        boxes: Of burnt-in text, blanked.
        faces: Images without their part of a face.
        suspicious: What a person should look at; how many are still there.
        not_done: What was not de-identified.
        page: Where the report is.
    """

    safe: bool
    why_not: tuple[str, ...]
    removed: int
    replaced: dict[str, int]
    boxes: int
    faces: int
    suspicious: int
    not_done: tuple[str, ...]
    page: str


class ServerEntry(_Strict):
    """What a server among the sources gave.

    Attributes:
        server: Its address, without what was asked for.
        studies: That the question finds.
        fetched: Instances that came now.
        present: Instances that an earlier run had fetched.
        missing: Instances, or whole studies, that did not come.
        missing_list: File of what did not come and why, "" where nothing is missing.
        removed: Fetched files that are removed, since the archive has copies of its own.
    """

    server: str
    studies: int
    fetched: int
    present: int
    missing: int
    missing_list: str
    removed: int


class IngestDocument(_Strict):
    """What an ingest did, and what the archive holds.

    Attributes:
        version: Of Isocenter.
        archive: Its folder.
        catalog_hash: Of the content of all tables.
        identified: Whether nothing was de-identified.
        listed: Files found in the sources.
        known: Of them, those that were taken in before.
        taken: Files taken in now.
        bytes_read: Of these.
        lost: Files that were gone, places that went away while reading, and what servers did not give: run again.
        servers: What servers among the sources gave.
        tables: Of the catalog.
        troubles: By reason, most first, of the whole archive.
        refused: Files, or parts of files, that could not be read, in the whole archive.
        conflicts: Rows held back.
        doubtful: What can't be as it is said (a study before its patient's birth, an image without pixels), kept.
        anonymity: How well patients with images hide among each other; None where there are none.
        leaks: What de-identification did, and did not do.
        notes: What else should be known.
    """

    version: str
    archive: str
    catalog_hash: str
    identified: bool
    listed: int
    known: int
    taken: int
    bytes_read: int
    lost: int
    lost_first: str
    servers: tuple[ServerEntry, ...] = ()
    tables: dict[str, TableEntry]
    troubles: tuple[TroubleEntry, ...]
    refused: int
    conflicts: int
    doubtful: int
    anonymity: AnonymityEntry | None = None
    leaks: LeakEntry
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether everything could be read, nothing conflicts, and nothing is said that can't be."""
        return not (self.refused or self.conflicts or self.doubtful or self.lost)


def ingest(
    sources: Sequence[str], to: Path | str, *, progress: Progress | None = None, **options: Any
) -> IngestDocument:
    """Take sources into an archive.

    Args:
        sources: Folders, files, zip archives, addresses, servers; NAME=SOURCE says whose identifiers are in it.
        to: Folder of the archive; made where there is none.
        progress: Called with what is being done and the fraction done.
        **options: Other fields of `IngestConfig`.

    Returns:
        What was done, what the archive holds, and what could not be read.

    Raises:
        ConfigError: An option or a server's address is wrong, or the archive was made with another policy or key.
        DataError: A source is not there.
        OutputError: The archive can't be written.
        CapabilityError: A package is missing.
    """
    config = configured(IngestConfig, sources=tuple(sources), to=Path(to), **options)
    return run(config, progress=progress)


def run(config: IngestConfig, *, progress: Progress | None = None) -> IngestDocument:
    """Take sources into an archive, as configured."""
    require_packages()
    from isocenter.data.archive.engine import take_in
    from isocenter.data.archive.layout import make_archive
    from isocenter.data.archive.walk import parse_source
    from isocenter.verbs.ingest_servers import asked_for, drop_copies, entries_of, fetch_all, missing_of

    if config.deface and (config.identified or not config.pixels):
        raise ConfigError(
            "a face is removed from copies that are de-identified: leave out --headers-only, --identified"
        )
    key, lasting = pseudonym_key()
    if not lasting:
        raise CapabilityError(
            "no key for pseudonyms can be kept here, and without one a patient would have a new name in every run; set "
            f"{KEY_VARIABLE}, or make the user's configuration folder writable"
        )
    places = [parse_source(text) for text in config.sources]
    for place in places:
        if not place.remote and config.to.resolve().is_relative_to(Path(place.where).resolve()):
            raise ConfigError("the archive lies in one of its sources and would take itself in; choose another folder")
    asked = asked_for(places, os.environ)
    archive = make_archive(config.to, config.policy(), Pseudonyms(key), pixels=config.pixels)
    told: list[LeaksDocument] = []
    with archive.locked("servers.lock") if asked else nullcontext():
        fetched = fetch_all(archive, asked, progress or (lambda _stage, _done: None))
        for one in asked:
            places[one.number] = one.fetched_place(archive)
        done = take_in(
            archive,
            places,
            bytes(key),
            workers=config.workers or os.cpu_count() or 1,
            engine=config.engine,
            progress=progress,
            memory_mb=config.memory_mb,
            # While nobody else can write: the report is of this state of the archive.
            finish=lambda: told.append(write_leaks(archive.root)),
        )
        removed = drop_copies(archive, asked) if config.pixels else [0] * len(asked)
    servers = entries_of(archive, asked, fetched, removed)
    lost = [*(f"{name}: {reason}" for name, reason in done.lost), *missing_of(asked, fetched)]
    troubles = problems_of(archive.root)
    notes = []
    if config.identified:
        notes.append("nothing was de-identified: this archive holds identified data")
    if done.crashed:
        notes.append(f"{len(done.crashed)} files killed the process that read them; they are listed as refused")
    notes += [f"{s.server} has no study that the question finds" for s in servers if not s.studies and not s.missing]
    return IngestDocument(
        version=__version__,
        archive=str(config.to),
        catalog_hash=str(done.current["hash"]),
        identified=config.identified,
        listed=done.listed,
        known=done.known,
        taken=done.taken,
        bytes_read=done.bytes_read,
        lost=len(lost),
        lost_first=lost[0] if lost else "",
        servers=servers,
        tables={n: TableEntry(rows=t["rows"], hash=t["hash"]) for n, t in done.current["tables"].items()},
        troubles=tuple(TroubleEntry(reason=r, kind=k, count=c, first=f) for k, r, c, f in troubles[:_SHOWN]),
        refused=sum(c for k, _, c, _ in troubles if k == "refused"),
        conflicts=sum(c for k, _, c, _ in troubles if k == "conflict"),
        doubtful=sum(c for k, _, c, _ in troubles if k == "doubtful"),
        anonymity=told[0].anonymity,
        leaks=_in_short(told[0], archive.private),
        notes=tuple(notes),
    )


def _in_short(found: LeaksDocument, private: Path) -> LeakEntry:
    return LeakEntry(
        safe=found.safe,
        why_not=found.why_not,
        removed=found.removed,
        replaced=found.replaced,
        boxes=found.boxes,
        faces=found.faces,
        suspicious=sum(s.count for s in found.suspicious if not s.settled),
        not_done=found.not_done,
        page=str(private / "leaks.html"),
    )
