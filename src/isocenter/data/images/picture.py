"""PNG, JPEG and TIFF: pixels without a place in the patient.

A resolution tag in a picture speaks of a printer or a screen, so it is never taken for millimetres: the spacing stays
unknown, and the image says so in a note. What is lost or changed on the way (a palette, an alpha channel, a rotation
from EXIF) is noted too; what would be lost silently, such as the low byte of 16-bit colour, is decoded in full.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tifffile
from jaxtyping import Shaped
from PIL import ImageOps, UnidentifiedImageError

from isocenter.core import Geometry, Image, Quantity, Source
from isocenter.core.errors import PixelError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.fingerprint import fingerprint

__all__ = ["read_picture"]

MAX_PIXELS = 2**28
"""Pixels of one picture (16384 x 16384); more is taken for a decompression bomb or a whole-slide image."""

_MAX_BYTES = 2**32
_BIT_DEPTH_AT, _COLOUR_TYPE_AT = 24, 25
_PNG_COLOUR = (2, 6)
_ORIENTATION_TAG = 274
_LENGTHS = (2, 3)  # TIFF resolution units: per inch, per centimetre


def read_picture(path: Path, *, modality: str = "", name: str = "") -> Image:
    """Read a picture.

    Args:
        path: A PNG, JPEG or TIFF file. The pages of a TIFF become frames (z), not slices: nothing says how far apart
            they lie.
        modality: DICOM Modality, if the caller knows it.
        name: Name for messages and `Source.files`; the file's own by default.

    Returns:
        One channel for grey, three for colour (`Quantity.RGB`); a geometry without an affine and without spacing.

    Raises:
        PixelError: The file is truncated, damaged, too large, or of a kind that is not read.
        DataError: The file cannot be opened.
    """
    path = Path(path)
    name = name or path.name
    try:
        with path.open("rb") as stream:
            head = stream.read(32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the decoders, about tags that are not used here
            pages, notes = _decode(path, head, name)
    except OSError as error:
        if error.errno is not None:
            raise explain_os_error(error, Path(name), doing="read") from error
        raise PixelError("the picture is truncated or damaged; fetch it again", source=name) from error
    array = np.ascontiguousarray(np.stack(pages, axis=1))
    if array.shape[0] == 3 and np.array_equal(array[0], array[1]) and np.array_equal(array[0], array[2]):
        array = array[:1].copy()
        notes.append("red, green and blue are equal everywhere: read as one grey channel")
    geometry = Geometry(_zyx(array), stack="time" if array.shape[1] > 1 else "space")
    if array.shape[1] > 1:
        notes.append(f"{array.shape[1]} pages were read as frames; nothing says that they are slices, or how far apart")
    return Image(
        array,
        geometry,
        quantity=Quantity.RGB if array.shape[0] == 3 else Quantity.ARBITRARY,
        modality=modality,
        source=Source(sha256=fingerprint(array, geometry), files=(name,)),
        notes=tuple(notes),
    )


def _zyx(array: Shaped[np.ndarray, "c z y x"]) -> tuple[int, int, int]:
    return (array.shape[1], array.shape[2], array.shape[3])


def _decode(path: Path, head: bytes, name: str) -> tuple[list[Shaped[np.ndarray, "c y x"]], list[str]]:
    if head.startswith((b"II", b"MM")):
        return _decode_tiff(path, name)
    whole = head.startswith(b"\x89PNG") and len(head) > _COLOUR_TYPE_AT  # a file may end within its head
    if whole and head[_BIT_DEPTH_AT] == 16 and head[_COLOUR_TYPE_AT] in _PNG_COLOUR:
        return _decode_deep_png(path, head, name)
    return _decode_pillow(path, name)


def _check_pixels(width: int, height: int, name: str, *, frames: int = 1, bytes_each: int = 1) -> None:
    if width * height > MAX_PIXELS or width * height * frames * bytes_each > _MAX_BYTES:
        pages = f" x {frames} pages" if frames > 1 else ""
        raise PixelError(
            f"{width} x {height} pixels{pages} is more than is read (it may be a decompression bomb or a whole-slide "
            "image); crop or scale it down first",
            source=name,
        )


def _decode_pillow(path: Path, name: str) -> tuple[list[Shaped[np.ndarray, "c y x"]], list[str]]:
    notes: list[str] = []
    pages = []
    try:
        with PIL.Image.open(path) as picture:
            frames = int(getattr(picture, "n_frames", 1))
            _check_pixels(*picture.size, name, frames=frames, bytes_each=4)
            if "dpi" in picture.info or "jfif_density" in picture.info:
                notes.append(_resolution_note())
            for frame in range(frames):
                picture.seek(frame)
                pages.append(_channels(picture, notes if frame == 0 else [], name))
    except UnidentifiedImageError as error:
        raise PixelError("this picture is damaged, or of a kind that is not read", source=name) from error
    except PIL.Image.DecompressionBombError as error:
        raise PixelError(
            "this picture is larger than is read (it may be a decompression bomb); crop or scale it down first",
            source=name,
        ) from error
    except (SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:  # what Pillow's parsers raise
        if isinstance(error, PixelError):
            raise
        raise PixelError("the picture is truncated or damaged; fetch it again", source=name) from error
    _check_same_shape(pages, name)
    return pages, notes


def _channels(picture: PIL.Image.Image, notes: list[str], name: str) -> Shaped[np.ndarray, "c y x"]:
    """Bring one frame to grey or red, green, blue."""
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    if orientation in range(2, 9):
        notes.append(f"turned upright as its EXIF orientation {orientation} says")
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "P":
        has_alpha = "transparency" in picture.info
        notes.append("colours were looked up in the picture's palette")
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    if picture.mode in ("LA", "RGBA", "La", "RGBa"):
        notes.append("the alpha channel was left out")
        picture = picture.convert("L" if picture.mode.upper() == "LA" else "RGB")
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"colours were converted from {picture.mode} to RGB")
        picture = picture.convert("RGB")
    if picture.mode not in ("1", "L", "I", "F", "RGB") and not picture.mode.startswith("I;16"):
        raise PixelError(f"pictures of mode {picture.mode} are not read; convert to grey or RGB first", source=name)
    array = np.array(picture)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _decode_deep_png(path: Path, head: bytes, name: str) -> tuple[list[Shaped[np.ndarray, "c y x"]], list[str]]:
    """16-bit colour: Pillow would keep the high byte only."""
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (16, 20))
    _check_pixels(width, height, name, bytes_each=8)
    import SimpleITK  # 80 MB, which only these files need

    itk: Any = SimpleITK
    reader = itk.ImageFileReader()
    reader.SetImageIO("PNGImageIO")
    reader.SetFileName(str(path))
    try:
        array = itk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise PixelError("the picture is truncated or damaged; fetch it again", source=name) from error
    notes = ["the alpha channel was left out"] if array.shape[-1] == 4 else []
    return [np.moveaxis(array[..., :3], -1, 0)], notes


def _decode_tiff(path: Path, name: str) -> tuple[list[Shaped[np.ndarray, "c y x"]], list[str]]:
    notes: list[str] = []
    pages = []
    try:
        with tifffile.TiffFile(path) as tiff:
            count = len(tiff.pages)
            first: Any = tiff.pages.first
            _check_pixels(first.imagewidth, first.imagelength, name, frames=count, bytes_each=4)
            unit = first.tags.get("ResolutionUnit")
            if unit is not None and int(unit.value) in _LENGTHS:
                notes.append(_resolution_note())
            plain = first.photometric.name in ("MINISBLACK", "MINISWHITE", "RGB")
            orientation = first.tags.get("Orientation")
            if not plain or first.imagedepth > 1 or (orientation is not None and orientation.value != 1):
                return _decode_pillow(path, name)
            for index in range(count):
                page: Any = tiff.pages[index]
                _check_pixels(page.imagewidth, page.imagelength, name, bytes_each=4)
                pages.append(_tiff_page(page, notes if index == 0 else [], name))
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, AttributeError, MemoryError) as error:
        if isinstance(error, PixelError):
            raise
        # A compression that needs an optional package here: Pillow knows LZW, JPEG and fax.
        return _decode_pillow(path, name)
    _check_same_shape(pages, name)
    return pages, notes


def _tiff_page(page: Any, notes: list[str], name: str) -> Shaped[np.ndarray, "c y x"]:
    array = np.asarray(page.asarray())
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise PixelError(f"pixels of type {array.dtype} are not read; convert them first", source=name)
    if page.photometric.name == "MINISWHITE":
        if array.dtype.kind != "u":
            raise PixelError("an inverted (white is zero) picture of this type is not read; convert it", source=name)
        notes.append("grey values were inverted: in the file white is zero")
        array = np.iinfo(array.dtype).max - array if page.bitspersample != 1 else 1 - array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 2:
        return array[None]
    axis = page.axes.find("S")
    if array.ndim != 3 or axis < 0 or array.shape[axis] not in (2, 3, 4):
        raise PixelError(f"a TIFF page with axes {page.axes} is not read; save grey or RGB pages", source=name)
    array = np.moveaxis(array, axis, 0)
    if array.shape[0] in (2, 4):
        notes.append("the alpha channel was left out")
        array = array[: array.shape[0] - 1]
    return array


def _check_same_shape(pages: list[Shaped[np.ndarray, "c y x"]], name: str) -> None:
    shapes = {page.shape for page in pages}
    if len(shapes) > 1:
        raise PixelError(
            f"its pages have {len(shapes)} different sizes (a pyramid, or a thumbnail beside the picture); save the "
            "page that is meant by itself",
            source=name,
        )


def _resolution_note() -> str:
    return "its resolution tag speaks of print, not of the patient: the spacing is not known"
