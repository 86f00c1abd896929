"""Real images with masks for the interactive benchmark: nothing here was seen in training (there, nothing real was)."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as Picture

from isocenter.evaluate import interactive

SEED = 20261123
MODALITIES = {
    "CXR lungs": "DX",
    "MR hippocampus": "MR",
    "CT sarcoma": "CT",
    "MR sarcoma": "MR",
    "PET sarcoma": "PT",
    "MedScribble": "CT or MR",
    "CT organs (model output)": "CT",
    "Fundus vessels": "OP",
}


@dataclass(frozen=True, eq=False)
class Case:
    """One plane, or one volume, and the thing to be found in it."""

    group: str
    patient: str
    image: np.ndarray
    target: np.ndarray
    development: bool
    name: str
    spacing_mm: tuple[float, float, float] | None = None

    def measured(self) -> interactive.Case:
        """Return the case as the harness takes it: a plane as one slice, its spacing as not known."""
        deep = self.image.ndim == 3
        return interactive.Case(
            self.name,
            self.group,
            MODALITIES[self.group],
            self.patient,
            self.image if deep else self.image[None],
            self.target if deep else self.target[None],
            self.spacing_mm if deep else None,
        )


def is_development(patient: str) -> bool:
    """Tell whether a patient is of the half that settings were looked at on; by a hash of the name, so it stays."""
    return zlib.crc32(patient.encode()) % 2 == 0


def _volume(path: Path) -> np.ndarray:
    """Return voxels as (z, y, x)."""
    return np.asarray(nib.load(path).dataobj).T  # type: ignore[attr-defined]


def _spacing(path: Path) -> tuple[float, float, float]:
    """Return the distances between voxels along (z, y, x), mm."""
    x, y, z = (float(v) for v in nib.load(path).header.get_zooms()[:3])  # type: ignore[attr-defined]
    return z, y, x


def _case(
    group: str,
    patient: str,
    image: np.ndarray,
    target: np.ndarray,
    *,
    name: str,
    spacing_mm: tuple[float, float, float] | None = None,
) -> Case:
    mask = np.asarray(target, dtype=bool)
    return Case(group, patient, image.astype(np.float32), mask, is_development(patient), name, spacing_mm)


def _largest_slice(mask: np.ndarray) -> int:
    return int(mask.sum(axis=(1, 2)).argmax())


def chest_xray(root: Path) -> Iterator[Case]:
    """Both lungs as one target, human polygons; patients from the set's own table."""
    folder = root / "cxr_covid_lungmask"
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = {Path(row["image"]).stem: row["patientid"] for row in rows}
    for mask_file in sorted((folder / "lung_masks").glob("*.png")):
        image_file = folder / "images" / mask_file.name
        image = np.asarray(Picture.open(image_file).convert("L"))
        mask = np.asarray(Picture.open(mask_file).convert("L")) > 0
        if image.shape == mask.shape and mask.any():
            patient = f"cxr {names.get(mask_file.stem, mask_file.stem)}"
            yield _case("CXR lungs", patient, image, mask, name=mask_file.stem)


def hippocampus(root: Path) -> Iterator[Case]:
    """Whole hippocampus (anterior and posterior), as volumes."""
    folder = root / "mr_hippocampus_msd"
    for file in sorted((folder / "labels").glob("*.nii.gz")):
        yield _case(
            "MR hippocampus",
            f"hippocampus {file.name[:15]}",
            _volume(folder / "images" / file.name),
            _volume(file) > 0,
            name=file.name[:15],
            spacing_mm=_spacing(file),
        )


def soft_tissue_sarcoma(root: Path) -> Iterator[Case]:
    """Gross tumour volume in CT, T1 MR and PET, as volumes."""
    for folder in sorted((root / "ct_mr_pet_sts" / "nifti").iterdir()):
        for kind, group in (("CT", "CT sarcoma"), ("MR_T1", "MR sarcoma"), ("PET", "PET sarcoma")):
            yield _case(
                group,
                folder.name,
                _volume(folder / f"{kind}_image.nii.gz"),
                _volume(folder / f"{kind}_mask.nii.gz") > 0,
                name=folder.name,
                spacing_mm=_spacing(folder / f"{kind}_mask.nii.gz"),
            )


def medscribble(root: Path) -> Iterator[Case]:
    """Bladder and cervix CT, cardiac MR: single slices."""
    for file in sorted((root / "interactive_medscribble").glob("*.npz")):
        with np.load(file) as data:
            yield _case("MedScribble", file.stem, data["img"], data["seg"] > 0, name=file.stem)


def body_ct(root: Path) -> Iterator[Case]:
    """Up to twenty structures in one CT; the reference is another model's output, not a person's."""
    folder = root / "ct_mr_totalsegmentator"
    image, labels = _volume(folder / "example_ct_sm.nii.gz"), _volume(folder / "example_seg.nii.gz")
    sizes = np.bincount(labels.astype(int).ravel())
    for label in [int(i) for i in np.argsort(-sizes, kind="stable") if i and sizes[i] > 300][:20]:
        mask = labels == label
        half = is_development(f"totalsegmentator {label}")
        spacing = _spacing(folder / "example_seg.nii.gz")
        name = f"label {label}"
        yield Case("CT organs (model output)", "totalsegmentator", image.astype(np.float32), mask, half, name, spacing)


def fundus(root: Path) -> Iterator[Case]:
    """Vessels of the retina, first observer, green channel, shrunk to 480 pixels."""
    for file in sorted((root / "fundus_chasedb1").glob("*_1stHO.png")):
        name = file.name.removesuffix("_1stHO.png")
        image = Picture.open(file.with_name(f"{name}.jpg")).split()[1]
        small = image.resize((image.width // 2, image.height // 2), Picture.Resampling.BOX)
        mask = Picture.open(file).convert("L").resize(small.size, Picture.Resampling.BOX)
        yield _case("Fundus vessels", f"chase {name[:-1]}", np.asarray(small), np.asarray(mask) > 127, name=name)


COMPACT = (
    "CXR lungs",
    "MR hippocampus",
    "CT sarcoma",
    "MR sarcoma",
    "PET sarcoma",
    "MedScribble",
    "CT organs (model output)",
)


def volumes(root: Path, *, per_group: int, development: bool | None = None) -> list[Case]:
    """Return volumes, at most so many of each group, chosen by a fixed seed."""
    found: dict[str, list[Case]] = {}
    for source in (hippocampus, soft_tissue_sarcoma, body_ct):
        for case in source(root):
            if development is None or case.development == development:
                found.setdefault(case.group, []).append(case)
    return [
        cases[i]
        for group, cases in sorted(found.items())
        for i in np.random.default_rng([SEED, zlib.crc32(group.encode())]).permutation(len(cases))[:per_group]
    ]


def planes(root: Path, *, per_group: int, development: bool | None = None) -> list[Case]:
    """Return planes, at most so many of each group, chosen by a fixed seed.

    Args:
        root: The folder of data sets.
        per_group: Most planes of one group.
        development: True for that half, False for the other, None for both.
    """
    found: dict[str, list[Case]] = {}
    for source in (chest_xray, hippocampus, soft_tissue_sarcoma, medscribble, body_ct, fundus):
        for case in source(root):
            if development is None or case.development == development:
                found.setdefault(case.group, []).append(case)
    chosen: list[Case] = []
    for group, cases in sorted(found.items()):
        rng = np.random.default_rng([SEED, zlib.crc32(group.encode())])
        order = rng.permutation(len(cases))
        picks = [cases[i] for i in order]
        repeats = max(1, min(3, per_group // max(1, len(picks)))) if picks[0].target.ndim == 3 else 1
        for case in picks[: max(1, per_group // repeats)]:
            chosen += _slices(case, repeats) if case.target.ndim == 3 else [case]
    return chosen


def _slices(case: Case, count: int) -> list[Case]:
    """Return the slice where the target is largest, and others where it has a third of that or more."""
    areas = case.target.sum(axis=(1, 2))
    good = np.flatnonzero(areas >= max(6, areas.max() / 3))
    if not len(good):
        return []
    middle = [_largest_slice(case.target)]
    others = [int(good[round(f * (len(good) - 1))]) for f in (0.25, 0.75)]
    return [
        Case(case.group, case.patient, case.image[z], case.target[z], case.development, f"{case.name} slice {z}")
        for z in dict.fromkeys(middle + others[: count - 1])
    ]
