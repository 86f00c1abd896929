"""Which task sees which image, and what it answers or why it does not.

Every installed task is asked about every image, and none is left out in silence: a card that does not fit, a package
that is missing or a prompt that nobody gave becomes an abstention with its reason.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from isocenter.core import Image, Mask, Measurement, Prediction, Prompt, Study, TaskEntry
from isocenter.core.errors import ConfigError, DataError, IsocenterError, ModelError, PluginError
from isocenter.plugins import BrokenPlugin, load_task, missing_packages, task_entries
from isocenter.tasks.phenotype.measure import measure
from isocenter.verbs.adapted_folder import adapted_entry
from isocenter.verbs.learnt_folder import is_learnt_folder, learnt_entry
from isocenter.verbs.multimodal_folder import answer_entry, is_answer_folder
from isocenter.verbs.prompts import Target, name_segments, targets_for
from isocenter.verbs.shipped import is_shipped

__all__ = ["Answer", "Chosen", "choose_tasks", "run_task"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The tasks of a run.

    Args:
        entries: By name, sorted.
        named: Whether the user named them; then a task that can't run is an error, not an abstention.
        broken: Installed task plug-ins that can't be used.
    """

    entries: dict[str, TaskEntry]
    named: bool
    broken: tuple[BrokenPlugin, ...] = ()


@dataclass(frozen=True, eq=False)
class Answer:
    """What one task said about one image.

    Args:
        index: Number of the image in the study.
        image: The image.
        entry: The task.
        prediction: Its answer with all measurements, or its reason for none.
        prompts: What it was pointed at.
        seconds: How long it took.
    """

    index: int
    image: Image
    entry: TaskEntry
    prediction: Prediction
    prompts: tuple[Prompt, ...] = ()
    seconds: float = 0.0

    @property
    def stem(self) -> str:
        """Start of the names of its files."""
        return f"image-{self.index}_{self.entry.card.name}"


def choose_tasks(names: Sequence[str] | None) -> Chosen:
    """Return the tasks to run: those named, or every one installed.

    Args:
        names: Names of installed tasks, or folders of adapted ones (`isocenter adapt`); None for all installed.

    Raises:
        ConfigError: There is no task of a name, a folder holds none, or two tasks have one name.
        PluginError: A name is registered twice, or a named task can't be loaded.
    """
    entries, broken = task_entries()
    if names is None:
        return Chosen(entries, named=False, broken=broken)
    for name in names:
        for plugin in broken:
            if plugin.name == name:
                raise PluginError(plugin.reason)
    chosen: dict[str, TaskEntry] = {}
    for name in dict.fromkeys(names):
        entry = entries.get(name)
        if entry is None:
            if not Path(name).is_dir():
                raise ConfigError(
                    f"no task {name!r}; installed: {', '.join(entries) or 'none'} (see: isocenter plugins), or give "
                    "the folder of an adapted one"
                )
            entry = _entry_of(Path(name))
            if entry.card.name in entries and not is_shipped(Path(name), entry.card.name):
                raise ConfigError(
                    f"{name}: an installed task is named {entry.card.name!r}; adapt it again under another --name"
                )
        if entry.card.name in chosen:
            raise ConfigError(f"two tasks are named {entry.card.name!r}; adapt one of them again under another --name")
        chosen[entry.card.name] = entry
    return Chosen(dict(sorted(chosen.items())), named=True)


def _entry_of(folder: Path) -> TaskEntry:
    """Return the entry of an adapted folder, whichever way it was adapted."""
    if is_answer_folder(folder):
        return answer_entry(folder)
    return learnt_entry(folder) if is_learnt_folder(folder) else adapted_entry(folder)


def run_task(
    entry: TaskEntry, study: Study, index: int, targets: Sequence[Target], *, named: bool, seed: int
) -> Answer:
    """Ask one task about one image.

    Args:
        entry: The task.
        study: The whole study.
        index: Which image.
        targets: All targets of the prompt file.
        named: Whether the user named the task.
        seed: Seed of everything random in it.

    Raises:
        ModelError: The user named the task, and its weights or packages are missing.
        PluginError: The user named the task, and it broke its contract.
    """
    started = time.monotonic()
    image = study.images[index]
    mine = targets_for(targets, study, index, entry.card, named=named)
    prompts = tuple(p for target in mine for p in target.core_prompts())
    reason = _misfit(entry, image, prompts, named=named)
    if reason is not None:
        return Answer(index, image, entry, Prediction.abstain(entry.card.name, reason))
    try:
        _seed(seed)
        prediction = _run(entry, replace(study, images=(image,), masks=()), prompts)
    except DataError as error:
        prediction = Prediction.abstain(entry.card.name, str(error))
    except (ModelError, PluginError) as error:
        if named:
            raise
        prediction = Prediction.abstain(entry.card.name, str(error))
    prediction = name_segments(prediction, mine)
    if isinstance(prediction.value, Mask):
        measured = _merge(prediction.measurements, measure(image, prediction.value))
        prediction = replace(prediction, measurements=measured)
    return Answer(index, image, entry, prediction, prompts, time.monotonic() - started)


def _misfit(entry: TaskEntry, image: Image, prompts: Sequence[Prompt], *, named: bool) -> str | None:
    missing = missing_packages(entry.card)
    if missing and not named:
        return f"needs {', '.join(missing)}, not installed: pip install 'isocenter[torch]'"
    reason = entry.card.misfit(image)
    if reason is not None:
        return reason
    if entry.card.needs_prompt and not prompts:
        return f"needs a prompt ({', '.join(entry.card.prompts)}) for this image, and none was given: --prompt FILE"
    return None


def _run(entry: TaskEntry, study: Study, prompts: tuple[Prompt, ...]) -> Prediction:
    name = entry.card.name
    try:
        prediction = load_task(entry).run(study, prompts)
    except (IsocenterError, MemoryError):
        raise
    except Exception as error:  # the boundary to a plug-in's code; its message may hold anything, so it is not shown
        raise PluginError(f"task {name!r} failed with {type(error).__name__}; this is a defect of the task") from error
    value = prediction.value
    if isinstance(value, Mask) and not value.geometry.same_grid(study.images[0].geometry):
        raise PluginError(f"task {name!r} answered on another grid than its image's; this is a defect of the task")
    return prediction


def _merge(own: tuple[Measurement, ...], measured: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    """Keep the measured values, and of the task's own those that were not measured."""
    known = {(m.name, m.derivation, m.segment) for m in measured}
    return (*measured, *(m for m in own if (m.name, m.derivation, m.segment) not in known))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # a plug-in may draw from the old global generator
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
