"""Diagnose: tasks that say what an image shows, and why: `isocenter read` for named tasks, with evidence.

One way through: the same reading, answers, files and page as `isocenter read`; beside each answer stand maps of where
the networks looked, the nearest confirmed cases and what drove it, and, where an earlier result is given, what surely
changed. Evidence is made after the answers and never moves them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.verbs.air import AirSettings
from isocenter.verbs.read import Coded, Progress, ReadConfig
from isocenter.verbs.read import run as run_read
from isocenter.verbs.result import ResultDocument
from isocenter.verbs.settings import configured

__all__ = ["DiagnoseConfig", "diagnose", "run"]


class DiagnoseConfig(BaseModel):
    """Configuration of `isocenter diagnose`.

    Attributes:
        path: File, folder, zip or DICOMDIR of one study.
        out: Folder to write; must not exist or be empty unless `overwrite`.
        tasks: Names of tasks or folders of adapted ones; each is asked about every image.
        clinical: Table with the study's covariates: a column `study` (UID or pseudonym) or `image` (name of what is
            read), and the columns that the task learnt with.
        prior: An earlier result of the same patient, to compare with; its folder, or result.json.
        reader: Name of the `isocenter.readers` plug-in that reads the path.
        on_irregular: What to do with irregular, tilted or incomplete series: "raise", or "resample" to a regular grid.
        modality: Modality of images whose file says none, stated by you.
        body_part: Body part of images whose file says none, stated by you.
        air: What a result set after IHE's AI Results profile is to hold; null for none.
        overwrite: Whether an older result under `out` is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    out: Path
    tasks: tuple[str, ...] = Field(min_length=1)
    clinical: Path | None = None
    prior: Path | None = None
    reader: str = "images"
    on_irregular: Literal["raise", "resample"] = "raise"
    modality: Coded | None = None
    body_part: Coded | None = None
    air: AirSettings | None = None
    overwrite: bool = False
    audit: Path | None = None
    seed: int = Field(default=0, ge=0)


def diagnose(
    path: Path | str, out: Path | str, tasks: tuple[str, ...], *, progress: Progress | None = None, **settings: Any
) -> ResultDocument:
    """Ask named tasks what a study shows, and why.

    Args:
        path: File, folder, zip or DICOMDIR of one study.
        out: Folder to write.
        tasks: Names of tasks, or folders of adapted ones.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `DiagnoseConfig`.

    Returns:
        The document that stands in ``out/result.json``.

    Raises:
        ConfigError: A setting is wrong, there is no such task, or a folder holds none.
        DataError: The study or the earlier result can't be read, the earlier one is of another patient, or the output
            can't be written.
        ModelError: A task can't run.
        PluginError: A task broke its contract.
    """
    config = configured(DiagnoseConfig, path=Path(path), out=Path(out), tasks=tasks, **settings)
    return run(config, progress)


def run(config: DiagnoseConfig, progress: Progress | None = None) -> ResultDocument:
    """Do what a `DiagnoseConfig` says; see `diagnose`."""
    return run_read(ReadConfig(**dict(config), evidence=True), progress, verb="diagnose")
