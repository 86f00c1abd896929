"""The library: studies of a folder or an archive, opened by their headers; voxels are read when they are looked at."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
from jaxtyping import Shaped

from isocenter.core import Image
from isocenter.core.errors import ConfigError, DataError, NotFound, TooLarge
from isocenter.data.images.atomic import make_parent
from isocenter.data.images.dicom import open_dicom
from isocenter.data.images.nifti import write_nifti
from isocenter.verbs.serving.drawing import draw_plane
from isocenter.verbs.serving.identifiers import identifier
from isocenter.verbs.serving.listing import Standing
from isocenter.verbs.serving.memory import Kept
from isocenter.verbs.serving.opened import OpenedImage, opened_prepared, opened_whole, sent
from isocenter.verbs.serving.plain import check_promise, read_file
from isocenter.verbs.serving.sources import PlainFile, StudySource
from isocenter.viewer.ports import (
    ImageItem,
    LeftOut,
    Picture,
    Planes,
    StudyDetail,
    StudyItem,
    StudyPage,
    StudyQuery,
)
from isocenter.viewer.settings import Limits

__all__ = ["Opened", "StudyLibrary"]

_BLOCK_BYTES = 4 << 20
_OPEN_PLANES = 50_000
"""Planes of studies that stay open: their headers take about 3 kB each."""
_DERIVED_BYTES = 8 << 30
"""Of NIfTI files that were made and are kept; the oldest go first."""
_READS_AT_ONCE = 2
_IMAGES_SHARE = 0.7
"""Of the memory; the rest holds planes of images that were not read as a whole."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A study that was opened."""

    images: tuple[OpenedImage, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Block:
    """Some planes as they are sent, and the hash of their bytes."""

    array: Shaped[np.ndarray, "z y x c"]
    digest: bytes


class StudyLibrary:
    """The port `Library`; see the module.

    Args:
        source: Where studies come from.
        work: Folder of what is made.
        limits: What is refused beyond.
        memory_bytes: Of voxels that are kept in memory.
        on_irregular: What is done with irregular series: "resample" or "raise" (they are then left out).
    """

    def __init__(
        self,
        source: StudySource,
        work: Path,
        *,
        limits: Limits,
        memory_bytes: int,
        on_irregular: Literal["raise", "resample"] = "resample",
    ) -> None:
        self.source, self.work, self.limits, self.on_irregular = source, work, limits, on_irregular
        self.kind, self.identified = source.kind, source.identified
        self.standing: Standing = lambda _study: ("new", None)
        self._opened: Kept[Opened] = Kept(_OPEN_PLANES, _planes_in)
        self._images: Kept[Image] = Kept(int(memory_bytes * _IMAGES_SHARE), lambda image: image.array.nbytes)
        blocks_bytes = memory_bytes - int(memory_bytes * _IMAGES_SHARE)
        self._blocks: Kept[_Block] = Kept(blocks_bytes, lambda block: block.array.nbytes)
        self._reads = threading.BoundedSemaphore(_READS_AT_ONCE)
        self._where = _Known(work / "index" / "images.txt")

    def studies(self, query: StudyQuery) -> StudyPage:
        """List studies."""
        return self.source.page(query, self.standing)

    def study_item(self, study: str) -> StudyItem:
        """Return a study of the list."""
        return self.source.item(study, self.standing)

    def study(self, study: str) -> StudyDetail:
        """Open a study."""
        item = self.source.item(study, self.standing)
        parts = self.source.parts(study)
        opened = self.opened(study)
        return StudyDetail(
            study=item,
            images=tuple(image.item for image in opened.images),
            priors=self.source.priors(study, self.standing),
            reports=parts.reports,
            left_out=opened.left_out,
            notes=opened.notes,
        )

    def study_of(self, image: str) -> str:
        """Return the study that an image is of."""
        return self._image(image).study

    def image_item(self, image: str) -> ImageItem:
        """Describe an image."""
        return self._image(image).item

    def planes(self, image: str, first: int, count: int) -> Planes:
        """Read some planes."""
        opened = self._image(image)
        item = opened.item
        depth = item.shape_zyx[0]
        if count < 1 or first < 0 or first + count > depth:
            raise ConfigError(f"planes {first} to {first + count - 1} lie outside the image's {depth}")
        asked = item.bytes // depth * count
        if asked > self.limits.answer_bytes:
            most = max(1, self.limits.answer_bytes // (item.bytes // depth))
            raise TooLarge(f"{count} planes are {asked} bytes; ask for at most {most} at once")
        return self._read_blocks(opened, first, count)

    def image(self, image: str) -> Image:
        """Read a whole image."""
        opened = self._image(image)
        self._check_size(opened)
        return self._images.get(image, lambda: self._read(opened))

    def picture(self, image: str, picture: Picture) -> bytes:
        """Draw a plane as a PNG."""
        opened = self._image(image)
        item = opened.item
        axis = "zyx".index(picture.plane)
        depth = item.shape_zyx[axis]
        index = depth // 2 if picture.index is None else picture.index
        if not 0 <= index < depth:
            raise ConfigError(f"plane {index} lies outside the image's {depth}")
        whole = self._images.peek(image)
        if whole is None and axis == 0 and opened.planes is not None:
            stored = self._read_blocks(opened, index, 1).array
            values = stored * np.float32(item.pixel.slope) + np.float32(item.pixel.intercept)
            plane, geometry = np.moveaxis(values, -1, 0), None
        else:
            whole = whole or self.image(image)
            plane, geometry = np.take(whole.array, [index], axis=axis + 1), whole.geometry
        drawn = draw_plane(item, plane, axis, index, picture, geometry)
        out = io.BytesIO()
        PIL.Image.fromarray(drawn).save(out, format="PNG")
        return out.getvalue()

    def nifti(self, image: str) -> Path:
        """Return a NIfTI file of an image."""
        opened = self._image(image)
        self._check_size(opened)
        path = self.work / "derived" / f"{image}.nii.gz"
        if not path.is_file():
            whole = self.image(image)
            make_parent(path)
            with self._reads:
                if not path.is_file():
                    _make_room(path.parent, _DERIVED_BYTES)
                    write_nifti(whole, path)
        return path

    def opened(self, study: str) -> Opened:
        """Open a study, or return what is open; what can't be shown is left out, with its reason.

        Raises:
            NotFound: There is none.
        """
        found = self._opened.get(study, lambda: self._open(study))
        self._where.add(study, (image.item.id for image in found.images))
        return found

    def was_opened(self, study: str) -> bool:
        """Tell whether somebody has opened a study, now or before the server was started."""
        return self._where.knows(study)

    def close(self) -> None:
        """Let go of everything."""
        self.source.close()
        self._images.clear()
        self._blocks.clear()

    def _image(self, image: str) -> OpenedImage:
        study = self._where.study(image)
        if study is None:
            raise NotFound("there is no such image; open its study first")
        for opened in self.opened(study).images:
            if opened.item.id == image:
                return opened
        raise NotFound("there is no such image any more: its study's files have changed")

    def _check_size(self, opened: OpenedImage) -> None:
        if opened.memory_bytes > self.limits.image_bytes:
            raise TooLarge(
                f"the image takes {opened.memory_bytes >> 20} MiB of memory, and {self.limits.image_bytes >> 20} MiB "
                "are allowed for one; its planes can be looked at"
            )

    def _read(self, opened: OpenedImage) -> Image:
        with self._reads:
            return opened.read()

    def _read_blocks(self, opened: OpenedImage, first: int, count: int) -> Planes:
        """Read planes by whole blocks: what one person looks at is there for the next, and in memory once."""
        item = opened.item
        depth = item.shape_zyx[0]
        many = max(1, _BLOCK_BYTES // max(1, item.bytes // depth))
        digest = hashlib.sha256(f"{item.id} {first} {count}".encode())
        parts = []
        for number in range(first // many, (first + count - 1) // many + 1):
            begin, end = number * many, min(depth, (number + 1) * many)
            block = self._blocks.get((item.id, number), partial(self._read_block, opened, begin, end))
            digest.update(block.digest)
            parts.append(block.array[max(first, begin) - begin : min(first + count, end) - begin])
        return Planes(tuple(parts), digest.hexdigest())

    def _read_block(self, opened: OpenedImage, begin: int, end: int) -> _Block:
        whole = self._images.peek(opened.item.id)
        if whole is None and opened.planes is not None:
            array = opened.planes(begin, end - begin)
        else:
            array = (whole or self.image(opened.item.id)).array[:, begin:end]
        stored = sent(array, opened.item.pixel)
        return _Block(stored, hashlib.sha256(stored.data).digest())

    def _open(self, study: str) -> Opened:
        parts = self.source.parts(study)
        images: list[OpenedImage] = []
        left_out: list[LeftOut] = []
        notes: list[str] = []
        if parts.dicom:
            try:
                found = open_dicom(parts.dicom, root=parts.root, on_irregular=self.on_irregular)
            except DataError as error:
                left_out.append(_left_out(error, "DICOM files"))
            else:
                notes.extend(found.notes)
                left_out.extend(LeftOut(r.where, r.reason) for r in found.refused if r.kind == "refused")
                for prepared in found.images:
                    try:
                        images.append(opened_prepared(study, len(images), prepared, most_bytes=self.limits.image_bytes))
                    except DataError as error:
                        left_out.append(_left_out(error, "a series"))
        for file in parts.plain:
            try:
                images.append(self._open_plain(study, len(images), file))
            except DataError as error:
                left_out.append(_left_out(error, file.name))
        if not images and not left_out:
            left_out.append(LeftOut("the study", "holds no image that can be shown: objects of other kinds alone"))
        return Opened(tuple(images), tuple(left_out), tuple(notes))

    def _open_plain(self, study: str, index: int, file: PlainFile) -> OpenedImage:
        def read() -> Image:
            return read_file(file)

        check_promise(file, self.limits.image_bytes)
        with self._reads:
            image = read()
        name = identifier("image", study, image.sha256)
        opened = opened_whole(study, index, name, image, read, most_bytes=self.limits.image_bytes)
        self._images.get(name, lambda: image)
        return opened


def _left_out(error: DataError, where: str) -> LeftOut:
    return LeftOut(error.source or where, str(error).removeprefix(f"{error.source}: "))


def _planes_in(opened: Opened) -> int:
    return min(_OPEN_PLANES, 1 + sum(image.item.shape_zyx[0] for image in opened.images))


def _make_room(folder: Path, most_bytes: int) -> None:
    """Remove the files that were made longest ago until those that stay take no more than they may."""
    made = sorted((f.stat().st_mtime_ns, f.stat().st_size, f) for f in folder.glob("*.nii.gz"))
    taken = sum(size for _, size, _ in made)
    for _, size, file in made:
        if taken <= most_bytes:
            return
        file.unlink(missing_ok=True)
        taken -= size


class _Known:
    """Which study an image is of, kept in a file: a page that comes back after a restart asks for images at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._study: dict[str, str] = {}
        self._studies: set[str] = set()
        if file.is_file():
            for line in file.read_text("ascii", errors="replace").splitlines():
                image, _, study = line.partition(" ")
                self._study[image] = study
                self._studies.add(study)

    def study(self, image: str) -> str | None:
        """Return the study of an image, None where it was never opened."""
        return self._study.get(image)

    def knows(self, study: str) -> bool:
        """Tell whether a study was opened."""
        return study in self._studies

    def add(self, study: str, images: Iterator[str]) -> None:
        """Note the images of a study."""
        with self._lock:
            new = [image for image in images if self._study.get(image) != study]
            if not new:
                return
            self._study.update(dict.fromkeys(new, study))
            self._studies.add(study)
            make_parent(self._file)
            with self._file.open("a", encoding="ascii") as stream:
                stream.writelines(f"{image} {study}\n" for image in new)
