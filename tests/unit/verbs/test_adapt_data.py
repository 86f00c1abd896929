"""`isocenter adapt --data`: toy sets of every kind are learnt, resumed, judged honestly, and read with the task."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Picture

import isocenter
from isocenter import cli
from isocenter.core import Estimate, Geometry, Image, Mask, Risk, Scores, Study
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.learn.adaptation import shelf
from isocenter.models.weights import load_weights
from isocenter.plugins import load_task
from isocenter.testing import check_task
from isocenter.verbs.adapt_data import adapt_data, read_card_file
from isocenter.verbs.learnt_folder import learnt_entry

QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1}
AFFINE = np.array([[-0.7, 0, 0, 12], [0, -0.8, 0, 7], [0, 0, 1.5, -40], [0, 0, 0, 1.0]])


def ball(seed: int, shape=(16, 20, 12)) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball on the left of a bright plate, in noise (x, y, z as NIfTI stores it): the side matters."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape)
    at = np.array([4, 10, 6]) + rng.uniform(-1, 1, 3)
    inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (1.5 * (z - at[2])) ** 2 < 14
    image = rng.normal(100, 15, shape) + 150 * inside + 60 * (x > 11)
    return image.astype(np.int16), inside.astype(np.uint8)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed in range(8):
        image, label = ball(seed)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / "images" / f"case{seed}.nii.gz")
        nib.save(nib.Nifti1Image(label, AFFINE), folder / "labels" / f"case{seed}.nii.gz")
    (folder / "classes.txt").write_text("ball\n")
    return folder


@pytest.fixture(scope="module")
def masks(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masks") / "task"
    said: list[tuple[str, float]] = []
    done = isocenter.adapt_data(balls, out, folds=2, steps=60, progress=lambda *s: said.append(s), **QUICK)
    assert (done.kind, done.classes, done.cases, done.networks) == ("segment", ("ball",), 8, 2)
    assert done.figures[-1].value > 0.8 and done.figures[-1].low is None, "8 patients are too few for an interval"
    assert [d for _, d in said] == sorted(d for _, d in said)
    assert not list(out.parent.glob(".*learning")), "the folder for checkpoints is gone"
    return out


def read_back(folder: Path) -> tuple[Image, np.ndarray]:
    from isocenter.data.images import read_nifti

    image, label = ball(99)
    nib.save(nib.Nifti1Image(image, AFFINE), folder / "new.nii.gz")
    return read_nifti(folder / "new.nii.gz"), label.T > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_it_outlines_a_further_image(masks: Path, tmp_path: Path) -> None:
    image, truth = read_back(tmp_path)
    found = load_task(learnt_entry(masks)).run(Study("p", images=(image,)))
    assert isinstance(found.value, Mask), found.abstained
    assert overlap(found.value.array > 0, truth) > 0.8
    assert found.value.segments[0].label == "ball"
    assert found.uncertainty is not None and found.uncertainty.level is None
    assert "too few cases" in found.uncertainty.description


@pytest.mark.parametrize(("axes", "flips"), [((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, False))])
def test_the_side_stays_whatever_the_order_of_axes(masks: Path, tmp_path: Path, axes, flips) -> None:
    """The same patient stored along other axes is answered at the same place in the patient."""
    image, truth = read_back(tmp_path)
    array = np.transpose(image.array, (0, *(1 + a for a in axes)))
    array = np.flip(array, tuple(1 + i for i, f in enumerate(flips) if f))
    other = Image(np.ascontiguousarray(array), image.geometry.reoriented(axes, flips), image.quantity)
    found = load_task(learnt_entry(masks)).run(Study("p", images=(other,)))
    assert isinstance(found.value, Mask), found.abstained
    ours = np.argwhere(found.value.array > 0).mean(0)
    theirs = np.argwhere(truth).mean(0)
    gap = other.geometry.to_world(ours[None])[0] - image.geometry.to_world(theirs[None])[0]
    assert np.abs(gap).max() < 1.0, "mm in the patient"


def test_the_folder_tells_how_it_was_made(masks: Path, balls: Path) -> None:
    made = json.loads((masks / "config.json").read_text())
    assert made["config"]["steps"] == 60 and made["config"]["precision"] == "float32"
    assert [c["name"] for c in made["data"]["cases"]] == [f"case{i}" for i in range(8)]
    assert made["data"]["fingerprint"]["spacing_mm"] == pytest.approx([1.5, 0.8, 0.7])
    assert made["plan"]["alteration"]["mirror"] == [False, False, True], "left-right, and no other axis"
    assert str(balls) not in json.dumps(made), "no path"
    with (masks / "held-out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(r["case"] for r in rows) == [f"case{i}" for i in range(8)], "each case is held out once"
    card = (
        load_weights(masks / "balls-task-0.safetensors").card
        if (masks / "balls-task-0.safetensors").is_file()
        else (load_weights(next(masks.glob("*-0.safetensors"))).card)
    )
    assert card.metrics[0].count == 8 and "does not say who is whose" in " ".join(card.limitations)


def test_a_network_comes_through_the_door_of_weights(masks: Path) -> None:
    opened = isocenter.open_weights(next(masks.glob("*-0.safetensors")))
    assert opened.passport.role == "segmenter" and opened.passport.inputs.axes == "zyx"
    assert opened.network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_the_contract_of_tasks(masks: Path) -> None:
    check_task(load_task(learnt_entry(masks)))


def test_read_picks_it_up(masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_back(tmp_path)
    arguments = ["read", str(tmp_path / "new.nii.gz"), "--out", str(tmp_path / "out"), "--task", str(masks)]
    assert cli.run(arguments) == 0
    assert "ball: Volume" in capsys.readouterr().out
    assert list((tmp_path / "out").glob("*.nii.gz"))


def test_weights_of_another_task_are_refused(masks: Path, tmp_path: Path) -> None:
    other = tmp_path / "task"
    shutil.copytree(masks, other)
    document = json.loads((other / "task.json").read_text())
    document["members"][0]["sha256"] = "0" * 64
    (other / "task.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="not those that its"):
        load_task(learnt_entry(other))
    document["extra"] = 1
    (other / "task.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="not the description of a learnt task"):
        learnt_entry(other)


@pytest.mark.slow
def test_killed_and_resumed_it_draws_the_same_curve(balls: Path, tmp_path: Path) -> None:
    common = ["--folds", "2", "--steps", "24", "--seed", "3"]
    settings = {"folds": 2, "steps": 24, "seed": 3, "work": tmp_path / "w1"}
    command = [sys.executable, "-m", "isocenter.cli", "adapt", "--data", str(balls), "--out", str(tmp_path / "again")]
    command += [*common, "--work", str(tmp_path / "w2")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    steps = tmp_path / "w2" / "network-0" / "steps.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not steps.is_file() or len(steps.read_text().splitlines()) < 8):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 8 <= len(steps.read_text().splitlines()) < 25, "killed in the middle"
    # The precision is measured once and kept beside the checkpoints; another call elsewhere may measure otherwise.
    settings["precision"] = json.loads((tmp_path / "w2" / "settled.json").read_text())["precision"]
    whole = adapt_data(balls, tmp_path / "whole", **settings)
    del settings["precision"]
    again = adapt_data(balls, tmp_path / "again", **{**settings, "work": tmp_path / "w2"})
    for number in range(2):
        one, two = (tmp_path / w / f"network-{number}" / "steps.csv" for w in ("w1", "w2"))
        assert one.read_text() == two.read_text()
    assert [f.value for f in again.figures] == [f.value for f in whole.figures]
    settings["work"] = tmp_path / "w2"
    with pytest.raises(ConfigError, match=r"checkpoints of another set or of other settings \(settings\)"):
        adapt_data(balls, tmp_path / "third", **{**settings, "seed": 4})
    other = tmp_path / "other"
    shutil.copytree(balls, other)
    image, label = ball(77)
    nib.save(nib.Nifti1Image(label, AFFINE), other / "labels" / "case2.nii.gz")
    with pytest.raises(ConfigError, match=r"of other settings \(cases\)"):
        adapt_data(other, tmp_path / "third", **settings)
    nib.save(nib.Nifti1Image(image[:, :, :5], AFFINE), other / "images" / "case2.nii.gz")
    with pytest.raises(ConfigError, match=r"\(cases, left_out"):
        adapt_data(other, tmp_path / "third", most_unreadable=0.3, **settings)


def test_what_lies_on_disk_is_learnt_the_same(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[np.ndarray] = []
    keep = shelf.Shelf.keep
    monkeypatch.setattr(shelf, "_LEAST", 0)
    monkeypatch.setattr(shelf.Shelf, "keep", lambda self, array: kept.append(keep(self, array)) or kept[-1])
    found = {}
    for memory_gb in (1.0, 0.0):
        kept.clear()
        out, work = tmp_path / f"task-{memory_gb}", tmp_path / f"work-{memory_gb}"
        found[memory_gb] = adapt_data(balls, out, folds=2, steps=6, work=work, memory_gb=memory_gb, **QUICK)
        assert {isinstance(array, np.memmap) for array in kept} == {memory_gb == 0}
        assert not (work / "shelf").exists(), "what lay on disk is gone"
    assert [f.value for f in found[0.0].figures] == [f.value for f in found[1.0].figures]
    steps = [(tmp_path / f"work-{m}" / "network-1" / "steps.csv").read_text() for m in found]
    assert steps[0] == steps[1]


def pictures(folder: Path, count: int, *, seed: int = 0) -> list[tuple[str, int, float]]:
    """Pictures with a bright square: its class is its row (high or low), its number how bright it is."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(count):
        kind, bright = index % 2, float(rng.uniform(0.3, 1.0))
        image = rng.normal(80, 8, (24, 20))
        row = (4 if kind else 14) + rng.integers(-1, 2)
        image[row : row + 6, 6:13] += 140 * bright
        Picture.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append((f"{index}.png", kind, bright))
    return rows


def table(folder: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with (folder / "t.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([columns, *rows])
    return folder / "t.csv"


def one_picture(folder: Path, name: str = "0.png") -> Study:
    from isocenter.data.images import read_picture

    return Study("p", images=(read_picture(folder / name),))


def test_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pictures(tmp_path, 40)
    file = table(
        tmp_path,
        ["image", "patient", "label"],
        [[n, f"p{i // 2}", "high" if k else "low"] for i, (n, k, _) in enumerate(rows)],
    )
    card = tmp_path / "card.yaml"
    card.write_text("title: High or low\nnot_for: People.\ndata_licence: CC0-1.0\ndata_source: A. Author\n")
    said = read_card_file(card)
    done = adapt_data(file, tmp_path / "task", folds=2, steps=60, batch=16, mirror="off", **QUICK, **said)
    figures = {f.name: f for f in done.figures}
    assert done.classes == ("high", "low") and figures["AUROC"].value > 0.95
    assert figures["AUROC"].low is not None and figures["AUROC"].count == 20, "patients, not images"
    task = load_task(learnt_entry(tmp_path / "task"))
    assert (task.card.title, task.card.not_for) == ("High or low", "People.")
    (data,) = load_weights(tmp_path / "task" / f"{done.task}-0.safetensors").card.training_data
    assert (data.licence, data.source) == ("CC0-1.0", "A. Author")
    found = task.run(one_picture(tmp_path))
    assert isinstance(found.value, Scores), found.abstained
    scores = {c.meaning: p for c, p in found.value.probabilities}
    assert scores["low"] > 0.5 and sum(scores.values()) == pytest.approx(1)
    assert found.uncertainty is not None and found.uncertainty.kind == "set" and found.uncertainty.level == 0.9
    assert "low" in {c.meaning for c in found.uncertainty.members}
    assert (
        cli.run(["read", str(tmp_path / "1.png"), "--out", str(tmp_path / "r"), "--task", str(tmp_path / "task")]) == 0
    )
    assert "Probability of high" in capsys.readouterr().out
    with (tmp_path / "task" / "held-out.csv").open() as stream:
        network_of = {int(r["case"]): r["network"] for r in csv.DictReader(stream)}
    assert all(network_of[2 * p] == network_of[2 * p + 1] for p in range(20)), "a patient is held out as a whole"
    assert task.run(one_picture(tmp_path, "1.png")).abstained is None
    noise = Image(np.random.default_rng(0).integers(0, 255, (1, 1, 24, 20)).astype(np.uint8), Geometry((1, 24, 20)))
    assert task.run(Study("p", images=(noise,))).abstained is not None


@pytest.mark.slow
def test_findings_numbers_and_events(tmp_path: Path) -> None:
    rows = pictures(tmp_path, 40)
    file = table(
        tmp_path,
        ["image", "high", "bright"],
        [[n, k, int(b > 0.65) if i % 7 else ""] for i, (n, k, b) in enumerate(rows)],
    )
    done = adapt_data(file, tmp_path / "findings", folds=2, steps=60, batch=16, mirror="off", **QUICK)
    assert {f.structure: f.value for f in done.figures}["high"] > 0.9
    found = load_task(learnt_entry(tmp_path / "findings")).run(one_picture(tmp_path))
    assert isinstance(found.value, Scores) and len(found.value.probabilities) == 2
    file = table(tmp_path, ["image", "value"], [[n, 50 + 30 * b] for n, _, b in rows])
    done = adapt_data(file, tmp_path / "numbers", folds=2, steps=80, batch=16, **QUICK)
    assert done.figures[0].value < 5, "mean absolute error, of numbers that vary by 6"
    found = load_task(learnt_entry(tmp_path / "numbers")).run(one_picture(tmp_path))
    assert isinstance(found.value, Estimate) and 45 < found.value.value < 95
    assert found.uncertainty is not None and found.uncertainty.low < found.value.value < found.uncertainty.high
    file = table(
        tmp_path,
        ["image", "days", "event"],
        [[n, round(400 - 350 * b), int(i % 5 > 0)] for i, (n, _, b) in enumerate(rows)],
    )
    done = adapt_data(file, tmp_path / "events", folds=2, steps=300, batch=16, **QUICK)
    assert done.figures[0].name == "Harrell's C" and done.figures[0].value > 0.7
    found = load_task(learnt_entry(tmp_path / "events")).run(one_picture(tmp_path))
    assert isinstance(found.value, Risk) and 0 <= found.value.probability <= 1 and found.value.horizon_days > 0


def test_corrupt_files_are_named_counted_and_limited(balls: Path, tmp_path: Path) -> None:
    shutil.copytree(balls, tmp_path / "set")
    file = tmp_path / "set" / "images" / "case3.nii.gz"
    file.write_bytes(file.read_bytes()[:200])
    done = adapt_data(tmp_path / "set", tmp_path / "task", folds=2, steps=2, most_unreadable=0.2, **QUICK)
    assert list(done.left_out) == ["case3"] and done.cases == 7
    with pytest.raises(DataError, match="1 of 8 cases can't be learnt from, more than 5%"):
        adapt_data(tmp_path / "set", tmp_path / "other", folds=2, steps=2, **QUICK)


def test_a_class_that_names_a_side_is_never_mirrored(balls: Path, tmp_path: Path) -> None:
    shutil.copytree(balls, tmp_path / "set")
    (tmp_path / "set" / "classes.txt").write_text("left kidney\n")
    adapt_data(tmp_path / "set", tmp_path / "task", folds=2, steps=1, **QUICK)
    assert json.loads((tmp_path / "task" / "task.json").read_text())["mirror"] == [False, False, False]
    with pytest.raises(ConfigError, match="a class names a side"):
        adapt_data(tmp_path / "set", tmp_path / "other", folds=2, steps=1, mirror="on", **QUICK)


def test_one_image_stored_along_other_axes_changes_nothing(balls: Path, tmp_path: Path) -> None:
    shutil.copytree(balls, tmp_path / "set")
    for kind in ("images", "labels"):
        file = tmp_path / "set" / kind / "case5.nii.gz"
        stored = nib.load(file)
        nib.save(stored.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), file)
    adapt_data(tmp_path / "set", tmp_path / "task", folds=2, steps=1, **QUICK)
    made = json.loads((tmp_path / "task" / "config.json").read_text())["data"]["fingerprint"]
    assert made["spacing_mm"] == pytest.approx([1.5, 0.8, 0.7]) and made["size"] == [12, 20, 16]


def test_labels_that_are_all_alike_are_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    rows = pictures(tmp_path, 12)
    for columns, values, message in (
        (["image", "value"], [5], "same number"),
        (["image", "label"], ["x"], "of one class"),
        (["image", "a", "b"], [0, 1], "'a' is never present"),
        (["image", "days", "event"], [9, 0], "no event happened"),
    ):
        file = table(tmp_path, columns, [[n, *values] for n, _, _ in rows])
        with pytest.raises(DataError, match=message):
            adapt_data(file, tmp_path / "a", folds=2, steps=1, **QUICK)
    sided = table(tmp_path, ["image", "left effusion"], [[n, k] for n, k, _ in rows])
    with pytest.raises(DataError, match="names a side"):
        adapt_data(sided, tmp_path / "a", folds=2, steps=1, **QUICK)
    assert not list(tmp_path.glob(".a*")), "nothing was begun"


def test_bad_input(balls: Path, tmp_path: Path) -> None:
    rows = pictures(tmp_path, 12)
    one = table(tmp_path, ["image", "patient", "label"], [[n, "only", k] for n, k, _ in rows])
    with pytest.raises(ConfigError, match="all cases are of one patient"):
        adapt_data(one, tmp_path / "a", steps=1, **QUICK)
    rare = table(tmp_path, ["image", "label"], [[n, "rare" if i == 3 else "usual"] for i, (n, _, _) in enumerate(rows)])
    with pytest.raises(DataError, match="learns from holds 'rare'"):
        adapt_data(rare, tmp_path / "a", folds=3, steps=1, **QUICK)
    with pytest.raises(ConfigError, match="8 patients can't be split into 9 folds"):
        adapt_data(balls, tmp_path / "a", folds=9, steps=1, **QUICK)
    split = table(
        tmp_path,
        ["image", "patient", "split", "label"],
        [[n, "p", "train" if i else "test", k] for i, (n, k, _) in enumerate(rows)],
    )
    with pytest.raises(ConfigError, match="more than one part"):
        adapt_data(split, tmp_path / "a", steps=1, **QUICK)
    with pytest.raises(WeightsError, match="no built-in weights named 'nothing'"):
        adapt_data(balls, tmp_path / "a", steps=1, weights="nothing", **QUICK)
    with pytest.raises(ConfigError, match="backbone is for 2 dims"):
        adapt_data(balls, tmp_path / "a", steps=1, weights="interactive-2d", **{**QUICK, "widths": None})
    with pytest.raises(WeightsError, match="hold no backbone"):
        adapt_data(balls, tmp_path / "a", steps=1, weights="lungs-cxr", **{**QUICK, "widths": None})
    with pytest.raises(ConfigError, match="one of the two"):
        adapt_data(balls, tmp_path / "a", steps=1, weights="interactive-3d", **QUICK)
    with pytest.raises(ConfigError, match="setting steps"):
        adapt_data(balls, tmp_path / "a", steps=0)
    with pytest.raises(ConfigError, match="an installed task is named 'lungs-cxr'"):
        adapt_data(balls, tmp_path / "a", steps=1, name="lungs-cxr")
    with pytest.raises(ConfigError, match="task and its checkpoints"):
        adapt_data(balls, tmp_path / "a", steps=1, work=tmp_path / "a")
    for text in ("steps: 3", "- title", "title: [", "name: lungs-cxr"):
        (tmp_path / "card.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"card\.yaml: (a card says title|not a YAML)"):
            read_card_file(tmp_path / "card.yaml")
    with pytest.raises(ConfigError, match="setting body_parts"):
        adapt_data(balls, tmp_path / "a", steps=1, body_parts=("brain",))
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        adapt_data(balls, tmp_path / "b", steps=1)
    with pytest.raises(ConfigError, match="not overwritten"):
        adapt_data(balls, tmp_path / "b", steps=1, overwrite=True)
    assert cli.run(["adapt", "--out", str(tmp_path / "c")]) == cli.Exit.USAGE


def test_a_linear_answer_takes_no_steps(tmp_path: Path) -> None:
    rows = pictures(tmp_path, 40)
    file = table(tmp_path, ["image", "label"], [[n, "high" if k else "low"] for n, k, _ in rows])
    done = adapt_data(file, tmp_path / "task", folds=2, method="linear", mirror="off", seed=1)
    assert done.steps == 0 and {f.name: f.value for f in done.figures}["AUROC"] > 0.95
    found = load_task(learnt_entry(tmp_path / "task")).run(one_picture(tmp_path))
    assert isinstance(found.value, Scores) and {c.meaning: p for c, p in found.value.probabilities}["low"] > 0.5
    again = adapt_data(file, tmp_path / "again", name=done.task, folds=2, method="linear", mirror="off", seed=1)
    assert again.figures == done.figures
    with pytest.raises(ConfigError, match="region, pool and method"):
        adapt_data(_masks_of(tmp_path), tmp_path / "masks", method="linear", folds=2)


def _masks_of(folder: Path) -> Path:
    place = folder / "drawn"
    for kind in ("images", "labels"):
        (place / kind).mkdir(parents=True)
        for number in range(4):
            values = np.zeros((24, 20), np.uint8)
            values[4:9, number : number + 6] = 200 if kind == "images" else 1
            Picture.fromarray(values).save(place / kind / f"{number}.png")
    return place


@pytest.mark.parametrize("method", ["probe", "lora", pytest.param("dora", marks=pytest.mark.slow)])
def test_from_weights(balls: Path, tmp_path: Path, method: str) -> None:
    """The encoder of the interactive network is begun with: frozen, its weights are found again."""
    done = adapt_data(
        balls, tmp_path / "t", folds=2, steps=2, weights="interactive-3d", method=method, **{**QUICK, "widths": None}
    )
    assert math.isfinite(done.figures[-1].value)
    arrays = load_weights(next((tmp_path / "t").glob("*-0.safetensors"))).arrays
    start = load_weights("interactive-3d").arrays
    same = np.array_equal(arrays["encoder.image_stem.0.weight"], start["image_stem.0.weight"])
    assert same == (method == "probe")
    assert json.loads((tmp_path / "t" / "config.json").read_text())["began_from"]["name"] == "interactive-3d"


def test_a_segmentation_begins_with_all_that_learnt_to_fill_in(balls: Path, tmp_path: Path) -> None:
    backbone = {"kind": "residual-unet", "dims": 3, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1]}
    settings = {
        "method": "masked", "seed": 1, "backbone": {**backbone, "strides": [[1, 1, 1], [2, 2, 2]]},
        "pixels": [8, 16, 16], "block": [4, 4, 4], "steps": 2, "batch": 2, "learning_rate": 0.001,
        "checkpoint_every": 2, "validate_every": 2, "bfloat16": False, "images": {"held_out": 0.2},
    }  # fmt: skip
    (tmp_path / "masked.yaml").write_text(json.dumps(settings))
    made = isocenter.pretrain(tmp_path / "masked.yaml", tmp_path / "run", data=balls / "images").weights
    whole = made.with_name(f"{made.stem}-whole.safetensors")
    common = {**QUICK, "widths": None, "learning_rate": 1e-9, "folds": 2, "steps": 1}
    begun = {}
    for name, weights in (("encoder", made), ("whole", whole)):
        adapt_data(balls, tmp_path / name, weights=str(weights), **common)
        begun[name] = load_weights(next((tmp_path / name).glob("*-0.safetensors"))).arrays
    given = load_weights(str(whole)).arrays
    near = {"atol": 1e-6}
    for found in begun.values():
        np.testing.assert_allclose(found["encoder.stem.0.weight"], given["backbone.stem.0.weight"], **near)
    np.testing.assert_allclose(begun["whole"]["up.0.weight"], given["decoder.up.0.weight"], **near)
    np.testing.assert_allclose(begun["whole"]["join.0.0.weight"], given["decoder.join.0.0.weight"], **near)
    assert not np.allclose(begun["encoder"]["join.0.0.weight"], given["decoder.join.0.0.weight"], **near)
