"""Read one study, end to end: the story of the whole product on one page.

data -> quality -> every task whose card fits; the rest abstain with a reason -> measurements -> writers, each with its
geometry proof -> `result.json` and `report.html`. All of it is written into a folder beside the final one, which gets
its name in one step at the end: whatever happens before leaves nothing behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Image, Mask, ModelRef, Prediction, Study
from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.data.images.atomic import atomic_folder, explain_os_error
from isocenter.data.images.marks import Marks
from isocenter.data.images.quality import inspect
from isocenter.data.images.study_files import StudyFiles
from isocenter.plugins import load
from isocenter.verbs.air import AirRun, AirSettings, marks_of, tracked, write_air
from isocenter.verbs.audit import audited, record_read
from isocenter.verbs.clinical import clinical_row
from isocenter.verbs.comparison import check_prior, compared
from isocenter.verbs.entries import file_entry, image_entry, prediction_entry
from isocenter.verbs.evidence import Evidence, explain_answers
from isocenter.verbs.prompts import Prompts, check_places, load_prompts
from isocenter.verbs.provenance import (
    LOCAL_FILE,
    InputNames,
    created_now,
    input_files,
    package_versions,
    python_version,
)
from isocenter.verbs.report import Picture, overlay_png, pictures, render_html
from isocenter.verbs.result import (
    FileEntry,
    ImageEntry,
    LeftOut,
    NotDone,
    PredictionEntry,
    ProvenanceEntry,
    ResultDocument,
    StudyEntry,
)
from isocenter.verbs.running import Answer, Chosen, choose_tasks, run_task
from isocenter.verbs.settings import configured
from isocenter.verbs.writing import Marking, Written, write_image
from isocenter.version import __version__

__all__ = ["Coded", "Progress", "ReadConfig", "read", "read_study", "run", "state"]

Progress = Callable[[str, float], None]
"""Called with a stage's name and how much of the whole is done, 0 to 1."""

Coded = Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")]


class ReadConfig(BaseModel):
    """Configuration of `isocenter read`.

    Attributes:
        path: File, folder, zip or DICOMDIR of one study.
        out: Folder to write; must not exist or be empty unless `overwrite`.
        tasks: Names of tasks or folders of adapted ones, or "auto" for every one installed.
        prompts: Prompt file (JSON).
        reader: Name of the `isocenter.readers` plug-in that reads the path.
        on_irregular: What to do with irregular, tilted or incomplete series: "raise", or "resample" to a regular grid.
        modality: Modality of images whose file says none, stated by you.
        body_part: Body part of images whose file says none, stated by you.
        rtstruct: Whether DICOM RTSTRUCT is written too.
        air: What a result set after IHE's AI Results profile is to hold (`verbs.air.AirSettings`); null for none.
        evidence: Whether tasks that can are asked why they answered so (as `isocenter diagnose` does).
        clinical: Table with the study's covariates, for tasks that learnt with one; only with `evidence`.
        prior: An earlier result of the same patient, to compare with; its folder, or result.json.
        overwrite: Whether an older result under `out` is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        mark: Stands in every DICOM object that is written ("AI result, not for diagnosis"); "" for none.
        gate: "own": each task's gate decides; "required": an answer to an image that no gate let pass is withheld.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    out: Path
    tasks: Literal["auto"] | tuple[str, ...] = "auto"
    prompts: Path | None = None
    reader: str = "images"
    on_irregular: Literal["raise", "resample"] = "raise"
    modality: Coded | None = None
    body_part: Coded | None = None
    rtstruct: bool = False
    air: AirSettings | None = None
    evidence: bool = False
    clinical: Path | None = None
    prior: Path | None = None
    overwrite: bool = False
    audit: Path | None = None
    mark: Annotated[str, Field(max_length=64, pattern=r"^[ -\[\]-~]*$")] = ""
    gate: Literal["own", "required"] = "own"
    seed: int = Field(default=0, ge=0)


@dataclass
class _Clock:
    """Seconds by stage."""

    started: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.stages[name] = round(time.monotonic() - begin, 3)

    def seconds(self) -> dict[str, float]:
        return {"total": round(time.monotonic() - self.started, 3), **self.stages}


def read(path: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any) -> ResultDocument:
    """Read a study: inspect it, run every task that fits, measure, and write the result.

    Args:
        path: File, folder, zip or DICOMDIR of one study.
        out: Folder to write.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `ReadConfig`.

    Returns:
        The document that stands in ``out/result.json``.

    Raises:
        ConfigError: A setting or the prompt file is wrong.
        DataError: The study can't be read, or the output can't be written.
        ModelError: A task that was named can't run.
        PluginError: Two plug-ins share a name, or a task that was named broke its contract.
    """
    config = configured(ReadConfig, path=Path(path), out=Path(out), **settings)
    return run(config, progress)


def run(
    config: ReadConfig,
    progress: Progress | None = None,
    *,
    verb: Literal["read", "diagnose"] = "read",
    look: Callable[[StudyFiles, Path], None] | None = None,
) -> ResultDocument:
    """Do what a `ReadConfig` says; see `read`.

    Args:
        config: What is to be done.
        progress: Called with the stage and how much is done.
        verb: The name under which it is recorded.
        look: Shown the study before it is answered, and the result's folder, where it may leave a file of its own.
    """
    with audited(config.audit, verb) as audit:
        return _run(config, progress or (lambda _stage, _done: None), audit, (verb, look))


def _run(
    config: ReadConfig,
    tell: Progress,
    audit: Path | None,
    asked: tuple[Literal["read", "diagnose"], Callable[[StudyFiles, Path], None] | None],
) -> ResultDocument:
    verb, look = asked
    clock = _Clock()
    chosen = choose_tasks(None if config.tasks == "auto" else config.tasks)
    prompts = load_prompts(config.prompts) if config.prompts is not None else None
    with _result_folder(config) as folder:
        with clock.stage("read"):
            files = read_study(config, tell)
            study, stated = state(_with_companions_noted(files.study), config)
        if prompts is not None:
            check_places(prompts.targets, study, chosen.entries, named=chosen.named)
        row = None if config.clinical is None else clinical_row(config.clinical, study, config.path)
        before = None if config.prior is None else check_prior(config.prior, study.patient_key)
        with clock.stage("inspect"):
            tell("inspecting", 0.35)
            images = _inspect(replace(files, study=study), stated)
            if look is not None:
                look(replace(files, study=study), folder)
        air = None if config.air is None else AirRun.begin(config.air, folder, files.headers, mark=config.mark)
        with clock.stage("answer"):
            answers = _ask(study, chosen, prompts, config.seed, tell)
            answers = [_withheld(answer, required=config.gate == "required") for answer in answers]
            answers = answers if air is None else tracked(answers)
        with clock.stage("write"):
            tell("writing", 0.9)
            marking = None if air is None else partial(_marking, air)
            predictions, written = _write(answers, folder, files, config, marking)
        why = Evidence()
        if config.evidence:
            with clock.stage("explain"):
                why = explain_answers(study, answers, folder, lambda what, done: tell(what, 0.9 + 0.05 * done), row)
                predictions = [_with_evidence(p, why, position) for position, p in enumerate(predictions)]
        if air is not None:
            with clock.stage("result set"):
                maps = [why.maps.get(position, ()) for position in range(len(answers))]
                more = write_air(air, answers, maps, written)
                predictions = [_with_files(p, more.get(position, ())) for position, p in enumerate(predictions)]
        not_done = [*written.not_done, *(NotDone(what=f"task {b.name}", why=b.reason) for b in chosen.broken)]
        names = InputNames(config.path, study, files.refused)
        resolved = _resolved(config, chosen)
        settings_file = folder / "config.json"
        _write_json(settings_file, {"verb": verb, "isocenter": __version__, "config": resolved})
        left_out = tuple(LeftOut(where=r.where, reason=r.reason, kind=r.kind) for r in files.refused)
        local = names.local(
            path=config.path, out=config.out, prompts=config.prompts, prior=config.prior, clinical=config.clinical
        )
        _write_json(folder / LOCAL_FILE, {**local, "left_out": [item.model_dump() for item in left_out]})
        result = ResultDocument(
            created=created_now(),
            study=StudyEntry(patient_key=study.patient_key, study_uid=study.study_uid, notes=study.notes),
            images=tuple(images),
            predictions=tuple(predictions),
            left_out=left_out,
            not_done=tuple(not_done),
            files=(*written.shared, file_entry(settings_file, folder, "JSON", None)),
            provenance=ProvenanceEntry(
                isocenter=__version__,
                python=python_version(),
                packages=package_versions(),
                seed=config.seed,
                config=resolved,
                prompts_sha256=None if prompts is None else prompts.sha256,
                input_files=input_files(config.path, study, names),
                seconds=clock.seconds(),
            ),
        )
        if before is not None:
            result = result.model_copy(update={"comparison": compared(before, result)})
        result = names.hide(result)
        (folder / "result.json").write_text(result.to_json(), "utf-8")
        tell("report", 0.95)
        (folder / "report.html").write_text(render_html(result, _pictures(study, answers), why.pictures), "utf-8")
        record_read(audit, result, folder, verb)  # before the folder gets its name: no result without its line
    tell("done", 1.0)
    return result


@contextmanager
def _result_folder(config: ReadConfig) -> Iterator[Path]:
    """Yield the folder to write into; its errors name the final place, never the temporary one."""
    out = config.out.absolute()
    if out.resolve().is_relative_to(config.path.resolve()) and config.path.is_dir():
        raise ConfigError(f"{config.out} lies inside {config.path}; write the result outside the study's folder")
    try:
        holds_something = out.is_dir() and any(out.iterdir())
    except OSError as error:
        raise explain_os_error(error, config.out, doing="write") from error
    if holds_something and not config.overwrite:
        raise OutputError(
            "cannot write: a folder that is not empty stands under this name; choose another name, or give --overwrite "
            "to replace an older result",
            source=config.out,
        )
    if holds_something:
        # Replacing a folder deletes what is in it: only an older result of ours may go.
        if not (out / "result.json").is_file():
            raise ConfigError(f"{config.out} does not hold an Isocenter result; it is not overwritten. Choose another")
        if config.path.resolve().is_relative_to(out.resolve()):
            raise ConfigError(f"the study lies inside {config.out}, which would be overwritten; choose another folder")
    with atomic_folder(out, replace=config.overwrite) as folder:
        try:
            yield folder
        except DataError as error:
            if isinstance(error.__cause__, OSError) and error.source.startswith(str(folder)):
                place = config.out / Path(error.source).relative_to(folder)
                raise explain_os_error(error.__cause__, place, doing="write") from error.__cause__
            raise


def read_study(config: ReadConfig, tell: Progress) -> StudyFiles:
    """Read the path with the reader that the configuration names.

    Raises:
        DataError: The path can't be read, or holds no image.
        PluginError: There is no such reader.
    """
    reader = load("isocenter.readers", config.reader)
    if not callable(reader):
        raise ConfigError(f"reader {config.reader!r} is not callable; see isocenter plugins")
    tell("reading", 0.0)
    try:
        files = reader(
            config.path, on_irregular=config.on_irregular, progress=lambda what, done: tell(what, 0.35 * done)
        )
    except OSError as error:
        # Not an error of the output, which is what the folder around this would take it for.
        raise explain_os_error(error, config.path, doing="read") from error
    if not isinstance(files, StudyFiles):
        raise ConfigError(f"reader {config.reader!r} returned a {type(files).__name__}, not a StudyFiles")
    if not files.study.images:
        refused = next((f"; {r.where}: {r.reason}" for r in files.refused if r.kind == "refused"), "")
        raise DataError(f"no image can be read here{refused}", source=config.path)
    return files


def state(study: Study, config: ReadConfig) -> tuple[Study, Mapping[int, tuple[Literal["modality", "body_part"], ...]]]:
    """Fill in what the user stated where the file says nothing; never against a header."""
    images, stated = [], {}
    for index, image in enumerate(study.images):
        told: list[Literal["modality", "body_part"]] = []
        if config.modality and not image.modality:
            image, told = replace(image, modality=config.modality), [*told, "modality"]
        if config.body_part and not image.body_part:
            image, told = replace(image, body_part=config.body_part), [*told, "body_part"]
        images.append(image)
        stated[index] = tuple(told)
    return replace(study, images=tuple(images)), stated


def _with_companions_noted(study: Study) -> Study:
    """Note what came beside the images: it is in the study, and the result does not repeat it."""
    found = [(len(study.masks), "segmentation"), (len(study.reports), "report")]
    what = " and ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in found if n)
    if not what:
        return study
    return replace(study, notes=(*study.notes, f"{what} came with the images; read, and not part of this result"))


def _inspect(files: StudyFiles, stated: Mapping[int, tuple[Literal["modality", "body_part"], ...]]) -> list[ImageEntry]:
    out = []
    for index, image in enumerate(files.study.images):
        headers = files.headers.image(image) if files.headers is not None and image.source.instance_uids else None
        out.append(image_entry(index, image, inspect(image, headers), stated[index]))
    return out


def _ask(study: Study, chosen: Chosen, prompts: Prompts | None, seed: int, tell: Progress) -> list[Answer]:
    targets = prompts.targets if prompts is not None else ()
    jobs = [(index, entry) for index in range(len(study.images)) for entry in chosen.entries.values()]
    answers = []
    for done, (index, entry) in enumerate(jobs):
        tell(f"{entry.card.name}, image {index + 1} of {len(study.images)}", 0.4 + 0.5 * done / len(jobs))
        answers.append(run_task(entry, study, index, targets, named=chosen.named, seed=seed))
    return answers


def _withheld(answer: Answer, *, required: bool) -> Answer:
    """Turn an answer to an image that its gate refused, or that no gate saw where one is required, to an abstention."""
    found, like = answer.prediction, answer.prediction.likeness
    if found.abstained is not None or (like is None and not required):
        return answer
    if like is not None and like.p_value > like.refused_share:
        return answer
    why = "an answer was withheld: no gate found the image to be like those that this task learnt from"
    name = answer.entry.card.name
    return replace(answer, prediction=Prediction.abstain(name, why, inputs=found.inputs, likeness=like))


def _marking(air: AirRun, model: ModelRef | None) -> tuple[Marks, datetime | None]:
    return marks_of(air, [model]), air.inferred


def _with_files(prediction: PredictionEntry, files: Sequence[FileEntry]) -> PredictionEntry:
    return prediction.model_copy(update={"files": (*prediction.files, *files)})


def _write(
    answers: Sequence[Answer], folder: Path, files: StudyFiles, config: ReadConfig, marking: Marking | None
) -> tuple[list[PredictionEntry], Written]:
    predictions, everything = [], Written()
    for index in sorted({a.index for a in answers}):
        here = [a for a in answers if a.index == index]
        written = write_image(here, folder, files.headers, rtstruct=config.rtstruct, mark=config.mark, marking=marking)
        everything.shared += written.shared
        everything.not_done += written.not_done
        predictions += [
            prediction_entry(
                a.entry.card,
                index,
                a.prediction,
                prompts=a.prompts,
                files=written.by_task.get(a.entry.card.name, ()),
                seconds=a.seconds,
            )
            for a in here
        ]
    best = max((a for a in answers if isinstance(a.prediction.value, Mask)), key=_shown_first, default=None)
    if best is not None and isinstance(best.prediction.value, Mask):
        path = folder / "preview.png"
        path.write_bytes(overlay_png(best.image, best.prediction.value, plane=_plane(best.image)))
        everything.shared.append(file_entry(path, folder, "PNG", None))
    return predictions, everything


def _with_evidence(prediction: PredictionEntry, why: Evidence, position: int) -> PredictionEntry:
    files = (*prediction.files, *why.files.get(position, ()))
    return prediction.model_copy(update={"evidence": why.entries.get(position, ()), "files": files})


def _shown_first(answer: Answer) -> tuple[int, int]:
    """Order answers for the preview: most segments first, then the first image."""
    mask = answer.prediction.value
    return (len(mask.segments) if isinstance(mask, Mask) else 0, -answer.index)


def _plane(image: Image) -> Literal["axial", "native"]:
    return "axial" if image.is_volume else "native"


def _pictures(study: Study, answers: Sequence[Answer]) -> dict[int, list[Picture]]:
    """Draw every answer, and every image that has none, under the keys that the report page expects."""
    drawn: dict[int, list[Picture]] = {}
    for position, answer in enumerate(answers):
        if isinstance(answer.prediction.value, Mask):
            drawn[position] = pictures(answer.image, answer.prediction.value)
    shown = {answers[position].index for position in drawn}
    for index, image in enumerate(study.images):
        if index not in shown:
            drawn[-1 - index] = pictures(image, None)
    return drawn


def _resolved(config: ReadConfig, chosen: Chosen) -> dict[str, Any]:
    """Return the configuration with `auto` replaced by what it came to, without paths: they may name the patient."""
    return {
        **config.model_dump(mode="json", exclude={"path", "out", "prompts", "audit", "prior", "clinical", "air"}),
        **({} if config.air is None else {"air": config.air.model_dump(mode="json")}),
        "clinical": config.clinical is not None,
        "prior": config.prior is not None,
        "tasks": list(chosen.entries),
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
