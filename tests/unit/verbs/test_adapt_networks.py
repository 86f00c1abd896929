"""Networks learnt one by one beside each other, the device they learn on, and photographs of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from isocenter import cli
from isocenter.core import Geometry, Image, Mask, Quantity, Study
from isocenter.core.errors import ConfigError
from isocenter.learn.adaptation.engine import keep_first
from isocenter.learn.adaptation.likeness import GateRow, gate_of
from isocenter.learn.adaptation.shelf import alone_in
from isocenter.models.learnt import Preparation
from isocenter.plugins import load_task
from isocenter.safety.gate import Gate, fit_reference
from isocenter.verbs.adapt_data import adapt_data, learn_network
from isocenter.verbs.learnt_folder import learnt_entry

QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1, "folds": 2, "steps": 20}


def rings(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark field, in colour, at any number of pixels; and its label."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, : side * 5 // 4] + 0.5) / side
    inside = (y - 0.5) ** 2 + (x - rng.uniform(0.4, 0.8)) ** 2 < 0.04
    grey = 60 + 120 * inside
    image = np.stack([grey, grey * 0.6, grey * 0.3], axis=2) + rng.normal(0, 4, (*inside.shape, 3))
    return np.clip(image, 0, 255).astype(np.uint8), inside.astype(np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(8):
        image, label = rings((64, 96, 128)[number % 3], number)
        Picture.fromarray(image).save(folder / "images" / f"eye{number}.png")
        Picture.fromarray(label).save(folder / "labels" / f"eye{number}.png")
    (folder / "classes.txt").write_text("disc\n")
    return folder


@pytest.fixture(scope="module")
def eyes(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("eyes") / "task"
    adapt_data(photographs, out, side=40, **{**QUICK, "steps": 60})
    return out


def test_networks_that_learn_beside_each_other_are_those_of_one_call(photographs: Path, tmp_path: Path) -> None:
    whole = adapt_data(photographs, tmp_path / "whole", work=tmp_path / "w1", side=40, **QUICK)
    for number in (2, 1):
        assert learn_network(photographs, tmp_path / "parts", number, work=tmp_path / "w2", side=40, **QUICK) == 20
    assert not (tmp_path / "parts").exists(), "one network writes no task"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "w2").glob("network-*/checkpoint.pt")}
    gathered = adapt_data(photographs, tmp_path / "parts", work=tmp_path / "w2", side=40, **QUICK)
    assert len(before) == 2 and all(file.stat().st_mtime_ns == when for file, when in before.items())
    assert [f.value for f in gathered.figures] == [f.value for f in whole.figures]
    for number in range(2):
        one, two = (tmp_path / w / f"network-{number}" / "steps.csv" for w in ("w1", "w2"))
        assert one.read_text() == two.read_text() and len(one.read_text().splitlines()) == 21


@pytest.mark.slow
def test_one_network_by_the_command_line(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["adapt", "--data", str(photographs), "--out", str(tmp_path / "task"), "--folds", "2", "--network", "2"]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*given, "--steps", "2"])
    assert "--work FOLDER and --steps N" in capsys.readouterr().err
    learn = [*given, "--steps", "2", "--work", str(tmp_path / "work"), "--learning-rate", "0.01"]
    with pytest.raises(SystemExit, match="0"):
        cli.main([*learn, "--json"])
    assert json.loads(capsys.readouterr().out) == {"network": 2, "steps": 2}
    assert [p.name for p in (tmp_path / "work").glob("network-*")] == ["network-1"]


def test_bad_networks_and_devices(photographs: Path, tmp_path: Path) -> None:
    common = {"work": tmp_path / "work", **QUICK}
    with pytest.raises(ConfigError, match="there are networks 1 to 2, not 3"):
        learn_network(photographs, tmp_path / "task", 3, **common)
    with pytest.raises(ConfigError, match="steps are said"):
        learn_network(photographs, tmp_path / "task", 1, **{**common, "steps": None})
    with pytest.raises(ConfigError, match="give --work FOLDER"):
        learn_network(photographs, tmp_path / "task", 1, **QUICK)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU that torch can use"):
            adapt_data(photographs, tmp_path / "task", device="cuda", **QUICK)


@pytest.mark.parametrize("side", [64, 160])
def test_a_photograph_of_another_camera_is_seen_at_the_same_size(eyes: Path, side: int) -> None:
    array, label = rings(side, 99)
    image = Image(np.moveaxis(array, 2, 0)[:, None], Geometry((1, *label.shape), None), Quantity.RGB)
    answer = load_task(learnt_entry(eyes)).run(Study("someone", images=(image,)))
    mask = answer.value
    assert isinstance(mask, Mask), answer.abstained
    assert mask.array.shape == (1, *label.shape)
    found = mask.array[0] > 0
    assert 2 * (found & (label > 0)).sum() / (found.sum() + label.sum()) > 0.8


def test_the_longest_side_keeps_the_shape() -> None:
    preparation = Preparation(2, 1, longest=50)
    array = np.random.default_rng(0).normal(size=(1, 1, 80, 100)).astype(np.float32)
    prepared = preparation.forward(Image(array, Geometry((1, 80, 100), None)))
    assert prepared.array.shape == (1, 40, 50)
    assert prepared.back(prepared.array).shape == (1, 1, 80, 100)
    assert Preparation.from_card(preparation.as_card()) == preparation
    for other in ({"size": (4, 4)}, {"spacing_mm": (1.0, 1.0, 1.0)}):
        with pytest.raises(ConfigError, match="longest side"):
            Preparation(2, 1, longest=50, **other)
    with pytest.raises(ConfigError, match="longest side"):
        Preparation(3, 1, longest=50)


def test_a_side_is_refused_where_spacing_is_known(tmp_path: Path) -> None:
    import nibabel as nib

    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for number in range(4):
        rng = np.random.default_rng(number)
        label = np.zeros((12, 12, 12), np.uint8)
        label[3:8, 3:8, 3:8] = 1
        image = (rng.normal(0, 5, label.shape) + 50 * label).astype(np.int16)
        for kind, values in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "set" / kind / f"c{number}.nii.gz")
    with pytest.raises(ConfigError, match="spacing is not known"):
        adapt_data(tmp_path / "set", tmp_path / "out", side=40, **QUICK)


def test_a_gate_of_changed_copies_refuses_fewer_of_another_device(tmp_path: Path) -> None:
    """The same discs from a camera of another contrast and grain: strange to the plain gate, not to that of copies."""
    folder = tmp_path / "set"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(22):
        image, label = rings(64, number)
        Picture.fromarray(image).save(folder / "images" / f"eye{number:02d}.png")
        Picture.fromarray(label).save(folder / "labels" / f"eye{number:02d}.png")
    common = {**QUICK, "steps": 4, "work": tmp_path / "work"}
    adapt_data(folder, tmp_path / "plain", **common)
    adapt_data(folder, tmp_path / "copies", gate_copies=4, gate_blocks=("layout", "texture"), **common)
    image, _ = rings(64, 99)
    other = (255 * (image / 255.0) ** 1.3).clip(0, 255).astype(np.uint8)
    far = np.random.default_rng(0).integers(0, 255, image.shape).astype(np.uint8)
    refused = {}
    for name in ("plain", "copies"):
        task = load_task(learnt_entry(tmp_path / name))
        for what, array in (("other", other), ("far", far)):
            shown = Image(np.moveaxis(array, 2, 0)[:, None], Geometry((1, *array.shape[:2]), None), Quantity.RGB)
            refused[name, what] = task.run(Study("p", images=(shown,))).abstained is not None
    assert refused["copies", "far"] and refused["plain", "far"], "noise is no eye"
    assert refused["plain", "other"] and not refused["copies", "other"]


def test_processes_beside_each_other_settle_alike_and_keep_out_of_one_network(
    photographs: Path, tmp_path: Path
) -> None:
    common = {**QUICK, "work": tmp_path / "work"}
    learn_network(photographs, tmp_path / "task", 1, **common)
    settled = json.loads((tmp_path / "work" / "settled.json").read_text())
    assert settled == {"precision": "float32", "steps": 20}
    assert keep_first(tmp_path / "work" / "settled.json", {"precision": "bfloat16", "steps": 20}) == settled
    assert not list((tmp_path / "work").glob("*.part")), "nothing half-written is left"
    with (
        alone_in(tmp_path / "work" / "network-1"),
        pytest.raises(ConfigError, match="another process learns this network"),
    ):
        learn_network(photographs, tmp_path / "task", 2, **common)
    adapt_data(photographs, tmp_path / "task", **common)
    card = json.loads(next((tmp_path / "task").glob("*-0.json")).read_text())
    assert card["training"]["learnt_on"] == [f"processor, torch {torch.__version__}, float32"]


def test_a_gate_says_that_copies_count(tmp_path: Path) -> None:
    rows = [GateRow(f"c{n}", 0, {"layout": 0.1 * n + copy}, copy=copy) for n in range(20) for copy in range(3)]
    reference = fit_reference([{"layout": np.random.default_rng(n).normal(size=4)} for n in range(20)])
    gate, reason = gate_of([reference], rows)
    assert gate is not None and not reason
    assert len(gate.scores) == 20 and gate.scores.min() >= 2, "an image counts by the strangest of it and its copies"
    assert gate.held_out == "20 held-out images, each by the strangest of it and 2 changed copies"
    np.savez(tmp_path / "gate.npz", **gate.arrays())
    with np.load(tmp_path / "gate.npz") as arrays:
        again = Gate.from_arrays({name: arrays[name] for name in arrays.files})
    assert again.copies == 2 and again.held_out == gate.held_out


@pytest.mark.parametrize("blocks", [(), ("energy",), ("nothing",)])
def test_blocks_that_there_are_not_are_refused_before_anything_is_learnt(
    photographs: Path, tmp_path: Path, blocks: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="gate_blocks"):
        adapt_data(photographs, tmp_path / "task", gate_blocks=blocks, work=tmp_path / "work", **QUICK)
    assert not list((tmp_path / "work").glob("network-*"))
