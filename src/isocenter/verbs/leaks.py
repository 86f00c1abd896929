"""Leaks: what de-identification removed from an archive, what a person should look at, and what it did not do.

The report is written into the archive's private folder by every ingest, as a page and as JSON, and whatever takes data
out of an archive asks it first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from isocenter.core.errors import DataError, IdentityLeak
from isocenter.data.deidentify.leaks import is_settled, keyword_of
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.verbs.archive_folder import require_packages
from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.data.deidentify import LeakReport

__all__ = [
    "AnonymityEntry",
    "ChangeEntry",
    "ClassEntry",
    "LeaksDocument",
    "SuspectEntry",
    "anonymity_of",
    "leaks",
    "require_safe",
    "write_leaks",
]

_CLASSES = 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AnonymityEntry(_Strict):
    """k-anonymity of the patients with images, over what others may know of them.

    Attributes:
        columns: The quasi-identifiers.
        patients: How many.
        smallest: Patients of the smallest class: k.
        small_share: Share whose class is smaller than five.
        unique_share: Share that is alone.
    """

    columns: tuple[str, ...]
    patients: int
    smallest: int
    small_share: float
    unique_share: float


class ClassEntry(_Strict):
    """Patients who can't be told apart by what others may know of them: the values, and how many they are."""

    sex: str | None
    age: float | None
    modalities: str | None
    patients: int


class ChangeEntry(_Strict):
    """What was removed or changed: a tag or another place, its keyword, what was done, how often."""

    where: str
    keyword: str
    action: str
    count: int


class SuspectEntry(_Strict):
    """What a person should look at.

    Attributes:
        tag: Of the element, "" for a file as a whole.
        keyword: Of the tag.
        reason: What it is, and what was done.
        count: How many.
        settled: Whether what was found is gone.
        first: Name of the first file; it may hold an identifier.
    """

    tag: str
    keyword: str
    reason: str
    count: int
    settled: bool
    first: str


class LeaksDocument(_Strict):
    """The leak report of an archive.

    Attributes:
        version: Of Isocenter.
        archive: Name of its folder.
        catalog_hash: Of the state that it speaks of.
        policy: Of de-identification, by name.
        codes: Of that policy, as files of the archive bear them (CID 7050).
        pixels: Whether the archive holds copies of images.
        safe: Whether exports go through: de-identified, and nothing suspicious that is still there.
        why_not: Reasons against it.
        copies: Images that were copied without identity.
        texts: Reports.
        changed: What was removed or changed, by place.
        replaced: In texts, by kind.
        boxes: Of burnt-in text, blanked.
        faces: Images of which a face was removed.
        suspicious: What a person should look at.
        refused: What was not let in, by reason.
        anonymity: How well patients with images hide among each other; None where there are none.
        classes: The smallest of them.
        not_done: What was not de-identified, or not looked at.
    """

    version: str
    archive: str
    catalog_hash: str
    policy: dict[str, str | bool]
    codes: tuple[tuple[str, str], ...]
    pixels: bool
    safe: bool
    why_not: tuple[str, ...]
    copies: int
    texts: int
    changed: tuple[ChangeEntry, ...]
    replaced: dict[str, int]
    boxes: int
    faces: int
    suspicious: tuple[SuspectEntry, ...]
    refused: dict[str, int]
    anonymity: AnonymityEntry | None
    classes: tuple[ClassEntry, ...]
    not_done: tuple[str, ...]

    @property
    def removed(self) -> int:
        """How many values were removed or changed."""
        return sum(entry.count for entry in self.changed)


def leaks(archive: Path | str) -> LeaksDocument:
    """Return the leak report of an archive, from what its runs noted down.

    Args:
        archive: Its folder, the private part included.

    Raises:
        DataError: There is no archive, or its private part is missing.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.archive.layout import open_archive
    from isocenter.data.archive.leaks import look_for_leaks
    from isocenter.data.catalog.catalog import open_catalog

    place = open_archive(Path(archive))
    found = look_for_leaks(place)
    report = found.report
    reasons = _reasons(report)
    return LeaksDocument(
        version=__version__,
        archive=place.root.resolve().name,
        catalog_hash=open_catalog(place.root).hash,
        policy=place.policy.to_dict(),
        codes=place.policy.codes(),
        pixels=place.pixels,
        safe=not reasons,
        why_not=tuple(reasons),
        copies=report.objects,
        texts=report.texts,
        changed=tuple(
            ChangeEntry(where=w, keyword=keyword_of(w), action=a, count=c)
            for (w, a), c in sorted(report.removed.items())
        ),
        replaced=dict(sorted(report.replaced.items())),
        boxes=report.blanked,
        faces=report.faces,
        suspicious=tuple(
            SuspectEntry(
                tag=s.tag, keyword=keyword_of(s.tag), reason=s.reason, count=s.count, settled=is_settled(s.reason),
                first=s.first,
            )
            for s in sorted(found.suspects, key=lambda s: (is_settled(s.reason), -s.count, s.reason, s.tag))
        ),
        refused=dict(sorted(report.refused.items())),
        anonymity=_entry(report),
        classes=tuple(ClassEntry(**row) for row in found.classes[:_CLASSES]),
        not_done=found.not_done,
    )  # fmt: skip


def write_leaks(archive: Path | str) -> LeaksDocument:
    """Write the leak report into the archive's private folder, as `leaks.html` and `leaks.json`, and return it.

    Raises:
        DataError: There is no archive.
        OutputError: The folder can't be written.
    """
    from isocenter.verbs.description.leaks_page import render_leaks

    found = leaks(archive)
    folder = Path(archive) / "private"
    for name, content in (("leaks.json", found.model_dump_json(indent=1) + "\n"), ("leaks.html", render_leaks(found))):
        try:
            with atomic_path(folder / name) as temporary:
                # The names of files in it may identify, so nobody else may read it while it is written, either.
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                    stream.write(content.encode())
                temporary.chmod(0o600)
        except OSError as error:
            raise explain_os_error(error, folder / name, doing="write") from error
    return found


def anonymity_of(archive: Path) -> AnonymityEntry | None:
    """Return how well patients with images hide among each other; None where there are none."""
    from isocenter.data.archive.layout import open_archive
    from isocenter.data.archive.leaks import look_for_leaks

    return _entry(look_for_leaks(open_archive(archive)).report)


def require_safe(archive: Path, *, identified: bool = False, despite_leaks: bool = False) -> None:
    """Stop an export that would carry identity out of an archive.

    Args:
        archive: Its folder.
        identified: Whether the caller wants data of an archive in which nothing was de-identified.
        despite_leaks: Whether the caller has looked at the leak report, and exports all the same.

    Raises:
        IdentityLeak: Nothing was de-identified, or something suspicious is still there, or nobody can tell.
    """
    from isocenter.data.archive.layout import open_archive
    from isocenter.data.archive.leaks import leak_report

    place = open_archive(archive)
    if place.policy.off:
        if not identified:
            raise IdentityLeak(
                "nothing was de-identified in this archive, and what is exported would carry what identifies; say "
                "that you want that (--identified)",
                source=archive,
            )
        return
    if despite_leaks:
        return
    try:
        leak_report(place).require_safe()
    except IdentityLeak as error:
        raise IdentityLeak(
            f"{error}. isocenter leaks shows where; then clean it, or export all the same (--despite-leaks)",
            source=archive,
        ) from error
    except DataError as error:
        raise IdentityLeak(
            f"nobody can tell whether this archive is safe to export: {error} (or --despite-leaks)", source=archive
        ) from error


def _reasons(report: LeakReport) -> list[str]:
    return ["nothing was de-identified"] if report.policy.off else report.open_reasons()


def _entry(report: LeakReport) -> AnonymityEntry | None:
    if not report.anonymity:
        return None
    found: Any = report.anonymity[0]
    return AnonymityEntry(
        columns=found.columns,
        patients=found.rows,
        smallest=found.smallest,
        small_share=round(found.small_share, 4),
        unique_share=round(found.unique_share, 4),
    )
