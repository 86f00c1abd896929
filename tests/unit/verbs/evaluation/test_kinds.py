"""Detection, retrieval, clicks and survival by task in `isocenter evaluate`: by hand, and every bad input.

References: figures worked out by hand on small cases; `evaluate.detection` (held to VOC's and COCO's rules and to
pycocotools by its own tests); scikit-learn's average precision; pairs counted one by one for concordance.
"""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image as Picture

import isocenter
from evaluation_cases import ball, save, table
from isocenter import cli
from isocenter.core import Code, ModelRef, Prediction, Risk, Study, TaskEntry, Uncertainty
from isocenter.core.errors import ConfigError, DataError, GeometryError, IsocenterError, UnitsError
from isocenter.data.labelled import open_labelled
from isocenter.evaluate.detection import COCO_IOUS, BoxRule, detection_precision, froc
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.ranking import concordance
from isocenter.tasks.segment.lungs_cxr.cards import CARD
from isocenter.verbs.evaluation.document import EvaluationDocument, evaluation_schema
from isocenter.verbs.evaluation.runs import RunSettings, ask, system_of

QUICK = {"resamples": 100}
BOX = ["image", "patient", "class", "x0", "y0", "x1", "y1"]
FOUND = ["image", "class", "x0", "y0", "x1", "y1", "score"]


def figures(found: EvaluationDocument) -> dict[tuple[str, str], float | None]:
    return {(f.name, f.structure): f.value for f in found.figures}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open() as stream:
        return list(csv.DictReader(stream))


# Detection


def scene(root: Path, noise: float = 1.0, seed: int = 0) -> tuple[Path, Path]:
    """Answers and references: 14 images of 12 patients, two classes, 4 images without a thing."""
    rng = np.random.default_rng(seed)
    there, found = [], []
    layout = np.random.default_rng(7)
    for n in range(14):
        image, patient = f"zebra{n}", f"p{min(n, 11)}"
        if n >= 10:
            there.append((image, patient, "", "", "", "", ""))
        for k in range(2 if n < 10 else 0):
            low = layout.uniform(0, 60, 2)
            box = [*low, *(low + layout.uniform(8, 20, 2))]
            there.append((image, patient, ("mass", "nodule")[(n + k) % 2], *box))
            moved = np.array(box) + np.tile(rng.normal(0, noise, 2), 2)
            if n != 3:
                found.append((image, ("mass", "nodule")[(n + k) % 2], *moved, rng.uniform(0.3, 1)))
        if n % 3:
            low = rng.uniform(0, 60, 2)
            found.append((image, "mass", *low, *(low + 9), rng.uniform(0, 0.7)))
    return table(root / "pred.csv", FOUND, found), table(root / "ref.csv", BOX, there)


def arrays(pred: Path, ref: Path, name: str) -> tuple[list, list, list]:
    """Read the tables once more, plainly."""
    rows = [list(csv.DictReader(f.read_text().splitlines())) for f in (ref, pred)]
    images = sorted({r["image"] for r in rows[0]})
    found = []
    for some in rows:
        mine = [r for r in some if r["class"] == name]
        found.append([
            np.array([[float(r[c]) for c in ("x0", "y0", "x1", "y1")] for r in mine if r["image"] == i]).reshape(-1, 4)
            for i in images
        ])  # fmt: skip
    scores = [np.array([float(r["score"]) for r in rows[1] if r["image"] == i and r["class"] == name]) for i in images]
    return found[0], found[1], scores


def test_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred, ref = scene(tmp_path)
    other, _ = scene(tmp_path / "other", noise=4.0, seed=3)
    groups = table(tmp_path / "g.csv", ["patient", "sex"], [(f"p{n}", "FM"[n % 2]) for n in range(12)])
    out = tmp_path / "out"
    code = cli.run([
        "evaluate", str(pred), str(ref), "--corners", "half-open", "--out", str(out), "--against", str(other),
        "--groups", str(groups), "--resamples", "100", "--json",
    ])  # fmt: skip
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    Draft202012Validator(evaluation_schema()).validate(document)
    found = EvaluationDocument.model_validate(document)
    values = figures(found)
    for name in ("mass", "nodule"):
        lists = arrays(pred, ref, name)
        curve = froc(*lists, rule=BoxRule(0.1))
        assert values["FROC mean sensitivity", name] == pytest.approx(curve.mean)
        assert values["sensitivity at 1/8 false positives an image", name] == pytest.approx(curve.at_rates[0])
        assert values["sensitivity at 8 false positives an image", name] == pytest.approx(curve.at_rates[-1])
        for iou in (0.1, 0.5):
            assert values[f"AP at IoU {iou}", name] == pytest.approx(detection_precision(*lists, rule=BoxRule(iou)))
        coco = np.mean([detection_precision(*lists, rule=BoxRule(i), points="coco") for i in COCO_IOUS])
        assert values["AP, mean of IoU 0.5 to 0.95", name] == pytest.approx(coco)
    pair = [values["AP at IoU 0.5", name] for name in ("mass", "nodule")]
    assert values["AP at IoU 0.5", "mean of classes"] == pytest.approx(np.mean(pair))
    first = found.figures[0]
    assert (first.name, first.structure) == ("FROC mean sensitivity", "mean of classes")
    assert first.patients == 12 and first.low is not None and first.low <= first.value <= first.high
    assert (found.kind, found.cases, found.patients) == ("detections", 14, 12)
    assert any("4 of 14 images hold nothing" in note for note in found.notes)
    compared = {(c.name, c.structure): c for c in found.comparisons}["AP at IoU 0.5", "mean of classes"]
    assert compared.difference is not None and compared.difference < 0 and compared.p_corrected is not None
    assert found.subgroups is not None and {r.levels[0] for r in found.subgroups.rows} == {"F", "M"}
    assert {c.name for c in found.curves} == {"mass", "nodule"} and {w.what for w in found.warnings} >= {"empty images"}
    assert [a.what for a in found.recommended][:2] == ["froc", "detection_ap"]
    page = (out / "evaluation.html").read_text("utf-8")
    assert "FROC" in page and "zebra" not in page and "zebra" not in (out / "evaluation.json").read_text("utf-8")
    assert sum(int(r["things"]) for r in rows_of(out)) == 20 and len(rows_of(out)) == 14


def test_detection_by_hand(tmp_path: Path) -> None:
    """Two images with one box each and one without; answers: right, wrong in the empty one, right but repeated."""
    ref = table(tmp_path / "r.csv", ["image", "x0", "y0", "x1", "y1"], [("a", 0, 0, 9, 9), ("b", 0, 0, 9, 9)])
    images = table(tmp_path / "i.csv", ["image", "patient"], [("a", "1"), ("b", "2"), ("c", "3")])
    found = [("a", 0, 0, 9, 9, 0.9), ("c", 0, 0, 9, 9, 0.8), ("b", 0, 0, 9, 4, 0.7), ("b", 0, 5, 9, 9, 0.6)]
    pred = table(tmp_path / "p.csv", ["image", "x0", "y0", "x1", "y1", "score"], found)
    done = isocenter.evaluate_predictions(
        tmp_path / "o", predictions=pred, references=ref, images=images, corners="inclusive", **QUICK
    )
    values = figures(done)
    # 10 by 5 of 10 by 10 is an IoU of exactly one half, for the boxes are inclusive.
    assert values["AP at IoU 0.5", ""] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # COCO: at IoU 0.5 precision 1 at 51 sensitivities and 2/3 at 50; above, 1 at 51 of them alone.
    assert values["AP, mean of IoU 0.5 to 0.95", ""] == pytest.approx(((51 + 50 * 2 / 3) + 9 * 51) / 1010)
    # One false answer in three images; the second answer in b is a repeat, which FROC leaves out.
    assert values["sensitivity at 1/4 false positives an image", ""] == 0.5
    assert values["sensitivity at 1/2 false positives an image", ""] == 1.0
    assert values["FROC mean sensitivity", ""] == pytest.approx((2 * 0.5 + 5) / 7)
    assert all("3 patients are too few" in f.reason for f in done.figures if f.value is not None)
    assert done.patients_known and done.worst[0].case == 3
    assert [(r["found"], r["missed"], r["false"]) for r in rows_of(tmp_path / "o")] == [
        ("1", "0", "0"), ("1", "0", "0"), ("0", "0", "1"),
    ]  # fmt: skip
    open_corners = isocenter.evaluate_predictions(
        tmp_path / "o2", predictions=pred, references=ref, images=images, corners="half-open", **QUICK
    )
    assert figures(open_corners)["AP at IoU 0.5", ""] == 0.5, "4 of 9 is less than a half"


def test_a_class_of_which_nothing_was_found_and_one_that_is_nowhere(tmp_path: Path) -> None:
    ref = table(tmp_path / "r.csv", [*REF, "class"], [(*HAND[0], "x"), (*HAND[1], "y")])
    pred = table(tmp_path / "p.csv", [*PRED, "class"], [(*SAID[0], "x"), (*SAID[1], "z"), ("a", 2, 2, 2, 5, 0.1, "x")])
    done = isocenter.evaluate_predictions(
        tmp_path / "o", predictions=pred, references=ref, corners="half-open", **QUICK
    )
    values = figures(done)
    assert [values["AP at IoU 0.5", name] for name in ("x", "y", "mean of classes")] == [1.0, 0.0, 0.5]
    assert ("AP at IoU 0.5", "z") not in values
    assert any("1 answers are of 1 classes of which no image holds a thing" in note for note in done.notes)
    assert any("1 answers are boxes that hold nothing" in note for note in done.notes)
    assert rows_of(tmp_path / "o")[0]["false"] == "1", "one false answer in two images is allowed for"


def test_points_and_millimetres(tmp_path: Path) -> None:
    things = [(f"i{n}", 10, 10, 5, 3) for n in range(3)]
    ref = table(tmp_path / "r.csv", ["image", "x_mm", "y_mm", "z_mm", "radius_mm"], things)
    columns = ["image", "x_mm", "y_mm", "z_mm", "score"]
    said = [("i0", 10, 10, 8, 0.9), ("i1", 10, 10, 8.1, 0.8), ("i2", 11, 11, 5, 0.7)]
    pred = table(tmp_path / "p.csv", columns, said)
    done = isocenter.evaluate_predictions(tmp_path / "o", predictions=pred, references=ref, **QUICK)
    # True, false, true: precision 1 for the first third, 2/3 for the second.
    assert figures(done)["AP", ""] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert any("within its radius of its centre (in mm)" in note for note in done.notes)
    assert any("every image holds a thing" in note for note in done.notes)
    assert "no empty images" in {w.what for w in done.warnings}
    boxes = [(f"i{n}", 8, 8, 4, 12, 12, 6) for n in range(3)]
    columns = ["image", "x0_mm", "y0_mm", "z0_mm", "x1_mm", "y1_mm", "z1_mm"]
    inside = table(tmp_path / "b.csv", columns, boxes)
    done = isocenter.evaluate_predictions(tmp_path / "o2", predictions=pred, references=inside, **QUICK)
    # One of three lies inside, below two that do not: it is found from one false answer an image on, 4 of 7 rates.
    assert figures(done)["FROC mean sensitivity", ""] == pytest.approx(4 / 7 * 1 / 3)


HAND = [("a", 0, 0, 9, 9), ("b", 0, 0, 9, 9)]
SAID = [("a", 0, 0, 9, 9, 0.9), ("b", 1, 1, 9, 9, 0.4)]
REF, PRED = ["image", "x0", "y0", "x1", "y1"], ["image", "x0", "y0", "x1", "y1", "score"]
BAD_BOXES = {
    "ends first": (REF, HAND, PRED, [*SAID, ("b", 5, 5, 4, 9, 0.3)], GeometryError, "line 4: the box ends before"),
    "nothing": (REF, [*HAND, ("b", 5, 5, 5, 9)], PRED, SAID, GeometryError, "line 4: the box holds nothing"),
    "not a number": (REF, HAND, PRED, [*SAID, ("b", "nan", 5, 6, 9, 0.3)], DataError, "line 4: x0 is NaN"),
    "no score": (REF, HAND, PRED, [*SAID, ("b", 4, 5, 6, 9, "nan")], DataError, "line 4: score is NaN"),
    "no scores": (REF, HAND, REF, HAND, DataError, "needs a column 'score'"),
    "half a place": (REF, [*HAND, ("c", 5, "", 6, 9)], PRED, SAID, DataError, "line 4: y0 is empty"),
    "no place": (REF, HAND, PRED, [*SAID, ("b", "", "", "", "", 0.3)], DataError, "an answer needs one"),
    "twice there": (REF, [*HAND, HAND[0]], PRED, SAID, DataError, "line 4 says the same as line 2"),
    "twice said": (REF, HAND, PRED, [*SAID, SAID[1]], DataError, "line 4 says the same as line 3"),
    "other image": (REF, HAND, PRED, [*SAID, ("c", 0, 0, 9, 9, 0.1)], DataError, "that of line 4 among them"),
    "nothing at all": (REF, [("a", "", "", "", "")], PRED, SAID[:1], DataError, "no image holds a thing"),
    "one class known": (
        [*REF, "class"], [(*r, "x") for r in HAND], PRED, SAID, DataError, "has no column class, and the other"),
    "no class": ([*REF, "class"], [(*r, "") for r in HAND], PRED, SAID, DataError, "line 2: class is empty"),
    "axes": (
        [*REF, "z0", "z1"], [(*r, 0, 3) for r in HAND], PRED, SAID, GeometryError, "2 axes, the references are of 3"),
    "units": (
        ["image", "x0_mm", "y0_mm", "x1_mm", "y1_mm"], HAND, PRED, SAID, UnitsError,
        "pixels, the references are in mm"),
    "mixed": ([*REF, "z0"], [(*r, 0) for r in HAND], PRED, SAID, DataError, "z0 do not belong to it"),
    "no columns": (["image", "left"], [("a", 1)], PRED, SAID, DataError, "needs the columns x0,y0,x1,y1"),
    "no radius": (
        ["image", "x", "y"], [("a", 1, 2)], ["image", "x", "y", "score"], [("a", 1, 2, 0.5)], UnitsError,
        "needs a column radius"),
    "radius": (
        ["image", "x", "y", "radius"], [("a", 1, 2, 0)], ["image", "x", "y", "score"], [("a", 1, 2, 0.5)], DataError,
        "line 2: the radius must be above zero"),
    "boxes for points": (
        ["image", "x", "y", "radius"], [("a", 1, 2, 3)], PRED, SAID, GeometryError, "the references are points"),
    "two patients": (
        [*REF, "patient"], [(*HAND[0], "p"), ("a", 1, 1, 3, 3, "q")], PRED, SAID[:1], DataError, "another patient"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_BOXES)
def test_bad_places(what: str, tmp_path: Path) -> None:
    columns, there, more, said, kind, words = BAD_BOXES[what]
    ref, pred = table(tmp_path / "r.csv", columns, there), table(tmp_path / "p.csv", more, said)
    with pytest.raises(kind, match=words):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=pred, references=ref, corners="half-open", **QUICK)
    assert not (tmp_path / "o").exists()


def test_what_must_be_said_of_places(tmp_path: Path) -> None:
    ref, pred = table(tmp_path / "r.csv", REF, HAND), table(tmp_path / "p.csv", PRED, SAID)

    def run(**settings: object) -> EvaluationDocument:
        return isocenter.evaluate_predictions(
            tmp_path / "o", **{"predictions": pred, "references": ref, "corners": "half-open"} | QUICK | settings
        )

    with pytest.raises(ConfigError, match="say what the corners of the boxes are"):
        run(corners=None)
    with pytest.raises(ConfigError, match="least_iou"):
        run(least_iou=0.0)
    with pytest.raises(DataError, match=r"lacks 1 images of r\.csv, that of its line 3"):
        run(images=table(tmp_path / "i.csv", ["image"], [("a",)]))
    with pytest.raises(DataError, match="line 4 names an image again"):
        run(images=table(tmp_path / "i.csv", ["image"], [("a",), ("b",), ("a",)]))
    with pytest.raises(DataError, match="patient of 1 images is not known"):
        patients = table(tmp_path / "rp.csv", [*REF, "patient"], [(*r, "p") for r in HAND])
        run(references=patients, images=table(tmp_path / "i.csv", ["image"], [("a",), ("b",), ("c",)]))
    with pytest.raises(DataError, match="give two tables"):
        run(references=None, corners=None)
    with pytest.raises(ConfigError, match="--corners and --images are for two tables"):
        run(references=None)
    with pytest.raises(ConfigError, match="is not a folder"):
        run(references=tmp_path)
    silent = run(images=table(tmp_path / "i.csv", ["image"], [("a",), ("b",), ("c",)]), overwrite=True)
    assert any("1 of 3 images have no answer" in note for note in silent.notes)


# Retrieval


def ranked(count: int = 24, candidates: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = np.zeros((count, candidates), dtype=bool)
    right[np.arange(count), np.arange(count) % candidates] = True
    right[:, 0] |= rng.random(count) < 0.2
    return rng.normal(0, 1, right.shape) + 1.5 * right, right


def test_retrieval_of_a_table_and_of_arrays(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    similarity, right = ranked()
    rows = [
        (f"q{q:02d}", f"p{q // 2}", f"c{c}", float(similarity[q, c]), int(right[q, c]))
        for q, c in itertools.product(range(24), range(12))
    ]
    columns = ["query", "patient", "candidate", "score", "relevant"]
    file = table(tmp_path / "r.csv", columns, rows)
    other = table(tmp_path / "r2.csv", columns, [(*r[:3], -r[3], r[4]) for r in rows])
    found = isocenter.evaluate_predictions(tmp_path / "o", predictions=file, against=str(other), **QUICK)
    values = figures(found)
    order = np.argsort(-similarity, axis=1)
    ranks = np.array([min(np.flatnonzero(right[q][order[q]])) + 1 for q in range(24)])
    for k in (1, 5, 10):
        assert values[f"recall at {k}", ""] == pytest.approx((ranks <= k).mean())
    assert values["MRR", ""] == pytest.approx((1 / ranks).mean())
    precision = [metrics.average_precision_score(r, s) for r, s in zip(right, similarity, strict=True)]
    assert values["mAP", ""] == pytest.approx(np.mean(precision))
    assert values["recall at 1, by chance", ""] == pytest.approx(right.mean(axis=1).mean())
    assert found.kind == "retrieval" and found.patients == 12 and found.figures[0].low is not None
    assert {c.name for c in found.curves} == {"the order given", "a random order"}
    compared = {c.name: c for c in found.comparisons}
    assert compared["mAP"].difference < 0 and "recall at 1, by chance" not in compared
    assert "size of the pool" in {w.what for w in found.warnings}
    swapped = table(tmp_path / "r3.csv", columns, [(*r[:4], 1 - r[4]) for r in rows])
    with pytest.raises(DataError, match="disagree on what is true of 24 cases"):
        isocenter.evaluate_predictions(tmp_path / "o3", predictions=file, against=str(swapped), **QUICK)
    np.savez(tmp_path / "r.npz", similarity=similarity, relevant=right, query_patient=np.arange(24) // 2)
    arrays = isocenter.evaluate_predictions(tmp_path / "o2", predictions=tmp_path / "r.npz", **QUICK)
    assert figures(arrays) == pytest.approx(values) and arrays.patients == 12
    assert rows_of(tmp_path / "o2")[0]["candidates"] == "12"


def test_a_query_without_a_relevant_candidate(tmp_path: Path) -> None:
    rows = [("a", "x", 0.9, 1), ("a", "y", 0.1, 0), ("b", "x", 0.9, 0), ("b", "y", 0.1, 0), ("b", "z", 0.2, 0)]
    file = table(tmp_path / "r.csv", ["query", "candidate", "score", "relevant"], rows)
    with pytest.raises(DataError, match=r"1 of 2 queries have no relevant candidate, number 2"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=file, **QUICK)
    found = isocenter.evaluate_predictions(tmp_path / "o", predictions=file, missing="count-as-zero", **QUICK)
    assert figures(found)["recall at 1", ""] == 0.5 and figures(found)["mAP", ""] == 0.5
    assert any("from 2 to 3 candidates" in note for note in found.notes)
    assert ("recall at 5", "") not in figures(found) and found.figures[0].low is None
    assert "2 patients are too few" in found.figures[0].reason


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("a", "x", 0.5, 1), "line 4 names the query and candidate of line 2 again"),
        (("a", "z", "nan", 1), "line 4: score is NaN"),
        (("a", "z", 0.5, 2), "line 4: relevant must be 0 or 1"),
        (("", "z", 0.5, 0), "line 4: query is empty"),
    ],
)
def test_bad_retrieval(row: tuple, words: str, tmp_path: Path) -> None:
    rows = [("a", "x", 0.9, 1), ("a", "y", 0.1, 0), row]
    file = table(tmp_path / "r.csv", ["query", "candidate", "score", "relevant"], rows)
    with pytest.raises(DataError, match=words):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=file, **QUICK)


def test_bad_retrieval_of_one_kind_or_two_patients(tmp_path: Path) -> None:
    columns = ["query", "candidate", "score", "relevant", "patient"]
    cases = {
        "every candidate is relevant": [("a", "x", 0.9, 1, "p"), ("a", "y", 0.1, 1, "p")],
        "no candidate is relevant": [("a", "x", 0.9, 0, "p"), ("a", "y", 0.1, 0, "p")],
        "line 3 gives its query to another patient": [("a", "x", 0.9, 1, "p"), ("a", "y", 0.1, 0, "q")],
    }
    for words, rows in cases.items():
        with pytest.raises(DataError, match=words):
            file = table(tmp_path / "r.csv", columns, rows)
            isocenter.evaluate_predictions(tmp_path / "o", predictions=file, **QUICK)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"relevant": np.eye(3)}, "needs an array 'similarity'"),
        ({"similarity": np.eye(3), "relevant": np.eye(4)}, r"\(3, 3\) and relevant \(4, 4\)"),
        ({"similarity": np.full((3, 3), np.nan), "relevant": np.eye(3)}, "no finite number"),
        ({"similarity": np.eye(3), "relevant": 2 * np.eye(3)}, "bool, or 0 and 1"),
        ({"similarity": np.eye(3), "relevant": np.eye(3), "query_patient": np.zeros(2, int)}, "each of the 3 queries"),
        ({"similarity": np.eye(3), "relevant": np.eye(3), "query": np.array(["a", "a", "b"])}, "have one name"),
        ({"similarity": np.eye(3), "relevant": np.eye(3), "query": np.array([None] * 3)}, "not an .npz of plain"),
        ({"similarity": np.eye(3), "relevant": np.ones((3, 3))}, "every candidate is relevant"),
    ],
)
def test_bad_arrays(arrays: dict, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(DataError, match=words):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=tmp_path / "r.npz", **QUICK)


def test_a_broken_npz(tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"not an .npz"):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=tmp_path / "r.npz", **QUICK)


# Clicks


def test_clicks_of_a_table(tmp_path: Path) -> None:
    rows = [(f"c{n:02d}", f"p{n}", k, min(0.95, 0.5 + 0.05 * n % 0.3 + 0.1 * k)) for n in range(12) for k in (1, 2, 3)]
    columns = ["case", "patient", "click", "dice"]
    file = table(tmp_path / "c.csv", columns, rows)
    other = table(tmp_path / "d.csv", columns, [(*r[:3], r[3] / 2) for r in rows])
    found = isocenter.evaluate_predictions(tmp_path / "o", predictions=file, against=str(other), **QUICK)
    values, each = figures(found), np.array([r[3] for r in rows]).reshape(12, 3)
    for k, name in ((1, "Dice at 1 click"), (2, "Dice at 2 clicks"), (3, "Dice at 3 clicks")):
        assert values[name, ""] == pytest.approx(each[:, k - 1].mean())
    assert values["AUC of Dice over clicks", ""] == pytest.approx(
        np.mean((each[:, 0] + 2 * each[:, 1] + each[:, 2]) / 4)
    )
    for goal in (0.8, 0.85, 0.9):
        first = [next((k + 1 for k in range(3) if row[k] >= goal), None) for row in each]
        assert values[f"NoC@{goal:g}", ""] == pytest.approx(np.mean([3 if k is None else k for k in first]))
        assert values[f"failures at {goal:g}", ""] == pytest.approx(np.mean([k is None for k in first]))
    assert found.kind == "interactive" and found.figures[0].name == "Dice at 3 clicks"
    assert found.figures[0].low is not None and found.comparisons[0].difference < 0
    assert {w.what for w in found.warnings} >= {"simulated users", "failures hidden in a mean of clicks"}
    assert found.curves[0].y == pytest.approx(each.mean(axis=0), abs=1e-6)
    early = table(tmp_path / "e.csv", columns, rows[:-1])
    carried = isocenter.evaluate_predictions(tmp_path / "o2", predictions=early, **QUICK)
    assert any("1 of 12 cases end before click 3" in note for note in carried.notes)
    assert figures(carried)["Dice at 3 clicks", ""] == pytest.approx(
        (each[:, 2].sum() - each[11, 2] + each[11, 1]) / 12
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("a", 1, 0.5), "line 3 tells a click of its case again"),
        (("a", 3, 0.5), "case 1 .* lacks click 2"),
        (("a", 0, 0.5), "click is out of range"),
        (("a", 1.5, 0.5), "click must be a whole number"),
        (("a", 2, 1.5), "dice is out of range; a Dice is from 0 to 1"),
        (("a", 2, "nan"), "dice is NaN"),
    ],
)
def test_bad_clicks(row: tuple, words: str, tmp_path: Path) -> None:
    file = table(tmp_path / "c.csv", ["case", "click", "dice"], [("a", 1, 0.4), row])
    with pytest.raises(DataError, match=words):
        isocenter.evaluate_predictions(tmp_path / "o", predictions=file, **QUICK)


def test_folders_of_masks_for_each_click(tmp_path: Path) -> None:
    expected = []
    for n in range(3):
        label = (ball(n)[1] > 0).astype(np.uint8)
        save(label, tmp_path / "ref" / f"c{n}.nii.gz")
        for click, off in ((1, 3), (2, 1)):
            moved = np.roll(label, off, axis=0)
            save(moved, tmp_path / "pred" / f"click-{click}" / f"c{n}.nii.gz")
            expected.append(dice(label > 0, moved > 0))
    found = isocenter.evaluate_predictions(
        tmp_path / "o", predictions=tmp_path / "pred", references=tmp_path / "ref", **QUICK
    )
    values = figures(found)
    assert values["Dice at 1 click", ""] == pytest.approx(np.mean(expected[::2]))
    assert values["Dice at 2 clicks", ""] == pytest.approx(np.mean(expected[1::2]))
    assert found.cases == 3 and "3 patients are too few" in found.figures[0].reason
    (tmp_path / "pred" / "click-2" / "c1.nii.gz").unlink()
    with pytest.raises(DataError, match=r"1 case has no prediction .*click-2"):
        isocenter.evaluate_predictions(
            tmp_path / "o2", predictions=tmp_path / "pred", references=tmp_path / "ref", **QUICK
        )
    (tmp_path / "pred" / "click-2").rename(tmp_path / "pred" / "click-3")
    with pytest.raises(DataError, match="no folder of click 2"):
        isocenter.evaluate_predictions(
            tmp_path / "o2", predictions=tmp_path / "pred", references=tmp_path / "ref", **QUICK
        )
    (tmp_path / "pred" / "click-3").rename(tmp_path / "pred" / "click-01")
    with pytest.raises(DataError, match="both of click 1"):
        isocenter.evaluate_predictions(
            tmp_path / "o2", predictions=tmp_path / "pred", references=tmp_path / "ref", **QUICK
        )
    save(np.zeros_like(label), tmp_path / "ref" / "c0.nii.gz")
    (tmp_path / "pred" / "click-01").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="nothing to point at"):
        isocenter.evaluate_predictions(
            tmp_path / "o2", predictions=tmp_path / "pred", references=tmp_path / "ref", **QUICK
        )


# Survival by task


class Brightness:
    """A task that takes bright pictures for an early event."""

    def __init__(self, horizon_days: float = 200.0) -> None:
        self.horizon_days = horizon_days
        self.card = replace(
            CARD, name="bright", modalities=(), body_parts=(), needs_volume=None, weights="", requires=(), licence="MIT"
        )

    def run(self, study: Study, prompts=()) -> Prediction:
        mean = float(study.images[0].array.mean())
        if mean > 250:
            return Prediction.abstain("bright", "the image is white")
        event = Code("death", "99TEST", "Death")
        return Prediction(
            Risk(event, round(mean / 255, 2), self.horizon_days), "bright",
            uncertainty=Uncertainty("interval", "None."), model=ModelRef("bright", "1", "", "MIT"), inputs=("x",),
        )  # fmt: skip


def survivors(root: Path, count: int = 30) -> Path:
    """Pictures that are brighter the earlier the event comes, roughly; one is white."""
    rng = np.random.default_rng(5)
    rows = []
    for n in range(count):
        risk = rng.uniform(0.1, 0.8)
        level = 255 if n == count - 1 else 255 * risk
        array = np.clip(rng.normal(level, 12, (32, 32)), 0, 255)
        if n == count - 1:
            array[:] = 255
        root.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(array.astype(np.uint8)).save(root / f"i{n:02d}.png")
        time, lost = rng.exponential(300 * (1.1 - risk)) + 1, rng.uniform(100, 900)
        rows.append((f"i{n:02d}.png", f"p{n}", round(min(time, lost), 2), int(time <= lost)))
    return table(root / "set.csv", ["image", "patient", "days", "event"], rows)


def asked(task: Brightness, file: Path):
    return ask(TaskEntry(task.card, "", lambda: task), open_labelled(file), RunSettings(), lambda *_: None)


def test_survival_of_a_task(tmp_path: Path) -> None:
    file = survivors(tmp_path / "set")
    outcome = asked(Brightness(), file)
    system = system_of(outcome)
    rows = list(csv.DictReader(file.read_text().splitlines()))[:-1]
    days, event = np.array([float(r["days"]) for r in rows]), np.array([r["event"] == "1" for r in rows])
    risk = np.array([float(np.asarray(Picture.open(file.parent / r["image"]), float).mean()) for r in rows])
    risk = np.round(risk / 255, 2)
    pairs = [
        1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
        for i, j in itertools.permutations(range(29), 2) if event[i] and (days[i] < days[j])
    ]  # fmt: skip
    everyone = np.arange(29, dtype=np.int64)
    values = {m.key: m.statistic(everyone) for m in system.measures}
    assert values["Harrell's C", ""] == pytest.approx(np.mean(pairs)) and values["Harrell's C", ""] > 0.6
    assert {"Uno's C", "dynamic AUC", "Brier"} == {name for name, _ in values} - {"Harrell's C"}
    assert ("Brier", "by day 200") in values and 0 < values["Brier", "by day 200"] < 0.4
    assert system.patients_known and len(system.cases) == 29
    assert any("abstained from 1 of 30" in note for note in system.notes)
    assert any("no integrated Brier score" in note for note in system.notes)
    later = system_of(asked(Brightness(5000.0), file))
    assert any("can't be told, only its order" in note for note in later.notes)
    assert "Brier" not in {m.name for m in later.measures}


def test_survival_of_a_task_refuses(tmp_path: Path) -> None:
    file = survivors(tmp_path / "set")
    task = Brightness()
    outcome = asked(task, file)
    answers = list(outcome.answers["", 0])
    answers[0] = replace(answers[0], horizon_days=30.0)
    with pytest.raises(DataError, match="up to different days"):
        system_of(replace(outcome, answers={("", 0): answers}))
    answers[0] = replace(answers[0], horizon_days=200.0, probability=1.5)
    with pytest.raises(DataError, match=r"probabilities must lie in 0\.\.1"):
        system_of(replace(outcome, answers={("", 0): answers}))
    rows = [(r["image"], r["patient"], r["days"], 0) for r in csv.DictReader(file.read_text().splitlines())]
    with pytest.raises(DataError, match="nobody had the event"):
        system_of(asked(task, table(file, ["image", "patient", "days", "event"], rows)))
    labelled = table(file, ["image", "patient", "value"], [(r[0], r[1], 1.5) for r in rows])
    with pytest.raises(IsocenterError, match="can't be compared"):
        asked(task, labelled)


def test_survival_of_a_learnt_task(tmp_path: Path) -> None:
    """From adapting to the page; the figures are those of the answers in cases.csv."""
    file = survivors(tmp_path / "set", 24)
    isocenter.adapt_data(
        file, tmp_path / "task", widths=(4, 8), precision="float32", learning_rate=0.01, seed=1, folds=2, steps=8
    )
    found = isocenter.evaluate_predictions(
        tmp_path / "o", task=str(tmp_path / "task"), data=file, pictures=False, **QUICK
    )
    values, rows = figures(found), rows_of(tmp_path / "o")
    days, risk = (np.array([float(r[c]) for r in rows]) for c in ("days", "risk"))
    event = np.array([r["event"] == "1" for r in rows])
    assert values["Harrell's C", ""] == pytest.approx(concordance(days, event, risk), abs=1e-6)
    truth = {r["image"].removesuffix(".png"): r for r in csv.DictReader(file.read_text().splitlines())}
    assert [(r["patient"], float(r["days"])) for r in rows] == [
        (truth[r["case"]]["patient"], float(truth[r["case"]]["days"])) for r in rows
    ]  # fmt: skip
    assert found.kind == "survival" and found.patients == len(rows) and 0 < risk.min() <= risk.max() < 1
    assert "uno_concordance" in [a.what for a in found.recommended]
