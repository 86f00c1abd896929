"""The stored frames of a SEG, one after another, in the order of the file.

Uncompressed frames are read piece by piece and never all at once, but for layouts that are rare for a SEG (deflated,
big endian). Compressed ones are decoded by pydicom's plug-ins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from isocenter.core.errors import PixelError

__all__ = ["DecodedFrames", "Frames", "NativeFrames", "Piece", "frames_in_memory", "is_plain", "native_offset"]

_PIXEL_DATA = b"\xe0\x7f\x10\x00"


Piece = tuple[int, int, Shaped[np.ndarray, "a b"]]
"""First row, first column, and the part of the frame from there on; the rest of the frame is empty.

BINARY frames are bool, others uint8 or uint16.
"""


@dataclass(frozen=True)
class NativeFrames:
    """Uncompressed little-endian frames in a file (or in memory, as a BytesIO).

    Args:
        file: Open for reading.
        offset: Where Pixel Data's value starts.
        count: Number of frames.
        shape: Rows and columns.
        bits: Bits allocated: 1, 8 or 16.
    """

    file: BufferedReader | BytesIO
    offset: int
    count: int
    shape: tuple[int, int]
    bits: int

    def planes(self) -> Iterator[Piece]:
        """Yield the frames in the order of the file; a piece is valid until the next one."""
        self.file.seek(self.offset)
        rows, columns = self.shape
        if self.bits == 1:
            yield from self._aligned() if rows * columns % 8 == 0 else self._across()
            return
        buffer = np.empty(self.shape, dtype="<u2" if self.bits == 16 else "u1")
        for _ in range(self.count):
            self._fill(buffer.reshape(-1).view(np.uint8))
            yield 0, 0, buffer

    def _fill(self, buffer: UInt8[np.ndarray, " n"]) -> None:
        if self.file.readinto(buffer.data) != len(buffer):
            raise PixelError("the file ends before its last frame; it is truncated: copy or send it again")

    def _aligned(self) -> Iterator[Piece]:
        rows, columns = self.shape
        packed = np.empty(rows * columns // 8, dtype=np.uint8)
        nothing = np.zeros((0, 0), dtype=np.bool_)
        for _ in range(self.count):
            self._fill(packed)
            if columns % 64 == 0:
                words = packed.view(np.uint64).reshape(rows, -1)
                down = np.flatnonzero(np.bitwise_or.reduce(words, axis=0))
                if not down.size:
                    yield 0, 0, nothing
                    continue
                left, right = int(down[0]), int(down[-1]) + 1
                across = np.flatnonzero(np.bitwise_or.reduce(words[:, left:right], axis=1))
                top, bottom = int(across[0]), int(across[-1]) + 1
                block = packed.reshape(rows, -1)[top:bottom, left * 8 : right * 8]
                yield top, left * 64, np.unpackbits(block, axis=1, bitorder="little").view(np.bool_)
            else:
                bits = np.unpackbits(packed, bitorder="little").view(np.bool_)
                yield 0, 0, bits.reshape(self.shape)

    def _across(self) -> Iterator[Piece]:
        """Frames that are no whole number of bytes follow each other without a gap; eight of them are whole again."""
        size = self.shape[0] * self.shape[1]
        for start in range(0, self.count, 8):
            frames = min(8, self.count - start)
            packed = np.empty((frames * size + 7) // 8, dtype=np.uint8)
            self._fill(packed)
            bits = np.unpackbits(packed, count=frames * size, bitorder="little").view(np.bool_)
            for plane in bits.reshape(frames, *self.shape):
                yield 0, 0, plane


@dataclass(frozen=True)
class DecodedFrames:
    """Frames that pydicom decodes.

    Args:
        dataset: The whole SEG, with pixels.
        binary: Whether a frame is bits.
    """

    dataset: Dataset
    binary: bool

    def planes(self) -> Iterator[Piece]:
        """Yield the frames in the order of the file; a piece is valid until the next one."""
        try:
            # GDCM ends the whole process on some run-length streams; pydicom's own decoder raises.
            rle = self.dataset.file_meta.TransferSyntaxUID == RLELossless
            for plane in iter_pixels(self.dataset, raw=True, decoding_plugin="pydicom" if rle else ""):
                yield 0, 0, plane.astype(np.bool_) if self.binary else plane
        except (AttributeError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
            syntax = self.dataset.file_meta.TransferSyntaxUID
            raise PixelError(
                f"the frames cannot be decoded (transfer syntax {syntax}): {type(error).__name__}; convert the file to "
                "Explicit VR Little Endian"
            ) from error


Frames = NativeFrames | DecodedFrames


def native_offset(file: BinaryIO, expected_bytes: int) -> int:
    """Find where the value of native Pixel Data starts; the file stands at the element that follows the header.

    Raises:
        PixelError: There is no Pixel Data, or it is not as long as the header announces.
    """
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise PixelError("the file holds no pixels; it is truncated or not a segmentation")
        length = _length(file, head)
        if head[:4] == _PIXEL_DATA:
            break
        if length == 0xFFFFFFFF:
            raise PixelError("an element of unknown length stands before the pixels; convert the file")
        file.seek(length, 1)
    offset = file.tell()
    here = file.seek(0, 2)
    if length not in (expected_bytes, expected_bytes + 1) or here - offset < expected_bytes:
        raise PixelError(
            f"the header announces {expected_bytes} bytes of pixels, the file holds {min(length, here - offset)}; it "
            "is truncated or its header is wrong"
        )
    return offset


def _length(file: BinaryIO, head: bytes) -> int:
    if head[4:6].isalpha() and head[4:6].isupper():
        if head[4:6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV"):
            return int(struct.unpack("<I", file.read(4))[0])
        return int(struct.unpack("<H", head[6:8])[0])
    return int(struct.unpack("<I", head[4:8])[0])  # Implicit VR


def is_plain(dataset: Dataset) -> bool:
    """Tell whether the file is not deflated and its frames lie in it as uncompressed little-endian values."""
    return _syntax(dataset) in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def frames_in_memory(dataset: Dataset, count: int, bits: int) -> Frames:
    """Go through the frames of a dataset that holds its pixels.

    Raises:
        PixelError: There are fewer or more bytes than the header announces.
    """
    if _syntax(dataset).is_encapsulated:
        return DecodedFrames(dataset, bits == 1)
    shape = (int(dataset.Rows), int(dataset.Columns))
    expected = (count * shape[0] * shape[1] * bits + 7) // 8
    element = dataset["PixelData"]
    pixels = bytes(element.value)
    if _syntax(dataset) == ExplicitVRBigEndian and element.VR == "OW":
        pixels = np.frombuffer(pixels, dtype=np.uint16).byteswap().tobytes()
    if len(pixels) not in (expected, expected + 1):
        raise PixelError(f"the header announces {expected} bytes of pixels, there are {len(pixels)}")
    return NativeFrames(BytesIO(pixels), 0, count, shape, bits)


def _syntax(dataset: Dataset) -> UID:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise PixelError("no transfer syntax is stated, so that the pixels cannot be told; the file is damaged")
    return UID(syntax)
