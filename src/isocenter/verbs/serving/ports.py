"""All ports of the viewer, put together: the one place that knows which room stands behind which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.core import TaskEntry
from isocenter.plugins import find, load
from isocenter.verbs.archive_folder import require_packages
from isocenter.verbs.serving.foreign import LabelFiles
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.verbs.serving.jobs import JobRunner
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.readings import StudyReadings
from isocenter.verbs.serving.sources import FolderSource, StudySource
from isocenter.verbs.serving.standing import Standings
from isocenter.verbs.serving.work_order import EngineEye
from isocenter.verbs.serving.worklist import LabelWork
from isocenter.viewer.ports import Ports, TaskItem
from isocenter.viewer.problems import problem_of
from isocenter.viewer.settings import Limits, Settings

if TYPE_CHECKING:
    from isocenter.verbs.serve import ServeConfig

__all__ = ["make_ports", "open_library"]


def open_library(config: ServeConfig, work: Path, limits: Limits) -> StudyLibrary:
    """Open the studies of a configuration; nothing is looked for yet."""
    return StudyLibrary(
        _source(config, work),
        work,
        limits=limits,
        memory_bytes=config.memory_mb << 20,
        on_irregular=config.on_irregular,
    )


def make_ports(
    config: ServeConfig, work: Path, settings: Settings
) -> tuple[Ports, tuple[Callable[[], object], ...]]:  # fmt: skip
    """Make the ports of a configuration.

    Returns:
        The ports, and what is called (last first) when the server stops.
    """
    library = open_library(config, work, settings.limits)
    jobs = JobRunner(problem_of=problem_of)
    readings = StudyReadings(library, jobs, work)
    interactions = SessionInteractions(library, work)
    labelling = LabelWork(work, library, interactions.mask_folder, eye=EngineEye(lambda: interactions.engine))
    library.standing = Standings(library, readings, assigned=labelling.assigned).of
    library.source.start()
    labelling.refresh()
    ports = Ports(
        library=library,
        tasks=_tasks(),
        jobs=jobs,
        readings=readings,
        interactions=interactions,
        foreign=LabelFiles(library, interactions, work, limits=settings.limits),
        work=labelling,
    )
    return ports, (library.close, jobs.close, labelling.close)


def _source(config: ServeConfig, work: Path) -> StudySource:
    from isocenter.verbs.serve import is_archive

    if not is_archive(config.path):
        return FolderSource(config.path, work)
    require_packages()
    from isocenter.verbs.serving.archive_source import ArchiveSource

    return ArchiveSource(config.path)


def _tasks() -> tuple[TaskItem, ...]:
    items = []
    for name in find("isocenter.tasks"):
        entry = load("isocenter.tasks", name)
        if isinstance(entry, TaskEntry):
            c = entry.card
            items.append(
                TaskItem(
                    c.name, c.title, c.modalities, c.body_parts, c.prompts, c.needs_prompt, c.intended_use, c.not_for
                )
            )
    return tuple(items)
