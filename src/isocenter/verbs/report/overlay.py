"""Segments drawn on a picture: an outline that stays visible on black and white, and a fill one can look through.

The fill and outline colours are those of Okabe and Ito (2008), which people with any common form of colour blindness
tell apart; a dark hair-line outside the outline keeps it visible on bright tissue.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from isocenter.core import Image, Mask
from isocenter.verbs.report.display import Window, choose_window, in_colour, to_grey
from isocenter.verbs.report.planes import Letters, Oriented, PlaneName, Slice

__all__ = ["PALETTE", "Drawing", "draw", "overlay_png", "write_letters"]

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermillion
    (0, 114, 178),  # blue
)
"""Colours by a segment's position in the mask; they repeat after seven."""

_FILL_ALPHA, _HAIRLINE_ALPHA = 44, 150
_BARS_MM = (200, 100, 50, 20, 10, 5, 2, 1)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawn plane.

    Args:
        base: Grey or colour picture, uint8 (h, w, 1 or 3).
        layer: RGBA of outlines and fills, uint8 (h, w, 4).
        mm_per_pixel: Of the drawing, the same along both axes; None where unknown.
        bar_mm: Length of a scale bar that fits, or None.
    """

    base: UInt8[np.ndarray, "h w k"]
    layer: UInt8[np.ndarray, "h w 4"]
    mm_per_pixel: float | None
    bar_mm: int | None


def draw(plane: Slice, window: Window, *, size: int, colour: bool = False) -> Drawing:
    """Draw a plane with the aspect of the patient, its longer side `size` pixels.

    Where the spacing is not known, pixels are taken as square, and no scale bar is given.
    """
    height, width = plane.pixels.shape[1:]
    row, column = plane.spacing_mm or (1.0, 1.0)
    step = max(height * row, width * column) / size  # mm (or voxels) per drawn pixel
    target = (max(1, round(width * column / step)), max(1, round(height * row / step)))
    grey = to_grey(plane.pixels, window, colour=colour)
    base = np.asarray(_picture(grey).resize(target, Picture.Resampling.BICUBIC))
    base = base if base.ndim == 3 else base[..., None]
    layer = np.zeros((target[1], target[0], 4), dtype=np.uint8)
    for number, inside in enumerate(plane.labels):
        if inside.any():
            # Half-way between voxel centres is where bilinear interpolation crosses one half: the outline measured.
            soft = Picture.fromarray(inside.astype(np.uint8) * 255).resize(target, Picture.Resampling.BILINEAR)
            _paint(layer, np.asarray(soft) > 127, PALETTE[number % len(PALETTE)], thick=max(1, round(size / 256)))
    known = plane.spacing_mm is not None
    bar = next((b for b in _BARS_MM if b <= 0.35 * target[0] * step), None) if known else None
    return Drawing(base, layer, step if known else None, bar)


def _picture(array: UInt8[np.ndarray, "h w k"]) -> Picture.Image:
    return Picture.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))


def _paint(
    layer: UInt8[np.ndarray, "h w 4"], inside: Bool[np.ndarray, "h w"], colour: tuple[int, int, int], *, thick: int
) -> None:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return
    margin = thick + 1  # morphology costs by area, and most segments are small
    box = tuple(slice(max(0, int(u[0]) - margin), int(u[-1]) + margin + 1) for u in (rows, columns))
    inside, layer = inside[box], layer[box]
    core = ndimage.binary_erosion(inside, iterations=thick)
    hair = ndimage.binary_dilation(inside) & ~inside & (layer[..., 3] < 255)
    layer[hair] = (0, 0, 0, _HAIRLINE_ALPHA)
    layer[core] = (*colour, _FILL_ALPHA)
    layer[inside & ~core] = (*colour, 255)


def overlay_png(
    image: Image, mask: Mask | None, *, plane: PlaneName = "native", index: int | None = None, size: int = 512
) -> bytes:
    """Draw one plane of an image with its segments, letters and scale bar as a PNG.

    Args:
        image: The image.
        mask: Its mask on the same grid, or None for none.
        plane: "axial", "coronal", "sagittal", or "native": across the image's z axis.
        index: Zero-based index along the image's own axis that the plane cuts; None for where the segments are largest,
            or the middle.
        size: Pixels of the longer side.

    Returns:
        The PNG file's bytes.

    Raises:
        GeometryError: The mask is on another grid, or an anatomical plane was asked where none is known.
        ConfigError: There is no such plane or index.
    """
    view = Oriented(image, mask)
    axis = view.axis(plane)
    chosen = largest(view, axis) if index is None else view.own_index(axis, index)
    cut = view.cut(plane, chosen)
    drawn = draw(cut, choose_window(image, mask), size=size, colour=in_colour(image))
    canvas = _picture(drawn.base).convert("RGBA")
    canvas.alpha_composite(Picture.fromarray(drawn.layer))
    write_letters(canvas, cut.letters, drawn)
    out = io.BytesIO()
    canvas.convert("RGB").save(out, format="PNG")
    return out.getvalue()


def largest(view: Oriented, axis: int) -> int:
    """Return the turned index where all segments together are largest (of equals the middle one), or the middle."""
    areas = view.areas(axis).sum(axis=0)
    if not areas.any():
        return view.geometry.shape[axis] // 2
    best = np.flatnonzero(areas == areas.max())
    return int(best[len(best) // 2])


def write_letters(canvas: Picture.Image, letters: Letters, drawn: Drawing) -> None:
    """Write the patient's sides at the edges of a picture, or that they are not known, and a scale bar."""
    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    font = ImageFont.load_default(max(11, max(width, height) // 28))
    write = partial(pen.text, fill=(255, 255, 255), stroke_fill=(0, 0, 0), stroke_width=2, font=font)
    for text, place, anchor in (
        (letters.left, (5, height // 2), "lm"),
        (letters.right, (width - 5, height // 2), "rm"),
        (letters.top, (width // 2, 5), "mt"),
        (letters.bottom, (width // 2, height - 5), "mb"),
    ):
        write(place, text, anchor=anchor)
    if not letters.known:
        write((5, 5), "side unknown", anchor="lt")
    if drawn.bar_mm and drawn.mm_per_pixel:
        end = 8 + round(drawn.bar_mm / drawn.mm_per_pixel)
        for shift, ink in ((1, (0, 0, 0)), (0, (255, 255, 255))):
            pen.line((8, height - 8 + shift, end, height - 8 + shift), fill=ink, width=2)
        write((8, height - 12), f"{drawn.bar_mm} mm", anchor="lb")
