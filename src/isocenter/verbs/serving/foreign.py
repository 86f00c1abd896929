"""Images and masks as files of other programs: 3D Slicer's, OHIF's, MONAI Label's own client.

They count voxels as (i, j, k) = (x, y, z) of the file that they were given, which is this image's grid, whichever way
it lies in the patient. A mask that comes back must lie on that grid, voxel for voxel.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from isocenter.core import Image, Mask, Prompt, Quantity, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError, NotFound, TooLarge
from isocenter.data.images.atomic import make_parent
from isocenter.data.images.nifti import read_nifti, read_nifti_mask, write_nifti
from isocenter.data.images.nrrd import read_nrrd, read_nrrd_mask, write_nrrd
from isocenter.verbs.serving.identifiers import identifier, random_identifier
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.verbs.serving.plain import check_promise
from isocenter.verbs.serving.sources import PlainFile
from isocenter.viewer.ports import Library, MaskItem, OutlineFile, OutlineRequest
from isocenter.viewer.settings import Limits

if TYPE_CHECKING:
    from isocenter.tasks.interact.session import Session

__all__ = ["KnowsSeries", "LabelFiles"]

_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd")
_MOST_WORKS = 4
"""Requests of different people or structures that are gone on with; of more, the oldest begin anew."""
_MOST_SENT = 8
_SENT_SECONDS = 3600.0
_TOLERANCE_MM = 0.01
"""A NIfTI keeps its place in single precision."""


@runtime_checkable
class KnowsSeries(Protocol):
    """A library that finds images by their DICOM series."""

    def image_of_series(self, series_uid: str) -> str | None:
        """Return the image of a series, None where there is none."""
        ...


@dataclass(eq=False)
class _Work:
    """Clicks of one person on one structure."""

    session: Session
    prompts: list[Prompt] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)


class LabelFiles:
    """The port `ForeignFiles`; see the module.

    Args:
        library: Of images.
        interactions: Models and masks.
        work: Folder of what is made.
        limits: What is refused beyond.
    """

    def __init__(self, library: Library, interactions: SessionInteractions, work: Path, *, limits: Limits) -> None:
        self.library, self.interactions, self.work, self.limits = library, interactions, work, limits
        self._lock = threading.Lock()
        self._works: OrderedDict[tuple[str, str, str], _Work] = OrderedDict()
        self._sent: OrderedDict[str, tuple[Image, float]] = OrderedDict()

    def outline(self, request: OutlineRequest) -> OutlineFile:
        """Outline what is pointed at."""
        suffix = _suffix(f"mask{request.suffix}")
        image = self._image(request.image)
        if not any(prompt.positive for prompt in request.prompts):
            raise ConfigError("point at the structure: at least one foreground point or a region is needed")
        work = self._work(request)
        with work.turn:
            try:
                mask, expected = _answer(work, image, request.prompts)
            except BaseException:
                work.prompts = []
                raise
        segment = Segment(1, request.label[:64] or "object", algorithm_type="SEMIAUTOMATIC", algorithm_name="Isocenter")
        content = _written(Mask(mask.astype(np.uint16), image.geometry, (segment,)), suffix, packed=request.packed)
        return OutlineFile(content, f"{request.image}{suffix}", expected)

    def image_of_series(self, series_uid: str) -> str | None:
        """Return the image of a DICOM series."""
        return self.library.image_of_series(series_uid) if isinstance(self.library, KnowsSeries) else None

    def image_file(self, image: str) -> Path:
        """Return an image as NIfTI."""
        item = self.library.image_item(image)
        if item.affine_zyx_to_lps_mm is not None:
            return self.library.nifti(image)
        path = self.work / "derived" / f"{image}-plain.nii.gz"
        if not path.is_file():
            make_parent(path)
            write_nifti(self.library.image(image), path)
        return path

    def take(self, content: bytes, name: str) -> str:
        """Keep an image that another program sent, for a while, in memory."""
        suffix = _suffix(name)
        with tempfile.TemporaryDirectory(prefix="isocenter-") as folder:
            file = Path(folder) / f"image{suffix}"
            file.write_bytes(content)
            check_promise(_plain(file, suffix), self.limits.image_bytes)
            image = (read_nifti if suffix.startswith(".nii") else read_nrrd)(file, name="image")
        if image.array.nbytes > self.limits.image_bytes:
            raise TooLarge(
                f"the image takes {image.array.nbytes >> 20} MiB; {self.limits.image_bytes >> 20} are allowed"
            )
        sent = random_identifier()
        with self._lock:
            self._sent[sent] = (image, time.monotonic())
            now = time.monotonic()
            while self._sent and (
                len(self._sent) > _MOST_SENT
                or next(iter(self._sent.values()))[1] < now - _SENT_SECONDS
                or sum(i.array.nbytes for i, _ in self._sent.values()) > self.limits.image_bytes
            ):
                self._sent.popitem(last=False)
        return sent

    def drop(self, image: str) -> None:
        """Let go of an image that was sent."""
        with self._lock:
            self._sent.pop(image, None)
            for key in [key for key in self._works if key[1] == image]:
                del self._works[key]

    def add_label(
        self, image: str, content: bytes, name: str, *, labels: Mapping[int, str], reader: str
    ) -> tuple[MaskItem, ...]:
        """Take masks that were drawn elsewhere."""
        whole = self.library.image(image)
        mask = _read_mask(content, name, whole, most_bytes=self.limits.image_bytes)
        known = whole.geometry.affine is not None
        # Where the place is not known, what another program made of that counts for nothing: voxels are compared.
        same = mask.geometry.same_grid(whole.geometry, tolerance_mm=_TOLERANCE_MM) if known else (
            mask.geometry.shape == whole.geometry.shape
        )  # fmt: skip
        if not same:
            raise GeometryError("the label lies on another grid than the image; export it on the image's own grid")
        parts = _parts(mask, labels)
        if not parts:
            raise DataError("nothing is marked in this label; draw something first", source="label")
        added = []
        for label, inside in parts:
            segment = Segment(1, label[:64] or "object", algorithm_type="MANUAL")
            one = Mask(inside.astype(np.uint16), whole.geometry, (segment,), whole.source)
            added.append(self.interactions.add_mask(image, one, label=label, reader=reader))
        return tuple(added)

    def label_file(self, image: str) -> tuple[Path, Mapping[str, int]]:
        """Return the latest version of every structure of an image in one file."""
        latest: dict[str, MaskItem] = {item.label: item for item in self.interactions.masks(image)}
        if not latest:
            raise NotFound("nothing was confirmed on this image yet")
        names = {label: number for number, label in enumerate(sorted(latest), start=1)}
        path = (
            self.work / "derived" / f"{image}-{identifier(*sorted(item.id for item in latest.values()))}.labels.nii.gz"
        )
        if not path.is_file():
            whole = self.library.image(image)
            array = np.zeros(whole.geometry.shape, dtype=np.uint16)
            for label, number in names.items():
                array[self.interactions.mask_folder.mask(latest[label].id).array > 0] = number
            segments = tuple(Segment(number, label[:64]) for label, number in names.items())
            make_parent(path)
            write_nifti(Mask(array, whole.geometry, segments, whole.source), path)
        return path, names

    def _image(self, image: str) -> Image:
        with self._lock:
            sent = self._sent.get(image)
            if sent is not None:
                self._sent[image] = (sent[0], time.monotonic())
                self._sent.move_to_end(image)
                return sent[0]
        return self.library.image(image)

    def _work(self, request: OutlineRequest) -> _Work:
        from isocenter.tasks.interact.session import Session

        key = (request.who, request.image, request.label)
        engine = self.interactions.engine
        with self._lock:
            work = self._works.get(key)
            if work is None:
                work = self._works[key] = _Work(Session(engine, request.label[:64] or "object", keep=0))
            self._works.move_to_end(key)
            while len(self._works) > _MOST_WORKS:
                self._works.popitem(last=False)
        return work


def _answer(work: _Work, image: Image, prompts: tuple[Prompt, ...]) -> tuple[np.ndarray, float | None]:
    """Answer prompts; those that were answered before are not answered again, but begun anew where one is gone."""
    left = list(prompts)
    known = work.prompts if work.session.image is image else []
    for before in known:
        at = next((n for n, prompt in enumerate(left) if _same(before, prompt)), None)
        if at is None:
            known, left = [], list(prompts)
            break
        left.pop(at)
    if not known:
        # What says that it is it comes first: nothing can be corrected before there is an outline.
        work.session.begin(image, propose=False)
        work.prompts, left = [], sorted(left, key=lambda prompt: not prompt.positive)
    for prompt in left:
        work.session.prompt(prompt)
        work.prompts.append(prompt)
    return work.session.mask, work.session.whole.expected_dice


def _same(one: Prompt, other: Prompt) -> bool:
    return (one.kind, one.positive) == (other.kind, other.positive) and np.array_equal(
        one.coordinates, other.coordinates
    )


def _suffix(name: str) -> str:
    lower = name.lower()
    for suffix in _SUFFIXES:
        if lower.endswith(suffix):
            return suffix
    raise ConfigError(f"files are {', '.join(_SUFFIXES)}; choose one of these in the settings of your viewer")


def _written(mask: Mask, suffix: str, *, packed: bool) -> bytes:
    """Write a mask in a form, one byte a voxel, proven by reading it back."""
    plain = Image(mask.array.astype(np.uint8)[None], mask.geometry, quantity=Quantity.ARBITRARY)
    with tempfile.TemporaryDirectory(prefix="isocenter-") as folder:
        file = Path(folder) / f"mask{suffix}"
        if suffix == ".seg.nrrd":
            write_nrrd(mask, file, packed=packed)
        elif suffix == ".nrrd":
            write_nrrd(plain, file, packed=packed)
        else:
            write_nifti(plain, file)
        return file.read_bytes()


def _read_mask(content: bytes, name: str, image: Image, *, most_bytes: int) -> Mask:
    if name.lower().endswith(".bin"):
        shape = image.geometry.shape
        if len(content) != int(np.prod(shape)):
            raise GeometryError(
                f"the label has {len(content)} bytes and the image {int(np.prod(shape))} voxels; was it drawn on it?"
            )
        array = np.frombuffer(content, dtype=np.uint8).reshape(shape).astype(np.uint16)
        segments = tuple(Segment(int(n), f"label {n}") for n in np.unique(array) if n)
        return Mask(array, image.geometry, segments)
    suffix = _suffix(name)
    with tempfile.TemporaryDirectory(prefix="isocenter-") as folder:
        file = Path(folder) / f"label{suffix}"
        file.write_bytes(content)
        check_promise(_plain(file, suffix), most_bytes)
        return (read_nifti_mask if suffix.startswith(".nii") else read_nrrd_mask)(file, name="label")


def _plain(file: Path, suffix: str) -> PlainFile:
    return PlainFile(file, "nifti" if suffix.startswith(".nii") else "nrrd", file.name)


def _parts(mask: Mask, labels: Mapping[int, str]) -> list[tuple[str, np.ndarray]]:
    """Return each structure that is marked, by name."""
    numbers = [segment.number for segment in mask.segments]
    inside = {number: mask.segment_array(number) for number in numbers}
    marked = [number for number in numbers if inside[number].any()]
    names = {segment.number: segment.label for segment in mask.segments}
    if labels and all(number in labels for number in marked):
        names.update(labels)
    elif len(labels) >= len(marked):
        # 3D Slicer counts the segments that it shows, and numbers those that it saves: the order is the same.
        names.update(zip(sorted(numbers), (labels[n] for n in sorted(labels)), strict=False))
    found: dict[str, np.ndarray] = {}
    for number in marked:
        label = names[number]
        found[label] = inside[number] | found[label] if label in found else inside[number]
    return list(found.items())
