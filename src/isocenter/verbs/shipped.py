"""Learnt tasks that ship: folders as `isocenter adapt --data` writes them, inside the package, under their own names.

weights/learnt/NAME/task.json, networks with their cards, gate: all but the table of held-out cases, which names images.
Listing one reads its card and no more; which networks it has is checked when it runs.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from isocenter.core import TaskEntry
from isocenter.verbs.adapted_folder import TASK_FILE
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.learnt_folder import learnt_entry

__all__ = ["SHIPPED", "is_shipped", "shipped_entry", "task_folder"]

SHIPPED = ("adrenal-shape", "breast-us", "chest-xray")
"""Names of the learnt tasks that ship."""


def _place(name: str) -> Path:
    return Path(str(files("isocenter.weights"))) / "learnt" / name


def shipped_entry(name: str) -> TaskEntry:
    """Return the entry of a learnt task that ships.

    Raises:
        ConfigError: Its folder is missing from this installation or was altered.
    """
    return learnt_entry(_place(name))


def task_folder(task: str) -> Path | None:
    """Return the folder of a task that was learnt or adapted: of one that ships, or a path; None for other tasks.

    Example:
        >>> task_folder("lungs-cxr") is None
        True
    """
    if task in SHIPPED:
        return _place(task)
    folder = Path(task)
    return folder if folder.is_dir() else None


def is_shipped(folder: Path, name: str) -> bool:
    """Tell whether a folder holds the very task that ships under a name (networks, promises and all)."""
    if name not in SHIPPED:
        return False
    ours, theirs = _place(name) / TASK_FILE, folder / TASK_FILE
    return ours.is_file() and theirs.is_file() and file_sha256(ours) == file_sha256(theirs)


def __getattr__(name: str) -> TaskEntry:
    """Return an entry by the name that the entry points use, e.g. `BREAST_US`; its card is read then, not before."""
    task = name.lower().replace("_", "-")
    if name.isupper() and task in SHIPPED:
        return shipped_entry(task)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
