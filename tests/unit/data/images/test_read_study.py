"""One path, one study: what each kind of file becomes, and what happens to what cannot be read."""

from __future__ import annotations

import gc
import shutil
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest

from isocenter.core import Mask, Segment
from isocenter.core.errors import ConfigError, DataError, PixelError
from isocenter.data.images.nifti import write_nifti
from isocenter.data.images.nrrd import write_nrrd
from isocenter.data.images.read import read_study
from isocenter.testing import phantom, phantom_geometry

CT = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"


def test_a_nifti_alone(tmp_path):
    write_nifti(phantom(), tmp_path / "a.nii.gz")
    found = read_study(tmp_path / "a.nii.gz", modality="CT")
    (image,) = found.study.images
    assert (image.modality, image.source.files) == ("CT", ("a.nii.gz",))
    assert found.headers is None
    assert found.refused == ()
    assert found.study.notes == ()


def test_the_key_depends_on_content_not_on_names(tmp_path):
    write_nifti(phantom(), tmp_path / "john.nii.gz")
    write_nifti(phantom(), tmp_path / "other.nii")
    write_nifti(phantom(1), tmp_path / "turned.nii")
    keys = [read_study(tmp_path / n).study.patient_key for n in ("john.nii.gz", "other.nii", "turned.nii")]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 32


def test_a_mixed_folder(tmp_path):
    write_nifti(phantom(), tmp_path / "b.nii")
    write_nrrd(phantom(3), tmp_path / "a.nrrd")
    PIL.Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "p.png")
    shutil.copy(CT, tmp_path / "ct")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "b.nii").read_bytes()[:360])
    (tmp_path / "notes.txt").write_text("x")
    steps = []
    found = read_study(tmp_path, progress=lambda what, done: steps.append((what, done)))
    assert [i.source.files for i in found.study.images] == [("ct",), ("a.nrrd",), ("b.nii",), ("p.png",)]
    assert found.headers is not None
    assert [(r.where, r.kind) for r in found.refused] == [("cut.nii", "refused"), ("notes.txt", "ignored")]
    assert "truncated" in found.refused[0].reason
    assert "cut.nii" not in found.refused[0].reason
    assert "taken to be of one patient" in found.study.notes[-1]
    assert steps
    assert all(0 <= done <= 1 for _, done in steps)


def test_only_what_the_caller_names_is_a_mask(tmp_path):
    labels = np.zeros((2, 3, 5), np.uint16)
    labels[0, 0, 0] = 4
    mask = Mask(labels, phantom_geometry(), (Segment(4, "liver"),))
    (tmp_path / "sub").mkdir()
    write_nifti(mask, tmp_path / "sub" / "liver_mask.nii.gz")
    write_nrrd(mask, tmp_path / "liver.seg.nrrd")
    write_nifti(phantom(), tmp_path / "ct.nii.gz")
    assert len(read_study(tmp_path).study.images) == 3
    study = read_study(tmp_path, masks=["sub/liver_mask.nii.gz", "liver.seg.nrrd"]).study
    assert [i.source.files for i in study.images] == [("ct.nii.gz",)]
    assert [m.segments[0].label for m in study.masks] == ["liver", "liver"]
    with pytest.raises(ConfigError, match=r"to be read as a mask.*none\.nii"):
        read_study(tmp_path, masks=["none.nii"])


def test_the_only_file_raises_its_own_error(tmp_path):
    write_nifti(phantom(), tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes((tmp_path / "a.nii").read_bytes()[:360])
    with pytest.raises(PixelError, match=r"^a\.nii: .*truncated"):
        read_study(tmp_path / "a.nii")
    shutil.copy(tmp_path / "a.nii", tmp_path / "b.nii")
    with pytest.raises(DataError, match=r"none of 2 files could be read; the first: a\.nii"):
        read_study(tmp_path)


def test_an_archive_lives_as_long_as_the_headers(tmp_path, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(CT, "deep/ct")
    found = read_study(tmp_path / "a.zip")
    (image,) = found.study.images
    assert image.source.files == ("deep/ct",)
    assert found.headers.series(image.source.series_uid)[0].Modality == "CT"
    headers = found.headers
    del found
    gc.collect()
    assert headers.image(image)[0].Rows == 128
    del headers
    gc.collect()
    assert list(place.iterdir()) == []

    write_nifti(phantom(), tmp_path / "a.nii")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a.nii", "a.nii")
    assert len(read_study(tmp_path / "b.zip").study.images) == 1
    assert list(place.iterdir()) == []


def test_nothing_stays_unpacked_after_an_error(tmp_path, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ct", CT.read_bytes()[:3000])
    with pytest.raises(DataError):
        read_study(tmp_path / "a.zip")
    assert list(place.iterdir()) == []
