"""The few header elements that decide where a DICOM file belongs, read fast, without its pixels.

Ordering a series needs about fifty of a header's few hundred elements. A small scanner walks little-endian files and
keeps those; anything unusual (big endian, deflated, no preamble, odd VRs, wrong lengths) goes through pydicom, which
knows every corner. Both give the same `Header`, from the same raw bytes, so a study may mix them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import UID

from isocenter.core.errors import DataError, PixelError
from isocenter.data.images.quiet import quiet

__all__ = [
    "WANTED",
    "Header",
    "LeanWalker",
    "Short",
    "Unusual",
    "Wanted",
    "decode",
    "read_dataset",
    "scan",
    "scan_bytes",
    "scan_head",
    "whole_header",
]

_TEXT = """
00080008:ImageType 00080016:SOPClassUID 00080018:SOPInstanceUID 00080060:Modality 00100010:PatientName
00100020:PatientID 00100021:IssuerOfPatientID 00100030:PatientBirthDate 00100040:PatientSex 00080032:AcquisitionTime
00080022:AcquisitionDate 00180015:BodyPartExamined 00180024:SequenceName 00181210:ConvolutionKernel
0020000D:StudyInstanceUID 0020000E:SeriesInstanceUID 00200052:FrameOfReferenceUID 00200020:PatientOrientation
00280004:PhotometricInterpretation 00281054:RescaleType 00281056:VOILUTFunction 00541001:Units 30040002:DoseUnits
00189075:DiffusionDirectionality 00180010:ContrastBolusAgent
"""
_FLOATS = """
00180050:SliceThickness 00180088:SpacingBetweenSlices 00181164:ImagerPixelSpacing 00180081:EchoTime
00180082:InversionTime 00181314:FlipAngle 00181060:TriggerTime 00200032:ImagePositionPatient
00200037:ImageOrientationPatient 00280030:PixelSpacing 00281050:WindowCenter 00281051:WindowWidth
00281052:RescaleIntercept 00281053:RescaleSlope 00189087:DiffusionBValue 00200012:AcquisitionNumber
00200013:InstanceNumber 00200011:SeriesNumber 00200100:TemporalPositionIdentifier 00180086:EchoNumbers
3004000E:DoseGridScaling 00280008:NumberOfFrames
"""
_SHORTS = """
00280002:SamplesPerPixel 00280006:PlanarConfiguration 00280010:Rows 00280011:Columns 00280100:BitsAllocated
00280101:BitsStored 00280102:HighBit 00280103:PixelRepresentation
"""
_PRESENT = """
00283000:ModalityLUTSequence 52009229:SharedFunctionalGroupsSequence 52009230:PerFrameFunctionalGroupsSequence
04000500:EncryptedAttributesSequence 00409096:RealWorldValueMappingSequence 7FE00008:FloatPixelData
7FE00009:DoubleFloatPixelData 00041220:DirectoryRecordSequence 54000100:WaveformSequence
"""


def _table(text: str, kind: str) -> dict[int, tuple[str, str]]:
    pairs = (entry.split(":") for entry in text.split())
    return {int(tag, 16): (keyword, kind) for tag, keyword in pairs}


Wanted = Mapping[int, tuple[str, str]]
"""Keyword, and how the value is decoded (text, floats, short, present), by tag."""
WANTED: Wanted = (
    _table(_TEXT, "text") | _table(_FLOATS, "floats") | _table(_SHORTS, "short") | _table(_PRESENT, "present")
)
_FLOAT_VRS = {"FD": "d", "FL": "f"}

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset([b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"])
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # PS3.5 table 7.1-2
)
_VR_KINDS = {vr: (vr.decode(), True) for vr in _SHORT_VRS} | {vr: (vr.decode(), False) for vr in _LONG_VRS}
_ELEMENT, _LENGTH = struct.Struct("<HH2sH").unpack_from, struct.Struct("<I").unpack_from
_IMPLICIT_LE = "1.2.840.10008.1.2"
_NOT_LEAN = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95")  # big endian, deflated
_HEAD_BYTES = 1 << 15


@dataclass(frozen=True, eq=False)
class Header:
    """Where one file belongs and where its pixels are.

    Args:
        path: The file.
        name: Its name for messages, relative to what the user passed.
        values: Decoded wanted elements by keyword: text as a tuple of str, floats as a tuple, shorts as int, and True
            for the mere presence of a sequence. An absent or empty element has no entry.
        transfer_syntax_uid: Transfer Syntax UID, "" where the file does not say.
        pixel_offset: Byte offset of the pixel data's value (of its first item if encapsulated); None where there is no
            Pixel Data, or pydicom has to read it.
        pixel_bytes: Length of the value; None if encapsulated.
        file_bytes: Size of the file.
        lean: Whether pixels can be read straight from the file; False: through pydicom.
        has_pixels: Whether it holds pixels at all.
    """

    path: Path
    name: str
    values: dict[str, object] = field(repr=False)
    transfer_syntax_uid: str
    pixel_offset: int | None
    pixel_bytes: int | None
    file_bytes: int
    lean: bool
    has_pixels: bool

    def text(self, keyword: str) -> str:
        """Return the first value of a text element, "" where absent."""
        value = self.values.get(keyword)
        return value[0] if isinstance(value, tuple) and value and isinstance(value[0], str) else ""

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return all values of a text element, () where absent."""
        value = self.values.get(keyword)
        return value if isinstance(value, tuple) else ()

    def floats(self, keyword: str) -> tuple[float, ...]:
        """Return all values of a number element, () where absent or not numbers."""
        value = self.values.get(keyword)
        return value if isinstance(value, tuple) else ()

    def float(self, keyword: str) -> float | None:
        """Return the first value of a number element, None where absent."""
        value = self.floats(keyword)
        return value[0] if value else None

    def short(self, keyword: str, default: int = 0) -> int:
        """Return an unsigned short, or the default where absent."""
        value = self.values.get(keyword)
        return value if isinstance(value, int) else default

    def has(self, keyword: str) -> bool:
        """Tell whether a wanted element is there and not empty."""
        return keyword in self.values

    @property
    def frames(self) -> int:
        """Number of frames; 1 where the header does not say, or "UnreadableFrames" is in `values`."""
        value = self.float("NumberOfFrames")
        return int(value) if value is not None and value >= 1 else 1


class Unusual(Exception):
    """The lean scanner has met something that pydicom should judge."""


class Short(Exception):
    """The lean scanner needs more of the file than it was given."""


def scan(path: Path, name: str = "", *, wanted: Wanted = WANTED) -> Header:
    """Read the wanted elements of a DICOM file.

    Args:
        path: A DICOM file, with or without preamble.
        name: Its name in messages; the file's own name where not given.
        wanted: What to read.

    Returns:
        The header; pixels are not read.

    Raises:
        PixelError: Not DICOM, encrypted, or cut off before its pixels; the message says which.
    """
    name = name or path.name
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(min(size, _HEAD_BYTES))
        _refuse_encrypted(head, name)
        while True:
            try:
                return _scan_lean(path, name, head, size, wanted)
            except Unusual:
                break
            except Short:
                if len(head) >= size:
                    break
                head += file.read(len(head) * 7)
    with whole_header(name):
        return _scan_pydicom(path, path, name, size, wanted)


def scan_head(path: Path, name: str, head: bytes, size: int, *, wanted: Wanted = WANTED) -> Header:
    """Read the wanted elements of a DICOM file whose first bytes are at hand; more is read where they do not do.

    Raises:
        PixelError: As `scan`.
    """
    try:
        return _scan_lean(path, name, head, size, wanted)
    except (Unusual, Short):
        return scan(path, name, wanted=wanted)


def scan_bytes(content: bytes, name: str, *, wanted: Wanted = WANTED) -> Header:
    """Read the wanted elements of a DICOM file that is held in memory.

    Raises:
        PixelError: As `scan`.
    """
    path = Path(name)
    _refuse_encrypted(content[:_HEAD_BYTES], name)
    try:
        return _scan_lean(path, name, content, len(content), wanted)
    except (Unusual, Short):
        with whole_header(name):
            return _scan_pydicom(path, BytesIO(content), name, len(content), wanted)


def _refuse_encrypted(head: bytes, name: str) -> None:
    if head[:1] == b"\x30" and head[128:132] != b"DICM" and head[1:2] in (b"\x80", b"\x82", b"\x83", b"\x84"):
        raise PixelError("is encrypted (a CMS envelope, DICOM PS3.10 7.4); decrypt it first", source=name)


def _scan_lean(path: Path, name: str, head: bytes, size: int, wanted: Wanted) -> Header:
    if head[128:132] != b"DICM":
        raise Unusual
    syntax, position = _meta(head)
    if syntax in _NOT_LEAN or not syntax.startswith("1.2.840.10008.1.2"):
        raise Unusual
    walker = LeanWalker(head, implicit=syntax == _IMPLICIT_LE)
    raw: dict[int, tuple[str, bytes]] = {}
    previous = 0
    offset: int | None = None
    length: int | None = None
    explicit, last = syntax != _IMPLICIT_LE, len(head) - 12
    while position < size:
        # The commonest case stands here and not in a function: a header has hundreds of elements, an archive millions.
        if explicit and position <= last:
            group, element, letters, value_length = _ELEMENT(head, position)
            kind = _VR_KINDS.get(letters)
            tag = group << 16 | element
            if kind is None or group == 0xFFFE:
                raise Unusual
            vr, short = kind
            if short:
                value_at = position + 8
            else:
                value_at = position + 12
                (value_length,) = _LENGTH(head, position + 8)
        else:
            tag, vr, value_at, value_length = walker.element(position)
        if tag <= previous:
            raise Unusual
        previous = tag
        if tag == _PIXEL_DATA:
            packed = _packed(syntax)
            if (value_length == _UNDEFINED) != packed:
                raise Unusual
            offset, length = value_at, None if packed else value_length
            break
        end = walker.skip(value_at) if value_length == _UNDEFINED else value_at + value_length
        if tag in wanted:
            if value_length and wanted[tag][1] == "present":
                raw[tag] = (vr, b"")
            elif wanted[tag][1] != "present":
                raw[tag] = (vr, _value(head, value_at, end))
        if tag == 0x7FE00008 or tag == 0x7FE00009 or end > size:
            raise Unusual
        position = end
    values = decode(raw, wanted, little=True)
    return Header(path, name, values, syntax, offset, length, size, lean=True, has_pixels=offset is not None)


def _packed(syntax: str) -> bool:
    """Tell whether a transfer syntax compresses pixels; a UID that is none, or of a vendor, says nothing of that."""
    uid = UID(syntax)
    return uid.is_transfer_syntax and uid.is_encapsulated


def _value(head: bytes, start: int, end: int) -> bytes:
    if end > len(head):
        raise Short
    return head[start:end]


def _meta(head: bytes) -> tuple[str, int]:
    """Return the transfer syntax and the offset of the data set, from explicit little-endian group 2."""
    walker = LeanWalker(head, implicit=False)
    position, syntax = 132, ""
    while head[position : position + 2] == b"\x02\x00":
        tag, _, value_at, length = walker.element(position)
        if length == _UNDEFINED:
            raise Unusual
        position = value_at + length
        if tag == 0x00020010:
            syntax = head[value_at:position].decode("ascii", "replace").rstrip("\0 ")
    if position + 8 > len(head):
        raise Short
    if not syntax:
        raise Unusual
    return syntax, position


class LeanWalker:
    """Walks little-endian elements of a buffer."""

    def __init__(self, head: bytes, *, implicit: bool) -> None:
        self.head = head
        self.implicit = implicit

    def element(self, position: int) -> tuple[int, str, int, int]:
        """Return (tag, VR or "", offset of the value, length) of the element at a position."""
        head = self.head
        if position + 12 > len(head):
            raise Short
        group, element = struct.unpack_from("<HH", head, position)
        tag = group << 16 | element
        if self.implicit or group == 0xFFFE:
            return tag, "", position + 8, struct.unpack_from("<I", head, position + 4)[0]
        vr = head[position + 4 : position + 6]
        if vr in _SHORT_VRS:
            return tag, vr.decode(), position + 8, struct.unpack_from("<H", head, position + 6)[0]
        if vr in _LONG_VRS:
            return tag, vr.decode(), position + 12, struct.unpack_from("<I", head, position + 8)[0]
        raise Unusual

    def skip(self, position: int, depth: int = 0) -> int:
        """Return the offset after a sequence of undefined length whose items start at a position."""
        if depth > 16:
            raise Unusual
        while True:
            tag, _, value_at, length = self.element(position)
            if tag == _SEQUENCE_END:
                return value_at
            if tag != _ITEM:
                raise Unusual
            position = self._skip_item(value_at, depth) if length == _UNDEFINED else value_at + length

    def _skip_item(self, position: int, depth: int) -> int:
        while True:
            tag, vr, value_at, length = self.element(position)
            if tag == _ITEM_END:
                return value_at
            if length == _UNDEFINED and vr == "UN":
                raise Unusual
            position = self.skip(value_at, depth + 1) if length == _UNDEFINED else value_at + length


def _scan_pydicom(path: Path, content: Path | BytesIO, name: str, size: int, wanted: Wanted) -> Header:
    dataset = read_dataset(content, name=name, stop_before_pixels=False, defer_size=4096)
    raw: dict[int, tuple[str, bytes]] = {}
    little = True
    for tag, (_, kind) in wanted.items():
        if tag not in dataset:
            continue
        element: Any = dataset.get_item(tag)
        if kind == "present":
            raw[tag] = ("", b"")
        elif isinstance(element, RawDataElement) and element.value:
            little = element.is_little_endian
            raw[tag] = (element.VR or "", element.value)
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""))
    has_pixels = any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    values = decode(raw, wanted, little=little)
    return Header(path, name, values, syntax, None, None, size, lean=False, has_pixels=has_pixels)


def read_dataset(
    path: Path | BytesIO, *, name: str = "", stop_before_pixels: bool = True, defer_size: int | None = None
) -> pydicom.FileDataset:
    """Read a file with pydicom, also without preamble, and turn its many ways to fail into one.

    Raises:
        PixelError: Not DICOM, or cut off.
    """
    name = name or (path.name if isinstance(path, Path) else "the file")
    with whole_header(name), quiet():
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=stop_before_pixels, defer_size=defer_size)
    telling = (0x00080016, 0x00080018, 0x00080060, 0x00041220, 0x0020000D)
    if not any(BaseTag(tag) in dataset for tag in telling) and len(getattr(dataset, "file_meta", ())) == 0:
        raise PixelError("is not a DICOM file", source=name)
    return dataset


_BROKEN = (
    BytesLengthException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    RecursionError,  # sequences in sequences without end
)
"""What pydicom raises on a broken header, when it is read or when an element is first looked at."""


@contextmanager
def whole_header(name: str) -> Iterator[None]:
    """Turn pydicom's many ways to fail on a broken header, at once or when an element is first looked at, into one.

    Args:
        name: The file's name for the message.

    Raises:
        PixelError: Something in the block failed on the header; never with a value of it.
    """
    try:
        yield
    except DataError:
        raise
    except InvalidDicomError as error:
        raise PixelError("is not a DICOM file", source=name) from error
    except zlib.error as error:  # Deflated Explicit VR: pydicom unpacks the whole file before anything else
        raise PixelError(
            "is cut off or damaged (its deflated part cannot be unpacked); copy it again", source=name
        ) from error
    except (EOFError, struct.error) as error:
        raise PixelError("is cut off in its header; copy it again", source=name) from error
    except OSError as error:
        if error.errno is not None:
            raise
        # pydicom's own, where a sequence ends in the middle of an item; that of a disk has a number.
        raise PixelError("is cut off in its header; copy it again", source=name) from error
    except _BROKEN as error:
        kind = type(error).__name__
        raise PixelError(f"has a broken header that pydicom cannot read ({kind})", source=name) from None


def decode(raw: Mapping[int, tuple[str, bytes]], wanted: Wanted, *, little: bool) -> dict[str, object]:
    """Decode the raw values of elements, each by itself.

    Args:
        raw: By tag: the VR as written ("" in implicit VR) and the bytes of the value.
        wanted: Keyword and kind of each tag.
        little: Little endian.
    """
    values: dict[str, object] = {}
    for tag, (vr, data) in raw.items():
        keyword, kind = wanted[tag]
        if kind == "present":
            values[keyword] = True
        elif (found := _DECODED.get((tag, vr, data, little))) is not None:
            values[keyword] = found
        elif kind == "text":
            text = data.decode("latin-1").strip("\0 ")
            if text:
                values[keyword] = tuple(part.strip() for part in text.split("\\"))
                _remember((tag, vr, data, little), values[keyword])
        elif kind == "short":
            if len(data) >= 2:
                values[keyword] = int.from_bytes(data[:2], "little" if little else "big")
        else:
            numbers = _numbers(tag, vr, data, little=little)
            if numbers:
                values[keyword] = numbers
                _remember((tag, vr, data, little), numbers)
            elif keyword == "NumberOfFrames" and data.strip(b"\0 "):
                values["UnreadableFrames"] = True
    return values


_DECODED: dict[tuple[int, str, bytes, bool], object] = {}
"""Values decoded before: files of one series say mostly the same. Never longer than `_MOST_DECODED`."""
_MOST_DECODED = 20_000
_LONGEST_DECODED = 256


def _remember(key: tuple[int, str, bytes, bool], value: object) -> None:
    if len(key[2]) <= _LONGEST_DECODED:
        if len(_DECODED) >= _MOST_DECODED:
            _DECODED.clear()
        _DECODED[key] = value


def _numbers(tag: int, vr: str, data: bytes, *, little: bool) -> tuple[float, ...]:
    code = _FLOAT_VRS.get(vr) or ("d" if not vr and tag == 0x00189087 else "")
    if code:
        count = len(data) // struct.calcsize(code)
        return struct.unpack(("<" if little else ">") + code * count, data[: count * struct.calcsize(code)])
    try:
        return tuple(float(part) for part in data.decode("ascii").strip("\0 ").split("\\") if part.strip())
    except (UnicodeDecodeError, ValueError):
        return ()
