"""NRRD (also 3D Slicer's .seg.nrrd) and MetaImage, read and written.

Both keep an affine to LPS, so no axis changes sign here. SimpleITK decodes the voxels; but where a header says nothing
about direction or origin it answers with an identity, which would be invented. So the header's own text is read first,
and what it does not state stays unknown.

NRRD files are written here and read back by SimpleITK, MetaImage files are written by SimpleITK: either way the proof
rests on a reader that did not write.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import DataError, GeometryError, OutputError, PixelError, ProofError, UnitsError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.images.fingerprint import check_size, fingerprint
from isocenter.data.images.proof import Proof, prove, prove_image

__all__ = ["read_nrrd", "read_nrrd_mask", "write_metaimage", "write_nrrd"]

_LARGEST_HEADER = 1 << 20
_COMPRESSION = 3
_PLACED_SPACES = frozenset(
    ["left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"]
)
_MM_PER_UNIT = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001}
_NRRD_TYPES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float32": "float",
    "float64": "double",
}
_ITEM_BYTES = {
    "double": 8, "float": 4, "longlong": 8, "long long": 8, "unsigned long long": 8, "int64": 8, "uint64": 8,
    "int64_t": 8, "uint64_t": 8, "int": 4, "unsigned int": 4, "uint": 4, "int32": 4, "uint32": 4, "int32_t": 4,
    "uint32_t": 4, "signed int": 4, "short": 2, "unsigned short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int16_t": 2, "uint16_t": 2, "short int": 2, "unsigned short int": 2, "signed short": 2,
    "met_double": 8, "met_float": 4, "met_long_long": 8, "met_ulong_long": 8, "met_int": 4, "met_uint": 4,
    "met_long": 4, "met_ulong": 4, "met_short": 2, "met_ushort": 2,
}  # fmt: skip
_CODED = re.compile(r"~([^~^]*)\^([^~^]*)\^([^~^]*)")


@dataclass(frozen=True)
class _Header:
    """What the text of a header says, before anything is decoded."""

    kind: str
    fields: dict[str, str]
    pairs: dict[str, str] = field(default_factory=dict)
    data_file: Path | None = None


def read_nrrd(path: Path, *, modality: str = "", name: str = "") -> Image:
    """Read a NRRD or MetaImage file as an image; with its voxels inside, or in a file beside it.

    Args:
        path: The file, or its header (.nhdr, .mhd).
        modality: DICOM Modality, if the caller knows it.
        name: Name for messages and `Source.files`; the file's own by default.

    Returns:
        The image; components of a voxel become channels. Without a stated space, direction and origin its geometry has
        no affine, and a note says so.

    Raises:
        PixelError: The file is truncated or damaged, or of a kind that is not read.
        GeometryError: The directions are singular.
        UnitsError: Lengths are in an unknown unit.
        DataError: The file cannot be opened, or names a data file outside its folder.
    """
    path = Path(path)
    name = name or path.name
    header = _read_header(path, name)
    array, geometry, notes = _decode(path, header, name)
    quantity = Quantity.ARBITRARY
    kinds = header.fields.get("kinds", "").lower()
    if array.shape[0] == 3 and ("rgb" in kinds or (array.dtype == np.uint8 and header.kind == "metaimage")):
        quantity = Quantity.RGB
    own = header.pairs.get("isocenter_quantity", "")
    if quantity is Quantity.ARBITRARY and own in {q.value for q in Quantity}:
        quantity = Quantity(own)
    own_modality = header.pairs.get("isocenter_modality", "")
    if geometry.affine is None and header.pairs.get("isocenter_stack") == "time":
        geometry = Geometry(geometry.shape, pixel_spacing_mm=geometry.pixel_spacing_mm, stack="time")
    return Image(
        array,
        geometry,
        quantity=quantity,
        modality=modality or (own_modality if len(own_modality) <= 16 else ""),
        source=Source(sha256=fingerprint(array, geometry), files=(name,)),
        notes=notes,
    )


def read_nrrd_mask(path: Path, segments: Sequence[Segment] | None = None, *, name: str = "") -> Mask:
    """Read a NRRD or MetaImage file as a mask. The caller says that it is one.

    Args:
        path: The file. One component makes a labelmap, several make a stack.
        segments: What the labels or planes mean. None: as 3D Slicer's keys (Segment0_Name, ...) say, else one segment
            "label N" per label found.
        name: Name for messages; the file's own by default.

    Raises:
        PixelError: Values are not those of a mask, or there is a label without a segment.
        GeometryError: The directions are singular.
        UnitsError: Lengths are in an unknown unit.
        DataError: The file cannot be opened, or names a data file outside its folder.
    """
    path = Path(path)
    name = name or path.name
    header = _read_header(path, name)
    array, geometry, _ = _decode(path, header, name)
    entries = _slicer_segments(header.pairs)
    layered = array.dtype.kind in "iu" and (array.shape[0] > 1 or header.pairs.get("isocenter_mask") == "stack")
    if array.dtype.kind == "f" and (array.shape[0] > 1 or header.pairs.get("isocenter_mask") == "stack"):
        values = array.astype(np.float32)
        found = list(segments or [e.segment for e in entries]) or [
            Segment(n, f"label {n}") for n in range(1, len(values) + 1)
        ]
    elif layered:
        found, values = _layers(array, entries, segments, name)
    else:
        values = _labelmap(array[0], name)
        found = list(segments or [e.segment for e in entries]) or [
            Segment(int(n), f"label {n}") for n in np.unique(values) if n
        ]
    return Mask(values, geometry, tuple(found), Source(sha256=fingerprint(values, geometry), files=(name,)))


def write_nrrd(item: Image | Mask, path: Path) -> Proof:
    """Write an image or a mask as NRRD with gzip, and prove where it lies.

    A mask carries 3D Slicer's segment keys, so that ``*.seg.nrrd`` opens there with its names, colours and codes; a
    stack is written in layers, one per segment. The same input gives the same bytes.

    Args:
        item: What to write. A grid without an affine is written without a space.
        path: Ends in .nrrd.

    Raises:
        GeometryError: The file read back does not match; nothing is left behind.
        PixelError: The voxel type is one that NRRD does not have.
        DataError: The name has another suffix.
        OutputError: The disk refused.
    """
    path = Path(path)
    if not path.name.lower().endswith(".nrrd"):
        raise DataError("a NRRD file must be named .nrrd; choose such a name", source=path)
    array = item.array if item.array.ndim == 4 else item.array[None]
    if isinstance(item, Mask) and array.dtype == np.bool_:
        numbers = np.array([segment.number for segment in item.segments])
        array = array * numbers.astype(np.min_scalar_type(numbers.max()))[:, None, None, None]
    if array.dtype.name not in _NRRD_TYPES:
        raise PixelError(f"NRRD has no voxels of type {array.dtype}; convert to float32 first", source=path)
    text = _nrrd_header(item, array)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            stream.write(text.encode())
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=_COMPRESSION, mtime=0) as packed:
                if array.shape[0] == 1:
                    packed.write(np.ascontiguousarray(array).data)
                else:  # channels lie fastest, as `kinds` says
                    for slab in np.moveaxis(array, 1, 0):
                        packed.write(np.ascontiguousarray(np.moveaxis(slab, 0, -1)).data)
        return _prove_file(item, temporary, path.name)


def write_metaimage(item: Image | Mask, path: Path) -> Proof:
    """Write an image or a mask as MetaImage (.mha), and prove where it lies; segment names have no place in it.

    Args:
        item: What to write. It must have an affine: a MetaImage cannot leave the place open.
        path: Ends in .mha.

    Raises:
        GeometryError: There is no affine, or it is sheared, or the file read back does not match.
        DataError: The name has another suffix.
        OutputError: The disk refused.
    """
    path = Path(path)
    if not path.name.lower().endswith(".mha"):
        raise DataError("a MetaImage file must be named .mha; choose such a name", source=path)
    affine = item.geometry.require_affine("a MetaImage")
    directions = np.asarray(item.geometry.directions)
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-5:
        raise GeometryError("a MetaImage cannot hold axes that are not at right angles; write NIfTI", source=path)
    array = item.array if item.array.ndim == 4 else item.array[None]
    if array.dtype == np.bool_ and isinstance(item, Mask):
        # One plane alone would be read as a labelmap, so it is written as one.
        array = array.astype(np.uint16) * np.uint16(item.segments[0].number if len(array) == 1 else 1)
    elif isinstance(item, Mask) and not item.is_labelmap and len(array) == 1:
        raise PixelError("a MetaImage with one plane of probabilities is ambiguous; write NIfTI or NRRD", source=path)
    import SimpleITK  # 80 MB, which only these files need

    itk: Any = SimpleITK
    if array.shape[0] == 1:
        image = itk.GetImageFromArray(array[0])
    else:
        image = itk.GetImageFromArray(np.moveaxis(array, 0, -1), isVector=True)
    image.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist())
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    with atomic_path(path) as temporary:
        small = temporary.with_suffix(".mha")  # ITK knows formats by suffixes in small letters alone
        try:
            small.touch()  # where nothing may be written, the system says so here; ITK does not say why it failed
            itk.WriteImage(image, str(small), useCompression=True)
            small.replace(temporary)
            return _prove_file(item, temporary, path.name)
        except ProofError:
            raise
        except (RuntimeError, DataError) as error:  # on a full disk ITK leaves a part of the file and may say nothing
            raise OutputError(
                "cannot write: the file was not written whole; the disk may be full: free some space, or write to "
                "another disk",
                source=path,
            ) from error
        finally:
            if small != temporary:
                small.unlink(missing_ok=True)


def _prove_file(item: Image | Mask, file: Path, name: str) -> Proof:
    if isinstance(item, Mask):
        return prove(item, read_nrrd_mask(file, item.segments, name=name))
    return prove_image(item, read_nrrd(file, name=name))


def _read_header(path: Path, name: str) -> _Header:
    try:
        with path.open("rb") as stream:
            head = stream.read(_LARGEST_HEADER)
    except OSError as error:
        raise explain_os_error(error, Path(name), doing="read") from error
    if head.startswith(b"NRRD"):
        header = _nrrd_fields(head, name)
    elif b"=" in head[:200] and b"DimSize" in head:
        header = _meta_fields(head, name)
    else:
        raise DataError("neither NRRD nor MetaImage; check what it is", source=name)
    beside = header.fields.get("data file", header.fields.get("elementdatafile", "LOCAL"))
    if beside.upper() == "LOCAL":
        return header
    if "%" in beside or beside.upper().startswith("LIST") or len(beside.split()) > 1:
        raise PixelError("voxels spread over several files are not read; save it as one file", source=name)
    target = path.parent / beside
    if not target.resolve().is_relative_to(path.parent.resolve()):
        raise DataError("its header names a data file outside its folder; not opened", source=name)
    if not target.is_file():
        raise PixelError("its data file is missing beside it; copy both files", source=name)
    return _Header(header.kind, header.fields, header.pairs, target)


def _nrrd_fields(head: bytes, name: str) -> _Header:
    end = re.search(rb"\r?\n\r?\n", head)
    text = (head[: end.start()] if end else head).decode("utf-8", "replace")
    if end is None and "data file" not in text.lower() and "datafile" not in text.lower():
        raise PixelError("the header has no end: the file is truncated or damaged", source=name)
    fields, pairs = {}, {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        if ":=" in line and (": " not in line or line.index(":=") < line.index(": ")):
            key, value = line.split(":=", 1)
            pairs[key.strip()] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
        elif ":" in line:
            key, value = line.split(":", 1)
            fields[key.strip().lower().replace("datafile", "data file")] = value.strip()
    return _Header("nrrd", fields, pairs)


def _meta_fields(head: bytes, name: str) -> _Header:
    fields = {}
    for line in head.split(b"\n"):
        if b"=" not in line:
            break
        key, value = line.split(b"=", 1)
        key_text = key.strip().decode("ascii", "replace").lower()
        fields[key_text] = value.strip().decode("ascii", "replace")
        if key_text == "elementdatafile":
            return _Header("metaimage", fields)
    raise PixelError("the header names no ElementDataFile: the file is truncated or damaged", source=name)


def _decode(path: Path, header: _Header, name: str) -> tuple[Shaped[np.ndarray, "c z y x"], Geometry, tuple[str, ...]]:
    """Let SimpleITK decode, then keep of its geometry what the header states."""
    _check_promise(path, header, name)
    import SimpleITK  # 80 MB, which only these files need

    itk: Any = SimpleITK
    reader = itk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if header.kind == "nrrd" else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise PixelError("the file is truncated, damaged or of a kind that is not read", source=name) from error
    array = itk.GetArrayFromImage(image)
    components, dimension = image.GetNumberOfComponentsPerPixel(), image.GetDimension()
    if dimension not in (2, 3):
        raise PixelError(f"images of {dimension} dimensions are not read; save time points as channels", source=name)
    if array.dtype.kind not in "iuf":
        raise PixelError(f"voxels of type {array.dtype} are not read; convert to a real type first", source=name)
    array = np.moveaxis(array, -1, 0) if components > 1 else array[None]
    if dimension == 2:
        array = array[:, None]
    array = np.ascontiguousarray(array)
    shape = (array.shape[1], array.shape[2], array.shape[3])
    factor = _mm_per_unit(header, name)
    notes = [f"lengths were converted to mm (times {factor:g})"] if factor != 1 else []
    missing = _unstated(header, dimension)
    if missing:
        spacing = image.GetSpacing()
        known = _states_spacing(header)
        plane = (spacing[1] * factor, spacing[0] * factor) if known else None
        notes.append(
            f"the header does not say where the image lies in the patient ({missing}); "
            + ("its pixel spacing is kept" if known else "nor its spacing")
        )
        return array, Geometry(shape, pixel_spacing_mm=plane), tuple(notes)
    matrix = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = matrix[:, ::-1] * factor
    affine[:3, 3] = np.array(image.GetOrigin()) * factor
    try:
        geometry = Geometry(shape, affine)
    except GeometryError as error:
        raise GeometryError(f"{error}; correct the header", source=name) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        notes.append(f"{bad} of {array.size} voxels are not a number (NaN or infinite); kept as they are")
    return array, geometry, tuple(notes)


def _check_promise(path: Path, header: _Header, name: str) -> None:
    """Refuse sizes that the file cannot hold, before anything is allocated for them."""
    sizes = header.fields.get("sizes", header.fields.get("dimsize", ""))
    try:
        numbers = [int(n) for n in sizes.split()]
    except ValueError as error:
        raise PixelError("the sizes in the header are damaged", source=name) from error
    if not numbers or min(numbers) < 1:
        raise PixelError("the sizes in the header are damaged", source=name)
    item = header.fields.get("type", header.fields.get("elementtype", "")).lower()
    channels = int(header.fields.get("elementnumberofchannels", "1") or 1)
    total = _ITEM_BYTES.get(item, 1) * channels
    for n in numbers:
        total *= n
    encoding = header.fields.get("encoding", "raw").lower()
    packed = encoding != "raw" or header.fields.get("compresseddata", "").lower() == "true"
    check_size(total, header.data_file or path, compressed=packed, name=name)


def _unstated(header: _Header, dimension: int) -> str:
    """Name what the header leaves open of the place in the patient; "" when it states all."""
    fields = header.fields
    if dimension == 2:
        return "it has two dimensions"
    if header.kind == "metaimage":
        if not any(k in fields for k in ("transformmatrix", "rotation", "orientation")):
            return "no TransformMatrix"
        if not any(k in fields for k in ("offset", "position", "origin")):
            return "no Offset"
        return "" if _states_spacing(header) else "no ElementSpacing"
    if fields.get("space", "").lower() not in _PLACED_SPACES:
        return "no space such as left-posterior-superior"
    if "space directions" not in fields:
        return "no space directions"
    return "" if "space origin" in fields else "no space origin"


def _states_spacing(header: _Header) -> bool:
    if header.kind == "metaimage":
        return "elementspacing" in header.fields
    return "space directions" in header.fields or "spacings" in header.fields


def _mm_per_unit(header: _Header, name: str) -> float:
    text = header.fields.get("space units", header.fields.get("units", ""))
    units = {u for u in re.findall(r'"([^"]*)"', text) if u}
    if header.kind == "metaimage":
        units = {header.fields.get("distanceunits", "")} - {"", "?"}
    if not units:
        return 1.0
    factors = {_MM_PER_UNIT.get(u.lower().replace("μ", "u").replace("µ", "u")) for u in units}
    if len(factors) != 1 or None in factors:
        raise UnitsError("its lengths are in a unit that is not known; correct it to mm", source=name)
    return float(factors.pop() or 1.0)


@dataclass(frozen=True)
class _Entry:
    """One segment as 3D Slicer's keys describe it."""

    segment: Segment
    layer: int
    value: int


def _slicer_segments(pairs: dict[str, str]) -> list[_Entry]:
    """Read Segment0_Name, Segment0_LabelValue, ... (3D Slicer's segmentation file format)."""
    indices = sorted({int(m[1]) for m in (re.match(r"Segment(\d+)_", k) for k in pairs) if m})
    entries: list[_Entry] = []
    taken: set[int] = set()
    for index in indices:
        get = {k: pairs.get(f"Segment{index}_{k}", "") for k in ("Name", "ID", "LabelValue", "Layer", "Color", "Tags")}
        value = int(get["LabelValue"]) if get["LabelValue"].strip().isdigit() else 1
        number = value if value not in taken and value >= 1 else max(taken, default=0) + 1
        taken.add(number)
        codes = _codes(get["Tags"])
        colour = _colour(get["Color"])
        label = (get["Name"] or get["ID"] or f"label {number}")[:64]
        segment = (
            Segment(number, label, colour=colour)
            if len(codes) < 2
            else Segment(number, label, category=codes[0], type=codes[1], colour=colour)
        )
        layer = int(get["Layer"]) if get["Layer"].strip().isdigit() else 0
        entries.append(_Entry(segment, layer, value))
    return entries


def _codes(tags: str) -> list[Code]:
    """Coded category and type of a Slicer terminology entry: "~scheme^value^meaning~scheme^value^meaning~..."."""
    codes = []
    for scheme, value, meaning in _CODED.findall(tags):
        if not (scheme and value and meaning):
            break  # an empty place ends category and type; what follows are modifiers and regions
        if max(len(scheme), len(value)) > 16:
            return []
        codes.append(Code(value, scheme, meaning[:64]))
    return codes


def _colour(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue = (round(255 * min(1.0, max(0.0, float(part)))) for part in text.split())
    except ValueError:
        return (230, 80, 60)
    return (red, green, blue)


def _layers(
    array: Shaped[np.ndarray, "c z y x"], entries: list[_Entry], segments: Sequence[Segment] | None, name: str
) -> tuple[list[Segment], Shaped[np.ndarray, "s z y x"]]:
    """One plane per segment, from layers that may each hold several labels."""
    if not entries:
        if array.min() < 0 or array.max() > 1:
            raise PixelError("planes of a mask must hold 0 and 1, or carry 3D Slicer's segment keys", source=name)
        found = list(segments or [Segment(n, f"label {n}") for n in range(1, len(array) + 1)])
        return found, array.astype(bool)
    if max(e.layer for e in entries) >= array.shape[0]:
        raise PixelError("its segment keys name a layer that the file does not have", source=name)
    planes = np.stack([array[e.layer] == e.value for e in entries])
    covered = sum(int(np.count_nonzero(p)) for p in planes)
    if covered != np.count_nonzero(array):
        raise PixelError("it holds labels that its segment keys do not name", source=name)
    return list(segments or [e.segment for e in entries]), planes


def _labelmap(values: Shaped[np.ndarray, "z y x"], name: str) -> Shaped[np.ndarray, "z y x"]:
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    if not np.array_equal(whole, values) or values.min() < 0 or values.max() > 65535:
        raise PixelError("a mask must hold whole numbers from 0 to 65535; this may be an image", source=name)
    return whole.astype(np.uint16)


def _nrrd_header(item: Image | Mask, array: Shaped[np.ndarray, "c z y x"]) -> str:
    channels, depth, height, width = array.shape
    many = channels > 1
    lines = [
        "NRRD0005",
        f"type: {_NRRD_TYPES[array.dtype.name]}",
        f"dimension: {4 if many else 3}",
    ]
    affine = item.geometry.affine
    if affine is not None:
        lines.append("space: left-posterior-superior")
    lines.append(f"sizes: {f'{channels} ' if many else ''}{width} {height} {depth}")
    if affine is not None:
        columns = [_vector(affine[:3, axis]) for axis in (2, 1, 0)]
        lines.append(f"space directions: {'none ' if many else ''}{' '.join(columns)}")
    kind = "RGB-color" if isinstance(item, Image) and item.quantity is Quantity.RGB else "list"
    lines.append(f"kinds: {f'{kind} ' if many else ''}domain domain domain")
    lines.append(f"endian: {'little' if array.dtype.newbyteorder('=').str[0] in '<|' else 'big'}")
    lines.append("encoding: gzip")
    if affine is not None:
        lines.append(f"space origin: {_vector(affine[:3, 3])}")
    elif item.geometry.pixel_spacing_mm is not None:
        row, column = item.geometry.pixel_spacing_mm
        lines.append(f"spacings: {'nan ' if many else ''}{column!r} {row!r} nan")
    for key, value in _keys(item).items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{key}:={escaped}")
    return "\n".join(lines) + "\n\n"


def _vector(values: Float[np.ndarray, "3"]) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def _keys(item: Image | Mask) -> dict[str, str]:
    if isinstance(item, Image):
        keys = {"isocenter_quantity": item.quantity.value, "isocenter_modality": item.modality}
        if item.geometry.affine is None and item.geometry.stack == "time":
            keys["isocenter_stack"] = "time"
        return keys
    keys = {"isocenter_mask": "labelmap" if item.is_labelmap else "stack"}
    for index, segment in enumerate(item.segments):
        category, kind = segment.category, segment.type
        terms = "~" + "~".join(f"{c.scheme}^{c.value}^{c.meaning}" for c in (category, kind))
        prefix = f"Segment{index}_"
        keys |= {
            f"{prefix}ID": f"Segment_{segment.number}",
            f"{prefix}Name": segment.label,
            f"{prefix}LabelValue": str(segment.number),
            f"{prefix}Layer": str(0 if item.is_labelmap else index),
            f"{prefix}Color": " ".join(f"{c / 255:.6f}" for c in segment.colour),
            f"{prefix}Tags": f"TerminologyEntry:Segmentation category and type{terms}~^^~~^^~^^|",
        }
    return keys
