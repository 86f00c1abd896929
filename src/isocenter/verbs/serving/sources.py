"""Where studies come from: what a library asks of a folder or an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

from isocenter.core.errors import NotFound
from isocenter.verbs.serving.listing import Standing, listed, stand, with_priors
from isocenter.verbs.serving.scan import FoundStudy, Scan
from isocenter.viewer.ports import ReportItem, StudyItem, StudyPage, StudyQuery

__all__ = ["FolderSource", "PlainFile", "StudyParts", "StudySource"]


@dataclass(frozen=True)
class PlainFile:
    """A file that is not DICOM.

    Args:
        path: Where it is.
        kind: nifti, nrrd, metaimage, picture or npz.
        name: For messages.
        modality: Where the source knows it, "" elsewhere.
        member: Array and number in a file of many (npz), "" elsewhere.
    """

    path: Path
    kind: str
    name: str
    modality: str = ""
    member: str = ""


@dataclass(frozen=True)
class StudyParts:
    """The files behind a study.

    Args:
        root: Folder that messages name them relative to.
        dicom: DICOM files.
        plain: Others.
        reports: That came with it.
        patient_key: Whose it is; "" to take it from the files.
    """

    root: Path
    dicom: tuple[Path, ...] = ()
    plain: tuple[PlainFile, ...] = ()
    reports: tuple[ReportItem, ...] = ()
    patient_key: str = ""


@runtime_checkable
class StudySource(Protocol):
    """A folder or an archive; called from several threads."""

    kind: Literal["folder", "archive"]
    identified: bool

    def page(self, query: StudyQuery, standing: Standing) -> StudyPage:
        """List studies."""
        ...

    def item(self, study: str, standing: Standing) -> StudyItem:
        """Return a study of the list.

        Raises:
            NotFound: There is none.
        """
        ...

    def priors(self, study: str, standing: Standing) -> tuple[StudyItem, ...]:
        """Return the earlier studies of the patient, newest first."""
        ...

    def parts(self, study: str) -> StudyParts:
        """Return the files of a study.

        Raises:
            NotFound: There is none.
        """
        ...

    def names(self, study: str) -> frozenset[str]:
        """Return the names that a table may call a study by, and no other study: of files that are not DICOM."""
        ...

    def study_of_series(self, series_uid: str) -> str | None:
        """Return the study of a DICOM series, None where it is not known."""
        ...

    def start(self) -> None:
        """Begin to look for studies."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class FolderSource:
    """Studies of a plain folder, or of one file.

    Args:
        root: The folder.
        work: Folder of the work, which is left out where it lies inside.
    """

    kind: Literal["folder", "archive"] = "folder"
    identified = True

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root if root.is_dir() else root.parent
        self.scan = Scan(root, cache=work / "index" / "files.json", leave_out=(work,))
        self._items: tuple[object, list[StudyItem]] = (None, [])

    def start(self) -> None:
        """Begin to look through the folder."""
        self.scan.start()

    def close(self) -> None:
        """Stop looking."""
        self.scan.close()

    def page(self, query: StudyQuery, standing: Standing) -> StudyPage:
        """List studies that were found so far; a thread looks for more."""
        self.scan.refresh()
        if not self.scan.complete:
            self.scan.wait(0.3)  # a small folder is there at once
        return listed(self._listed(standing), query, scanning=not self.scan.complete)

    def item(self, study: str, standing: Standing) -> StudyItem:
        """Return a study of the list."""
        self._found(study)
        return next(i for i in self._listed(standing) if i.id == study)

    def priors(self, study: str, standing: Standing) -> tuple[StudyItem, ...]:
        """Return the earlier studies of the patient, newest first."""
        items = self._listed(standing)
        mine = next((i for i in items if i.id == study), None)
        if mine is None or not mine.study_date:
            return ()
        date, key = mine.study_date, mine.patient_key
        earlier = [i for i in items if i.patient_key == key and i.study_date and i.study_date < date]
        return tuple(sorted(earlier, key=lambda i: (i.study_date or "", i.id), reverse=True))

    def parts(self, study: str) -> StudyParts:
        """Return the files of a study."""
        found = self._found(study)
        plain = tuple(PlainFile(self.root / f.name, f.kind, f.name) for f in found.files if f.kind != "dicom")
        dicom = tuple(self.root / f.name for f in found.files if f.kind == "dicom")
        return StudyParts(self.root, dicom, plain, (), found.patient_key)

    def names(self, study: str) -> frozenset[str]:
        """Return the relative path of a plain file; its own name and stem too, where no other study has them."""
        names = {name: _names_of(found) for name, found in self.scan.studies.items()}
        if not self.scan.complete:  # another study of this name may still be found
            return frozenset(f.name for f in self._found(study).files if f.kind != "dicom")
        others = set().union(*(some for name, some in names.items() if name != study))
        return frozenset(names.get(study, set()) - others)

    def study_of_series(self, series_uid: str) -> str | None:
        """Return the study of a DICOM series."""
        studies = self.scan.studies
        return next((name for name, s in studies.items() if any(f.series == series_uid for f in s.files)), None)

    def _found(self, study: str) -> FoundStudy:
        found = self.scan.studies.get(study)
        if found is None and self.scan.running:
            self.scan.wait(5.0)  # an address that somebody kept may be opened before the folder was looked through
            found = self.scan.studies.get(study)
        if found is None:
            raise NotFound("there is no such study (any more); list the studies again")
        return found

    def _listed(self, standing: Standing) -> list[StudyItem]:
        studies = self.scan.studies
        if self._items[0] is not studies:
            self._items = (studies, with_priors(_item(study) for study in studies.values()))
        return stand(self._items[1], standing)


def _item(study: FoundStudy) -> StudyItem:
    description = study.first("description")
    if not description and study.files[0].kind != "dicom":
        # The name of a file that somebody gave is all that tells such a study from its neighbours.
        description = study.files[0].name
    return StudyItem(
        id=study.id,
        patient_key=study.patient_key,
        study_date=study.first("date") or None,
        description=description,
        modalities=study.modalities,
        series=study.series,
        instances=len(study.files),
        accession=study.first("accession") or None,
    )


def _names_of(study: FoundStudy) -> set[str]:
    """Return the ways in which somebody may write the files of a study that are not DICOM."""
    found: set[str] = set()
    for file in study.files:
        if file.kind != "dicom":
            place = PurePosixPath(file.name)
            found |= {str(place), str(place.parent / place.name.partition(".")[0]), place.name}
            found.add(place.name.partition(".")[0])
    return found - {""}
