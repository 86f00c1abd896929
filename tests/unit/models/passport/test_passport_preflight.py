"""Pre-flight: every check passes on what is right, and fails on a network that is wrong in just that way."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.models.passport.document import Expectation, Scaling
from isocenter.models.passport.door import locate
from isocenter.models.passport.phantom import BALL, prepare, sided_phantom
from isocenter.models.passport.preflight import Check, CheckReport, check_weights
from passport_cases import (
    BUNDLE,
    PICTURES,
    PLANS,
    StandInUNet,
    make_bundle,
    make_huggingface,
    make_nnunet,
    stand_in,
    with_monai,
    with_nnunet,
)

NAMES = ["files", "licence", "intended use", "weights", "memory", "output", "latency", "intensity", "laterality"]


def checks(path: Path | str) -> dict[str, Check]:
    report = check_weights(locate(path))
    assert [c.name for c in report.checks] == NAMES
    assert report.passed == all(c.status != "failed" for c in report.checks)
    return {c.name: c for c in report.checks}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if check.status == "failed"]


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1", "interactive-2d"])
def test_built_in_models_pass(name: str) -> None:
    found = checks(name)
    assert not failed(found)
    assert found["laterality"].status == "passed"
    assert found["laterality"].number is not None and found["laterality"].number > 0.65
    assert found["latency"].number is not None and found["latency"].number > 0
    assert found["memory"].number is not None and found["memory"].number > 2e6


@pytest.mark.parametrize("kind", ["dinov2", "clip", "sam2", "vit_mae"])
def test_pictures_pass(kind: str, tmp_path: Path) -> None:
    found = checks(make_huggingface(tmp_path / kind, kind))
    assert not failed(found)
    assert found["intensity"].status == found["laterality"].status == "passed"
    assert found["files"].status == "not applicable"


def test_a_language_model_takes_no_picture(tmp_path: Path) -> None:
    found = checks(make_huggingface(tmp_path / "llama", "llama"))
    assert not failed(found)
    assert found["intensity"].status == found["laterality"].status == "not applicable"
    assert found["output"].words == "1 x 8 x 64, all numbers finite"


def test_an_unknown_licence_and_use_fail_and_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nnunet(monkeypatch)
    found = checks(make_nnunet(tmp_path / "x"))
    assert failed(found) == ["licence", "intended use"]
    assert "--licence" in found["licence"].words
    assert "--intended-use" in found["intended use"].words
    assert found["laterality"].status == "passed"
    assert found["intensity"].words.startswith("-1.17 to 4.17 expected")


def test_a_package_that_is_missing_leaves_the_numbers_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "monai", None)
    folder = make_bundle(tmp_path / "x")
    found = checks(folder)
    assert not failed(found)
    assert "all finite" in found["weights"].words and "isocenter[monai]" in found["weights"].words
    assert all(found[name].status == "not applicable" for name in NAMES[4:])
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    state["last.bias"][0] = float("inf")
    torch.save(state, folder / "models" / "model.pt")
    assert failed(checks(folder)) == ["weights"]


def test_weights_that_do_not_fit_fail_and_nothing_is_run(tmp_path: Path) -> None:
    folder = make_huggingface(tmp_path / "x")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    found = checks(folder)
    assert failed(found) == ["weights"]
    assert all(found[name].words == "not run: there is no network" for name in NAMES[4:])
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 2**20}))
    assert failed(checks(folder)) == ["weights"]


def test_too_little_memory_is_told_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_huggingface(tmp_path / "x")
    monkeypatch.setattr("isocenter.models.passport.preflight.available_bytes", lambda: 1000)
    monkeypatch.setattr("isocenter.models.passport.preflight.build", None)
    found = checks(folder)
    assert failed(found) == ["memory"]
    assert "0.001 MB are free" in found["memory"].words


def test_memory_is_counted_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_huggingface(tmp_path / "x")
    monkeypatch.setattr("isocenter.models.passport.preflight._HIGH_WATER", (tmp_path / "no" / "x", tmp_path / "y"))
    found = checks(folder)
    assert found["memory"].status == "passed"
    assert "an upper bound" in found["memory"].words


# Networks that are wrong


class Flipped(StandInUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(2)


class Turned(StandInUNet):
    """Takes its axes in another order, and so answers about another place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flip(4)


class Blind(StandInUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.zeros_like(x))


class Everywhere(StandInUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = super().forward(x)
        return said.mean(dim=(2, 3, 4), keepdim=True).expand_as(said)


class NotANumber(StandInUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = super().forward(x)
        return said / (said.abs() > 1e9)


class Stops(StandInUNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("sizes must be a multiple of 64")


@pytest.mark.parametrize(
    ("network", "fails", "words"),
    [
        (StandInUNet, "", ""),
        (Flipped, "laterality", "lies on the other side"),
        (Turned, "laterality", "lies elsewhere along z: axes are mixed up"),
        (Blind, "laterality", "changes nothing"),
        (Everywhere, "laterality", "lies on both sides alike"),
        (NotANumber, "output", "not finite"),
        (Stops, "output", "stops on the phantom: sizes must be a multiple of 64"),
    ],
)
def test_a_segmenter_is_held_to_the_place(
    network: type, fails: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle reads axes as x, y, z, so that x is the first."""
    stand_in(monkeypatch, "monai.networks.nets", UNet=network)
    found = checks(make_bundle(tmp_path / "x"))
    assert failed(found)[:1] == ([fails] if fails else [])
    if fails:
        assert words in found[fails].words


@pytest.mark.parametrize("axcodes", ["RAS", "SPL", "ASR"])
def test_the_side_is_looked_for_along_the_axis_that_the_source_names(
    axcodes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy.deepcopy(BUNDLE)
    config["preprocessing"]["transforms"][0]["axcodes"] = axcodes
    axis = [letter in "RL" for letter in axcodes].index(True)

    class Mirrored(StandInUNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).flip(2 + axis)

    folder = make_bundle(tmp_path / "x", config)
    with_monai(monkeypatch)
    assert checks(folder)["laterality"].status == "passed"
    stand_in(monkeypatch, "monai.networks.nets", UNet=Mirrored)
    assert "left and right are exchanged" in checks(folder)["laterality"].words


def test_a_side_blind_encoder_is_told(tmp_path: Path) -> None:
    """A ViT whose places carry no position, and whose patches are the same mirrored, can't see the side."""
    from safetensors.torch import load_file, save_file

    folder = make_huggingface(tmp_path / "x")
    arrays = load_file(folder / "model.safetensors")
    arrays["embeddings.position_embeddings"].zero_()
    key = "embeddings.patch_embeddings.projection.weight"
    arrays[key] = ((arrays[key] + arrays[key].flip(-1)) / 2).contiguous()
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    found = checks(folder)
    assert failed(found) == ["laterality"]
    assert found["laterality"].words.startswith("side-blind")
    assert found["laterality"].number is not None and found["laterality"].number < 1e-4


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]}, "nothing can be told apart any more"),
        ({"do_rescale": False}, "the stated mean and deviation are of another scale"),
    ],
)
def test_pictures_prepared_on_another_scale_fail(said: dict, words: str, tmp_path: Path) -> None:
    folder = make_huggingface(tmp_path / "x")
    (folder / "preprocessor_config.json").write_text(json.dumps({**PICTURES, **said}))
    found = checks(folder)
    assert "intensity" in failed(found)
    assert words in found["intensity"].words


def test_a_stated_range_that_the_stated_window_does_not_give_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_monai(monkeypatch)
    config = copy.deepcopy(BUNDLE)
    config["preprocessing"]["transforms"][2]["b_max"] = 255.0
    found = checks(make_bundle(tmp_path / "x", config))
    assert failed(found) == ["intensity"]
    assert "leaves the stated range" in found["intensity"].words


def test_a_window_in_which_the_ball_is_not_seen_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nnunet(monkeypatch)
    plans = copy.deepcopy(PLANS)
    plans["foreground_intensity_properties_per_channel"]["0"] |= {"percentile_99_5": -1e3, "percentile_00_5": -3e3}
    plans["foreground_intensity_properties_per_channel"]["0"] |= {"mean": -1500.0}
    found = checks(make_nnunet(tmp_path / "x", plans=plans))
    assert found["laterality"].status == "not applicable"
    assert "intensity" in failed(found)


def test_altered_files_are_found_by_path_only_after_they_were_added(tmp_path: Path) -> None:
    folder = make_huggingface(tmp_path / "x")
    located = locate(folder)
    recorded = check_weights(located).passport
    stored = type(located)(folder, "mine", recorded)
    assert check_weights(stored).passed
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\1\2\3\4")
    report: CheckReport = check_weights(stored)
    assert [c.name for c in report.checks if c.status == "failed"] == ["files"]
    assert "model.safetensors was altered" in report.checks[0].words
    assert report.checks[3].status == "not applicable"
    shutil.rmtree(folder)
    assert "nothing lies at" in check_weights(stored).checks[0].words


# The phantom


@pytest.mark.parametrize("axes", ["yx", "zyx", "xyz", "xzy"])
def test_the_phantom_has_one_ball_and_is_else_its_own_mirror_image(axes: str) -> None:
    size = tuple({"x": 30, "y": 24, "z": 17}[a] for a in axes)
    x = axes.index("x")
    low, high, none = (sided_phantom(size, axes, ball) for ball in ("low", "high", None))
    assert np.array_equal(np.flip(low, x), high)
    assert np.array_equal(np.flip(none, x), none)
    middle = np.argwhere(low != none).mean(axis=0)
    np.testing.assert_allclose((middle + 0.5) / size, [BALL[a] for a in axes], atol=0.02)


def test_a_phantom_is_prepared_as_the_source_says() -> None:
    values = np.array([[-1000.0, 40.0, 400.0]], dtype=np.float32)
    ct = Scaling(unit="HU", clip=((-100.0, 300.0),), mean=(100.0,), std=(50.0,))
    assert prepare(values, 1, ct, None)[0, 0].tolist() == pytest.approx([-4.0, -1.2, 4.0])
    picture = Scaling(unit="8-bit", factor=1 / 255, mean=(0.5, 0.2), std=(0.5, 0.1))
    assert prepare(values, 2, picture, None)[:, 0, 0].tolist() == pytest.approx([-1.0, -2.0])
    assert prepare(values, 2, picture, None)[:, 0, 2].tolist() == pytest.approx([1.0, 8.0])
    own = prepare(values, 1, Scaling(unit="arbitrary", by_image=True), None)
    assert (float(own.mean()), float(own.std())) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert prepare(values, 1, None, (-2.0, 3.0))[0, 0, [0, 2]].tolist() == [-2.0, 3.0]
    assert Expectation().intensity is None
