"""Lines of text burnt into a picture: found by shape, never read.

A glyph is a small bright component on a dark surround, made of thin strokes. Single ones occur in anatomy and in
calipers; four of one height on one line, evenly close, hardly do. What the text says is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

__all__ = ["TextLine", "text_lines"]

LEAST_GLYPHS = 4
_LEAST_HEIGHT, _MOST_HEIGHT = 5, 48


@dataclass(frozen=True)
class TextLine:
    """A line of glyphs: rows [top, bottom) and columns [left, right) of the picture, and how many glyphs."""

    top: int
    bottom: int
    left: int
    right: int
    glyphs: int


def text_lines(picture: Float[np.ndarray, "y x"]) -> tuple[TextLine, ...]:
    """Find lines of bright glyphs on a darker surround.

    Args:
        picture: Grey values, bright text high.

    Returns:
        The lines, from top to bottom. Dark text on bright ground, and text under 5 pixels high, are not found.

    Example:
        >>> text_lines(np.zeros((64, 64), np.float32))
        ()
    """
    low, high = float(picture.min()), float(picture.max())
    if high <= low:
        return ()
    # White top-hat: keeps what is brighter than its surround and thinner than the window, so tissue falls away.
    thin = picture - ndimage.grey_opening(picture, size=(7, 7))
    labels, count = ndimage.label(thin > 0.4 * (high - low), structure=np.ones((3, 3)))
    if not count:
        return ()
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    boxes = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        fill = sizes[number] / (height * width)
        if _LEAST_HEIGHT <= height <= _MOST_HEIGHT and 0.1 * height <= width <= 1.6 * height and 0.2 <= fill <= 0.95:
            boxes.append((box[0].start, box[0].stop, box[1].start, box[1].stop))
    return tuple(sorted(_grouped(boxes), key=lambda line: (line.top, line.left)))


def _grouped(boxes: list[tuple[int, int, int, int]]) -> list[TextLine]:
    left = sorted(boxes, key=lambda b: b[2])
    lines = []
    while left:
        chain = [left.pop(0)]
        for box in list(left):
            if _follows(chain[-1], box):
                chain.append(box)
                left.remove(box)
        if len(chain) >= LEAST_GLYPHS and not _ticks(chain):
            top, bottom = min(b[0] for b in chain), max(b[1] for b in chain)
            lines.append(TextLine(top, bottom, chain[0][2], max(b[3] for b in chain), len(chain)))
    return lines


def _follows(last: tuple[int, int, int, int], box: tuple[int, int, int, int]) -> bool:
    height = last[1] - last[0]
    same_height = abs((box[1] - box[0]) - height) <= max(1.0, 0.35 * height)
    same_line = abs(box[1] - last[1]) <= max(1.0, 0.25 * height)
    return same_height and same_line and 0 <= box[2] - last[3] <= 1.2 * height


def _ticks(chain: list[tuple[int, int, int, int]]) -> bool:
    """Whether all are the same narrow stroke, as the marks of a ruler are."""
    return all(b[3] - b[2] <= 0.35 * (b[1] - b[0]) for b in chain)
