"""The two labelled sets behind the automatic tasks, as cases in memory.

Only images whose licence lets weights ship are read: for the chest X-rays those marked CC BY (never CC BY-SA) in the
set's own metadata; the hippocampus set is CC BY-SA 4.0 as a whole, and its weights carry the same licence.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as Picture

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.nifti import read_nifti

__all__ = ["Case", "folds_by_group", "load_hippocampus", "load_lungs", "load_nih"]

ADULT_YEARS = 18


@dataclass(frozen=True)
class Case:
    """One labelled image.

    Args:
        name: File stem; never a patient's name.
        group: Who it is of: cases of one group stay in one fold.
        image: Intensities (z, y, x) of a volume nearest to axial SPL, or (y, x) of a picture.
        label: Class numbers on the same grid.
        source: Where it comes from, for the attribution on the card.
    """

    name: str
    group: str
    image: Float[np.ndarray, "*space"]
    label: UInt8[np.ndarray, "*space"]
    source: str = ""


def load_lungs(folder: Path) -> list[Case]:
    """Read the chest X-rays that have a lung mask and a CC BY licence, sorted by name.

    Raises:
        DataError: The folder does not hold the set.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise DataError("no metadata.csv here; give the folder of the chest X-ray set", source=folder)
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cases = []
    for row in rows:
        licence = row["license"].strip()
        if row["lung_mask"] != "True" or not licence.startswith("CC BY") or "SA" in licence:
            continue
        name = Path(row["image"]).name
        image = np.asarray(Picture.open(folder / "images" / name).convert("L"), dtype=np.float32)
        label = np.asarray(Picture.open(folder / "lung_masks" / name).convert("L")) > 0
        source = row["doi"].strip() or row["url"].strip()
        cases.append(Case(Path(name).stem, f"patient-{row['patientid']}", image, label.astype(np.uint8), source))
    return sorted(cases, key=lambda case: case.name)


def load_nih(folder: Path) -> list[Case]:
    """Read the frontal chest X-rays of adults of NIH ChestX-ray14, without labels, sorted by name.

    NIH asks for attribution and restricts nothing else. Labels are all 0: no outlines come with this set.

    Raises:
        DataError: The folder does not hold the set.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        raise DataError("no labels.csv here; give the folder of the NIH chest X-rays", source=folder)
    with table.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["Patient Age"]) >= ADULT_YEARS]
    cases = []
    for row in rows:
        file = folder / "images_256" / row["Image Index"]
        if file.is_file():
            image = np.asarray(Picture.open(file).convert("L"), dtype=np.float32)
            group = f"nih-{row['Patient ID']}"
            cases.append(Case(file.stem, group, image, np.zeros(image.shape, np.uint8), "NIH ChestX-ray14"))
    if not cases:
        raise DataError("no images_256/*.png here; give the folder of the NIH chest X-rays", source=folder)
    return sorted(cases, key=lambda case: case.name)


def load_hippocampus(folder: Path) -> list[Case]:
    """Read the T1 crops (1 mm) as arrays (z, y, x) that grow to S, P, L, sorted by name.

    Raises:
        DataError: The folder does not hold the set, or a file is not on a 1 mm grid.
    """
    files = sorted((folder / "images").glob("*.nii.gz"))
    if not files:
        raise DataError("no images/*.nii.gz here; give the folder of the hippocampus set", source=folder)
    cases = []
    for file in files:
        image, label = (_read_lps(folder / kind / file.name) for kind in ("images", "labels"))
        name = file.name.removesuffix(".nii.gz")
        cases.append(Case(name, name, image, label.astype(np.uint8), "Medical Segmentation Decathlon, task 4"))
    return cases


def _read_lps(file: Path) -> Float[np.ndarray, "z y x"]:
    """Read a 1 mm volume and turn it so that z, y and x grow to the head, the posterior and the left."""
    image = read_nifti(file)
    geometry = image.geometry
    axes, flips = geometry.canonical_steps()
    if geometry.spacing_mm is None or not np.allclose(geometry.spacing_mm, 1, atol=1e-6):
        raise DataError("expected a 1 mm grid", source=file.name)
    turned = np.flip(image.array[0].transpose(axes), tuple(i for i, flip in enumerate(flips) if flip))
    return np.ascontiguousarray(turned, dtype=np.float32)


def folds_by_group(groups: list[str], count: int, seed: int) -> list[int]:
    """Give every case a fold so that no group is in two folds and the folds are about equally large.

    Args:
        groups: The group of each case.
        count: How many folds.
        seed: Decides the order in which groups are dealt.

    Raises:
        ConfigError: Fewer groups than folds.

    Example:
        >>> folds_by_group(["a", "a", "b", "c"], 2, seed=0).count(0)
        2
    """
    names = sorted(set(groups))
    if len(names) < count:
        raise ConfigError(f"{len(names)} groups can't be split into {count} folds")
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=groups.count, reverse=True)  # stable: the random order is kept among equals
    load, fold_of = [0] * count, {}
    for name in order:
        fold = load.index(min(load))
        fold_of[name] = fold
        load[fold] += groups.count(name)
    return [fold_of[group] for group in groups]
