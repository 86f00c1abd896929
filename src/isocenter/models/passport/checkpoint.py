"""`.pt` and `.pth` archives, read by torch's restricted reader: tensors and plain values come out, no code runs.

What a name in the archive may stand for is a short list inside torch (tensors, storages, dictionaries); anything else
stops the reading. nnU-Net's checkpoints also log numpy numbers. We don't need them, so their names stand for `_Inert`
here, which takes anything and does nothing: not even numpy is called by what the archive says.
"""

from __future__ import annotations

import json
import pickle  # for the name of the restricted reader's error; nothing is unpickled with it
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.passport.tensors import TensorEntry

__all__ = ["State", "non_finite", "read_archive", "read_safetensors", "state_of", "tensor_entries", "write_safetensors"]

State = dict[str, torch.Tensor]
_LEAST_TORCH = (2, 6)
"""Before it, the restricted reader itself could be made to run code (CVE-2025-32434)."""
_NUMPY = ("scalar", "_reconstruct")
_ALIASES = "isocenter-aliases"
_BROKEN = (
    pickle.UnpicklingError, ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    OSError, RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip


class _Inert:
    """Stands in for a numpy number or array of a checkpoint's log: takes anything, does nothing."""

    def __new__(cls, *_: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def read_archive(path: Path) -> dict[str, Any]:
    """Read a `.pt` or `.pth` archive without running anything in it.

    Raises:
        WeightsError: Not an archive of torch, TorchScript, older than torch 1.6, damaged, or it asks for code.
        CapabilityError: This torch is too old to do it safely.
    """
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < _LEAST_TORCH:
        raise CapabilityError(
            f"reading {path.name} safely needs torch 2.6 or newer, this is {torch.__version__}: "
            "pip install --upgrade torch, or take the weights as safetensors"
        )
    _check_archive(path)
    inert: list[Any] = [
        (_Inert, f"numpy{core}.multiarray.{name}") for core in ("._core", ".core") for name in _NUMPY
    ] + [(_Inert, "numpy.dtype"), (_Inert, "numpy.ndarray")]
    try:
        with torch.serialization.safe_globals(inert):
            read = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except _BROKEN as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is not None:
            raise WeightsError(
                f"{path}: asks for {asked[1]} while being read, which is code and not data; it was not run. Don't use "
                "these weights unless you know why; convert them to safetensors where you trust them"
            ) from error
        raise WeightsError(f"{path}: damaged, or not an archive of tensors; take it from its source again") from error
    if not isinstance(read, Mapping):
        raise WeightsError(f"{path}: holds a {type(read).__name__} where a dictionary of tensors is needed")
    return {str(key): value for key, value in read.items()}


def _check_archive(path: Path) -> None:
    """Refuse what is no plain archive of tensors, from its table of contents alone."""
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path}: a bare pickle, or cut off; only archives as torch has written them since 1.6 are read. Save it "
            "again where you trust it, as safetensors best"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise WeightsError(f"{path}: a damaged archive; take it from its source again") from error
    names = [member.filename for member in members]
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise WeightsError(f"{path}: TorchScript is code and is not run; take the state dictionary of the same weights")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(
            f"{path}: its parts are compressed, as torch never writes them; take it from its source again"
        )


def state_of(read: Mapping[str, Any], path: Path) -> State:
    """Return the tensors of a state dictionary, once each is what it seems.

    Raises:
        WeightsError: Something in it is not a plain tensor, or claims more numbers than it holds.
    """
    state: State = {}
    for key, value in read.items():
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise WeightsError(f"{path}: {key!r} is not a plain tensor; this is not a state dictionary")
        tensor = value.detach()
        if tensor.device.type != "cpu" or tensor.is_quantized:
            raise WeightsError(f"{path}: {key!r} holds no plain numbers; save the weights in float32 first")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(
                f"{path}: {key!r} claims more numbers than it holds; take the file from its source again"
            )
        state[str(key)] = tensor
    if not state:
        raise WeightsError(f"{path}: holds no tensors")
    # Old DistributedDataParallel checkpoints carry one prefix throughout; it names the wrapper, not the network.
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def _once(state: State) -> tuple[State, dict[str, str]]:
    """Return the tensors that are held once, and which further names stand for which of them."""
    kept: State = {}
    names: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for key in sorted(state):
        tensor = state[key]
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in names:
            aliases[key] = names[place]
            continue
        names[place] = key
        kept[key] = tensor
    return kept, aliases


def tensor_entries(state: State) -> dict[str, TensorEntry]:
    """Return type and shape of every tensor that is held once, as `read_header` does for safetensors."""
    kept, _ = _once(state)
    return {key: TensorEntry(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for key, t in kept.items()}


def write_safetensors(state: State, path: Path) -> None:
    """Write a state dictionary as safetensors; what is held under two names is written once, and both are kept."""
    kept, aliases = _once(state)
    arrays = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in kept.items()}
    save_file(arrays, path, metadata={"format": "pt", _ALIASES: json.dumps(aliases)})


def read_safetensors(path: Path) -> State:
    """Read a safetensors file as torch tensors.

    Raises:
        WeightsError: Damaged, or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dictionary
            metadata = file.metadata() or {}
        aliases = json.loads(metadata.get(_ALIASES, "{}"))
        return {**state, **{str(alias): state[key] for alias, key in aliases.items()}}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: damaged, or not safetensors; take it from its source again") from error


def non_finite(state: Mapping[str, torch.Tensor]) -> tuple[int, str]:
    """Count numbers that are not finite, and name the first tensor that holds one."""
    count, first = 0, ""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.sum(dtype=torch.float64))):
            wrong = int((~torch.isfinite(tensor.float())).sum())
            first = first or (key if wrong else "")
            count += wrong
    return count, first
