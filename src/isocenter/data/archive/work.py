"""One batch of files becomes one part of the journal: the same function in this process, in a pool and under Ray.

A part is written in one step, after the copies that its rows speak of; so a run may be killed anywhere. A file gives
all of its rows or none. A failure of a file is a row of `problems`, never the end of a batch; a full disk ends the run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import secrets
import shutil
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq

from isocenter.core.errors import DataError, GeometryError, IdentityLeak, OutputError
from isocenter.core.image import Image
from isocenter.data.archive.content import Lost, as_file, read_content, read_head
from isocenter.data.archive.datasets import DESCRIPTIONS, Belonging
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED, Person, instance_row, person_of, short
from isocenter.data.archive.doubts import doubts_of, refuse_cut_off
from isocenter.data.archive.image_rows import (
    arrays_of,
    case_of,
    clean_arrays,
    image_row,
    label_rows,
    pixel_facts,
    read_plain,
)
from isocenter.data.archive.layout import STAGE
from isocenter.data.archive.near import Near
from isocenter.data.archive.plain_files import clean_file
from isocenter.data.archive.record_rows import Speaker, add_found
from isocenter.data.archive.rows import IN_FACE, IN_PIXELS, Rows
from isocenter.data.archive.volume_faces import deface_file
from isocenter.data.archive.walk import Listed, Trouble
from isocenter.data.deidentify import KnownIdentity, Policy, Pseudonyms, deidentify_bytes
from isocenter.data.deidentify.burnt_in import NO_TESSERACT, has_tesseract, text_boxes
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.body_parts import may_show_face
from isocenter.data.images.dicom.header import Header, scan_bytes
from isocenter.data.images.dicom.neighbours import HeaderNeighbours
from isocenter.data.images.discover import Kind, missing_from, sniff_bytes
from isocenter.data.images.quiet import quiet
from isocenter.data.records import read_records

_MOST_UNPACKED = 2**31
_MESSAGES = frozenset({"hl7", "fhir", "sr"})

__all__ = ["Batch", "Entry", "Part", "Setup", "hashes_of", "process"]


@dataclass(frozen=True)
class Setup:
    """What every worker knows.

    Args:
        root: Of the archive.
        key: Of its pseudonyms.
        policy: Of its de-identification.
        pixels: Whether copies are made.
    """

    root: str
    key: bytes
    policy: Policy
    pixels: bool


@dataclass(frozen=True)
class Entry:
    """One file to take in.

    Args:
        listed: Where it is.
        where: What is known from where it lies.
        item: Tells it apart.
        hint: Changes when `where` does.
    """

    listed: Listed
    where: Belonging
    item: str
    hint: str


@dataclass(frozen=True)
class Batch:
    """Files that make one part.

    Args:
        name: Of the part.
        entries: The files.
    """

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Part:
    """What came of a batch.

    Args:
        items: Files taken in, refused or left out; those that were lost are not counted: a later run takes them in.
        rows: Of instances, reports and records.
        troubles: What could not be read.
        lost: Names of files that were gone, with reasons.
        bytes_read: Of all files.
    """

    items: int
    rows: int
    troubles: int
    lost: tuple[tuple[str, str], ...]
    bytes_read: int


def process(batch: Batch, setup: Setup) -> Part:
    """Take in a batch.

    Raises:
        OutputError: The archive can't be written.
    """
    worker = _Worker(setup)
    lost: list[tuple[str, str]] = []
    done = 0
    with quiet():
        for entry in batch.entries:
            before = worker.rows.mark()
            worker.rows.of_item(entry.item, entry.hint)
            try:
                outcome = worker.take(entry)
            except Lost as error:
                worker.rows.back_to(before)
                lost.append((entry.listed.name, _plain(error)))
                continue
            except OutputError:
                raise
            except DataError as error:
                worker.rows.back_to(before)
                worker.rows.trouble(entry.listed.name, _plain(error))
                outcome = "refused"
            listed = entry.listed
            worker.rows.add(
                "items",
                {
                    "locator": listed.locator,
                    "name": listed.name,
                    "size": listed.size,
                    "stamp": listed.stamp,
                    "outcome": outcome,
                },
            )
            done += 1
    if done:
        write_part(Path(setup.root) / "private" / "journal" / batch.name, worker.rows)
    rows = sum(worker.rows.count(table) for table in ("instances", "reports", "records"))
    size = sum(entry.listed.size for entry in batch.entries)
    return Part(done, rows, worker.rows.count("problems"), tuple(lost), size)


def end_with_parent() -> None:
    """Let this worker end when the process that it works for is killed.

    Workers would wait for more for ever, and what they still write could fall into the next run.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_part(final: Path, rows: Rows) -> None:
    """Write a part of the journal in one step.

    Raises:
        OutputError: The disk refused.
    """
    temporary = final.with_name(f".partial-{secrets.token_hex(4)}-{final.name}")
    try:
        temporary.mkdir()
        for name, table in rows.tables().items():
            pq.write_table(table, temporary / f"{name}.parquet", compression="zstd")
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError as error:
        raise explain_os_error(error, final, doing="write") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_listing(final: Path, item: str, hint: str, where: str, troubles: Sequence[Trouble]) -> None:
    """Write the part of the journal that says what of a source could not be listed.

    Raises:
        OutputError: The disk refused.
    """
    rows = Rows()
    rows.of_item(item, hint)
    rows.add("items", {"locator": f"listing {where}", "name": "", "size": 0, "stamp": 0, "outcome": "listing"})
    for trouble in troubles:
        rows.trouble(trouble.name, trouble.reason, trouble.kind)
    write_part(final, rows)


class _Worker:
    """Takes in files one at a time."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.names = Pseudonyms(setup.key)
        self.rows = Rows()
        self.near = Near()

    def take(self, entry: Entry) -> str:
        """Take in one file; return "dicom", "read" or "ignored"."""
        listed = entry.listed
        whole = self.setup.pixels or "!/" in listed.locator
        content = read_content(listed.locator, listed.name) if whole else read_head(listed.locator, listed.name)
        kind = sniff_bytes(content, listed.size)
        if kind == "dicom":
            self._dicom(entry, content, whole=whole)
            return "dicom"
        if kind == "dicomdir":
            self._dicomdir(entry)
            return "ignored"
        if not whole:
            content = read_content(listed.locator, listed.name)
        if kind == "other" and content.startswith(b"\x1f\x8b"):
            content, kind = _unpacked(content, listed.name)
            if kind == "dicom":
                self._dicom(entry, content, whole=True)
                return "dicom"
        if kind in ("nifti", "nrrd", "metaimage", "picture"):
            self._image(entry, content, kind)
            return "read"
        if kind == "zip" and listed.name.lower().endswith(".npz"):
            self._arrays(entry, content)
            return "read"
        return self._records(entry, content)

    def _dicom(self, entry: Entry, content: bytes, *, whole: bool) -> None:
        listed, setup = entry.listed, self.setup
        near = self.near.of_folder(listed.locator)
        if whole:
            header = near.scan_bytes(content, listed.name)
        elif "://" in listed.locator:
            header = _scan_remote(content, listed)
            near = HeaderNeighbours(ARCHIVE_WANTED)
        else:
            header = near.scan_head(listed.locator, listed.name, content, listed.size)
        person = person_of(header, self.names, entry.where.stated)
        row = instance_row(header, person, self.names, setup.policy, near.kin)
        row["collection"] = entry.where.collection or None
        if row["sop_uid"] is None:
            raise DataError("has no SOP Instance UID, so that nothing could refer to it; repair it", source=listed.name)
        refuse_cut_off(header)
        if setup.pixels:
            self._store_dicom(content, header, row, person, listed)
        else:
            # Keyed: whoever knows a header must not be able to find out that it is in the catalog.
            digest = hashlib.blake2b(content[: header.pixel_offset], key=setup.key[:64], digest_size=32)
            row |= {"bytes": listed.size, "header_sha256": digest.hexdigest()}
        self.rows.add("instances", row)
        for reason in doubts_of(header):
            self.rows.trouble(listed.name, reason, "doubtful")
        if row["role"] == "report":
            self._read_records(entry, content if whole else read_content(listed.locator, listed.name), header)

    def _store_dicom(self, content: bytes, header: Header, row: dict[str, Any], person: Person, listed: Listed) -> None:
        clean, at = content, header.pixel_offset
        staged = self._waits(row)
        if not self.setup.policy.off:
            near = self.near.of_series(person.key, header.text("SeriesInstanceUID"))
            made = deidentify_bytes(
                content, self.names, self.setup.policy, known=person.known, neighbours=near.originals
            )
            clean = made.data
            told = made.removed
            where, action = zip(*told, strict=True) if told else ((), ())
            self.rows.extend("removed", {"where": where, "action": action, "count": list(told.values())})
            if made.pixel_boxes:
                self.rows.add("removed", {"where": IN_PIXELS, "action": "blank", "count": len(made.pixel_boxes)})
            for what in made.suspicious:
                if staged and what.tag == "00280302":
                    continue  # The face that the object speaks of is removed, or the object left out.
                self.rows.trouble(listed.name, f"{what.tag} {what.reason}".strip(), "suspicious")
            # Read back: the copy must be the object, and the patient, that the row says.
            again = near.copies.scan_bytes(clean, listed.name)
            at = again.pixel_offset
            if made.pixel_boxes:
                row |= {
                    "transfer_syntax": again.transfer_syntax_uid or None,
                    "photometric": again.text("PhotometricInterpretation") or None,
                    "burned_in": again.text("BurnedInAnnotation") or None,
                }
            if again.text("SOPInstanceUID") != row["sop_uid"] or again.text("PatientID") != person.key:
                raise IdentityLeak(
                    "its de-identified copy is not of the patient or object of its row", source=listed.name
                )
        row |= hashes_of(clean, at)
        row["bytes"] = len(clean)
        folder = "/".join((person.key, short(row["study_uid"]), short(row["series_uid"])))
        name = f"{short(row['sop_uid'])}-{row['header_sha256'][:4]}{(row['pixel_sha256'] or '')[:4]}.dcm"
        row["path"] = self._store(folder, name, clean, base=STAGE if staged else "images")

    def _waits(self, row: dict[str, Any]) -> bool:
        """Tell whether an image may show a face that has to go, and so can't be in its place yet."""
        policy = self.setup.policy
        asked = policy.deface and not policy.off and row["role"] == "image" and row["modality"] in ("CT", "MR", None)
        return asked and may_show_face(row["body_part"])

    def _store(self, folder: str, name: str, content: bytes, *, base: str = "images") -> str:
        """Write a copy in one step, unless it stands there; return its place in the archive."""
        # Plain strings: for each of millions of copies, a Path costs as much as cleaning a header does.
        place = f"{self.setup.root}/{base}/{folder}/{name}"
        try:
            if _size_of(place) != len(content):
                temporary = f"{place}.partial-{os.getpid()}"
                try:
                    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                except FileNotFoundError:
                    Path(place).parent.mkdir(parents=True, exist_ok=True)
                    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                try:
                    try:
                        _write_all(descriptor, content)
                    finally:
                        os.close(descriptor)
                    os.replace(temporary, place)  # noqa: PTH105
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise explain_os_error(error, Path(place).parent, doing="write") from error
        return f"{base}/{folder}/{name}"

    def _image(self, entry: Entry, content: bytes, kind: str) -> None:
        listed, where = entry.listed, entry.where
        with as_file(listed.locator, listed.name, content) as path:
            image = read_plain(path, kind, listed.name)
        case = case_of(where, self.names)
        if kind == "picture" and self.setup.policy.clean_pixels and not self.setup.policy.off and case.role == "image":
            content, image = self._blank(content, image, listed.name)
        form = {"metaimage": "nrrd"}.get(kind, kind)
        if kind != "picture" and self._hides(case, image):
            content, image = deface_file(content, kind, listed.name, image)
            self.rows.add("removed", {"where": IN_FACE, "action": "blank", "count": 1})
        row = image_row(case, self.names, form) | pixel_facts(image) | {"collection": where.collection or None}
        if self.setup.pixels:
            clean, ending = clean_file(content, kind, listed.name, image)
            if not self.setup.policy.off and clean != content:
                self.rows.add("removed", {"where": f"{form} header", "action": "clean", "count": 1})
            self._prove(clean, ending, kind, image, listed.name)
            row |= {"header_sha256": hashlib.sha256(clean).hexdigest(), "bytes": len(clean)}
            folder = "/".join((case.patient_key, short(row["study_uid"]), short(row["series_uid"])))
            row["path"] = self._store(folder, f"{short(row['sop_uid'])}-{row['header_sha256'][:8]}{ending}", clean)
        else:
            row |= {"header_sha256": hashlib.sha256(content).hexdigest(), "bytes": listed.size}
        self._add_image(row, case, where)

    def _hides(self, case: Any, image: Image) -> bool:
        """Tell whether a volume may show a face that has to go; most do not say of which modality they are."""
        policy = self.setup.policy
        if not policy.deface or policy.off or case.role != "image":
            return False
        return case.modality in ("CT", "MR") or (not case.modality and image.array.shape[1] > 1)

    def _blank(self, content: bytes, image: Image, name: str) -> tuple[bytes, Image]:
        """Return a picture whose burnt-in text is black, as PNG; the same where none is found."""
        if image.array.shape[1] != 1:
            self.rows.trouble(name, "has several pages: burnt-in text was not looked for", "suspicious")
            return content, image
        if not has_tesseract():
            self.rows.trouble(name, NO_TESSERACT, "suspicious")
        found = text_boxes(image.array[0, 0])
        if not found:
            return content, image
        array = image.array.copy()
        for box in found:
            array[:, :, box.top : box.bottom, box.left : box.right] = 0
        self.rows.add("removed", {"where": IN_PIXELS, "action": "blank", "count": len(found)})
        pixels = array[0, 0] if array.shape[0] == 1 else np.moveaxis(array[:, 0], 0, -1)
        if pixels.dtype != np.uint8:
            raise DataError("burnt-in text of deep pictures is not blanked; save it with 8 bits", source=name)
        out = BytesIO()
        PIL.Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue(), dataclasses.replace(image, array=array)

    def _prove(self, clean: bytes, ending: str, kind: str, image: Image, name: str) -> None:
        """Read a cleaned file back: its pixels and its place in the patient are those of the original."""
        with as_file("memory://", f"clean{ending}", clean) as path:
            again = read_plain(path, kind, name)
        same_place = (image.geometry.affine is None) == (again.geometry.affine is None) and (
            image.geometry.affine is None
            or (again.geometry.affine is not None and np.array_equal(image.geometry.affine, again.geometry.affine))
        )
        if not same_place or not np.array_equal(image.array, again.array, equal_nan=image.array.dtype.kind == "f"):
            raise GeometryError("after cleaning its header, the file does not read as the same image", source=name)

    def _add_image(self, row: dict[str, Any], case: Any, where: Belonging) -> None:
        self.rows.add("instances", row)
        for label in label_rows(case, row, where, self._speaker(where)):
            self.rows.add("labels", {**label, "path": row.get("path") if label["kind"] == "mask" else None})
        if case.split:
            self._split(row, case.split, where)

    def _speaker(self, where: Belonging) -> Speaker:
        return Speaker(self.names, self.setup.policy, where.domain, where.inner, where.collection, self.rows)

    def _split(self, row: dict[str, Any], split: str, where: Belonging) -> None:
        cohort = where.collection or f"set {self.names.token('set', where.root_name)[:8]}"
        key = row["patient_key"]
        split = self._speaker(where).code(split, "", KnownIdentity(patient_key=key), key)
        self.rows.add("splits", {"cohort": cohort, "patient_key": key, "split": split})

    def _arrays(self, entry: Entry, content: bytes) -> None:
        listed, where = entry.listed, entry.where
        found = list(arrays_of(content, listed.name))
        if not self.setup.policy.off:
            content = clean_arrays(content, listed.name)
        digest = hashlib.sha256(content).hexdigest()
        path = self._store(f"sets/{digest[:2]}", f"{digest[:32]}.npz", content) if self.setup.pixels else None
        for member, split, role, array, told in found:
            many = "/" in member
            case = case_of(where, self.names, member=member if many else "", split=split)
            row = image_row(case, self.names, "npz")
            row |= {
                "collection": where.collection or None,
                "sop_uid": self.names.uid(f"instance {case.name} {member}"),
                "series_uid": self.names.uid(f"series {case.name} {member}"),
                "role": role,
                "path": path,
                "member": member,
                "bytes": array.nbytes,
                "header_sha256": digest,
                "pixel_sha256": hashlib.sha256(
                    f"{array.dtype.str} {array.shape}".encode() + array.tobytes()
                ).hexdigest(),
                **_array_shape(array, many=many),
            }
            self.rows.add("instances", row)
            base = {k: row[k] for k in ("patient_key", "study_uid", "series_uid", "sop_uid")}
            for one in told.split("|") if told else ():
                self.rows.add(
                    "labels",
                    {**base, "name": "label", "value": one, "number": float(one), "kind": "class", "form": "npz"},
                )
            if role == "mask":
                self.rows.add(
                    "labels", {**base, "name": member, "value": "", "kind": "mask", "form": "npz", "path": path}
                )
            elif not many:
                for label in label_rows(case, row, where, self._speaker(where)):
                    self.rows.add("labels", label)
            if split:
                self._split(row, split, where)

    def _records(self, entry: Entry, content: bytes) -> str:
        base = entry.where.inner.rsplit("/", 1)[-1].lower()
        if base in DESCRIPTIONS or (base.startswith("sub-") and base.endswith(".json")):
            self.rows.trouble(entry.listed.name, "describes a set or an image: no report and no record", "ignored")
            return "ignored"
        before = sum(self.rows.mark().values())
        self._read_records(entry, content, None)
        return "read" if sum(self.rows.mark().values()) > before else "ignored"

    def _read_records(self, entry: Entry, content: bytes, header: Header | None) -> None:
        listed, where = entry.listed, entry.where
        with as_file(listed.locator, listed.name, content) as path:
            found = read_records(path)
        place = f"{where.root_name} {where.inner}"
        rows: tuple[Any, ...] = (*found.patients, *found.reports, *found.records, *found.studies)
        forms = {row.form for row in rows}
        # As DICOM's: without an issuer, only the user says whose identifiers these are; a folder's name does not.
        domain = where.stated if forms and forms <= _MESSAGES else where.domain
        speaker = Speaker(self.names, self.setup.policy, domain, place, where.collection, self.rows, where.root_name)
        add_found(found, self.rows, speaker, listed.name, where.row)

    def _dicomdir(self, entry: Entry) -> None:
        name = entry.listed.name
        self.rows.trouble(name, "a DICOMDIR: the files are read themselves", "ignored")
        if "://" not in entry.listed.locator and "!/" not in entry.listed.locator:
            path = Path(entry.listed.locator)
            for refusal in missing_from(path, path.parent):
                self.rows.trouble(f"{name}: {refusal.where}", refusal.reason, refusal.kind)


def _unpacked(content: bytes, name: str) -> tuple[bytes, Kind]:
    """Return what a gzip file holds where that is an image; other contents stay packed, for their own readers.

    Raises:
        DataError: It is damaged, or unpacks to far more than it holds.
    """
    engine = zlib.decompressobj(wbits=31)
    try:
        head = engine.decompress(content, 1 << 16)
        kind = sniff_bytes(head, len(head))
        if kind not in ("dicom", "picture", "nrrd", "metaimage"):
            return content, "other"
        rest = engine.decompress(engine.unconsumed_tail, _MOST_UNPACKED)
    except zlib.error as error:
        raise DataError("is damaged, or cut off; copy it again", source=name) from error
    if not engine.eof:
        raise DataError("is cut off, or unpacks to far more than it holds; unpack it yourself", source=name)
    return head + rest, kind


def hashes_of(content: bytes, at: int | None) -> dict[str, Any]:
    """Return the hashes of what stands before the pixels and of the pixels; each byte is hashed once."""
    view = memoryview(content)
    if at is None:
        return {"header_sha256": hashlib.sha256(view).hexdigest(), "pixel_sha256": None}
    return {
        "header_sha256": hashlib.sha256(view[:at]).hexdigest(),
        "pixel_sha256": hashlib.sha256(view[at:]).hexdigest(),
    }


def _array_shape(array: np.ndarray, *, many: bool) -> dict[str, Any]:
    """Return rows, columns and frames of an array: the last axis is colour where it has three entries of many."""
    shape = array.shape
    samples = 1
    if many and len(shape) == 3 and shape[-1] == 3:
        shape, samples = shape[:-1], 3
    if len(shape) < 2:
        return {}
    return {
        "rows": shape[-2], "columns": shape[-1], "frames": int(np.prod(shape[:-2])) if len(shape) > 2 else 1,
        "samples": samples, "bits_stored": array.dtype.itemsize * 8,
    }  # fmt: skip


def _scan_remote(head: bytes, listed: Listed) -> Header:
    """Read a header from the first bytes of an object in a store, and from the whole where they don't hold it."""
    if listed.size > len(head):
        try:
            found = scan_bytes(head, listed.name, wanted=ARCHIVE_WANTED)
            if found.lean and found.has_pixels:
                return found
        except DataError:
            pass
        head = read_content(listed.locator, listed.name)
    return scan_bytes(head, listed.name, wanted=ARCHIVE_WANTED)


def _size_of(path: str) -> int | None:
    """Return the size of a file; None where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _plain(error: DataError) -> str:
    text = str(error)
    source = getattr(error, "source", None)
    return text.removeprefix(f"{source}: ") if source is not None else text


Processor = Callable[[Batch, Setup], Part]
