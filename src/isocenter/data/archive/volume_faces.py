"""The face taken out of a volume that is one file: NIfTI, NRRD, MetaImage. All other voxels stay bit by bit."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Bool
from nibabel.wrapstruct import WrapStructError

from isocenter.core import Image, Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.archive.plain_files import clean_file
from isocenter.data.deidentify.deface import deface, face_mask

__all__ = ["LEFT_OUT", "deface_file"]

LEFT_OUT = "its face can't be removed, so it is left out"


def deface_file(content: bytes, kind: str, name: str, image: Image) -> tuple[bytes, Image]:
    """Return a file without the face, and what it then holds.

    Args:
        content: The file.
        kind: nifti, nrrd or metaimage.
        name: For messages.
        image: As read from it.

    Raises:
        GeometryError: No head is recognised in it, or not the whole of one.
        PixelError: Its voxels are colours, no numbers, or can't be written again.
    """
    try:
        if image.quantity is Quantity.RGB or not np.isfinite(image.array).all():
            raise PixelError("its voxels are colours, or some are no numbers")
        mask = face_mask(image)
        clean = deface(image)
        if kind == "nifti":
            return _nifti(content, image, mask), clean
        # In the form that copies have: one header of plain lines, and the voxels behind it.
        plain = clean_file(content, kind, name)[0]
        return (_metaimage if kind == "metaimage" else _nrrd)(plain, clean), clean
    except DataError as error:
        told = str(error).removeprefix(f"{error.source}: ") if error.source else str(error)
        raise type(error)(f"{LEFT_OUT}: {told}", source=name) from error


def _nifti(content: bytes, image: Image, mask: Bool[np.ndarray, "z y x"]) -> bytes:
    """Write the least value of each channel into the voxels of the face, where they stand in the file."""
    try:
        data = bytearray(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content)
        kind: Any = nibabel.Nifti2Header if data[4:8] == b"n+2\0" else nibabel.Nifti1Header
        header = kind(bytes(data[: 540 if kind is nibabel.Nifti2Header else 348]), check=False)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        stored = np.ndarray(shape, dtype, data, header.get_data_offset(), order="F")
    except (OSError, EOFError, zlib.error, WrapStructError, TypeError, ValueError) as error:
        raise PixelError("its voxels are not found in the file") from error
    wide = (*shape, 1, 1, 1)[:3]
    channels = stored.reshape((*wide, -1), order="F")
    if channels.shape[3] != image.array.shape[0] or wide[::-1] != mask.shape:
        raise PixelError("its voxels are not stored as they are read")
    face = mask.transpose(2, 1, 0)
    for number, channel in enumerate(image.array):
        k, j, i = np.unravel_index(int(channel.argmin()), channel.shape)
        channels[face, number] = channels[i, j, k, number]
    if not np.shares_memory(channels, stored):
        raise PixelError("its voxels are not stored in one piece")
    return gzip.compress(bytes(data), compresslevel=4, mtime=0)


def _nrrd(content: bytes, image: Image) -> bytes:
    """Write the voxels anew behind the header that is there: what it says of the place is not touched."""
    head, _, _ = content.partition(b"\n\n")
    dropped = (b"encoding", b"endian", b"lineskip", b"byteskip")
    kept = [line for line in head.split(b"\n") if _word(line, b":").replace(b" ", b"") not in dropped]
    voxels = gzip.compress(_fastest_first(image), compresslevel=4, mtime=0)
    return b"\n".join([*kept, b"endian: little", b"encoding: gzip"]) + b"\n\n" + voxels


def _metaimage(content: bytes, image: Image) -> bytes:
    head = content[: content.lower().index(b"elementdatafile")]
    dropped = (
        b"binarydatabyteordermsb",
        b"elementbyteordermsb",
        b"compresseddata",
        b"compresseddatasize",
        b"headersize",
    )
    kept = [line for line in head.split(b"\n") if line and _word(line, b"=") not in dropped]
    voxels = zlib.compress(_fastest_first(image), 4)
    told = [b"BinaryDataByteOrderMSB = False", b"CompressedData = True", b"CompressedDataSize = %d" % len(voxels)]
    return b"\n".join([*kept, *told, b"ElementDataFile = LOCAL"]) + b"\n" + voxels


def _word(line: bytes, sign: bytes) -> bytes:
    return line.partition(sign)[0].strip().lower()


def _fastest_first(image: Image) -> bytes:
    """Return voxels with channels fastest, then x; little endian."""
    array = np.moveaxis(image.array, 0, -1)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
