"""Burnt-in text of DICOM objects blanked, in native and in compressed pixel data."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from isocenter.core.errors import PixelError
from isocenter.data.deidentify.burnt_in import NO_TESSERACT, Box, RegionRule, has_tesseract, region_boxes, text_boxes
from isocenter.data.images.dicom.header import whole_header
from isocenter.data.images.quiet import quiet

__all__ = ["CleanPixels", "blank_text", "encoded", "worth_looking"]

_LOOKED_AT = frozenset(
    ["US", "XA", "RF", "SC", "OT", "ES", "GM", "XC", "OP", "IVUS", "ECG", "DX", "CR", "MG", "PX", "IO", "DG"]
)
_LOSSLESS = (RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless)
_MOST_FRAMES = 8


class CleanPixels:
    """What became of an object's pixels.

    Args:
        data: The file; the very bytes that came in where nothing was blanked.
        boxes: What was blanked, in every frame: (frame or -1 for all, top, left, bottom, right).
        notes: What a person should know.
    """

    def __init__(
        self, data: bytes, boxes: tuple[tuple[int, int, int, int, int], ...] = (), notes: tuple[str, ...] = ()
    ) -> None:
        self.data = data
        self.boxes = boxes
        self.notes = notes


def worth_looking(header: Any) -> bool:
    """Tell whether an object may carry burnt-in text: its modality, its making, or what it says of itself.

    Original primary CT, MR and PET slices are not looked at, unless they say that they carry text.
    """
    if "PixelData" not in header:
        return False
    if str(header.get("BurnedInAnnotation") or "").upper() == "YES":
        return True
    kinds = [str(kind).upper() for kind in header.get("ImageType") or ()]
    if str(header.get("Modality") or "") in _LOOKED_AT or "ConversionType" in header:
        return True
    return "SECONDARY" in kinds or any("SCREEN" in kind or "CAPTURE" in kind for kind in kinds)


def blank_text(
    data: bytes, *, ocr: bool | None = None, rules: tuple[RegionRule, ...] | None = None, source: str = ""
) -> CleanPixels:
    """Find burnt-in text in a file and blank it, in all frames alike.

    Native pixel data are changed in place. Compressed ones are decoded and written again without loss: in their own
    transfer syntax where that is lossless and can be written, else uncompressed.

    Args:
        data: A DICOM file with file meta.
        ocr: Recognise characters; None does where Tesseract is installed.
        rules: Regions by device; None takes those of the package.
        source: Name for messages.

    Raises:
        PixelError: The pixels cannot be decoded, so that nobody knows what is in them.
        CapabilityError: Recognition is asked for, and Tesseract is not installed.
    """
    with whole_header(source), quiet():
        dataset = pydicom.dcmread(io.BytesIO(data))
    if not worth_looking(dataset):
        return CleanPixels(data)
    notes = []
    if ocr is None and not has_tesseract():
        notes.append(NO_TESSERACT)
    try:
        with quiet():
            if dataset.file_meta.TransferSyntaxUID.is_compressed:
                was = dataset.file_meta.TransferSyntaxUID
                dataset.decompress(generate_instance_uid=False)
            else:
                was = None
            frames = _frames(dataset)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, TypeError, KeyError) as error:
        raise PixelError(
            f"its pixels cannot be decoded ({type(error).__name__}), so that burnt-in text cannot be looked for",
            source=source,
        ) from error
    boxes = list(region_boxes(dataset, rules))
    step = max(1, len(frames) // _MOST_FRAMES)
    for frame in frames[::step]:
        boxes += text_boxes(_grey(frame), ocr=ocr)
    boxes = [box for box in dict.fromkeys(boxes) if box.bottom > box.top and box.right > box.left]
    if not boxes:
        if str(dataset.get("BurnedInAnnotation") or "").upper() == "YES":
            notes.append("the object says that text is burnt in, and none was found")
        return CleanPixels(data, (), tuple(notes))
    _blank(dataset, frames, boxes)
    out = _written(dataset, frames, was)
    return CleanPixels(out, tuple((-1, b.top, b.left, b.bottom, b.right) for b in boxes), tuple(notes))


def _frames(dataset: Any) -> Shaped[np.ndarray, "frame y x *colour"]:
    """Return stored values with frames first; colours as they are stored."""
    pixels = np.array(pixel_array(dataset, raw=True))
    if int(dataset.get("NumberOfFrames") or 1) == 1 and pixels.ndim == (2 if int(dataset.SamplesPerPixel) == 1 else 3):
        pixels = pixels[None]
    return pixels


def _grey(frame: Shaped[np.ndarray, "y x *colour"]) -> Shaped[np.ndarray, "y x"]:
    return frame if frame.ndim == 2 else frame[..., :3].max(axis=-1)


def _blank(dataset: Any, frames: Shaped[np.ndarray, "frame y x *colour"], boxes: list[Box]) -> None:
    """Write the darkest value into every box."""
    meaning = str(dataset.get("PhotometricInterpretation") or "")
    if meaning.startswith("YBR"):
        dark: Any = np.array([0, 128, 128], frames.dtype)
    elif meaning == "MONOCHROME1":
        dark = frames.max()
    else:
        dark = frames.min() if meaning == "MONOCHROME2" else 0
    for box in boxes:
        frames[:, box.top : box.bottom, box.left : box.right] = dark


def _written(dataset: Any, frames: Shaped[np.ndarray, "frame y x *colour"], was: Any) -> bytes:
    if frames.ndim == 4 and int(dataset.get("PlanarConfiguration") or 0) == 1:
        stored = np.moveaxis(frames, -1, 1)
    else:
        stored = frames
    dtype = stored.dtype.newbyteorder("<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">")
    raw = np.ascontiguousarray(stored, dtype=dtype).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset.BurnedInAnnotation = "NO"
    kinds = list(dataset.get("ImageType") or ())
    if kinds and str(kinds[0]) == "ORIGINAL":
        dataset.ImageType = ["DERIVED", *kinds[1:]]
    dataset.DerivationDescription = "Burnt-in text blanked"
    return encoded(dataset, was)


def encoded(dataset: Any, was: Any) -> bytes:
    """Write an object whose pixels were changed: in the transfer syntax that it had, where that is lossless.

    Args:
        dataset: With native pixels.
        was: The transfer syntax that it was decompressed from; None where it was not compressed.
    """
    with quiet():
        if was in _LOSSLESS:
            try:
                dataset.compress(was, generate_instance_uid=False)
            except (ValueError, RuntimeError, NotImplementedError):
                dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()
