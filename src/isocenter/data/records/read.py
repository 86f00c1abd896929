"""From a path to rows: what a file is, is told by its content; its name only settles what content leaves open.

Archives (zip, tar, gzip) are read member by member without unpacking, under guards. Whatever is no report and no record
is named in `Found.refused`.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Literal, cast

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.discover import ZipLimits
from isocenter.data.images.quiet import quiet
from isocenter.data.records.decoding import decode, without_mark
from isocenter.data.records.fhir.read import MAX_BUNDLE, read_fhir, stream_ndjson
from isocenter.data.records.hl7.read import stream_hl7
from isocenter.data.records.lines import stream_lines
from isocenter.data.records.openi import read_xml
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.rows import Found, Refusal, merge
from isocenter.data.records.sr import read_sr_report, sr_or_reason
from isocenter.data.records.tables.delimited import tell_shape
from isocenter.data.records.tables.parquet import stream_parquet
from isocenter.data.records.tables.read import stream_table
from isocenter.data.records.text import MAX_REPORT, read_text

__all__ = ["Form", "read_records", "stream_records", "tell_form"]

Form = Literal[
    "dicom", "hl7", "fhir", "ndjson", "jsonl", "xml", "arff", "table", "parquet", "text", "zip", "tar", "gzip",
    "bzip2", "xz", "empty", "json", "other",
]  # fmt: skip
_HEAD = 64 * 1024
_TABLES = (".csv", ".tsv", ".tab", ".psv", ".ssv")
_TEXTS = (".txt", ".text", ".rpt", "")
_SPOOLED = 64 << 20
"""Bytes of a member above which it is held on disk while it is read."""
_IGNORED = "ignored: "
_TEXT_BYTES = bytes((*b"\t\n\r\f\x0b\x1a\x1b\x1c", *range(32, 256)))
_DAMAGED = (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile)


def tell_form(head: bytes, name: str) -> Form:
    r"""Tell from its first bytes what a file is.

    Args:
        head: At least the first 64 kB, or all of it.
        name: Of the file; its ending settles whether text is a table.

    Example:
        >>> tell_form(b"MSH|^~\\&|RIS", "x"), tell_form(b'{"resourceType": "Bundle"}', "x.json")
        ('hl7', 'fhir')
        >>> tell_form(b"a,b\n1,2\n", "x.csv"), tell_form(b"Findings: none.\n", "x.txt")
        ('table', 'text')
    """
    if not head:
        return "empty"
    for mark, form in ((b"PAR1", "parquet"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\x1f\x8b", "gzip"),
                       (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz")):  # fmt: skip
        if head.startswith(mark):
            return cast("Form", form)
    if head[257:262] == b"ustar":
        return "tar"
    if head[128:132] == b"DICM":
        return "dicom"
    bare = head.lstrip(b"\xef\xbb\xbf\x0b \t\r\n")
    if re.match(rb"(MSH|FHS|BHS)[^A-Za-z0-9\s]", bare):
        return "hl7"
    name = name.removesuffix(".gz")
    suffix = ("." + name.rsplit(".", 1)[-1].lower()) if "." in name.rsplit("/", 1)[-1][1:] else ""
    if _is_binary(head):
        return "other"
    text = decode(head[:_HEAD]).text.lstrip("\ufeff")
    if "\0" in text[:4096]:
        return "other"
    return _of_text(text, suffix)


def _is_binary(head: bytes) -> bool:
    """Tell whether bytes hold control characters that no text has; UTF-16 has zeros and is told by its own marks."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or without_mark(head):
        return False
    return len(head[:4096].translate(None, _TEXT_BYTES)) > 0.002 * len(head[:4096])


def _of_text(text: str, suffix: str) -> Form:
    start = text.lstrip()
    if start[:1] in ("{", "["):
        return _of_json(start)
    if start.startswith("<") and re.match(r"<(\?xml|!--|!DOCTYPE|[A-Za-z])", start):
        return "xml"
    if re.search(r"^[ \t]*@relation\b", text, re.IGNORECASE | re.MULTILINE):
        return "arff"
    lines = io.StringIO(text, newline="").readlines()
    if suffix in _TABLES:
        return "table"
    if suffix in _TEXTS:
        return "table" if tell_shape(lines) is not None and _short(lines) else "text"
    return "other"


def _short(lines: list[str]) -> bool:
    """Prose with a comma in every line is no table: a table has rows, and its heading no sentence."""
    full = [line for line in lines if line.strip()]
    return len(full) >= 3 and not re.search(r"[.!?:]\s*$", full[0])


def _of_json(start: str) -> Form:
    first, _, rest = start.partition("\n")
    try:
        whole = json.loads(first)
    except (ValueError, RecursionError):
        # Indented, or longer than what was read of it.
        return "fhir" if re.search(r'"resourceType"\s*:', start[:20_000]) else "json"
    if isinstance(whole, dict) and rest.strip()[:1] == "{":
        return "ndjson" if "resourceType" in whole else "jsonl"
    if isinstance(whole, dict):
        return "fhir" if "resourceType" in whole else "jsonl" if not rest.strip() else "json"
    inner = whole[0] if isinstance(whole, list) and whole else None
    return "fhir" if isinstance(inner, dict) and "resourceType" in inner else "json"


def read_records(path: Path, options: ReadOptions | None = None) -> Found:
    """Read all reports and records of a file, an archive or a folder.

    Args:
        path: A file of any form, a zip or tar of them, or a folder (searched in depth, without following links).
        options: What can't be told.

    Raises:
        DataError: The path is not there or can't be opened. What is wrong with a file of a folder is in the result.
        ConfigError: An option names a column that is not there.
        CapabilityError: A Parquet file without pyarrow.
    """
    return merge(stream_records(path, options))


def stream_records(path: Path, options: ReadOptions | None = None, *, name: str | None = None) -> Iterator[Found]:
    """Yield what `read_records` reads, part by part, at a memory that does not grow with the number of rows.

    Args:
        path: As for `read_records`.
        options: What can't be told.
        name: What a file is called in refusals; its own name where None.

    Raises:
        DataError: The path is not there or can't be opened.
        ConfigError: An option names a column that is not there.
        CapabilityError: A Parquet file without pyarrow.
    """
    path, options = Path(path), options or ReadOptions()
    if path.is_dir():
        yield from _of_folder(path, options)
        return
    source = name or path.name
    try:
        with path.open("rb") as stream:
            yield from _of_stream(stream, source, options, path, 0)
    except OSError as error:
        raise explain_os_error(error, path, doing="read") from error


def _of_folder(folder: Path, options: ReadOptions) -> Iterator[Found]:
    try:
        entries = sorted(folder.rglob("*"))
    except OSError as error:
        raise explain_os_error(error, folder, doing="read") from error
    for entry in entries:
        name = entry.relative_to(folder).as_posix()
        if entry.is_symlink():
            yield Found(refused=(Refusal(name, "a symbolic link, which is not followed", "ignored"),))
        elif entry.is_file():
            try:
                yield from stream_records(entry, options, name=name)
            except DataError as error:
                yield Found(refused=(Refusal(name, _reason(error)),))


def _reason(error: DataError) -> str:
    text = str(error)
    return text.removeprefix(f"{error.source}: ") if error.source else text


def _of_stream(
    stream: io.BufferedIOBase, source: str, options: ReadOptions, path: Path | None, depth: int
) -> Iterator[Found]:
    """Read one seekable stream by its form; what is wrong with it is a refusal."""
    try:
        head = stream.read(_HEAD)
        stream.seek(0)
        form = tell_form(head, source)
        yield from _by_form(form, stream, source, options, path, depth)
    except DataError as error:
        yield Found(refused=(Refusal(source, _reason(error)),))
    except _DAMAGED:
        yield Found(refused=(Refusal(source, "damaged, or cut short; fetch it again"),))


def _by_form(
    form: Form, stream: io.BufferedIOBase, source: str, options: ReadOptions, path: Path | None, depth: int
) -> Iterator[Found]:
    if form in ("zip", "tar", "gzip", "bzip2", "xz"):
        yield from _of_archive(form, stream, source, options, depth)
    elif form == "hl7":
        yield from stream_hl7(stream, source)
    elif form == "ndjson":
        yield from stream_ndjson(stream, source, options)
    elif form in ("table", "arff"):
        yield from stream_table(stream, source, options, arff=form == "arff")
    elif form == "jsonl":
        yield from stream_lines(stream, source, options)
    elif form == "parquet":
        yield from _parquet(stream, source, options, path)
    else:
        yield _small(form, stream, source, options)


def _small(form: Form, stream: io.BufferedIOBase, source: str, options: ReadOptions) -> Found:
    """Read what is read whole."""
    if form == "dicom":
        return _dicom(stream, source)
    if form == "fhir":
        return read_fhir(stream.read(MAX_BUNDLE + 1), source, options)
    if form == "xml":
        return read_xml(stream.read(MAX_BUNDLE), source)
    if form == "text":
        return read_text(stream.read(MAX_REPORT + 1), source, options)
    reasons = {"empty": "the file is empty", "json": "JSON that is neither FHIR nor a table of lines"}
    kind: Literal["refused", "ignored"] = "refused" if form == "empty" else "ignored"
    return Found(refused=(Refusal(source, reasons.get(form, "no report and no record that is known here"), kind),))


@quiet()
def _dicom(stream: io.BufferedIOBase, source: str) -> Found:
    try:
        dataset = dcmread(cast("IO[bytes]", stream), stop_before_pixels=True)
        reason = sr_or_reason(dataset)
    except (InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, EOFError) as error:
        raise DataError("not a DICOM file, or a damaged one", source=source) from error
    if reason:
        kind: Literal["refused", "ignored"] = "refused" if "document" in reason else "ignored"
        return Found(refused=(Refusal(source, reason, kind),))
    return read_sr_report(dataset, source)


def _parquet(stream: io.BufferedIOBase, source: str, options: ReadOptions, path: Path | None) -> Iterator[Found]:
    if path is not None:
        yield from stream_parquet(path, source, options)
        return
    yield Found(refused=(Refusal(source, "a Parquet file inside an archive; unpack it first"),))


def _of_archive(
    form: Form, stream: io.BufferedIOBase, source: str, options: ReadOptions, depth: int
) -> Iterator[Found]:
    if depth >= 2:
        yield Found(refused=(Refusal(source, "an archive in an archive in an archive; unpack it first"),))
        return
    if form in ("bzip2", "xz"):
        members = _tar_members(stream, source)
    elif form == "gzip":
        with gzip.GzipFile(fileobj=cast("IO[bytes]", stream)) as inner:
            is_tar = inner.read(512)[257:262] == b"ustar"
        stream.seek(0)
        members = _tar_members(stream, source) if is_tar else _gzip_member(stream, source)
    else:
        members = _zip_members(stream, source) if form == "zip" else _tar_members(stream, source)
    for name, member in members:
        if isinstance(member, str):
            kind: Literal["refused", "ignored"] = "ignored" if member.startswith(_IGNORED) else "refused"
            yield Found(refused=(Refusal(name, member.removeprefix(_IGNORED), kind),))
            continue
        with closing(member):
            yield from _of_stream(member, name, options, None, depth + 1)


_Members = Iterator[tuple[str, io.BufferedIOBase | str]]


def _gzip_member(stream: io.BufferedIOBase, source: str) -> _Members:
    # GzipFile seeks back by beginning again, which is what telling the encoding needs once.
    yield source, cast("io.BufferedIOBase", gzip.GzipFile(fileobj=cast("IO[bytes]", stream)))


def _tar_members(stream: io.BufferedIOBase, source: str) -> _Members:
    limits, total, count = ZipLimits(), 0, 0
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:*") as archive:
        for entry in archive:
            name = f"{source}/{entry.name}"
            count, total = count + 1, total + entry.size
            if count > limits.max_files or total > limits.max_bytes:
                yield source, "an archive that unfolds beyond all measure; the rest of it is not read"
                return
            if entry.isdir():
                continue
            if not entry.isreg():
                yield name, "a link or a device inside an archive"
                continue
            member = archive.extractfile(entry)
            if member is None:
                yield name, "can't be opened"
            else:
                # Copied: to go back in a compressed archive is to unfold it again from its beginning.
                yield name, _held(cast("io.BufferedIOBase", member), entry.size)


def _held(member: io.BufferedIOBase, size: int) -> io.BufferedIOBase:
    """Return a copy of a member in memory, or of a large one in a file without a name."""
    copy = cast("io.BufferedIOBase", io.BytesIO() if size <= _SPOOLED else tempfile.TemporaryFile())  # noqa: SIM115
    left = size
    while left and (block := member.read(min(left, 1 << 20))):
        copy.write(block)
        left -= len(block)
    copy.seek(0)
    return copy


def _zip_members(stream: io.BufferedIOBase, source: str) -> _Members:
    limits = ZipLimits()
    with zipfile.ZipFile(cast("IO[bytes]", stream)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = {entry.filename for entry in entries}
        if "[Content_Types].xml" in names or "mimetype" in names:
            yield source, "a document of an office program; save tables as CSV and texts as .txt"
            return
        if names and all(n.endswith((".npy", ".dcm", ".png", ".jpg", ".jpeg", ".nii", ".nii.gz")) for n in names):
            yield source, f"{_IGNORED}arrays or images, for the reader of images"
            return
        size, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries) or 1
        if (
            len(entries) > limits.max_files
            or size > limits.max_bytes
            or (size > 100 << 20 and size / packed > limits.max_ratio)
        ):
            yield source, "an archive that unfolds beyond all measure; it is not read"
            return
        for entry in entries:
            name = f"{source}/{entry.filename}"
            if entry.flag_bits & 1:
                yield name, "encrypted; unpack it first"
            else:
                try:
                    with archive.open(entry) as member:
                        held = _held(cast("io.BufferedIOBase", member), entry.file_size)
                except (NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError):
                    yield name, "damaged, or compressed in a way that is not read"
                else:
                    yield name, held
