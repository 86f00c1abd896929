"""Which images there are to learn from: a folder, a list of paths, or an .npz; and the hash of every file.

An entry is what is read at once: a file, a DICOM series, or a row of an array `*_images`. No label is ever read: of an
.npz the arrays of labels are left alone, and files whose names say that they are masks are left out (`leave_out`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.discover import Sources, discover
from isocenter.data.images.quiet import quiet

__all__ = ["Entry", "Index", "index_of"]

Kind = Literal["dicom", "nifti", "nrrd", "picture", "npz"]

_NO_PIXELS = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTRECORD", "SR", "KO", "PR", "REG", "AU", "DOC", "FID"})
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What is read at once.

    Args:
        kind: Which reader reads it.
        files: Its files.
        name: Where it lies, relative to what the user gave.
        sha256: Of its files, in order.
        array: Of an .npz, the array's name.
        row: Of an .npz, the row.
    """

    kind: Kind
    files: tuple[Path, ...]
    name: str
    sha256: str
    array: str = ""
    row: int = 0

    @property
    def key(self) -> str:
        """A hash that is this entry's alone, unless it is there twice."""
        return hashlib.sha256(f"{self.sha256} {self.array} {self.row}".encode()).hexdigest()


@dataclass(frozen=True)
class Index:
    """All that there is to learn from, sorted by name.

    Args:
        name: Of the folder or list, without its path.
        entries: The images.
        files: How many files they are.
        left_out: Files that are not learnt from: (name, why).
    """

    name: str
    entries: tuple[Entry, ...]
    files: int
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the hashes of all entries, in order: equal for equal images in equal order, wherever they lie."""
        return hashlib.sha256("\n".join(entry.key for entry in self.entries).encode()).hexdigest()

    def split(self, share: float) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """Return the entries to learn from and those held out; which is which depends on their hashes alone."""
        count = min(len(self.entries) - 1, max(1, round(share * len(self.entries))))
        order = sorted(range(len(self.entries)), key=lambda i: self.entries[i].key)
        held = set(order[:count])
        kept = tuple(e for i, e in enumerate(self.entries) if i not in held)
        return kept, tuple(e for i, e in enumerate(self.entries) if i in held)


def index_of(data: Path, leave_out: Sequence[str] = ()) -> Index:
    """Find the images behind a path, and hash their files.

    Args:
        data: A folder (searched in depth), a text file (.txt) with a path on each line, relative to its own folder, or
            an .npz.
        leave_out: Patterns of names that are not images.

    Raises:
        DataError: There is nothing, fewer than two images, or a listed path does not exist.
    """
    data = Path(data)
    root = data if data.is_dir() else data.parent
    left: list[tuple[str, str]] = []
    found: list[tuple[Kind, Path]] = []
    for path in _paths(data):
        found += _found(path, left)
    kept = []
    for kind, file in dict.fromkeys(found):
        name = _relative(file, root)
        if any(fnmatch.fnmatch(name, pattern) for pattern in leave_out):
            left.append((name, "its name says that it is no image (`images.leave_out`)"))
        else:
            kept.append((kind, file))
    groups = [("dicom", series) for series in _series([f for k, f in kept if k == "dicom"], root, left)]
    singles = [(kind, (file,)) for kind, file in kept if kind != "dicom"]
    units: list[tuple[Kind, tuple[Path, ...]]] = [*groups, *singles]  # type: ignore[list-item]
    hashes = _hashes([f for _, files in units for f in files])
    entries: list[Entry] = []
    for kind, files in units:
        whole = _joint_hash([hashes[f] for f in files])
        first = Entry(kind, files, _relative(files[0], root), whole)
        entries += _rows(first, left) if kind == "npz" else [first]
    entries.sort(key=lambda e: (e.name, e.array, e.row))
    if len(entries) < 2:
        why = f"; left out: {left[0][0]}: {left[0][1]}" if left else ""
        raise DataError(f"{len(entries)} images to learn from; at least two are needed{why}", source=data.name)
    return Index(data.name, tuple(entries), len(hashes), tuple(sorted(set(left))))


def _paths(data: Path) -> Iterable[Path]:
    """Return what is to be searched: the path, or what a list says."""
    if not data.exists():
        raise DataError("there is no such file or folder; correct the path of --data", source=data.name)
    if data.suffix.lower() != ".txt" or not data.is_file():
        return [data]
    try:
        lines = [line.strip() for line in data.read_text("utf-8").splitlines()]
    except OSError as error:
        raise explain_os_error(error, data, doing="read") from error
    except UnicodeDecodeError as error:
        raise DataError("the list of paths is not UTF-8 text; write it as such", source=data.name) from error
    paths = [(number, data.parent / line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    for number, path in paths:
        if not path.exists():
            raise DataError(f"line {number} names a path that is not there; correct the list", source=data.name)
    return [path for _, path in paths]


def _found(path: Path, left: list[tuple[str, str]]) -> list[tuple[Kind, Path]]:
    if path.is_file() and path.suffix.lower() == ".npz":
        return [("npz", path)]
    arrays: list[tuple[Kind, Path]] = []
    if path.is_dir():
        arrays = [("npz", file) for file in sorted(path.rglob("*.npz")) if file.is_file()]
    try:
        sources = discover(path)
    except DataError as error:
        if arrays:
            return arrays
        if path.is_dir():
            raise
        left.append((path.name, str(error).removeprefix(f"{error.source}: ")))
        return []
    with sources:
        if sources.temporary is not None:
            raise DataError("training does not read archives; unpack it and give the folder", source=path.name)
        return arrays + _by_kind(sources, left)


def _by_kind(sources: Sources, left: list[tuple[str, str]]) -> list[tuple[Kind, Path]]:
    left += [(r.where, r.reason) for r in sources.refused if not r.where.lower().endswith(".npz")]
    kinds: tuple[tuple[Kind, tuple[Path, ...]], ...] = (
        ("dicom", sources.dicom),
        ("nifti", sources.nifti),
        ("nrrd", sources.nrrd),
        ("picture", sources.pictures),
    )
    return [(kind, file) for kind, files in kinds for file in files]


def _series(files: Sequence[Path], root: Path, left: list[tuple[str, str]]) -> list[tuple[Path, ...]]:
    """Group DICOM files by series; a file whose header can't be read stands alone and is refused when it is read."""
    groups: dict[str, list[Path]] = {}
    with quiet():
        for file in files:
            try:
                header = dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "Modality"])
                series, modality = str(header.get("SeriesInstanceUID", "")), str(header.get("Modality", ""))
            except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
                series, modality = "", ""
            if modality in _NO_PIXELS:
                left.append((_relative(file, root), f"DICOM {modality}: no image"))
            else:
                groups.setdefault(series or str(file), []).append(file)
    return [tuple(group) for group in groups.values()]


def _rows(whole: Entry, left: list[tuple[str, str]]) -> list[Entry]:
    """Return an entry for every row of the arrays `*_images` of an .npz; reads their headers alone."""
    entries: list[Entry] = []
    try:
        with zipfile.ZipFile(whole.files[0]) as archive:
            for member in sorted(archive.namelist()):
                if not member.endswith("images.npy"):
                    continue
                with archive.open(member) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
                        np.lib.format.read_array_header_2_0
                    )  # fmt: skip
                    shape, _, kind = read(stream)
                if len(shape) < 3 or kind.kind not in "iuf":
                    left.append((whole.name, f"{member}: not an array of images"))
                    continue
                array = member.removesuffix(".npy")
                entries += [
                    Entry("npz", whole.files, whole.name, whole.sha256, array, row) for row in range(int(shape[0]))
                ]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise DataError("the .npz is damaged or no .npz; fetch it again", source=whole.name) from error
    if not entries:
        left.append((whole.name, "no array of it is named *_images"))
    return entries


def _hashes(files: Sequence[Path]) -> dict[Path, str]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(files, pool.map(_sha256, files), strict=True))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise explain_os_error(error, Path(file.name), doing="read") from error
    return digest.hexdigest()


def _joint_hash(hashes: Sequence[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _relative(file: Path, root: Path) -> str:
    text = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    return "".join(c if c.isprintable() else "?" for c in text)
