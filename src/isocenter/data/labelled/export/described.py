"""The forms that `dataset.json` describes, nnU-Net and the Decathlon, and Isocenter's own folders.

Source:
    Isensee et al., Nature Methods 2021 (nnU-Net, documentation/dataset_format.md); Antonelli et al., Nature
    Communications 2022 (Decathlon).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from isocenter.core import Image, Quantity
from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.export.form import (
    ExportOptions,
    Ready,
    as_labelmap,
    ending_of,
    folds_of,
    is_picture,
    write_image,
    write_mask,
    write_patients,
)

__all__ = ["Decathlon", "Folders", "NnUnet"]

_WORDS = {"MR": "MRI", "DX": "X-ray", "CR": "X-ray", "US": "Ultrasound", "PT": "PET"}


class Folders:
    """images/, labels/, classes.txt, patients.csv, splits.csv."""

    def __init__(self, labelled: LabelledSet, folder: Path, _options: ExportOptions) -> None:
        self._labelled, self._folder = labelled, folder
        for name in ("images", "labels"):
            (folder / name).mkdir()

    def add(self, ready: Ready) -> None:
        """Write a case."""
        ending = ".png" if is_picture(ready.image) else ".nii.gz"
        write_image(ready.image, self._folder / "images" / f"{ready.case.name}{ending}")
        write_mask(as_labelmap(ready), self._folder / "labels" / f"{ready.case.name}{ending}")

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        (self._folder / "classes.txt").write_text("".join(f"{name}\n" for name in self._labelled.classes), "utf-8")
        write_patients(cases, self._folder)
        return ()


class _Described:
    """What both forms share: pictures and volumes are not mixed, and all cases have as many channels."""

    def __init__(self, labelled: LabelledSet, folder: Path, _options: ExportOptions) -> None:
        self._labelled, self._folder = labelled, folder
        self._first: Image | None = None
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()

    def _checked(self, ready: Ready) -> Image:
        first = self._first or ready.image
        if len(ready.image.array) != len(first.array):
            raise DataError(f"it has {len(ready.image.array)} channels, the first case {len(first.array)}")
        if is_picture(ready.image) != is_picture(first):
            raise DataError("pictures and volumes are not held in one set of this form; export them apart")
        self._first = first
        return first

    def _place(self, case: LabelledCase, what: str) -> Path:
        place = self._folder / f"{what}{'Ts' if case.split == 'test' else 'Tr'}"
        place.mkdir(exist_ok=True)
        return place

    def _channels(self) -> list[str]:
        image = self._first
        if image is None:
            return ["unknown"]
        if image.quantity is Quantity.RGB:
            return ["R", "G", "B"]
        # nnU-Net scales a channel that is called CT by what it knows of HU.
        name = "CT" if image.quantity is Quantity.HU else _WORDS.get(image.modality, image.modality or "unknown")
        return [name] if len(image.array) == 1 else [f"{name} {n}" for n in range(1, len(image.array) + 1)]


class NnUnet(_Described):
    """nnU-Net raw, version 2: a file for each channel."""

    def add(self, ready: Ready) -> None:
        """Write a case."""
        ending = ending_of([self._checked(ready)])
        images, labels = (self._place(ready.case, what) for what in ("images", "labels"))
        for number, channel in enumerate(ready.image.array):
            kind = Quantity.ARBITRARY if ready.image.quantity is Quantity.RGB else ready.image.quantity
            one = replace(ready.image, array=channel[None], quantity=kind)
            write_image(one, images / f"{ready.case.name}_{number:04d}{ending}")
        write_mask(as_labelmap(ready), labels / f"{ready.case.name}{ending}")

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        taught = [c for c in cases if c.split != "test"]
        ending = ".nii.gz" if self._first is None else ending_of([self._first])
        document = {
            "name": self._labelled.name,
            "channel_names": {str(number): name for number, name in enumerate(self._channels())},
            "labels": {"background": 0, **{name: n for n, name in enumerate(self._labelled.classes, start=1)}},
            "numTraining": len(taught),
            "file_ending": ending,
            "licence": self._labelled.licence,
        }
        (self._folder / "dataset.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        write_patients(cases, self._folder)
        folds = folds_of(taught)
        notes = ["nnU-Net takes the folder's name for the set: call it DatasetNNN_Name, below nnUNet_raw"]
        if folds:
            (self._folder / "splits_final.json").write_text(json.dumps(folds, indent=1) + "\n", "utf-8")
            notes.append(
                "copy splits_final.json to the set's folder below nnUNet_preprocessed after planning, or nnU-Net cuts "
                "its folds between cases, not patients"
            )
        return notes


class Decathlon(_Described):
    """The form of the Medical Segmentation Decathlon: channels along a fourth axis."""

    def add(self, ready: Ready) -> None:
        """Write a case."""
        self._checked(ready)
        images, labels = (self._place(ready.case, what) for what in ("images", "labels"))
        write_image(ready.image, images / f"{ready.case.name}.nii.gz")
        write_mask(as_labelmap(ready), labels / f"{ready.case.name}.nii.gz")

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        taught, test = [c for c in cases if c.split != "test"], [c for c in cases if c.split == "test"]
        channels = self._channels()
        document = {
            "name": self._labelled.name,
            "description": "",
            "reference": "",
            "licence": self._labelled.licence,
            "release": "",
            "tensorImageSize": "3D" if len(channels) == 1 else "4D",
            "modality": {str(number): name for number, name in enumerate(channels)},
            "labels": {"0": "background", **{str(n): c for n, c in enumerate(self._labelled.classes, start=1)}},
            "numTraining": len(taught),
            "numTest": len(test),
            "training": [
                {"image": f"./imagesTr/{c.name}.nii.gz", "label": f"./labelsTr/{c.name}.nii.gz"} for c in taught
            ],
            "test": [f"./imagesTs/{c.name}.nii.gz" for c in test],
        }
        (self._folder / "dataset.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        write_patients(cases, self._folder)
        return ["test labels lie in labelsTs, which the Decathlon itself does not have"] if test else []
