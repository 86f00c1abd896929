"""Sets that maps of where networks looked are measured on. Not a benchmark itself.

Where the truth must be known it is planted: a soft round opacity in real chest radiographs, a soft ball in real MR
crops of the hippocampus, at a place drawn anew for each image. Nothing of the images leaves the folder of work.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as Picture

from benchmarks.adapt_sets import CXR_FINDINGS

__all__ = ["SETS", "Case", "Made", "Set"]


@dataclass(frozen=True, eq=False)
class Case:
    """An image that no network learnt from, and what is there.

    Args:
        file: The image.
        patient: Whose it is.
        present: Numbers of the findings or classes that are there.
        truth: Where, on the image's own voxels (z, y, x); None where that is not known.
    """

    file: Path
    patient: str
    present: tuple[int, ...]
    truth: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """A set.

    Args:
        table: What is learnt from.
        cases: What is measured on.
        side: Longest side that networks see.
    """

    table: Path
    cases: tuple[Case, ...]
    side: int
    notes: Mapping[str, str] = field(default_factory=dict)


def held_out(name: str) -> bool:
    """Tell whether a patient is measured on: a third of them, by a hash of the name."""
    return hashlib.sha256(name.encode()).digest()[0] % 3 == 0


def _table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["image", "patient", "split", *columns], *rows])
    return file


def _split(name: str) -> str:
    return "test" if held_out(name) else "train"


def planted_chest(data: Path, work: Path) -> Made:
    """Chest radiographs of softened contrast, in every other one a round opacity with a dark rim, 13 to 24 pixels wide.

    It may lie anywhere but at the very edge; the rim makes it one on white as on black.
    """
    rows, cases = [], []
    for number, file in enumerate(sorted((data / "cxr_nih" / "images_256").glob("*.png"))):
        rng = np.random.default_rng((11, number))
        pixels = 50 + 0.6 * np.asarray(Picture.open(file).convert("L"), dtype=np.float64)
        there = number % 2
        if there:
            y, x = rng.uniform(0.15, 0.85, 2) * pixels.shape
            radius, bright = rng.uniform(13, 24), rng.uniform(80, 120)
            gap = np.hypot(*(a - c for a, c in zip(np.indices(pixels.shape), (y, x), strict=True)))
            pixels = pixels + bright * (1 - (gap / radius) ** 2) * np.exp(-((gap / radius) ** 2))
            truth = (gap <= 1.2 * radius)[None]
        place = work / file.name
        Picture.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place)
        rows.append([place.name, file.stem, _split(file.stem), there])
        if there and held_out(file.stem):
            cases.append(Case(place, file.stem, (0,), truth))
    return Made(_table(work / "t.csv", ["opacity"], rows), tuple(cases), 64)


def planted_hippocampus(data: Path, work: Path) -> Made:
    """Crops of T1 MR, in every other one a bright ball with a dark rim, 6 to 9 voxels wide."""
    rows, cases = [], []
    for number, file in enumerate(sorted((data / "mr_hippocampus_msd" / "images").glob("*.nii.gz"))):
        rng = np.random.default_rng((12, number))
        loaded = nib.load(file)
        values = np.asarray(loaded.dataobj, dtype=np.float64)
        there = number % 2
        if there:
            centre = rng.uniform(0.15, 0.85, 3) * values.shape
            radius = rng.uniform(6, 9)
            gap = np.sqrt(sum((a - c) ** 2 for a, c in zip(np.indices(values.shape), centre, strict=True)))
            rim = (1 - (gap / radius) ** 2) * np.exp(-((gap / radius) ** 2))
            values = values + rng.uniform(4, 6) * values.std() * rim
            truth = (gap <= 1.2 * radius).T
        name = file.name.removesuffix(".nii.gz")
        nib.save(nib.Nifti1Image(values.astype(np.float32), loaded.affine), work / file.name)
        rows.append([file.name, name, _split(name), there])
        if there and held_out(name):
            cases.append(Case(work / file.name, name, (0,), truth))
    return Made(_table(work / "t.csv", ["ball"], rows), tuple(cases), 24)


def chest(data: Path, work: Path) -> Made:
    """Chest radiographs with findings mined from reports."""
    rows, cases = [], []
    with (data / "cxr_nih" / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            file = data / "cxr_nih" / "images_256" / row["Image Index"]
            if not file.is_file():
                continue
            found = [int(f in row["Finding Labels"].split("|")) for f in CXR_FINDINGS]
            rows.append([_linked(file, work), file.stem, _split(file.stem), *found])
            if any(found) and held_out(file.stem):
                cases.append(Case(file, file.stem, tuple(i for i, v in enumerate(found) if v)))
    return Made(_table(work / "t.csv", CXR_FINDINGS, rows), tuple(cases), 64)


def breast(data: Path, work: Path) -> Made:
    """Breast ultrasound: benign, malignant, normal."""
    rows, cases = [], []
    with (data / "us_breast_busi" / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            file = data / "us_breast_busi" / "images" / row["image"]
            rows.append([_linked(file, work), file.stem, _split(file.stem), row["label"]])
            if row["label"] != "normal" and held_out(file.stem):
                cases.append(Case(file, file.stem, (("benign", "malignant").index(row["label"]),)))
    return Made(_table(work / "t.csv", ["label"], rows), tuple(cases), 64)


def _linked(file: Path, work: Path) -> str:
    place = work / file.name
    if not place.exists():
        place.symlink_to(file)
    return place.name


def spread(cases: Sequence[Case], most: int) -> Iterator[Case]:
    """Yield at most so many cases, spread over all."""
    for place in np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int):
        yield cases[place]


@dataclass(frozen=True)
class Set:
    """How a set is made and learnt.

    Args:
        title: In words.
        make: Makes it.
        steps: Of each network.
        networks: How many.
        widths: Of their levels.
        how: Further settings of `isocenter adapt --data`.
        most: Cases that are measured on.
    """

    title: str
    make: Callable[[Path, Path], Made]
    steps: int
    networks: int
    widths: tuple[int, ...] | None = (16, 32, 64, 128)
    how: Mapping[str, object] = field(default_factory=dict)
    most: int = 30


SETS: dict[str, Set] = {
    "planted-chest": Set(
        "Chest radiographs with a planted opacity that has a rim (421 images; place known)", planted_chest, 250, 2
    ),
    "planted-hippocampus": Set(
        "Hippocampus T1 crops with a planted ball that has a rim (195 volumes; place known)",
        planted_hippocampus, 400, 1, (8, 16, 32, 64), most=14,
    ),
    "chest": Set(
        "NIH chest radiographs, eight findings, by a linear answer like the one that ships (421 images; place unknown)",
        chest, 1, 2, None, {"method": "linear", "region": "lungs", "mirror": "off"},
    ),
    "breast": Set(
        "Breast ultrasound (BUSI), three classes (623 images, split without regard to frames that are there twice: its "
        "AUROC is too good; place not known)",
        breast, 200, 1,
    ),
}  # fmt: skip
