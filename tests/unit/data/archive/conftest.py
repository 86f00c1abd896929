"""A small hospital: DICOM of two people, volumes, pictures with a table, reports, records, and what lies about."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from pydicom import Dataset

from isocenter.core import Geometry, Image
from isocenter.testing.dicom_phantom import write_ct_series

KEY = "a key for tests alone"
CANARY = "Zyxwvut"


def series(
    folder: Path, name: str, *, patient: str, person: str, birth: str = "19500102", accession: str = "", seed: int = 0,
    date: str = "20240517", flip: bool = False,
) -> list[Path]:  # fmt: skip
    """Write a CT series of a person."""
    geometry = Geometry.axial((3, 4, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10.0, 20.0, 30.0))
    values = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5) + seed
    image = Image(values[:, :, ::-1].copy() if flip else values, geometry)

    def change(_: int, ds: Dataset) -> Dataset:
        ds.PatientID, ds.PatientName, ds.PatientBirthDate = patient, f"{CANARY}^{person}", birth
        ds.AccessionNumber, ds.StudyDate = accession, date
        ds.StudyDescription, ds.SeriesDescription = f"CT chest {CANARY}", "AX 2.5"
        ds.InstitutionName, ds.ReferringPhysicianName = f"{CANARY} Hospital", f"Dr^{CANARY}"
        return ds

    return write_ct_series(folder, image, seed=seed, name=name, change=change)


def table(file: Path, rows: list[dict[str, object]], encoding: str = "utf-8") -> None:
    """Write a CSV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def picture(file: Path, seed: int) -> None:
    """Write a grey PNG that says something of a person in its text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Comment", f"{CANARY} was here")
    array = np.random.default_rng(seed).integers(0, 255, (12, 16), dtype=np.uint8)
    PIL.Image.fromarray(array).save(file, pnginfo=info)


def volume(file: Path, seed: int) -> None:
    """Write an oblique NIfTI volume that says something of a person in its header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.array([[-0.7, 0.1, 0, 5], [0.1, 0.8, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1]], dtype=float)
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3) + seed, affine)
    image.header["descrip"] = CANARY.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", CANARY.encode()))
    nibabel.save(image, file)


def build(root: Path) -> Path:
    """Write everything below a folder and return it."""
    series(root / "pacs" / "a", "one", patient="P100", person="Ann", accession="ACC1")
    series(root / "pacs" / "b", "two", patient="P200", person="Bob", birth="19610203", accession="ACC2", seed=1)
    table(
        root / "pacs" / "reports.csv",
        [
            {"patient_id": "P100", "accession": "ACC1", "report": f"FINDINGS: A nodule of 8 mm. Read by Dr. {CANARY}."},
            {"patient_id": "P200", "accession": "ACC2", "report": "FINDINGS: Clear lungs."},
        ],
    )
    table(
        root / "pacs" / "labs.csv", [{"patient": "P100", "crp [mg/L]": "12.5"}, {"patient": "P200", "crp [mg/L]": ""}]
    )
    for number in range(3):
        picture(root / "us_set" / "images" / f"case{number}.png", number)
        picture(root / "us_set" / "masks" / f"case{number}_mask.png", number + 10)
    rows = [
        {"image": f"images/case{n}.png", "patient": f"W{n // 2}", "label": label, "split": "train"}
        for n, label in enumerate(("benign", "malignant", "benign"))
    ]
    table(root / "us_set" / "labels.csv", rows)
    (root / "bids").mkdir(parents=True)
    (root / "bids" / "dataset_description.json").write_text('{"Name": "small"}')
    volume(root / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", 0)
    volume(root / "bids" / "sub-02" / "anat" / "sub-02_T1w.nii.gz", 5)
    np.savez(
        root / "med.npz",
        train_images=np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
        train_labels=np.array([[0], [1], [1]]),
        test_images=np.arange(16, dtype=np.uint8).reshape(1, 4, 4),
        test_labels=np.array([[0]]),
    )
    inner = series(root / "to_zip", "three", patient="P100", person="Ann", accession="ACC3", seed=2, date="20240601")
    with zipfile.ZipFile(root / "disc.zip", "w") as archive:
        for path in inner:
            archive.write(path, f"IMAGES/{path.name}")
            path.unlink()
    (root / "to_zip").rmdir()
    (root / "empty.dcm").write_bytes(b"")
    (root / "LICENSE").write_text("Permission is hereby granted, free of charge, to any person")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "gone.dcm").symlink_to(root / "nowhere.dcm")
    return root


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small hospital that nobody may write to."""
    return build(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
