"""The one door: a name or a path goes in; a passport, and a network that is what its passport says, come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.models.passport import huggingface, monai_bundle, nnunet, own
from isocenter.models.passport.checkpoint import non_finite
from isocenter.models.passport.document import Kind, Passport
from isocenter.models.passport.files import Progress, altered
from isocenter.models.passport.kinds import detect
from isocenter.models.passport.memory import refuse_what_does_not_fit
from isocenter.models.passport.store import entry_names, is_name, read_entry, root_of
from isocenter.models.weights import built_in_folder, list_cards

__all__ = ["Located", "Opened", "Precision", "build", "convert", "describe", "locate", "open_weights", "verify"]

Precision = Literal["float32", "stored"]
_DESCRIBE: Mapping[Kind, Callable[[Path, Progress | None], Passport]] = {
    "isocenter": own.describe,
    "huggingface": huggingface.describe,
    "monai": monai_bundle.describe,
    "nnunet": nnunet.describe,
}


@dataclass(frozen=True)
class Located:
    """Where weights lie.

    Args:
        root: The folder, or for Isocenter's own the safetensors file.
        name: Their name, where they were asked for by one.
        recorded: Their passport as the store recorded it; None for a path and for built-in weights.
    """

    root: Path
    name: str | None = None
    recorded: Passport | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A network, and the passport that it travels with.

    Args:
        network: Filled, in evaluation mode, on the CPU.
        passport: What is known of it.
        root: Where its files lie, e.g. for a tokenizer.
    """

    network: nn.Module
    passport: Passport
    root: Path


def locate(path_or_name: str | Path) -> Located:
    """Find weights by the name of a built-in, by their name in the store, or by their path.

    A name comes before a folder of the same name; write ``./name`` for the folder.

    Raises:
        WeightsError: There are none; or the store's entry is damaged.
    """
    text = str(path_or_name)
    if "://" in text:
        raise WeightsError("weights are read from this machine only; fetch them first and give the path")
    if isinstance(path_or_name, str) and is_name(text):
        if text in (card.name for card in list_cards()):
            return Located(built_in_folder() / f"{text}.safetensors", text)
        if text in entry_names():
            entry = read_entry(text)
            return Located(root_of(text, entry), text, entry.passport)
        if not Path(text).exists():
            names = ", ".join([*(card.name for card in list_cards()), *entry_names()])
            raise WeightsError(f"no weights named {text!r}, and no such file or folder; there are: {names}")
    return Located(Path(path_or_name).expanduser())


def describe(path: Path | str, progress: Progress | None = None) -> Passport:
    """Return the passport of weights at a path; the network is not built.

    Args:
        path: A file or folder on this machine.
        progress: Called while files are hashed.

    Raises:
        WeightsError: Nothing is there that can be opened safely; the message says what to do.
        CapabilityError: A package that is needed to read them is not installed.
    """
    found = detect(Path(path))
    return _DESCRIBE[found.kind](found.root, progress)


def verify(located: Located, progress: Progress | None = None) -> Passport:
    """Return the passport of located weights, once they are what was recorded.

    Raises:
        WeightsError: They were altered, moved or removed since they were added.
        CapabilityError: A package that is needed to read them is not installed.
    """
    if located.recorded is None:
        return describe(located.root, progress)
    if not located.root.exists():
        raise WeightsError(
            f"{located.name}: its weights are no longer at {located.root}; put them back, or add them again"
        )
    differences = altered(located.recorded.files, describe(located.root, progress).files)
    if differences:
        raise WeightsError(
            f"{located.name}: {'; '.join(differences[:3])}, since it was added; take the files from their source "
            "again, or add them under another name"
        )
    return located.recorded


def build(root: Path, passport: Passport, precision: Precision = "float32") -> nn.Module:
    """Build and fill a network.

    Args:
        root: As `Located` has it.
        passport: What `describe` returned for it.
        precision: "float32", or "stored" for the type in the file (Hugging Face folders alone).

    Raises:
        WeightsError: The weights don't fit the network, or hold numbers that are not finite.
        CapabilityError: A package is not installed, or memory is too small.
    """
    stored = precision == "stored" and passport.kind == "huggingface"
    taken = getattr(torch, passport.dtype[0], torch.float32) if stored else torch.float32
    refuse_what_does_not_fit(passport.name, passport.parameters, taken.itemsize)
    root = detect(root).root
    network = {
        "isocenter": lambda: own.build(root, passport),
        "huggingface": lambda: huggingface.build(root, passport, taken),
        "monai": lambda: monai_bundle.build(root, passport),
        "nnunet": lambda: nnunet.build(root, passport),
    }[passport.kind]()
    wrong, first = non_finite(network.state_dict())
    if wrong:
        raise WeightsError(
            f"{passport.name}: {wrong:,} of its numbers are not finite, the first in {first!r}; take it from its "
            "source again"
        )
    return network


def convert(root: Path, out: Path) -> bool:
    """Write weights that lie in an archive of torch anew, as safetensors, with what is needed to open them.

    Args:
        root: As `describe` takes it.
        out: An empty folder.

    Returns:
        Whether there was anything to convert; else nothing is written.
    """
    found = detect(root)
    if found.kind == "monai":
        monai_bundle.convert(found.root, out)
    elif found.kind == "nnunet":
        nnunet.convert(found.root, out)
    else:
        return False
    return True


def open_weights(
    path_or_name: str | Path, *, precision: Precision = "float32", progress: Progress | None = None
) -> Opened:
    """Open weights: a built-in, a model of the store, or a path on this machine.

    No pickle is executed, no code that comes with the weights is run, nothing is downloaded. Files are hashed, and
    those of the store must be what was recorded when they were added.

    Args:
        path_or_name: E.g. "lungs-cxr", "my-dinov2" (see `isocenter models list`), or a folder.
        precision: "float32", or "stored" for the type in the file (Hugging Face folders alone).
        progress: Called with what is done and how much of it.

    Raises:
        WeightsError: Altered, damaged, of an unknown form, or not what their config says; the message says what to do.
        CapabilityError: A package is not installed, or memory is too small.

    Example:
        >>> opened = open_weights("lungs-cxr")
        >>> opened.passport.role, opened.passport.licence
        ('segmenter', 'CC-BY-4.0')
    """
    located = locate(path_or_name)
    passport = verify(located, progress)
    if progress is not None:
        progress("building the network", 1.0)
    return Opened(build(located.root, passport, precision), passport, located.root)
