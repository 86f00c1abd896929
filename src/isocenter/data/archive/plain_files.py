"""Files that are not DICOM, without what they may say of a person; pixels stay as they are, bytes too where possible.

Volumes: see `plain_volumes`. PNG and JPEG: text, EXIF and application blocks go (an EXIF orientation stays: without it
the picture would stand another way round). TIFF is written anew, `.npz` with its arrays of images, masks and labels
alone. A file in two parts is refused: one of them would be lost.
"""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import tifffile

from isocenter.core.errors import PixelError
from isocenter.core.image import Image
from isocenter.data.archive.plain_volumes import clean_metaimage, clean_nifti, clean_nrrd

__all__ = ["clean_file"]

_PNG_KEPT = frozenset(b"IHDR PLTE tRNS IDAT IEND gAMA cHRM sRGB sBIT bKGD pHYs acTL fcTL fdAT iCCP".split())
_ORIENTATION = 274
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the compressed data of a JPEG's scan (no stuffed zero, no restart)."""


def clean_file(content: bytes, kind: str, name: str, image: Image | None = None) -> tuple[bytes, str]:
    """Return a file without free text, and the ending of its name.

    Args:
        content: The file.
        kind: nifti, nrrd, metaimage or picture.
        name: For messages.
        image: As read, of a TIFF, which is written anew.

    Raises:
        PixelError: It is damaged, or its pixels stand in another file.
    """
    if kind == "nifti":
        return clean_nifti(content, name), ".nii.gz"
    if kind == "nrrd":
        return clean_nrrd(content, name), ".nrrd"
    if kind == "metaimage":
        return clean_metaimage(content, name), ".mha"
    if content.startswith(b"\x89PNG"):
        return _png(content, name), ".png"
    if content.startswith(b"\xff\xd8"):
        return _jpeg(content, name), ".jpg"
    if image is None:
        raise PixelError("a TIFF is written anew from its pixels, and they could not be read", source=name)
    pages = np.moveaxis(image.array, 0, -1)
    out = BytesIO()
    tifffile.imwrite(
        out,
        pages[..., 0] if pages.shape[-1] == 1 else pages,
        photometric="minisblack" if pages.shape[-1] == 1 else "rgb",
        compression="zlib",
        metadata=None,
        software="",
    )
    return out.getvalue(), ".tif"


def _png(content: bytes, name: str) -> bytes:
    out = [content[:8]]
    at = 8
    turned = _orientation(content)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind = content[at + 4 : at + 8]
        if at + 12 + length > len(content):
            break
        if kind in _PNG_KEPT:
            out.append(content[at : at + 12 + length])
        if kind == b"IHDR" and turned:
            exif = _exif(turned)
            out.append(struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif)))
        at += 12 + length
        if kind == b"IEND":
            return b"".join(out)
    raise PixelError("is cut off or damaged; copy it again", source=name)


def _jpeg(content: bytes, name: str) -> bytes:
    out = [b"\xff\xd8"]
    turned = _orientation(content)
    at = 2
    placed = False
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        segment = content[at : at + 2 + length]
        kept = not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (
            (marker == 0xE0 and segment[4:9] == b"JFIF\0")
            or (marker == 0xEE and segment[4:9] == b"Adobe")
            or (marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\0")
        )
        if kept and not placed and marker != 0xE0:
            if turned:
                exif = b"Exif\0\0" + _exif(turned)
                out.append(b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
            placed = True
        if marker == 0xE0 and kept:
            segment = b"\xff\xe0\0\x10" + segment[4:16].ljust(12, b"\0") + b"\0\0"  # without its thumbnail
        if kept:
            out.append(segment)
        at += 2 + length
        if marker == 0xDA:
            after = _MARKER.search(content, at)
            if after is None:
                break
            out.append(content[at : after.start()])
            at = after.start()
            if content[at + 1] == 0xD9:
                return b"".join([*out, b"\xff\xd9"])
    raise PixelError("is cut off or damaged; copy it again", source=name)


def _orientation(content: bytes) -> int:
    """Return an EXIF orientation that turns the picture, 0 for none."""
    with PIL.Image.open(BytesIO(content)) as picture:
        found: Any = picture.getexif().get(_ORIENTATION, 1)
    return found if isinstance(found, int) and 2 <= found <= 8 else 0


def _exif(orientation: int) -> bytes:
    """Return a TIFF directory that holds an orientation alone."""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", _ORIENTATION, 3, 1, orientation, 0) + b"\0\0\0\0"
