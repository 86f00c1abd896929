"""The two folders that `dataset.json` describes: nnU-Net raw (version 2) and the Medical Segmentation Decathlon.

Source:
    Isensee et al., Nature Methods 2021 (nnU-Net, documentation/dataset_format.md); Antonelli et al., Nature
    Communications 2022 (Decathlon).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from isocenter.core.errors import DataError
from isocenter.data.labelled.cases import LabelledCase, LabelledSet, Split
from isocenter.data.labelled.files import read_image, read_label, stem

__all__ = ["mask_case", "open_decathlon", "open_nnunet", "patients_of", "whose", "with_splits"]

_SPLITS: tuple[Split, ...] = ("", "train", "validation", "test")


def _described(folder: Path) -> dict[str, Any]:
    file = folder / "dataset.json"
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("not a JSON file that can be read", source=file) from error
    if not isinstance(found, dict) or not isinstance(found.get("labels"), dict):
        raise DataError("must hold an object with 'labels'", source=file)
    return found


def patients_of(folder: Path) -> Mapping[str, str]:
    """Return the patient of each case from `patients.csv` (columns case, patient), where the folder has one."""
    file = folder / "patients.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"case", "patient"} <= set(rows[0]):
        raise DataError("needs the columns 'case' and 'patient'", source=file)
    found = {(row["case"] or "").strip(): (row["patient"] or "").strip() for row in rows}
    if "" in found or "" in found.values():
        raise DataError("a row names no case, or no patient", source=file)
    return found


def with_splits(cases: tuple[LabelledCase, ...], folder: Path) -> tuple[LabelledCase, ...]:
    """Return cases with the parts that `splits.csv` (columns case, split) names, where the folder has one.

    Raises:
        DataError: It lacks a column, or names a part that is none.
    """
    file = folder / "splits.csv"
    if not file.is_file():
        return cases
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"case", "split"} <= set(rows[0]):
        raise DataError("needs the columns 'case' and 'split'", source=file)
    parts: dict[str, Split] = {}
    for row in rows:
        part = next((s for s in _SPLITS if s == (row["split"] or "").strip().lower()), None)
        if part is None:
            raise DataError("a split must be train, validation, test or nothing", source=file)
        parts[(row["case"] or "").strip()] = part
    return tuple(replace(case, split=parts.get(case.name, "")) for case in cases)


def whose(known: Mapping[str, str], names: Sequence[tuple[str, Sequence[str]]], folder: Path) -> list[str]:
    """Return the patient of each case: by its name, or by the other names it may go by; itself where none are known.

    Args:
        known: From `patients_of`.
        names: Of each case, and what else it may be called (its file's name).
        folder: For the message.

    Raises:
        DataError: Patients are known, but not of one of the cases.
    """
    if not known:
        return [name for name, _ in names]
    found = []
    for name, others in names:
        patient = next((known[n] for n in (name, *others) if n in known), None)
        if patient is None:
            raise DataError(f"patients.csv does not name the patient of {name!r}", source=folder)
        found.append(patient)
    return found


def mask_case(
    name: str, patient: str, images: tuple[Path, ...], label: Path, classes: tuple[tuple[str, ...], tuple[int, ...]]
) -> LabelledCase:
    """Return a case whose label is a mask; nothing is read yet."""
    return LabelledCase(name, patient, partial(read_image, images), partial(read_label, label, *classes))


def _set(
    folder: Path, described: Mapping[str, Any], pairs: list[tuple[str, tuple[Path, ...], Path]], labels: dict[str, int]
) -> LabelledSet:
    named = sorted(((value, name) for name, value in labels.items() if value != 0), key=lambda pair: pair[0])
    classes = tuple(name for _, name in named), tuple(value for value, _ in named)
    known = patients_of(folder)
    who = whose(known, [(name, (label.name,)) for name, _, label in pairs], folder)
    cases = tuple(
        mask_case(name, patient, images, label, classes)
        for patient, (name, images, label) in zip(who, pairs, strict=True)
    )
    return LabelledSet(
        str(described.get("name") or folder.name),
        "segment",
        classes[0],
        with_splits(cases, folder),
        classes[1],
        bool(known),
        str(described.get("licence") or described.get("license") or ""),
    )


def open_nnunet(folder: Path) -> LabelledSet:
    """Open an nnU-Net raw folder.

    Raises:
        DataError: dataset.json breaks the form, labels are regions, or a channel's file is missing.
    """
    described = _described(folder)
    channels, ending = described.get("channel_names"), str(described.get("file_ending") or ".nii.gz")
    if not isinstance(channels, dict) or not channels:
        raise DataError("must name its channels in 'channel_names'", source=folder / "dataset.json")
    labels: dict[str, int] = {}
    for name, value in described["labels"].items():
        if not isinstance(value, int):
            raise DataError(
                f"the label {name!r} is a region of several values; regions are not learnt, give one value each",
                source=folder / "dataset.json",
            )
        labels[str(name)] = value
    if "ignore" in labels:
        raise DataError(
            "the set has an 'ignore' label, which is not learnt with; take it out, or make it a class",
            source=folder / "dataset.json",
        )
    pairs: list[tuple[str, tuple[Path, ...], Path]] = []
    for label in sorted(p for p in (folder / "labelsTr").glob(f"*{ending}") if not p.name.startswith(".")):
        name = label.name.removesuffix(ending)
        images = tuple(folder / "imagesTr" / f"{name}_{number:04d}{ending}" for number in range(len(channels)))
        missing = next((image for image in images if not image.is_file()), None)
        if missing is not None:
            raise DataError(f"the label {label.name} has no image {missing.name} in imagesTr", source=folder)
        pairs.append((name, images, label))
    return _set(folder, described, pairs, labels)


def open_decathlon(folder: Path) -> LabelledSet:
    """Open a folder of the Medical Segmentation Decathlon.

    Raises:
        DataError: dataset.json breaks the form, or a file that it names is missing or lies elsewhere.
    """
    described = _described(folder)
    training = described.get("training")
    if not isinstance(training, list) or not training:
        raise DataError("must list its cases in 'training'", source=folder / "dataset.json")
    labels = {str(name): int(value) for value, name in described["labels"].items() if str(value).isdecimal()}
    pairs: list[tuple[str, tuple[Path, ...], Path]] = []
    for entry in training:
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            raise DataError("a case in 'training' needs 'image' and 'label'", source=folder / "dataset.json")
        image, label = (_inside(folder, str(entry[key])) for key in ("image", "label"))
        pairs.append((stem(image), (image,), label))
    return _set(folder, described, pairs, labels)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"names {name!r}, which lies outside the folder", source=folder / "dataset.json")
    if not path.is_file():
        raise DataError(f"names {name!r}, which is not there", source=folder / "dataset.json")
    return path
