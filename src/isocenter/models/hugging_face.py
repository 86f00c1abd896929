"""Local Hugging Face folders: what is taken from them and what is refused.

A folder holds `config.json` and `model.safetensors`. Nothing is downloaded, no pickle is opened, and no code that comes
with the weights is run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError

from isocenter.core.errors import CapabilityError, WeightsError

__all__ = ["left_over", "read_folder_config", "read_json", "refusals", "silence", "transformers_package"]

ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: It is no JSON, or no object.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: can't be read as JSON; take the folder from its source again") from error
    if not isinstance(read, dict):
        raise WeightsError(f"{path}: must hold a JSON object; take the folder from its source again")
    return read


def _check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are missing, pickled, or lie elsewhere."""
    if (folder / ONE).is_file():
        return
    if (folder / _INDEX).is_file():
        shards = read_json(folder / _INDEX).get("weight_map")
        names = {str(n) for n in shards.values()} if isinstance(shards, dict) else set()
        wrong = sorted(n for n in names if Path(n).name != n or not n.endswith(".safetensors"))
        missing = sorted(n for n in names if not (folder / n).is_file())
        if not names or wrong or missing:
            told = (
                f"names {wrong[0]!r}" if wrong else f"names {missing[0]!r}, which is missing" if missing else "is empty"
            )
            raise WeightsError(f"{folder / _INDEX} {told}; its shards must be safetensors files in the same folder")
        return
    pickled = next((p for pattern in _PICKLES for p in sorted(folder.glob(pattern))), None)
    if pickled is not None:
        raise WeightsError(
            f"{folder} holds its weights as pickle only ({pickled.name}), which can run code when opened; take the "
            f"{ONE} of the same weights, or convert them where you trust them: "
            "transformers' save_pretrained writes safetensors"
        )
    raise WeightsError(f"{folder} holds no {ONE}; take it from the same source as config.json")


def read_folder_config(folder: Path, known: Collection[str], what: str) -> dict[str, Any]:
    """Return the folder's config, once everything in the folder is what it must be.

    Args:
        folder: A folder on this machine.
        known: Each `model_type` that can be run.
        what: What the folder should be of, for the message.

    Raises:
        WeightsError: No such folder; no config; another `model_type`; weights that are missing, are pickles or lie
            elsewhere; a folder that asks for code or for other weights than its own.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"{folder} is not a folder on this machine; give one with config.json and {ONE}. Nothing is downloaded: a "
            "name on a hub is not enough"
        )
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} holds no config.json; give a Hugging Face folder of {what}")
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in known:
        raise WeightsError(
            f"{folder / 'config.json'}: model_type is {kind!r}; what can be run is {', '.join(known)}"
        )  # fmt: skip
    if "auto_map" in config:
        raise WeightsError(f"{folder / 'config.json'} asks for code of its own (auto_map), which is never run")
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"{folder} holds an adapter for weights that lie elsewhere; merge them into one folder first"
        )
    _check_weights(folder)
    return config


def transformers_package(what: str, extra: str) -> ModuleType:
    """Import transformers.

    Raises:
        CapabilityError: It is not installed.
    """
    try:
        return import_module("transformers")
    except ModuleNotFoundError as error:
        raise CapabilityError(f"{what} needs transformers: pip install 'isocenter[{extra}]'") from error


@contextmanager
def silence() -> Iterator[None]:
    """Keep transformers from writing bars and reports to the terminal; what matters is raised by us."""
    logs = import_module("transformers.utils.logging")
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def left_over(told: Mapping[str, Any]) -> list[str]:
    """Name parameters that the file does not fill."""
    return sorted(str(key) for group in ("missing_keys", "mismatched_keys") for key in told.get(group) or ())


def refusals() -> tuple[type[Exception], ...]:
    """Return what building and filling a network raises for a config or a file that is not right."""
    strict: type[Exception] = import_module("huggingface_hub.errors").StrictDataclassError
    plain = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
    return (strict, SafetensorError, *plain)
