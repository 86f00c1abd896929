"""WADO-RS: instances as they are stored or as Explicit VR Little Endian, their metadata, frames and pictures.

Source:
    DICOM PS3.18, 10.4 (retrieve), 8.7.3 (media types), 8.3.5 (rendering); PS3.5, annex A (transfer syntaxes).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from PIL import Image as Picture
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from isocenter.clinic.dicomweb.index import Entry, element, element_in_json, readable, tag_of
from isocenter.clinic.dicomweb.multipart import MediaType, part_of
from isocenter.clinic.dicomweb.qido import BadRequest
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images.dicom.header import whole_header
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet

__all__ = [
    "Chosen",
    "NotAcceptable",
    "Rendering",
    "bulk",
    "choose",
    "frames",
    "instances",
    "metadata",
    "new_boundary",
    "rendered",
    "told_by_index",
    "whole",
]

_EXPLICIT: Final = str(ExplicitVRLittleEndian)
_NATIVE: Final = (str(ImplicitVRLittleEndian), _EXPLICIT, str(DeflatedExplicitVRLittleEndian))
_ENCODED: Final[dict[str, str]] = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"), "image/jpeg"),
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "image/jls"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "image/jp2"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.20{n}" for n in (1, 2, 3)), "image/jphc"),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a frame as it is stored, by transfer syntax: also those that can be decoded."""
_BULK = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")
_BULK_BYTES = 1024
_PIXELS = ("7FE00008", "7FE00009", "7FE00010")
_PIECE = 1 << 18
_MOST_SIDE = 4096
_MOST_FRAME: Final = 1 << 29
_MOST_DECODED: Final = 1 << 32
"""Bytes of a frame, and of all of them, that are decoded; a header may claim what no memory holds."""
_DECODING = (
    ValueError, RuntimeError, NotImplementedError, AttributeError, LookupError, TypeError, OSError, EOFError,
    OverflowError, ZeroDivisionError, struct.error,
)  # fmt: skip


class NotAcceptable(Exception):
    """Nothing of what is accepted can be given (406)."""


@dataclass(frozen=True)
class Chosen:
    """In which form an answer goes out.

    Args:
        media: Type of each part.
        syntax: Transfer syntax of each part; "" as it is stored.
        multipart: Whether it is multipart/related.
    """

    media: str
    syntax: str
    multipart: bool = True


@dataclass(frozen=True)
class Rendering:
    """How a picture is made.

    Args:
        media: "image/jpeg" or "image/png".
        quality: Of a JPEG, 1 to 100.
        window: Centre and width; None takes those of the image.
        size: Most columns and rows; None leaves them.
    """

    media: str = "image/jpeg"
    quality: int = 90
    window: tuple[float, float] | None = None
    size: tuple[int, int] | None = None


def choose(wanted: Sequence[MediaType], stored: Sequence[str], *, single: bool = False) -> Chosen:
    """Choose the form of instances.

    Args:
        wanted: What is accepted, the most wanted first.
        stored: Transfer syntaxes of the instances.
        single: Whether it is one instance, which may go without multipart.

    Raises:
        NotAcceptable: None of it can be given.
    """
    for one in wanted:
        parts = one.parameters
        multipart = one.name in ("*/*", "multipart/*", "multipart/related")
        inner = parts.get("type", "application/dicom") if multipart else one.name
        if inner != "application/dicom" or (not multipart and not single):
            continue
        syntax = parts.get("transfer-syntax", "*" if one.name == "*/*" else _EXPLICIT)
        if syntax == "*" or set(stored) == {syntax}:
            return Chosen(inner, "", multipart)
        if syntax == _EXPLICIT and all(one in _NATIVE or one in _ENCODED for one in stored):
            return Chosen(inner, _EXPLICIT, multipart)
    raise NotAcceptable("instances are given as application/dicom: as stored, or as Explicit VR Little Endian")


def instances(entries: Sequence[Entry], chosen: Chosen, boundary: str) -> Iterator[bytes]:
    """Yield a multipart body of instances, a piece at a time: one instance at most is in memory, and only if decoded.

    Raises:
        PixelError: One can't be decoded; the body is cut off, which whoever reads it sees.
    """
    for entry in entries:
        syntax = chosen.syntax or entry.syntax
        yield part_of(boundary, f"{chosen.media};transfer-syntax={syntax}")
        yield from whole(entry, chosen.syntax)
    yield f"\r\n--{boundary}--\r\n".encode()


def whole(entry: Entry, syntax: str) -> Iterator[bytes]:
    """Yield a file in a transfer syntax; "" as it is stored.

    Raises:
        PixelError: It can't be decoded.
    """
    if not syntax or syntax == entry.syntax:
        with entry.file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece
        return
    content = memoryview(_as_explicit(entry.file))
    for start in range(0, len(content), _PIECE):
        yield bytes(content[start : start + _PIECE])


@quiet()
def _as_explicit(file: Path) -> bytes:
    dataset = open_instance(file)
    out = BytesIO()
    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed and dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            _check_size(dataset, _count(dataset))
            dataset.decompress(decoding_plugin=_plugin(dataset), generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except PixelError:
        raise
    except _DECODING as error:
        raise PixelError("can't be given as Explicit VR Little Endian; ask for it as stored") from error
    return out.getvalue()


@quiet()
def metadata(entry: Entry, url: str) -> dict[str, Any]:
    """Return all but bulk data of an instance in the DICOM JSON model; what can't be told in it is left out.

    Args:
        entry: Which.
        url: Address of the instance, below which bulk data are found.

    Raises:
        DataError: It can't be read.
    """
    with whole_header("an instance"):
        return _metadata(entry, url)


def _metadata(entry: Entry, url: str) -> dict[str, Any]:
    header, rest = _header(entry)
    told: dict[str, Any] = {}
    for number in sorted(header.keys()):
        tag, found = f"{int(number):08X}", readable(header, number)
        if found is None:
            continue
        if found.VR in _BULK and isinstance(found.value, bytes) and len(found.value) > _BULK_BYTES:
            told[tag] = {"vr": found.VR, "BulkDataURI": f"{url}/bulkdata/{tag}"}
        elif number.group > 2:
            told |= element_in_json(header, number)
    if rest in _PIXELS:
        wide = int(header.get("BitsAllocated") or 8) > 8
        vr = {"7FE00008": "OF", "7FE00009": "OD"}.get(rest, "OW" if wide and entry.syntax in _NATIVE else "OB")
        told[rest] = {"vr": vr, "BulkDataURI": f"{url}/bulkdata/{rest}"}
    told["00083002"] = {"vr": "UI", "Value": [entry.syntax]}
    return told


def told_by_index(entry: Entry) -> dict[str, Any]:
    """Return what the index knows of an instance, in the DICOM JSON model: for one that can't be read among others."""
    words = {
        "SOPClassUID": entry.sop_class, "SOPInstanceUID": entry.sop, "StudyInstanceUID": entry.study,
        "SeriesInstanceUID": entry.series, "AvailableTransferSyntaxUID": entry.syntax,
    }  # fmt: skip
    return {tag_of(word): element(word, uid) for word, uid in words.items()}


def _header(entry: Entry) -> tuple[Dataset, str]:
    """Return a header, and the tag of the pixels that follow it ("" for none)."""
    if entry.syntax == DeflatedExplicitVRLittleEndian:
        whole_set = open_instance(entry.file)
        rest = next((tag for tag in _PIXELS if int(tag, 16) in whole_set), "")
        for tag in _PIXELS:
            whole_set.pop(int(tag, 16), None)
        return whole_set, rest
    header = open_instance(entry.file, pixels=False)
    return header, next((tag for tag in _PIXELS if _has(entry.file, int(tag, 16))), "") if "Rows" in header else ""


def _has(file: Path, tag: int) -> bool:
    """Tell whether a file has an element, without reading its value."""
    seen = []

    def stop(found: Any, _vr: str | None, _length: int) -> bool:
        seen.append(int(found))
        return int(found) >= tag

    with file.open("rb") as stream:
        pydicom.filereader.read_partial(stream, stop_when=stop, force=True)
    return tag in seen[-1:]


@quiet()
def frames(entry: Entry, numbers: Sequence[int], wanted: Sequence[MediaType]) -> tuple[str, Iterator[bytes]]:
    """Return frames: their media type, and the body of each.

    Args:
        entry: Of which instance.
        numbers: From 1.
        wanted: What is accepted, the most wanted first.

    Raises:
        BadRequest: A frame that it does not have.
        NotAcceptable: They can't be given so.
        PixelError: They can't be decoded, or it has none.
    """
    dataset = open_instance(entry.file)
    if "Rows" not in dataset or "PixelData" not in dataset:
        raise PixelError("an instance without frames")
    count = _count(dataset)
    if any(not 1 <= number <= count for number in numbers):
        raise BadRequest(f"frames are numbered from 1 to {count}")
    media = _frame_media(entry, wanted)
    if media.startswith("application/octet-stream"):
        return media, (_native_frame(dataset, number) for number in numbers)
    try:
        held = list(generate_frames(dataset.PixelData, number_of_frames=count))
        return media, iter([held[number - 1] for number in numbers])
    except _DECODING as error:
        raise PixelError("the frames can't be told apart") from error


def _count(dataset: Dataset) -> int:
    """Return how many frames an instance says that it has.

    Raises:
        PixelError: It says what is no number.
    """
    with whole_header("an instance"):
        return int(dataset.get("NumberOfFrames") or 1)


def _check_size(dataset: Dataset, count: int = 1) -> None:
    """Refuse to decode frames that no memory might hold.

    Raises:
        PixelError: It is too large, or its size is none.
    """
    with whole_header("an instance"):
        size = dataset.Rows * dataset.Columns * int(dataset.get("SamplesPerPixel") or 1) * dataset.BitsAllocated // 8
        if not 0 <= size <= _MOST_FRAME or size * count > _MOST_DECODED:
            raise PixelError("frames that are too large to be decoded")


def _plugin(dataset: Dataset) -> str:
    """Return what decodes; "" for the best. The faster decoder of RLE panics on damaged data, past every `except`."""
    return "pydicom" if dataset.file_meta.TransferSyntaxUID == RLELossless else ""


def _frame_media(entry: Entry, wanted: Sequence[MediaType]) -> str:
    stored = _ENCODED.get(entry.syntax)
    native = f"application/octet-stream;transfer-syntax={_EXPLICIT}"
    for one in wanted:
        multipart = one.name in ("*/*", "multipart/*", "multipart/related")
        if not multipart:
            continue
        inner = one.parameters.get("type", "*/*" if one.name == "*/*" else "application/octet-stream")
        syntax = one.parameters.get("transfer-syntax", "")
        if stored and inner in (stored, "*/*") and syntax in ("", "*", entry.syntax):
            return f"{stored};transfer-syntax={entry.syntax}"
        if stored and inner == "application/octet-stream" and syntax in ("*", entry.syntax):
            return f"{stored};transfer-syntax={entry.syntax}"
        if inner in ("application/octet-stream", "*/*") and syntax in ("", "*", _EXPLICIT):
            return native
    raise NotAcceptable("frames are given as stored, or as application/octet-stream in Explicit VR Little Endian")


def _native_frame(dataset: Dataset, number: int) -> bytes:
    """Return one frame as Explicit VR Little Endian has it."""
    try:
        if dataset.file_meta.TransferSyntaxUID in _NATIVE and dataset.BitsAllocated % 8 == 0:
            size = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
            found: bytes = dataset.PixelData[(number - 1) * size : number * size]
            if len(found) < size:
                raise PixelError("the pixels are shorter than their header says")
            return found
        _check_size(dataset)
        pixels = pixel_array(dataset, index=number - 1, decoding_plugin=_plugin(dataset))
        if dataset.BitsAllocated == 1:
            return np.packbits(pixels.ravel(), bitorder="little").tobytes()
        return pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    except PixelError:
        raise
    except _DECODING as error:
        raise PixelError("a frame can't be decoded; ask for it as stored") from error


@quiet()
def rendered(entry: Entry, number: int, how: Rendering) -> bytes:
    """Return a picture of a frame as a screen shows it.

    Args:
        entry: Of which instance.
        number: From 1.
        how: In which form.

    Raises:
        BadRequest: A frame that it does not have.
        PixelError: It has none, or it can't be decoded.

    Source:
        DICOM PS3.4 N.2 (modality, VOI and presentation transformations).
    """
    dataset = open_instance(entry.file)
    if "Rows" not in dataset or "PixelData" not in dataset:
        raise PixelError("an instance that is no picture")
    count = _count(dataset)
    if not 1 <= number <= count:
        raise BadRequest(f"frames are numbered from 1 to {count}")
    try:
        _check_size(dataset)
        pixels = pixel_array(dataset, index=number - 1, decoding_plugin=_plugin(dataset))
        grey = _grey(dataset, pixels, number, how.window)
        picture = Picture.fromarray(grey)
        if how.size is not None:
            picture.thumbnail((min(how.size[0], _MOST_SIDE), min(how.size[1], _MOST_SIDE)))
        out = BytesIO()
        if how.media == "image/png":
            picture.save(out, "PNG")
        else:
            picture.save(out, "JPEG", quality=how.quality)
    except PixelError:
        raise
    except _DECODING as error:
        raise PixelError("a frame can't be shown") from error
    return out.getvalue()


def _grey(dataset: Dataset, pixels: Any, number: int, window: tuple[float, float] | None) -> Any:
    """Return bytes for the screen, of one frame."""
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        return pixels if pixels.dtype == np.uint8 else (pixels / max(float(pixels.max()), 1.0) * 255).astype(np.uint8)
    told = _of_frame(dataset, number)
    values = np.asarray(apply_modality_lut(pixels, told), np.float64)
    if window is not None:
        told.WindowCenter, told.WindowWidth = window
        told.VOILUTFunction = "LINEAR"
        if "VOILUTSequence" in told:
            del told.VOILUTSequence
    if "VOILUTSequence" in told:
        shown = np.asarray(apply_voi_lut(values.astype(np.int64), told), np.float64)
        low, high = 0.0, float(2 ** int(told.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif "WindowCenter" in told and "WindowWidth" in told:
        shown = values
        low, high = _window_range(told)
    else:
        shown = values
        low, high = float(values.min()), float(values.max())
    scaled = _linear(shown, low, high) * 255
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 255 - scaled
    return np.round(scaled).astype(np.uint8)


def _window_range(told: Dataset) -> tuple[float, float]:
    """Return the values that are black and white (PS3.3 C.11.2.1.2.1)."""
    centre, width = (np.atleast_1d(np.asarray(told[word].value, float))[0] for word in ("WindowCenter", "WindowWidth"))
    if told.get("VOILUTFunction") == "LINEAR_EXACT":
        return float(centre - width / 2), float(centre + width / 2)
    return float(centre - 0.5 - (width - 1) / 2), float(centre - 0.5 + (width - 1) / 2)


def _linear(values: Any, low: float, high: float) -> Any:
    return (values > low).astype(float) if high <= low else np.clip((values - low) / (high - low), 0, 1)


def _of_frame(dataset: Dataset, number: int) -> Dataset:
    """Return what says how a frame's values become grey; of multi-frame objects from its functional groups."""
    told = Dataset()
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    groups = [dataset, *shared[:1], *per_frame[number - 1 : number]]
    places: list[Mapping[Any, Any]] = []
    for group in groups:
        places.append(group)
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            places.extend((group.get(name) or ())[:1])
    words = (
        "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
        "VOILUTFunction", "VOILUTSequence", "PixelRepresentation", "BitsStored", "PhotometricInterpretation",
    )  # fmt: skip
    for place in places:
        for word in words:
            if word in place:
                told[word] = place[word]
    return told


def bulk(entry: Entry, tag: str) -> tuple[str, list[bytes]]:
    """Return an element's value: its media type, and its parts (the frames of pixels that are encoded).

    Raises:
        DataError: It can't be read, or it has no such bulk data.
    """
    dataset = open_instance(entry.file)
    with whole_header("an instance"):
        number = int(tag, 16)
        if number not in dataset or not isinstance(dataset[number].value, bytes):
            raise DataError("no such bulk data in this instance")
        value: bytes = dataset[number].value
    if tag == "7FE00010" and entry.syntax not in _NATIVE:
        media = f"{_ENCODED.get(entry.syntax, 'application/octet-stream')};transfer-syntax={entry.syntax}"
        try:
            return media, list(generate_frames(value, number_of_frames=_count(dataset)))
        except PixelError:
            raise
        except _DECODING as error:
            raise PixelError("the frames can't be told apart") from error
    return "application/octet-stream", [value]


def new_boundary() -> str:
    """Return a boundary that no instance contains."""
    return secrets.token_hex(20)
