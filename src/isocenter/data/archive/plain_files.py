"""Files that are not DICOM, without what they may say of a person; pixels stay as they are, bytes too where possible.

NIfTI: free text fields and extensions are blanked. NRRD and MetaImage: comments and keys beside the grid go. PNG and
JPEG: text, EXIF and application blocks go (an EXIF orientation stays: without it the picture would stand another way
round). TIFF is written anew. A file in two parts is refused: one of them would be lost.
"""

from __future__ import annotations

import gzip
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

__all__ = ["clean_file"]

_PNG_KEPT = frozenset(b"IHDR PLTE tRNS IDAT IEND gAMA cHRM sRGB sBIT bKGD pHYs acTL fcTL fdAT iCCP".split())
_ORIENTATION = 274
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the compressed data of a JPEG's scan (no stuffed zero, no restart)."""
_NRRD_KEPT = frozenset(
    [
        "type",
        "dimension",
        "space",
        "sizes",
        "endian",
        "encoding",
        "kinds",
        "spacings",
        "thicknesses",
        "axismins",
        "axismaxs",
        "centers",
        "centerings",
        "labels",
        "units",
        "min",
        "max",
        "oldmin",
        "oldmax",
        "blocksize",
        "measurementframe",
        "spacedirections",
        "spaceorigin",
        "spaceunits",
        "spacedimension",
        "lineskip",
        "byteskip",
    ]
)
_META_KEPT = frozenset(
    [
        "objecttype",
        "objectsubtype",
        "ndims",
        "binarydata",
        "binarydatabyteordermsb",
        "elementbyteordermsb",
        "compresseddata",
        "compresseddatasize",
        "transformmatrix",
        "offset",
        "position",
        "origin",
        "orientation",
        "rotation",
        "centerofrotation",
        "anatomicalorientation",
        "elementspacing",
        "elementsize",
        "dimsize",
        "elementtype",
        "elementnumberofchannels",
        "headersize",
        "elementmin",
        "elementmax",
        "elementdatafile",
    ]
)


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
        return _nifti(content, name), ".nii.gz"
    if kind == "nrrd":
        return _nrrd(content, name), ".nrrd"
    if kind == "metaimage":
        return _metaimage(content, name), ".mha"
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


def _nifti(content: bytes, name: str) -> bytes:
    packed = content.startswith(b"\x1f\x8b")
    try:
        data = bytearray(gzip.decompress(content) if packed else content)
    except (OSError, EOFError, zlib.error) as error:
        raise PixelError("is cut off or damaged; copy it again", source=name) from error
    if data[344:348] == b"n+1\0":
        order = "<" if data[:4] == b"\x5c\x01\0\0" else ">"
        (offset,) = struct.unpack_from(order + "f", data, 108)
        fields: tuple[tuple[int, int], ...]
        fields, header = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)), 348
    elif data[4:8] == b"n+2\0":
        order = "<" if data[:4] == b"\x1c\x02\0\0" else ">"
        (offset,) = struct.unpack_from(order + "q", data, 168)
        fields, header = ((240, 80), (320, 24), (508, 16), (525, 15)), 540
    else:
        raise PixelError("its pixels stand in another file (.img); save it as one file", source=name)
    for at, length in fields:
        data[at : at + length] = bytes(length)
    start = int(offset)
    if not header <= start <= len(data):
        raise PixelError("says that its pixels begin where the file has none", source=name)
    data[header:start] = bytes(start - header)
    return gzip.compress(bytes(data), compresslevel=4, mtime=0)


def _nrrd(content: bytes, name: str) -> bytes:
    end = content.find(b"\n\n")
    other = content.find(b"\r\n\r\n")
    if end < 0 or 0 <= other < end:
        end = other
    if end < 0:
        raise PixelError("has no end of its header; copy it again", source=name)
    lines = content[:end].decode("latin-1").splitlines()
    kept = [lines[0]]
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        key, sign, _ = line.partition(":=")
        if sign:
            if key.strip().startswith("Segment"):
                kept.append(line)
            continue
        field = line.partition(":")[0].lower().replace(" ", "")
        if field == "datafile":
            raise PixelError("its pixels stand in another file; save it as one file", source=name)
        if field in _NRRD_KEPT:
            kept.append(line)
    body = content[end + (4 if content[end : end + 2] == b"\r\n" else 2) :]
    return "\n".join(kept).encode("latin-1") + b"\n\n" + body


def _metaimage(content: bytes, name: str) -> bytes:
    kept: list[bytes] = []
    at = 0
    while True:
        end = content.find(b"\n", at)
        if end < 0:
            raise PixelError("has no end of its header; copy it again", source=name)
        line = content[at:end].rstrip(b"\r")
        at = end + 1
        key, _, value = line.partition(b"=")
        word = key.strip().lower().decode("latin-1")
        if word in _META_KEPT:
            kept.append(line)
        if word == "elementdatafile":
            if value.strip() != b"LOCAL":
                raise PixelError("its pixels stand in another file; save it as one .mha", source=name)
            return b"\n".join(kept) + b"\n" + content[at:]


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
