"""Weights that users bring: add them to the store, list them, check them before use, and show their passport.

Nothing is copied unless asked: an entry says where the weights lie, and their hashes say whether they are still the
same. An archive of torch (`.pt`, `.pth`) is the exception: it is converted to safetensors in the store, so that it is
opened once, by the restricted reader, and never again.
"""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError, WeightsError
from isocenter.data.images.atomic import atomic_folder, explain_os_error
from isocenter.models.passport.document import UNKNOWN, Passport, render_passport
from isocenter.models.passport.files import Progress
from isocenter.models.passport.store import ENTRY, FILES, Entry, entry_names, is_name, read_entry, root_of, store_folder
from isocenter.models.weights import list_cards, render_card
from isocenter.verbs.provenance import created_now
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.models.passport.preflight import CheckReport

__all__ = [
    "ModelCard",
    "ModelEntry",
    "ModelList",
    "ModelsAddConfig",
    "models_add",
    "models_card",
    "models_check",
    "models_list",
    "run",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelsAddConfig(_Strict):
    """Configuration of `isocenter models add`.

    Attributes:
        path: File or folder of the weights.
        name: Name in the store; None for one made from the folder's.
        licence: Licence of the weights, where their folder doesn't state it.
        intended_use: What they are for, where their folder doesn't state it.
        copy_files: Whether they are copied into the store.
    """

    path: Path
    name: str | None = None
    licence: str | None = Field(default=None, min_length=1)
    intended_use: str | None = Field(default=None, min_length=1)
    copy_files: bool = False


class ModelEntry(_Strict):
    """One model.

    Attributes:
        name: Its name, for `open_weights`, `check` and `card`.
        kind: Whose form its weights have.
        architecture: The network.
        role: What it does; empty where only its card was read.
        parameters: Numbers in the weights.
        licence: As stated, else "unknown".
        place: "built-in", "store" where its files lie in the store, or where they lie.
        problem: Why it can't be used; None when nothing is seen to be wrong. Hashes are looked at by `check` alone.
    """

    name: str
    kind: Literal["isocenter", "huggingface", "monai", "nnunet", "unknown"]
    architecture: str
    role: str = ""
    parameters: int
    licence: str
    place: str
    problem: str | None = None


class ModelList(_Strict):
    """Built-in models, and those of the store.

    Attributes:
        store: Folder of the store.
        models: Sorted by name, built-in ones first.
    """

    store: Path
    models: tuple[ModelEntry, ...]


class ModelCard(_Strict):
    """A passport, and the page for people.

    Attributes:
        passport: What is known of the weights.
        page: The same as Markdown.
    """

    passport: Passport
    page: str


def models_add(path: Path | str, *, progress: Progress | None = None, **settings: Any) -> Entry:
    """Add weights to the store: `isocenter models add`.

    Args:
        path: File or folder on this machine.
        progress: Called with what is done and how much of it.
        **settings: Any further field of `ModelsAddConfig`.

    Returns:
        What was recorded.

    Raises:
        ConfigError: The name is taken, or is none.
        WeightsError: Nothing is there that can be opened safely; the message says what to do.
        CapabilityError: A package that is needed to read the weights is not installed.
        OutputError: The store can't be written.
    """
    checked = configured(ModelsAddConfig, path=Path(path), **settings)
    return run(checked, progress)


def run(config: ModelsAddConfig, progress: Progress | None = None) -> Entry:
    """Do what a `ModelsAddConfig` says; see `models_add`."""
    if config.name is not None:
        _free(config.name)
    root = config.path.expanduser().resolve()
    found = _door().describe(root, progress)
    name = config.name or re.sub(r"[^a-z0-9.-]+", "-", found.name.lower()).strip("-.")[:64]
    _free(name)
    stated: dict[str, Any] = {"name": name}
    if config.licence is not None:
        said = "" if found.licence == UNKNOWN else f"; {found.licence_from} says {found.licence}"
        stated |= {"licence": config.licence, "licence_from": f"who added it{said}"}
    if config.intended_use is not None:
        stated["intended_use"] = config.intended_use
    store = store_folder()
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, store, doing="write") from error
    with atomic_folder(store / name) as folder:
        entry = _entry(config, root, found.model_copy(update=stated), folder)
        (folder / ENTRY).write_text(entry.model_dump_json(indent=1) + "\n", "utf-8")
    return entry


def _entry(config: ModelsAddConfig, root: Path, passport: Passport, folder: Path) -> Entry:
    """Convert or copy what has to be, and return what is recorded."""
    files = folder / FILES
    if passport.source_format == "torch archive":
        files.mkdir()
        _door().convert(root, files)
        now = _door().describe(files)
        if now.parameters != passport.parameters:
            raise WeightsError(f"{root}: changed while it was converted; add it again")
        archive = next(f for f in passport.files if f.name.endswith((".pt", ".pth")))
        note = f"converted to safetensors from {archive.name} (sha256 {archive.sha256})"
        kept = {"files": now.files, "source_format": "safetensors", "notes": (*passport.notes, note)}
        return Entry(added=created_now(), origin=str(root), converted=True, passport=passport.model_copy(update=kept))
    if not config.copy_files:
        return Entry(added=created_now(), root=str(root), passport=passport)
    source = root if root.is_dir() else root.parent
    files.mkdir()
    for file in passport.files:
        target = files / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file.name, target)
    copied = _door().describe(files)
    if copied.files != passport.files:
        raise WeightsError(f"{root}: changed while it was copied; add it again")
    return Entry(added=created_now(), origin=str(root), passport=passport)


def _free(name: str) -> None:
    """Raise where a name can't be taken."""
    if not is_name(name):
        raise ConfigError(
            f"{name!r} can't name a model: small letters, digits, '.' and '-', at most 64; give another --name"
        )
    if name in (card.name for card in list_cards()):
        raise ConfigError(f"a built-in model is named {name!r}; give another --name")
    if (store_folder() / name).exists():
        raise ConfigError(
            f"a model named {name!r} is in the store already; give another --name, or remove "
            f"{store_folder() / name} first"
        )


def models_list() -> ModelList:
    """List built-in models and those of the store, without torch: `isocenter models list`."""
    found = [
        ModelEntry(
            name=card.name,
            kind="isocenter",
            architecture=card.title,
            parameters=card.parameters,
            licence=card.licence,
            place="built-in",
        )
        for card in list_cards()
    ]
    for name in entry_names():
        try:
            entry = read_entry(name)
        except WeightsError as error:
            found.append(
                ModelEntry(
                    name=name, kind="unknown", architecture=UNKNOWN, parameters=0, licence=UNKNOWN, place="store",
                    problem=str(error),
                )
            )  # fmt: skip
            continue
        passport = entry.passport
        found.append(
            ModelEntry(
                name=name,
                kind=passport.kind,
                architecture=passport.architecture,
                role=passport.role,
                parameters=passport.parameters,
                licence=passport.licence,
                place=entry.root or "store",
                problem=_problem(root_of(name, entry), passport),
            )
        )
    return ModelList(store=store_folder(), models=tuple(found))


def _problem(root: Path, passport: Passport) -> str | None:
    """Say what is seen to be wrong without reading a file."""
    folder = root if root.is_dir() else root.parent
    for file in passport.files:
        path = folder / file.name
        if not path.is_file():
            return f"{path} is gone; put it back, or remove the entry and add the model again"
        if path.stat().st_size != file.size_bytes:
            return f"{path} was altered; take it from its source again"
    return None


def models_check(path_or_name: Path | str, *, progress: Progress | None = None) -> CheckReport:
    """Check a model on this machine: `isocenter models check`.

    Args:
        path_or_name: A built-in name, a name in the store, or a path.
        progress: Called with what is done and how much of it.

    Returns:
        Every check, passed, failed or not applicable; read `CheckReport.passed`.

    Raises:
        WeightsError: There are no such weights, or none that can be opened safely.
        CapabilityError: A package that is needed to read them is not installed.
    """
    door = _door()
    preflight = import_module("isocenter.models.passport.preflight")
    report: CheckReport = preflight.check_weights(door.locate(path_or_name), progress)
    return report


def models_card(path_or_name: Path | str, *, progress: Progress | None = None) -> ModelCard:
    """Show a model's passport: `isocenter models card`.

    Args:
        path_or_name: A built-in name, a name in the store, or a path.
        progress: Called with what is done and how much of it.

    Raises:
        WeightsError: There are no such weights, or none that can be opened safely.
        CapabilityError: A package that is needed to read them is not installed.
    """
    if isinstance(path_or_name, str) and path_or_name in entry_names():
        passport = read_entry(path_or_name).passport
        return ModelCard(passport=passport, page=render_passport(passport))
    located = _door().locate(path_or_name)
    passport = _door().describe(located.root, progress)
    card = next((card for card in list_cards() if card.name == located.name), None)
    return ModelCard(passport=passport, page=render_passport(passport) if card is None else render_card(card))


def _door() -> Any:
    """Return the module that opens weights; it needs torch."""
    try:
        return import_module("isocenter.models.passport.door")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise CapabilityError(f"weights need {error.name} to be read: pip install 'isocenter[torch]'") from error
