"""How far readers agree: overlap and surfaces of their masks, kappa of their classes, and where they differ most.

Neither reader is taken as true: Dice and NSD are the same whichever comes first, and so is kappa. Intervals resample
patients (`bootstrap`); with fewer than 10 patients there is none, and that is said by None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval, bootstrap_mean, bootstrap_statistic
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.surfaces import surface_distances

__all__ = [
    "ClassAgreement",
    "ComparedCase",
    "MaskAgreement",
    "agree_on_classes",
    "agree_on_masks",
    "cohen_kappa",
    "compare_masks",
]

Weights = Literal["none", "linear", "quadratic"]


@dataclass(frozen=True)
class ComparedCase:
    """Two readers' masks of one image.

    Args:
        name: Of the image.
        patient: Whose it is.
        dice: Overlap; 1 where both are empty.
        nsd: Normalised surface Dice at the tolerance; None where the spacing is not known.
        volumes_ml: Of both masks; None where the spacing is not known.
        both_empty: Whether both say that there is nothing.
    """

    name: str
    patient: str
    dice: float
    nsd: float | None
    volumes_ml: tuple[float, float] | None
    both_empty: bool


@dataclass(frozen=True)
class MaskAgreement:
    """Agreement of two readers on one label.

    Args:
        cases: The one they agree least on first.
        dice: Mean over cases with its interval; None with fewer than 10 patients.
        nsd: The same of the NSD, over the cases whose spacing is known.
        mean_dice: Mean over cases, with or without an interval.
        mean_nsd: The same; None where no spacing is known.
        tolerance_mm: Of the NSD.
    """

    cases: tuple[ComparedCase, ...]
    dice: Interval | None
    nsd: Interval | None
    mean_dice: float
    mean_nsd: float | None
    tolerance_mm: float


@dataclass(frozen=True)
class ClassAgreement:
    """Agreement of two readers on a class.

    Args:
        kappa: Cohen's; None where it is not defined (both gave one and the same class to all).
        interval: Of kappa; None with fewer than 10 patients, or where most resamples leave it undefined.
        agreed: Share of images with the same class.
        table: Images by the first reader's class (row) and the second's (column).
        classes: Names of rows and columns.
        differing: Images whose class differs, those farthest apart first.
    """

    kappa: float | None
    interval: Interval | None
    agreed: float
    table: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]
    differing: tuple[str, ...]


def compare_masks(
    name: str,
    patient: str,
    masks: tuple[Bool[np.ndarray, "z y x"], Bool[np.ndarray, "z y x"]],
    *,
    spacing_mm: tuple[float, ...] | None,
    tolerance_mm: float,
) -> ComparedCase:
    """Compare two readers' masks of one image.

    Args:
        name: Of the image.
        patient: Whose it is.
        masks: On one grid.
        spacing_mm: Along (z, y, x); of a single plane (y, x) is enough; None where it is not known.
        tolerance_mm: Surfaces this near count as the same.

    Raises:
        GeometryError: The grids differ.
        UnitsError: The spacing or the tolerance is not valid.

    Example:
        >>> a, b = np.zeros((1, 1, 8), bool), np.zeros((1, 1, 8), bool)
        >>> a[..., 2:4], b[..., 2:5] = True, True
        >>> compare_masks("case", "p", (a, b), spacing_mm=(1.0, 1.0, 0.5), tolerance_mm=0.2).nsd
        0.8
    """
    a, b = masks
    overlap = dice(a, b)
    nsd, volumes = None, None
    if spacing_mm is not None:
        flat = len(spacing_mm) == 2 and a.shape[0] == 1
        first, second = (a[0], b[0]) if flat else (a, b)
        nsd = surface_distances(first, second, spacing_mm=spacing_mm).nsd(tolerance_mm)
        voxel_ml = float(np.prod(spacing_mm)) / 1000
        volumes = None if flat else (int(a.sum()) * voxel_ml, int(b.sum()) * voxel_ml)
    return ComparedCase(name, patient, overlap, nsd, volumes, not (a.any() or b.any()))


def agree_on_masks(cases: Sequence[ComparedCase], *, tolerance_mm: float, seed: int = 0) -> MaskAgreement:
    """Sum up what two readers drew.

    Args:
        cases: At least one.
        tolerance_mm: With which they were compared.
        seed: Of the resamples.

    Raises:
        DataError: There is no case.
    """
    if not cases:
        raise DataError("these readers share no image: there is nothing to compare")
    known = [c for c in cases if c.nsd is not None]
    nsd = [float(c.nsd) for c in known if c.nsd is not None]
    order = sorted(cases, key=lambda c: (c.dice, 1.0 if c.nsd is None else c.nsd, c.name))
    return MaskAgreement(
        cases=tuple(order),
        dice=_mean([c.dice for c in cases], [c.patient for c in cases], seed),
        nsd=_mean(nsd, [c.patient for c in known], seed),
        mean_dice=float(np.mean([c.dice for c in cases])),
        mean_nsd=float(np.mean(nsd)) if nsd else None,
        tolerance_mm=tolerance_mm,
    )


def cohen_kappa(
    first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " other_n"], classes: int, *, weights: Weights = "none"
) -> float:
    """Return the agreement of two readers beyond chance; NaN where chance alone agrees wholly.

    Args:
        first: Class numbers from 0 of one reader.
        second: Of the other.
        classes: How many there are.
        weights: What a disagreement costs: "none" for names; "linear" or "quadratic" for grades, by how far they lie
            apart.

    Raises:
        DataError: Lengths differ, there is none, or a number is of no class.

    Source:
        Cohen, Educ Psychol Meas 1960; Cohen, Psychol Bull 1968 (weights).

    Example:
        >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
        0.5
    """
    if len(first) != len(second) or not len(first):
        raise DataError(
            f"kappa needs as many classes of both readers and at least one, got {len(first)}, {len(second)}"
        )
    both = np.concatenate([first, second])
    if int(both.min()) < 0 or int(both.max()) >= classes:
        raise DataError(f"a class number lies outside 0 to {classes - 1}")
    table = np.zeros((classes, classes))
    np.add.at(table, (first, second), 1.0)
    cost = _cost(classes, weights)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(first)
    by_chance = float((cost * expected).sum())
    return 1 - float((cost * table).sum()) / by_chance if by_chance > 0 else float("nan")


def agree_on_classes(
    names: Sequence[str],
    patients: Sequence[str],
    answers: tuple[Sequence[str], Sequence[str]],
    classes: Sequence[str],
    *,
    weights: Weights = "none",
    seed: int = 0,
) -> ClassAgreement:
    """Sum up what two readers said.

    Args:
        names: Of the images that both answered.
        patients: Whose they are.
        answers: Class of each image by one reader, and by the other.
        classes: All that could be said, grades in their order.
        weights: As for `cohen_kappa`.
        seed: Of the resamples.

    Raises:
        DataError: There is no image, lengths differ, or an answer is no class.
    """
    place = {name: number for number, name in enumerate(classes)}
    if not names or {len(patients), len(answers[0]), len(answers[1])} != {len(names)}:
        raise DataError(
            f"{len(names)} images need as many patients and answers of both readers, and at least one image"
        )
    unknown = [a for side in answers for a in side if a not in place]
    if unknown:
        raise DataError(f"{len(unknown)} answers are none of the {len(classes)} classes")
    first, second = (np.array([place[a] for a in side], dtype=np.int64) for side in answers)
    value = cohen_kappa(first, second, len(classes), weights=weights)
    interval = None
    if np.isfinite(value) and len(set(patients)) >= LEAST_PATIENTS:
        try:
            interval = bootstrap_statistic(
                lambda i: cohen_kappa(first[i], second[i], len(classes), weights=weights),
                patients,
                seed=seed,
                method="bca",
            )
        except DataError:
            interval = None  # most resamples hold one class alone
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (first, second), 1)
    apart = _cost(len(classes), "linear")[first, second]
    differing = sorted(np.flatnonzero(first != second).tolist(), key=lambda i: (-apart[i], names[i]))
    return ClassAgreement(
        kappa=value if np.isfinite(value) else None,
        interval=interval,
        agreed=float((first == second).mean()),
        table=tuple(tuple(int(v) for v in row) for row in table),
        classes=tuple(classes),
        differing=tuple(names[i] for i in differing),
    )


def _cost(classes: int, weights: Weights) -> Float[np.ndarray, "k k"]:
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64)
    if weights == "none":
        return np.asarray((apart > 0).astype(np.float64))
    if weights == "linear":
        return apart
    return np.asarray(apart**2)


def _mean(values: Sequence[float], patients: Sequence[str], seed: int) -> Interval | None:
    return bootstrap_mean(values, patients, seed=seed) if len(set(patients)) >= LEAST_PATIENTS else None
