"""Measure predictions, of any tool, or a task on a labelled set: figures with intervals, comparisons, groups, curves.

What comes in is told by its form: two folders of masks (perhaps for each click) or of reports, two tables of places in
images, a table of scores, reports, survival, retrieval or clicks, or a task and a labelled set. `evaluation.json`,
`cases.csv` and `evaluation.html` come out, whole or not at all.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import ConfigError, DataError, IsocenterError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.labelled import open_labelled
from isocenter.evaluate.corruption import CORRUPTIONS
from isocenter.evaluate.subgroups import LEAST_NAMED, names_patients
from isocenter.safety.audit import AuditedAnswer
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.advice import advise
from isocenter.verbs.evaluation.analysis import (
    Intervals,
    compare,
    drops_of,
    figures_of,
    groups_of,
    shift_of,
    worst_by,
    worst_of,
)
from isocenter.verbs.evaluation.boxes import Corners
from isocenter.verbs.evaluation.detections import DetectionSettings, detections_of_tables
from isocenter.verbs.evaluation.document import DropEntry, EvaluationDocument, FigureEntry, PointEntry, ProvenanceEntry
from isocenter.verbs.evaluation.interactive import click_folders, interactive_folders
from isocenter.verbs.evaluation.kinds import table_system
from isocenter.verbs.evaluation.masks import MaskSettings, mask_system
from isocenter.verbs.evaluation.page import render_evaluation
from isocenter.verbs.evaluation.reports import holds_reports, report_folders
from isocenter.verbs.evaluation.retrieval import retrieval_of_arrays
from isocenter.verbs.evaluation.runs import CLEAN, Outcome, RunSettings, ask, case_pictures, system_of
from isocenter.verbs.evaluation.system import System
from isocenter.verbs.evaluation.tables import Table, group_columns, read_table
from isocenter.verbs.provenance import code_version, created_now, machine, package_versions, python_version
from isocenter.verbs.read import Coded, Progress
from isocenter.verbs.running import choose_tasks
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = ["DOCUMENT", "EvaluateConfig", "document_of", "evaluate_predictions", "provenance", "run"]

DOCUMENT, CASES, PAGE = "evaluation.json", "cases.csv", "evaluation.html"
_SHOWN_SITES = 30


class EvaluateConfig(BaseModel):
    """Configuration of `isocenter evaluate`.

    Attributes:
        out: Folder to write; must not exist or be empty unless `overwrite`.
        predictions: Folder of masks or reports, a table, or an .npz of similarities.
        references: Folder of masks or reports, or a table of places; None for a table or .npz that holds both.
        task: Name or folder of a task to run.
        data: Labelled set that it runs on.
        against: A second system: predictions of the same form, or with `task` a second task.
        match: Table of case, prediction and reference, where the names of files differ.
        patients: Table of case and patient.
        groups: Table of case (or patient) and columns to make groups of.
        shift: A column of `groups`, and the two sites between which the figure is compared.
        missing: What a reference without a prediction does, and a query without a relevant candidate. Cases that a task
            abstains from are left out of the figures and counted; with "count-as-zero" a mask counts as an empty one
            instead.
        corners: What the corners of boxes in pixels are; there is no default.
        least_iou: From which IoU on a box is found, in FROC.
        images: Table of all images, those without a thing among them.
        tolerance_mm: Of the normalised surface Dice.
        surface: "border" voxels, or surface "elements".
        lesions: Whether the connected pieces of masks are matched and counted too.
        corrupt: Names of corruptions to draw curves of; "auto" for all that are meant for the images.
        corrupt_cases: Most cases that are made worse; None for all.
        modality: Of images whose file says none, stated by you.
        body_part: Of images whose file says none, stated by you.
        pictures: Whether the page shows the worst cases of a task.
        level: Coverage asked of the intervals.
        resamples: How many resamples of patients.
        least_patients: Groups with fewer are listed, not tested.
        seed: Of everything random.
        overwrite: Whether an older evaluation under `out` is replaced.
        audit: With a task: record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one,
            or none is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path
    predictions: Path | None = None
    references: Path | None = None
    task: str | None = None
    data: Path | None = None
    against: str | None = None
    match: Path | None = None
    patients: Path | None = None
    groups: Path | None = None
    shift: tuple[str, str, str] | None = None
    missing: Literal["fail", "count-as-zero"] = "fail"
    corners: Corners | None = None
    least_iou: float = Field(default=0.1, gt=0, le=1)
    images: Path | None = None
    tolerance_mm: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    surface: Literal["border", "elements"] = "border"
    lesions: bool = False
    corrupt: tuple[str, ...] = ()
    corrupt_cases: int | None = Field(default=None, ge=1)
    modality: Coded | None = None
    body_part: Coded | None = None
    pictures: bool = True
    level: float = Field(default=0.95, gt=0, lt=1)
    resamples: int = Field(default=1000, ge=100, le=100_000)
    least_patients: int = Field(default=10, ge=10)
    seed: int = Field(default=0, ge=0)
    overwrite: bool = False
    audit: Path | None = None


def evaluate_predictions(out: Path | str, *, progress: Progress | None = None, **settings: Any) -> EvaluationDocument:
    """Measure predictions, or a task on a labelled set.

    Args:
        out: Folder to write.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `EvaluateConfig`.

    Returns:
        The document that stands in ``out/evaluation.json``.

    Raises:
        ConfigError: A setting is wrong, or settings do not belong together.
        DataError: The input can't be measured: missing cases, other grids, what is no probability, one class only.
        ModelError: The task can't run.
    """
    config = configured(EvaluateConfig, out=Path(out), **settings)
    return run(config, progress)


def run(config: EvaluateConfig, progress: Progress | None = None) -> EvaluationDocument:
    """Do what an `EvaluateConfig` says; see `evaluate_predictions`."""
    tell = progress or (lambda _stage, _done: None)
    if config.task is None:
        return _run(config, tell, None)  # nothing is run: the answers are another program's
    with audited(config.audit, "evaluate") as audit:
        return _run(config, tell, audit)


def _run(config: EvaluateConfig, tell: Progress, audit: Path | None) -> EvaluationDocument:
    _check(config)
    check_out(config.out, DOCUMENT, overwrite=config.overwrite)
    asked: tuple[AuditedAnswer, ...] = ()
    pictures: Mapping[int, tuple[bytes, bytes | None]] = {}
    if config.task is not None:
        outcome, system, against, asked = _task_systems(config, tell)
        document = document_of(system, config, against=against, outcome=outcome, tell=_part(tell, 0.7, 0.95))
        if config.pictures:
            pictures = worst_pictures(config.task, outcome, system, document, run_settings(config))
    else:
        system = _read(config, config.predictions, _part(tell, 0.0, 0.4))
        second = None
        if config.against is not None:
            second = _read(config, Path(config.against), _part(tell, 0.4, 0.6), system.cases)
        document = document_of(system, config, against=second, tell=_part(tell, 0.6, 0.95))
    tell("writing", 0.95)
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as folder:
        (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        write_cases(folder / CASES, system)
        (folder / PAGE).write_text(render_evaluation(document, pictures), "utf-8")
        if asked:
            written = [file_sha256(folder / name) for name in (DOCUMENT, CASES, PAGE)]
            record_run(audit, "evaluate", asked, outputs=written)
    tell("done", 1.0)
    return document


def _check(config: EvaluateConfig) -> None:
    """Refuse settings that do not belong together."""
    if (config.task is None) != (config.data is None):
        raise ConfigError("a task is measured on a labelled set: give both --task TASK and --data SET")
    if (config.task is None) == (config.predictions is None):
        raise ConfigError("give predictions (PRED REF, or a table), or --task TASK with --data SET")
    if config.corrupt and config.task is None:
        raise ConfigError("images can only be made worse where a task runs on them: give --task TASK and --data SET")
    if config.audit is not None and config.task is None:
        raise ConfigError("a record is of tasks that are run: give --audit with --task TASK and --data SET")
    if config.shift is not None and config.groups is None:
        raise ConfigError("--shift names a column of the table of groups: give --groups TABLE")
    if config.match is not None and config.references is None:
        raise ConfigError("--match is for two folders: give PRED and REF")
    files = config.predictions is not None and config.references is not None and config.predictions.is_file()
    if (config.corners is not None or config.images is not None) and not files:
        raise ConfigError("--corners and --images are for two tables of places in images: give PRED and REF")
    unknown = [name for name in config.corrupt if name != "auto" and name not in CORRUPTIONS]
    if unknown:
        raise ConfigError(f"no corruption is named {unknown[0]!r}; there are: {', '.join(CORRUPTIONS)}, or auto")


def check_out(out: Path, document: str, *, overwrite: bool) -> None:
    """Refuse a folder that is taken; only an older one of ours may be replaced.

    Raises:
        ConfigError: So it is.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise ConfigError(f"{out} is not empty; choose another folder, or give --overwrite")
        if not (out / document).is_file():
            raise ConfigError(f"{out} does not hold a {document}; it is not overwritten. Choose another")


def _part(tell: Progress, low: float, high: float) -> Progress:
    return lambda stage, done: tell(stage, low + (high - low) * done)


def _table(file: Path | None) -> Table | None:
    return None if file is None else read_table(file)


def _read(config: EvaluateConfig, predictions: Path | None, tell: Progress, order: Sequence[str] = ()) -> System:
    """Find out what was given, and measure it; a table in the order of these cases, where it is of the same."""
    if predictions is None:
        raise ConfigError("give predictions")
    if not predictions.exists():
        raise DataError("there is no such file or folder", source=predictions)
    patients = _table(config.patients)
    if config.references is None:
        if predictions.is_dir():
            raise ConfigError(f"{predictions} is a folder: give the folder of references too (PRED REF)")
        if predictions.suffix.lower() == ".npz":
            return retrieval_of_arrays(predictions, config.missing, patients)
        table = read_table(predictions)
        return table_system(table.in_order(order) if order else table, patients, config.missing)
    if predictions.is_file() and config.references.is_file():
        places = DetectionSettings(config.corners, config.least_iou, _table(config.images))
        return detections_of_tables(predictions, config.references, places, patients)
    for folder in (predictions, config.references):
        if not folder.is_dir():
            raise ConfigError(
                f"{folder} is not a folder: PRED and REF are two folders, or two tables of places in images; a table "
                "of scores, reports or survival holds both"
            )
    clicks = click_folders(predictions)
    if clicks is not None:
        return interactive_folders(clicks, config.references, config.missing, patients, tell)
    if holds_reports(predictions) and holds_reports(config.references):
        return report_folders(predictions, config.references, config.missing, patients)
    settings = MaskSettings(config.missing, config.tolerance_mm, config.surface, config.lesions)
    return mask_system(
        predictions, config.references, settings, match=_table(config.match), patients=patients, tell=tell
    )


def run_settings(config: EvaluateConfig) -> RunSettings:
    """Return how a task is asked."""
    return RunSettings(
        corrupt=config.corrupt,
        corrupt_cases=config.corrupt_cases,
        masks=MaskSettings(config.missing, config.tolerance_mm, config.surface, config.lesions),
        modality=config.modality or "",
        body_part=config.body_part or "",
        seed=config.seed,
    )


def _task_systems(
    config: EvaluateConfig, tell: Progress
) -> tuple[Outcome, System, System | None, tuple[AuditedAnswer, ...]]:
    if config.task is None or config.data is None:
        raise ConfigError("give both --task TASK and --data SET")
    labelled, settings = open_labelled(config.data), run_settings(config)
    (entry,) = choose_tasks((config.task,)).entries.values()
    outcome = ask(entry, labelled, settings, _part(tell, 0.0, 0.5 if config.against else 0.7))
    system = system_of(outcome)
    if config.against is None:
        return outcome, system, None, outcome.asked
    (other,) = choose_tasks((config.against,)).entries.values()
    plain = RunSettings(**{**vars(settings), "corrupt": ()})
    second = ask(other, labelled, plain, _part(tell, 0.5, 0.7))
    both = [i for i in range(len(outcome.cases)) if outcome.answered(CLEAN)[i] and second.answered(CLEAN)[i]]
    return outcome, _only(outcome, both), _only(second, both), (*outcome.asked, *second.asked)


def _only(outcome: Outcome, kept: Sequence[int]) -> System:
    """Return the system of the cases that both tasks answered."""
    answers = [outcome.answers[CLEAN][i] for i in kept]
    notes = outcome.notes
    if len(kept) < len(outcome.cases):
        notes = (*notes, f"{len(kept)} of {len(outcome.cases)} cases were answered by both tasks, and are compared")
    part = Outcome(
        outcome.labelled, tuple(outcome.cases[i] for i in kept), {CLEAN: answers}, outcome.reasons, notes,
        outcome.seconds, outcome.inputs,
    )  # fmt: skip
    return system_of(part)


def document_of(
    system: System,
    config: EvaluateConfig,
    *,
    against: System | None = None,
    outcome: Outcome | None = None,
    tell: Callable[[str, float], None] = lambda _stage, _done: None,
) -> EvaluationDocument:
    """Put intervals, comparisons, groups and curves on a system.

    Raises:
        DataError: The second system is not of the same cases, or a table of groups does not fit.
    """
    how = Intervals(config.level, config.resamples, config.seed, config.least_patients)
    figures = figures_of(system, how, _part(tell, 0.0, 0.4))
    comparisons = () if against is None else compare(system, against, how, _part(tell, 0.4, 0.6))
    tell("groups", 0.6)
    block, shift = None, None
    columns: dict[str, Sequence[str]] = dict(system.columns)
    notes: tuple[str, ...] = ()
    table = _table(config.groups)
    if table is not None:
        given, notes = group_columns(system.cases, system.patients, table)
        columns |= given
    else:
        notes = ("no table of groups was given: by sex, age, site or scanner nothing is known (--groups TABLE)",)
    if columns:
        block = groups_of(system, columns, how, notes)
    if config.shift is not None and table is not None:
        column, first, second = config.shift
        check_sites(columns, system.patients, column, (first, second))
        shift = shift_of(system, column, columns[column], (first, second), how)
    tell("curves", 0.8)
    drops = () if outcome is None else curves_of(outcome, how)
    primary = system.measures[0]
    recommended, warnings = advise(system, 0 if outcome is None else sum(outcome.reasons.values()))
    wide = any(figure.low is not None for figure in figures)
    return EvaluationDocument(
        created=created_now(),
        kind=system.kind,
        title=_title(figures[0]),
        cases=len(system.cases),
        patients=len(set(system.patients)),
        patients_known=system.patients_known,
        primary=(primary.name, primary.structure),
        notes=system.notes,
        figures=figures,
        against=() if against is None else figures_of(against, how, lambda _stage, _done: None),
        comparisons=comparisons,
        subgroups=block,
        drops=drops,
        shift=shift,
        roc=system.roc,
        reliability=system.reliability,
        curves=system.curves,
        worst=worst_of(system),
        worst_by=worst_by(system),
        recommended=recommended,
        warnings=warnings,
        further_patients_half_interval=3 * len(set(system.patients)) if wide else None,
        provenance=provenance(config, system.inputs),
    )


def check_sites(
    columns: Mapping[str, Sequence[str]], patients: Sequence[str], column: str, between: tuple[str, str]
) -> None:
    """Refuse a shift between sites that there are not; the message names levels of 5 patients or more alone.

    Raises:
        ConfigError: The table has no such column, it names patients, or a site is not in it, or they are one.
    """
    if column not in columns:
        raise ConfigError(f"--shift {column}: the table of groups has {', '.join(columns)}")
    if names_patients(column):
        raise ConfigError(f"--shift {column}: that column says who patients are, or a date; name one of sites")
    if between[0] == between[1]:
        raise ConfigError(f"--shift {column}: a shift is between two sites, and one was named twice")
    whose: dict[str, set[str]] = {}
    for site, patient in zip(columns[column], patients, strict=True):
        whose.setdefault(site, set()).add(patient)
    lost = [site for site in between if not site or site not in whose]
    if lost:
        there = [site for site, some in sorted(whose.items()) if site and len(some) >= LEAST_NAMED][:_SHOWN_SITES]
        said = f"there are: {', '.join(there)}" if there else f"none has {LEAST_NAMED} patients"
        raise ConfigError(f"--shift {column}: no case is of {' or '.join(map(repr, lost))}; {said}")


def _title(figure: FigureEntry) -> str:
    value = "not defined on these cases" if figure.value is None else f"{figure.value:.3f}"
    return f"{', '.join(filter(None, (figure.name, figure.structure)))}: {value}"


def curves_of(outcome: Outcome, how: Intervals) -> tuple[DropEntry, ...]:
    """Draw a curve for each corruption, over the cases that were made worse."""
    found = []
    for kind in outcome.kinds():
        grades = sorted(grade for name, grade in outcome.answers if name == kind)
        made = outcome.worse[kind]
        chosen = [i for i, case in enumerate(outcome.cases) if case.name in made]
        found.append(_curve(outcome, kind, grades, chosen, how))
    return tuple(found)


def _curve(outcome: Outcome, kind: str, grades: Sequence[int], chosen: Sequence[int], how: Intervals) -> DropEntry:
    cases = tuple(outcome.cases[i] for i in chosen)
    graded: dict[int, System] = {}
    answered: dict[int, np.ndarray] = {}
    reasons: dict[int, str] = {}
    for grade in (0, *grades):
        key = CLEAN if grade == 0 else (kind, grade)
        answers = [outcome.answers[key][i] for i in chosen]
        part = Outcome(outcome.labelled, cases, {CLEAN: answers}, {}, (), (), "")
        try:
            graded[grade], answered[grade] = system_of(part), part.answered(CLEAN)
        except DataError as error:
            reasons[grade] = str(error)
    title = CORRUPTIONS[kind].title
    if 0 not in graded:
        return DropEntry(kind=kind, title=title, name="", structure="", points=())
    entry = drops_of(kind, title, graded, answered, [case.patient for case in cases], how)
    lost = [
        PointEntry(grade=grade, answered=0, cases=len(cases), reason=reason) for grade, reason in reasons.items()
    ]  # fmt: skip
    return entry.model_copy(update={"points": tuple(sorted((*entry.points, *lost), key=lambda p: p.grade))})


def worst_pictures(
    task: str, outcome: Outcome, system: System, document: EvaluationDocument, settings: RunSettings
) -> dict[int, tuple[bytes, bytes | None]]:
    """Draw the cases that went worst; one that can't be drawn is left out."""
    (entry,) = choose_tasks((task,)).entries.values()
    found = {}
    for worst in document.worst[:6]:
        try:
            found[worst.case] = case_pictures(entry, outcome, system.cases[worst.case - 1], settings)
        except IsocenterError:
            continue
    return found


def provenance(config: EvaluateConfig, inputs: Mapping[str, str]) -> ProvenanceEntry:
    """Return what is needed to repeat it, without paths: they may name the patient."""
    code = code_version()
    paths = ("out", "predictions", "references", "data", "against", "match", "patients", "groups", "images", "task")
    return ProvenanceEntry(
        isocenter=__version__,
        commit=code["commit"],
        changed=code["changed"],
        python=python_version(),
        packages=package_versions(),
        machine=machine(),
        seed=config.seed,
        config=config.model_dump(mode="json", exclude={*paths, "audit"}),
        inputs=dict(inputs),
    )


def write_cases(file: Path, system: System) -> None:
    """Write the table of cases; what is not known stays empty, infinity is "inf"."""
    columns = list(dict.fromkeys(key for row in system.rows for key in row))
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in system.rows)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else round(value, 6)
    return "" if value is None else value
