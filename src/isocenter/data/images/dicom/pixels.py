"""Pixels of planes into one array: straight into place, on all cores, with no second copy of the volume.

Native pixel data is read from the file into the output array and rescaled there. Compressed grey pixels are decoded by
imagecodecs (which lets threads run side by side) where it is installed and knows the syntax. Everything else (colour,
palettes, big endian, deflated, odd bit depths, Modality LUTs) is decoded by pydicom and its plug-ins.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, RLELossless

from isocenter.core.errors import PixelError
from isocenter.core.memo import current_memo, key_of, recalled
from isocenter.data.images.dicom.header import Header, read_dataset
from isocenter.data.images.dicom.plane import Plane
from isocenter.data.images.quiet import quiet

__all__ = ["Decoded", "check_size", "decode"]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_MAX_FRAME_BYTES = 1 << 31
_CODECS = {
    "1.2.840.10008.1.2.4.50": "jpeg_decode",
    "1.2.840.10008.1.2.4.51": "jpeg_decode",
    "1.2.840.10008.1.2.4.53": "jpeg_decode",
    "1.2.840.10008.1.2.4.55": "jpeg_decode",
    "1.2.840.10008.1.2.4.57": "jpeg_decode",
    "1.2.840.10008.1.2.4.70": "jpeg_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}
"""Syntaxes of which imagecodecs gives the values that pydicom's plug-ins or SimpleITK give (held by tests/real)."""

_DECODER_FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,
    LookupError,
    EOFError,
    OSError,
    OverflowError,
    struct.error,
)
"""What pydicom, its plug-ins and imagecodecs raise on bad pixel data."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """The pixels of planes.

    Args:
        array: (C, Z, Y, X): C is the number of channels, or 3 for RGB; values are rescaled.
        sha256: Hash of dtype, shape and bytes as `fingerprint` makes it, before the affine is added.
        is_rgb: Whether C is colour.
    """

    array: Shaped[np.ndarray, "c z y x"]
    sha256: Any
    is_rgb: bool


class _OutOfRange(Exception):
    """A rescaled value does not fit the integer type that was tried."""


def decode(
    planes: Sequence[Plane],
    *,
    channels: int = 1,
    factor: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Decoded:
    """Decode and rescale planes of equal size.

    Args:
        planes: In the order wanted, channel after channel.
        channels: How many channels they make.
        factor: Further factor (SUV); 1 keeps integers.
        progress: Called with the number of planes done.

    Returns:
        int16 (or the stored integer type) where slope is 1 and the intercept whole and all values fit; else float32.

    Raises:
        PixelError: Pixel data is missing, cut off or cannot be decoded.
    """
    header = planes[0].header
    for member in {id(p.header): p.header for p in planes}.values():
        check_size(member)
    if _is_colour(header):
        if channels != 1:
            raise PixelError("colour planes repeat at one position and cannot be channels too", source=header.name)
        return _decode_colour(planes, progress)
    shape = (len(planes), header.short("Rows"), header.short("Columns"))
    source = _Source()
    for dtype in _candidates(planes, factor, source):
        out = _allocate(shape, dtype, header)
        full = (channels, len(planes) // channels, *shape[1:])
        sha256 = hashlib.sha256(f"{dtype.name}{full}".encode())
        try:
            _fill(out, planes, factor, source, sha256.update, progress)
        except _OutOfRange:
            continue
        return Decoded(out.reshape(full), sha256, is_rgb=False)
    raise PixelError("rescaled values fit no supported type", source=header.name)


def check_size(header: Header) -> None:
    """Refuse a header whose pixel description and pixel data do not fit together.

    Raises:
        PixelError: No size, an absurd size, data cut off, or more data than described.
    """
    rows, columns = header.short("Rows"), header.short("Columns")
    if rows == 0 or columns == 0:
        raise PixelError("has no Rows or Columns, so its pixels cannot be laid out", source=header.name)
    if header.has("UnreadableFrames"):
        raise PixelError("its Number of Frames is not a number; correct the header", source=header.name)
    if rows * columns * max(header.short("SamplesPerPixel", 1), 1) * 4 > _MAX_FRAME_BYTES:
        raise PixelError(f"claims a frame of {rows} x {columns} pixels, more than 2 GiB", source=header.name)
    if header.pixel_offset is None or header.pixel_bytes is None:
        return
    if header.text("PhotometricInterpretation").endswith(("422", "420")):
        return
    needed = (_frame_bits(header) * header.frames + 7) // 8
    there = min(header.pixel_bytes, header.file_bytes - header.pixel_offset)
    if there < needed:
        raise PixelError(
            f"its pixel data ends after {there} of {needed} bytes: the file is cut off. Copy it again",
            source=header.name,
        )
    if there >= needed + max(_frame_bits(header) // 8, 2):
        raise PixelError(
            f"holds {there} bytes of pixel data where its header describes {needed}; correct the header",
            source=header.name,
        )


def _frame_bits(header: Header) -> int:
    pixels = header.short("Rows") * header.short("Columns") * max(header.short("SamplesPerPixel", 1), 1)
    return pixels * header.short("BitsAllocated", 16)


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any], header: Header) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize >> 20
        raise PixelError(f"its volume of {size} MiB does not fit into memory", source=header.name) from error


def _is_colour(header: Header) -> bool:
    return header.short("SamplesPerPixel", 1) > 1 or header.text("PhotometricInterpretation") == "PALETTE COLOR"


def _stored_dtype(header: Header) -> np.dtype[Any]:
    bits = header.short("BitsAllocated", 16)
    kind = "i" if header.short("PixelRepresentation") else "u"
    return np.dtype(f"<{kind}{max(bits, 8) // 8}") if bits in (1, 8, 16, 32) else np.dtype("<f8")


def _candidates(planes: Sequence[Plane], factor: float, source: _Source) -> list[np.dtype[Any]]:
    """Types to try for the output, in this order."""
    header = planes[0].header
    whole = factor == 1.0 and all(p.slope in (None, 1.0) and float(p.intercept).is_integer() for p in planes)
    same = all(_stored_dtype(p.header) == _stored_dtype(header) for p in planes)
    floats = any(p.header.has("FloatPixelData") or p.header.has("DoubleFloatPixelData") for p in planes)
    luts = any(p.header.has("ModalityLUTSequence") for p in planes)
    if not whole or floats or not same or luts:
        return [np.dtype(np.float32)]
    stored = _stored_dtype(header).newbyteorder("=")
    plain = all(p.intercept == 0 for p in planes)
    if stored.itemsize == 1:
        return [stored, np.dtype(np.int16)] if plain else [np.dtype(np.int16), np.dtype(np.float32)]
    if stored.itemsize == 2:
        return [np.dtype(np.int16), stored if plain else np.dtype(np.int32)]
    return [np.dtype(np.int32), np.dtype(np.float64)] if stored.itemsize == 4 else [np.dtype(np.float32)]


def _fill(
    out: Shaped[np.ndarray, "n y x"],
    planes: Sequence[Plane],
    factor: float,
    source: _Source,
    digest: Callable[[bytes | memoryview], None],
    progress: Callable[[int], None] | None,
) -> None:
    """Decode every plane into its place, on all cores; digest them in order while others are being decoded."""
    workers = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, len(planes)
    )
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        jobs = [pool.submit(_fill_plane, out[n], plane, factor, source) for n, plane in enumerate(planes)]
        try:
            for n, job in enumerate(jobs):
                job.result()
                digest(memoryview(out[n].data).cast("B"))
                if progress is not None:
                    progress(n + 1)
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _fill_plane(out: Shaped[np.ndarray, "y x"], plane: Plane, factor: float, source: _Source) -> None:
    header = plane.header
    dtype = _stored_dtype(header)
    native = header.lean and header.pixel_bytes is not None and header.short("BitsAllocated", 16) in (8, 16, 32)
    if native and not header.has("ModalityLUTSequence"):
        if dtype.itemsize == out.dtype.itemsize and out.dtype.kind in "iu":
            target = out.view(dtype)
            _read_native(header, plane.frame, target)
            _rescale_in_place(out, target, plane)
            return
        stored = np.empty(out.shape, dtype)
        _read_native(header, plane.frame, stored)
    else:
        stored = source.frame(plane)
        if header.has("ModalityLUTSequence"):
            out[...] = stored
            return
    _rescale(out, stored, plane, factor)


def _read_native(header: Header, frame: int, target: np.ndarray) -> None:
    buffer = memoryview(target.data).cast("B")
    with header.path.open("rb", buffering=0) as file:
        file.seek((header.pixel_offset or 0) + frame * len(buffer))
        done = 0
        while done < len(buffer):
            count = file.readinto(buffer[done:])
            if not count:
                raise PixelError("its pixel data is cut off; copy it again", source=header.name)
            done += count


def _unpack_bits(stored: np.ndarray, header: Header) -> None:
    """Drop what is outside Bits Stored (overlays in unused bits) and extend the sign, in place."""
    allocated = stored.dtype.itemsize * 8
    bits = header.short("BitsStored", allocated) or allocated
    high = header.short("HighBit", bits - 1)
    if stored.dtype.kind not in "iu" or bits >= allocated:
        return
    left = allocated - 1 - high
    right = allocated - bits
    if left < 0 or left > right:
        left = right
    if left:
        np.left_shift(stored, left, out=stored)
    np.right_shift(stored, right, out=stored)


def _rescale_in_place(out: np.ndarray, stored: np.ndarray, plane: Plane) -> None:
    _unpack_bits(stored, plane.header)
    intercept = int(plane.intercept)
    _check_range(stored, intercept, out.dtype)
    if intercept:
        unsigned = stored.view(f"u{stored.dtype.itemsize}")
        unsigned += unsigned.dtype.type(intercept % (1 << (8 * stored.dtype.itemsize)))


def _check_range(stored: np.ndarray, intercept: int, dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    possible = np.iinfo(stored.dtype)
    if possible.min + intercept >= limits.min and possible.max + intercept <= limits.max:
        return
    if int(stored.min()) + intercept < limits.min or int(stored.max()) + intercept > limits.max:
        raise _OutOfRange


def _rescale(out: np.ndarray, stored: np.ndarray, plane: Plane, factor: float) -> None:
    if stored.shape != out.shape:
        raise PixelError(f"decodes to {stored.shape} pixels, the header says {out.shape}", source=plane.header.name)
    if stored.dtype.kind in "iu":
        stored = np.array(stored)
        _unpack_bits(stored, plane.header)
    slope = (1.0 if plane.slope is None else plane.slope) * factor
    if out.dtype.kind in "iu":
        _check_range(stored, int(plane.intercept), out.dtype)
        np.add(stored, int(plane.intercept), out=out, dtype=np.int64, casting="unsafe")
        return
    values = stored.astype(np.float64)
    if slope != 1.0:
        values *= slope
    if plane.intercept:
        values += plane.intercept * factor
    out[...] = values


class _Source:
    """Frames that are not native little endian: through imagecodecs, or through pydicom, one file at a time."""

    def __init__(self) -> None:
        self._whole: dict[str, np.ndarray] = {}
        self._streams: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()  # pydicom's plug-ins hold the GIL, and gdcm is not safe in threads
        self._codecs = importlib.import_module("imagecodecs") if importlib.util.find_spec("imagecodecs") else None
        self._version = str(getattr(self._codecs, "__version__", ""))
        self._memo = current_memo()  # here: the threads that decode have no context of their own

    def frame(self, plane: Plane) -> np.ndarray:
        """Return the stored values of one frame (Y, X); of a file with a Modality LUT, the mapped values."""
        header = plane.header
        codec = _CODECS.get(header.transfer_syntax_uid)
        if codec and self._codecs is not None and header.lean and not header.has("ModalityLUTSequence"):
            frame = self._by_codec(plane, codec)
            if frame is not None:
                return frame
        key = str(header.path)
        with self._lock:
            if key not in self._whole:
                frames = decode_file(header)
                if header.frames == 1:
                    return np.asarray(frames[0])
                self._whole[key] = frames
            return np.asarray(self._whole[key][plane.frame])

    def _by_codec(self, plane: Plane, codec: str) -> np.ndarray | None:
        header = plane.header
        try:
            with header.path.open("rb") as file:
                data = _encapsulated(file, header, plane.frame)
            if data is None:
                data = self._regrouped(header)[plane.frame]
            code = bytes(data)  # a frame of a series that was still arriving may have been decoded before
            frame = recalled(
                self._memo,
                lambda: key_of(codec, self._version, code),
                lambda: np.asarray(getattr(self._codecs, codec)(code)),
            )
        except _DECODER_FAILURES:
            return None  # pydicom's plug-ins have the last word, and the better message
        if frame.ndim != 2 or frame.dtype.kind not in "iu":
            return None
        dtype = _stored_dtype(header)
        if frame.dtype.itemsize != dtype.itemsize:
            return None if frame.dtype.itemsize > dtype.itemsize else frame.astype(dtype)
        return frame.view(dtype)

    def _regrouped(self, header: Header) -> list[bytes]:
        """Return the code streams of a file whose frames have several fragments each."""
        key = str(header.path)
        with self._lock:
            if key not in self._streams:
                with header.path.open("rb") as file:
                    file.seek(header.pixel_offset or 0)
                    self._streams[key] = list(generate_frames(file, number_of_frames=header.frames))
            return self._streams[key]


def _encapsulated(file: BinaryIO, header: Header, frame: int) -> bytes | None:
    """Return the code stream of one frame; None where fragments do not map to frames one to one."""
    file.seek(header.pixel_offset or 0)
    fragments: list[tuple[int, int]] = []
    position = header.pixel_offset or 0
    while True:
        item = file.read(8)
        if len(item) < 8:
            return None
        tag, length = struct.unpack("<II", item)
        position += 8
        if tag == 0xE0DDFFFE:
            break
        if tag != 0xE000FFFE or position + length > header.file_bytes:
            return None
        fragments.append((position, length))
        position = file.seek(length, os.SEEK_CUR)
    fragments = fragments[1:]  # the first item is the Basic Offset Table
    if header.frames > 1:
        fragments = [fragments[frame]] if len(fragments) == header.frames else []
    parts = []
    for start, length in fragments:
        file.seek(start)
        parts.append(file.read(length))
    return b"".join(parts) if parts else None


@quiet()
def decode_file(header: Header) -> np.ndarray:
    """Decode all frames of a file with pydicom: (F, Y, X) grey stored (or LUT-mapped) values, or (F, Y, X, 3) RGB.

    Raises:
        PixelError: Cut off, or no decoder can read it.
    """
    dataset: Any = read_dataset(header.path, name=header.name, stop_before_pixels=False)
    syntax = UID(header.transfer_syntax_uid or "1.2.840.10008.1.2").name
    colour = header.short("SamplesPerPixel", 1) > 1
    try:
        meta = dataset.file_meta
        if "TransferSyntaxUID" not in meta:
            implicit, little = dataset.original_encoding
            meta.TransferSyntaxUID = UID("1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2"))
        _guard_frames(dataset, header)
        # The faster decoder of RLE (pylibjpeg-rle) panics on damaged data, past every `except Exception`.
        plugin = "pydicom" if meta.TransferSyntaxUID == RLELossless else ""
        frames = np.asarray(pixel_array(dataset, raw=not colour, decoding_plugin=plugin))
        if header.text("PhotometricInterpretation") == "PALETTE COLOR":
            frames = np.asarray(apply_color_lut(frames, dataset))[..., :3]
            if frames.dtype.itemsize == 2:  # 16-bit palette entries hold 8 bits of colour in their upper byte
                frames = (frames >> 8).astype(np.uint8)
            colour = True
        elif header.has("ModalityLUTSequence"):
            frames = np.asarray(apply_modality_lut(frames, dataset))
    except PixelError:
        raise
    except _DECODER_FAILURES as error:
        raise PixelError(f"its pixels ({syntax}) cannot be decoded: {_reason(error)}", source=header.name) from None
    except MemoryError as error:
        raise PixelError("its pixels do not fit into memory", source=header.name) from error
    dimensions = 4 if colour else 3
    return frames if frames.ndim == dimensions else frames[None]


def _guard_frames(dataset: Any, header: Header) -> None:
    """Refuse a header that claims more frames than the data can hold, before anything that large is allocated."""
    data = dataset.get("PixelData")
    if data is None or header.frames == 1:
        return
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        room = len(data) // 8
    else:
        room = len(data) * 8 // max(1, header.short("Rows") * header.short("Columns"))
    if header.frames > max(room, 1):
        raise PixelError(
            f"claims {header.frames} frames, more than its {len(data)} bytes of pixel data can hold", source=header.name
        )


def _reason(error: BaseException) -> str:
    """Say in a few words why a decoder failed, without the values of its message."""
    text = str(error)
    if "missing required element" in text or ("required" in text and "(0028" in text):
        return "a required element of the pixel description is missing"
    if "unable to decode" in text.lower() or "exceptions were raised" in text:
        return "every installed decoder failed on the data, which is damaged or of a kind that none supports"
    if "less than" in text or "length of the pixel data" in text or isinstance(error, EOFError):
        return "there is less data than the header asks for"
    return f"the description does not fit the data ({type(error).__name__})"


def _decode_colour(planes: Sequence[Plane], progress: Callable[[int], None] | None) -> Decoded:
    header = planes[0].header
    rows, columns = header.short("Rows"), header.short("Columns")
    out: np.ndarray | None = None
    whole: tuple[str, np.ndarray] = ("", np.empty(0))
    for n, plane in enumerate(planes):
        if whole[0] != str(plane.header.path):
            whole = (str(plane.header.path), decode_file(plane.header))
        frame = whole[1][plane.frame]
        if frame.shape != (rows, columns, 3):
            raise PixelError(f"decodes to {frame.shape}, not to {rows} x {columns} RGB", source=plane.header.name)
        if out is None:
            out = _allocate((3, len(planes), rows, columns), frame.dtype.newbyteorder("="), header)
        out[:, n] = frame.transpose(2, 0, 1)
        if progress is not None:
            progress(n + 1)
    if out is None:
        raise PixelError("has no frames", source=header.name)
    sha256 = hashlib.sha256(f"{out.dtype.name}{out.shape}".encode())
    sha256.update(memoryview(out.data).cast("B"))
    return Decoded(out, sha256, is_rgb=True)
