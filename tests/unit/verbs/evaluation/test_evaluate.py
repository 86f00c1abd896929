"""`isocenter evaluate` from end to end: every kind of input, what is compared and told, and every bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import isocenter
from evaluation_cases import AFFINE, ball, binary_rows, mask_folders, save, table
from isocenter import cli
from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import ConfigError, DataError, GeometryError
from isocenter.data.images import read_nifti, write_nifti, write_nrrd
from isocenter.data.images.seg.write import write_seg
from isocenter.evaluate.calibration import expected_calibration_error
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.ranking import auroc
from isocenter.verbs.evaluation.document import EvaluationDocument, evaluation_schema, scorecard_schema
from seg_cases import SEGMENTS, STRAIGHT, ct_headers, labels

ROOT = Path(__file__).resolve().parents[4]
QUICK = {"resamples": 100}


def few(number: int) -> str:
    """One of nine patients: too few for an interval, which spares the tests of plain figures the resampling."""
    return f"p{number % 9}"


def figures(found: EvaluationDocument) -> dict[tuple[str, str], float | None]:
    return {(f.name, f.structure): f.value for f in found.figures}


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return mask_folders(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(f"c{n:02d}", few(n)) for n in range(12)] + [(f"case {n}", few(n)) for n in range(12)]
    return table(tmp_path_factory.mktemp("nine") / "patients.csv", ["case", "patient"], rows)


# Masks


def test_folders_of_masks(masks, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, ref, two = masks
    groups = table(tmp_path / "groups.csv", ["case", "sex"], [(f"c{n:02d}", "FM"[n % 2]) for n in range(12)])
    out = tmp_path / "out"
    code = cli.run([
        "evaluate", str(one), str(ref), "--out", str(out), "--against", str(two), "--groups", str(groups), "--lesions",
        "--resamples", "100", "--json",
    ])  # fmt: skip
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(evaluation_schema()).validate(document)
    assert document == json.loads((out / "evaluation.json").read_text("utf-8"))
    found = EvaluationDocument.model_validate(document)
    values = figures(found)
    hand = [
        np.mean([dice(np.roll(ball(n)[1], n % 2, axis=0) == label, ball(n)[1] == label) for n in range(12)])
        for label in (1, 2)
    ]  # fmt: skip
    assert [values["Dice", "label 1"], values["Dice", "label 2"]] == pytest.approx(hand, abs=1e-12)
    assert values["Dice", "mean of structures"] == pytest.approx(np.mean(hand))
    assert ("lesion F1", "label 2") in values and ("NSD at 2 mm", "label 1") in values
    first = found.figures[0]
    assert first.low is not None and first.low < first.value < first.high and first.method == "bca"
    compared = {(c.name, c.structure): c for c in found.comparisons}["Dice", "label 1"]
    off = np.mean([dice(np.roll(ball(n)[1], 1, axis=1) == 1, ball(n)[1] == 1) for n in range(12)])
    assert compared.difference == pytest.approx(off - hand[0]) and compared.p_corrected >= compared.p
    assert found.subgroups is not None and "fewer" not in found.subgroups.rows[0].reason
    assert {row.levels[0] for row in found.subgroups.rows if row.columns == ("sex",)} == {"F", "M"}
    assert all("too few" in row.reason for row in found.subgroups.rows if row.patients < 10)
    with (out / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24 and rows[0]["case"] == "c00" and float(rows[0]["Dice"]) == 1.0
    assert "c00" not in (out / "evaluation.json").read_text("utf-8"), "names of cases stay in the table"
    assert "c00" not in (out / "evaluation.html").read_text("utf-8")


def test_nrrd_is_read_as_well(masks, nine: Path, tmp_path: Path) -> None:
    one, ref, _ = masks
    nrrd = tmp_path / "nrrd"
    nrrd.mkdir()
    for file in sorted(one.iterdir()):
        image = read_nifti(file)
        segments = (Segment(1, "shell"), Segment(2, "core"))
        mask = Mask(image.array[0].astype(np.uint16), image.geometry, segments, image.source)
        write_nrrd(mask, nrrd / file.name.replace(".nii.gz", ".nrrd"))
    isocenter.evaluate_predictions(tmp_path / "a", predictions=one, references=ref, patients=nine)
    isocenter.evaluate_predictions(tmp_path / "b", predictions=nrrd, references=ref, patients=nine)
    assert (tmp_path / "a" / "cases.csv").read_text() == (tmp_path / "b" / "cases.csv").read_text()


def test_dicom_seg_against_nifti_and_against_seg(tmp_path: Path) -> None:
    headers, geometry = ct_headers(tmp_path / "ct", shape=(4, 5, 6), degrees=STRAIGHT)
    reference = labels(geometry, 0)
    emptied = reference.array.copy()
    emptied[:2] = 0
    found = Mask(emptied, geometry, SEGMENTS)
    for folder in ("seg", "nifti", "other"):
        (tmp_path / folder).mkdir()
    write_seg(reference, tmp_path / "seg" / "a.dcm", headers=headers)
    write_nifti(reference, tmp_path / "nifti" / "a.nii.gz")
    write_seg(found, tmp_path / "other" / "a.dcm", headers=headers)
    expected = np.mean([dice(reference.array == n, found.array == n) for n in (1, 2, 3)])
    same = figures(
        isocenter.evaluate_predictions(
            tmp_path / "o1", predictions=tmp_path / "seg", references=tmp_path / "nifti", **QUICK
        )
    )
    assert same["Dice", "mean of structures"] == 1.0
    for number, (one, ref) in enumerate((("other", "nifti"), ("other", "seg"), ("nifti", "other"))):
        done = isocenter.evaluate_predictions(
            tmp_path / f"p{number}", predictions=tmp_path / one, references=tmp_path / ref, **QUICK
        )  # fmt: skip
        assert figures(done)["Dice", "mean of structures"] == pytest.approx(expected), (one, ref)
        assert ("Dice", "liver") in figures(done), "the names of the SEG's segments are told"


def test_a_table_matches_names_that_differ(masks, nine: Path, tmp_path: Path) -> None:
    one, ref, _ = masks
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    rows = []
    for n in range(12):
        shutil.copy(one / f"c{n:02d}.nii.gz", renamed / f"answer_{n}.nii.gz")
        rows.append((f"case {n}", f"answer_{n}.nii.gz", f"c{n:02d}.nii.gz"))
    match = table(tmp_path / "match.csv", ["case", "prediction", "reference"], rows)
    found = isocenter.evaluate_predictions(
        tmp_path / "out", predictions=renamed, references=ref, match=match, patients=nine
    )
    same = isocenter.evaluate_predictions(tmp_path / "same", predictions=one, references=ref, patients=nine)
    assert figures(found) == pytest.approx(figures(same))
    with pytest.raises(DataError, match=r"have no prediction .* and 12 cases have no reference"):
        isocenter.evaluate_predictions(tmp_path / "none", predictions=renamed, references=ref, **QUICK)


def test_what_is_missing_is_named_and_counted(masks, tmp_path: Path) -> None:
    one, ref, _ = masks
    part = tmp_path / "part"
    shutil.copytree(one, part)
    (part / "c03.nii.gz").unlink()
    save(ball(50)[1], part / "extra.nii.gz")
    with pytest.raises(DataError, match=r"1 case has no prediction .*c03.* and 1 case has no reference .*extra"):
        isocenter.evaluate_predictions(tmp_path / "a", predictions=part, references=ref, **QUICK)
    assert not (tmp_path / "a").exists(), "nothing half-written is left"
    found = isocenter.evaluate_predictions(
        tmp_path / "b", predictions=part, references=ref, missing="count-as-zero", **QUICK
    )
    whole = isocenter.evaluate_predictions(tmp_path / "c", predictions=one, references=ref, **QUICK)
    lost = dice(np.roll(ball(3)[1], 1, axis=0) == 1, ball(3)[1] == 1)
    assert figures(found)["Dice", "label 1"] == pytest.approx(figures(whole)["Dice", "label 1"] - lost / 12)
    assert any("1 references have no prediction" in n for n in found.notes)
    hausdorff = next(f for f in found.figures if (f.name, f.structure) == ("HD95", "label 1"))
    assert (hausdorff.left_out, hausdorff.cases) == (1, 11)
    assert found.worst[0].case == 4 and "no prediction" in found.worst[0].note


def test_fewer_than_ten_patients_get_no_interval(tmp_path: Path) -> None:
    one, ref, _ = mask_folders(tmp_path / "few", 6)
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=one, references=ref, **QUICK)
    assert all(f.low is None and "6 patients are too few" in f.reason for f in found.figures if f.value is not None)
    patients = table(tmp_path / "p.csv", ["case", "patient"], [(f"c{n:02d}", f"p{n // 2}") for n in range(6)])
    with_patients = isocenter.evaluate_predictions(
        tmp_path / "out2", predictions=one, references=ref, patients=patients, **QUICK
    )  # fmt: skip
    assert with_patients.patients == 3 and with_patients.patients_known


def test_segs_of_one_image_that_span_different_planes(tmp_path: Path) -> None:
    from isocenter.verbs.evaluation.masks import Pair, _together

    one = np.zeros((2, 3, 4), np.uint16)
    one[0, 1, 1] = 1
    grid = Geometry.axial((2, 3, 4), spacing_mm=(2, 1, 1), origin_mm=(0, 0, 10))
    other = Geometry.axial((3, 3, 4), spacing_mm=(2, 1, 1), origin_mm=(0, 0, 12))
    two = np.zeros((3, 3, 4), np.uint16)
    two[2, 1, 1] = 2
    a, b, both = _together((one, grid), (two, other), Pair("x", tmp_path / "p.dcm", tmp_path / "r.dcm"))
    assert a.shape == b.shape == both.shape == (4, 3, 4)
    assert a[0, 1, 1] == 1 and b[3, 1, 1] == 2
    moved = Geometry.axial((3, 3, 4), spacing_mm=(2, 1, 1), origin_mm=(0, 0, 12.7))
    with pytest.raises(GeometryError, match="different grids"):
        _together((one, grid), (two, moved), Pair("x", tmp_path / "p.dcm", tmp_path / "r.dcm"))


# Tables


def test_probabilities_of_yes(tmp_path: Path) -> None:
    rows = binary_rows()
    columns = ["case", "patient", "truth", "p"]
    one = table(tmp_path / "one.csv", columns, rows)
    two = table(tmp_path / "two.csv", columns, binary_rows(noise=3.0, seed=4))
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=one, against=str(two), **QUICK)
    truth, p = np.array([r[2] for r in rows]) == 1, np.array([r[3] for r in rows])
    values = figures(found)
    assert values["AUROC", ""] == pytest.approx(auroc(truth, p))
    assert values["Brier", ""] == pytest.approx(np.mean((p - truth) ** 2))
    assert values["ECE", ""] == pytest.approx(expected_calibration_error(truth, p, bins=10))
    assert found.patients == 20 and found.patients_known
    assert any("20 of 20 patients have more than one case" in note for note in found.notes)
    assert found.roc[0].sensitivity[-1] == 1.0 and sum(found.reliability[0].counts) == 40
    area = np.trapezoid(found.roc[0].sensitivity, found.roc[0].false_positive_rate)
    assert area == pytest.approx(auroc(truth, p), abs=1e-5)
    compared = {c.name: c for c in found.comparisons}
    assert compared["AUROC"].test == "paired bootstrap by patient" and compared["accuracy at 0.5"].p is not None


def test_one_case_a_patient_is_compared_by_delong_and_mcnemar(tmp_path: Path) -> None:
    columns = ["case", "truth", "p"]
    one = table(tmp_path / "a.csv", columns, [(r[0], r[2], r[3]) for r in binary_rows(30)])
    two = table(tmp_path / "b.csv", columns, [(r[0], r[2], r[3]) for r in binary_rows(30, seed=9, noise=2)])
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=one, against=str(two), **QUICK)
    tests = {c.name: c.test for c in found.comparisons}
    assert (tests["AUROC"], tests["accuracy at 0.5"]) == ("DeLong", "McNemar, exact")


def test_classes_findings_numbers_and_ranks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 30
    k = np.arange(n) % 3
    logits = rng.normal(0, 1, (n, 3)) + 2 * np.eye(3)[k]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = ["normal", "benign", "malignant"]
    classes = table(
        tmp_path / "classes.csv", ["case", "patient", "truth", *(f"p_{x}" for x in names)],
        [(f"c{i}", few(i), names[k[i]], *(f"{v:.6f}" for v in p[i])) for i in range(n)],
    )  # fmt: skip
    found = isocenter.evaluate_predictions(tmp_path / "a", predictions=classes, **QUICK)
    values = figures(found)
    assert values["accuracy", ""] == pytest.approx((p.argmax(1) == k).mean())
    assert values["AUROC", "benign"] == pytest.approx(auroc(k == 1, np.round(p[:, 1], 6)))
    assert len(found.roc) == 3 and found.kind == "classes"
    findings = table(
        tmp_path / "findings.csv",
        ["case", "patient", "truth_mass", "p_mass", "truth_cyst", "p_cyst", "truth_scar", "p_scar"],
        [(f"c{i}", few(i), "" if i < 3 else int(k[i] == 1), f"{p[i, 1]:.6f}", int(k[i] == 0), f"{p[i, 0]:.6f}", 0, 0.5)
         for i in range(n)],
    )  # fmt: skip
    several = isocenter.evaluate_predictions(tmp_path / "b", predictions=findings, **QUICK)
    assert figures(several)["AUROC", "mass"] == pytest.approx(auroc(k[3:] == 1, np.round(p[3:, 1], 6)))
    assert any("scar: one class only" in note for note in several.notes) and several.kind == "findings"
    numbers = table(
        tmp_path / "n.csv",
        ["case", "patient", "truth", "prediction"],
        [(f"c{i}", few(i), i, i + 0.5) for i in range(n)],
    )
    plain = figures(isocenter.evaluate_predictions(tmp_path / "c", predictions=numbers, **QUICK))
    assert plain["mean absolute error", ""] == 0.5 and plain["mean error", ""] == 0.5
    ranks = table(
        tmp_path / "s.csv",
        ["case", "patient", "truth", "score"],
        [(f"c{i}", few(i), int(k[i] == 0), logits[i, 0]) for i in range(n)],
    )
    ranked = isocenter.evaluate_predictions(tmp_path / "d", predictions=ranks, **QUICK)
    assert not ranked.reliability and any("no calibration is told" in note for note in ranked.notes)


def test_survival(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    risk = rng.normal(0, 1, 60)
    time, lost = rng.exponential(500 * np.exp(-risk)) + 1, rng.uniform(50, 1500, 60)
    days, event = np.minimum(time, lost), time <= lost
    chances = [1 - np.exp(-day / (500 * np.exp(-risk))) for day in (200, 600)]
    rows = [
        (f"c{i}", few(i), f"{days[i]:.2f}", int(event[i]), risk[i], *(f"{p[i]:.5f}" for p in chances))
        for i in range(60)
    ]
    file = table(tmp_path / "s.csv", ["case", "patient", "days", "event", "risk", "risk_200", "risk_600"], rows)
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=file, **QUICK)
    values = figures(found)
    assert 0.6 < values["Harrell's C", ""] < 0.9 and 0.6 < values["Uno's C", ""] < 0.9
    assert {"dynamic AUC", "Brier", "integrated Brier"} <= {name for name, _ in values} and found.kind == "survival"
    without = table(tmp_path / "t.csv", ["case", "patient", "time", "event", "risk"], [r[:5] for r in rows])
    again = isocenter.evaluate_predictions(tmp_path / "out2", predictions=without, **QUICK)
    assert figures(again)["Harrell's C", ""] == values["Harrell's C", ""]
    assert any("no Brier score" in note for note in again.notes)


def test_reports(tmp_path: Path) -> None:
    said = ("Small left pleural effusion. No pneumothorax.", "Small right pleural effusion. No pneumothorax.")
    rows = [(f"c{i}", said[0], said[i % 2]) for i in range(12)]
    file = table(tmp_path / "r.csv", ["case", "reference", "report"], rows)
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=file, **QUICK)
    values = figures(found)
    assert values["findings on the wrong side in a report", ""] == 0.5 and values["claim F1", ""] == 0.75
    assert found.kind == "reports" and "wrong side: pleural effusion" in found.worst[0].note
    assert found.worst_by == "how far off" and found.worst[0].value is not None and found.worst[0].value > 2
    assert found.worst[9].value == 0 and found.worst[9].case % 2 == 1, "a report that says the same is not off at all"
    page = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    assert re.search(r'class="number">how far off</th>.*?case 2</th><td class="number">[23]\.', page, re.DOTALL)
    for kind, column in (("ref", 1), ("one", 2)):
        (tmp_path / kind).mkdir()
        for row in rows:
            (tmp_path / kind / f"{row[0]}.txt").write_text(row[column])
    folders = isocenter.evaluate_predictions(
        tmp_path / "out2", predictions=tmp_path / "one", references=tmp_path / "ref", **QUICK
    )
    assert figures(folders) == values
    (tmp_path / "one" / "c3.txt").unlink()
    with pytest.raises(DataError, match=r"1 case has no report .*c3"):
        isocenter.evaluate_predictions(
            tmp_path / "out3", predictions=tmp_path / "one", references=tmp_path / "ref", **QUICK
        )


def test_a_shift_between_sites(tmp_path: Path) -> None:
    file = table(tmp_path / "s.csv", ["case", "truth", "score"], [(r[0], r[2], r[3]) for r in binary_rows(48)])
    groups = table(tmp_path / "g.csv", ["case", "site"], [(f"c{i}", "AB"[i % 2]) for i in range(48)])
    found = isocenter.evaluate_predictions(
        tmp_path / "o", predictions=file, groups=groups, shift=("site", "A", "B"), **QUICK
    )
    assert found.shift is not None and found.shift.difference == pytest.approx(found.shift.second - found.shift.first)
    with pytest.raises(ConfigError, match="table of groups has"):
        isocenter.evaluate_predictions(
            tmp_path / "o2", predictions=file, groups=groups, shift=("scanner", "A", "B"), **QUICK
        )
    for wanted, said in (("C", "no case is of 'C'; there are: A, B"), ("A", "named twice")):
        with pytest.raises(ConfigError, match=said):
            isocenter.evaluate_predictions(
                tmp_path / "o3", predictions=file, groups=groups, shift=("site", "A", wanted), **QUICK
            )
    named = table(tmp_path / "n.csv", ["case", "PatientName"], [(r[0], f"Doe{r[1]}") for r in binary_rows(48)])
    with pytest.raises(ConfigError, match="says who patients are") as raised:
        isocenter.evaluate_predictions(
            tmp_path / "o4", predictions=file, groups=named, shift=("PatientName", "A", "B"), **QUICK
        )
    assert "Doe" not in str(raised.value)


def test_names_of_patients_reach_neither_page_nor_document(tmp_path: Path) -> None:
    rows = binary_rows(48)
    file = table(tmp_path / "s.csv", ["case", "patient", "truth", "score"], rows)
    columns = ["patient", "PatientName", "birth_date", "reader"]
    known = sorted({r[1] for r in rows})
    made = [(p, f"Doe^{n}", f"19{n + 20}-02-03", f"Roe{n}") for n, p in enumerate(known)]
    groups = table(tmp_path / "g.csv", columns, made)
    found = isocenter.evaluate_predictions(tmp_path / "out", predictions=file, groups=groups, **QUICK)
    for name in ("evaluation.json", "evaluation.html"):
        text = (tmp_path / "out" / name).read_text("utf-8")
        assert not re.search(r"Doe|Roe|19\d\d-02-03", text), name
    assert found.subgroups is not None and len([n for n in found.subgroups.notes if "says who patients are" in n]) == 2


# What is refused


GOOD = [(f"c{i}", i % 2, 0.25 + 0.5 * (i % 2)) for i in range(12)]
BAD_TABLES = {
    "a probability above 1": (
        [*GOOD[:-1], ("c11", 1, 1.2)],
        "line 13: p is out of range; a probability is from 0 to 1",
    ),
    "a probability below 0": ([*GOOD[:-1], ("c11", 1, -0.1)], "line 13: p is out of range"),
    "not a number": ([*GOOD[:-1], ("c11", 1, "nan")], "line 13: p is NaN or infinite"),
    "infinity": ([*GOOD[:-1], ("c11", 1, "inf")], "line 13: p is NaN or infinite"),
    "words": ([*GOOD[:-1], ("c11", 1, "high")], "line 13: p is no number"),
    "an empty cell": ([*GOOD[:-1], ("c11", 1, "")], "line 13: p is empty"),
    "one class only": ([(c, 0, p) for c, _, p in GOOD], "one class only: 0 of 12 cases are positive"),
    "a case twice": ([*GOOD[:-1], ("c3", 1, 0.5)], "line 13 names the case of line 5 again"),
    "a truth that is none": ([*GOOD[:-1], ("c11", 2, 0.5)], "line 13: truth must be 0 or 1"),
    "a case without a name": ([*GOOD[:-1], ("", 1, 0.5)], "line 13: case is empty"),
    "a short row": ([*GOOD[:-1], ("c11", 1)], "line 13 has 2 cells, the heading has 3"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_bad_tables(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, words = BAD_TABLES[what]
    file = table(tmp_path / "bad.csv", ["case", "truth", "p"], rows)
    assert cli.run(["evaluate", str(file), "--out", str(tmp_path / "out")]) == cli.Exit.INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said and "bad.csv" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "row", "words"),
    [
        (["case", "truth", "answer"], ("a", 1, 2), "needs a column of answers"),
        (["case", "p"], ("a", 0.5), "needs a column 'truth'"),
        (["truth", "p"], (1, 0.5), "needs a column 'case'"),
        (["case", "truth", "p", "p"], ("a", 1, 0.5, 0.5), "stands twice"),
        (["case", "truth", "p_x", "p_y"], ("a", "z", 0.5, 0.5), "the truth is none of the classes x, y"),
        (["case", "truth", "p_x", "p_y"], ("a", "x", 0.5, 0.4), "do not add up to 1"),
        (["case", "days", "event", "risk"], ("a", -1, 1, 0.5), "days is out of range; a time in days is 0 or more"),
        (["case", "days", "event", "risk"], ("a", 5, 2, 0.5), "event must be 1"),
        (["case", "days", "event", "risk"], ("a", 5, 0, 0.5), "nobody had the event"),
        (["case", "reference", "report"], ("a", "", "x"), "reference is empty"),
    ],
)
def test_bad_columns(columns: list[str], row: tuple, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        isocenter.evaluate_predictions(tmp_path / "out", predictions=table(tmp_path / "t.csv", columns, [row]), **QUICK)


def test_bad_masks(masks, tmp_path: Path) -> None:
    one, ref, _ = masks
    cases = {
        "shape": (ball(5)[1][:-1], AFFINE, GeometryError, r"c05.nii.gz .*c05.nii.gz .*lie on different grids"),
        "place": (
            ball(5)[1],
            AFFINE + np.array([[0, 0, 0, 3], [0] * 4, [0] * 4, [0] * 4]),
            GeometryError,
            "different grids",
        ),
        "fractions": (ball(5)[1] * 0.5, AFFINE, DataError, "not whole numbers"),
    }
    for name, (array, affine, kind, words) in cases.items():
        bad = tmp_path / name
        shutil.copytree(one, bad)
        save(array, bad / "c05.nii.gz", affine)
        with pytest.raises(kind, match=words):
            isocenter.evaluate_predictions(tmp_path / f"out-{name}", predictions=bad, references=ref, **QUICK)
    twice = tmp_path / "twice"
    shutil.copytree(one, twice)
    shutil.copy(one / "c05.nii.gz", twice / "c05.nii")
    with pytest.raises(DataError, match="have one name"):
        isocenter.evaluate_predictions(tmp_path / "out", predictions=twice, references=ref, **QUICK)
    broken = tmp_path / "broken"
    shutil.copytree(one, broken)
    (broken / "c05.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="c05"):
        isocenter.evaluate_predictions(tmp_path / "out", predictions=broken, references=ref, **QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no mask"):
        isocenter.evaluate_predictions(tmp_path / "out", predictions=tmp_path / "empty", references=ref, **QUICK)


def test_tables_that_do_not_fit(masks, tmp_path: Path) -> None:
    one, ref, _ = masks
    patients = table(tmp_path / "p.csv", ["case", "patient"], [("c00", "a")])
    with pytest.raises(DataError, match="does not name the patient of 11 cases, case 2 first"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=one, references=ref, patients=patients, **QUICK)
    twice = table(tmp_path / "g.csv", ["case", "sex"], [("c00", "F"), ("c00", "M")])
    with pytest.raises(DataError, match="line 3 names the case of line 2 again"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=one, references=ref, groups=twice, **QUICK)
    nothing = table(tmp_path / "h.csv", ["case"], [("c00",)])
    with pytest.raises(DataError, match="one to make groups of"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=one, references=ref, groups=nothing, **QUICK)
    age = table(tmp_path / "a.csv", ["case", "age"], [(f"c{n:02d}", "old") for n in range(12)])
    with pytest.raises(DataError, match="age of case 1"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=one, references=ref, groups=age, **QUICK)
    some = table(tmp_path / "s.csv", ["case", "sex"], [("c00", "F"), ("other", "M")])
    found = isocenter.evaluate_predictions(tmp_path / "o", predictions=one, references=ref, groups=some, **QUICK)
    assert found.subgroups is not None
    assert any("11 of 12 cases are not in the table" in n for n in found.subgroups.notes)
    with pytest.raises(DataError, match="same cases of both"):
        b = table(tmp_path / "b1.csv", ["case", "truth", "p"], GOOD)
        c = table(tmp_path / "b2.csv", ["case", "truth", "p"], GOOD[:-1])
        isocenter.evaluate_predictions(tmp_path / "o3", predictions=b, against=str(c), **QUICK)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give predictions"),
        (["--task", "lungs-cxr"], "give both --task TASK and --data SET"),
        (["x", "--corrupt", "blur"], "images can only be made worse where a task runs"),
        (["x", "--shift", "site", "A", "B"], "give --groups TABLE"),
        (["x", "--match", "m.csv"], "--match is for two folders"),
        (["x", "--level", "1.5"], "level"),
        (["x", "--resamples", "3"], "resamples"),
        (["x", "--missing", "ignore"], "missing"),
        (["--task", "interact", "--data", "x", "--corrupt", "fog"], "no corruption is named 'fog'"),
    ],
)
def test_settings_that_do_not_belong_together(arguments: list[str], words: str, tmp_path: Path, capsys) -> None:
    assert cli.run(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == cli.Exit.USAGE
    assert words in capsys.readouterr().err


def test_an_older_evaluation_alone_is_replaced(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", ["case", "truth", "p"], GOOD)
    out = tmp_path / "out"
    isocenter.evaluate_predictions(out, predictions=file, **QUICK)
    with pytest.raises(ConfigError, match="not empty"):
        isocenter.evaluate_predictions(out, predictions=file, **QUICK)
    isocenter.evaluate_predictions(out, predictions=file, overwrite=True, **QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="does not hold"):
        isocenter.evaluate_predictions(tmp_path / "mine", predictions=file, overwrite=True, **QUICK)
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_the_same_seed_gives_the_same_document(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", ["case", "truth", "score"], [(r[0], r[2], r[3]) for r in binary_rows(24)])
    one, two, three = (
        isocenter.evaluate_predictions(tmp_path / str(i), predictions=file, seed=seed, **QUICK)
        for i, seed in enumerate((1, 1, 2))
    )
    assert one.figures == two.figures and one.figures != three.figures


@pytest.mark.parametrize(("name", "schema"), [("evaluation", evaluation_schema), ("scorecard", scorecard_schema)])
def test_the_published_schema_is_the_schema(name: str, schema) -> None:
    file = ROOT / "docs" / "reference" / f"{name}.schema.json"
    assert json.loads(file.read_text("utf-8")) == schema(), (
        f"write isocenter.verbs.evaluation.document.{name}_schema() to {file.name}"
    )
