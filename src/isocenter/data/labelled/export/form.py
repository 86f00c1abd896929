"""What the writers of all forms share: cases made ready, names that are safe, parts and folds of whole patients."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import PIL.Image
from pydicom import Dataset

from isocenter.core import Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import DataError, IdentityLeak
from isocenter.data.images.nifti import write_nifti
from isocenter.data.images.picture import read_picture
from isocenter.data.images.proof import prove, prove_image
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.files import read_label

__all__ = [
    "FORMS",
    "ExportOptions",
    "Exported",
    "Form",
    "Ready",
    "as_labelmap",
    "ending_of",
    "folds_of",
    "is_picture",
    "make_ready",
    "write_image",
    "write_mask",
    "write_patients",
]

Form = Literal["folders", "nnunet", "decathlon", "coco", "bids", "seg", "shards"]

FORMS: tuple[Form, ...] = get_args(Form)

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_FOLDS = 5
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class ExportOptions:
    """How a set is written.

    Args:
        suffix: Of BIDS names, e.g. "T1w"; "" for what the modality says, where BIDS knows one.
        headers: For DICOM Segmentations, the headers of the image of a case, by its name.
        identified: Whether DICOM Segmentations are written although nobody said that their headers hold no identity.
        replace: Whether a folder that stands there is replaced.
    """

    suffix: str = ""
    headers: Callable[[str], Sequence[Dataset]] | None = None
    identified: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        form: Of the folder.
        folder: Where.
        cases: Names of the cases that were written.
        left_out: Names of the others, and why.
        parts: How many cases are in each part; "" where the set has none.
        notes: What whoever trains should know.
    """

    form: Form
    folder: Path
    cases: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    parts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Ready:
    """A case in memory, as it is written.

    Args:
        case: Of the set.
        image: Without anything that names it.
        mask: On its grid, segments numbered as the set's classes.
    """

    case: LabelledCase
    image: Image
    mask: Mask


def make_ready(labelled: LabelledSet, case: LabelledCase) -> Ready:
    """Read a case, and take away what is not its numbers, its grid and its kind.

    Raises:
        DataError: It can't be read, or its name is none for a file.
    """
    if not _SAFE.fullmatch(case.name):
        raise DataError(f"{case.name!r} is no name for a file: letters, digits, and . _ - inside, at most 80 of them")
    if case.mask is None:
        raise DataError("its label is no mask; these forms hold masks")
    image = case.image()
    mask = case.mask(image.geometry)
    segments = tuple(
        Segment(number, name[:64], algorithm_type="MANUAL") for number, name in enumerate(labelled.classes, start=1)
    )
    array = mask.array if mask.array.dtype != np.float32 else mask.array >= 0.5
    numbers = [s.number for s in mask.segments]
    if numbers != [s.number for s in segments]:
        raise DataError(f"its mask has the segments {numbers}, and the set {len(segments)} classes")
    geometry = replace(image.geometry, frame_uid="")
    plain = Image(image.array, geometry, image.quantity, image.modality, body_part=image.body_part)
    return Ready(case, plain, Mask(array, geometry, segments, Source()))


def as_labelmap(ready: Ready) -> Mask:
    """Return the mask as one number for each voxel.

    Raises:
        DataError: Classes overlap.
    """
    mask = ready.mask
    if mask.is_labelmap:
        return mask
    if int(mask.array.astype(np.uint8).sum(axis=0).max(initial=0)) > 1:
        raise DataError("its classes overlap, and this form holds one class for a voxel; export one label at a time")
    array = np.zeros(mask.geometry.shape, dtype=np.uint16)
    for segment, plane in zip(mask.segments, mask.array, strict=True):
        array[plane] = segment.number
    return Mask(array, mask.geometry, mask.segments, mask.source)


def is_picture(image: Image) -> bool:
    """Tell whether an image is kept without loss as a PNG, and has no place in the patient that a PNG would lose."""
    plain = image.geometry.affine is None and image.geometry.shape[0] == 1
    if image.quantity is Quantity.RGB:
        return plain and len(image.array) == 3 and image.array.dtype == np.uint8
    return plain and len(image.array) == 1 and image.array.dtype in (np.uint8, np.uint16)


def ending_of(images: Iterable[Image]) -> str:
    """Return how files of a set end: pictures as PNG where all are, else NIfTI."""
    return ".png" if all(is_picture(image) for image in images) else ".nii.gz"


def write_image(image: Image, path: Path) -> None:
    """Write an image as its file's name says, and compare what is read back.

    Raises:
        DataError: It can't be written, or was read back otherwise.
    """
    if not path.name.endswith(".png"):
        write_nifti(image, path)
        return
    planes = image.array[:, 0]
    PIL.Image.fromarray(np.moveaxis(planes, 0, -1) if len(planes) == 3 else planes[0]).save(path)
    prove_image(image, read_picture(path))


def write_mask(mask: Mask, path: Path) -> None:
    """Write a labelmap as its file's name says, and compare what is read back.

    Raises:
        DataError: It can't be written, or was read back otherwise.
    """
    if not path.name.endswith(".png"):
        write_nifti(mask, path)
        return
    array = mask.array[0]
    PIL.Image.fromarray(array.astype(np.uint8) if int(array.max(initial=0)) < 256 else array).save(path)
    numbers = [s.number for s in mask.segments]
    prove(mask, read_label(path, [s.label for s in mask.segments], numbers, mask.geometry))


def write_patients(cases: Sequence[LabelledCase], folder: Path, *, parts: bool = True) -> None:
    """Write patients.csv, and splits.csv where the set has parts."""
    (folder / "patients.csv").write_text(_csv(("case", "patient"), [(c.name, c.patient) for c in cases]), "utf-8")
    if parts and any(c.split for c in cases):
        (folder / "splits.csv").write_text(_csv(("case", "split"), [(c.name, c.split) for c in cases]), "utf-8")


def folds_of(cases: Sequence[LabelledCase]) -> list[dict[str, list[str]]]:
    """Return which cases are learnt from and which are held out, as nnU-Net's splits_final.json has it.

    The parts of the set where it has a validation part; else five folds of whole patients (fewer patients, fewer
    folds), decided by a hash of the patient. No fold where there is one patient.
    """
    if any(c.split == "validation" for c in cases):
        held = [c.name for c in cases if c.split == "validation"]
        return [{"train": [c.name for c in cases if c.split != "validation"], "val": held}]
    order = sorted({c.patient for c in cases}, key=lambda p: hashlib.sha256(p.encode()).hexdigest())
    count = min(_FOLDS, len(order))
    if count < 2:
        return []
    fold = {patient: number % count for number, patient in enumerate(order)}
    return [
        {
            "train": [c.name for c in cases if fold[c.patient] != number],
            "val": [c.name for c in cases if fold[c.patient] == number],
        }
        for number in range(count)
    ]


def check_patients(cases: Sequence[LabelledCase]) -> None:
    """Refuse a set in which a patient stands in two parts.

    Raises:
        IdentityLeak: One does.
    """
    parts: dict[str, set[str]] = {}
    for case in cases:
        parts.setdefault(case.patient, set()).add(case.split)
    torn = [name for name, found in parts.items() if len(found) > 1]
    if torn:
        raise IdentityLeak(f"{len(torn)} patients have cases in more than one part of the set; put each into one")


def _csv(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return stream.getvalue()
