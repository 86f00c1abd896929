"""Drafts on the disk: every version a file that is written once, signed reports in folders of their own.

    DRAFTS/<draft>/result.json            of the reading, as it was when the draft was made
    DRAFTS/<draft>/places.json            where each piece of its evidence can be seen
    DRAFTS/<draft>/versions/0001.json     a version; never changed
    DRAFTS/<draft>/signed/0001/...        what was signed of it: SR, FHIR, PDF, and signature.json with their sha256

A version is linked into place, which fails where one of that number stands already: of two people who edit the same
version one is told, whatever process they came through.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import atomic_folder, explain_os_error
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.result import ResultDocument, read_result
from isocenter.viewer.report_models import Draft, Place, Signed, SignedFile

__all__ = ["SIGNATURE", "DraftStore", "PlaceBook", "VersionTaken", "version_bytes"]

SIGNATURE = "signature.json"
_ID = re.compile(r"[0-9a-f]{16}")
_VERSION = re.compile(r"(\d{4,})\.json")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


PlaceBook = Mapping[str, tuple[Place, ...]]
"""Places by the name of the evidence in the whole result ("1.e3")."""
_PLACES = TypeAdapter(dict[str, tuple[Place, ...]])


class VersionTaken(DataError):
    """A version of this number stands already: somebody else was first."""


class DraftStore:
    """The drafts below a folder.

    Args:
        root: The folder; made where there is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._studies: dict[str, str] = {}

    def folder(self, draft: str) -> Path | None:
        """Return the folder of a draft, None where there is none of this identifier."""
        place = self.root / draft
        return place if _ID.fullmatch(draft) and (place / "result.json").is_file() else None

    def begin(self, first: Draft, result: Path, places: PlaceBook) -> None:
        """Write a draft's first version.

        Args:
            first: The version.
            result: Folder of the reading.
            places: Where its evidence can be seen.

        Raises:
            OutputError: The operating system refused.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            content = (result / "result.json").read_bytes()
        except OSError as error:
            raise explain_os_error(error, self.root, doing="write") from error
        with atomic_folder(self.root / first.id) as folder:
            (folder / "result.json").write_bytes(content)
            (folder / "places.json").write_bytes(_PLACES.dump_json(dict(places)))
            (folder / "versions").mkdir()
            (folder / "signed").mkdir()
            (folder / "versions" / _file(first.version)).write_bytes(version_bytes(first))

    def add(self, version: Draft) -> None:
        """Write a further version.

        Raises:
            VersionTaken: One of this number stands already.
            OutputError: The operating system refused.
        """
        final = self.root / version.id / "versions" / _file(version.version)
        temporary = final.with_name(f".partial-{secrets.token_hex(6)}")
        try:
            with temporary.open("xb") as stream:
                stream.write(version_bytes(version))
                stream.flush()
                os.fsync(stream.fileno())
            _link(temporary, final)
        except FileExistsError as error:
            raise VersionTaken("this version was made by somebody else meanwhile") from error
        except OSError as error:
            raise explain_os_error(error, final, doing="write") from error
        finally:
            temporary.unlink(missing_ok=True)

    def versions(self, draft: str) -> tuple[int, ...]:
        """Return the numbers of a draft's versions, least first."""
        folder = self.folder(draft)
        if folder is None:
            return ()
        found = (_VERSION.fullmatch(p.name) for p in (folder / "versions").iterdir())
        return tuple(sorted(int(m[1]) for m in found if m))

    def load(self, draft: str, version: int | None = None) -> Draft | None:
        """Return a version of a draft with its signature, the last by default; None where there is none.

        Raises:
            DataError: It can't be read, or is not what was written.
        """
        numbers = self.versions(draft)
        if not numbers or (version is not None and version not in numbers):
            return None
        number = numbers[-1] if version is None else version
        path = self.root / draft / "versions" / _file(number)
        try:
            found = Draft.model_validate_json(path.read_bytes())
        except OSError as error:
            raise explain_os_error(error, path, doing="read") from error
        except ValidationError as error:
            raise DataError("a version of the draft is damaged", source=path.name) from error
        return found.model_copy(update={"signed": self.signature(draft, number)})

    def signature(self, draft: str, version: int) -> Signed | None:
        """Return who signed a version, None where nobody did."""
        path = self.signed_folder(draft, version) / SIGNATURE
        if not path.is_file():
            return None
        try:
            return Signed.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError("the signature of the draft is damaged", source=path.name) from error

    def signed_folder(self, draft: str, version: int) -> Path:
        """Return where the files of a signed version are."""
        return self.root / draft / "signed" / f"{version:04d}"

    def result(self, draft: str) -> ResultDocument:
        """Return the result that a draft is of, as it was when the draft was made."""
        return read_result(self.root / draft / "result.json")

    def places(self, draft: str) -> PlaceBook:
        """Return where each piece of a draft's evidence can be seen.

        Raises:
            DataError: It can't be read.
        """
        path = self.root / draft / "places.json"
        try:
            return _PLACES.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError("the places of the draft are damaged", source=path.name) from error

    def file(self, draft: str, version: int, name: str) -> tuple[Path, SignedFile] | None:
        """Return a file of a signed version, None where there is none of this name.

        Raises:
            DataError: It is not the one that was signed.
        """
        signed = self.signature(draft, version) if self.folder(draft) is not None else None
        entry = None if signed is None else next((f for f in signed.files if f.name == name), None)
        if entry is None:
            return None
        path = self.signed_folder(draft, version) / entry.name
        if not path.is_file() or file_sha256(path) != entry.sha256:
            raise DataError("the file is not the one that was signed", source=entry.name)
        return path, entry

    def of_study(self, study: str) -> Iterator[Draft]:
        """Yield the last version of every draft of a study."""
        if not self.root.is_dir():
            return
        for place in sorted(self.root.iterdir()):
            # Of which study a draft is never changes: it is read once.
            if not _ID.fullmatch(place.name) or self._studies.get(place.name, study) != study:
                continue
            found = self.load(place.name)
            if found is not None:
                self._studies[found.id] = found.study
                if found.study == study:
                    yield found

    def signed_studies(self) -> set[str]:
        """Return the studies of which a report was signed."""
        # A folder that is no number is one of a signature that was cut off.
        found = [path for path in self.root.glob(f"*/signed/*/{SIGNATURE}") if path.parent.name.isdecimal()]
        places = {path.parents[2].name for path in found}
        return {draft.study for name in places if (draft := self.load(name)) is not None}


def version_bytes(draft: Draft) -> bytes:
    """Return a version as it is on the disk, where its signature stands apart."""
    return draft.model_copy(update={"signed": None}).model_dump_json(indent=1).encode() + b"\n"


def _link(temporary: Path, final: Path) -> None:
    try:
        os.link(temporary, final)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links: made exclusively, then filled; the keeper's lock serves this process.
        with final.open("xb") as stream:
            stream.write(temporary.read_bytes())
            stream.flush()
            os.fsync(stream.fileno())


def _file(version: int) -> str:
    return f"{version:04d}.json"
