"""An image of the library: described once; planes are read when they are looked at, the whole when it is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.units import UCUM
from isocenter.data.images.dicom.prepared import Prepared
from isocenter.verbs.serving.identifiers import identifier
from isocenter.verbs.serving.windows import sampled, windows_of
from isocenter.viewer.ports import ImageItem, PixelForm

__all__ = ["OpenedImage", "opened_prepared", "opened_whole", "sent"]

_GREYS = 3
"""Planes that windows are found from, where not all are at hand."""


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image that can be asked for planes.

    Args:
        item: What is told of it.
        study: Its study.
        read: Reads the whole.
        planes: Reads planes first .. first+count-1 as (c, z, y, x) values; None where only the whole can be read.
        voxel_bytes: Of a voxel of all channels, in memory.
        series_uid: As results name it; "" where there is none.
    """

    item: ImageItem
    study: str
    read: Callable[[], Image]
    planes: Callable[[int, int], Shaped[np.ndarray, "c z y x"]] | None
    voxel_bytes: int
    series_uid: str = ""

    @property
    def memory_bytes(self) -> int:
        """How many bytes the whole takes in memory."""
        return math.prod(self.item.shape_zyx) * self.voxel_bytes


def sent(array: Shaped[np.ndarray, "c z y x"], form: PixelForm) -> Shaped[np.ndarray, "z y x c"]:
    """Return values in the form in which they are sent: (z, y, x, c), little-endian."""
    moved = array[0][..., None] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if form.intercept:
        moved = moved.astype(np.int32) - int(form.intercept)
    return np.ascontiguousarray(moved, dtype=np.dtype(form.dtype).newbyteorder("<"))


@dataclass(frozen=True)
class _Facts:
    """What an item is made from."""

    geometry: Geometry
    quantity: Quantity
    modality: str
    body_part: str
    description: str
    dark_is_high: bool
    window: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def opened_prepared(study: str, index: int, image: Prepared, *, most_bytes: int) -> OpenedImage:
    """Open a DICOM image whose pixels were not read; a few planes are, for its windows.

    Raises:
        PixelError: They can't be decoded.
    """
    first = image.stack.planes[0]
    name = identifier(
        "image", study, first.header.text("SeriesInstanceUID"), first.header.text("SOPInstanceUID"),
        str(first.frame), str(len(image.stack.planes)), str(len(image.stack.channels)),
    )  # fmt: skip
    if not image.is_regular:
        # Resampled as a whole: what it looks like is known when it is read.
        return opened_whole(study, index, name, image.image(), image.image, most_bytes=most_bytes)
    depth = image.geometry.shape[0]
    chosen = sorted({depth // 2, depth // 4, (3 * depth) // 4})[:_GREYS]
    some = np.concatenate([image.planes(z, 1) for z in chosen], axis=1)
    meta = image.facts.meta
    facts = _Facts(
        geometry=image.geometry,
        quantity=Quantity.RGB if _is_colour(image, some) else image.facts.quantity,
        modality=image.modality,
        body_part=image.facts.body_part,
        description=image.facts.description,
        dark_is_high=str(meta.get("PhotometricInterpretation", "")).strip().upper() == "MONOCHROME1",
        window=image.facts.window,
        notes=(*image.facts.notes, *image.notes),
    )
    form = _form_of_header(image, some)
    item = _item(name, index, facts, some, form, most_bytes)
    width = np.dtype(form.dtype).itemsize * some.shape[0]
    return OpenedImage(item, study, image.image, image.planes, width, first.header.text("SeriesInstanceUID"))


def opened_whole(
    study: str, index: int, name: str, image: Image, read: Callable[[], Image], *, most_bytes: int
) -> OpenedImage:
    """Open an image that was read as a whole."""
    facts = _Facts(
        geometry=image.geometry,
        quantity=image.quantity,
        modality=image.modality,
        body_part=image.body_part,
        description=image.description,
        dark_is_high=image.dark_is_high,
        window=image.window,
        notes=image.notes,
    )
    form = _form_of_values(image.array)
    width = image.array.dtype.itemsize * image.array.shape[0]
    item = _item(name, index, facts, image.array, form, most_bytes)
    return OpenedImage(item, study, read, None, width, image.source.series_uid)


def _is_colour(image: Prepared, some: Shaped[np.ndarray, "c z y x"]) -> bool:
    return some.shape[0] == 3 and len(image.stack.channels) == 1


def _form_of_values(array: Shaped[np.ndarray, "c z y x"]) -> PixelForm:
    """Return the smallest form that holds all values as they are; integers beyond 16 bits go as float32."""
    dtype = array.dtype
    if dtype == np.uint8 or dtype == np.bool_:
        return PixelForm("uint8")
    if dtype.kind in "iu":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low >= -32768 and high <= 32767:
            return PixelForm("int16")
        if low >= 0 and high <= 65535:
            return PixelForm("uint16")
    elif dtype.kind == "f" and _whole(sampled(array)) and _whole(array) and _in_range(array):
        return PixelForm("int16")  # integers that a NIfTI scaled to floats: half as much to send
    return PixelForm("float32")


def _whole(values: Shaped[np.ndarray, "..."]) -> bool:
    return bool(np.all(np.rint(values) == values))  # what is not finite is not equal to itself, or out of range


def _in_range(values: Shaped[np.ndarray, "..."]) -> bool:
    return values.size > 0 and float(values.min()) >= -32768 and float(values.max()) <= 32767


def _form_of_header(image: Prepared, some: Shaped[np.ndarray, "c z y x"]) -> PixelForm:
    """Return the form that holds every value that the headers allow, whichever planes are decoded."""
    if some.dtype.kind == "f":
        return PixelForm("float32")
    if some.dtype == np.uint8:
        # Decoded to 8 bits with nothing added: all planes are, or they would make no integers together.
        return PixelForm("uint8")
    lows, highs, offsets = [], [], set()
    for plane in image.stack.planes:
        header = plane.header
        bits = header.short("BitsStored") or header.short("BitsAllocated", 16)
        signed = bool(header.short("PixelRepresentation"))
        least = -(1 << (bits - 1)) if signed else 0
        if plane.slope not in (None, 1.0) or not float(plane.intercept).is_integer():
            return PixelForm("float32")
        offsets.add(int(plane.intercept))
        lows.append(least + int(plane.intercept))
        highs.append(least + (1 << bits) - 1 + int(plane.intercept))
    if min(lows) >= -32768 and max(highs) <= 32767:
        return PixelForm("int16")
    if min(lows) >= 0 and max(highs) <= 65535:
        return PixelForm("uint16")
    if len(offsets) == 1:
        # 16 stored bits, as CT often has them: sent as stored, the intercept told.
        (offset,) = offsets
        low, high = min(lows) - offset, max(highs) - offset
        if low >= -32768 and high <= 32767:
            return PixelForm("int16", 1.0, float(offset))
        if low >= 0 and high <= 65535:
            return PixelForm("uint16", 1.0, float(offset))
    return PixelForm("float32")


def _item(
    name: str, index: int, facts: _Facts, some: Shaped[np.ndarray, "c z y x"], form: PixelForm, most_bytes: int
) -> ImageItem:
    geometry, values = facts.geometry, sampled(some)
    affine = None
    if geometry.affine is not None:
        affine = tuple(tuple(float(v) for v in row) for row in geometry.affine.tolist())
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    channels, shape = some.shape[0], geometry.shape
    size = math.prod(shape) * channels * np.dtype(form.dtype).itemsize
    colour = facts.quantity is Quantity.RGB
    unit = UCUM.get(str(facts.quantity))
    return ImageItem(
        id=name,
        index=index,
        modality=facts.modality,
        description=facts.description,
        quantity=str(facts.quantity),
        unit=unit.value if unit is not None else "",
        shape_zyx=shape,
        channels=channels,
        spacing_mm=geometry.spacing_mm,
        pixel_spacing_mm=geometry.pixel_spacing_mm,
        affine_zyx_to_lps_mm=affine,
        orientation=geometry.orientation,
        patient_orientation=geometry.patient_orientation,
        frame=identifier("frame", geometry.frame_uid) if geometry.frame_uid else "",
        stack=cast("Any", geometry.stack),
        dark_is_high=facts.dark_is_high or facts.quantity is Quantity.SUVBW,
        windows=windows_of(
            values, quantity=facts.quantity, modality=facts.modality, body_part=facts.body_part, header=facts.window,
            eight_bits=form.dtype == "uint8" or colour,
        ),
        low=low,
        high=high if high > low else low + 1.0,
        pixel=form,
        bytes=size,
        notes=facts.notes,
        too_large=size > most_bytes,
    )  # fmt: skip
