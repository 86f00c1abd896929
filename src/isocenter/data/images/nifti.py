"""NIfTI-1 and NIfTI-2, read and written: the only place where RAS exists.

NIfTI keeps voxels as (i, j, k, t), i fastest, and an affine to RAS millimetres; Isocenter keeps (channel, z, y, x) and
an affine to LPS. `lps_zyx_from_ras_ijk` is the one function that converts, in both directions, because the conversion
is its own inverse up to the order of the axes.

A header whose sform and qform codes are both 0 says nothing about the place in the patient (pixdim alone gives a
spacing, not which side is left): such an image gets a geometry without an affine, and a note.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from io import IOBase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.fileholders import FileHolder
from nibabel.wrapstruct import WrapStructError

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import DataError, GeometryError, PixelError, UnitsError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.images.fingerprint import check_size, fingerprint
from isocenter.data.images.proof import Proof, prove, prove_image
from isocenter.data.images.quiet import quiet

__all__ = ["lps_zyx_from_ras_ijk", "read_nifti", "read_nifti_mask", "write_nifti"]

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_SCANNER = 1
_NOTE_KEY = "isocenter"
_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_LARGEST_NIFTI1_AXIS = 32767
_COMPRESSION = 3


def lps_zyx_from_ras_ijk(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Convert an affine between (i, j, k) -> RAS and (z, y, x) -> LPS; the same function goes both ways.

    Args:
        affine: Either of the two, in mm.

    Returns:
        The other one: the first two world axes change sign, the first and last index axes change places.

    Source:
        NIfTI-1 header (nifti1.h, "3D IMAGE ORIENTATION": +x Right, +y Anterior, +z Superior); DICOM PS3.3 C.7.6.2.1.1.

    Example:
        >>> ras = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
        >>> lps_zyx_from_ras_ijk(ras).tolist()
        [[0.0, 0.0, 0.7, -10.0], [0.0, 0.8, 0.0, -20.0], [2.5, 0.0, 0.0, 30.0], [0.0, 0.0, 0.0, 1.0]]
    """
    turned = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64)
    converted: Float[np.ndarray, "4 4"] = turned[:, [2, 1, 0, 3]] + 0.0
    return converted


def read_nifti(path: Path, *, modality: str = "", name: str = "") -> Image:
    """Read a NIfTI image (.nii, .nii.gz, or a pair .hdr and .img, told by content).

    Args:
        path: The file; of a pair, the header.
        modality: DICOM Modality, if the caller knows it: a NIfTI does not say.
        name: Name for messages and `Source.files`; the file's own by default.

    Returns:
        The image: a fourth or fifth axis becomes channels, stored values are scaled as the header says.

    Raises:
        PixelError: The file is truncated or damaged, or holds complex or otherwise unreadable voxels.
        GeometryError: The affine is singular or not finite.
        UnitsError: The spatial unit is not one of metre, millimetre, micrometre.
        DataError: The file cannot be opened, or is no NIfTI.
    """
    name = name or Path(path).name
    header, stored, extension = _load(Path(path), name)
    geometry, notes, meta = _geometry(header, name)
    array, quantity, more = _channels(stored, name)
    facts, odd = _own_facts(extension)
    if facts.get("synthetic") is True:
        meta["synthetic"] = True
        notes = (*notes, "synthetic: of no person")
    if geometry.affine is None and facts.get("stack") == "time":
        geometry = Geometry(geometry.shape, stack="time")
    if quantity is Quantity.ARBITRARY and facts.get("quantity") in {q.value for q in Quantity}:
        quantity = Quantity(facts["quantity"])
    own_modality = facts.get("modality", "")
    return Image(
        array,
        geometry,
        quantity=quantity,
        modality=modality or (own_modality if isinstance(own_modality, str) and len(own_modality) <= 16 else ""),
        source=Source(sha256=fingerprint(array, geometry), files=(name,)),
        meta=MappingProxyType(meta),
        notes=(*notes, *more, *odd, *_not_finite(array)),
    )


def read_nifti_mask(path: Path, segments: Sequence[Segment] | None = None, *, name: str = "") -> Mask:
    """Read a NIfTI as a mask. Nothing in a NIfTI says that it is one: the caller does.

    Args:
        path: The file. Three axes make a labelmap; a fourth one makes a stack, one plane per segment.
        segments: What the labels, or the planes in their order, mean. None: as this package wrote them into the file,
            else one segment "label N" per label found.
        name: Name for messages; the file's own by default.

    Raises:
        PixelError: Values are not whole numbers from 0 to 65535 (labelmap), or not 0, 1 or probabilities (stack), or
            there is a label without a segment.
        GeometryError: The affine is singular or not finite.
        UnitsError: The spatial unit is not known.
        DataError: The file cannot be opened, or is no NIfTI.
    """
    name = name or Path(path).name
    header, stored, extension = _load(Path(path), name)
    geometry, _, _ = _geometry(header, name)
    array, _, _ = _channels(stored, name)
    facts, _ = _own_facts(extension)
    if segments is None:
        segments = _own_segments(facts)
    is_stack = array.shape[0] > 1 or facts.get("mask") == "stack"
    values = _stack(array, name) if is_stack else _labelmap(array[0], name)
    if segments is None:
        numbers = range(1, len(values) + 1) if is_stack else [int(n) for n in np.unique(values) if n]
        segments = [Segment(n, f"label {n}") for n in numbers]
    source = Source(sha256=fingerprint(values, geometry), files=(name,))
    return Mask(values, geometry, tuple(segments), source)


def write_nifti(item: Image | Mask, path: Path) -> Proof:
    """Write an image or a mask as NIfTI, with sform and qform, and prove where it lies.

    A labelmap is written as uint16, a stack with a fourth axis (uint8 or float32). What the segments are called, and
    what the numbers of an image mean, goes into a comment extension of the header; no identity does. The same input
    gives the same bytes.

    Args:
        item: What to write. A grid without an affine is written with both codes 0.
        path: Ends in .nii or .nii.gz, in small letters or capitals.

    Returns:
        The proof that the file, read back, holds the same voxels at the same place.

    Raises:
        GeometryError: The file read back does not match; nothing is left behind.
        DataError: The name has another suffix, or the disk refused.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError("a NIfTI file must be named .nii or .nii.gz; choose such a name", source=path)
    values, facts = _to_store(item)
    largest = max(values.shape)
    image_class: Any = nib.Nifti1Image if largest <= _LARGEST_NIFTI1_AXIS else nib.Nifti2Image
    image = image_class(values, None, dtype=values.dtype)
    _write_geometry(image.header, item.geometry)
    if isinstance(item, Mask) and item.is_labelmap:
        image.header.set_intent("label", name="segments")
    if facts.get("synthetic"):
        image.header["descrip"] = b"synthetic"
    text = json.dumps({_NOTE_KEY: facts}, sort_keys=True).encode()
    note: Any = nib.nifti1.Nifti1Extension
    image.header.extensions.append(note("comment", text))
    with atomic_path(path) as temporary:
        _save(image, temporary)
        if isinstance(item, Mask):
            return prove(item, read_nifti_mask(temporary, item.segments, name=path.name))
        return prove_image(item, read_nifti(temporary, name=path.name))


def _save(image: Any, path: Path) -> None:
    """Write through files that are closed here, also when the disk is full; without a time stamp in the gzip header."""
    with path.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=_COMPRESSION, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _load(path: Path, name: str) -> tuple[Any, Shaped[np.ndarray, "..."], bytes]:
    """Return the header, the stored voxels scaled, and our own comment extension."""
    try:
        with ExitStack() as stack:
            stack.enter_context(quiet())
            first = stack.enter_context(_opened(path))
            image_class = _class_of(first.read(352), name)
            first.seek(0)
            if image_class in (nib.Nifti1Pair, nib.Nifti2Pair):
                voxels = _sibling(path, name)
                second = stack.enter_context(_opened(voxels))
                files = {"header": FileHolder(fileobj=first), "image": FileHolder(fileobj=second)}
            else:
                voxels = path
                files = {"image": FileHolder(fileobj=first)}
            image = image_class.from_file_map(files, mmap=False)
            expected = (
                int(np.prod([int(n) for n in image.shape], dtype=object)) * image.header.get_data_dtype().itemsize
            )
            check_size(expected, voxels, compressed=_is_gzip(voxels), name=name)
            stored = _scaled(image)
            comments = [e.get_content() for e in image.header.extensions if e.get_code() == 6]
    except DataError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, WrapStructError, nib.filebasedimages.ImageFileError) as error:
        raise PixelError("the file is truncated or damaged; fetch it again", source=name) from error
    except (nib.spatialimages.HeaderDataError, ValueError, TypeError, OverflowError) as error:
        raise PixelError("its header or voxels are truncated or damaged; fetch it again", source=name) from error
    except OSError as error:
        if error.errno is None:  # nibabel's own: fewer bytes than the header promised
            raise PixelError("the file is truncated; fetch it again", source=name) from error
        raise explain_os_error(error, Path(name), doing="read") from error
    mine = next((c for c in comments if _NOTE_KEY.encode() in (c if isinstance(c, bytes) else c.encode())), b"")
    return image.header, stored, mine if isinstance(mine, bytes) else mine.encode()


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> IOBase:
    if _is_gzip(path):
        return gzip.open(path, "rb")
    return path.open("rb")


def _class_of(head: bytes, name: str) -> Any:
    by_magic = {
        (344, b"n+1\0"): nib.Nifti1Image,
        (344, b"ni1\0"): nib.Nifti1Pair,
        (4, b"n+2\0"): nib.Nifti2Image,
        (4, b"ni2\0"): nib.Nifti2Pair,
    }
    for (at, magic), image_class in by_magic.items():
        if head[at : at + 4] == magic:
            return image_class
    if len(head) >= 348 and int.from_bytes(head[:4], "little") in (348, 0x5C010000):
        raise DataError("an Analyze 7.5 file does not say which side is left; convert it to NIfTI", source=name)
    raise DataError("not a NIfTI file (its magic number is missing); check what it is", source=name)


def _sibling(path: Path, name: str) -> Path:
    stem = path.name.removesuffix(".gz").removesuffix(".hdr")
    for suffix in (".img", ".img.gz", ".IMG"):
        candidate = path.with_name(stem + suffix)
        if candidate.is_file():
            return candidate
    raise PixelError(f"its voxels are missing: there is no {stem}.img beside it; copy both files", source=name)


def _scaled(image: Any) -> Shaped[np.ndarray, "..."]:
    """Voxels as the header scales them; whole numbers stay whole where slope and intercept are."""
    raw = np.asanyarray(image.dataobj.get_unscaled())
    if raw.dtype.names is None:
        raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    if (slope, intercept) == (1.0, 0.0) or raw.dtype.names is not None:
        return np.asarray(raw)
    if raw.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        a, b = int(slope), int(intercept)
        ends = [int(raw.min()) * a + b, int(raw.max()) * a + b, a, b]
        for kind in (np.int16, np.int32, np.int64):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                return np.asarray(raw.astype(kind) * kind(a) + kind(b))
    precise = np.float32 if raw.dtype.itemsize <= 2 else np.float64
    scaled: Shaped[np.ndarray, "..."] = (raw.astype(np.float64) * slope + intercept).astype(precise)
    return scaled


def _geometry(header: Any, name: str) -> tuple[Geometry, tuple[str, ...], dict[str, object]]:
    sizes = [int(n) for n in header.get_data_shape()[:3]]
    x, y, z = (*sizes, 1, 1, 1)[:3]
    if min(x, y, z) < 1:
        raise PixelError(f"the header says {x} x {y} x {z} voxels; it is damaged", source=name)
    shape = (z, y, x)
    factor, more = _unit(header, name)
    notes: list[str] = []
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    meta: dict[str, object] = {"SformCode": sform_code, "QformCode": qform_code}
    if sform_code <= 0 and qform_code <= 0:
        spacing = " x ".join(f"{float(p) * factor:g}" for p in header["pixdim"][1:4])
        notes.append(
            f"the header does not say where the image lies in the patient (sform and qform codes are 0); its pixdim of "
            f"{spacing} gives no position or side and is not used"
        )
        return Geometry(shape), tuple(notes), meta
    notes += more
    affine = header.get_sform() if sform_code > 0 else _qform(header, name)
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= factor
    try:
        geometry = Geometry(shape, lps_zyx_from_ras_ijk(affine))
    except GeometryError as error:
        raise GeometryError(f"{error}; correct its sform or qform", source=name) from error
    if sform_code > 0 and qform_code > 0:
        other = np.array(_qform(header, name), dtype=np.float64)
        other[:3] *= factor
        far = _largest_difference_mm(geometry, lps_zyx_from_ras_ijk(other))
        if far > 0.1:
            notes.append(f"sform and qform disagree by up to {far:.1f} mm{_turned(geometry, other)}; sform was used")
    directions = np.asarray(geometry.directions)
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3:
        notes.append("the axes are not at right angles (a sheared affine); distances along them are as the affine says")
    code = sform_code if sform_code > 0 else qform_code
    if code > _SCANNER:
        space = {2: "another scan", 3: "Talairach", 4: "MNI 152"}.get(code, "a template")
        notes.append(f"coordinates are aligned to {space}, not those of the scanner")
    return geometry, tuple(notes), meta


def _turned(geometry: Geometry, other_ras: Float[np.ndarray, "4 4"]) -> str:
    """Say so when another affine has the axes point to other sides: one of the two mirrors or turns the patient."""
    try:
        other = Geometry(geometry.shape, lps_zyx_from_ras_ijk(other_ras)).orientation
    except GeometryError:
        return ""
    mine = geometry.orientation
    return (
        ""
        if mine == other
        else f", and on the sides that z, y and x point to ({mine} or {other}): check left and right"
    )


def _qform(header: Any, name: str) -> Float[np.ndarray, "4 4"]:
    try:
        affine: Float[np.ndarray, "4 4"] = np.array(header.get_qform(), dtype=np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        raise GeometryError("its qform is not a rotation; correct the header", source=name) from error
    return affine


def _unit(header: Any, name: str) -> tuple[float, list[str]]:
    code = int(header["xyzt_units"]) & 7
    if code not in _MM_PER_UNIT:
        raise UnitsError(f"its spatial unit has the unknown code {code}; correct xyzt_units to mm", source=name)
    if code == 0:
        return 1.0, ["the header does not name the unit of length; read as mm, as the format's readers do"]
    if code in _UNIT_NAMES:
        return _MM_PER_UNIT[code], [f"lengths were converted from {_UNIT_NAMES[code]} to mm"]
    return 1.0, []


def _largest_difference_mm(geometry: Geometry, other: Float[np.ndarray, "4 4"]) -> float:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in geometry.shape])).reshape(3, -1).T
    homogeneous = np.c_[corners, np.ones(len(corners))]
    difference = homogeneous @ (geometry.require_affine("comparing forms") - other).T
    largest = float(np.linalg.norm(difference[:, :3], axis=1).max())
    return largest if np.isfinite(largest) else float("inf")


def _channels(
    stored: Shaped[np.ndarray, "..."], name: str
) -> tuple[Shaped[np.ndarray, "c z y x"], Quantity, tuple[str, ...]]:
    """Bring (i, j, k, t, v) to (channel, z, y, x)."""
    notes: tuple[str, ...] = ()
    quantity = Quantity.ARBITRARY
    if stored.dtype.names:
        if stored.ndim > 3 and max(stored.shape[3:]) > 1:
            raise PixelError("colour images over time are not read; split them by time", source=name)
        if "A" in stored.dtype.names:
            notes = ("the alpha channel was left out",)
        stored = np.stack([stored[c] for c in "RGB"], axis=-1).reshape(*(*stored.shape, 1, 1)[:3], 3)
        quantity = Quantity.RGB
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
        raise PixelError(f"voxels of type {stored.dtype} are not read; convert to a real type first", source=name)
    shape = (*stored.shape, 1, 1, 1)[: max(3, stored.ndim)]
    extra = [n for n in shape[3:] if n > 1]
    if len(extra) > 1:
        raise PixelError(f"an image with axes {shape} has more than one beyond space; split it first", source=name)
    volume = stored.reshape((*shape[:3], extra[0] if extra else 1))
    array = np.array(volume.transpose(3, 2, 1, 0), order="C")
    return array, quantity, notes


def _not_finite(array: Shaped[np.ndarray, "c z y x"]) -> tuple[str, ...]:
    if array.dtype.kind != "f":
        return ()
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    return (f"{bad} of {array.size} voxels are not a number (NaN or infinite); kept as they are",) if bad else ()


def _labelmap(values: Shaped[np.ndarray, "z y x"], name: str) -> Shaped[np.ndarray, "z y x"]:
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    if not np.array_equal(whole, values) or (values.size and (values.min() < 0 or values.max() > 65535)):
        raise PixelError("a mask must hold whole numbers from 0 to 65535; this may be an image", source=name)
    return whole.astype(np.uint16)


def _stack(values: Shaped[np.ndarray, "s z y x"], name: str) -> Shaped[np.ndarray, "s z y x"]:
    if values.dtype.kind in "iu":
        if values.min() < 0 or values.max() > 1:
            raise PixelError("planes of a mask must hold 0 and 1, or probabilities", source=name)
        return values.astype(bool)
    return values.astype(np.float32)


def _to_store(item: Image | Mask) -> tuple[Shaped[np.ndarray, "..."], dict[str, object]]:
    """Return voxels as (i, j, k[, t]) and what the comment extension says."""
    facts: dict[str, object] = {}
    if item.geometry.affine is None and item.geometry.stack == "time":
        facts["stack"] = "time"
    if isinstance(item, Mask):
        facts |= {"mask": "labelmap" if item.is_labelmap else "stack", "segments": [asdict(s) for s in item.segments]}
        values = item.array.view(np.uint8) if item.array.dtype == np.bool_ else item.array
        return (values.transpose(2, 1, 0) if item.is_labelmap else values.transpose(3, 2, 1, 0)), facts
    facts |= {"quantity": item.quantity.value, "modality": item.modality}
    facts |= {"synthetic": True} if item.meta.get("synthetic") else {}
    array = item.array
    if item.quantity is Quantity.RGB and array.dtype == np.uint8 and array.shape[0] == 3:
        return np.ascontiguousarray(array.transpose(3, 2, 1, 0)).view(_RGB)[..., 0], facts
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return (array[0].transpose(2, 1, 0) if array.shape[0] == 1 else array.transpose(3, 2, 1, 0)), facts


def _write_geometry(header: Any, geometry: Geometry) -> None:
    if geometry.affine is None:
        header.set_sform(None, code=0)
        header.set_qform(None, code=0)
        if geometry.pixel_spacing_mm is not None:
            row, column = geometry.pixel_spacing_mm
            header["pixdim"][1:3] = (column, row)
            header.set_xyzt_units("mm")
        return
    affine = lps_zyx_from_ras_ijk(geometry.affine)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=_SCANNER)
    directions = np.asarray(geometry.directions)
    if np.abs(directions.T @ directions - np.eye(3)).max() < 1e-6:
        header.set_qform(affine, code=_SCANNER)
    else:  # a quaternion cannot hold a shear
        header.set_qform(None, code=0)
        header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)


def _own_facts(comment: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    if not comment:
        return {}, ()
    try:
        facts = json.loads(comment.rstrip(b"\0 ").decode())[_NOTE_KEY]
    except (ValueError, KeyError, TypeError):
        return {}, ("a comment in the header that names this package could not be read and was left out",)
    return (facts, ()) if isinstance(facts, dict) else ({}, ())


def _own_segments(facts: dict[str, Any]) -> list[Segment] | None:
    """Segments as `write_nifti` noted them, None where there are none or they don't make sense."""
    entries = facts.get("segments")
    if not isinstance(entries, list):
        return None
    segments = []
    for entry in entries:
        try:
            codes = {k: Code(**entry[k]) if entry[k] else None for k in ("category", "type", "laterality")}
            segments.append(Segment(**{**entry, **codes, "colour": tuple(entry["colour"])}))
        except (TypeError, KeyError, DataError):
            return None
    return segments
