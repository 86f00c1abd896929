"""The folder of a task learnt from a labelled set: `isocenter adapt --data` writes it, `--task FOLDER` takes it.

task.json                    card, limits, preparation, networks, what is promised
NAME-0.safetensors .json .md a network with its card, and so on
held-out.csv                 what each held-out case was answered, by the network that never saw its patient
gate.npz                     which images are like those that it learnt from; where that could be fitted
cases.npz                    what the networks see in the cases that they learnt from, with labels and opaque names
config.json                  how it was made
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core import Task, TaskCard, TaskEntry
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.weights import load_weights, save_weights
from isocenter.safety.acquisition import Acquisition
from isocenter.safety.combination import Combination
from isocenter.safety.gate import Gate
from isocenter.tasks.learnt.cards import Kind, Promise
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.verbs.adapted_folder import CONFIG, TASK_FILE, card_of
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.session_folder import WeightsEntry

if TYPE_CHECKING:
    from isocenter.models.learnt.neighbours import CaseIndex
    from isocenter.tasks.learnt.explain import Known

__all__ = ["CASES", "GATE", "HELD_OUT", "LearntFile", "is_learnt_folder", "learnt_entry", "write_learnt"]

HELD_OUT = "held-out.csv"
GATE = "gate.npz"
CASES = "cases.npz"
FORMAT: Final = "isocenter-learnt-task/1"


class LearntFile(BaseModel):
    """What `task.json` holds.

    Attributes:
        format: Version of this form.
        card: Fields of `core.TaskCard`.
        kind: Of its answers.
        classes: Their names.
        fit: What an image must be like.
        preparation: How images are prepared (`models.learnt.Preparation`).
        network: What the networks are made of (`models.learnt.LearntSettings`).
        window: What they look at.
        mirror: Axes (z, y, x) along which they also look at the mirror image.
        scales: Of each network, mean and deviation of numbers.
        shifts: Of each network, what is added to its outputs first; empty for nothing.
        promise: What held-out cases promise.
        members: The networks.
        gate: sha256 of `gate.npz`; None where too few cases were held out for a gate, and `ungated` says so.
        ungated: Why there is no gate.
        acquisition: How the images that it learnt from were made (`safety.acquisition.Acquisition`).
        cases: sha256 of `cases.npz`; None where no index of cases was kept (older folders, masks, or as asked).
        retrieval: What the nearest cases are worth on held-out ones (`learn.adaptation.nearest.retrieval_of`).
        clinical: How an answer is joined with a clinical table (`safety.combination.Combination`); None where none was
            learnt with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["isocenter-learnt-task/1"] = FORMAT
    card: dict[str, Any]
    kind: Kind
    classes: tuple[str, ...] = Field(min_length=1)
    fit: Fit
    preparation: dict[str, Any]
    network: dict[str, Any]
    window: tuple[int, ...]
    mirror: tuple[bool, bool, bool]
    scales: tuple[tuple[float, float], ...]
    shifts: tuple[tuple[float, ...], ...]
    promise: Promise
    members: tuple[WeightsEntry, ...] = Field(min_length=1)
    gate: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    ungated: str = ""
    acquisition: dict[str, Any] | None = None
    cases: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    retrieval: dict[str, Any] | None = None
    clinical: dict[str, Any] | None = None


def is_learnt_folder(path: Path) -> bool:
    """Tell whether a path is the folder of a learnt task."""
    try:
        return bool(json.loads((path / TASK_FILE).read_text("utf-8")).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def write_learnt(
    folder: Path,
    document: Mapping[str, Any],
    *,
    members: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    held_out: Sequence[Mapping[str, object]],
    config: Mapping[str, Any],
    kept: tuple[Gate | None, CaseIndex | None] = (None, None),
) -> LearntFile:
    """Write the folder of a learnt task.

    Args:
        folder: An empty folder.
        document: Fields of `LearntFile` without the members.
        members: Arrays of each network, and the fields of its card.
        held_out: Rows of the table of held-out cases.
        config: How it was made.
        kept: Which images it answers, and the index of cases that it learnt from.
    """
    cards = [save_weights(folder, arrays, fields) for arrays, fields in members]
    entries = tuple(WeightsEntry(name=card.name, sha256=card.sha256) for card in cards)
    hashes = [
        None if one is None else _write_arrays(folder / name, one.arrays())
        for name, one in zip((GATE, CASES), kept, strict=True)
    ]
    task = LearntFile.model_validate({**document, "members": entries, "gate": hashes[0], "cases": hashes[1]})
    (folder / TASK_FILE).write_text(task.model_dump_json(indent=1) + "\n", "utf-8")
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
    with (folder / HELD_OUT).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(held_out[0]) if held_out else ["case"])
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in held_out)
    return task


def _write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> str:
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return file_sha256(file)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else round(value, 6)
    return value


def learnt_entry(folder: Path) -> TaskEntry:
    """Return the entry of a learnt task: its card at once, the networks when it runs, and then kept.

    Raises:
        ConfigError: What the folder says of its task breaks the form.
    """
    file = folder / TASK_FILE
    try:
        document = LearntFile.model_validate_json(file.read_bytes())
        card = card_of(document.card)
    except (ValidationError, TypeError, OSError) as error:
        raise ConfigError(f"{file}: not the description of a learnt task; adapt again") from error

    @cache
    def load() -> Task:
        return _load(folder, document, card)

    return TaskEntry(card, "isocenter.tasks.learnt.task:LearntTask", load)


def _load(folder: Path, document: LearntFile, card: TaskCard) -> Task:
    from isocenter.models.learnt import LearntSettings, Preparation
    from isocenter.tasks.learnt.task import Learnt, LearntTask

    members = [load_weights(folder / f"{entry.name}.safetensors") for entry in document.members]
    if [m.card.sha256 for m in members] != [entry.sha256 for entry in document.members]:
        raise WeightsError(f"{folder}: the networks are not those that its {TASK_FILE} names; adapt again")
    settings = Learnt(
        card=card,
        kind=document.kind,
        classes=document.classes,
        fit=document.fit,
        preparation=Preparation.from_card(document.preparation),
        network=LearntSettings.from_card(document.network),
        window=document.window,
        mirror=document.mirror,
        scales=document.scales,
        shifts=document.shifts,
        promise=document.promise,
        gate=_gate(folder, document),
        acquisition=None if document.acquisition is None else Acquisition.from_card(document.acquisition),
        learnt_from=_learnt_from(folder),
    )
    return LearntTask(members, settings, _known(folder, document))


def _learnt_from(folder: Path) -> frozenset[str]:
    """Return the hashes of the images that the task learnt from, as its `config.json` lists them.

    Raises:
        WeightsError: The file is missing or not whole: answers about images learnt from would go without a caution.
    """
    try:
        cases = json.loads((folder / CONFIG).read_text("utf-8"))["data"]["cases"]
        found = frozenset(str(case["sha256"]) for case in cases)
        if not found:
            raise ValueError("no case")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder}: {CONFIG} is missing or not whole, so which images it learnt from is not known; adapt again"
        ) from error


def _gate(folder: Path, document: LearntFile) -> Gate | None:
    """Read the gate that the task names, and no other.

    Raises:
        WeightsError: It is missing or another one: a task without its gate would answer for any image.
    """
    if document.gate is None:
        return None
    return Gate.from_arrays(_read_arrays(folder, GATE, document.gate))


def _known(folder: Path, document: LearntFile) -> Known:
    """Return the index of cases that the task names, and no other; none where it names none.

    Raises:
        WeightsError: It is missing or another one.
    """
    from isocenter.models.learnt.neighbours import CaseIndex
    from isocenter.tasks.learnt.explain import Known

    rule = None if document.clinical is None else Combination.from_card(document.clinical)
    if document.cases is None:
        return Known(None, document.retrieval, rule)
    return Known(CaseIndex.from_arrays(_read_arrays(folder, CASES, document.cases)), document.retrieval, rule)


def _read_arrays(folder: Path, name: str, sha256: str) -> dict[str, np.ndarray]:
    file = folder / name
    if not file.is_file() or file_sha256(file) != sha256:
        raise WeightsError(f"{folder}: {name} is missing, or not the one that its {TASK_FILE} names; adapt again")
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
