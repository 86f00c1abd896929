"""Confirmed masks as a labelled set, and as a packed file below the work folder.

Cases and patients get names that say nothing: a case is named by its image's opaque id, a patient by a keyed hash. The
key stays in the work folder, so the names of two exports are the same, and nobody without it finds the way back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError, NotFound
from isocenter.data.catalog.splitting import parse_parts, split_patients
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.labelled.cases import LabelledCase, LabelledSet, Split
from isocenter.data.labelled.export import FORMS, Exported, ExportOptions, Form, write_labelled
from isocenter.data.labelled.files import same_grid
from isocenter.verbs.serving.confirmed_masks import ConfirmedMasks
from isocenter.verbs.serving.identifiers import is_identifier, random_identifier
from isocenter.viewer.ports import Library, MaskItem
from isocenter.viewer.work import ExportOrder, WorkExport, WorkPlan

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["ConfirmedSet", "WorkExporter", "check_order", "confirmed_set", "write_confirmed"]

_PARTS: dict[str, Split] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_PACKED = ".zip"

Tell = Callable[[str, float], None]
Pair = tuple[str, str]


@runtime_checkable
class _HasHeaders(Protocol):
    def headers(self, image: str) -> Sequence[Dataset]: ...


class ConfirmedSet:
    """Confirmed masks as a labelled set.

    Args:
        labelled: The set.
        images: Image of each case, by its name.
        left_out: Images that are not in it, by the names that their cases would have, and why.
    """

    def __init__(self, labelled: LabelledSet, images: dict[str, str], left_out: tuple[tuple[str, str], ...]) -> None:
        self.labelled, self.images, self.left_out = labelled, images, left_out


def check_order(order: ExportOrder) -> Form:
    """Return the form of an order that makes sense.

    Raises:
        ConfigError: It does not.
    """
    if order.form not in FORMS:
        raise ConfigError(f"no form is called {order.form!r}; there are {', '.join(FORMS)}")
    if order.choose not in ("latest", "majority") and not order.choose.removeprefix("reader:"):
        raise ConfigError("choose latest, majority, or reader:NAME")
    if order.choose not in ("latest", "majority") and not order.choose.startswith("reader:"):
        raise ConfigError("choose latest, majority, or reader:NAME")
    _parts(order.parts)
    return order.form


def confirmed_set(
    masks: ConfirmedMasks,
    library: Library,
    key: Path,
    order: ExportOrder,
    *,
    wanted_again: frozenset[Pair] = frozenset(),
) -> ConfirmedSet:
    """Gather the confirmed masks of some labels.

    Args:
        masks: That people confirmed.
        library: Of the images.
        key: File of the key that patients' names are hashed with; made where it is not there.
        order: What is wanted.
        wanted_again: Image and label of what somebody asked another look at: left out until that was given.

    Raises:
        DataError: Nothing was confirmed of these labels.
        ConfigError: The order makes no sense.
    """
    check_order(order)
    every = masks.items()
    names = order.labels or tuple(sorted({m.label for m in every}))
    of_image: dict[str, dict[str, dict[str, MaskItem]]] = {}
    for mask in every:  # oldest first: the latest of a reader stays
        if mask.label in names:
            of_image.setdefault(mask.image, {}).setdefault(mask.label, {}).pop(mask.reader, None)
            of_image[mask.image][mask.label][mask.reader] = mask
    if not of_image:
        raise DataError("nothing was confirmed of these labels yet", source="work folder")
    hidden = _key(key)
    cases, images, left_out = [], {}, []
    for image, of_label in sorted(of_image.items()):
        name = f"c-{image}"
        chosen = {label: _chosen(list(readers.values()), order.choose) for label, readers in of_label.items()}
        missing = [label for label in names if not chosen.get(label)]
        again = [label for label in names if (image, label) in wanted_again]
        if missing or again:
            why = f"no mask of {', '.join(missing)}" if missing else f"another look at {', '.join(again)} was asked for"
            left_out.append((name, why))
            continue
        try:
            key_of = library.study(library.study_of(image)).study.patient_key
        except (DataError, NotFound):
            left_out.append((name, "its image can't be read, or is there no more"))
            continue
        patient = "p-" + hmac.new(hidden, key_of.encode(), hashlib.sha256).hexdigest()[:12]
        mask_of = partial(_mask, masks, tuple(tuple(m.id for m in chosen[label]) for label in names), names)
        cases.append(LabelledCase(name, patient, partial(library.image, image), mask_of))
        images[name] = image
    if not cases:
        raise DataError(f"no image has masks of all of {', '.join(names)}; {left_out[0][1]}", source="work folder")
    split = _split(cases, order.parts)
    cases.sort(key=lambda c: (c.patient, c.name))
    labelled = LabelledSet(
        "confirmed labels", "segment", names, tuple(replace(c, split=split[c.patient]) for c in cases),
        tuple(range(1, len(names) + 1)), True, order.licence,
    )  # fmt: skip
    return ConfirmedSet(labelled, images, tuple(left_out))


def write_confirmed(
    found: ConfirmedSet, library: Library, folder: Path, order: ExportOrder, *, replace_folder: bool, tell: Tell | None
) -> Exported:
    """Write the set in the form that is ordered.

    Raises:
        DataError: As `write_labelled`.
    """
    headers = library if isinstance(library, _HasHeaders) else None
    options = ExportOptions(
        suffix=order.suffix,
        headers=None if headers is None else lambda name: headers.headers(found.images[name]),
        identified=order.identified or not library.identified,
        replace=replace_folder,
    )
    done = write_labelled(found.labelled, folder, check_order(order), options, tell=tell)
    return replace(done, left_out=(*found.left_out, *done.left_out))


class WorkExporter:
    """Exports below the work folder: work/exports/ID/ and ID.zip.

    Args:
        work: Folder of what people make.
        library: Of the images.
        masks: That people confirmed.
        wanted_again: Returns image and label of what somebody asked another look at.
    """

    def __init__(
        self, work: Path, library: Library, masks: ConfirmedMasks, wanted_again: Callable[[], frozenset[Pair]]
    ) -> None:
        self._work, self._library, self._masks, self._again = work, library, masks, wanted_again

    def export(self, order: ExportOrder, plan: WorkPlan) -> WorkExport:
        """Write an export, and pack it.

        Raises:
            ConfigError: The order makes no sense.
            DataError: Nothing could be written.
        """
        form = check_order(order)
        if not order.labels and plan.labels:
            order = replace(order, labels=tuple(label.name for label in plan.labels if label.kind == "mask"))
        again, key = self._again(), self._work / "worklist" / "key"
        found = confirmed_set(self._masks, self._library, key, order, wanted_again=again)
        name = random_identifier()
        folder = self._work / "exports" / name
        done = write_confirmed(found, self._library, folder, order, replace_folder=False, tell=None)
        packed = folder.with_name(name + _PACKED)
        with atomic_path(packed) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, f"{form}-{name}/{file.relative_to(folder).as_posix()}")
        return WorkExport(
            name, form, f"exports/{name}", len(done.cases), done.left_out, dict(done.parts), done.notes,
            packed.stat().st_size,
        )  # fmt: skip

    def exported(self, export: str) -> tuple[str, str]:
        """Return the packed file of an export, and its name.

        Raises:
            NotFound: There is none.
        """
        packed = self._work / "exports" / (export + _PACKED)
        if not is_identifier(export) or not packed.is_file():
            raise NotFound("there is no such export")
        return str(packed), f"labels-{export}{_PACKED}"


def _chosen(found: list[MaskItem], choose: str) -> list[MaskItem]:
    """Return the masks that are put together, of the latest of each reader, oldest first."""
    if choose == "majority":
        return found
    if choose.startswith("reader:"):
        return [m for m in found if m.reader == choose.removeprefix("reader:")]
    return found[-1:]


def _mask(masks: ConfirmedMasks, chosen: tuple[tuple[str, ...], ...], names: tuple[str, ...], like: Geometry) -> Mask:
    """Return the masks of an image's labels on its grid; of several readers what more than half of them drew."""
    stack = np.zeros((len(names), *like.shape), dtype=bool)
    for place, ids in zip(stack, chosen, strict=True):
        votes = np.zeros(like.shape, dtype=np.uint8)
        for mask_id in ids:
            mask = masks.mask(mask_id)
            if not same_grid(mask.geometry, like):
                raise GeometryError("a confirmed mask lies on another grid than its image; the image has changed since")
            votes += mask.segment_array(mask.segments[0].number)
        place[...] = 2 * votes > len(ids)
    segments = tuple(Segment(n, name[:64], algorithm_type="MANUAL") for n, name in enumerate(names, start=1))
    if len(names) == 1:
        return Mask(stack[0].astype(np.uint16), like, segments)
    return Mask(stack, like, segments)


def _parts(text: str) -> dict[str, float]:
    if not text:
        return {}
    found = parse_parts(text)
    if not set(found) <= set(_PARTS):
        raise ConfigError("parts are train, validation and test")
    return found


def _split(cases: Sequence[LabelledCase], text: str) -> dict[str, Split]:
    patients = sorted({case.patient for case in cases})
    parts = _parts(text)
    if not parts:
        return dict.fromkeys(patients, "")
    return {patient: _PARTS[part] for patient, part in split_patients(patients, parts).items()}


def _key(file: Path) -> bytes:
    """Return the key, made once; of two that make it at once, the first one stays."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(32))
        found = file.read_bytes()
    except OSError as error:
        raise explain_os_error(error, file, doing="write") from error
    if len(found) != 32:
        raise DataError("is not the key of this work folder; names of patients would not be hidden", source=file.name)
    return found
