"""Where in the patient a voxel of an image lies, in words: only as far as the image's orientation says."""

from __future__ import annotations

import numpy as np

from isocenter.core.geometry import Geometry

__all__ = ["place_in_words"]

_PAIRS = ("LR", "PA", "SI")
_SAYS = {
    "L": "patient's left", "R": "patient's right", "P": "posterior third", "A": "anterior third", "S": "upper third",
    "I": "lower third",
}  # fmt: skip
_TERMS = {"H": "S", "F": "I"}
_MIDDLE = ("near the middle between left and right", "middle third from front to back", "middle third in height")
_MIDLINE = 0.05
"""Share of the image's width on either side of its middle where no side is named."""


def place_in_words(geometry: Geometry, index_zyx: tuple[float, float, float]) -> str:
    """Return side and third of the image where a voxel lies, in the patient's directions; "" where none is known.

    Sides are those of the image's field, not of the body: the middle of an image is its own middle.

    Args:
        geometry: The grid.
        index_zyx: Of the voxel.

    Example:
        >>> chest = Geometry((1, 300, 200), patient_orientation=("L", "F"))
        >>> place_in_words(chest, (0, 280, 30))
        "patient's right, lower third"
        >>> place_in_words(Geometry((1, 300, 200)), (0, 280, 30))
        ''
    """
    letters = _letters(geometry)
    found = ["", "", ""]
    for axis, letter in enumerate(letters):
        if not letter or geometry.shape[axis] < 3:
            continue
        pair = next(i for i, both in enumerate(_PAIRS) if letter in both)
        share = (index_zyx[axis] + 0.5) / geometry.shape[axis]
        towards, away = letter, _PAIRS[pair].replace(letter, "")
        near = abs(share - 0.5) <= _MIDLINE if pair == 0 else 1 / 3 <= share <= 2 / 3
        found[pair] = _MIDDLE[pair] if near else _SAYS[towards if share > 0.5 else away]
    return ", ".join(words for words in found if words)


def _letters(geometry: Geometry) -> tuple[str, str, str]:
    """Return towards which side each axis (z, y, x) grows; "" where that is not known or too oblique to be said."""
    directions = geometry.directions
    if directions is not None:
        found = []
        for axis in range(3):
            column = np.asarray(directions)[:, axis]
            main = int(np.argmax(np.abs(column)))
            # Beyond 45 degrees another direction would be the main one; nearer to it than 30 a third says little.
            sure = abs(column[main]) > np.cos(np.deg2rad(30))
            found.append(_PAIRS[main][0 if column[main] > 0 else 1] if sure else "")
        return found[0], found[1], found[2]
    row, column_letter = ("".join(_TERMS.get(c, c) for c in t.upper())[:1] for t in geometry.patient_orientation)
    known = {c for pair in _PAIRS for c in pair}
    return "", column_letter if column_letter in known else "", row if row in known else ""
