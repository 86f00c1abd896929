"""nnU-Net v2 folders: plans, data set and one fold's checkpoint, read as data.

Source:
    nnU-Net v2, `PlansManager` and `nnUNetPredictor.initialize_from_trained_model_folder`: which fields are read, and
    how plans from before version 2.4 describe their network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.passport.checkpoint import (
    State,
    read_archive,
    read_safetensors,
    state_of,
    tensor_entries,
    write_safetensors,
)
from isocenter.models.passport.document import Expectation, Passport, Scaling
from isocenter.models.passport.files import Progress, describe_files
from isocenter.models.passport.filling import make_and_fill
from isocenter.models.passport.statements import read_statements
from isocenter.models.passport.tensors import count_parameters, dtypes, read_header, read_json

__all__ = ["build", "convert", "describe", "read_state"]

_PACKAGE = "dynamic_network_architectures"
_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
_LAYERS = (
    "BatchNorm2d", "BatchNorm3d", "Conv2d", "Conv3d", "Dropout2d", "Dropout3d", "GELU", "InstanceNorm2d",
    "InstanceNorm3d", "LeakyReLU", "ReLU", "SiLU",
)  # fmt: skip
_NEEDS_IMPORT = ("conv_op", "norm_op", "dropout_op", "nonlin")
_CHECKPOINT = "checkpoint_final"
_FACTS = ("trainer_name", "inference_allowed_mirroring_axes", "configuration")


def _fold(folder: Path) -> tuple[Path, list[str]]:
    """Return the checkpoint that is opened, and the names of all folds that have one."""
    for suffix in (".safetensors", ".pth"):
        folds = sorted(f.name for f in folder.glob("fold_*") if (f / f"{_CHECKPOINT}{suffix}").is_file())
        if folds:
            chosen = "fold_all" if "fold_all" in folds else folds[0]
            return folder / chosen / f"{_CHECKPOINT}{suffix}", folds
    raise WeightsError(
        f"{folder} holds no fold_*/{_CHECKPOINT}.pth; give a folder that nnUNetv2_train has finished, or unpack the "
        "export"
    )


def _checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """Return the weights of a fold, and what the checkpoint says of them."""
    if path.suffix == ".safetensors":
        return read_safetensors(path), read_json(path.with_suffix(".json"))
    read = read_archive(path)
    weights, began = read.get("network_weights"), read.get("init_args")
    if not isinstance(weights, Mapping):
        raise WeightsError(f"{path}: holds no network_weights; this is not a checkpoint of nnU-Net v2")
    configuration = began.get("configuration") if isinstance(began, Mapping) else None
    axes = read.get("inference_allowed_mirroring_axes")
    facts = {
        "trainer_name": str(read.get("trainer_name", "")),
        "inference_allowed_mirroring_axes": list(axes) if isinstance(axes, list | tuple) else None,
        "configuration": str(configuration) if configuration else "",
    }
    return state_of(weights, path), facts


def _configuration(folder: Path, plans: Mapping[str, Any], told: object) -> tuple[str, dict[str, Any]]:
    """Return the configuration that was trained, with all that it inherits."""
    known = plans.get("configurations")
    names = {name: value for name, value in known.items() if isinstance(value, dict)} if isinstance(known, dict) else {}
    name = str(told or folder.resolve().name.rpartition("__")[2])
    chain: list[str] = []
    following: object = name
    while following is not None:
        if not isinstance(following, str) or following not in names or following in chain:
            raise WeightsError(
                f"{folder / 'plans.json'}: has no whole configuration {name!r}; it has {', '.join(names) or 'none'}"
            )
        chain.append(following)
        following = names[following].get("inherits_from")
    merged: dict[str, Any] = {}
    for link in reversed(chain):
        merged |= names[link]
    return name, merged


def _old_architecture(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of plans from before nnU-Net 2.4 as later plans state it."""
    stages = len(configuration["n_conv_per_stage_encoder"])
    dims = len(configuration["patch_size"])
    kind = str(configuration["UNet_class_name"])
    most, base = int(configuration["unet_max_num_features"]), int(configuration["UNet_base_num_features"])
    return {
        "network_class_name": f"{_PACKAGE}.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": configuration["conv_kernel_sizes"],
            "strides": configuration["pool_op_kernel_sizes"],
            ("n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"): configuration[
                "n_conv_per_stage_encoder"
            ],
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


def _architecture(folder: Path, configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the network's class and its arguments, layers still by name."""
    try:
        told = configuration.get("architecture") or _old_architecture(configuration)
        module, _, name = str(told["network_class_name"]).rpartition(".")
        arguments = dict(told["arch_kwargs"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{folder / 'plans.json'}: describes no network; take the folder from its source again"
        ) from error
    if name not in _NETWORKS or module.partition(".")[0] not in (_PACKAGE, ""):
        raise WeightsError(
            f"{folder / 'plans.json'}: its network is {told['network_class_name']!r}, which is not known; known are "
            f"{' and '.join(_NETWORKS)} of {_PACKAGE}"
        )
    for key in _NEEDS_IMPORT:
        layer = arguments.get(key)
        parts = str(layer).split(".")
        if layer is not None and (parts[-1] not in _LAYERS or parts[:2] != ["torch", "nn"]):
            raise WeightsError(f"{folder / 'plans.json'}: {key} is {layer!r}, which is not a known layer of torch.nn")
    return name, arguments


def _heads(folder: Path, dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the output channels: labels, or regions where labels overlap."""
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise WeightsError(f"{folder / 'dataset.json'}: names no labels; take the folder from its source again")
    named = {str(name): value for name, value in labels.items() if str(name) != "ignore"}
    regions = any(isinstance(value, list | tuple) and len(value) > 1 for value in named.values())
    if regions:
        return tuple(name for name, value in named.items() if name != "background" and value not in (0, [0]))
    return tuple(named)


def describe(folder: Path, progress: Progress | None = None) -> Passport:
    """Return the passport of a trained nnU-Net v2 folder; neither nnU-Net nor its networks need be installed.

    Raises:
        WeightsError: A part is missing or damaged, the checkpoint asks for code, or the network is not known.
    """
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    path, folds = _fold(folder)
    state, facts = _checkpoint(path)
    entries = read_header(path) if path.suffix == ".safetensors" else tensor_entries(state)
    name, configuration = _configuration(folder, plans, facts.get("configuration"))
    network, _ = _architecture(folder, configuration)
    names = ["plans.json", "dataset.json", f"{path.parent.name}/{path.name}"]
    names += [f"{path.parent.name}/{path.stem}.json"] if path.suffix == ".safetensors" else []
    expectation = _expectation(folder, plans, dataset, configuration)
    notes = [f"{len(folds)} folds lie there; {path.parent.name} is opened"] if len(folds) > 1 else []
    mirrored = facts.get("inference_allowed_mirroring_axes")
    if isinstance(mirrored, list) and any(a < len(expectation.axes) and expectation.axes[a] == "x" for a in mirrored):
        notes.append(
            "nnU-Net averages its answers over mirror images, left and right too: it was trained to ignore the side"
        )
    return Passport(
        name=f"{plans.get('dataset_name') or folder.resolve().name}-{name}",
        kind="nnunet",
        architecture=f"{network} of nnU-Net v2 ({name}, {facts.get('trainer_name') or 'trainer unknown'})",
        role="segmenter",
        files=describe_files(folder, names, progress),
        source_format="safetensors" if path.suffix == ".safetensors" else "torch archive",
        parameters=max(1, count_parameters(entries.values())),
        dtype=dtypes(entries.values()),
        **read_statements(folder, dataset),
        inputs=expectation,
        outputs=_heads(folder, dataset),
        notes=tuple(notes),
    )


def _expectation(
    folder: Path, plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: Mapping[str, Any]
) -> Expectation:
    channels = dataset.get("channel_names") or dataset.get("modality")
    try:
        size = tuple(int(side) for side in configuration["patch_size"])
        order = [int(axis) for axis in plans.get("transpose_forward", (0, 1, 2))]
        axes = "".join("zyx"[axis] for axis in order)[-len(size) :]
        spacing = tuple(float(s) for s in configuration.get("spacing", ()))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{folder / 'plans.json'}: states no patch that can be read; take it from its source again"
        ) from error
    if not isinstance(channels, dict) or len(size) not in (2, 3) or len(set(axes)) != len(size):
        raise WeightsError(f"{folder}: channels or axes are not stated; take the folder from its source again")
    scaling = _scaling(plans, configuration)
    intensity = None
    if scaling is not None and scaling.clip:
        ends = [
            (end - mean) / std
            for pair, mean, std in zip(scaling.clip, scaling.mean, scaling.std, strict=True)
            for end in pair
        ]
        intensity = (min(ends), max(ends))
    return Expectation(
        channels=len(channels) + _stages_before(dataset, configuration),
        size=size,
        axes=axes,
        intensity=intensity,
        scaling=scaling,
        spacing_mm=spacing,
        modality=", ".join(str(value) for value in channels.values()),
    )


def _stages_before(dataset: Mapping[str, Any], configuration: Mapping[str, Any]) -> int:
    """Return the channels that a cascade's second stage takes from its first: one for each label in front."""
    labels = dataset.get("labels")
    if not configuration.get("previous_stage") or not isinstance(labels, dict):
        return 0
    return len([name for name, value in labels.items() if name != "ignore" and value not in (0, [0])])


def _scaling(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> Scaling | None:
    """Return how intensities are prepared, where all channels are prepared alike."""
    schemes = set(configuration.get("normalization_schemes") or ())
    if schemes == {"ZScoreNormalization"}:
        return Scaling(unit="arbitrary", by_image=True)
    if schemes == {"RGBTo01Normalization"}:
        return Scaling(unit="8-bit", factor=1 / 255)
    told = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality"
    )
    if schemes != {"CTNormalization"} or not isinstance(told, dict):
        return None
    try:
        channels = [told[key] for key in sorted(told, key=int)]
        return Scaling(
            unit="HU",
            clip=tuple((float(c["percentile_00_5"]), float(c["percentile_99_5"])) for c in channels),
            mean=tuple(float(c["mean"]) for c in channels),
            std=tuple(max(float(c["std"]), 1e-8) for c in channels),
        )
    except (KeyError, TypeError, ValueError):
        return None


def build(folder: Path, passport: Passport) -> nn.Module:
    """Build and fill the network of the fold that the passport names.

    Raises:
        WeightsError: As `describe`; or the weights are not those of the network.
        CapabilityError: The package that holds nnU-Net's networks is not installed.
    """
    plans = read_json(folder / "plans.json")
    path, _ = _fold(folder)
    state, facts = _checkpoint(path)
    _, configuration = _configuration(folder, plans, facts.get("configuration"))
    name, arguments = _architecture(folder, configuration)
    try:
        made = getattr(import_module(f"{_PACKAGE}.architectures.unet"), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise CapabilityError(
            f"{passport.name} needs the networks of nnU-Net to be built: pip install dynamic-network-architectures"
        ) from error
    for key in _NEEDS_IMPORT:
        if arguments.get(key) is not None:
            arguments[key] = getattr(nn, str(arguments[key]).rpartition(".")[2])
    arguments |= {
        "input_channels": passport.inputs.channels,
        "num_classes": len(passport.outputs),
        "deep_supervision": False,
    }
    return make_and_fill(lambda: made(**arguments), state, folder)


def read_state(folder: Path) -> State:
    """Return the tensors of the fold that is opened, by name."""
    return _checkpoint(_fold(folder)[0])[0]


def convert(folder: Path, out: Path) -> None:
    """Write the folder anew with the weights of the fold that is opened as safetensors.

    Args:
        folder: As for `describe`.
        out: An empty folder.
    """
    path, _ = _fold(folder)
    state, facts = _checkpoint(path)
    if not facts.get("configuration"):
        facts["configuration"] = _configuration(folder, read_json(folder / "plans.json"), None)[0]
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(folder / name, out / name)
    target = out / path.parent.name
    target.mkdir()
    write_safetensors(state, target / f"{_CHECKPOINT}.safetensors")
    words = json.dumps({key: facts.get(key) for key in _FACTS}, indent=1)
    (target / f"{_CHECKPOINT}.json").write_text(words + "\n", encoding="utf-8")
