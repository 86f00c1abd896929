"""From a path to the files that can be read: a file, a folder, a zip archive, or a DICOMDIR.

What a file is, is told by its first bytes, never by its name alone. Nothing but regular files is ever opened. An
archive is unpacked into a temporary folder under guards: it may be a bomb, it may be encrypted, and its entries may
try to leave the folder.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.study_files import Refusal

__all__ = ["Kind", "Sources", "ZipLimits", "discover", "missing_from", "sniff", "sniff_bytes", "sources_of"]

Kind = Literal["dicom", "dicomdir", "nifti", "nrrd", "metaimage", "picture", "zip", "empty", "other"]

_HEAD_BYTES = 4096
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_META_IMAGE = re.compile(rb"\A\s*(ObjectType|ObjectSubType|NDims|Comment)\s*=", re.ASCII)
_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
}
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_DAMAGED = (InvalidDicomError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError, zlib.error)
_READABLE = "DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, or a zip of these"


@dataclass(frozen=True)
class ZipLimits:
    """What an archive may hold before it is taken for a bomb.

    Args:
        max_files: Number of entries.
        max_bytes: Sum of the sizes once unpacked.
        max_ratio: Sum of the unpacked sizes over the size of the archive, from 100 MB on. Series of images shrink 2 to
            4 times, masks up to 100 times.
    """

    max_files: int = 200_000
    max_bytes: int = 64 * 2**30
    max_ratio: float = 200.0


@dataclass(frozen=True)
class Sources:
    """The files behind a path, by what they are, each sorted by its place.

    Args:
        root: The folder that names are relative to.
        dicom: DICOM files.
        nifti: NIfTI files (of a pair, the header).
        nrrd: NRRD and MetaImage files.
        pictures: PNG, JPEG and TIFF files.
        refused: What was left out, and why.
        temporary: The folder that an archive was unpacked into, None where there was none. Its owner removes it with
            `close` when the files are no longer needed.
    """

    root: Path
    dicom: tuple[Path, ...] = ()
    nifti: tuple[Path, ...] = ()
    nrrd: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    refused: tuple[Refusal, ...] = ()
    temporary: Path | None = None

    def name(self, file: Path) -> str:
        """Return a file's name relative to the root, with forward slashes."""
        return _relative(file, self.root)

    def close(self) -> None:
        """Remove what was unpacked; harmless when there is nothing."""
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discover(path: Path, *, limits: ZipLimits | None = None) -> Sources:
    """Find the images behind a path.

    Args:
        path: A file, a folder (searched in depth), a zip archive, or a DICOMDIR (whose list of files is then used).
        limits: Guards for an archive; the defaults of `ZipLimits` when None.

    Returns:
        The files found. If an archive was unpacked, the caller closes them (``with discover(path) as sources: ...``).

    Raises:
        DataError: The path does not exist or can't be opened, or there is no image behind it: an empty folder, a
            folder of other files, a damaged or encrypted archive, or one that is taken for a bomb.
    """
    path = Path(path)
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        return _complain_if_empty(_from_folder(path), path)
    if not stat.S_ISREG(mode):
        raise DataError("this is neither a file nor a folder (a device, pipe or socket); give a file", source=path)
    kind = sniff(path)
    if kind == "zip":
        return _from_zip(path, limits or ZipLimits())
    if kind == "dicomdir":
        files, refused = _listed_in(path)
        return _complain_if_empty(_sorted_by_kind(files, path.parent, refused), path)
    if kind == "empty":
        raise DataError("the file is empty; fetch it again", source=path)
    if kind == "other":
        raise DataError(f"this is {_describe(path)}; what can be read: {_READABLE}", source=path)
    return _sorted_by_kind([path], path.parent, [])


def sources_of(files: Sequence[Path], root: Path) -> Sources:
    """Return given files by what they are; nothing else is looked for.

    Args:
        files: Regular files.
        root: The folder that names are relative to.

    Raises:
        DataError: None of them can be read.
    """
    return _complain_if_empty(_sorted_by_kind(list(files), root, []), root)


def sniff(path: Path) -> Kind:
    """Tell from its first bytes what a regular file is.

    Args:
        path: A regular file.

    Returns:
        The kind; "other" for what Isocenter does not read.

    Raises:
        DataError: The file can't be opened.
    """
    head = _head(path)
    return sniff_bytes(head, path.stat().st_size) if head else "empty"


def sniff_bytes(head: bytes, size: int) -> Kind:
    """Tell what a file is from its first bytes.

    Args:
        head: At least 4,096 of them, or the whole file.
        size: Of the file.
    """
    if not head:
        return "empty"
    if head[128:132] == b"DICM":
        return "dicomdir" if _DICOMDIR_CLASS in head[132:1024] else "dicom"
    if head.startswith(b"NRRD000"):
        return "nrrd"
    if head.startswith(_PICTURES):
        return "picture"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if _META_IMAGE.match(head) and b"DimSize" in head[:_HEAD_BYTES]:
        return "metaimage"
    plain = _inflated(head[:_HEAD_BYTES]) if head.startswith(b"\x1f\x8b") else head
    if plain[344:348] in (b"n+1\0", b"ni1\0") or plain[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    return "dicom" if _looks_like_bare_dicom(head[:_HEAD_BYTES], size) else "other"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error


def _inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def _looks_like_bare_dicom(head: bytes, size: int) -> bool:
    """Walk the first elements of a data set that has no preamble; the order of tags and the lengths must make sense."""
    for order in ("little", "big"):
        for explicit in (True, False):
            if _walk(head, size, order, explicit=explicit) >= 3:
                return True
    return False


def _walk(head: bytes, size: int, order: Literal["little", "big"], *, explicit: bool) -> int:
    position, previous, seen = 0, (0, 0), 0
    while position + 12 <= len(head) and seen < 8:
        tag = (
            int.from_bytes(head[position : position + 2], order),
            int.from_bytes(head[position + 2 : position + 4], order),
        )
        if tag <= previous or (seen == 0 and tag[0] not in (0x0002, 0x0008)) or tag[0] > 0x7FE0:
            return 0
        vr = head[position + 4 : position + 6]
        if explicit:
            if vr not in _VRS:
                return 0
            long = vr in (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
            start = position + (12 if long else 8)
            length = int.from_bytes(head[start - 4 : start] if long else head[start - 2 : start], order)
        else:
            start = position + 8
            length = int.from_bytes(head[position + 4 : start], order)
        seen, previous = seen + 1, tag
        if length == 0xFFFFFFFF:
            return seen
        if length % 2 or start + length > size:
            return 0
        position = start + length
    return seen


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DataError("this link points to nothing; correct it", source=path) from error
        raise DataError("there is no such file or folder; correct the path", source=path) from error
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error


def _from_folder(folder: Path) -> Sources:
    """Collect regular files in depth; a folder that was already visited (a link in a circle) is left out."""
    files: list[Path] = []
    refused: list[Refusal] = []
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        where = _relative(current, folder)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in visited:
                refused.append(Refusal(where, "a link to a folder that is read already; left out", "ignored"))
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(current.iterdir(), key=lambda p: p.name)
        except OSError as error:
            if current == folder:
                raise explain_os_error(error, folder, doing="read") from error
            refused.append(Refusal(where, _reason(error)))
            continue
        for entry in entries:
            kind = _file_type(entry, folder)
            if isinstance(kind, Refusal):
                refused.append(kind)
            else:
                (waiting if kind == "folder" else files).append(entry)
    return _sorted_by_kind(files, folder, refused)


def _file_type(entry: Path, root: Path) -> Literal["folder", "file"] | Refusal:
    name = _relative(entry, root)
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        dangling = entry.is_symlink() and isinstance(error, FileNotFoundError)
        return Refusal(name, "the link points to nothing; correct it" if dangling else _reason(error))
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return Refusal(name, "a device, pipe or socket; never opened", "ignored")


def _sorted_by_kind(files: list[Path], root: Path, refused: list[Refusal]) -> Sources:
    found: dict[str, list[Path]] = {"dicom": [], "nifti": [], "nrrd": [], "picture": []}
    out = list(refused)
    for file in files:
        name = _relative(file, root)
        try:
            kind = sniff(file)
        except DataError as error:
            out.append(Refusal(name, str(error).removeprefix(f"{error.source}: ")))
            continue
        if kind == "dicomdir":
            out.append(Refusal(name, "a DICOMDIR: the files are read themselves", "ignored"))
            out.extend(missing_from(file, root))
        elif kind == "zip":
            out.append(Refusal(name, "an archive inside; not opened: unpack it, or give it by itself", "ignored"))
        elif kind == "empty":
            out.append(Refusal(name, "the file is empty; fetch it again", "ignored"))
        elif kind == "other":
            out.append(Refusal(name, f"{_describe(file)}: no image that can be read", "ignored"))
        else:
            found["nrrd" if kind == "metaimage" else kind].append(file)
    for group in found.values():
        group.sort(key=lambda p: _relative(p, root))
    out.sort(key=lambda r: r.where)
    return Sources(
        root, tuple(found["dicom"]), tuple(found["nifti"]), tuple(found["nrrd"]), tuple(found["picture"]), tuple(out)
    )


def _describe(file: Path) -> str:
    head = _head(file)
    for magic, words in _ARCHIVES.items():
        if head.startswith(magic):
            return f"{words} (unpack it first)"
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    if b"\0" not in head:
        return "a text file"
    return "a file of an unknown kind, or damaged at its start"


def _complain_if_empty(sources: Sources, path: Path) -> Sources:
    """Return the sources, or refuse when nothing in them can be read."""
    if sources.dicom or sources.nifti or sources.nrrd or sources.pictures:
        return sources
    sources.close()
    broken = [r for r in sources.refused if r.kind == "refused"]
    if broken:
        more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
        raise DataError(f"nothing in it can be read: {broken[0].where}: {broken[0].reason}{more}", source=path)
    if not sources.refused:
        raise DataError(f"the folder is empty; give one that holds images ({_READABLE})", source=path)
    first = sources.refused[0]
    number = len(sources.refused)
    raise DataError(
        f"no image among {number} file{'s' if number > 1 else ''} (the first, {first.where}, is {first.reason}); "
        f"what can be read: {_READABLE}",
        source=path,
    )


def _listed_in(dicomdir: Path) -> tuple[list[Path], list[Refusal]]:
    """Return the files that a DICOMDIR lists, and those that are missing or lie outside its folder."""
    try:
        if _is_cut_short(dicomdir):
            raise DataError("the DICOMDIR is truncated; give its folder instead", source=dicomdir)
        dataset = dcmread(dicomdir, specific_tags=["DirectoryRecordSequence"])
        records = list(dataset.get("DirectoryRecordSequence", []))
    except DataError:
        raise
    except (*_DAMAGED, OSError) as error:
        raise DataError("the DICOMDIR is damaged; give its folder instead", source=dicomdir) from error
    files, refused = [], []
    for record in records:
        parts = _file_id(record)
        if not parts:
            continue
        where = "/".join(parts)
        if any(p in ("", ".", "..") or "/" in p or "\\" in p or "\0" in p for p in parts):
            refused.append(Refusal(where, "the DICOMDIR lists a file outside its folder; not opened"))
            continue
        file = _with_any_case(dicomdir.parent, parts)
        if file is None or not file.is_file():
            refused.append(Refusal(where, "listed in the DICOMDIR and missing; copy the whole medium"))
        elif not file.resolve().is_relative_to(dicomdir.parent.resolve()):
            refused.append(Refusal(where, "the DICOMDIR lists a file outside its folder; not opened"))
        else:
            files.append(file)
    return files, refused


def _is_cut_short(dicomdir: Path) -> bool:
    """Tell whether the sequence of records ends behind the file: pydicom would return the first ones as if all."""
    content = dicomdir.read_bytes()
    at = content.find(b"\x04\0\x20\x12SQ\0\0")
    if at < 0:
        return False
    length = int.from_bytes(content[at + 8 : at + 12], "little")
    if length == 0xFFFFFFFF:
        return b"\xfe\xff\xdd\xe0\0\0\0\0" not in content[at:]
    return at + 12 + length > len(content)


def _file_id(record: Dataset) -> list[str]:
    """Parts of a Referenced File ID, from the raw bytes: converting them would log values that are not valid."""
    value = record.get_item("ReferencedFileID").value if "ReferencedFileID" in record else b""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else "\\".join(map(str, value or ()))
    return [part.strip(" \0") for part in text.split("\\")] if text.strip(" \0") else []


def missing_from(dicomdir: Path, root: Path) -> list[Refusal]:
    """Return what a DICOMDIR lists and is not there, or that it can't be read itself."""
    try:
        return _listed_in(dicomdir)[1]
    except DataError as error:
        return [Refusal(_relative(dicomdir, root), str(error).removeprefix(f"{error.source}: "))]


def _with_any_case(folder: Path, parts: list[str]) -> Path | None:
    """Find a file whose name differs at most in case: media are often copied in lower case."""
    for part in parts:
        exact = folder / part
        if exact.exists():
            folder = exact
            continue
        if not folder.is_dir():
            return None
        alike = [p for p in folder.iterdir() if p.name.lower() == part.lower()]
        if len(alike) != 1:
            return None
        folder = alike[0]
    return folder


def _from_zip(path: Path, limits: ZipLimits) -> Sources:
    target = Path(tempfile.mkdtemp(prefix="isocenter-"))
    try:
        refused = _unpack(path, target, limits)
        sources = _from_folder(target)
        whole = Sources(
            target,
            sources.dicom,
            sources.nifti,
            sources.nrrd,
            sources.pictures,
            tuple(sorted((*refused, *sources.refused), key=lambda r: r.where)),
            temporary=target,
        )
        return _complain_if_empty(whole, path)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _unpack(path: Path, target: Path, limits: ZipLimits) -> list[Refusal]:
    refused: list[Refusal] = []
    written = 0
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            _check_archive(entries, path, limits)
            taken: set[Path] = set()
            for entry in entries:
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                reason = _entry_problem(entry, parts)
                place = target.joinpath(*parts) if reason is None else target
                if reason is None and place in taken:
                    reason = "the archive holds two files of this name; only the first was read"
                if reason is not None:
                    refused.append(Refusal(_printable(entry.filename), reason))
                    continue
                taken.add(place)
                problem, size = _unpack_entry(archive, entry, place, limits.max_bytes - written)
                written += size
                if problem:
                    refused.append(Refusal(_printable(entry.filename), problem))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError("the archive is truncated or damaged; fetch it again", source=path) from error
    except OSError as error:
        raise explain_os_error(error, path, doing="unpack") from error
    return refused


def _check_archive(entries: list[zipfile.ZipInfo], path: Path, limits: ZipLimits) -> None:
    if not entries:
        raise DataError("the archive is empty", source=path)
    if all(e.flag_bits & 1 for e in entries):
        raise DataError("the archive is encrypted; unpack it with its password and give the folder", source=path)
    if len(entries) > limits.max_files:
        raise DataError(
            f"the archive holds {len(entries)} files, more than {limits.max_files}: not opened, it may be a bomb; if "
            "you trust it, unpack it and give the folder",
            source=path,
        )
    size, stored = sum(e.file_size for e in entries), path.stat().st_size
    bomb = size > limits.max_bytes or (size > 100_000_000 and size > limits.max_ratio * stored)
    # Entries that share the same bytes promise more compressed data than the archive has.
    overlap = sum(e.compress_size for e in entries) > stored
    if bomb or overlap:
        raise DataError(
            f"the archive of {stored / 1e6:.1f} MB would unpack to {size / 1e6:.0f} MB: not opened, it may be a bomb; "
            "if you trust it, unpack it and give the folder",
            source=path,
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise DataError(
            f"unpacking needs {size / 1e6:.3g} MB and the temporary folder has {free / 1e6:.3g} MB; free some space, "
            "or set TMPDIR to another disk",
            source=path,
        )


def _entry_problem(entry: zipfile.ZipInfo, parts: tuple[str, ...]) -> str | None:
    drive = bool(parts) and re.fullmatch(r"[A-Za-z]:.*", parts[0]) is not None
    if not parts or parts[0] == "/" or drive or ".." in parts or "\0" in entry.orig_filename:
        return "the entry points outside the archive; not unpacked"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "the entry is a symbolic link; not unpacked"
    if entry.flag_bits & 1:
        return "the entry is encrypted; unpack the archive with its password"
    return None


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, budget: int) -> tuple[str | None, int]:
    """Unpack one entry; return what is wrong with it, if anything, and the bytes it took."""
    size = 0
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, place.open("xb") as sink:
            while block := source.read(1 << 20):
                size += len(block)
                if size > budget:
                    raise DataError(
                        "the archive unpacks to more than it says: not read, it may be a bomb", source=archive.filename
                    )
                sink.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        place.unlink(missing_ok=True)
        return "the entry is damaged; fetch the archive again", size
    except (NotImplementedError, RuntimeError):
        place.unlink(missing_ok=True)
        return "the entry is compressed or encrypted in a way that is not read; unpack the archive first", size
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL):
            raise
        return "its name cannot be used here, or another entry stands in its place; unpack the archive first", size
    return None, size


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)[:200]


def _relative(file: Path, root: Path) -> str:
    if file == root:
        return file.name or str(file)
    text = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    return _printable(text)


def _reason(error: OSError) -> str:
    text = str(explain_os_error(error, Path(), doing="read"))
    return text.split(": ", 1)[1]
