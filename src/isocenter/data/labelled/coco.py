"""A folder with images/ and annotations.json in the form of COCO, whose masks are run lengths.

Source:
    Lin et al., ECCV 2014; https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import DataError, GeometryError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet, Split
from isocenter.data.labelled.files import read_image, stem

__all__ = ["ANNOTATIONS", "mask_of_runs", "open_coco"]

ANNOTATIONS = "annotations.json"
_SPLITS: tuple[Split, ...] = ("", "train", "validation", "test")


def mask_of_runs(runs: Sequence[int], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the mask of run lengths down the columns, outside first.

    Raises:
        DataError: They are not as many as the picture has pixels.

    Example:
        >>> mask_of_runs([1, 3], (2, 2)).tolist()
        [[False, True], [True, True]]
    """
    lengths = np.asarray(runs, dtype=np.int64)
    if lengths.ndim != 1 or bool((lengths < 0).any()) or int(lengths.sum()) != shape[0] * shape[1]:
        raise DataError(f"run lengths do not add up to a picture of {shape[0]} x {shape[1]}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape(shape, order="F"))


def open_coco(folder: Path) -> LabelledSet:
    """Open a COCO folder; masks of several classes may overlap.

    Raises:
        DataError: annotations.json breaks the form, names a picture that is not there, or holds polygons or compressed
            run lengths, which are not read.
    """
    file = folder / ANNOTATIONS
    try:
        found = json.loads(file.read_text("utf-8"))
        images, annotations, categories = (list(found[key]) for key in ("images", "annotations", "categories"))
        numbers = {int(c["id"]): n for n, c in enumerate(sorted(categories, key=lambda c: int(c["id"])), start=1)}
        names = tuple(str(c["name"]) for c in sorted(categories, key=lambda c: int(c["id"])))
        of_image: dict[int, list[tuple[int, Sequence[int], tuple[int, int]]]] = {}
        for one in annotations:
            of_image.setdefault(int(one["image_id"]), []).append((numbers[int(one["category_id"])], *_runs(one, file)))
        cases = tuple(_case(folder, image, of_image.get(int(image["id"]), []), names) for image in images)
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("is not a file of COCO annotations with images and categories", source=file) from error
    licences = {str(entry.get("name", "")) for entry in found.get("licenses") or [] if isinstance(entry, dict)}
    info = found.get("info") if isinstance(found.get("info"), dict) else {}
    known = all("patient" in image for image in images)
    licence = "; ".join(sorted(licences - {""}))
    return LabelledSet(
        str(info.get("description") or folder.name),
        "segment",
        names,
        cases,
        tuple(range(1, len(names) + 1)),
        known,
        licence,
    )


def _runs(annotation: dict[str, Any], file: Path) -> tuple[Sequence[int], tuple[int, int]]:
    held = annotation["segmentation"]
    if not isinstance(held, dict) or not isinstance(held["counts"], list):
        raise DataError("holds polygons or compressed run lengths; uncompressed run lengths are read", source=file)
    height, width = (int(n) for n in held["size"])
    return [int(n) for n in held["counts"]], (height, width)


def _case(
    folder: Path, image: dict[str, Any], held: list[tuple[int, Sequence[int], tuple[int, int]]], names: tuple[str, ...]
) -> LabelledCase:
    path = folder / "images" / str(image["file_name"])
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise DataError(
            f"names the picture {str(image['file_name'])!r}, which is not there", source=folder / ANNOTATIONS
        )
    name, split = stem(path), str(image.get("split", ""))
    return LabelledCase(
        name,
        str(image.get("patient") or name),
        partial(read_image, (path,)),
        partial(_mask, held, names, folder / ANNOTATIONS),
        split=next((s for s in _SPLITS if s == split), ""),
    )


def _mask(
    held: list[tuple[int, Sequence[int], tuple[int, int]]], names: tuple[str, ...], file: Path, like: Geometry
) -> Mask:
    stack = np.zeros((len(names), *like.shape), dtype=bool)
    for number, runs, shape in held:
        if (1, *shape) != like.shape:
            raise GeometryError(f"a mask of {shape} belongs to a picture of {like.shape[1:]}", source=file)
        stack[number - 1, 0] |= mask_of_runs(runs, shape)
    return Mask(stack, like, tuple(Segment(n, name[:64]) for n, name in enumerate(names, start=1)))
