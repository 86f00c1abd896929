"""MONAI bundles: what metadata and configuration say as data, and the weights; no code of a bundle is run.

Source:
    MONAI Bundle Specification (docs.monai.io, "mb_specification").
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
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
from isocenter.models.passport.document import Expectation, Passport, Role, Scaling
from isocenter.models.passport.expressions import find_targets, resolve
from isocenter.models.passport.files import Progress, describe_files
from isocenter.models.passport.filling import make_and_fill
from isocenter.models.passport.statements import read_statements
from isocenter.models.passport.tensors import TensorEntry, count_parameters, dtypes, read_header, read_json

__all__ = ["NETWORKS", "build", "convert", "describe", "read_state"]

_SEGMENTERS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "BasicUnet", "DynUNet", "DynUnet", "FlexibleUNet", "HighResNet",
    "SegResNet", "SegResNetDS", "SegResNetVAE", "SwinUNETR", "UNETR", "UNet", "Unet", "VNet",
)  # fmt: skip
_CLASSIFIERS = (
    "DenseNet", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "EfficientNetBN", "ResNet", "SENet154",
    "SEResNet50", "SEResNet101", "SEResNet152", "ViT",
)  # fmt: skip
NETWORKS: dict[str, Role] = {
    **dict.fromkeys(_SEGMENTERS, "segmenter"),
    **dict.fromkeys(_CLASSIFIERS, "classifier"),
}
"""Classes of monai.networks.nets that are built, and what they do."""
_CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "train.json", "train.yaml", "train.yml")
_WRAPPERS = ("state_dict", "model", "network", "net", "model_state_dict")
_DIRECTIONS = {"R": "x", "L": "x", "A": "y", "P": "y", "S": "z", "I": "z"}


def _weights(folder: Path) -> Path:
    """Return the file of the weights."""
    models = folder / "models"
    for name in ("model.safetensors", "model.pt"):
        if (models / name).is_file():
            return models / name
    there = sorted(models.iterdir()) if models.is_dir() else []
    for suffixes in ((".safetensors",), (".pt", ".pth")):
        found = [file for file in there if file.suffix in suffixes]
        if len(found) == 1:
            return found[0]
        if found:
            raise WeightsError(
                f"{models} holds {len(found)} files of weights; leave one, or name it {'model' + suffixes[0]}"
            )
    if any(file.suffix == ".ts" for file in there):
        raise WeightsError(
            f"{models} holds TorchScript only, which is code and is not run; take the bundle's model.pt or safetensors"
        )
    raise WeightsError(f"{models} holds no weights (model.safetensors or model.pt); take them from the bundle's source")


def _configuration(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the configuration that defines the network, and its name."""
    for name in _CONFIGS:
        path = folder / "configs" / name
        if not path.is_file():
            continue
        if path.suffix == ".json":
            read: object = read_json(path)
        else:
            try:
                read = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
                raise WeightsError(f"{path}: can't be read as YAML; take the bundle from its source again") from error
        if isinstance(read, dict) and isinstance(read.get("network_def"), dict):
            return f"configs/{name}", read
    raise WeightsError(
        f"{folder / 'configs'}: no inference or training configuration defines the network (network_def with _target_)"
    )


def _network(folder: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """Return the network's class and arguments, and what a reader must know."""
    told = dict(config["network_def"])
    module, _, name = str(told.pop("_target_", "")).rpartition(".")
    if name not in NETWORKS or (module and not f"{module}.".startswith("monai.networks.nets.")):
        raise WeightsError(
            f"{folder}: its network is {f'{module}.{name}'.strip('.')!r}, which is not known; code of a bundle is "
            f"never run. Known are of monai.networks.nets: {', '.join(sorted(NETWORKS))}"
        )
    told.pop("_desc_", None)
    odd = [key for key in told if str(key).startswith("_")]
    if odd:
        raise WeightsError(f"{folder}: network_def holds {odd[0]!r}, which is not plain data; leave it out")
    arguments = resolve(told, config, "network_def")
    notes = []
    if arguments.get("pretrained"):
        arguments["pretrained"] = False
        notes.append(
            "its definition asks for a download of other weights (pretrained); the bundle's own fill all of it"
        )
    return name, arguments, notes


def _state(path: Path) -> State:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    read = read_archive(path)
    inner = next((read[key] for key in _WRAPPERS if isinstance(read.get(key), Mapping)), read)
    return state_of(inner, path)


def _entries(path: Path) -> dict[str, TensorEntry]:
    return read_header(path) if path.suffix == ".safetensors" else tensor_entries(_state(path))


def describe(folder: Path, progress: Progress | None = None) -> Passport:
    """Return the passport of a MONAI bundle; monai need not be installed.

    Raises:
        WeightsError: A part is missing or damaged, the weights are TorchScript or ask for code, or the network is not
            one of `NETWORKS` with plain arguments.
    """
    metadata = read_json(folder / "configs" / "metadata.json")
    config_name, config = _configuration(folder)
    name, arguments, notes = _network(folder, config)
    weights = _weights(folder)
    entries = _entries(weights)
    files = ("configs/metadata.json", config_name, f"models/{weights.name}")
    form = metadata.get("network_data_format")
    inputs, outputs = (_part(form, key) for key in ("inputs", "outputs"))
    expectation, more = _expectation(inputs, config, arguments)
    return Passport(
        name=folder.resolve().name,
        kind="monai",
        architecture=f"monai.networks.nets.{name}",
        role=NETWORKS[name],
        files=describe_files(folder, files, progress),
        source_format="safetensors" if weights.suffix == ".safetensors" else "torch archive",
        parameters=max(1, count_parameters(entries.values())),
        dtype=dtypes(entries.values()),
        **read_statements(folder, metadata),
        inputs=expectation,
        outputs=_channels(outputs),
        notes=(*notes, *more),
    )


def _part(form: object, key: str) -> dict[str, Any]:
    """Return the first named tensor of the inputs or outputs."""
    named = form.get(key) if isinstance(form, dict) else None
    first = next(iter(named.values()), None) if isinstance(named, dict) else None
    return first if isinstance(first, dict) else {}


def _channels(outputs: Mapping[str, Any]) -> tuple[str, ...]:
    told = outputs.get("channel_def")
    if not isinstance(told, dict) or not all(str(key).isdigit() for key in told):
        return ()
    return tuple(str(told[key]) for key in sorted(told, key=lambda k: int(str(k))))


def _expectation(
    inputs: Mapping[str, Any], config: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[Expectation, list[str]]:
    steps = config.get("preprocessing", config)
    dims = _whole(arguments.get("spatial_dims")) or _whole(arguments.get("dimensions")) or 3
    size = _whole_numbers(inputs.get("spatial_shape"), dims)
    for found in () if size else find_targets(config, "SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        size = _whole_numbers(_plain(found.get("roi_size"), config), dims)
    notes, axes = [], "xyz"[:dims]
    turned = [str(_plain(found.get("axcodes"), config)) for found in find_targets(steps, "Orientationd", "Orientation")]
    if turned and sorted(_DIRECTIONS.get(letter, "") for letter in turned[0]) == ["x", "y", "z"]:
        axes = "".join(_DIRECTIONS[letter] for letter in turned[0])[:dims]
    else:
        notes.append(f"the order of its axes is not stated; taken as {axes}, as MONAI reads images")
    spacing = [_plain(found.get("pixdim"), config) for found in find_targets(steps, "Spacingd", "Spacing")]
    scaling = _scaling(inputs, config, steps)
    stated = inputs.get("value_range")
    intensity = (
        (float(stated[0]), float(stated[1]))
        if isinstance(stated, list) and len(stated) == 2 and all(isinstance(v, int | float) for v in stated)
        else None
    )
    modality = str(inputs.get("modality", ""))
    expectation = Expectation(
        channels=_whole(arguments.get("in_channels")) or _whole(inputs.get("num_channels")),
        size=size,
        axes=axes,
        intensity=intensity,
        scaling=scaling,
        spacing_mm=_floats(spacing[0], dims) if spacing else (),
        modality="" if modality == "n/a" else modality,
    )
    return expectation, notes


def _scaling(inputs: Mapping[str, Any], config: Mapping[str, Any], steps: Any) -> Scaling | None:
    """Return the window that the preprocessing names, where there is one alone."""
    windows = list(find_targets(steps, "ScaleIntensityRanged", "ScaleIntensityRange"))
    if len(windows) != 1:
        return None
    ends = _floats([_plain(windows[0].get(k), config) for k in ("a_min", "a_max", "b_min", "b_max")], 4)
    if len(ends) != 4 or ends[1] <= ends[0]:
        return None
    factor = (ends[3] - ends[2]) / (ends[1] - ends[0])
    hounsfield = inputs.get("format") == "hounsfield" or str(inputs.get("modality", "")).upper() == "CT"
    return Scaling(
        unit="HU" if hounsfield else "arbitrary",
        clip=((ends[0], ends[1]),) if windows[0].get("clip") else (),
        factor=factor,
        mean=(ends[0] * factor - ends[2],),
    )


def _plain(value: Any, config: Mapping[str, Any]) -> Any:
    """Return a value as data, or None where it is code."""
    try:
        return resolve(value, config, "preprocessing")
    except WeightsError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _whole_numbers(value: Any, count: int) -> tuple[int, ...]:
    sides = (value,) * count if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    return sides if len(sides) == count and all(_whole(side) for side in sides) else ()


def _floats(value: Any, count: int) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) < count:
        return ()
    return tuple(float(v) for v in value[:count]) if all(isinstance(v, int | float) for v in value[:count]) else ()


def build(folder: Path, passport: Passport) -> nn.Module:
    """Build and fill the bundle's network.

    Raises:
        WeightsError: As `describe`; or the weights are not those of the network.
        CapabilityError: monai is not installed, or lacks this network.
    """
    _, config = _configuration(folder)
    name, arguments, _ = _network(folder, config)
    try:
        made = getattr(import_module("monai.networks.nets"), name, None)
    except ModuleNotFoundError as error:
        raise CapabilityError(f"{passport.name} needs MONAI to be built: pip install 'isocenter[monai]'") from error
    if made is None:
        raise CapabilityError(f"this MONAI has no network {name}: pip install --upgrade monai")
    return make_and_fill(lambda: made(**arguments), _state(_weights(folder)), folder)


def read_state(folder: Path) -> State:
    """Return the bundle's tensors by name."""
    return _state(_weights(folder))


def convert(folder: Path, out: Path) -> None:
    """Write the bundle anew with its weights as safetensors.

    Args:
        folder: The bundle.
        out: An empty folder.
    """
    config_name, _ = _configuration(folder)
    for part in ("configs", "models"):
        (out / part).mkdir()
    for name in ("configs/metadata.json", config_name):
        shutil.copyfile(folder / name, out / name)
    write_safetensors(_state(_weights(folder)), out / "models" / "model.safetensors")
