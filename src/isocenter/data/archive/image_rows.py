"""Files that are not DICOM become rows: volumes, pictures, and arrays of many images."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from isocenter.core.errors import PixelError
from isocenter.core.image import Image
from isocenter.data.archive.datasets import Belonging
from isocenter.data.archive.naming import mask_name, named, one_person
from isocenter.data.archive.record_rows import Speaker, number_of, said_of
from isocenter.data.deidentify import KnownIdentity, Pseudonyms
from isocenter.data.images import read_nifti, read_nrrd, read_picture

__all__ = ["Case", "arrays_of", "case_of", "clean_arrays", "image_row", "label_rows", "read_plain"]

_SEX = {"m": "M", "male": "M", "1": "", "f": "F", "female": "F", "w": "F", "o": "O", "other": "O"}
_ARRAY = re.compile(r"^(?:(train|val|validation|test)_)?(images?|imgs?|segs?|masks?|labels?|scribbles?)$")
_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_MASKS = ("seg", "segs", "mask", "masks", "scribble", "scribbles")
_MODALITIES = {
    "x-ray": "DX", "xray": "DX", "cr": "CR", "dx": "DX", "ct": "CT", "mr": "MR", "mri": "MR", "us": "US",
    "ultrasound": "US", "pt": "PT", "pet": "PT", "op": "OP", "mg": "MG", "nm": "NM",
}  # fmt: skip
_MANY = "|"


@dataclass(frozen=True)
class Case:
    """What a file that is not DICOM is of.

    Args:
        patient_key: The pseudonym.
        told_by: "table", "folder" or "name".
        study_uid: Of all files of the case.
        name: Of the case, for the pseudonyms of its files; never kept.
        role: Image or mask.
        modality: "" where nothing says it.
        modality_from: "table", "name" or "".
        sex: F, M, O or "".
        age_years: None where nothing says it.
        split: The part of its set that its makers put it into.
    """

    patient_key: str
    told_by: str
    study_uid: str
    name: str
    role: str
    modality: str
    modality_from: str
    sex: str
    age_years: float | None
    split: str


def case_of(where: Belonging, names: Pseudonyms, *, member: str = "", split: str = "") -> Case:
    """Tell what a file, or one image of a file of many, is of.

    Args:
        where: What is known from where it lies.
        names: Makes pseudonyms.
        member: Of an image in a file of many.
        split: Of the same.
    """
    said = named(where.inner, where.root_name)
    row = where.row
    case = f"{said.case} {member}".strip()
    values = {k.strip().lower(): v.strip() for k, v in row.values.items()} if row is not None else {}
    modality, told = said.modality, "name" if said.modality else ""
    if values.get("modality", "").lower() in _MODALITIES:
        modality, told = _MODALITIES[values["modality"].lower()], "table"
    if row is not None and row.patient:
        key, told_by = names.patient(where.domain, row.patient), "table"
    else:
        person = one_person(said.case, modality)
        told_by = "folder" if said.case in where.inner.split("/")[:-1] else "name"
        # The name of a file is nobody's identifier: "12.png" is of no patient whom DICOM, or a message, calls "12".
        whose = where.domain or (f"set {where.root_name}" if told_by == "name" else "")
        key = names.patient(whose, f"{person} {member}".strip())
    return Case(
        key,
        told_by,
        names.uid(f"study {where.domain} {where.root_name} {case} {said.session}"),
        f"{where.domain} {where.root_name} {where.inner} {member}",
        "mask" if where.mask_of_row else said.role,
        modality,
        told,
        next((_SEX.get(v.lower(), "") for k, v in values.items() if k in ("sex", "gender", "patient gender")), ""),
        next((_years(v) for k, v in values.items() if k in ("age", "patient age", "age_years")), None),
        split or (row.split if row is not None else ""),
    )


def image_row(case: Case, names: Pseudonyms, form: str) -> dict[str, Any]:
    """Return what the row of a file that is not DICOM holds whatever its pixels."""
    uid = names.uid(f"instance {case.name}")
    return {
        "sop_uid": uid,
        "series_uid": names.uid(f"series {case.name}"),
        "study_uid": case.study_uid,
        "patient_key": case.patient_key,
        "patient_from": case.told_by,
        "sex": case.sex or None,
        "age_years": case.age_years,
        "form": form,
        "role": case.role,
        "modality": case.modality or None,
        "modality_from": case.modality_from or None,
    }


def pixel_facts(image: Image) -> dict[str, Any]:
    """Return what the row of an image holds of its pixels."""
    geometry = image.geometry
    channels, z, y, x = image.array.shape
    facts: dict[str, Any] = {
        "rows": y,
        "columns": x,
        "frames": z,
        "samples": channels,
        "bits_stored": image.array.dtype.itemsize * 8,
        "pixel_sha256": hashlib.sha256(
            f"{image.array.dtype.str} {image.array.shape}".encode() + np.ascontiguousarray(image.array).tobytes()
        ).hexdigest(),
    }
    if geometry.affine is not None:
        facts["placed"] = " ".join(f"{value:z.3f}" for value in geometry.affine[:3].ravel().tolist())
        spacing = geometry.spacing_mm
        if spacing is not None:
            facts |= {
                "pixel_spacing_y_mm": round(float(spacing[1]), 4),
                "pixel_spacing_x_mm": round(float(spacing[2]), 4),
                "slice_thickness_mm": round(float(spacing[0]), 4) if z > 1 else None,
                "spacing_between_slices_mm": round(float(spacing[0]), 4) if z > 1 else None,
            }
        normal = np.abs(np.cross(geometry.affine[:3, 1], geometry.affine[:3, 2]))
        facts["orientation"] = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    return facts


def read_plain(path: Path, kind: str, name: str) -> Image:
    """Read a file that is not DICOM.

    Raises:
        DataError: It can't be read.
    """
    if kind == "nifti":
        return read_nifti(path, name=name)
    if kind == "picture":
        return read_picture(path, name=name)
    return read_nrrd(path, name=name)


def label_rows(case: Case, row: dict[str, Any], where: Belonging, speaker: Speaker) -> Iterator[dict[str, Any]]:
    """Return what a table says of a file, a row for each column, cleaned; of a mask what it is of."""
    base = {k: row[k] for k in ("patient_key", "study_uid", "series_uid", "sop_uid")}
    if case.role == "mask":
        yield {**base, "name": mask_name(where.inner), "value": "", "kind": "mask", "form": row["form"]}
    if where.row is None or case.role == "mask":
        return
    key = row["patient_key"]
    known = KnownIdentity(where.row.words, (where.row.patient,) if where.row.patient else (), patient_key=key)
    for name, value in where.row.values.items():
        for one in value.split(_MANY):
            yield {**base, **said_of(name, one.strip(), speaker, known, key), "form": "table"}


def clean_arrays(content: bytes, name: str) -> bytes:
    """Return a `.npz` file with its images, masks and labels alone, as numbers; the same for the same arrays.

    Raises:
        PixelError: As `arrays_of`, or an array of these names holds something else than numbers.
    """
    out = BytesIO()
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays, zipfile.ZipFile(out, "w") as packed:
            for key in sorted(key for key in arrays.files if _ARRAY.match(key)):
                if arrays[key].dtype.kind not in "biuf":
                    raise PixelError("holds words where numbers of images, masks or labels belong", source=name)
                member = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                with packed.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, arrays[key], allow_pickle=False)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, PixelError):
            raise
        raise PixelError("is damaged, or holds objects that are not read (they could run code)", source=name) from error
    return out.getvalue()


def arrays_of(content: bytes, name: str) -> Iterator[tuple[str, str, str, Shaped[np.ndarray, "..."], str]]:
    """Yield the images of a `.npz` file: member, split, role, array, class.

    Args:
        content: The file: MedMNIST's (`train_images`, `train_labels`, ...), or one of an image and its masks.
        name: For messages.

    Raises:
        PixelError: It is damaged, holds Python objects, or no array of images.
    """
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            found = {key: _ARRAY.match(key) for key in arrays.files}
            if not any(match and match[2].startswith(("im",)) for match in found.values()):
                raise PixelError("holds no array called image or images", source=name)
            for key, match in sorted(found.items()):
                if match is None or (match[2].startswith("label") and match[1]):
                    continue
                split = _PARTS.get(match[1] or "", "")
                role = "mask" if match[2] in _MASKS or match[2].startswith("label") else "image"
                array = arrays[key]
                if not match[1] or match[2] in ("image", "img"):
                    yield key, split, role, array, ""
                    continue
                labels = arrays[f"{match[1]}_labels"] if f"{match[1]}_labels" in arrays.files else None
                for number, one in enumerate(array):
                    told = "" if labels is None else _MANY.join(str(v) for v in np.atleast_1d(labels[number]))
                    yield f"{key}/{number}", split, role, one, told
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, PixelError):
            raise
        raise PixelError("is damaged, or holds objects that are not read (they could run code)", source=name) from error


def _years(text: str) -> float | None:
    number = number_of(text)
    return None if number is None or not 0 <= number < 150 else min(90.0, number)
