"""Files that are not DICOM: how large they would be in memory, from their first bytes, and reading them."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import SimpleITK

from isocenter.core import Geometry, Image, Quantity, Source
from isocenter.core.errors import PixelError, TooLarge
from isocenter.core.fingerprint import fingerprint
from isocenter.data.archive.image_rows import read_plain
from isocenter.data.images.atomic import explain_os_error
from isocenter.verbs.serving.sources import PlainFile

__all__ = ["check_promise", "read_file"]

_COMPONENT_BYTES = {"8-bit": 1, "16-bit": 2, "32-bit": 4, "64-bit": 8}


def check_promise(file: PlainFile, most_bytes: int) -> None:
    """Refuse a file that says at its start that it would fill the memory, before any of it is read.

    Raises:
        TooLarge: It would take more than `most_bytes`.
        DataError: It can't be opened.
    """
    promised = _promised_bytes(file)
    if promised > most_bytes:
        raise TooLarge(
            f"holds {promised >> 20} MiB of voxels, and {most_bytes >> 20} MiB are allowed for one image; serve with a "
            "larger --image-mb, or cut it",
            source=file.name,
        )


def read_file(file: PlainFile) -> Image:
    """Read a file.

    Raises:
        DataError: It can't be read.
    """
    image = _read_array(file) if file.kind == "npz" else read_plain(file.path, file.kind, file.name)
    return replace(image, modality=file.modality) if file.modality and not image.modality else image


def _promised_bytes(file: PlainFile) -> int:
    """Return the bytes of voxels that a file's header promises; 0 where that is only known by reading it."""
    try:
        if file.kind == "nifti":
            return _promised_by_nifti(file)
        if file.kind in ("nrrd", "metaimage"):
            reader: Any = SimpleITK.ImageFileReader()  # type: ignore[no-untyped-call]
            reader.SetFileName(str(file.path))
            reader.ReadImageInformation()
            name = str(SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))  # type: ignore[no-untyped-call]
            width = next((n for word, n in _COMPONENT_BYTES.items() if word in name), 8)
            return math.prod(int(n) for n in reader.GetSize()) * int(reader.GetNumberOfComponents()) * width
        if file.kind == "picture":
            with PIL.Image.open(file.path) as picture:
                return picture.width * picture.height * len(picture.getbands()) * getattr(picture, "n_frames", 1)
    except OSError as error:
        if error.errno is not None:
            raise explain_os_error(error, file.path, doing="read") from error
        return 0  # not told by its header; its reader has the better message
    except (
        RuntimeError,
        ValueError,
        EOFError,
        zlib.error,
        nib.spatialimages.HeaderDataError,
        nib.wrapstruct.WrapStructError,
        PIL.Image.DecompressionBombError,
    ):
        return 0
    return 0


def _promised_by_nifti(file: PlainFile) -> int:
    with file.path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(file.path, "rb") if packed else file.path.open("rb") as stream:
        head = stream.read(540)
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    kind: Any = nib.Nifti2Header if second else nib.Nifti1Header
    header = kind(head[: 540 if second else 348], check=False)
    # Scaled values are at least float32.
    width, voxels = int(header.get_data_dtype().itemsize), math.prod(int(n) for n in header.get_data_shape())
    scaled = header.get_slope_inter()[0] not in (None, 1.0)
    return voxels * (max(width, 4) if scaled else width)


def _read_array(file: PlainFile) -> Image:
    """Read one image of a file of many."""
    array_name, _, number = file.member.partition("/")
    try:
        with np.load(file.path, allow_pickle=False) as arrays:
            values: np.ndarray = arrays[array_name]
        values = values[int(number)] if number else values
    except OSError as error:
        raise explain_os_error(error, file.path, doing="read") from error
    except (KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise PixelError("the copy in the archive is damaged; take it in again", source=file.name) from error
    if values.ndim == 3 and values.shape[-1] == 3:
        array, quantity = np.ascontiguousarray(values.transpose(2, 0, 1)[:, None]), Quantity.RGB
    elif values.ndim in (2, 3):
        array, quantity = values.reshape((1, *((1,) if values.ndim == 2 else ()), *values.shape)), Quantity.ARBITRARY
    else:
        raise PixelError(f"has {values.ndim} axes: no image that can be shown", source=file.name)
    z, y, x = array.shape[1:]
    geometry = Geometry((z, y, x))
    source = Source(sha256=fingerprint(array, geometry), files=(file.name,))
    return Image(array, geometry, quantity=quantity, source=source)
