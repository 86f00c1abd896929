"""Per-frame functional groups as bytes.

A toolkit that builds one object tree per frame spends most of the time of writing a SEG there. The groups of a frame
differ only in a few fixed-length numbers, so they are written here as Explicit VR Little Endian bytes, with every
sequence and item of defined length (which also lets a reader skip over them).

Source:
    DICOM PS3.5 7.1.2 (data elements with explicit VR), 7.5.1 (items of defined length).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pydicom.valuerep import format_number_as_ds

__all__ = ["FrameGroups", "decimal_strings", "element", "sequence"]

_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ITEM = b"\xfe\xff\x00\xe0"


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Encode one data element, padded to an even length (UI with NUL, text with a space).

    Example:
        >>> element(0x0062000B, "US", (7).to_bytes(2, "little")).hex()
        '62000b00555302000700'
    """
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in _LONG_VRS:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def sequence(tag: int, *items: bytes) -> bytes:
    """Encode a sequence of items whose elements are encoded already; all lengths are defined."""
    return element(tag, "SQ", b"".join(_ITEM + struct.pack("<I", len(item)) + item for item in items))


def decimal_strings(numbers: Sequence[float]) -> str:
    r"""Write numbers as DS values: at most 16 characters each, as exact as these allow.

    Example:
        >>> decimal_strings([-112.5, 1 / 3])
        '-112.5\\0.33333333333333'
    """
    return "\\".join(format_number_as_ds(float(n) + 0.0) for n in numbers)


def _code(value: str, meaning: str) -> bytes:
    return (
        element(0x00080100, "SH", value.encode())
        + element(0x00080102, "SH", b"DCM")
        + element(0x00080104, "LO", meaning.encode())
    )


_SEGMENTATION = sequence(0x00089215, _code("113076", "Segmentation"))
_PURPOSE = sequence(0x0040A170, _code("121322", "Source image for image processing operation"))


def derivation(sop_class_uid: str, sop_instance_uid: str, frame_number: int | None) -> bytes:
    """Encode the Derivation Image Sequence: this frame was made from that image (or that frame of it)."""
    source = element(0x00081150, "UI", sop_class_uid.encode()) + element(0x00081155, "UI", sop_instance_uid.encode())
    if frame_number is not None:
        source += element(0x00081160, "IS", str(frame_number).encode())
    source += element(0x0028135A, "CS", b"YES") + _PURPOSE
    return sequence(0x00089124, sequence(0x00082112, source) + _SEGMENTATION)


class FrameGroups:
    """The functional groups of all frames of one plane; only segment and dimension index differ between them.

    Args:
        source: (SOP class, SOP instance, frame number or None) of the plane's source image, or None without one.
        position_lps_mm: Image Position (Patient), or None for a plane without a place in the patient.
        plane_index: 1-based number of the plane, in the dimension index (and in its stack, without a place).
    """

    def __init__(
        self,
        source: tuple[str, str, int | None] | None,
        position_lps_mm: Sequence[float] | None,
        plane_index: int,
    ) -> None:
        self._before = derivation(*source) if source else b""
        self._index = plane_index
        if position_lps_mm is None:
            self._stack = element(0x00209056, "SH", b"1") + element(0x00209057, "UL", struct.pack("<I", plane_index))
            self._after = b""
        else:
            self._stack = b""
            place = element(0x00200032, "DS", decimal_strings(position_lps_mm).encode())
            self._after = sequence(0x00209113, place)

    def item(self, segment: tuple[int, int] | None) -> bytes:
        """Encode the item of one frame.

        Args:
            segment: (segment number, 1-based index of the segment), or None in a label map.
        """
        if segment is None:
            values, identification = struct.pack("<I", self._index), b""
        else:
            values = struct.pack("<II", segment[1], self._index)
            identification = sequence(0x0062000A, element(0x0062000B, "US", struct.pack("<H", segment[0])))
        content = sequence(0x00209111, self._stack + element(0x00209157, "UL", values))
        body = self._before + content + self._after + identification
        return _ITEM + struct.pack("<I", len(body)) + body
