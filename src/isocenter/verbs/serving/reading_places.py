"""Where the readings of a library's studies are, with what reports, questions and outlooks need of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset

from isocenter.core.errors import DataError, NotFound
from isocenter.data.images.instance import open_instance
from isocenter.verbs.result import read_result
from isocenter.verbs.serving.drafts import ReadingPlace
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.persons import StudyPerson
from isocenter.verbs.serving.readings import StudyReadings

__all__ = ["ReadingPlaces"]


class ReadingPlaces:
    """Gives readings of studies (`drafts.Readings`), and by what their patients are found (`persons.PersonOf`).

    Args:
        library: Of the studies.
        readings: Of them.
    """

    def __init__(self, library: StudyLibrary, readings: StudyReadings) -> None:
        self._library, self._readings = library, readings

    def __call__(self, study: str, reading: str | None = None) -> ReadingPlace | None:
        """Return a reading of a study, the newest for None; None where there is none.

        Raises:
            NotFound: There is no such study.
        """
        self._library.study_item(study)
        try:
            folder = self._readings.folder(study) if reading is None else self._readings.document(reading)[0]
        except NotFound:
            return None
        if folder.parent.name != study:
            return None
        document = read_result(folder)
        images = {i.index: self._readings.image_of(study, document, i.index) for i in document.images}
        series = {i.index: i.series_uid for i in document.images}

        def headers(index: int) -> Sequence[Dataset]:
            return self._headers(study, series.get(index, ""))

        return ReadingPlace(folder.name, folder, {k: v for k, v in images.items() if v is not None}, headers)

    def person(self, study: str) -> StudyPerson:
        """Return by what the patient of a study is found in a table.

        Raises:
            NotFound: There is no such study.
        """
        item = self._library.study_item(study)
        parts = self._library.source.parts(study)
        uid = str(_header(parts.dicom[0]).get("StudyInstanceUID", "")) if parts.dicom else ""
        return StudyPerson(uid, item.patient_key, tuple(sorted(self._library.source.names(study))))

    def _headers(self, study: str, series_uid: str) -> list[Dataset]:
        """Return the headers of a series, in the order of its instances."""
        if not series_uid:
            return []
        found = [_header(path) for path in self._library.source.parts(study).dicom]
        own = [h for h in found if str(h.get("SeriesInstanceUID", "")) == series_uid]
        return sorted(own, key=lambda h: (int(h.get("InstanceNumber") or 0), str(h.get("SOPInstanceUID", ""))))


def _header(path: Path) -> Dataset:
    """Return a file's header; of a file that can't be read (and so was left out of the reading), an empty one."""
    try:
        return open_instance(path, pixels=False)
    except DataError:
        return Dataset()
