"""The whole extension surface: six entry-point groups, and how they are found, checked and described.

A package registers an object under a name in its own ``pyproject.toml``; our built-ins do the same in ours:

    [project.entry-points."isocenter.tasks"]
    lungs-cxr = "isocenter.tasks.segment.lungs_cxr.cards:ENTRY"

| group | the object |
| --- | --- |
| `isocenter.readers` | callable ``(path, *, on_irregular, progress) -> StudyFiles`` |
| `isocenter.encoders` | callable that makes an image or text encoder |
| `isocenter.methods` | `learn.method.Method`, for `isocenter pretrain`; or a callable that trains |
| `isocenter.tasks` | `core.TaskEntry`: a card, and where the task is loaded from |
| `isocenter.metrics` | callable ``(reference, answer, ...)`` that returns a figure |
| `isocenter.commands` | a Typer app or function: a further command of ``isocenter`` |

Listing loads nothing but the cards of tasks, so it never imports torch. A name that is registered twice in a group
raises: which one would run must never depend on the order of installation. A plug-in that can't be loaded is reported
where plug-ins are listed, and stops nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec

from isocenter.core.errors import CapabilityError, PluginError
from isocenter.core.task import Task, TaskCard, TaskEntry

__all__ = [
    "GROUPS",
    "BrokenPlugin",
    "Plugin",
    "describe",
    "find",
    "load",
    "load_task",
    "missing_packages",
    "task_entries",
]

GROUPS = {
    "isocenter.readers": "reads a path into a study",
    "isocenter.encoders": "makes an encoder",
    "isocenter.methods": "trains a model",
    "isocenter.tasks": "answers a question about a study",
    "isocenter.metrics": "measures an answer against a reference",
    "isocenter.commands": "adds a command",
}
"""Group name and what its members do."""


@dataclass(frozen=True)
class BrokenPlugin:
    """A plug-in that can't be used, and why."""

    group: str
    name: str
    reason: str


@dataclass(frozen=True)
class Plugin:
    """What is known of a plug-in without running it.

    Args:
        name: Name within its group.
        group: Entry-point group.
        origin: Distribution that registered it.
        version: Version of the distribution.
        object: "module:attribute".
        licence: SPDX identifier of the task's weights, or of the distribution; "" where neither says.
        fits: What a task takes, in words; "" for other groups.
        missing: Packages that must be installed before it can run.
        problem: Why it can't be used, None when it can be listed and described.
    """

    name: str
    group: str
    origin: str
    version: str
    object: str
    licence: str
    fits: str
    missing: tuple[str, ...]
    problem: str | None = None


def find(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted by name.

    Raises:
        PluginError: The group is not one of ours, or a name is registered twice.
    """
    if group not in GROUPS:
        raise PluginError(f"there is no plug-in group {group!r}; there are {', '.join(GROUPS)}")
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: (e.name, e.value)):
        other = found.setdefault(entry.name, entry)
        if other is not entry:
            raise PluginError(
                f"{group}: the name {entry.name!r} is registered twice, by {_origin(other)} ({other.value}) and "
                f"{_origin(entry)} ({entry.value}); uninstall one of them"
            )
    return found


def load(group: str, name: str) -> object:
    """Import a plug-in's object.

    Raises:
        PluginError: There is none of this name, or importing it failed.
    """
    entries = find(group)
    if name not in entries:
        raise PluginError(f"no plug-in {name!r} in {group}; installed: {', '.join(entries) or 'none'}")
    return _load(entries[name])


def task_entries() -> tuple[dict[str, TaskEntry], tuple[BrokenPlugin, ...]]:
    """Return the tasks that are installed, by name, and those that can't be used.

    Raises:
        PluginError: A name is registered twice.
    """
    good: dict[str, TaskEntry] = {}
    broken = []
    for name, entry in find("isocenter.tasks").items():
        try:
            good[name] = _task_entry(entry)
        except PluginError as error:
            broken.append(BrokenPlugin("isocenter.tasks", name, str(error)))
    return good, tuple(broken)


def load_task(entry: TaskEntry) -> Task:
    """Load a task to run it: imports its module, and with it perhaps torch and its weights.

    Raises:
        CapabilityError: A package that it needs is not installed.
        PluginError: Its factory can't be imported, or does not make a task with the card it registered.
        WeightsError: Its weights are missing or altered.
    """
    missing = missing_packages(entry.card)
    if missing:
        raise CapabilityError(f"task {entry.card.name!r} needs {', '.join(missing)}: pip install 'isocenter[torch]'")
    if entry.make is not None:
        return entry.make()
    module, _, attribute = entry.factory.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"task {entry.card.name!r}: can't import {entry.factory}: {error}") from error
    task = factory()
    if not isinstance(task, Task) or task.card != entry.card:
        raise PluginError(f"task {entry.card.name!r}: {entry.factory} does not make a task with the card it registered")
    return task


def missing_packages(card: TaskCard) -> tuple[str, ...]:
    """Return the packages that a task needs and that are not installed (import names)."""
    return tuple(name for name in card.requires if not _importable(name))


def describe() -> tuple[Plugin, ...]:
    """Describe every plug-in of every group, broken ones included, without importing torch.

    Raises:
        PluginError: A name is registered twice.
    """
    return tuple(_describe(entry) for group in GROUPS for entry in find(group).values())


def _describe(entry: EntryPoint) -> Plugin:
    dist = entry.dist
    licence, fits, problem = _dist_licence(dist), "", None
    missing = _missing_extras(entry)
    if entry.group == "isocenter.tasks":
        try:
            card = _task_entry(entry).card
        except PluginError as error:
            problem = str(error)
        else:
            licence, fits, missing = card.licence, _fits(card), missing_packages(card)
    elif not _importable(entry.module.partition(".")[0]):
        problem = f"module {entry.module} is not installed"
    origin = dist.name if dist is not None else "unknown"
    version = dist.version if dist is not None else ""
    return Plugin(entry.name, entry.group, origin, version, entry.value, licence, fits, missing, problem)


def _task_entry(entry: EntryPoint) -> TaskEntry:
    loaded = _load(entry)
    if not isinstance(loaded, TaskEntry):
        raise PluginError(f"{entry.value} is a {type(loaded).__name__}, not an isocenter.core.TaskEntry")
    if loaded.card.name != entry.name:
        raise PluginError(f"{entry.value} has a card named {loaded.card.name!r}, registered as {entry.name!r}")
    return loaded


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # a plug-in's code may fail in any way; this is the boundary
        raise PluginError(
            f"{entry.group}: {entry.name!r} of {_origin(entry)} can't be loaded from {entry.value}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"


def _dist_licence(dist: Distribution | None) -> str:
    if dist is None:
        return ""
    stated = (dist.metadata[key] for key in ("License-Expression", "License") if key in dist.metadata)
    return next((text.partition("\n")[0] for text in stated if text), "")


def _fits(card: TaskCard) -> str:
    """Say in words what a card takes.

    Example:
        >>> card = TaskCard("x", "X", ("CR", "DX"), ("CHEST",), False, False, ("point",), True, "-", "-", "MIT")
        >>> _fits(card)
        'CR/DX; CHEST; 2D; needs point'
    """
    parts = [
        "/".join(card.modalities) or "any modality",
        "/".join(card.body_parts) or "any body part",
        {True: "3D", False: "2D", None: "2D and 3D"}[card.needs_volume],
    ]
    if card.needs_spacing:
        parts.append("spacing in mm")
    if card.prompts:
        parts.append(("needs " if card.needs_prompt else "takes ") + "/".join(card.prompts))
    return "; ".join(parts)


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _missing_extras(entry: EntryPoint) -> tuple[str, ...]:
    """Return distributions that the entry point's extras ask for ("module:attr [torch]") and that are not installed."""
    if entry.dist is None or not entry.extras:
        return ()
    wanted = []
    for requirement in entry.dist.requires or ():
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra[1] in entry.extras:
            wanted.append(name[0])
    return tuple(name for name in wanted if not _installed(name))


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
