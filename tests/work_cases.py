"""A small library, confirmed masks and an eye, for the tests of the work list."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from isocenter.core import Image, Mask, Segment
from isocenter.core.errors import DataError, NotFound
from isocenter.testing import phantom
from isocenter.verbs.serving.identifiers import identifier
from isocenter.viewer.ports import ImageItem, MaskItem, PixelForm, StudyDetail, StudyItem, StudyPage, StudyQuery, Window

SHAPE = (4, 10, 12)
SECRET = "DOE^JANE"


class SmallLibrary:
    """Studies of the phantom: `patients` patients with `each` studies of one CT, and one picture without a place."""

    kind = "folder"

    def __init__(self, patients: int = 6, *, each: int = 1, identified: bool = True) -> None:
        self.identified = identified
        self.patients = {identifier("study", str(n)): f"key{n // each}" for n in range(patients * each)}
        self.broken: set[str] = set()

    def studies(self, query: StudyQuery) -> StudyPage:
        fitting = [self._item(s) for s in self.patients if query.modality in ("", "CT")]
        return StudyPage(len(fitting), tuple(fitting[query.offset : query.offset + query.limit]))

    def _item(self, study: str) -> StudyItem:
        return StudyItem(study, self.patients[study], None, "a study", ("CT",), 1, 4)

    def study(self, study: str) -> StudyDetail:
        if study in self.broken:
            raise DataError("can't be read", source="series")
        return StudyDetail(self._item(study), (self.image_item(self.image_of(study)),))

    @staticmethod
    def image_of(study: str) -> str:
        return identifier("image", study)

    def study_of(self, image: str) -> str:
        for study in self.patients:
            if self.image_of(study) == image:
                return study
        raise NotFound("there is no such image")

    def image(self, image: str) -> Image:
        number = list(self.patients).index(self.study_of(image))
        whole = phantom(number % 48, shape=SHAPE)
        return replace(whole, array=whole.array + np.int16(number), description=SECRET)

    def image_item(self, image: str) -> ImageItem:
        whole = self.image(image)
        affine = whole.geometry.affine
        return ImageItem(
            image, 0, "CT", "", "HU", "[hnsf'U]", SHAPE, 1, whole.geometry.spacing_mm, whole.geometry.pixel_spacing_mm,
            None if affine is None else tuple(tuple(row) for row in affine.tolist()), whole.geometry.orientation,
            ("", ""), "f", "space", False, (Window("all", 0, 100),), -20.0, 500.0, PixelForm("int16"), 960,
        )  # fmt: skip

    def planes(self, image: str, first: int, count: int) -> object:
        raise NotImplementedError

    def picture(self, image: str, picture: object) -> bytes:
        raise NotImplementedError

    def nifti(self, image: str) -> object:
        raise NotImplementedError

    @property
    def images(self) -> list[str]:
        return [self.image_of(study) for study in self.patients]


class SmallMasks:
    """Confirmed masks in memory."""

    def __init__(self, library: SmallLibrary) -> None:
        self._library, self._found = library, {}
        self._numbers = itertools.count()

    def add(self, image: str, label: str, reader: str, *, shift: int = 0, empty: bool = False) -> str:
        number = next(self._numbers)
        values = np.zeros(SHAPE, dtype=np.uint16)
        if not empty:
            values[1:3, 2:6, 2 + shift : 7 + shift] = 1
        mask = Mask(values, self._library.image(image).geometry, (Segment(1, label),))
        at = datetime.now(UTC) + timedelta(seconds=number)
        item = MaskItem(identifier("mask", str(number)), image, label, reader, number + 1, at.isoformat(), 1, 0.9, 3)
        self._found[item.id] = (item, mask)
        return item.id

    def items(self) -> tuple[MaskItem, ...]:
        return tuple(item for item, _ in self._found.values())

    def mask(self, mask: str) -> Mask:
        return self._found[mask][1]


class SmallEye:
    """Looks at the mean of an image; the more unsure, the larger it is."""

    name = "small"

    def __init__(self) -> None:
        self.looked = 0

    def look(self, image: Image) -> np.ndarray:
        self.looked += 1
        return np.array([float(image.array.mean()), float(image.array.std())])

    def learn(self, cases: object) -> object:
        return cases

    def doubt(self, image: Image, learnt: object) -> float:
        return float(image.array.mean()) / 1e4
