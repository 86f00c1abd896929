"""Faces taken out of DICOM series on their way in: whole series at a time, when all that was taken in is known.

Images that may show a face wait in `private/faces`. Before the catalog is written, each series of them becomes a
volume, the face is found in it (`deidentify.deface`), and its files are written to their place without it. A series in
which no face can be found is left out and listed. What is done is a function of the files of a series alone, so that
neither order nor number of runs is in it; what was done before is kept and not done again, unless the series grew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Bool
from pydicom import Dataset

from isocenter.core import Image
from isocenter.core.errors import DataError, GeometryError, PixelError
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED
from isocenter.data.archive.layout import STAGE
from isocenter.data.archive.volume_faces import LEFT_OUT
from isocenter.data.archive.work import hashes_of
from isocenter.data.deidentify.deface import face_mask
from isocenter.data.deidentify.dicom.pixels import encoded
from isocenter.data.images.atomic import atomic_path, explain_os_error, make_parent
from isocenter.data.images.dicom import read_dicom
from isocenter.data.images.dicom.header import read_dataset, scan, scan_bytes
from isocenter.data.images.dicom.plane import Plane, needs_dataset, planes_of
from isocenter.data.images.quiet import quiet

__all__ = ["Defaced", "SeriesOfFaces", "deface_all", "superseded"]

_FORM = 1
"""Changes where the same files would give other files."""
_CODE = ("113102", "Clean Recognizable Visual Features Option")
_CHANGED = frozenset({0x00080008, 0x00082111, 0x00120064, 0x00280302, 0x7FE00010})
_NEAR = 0.1
"""Of a voxel: as near to a place on the grid must a slice lie."""


@dataclass(frozen=True)
class SeriesOfFaces:
    """A series that waits.

    Args:
        root: Of the archive.
        paths: Of its files, relative to it.
        problem: Why it can't be a volume, where that is known before it is read; else "".
    """

    root: str
    paths: tuple[str, ...]
    problem: str = ""

    @property
    def key(self) -> str:
        """Return what names its files; their names hold the hashes of what is in them."""
        return hashlib.sha256("\0".join((str(_FORM), *sorted(self.paths))).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Defaced:
    """What became of a series.

    Args:
        files: For each path before: what its row says now (path, hashes, bytes, transfer syntax).
        faces: Files in which something was removed.
        problem: Why it was left out; "" where it was not.
    """

    files: dict[str, dict[str, Any]]
    faces: int = 0
    problem: str = ""


def deface_all(root: Path, waiting: Sequence[SeriesOfFaces], *, workers: int = 1) -> list[Defaced]:
    """Return what becomes of series; what was done in an earlier run is not done again.

    Args:
        root: Of the archive.
        waiting: The series.
        workers: Processes.

    Raises:
        OutputError: The archive can't be written.
    """
    known = {series.key: _known(root, series) for series in waiting}
    todo = [s for s in waiting if known[s.key] is None]
    if workers > 1 and len(todo) > 1:
        known |= zip((s.key for s in todo), _in_processes(todo, workers), strict=True)
    else:
        known |= {s.key: deface_series(s) for s in todo}
    return [done for s in waiting if (done := known[s.key]) is not None]


def deface_series(series: SeriesOfFaces) -> Defaced:
    """Write the files of a series without the face, and note what was done.

    Raises:
        OutputError: The archive can't be written.
    """
    try:
        if series.problem:
            raise GeometryError(series.problem)
        for place in {_place(path) for path in series.paths}:
            for left in (Path(series.root) / place).glob(".partial-*"):  # by a run that was killed
                left.unlink(missing_ok=True)
        with quiet():
            done = _defaced(series)
    except DataError as error:
        told = str(error).removeprefix(f"{error.source}: ") if error.source else str(error)
        done = Defaced({}, problem=f"{LEFT_OUT}: {told}")
    _note(series, done)
    return done


def _in_processes(todo: Sequence[SeriesOfFaces], workers: int) -> Iterable[Defaced]:
    """Work in processes; where one dies, each series is tried once more in a process of its own."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(pool.map(deface_series, todo))
    except BrokenProcessPool:
        return [_alone(series) for series in todo]


def _alone(series: SeriesOfFaces) -> Defaced:
    if (done := _known(Path(series.root), series)) is not None:
        return done
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(deface_series, series).result()
    except BrokenProcessPool:
        return Defaced({}, problem=f"{LEFT_OUT}: the process that read it died, twice (too little memory?)")


def _defaced(series: SeriesOfFaces) -> Defaced:
    root = Path(series.root)
    files = [root / path for path in series.paths]
    study, _, refused = read_dicom(files, root=root / STAGE)
    left = [r.reason for r in refused if r.kind == "refused"]
    if left or len(study.images) != 1:
        raise GeometryError(left[0] if left else f"its files make {len(study.images)} images, not one volume")
    image = study.images[0]
    mask = face_mask(image)
    places = {file: _places(file, image) for file in files}
    air = _least(places)
    out: dict[str, dict[str, Any]] = {}
    faces = 0
    for path, file in zip(series.paths, files, strict=True):
        content, touched = _without(file, [(p, mask[k]) for p, k in places[file]], air)
        faces += touched
        out[path] = _put(root, path, content)
    return Defaced(out, faces)


def _places(file: Path, image: Image) -> list[tuple[Plane, int]]:
    """Return the planes of a file, each with its index along z in the volume.

    Raises:
        GeometryError: A plane does not lie on the volume's grid, pixel on voxel.
    """
    header = scan(file, file.name)
    planes = planes_of(header, read_dataset(file, name=file.name) if needs_dataset(header) else None)
    inverse = np.linalg.inv(image.geometry.require_affine("removing a face"))
    _, rows, columns = image.geometry.shape
    found = []
    for plane in planes:
        if plane.position is None or plane.row is None or plane.column is None or plane.spacing is None:
            raise GeometryError("a slice does not say where it lies")
        corners = [(0, 0), (rows - 1, 0), (0, columns - 1)]
        points = [plane.position + r * plane.spacing[0] * plane.column + c * plane.spacing[1] * plane.row
                  for r, c in corners]  # fmt: skip
        index = (inverse @ np.array([[*point, 1.0] for point in points]).T).T[:, :3]
        k = round(float(index[0, 0]))
        wanted = np.array([[k, r, c] for r, c in corners], dtype=float)
        if not 0 <= k < image.geometry.shape[0] or np.abs(index - wanted).max() > _NEAR:
            raise GeometryError("its slices do not lie in the volume pixel on voxel")
        found.append((plane, k))
    return found


def _least(places: dict[Path, list[tuple[Plane, int]]]) -> dict[tuple[float, float], bytes]:
    """Return what air is, as stored: the least value of all planes of one rescale slope and intercept."""
    best: dict[tuple[float, float], tuple[float, bytes]] = {}
    for file, planes in places.items():
        dataset = _opened(file)[0]
        values = dataset.pixel_array.reshape(len(planes), -1)
        raw = _raw(dataset, len(planes)).reshape(len(planes), -1)
        for plane, told, bits in zip(planes, values, raw, strict=True):
            slope = 1.0 if plane[0].slope is None else plane[0].slope
            at = int(told.argmin() if slope > 0 else told.argmax())
            value = float(told[at]) * slope
            same = (slope, plane[0].intercept)
            if same not in best or value < best[same][0]:
                best[same] = (value, bits[at].tobytes())
    return {same: bits for same, (_, bits) in best.items()}


def _opened(file: Path) -> tuple[Dataset, Any]:
    """Return an object with native pixels, and the transfer syntax that it was compressed in, None for none.

    Raises:
        PixelError: It can't be decoded, or is of a kind in which nothing can be made air.
    """
    try:
        dataset = pydicom.dcmread(file)
        was = dataset.file_meta.TransferSyntaxUID if dataset.file_meta.TransferSyntaxUID.is_compressed else None
        if was is not None:
            dataset.decompress(generate_instance_uid=False)
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, TypeError, KeyError) as error:
        raise PixelError(f"its pixels cannot be decoded ({type(error).__name__})") from error
    kind = (dataset.get("SamplesPerPixel"), dataset.get("PhotometricInterpretation"), dataset.get("BitsAllocated"))
    if kind[:2] != (1, "MONOCHROME2") or kind[2] not in (8, 16, 32) or "PixelData" not in dataset:
        raise PixelError("its pixels are colours, inverted, or no whole numbers")
    return dataset, was


def _raw(dataset: Dataset, frames: int) -> Any:
    """Return the bits of each pixel as they are stored: nothing of them is interpreted."""
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    shape = (frames, int(dataset.Rows), int(dataset.Columns))
    dtype = np.dtype(f"{order}u{int(dataset.BitsAllocated) // 8}")
    if len(dataset.PixelData) < int(np.prod(shape)) * dtype.itemsize:
        raise PixelError("its pixel data are cut off")
    return np.frombuffer(bytearray(dataset.PixelData), dtype, int(np.prod(shape))).reshape(shape)


def _without(
    file: Path, faces: list[tuple[Plane, Bool[np.ndarray, "y x"]]], air: dict[tuple[float, float], bytes]
) -> tuple[bytes, bool]:
    """Return a file without its part of the face, and whether there was one; proven by reading it back."""
    before = pydicom.dcmread(file)
    touched = any(part.any() for _, part in faces)
    if touched:
        dataset, was = _opened(file)
        pixels = _raw(dataset, len(faces))
        for plane, part in faces:
            slope = 1.0 if plane.slope is None else plane.slope
            pixels[plane.frame][part] = np.frombuffer(air[slope, plane.intercept], pixels.dtype)[0]
        raw = pixels.tobytes()
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    else:
        dataset, was = pydicom.dcmread(file), None
    _say(dataset)
    content = encoded(dataset, was)
    again = pydicom.dcmread(io.BytesIO(content))
    skipped = _CHANGED | ({0x00280006} if was is not None else frozenset())
    for element in before:
        if element.tag not in skipped and again.get(element.tag) != element:
            raise GeometryError(f"without its face, the file would say another {element.keyword}")
    if touched:
        _prove(file, content, faces)
    elif again.PixelData != before.PixelData:
        raise PixelError("pixels that are no face would have changed")
    return content, touched


def _prove(file: Path, content: bytes, faces: list[tuple[Plane, Bool[np.ndarray, "y x"]]]) -> None:
    """Compare every pixel that is no part of the face, in the bits that are stored."""
    first, _ = _opened(file)
    second = pydicom.dcmread(io.BytesIO(content))
    if second.file_meta.TransferSyntaxUID.is_compressed:
        second.decompress(generate_instance_uid=False)
    one, other = _raw(first, len(faces)), _raw(second, len(faces))
    for plane, part in faces:
        if not np.array_equal(one[plane.frame][~part], other[plane.frame][~part]):
            raise PixelError("pixels that are no face would have changed")


def _say(dataset: Dataset) -> None:
    """Write into an object what was done to it (PS3.15 E.3.2)."""
    code = Dataset()
    code.CodeValue, code.CodeMeaning = _CODE
    code.CodingSchemeDesignator = "DCM"
    taken = list(dataset.get("DeidentificationMethodCodeSequence") or ())
    dataset.DeidentificationMethodCodeSequence = [*taken, code]
    dataset.RecognizableVisualFeatures = "NO"
    kinds = list(dataset.get("ImageType") or ())
    if kinds and str(kinds[0]) == "ORIGINAL":
        dataset.ImageType = ["DERIVED", *kinds[1:]]
    dataset.DerivationDescription = "Face removed"


def _put(root: Path, path: str, content: bytes) -> dict[str, Any]:
    """Write a file to its place; return what its row has to say."""
    header = scan_bytes(content, path, wanted=ARCHIVE_WANTED)
    hashes = hashes_of(content, header.pixel_offset)
    name = path.rpartition("/")[2]
    mark = f"{hashes['header_sha256'][:4]}{(hashes['pixel_sha256'] or '')[:4]}"
    place = f"{_place(path)}/{name.rpartition('-')[0]}-{mark}.dcm"
    try:
        make_parent(root / place)
        with atomic_path(root / place) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise explain_os_error(error, root / "images", doing="write") from error
    return hashes | {
        "path": place,
        "bytes": len(content),
        "transfer_syntax": header.transfer_syntax_uid or None,
        "image_type": "\\".join(header.texts("ImageType")) or None,
    }


def _place(path: str) -> str:
    """Return the folder of the copy without its face."""
    return f"images/{path.removeprefix(f'{STAGE}/').rpartition('/')[0]}"


def _notes(root: Path) -> Path:
    return root / STAGE / "done"


def _note(series: SeriesOfFaces, done: Defaced) -> None:
    folder = _notes(Path(series.root))
    content = json.dumps({"files": done.files, "faces": done.faces, "problem": done.problem}, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / f"{series.key}.json") as temporary:
            temporary.write_text(content, "utf-8")
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error


def _known(root: Path, series: SeriesOfFaces) -> Defaced | None:
    """Return what was done with the same files before, where all that it wrote is still there."""
    try:
        told = json.loads((_notes(root) / f"{series.key}.json").read_text("utf-8"))
        done = Defaced(told["files"], int(told["faces"]), str(told["problem"]))
        if all((root / f["path"]).stat().st_size == f["bytes"] for f in done.files.values()):
            return done
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def superseded(root: Path, waiting: Sequence[SeriesOfFaces]) -> list[Path]:
    """Return what was made of series as they were before they grew: notes, and the copies that these speak of."""
    keys = {s.key for s in waiting}
    out: list[Path] = []
    for note in sorted(_notes(root).glob("*.json")):
        if note.stem in keys:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError):
            out += [root / f["path"] for f in json.loads(note.read_text("utf-8"))["files"].values()]
        out.append(note)
    return out
