"""Figures that must not be better than they are, nor compare what can't be compared."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import isocenter
from evaluation_cases import AFFINE, ball, binary_rows, mask_folders, save, table
from isocenter import cli
from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import DataError
from isocenter.data.labelled import open_labelled
from isocenter.verbs.evaluation.masks import MaskSettings, mean_dice, measure_case
from isocenter.verbs.evaluation.runs import as_classes
from isocenter.verbs.evaluation.tables import read_table

QUICK = {"resamples": 100}


def test_a_label_that_no_reference_holds_does_not_lift_the_mean(tmp_path: Path) -> None:
    one, ref, _ = mask_folders(tmp_path)
    plain = isocenter.evaluate_predictions(tmp_path / "a", predictions=one, references=ref, **QUICK)
    file = one / "c03.nii.gz"
    array = np.asarray(nib.load(file).dataobj).copy()
    array[0, 0, 0] = 9
    save(array, file, AFFINE)
    found = isocenter.evaluate_predictions(tmp_path / "b", predictions=one, references=ref, **QUICK)
    assert [(f.name, f.structure) for f in found.figures] == [(f.name, f.structure) for f in plain.figures]
    assert found.figures[0].value == pytest.approx(plain.figures[0].value, abs=1e-3)
    assert any("1 label that no reference holds (label and number of cases: 9 in 1)" in n for n in found.notes)


def test_a_structure_in_neither_mask_does_not_lift_the_mean() -> None:
    reference, answer = np.zeros((2, 4, 4), np.uint16), np.zeros((2, 4, 4), np.uint16)
    reference[0, 0, :2], answer[0, 0, 1:3] = 1, 1
    one = measure_case(reference, answer, Geometry((2, 4, 4)), MaskSettings(), [1, 2])
    assert mean_dice(one) == 0.5, "of what is there; with the absent structure as 1 it would be 0.75"
    nothing = np.zeros((2, 4, 4), np.uint16)
    assert np.isnan(mean_dice(measure_case(nothing, nothing, Geometry((2, 4, 4)), MaskSettings(), [1, 2])))


def test_sides_are_never_matched_by_number() -> None:
    array = np.zeros((1, 2, 4), np.uint16)
    array[0, 0, 0], array[0, 0, 3] = 1, 2
    place = Geometry((1, 2, 4))
    mask = Mask(array, place, (Segment(1, "kidney right"), Segment(2, "kidney left")))
    with pytest.raises(DataError, match="names a side"):
        as_classes(mask, ("left kidney", "right kidney"))
    with pytest.raises(DataError, match="names a side"):
        as_classes(mask, ("left lung",))
    same = as_classes(mask, ("Kidney left", "Kidney right"))[0]
    assert same[0, 0].tolist() == [2, 0, 0, 1], "by name, whatever the numbers"
    both, note = as_classes(mask, ("kidneys",))
    assert both[0, 0].tolist() == [1, 0, 0, 1] and "all that the task outlined" in note


@pytest.mark.slow
def test_two_tables_are_compared_case_by_case_on_one_truth(tmp_path: Path) -> None:
    columns, rows = ["case", "patient", "truth", "p"], binary_rows()
    one = table(tmp_path / "one.csv", columns, rows)
    other = binary_rows(noise=3.0, seed=4)
    straight = table(tmp_path / "two.csv", columns, other)
    turned = table(tmp_path / "turned.csv", columns, other[::-1])
    first, second = (
        isocenter.evaluate_predictions(tmp_path / o.stem, predictions=one, against=str(o), **QUICK)
        for o in (straight, turned)
    )
    assert first.comparisons == second.comparisons and first.comparisons[0].difference != 0
    flipped = [(c, w, 1 - t if n < 3 else t, p) for n, (c, w, t, p) in enumerate(rows)]
    for name, changed, words in (
        ("truth", flipped, "disagree on what is true of 3 cases, case number 1 of"),
        ("patient", [(c, "q" if n == 2 else w, t, p) for n, (c, w, t, p) in enumerate(rows)], "the patient of 1 cases"),
    ):
        file = table(tmp_path / f"{name}.csv", columns, changed)
        with pytest.raises(DataError, match=words):
            isocenter.evaluate_predictions(tmp_path / f"o-{name}", predictions=one, against=str(file), **QUICK)


def test_a_calibration_error_has_no_interval_and_others_hold_their_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    p = rng.random(200)
    rows = [(f"c{n}", int(rng.random() < q), f"{q:.5f}") for n, q in enumerate(p)]
    file = table(tmp_path / "t.csv", ["case", "truth", "p"], rows)
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=file, **QUICK)
    told = {f.name: f for f in found.figures}
    for name in ("ECE", "adaptive ECE"):
        assert told[name].low is None and "raises a calibration error by itself" in told[name].reason
    with_interval = [f for f in found.figures if f.low is not None]
    assert len(with_interval) > 5
    assert all(f.low <= f.value <= f.high for f in with_interval)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('case,truth,p\n\na,1,0.5\n"b\nb",0,0.5\n\n\nc,1,2\n', "utf-8")
    with pytest.raises(DataError, match=r"line 8: p is out of range"):
        isocenter.evaluate_predictions(tmp_path / "out", predictions=file, **QUICK)
    assert read_table(file).lines == (3, 5, 8)


def test_an_image_without_a_label_is_named_and_a_value_says_its_file(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        for kind, array in zip(("images", "labels"), ball(number), strict=True):
            save(array, tmp_path / kind / f"z{number}.nii.gz", AFFINE)
    (tmp_path / "labels" / "z2.nii.gz").unlink()
    labelled = open_labelled(tmp_path)
    assert len(labelled.cases) == 3
    assert labelled.notes == ("1 images have no label of the same name and were left out, 'z2' first",)
    (tmp_path / "classes.txt").write_text("one\ntwo\n", "utf-8")
    array = ball(1)[1].copy()
    array[0, 0, 0] = 7
    save(array, tmp_path / "labels" / "z1.nii.gz", AFFINE)
    with pytest.raises(DataError, match=r"the label z1\.nii\.gz holds the value 7"):
        open_labelled(tmp_path)
    save(np.where(array == 7, np.nan, array).astype(np.float32), tmp_path / "labels" / "z1.nii.gz", AFFINE)
    with pytest.raises(DataError, match=r"z1\.nii\.gz.*NaN"):
        open_labelled(tmp_path)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = table(tmp_path / "t.csv", ["case", "truth", "p"], [(f"c{i}", i % 2, 0.5) for i in range(12)])
    out = file / "x" / "y"
    assert cli.run(["evaluate", str(file), "--out", str(out), "--resamples", "100"]) == cli.Exit.OUTPUT
    assert "a part of the path is a file" in capsys.readouterr().err
    missing = ["evaluate", str(file), "--out", str(tmp_path / "o"), "--groups", str(tmp_path / "no.csv")]
    assert cli.run(missing) == cli.Exit.INPUT
    assert "the file does not exist" in capsys.readouterr().err
