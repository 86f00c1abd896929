"""MONAI bundles and nnU-Net folders through the door: archives of torch, read without running anything in them."""

from __future__ import annotations

import copy
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.passport import describe, open_weights
from isocenter.models.passport.checkpoint import read_archive, read_safetensors, write_safetensors
from isocenter.models.passport.door import convert
from isocenter.models.passport.expressions import resolve
from passport_cases import (
    ARCHITECTURE,
    BUNDLE,
    DATASET,
    OLD_ARCHITECTURE,
    PLANS,
    StandInPlainConvUNet,
    StandInUNet,
    make_bundle,
    make_nnunet,
    springs,
    trap_archive,
    trap_pickle,
    with_monai,
    with_nnunet,
)

# MONAI


@pytest.mark.parametrize("weights", ["model.pt", "model.safetensors", "best.safetensors", "epoch_12.pt"])
def test_a_bundle_opens(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    folder = make_bundle(tmp_path / "spleen", weights=weights)
    opened = open_weights(folder)
    passport = opened.passport
    assert isinstance(opened.network, StandInUNet)
    assert (passport.kind, passport.architecture, passport.role) == ("monai", "monai.networks.nets.UNet", "segmenter")
    assert passport.source_format == ("safetensors" if weights.endswith("s") else "torch archive")
    assert passport.parameters == sum(p.numel() for p in opened.network.parameters())
    assert passport.outputs == ("background", "spleen")
    assert passport.intended_use == "Tests only."
    assert (passport.licence, passport.licence_from) == ('"Apache License"', "the first line of docs/license.txt")
    takes = passport.inputs
    assert (takes.channels, takes.size, takes.axes, takes.spacing_mm) == (1, (24, 32, 16), "xyz", (1.5, 1.5, 2.0))
    assert (takes.intensity, takes.modality) == ((0.0, 1.0), "CT")
    assert takes.scaling is not None
    assert (takes.scaling.unit, takes.scaling.clip) == ("HU", ((-57.0, 500.0),))
    ends = [v * takes.scaling.factor - takes.scaling.mean[0] for v in (-57, 500)]
    assert ends == pytest.approx([0.0, 1.0])


def test_a_bundle_may_be_yaml_and_say_its_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    folder = make_bundle(tmp_path / "spleen")
    config = copy.deepcopy(BUNDLE)
    config["preprocessing"]["transforms"][0]["axcodes"] = "SPL"
    config["network_def"]["_target_"] = "monai.networks.nets.UNet"
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(config), "utf-8")
    passport = open_weights(folder).passport
    assert passport.inputs.axes == "zyx"
    assert passport.notes == ()
    del config["preprocessing"]["transforms"][0]
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(config), "utf-8")
    assert describe(folder).notes == ("the order of its axes is not stated; taken as xyz, as MONAI reads images",)


def test_without_monai_the_passport_is_there_and_building_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    folder = make_bundle(tmp_path / "spleen")
    assert describe(folder).architecture == "monai.networks.nets.UNet"
    with pytest.raises(CapabilityError, match=r"pip install 'isocenter\[monai\]'"):
        open_weights(folder)


def test_weights_inside_a_training_s_checkpoint_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    folder = make_bundle(tmp_path / "spleen")
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "models" / "model.pt")
    assert torch.equal(open_weights(folder).network.first.weight, state["first.weight"])


def test_a_download_that_a_bundle_asks_for_is_not_made(tmp_path: Path) -> None:
    config = copy.deepcopy(BUNDLE)
    config["network_def"] = {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    config["network_def"]["pretrained"] = True
    passport = describe(make_bundle(tmp_path / "x", config))
    assert "asks for a download" in passport.notes[0]
    assert (passport.role, passport.inputs.axes) == ("classifier", "xy")


def network(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = {**BUNDLE, "network_def": {**BUNDLE["network_def"], **changes}}
        (folder / "configs" / "inference.json").write_text(json.dumps(config), "utf-8")

    return spoil


def save(value: object) -> Callable[[Path], None]:
    return lambda folder: torch.save(value, folder / "models" / "model.pt")


def only_torchscript(folder: Path) -> None:
    (folder / "models" / "model.pt").rename(folder / "models" / "model.ts")


def torchscript(folder: Path) -> None:
    with zipfile.ZipFile(folder / "models" / "model.pt", "w") as archive:
        archive.writestr("model/code/__torch__.py", "")
        archive.writestr("model/constants.pkl", b"")


def compressed(folder: Path) -> None:
    with zipfile.ZipFile(folder / "models" / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1000)


def cut(folder: Path) -> None:
    path = folder / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:300])


def claims(folder: Path) -> None:
    torch.save({"first.weight": torch.zeros(1).expand(1000, 1000)}, folder / "models" / "model.pt")


SPOILT = {
    "unknown network": (network(_target_="monai.networks.nets.Evil"), "'monai.networks.nets.Evil'.*never run. Known"),
    "own code": (network(_target_="scripts.net.UNet"), "'scripts.net.UNet', which is not known; code of a bundle"),
    "nothing named": (network(_target_=""), "is '', which is not known"),
    "argument built": (network(norm={"_target_": "os.system"}), "network_def.norm: asks to build 'os.system'"),
    "expression": (network(channels="$[2**i for i in range(3)]"), "channels: .* is code, which is never run"),
    "expression with a reference": (network(out_channels="$@classes + 1"), "'.@classes . 1' is code"),
    "system call": (network(in_channels="$__import__('os').getpid()"), "is code, which is never run"),
    "reference to code": (network(in_channels="@dataset_dir"), "os.environ.* is code, which is never run"),
    "reference to nothing": (network(in_channels="@nothing#0"), "refers to @nothing#0, which is not there"),
    "reference to itself": (network(in_channels="@network_def#in_channels"), "refers to itself"),
    "other file": (network(in_channels="%train.json#x"), "refers to something else than a value of this file"),
    "switch": (network(_disabled_="$True"), "holds '_disabled_'"),
    "wrong arguments": (network(depth=3), "can't be built as its configuration says: .*unexpected keyword"),
    "other shape": (network(channels=[5, 8]), r"of another shape: first.bias is \(4,\) in the file and \(5,\)"),
    "larger than memory": (network(channels=[2**40, 8]), "they are not of one network"),
    "no definition": (lambda f: (f / "configs" / "inference.json").write_text("{}"), "no inference .* the network"),
    "no weights": (lambda f: (f / "models" / "model.pt").unlink(), "holds no weights"),
    "two weights": (
        lambda f: [(f / "models" / n).touch() for n in ("a.safetensors", "b.safetensors")]
        and (f / "models" / "model.pt").unlink(),
        "holds 2 files of weights",
    ),
    "TorchScript only": (only_torchscript, "TorchScript only, which is code and is not run"),
    "TorchScript inside": (torchscript, "TorchScript is code and is not run"),
    "compressed": (compressed, "compressed, as torch never writes"),
    "cut off": (cut, "a bare pickle, or cut off"),
    "missing": (save({"first.weight": torch.zeros(4, 1, 3, 3, 3)}), "3 missing: first.bias"),
    "not tensors": (save({"first.weight": [1, 2]}), "'first.weight' is not a plain tensor"),
    "sparse": (save({"x": torch.eye(3).to_sparse()}), "'x' is not a plain tensor"),
    "claims more than it holds": (claims, "claims more numbers than it holds"),
    "a list": (save([1, 2]), "holds a list where a dictionary"),
    "empty": (save({}), "holds no tensors"),
    "metadata no JSON": (lambda f: (f / "configs" / "metadata.json").write_text("{"), "can't be read as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_bundle_that_is_not_right_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    spoil, message = SPOILT[name]
    folder = make_bundle(tmp_path / "spleen")
    spoil(folder)
    with pytest.raises(WeightsError, match=message):
        open_weights(folder)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    folder = make_bundle(tmp_path / "spleen")
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    state["last.bias"][1] = float("nan")
    torch.save(state, folder / "models" / "model.pt")
    with pytest.raises(WeightsError, match=r"1 of its numbers are not finite, the first in 'last.bias'"):
        open_weights(folder)


@pytest.mark.parametrize("kind", ["archive", "bare"])
def test_a_trap_is_not_sprung(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    folder, sprung = make_bundle(tmp_path / "spleen"), tmp_path / "sprung"
    path = folder / "models" / "model.pt"
    (trap_archive if kind == "archive" else trap_pickle)(path, sprung)
    with pytest.raises(
        WeightsError, match="code and not data; it was not run" if kind == "archive" else "a bare pickle"
    ):
        open_weights(folder)
    assert not sprung.exists()
    if kind == "archive":
        springs(path)
        assert sprung.exists(), "the trap works where a pickle is executed"


def test_literals_and_references_are_data() -> None:
    config = {"a": {"b": [1, "@c"]}, "c": "$(2, 3)", "none": "$None"}
    assert resolve(["@a#b#1", "$@a::b", "@none", "plain", 1.5], config, "x") == [
        (2, 3),
        [1, (2, 3)],
        None,
        "plain",
        1.5,
    ]


# nnU-Net


def plans(**changes: object) -> dict:
    made = copy.deepcopy(PLANS)
    made["configurations"]["3d_fullres"] |= changes
    return made


def test_an_nnunet_folder_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nnunet(monkeypatch)
    folder = make_nnunet(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", folds=("fold_1", "fold_3"))
    opened = open_weights(folder)
    passport = opened.passport
    assert isinstance(opened.network, StandInPlainConvUNet)
    assert passport.name == "Dataset009_Spleen-3d_fullres"
    assert passport.architecture == "PlainConvUNet of nnU-Net v2 (3d_fullres, nnUNetTrainer)"
    assert passport.outputs == ("background", "spleen")
    assert (passport.licence, passport.intended_use) == ("unknown", "unknown")
    assert passport.notes[0] == "2 folds lie there; fold_1 is opened"
    assert "trained to ignore the side" in passport.notes[1]
    assert passport.parameters == sum(p.numel() for p in opened.network.parameters()), "what is shared counts once"
    takes = passport.inputs
    assert (takes.channels, takes.size, takes.axes, takes.spacing_mm) == (1, (16, 24, 32), "zyx", (1.5, 0.8, 0.8))
    assert takes.intensity == pytest.approx((-140 / 120, 500 / 120))
    made = StandInPlainConvUNet.made_with
    assert (made["conv_op"], made["norm_op"], made["dropout_op"]) == (nn.Conv3d, nn.InstanceNorm3d, None)
    assert (made["nonlin"], made["num_classes"], made["deep_supervision"]) == (nn.LeakyReLU, 2, False)


def test_inherited_and_old_plans_and_turned_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nnunet(monkeypatch)
    assert "3d_bs4" in open_weights(make_nnunet(tmp_path / "a", configuration="3d_bs4")).passport.architecture
    old = plans(**OLD_ARCHITECTURE)
    del old["configurations"]["3d_fullres"]["architecture"]
    old["transpose_forward"] = [2, 0, 1]
    passport = open_weights(make_nnunet(tmp_path / "b", plans=old)).passport
    assert passport.inputs.axes == "xzy"
    assert StandInPlainConvUNet.made_with["features_per_stage"] == [4, 6]
    assert StandInPlainConvUNet.made_with["n_conv_per_stage"] == [2, 2]


def test_the_normalisation_is_read(tmp_path: Path) -> None:
    def scaling(folder: str, *schemes: str):
        return describe(make_nnunet(tmp_path / folder, plans=plans(normalization_schemes=schemes))).inputs.scaling

    assert scaling("a", "ZScoreNormalization").by_image
    assert scaling("b", "RGBTo01Normalization").factor == pytest.approx(1 / 255)
    assert scaling("c", "NoNormalization") is None
    assert scaling("d", "CTNormalization", "ZScoreNormalization") is None


def test_regions_count_without_the_background(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    passport = describe(make_nnunet(tmp_path / "x", dataset={**DATASET, "labels": labels}))
    assert passport.outputs == ("whole", "core")


def test_without_its_networks_the_passport_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    folder = make_nnunet(tmp_path / "x")
    assert describe(folder).role == "segmenter"
    with pytest.raises(CapabilityError, match="pip install dynamic-network-architectures"):
        open_weights(folder)


def arch(**changes: object) -> dict:
    return plans(architecture={**ARCHITECTURE, "arch_kwargs": {**ARCHITECTURE["arch_kwargs"], **changes}})


NNUNET = {
    "unknown network": (
        {"plans": plans(architecture={**ARCHITECTURE, "network_class_name": "evil.PlainConvUNet"})},
        "'evil.PlainConvUNet', which is not known; known are PlainConvUNet and",
    ),
    "unknown layer": ({"plans": arch(conv_op="os.system")}, "conv_op is 'os.system', which is not a known layer"),
    "layer elsewhere": ({"plans": arch(nonlin="evil.ReLU")}, "nonlin is 'evil.ReLU'"),
    "no network": ({"plans": plans(architecture={})}, "describes no network"),
    "no configuration": ({"configuration": "2d"}, "no whole configuration '2d'; it has 3d_fullres, 3d_bs4"),
    "inherits itself": ({"plans": plans(inherits_from="3d_fullres")}, "no whole configuration '3d_fullres'"),
    "no labels": ({"dataset": {**DATASET, "labels": {}}}, "names no labels"),
    "no channels": ({"dataset": {**DATASET, "channel_names": None}}, "channels or axes are not stated"),
    "no patch": ({"plans": plans(patch_size="big")}, "states no patch"),
    "more labels": (
        {"dataset": {**DATASET, "labels": {"background": 0, "a": 1, "b": 2}}},
        "2 of another shape: decoder.seg_layers.0.bias is .2,. in the file and .3,.",
    ),
    "no fold": ({"folds": ()}, "holds no fold_"),
}  # fmt: skip


@pytest.mark.parametrize("name", NNUNET)
def test_an_nnunet_folder_that_is_not_right_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nnunet(monkeypatch)
    settings, message = NNUNET[name]
    with pytest.raises(WeightsError, match=message):
        open_weights(make_nnunet(tmp_path / "x", **settings))


def test_a_trap_in_a_checkpoint_is_not_sprung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nnunet(monkeypatch)
    folder, sprung = make_nnunet(tmp_path / "x"), tmp_path / "sprung"
    path = folder / "fold_0" / "checkpoint_final.pth"
    trap_archive(path, sprung, {"network_weights": {"encoder.weight": torch.ones(2)}, "trainer_name": "nnUNetTrainer"})
    with pytest.raises(WeightsError, match="code and not data; it was not run"):
        open_weights(folder)
    assert not sprung.exists()


def test_not_even_numpy_is_called_by_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"number": np.float64(0.5), "array": np.arange(3), "w": torch.ones(2)}, path)
    before = torch.serialization.get_safe_globals()
    read = read_archive(path)
    assert torch.equal(read["w"], torch.ones(2))
    assert type(read["number"]).__name__ == type(read["array"]).__name__ == "_Inert"
    assert set(torch.serialization.get_safe_globals()) == set(before), "nothing stays allowed"


def test_old_torch_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(CapabilityError, match=r"needs torch 2.6 or newer"):
        read_archive(tmp_path / "x.pt")


# Conversion


@pytest.mark.parametrize("make", [make_bundle, make_nnunet])
def test_converted_weights_are_the_same_without_an_archive(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_monai(monkeypatch)
    with_nnunet(monkeypatch)
    folder, out = make(tmp_path / "x"), tmp_path / "out"
    out.mkdir()
    assert convert(folder, out)
    assert not [p for p in out.rglob("*") if p.suffix in (".pt", ".pth")]
    one, two = open_weights(folder), open_weights(out)
    assert two.passport.source_format == "safetensors"
    assert two.passport.parameters == one.passport.parameters
    assert two.passport.inputs == one.passport.inputs
    assert two.passport.architecture == one.passport.architecture
    other = two.network.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in one.network.state_dict().items())


def test_what_is_held_twice_is_written_once(tmp_path: Path) -> None:
    weight = torch.randn(50, 50)
    write_safetensors({"a": weight, "b": weight, "c": weight[:25], "d": weight.t()}, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 2.6 * weight.numel() * 4
    read = read_safetensors(tmp_path / "x.safetensors")
    assert torch.equal(read["a"], read["b"])
    assert torch.equal(read["c"], weight[:25])
    assert torch.equal(read["d"], weight.t())
