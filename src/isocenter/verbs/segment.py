"""Segment one image with one task into one file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Mask, Study
from isocenter.core.errors import CapabilityError, ConfigError, IsocenterError
from isocenter.verbs.audit import audited, audited_answer, record_run
from isocenter.verbs.entries import file_entry, prediction_entry
from isocenter.verbs.prompts import Target, check_places, load_prompts
from isocenter.verbs.provenance import InputNames, input_files
from isocenter.verbs.read import Coded, Progress, ReadConfig, read_study, state
from isocenter.verbs.result import FileEntry, PredictionEntry
from isocenter.verbs.running import choose_tasks, run_task
from isocenter.verbs.settings import configured
from isocenter.verbs.writing import check_suffix, write_mask

__all__ = ["SegmentConfig", "segment"]


class SegmentConfig(BaseModel):
    """Configuration of `isocenter segment`.

    Attributes:
        path: File, folder, zip or DICOMDIR of one study.
        out: File to write: .nii, .nii.gz, .nrrd, .mha, .dcm (SEG) or .rtstruct.dcm.
        task: Name of the task, or folder of an adapted one; by default the one that takes the prompts ("interact").
        prompts: Prompt file (JSON).
        image: Number of the image; may be left out when the study has one, or when the prompts say which.
        reader: Name of the `isocenter.readers` plug-in that reads the path.
        on_irregular: What to do with irregular, tilted or incomplete series.
        modality: Modality of an image whose file says none, stated by you.
        body_part: Body part of an image whose file says none, stated by you.
        overwrite: Whether a file that stands there is replaced; never one that is read.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    out: Path
    task: str | None = None
    prompts: Path | None = None
    image: int | None = Field(default=None, ge=0)
    reader: str = "images"
    on_irregular: Literal["raise", "resample"] = "raise"
    modality: Coded | None = None
    body_part: Coded | None = None
    overwrite: bool = False
    audit: Path | None = None
    seed: int = Field(default=0, ge=0)


def segment(path: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any) -> PredictionEntry:
    """Segment one image with one task and write one mask, geometry proven.

    Args:
        path: File, folder, zip or DICOMDIR of one study.
        out: File to write; its suffix says the format.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `SegmentConfig`.

    Returns:
        The answer, or the task's reason for none (`abstained`); then no file is written.

    Raises:
        ConfigError: A setting or the prompt file is wrong, or the output is what is read.
        DataError: The study can't be read, or the file can't be written.
        ModelError: The task can't run.
    """
    config = configured(SegmentConfig, path=Path(path), out=Path(out), **settings)
    return run(config, progress)


def run(config: SegmentConfig, progress: Progress | None = None) -> PredictionEntry:
    """Do what a `SegmentConfig` says; see `segment`."""
    with audited(config.audit, "segment") as audit:
        return _run(config, progress or (lambda _stage, _done: None), audit)


def _run(config: SegmentConfig, tell: Progress, audit: Path | None) -> PredictionEntry:
    check_suffix(config.out)
    _keep_the_input(config)
    if config.out.exists() and not config.overwrite:
        raise ConfigError(f"{config.out} exists; choose another name, or give --overwrite")
    if config.task is None and config.prompts is None:
        raise ConfigError("give --task NAME, --prompt FILE, or both (see: isocenter plugins)")
    name = config.task or "interact"
    chosen = choose_tasks((name,))
    prompts = load_prompts(config.prompts) if config.prompts is not None else None
    targets = prompts.targets if prompts is not None else ()
    reading = ReadConfig(
        **{k: v for k, v in config.model_dump().items() if k in ReadConfig.model_fields and k != "prompts"}
    )
    files = read_study(reading, tell)
    _keep_the_input(config, {name for image in files.study.images for name in image.source.files})
    study, _ = state(files.study, reading)
    (entry,) = chosen.entries.values()
    index = _which(config, [i for i in range(len(study.images)) if any(_here(t, study, i) for t in targets)], study)
    check_places(targets, study, chosen.entries, image=index)
    tell(entry.card.name, 0.4)
    answer = run_task(entry, study, index, targets, named=True, seed=config.seed)
    mask = answer.prediction.value
    if mask is not None and not isinstance(mask, Mask):
        raise CapabilityError(f"task {name!r} answers with a {type(mask).__name__}, not a mask; use isocenter read")
    files_written: tuple[FileEntry, ...] = ()
    if mask is not None:
        tell("writing", 0.9)
        headers = files.headers.image(answer.image) if files.headers and answer.image.source.instance_uids else []
        kind, proof = write_mask(mask, config.out, headers)
        files_written = (file_entry(config.out, config.out.parent, kind, proof),)
    found = prediction_entry(
        entry.card,
        index,
        answer.prediction,
        prompts=answer.prompts,
        files=files_written,
        seconds=answer.seconds,
    )
    if audit is not None:
        names = InputNames(config.path, study, files.refused)
        given = {file.sha256 for file in input_files(config.path, study, names)}
        given |= set() if prompts is None else {prompts.sha256}
        try:
            record_run(
                audit, "segment", [audited_answer(found, answer.image.sha256)], inputs=sorted(given),
                outputs=[file.sha256 for file in files_written], seconds=answer.seconds,
            )  # fmt: skip
        except IsocenterError:
            if files_written:  # no mask without its line
                config.out.unlink(missing_ok=True)
            raise
    tell("done", 1.0)
    return found


def _keep_the_input(config: SegmentConfig, names: Collection[str] = ()) -> None:
    """Refuse an output that is, or lies inside, what is read.

    Args:
        config: Where to read and write.
        names: Files that were read, relative to the path's folder (a DICOMDIR names files beside itself).
    """
    out, path = config.out.resolve(), config.path.resolve()
    if path.is_dir() and out.is_relative_to(path):
        raise ConfigError(f"{config.out} lies inside {config.path}; write the mask outside the study's folder")
    folder = path if path.is_dir() else path.parent
    read = [path, *(folder / name for name in names), *([config.prompts] if config.prompts is not None else [])]
    if config.out.exists() and any(file.exists() and config.out.samefile(file) for file in read):
        raise ConfigError(f"{config.out} is what is read; it is not overwritten. Choose another name")


def _here(target: Target, study: Study, index: int) -> bool:
    return target.image is not None and target.image.matches(index, study.images[index])


def _which(config: SegmentConfig, prompted: list[int], study: Study) -> int:
    count = len(study.images)
    if config.image is not None:
        if config.image >= count:
            raise ConfigError(f"--image {config.image}: the study has {count} images, numbered from 0")
        return config.image
    if len(prompted) == 1:
        return prompted[0]
    if count == 1:
        return 0
    raise ConfigError(f"the study has {count} images; say which with --image (0 to {count - 1})")
