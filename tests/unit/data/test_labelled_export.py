"""Labelled sets in the forms that trainings want: read back by our readers, and by the forms' own packages."""

from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import ConfigError, DataError, IdentityLeak, ProofError
from isocenter.data.images import read_nifti, read_nifti_mask
from isocenter.data.labelled import LabelledCase, LabelledSet, open_labelled
from isocenter.data.labelled.coco import mask_of_runs
from isocenter.data.labelled.export import ExportOptions, write_labelled
from isocenter.data.labelled.export.coco import runs_of_mask
from isocenter.data.labelled.export.form import folds_of
from isocenter.testing import phantom
from peers import peer

SECRET = "DOE^JANE"


def volume_case(number: int, *, split: str = "", patient: str = "", channels: int = 1) -> LabelledCase:
    image = phantom(number % 48, shape=(3, 4, 6))
    array = np.concatenate([image.array + number + 100 * c for c in range(channels)])
    named = Source(study_uid="1.2.3", files=(f"{SECRET}.dcm",))
    image = replace(image, array=array, source=named, description=SECRET, notes=(SECRET,))
    values = np.zeros((3, 4, 6), dtype=np.uint16)
    values[1, 1:3, 2:5], values[2, 0, number % 6] = 1, 2

    def mask(like: Geometry) -> Mask:
        return Mask(values, like, (Segment(1, "left"), Segment(2, "right")), named)

    return LabelledCase(f"case-{number:03d}", patient or f"p{number // 2}", lambda: image, mask, split=split)


def picture_case(number: int, *, kind: str = "grey", overlap: bool = False) -> LabelledCase:
    rng = np.random.default_rng(number)
    shape, dtype = ((3, 1, 5, 7) if kind == "colour" else (1, 1, 5, 7)), (np.uint16 if kind == "deep" else np.uint8)
    quantity = Quantity.RGB if kind == "colour" else Quantity.ARBITRARY
    image = Image(rng.integers(0, 255, shape).astype(dtype), Geometry((1, 5, 7)), quantity, "DX")
    stack = np.zeros((2, 1, 5, 7), dtype=bool)
    stack[0, 0, 1:4, 2:6] = True
    stack[1, 0, 3 if overlap else 4, 0:3] = True
    segments = (Segment(1, "left"), Segment(2, "right"))
    return LabelledCase(f"case-{number:03d}", f"p{number}", lambda: image, lambda like: Mask(stack, like, segments))


def as_set(*cases: LabelledCase) -> LabelledSet:
    return LabelledSet("knees", "segment", ("left", "right"), cases, (1, 2), True, "CC0-1.0")


def assert_same(one: LabelledSet, other: LabelledSet) -> None:
    assert other.classes == one.classes and other.patients_known
    found = {case.name: case for case in other.cases}
    assert sorted(found) == sorted(case.name for case in one.cases)
    for case in one.cases:
        a, b = case.image(), found[case.name].image()
        assert np.array_equal(a.array, b.array)
        if a.geometry.affine is None:
            assert b.geometry.affine is None
        else:
            np.testing.assert_allclose(a.geometry.affine, b.geometry.affine, atol=1e-3)
        assert found[case.name].patient == case.patient
        for number in (1, 2):
            mine, theirs = (c.mask(c.image().geometry).segment_array(number) for c in (case, found[case.name]))
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("form", ["folders", "nnunet", "decathlon"])
@pytest.mark.parametrize("channels", [1, 2])
def test_volumes_come_back_as_they_were(form, channels, tmp_path):
    labelled = as_set(*(volume_case(n, channels=channels) for n in (1, 7, 22, 40)))
    done = write_labelled(labelled, tmp_path / "set", form)
    assert done.cases == tuple(c.name for c in labelled.cases) and not done.left_out
    assert_same(labelled, open_labelled(tmp_path / "set"))
    written = b"".join(p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file())
    assert SECRET.encode() not in written and b"1.2.3" not in written


@pytest.mark.parametrize("form", ["folders", "nnunet", "coco"])
@pytest.mark.parametrize("kind", ["grey", "deep", "colour"])
def test_pictures_come_back_as_they_were(form, kind, tmp_path):
    labelled = as_set(*(picture_case(n, kind=kind) for n in (1, 2, 3)))
    write_labelled(labelled, tmp_path / "set", form)
    assert_same(labelled, open_labelled(tmp_path / "set"))
    assert not list((tmp_path / "set").rglob("*.nii.gz"))


def test_nnunet_says_what_nnunet_reads(tmp_path):
    cases = [volume_case(n, split="test" if n in (6, 7) else "") for n in range(10)]
    done = write_labelled(as_set(*cases), tmp_path / "Dataset007_Knees", "nnunet")
    described = json.loads((tmp_path / "Dataset007_Knees" / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "CT"} and described["numTraining"] == 8
    assert described["labels"] == {"background": 0, "left": 1, "right": 2}
    assert sorted(p.name for p in (tmp_path / "Dataset007_Knees" / "imagesTs").iterdir()) == [
        "case-006_0000.nii.gz", "case-007_0000.nii.gz",
    ]  # fmt: skip
    folds = json.loads((tmp_path / "Dataset007_Knees" / "splits_final.json").read_text())
    patient = {c.name: c.patient for c in cases}
    assert len(folds) == 4  # four patients are left to learn from
    for fold in folds:
        assert not {patient[c] for c in fold["train"]} & {patient[c] for c in fold["val"]}
        assert sorted(fold["train"] + fold["val"]) == [c.name for c in cases if c.split != "test"]
    assert dict(done.parts) == {"": 8, "test": 2} and any("splits_final" in note for note in done.notes)


def test_given_parts_are_kept(tmp_path):
    cases = [volume_case(n, split=("train", "validation", "test")[n // 2]) for n in range(6)]
    write_labelled(as_set(*cases), tmp_path / "set", "folders")
    assert {c.name: c.split for c in open_labelled(tmp_path / "set").cases} == {c.name: c.split for c in cases}
    assert folds_of(cases[:4]) == [{"train": ["case-000", "case-001"], "val": ["case-002", "case-003"]}]
    write_labelled(as_set(*cases), tmp_path / "msd", "decathlon")
    described = json.loads((tmp_path / "msd" / "dataset.json").read_text())
    assert described["test"] == ["./imagesTs/case-004.nii.gz", "./imagesTs/case-005.nii.gz"]
    assert {c.name: c.split for c in open_labelled(tmp_path / "msd").cases} == {c.name: c.split for c in cases[:4]}


def test_a_patient_in_two_parts_is_refused(tmp_path):
    cases = (volume_case(0, split="train"), volume_case(1, split="test"))
    with pytest.raises(IdentityLeak, match="more than one part"):
        write_labelled(as_set(*cases), tmp_path / "set", "folders")
    assert not (tmp_path / "set").exists()


def test_coco_is_read_by_pycocotools(tmp_path):
    coco, masks = peer("pycocotools.coco"), peer("pycocotools.mask")
    labelled = as_set(*(picture_case(n, overlap=True) for n in range(3)))
    write_labelled(labelled, tmp_path / "set", "coco")
    theirs = coco.COCO(str(tmp_path / "set" / "annotations.json"))
    assert len(theirs.imgs) == 3
    for case, image in zip(labelled.cases, theirs.loadImgs(theirs.getImgIds()), strict=True):
        for entry in theirs.loadAnns(theirs.getAnnIds(image["id"])):
            mine = case.mask(Geometry((1, 5, 7))).segment_array(entry["category_id"])[0]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its arrays know numpy 1 only
                assert np.array_equal(theirs.annToMask(entry).astype(bool), mine)
            packed = masks.encode(np.asfortranarray(mine.astype(np.uint8)))
            assert entry["area"] == int(masks.area(packed)) and entry["bbox"] == masks.toBbox(packed).tolist()
    assert_same(labelled, open_labelled(tmp_path / "set"))


def test_runs_are_their_own_inverse():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape = tuple(int(n) for n in rng.integers(1, 9, 2))
        mask = rng.random(shape) < rng.random()
        assert np.array_equal(mask_of_runs(runs_of_mask(mask), shape), mask)
    with pytest.raises(DataError):
        mask_of_runs([3], (2, 2))


@pytest.mark.parametrize("suffix", ["T1w", "ct"])
def test_bids_names_are_valid(suffix, tmp_path):
    cases = [volume_case(n, patient=f"p-{n // 2}") for n in range(4)]
    write_labelled(as_set(*cases), tmp_path / "set", "bids", ExportOptions(suffix=suffix))
    root = tmp_path / "set"
    raw = sorted(p.relative_to(root).as_posix() for p in root.glob("sub-*/*/*"))
    place = "ct" if suffix == "ct" else "anat"
    assert raw == [f"sub-p{p}/{place}/sub-p{p}_run-{r}_{suffix}.nii.gz" for p in (0, 1) for r in (1, 2)]
    for case, file in zip(cases, raw, strict=True):
        made = root / "derivatives" / "isocenter" / file.replace(f"_{suffix}", "_desc-confirmed_dseg")
        image = case.image()
        assert np.array_equal(read_nifti(root / file).array, image.array)
        mask = read_nifti_mask(made)
        assert np.array_equal(mask.array, case.mask(image.geometry).array)
        facts = json.loads(made.with_name(made.name.replace(".nii.gz", ".json")).read_text())
        assert facts["Sources"] == [f"bids:raw:{file}"]
    rows = (root / "derivatives" / "isocenter" / "desc-confirmed_dseg.tsv").read_text().splitlines()
    assert rows == ["index\tname", "0\tbackground", "1\tleft", "2\tright"]
    if suffix == "T1w":
        validator = peer("bids_validator").BIDSValidator()
        for file in ("dataset_description.json", "participants.tsv", "README", *raw):
            assert validator.is_bids(f"/{file}"), file


def test_bids_invents_no_contrast(tmp_path):
    case = volume_case(0)
    mr = replace(case.image(), modality="MR")
    unnamed = replace(case, image=lambda: mr)
    with pytest.raises(ConfigError, match="T1w"):
        write_labelled(as_set(unnamed), tmp_path / "set", "bids")
    with pytest.raises(ConfigError, match="no suffix"):
        write_labelled(as_set(unnamed), tmp_path / "set", "bids", ExportOptions(suffix="../x"))


def test_shards_hold_image_and_mask(tmp_path):
    peer("blosc2")
    from isocenter.data.shards import open_shard

    labelled = as_set(volume_case(3), volume_case(9))
    write_labelled(labelled, tmp_path / "set", "shards")
    for case in labelled.cases:
        shard = open_shard(tmp_path / "set" / f"{case.name}.b2nd")
        assert np.array_equal(shard.read(as_source=True).array, case.image().array)
        shard.close()
    assert sorted(p.name for p in (tmp_path / "set").glob("*.mask.b2nd")) == [
        "case-003.mask.b2nd", "case-009.mask.b2nd",
    ]  # fmt: skip


def test_what_a_form_cannot_hold_is_left_out_and_said(tmp_path):
    labelled = as_set(picture_case(1), picture_case(2, overlap=True))
    done = write_labelled(labelled, tmp_path / "set", "folders")
    assert done.cases == ("case-001",) and "overlap" in done.left_out[0][1]
    with pytest.raises(DataError, match="COCO holds pictures"):
        write_labelled(as_set(volume_case(1)), tmp_path / "coco", "coco")
    mixed = write_labelled(as_set(volume_case(1), picture_case(2)), tmp_path / "mixed", "nnunet")
    assert mixed.left_out[0][0] == "case-002"
    assert not (tmp_path / "coco").exists()


def test_a_segmentation_needs_headers_and_a_word(tmp_path):
    with pytest.raises(ConfigError, match="headers"):
        write_labelled(as_set(volume_case(1)), tmp_path / "set", "seg")
    with pytest.raises(IdentityLeak):
        write_labelled(as_set(volume_case(1)), tmp_path / "set", "seg", ExportOptions(headers=lambda _name: []))


def test_names_and_kinds_are_checked(tmp_path):
    bad = replace(volume_case(1), name="../x")
    with pytest.raises(DataError, match="no name for a file"):
        write_labelled(as_set(bad), tmp_path / "set", "folders")
    classes = LabelledSet("x", "classify", ("a",), (LabelledCase("c", "p", volume_case(1).image, target=0),))
    with pytest.raises(ConfigError, match="no masks"):
        write_labelled(classes, tmp_path / "set", "folders")


def test_a_writer_that_lies_leaves_nothing(tmp_path, monkeypatch):
    from isocenter.data.labelled.export import described

    honest = described.write_mask
    monkeypatch.setattr(
        described, "write_mask", lambda mask, path: honest(replace(mask, array=mask.array[:, ::-1].copy()), path)
    )
    with pytest.raises(ProofError):
        write_labelled(as_set(volume_case(1)), tmp_path / "set", "nnunet")
    assert not list(tmp_path.iterdir())


def test_patients_table(tmp_path):
    write_labelled(as_set(volume_case(0), volume_case(1), volume_case(2)), tmp_path / "set", "folders")
    with (tmp_path / "set" / "patients.csv").open() as stream:
        assert [row["patient"] for row in csv.DictReader(stream)] == ["p0", "p0", "p1"]


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"images": [{}], "annotations": [], "categories": []}'])
def test_broken_coco_is_refused(text, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DataError):
        open_labelled(tmp_path)
