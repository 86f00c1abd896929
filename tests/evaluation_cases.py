"""Small inputs of every kind for `isocenter evaluate`: balls, tables, reports."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

AFFINE = np.array([[-0.7, 0, 0, 12], [0, -0.8, 0, 7], [0, 0, 1.5, -40], [0, 0, 0, 1.0]])


def ball(seed: int, shape: tuple[int, int, int] = (16, 20, 12)) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball with a core, in noise (x, y, z as NIfTI stores it); labels 1 and 2."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape)
    at = np.array([6, 10, 6]) + rng.uniform(-1, 1, 3)
    far = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (1.5 * (z - at[2])) ** 2
    label = (far < 20).astype(np.uint8) + (far < 6).astype(np.uint8)
    image = rng.normal(100, 15, shape) + 150 * (label > 0) + 60 * (x > 12)
    return image.astype(np.int16), label


def save(array: np.ndarray, file: Path, affine: np.ndarray = AFFINE) -> None:
    """Write a NIfTI."""
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), file)


def mask_folders(root: Path, count: int = 12) -> tuple[Path, Path, Path]:
    """Two systems' predictions and the references; the second system is a voxel off in every case."""
    for n in range(count):
        _, label = ball(n)
        save(label, root / "ref" / f"c{n:02d}.nii.gz")
        save(np.roll(label, n % 2, axis=0), root / "one" / f"c{n:02d}.nii.gz")
        save(np.roll(label, 1, axis=1), root / "two" / f"c{n:02d}.nii.gz")
    return root / "one", root / "ref", root / "two"


def table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return file


def binary_rows(count: int = 40, seed: int = 0, noise: float = 0.8) -> list[tuple[str, str, int, float]]:
    """Case, patient (two cases each), truth and the probability of yes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3 == 0
    p = 1 / (1 + np.exp(-(2 * truth - 1 + np.random.default_rng(seed + 1).normal(0, noise, count))))
    del rng
    return [(f"c{i}", f"p{i // 2}", int(truth[i]), round(float(p[i]), 5)) for i in range(count)]
