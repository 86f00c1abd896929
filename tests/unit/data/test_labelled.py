"""Labelled sets in every form; what breaks a form is named."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core.errors import DataError, GeometryError
from isocenter.data.labelled import Event, open_labelled
from isocenter.data.labelled.files import stem

AFFINE = np.diag([0.7, 0.8, 2.5, 1.0])


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def volume(seed: int, shape=(5, 6, 4)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)


def label(values=(1, 2), shape=(5, 6, 4)) -> np.ndarray:
    out = np.zeros(shape, dtype=np.uint8)
    for number, value in enumerate(values):
        out[1 + number, 2:4, 1:3] = value
    return out


def nnunet(folder: Path, *, channels: int = 2, labels: dict | None = None, ending: str = ".nii.gz") -> Path:
    for case in range(3):
        for channel in range(channels):
            nifti(folder / "imagesTr" / f"c{case}_{channel:04d}{ending}", volume(10 * case + channel))
        nifti(folder / "labelsTr" / f"c{case}{ending}", label())
    described = {
        "channel_names": {str(n): f"MR {n}" for n in range(channels)},
        "labels": labels or {"background": 0, "tumour": 2, "organ": 1},
        "numTraining": 3,
        "file_ending": ending,
        "licence": "CC BY 4.0",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def test_nnunet_raw(tmp_path):
    found = open_labelled(nnunet(tmp_path))
    assert (found.kind, found.classes, found.values, found.licence) == (
        "segment",
        ("organ", "tumour"),
        (1, 2),
        "CC BY 4.0",
    )
    assert [c.name for c in found.cases] == ["c0", "c1", "c2"] and not found.patients_known
    image = found.cases[1].image()
    assert image.array.shape == (2, 4, 6, 5)
    np.testing.assert_array_equal(image.array[1], volume(11).T)
    mask = found.cases[1].mask(image.geometry)
    assert [s.label for s in mask.segments] == ["organ", "tumour"]
    np.testing.assert_array_equal(mask.array, label().T)


def test_nnunet_patients(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "patients.csv").write_text("case,patient\nc0,a\nc1,a\nc2,b\n")
    found = open_labelled(tmp_path)
    assert found.patients_known and [c.patient for c in found.cases] == ["a", "a", "b"]
    (tmp_path / "patients.csv").write_text("case,patient\nc0,a\n")
    with pytest.raises(DataError, match="does not name the patient of 'c1'"):
        open_labelled(tmp_path)


def test_patients_csv_must_name_every_case(tmp_path):
    """By the case's name or its file's; what it does not name is never taken for a patient of its own."""
    for name in ("benign", "malignant"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Picture.fromarray(np.full((7, 9), 10 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    keys = ["benign/0", "benign/1.png", "malignant/0", "malignant/1"]
    (tmp_path / "patients.csv").write_text(
        "\ufeffcase,patient\n" + "".join(f"{k},p{i % 2}\n" for i, k in enumerate(keys))
    )
    assert [c.patient for c in open_labelled(tmp_path).cases] == ["p0", "p1", "p0", "p1"]
    (tmp_path / "patients.csv").write_text("case,patient\n0,p0\n1,p1\n")
    with pytest.raises(DataError, match="does not name the patient of 'benign/0'"):
        open_labelled(tmp_path)
    (tmp_path / "patients.csv").write_text("case,patient\nbenign/0,\n")
    with pytest.raises(DataError, match="no case, or no patient"):
        open_labelled(tmp_path)


def test_labels_in_colour_and_with_a_palette(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Picture.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "images" / "a.png")
    classes = np.zeros((6, 8), np.uint8)
    classes[1:3, 2:5], classes[4, 6] = 2, 3
    drawn = Picture.fromarray(classes, mode="P")
    drawn.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    drawn.save(tmp_path / "labels" / "a.png")
    found = open_labelled(tmp_path)
    assert found.values == (2, 3), "indices of the palette, not its reds"
    mask = found.cases[0].mask(found.cases[0].image().geometry)
    np.testing.assert_array_equal(mask.array[0], np.where(classes > 0, classes - 1, 0))
    Picture.fromarray(np.stack([0 * classes, classes, 0 * classes], axis=-1)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(DataError, match="3 channels that differ"):
        open_labelled(tmp_path)


def test_nnunet_broken(tmp_path):
    folder = nnunet(tmp_path / "a", labels={"background": 0, "whole": [1, 2]})
    with pytest.raises(DataError, match="'whole' is a region"):
        open_labelled(folder)
    folder = nnunet(tmp_path / "b")
    (folder / "imagesTr" / "c1_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"no image c1_0001\.nii\.gz"):
        open_labelled(folder)
    ignoring = nnunet(tmp_path / "c", labels={"background": 0, "organ": 1, "ignore": 2})
    with pytest.raises(DataError, match="'ignore' label"):
        open_labelled(ignoring)
    hidden = nnunet(tmp_path / "d")
    (hidden / "labelsTr" / "._c0.nii.gz").write_bytes(b"x")
    assert len(open_labelled(hidden).cases) == 3
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not a JSON file"):
        open_labelled(folder)


def test_decathlon(tmp_path):
    nifti(tmp_path / "imagesTr" / "h_1.nii.gz", volume(1))
    nifti(tmp_path / "labelsTr" / "h_1.nii.gz", label())
    described = {
        "name": "Hippo", "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": "./imagesTr/h_1.nii.gz", "label": "./labelsTr/h_1.nii.gz"}],
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = open_labelled(tmp_path)
    assert (found.name, found.classes, found.cases[0].name) == ("Hippo", ("Anterior", "Posterior"), "h_1")
    described["training"][0]["image"] = "../outside.nii.gz"
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="outside the folder"):
        open_labelled(tmp_path)
    described["training"][0]["image"] = "imagesTr/no.nii.gz"
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="not there"):
        open_labelled(tmp_path)


def test_mask_folders(tmp_path):
    nifti(tmp_path / "images" / "a.nii.gz", volume(1))
    nifti(tmp_path / "images" / "unlabelled.nii.gz", volume(2))
    nifti(tmp_path / "labels" / "a.nii.gz", label((1, 3)))
    found = open_labelled(tmp_path)
    assert (found.classes, found.values, [c.name for c in found.cases]) == (("label 1", "label 3"), (1, 3), ["a"])
    assert set(np.unique(found.cases[0].mask(found.cases[0].image().geometry).array)) == {0, 1, 2}
    (tmp_path / "classes.txt").write_text("liver\nspleen\ntumour\n")
    assert open_labelled(tmp_path).classes == ("liver", "spleen", "tumour")
    (tmp_path / "classes.txt").write_text("liver\n")
    with pytest.raises(DataError, match=r"names 1 classes; the label a\.nii\.gz holds the value 3"):
        open_labelled(tmp_path)


def test_a_label_that_is_an_image_or_has_none(tmp_path):
    nifti(tmp_path / "images" / "a.nii.gz", volume(1))
    nifti(tmp_path / "labels" / "a.nii.gz", np.arange(120, dtype=np.float32).reshape(5, 6, 4) / 7)
    with pytest.raises(DataError, match="is it an image"):
        open_labelled(tmp_path)
    nifti(tmp_path / "labels" / "a.nii.gz", np.where(label() > 1, np.nan, label().astype(np.float32)))
    with pytest.raises(DataError, match="NaN or infinity"):
        open_labelled(tmp_path)
    nifti(tmp_path / "labels" / "a.nii.gz", label())
    nifti(tmp_path / "labels" / "b.nii.gz", label())
    with pytest.raises(DataError, match="1 labels have no image"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("how", ["shape", "place", "side"])
def test_a_label_on_another_grid(tmp_path, how):
    """Shifted by half a voxel, or mirrored left to right in its header: never taken as if it fitted."""
    shape = (6, 6, 4) if how == "shape" else (5, 6, 4)
    affine = AFFINE.copy()
    if how == "place":
        affine[0, 3] = 0.35
    if how == "side":
        affine[0, 0] *= -1
    nifti(tmp_path / "images" / "a.nii.gz", volume(1))
    nifti(tmp_path / "labels" / "a.nii.gz", label(shape=shape), affine)
    found = open_labelled(tmp_path)
    with pytest.raises(GeometryError, match="label's grid"):
        found.cases[0].mask(found.cases[0].image().geometry)


def test_an_unknown_value_is_named(tmp_path):
    folder = nnunet(tmp_path)
    nifti(folder / "labelsTr" / "c1.nii.gz", label((1, 7)))
    case = open_labelled(folder).cases[1]
    with pytest.raises(DataError, match="holds the values 7, which are no class"):
        case.mask(case.image().geometry)


def test_class_folders(tmp_path):
    for name, count in (("benign", 2), ("malignant", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Picture.fromarray(np.full((7, 9), 10 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    found = open_labelled(tmp_path)
    assert (found.kind, found.classes) == ("classify", ("benign", "malignant"))
    assert [(c.name, c.target) for c in found.cases] == [("benign/0", 0), ("benign/1", 0), ("malignant/0", 1)]
    assert found.cases[1].image().array.shape[1:] == (1, 7, 9)
    (tmp_path / "normal").mkdir()
    with pytest.raises(DataError, match="'normal' has no image"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("colour", [False, True])
def test_medmnist(tmp_path, colour):
    rng = np.random.default_rng(0)
    shape = (4, 5, 3) if colour else (3, 4, 5)
    arrays = {}
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(0, 255, (count, *shape)).astype(np.uint8)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 3
    np.savez(tmp_path / "m.npz", **arrays)
    found = open_labelled(tmp_path / "m.npz")
    assert (found.kind, len(found.classes), len(found.part("validation"))) == ("classify", 3, 2)
    image = found.part("test")[1].image()
    assert image.array.shape == ((3, 1, 4, 5) if colour else (1, 3, 4, 5))
    expected = np.moveaxis(arrays["test_images"][1], -1, 0)[:, None] if colour else arrays["test_images"][1][None]
    np.testing.assert_array_equal(image.array, expected)


def test_medmnist_findings_and_broken(tmp_path):
    np.savez(tmp_path / "m.npz", train_images=np.zeros((2, 4, 4)), train_labels=np.array([[0, 1], [1, 1]]))
    assert open_labelled(tmp_path / "m.npz").cases[1].target == (1, 1)
    np.savez(tmp_path / "n.npz", train_images=np.zeros((2, 4, 4)), train_labels=np.zeros((3, 1), int))
    with pytest.raises(DataError, match="do not belong together"):
        open_labelled(tmp_path / "n.npz")
    np.savez(tmp_path / "o.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="no train_images"):
        open_labelled(tmp_path / "o.npz")
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"not an \.npz"):
        open_labelled(tmp_path / "p.npz")
    # An array of objects would have to be unpickled: it is not.
    np.savez(tmp_path / "q.npz", train_images=np.array([{}], dtype=object), train_labels=np.zeros((1, 1)))
    with pytest.raises(DataError, match=r"not an \.npz"):
        open_labelled(tmp_path / "q.npz")


@pytest.mark.parametrize(
    ("head", "row", "kind", "target"),
    [
        ("image,label", "a.png,benign", "classify", 0),
        ("image,effusion,nodule", "a.png,1,", "multilabel", (1, -1)),
        ("image,value", "a.png,2.5", "regress", 2.5),
        ("image,days,event", "a.png,30,1", "survive", Event(30.0, True)),
    ],
)
def test_tables(tmp_path, head, row, kind, target):
    Picture.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    table = tmp_path / "t.csv"
    table.write_text(f"{head},patient,split\n{row},p1,train\n")
    found = open_labelled(table)
    assert (found.kind, found.cases[0].target, found.cases[0].patient, found.cases[0].split) == (
        kind, target, "p1", "train",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,label\na.png,x\n", "column 'image'"),
        ("image,label\nb.png,x\n", "line 2 names an image that is not there"),
        ("image,value\na.png,many\n", "line 2 holds what is not a number"),
        ("image,value\na.png,nan\n", "line 2 holds what is not a number"),
        ("image,days,event\na.png,-3,1\n", "0 days or more"),
        ("image,days,event\na.png,3,2\n", "line 2 holds what is not a number"),
        ("image,label,extra\na.png,x,y\n", "needs a column 'label', or"),
        ("image,label,split\na.png,x,holdout\n", "the split must be train"),
        ("image,label,patient\na.png,x,\n", "line 2 has no patient"),
        ("image,label\na.png,x\n./a.png,y\n", "line 3 names the image of line 2 again"),
        ("image,label\na.png,\n", "a row has no label"),
        ("image,label\n,x\n", "line 2 names an image that is not there"),
        ("image,value\na.png\n", "line 2 holds what is not a number"),
        ("image,label,female\na.png,x,1\n", "needs a column 'label', or"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    Picture.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_labelled(tmp_path / "t.csv")


def test_nothing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_labelled(tmp_path / "no")
    with pytest.raises(DataError, match="not a labelled set; expected one of"):
        open_labelled(tmp_path)
    assert stem(Path("x/y.NII.GZ")) == "y"
