"""Read DICOM files into one study, and say what was left out and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom.uid import UID

from isocenter.core import Image, Study
from isocenter.core.errors import DataError, GeometryError, PixelError
from isocenter.data.images.dicom.derived import DERIVED, Derived, read_derived
from isocenter.data.images.dicom.header import Header, read_dataset, scan, whole_header
from isocenter.data.images.dicom.headers import DicomHeaders
from isocenter.data.images.dicom.identity import check_one_patient, patient_key
from isocenter.data.images.dicom.pixels import check_size
from isocenter.data.images.dicom.plane import Plane, needs_dataset, planes_of
from isocenter.data.images.dicom.prepared import Prepared, prepare
from isocenter.data.images.dicom.stack import Stack, split_planes
from isocenter.data.images.quiet import quiet
from isocenter.data.images.study_files import Refusal

__all__ = ["OpenedDicom", "open_dicom", "read_dicom"]

Progress = Callable[[str, float], None]

_NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.77.1.6": "whole-slide microscopy is not read",
    "1.2.840.10008.1.3.10": "a DICOMDIR is an index, not an image; the files beside it are read themselves",
}
_NEITHER = "says neither what it is nor has pixels: it is cut off, or no image; fetch it again, or leave it out"
_SCAN_SHARE = 0.2


def read_dicom(
    files: Sequence[Path],
    *,
    root: Path,
    on_irregular: Literal["raise", "resample"] = "raise",
    progress: Progress | None = None,
) -> tuple[Study, DicomHeaders, tuple[Refusal, ...]]:
    """Read DICOM files of one patient.

    Series are grouped and ordered by geometry. A series that cannot be read is refused with its reason while the others
    are read; if it was the only one, its error is raised.

    Args:
        files: DICOM files in any order.
        root: What the user passed; messages name files relative to it.
        on_irregular: What to do with missing slices, irregular spacing and gantry tilt: refuse, or interpolate linearly
            onto a uniform grid and say so in `Image.notes`.
        progress: Called with (what is being done, fraction done).

    Returns:
        The study, the headers behind it, and what was left out.

    Raises:
        IdentityLeak: The files are of two patients.
        GeometryError: The only series there is makes no regular grid.
        PixelError: The only series there is cannot be decoded.
        DataError: Several series were refused and none was read.
    """
    with quiet():
        return _read(files, _Job(root, on_irregular, progress))


@dataclass(frozen=True, eq=False)
class OpenedDicom:
    """A study whose headers were read and whose pixels were not.

    Args:
        images: In the order of the study that `read_dicom` reads; a series whose pixels turn out to be broken is among
            them, as only decoding tells.
        patient_key: Pseudonym.
        study_uid: Study Instance UID.
        notes: What was noticed of the study as a whole.
        refused: What was left out, and why.
    """

    images: tuple[Prepared, ...]
    patient_key: str
    study_uid: str
    notes: tuple[str, ...]
    refused: tuple[Refusal, ...]


def open_dicom(
    files: Sequence[Path], *, root: Path, on_irregular: Literal["raise", "resample"] = "raise"
) -> OpenedDicom:
    """Read the headers of one patient's DICOM files, by the rules of `read_dicom`.

    Raises:
        IdentityLeak: The files are of two patients.
        DataError: Nothing of it makes an image.
    """
    with quiet():
        job = _Job(root, on_irregular, None)
        headers = job.scan_all(files)
        doubts = check_one_patient(headers)
        headers = job.without_copies(headers)
        images = job.prepare_images([h for h in headers if job.is_image(h)])
    if not images and job.errors:
        raise _only_error(job.errors)
    beside = sum(h.text("SOPClassUID") in DERIVED for h in headers)
    if beside:
        what = "object" if beside == 1 else "objects"
        doubts = (*doubts, f"{beside} {what} beside the images: segmentations, structure sets or reports")
    key, key_notes = patient_key(headers) if headers else ("", ())
    uids = [h.text("StudyInstanceUID") for h in headers]
    uid = min(set(uids), key=lambda u: (-uids.count(u), u)) if uids else ""
    refused = tuple(sorted(job.refused, key=lambda r: r.where))
    return OpenedDicom(tuple(images), key, uid, (*doubts, *key_notes), refused)


def _read(files: Sequence[Path], job: _Job) -> tuple[Study, DicomHeaders, tuple[Refusal, ...]]:
    headers = job.scan_all(files)
    doubts = check_one_patient(headers)
    headers = job.without_copies(headers)
    images = job.read_images([h for h in headers if job.is_image(h)])
    derived = job.read_derived([h for h in headers if h.text("SOPClassUID") in DERIVED], images)
    if not images and not derived.masks and not derived.reports and job.errors:
        raise _only_error(job.errors)
    used = {uid for image in images for uid in image.source.instance_uids}
    paths = {h.text("SOPInstanceUID"): h.path for h in headers if h.text("SOPInstanceUID") in used}
    study_uids = [h.text("StudyInstanceUID") for h in headers]
    studies = sorted(set(study_uids), key=lambda uid: (-study_uids.count(uid), uid))
    notes = (f"{len(studies)} studies of one patient were read together",) if len(studies) > 1 else ()
    key, key_notes = patient_key(headers) if headers else ("", ())
    study = Study(
        patient_key=key,
        study_uid=studies[0] if studies else "",
        images=tuple(images),
        reports=tuple(derived.reports),
        masks=tuple(derived.masks),
        notes=(*doubts, *notes, *key_notes, *derived.notes),
    )
    refused = tuple(sorted(job.refused, key=lambda r: r.where))
    return study, DicomHeaders(paths, [image.source for image in images]), refused


def _only_error(errors: Sequence[DataError]) -> DataError:
    if len(errors) == 1:
        return errors[0]
    first = f"{errors[0]}"
    return DataError(f"none of {len(errors)} series or files could be read; the first: {first}")


@dataclass
class _Job:
    """One call of `read_dicom`: its options, and what it has refused so far."""

    root: Path
    on_irregular: str
    progress: Progress | None
    refused: list[Refusal] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)

    def name(self, path: Path) -> str:
        try:
            relative = path.relative_to(self.root)
        except ValueError:
            return path.name
        return relative.as_posix() if relative.parts else path.name

    def tell(self, what: str, fraction: float) -> None:
        if self.progress is not None:
            self.progress(what, min(fraction, 1.0))

    def refuse(self, where: str, error: DataError) -> None:
        reason = str(error).removeprefix(f"{error.source}: ") if error.source else str(error)
        self.refused.append(Refusal(where, reason))
        self.errors.append(error)

    def scan_all(self, files: Sequence[Path]) -> list[Header]:
        headers = []
        for n, path in enumerate(files):
            try:
                headers.append(scan(path, self.name(path)))
            except DataError as error:
                self.refuse(self.name(path), error)
            except OSError as error:
                self.refuse(self.name(path), PixelError(f"cannot be opened ({error.strerror})", source=self.name(path)))
            self.tell("reading headers", _SCAN_SHARE * (n + 1) / len(files))
        return headers

    def without_copies(self, headers: Sequence[Header]) -> list[Header]:
        seen: dict[str, Header] = {}
        out = []
        for header in headers:
            uid = header.text("SOPInstanceUID")
            if uid and uid in seen:
                reason = f"is a copy of {seen[uid].name} (same SOP Instance UID)"
                self.refused.append(Refusal(header.name, reason, "ignored"))
                continue
            seen[uid] = header
            out.append(header)
        return out

    def is_image(self, header: Header) -> bool:
        """Tell whether a file is an image of ours; note why not."""
        sop_class = header.text("SOPClassUID")
        if sop_class in DERIVED:
            return False
        if header.has("DirectoryRecordSequence"):
            sop_class = "1.2.840.10008.1.3.10"
        if sop_class in _NOT_IMAGES:
            self.refused.append(Refusal(header.name, _NOT_IMAGES[sop_class], "ignored"))
            return False
        if header.has_pixels:
            return True
        kind = UID(sop_class).name if sop_class else ""
        if "Image Storage" in kind or (not kind and header.short("Rows")):
            self.refuse(
                header.name,
                PixelError("an image without pixel data; export it again with its pixels", source=header.name),
            )
        elif kind and kind != sop_class:
            self.refused.append(Refusal(header.name, f"{kind} is not an image", "ignored"))
        else:
            self.refuse(header.name, PixelError(_NEITHER, source=header.name))
        return False

    def read_derived(self, headers: Sequence[Header], images: Sequence[Image]) -> Derived:
        out = Derived()
        for header in headers:
            self.tell("reading derived objects", 1.0)
            try:
                with whole_header(header.name):
                    read_derived(header, images, out)
            except DataError as error:
                self.refuse(header.name, error)
        return out

    def read_images(self, headers: Sequence[Header]) -> list[Image]:
        done, total = 0, max(1, sum(h.frames for h in headers))
        images: list[Image] = []
        for where, stack in self._stacks(headers):
            try:
                images.append(self._read_stack(stack, done, total))
            except DataError as error:
                self.refuse(where, error)
            done += len(stack.planes)
        self.tell("reading pixels", 1.0)
        return images

    def prepare_images(self, headers: Sequence[Header]) -> list[Prepared]:
        images: list[Prepared] = []
        for where, stack in self._stacks(headers):
            try:
                images.append(prepare(stack, on_irregular=self.on_irregular))
            except DataError as error:
                self.refuse(where, error)
        return images

    def _stacks(self, headers: Sequence[Header]) -> Iterator[tuple[str, Stack]]:
        """Yield the images of all series, each with its name for messages; note what makes none."""
        series: dict[str, list[Header]] = {}
        for header in headers:
            series.setdefault(header.text("SeriesInstanceUID") or f"file {header.name}", []).append(header)
        ordered = sorted(series.items(), key=lambda item: (item[1][0].float("SeriesNumber") or 0.0, item[0]))
        for uid, members in ordered:
            where = members[0].name if len(members) == 1 else f"series {uid}"
            for part in split_planes(self._planes(members)):
                if isinstance(part, GeometryError):
                    self.refuse(where, part)
                else:
                    yield (where if len(part.planes) > 1 else part.planes[0].header.name), part

    def _planes(self, headers: Sequence[Header]) -> list[Plane]:
        planes: list[Plane] = []
        for header in headers:
            try:
                check_size(header)
                with whole_header(header.name):
                    dataset = read_dataset(header.path, name=header.name) if needs_dataset(header) else None
                    planes.extend(planes_of(header, dataset))
            except DataError as error:
                self.refuse(header.name, error)
        return planes

    def _read_stack(self, stack: Stack, done: int, total: int) -> Image:
        def step(count: int) -> None:
            self.tell("reading pixels", _SCAN_SHARE + (1 - _SCAN_SHARE) * (done + count) / total)

        return prepare(stack, on_irregular=self.on_irregular).image(step)
