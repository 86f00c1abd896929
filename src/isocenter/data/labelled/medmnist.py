"""MedMNIST archives: `train_images`, `train_labels` and so on in one .npz.

Source:
    Yang et al., MedMNIST v2, Scientific Data 2023.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet, Split

__all__ = ["open_medmnist"]

_PARTS: tuple[tuple[str, Split], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))


def open_medmnist(path: Path) -> LabelledSet:
    """Open a MedMNIST archive: one class a case, or several findings each 0 or 1.

    The archive names neither classes nor patients: classes are numbered, every image counts as a patient.

    Raises:
        DataError: Not such an archive, or images and labels differ in number.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError("not an .npz archive that can be read", source=path) from error
    parts = [(name, split) for name, split in _PARTS if f"{name}_images" in arrays and f"{name}_labels" in arrays]
    if not parts or parts[0][0] != "train":
        raise DataError("holds no train_images and train_labels, as a MedMNIST archive does", source=path)
    labels = {name: arrays[f"{name}_labels"].reshape(len(arrays[f"{name}_labels"]), -1) for name, _ in parts}
    width = labels["train"].shape[1]
    highest = max(int(found.max()) for found in labels.values() if found.size)
    cases = []
    for name, split in parts:
        images, found = arrays[f"{name}_images"], labels[name]
        if len(images) != len(found) or found.shape[1] != width or images.dtype.kind not in "uif":
            raise DataError(f"{name}_images and {name}_labels do not belong together", source=path)
        for number, (pixels, label) in enumerate(zip(images, found, strict=True)):
            target = int(label[0]) if width == 1 else tuple(int(v) for v in label)
            case = f"{name} {number}"
            cases.append(LabelledCase(case, case, partial(_image, pixels), target=target, split=split))
    classes = (
        tuple(f"class {n}" for n in range(highest + 1)) if width == 1 else tuple(f"finding {n}" for n in range(width))
    )
    return LabelledSet(path.stem, "classify" if width == 1 else "multilabel", classes, tuple(cases))


def _image(pixels: Shaped[np.ndarray, "..."]) -> Image:
    """Return an array of MedMNIST as an image: (y, x), (y, x, 3) for colour, or (z, y, x)."""
    if pixels.ndim == 2:
        array, quantity = pixels[None, None], Quantity.ARBITRARY
    elif pixels.shape[-1] == 3:
        array, quantity = np.moveaxis(pixels, -1, 0)[:, None], Quantity.RGB
    else:
        array, quantity = pixels[None], Quantity.ARBITRARY
    shape = (array.shape[1], array.shape[2], array.shape[3])
    return Image(np.ascontiguousarray(array), Geometry(shape), quantity)
