"""Copies of one image that contradict each other in side, place or scale are held back; copies that agree are one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from isocenter.data.archive import rows
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.data.images import read_nifti
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import KEY, series

NAMES = Pseudonyms(KEY.encode())

CONTRARY: dict[str, list[dict[str, Any]]] = {
    "side": [{"ImageLaterality": "R"}, {"ImageLaterality": "L"}],
    "old side": [{"Laterality": "R"}, {"Laterality": "L"}],
    "spacing": [{"PixelSpacing": [0.1, 0.1]}, {"PixelSpacing": [0.2, 0.2]}],
    "place along the normal": [{"ImagePositionPatient": [0, 0, 5]}, {"ImagePositionPatient": [0, 0, -5]}],
    "place in the plane": [{"ImagePositionPatient": [10, 0, 5]}, {"ImagePositionPatient": [-10, 0, 5]}],
    # Turned half round in its plane: the same normal, position and word, and left where right was.
    "turned round": [
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]},
    ],
    "mirrored": [
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]},
    ],
    "sides of a radiograph": [
        {"ImageOrientationPatient": None, "PatientOrientation": ["L", "F"]},
        {"ImageOrientationPatient": None, "PatientOrientation": ["R", "F"]},
    ],
    "frame of reference": [{"FrameOfReferenceUID": "1.2.3"}, {"FrameOfReferenceUID": "1.2.4"}],
    "rows and columns": [{"Rows": 4, "Columns": 5}, {"Rows": 5, "Columns": 4}],
    "scale": [{"RescaleIntercept": -1024}, {"RescaleIntercept": 0}],
    "black and white": [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME2"},
    ],
}
AGREEING: dict[str, list[dict[str, Any]]] = {
    "where it came from": [{"RetrieveAETitle": "ONE"}, {"RetrieveAETitle": "TWO"}],
    "window": [{"WindowCenter": 40, "WindowWidth": 400}, {"WindowCenter": 50, "WindowWidth": 350}],
    "side not said": [{}, {"ImageLaterality": "L"}],
    "how numbers are written": [
        {"ImagePositionPatient": ["1.0", "2.50", "-0.00001"]},
        {"ImagePositionPatient": ["1", "2.5", "0"]},
    ],
    "scale by default": [{"RescaleSlope": None, "RescaleIntercept": None}, {"RescaleSlope": 1, "RescaleIntercept": 0}],
    "description": [{"SeriesDescription": "AX 2.5"}, {"SeriesDescription": "AX 2.5 copied"}],
}


def copies(root: Path, cases: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write two copies of an image of each case, each with its own changes; return the folders of first and second."""
    for case, changes in cases.items():
        for number, values in enumerate(changes):
            first, *others = series(root / f"copy{number}" / case, case, patient=f"P {case}", person="Ann")
            for path in others:
                path.unlink()
            ds = pydicom.dcmread(first)
            for keyword, value in values.items():
                if value is not None:
                    setattr(ds, keyword, value)
                elif keyword in ds:
                    del ds[keyword]
            ds.save_as(first)
    return [root / "copy0", root / "copy1"]


@pytest.mark.parametrize("pixels", [True, False], ids=["copies", "headers"])
def test_contrary_copies_are_both_kept_and_held_back(tmp_path: Path, pixels: bool) -> None:
    folders = copies(tmp_path, CONTRARY)
    made = ingest([str(f) for f in folders], tmp_path / "a", workers=1, pixels=pixels)
    catalog = open_catalog(tmp_path / "a")
    held = catalog.sql("SELECT patient_key, count(*) AS n FROM instances WHERE held IS NOT NULL GROUP BY 1").to_pylist()
    missed = [case for case in CONTRARY if {"patient_key": NAMES.patient("", f"P {case}"), "n": 2} not in held]
    assert not missed
    assert (made.conflicts, made.tables["instances"].rows, made.clean) == (2 * len(CONTRARY), 2 * len(CONTRARY), False)
    ((_, reason, count, _),) = [p for p in problems_of(tmp_path / "a") if p[0] == "conflict"]
    assert (count, "another side, place or scale" in reason) == (2 * len(CONTRARY), True)
    assert catalog.find().num_rows == catalog.find(level="studies").num_rows == 0
    for folder in folders[::-1]:
        again = ingest([str(folder)], tmp_path / "b", workers=1, pixels=pixels)
    assert again.catalog_hash == made.catalog_hash
    if pixels:  # who asks for it all the same is told
        (study,) = (s for s in catalog.studies(held=True) if s.patient_key == NAMES.patient("", "P side"))
        assert len(study.files) == 2
        assert any("same SOP Instance UID" in note for note in study.read().notes)


def test_copies_that_agree_are_one(tmp_path: Path) -> None:
    folders = copies(tmp_path, AGREEING)
    made = ingest([str(f) for f in folders], tmp_path / "a", workers=1)
    catalog = open_catalog(tmp_path / "a")
    assert catalog.sql("SELECT patient_key FROM instances WHERE held IS NOT NULL").num_rows == 0
    assert (made.conflicts, made.tables["instances"].rows) == (0, len(AGREEING))
    for folder in folders[::-1]:
        again = ingest([str(folder)], tmp_path / "b", workers=1)
    assert again.catalog_hash == made.catalog_hash
    # Of two that agree, the one that says more is told.
    assert catalog.sql("SELECT laterality FROM instances WHERE laterality IS NOT NULL").num_rows == 1


def test_a_volume_whose_copy_lies_elsewhere_is_held_back(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    for number, x in enumerate((1.0, -1.0)):
        folder = tmp_path / f"v{number}" / "set"
        folder.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([x, 1.0, 2.0, 1.0])), folder / "case7x.nii.gz")
        assert read_nifti(folder / "case7x.nii.gz").array.shape == (1, 3, 4, 5)
    made = ingest([str(tmp_path / "v0" / "set"), str(tmp_path / "v1" / "set")], tmp_path / "a", workers=1)
    assert (made.conflicts, made.tables["instances"].rows) == (2, 2)
    shutil.rmtree(tmp_path / "v1")
    shutil.copytree(tmp_path / "v0", tmp_path / "v1")
    made = ingest([str(tmp_path / "v0" / "set"), str(tmp_path / "v1" / "set")], tmp_path / "b", workers=1)
    assert (made.conflicts, made.tables["instances"].rows) == (0, 1)


def test_an_archive_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its parts of the journal lack columns that are new."""
    first, second = copies(tmp_path, {"side": CONTRARY["side"]})
    before = ingest([str(first)], tmp_path / "a", workers=1)
    parts = list((tmp_path / "a" / "private" / "journal").glob("*/instances.parquet"))
    for part in parts:
        pq.write_table(pq.read_table(part, partitioning=None).drop_columns(list(rows._MEANING)), part)
    (tmp_path / "a" / "private" / "consolidated").unlink()
    assert ingest([str(first)], tmp_path / "a", workers=1).catalog_hash == before.catalog_hash
    made = ingest([str(second)], tmp_path / "a", workers=1)
    assert (made.conflicts, made.tables["instances"].rows, len(parts)) == (2, 2, 1)
