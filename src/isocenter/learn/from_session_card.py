"""The card of an adapter: what it learnt from, what it is worth on held-out cases, and what is known to go wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from isocenter.evaluate.bootstrap import LEAST_PATIENTS, bootstrap_mean
from isocenter.learn.from_session import Adapted

__all__ = ["LEVEL", "adapter_card", "held_out", "interval_of_mean"]

LEVEL = 0.95


def held_out(values: Sequence[float]) -> list[float]:
    """Return what was measured of the cases that hold the structure."""
    return [float(v) for v in values if not math.isnan(v)]


def interval_of_mean(values: Sequence[float]) -> tuple[float, float, str]:
    """Return the interval of a mean Dice, and how it was made: BCa bootstrap, or Student's t with few cases.

    Source:
        Student, Biometrika 1908. With two or three cases it is as wide as it should be.
    """
    if len(values) >= LEAST_PATIENTS:
        found = bootstrap_mean(list(values), [str(i) for i in range(len(values))], level=LEVEL)
        return found.low, found.high, "bootstrap over cases (BCa)"
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return max(0.0, mean - reach), min(1.0, mean + reach), "Student's t over cases, cut to 0 to 1"


def adapter_card(name: str, label: str, found: Adapted, *, licence: str, command: str) -> dict[str, Any]:
    """Return the fields of a `WeightsCard` for an adapter.

    Args:
        name: Of the task.
        label: Of the structure.
        found: What was learnt.
        licence: Of the adapter.
        command: What made it.
    """
    values, before = held_out(found.dice), held_out(found.dice_before)
    folds = min(len(values), found.settings.folds)
    way = "leave one case out" if folds == len(values) else f"{folds}-fold cross-validation by case"
    metrics = []
    for what, dice in (("adapted", values), ("examples alone, not adapted", before)):
        low, high, how = interval_of_mean(dice)
        metrics.append(
            {
                "name": "Dice",
                "structure": f"{label}, {what}",
                "value": float(np.mean(dice)),
                "low": low,
                "high": high,
                "level": LEVEL,
                "count": len(dice),
                "how": f"{way}; {how}",
            }
        )
    return {
        "name": name,
        "version": "1",
        "title": f"{label}, adapted from a session",
        "licence": licence,
        "network": {"lora_rank": found.settings.rank, "lora_scale": found.settings.scale, "dims": 2},
        "intended_use": f"Outlining {label!r} in images like the confirmed ones; a person looks at each outline.",
        "not_for": "Diagnosis on its own; images of another kind, device or population than the confirmed ones.",
        "training_data": [
            {
                "name": "confirmed cases of a session",
                "licence": licence,
                "source": "this installation",
                "cases": len(found.dice),
                "note": "Masks as a person confirmed them. Whether two cases are of one patient is not known.",
            }
        ],
        "training": {
            "command": command,
            "settings": found.settings.model_dump(mode="json"),
            "lessons": found.step,
            "checked_at": list(found.checks),
            "held_out_dice_at_checks": [round(v, 4) for v in found.curve],
            "loss": [round(v, 4) for v in found.losses],
            "seconds": round(found.seconds, 1),
        },
        "metrics": metrics,
        "calibration": {"held_out_dice": [round(v, 4) for v in values]},
        "limitations": _limitations(found, len(values), float(np.mean(before))),
    }


def _limitations(found: Adapted, count: int, before: float) -> list[str]:
    lines = [
        f"Measured on {count} cases of one session; nothing is known of other devices, places or people.",
        "Every case counted as a patient of its own. Two cases of one patient would make the figure too good.",
        "The cross-validated networks learnt from fewer cases than the one that is kept, which was not measured.",
        "It answers slice by slice from examples at the same height of the image: crop and orient as in the session.",
    ]
    if found.step == 0:
        lines.append(f"Adaptation did not help (held-out Dice {before:.2f} without it): the adapter changes nothing.")
    return lines
