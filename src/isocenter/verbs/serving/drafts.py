"""Drafts for the viewer: made of a reading, edited sentence by sentence under the ledger, signed, amended.

A draft that anything of is withheld can't be signed, and one that is signed can't be changed: an amendment is a new
version that says what it amends. Each step is a line of the audit record, where one is kept.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

from pydicom import Dataset

from isocenter.core.errors import ConfigError, Conflict, NotFound
from isocenter.data.images.atomic import atomic_folder
from isocenter.safety.claims import Ledger
from isocenter.tasks.report.compose import Draft as Composed
from isocenter.tasks.report.compose import SectionName, section_title
from isocenter.verbs.ask import printable
from isocenter.verbs.asking.study import Examined
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.provenance import created_now
from isocenter.verbs.reports import composed
from isocenter.verbs.result import read_result
from isocenter.verbs.serving.draft_store import DraftStore, PlaceBook, VersionTaken, version_bytes
from isocenter.verbs.serving.judging import GIVEN, Judged, Part, judged, split_sentences
from isocenter.verbs.serving.places import Places
from isocenter.verbs.serving.signing import Signing, sign_report
from isocenter.viewer.report_models import (
    Draft,
    DraftEdit,
    DraftPart,
    DraftRequest,
    DraftSection,
    DraftSentence,
    EditedSentence,
    SignRequest,
    Untold,
)
from isocenter.viewer.study_ports import Served

__all__ = ["DRAFT_MARK", "DraftKeeper", "ReadingPlace", "Readings"]

DRAFT_MARK = "AI draft for a radiologist to correct and sign. Not signed. Research software, not a medical device."
_FILE_URL = "/api/v1/drafts/{draft}/files/{version}/{name}"
_MEDIA = {"sr": "application/dicom", "fhir": "application/fhir+json", "pdf": "application/pdf"}
_MOVED = "it was no part of the request, which is printed as given; write it where it is judged, or remove it"
_SECTIONS: tuple[SectionName, ...] = ("indication", "technique", "comparison", "findings", "impression", "limits")


@dataclass(frozen=True, eq=False)
class ReadingPlace:
    """Where a reading of a study is.

    Args:
        id: Identifier of the reading.
        folder: That `isocenter read` wrote.
        images: Identifiers of images by their number in the result.
        headers: Gives the DICOM headers of an image by its number; none where it did not come as DICOM.
    """

    id: str
    folder: Path
    images: Mapping[int, str]
    headers: Callable[[int], Sequence[Dataset]] = lambda _image: ()


Readings = Callable[[str, str | None], ReadingPlace | None]
"""Gives a reading of a study by both identifiers, the newest where that of the reading is None; None where there is no
such reading. Raises `NotFound` for a study that there is not."""


@dataclass(frozen=True)
class _Told:
    """A sentence in its section; without an id it is new."""

    section: SectionName
    id: str | None
    judged: Judged


class DraftKeeper:
    """Drafts below a folder (`viewer.report_ports.Drafts`).

    Args:
        root: Folder of drafts, below that of the server's work.
        readings: Gives readings of a study.
        audit: Record that lines are appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        file_url: Address of a file of a signed version, with {draft}, {version} and {name}.
    """

    def __init__(self, root: Path, readings: Readings, *, audit: Path | None = None, file_url: str = _FILE_URL) -> None:
        self.store = DraftStore(root)
        self._readings, self._audit, self._file_url = readings, audit, file_url
        self._lock = threading.Lock()
        self._signed = self.store.signed_studies()

    def signed(self, study: str) -> bool:
        """Tell whether a report of a study was signed."""
        return study in self._signed

    def of_study(self, study: str) -> tuple[Draft, ...]:
        """Return the last version of every draft of a study, the newest first; see `Drafts`."""
        return tuple(sorted(self.store.of_study(study), key=_age, reverse=True))

    def create(self, study: str, request: DraftRequest, reader: str) -> tuple[Draft, bool]:
        """Return the draft of a study's newest reading, and whether it was made now; see `Drafts`."""
        reading = self._readings(study, None)
        if reading is None:
            raise Conflict("the study was not read yet: run a reading first", code="not_read")
        with self._lock:
            same = (reading.id, request.language)
            known = [d for d in self.store.of_study(study) if (d.reading, d.language) == same]
            if known and not request.fresh:
                return max(known, key=_age), False
            examined = Examined(read_result(reading.folder))
            places = Places(reading.id, reading.folder, examined, reading.images)
            book = {name: places.of(name) for name in examined.evidence_names}
            indication, comparison = printable(request.indication), printable(request.comparison)
            parts = _parts(composed(examined.result, request.language, indication, comparison))
            empty = Draft(
                id=secrets.token_hex(8), study=study, reading=reading.id, version=1, language=request.language,
                created=created_now(), reader="", parts=(), limits=(), withheld=0, mark=DRAFT_MARK,
            )  # fmt: skip
            first = _filled(empty, parts, [[_Told(s, None, j) for s, j in part.written] for part in parts], book)
            with self._recorded("draft", reading.folder, first, reader):
                self.store.begin(first, reading.folder, book)
        return first, True

    def get(self, draft: str, version: int | None = None) -> Draft:
        """Return a version of a draft; see `Drafts`."""
        found = self.store.load(draft, version)
        if found is None:
            raise NotFound("there is no such draft, or no such version of it")
        return found

    def edit(self, draft: str, edit: DraftEdit, reader: str) -> Draft:
        """Return a new version, every sentence judged; see `Drafts`."""
        with self._lock:
            before = self._last(draft, edit.version)
            if before.signed is not None:
                raise Conflict("a signed report can't be changed; amend it", code="signed")
            parts = _parts(composed(self.store.result(draft), before.language))
            told = _judged_all(edit.sentences, parts, before)
            empty = before.model_copy(
                update={"version": before.version + 1, "created": created_now(), "reader": reader, "signed": None}
            )
            after = _filled(empty, parts, told, self.store.places(draft))
            self._add("edit", after, reader)
        return after

    def amend(self, draft: str, version: int, reader: str) -> Draft:
        """Begin a new version of a signed report; see `Drafts`."""
        with self._lock:
            before = self._last(draft, version)
            if before.signed is None:
                raise Conflict("only a signed report is amended; edit this draft", code="not_signed")
            new = {"version": version + 1, "amends": version, "created": created_now(), "reader": reader}
            after = before.model_copy(update={**new, "signed": None})
            self._add("amend", after, reader)
        return after

    def sign(self, draft: str, request: SignRequest, reader: str) -> Draft:
        """Sign a version, and write its files; see `Drafts`."""
        by = printable(request.by)
        if len(by) < 2 or any(sign in by for sign in "\\^="):
            raise ConfigError("a report is signed with a name of at least two letters, without \\ ^ =")
        with self._lock:
            wanted = self._last(draft, request.version)
            if wanted.signed is not None:
                raise Conflict("this version is signed already; amend it to change it", code="signed")
            withheld = [s.id for s in _sentences(wanted) if s.verdict == "withheld"]
            if withheld:
                raise Conflict(
                    f"sentences are withheld: correct or remove them first ({', '.join(withheld)})",
                    code="withheld_sentences",
                )
            began = clock.monotonic()
            with audited(self._audit, "sign") as place:
                signing = Signing(
                    wanted, by, datetime.now(UTC).replace(microsecond=0), self.store.result(draft),
                    *self._sources(wanted),
                    None if wanted.amends is None else self.store.signature(draft, wanted.amends),
                    None if wanted.amends is None else self.store.signed_folder(draft, wanted.amends),
                )  # fmt: skip
                url = partial(self._file_url.format, draft=draft, version=wanted.version)
                with atomic_folder(self.store.signed_folder(draft, wanted.version)) as folder:
                    signed = sign_report(signing, folder, lambda name: url(name=name))
                    record_run(
                        place, "sign", (), inputs=(hashlib.sha256(version_bytes(wanted)).hexdigest(),),
                        outputs=tuple(f.sha256 for f in signed.files), outcome="accepted", person=by,
                        seconds=round(clock.monotonic() - began, 3),
                    )  # fmt: skip
            self._signed = {*self._signed, wanted.study}
        return self.get(draft, wanted.version)

    def file(self, draft: str, version: int, name: str) -> Served:
        """Return a file of a signed version; see `Drafts`."""
        found = self.store.file(draft, version, name)
        if found is None:
            raise NotFound("there is no such file of this draft")
        path, entry = found
        return Served(path, _MEDIA[entry.form], f"{draft}-{version}-{entry.name}")

    def _sources(self, draft: Draft) -> tuple[Path, Callable[[int], Sequence[Dataset]]]:
        """Return the folder of the reading that a draft is of, and what gives the headers of its images."""
        reading = self._readings(draft.study, draft.reading)
        if reading is None:
            raise Conflict("the reading that this draft is of is gone: make a new draft", code="reading_changed")
        return reading.folder, reading.headers

    def _last(self, draft: str, version: int) -> Draft:
        last = self.get(draft)
        if last.version != version:
            by = f" by {last.reader}" if last.reader else ""
            raise Conflict(f"version {version} is not the last: version {last.version} was made meanwhile{by}")
        return last

    def _add(self, verb: str, version: Draft, reader: str) -> None:
        place = self.store.root / version.id
        try:
            with self._recorded(verb, place, version, reader):
                self.store.add(version)
        except VersionTaken as error:
            raise Conflict("a newer version was made meanwhile") from error

    @contextmanager
    def _recorded(self, verb: str, folder: Path, version: Draft, reader: str) -> Iterator[None]:
        """Write the line of a version before it is there: no version without its line."""
        with audited(self._audit, verb) as place:
            record_run(
                place, verb, (), inputs=(file_sha256(folder / "result.json"),),
                outputs=(hashlib.sha256(version_bytes(version)).hexdigest(),),
                outcome="answered" if verb == "draft" else "changed", person=reader,
            )  # fmt: skip
            yield


def _age(draft: Draft) -> tuple[str, int]:
    return draft.created, draft.version


def _parts(pairs: Sequence[tuple[Composed, Ledger]]) -> list[Part]:
    return [Part(number, draft, ledger) for number, (draft, ledger) in enumerate(pairs, start=1)]


def _sections(draft: Draft) -> Iterator[DraftSection]:
    for part in draft.parts:
        yield from part.sections


def _sentences(draft: Draft) -> Iterator[DraftSentence]:
    for section in _sections(draft):
        yield from section.sentences


def _judged_all(given: Sequence[EditedSentence], parts: Sequence[Part], before: Draft) -> list[list[_Told]]:
    """Judge what a person left; a limit of the examination that is gone is put back."""
    known = {s.id: number for number, part in enumerate(before.parts) for sec in part.sections for s in sec.sentences}
    ids = [e.id for e in given if e.id is not None]
    if len(set(ids)) < len(ids) or set(ids) - set(known):
        raise ConfigError("a sentence is named twice, or is not of this version")
    withheld = [s for s in _sentences(before) if s.verdict == "withheld"]
    claimed = {s.id for sec in _sections(before) if sec.name not in GIVEN for s in sec.sentences}
    claimed |= {s.id for s in withheld}
    refused = {s.text for s in withheld}
    told: list[list[_Told]] = [[] for _ in parts]
    for one in given:
        number = one.part if one.id is None else known[one.id]
        if number >= len(parts):
            raise ConfigError(f"the draft has {len(parts)} parts, counted from 0")
        plain = printable(one.text)
        # What the composer wrote may be of several sentences, and is taken as it is.
        whole = any(plain == said.text for _, said in parts[number].written)
        for place, text in enumerate((plain,) if whole else split_sentences(plain)):
            verdict = judged(text, one.section, parts[number], before.language)
            if verdict.verdict == "given" and (one.id in claimed or text in refused):
                verdict = Judged(text, "withheld", (), _MOVED)
            told[number].append(_Told(one.section, one.id if place == 0 else None, verdict))
    for number, part in enumerate(parts):
        said = {t.judged.text for t in told[number] if t.section == "limits"}
        old = {s.text: s.id for sec in before.parts[number].sections if sec.name == "limits" for s in sec.sentences}
        used = {t.id for t in told[number]}
        for text in part.ledger.limits:
            if text not in said:
                back = old.get(text)
                told[number].append(_Told("limits", None if back in used else back, Judged(text, "held")))
    return told


def _filled(empty: Draft, parts: Sequence[Part], told: Sequence[Sequence[_Told]], book: PlaceBook) -> Draft:
    """Return a version with its sentences, and the places that they can be seen at."""
    new = (f"s{empty.version}-{n}" for n in count(1))
    made = []
    for part, some in zip(parts, told, strict=True):
        sections = []
        for name in _SECTIONS:
            said = tuple(
                _sentence(t, part, next(new) if t.id is None else t.id, book) for t in some if t.section == name
            )
            if said:
                sections.append(DraftSection(name=name, title=section_title(name, empty.language), sentences=said))
        made.append(DraftPart(exam=part.exam, of=part.ledger.of, sections=tuple(sections), untold=_untold(part, some)))
    return empty.model_copy(
        update={
            "parts": tuple(made),
            "limits": tuple(dict.fromkeys(text for part in parts for text in part.ledger.limits)),
            "withheld": sum(t.judged.verdict == "withheld" for some in told for t in some),
        }
    )


def _sentence(told: _Told, part: Part, name: str, book: PlaceBook) -> DraftSentence:
    one = told.judged
    places = tuple(place for evidence in part.evidence(one.claims) for place in book.get(evidence, ()))
    return DraftSentence(
        id=name, text=one.text, verdict=one.verdict, reason=one.reason, claims=one.claims, evidence=places
    )


def _untold(part: Part, told: Sequence[_Told]) -> tuple[Untold, ...]:
    """Return claims that no sentence tells, with the composer's sentence on each."""
    said = {claim for t in told if t.judged.verdict != "withheld" for claim in t.judged.claims}
    return tuple(
        Untold(claim=one.claims[0], section="findings", text=one.text)
        for section, one in part.written
        if section == "findings" and one.claims and not set(one.claims) <= said
    )
