"""How sure networks are of an answer: numbers of it, which held-out cases tie to a Dice, or to how far off it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import ndimage

__all__ = ["answer_numbers", "estimate_numbers", "sharpness", "spread_number"]


def sharpness(probabilities: Float[np.ndarray, "classes *space"]) -> Float[np.ndarray, " foreground"]:
    """Return the Dice of each class's mask with the probabilities that it was cut from: 1 when all are 0 or 1.

    Args:
        probabilities: Of every class, background first.

    Returns:
        For each class but the background; 0 where its mask is empty.
    """
    chosen = probabilities.argmax(0)
    found = []
    for number in range(1, len(probabilities)):
        mask, p = chosen == number, probabilities[number].astype(np.float64)
        found.append(float(2 * p[mask].sum() / (p.sum() + mask.sum())) if mask.any() else 0.0)
    return np.array(found)


def answer_numbers(views: Sequence[Float[np.ndarray, "classes *space"]]) -> dict[str, float]:
    """Return numbers of an answer that tell a good one from a poor one (`safety.quality`).

    Args:
        views: Probabilities of every class, background first, as each view of the image gives them (the image, and its
            mirror image turned back); the answer is their mean.

    Returns:
        "sharp": mean sharpness of the classes; "least sharp": of the least sharp; "doubt": mean entropy where there may
        be foreground, 0 to 1; "whole": share of the largest part of the foreground; "size": logarithm of the share of
        foreground; "views": mean Dice of the views' masks, where there are several; "absent": share of classes that
        are not in it.
    """
    mean = np.mean(views, axis=0)
    sharp, chosen = sharpness(mean), mean.argmax(0)
    mask = chosen > 0
    near = mean[0] < 0.95
    p = np.clip(mean[:, near].astype(np.float64), 1e-7, 1)
    doubt = float(-(p * np.log(p)).sum(0).mean() / np.log(len(mean))) if near.any() else 1.0
    whole = 0.0
    if mask.any():
        parts, _ = ndimage.label(mask)
        whole = float(np.bincount(parts.ravel())[1:].max() / mask.sum())
    out = {
        "sharp": float(sharp.mean()),
        "least sharp": float(sharp.min()),
        "doubt": doubt,
        "whole": whole,
        "size": float(np.log(mask.mean() + 1e-5)),
        "absent": float((sharp == 0).mean()),
    }
    if len(views) > 1:
        masks = [view.argmax(0) for view in views]
        same = [
            2 * float(((a == n) & (b == n)).sum()) / max(1, int((a == n).sum()) + int((b == n).sum()))
            for i, a in enumerate(masks)
            for b in masks[i + 1 :]
            for n in range(1, len(mean))
        ]
        out["views"] = float(np.mean(same))
    return out


def estimate_numbers(views: Float[np.ndarray, "networks views"]) -> dict[str, float]:
    """Return numbers of an estimate that tell a sure one from an unsure one (`safety.difficulty`).

    Args:
        views: What each network gives for each view of the image, in the unit of the estimate.

    Returns:
        "answer": the estimate; "views": logarithm of the spread between views, where there are several, mean over
        networks; "networks": the same between networks, where several answer.

    Example:
        >>> sorted(estimate_numbers(np.array([[1.0, 3.0]])))
        ['answer', 'views']
    """
    out = {"answer": float(views.mean())}
    if views.shape[1] > 1:
        out["views"] = float(np.mean([spread_number(row) for row in views]))
    if len(views) > 1:
        out["networks"] = spread_number(views.mean(axis=1))
    return out


def spread_number(values: Float[np.ndarray, " n"]) -> float:
    """Return the logarithm of the deviation of values, as a number of an answer; of equal ones, of a billionth."""
    return float(np.log(max(float(values.std()), 1e-9)))
