"""Plain folders: images/ and labels/ with the same names, or one folder of images for each class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet, unique
from isocenter.data.labelled.decathlon import mask_case, patients_of, whose, with_splits
from isocenter.data.labelled.files import ENDINGS, label_image, read_image, read_one, stem

__all__ = ["open_class_folders", "open_mask_folders"]

_MOST_VALUES = 64


def _files(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(ENDINGS)]
    return sorted(p for p in found if not p.name.startswith("."))


def open_mask_folders(folder: Path) -> LabelledSet:
    """Open a folder with images/ and labels/; the classes are the values that the labels hold.

    Names of the classes are read from `classes.txt` (a name a line, value 1 first) where there is one.

    Raises:
        DataError: A label without its image, two images of one name, or labels that hold more than 64 values.
    """
    images: dict[str, Path] = {}
    for file in _files(folder / "images"):
        if stem(file) in images:
            raise DataError(f"two images are named {stem(file)!r}", source=folder / "images")
        images[stem(file)] = file
    labels = _files(folder / "labels")
    lost = [label.name for label in labels if stem(label) not in images]
    if lost:
        raise DataError(f"{len(lost)} labels have no image of the same name, {lost[0]!r} first", source=folder)
    without = sorted(set(images) - {stem(label) for label in labels})
    values: set[int] = set()
    first: dict[int, str] = {}
    unreadable = []
    for label in labels:
        try:
            whole = read_one(label)
        except (DataError, OSError):
            unreadable.append(label.name)
            continue
        del whole
        here = {int(v) for v in np.unique(label_image(label).array) if v}
        first |= dict.fromkeys(here - values, label.name)
        values |= here
        if len(values) > _MOST_VALUES:
            raise DataError("the labels hold too many values: are they images?", source=label)
    names = _names(folder, first)
    known = patients_of(folder)
    who = whose(known, [(stem(label), (label.name, images[stem(label)].name)) for label in labels], folder)
    cases = tuple(
        mask_case(stem(label), patient, (images[stem(label)],), label, names)
        for label, patient in zip(labels, who, strict=True)
    )
    notes = [f"{len(unreadable)} labels could not be read, {unreadable[0]!r} first"] if unreadable else []
    if without:
        notes.append(f"{len(without)} images have no label of the same name and were left out, {without[0]!r} first")
    return LabelledSet(
        folder.name, "segment", names[0], with_splits(cases, folder), names[1], bool(known), notes=tuple(notes)
    )


def _names(folder: Path, first: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and values of the classes; `first` says in which file each value was met first."""
    values, file = sorted(first), folder / "classes.txt"
    if not file.is_file():
        return tuple(f"label {value}" for value in values), tuple(values)
    names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if values and max(values) > len(names):
        raise DataError(
            f"names {len(names)} classes; the label {first[max(values)]} holds the value {max(values)}", source=file
        )
    return names, tuple(range(1, len(names) + 1))


def open_class_folders(folder: Path) -> LabelledSet:
    """Open a folder with one folder of images for each class; files in folders of their own are DICOM series.

    Raises:
        DataError: A class without an image.
    """
    places = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found: list[tuple[str, tuple[Path, ...], int]] = []
    for number, place in enumerate(places):
        files = _files(place) + sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not files:
            raise DataError(f"the class {place.name!r} has no image", source=folder)
        found += [(f"{place.name}/{stem(file)}", (file,), number) for file in files]
    known = patients_of(folder)
    names = unique([name for name, _, _ in found])
    keys = [(name, (f"{p[0].parent.name}/{p[0].name}",)) for name, (_, p, _) in zip(names, found, strict=True)]
    cases = tuple(
        LabelledCase(name, patient, partial(read_image, paths), target=number)
        for name, patient, (_, paths, number) in zip(names, whose(known, keys, folder), found, strict=True)
    )
    return LabelledSet(folder.name, "classify", tuple(p.name for p in places), cases, patients_known=bool(known))
