"""The folder of an adapted task: written by `isocenter adapt`, taken by `--task FOLDER` wherever a task is named.

task.json                   card, limits, which base weights, which cases
NAME.safetensors .json .md  the adapter with its card
base/                       the weights that it changes, with their card: the folder needs nothing else
cases/                      up to four confirmed cases that the task looks things up in: patient data
config.json                 how it was made
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core import Task, TaskCard, TaskEntry
from isocenter.core.errors import ConfigError, IsocenterError, WeightsError
from isocenter.models.weights import Weights, load_weights, save_weights
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.verbs.session_folder import CaseEntry, WeightsEntry, read_cases, write_cases

if TYPE_CHECKING:
    from isocenter.tasks.interact.session import ConfirmedCase

__all__ = [
    "CONFIG",
    "TASK_FILE",
    "AdaptedTask",
    "adapted_entry",
    "card_fields",
    "card_of",
    "check_out",
    "is_adapted_folder",
    "write_adapted",
]

TASK_FILE, CONFIG = "task.json", "config.json"


class AdaptedTask(BaseModel):
    """What `task.json` holds.

    Attributes:
        format: Version of this form.
        card: Fields of `core.TaskCard`.
        label: Name of the structure.
        fit: What an image must be like.
        rank: Of LoRA.
        scale: What its change is multiplied by.
        parts: Most parts that the structure had in a confirmed case.
        base: The weights that the adapter changes.
        adapter: The adapter's weights.
        cases: Confirmed cases that are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["isocenter-adapted-task/1"] = "isocenter-adapted-task/1"
    card: dict[str, Any]
    label: str = Field(min_length=1, max_length=64)
    fit: Fit
    rank: int = Field(ge=1)
    scale: float = Field(gt=0)
    parts: int = Field(ge=1)
    base: WeightsEntry
    adapter: WeightsEntry
    cases: tuple[CaseEntry, ...] = Field(min_length=1)


def check_out(out: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse a folder for a task that is taken, or that holds what is learnt from.

    Args:
        out: The folder.
        source: What is learnt from.
        overwrite: Whether an older task in it may be replaced.

    Raises:
        ConfigError: So it is.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise ConfigError(f"{out} is not empty; choose another folder, or give --overwrite")
        if not (out / TASK_FILE).is_file():
            raise ConfigError(f"{out} does not hold an adapted task; it is not overwritten. Choose another")
    if out.resolve() == source.resolve() or source.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{out} holds what is learnt from; choose another folder")


def card_of(fields: Mapping[str, Any]) -> TaskCard:
    """Return the card that `card_fields` wrote.

    Raises:
        TypeError: A field is missing or unknown.
    """
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return TaskCard(**given)


def is_adapted_folder(path: Path) -> bool:
    """Tell whether a path is the folder of an adapted task."""
    return (path / TASK_FILE).is_file()


def write_adapted(
    folder: Path,
    document: Mapping[str, Any],
    *,
    base: Weights,
    adapter: tuple[Mapping[str, np.ndarray], Mapping[str, object]],
    cases: Sequence[ConfirmedCase],
    config: Mapping[str, Any],
) -> AdaptedTask:
    """Write the folder of an adapted task.

    Args:
        folder: An empty folder.
        document: Fields of `AdaptedTask` without the base, the adapter and the cases.
        base: The weights that the adapter changes.
        adapter: Its arrays, and the fields of its card.
        cases: Confirmed cases to keep.
        config: How it was made.
    """
    kept = {k: v for k, v in base.card.model_dump().items() if k not in ("sha256", "size_bytes", "parameters")}
    stored = save_weights(folder / "base", {k: v.astype(np.float32) for k, v in base.arrays.items()}, kept)
    passport = save_weights(folder, adapter[0], {**adapter[1], "network": {**_network(adapter[1]), **_base(stored)}})
    (folder / "cases").mkdir()
    task = AdaptedTask.model_validate(
        {
            **document,
            "base": WeightsEntry(name=stored.name, sha256=stored.sha256),
            "adapter": WeightsEntry(name=passport.name, sha256=passport.sha256),
            "cases": write_cases(cases, folder / "cases"),
        }
    )
    (folder / TASK_FILE).write_text(task.model_dump_json(indent=1) + "\n", "utf-8")
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return task


def _network(fields: Mapping[str, object]) -> dict[str, object]:
    network = fields["network"]
    return dict(network) if isinstance(network, dict) else {}


def _base(card: Any) -> dict[str, object]:
    return {"base": card.name, "base_sha256": card.sha256}


def adapted_entry(folder: Path) -> TaskEntry:
    """Return the entry of an adapted task: its card at once, the task when it runs, and then kept.

    Raises:
        ConfigError: The folder holds no adapted task, or what it says of itself breaks its form.
    """
    file = folder / TASK_FILE
    if not file.is_file():
        raise ConfigError(f"{folder} holds no {TASK_FILE}; give a folder that isocenter adapt wrote")
    try:
        document = AdaptedTask.model_validate_json(file.read_bytes())
        card = card_of(document.card)
    except (ValidationError, TypeError, OSError) as error:
        raise ConfigError(f"{file}: not the description of an adapted task; adapt again") from error

    @cache
    def load() -> Task:
        return _load(folder, document, card)

    return TaskEntry(card, "isocenter.tasks.segment.adapted.task:Adapted", load)


def _load(folder: Path, document: AdaptedTask, card: TaskCard) -> Task:
    from isocenter.tasks.segment.adapted.task import Adapted, AdaptedSettings

    base = load_weights(folder / "base" / f"{document.base.name}.safetensors")
    adapter = load_weights(folder / f"{document.adapter.name}.safetensors")
    if (base.card.sha256, adapter.card.sha256) != (document.base.sha256, document.adapter.sha256):
        raise WeightsError(f"{folder}: the weights are not those that its {TASK_FILE} names; adapt again")
    try:
        cases = read_cases(folder / "cases", document.cases)
    except IsocenterError as error:
        raise WeightsError(f"the confirmed cases of this task can't be read: {error}") from error
    settings = AdaptedSettings(
        card=card,
        label=document.label,
        fit=document.fit,
        rank=document.rank,
        scale=document.scale,
        parts=document.parts,
        cases=tuple((c.image, c.mask.segment_array(1)) for c in cases),
    )
    return Adapted(base, adapter, settings)


def card_fields(card: TaskCard) -> dict[str, Any]:
    """Return a card as JSON-ready fields."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(card).items()}
