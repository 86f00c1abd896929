"""Faces are removed on the way in: series as a whole, whatever the order; the rest of every file stays bit by bit."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from head_cases import head
from isocenter.core import Geometry, Image
from isocenter.core.errors import ConfigError
from isocenter.data.archive import faces
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify.deface import deface
from isocenter.data.images import read_nifti, read_nrrd, read_study, write_metaimage, write_nrrd
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import IngestDocument, ingest
from isocenter.verbs.leaks import leaks

CODE = "113102"


@cache
def hounsfield() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (HU, brain, nose, affine) of a head."""
    values, brain, nose, _, affine = head()
    # Every second pixel along y and x, so that the tests are quick.
    values, brain, nose = (part[:, ::2, ::2] for part in (values, brain, nose))
    affine = affine @ np.diag([1.0, 2, 2, 1])
    noise = np.random.default_rng(0).integers(-9, 9, values.shape)
    return (np.where(values > 0, values / 10, -1000.0) + noise).astype(np.int16), brain, nose, affine


def write(
    folder: Path, *, body_part: str = "HEAD", name: str = "head", change: Callable[[Dataset], None] | None = None,
    every: int = 1, syntax: str = "1.2.840.10008.1.2.1", values: np.ndarray | None = None,
) -> list[Path]:  # fmt: skip
    """Write a head as CT."""
    found, _, _, affine = hounsfield()
    found = found if values is None else values
    affine = affine.copy()
    affine[:3, 0] *= every
    image = Image(found[None, ::every], Geometry(found[::every].shape, affine))

    def changed(_: int, ds: Dataset) -> Dataset:
        ds.BodyPartExamined = body_part
        if not body_part:
            del ds.BodyPartExamined
        ds.PatientID = f"P {name}"
        if change is not None:
            change(ds)
        return ds

    return write_ct_series(folder, image, name=name, change=changed, transfer_syntax_uid=syntax)


def take(source: Path | list[Path], to: Path, **options: object) -> IngestDocument:
    sources = source if isinstance(source, list) else [source]
    return ingest([str(s) for s in sources], to, **{"workers": 1, "deface": True, **options})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("heads")
    write(place / "s" / "head", every=3)
    write(place / "s" / "chest", body_part="CHEST", name="chest", every=12)
    return place / "s"


@pytest.fixture(scope="module")
def archive(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("faceless") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
        assert take(source, place).clean
    return place


def copies(archive: Path, where: str = "true") -> list[Path]:
    rows = open_catalog(archive).sql(f"SELECT path FROM instances WHERE {where} ORDER BY path").column(0).to_pylist()
    return [archive / path for path in rows]


def test_the_face_is_gone_and_all_else_is_as_it_was(source: Path, archive: Path) -> None:
    original = read_study(source / "head").study.images[0]
    wanted = deface(original)
    (folder,) = {p.parent for p in copies(archive, "body_part = 'HEAD'")}
    found = read_study(folder).study.images[0]
    assert np.array_equal(found.geometry.affine, original.geometry.affine)
    assert np.array_equal(found.array, wanted.array)
    _, brain, nose, _ = hounsfield()
    assert (found.array[0][nose[::3]] == original.array.min()).mean() > 0.99
    assert np.array_equal(found.array[0][brain[::3]], original.array[0][brain[::3]])
    assert not np.array_equal(found.array, original.array)


def test_files_say_what_was_done_and_nothing_else_changes(source: Path, archive: Path) -> None:
    # The same files without --deface: identity is removed in the same way.
    plain = archive.parent / "plain"
    ingest([str(source / "head")], plain, workers=1)
    before = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in copies(plain)}
    changed = {"ImageType", "DerivationDescription", "DeidentificationMethodCodeSequence", "RecognizableVisualFeatures",
               "PixelData"}  # fmt: skip
    touched = 0
    for path in copies(archive, "body_part = 'HEAD'"):
        ds = pydicom.dcmread(path)
        old = before.pop(ds.SOPInstanceUID)
        assert CODE in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]
        assert CODE not in [item.CodeValue for item in old.DeidentificationMethodCodeSequence]
        assert (ds.RecognizableVisualFeatures, ds.ImageType[0]) == ("NO", "DERIVED")
        for element in old:
            if element.keyword not in changed:
                assert ds[element.tag] == element
        assert {e.keyword for e in ds} - {e.keyword for e in old} <= changed
        touched += ds.PixelData != old.PixelData
    assert not before
    assert touched == leaks(archive).faces > 5
    for path in copies(archive, "body_part = 'CHEST'"):
        assert CODE not in [item.CodeValue for item in pydicom.dcmread(path).DeidentificationMethodCodeSequence]


def test_hashes_and_sizes_are_those_of_what_is_stored(archive: Path) -> None:
    from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED
    from isocenter.data.images.dicom.header import scan_bytes

    rows = open_catalog(archive).sql("SELECT * FROM instances").to_pylist()
    for row in rows:
        content = (archive / row["path"]).read_bytes()
        at = scan_bytes(content, "x", wanted=ARCHIVE_WANTED).pixel_offset
        assert row["bytes"] == len(content)
        assert row["header_sha256"] == hashlib.sha256(content[:at]).hexdigest()
        assert row["pixel_sha256"] == hashlib.sha256(content[at:]).hexdigest()
    # No copy lies there that no row speaks of, and none with a face outside of the private folder.
    assert {p for p in (archive / "images").rglob("*") if p.is_file()} == {archive / r["path"] for r in rows}


def test_neither_order_nor_number_of_runs_is_in_the_catalog(source: Path, archive: Path, tmp_path: Path) -> None:
    """A series comes in three runs: what was made of a part of it goes when it is whole."""
    files = sorted((source / "head").iterdir())
    for n in range(3):
        (tmp_path / "parts" / str(n)).mkdir(parents=True)
        for file in files[n::3]:
            shutil.copy(file, tmp_path / "parts" / str(n))
    for n in (2, 0, 1):
        last = take(tmp_path / "parts" / str(n), tmp_path / "a")
    last = take(source / "chest", tmp_path / "a")
    assert last.catalog_hash == open_catalog(archive).hash
    assert last.clean
    stored = {p.relative_to(tmp_path / "a") for p in (tmp_path / "a" / "images").rglob("*.dcm")}
    assert stored == {p.relative_to(archive) for p in (archive / "images").rglob("*.dcm")}
    again = take(source / "chest", tmp_path / "a")
    assert (again.taken, again.catalog_hash) == (0, last.catalog_hash)


@pytest.mark.slow
def test_two_processes_give_the_same(source: Path, archive: Path, tmp_path: Path) -> None:
    write(tmp_path / "more", name="other", every=6)
    one = take([source, tmp_path / "more"], tmp_path / "a", workers=2)
    assert one.catalog_hash == take([tmp_path / "more", source], tmp_path / "b").catalog_hash


def test_a_run_that_is_killed_while_faces_are_removed_is_taken_up(
    source: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(source / "chest", tmp_path / "a")
    chest = {p.parent for p in (tmp_path / "a" / "images").rglob("*.dcm")}
    put, calls = faces._put, []

    def failing(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return put(*arguments)

    monkeypatch.setattr(faces, "_put", failing)
    with pytest.raises(KeyboardInterrupt):
        take(source, tmp_path / "a")
    (folder,) = {p.parent for p in (tmp_path / "a" / "images").rglob("*.dcm")} - chest
    (folder / ".partial-123-x.dcm").write_bytes(b"half of a file, as kill -9 leaves it")
    made = take(source, tmp_path / "a")
    assert not list((tmp_path / "a" / "images").rglob(".partial-*"))
    assert made.taken == 0  # all of it was in the journal already
    assert made.catalog_hash == open_catalog(archive).hash

    def never(*_: object) -> object:
        raise AssertionError("a face that was removed is removed again")

    monkeypatch.setattr(faces, "_put", never)
    (tmp_path / "a" / "private" / "consolidated").unlink()
    assert take(source, tmp_path / "a").catalog_hash == made.catalog_hash


def test_what_is_no_whole_head_is_left_out_and_listed(source: Path, tmp_path: Path) -> None:
    values = hounsfield()[0]
    top = int(np.flatnonzero((values > 0).any(axis=(1, 2)))[-1])
    write(tmp_path / "s" / "cut", values=values[: top - 10], every=3, name="cut")
    write(tmp_path / "s" / "unknown", values=np.full_like(values, -1000), every=6, name="unknown", body_part="")
    gap = write(tmp_path / "s" / "gap", every=3, name="gap")
    gap[10].unlink()
    made = take([tmp_path / "s", source / "chest"], tmp_path / "a")
    assert not made.clean
    reasons = {r for k, r, _, _ in problems_of(tmp_path / "a") if k == "refused"}
    assert any("left out: the top of the head is not in the image" in r for r in reasons)
    assert any("left out: there is nothing but air" in r for r in reasons)
    assert len(reasons) == 3
    assert made.refused == sum(len(list(f.iterdir())) for f in (tmp_path / "s").iterdir())
    catalog = open_catalog(tmp_path / "a")
    assert catalog.sql("SELECT DISTINCT body_part FROM instances").column(0).to_pylist() == ["CHEST"]
    assert catalog.sql("SELECT count(*) FROM patients").column(0)[0].as_py() == 1
    assert not any("HEAD" in str(pydicom.dcmread(p).get("BodyPartExamined")) for p in copies(tmp_path / "a"))


def test_one_uid_with_two_pictures_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "s" / "one", every=6)
    write(tmp_path / "s" / "two", every=6, values=hounsfield()[0] + 1)
    made = take(tmp_path / "s", tmp_path / "a")
    assert made.tables["instances"].rows == 0
    assert any("same SOP Instance UID" in t.reason for t in made.troubles if t.kind == "refused")


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"]
)
def test_every_syntax_keeps_its_pixels(tmp_path: Path, syntax: str) -> None:
    write(tmp_path / "s", every=5, syntax=syntax)
    original = read_study(tmp_path / "s").study.images[0]
    assert take(tmp_path / "s", tmp_path / "a").clean
    (folder,) = {p.parent for p in copies(tmp_path / "a")}
    assert np.array_equal(read_study(folder).study.images[0].array, deface(original).array)
    assert {pydicom.dcmread(p).file_meta.TransferSyntaxUID for p in copies(tmp_path / "a")} == {syntax}


def multi_frame(file: Path) -> None:
    """Write the head as one Enhanced CT object, its frames from top to bottom."""
    (sample, *_), values = write(file.parent / "slices", every=4), hounsfield()[0][::-4]
    ds = pydicom.dcmread(sample)
    affine = hounsfield()[3]
    first = len(hounsfield()[0]) - 1
    shutil.rmtree(file.parent / "slices")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedCTImageStorage
    frames, shared = [], Dataset()
    for n in range(len(values)):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [float(v) for v in affine[:3, 3] + affine[:3, 0] * (first - 4 * n)]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    measures, orientation, values_of = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, float(np.linalg.norm(affine[:3, 0]) * 4)
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    values_of.RescaleSlope, values_of.RescaleIntercept, values_of.RescaleType = "1", "-1024", "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values_of]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    ds.NumberOfFrames = len(values)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(ds, keyword)
    ds.PixelData = (values.astype(np.int32) + 1024).astype("<i2").tobytes()
    ds.save_as(file)


def test_an_object_of_many_frames(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    multi_frame(tmp_path / "s" / "head.dcm")
    original = read_study(tmp_path / "s").study.images[0]
    assert take(tmp_path / "s", tmp_path / "a").clean
    (copy,) = copies(tmp_path / "a")
    found = read_study(copy).study.images[0]
    assert np.array_equal(found.array, deface(original).array)
    assert not np.array_equal(found.array, original.array)
    assert np.array_equal(found.geometry.affine, original.geometry.affine)
    assert found.geometry.shape == original.geometry.shape


def volume() -> Image:
    values, _, _, affine = hounsfield()
    oblique = affine.copy()
    turn = np.deg2rad(3)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    oblique[:3] = rotation @ oblique[:3]
    return Image(values[None], Geometry(values.shape, oblique))


@pytest.mark.parametrize("kind", ["nifti", "scaled", "four", "nrrd", "metaimage"])
def test_volumes_in_one_file(tmp_path: Path, kind: str) -> None:
    image = volume()
    name = "sub-01_T1w"
    folder = tmp_path / "set"
    folder.mkdir()
    if kind in ("nifti", "scaled", "four"):
        array = np.stack([image.array[0], image.array[0] // 2]) if kind == "four" else image.array
        ras = np.diag([-1.0, -1, 1, 1]) @ image.geometry.affine[:, [2, 1, 0, 3]]
        file = nibabel.Nifti1Image(np.squeeze(array.transpose(3, 2, 1, 0), axis=3 if len(array) == 1 else ()), ras)
        if kind == "scaled":
            file.header.set_slope_inter(0.5, 7)
        nibabel.save(file, folder / f"{name}.nii.gz")
        path, read = folder / f"{name}.nii.gz", read_nifti
    else:
        path = folder / f"{name}{'.nrrd' if kind == 'nrrd' else '.mha'}"
        (write_nrrd if kind == "nrrd" else write_metaimage)(image, path)
        read = read_nrrd
    original = read(path)
    made = take(folder, tmp_path / "a")
    assert made.clean, made.troubles
    (copy,) = copies(tmp_path / "a")
    found = read(copy)
    assert np.array_equal(found.array, deface(original).array)
    assert np.array_equal(found.geometry.affine, original.geometry.affine)
    assert not np.array_equal(found.array, original.array)
    if kind in ("nifti", "scaled", "four"):
        # What is stored, and the header, too.
        one, other = nibabel.load(path), nibabel.load(copy)
        assert one.header.binaryblock[:348][40:148] == other.header.binaryblock[:348][40:148]
        assert (np.asanyarray(one.dataobj.get_unscaled()) != np.asanyarray(other.dataobj.get_unscaled())).any()
    assert leaks(tmp_path / "a").faces == 1
    row = open_catalog(tmp_path / "a").sql("SELECT header_sha256, bytes FROM instances").to_pylist()[0]
    assert row == {"header_sha256": hashlib.sha256(copy.read_bytes()).hexdigest(), "bytes": copy.stat().st_size}


def test_a_volume_of_no_head_is_left_out_and_a_mask_is_not(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1, 1, 1])
    (tmp_path / "set" / "imagesTr").mkdir(parents=True)
    (tmp_path / "set" / "labelsTr").mkdir(parents=True)
    (tmp_path / "set" / "dataset.json").write_text('{"name": "small"}')
    small = np.random.default_rng(0).integers(0, 99, (30, 30, 30)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(small, affine), tmp_path / "set" / "imagesTr" / "case_1_0000.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image((small > 50).astype(np.uint8), affine), tmp_path / "set" / "labelsTr" / "case_1.nii.gz"
    )
    made = take(tmp_path / "set", tmp_path / "a")
    assert made.refused == 1
    assert open_catalog(tmp_path / "a").sql("SELECT role FROM instances").column(0).to_pylist() == ["mask"]


def test_only_copies_without_identity_lose_their_face(source: Path, tmp_path: Path) -> None:
    for options in ({"pixels": False}, {"identified": True}):
        with pytest.raises(ConfigError, match="face is removed from copies"):
            take(source, tmp_path / "a", **options)
