"""What to show of an answer: three planes through it, a closer look at small things, every segment at least once."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as Encoder

from isocenter.core import Image, Mask
from isocenter.verbs.report.display import Window, choose_window, in_colour
from isocenter.verbs.report.overlay import PALETTE, Drawing, draw, largest
from isocenter.verbs.report.planes import Letters, Oriented, PlaneName, Slice

__all__ = ["Frame", "Picture", "pictures"]

SIZE = 440
MOST_FRAMES = 15
MOST_EXTRA = 3
"""Extra pictures for segments that the three planes miss; any others are met by scrolling."""
_SMALL_SHARE = 0.3
_MARGIN_SHARE = 1.0


@dataclass(frozen=True)
class Frame:
    """One drawn plane: a base picture, a transparent layer of segments ("" where nothing is drawn), and where it is."""

    base: bytes
    base_type: str
    layer: bytes
    place: str


@dataclass(frozen=True)
class Picture:
    """A picture of one plane, or of several that one can scroll through.

    Args:
        title: Name of the plane, e.g. "Axial".
        alt: What is to be seen, in words.
        letters: Sides of the patient at its edges.
        frames: Planes in the order of their place.
        key: Index of the frame to show first, and to print.
        size: (width, height) in pixels.
        bar_mm: Length of the scale bar, None where the spacing is unknown.
        bar_share: Its length as a share of the width.
        window: How values are shown, in words.
        legend: (label, colour) of each segment drawn in any frame.
    """

    title: str
    alt: str
    letters: Letters
    frames: tuple[Frame, ...]
    key: int
    size: tuple[int, int]
    bar_mm: int | None
    bar_share: float
    window: str
    legend: tuple[tuple[str, tuple[int, int, int]], ...]


def pictures(image: Image, mask: Mask | None, *, size: int = SIZE, most_frames: int = MOST_FRAMES) -> list[Picture]:
    """Draw an image with its mask for the report.

    Args:
        image: The image.
        mask: Its mask on the same grid, or None.
        size: Pixels of the longer side.
        most_frames: Planes to scroll through, per picture.

    Returns:
        For a volume three planes where the segments are largest, then a closer look where they fill less than a third
        of the axial picture, then an axial picture for each of up to `MOST_EXTRA` segments that none of these shows.
        For anything else the plane itself.

    Raises:
        GeometryError: The mask is on another grid.
    """
    view = Oriented(image, mask)
    window = choose_window(image, mask)
    found, seen = [], set()
    for plane in view.names:
        key = largest(view, view.axis(plane))
        found.append(_picture(view, plane, key, window, size=size, most_frames=most_frames))
        seen |= _shown(view, plane, key)
    if mask is None or not image.is_volume:
        return found
    areas = view.areas(0)
    box = _close_up(view)
    if box is not None:
        close = _picture(view, "axial", largest(view, 0), window, size=size, most_frames=1, box=box)
        found.append(replace(close, title="Axial, closer"))
    missed = [n for n in range(len(mask.segments)) if n not in seen and areas[n].any()]
    for position in missed[:MOST_EXTRA]:
        key = int(areas[position].argmax())
        one = _picture(view, "axial", key, window, size=size, most_frames=1)
        found.append(replace(one, title=f"Axial through {mask.segments[position].label}"))
    return found


def _shown(view: Oriented, plane: PlaneName, index: int) -> set[int]:
    return {i for i, inside in enumerate(view.cut(plane, index).labels) if inside.any()}


def _indices(view: Oriented, axis: int, key: int, most_frames: int) -> list[int]:
    """Return planes to scroll through: over the segments and a little beyond, or the whole image, always the key."""
    count = view.geometry.shape[axis]
    used = np.flatnonzero(view.areas(axis).sum(axis=0))
    low, high = (int(used[0]), int(used[-1])) if len(used) else (0, count - 1)
    margin = max(1, (high - low + 1) // 10) if len(used) else 0
    low, high = max(0, low - margin), min(count - 1, high + margin)
    spread = np.linspace(low, high, min(most_frames, high - low + 1)).round().astype(int).tolist()
    if key not in spread:
        spread[int(np.argmin(np.abs(np.array(spread) - key)))] = key
    return sorted(set(spread))


def _picture(
    view: Oriented,
    plane: PlaneName,
    key: int,
    window: Window,
    *,
    size: int,
    most_frames: int,
    box: tuple[slice, slice] | None = None,
) -> Picture:
    axis = view.axis(plane)
    colour = in_colour(view.image)
    indices = _indices(view, axis, key, most_frames)
    cuts = [view.cut(plane, index) for index in indices]
    if box is not None:
        cuts = [replace(cut, pixels=cut.pixels[:, *box], labels=cut.labels[:, *box]) for cut in cuts]
    drawings = [draw(cut, window, size=size, colour=colour) for cut in cuts]
    shown = indices.index(key)
    drawn = drawings[shown]
    visible = {i for cut in cuts for i, inside in enumerate(cut.labels) if inside.any()}
    segments = view.mask.segments if view.mask is not None else ()
    legend = tuple((segments[i].label, PALETTE[i % len(PALETTE)]) for i in sorted(visible))
    height, width = drawn.base.shape[:2]
    name = view.anatomical_name(plane)
    title = name.capitalize() if view.known else "As stored"
    outlined = ", ".join(label for label, _ in legend) or "nothing"
    letters = cuts[shown].letters
    sides = f"{letters.left} on the left, {letters.top} at the top" if letters.known else "side unknown"
    bar_share = drawn.bar_mm / drawn.mm_per_pixel / width if drawn.bar_mm and drawn.mm_per_pixel else 0.0
    return Picture(
        title=title,
        alt=f"{name} plane with {outlined} outlined; {sides}",
        letters=letters,
        frames=tuple(_frame(d, c, lossless=d is drawn) for d, c in zip(drawings, cuts, strict=True)),
        key=shown,
        size=(width, height),
        bar_mm=drawn.bar_mm,
        bar_share=bar_share,
        window=window.words,
        legend=legend,
    )


def _close_up(view: Oriented) -> tuple[slice, slice] | None:
    """Return the (rows, columns) of the axial plane round small segments, or None where they are not small."""
    spacing = view.geometry.spacing_mm
    rows, columns = (np.flatnonzero(view.areas(a).sum(axis=0)) for a in (1, 2))
    if spacing is None or not len(rows):
        return None
    longest = max((len(n) and int(n[-1] - n[0] + 1)) * s for n, s in zip((rows, columns), spacing[1:], strict=True))
    field = max(n * s for n, s in zip(view.geometry.shape[1:], spacing[1:], strict=True))
    if longest > _SMALL_SHARE * field:
        return None
    half = longest * (0.5 + _MARGIN_SHARE)
    spans = []
    for used, step, count in zip((rows, columns), spacing[1:], view.geometry.shape[1:], strict=True):
        middle, reach = (used[0] + used[-1]) / 2, max(4.0, half / step)
        spans.append(slice(max(0, int(middle - reach)), min(count, int(middle + reach) + 2)))
    return spans[0], spans[1]


def _frame(drawn: Drawing, cut: Slice, *, lossless: bool) -> Frame:
    base = drawn.base[..., 0] if drawn.base.shape[2] == 1 else drawn.base
    picture = Encoder.fromarray(np.ascontiguousarray(base))
    out = io.BytesIO()
    # Frames one only scrolls past are compressed; the one that is printed is not.
    picture.save(out, **({"format": "PNG"} if lossless else {"format": "JPEG", "quality": 85}))
    layer = io.BytesIO()
    if drawn.layer[..., 3].any():
        Encoder.fromarray(drawn.layer).save(layer, format="PNG", compress_level=6)
    return Frame(out.getvalue(), "image/png" if lossless else "image/jpeg", layer.getvalue(), cut.place)
