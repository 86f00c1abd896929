"""Hugging Face folders: config.json and safetensors, one file or shards.

The folder's config is read as data. What in it would fetch or run something (`auto_map`, kernels, adapters) is left
out; weights are read by ourselves and handed to the class of transformers that our own table names. transformers never
sees the folder: left to itself it would follow further files that a config can name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.hugging_face import refusals, silence
from isocenter.models.passport.architectures import ARCHITECTURES, Architecture
from isocenter.models.passport.checkpoint import State, read_safetensors
from isocenter.models.passport.document import Expectation, Passport, Scaling
from isocenter.models.passport.files import Progress, describe_files
from isocenter.models.passport.kinds import PICKLES
from isocenter.models.passport.memory import refuse_a_plan_beyond
from isocenter.models.passport.statements import read_statements
from isocenter.models.passport.tensors import (
    TensorEntry,
    count_parameters,
    dtypes,
    name_a_few,
    read_header,
    read_json,
)

__all__ = ["build", "describe", "weight_files"]

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BESIDE = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip
_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
_LEFT_OUT = (
    *_CODE, "_name_or_path", "name_or_path", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_attn_implementation_autoset", "experts_implementation",
    "_experts_implementation", "_experts_implementation_internal", "transformers_weights", "distributed_config",
    "fusion_config", "kernel_config", "use_kernels", "torchscript", "gguf_file",
)  # fmt: skip
"""Keys that make transformers fetch kernels, read other files or change the network's code."""


def weight_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the weights in a folder: one safetensors file, or its index and shards.

    Raises:
        WeightsError: There are none, they are pickles, or the index names files that are missing or lie elsewhere.
    """
    if (folder / _ONE).is_file():
        return (_ONE,)
    if (folder / _INDEX).is_file():
        places = read_json(folder / _INDEX).get("weight_map")
        names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
        wrong = [n for n in names if Path(n).name != n or "\\" in n or not n.endswith(".safetensors")]
        missing = [n for n in names if n not in wrong and not (folder / n).is_file()]
        if not names or wrong or missing:
            told = (
                f"names {wrong[0]!r}" if wrong else f"names {missing[0]!r}, which is missing" if missing else "is empty"
            )
            raise WeightsError(f"{folder / _INDEX} {told}; its shards must be safetensors files in the same folder")
        return (_INDEX, *names)
    pickled = next((p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLES), None)
    if pickled is not None:
        raise WeightsError(
            f"{folder} holds its weights as pickle only ({pickled}), which can run code when opened; take the {_ONE} "
            "of the same weights, or convert them where you trust them: save_pretrained of transformers does"
        )
    raise WeightsError(f"{folder} holds no {_ONE}; take it from the same source as config.json")


def _headers(folder: Path) -> dict[str, TensorEntry]:
    entries: dict[str, TensorEntry] = {}
    for name in weight_files(folder):
        if name.endswith(".safetensors"):
            entries |= read_header(folder / name)
    return entries


def _architecture(folder: Path, config: Mapping[str, object]) -> tuple[str, Architecture]:
    kind = config.get("model_type")
    known = ", ".join(ARCHITECTURES)
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        code = next((key for key in _CODE if key in config), None)
        asks = f" and asks for code of its own ({code}), which is never run" if code else ""
        raise WeightsError(
            f"{folder / 'config.json'}: model_type is {kind!r}, which is not known{asks}; known are {known}"
        )
    if "quantization_config" in config:
        raise WeightsError(
            f"{folder / 'config.json'}: the weights are quantised, which is not read; take the same weights in "
            "float32, bfloat16 or float16"
        )
    return kind, ARCHITECTURES[kind]


def _clean(value: Any, left_out: list[str]) -> Any:
    """Return a config without the keys that make transformers do more than build a network."""
    if isinstance(value, dict):
        left_out += [key for key in value if key in _LEFT_OUT and value[key]]
        return {key: _clean(inner, left_out) for key, inner in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [_clean(inner, left_out) for inner in value]
    return value


def _class(architecture: Architecture) -> Any:
    try:
        transformers = import_module("transformers")
    except ModuleNotFoundError as error:
        raise CapabilityError(
            f"{architecture.model} needs transformers: pip install 'isocenter[huggingface]'"
        ) from error
    found = getattr(transformers, architecture.model, None)
    if found is None:
        raise CapabilityError(f"this transformers has no {architecture.model}: pip install --upgrade transformers")
    return found


def _settings(folder: Path) -> tuple[str, Architecture, Any, list[str]]:
    """Return the folder's `model_type`, how it is built, its config as transformers holds it, and what was left out."""
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"{folder} holds an adapter for weights that lie elsewhere; merge them into one folder first"
        )
    read = read_json(folder / "config.json")
    kind, architecture = _architecture(folder, read)
    left_out: list[str] = []
    clean = _clean(read, left_out)
    made = _class(architecture)
    try:
        with silence():
            return kind, architecture, made.config_class.from_dict(clean), left_out
    except refusals() as error:
        raise WeightsError(f"{folder / 'config.json'}: not a config of {kind}: {_first(error)}") from error


def describe(folder: Path, progress: Progress | None = None) -> Passport:
    """Return the passport of a Hugging Face folder.

    Args:
        folder: Holds config.json and its weights.
        progress: Called while files are hashed.

    Raises:
        WeightsError: Weights that are missing, damaged, pickled or quantised, or a network that is not known.
        CapabilityError: transformers is not installed, or doesn't know this network.
    """
    kind, architecture, config, left_out = _settings(folder)
    names, entries = weight_files(folder), _headers(folder)
    beside = [name for name in _BESIDE if (folder / name).is_file()]
    code = [key for key in left_out if key in _CODE]
    notes = (
        [f"its config asks for code of its own ({code[0]}); it was not run, the known class was taken"] if code else []
    )
    pickled = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLES]
    notes += [f"{name} lies beside the weights and is not opened" for name in pickled]
    if kind == "sam2_video":
        notes.append("the part for images is used; the memory for videos is not")
    if kind == "vit_mae":
        notes.append("opened as an encoder that sees all patches (mask_ratio 0)")
    return Passport(
        name=folder.resolve().name,
        kind="huggingface",
        architecture=f"{kind} ({architecture.model} of transformers)",
        role=architecture.role,
        files=describe_files(folder, ("config.json", *names, *beside), progress),
        source_format="safetensors",
        parameters=max(1, count_parameters(entries.values())),
        dtype=dtypes(entries.values()),
        **read_statements(folder),
        inputs=_expectation(folder, config, architecture),
        notes=tuple(notes),
    )


def _expectation(folder: Path, config: Any, architecture: Architecture) -> Expectation:
    if architecture.role == "language":
        return Expectation(vocabulary=config.vocab_size)
    vision = getattr(config, "vision_config", config)
    vision = getattr(vision, "backbone_config", None) or vision
    size = getattr(vision, "image_size", None)
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list | tuple) else ()
    channels = getattr(vision, "num_channels", 3)
    scaling = _scaling(folder)
    text = getattr(config, "text_config", None)
    return Expectation(
        channels=channels,
        size=sides,
        axes="yx",
        intensity=None if scaling is None else _reach(scaling, channels),
        scaling=scaling,
        vocabulary=getattr(text, "vocab_size", None),
    )


def _scaling(folder: Path) -> Scaling | None:
    """Return how pictures are prepared, where the folder says so."""
    told: object = None
    if (folder / "preprocessor_config.json").is_file():
        told = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        told = read_json(folder / "processor_config.json").get("image_processor")
    if not isinstance(told, dict):
        return None
    factor, mean, std = told.get("rescale_factor", 1 / 255), told.get("image_mean"), told.get("image_std")
    plain = told.get("do_normalize", True) is False
    try:
        scaling = Scaling(
            unit="8-bit",
            factor=float(factor) if told.get("do_rescale", True) else 1.0,
            mean=() if plain or mean is None else tuple(float(m) for m in mean),
            std=() if plain or std is None else tuple(float(s) for s in std),
        )
        if not all(s > 0 for s in scaling.std):
            raise ValueError("a deviation that is not positive")
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}: how pictures are prepared is not stated in numbers that can be used; take the folder from its "
            "source again"
        ) from error
    return scaling


def _reach(scaling: Scaling, channels: int) -> tuple[float, float]:
    """Return the range that pictures of 0 to 255 come into."""
    mean, std = scaling.mean or (0.0,) * channels, scaling.std or (1.0,) * channels
    ends = [(end * scaling.factor - m) / s for m, s in zip(mean, std, strict=False) for end in (0.0, 255.0)]
    return min(ends), max(ends)


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def build(folder: Path, passport: Passport, dtype: torch.dtype | None = torch.float32) -> nn.Module:
    """Build and fill the folder's network.

    Args:
        folder: As for `describe`.
        passport: What `describe` returned.
        dtype: Of the numbers in memory; None for the type that most of them have in the file.

    Raises:
        WeightsError: Weights and config don't fit together.
        CapabilityError: transformers is not installed, or doesn't know this network.
    """
    kind, architecture, config, _ = _settings(folder)
    if kind == "vit_mae":
        config.mask_ratio = 0.0
    made = _class(architecture)
    state: State = {}
    for name in weight_files(folder):
        if name.endswith(".safetensors"):
            state |= read_safetensors(folder / name)
    options = {"add_pooling_layer": any(".pooler." in f".{key}" for key in state)} if kind == "vit" else {}
    stored: torch.dtype = getattr(torch, passport.dtype[0], torch.float32)
    taken = stored if dtype is None else dtype
    # What is read lies in the file still; what changes there later must not change in the network. A cast copies too.
    state = {key: tensor.clone() if tensor.dtype == taken else tensor for key, tensor in state.items()}
    try:
        with silence():
            with torch.device("meta"):
                planned = sum(p.numel() for p in made(config, **options).parameters())
            held = sum(tensor.numel() for tensor in state.values())
            refuse_a_plan_beyond(str(folder), planned, held, taken.itemsize)
            network, told = made.from_pretrained(
                None,
                config=config,
                state_dict=state,
                local_files_only=True,
                dtype=taken,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **options,
            )
    except refusals() as error:
        raise WeightsError(
            f"{folder}: weights and config don't fit together, or are damaged: {_first(error)}"
        ) from error
    _refuse_misfits(folder, told, architecture)
    filled: nn.Module = network.eval()
    return filled


def _refuse_misfits(folder: Path, told: Mapping[str, Any], architecture: Architecture) -> None:
    shapes = [
        f"{key} is {tuple(found)} in the file and {tuple(wanted)} by the config"
        for key, found, wanted in sorted(told.get("mismatched_keys") or (), key=lambda m: str(m[0]))
    ]
    missing = sorted(str(key) for key in told.get("missing_keys") or ())
    surplus = sorted(k for k in map(str, told.get("unexpected_keys") or ()) if not k.startswith(architecture.unused))
    for words, found in (("of another shape", shapes), ("missing", missing), ("not of this network", surplus)):
        if found:
            raise WeightsError(
                f"{folder}: the weights are not those that config.json describes: {len(found)} {words}: "
                f"{name_a_few(found)}; take both from one source"
            )
    if told.get("error_msgs"):
        raise WeightsError(f"{folder}: the weights can't be filled in: {name_a_few(map(str, told['error_msgs']))}")
