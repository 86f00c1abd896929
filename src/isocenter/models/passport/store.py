"""The store: a folder on this machine with one entry for each model that was added, and nothing that runs.

    STORE/NAME/passport.json   where the weights lie, what was recorded of them
    STORE/NAME/files/          the weights, where they were copied or converted

Large weights stay where they are: an entry says where, and their hashes say whether they are still the same.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.passport.document import Passport

__all__ = [
    "ENTRY",
    "FILES",
    "STORE_VARIABLE",
    "Entry",
    "entry_names",
    "is_name",
    "read_entry",
    "root_of",
    "store_folder",
]

STORE_VARIABLE = "ISOCENTER_MODELS"
ENTRY, FILES = "passport.json", "files"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class Entry(BaseModel):
    """What `passport.json` holds.

    Attributes:
        format: Version of this form.
        added: When, ISO 8601.
        root: Folder (or file, for Isocenter's own) of the weights; None where they lie in the entry itself.
        origin: Where they came from, when they were copied or converted.
        converted: Whether an archive was converted to safetensors.
        passport: What was recorded of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["isocenter-model/1"] = "isocenter-model/1"
    added: str
    root: str | None = None
    origin: str = ""
    converted: bool = False
    passport: Passport


def store_folder() -> Path:
    """Return the store: the folder named by ISOCENTER_MODELS, else ``isocenter/models`` among the user's data."""
    stated = os.environ.get(STORE_VARIABLE, "")
    if stated:
        return Path(stated).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data else Path.home() / ".local" / "share") / "isocenter" / "models"


def is_name(text: str) -> bool:
    """Tell whether a text may name a model.

    Example:
        >>> is_name("dinov2-small"), is_name("../x"), is_name("Dino")
        (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


def entry_names() -> tuple[str, ...]:
    """Return the names in the store, sorted."""
    store = store_folder()
    if not store.is_dir():
        return ()
    return tuple(sorted(f.name for f in store.iterdir() if is_name(f.name) and (f / ENTRY).is_file()))


def read_entry(name: str) -> Entry:
    """Read one entry.

    Raises:
        ConfigError: There is none of this name.
        WeightsError: It is damaged.
    """
    file = store_folder() / name / ENTRY
    if not is_name(name) or not file.is_file():
        raise ConfigError(f"no model {name!r} in the store; there are: {', '.join(entry_names()) or 'none'}")
    try:
        entry = Entry.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise WeightsError(
            f"{file}: not the description of a model; remove its folder and add the model again"
        ) from error
    if entry.passport.name != name:
        raise WeightsError(
            f"{file}: describes {entry.passport.name!r}, not {name!r}; remove its folder and add it again"
        )
    return entry


def root_of(name: str, entry: Entry) -> Path:
    """Return where an entry's weights lie."""
    if entry.root is not None:
        return Path(entry.root)
    files = store_folder() / name / FILES
    if entry.passport.kind == "isocenter":
        return files / next((f.name for f in entry.passport.files if f.name.endswith(".safetensors")), "")
    return files
