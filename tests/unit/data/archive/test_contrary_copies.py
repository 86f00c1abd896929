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
from isocenter.data.images import read_nifti
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import series

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


def copies(root: Path, changes: list[dict[str, Any]]) -> list[Path]:
    """Write copies of one image, each with its own changes; return their folders."""
    folders = []
    for number, values in enumerate(changes):
        folder = root / f"copy{number}"
        first, *others = series(folder, "one", patient="P1", person="Ann")
        for path in others:
            path.unlink()
        ds = pydicom.dcmread(first)
        for keyword, value in values.items():
            if value is None:
                if keyword in ds:
                    del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.save_as(first)
        folders.append(folder)
    return folders


@pytest.mark.parametrize("changes", CONTRARY.values(), ids=CONTRARY)
@pytest.mark.parametrize("pixels", [True, False], ids=["copies", "headers"])
def test_contrary_copies_are_both_kept_and_held_back(
    tmp_path: Path, changes: list[dict[str, Any]], pixels: bool
) -> None:
    folders = copies(tmp_path, changes)
    made = ingest([str(f) for f in folders], tmp_path / "a", workers=1, pixels=pixels)
    assert (made.conflicts, made.tables["instances"].rows, made.clean) == (2, 2, False)
    ((kind, reason, count, _),) = [p for p in problems_of(tmp_path / "a") if p[0] == "conflict"]
    assert (kind, count, "another side, place or scale" in reason) == ("conflict", 2, True)
    catalog = open_catalog(tmp_path / "a")
    assert catalog.find().num_rows == catalog.find(level="studies").num_rows == 0
    again = ingest([str(f) for f in folders[::-1]], tmp_path / "b", workers=1, pixels=pixels)
    assert again.catalog_hash == made.catalog_hash


@pytest.mark.parametrize("changes", AGREEING.values(), ids=AGREEING)
@pytest.mark.parametrize("pixels", [True, False], ids=["copies", "headers"])
def test_copies_that_agree_are_one(tmp_path: Path, changes: list[dict[str, Any]], pixels: bool) -> None:
    folders = copies(tmp_path, changes)
    made = ingest([str(f) for f in folders], tmp_path / "a", workers=1, pixels=pixels)
    assert (made.conflicts, made.tables["instances"].rows) == (0, 1)
    again = ingest([str(f) for f in folders[::-1]], tmp_path / "b", workers=1, pixels=pixels)
    assert again.catalog_hash == made.catalog_hash
    if changes[-1].get("ImageLaterality"):
        assert open_catalog(tmp_path / "a").sql("SELECT laterality FROM instances").column(0).to_pylist() == ["L"]


def test_what_is_held_back_is_read_with_a_note_when_asked_for(tmp_path: Path) -> None:
    folders = copies(tmp_path, CONTRARY["side"])
    ingest([str(f) for f in folders], tmp_path / "a", workers=1)
    (study,) = open_catalog(tmp_path / "a").studies(held=True)
    assert len(study.files) == 2
    assert study.read().notes


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
    first, second = copies(tmp_path, CONTRARY["side"])
    before = ingest([str(first)], tmp_path / "a", workers=1)
    parts = list((tmp_path / "a" / "private" / "journal").glob("*/instances.parquet"))
    for part in parts:
        pq.write_table(pq.read_table(part, partitioning=None).drop_columns(list(rows._MEANING)), part)
    (tmp_path / "a" / "private" / "consolidated").unlink()
    assert ingest([str(first)], tmp_path / "a", workers=1).catalog_hash == before.catalog_hash
    made = ingest([str(second)], tmp_path / "a", workers=1)
    assert (made.conflicts, made.tables["instances"].rows, len(parts)) == (2, 2, 1)
