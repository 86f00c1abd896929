"""A map of where a model looked, drawn on the image: colour where it is strong, the image itself where it is not."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from isocenter.core import EvidenceMap, Image, Quantity
from isocenter.core.errors import GeometryError
from isocenter.verbs.report.display import Window, choose_window, in_colour
from isocenter.verbs.report.overlay import draw, write_letters
from isocenter.verbs.report.planes import Oriented, PlaneName

__all__ = ["heat_png"]

_RAMP: Float[np.ndarray, "6 3"] = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 200, 60), (252, 255, 164)], dtype=np.float64
)
"""Dark to light, in equal steps of lightness: the strength is read without telling red from green.

Source:
    van der Walt and Smith 2015 (inferno of matplotlib, CC0), six of its colours.
"""
_ALPHA = 0.62
_LEAST = 0.15
"""Below this share of the strongest voxel nothing is drawn."""
_SCALE = 92, 8


def heat_png(image: Image, found: EvidenceMap, *, size: int = 440) -> bytes:
    """Draw a map on the planes through its strongest voxel: three of a volume side by side, else the one that there is.

    Letters say the patient's sides where they are known, else that they are not; a scale says what colours stand for;
    a cross marks the strongest voxel.

    Args:
        image: The image.
        found: The map, on its grid.
        size: Pixels of the longer side of a plane.

    Returns:
        The PNG file's bytes.

    Raises:
        GeometryError: The map is on another grid.
    """
    if not image.geometry.same_grid(found.geometry):
        raise GeometryError("the map is on another grid than the image; a picture of both would be wrong")
    view, heat = Oriented(image, None), _as_image(image, found)
    window = choose_window(image, None)
    panels = [_panel(view, heat, plane, window, found.peak, size) for plane in view.names]
    width = sum(p.width for p in panels) + 6 * (len(panels) - 1)
    canvas = Picture.new("RGB", (width, max(p.height for p in panels)), (0, 0, 0))
    left = 0
    for panel in panels:
        canvas.paste(panel, (left, 0))
        left += panel.width + 6
    out = io.BytesIO()
    canvas.save(out, format="PNG")
    return out.getvalue()


def _as_image(image: Image, found: EvidenceMap) -> Oriented:
    """Return the map as an image on the same grid, so that it is cut exactly as the image is."""
    values = Image(found.array[None].astype(np.float32), image.geometry, Quantity.PROBABILITY)
    return Oriented(values, None)


def _panel(
    view: Oriented, heat: Oriented, plane: PlaneName, window: Window, peak: tuple[int, int, int], size: int
) -> Picture.Image:
    axis = view.axis(plane)
    turned, shape = view.turned_index(peak), view.geometry.shape
    cut, warm = (v.cut(plane, turned[axis]) for v in (view, heat))
    drawn = draw(cut, window, size=size, colour=in_colour(view.image))
    base = drawn.base if drawn.base.shape[2] == 3 else np.repeat(drawn.base, 3, axis=2)
    height, width = base.shape[:2]
    soft = Picture.fromarray(warm.pixels[0].astype(np.float32)).resize((width, height), Picture.Resampling.BILINEAR)
    canvas = Picture.fromarray(_blended(base, np.clip(np.asarray(soft), 0, 1)))
    rows, columns = (a for a in range(3) if a != axis)
    row, column = turned[rows], turned[columns]
    if view.known and axis > 0:  # as `Oriented.cut` does: the head belongs at the top
        row = shape[rows] - 1 - row
    _mark(canvas, ((column + 0.5) / shape[columns] * width, (row + 0.5) / shape[rows] * height))
    write_letters(canvas, cut.letters, replace(drawn, base=base))
    _scale(canvas)
    return canvas


def _blended(base: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    colour = _colours(heat)
    alpha = (_ALPHA * np.clip((heat - _LEAST) / (1 - _LEAST), 0, 1) ** 0.7)[..., None]
    return np.asarray(((1 - alpha) * base + alpha * colour + 0.5).astype(np.uint8))


def _colours(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "... 3"]:
    at = np.linspace(0, 1, len(_RAMP))
    return np.stack([np.interp(values, at, _RAMP[:, channel]) for channel in range(3)], axis=-1)


def _mark(canvas: Picture.Image, place: tuple[float, float]) -> None:
    pen, (x, y) = ImageDraw.Draw(canvas), place
    arm, gap = max(6, canvas.width // 40), 3
    for thick, ink in ((3, (0, 0, 0)), (1, (255, 255, 255))):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            pen.line((x + gap * dx, y + gap * dy, x + arm * dx, y + arm * dy), fill=ink, width=thick)


def _scale(canvas: Picture.Image) -> None:
    width, height = min(_SCALE[0], canvas.width // 3), _SCALE[1]
    left, top = canvas.width - width - 8, canvas.height - height - 8
    ramp = np.repeat(_colours(np.linspace(_LEAST, 1, width))[None], height, axis=0)
    canvas.paste(Picture.fromarray((ramp + 0.5).astype(np.uint8)), (left, top))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=(255, 255, 255))
    font = ImageFont.load_default(11)
    pen.text(
        (left + width, top - 4), "weak to strongest", fill=(255, 255, 255), stroke_fill=(0, 0, 0), stroke_width=2,
        font=font, anchor="rb",
    )  # fmt: skip
