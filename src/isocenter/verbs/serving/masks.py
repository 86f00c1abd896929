"""Confirmed masks in the work folder: every version of every structure, none of them ever overwritten.

work/masks/ID/mask.json       what it is of, who confirmed it, which version, after which prompts
work/masks/ID/levels.iso      levels of probability, in the form of the socket
work/masks/ID/mask.nii.gz     with its geometry proof; further forms beside it when they are first asked for
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from isocenter.core import Image, Mask
from isocenter.core.errors import Conflict, DataError, GeometryError, NotFound, TransportError
from isocenter.data.images.atomic import atomic_folder, explain_os_error
from isocenter.data.images.nifti import read_nifti_mask
from isocenter.verbs.serving.identifiers import is_identifier, random_identifier
from isocenter.verbs.writing import write_mask
from isocenter.viewer.ports import Change, Json, Library, MaskItem, Served
from isocenter.viewer.wire import decode_levels, encode_levels, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

__all__ = ["HasHeaders", "MaskFolder", "NewMask", "levels_of_mask"]

_NIFTI, _LEVELS, _ABOUT = "mask.nii.gz", "levels.iso", "mask.json"
_FORMS: Mapping[str, tuple[str, str]] = {
    "nifti": (_NIFTI, "application/gzip"),
    "seg": ("mask.seg.dcm", "application/dicom"),
    "rtstruct": ("mask.rtstruct.dcm", "application/dicom"),
}


@runtime_checkable
class HasHeaders(Protocol):
    """A library that knows the DICOM headers of an image."""

    def headers(self, image: str) -> Sequence[Dataset]:
        """Return the headers of an image's instances, in the order of its planes; empty where it is not DICOM."""
        ...


@dataclass(frozen=True, eq=False)
class NewMask:
    """A mask to add.

    Args:
        image: Which it is of.
        label: Name of the structure.
        reader: Who says that it is right.
        mask: One segment on the image's grid.
        levels: The same with its doubt.
        expected_dice: That the model expected.
        clicks: Prompts that it took.
        prompts: These prompts.
    """

    image: str
    label: str
    reader: str
    mask: Mask
    levels: Change
    expected_dice: float | None
    clicks: int
    prompts: tuple[Json, ...]


class MaskFolder:
    """The confirmed masks; called from several threads.

    Args:
        folder: Where they stand.
        library: Of the images.
    """

    def __init__(self, folder: Path, library: Library) -> None:
        self.folder, self.library = folder, library
        self._lock = threading.Lock()
        self._items = {item.id: item for item in map(_read_item, sorted(folder.glob(f"*/{_ABOUT}"))) if item}

    def version(self, image: str, label: str) -> int:
        """Return how many versions there are."""
        return max((i.version for i in self._all() if i.image == image and i.label == label), default=0)

    def of_image(self, image: str) -> tuple[MaskItem, ...]:
        """List the masks of an image, oldest first."""
        return tuple(sorted((i for i in self._all() if i.image == image), key=lambda i: (i.created, i.id)))

    def items(self) -> tuple[MaskItem, ...]:
        """List all masks, oldest first."""
        return tuple(sorted(self._all(), key=lambda i: (i.created, i.id)))

    def item(self, mask: str) -> MaskItem:
        """Return what is known of a mask.

        Raises:
            NotFound: There is none.
        """
        found = self._items.get(mask)
        if found is None:
            raise NotFound("there is no such mask")
        return found

    def add(self, new: NewMask, image: Image, *, version: int | None) -> MaskItem:
        """Write a mask, prove it, and only then count it.

        Args:
            new: The mask.
            image: Its image.
            version: How many versions there were when the work on it began; None for a mask that comes from elsewhere.

        Raises:
            Conflict: There are more by now.
            GeometryError: It lies on another grid than the image.
            ProofError: The file was not read back as it was meant; nothing is left behind.
            OutputError: The operating system refused to write.
        """
        if not new.mask.geometry.same_grid(image.geometry):
            raise GeometryError("the mask lies on another grid than the image; export it on the image's own grid")
        # One writer at a time, so that two who confirm in one moment get two versions, or the second is told.
        with self._lock:
            there = self.version(new.image, new.label)
            if version is not None and version != there:
                raise Conflict(
                    f"somebody confirmed version {there} of this meanwhile; look at it; confirm again to add another",
                    code="stale",
                )
            item = MaskItem(
                id=random_identifier(),
                image=new.image,
                label=new.label,
                reader=new.reader,
                version=there + 1,
                created=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                segments=len(new.mask.segments),
                expected_dice=new.expected_dice,
                clicks=new.clicks,
            )
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise explain_os_error(error, self.folder, doing="write") from error
            with atomic_folder(self.folder / item.id) as place:
                _, proof = write_mask(new.mask, place / _NIFTI, ())
                head = {"type": "mask", "box_zyx": list(new.levels.box_zyx)}
                (place / _LEVELS).write_bytes(pack(head, encode_levels(new.levels.levels)))
                about = {**asdict(item), "prompts": list(new.prompts), "proof": str(proof)}
                (place / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
            self._items[item.id] = item
        return item

    def levels(self, mask: str) -> tuple[MaskItem, Change]:
        """Return a mask as levels.

        Raises:
            NotFound: There is none.
            DataError: Its file was altered.
        """
        item = self.item(mask)
        file = self.folder / mask / _LEVELS
        try:
            message = unpack(file.read_bytes())
            z0, z1, y0, y1, x0, x1 = box = tuple(int(v) for v in message.head["box_zyx"])  # type: ignore[attr-defined]
            levels = decode_levels(message.payload, (z1 - z0, y1 - y0, x1 - x0))
        except OSError as error:
            raise explain_os_error(error, file, doing="read") from error
        except (TransportError, KeyError, ValueError, TypeError) as error:
            raise DataError("is no mask any more; the NIfTI beside it may still be one", source=file.name) from error
        return item, Change(box, levels, item.expected_dice)  # type: ignore[arg-type]

    def mask(self, mask: str) -> Mask:
        """Return a mask on its grid.

        Raises:
            NotFound: There is none.
        """
        self.item(mask)
        return read_nifti_mask(self.folder / mask / _NIFTI, name=_NIFTI)

    def path(self, mask: str) -> Path:
        """Return the NIfTI file of a mask.

        Raises:
            NotFound: There is none.
        """
        self.item(mask)
        return self.folder / mask / _NIFTI

    def file(self, mask: str, form: str) -> Served:
        """Return a mask as a file, written with its geometry proof when first asked for.

        Raises:
            NotFound: There is no such mask, or no such form.
            DataError: It can't be written in this form.
        """
        item = self.item(mask)
        if form not in _FORMS:
            raise NotFound(f"masks are nifti, seg or rtstruct, not {form}")
        name, media_type = _FORMS[form]
        path = self.folder / mask / name
        if not path.is_file():
            source = self.library
            headers = source.headers(item.image) if isinstance(source, HasHeaders) else ()
            image = self.library.image(item.image)
            stored = self.mask(mask)
            whole = Mask(stored.array, image.geometry, stored.segments, image.source)
            with self._lock:
                if not path.is_file():
                    write_mask(whole, path, headers)
        return Served(path, media_type, f"{item.image}-v{item.version}{name.removeprefix('mask')}")

    def _all(self) -> tuple[MaskItem, ...]:
        return tuple(self._items.values())


def levels_of_mask(mask: Mask) -> Change:
    """Return a mask without doubt as levels: 3 inside, 0 outside."""
    from isocenter.models.interactive.part import box_of

    inside = mask.array > 0 if mask.is_labelmap else mask.array.max(axis=0) >= 0.5
    box = box_of(np.asarray(inside))
    z, y, x = box
    levels = np.where(inside[box], np.uint8(3), np.uint8(0))
    return Change((z.start, z.stop, y.start, y.stop, x.start, x.stop), levels)


def _read_item(file: Path) -> MaskItem | None:
    """Return what stands in a mask's folder; None where it is none of ours."""
    if not is_identifier(file.parent.name):
        return None
    names = {field.name for field in fields(MaskItem)}
    try:
        about = json.loads(file.read_text("utf-8"))
        return MaskItem(**{key: value for key, value in about.items() if key in names})
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError("is not what a confirmed mask writes; move its folder away", source=file) from error
