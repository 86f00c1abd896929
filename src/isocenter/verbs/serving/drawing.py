"""One plane drawn as a picture, for thumbnails and for browsers that can't draw."""

from __future__ import annotations

import numpy as np
import PIL.Image
from jaxtyping import Shaped, UInt8

from isocenter.core import Geometry, Image, Quantity
from isocenter.verbs.report.display import Window as Greys
from isocenter.verbs.report.overlay import draw, write_letters
from isocenter.verbs.report.planes import Oriented, PlaneName
from isocenter.viewer.ports import ImageItem, Picture

__all__ = ["draw_plane", "geometry_of"]


def geometry_of(item: ImageItem) -> Geometry:
    """Return the grid of an image from what is told of it."""
    if item.affine_zyx_to_lps_mm is not None:
        return Geometry(item.shape_zyx, np.array(item.affine_zyx_to_lps_mm, dtype=np.float64), stack=item.stack)
    return Geometry(
        item.shape_zyx,
        None,
        pixel_spacing_mm=item.pixel_spacing_mm,
        patient_orientation=item.patient_orientation,
        stack=item.stack,
    )


def draw_plane(
    item: ImageItem,
    plane: Shaped[np.ndarray, "c z y x"],
    axis: int,
    index: int,
    picture: Picture,
    geometry: Geometry | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a plane.

    Args:
        item: Its image.
        plane: Values, of which one axis has length 1.
        axis: That axis (0 z, 1 y, 2 x).
        index: Of the plane along it.
        picture: How it is drawn.
        geometry: Of the image, where it is at hand.
    """
    geometry = geometry or geometry_of(item)
    start = [0, 0, 0]
    start[axis] = index
    z, y, x = plane.shape[1:]
    flat = geometry.cropped((start[0], start[1], start[2]), (z, y, x)) if geometry.affine is not None else None
    shown = flat or Geometry(
        (z, y, x), None, pixel_spacing_mm=geometry.pixel_spacing_mm if axis == 0 else None,
        patient_orientation=geometry.patient_orientation if axis == 0 else ("", ""),
    )  # fmt: skip
    if shown.affine is None and axis != 0:
        # Without a place there is no telling how far its planes lie apart: drawn as stored, pixels square.
        plane = np.moveaxis(plane, axis + 1, 1)
        shown = Geometry((plane.shape[1], plane.shape[2], plane.shape[3]), None)
        axis = 0
    colour = item.quantity == str(Quantity.RGB)
    quantity = Quantity.RGB if colour else Quantity.ARBITRARY
    view = Oriented(Image(plane, shown, quantity=quantity), None)
    names: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")
    name = names[shown.canonical_steps()[0].index(axis)] if view.known else "native"
    cut = view.cut(name, 0)
    window = item.windows[0]
    centre = window.centre if picture.centre is None else picture.centre
    width = window.width if picture.width is None else picture.width
    greys = Greys(centre - width / 2, centre + width / 2, "", inverted=item.dark_is_high)
    drawn = draw(cut, greys, size=picture.width_px, colour=colour)
    canvas = PIL.Image.fromarray(np.ascontiguousarray(drawn.base[..., 0] if drawn.base.shape[2] == 1 else drawn.base))
    canvas = canvas.convert("RGBA")
    write_letters(canvas, cut.letters, drawn)
    return np.asarray(canvas.convert("RGB"))
