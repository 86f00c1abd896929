"""How features stand perturbations of the image and its mask: spread by region, intraclass correlation over regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isocenter.core import Image, Mask
from isocenter.evaluate.statistics import intraclass_correlation
from isocenter.tasks.phenotype import FeatureSettings, RegionFeatures
from isocenter.tasks.phenotype.perturb import draw_perturbations, perturbed_features
from isocenter.verbs.phenotyping.document import FeatureEntry, RobustnessEntry

__all__ = ["robust", "with_spread"]

_LEAST_REGIONS = 2


def robust(
    image: Image, mask: Mask, settings: FeatureSettings, *, count: int, seed: int
) -> tuple[list[dict[str, float]], tuple[RobustnessEntry, ...]]:
    """Compute features under perturbations.

    Args:
        image: On the grid of the features.
        mask: On its grid.
        settings: Of the features.
        count: How many perturbations, 2 or more.
        seed: Of them.

    Returns:
        For each segment the standard deviation of each feature that every perturbation gives a value; and each
        feature's correlation over the segments, empty for fewer than two of them.
    """
    runs = perturbed_features(image, mask, draw_perturbations(count, seed=seed), settings)
    tables = [_table([run[index] for run in runs]) for index in range(len(mask.segments))]
    spread = [{tag: float(np.std(v, ddof=1)) for tag, v in table.items()} for table in tables]
    found = []
    for tag in dict.fromkeys(t for table in tables for t in table):
        rows = np.array([table[tag] for table in tables if tag in table])
        if len(rows) >= _LEAST_REGIONS:
            icc = intraclass_correlation(rows, form="1,1")
            found.append(
                RobustnessEntry(
                    tag=tag, icc=icc.value, low=icc.low, high=icc.high, regions=len(rows), perturbations=count
                )
            )
    return spread, tuple(found)


def _table(runs: Sequence[RegionFeatures]) -> dict[str, np.ndarray]:
    values = [{f.tag: f.value for f in run.features} for run in runs]
    return {tag: np.array([v[tag] for v in values]) for tag in values[0] if all(v[tag] is not None for v in values)}


def with_spread(entries: Sequence[FeatureEntry], spread: dict[str, float]) -> list[FeatureEntry]:
    """Return features with their deviations."""
    return [e.model_copy(update={"deviation": spread.get(e.tag)}) for e in entries]
