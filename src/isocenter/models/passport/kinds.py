"""Which form weights are in, told from names alone: nothing is opened that could run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from isocenter.core.errors import WeightsError
from isocenter.models.passport.document import Kind
from isocenter.models.passport.tensors import read_json

__all__ = ["PICKLES", "Found", "detect"]

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".joblib", ".msgpack")
_KNOWN = (
    "a .safetensors file of Isocenter with its .json card; a Hugging Face folder (config.json and model.safetensors); "
    "a MONAI bundle (configs/metadata.json and models/); or a trained nnU-Net v2 folder (plans.json, dataset.json and "
    "fold_*)"
)


@dataclass(frozen=True)
class Found:
    """What a path is.

    Args:
        kind: The form.
        root: The folder, or for Isocenter's own the safetensors file.
    """

    kind: Kind
    root: Path


def detect(path: Path) -> Found:
    """Tell which form the weights at a path are in.

    Raises:
        WeightsError: There is nothing, or nothing that can be opened safely; the message says what to do.
    """
    if path.is_file():
        return _file(path)
    if not path.is_dir():
        raise WeightsError(
            f"{path}: there is no such file or folder on this machine. Nothing is downloaded: a name on a hub is not "
            "enough; fetch the weights first and give the path"
        )
    if (path / "configs" / "metadata.json").is_file():
        return Found("monai", path)
    if (path / "plans.json").is_file() and (path / "dataset.json").is_file():
        return Found("nnunet", path)
    if (path / "adapter_config.json").is_file():
        raise WeightsError(f"{path} holds an adapter for weights that lie elsewhere; merge them into one folder first")
    if (path / "config.json").is_file():
        return Found("huggingface", path)
    cards = [file for file in sorted(path.glob("*.safetensors")) if file.with_suffix(".json").is_file()]
    if len(cards) == 1:
        return _file(cards[0])
    raise WeightsError(f"{path} holds no weights that are known{_hint(path, len(cards))}; known are {_KNOWN}")


def _hint(path: Path, cards: int) -> str:
    """Say what a folder seems to be."""
    if cards > 1:
        return f" as one: {cards} files with cards lie in it, so give one of them"
    if (path.parent / "plans.json").is_file():
        return ": it looks like one fold of nnU-Net, so give the folder above it"
    if path.name in ("configs", "models") and (path.parent / "configs" / "metadata.json").is_file():
        return ": it is a part of a MONAI bundle, so give the folder above it"
    pickled = next((p.name for p in sorted(path.iterdir()) if p.suffix in PICKLES), None)
    if pickled is not None:
        return f": {pickled} is a pickle, which can run code when opened, and no config says what it is"
    return ""


def _file(path: Path) -> Found:
    if path.suffix == ".safetensors":
        card = path.with_suffix(".json")
        if not card.is_file() or read_json(card).get("format") != "isocenter-weights/1":
            raise WeightsError(
                f"{path}: a single safetensors file needs its card beside it ({card.name}, as isocenter pretrain "
                "writes); weights of Hugging Face need their whole folder, so give that"
            )
        return Found("isocenter", path)
    if path.suffix == ".ts":
        raise WeightsError(f"{path}: TorchScript is code and is not run; give a MONAI bundle with its weights")
    if path.suffix in PICKLES:
        raise WeightsError(
            f"{path}: a pickle on its own can run code when opened and says nothing of its network; give its whole "
            "folder (MONAI bundle, nnU-Net), or convert it to safetensors where you trust it"
        )
    if zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: unpack the archive first and give the folder")
    raise WeightsError(f"{path}: not weights of a known form; known are {_KNOWN}")
