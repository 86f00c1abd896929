"""Readings: `isocenter read` of a study on the server, its result kept in the work folder and handed out by name.

WORK/readings/STUDY/READING/     what `isocenter read` wrote
WORK/readings/STUDY/latest       name of the latest reading
"""

from __future__ import annotations

import json
import mimetypes
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Bool

from isocenter.core import Geometry
from isocenter.core.errors import CapabilityError, ConfigError, GeometryError, ModelError, NotFound, Stopped
from isocenter.data.images.atomic import atomic_path, make_parent
from isocenter.data.images.nifti import read_nifti, read_nifti_mask
from isocenter.plugins import find
from isocenter.verbs.evidence import MAP_FORMAT
from isocenter.verbs.result import ImageEntry, ResultDocument, read_result
from isocenter.verbs.serving.identifiers import is_identifier, random_identifier
from isocenter.verbs.serving.jobs import JobRunner
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.sources import PlainFile, StudyParts
from isocenter.viewer.ports import Change, Problem, Served, Tell
from isocenter.viewer.problems import error_of
from isocenter.viewer.settings import PREFIX

__all__ = ["StudyReadings"]

_ENDINGS = {"nifti": ".nii", "nrrd": ".nrrd", "metaimage": ".mha", "picture": ""}
_MASKS = ("NIfTI", "NRRD", "DICOM SEG", "DICOM RTSTRUCT")
_STOP_SECONDS = 10.0
_SAME_MM = 1e-2
_OWN_FILES = ("result.json", "report.html", "config.json")
_TYPES = {".dcm": "application/dicom", ".gz": "application/gzip", ".nrrd": "application/octet-stream"}


class StudyReadings:
    """The port `Readings`; see the module.

    Args:
        library: Whose studies are read.
        jobs: Runs the readings.
        work: Folder of the work.
    """

    def __init__(self, library: StudyLibrary, jobs: JobRunner, work: Path) -> None:
        self._library, self._jobs = library, jobs
        self._folder = work / "readings"
        self._lock = threading.Lock()
        self._read = {f.parent.name for f in self._folder.glob("*/latest")} if self._folder.is_dir() else set()

    def start(
        self,
        study: str,
        *,
        tasks: Sequence[str] | None,
        evidence: bool,
        prior: str | None,
        reader: str,
        stated: Mapping[str, str] | None = None,
    ) -> str:
        """Start a reading and return its job."""
        self._library.study_item(study)
        unknown = sorted(set(tasks or ()) - set(find("isocenter.tasks")))
        if unknown:
            raise ConfigError(f"there is no task {unknown[0]!r}; /api/v1/info lists them")
        settings: dict[str, Any] = {
            "tasks": "auto" if tasks is None else list(tasks),
            "evidence": evidence,
            "on_irregular": self._library.on_irregular,
            **{name: value for name, value in (stated or {}).items() if value},
        }
        if prior is not None:
            settings["prior"] = str(self._latest(prior, "the earlier study has not been read; read it first"))
        return self._jobs.start("reading", lambda tell: self._read_study(study, settings, tell), about=study)

    def has(self, study: str) -> bool:
        """Tell whether a study has been read."""
        return study in self._read

    def folder(self, study: str) -> Path:
        """Return the folder of the latest reading.

        Raises:
            NotFound: There is none.
        """
        return self._latest(study, "this study has not been read; start a reading")

    def latest(self, study: str) -> dict[str, Any]:
        """Return the latest result document of a study, with `links` to its files."""
        self._library.study_item(study)
        folder = self.folder(study)
        document = read_result(folder)
        out: dict[str, Any] = document.model_dump(mode="json")
        out["reading"] = folder.name
        out["links"] = self._links(study, folder.name, document)
        return out

    def document(self, reading: str) -> tuple[Path, ResultDocument]:
        """Return the folder of a reading and what stands in it.

        Raises:
            NotFound: There is none.
        """
        # The name has the form of an identifier before it becomes part of a path.
        found = next(iter(self._folder.glob(f"*/{reading}")), None) if is_identifier(reading) else None
        if found is None or not (found / "result.json").is_file():
            raise NotFound("there is no such reading")
        return found, read_result(found)

    def file(self, reading: str, name: str) -> Served:
        """Return a file of a reading, by the closed list of its names."""
        folder, document = self.document(reading)
        if name not in _names(document) or not (folder / name).is_file():
            raise NotFound("the reading has no such file")
        path = folder / name
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return Served(path, kind, path.name)

    def mask(self, reading: str, prediction: int, segment: int | None) -> Change:
        """Return a segment of an answer's mask (all of them together for None), as levels 0 and 3 in its box.

        Raises:
            NotFound: There is no such reading, answer or segment.
        """
        folder, document = self.document(reading)
        if not 0 <= prediction < len(document.predictions):
            raise NotFound("the reading has no such answer")
        answer = document.predictions[prediction]
        file = next((f for f in answer.files if f.format == "NIfTI"), None)
        numbers = [s.number for s in answer.segments]
        if file is None or (segment is not None and segment not in numbers):
            raise NotFound("the answer has no such mask")
        mask = read_nifti_mask(folder / file.path, name=file.path)
        grid = next(i.geometry for i in document.images if i.index == answer.image)
        affine = None if grid.affine_zyx_to_lps_mm is None else np.array(grid.affine_zyx_to_lps_mm, dtype=np.float64)
        if not mask.geometry.same_grid(Geometry(grid.shape_zyx, affine), tolerance_mm=_SAME_MM):
            raise GeometryError("the mask is not on its image's grid; it can't be drawn over it")
        chosen = numbers if segment is None else [segment]
        inside = np.any([mask.segment_array(number) for number in chosen], axis=0)
        return boxed(inside)

    def evidence_map(self, reading: str, name: str) -> Change:
        """Return where networks looked, by the name of the map's file, as 0 to 255 in its box.

        Raises:
            NotFound: There is no such reading or map.
        """
        folder, document = self.document(reading)
        names = {f.path for p in document.predictions for f in p.files if f.format == MAP_FORMAT}
        if name not in names or not (folder / name).is_file():
            raise NotFound("the reading has no such map")
        values = read_nifti(folder / name, name=name).array[0].astype(np.uint8)
        box = boxed(values > 0).box_zyx
        return Change(box, values[box[0] : box[1], box[2] : box[3], box[4] : box[5]])

    def image_of(self, study: str, document: ResultDocument, index: int) -> str | None:
        """Return which of the study's images a reading calls by an index; None where the study has changed since."""
        entry = next((i for i in document.images if i.index == index), None)
        if entry is None:
            return None
        opened = [(i.item.id, i.item.shape_zyx, i.series_uid) for i in self._library.opened(study).images]
        return same_image(entry, document.images, opened)

    def _latest(self, study: str, why_not: str) -> Path:
        pointer = self._folder / study / "latest"
        if not is_identifier(study) or not pointer.is_file():
            raise NotFound(why_not)
        name = pointer.read_text("ascii").strip()
        folder = self._folder / study / name
        if not is_identifier(name) or not (folder / "result.json").is_file():
            raise NotFound(why_not)
        return folder

    def _links(self, study: str, reading: str, document: ResultDocument) -> dict[str, Any]:
        base = f"{PREFIX}/readings/{reading}"
        images = {str(e.index): self.image_of(study, document, e.index) for e in document.images}
        masks: list[dict[str, Any]] = []
        maps: list[dict[str, Any]] = []
        nearest: list[dict[str, Any]] = []
        for number, answer in enumerate(document.predictions):
            image = images.get(str(answer.image))
            if answer.segments and any(f.format == "NIfTI" or f.format == "NRRD" for f in answer.files):
                masks.append(
                    {
                        "prediction": number,
                        "image": image,
                        "url": f"{base}/masks/{number}",
                        "segments": [s.model_dump(mode="json") for s in answer.segments],
                        "files": [
                            {"form": f.format, "url": f"{base}/files/{f.path}", "sha256": f.sha256}
                            for f in answer.files
                            if f.format in _MASKS
                        ],
                    }
                )
            for found in answer.evidence:
                entry = {
                    "prediction": number, "about": found.about, "text": found.text, "image": image,
                    "url": f"{base}/files/{found.file}" if found.file else None, "numbers": found.numbers,
                }  # fmt: skip
                if found.kind == "map":
                    raw = next((f.path for f in answer.files if f.path == f"{Path(found.file).stem}.nii.gz"), None)
                    maps.append({**entry, "overlay": raw and f"{base}/maps/{raw}"})
                elif found.kind == "neighbour":
                    nearest.append(entry)
        files = (*document.files, *(f for p in document.predictions for f in p.files))
        pictures = [{"url": f"{base}/files/{f.path}", "sha256": f.sha256} for f in files if f.format == "PNG"]
        page = f"{base}/files/report.html"
        return {"images": images, "masks": masks, "maps": maps, "nearest": nearest, "pictures": pictures, "page": page}

    def _read_study(self, study: str, settings: dict[str, Any], tell: Tell) -> dict[str, Any]:
        tell("gathering files", 0.0)
        parts = self._library.source.parts(study)
        name = random_identifier()
        out = self._folder / study / name
        make_parent(out)
        with tempfile.TemporaryDirectory(prefix="isocenter-reading-") as temporary:
            given = Path(temporary) / "study"
            _gather(parts, given)
            known = {f.modality for f in parts.plain if f.modality}
            if len(known) == 1:
                settings = {"modality": next(iter(known)), **settings}
            _run_worker({"path": str(given), "out": str(out), **settings}, tell)
        with self._lock:
            with atomic_path(out.parent / "latest") as pointer:
                pointer.write_text(name, "ascii")
            self._read = {*self._read, study}
        return {"reading": name, "study": study, "url": f"{PREFIX}/studies/{study}/readings/latest"}


def same_image(
    entry: ImageEntry, entries: Sequence[ImageEntry], opened: Sequence[tuple[str, tuple[int, int, int], str]]
) -> str | None:
    """Return which of a study's images a reading's entry is, None where that is not certain any more.

    Places in the whole study are not compared: a series that comes later moves all that follow it. Within one series,
    images of one shape keep their order as long as there are as many of them.

    Args:
        entry: The image as the reading knows it.
        entries: All images of the reading.
        opened: Identifier, shape and series of the study's images as they are now.
    """

    def key(one: ImageEntry) -> tuple[tuple[int, ...], str]:
        return tuple(one.geometry.shape_zyx), one.series_uid

    alike = [one.index for one in entries if key(one) == key(entry)]
    fits = [name for name, shape, series in opened if (tuple(shape), series) == key(entry)]
    return fits[alike.index(entry.index)] if len(fits) == len(alike) else None


def boxed(inside: Bool[np.ndarray, "z y x"]) -> Change:
    """Return a mask as levels in the smallest box that holds it.

    Example:
        >>> mask = np.zeros((2, 3, 4), dtype=bool); mask[1, 1:3, 2] = True
        >>> boxed(mask).box_zyx
        (1, 2, 1, 3, 2, 3)
    """
    if not inside.any():
        return Change((0, 0, 0, 0, 0, 0), np.zeros((0, 0, 0), dtype=np.uint8))
    ends = []
    for axis in range(3):
        line = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((int(line[0]), int(line[-1]) + 1))
    (z0, z1), (y0, y1), (x0, x1) = ends
    return Change((z0, z1, y0, y1, x0, x1), inside[z0:z1, y0:y1, x0:x1].astype(np.uint8) * 3)


def _names(document: ResultDocument) -> frozenset[str]:
    """Return the names of a reading's files: what its result lists, and the three that every result has."""
    listed = [f.path for f in (*document.files, *(f for p in document.predictions for f in p.files))]
    shown = [e.file for p in document.predictions for e in p.evidence if e.file]
    return frozenset([*_OWN_FILES, *listed, *shown])


def _gather(parts: StudyParts, folder: Path) -> None:
    """Link a study's files into a folder of their own, numbered: they may lie among those of other studies.

    Raises:
        CapabilityError: It is an image in a file of many.
    """
    folder.mkdir()
    files: list[tuple[Path, str]] = [(path, ".dcm") for path in parts.dicom]
    for file in parts.plain:
        if file.kind == "npz":
            raise CapabilityError("an image in a file of many arrays is not read here; write it to a file of its own")
        files.append((file.path, _ending(file)))
    for number, (path, ending) in enumerate(files, start=1):
        (folder / f"{number:06d}{ending}").symlink_to(path.resolve())


def _ending(file: PlainFile) -> str:
    name = file.path.name.lower()
    if file.kind == "nifti" and name.endswith(".gz"):
        return ".nii.gz"
    return _ENDINGS[file.kind] or file.path.suffix.lower()


def _run_worker(settings: Mapping[str, Any], tell: Tell) -> None:
    """Run a reading in a process of its own, and end it where the job is stopped.

    Raises:
        Stopped: The job was stopped.
        IsocenterError: What the reading failed with.
    """
    command = [sys.executable, "-P", "-m", "isocenter.verbs.serving.reading_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        lines: list[dict[str, Any]] = []
        reader = threading.Thread(target=_collect, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(settings))
                process.stdin.close()
            seen: tuple[str, float] = ("starting", 0.0)
            while reader.is_alive():
                reader.join(0.1)
                seen = next(((e["stage"], e["done"]) for e in reversed(lines) if "stage" in e), seen)
                tell(*seen)  # raises where somebody stopped the job
        except Stopped:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            _remove_half(Path(settings["out"]))
            raise
    last = lines[-1] if lines else {}
    if "problem" in last:
        raise error_of(Problem(last["problem"]["code"], last["problem"]["detail"]))
    if last.get("ok") is not True:
        raise ModelError(
            f"the reading ended before it was done (exit code {process.returncode}): it may have run out of memory; "
            "read fewer tasks at once"
        )


def _collect(stream: IO[str] | None, lines: list[dict[str, Any]]) -> None:
    for line in stream or ():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            lines.append(found)


def _remove_half(out: Path) -> None:
    """Remove what a reading that had to be killed left beside the final name."""
    for folder in out.parent.glob(f".partial-*{out.name}"):
        shutil.rmtree(folder, ignore_errors=True)
