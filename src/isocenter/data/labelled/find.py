"""What a path holds: which form of labelled set."""

from __future__ import annotations

from pathlib import Path

from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledSet
from isocenter.data.labelled.coco import ANNOTATIONS, open_coco
from isocenter.data.labelled.decathlon import open_decathlon, open_nnunet
from isocenter.data.labelled.folders import open_class_folders, open_mask_folders
from isocenter.data.labelled.medmnist import open_medmnist
from isocenter.data.labelled.table import open_table

__all__ = ["open_labelled"]

_EXPECTED = (
    "expected one of: an nnU-Net raw folder (dataset.json, imagesTr, labelsTr), a Decathlon folder (dataset.json with "
    "'training'), a COCO folder (annotations.json, images), a MedMNIST .npz, a CSV table with a column 'image', a "
    "folder with images/ and labels/ whose files bear the same names, or a folder with one folder of images for each "
    "class"
)


def open_labelled(path: Path) -> LabelledSet:
    """Open a labelled set, whatever its form.

    Args:
        path: Folder or file.

    Raises:
        DataError: There is nothing, it is of no form that is known, or it breaks the rules of its form.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", source=path)
    if path.is_file():
        if path.suffix == ".npz":
            return open_medmnist(path)
        if path.suffix.lower() == ".csv":
            return open_table(path)
        raise DataError(f"not a labelled set; {_EXPECTED}", source=path)
    if (path / "dataset.json").is_file():
        return (
            open_nnunet(path)
            if (path / "labelsTr").is_dir() and (path / "imagesTr").is_dir() and _is_nnunet(path)
            else open_decathlon(path)
        )
    if (path / ANNOTATIONS).is_file() and (path / "images").is_dir():
        return open_coco(path)
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return open_mask_folders(path)
    if (path / "labels.csv").is_file():
        return open_table(path / "labels.csv")
    folders = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if len(folders) >= 2:
        return open_class_folders(path)
    raise DataError(f"not a labelled set; {_EXPECTED}", source=path)


def _is_nnunet(path: Path) -> bool:
    return '"channel_names"' in (path / "dataset.json").read_text("utf-8", errors="replace")
