"""Counting connected pieces: which lesions were found, which found ones are none, and how well the found ones fit.

How a piece of the prediction is matched with one of the reference decides the figures, so it is always said:

| rule | a pair matches where | partners |
| - | - | - |
| `"iou"` | the IoU of the two pieces is above the threshold (0.5: panoptic quality) | one to one |
| `"dice"` | their Dice is above the threshold | one to one |
| `"overlap"` | they share a voxel | any number: a lesion touched by two answers is one found lesion and no false one |

One-to-one partners are chosen so that the sum of IoU (or Dice) is greatest; above an IoU of 0.5 there is no choice.
Without a lesion on either side, F1 and PQ are 1; with none on one side they are 0 (`isocenter.evaluate.overlap`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from isocenter.core.errors import ConfigError
from isocenter.evaluate.mask_pairs import checked_pair, common_box

__all__ = ["LesionScores", "lesion_scores"]

_CONNECTED = {"face": 1, "edge": 2, "corner": 3}


@dataclass(frozen=True)
class LesionScores:
    """Lesions of one case.

    Args:
        reference: Lesions of the reference.
        prediction: Pieces of the prediction.
        found: Lesions of the reference with a partner.
        false: Pieces of the prediction without one.
        matched_iou: Mean IoU of the matched pairs (segmentation quality); NaN where none is matched.
        pairs: Numbers of matched pieces from 1, reference and prediction, in order of appearance.
    """

    reference: int
    prediction: int
    found: int
    false: int
    matched_iou: float
    pairs: tuple[tuple[int, int], ...]

    @property
    def sensitivity(self) -> float:
        """Share of the reference's lesions that were found; NaN without a lesion."""
        return self.found / self.reference if self.reference else float("nan")

    @property
    def precision(self) -> float:
        """Share of the prediction's pieces that are a lesion; NaN without a piece."""
        return 1 - self.false / self.prediction if self.prediction else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision (recognition quality)."""
        if not self.reference and not self.prediction:
            return 1.0
        if not self.reference or not self.prediction or not self.found:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)

    @property
    def panoptic_quality(self) -> float:
        """Recognition quality times segmentation quality.

        Source:
            Kirillov et al., CVPR 2019 (with the rule "iou" and threshold 0.5).
        """
        return self.f1 * self.matched_iou if self.found else self.f1


def lesion_scores(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    rule: Literal["iou", "dice", "overlap"] = "iou",
    threshold: float = 0.5,
    connected: Literal["face", "edge", "corner"] = "corner",
    least_voxels: int = 1,
) -> LesionScores:
    """Match the connected pieces of two masks.

    Args:
        reference: Mask of all lesions.
        prediction: Mask of all that were found.
        rule: When two pieces match.
        threshold: What "iou" or "dice" must exceed.
        connected: Through what voxels hang together.
        least_voxels: Smaller pieces are left out, on both sides.

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.
        ConfigError: No such rule or connection, or a threshold outside 0..1.

    Example:
        >>> a, b = np.zeros((1, 12), bool), np.zeros((1, 12), bool)
        >>> a[0, [1, 2, 3, 8]], b[0, [2, 3, 5]] = True, True
        >>> found = lesion_scores(a, b)
        >>> found.found, found.false, found.f1, round(found.panoptic_quality, 4)
        (1, 1, 0.5, 0.3333)
    """
    a, b = checked_pair(reference, prediction)
    if rule not in ("iou", "dice", "overlap") or connected not in _CONNECTED:
        raise ConfigError(f"no rule {rule!r} or connection {connected!r}")
    if not 0 <= threshold < 1:
        raise ConfigError(f"threshold must lie in 0..1, got {threshold}")
    box = common_box(a, b)
    if box is None:
        return LesionScores(0, 0, 0, 0, float("nan"), ())
    structure = ndimage.generate_binary_structure(a.ndim, min(_CONNECTED[connected], a.ndim))
    pieces = [_pieces(mask[box], structure, least_voxels) for mask in (a, b)]
    shared, sizes = _shared(*pieces)
    iou = shared / np.maximum(sizes[0][:, None] + sizes[1][None, :] - shared, 1)
    if rule == "overlap":
        rows, columns = np.nonzero(shared)
        found, false = len(set(rows.tolist())), shared.shape[1] - len(set(columns.tolist()))
    else:
        fit = iou if rule == "iou" else 2 * shared / np.maximum(sizes[0][:, None] + sizes[1][None, :], 1)
        fit = np.where(fit > threshold, fit, 0.0)
        rows, columns = linear_sum_assignment(fit, maximize=True)
        matched = fit[rows, columns] > 0
        rows, columns = rows[matched], columns[matched]
        found, false = len(rows), shared.shape[1] - len(columns)
    mean = float(iou[rows, columns].mean()) if len(rows) else float("nan")
    pairs = tuple((int(r) + 1, int(c) + 1) for r, c in zip(rows, columns, strict=True))
    return LesionScores(shared.shape[0], shared.shape[1], found, false, mean, pairs)


def _pieces(
    mask: Bool[np.ndarray, "*space"], structure: Bool[np.ndarray, "*around"], least_voxels: int
) -> Integer[np.ndarray, "*space"]:
    """Number the pieces from 1, leaving out the small ones."""
    numbers: Integer[np.ndarray, "*space"]
    numbers, count = ndimage.label(mask, structure)
    kept = np.bincount(numbers.reshape(-1), minlength=count + 1) >= least_voxels
    kept[0] = False
    renumbered: Integer[np.ndarray, "*space"] = np.where(kept, np.cumsum(kept), 0)[numbers]
    return renumbered


def _shared(
    reference: Integer[np.ndarray, "*space"], prediction: Integer[np.ndarray, "*space"]
) -> tuple[Float[np.ndarray, "n m"], tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]]:
    """Return the voxels that each pair of pieces shares, and the size of each piece."""
    rows, columns = int(reference.max()) + 1, int(prediction.max()) + 1
    together = np.bincount((reference * columns + prediction).reshape(-1).astype(np.int64), minlength=rows * columns)
    table = together.reshape(rows, columns).astype(np.float64)
    return table[1:, 1:], (table.sum(axis=1)[1:], table.sum(axis=0)[1:])
