"""Whether thin branching structures hang together: the centreline Dice of vessels, airways and nerves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped

from isocenter.core.errors import CapabilityError
from isocenter.evaluate.mask_pairs import checked_pair, common_box

__all__ = ["centreline_dice"]


def centreline_dice(reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."]) -> float:
    """Return clDice: how much of each centreline lies within the other mask, as a harmonic mean.

    A break or a branch too many costs about its length, however thin it is; Dice hardly sees either.

    Args:
        reference: The mask taken as true; two or three axes.
        prediction: The mask that is judged.

    Returns:
        0 to 1; 1 where both are empty, 0 where one is.

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.
        CapabilityError: scikit-image, which thins the masks, is not installed.

    Source:
        Shit et al., CVPR 2021 (clDice); Lee et al., CVGIP 1994 (thinning).

    Example:
        >>> vessel = np.zeros((5, 20), bool); vessel[2, 2:18] = True
        >>> broken = vessel.copy(); broken[2, 9] = False
        >>> round(centreline_dice(vessel, broken), 4)
        0.9677
    """
    a, b = checked_pair(reference, prediction)
    box = common_box(a, b)
    if box is None:
        return 1.0
    a, b = a[box], b[box]
    if not a.any() or not b.any():
        return 0.0
    line_a, line_b = _thinned(a), _thinned(b)
    found = int(np.count_nonzero(line_a & b)) / int(np.count_nonzero(line_a))
    right = int(np.count_nonzero(line_b & a)) / int(np.count_nonzero(line_b))
    return 2 * found * right / (found + right) if found + right else 0.0


def _thinned(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    try:
        from skimage.morphology import skeletonize
    except ModuleNotFoundError as error:
        raise CapabilityError("centreline Dice needs scikit-image: pip install scikit-image") from error
    # A margin, for thinning treats the image's edge in its own way.
    thin = skeletonize(np.pad(mask, 1))  # type: ignore[no-untyped-call]
    line: Bool[np.ndarray, "*space"] = thin[(slice(1, -1),) * mask.ndim] > 0
    return line
