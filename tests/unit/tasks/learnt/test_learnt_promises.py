"""What a learnt task promises travels with its answer into result.json, the page and the SR; unlike images get none."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

import isocenter
from isocenter.core import Image, Mask, Source, Study
from isocenter.core.errors import WeightsError
from isocenter.data.images import read_nifti, read_picture
from isocenter.data.images.sr import Answer, SrContent
from isocenter.learn.adaptation.held_out import VectorRow
from isocenter.learn.adaptation.promise import vector_promise
from isocenter.plugins import load_task
from isocenter.safety.sets import SetRule
from isocenter.tasks.learnt.cards import Promise, class_codes
from isocenter.tasks.learnt.promised import class_set, finding_sets
from isocenter.verbs.adapt_data import adapt_data
from isocenter.verbs.learnt_folder import GATE, learnt_entry

QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1, "folds": 2}
AFFINE = np.array([[-0.7, 0, 0, 12], [0, -0.8, 0, 7], [0, 0, 1.5, -40], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose class is the row of a bright square, on a ground that is darker at one side."""
    folder, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    rows = []
    for index in range(60):
        image = rng.normal(60, 6, (24, 20)) + np.linspace(0, 60, 20)
        row = (4 if index % 2 else 13) + rng.integers(-1, 2)
        image[row : row + 6, 6:13] += 120 * rng.uniform(0.7, 1)
        Picture.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append((f"{index}.png", "high" if index % 2 else "low"))
    with (folder / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "label"), *rows])
    adapt_data(folder / "t.csv", folder / "task", steps=60, batch=16, mirror="off", **QUICK)
    return folder


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 volumes with a ball."""
    folder = tmp_path_factory.mktemp("masks")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed in range(24):
        rng = np.random.default_rng(seed)
        x, y, z = np.indices((16, 20, 12))
        at = np.array([5, 10, 6]) + rng.uniform(-1.5, 1.5, 3)
        inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (1.5 * (z - at[2])) ** 2 < rng.uniform(9, 20)
        image = rng.normal(100, 15, x.shape) + 150 * inside + 60 * (x > 11)
        for kind, array in (("images", image.astype(np.int16)), ("labels", inside.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, AFFINE), folder / kind / f"case{seed:02}.nii.gz")
    (folder / "classes.txt").write_text("ball\n")
    adapt_data(folder, folder / "task", steps=60, **QUICK)
    return folder


def changed(image: Image, array: np.ndarray) -> Image:
    return Image(np.ascontiguousarray(array.astype(image.array.dtype)), image.geometry, image.quantity)


def test_an_answer_says_how_like_the_learnt_images_its_image_is(classes: Path, tmp_path: Path) -> None:
    task = load_task(learnt_entry(classes / "task"))
    image = read_picture(classes / "5.png")
    found = task.run(Study("p", images=(image,)))
    assert found.abstained is None and found.likeness is not None
    assert 0 < found.likeness.p_value <= 1 and found.likeness.refused_share == 0.05
    assert "60 held-out images" in found.likeness.description
    assert found.uncertainty is not None and "whichever class that is" in found.uncertainty.description
    result = isocenter.read(classes / "5.png", tmp_path / "out", tasks=(str(classes / "task"),))
    entry = isocenter.read_result(tmp_path / "out").answered[0]
    assert entry.likeness is not None and entry.likeness == result.answered[0].likeness
    assert entry.likeness.score == pytest.approx(found.likeness.score)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "How like the images that it learnt from" in page and "refused at p = 0.05 or below" in page
    said = " ".join(Answer.from_prediction(found).notes)
    assert "Gate score" in said and "Set: " in said and "Level: 0.9" in said


def test_an_unlike_image_gets_no_answer_and_the_reason(classes: Path, tmp_path: Path) -> None:
    task = load_task(learnt_entry(classes / "task"))
    image = read_picture(classes / "5.png")
    rng = np.random.default_rng(1)
    grainy = image.array + rng.normal(0, 25, image.array.shape)
    blurred = np.repeat(np.repeat(image.array[..., ::4, ::4], 4, axis=-2), 4, axis=-1)[..., :24, :20]
    for array in (grainy.clip(0, 255), blurred):
        found = task.run(Study("p", images=(changed(image, array),)))
        assert found.abstained is not None and "unlike those it learnt from" in found.abstained
        assert found.likeness is not None and found.likeness.p_value <= 0.05 and found.likeness.score > 2
    Picture.fromarray(blurred[0, 0].astype(np.uint8)).save(tmp_path / "odd.png")
    entry = isocenter.read(tmp_path / "odd.png", tmp_path / "out", tasks=(str(classes / "task"),)).predictions[0]
    assert entry.abstained is not None and entry.likeness is not None and entry.likeness.p_value <= 0.05
    content = SrContent.from_predictions([found])
    assert "p = 0.0" in content.abstentions[0].reason


def test_a_task_without_its_own_gate_does_not_answer(classes: Path, tmp_path: Path) -> None:
    shutil.copytree(classes / "task", tmp_path / "task")
    (tmp_path / "task" / GATE).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"gate\.npz is missing, or not the one"):
        load_task(learnt_entry(tmp_path / "task"))
    (tmp_path / "task" / GATE).unlink()
    with pytest.raises(WeightsError, match=r"gate\.npz is missing"):
        load_task(learnt_entry(tmp_path / "task"))


def test_a_mask_says_what_it_is_worth_and_what_its_volume_may_be(masks: Path, tmp_path: Path) -> None:
    document = json.loads((masks / "task" / "task.json").read_text())
    assert document["gate"] is not None and document["promise"]["quality"]["patients"] == 24
    assert document["promise"]["quality"]["cases"] > 60, "spoilt copies too"
    task = load_task(learnt_entry(masks / "task"))
    image = read_nifti(masks / "images" / "case03.nii.gz")
    found = task.run(Study("p", images=(image,)))
    assert isinstance(found.value, Mask), found.abstained
    quality = found.uncertainty
    assert quality is not None and quality.kind == "quality" and quality.level == 0.9
    assert 0 <= quality.low <= quality.high <= 1 and "spoilt copies" in quality.description
    kinds = {u.kind: u for u in found.further}
    voxel = image.geometry.voxel_volume_mm3 / 1000
    volume = float((found.value.array == 1).sum()) * voxel
    interval, margin = kinds["interval"], kinds["margin"]
    assert interval.low <= volume * 1.3 and interval.high >= volume * 0.7 and interval.unit.value == "mL"
    assert interval.segment == 1 and interval.level == 0.9
    assert margin.low == pytest.approx(volume) or margin.high == pytest.approx(volume)
    result = isocenter.read(masks / "images" / "case03.nii.gz", tmp_path / "out", tasks=(str(masks / "task"),))
    entry = result.answered[0]
    assert {u.kind for u in entry.further} == {"interval", "margin"} and entry.further[0].unit.value == "mL"
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "The volume of ball" in page and "mL" in page and "misses at most 10%" in page
    said = " ".join(Answer.from_prediction(found).notes)
    assert "Interval: " in said and " mL." in said and "Margin: " in said and "Quality: " in said


def test_a_poor_image_is_expected_to_be_answered_worse_or_not_at_all(masks: Path) -> None:
    task = load_task(learnt_entry(masks / "task"))
    image, rng = read_nifti(masks / "images" / "case05.nii.gz"), np.random.default_rng(0)
    clean = task.run(Study("p", images=(image,)))
    assert clean.uncertainty is not None, clean.abstained
    poor = changed(image, image.array + rng.normal(0, 150, image.array.shape))
    found = task.run(Study("p", images=(poor,)))
    assert found.abstained is not None or (found.uncertainty.low or 0) < (clean.uncertainty.low or 0)


def test_each_finding_has_a_set_that_holds_the_truth_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    n, states = 600, {"Present", "Absent"}
    truth = rng.random((n, 2)) < (0.3, 0.02)
    logits = rng.normal(0, 1, (n, 2)) + np.where(truth, 1.0, -1.5)
    p = 1 / (1 + np.exp(-logits))
    rows = [
        VectorRow(str(i), str(i), 0, tuple(int(t) for t in truth[i]), tuple(float(v) for v in p[i]), {})
        for i in range(300)
    ]
    few = [replace(row, target=(row.target[0], int(i < 8))) for i, row in enumerate(rows)]
    assert set(vector_promise("multilabel", few)["findings"]) == {"1"}, "8 with a finding can't promise nine in ten"
    promise = Promise.model_validate(vector_promise("multilabel", rows))
    codes = class_codes(("one", "two"))
    held = {True: [], False: []}
    for i in range(300, n):
        q = 1 / (1 + np.exp(-logits[i] / promise.temperature))
        found = {u.about: {c.meaning for c in u.members} for u in finding_sets(codes, q, promise)}
        assert all(members <= states for members in found.values())
        held[bool(truth[i, 0])].append(("Present" if truth[i, 0] else "Absent") in found[codes[0]])
    for some in held.values():  # within each of the two, as far as chance allows (five deviations)
        assert np.mean(some) > 0.9 - 5 * (0.09 / len(some)) ** 0.5 - 5 * (0.09 / 80) ** 0.5
    sure, unsure = (finding_sets(codes, np.array([q, 0.01]), promise)[0] for q in (0.999, promise_middle(promise)))
    assert (
        [c.meaning for c in sure.members] == ["Present"] and sure.level == 0.9 and "one is present" in sure.description
    )
    assert len(unsure.members) != 1
    fields = promise.model_dump()
    fields["findings"]["1"]["limits"] = {"0": 0.1, "1": 0.9}  # by its own rule present alone from 0.1 on
    seldom = Promise.model_validate(fields)
    for q, states in ((0.05, ["Absent"]), (0.3, ["Absent", "Present"]), (0.6, ["Present"])):
        assert [c.meaning for c in finding_sets(codes, np.array([q, 0.01]), seldom)[0].members] == states


def promise_middle(promise: Promise) -> float:
    """A probability between the two limits, which the set can't decide."""
    limits = promise.findings["1"]["limits"]
    return (limits["0"] + 1 - limits["1"]) / 2


def test_a_set_of_classes_never_leaves_out_the_likeliest() -> None:
    rule = SetRule("lac", 0.9, "class", {"0": 0.25, "1": 0.87}, {"0": 40, "1": 40})
    promise = Promise(sets=rule.as_card(), cases=80)
    assert rule.sets(np.array([[0.72, 0.28]])).tolist() == [[False, True]], "by the rule alone"
    found = class_set(class_codes(("normal", "mass")), np.array([0.72, 0.28]), promise)
    assert [c.meaning for c in found.members] == ["normal", "mass"] and "likeliest class is always" in found.description


def test_an_image_that_was_learnt_from_says_so(classes: Path) -> None:
    task = load_task(learnt_entry(classes / "task"))
    seen, new = read_picture(classes / "1.png"), read_picture(classes / "1.png")
    assert any("this very image" in note for note in task.run(Study("p", images=(seen,))).notes)
    new = replace(new, array=np.clip(new.array.astype(int) + 1, 0, 255).astype(np.uint8), source=Source())
    found = task.run(Study("p", images=(new,)))
    assert found.abstained is None and not any("this very image" in note for note in found.notes)
