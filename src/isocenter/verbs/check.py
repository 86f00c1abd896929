"""The gate before a task may serve: it is checked, measured where a labelled set is given, and gets its scorecard.

statements -> pre-flight of its networks -> contract, side, repeatability -> calibration and coverage -> groups. What is
not known is "not measured", never passed. `scorecard.json`, `scorecard.html` and `model-card.md` come out, and where
cases were measured `cases.csv`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Study, TaskEntry
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.fingerprint import values_fingerprint
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.models.training_pixels import DIGITS, training_pixels
from isocenter.models.weights import list_cards, read_card
from isocenter.tasks.interact.cards import CARD as INTERACT
from isocenter.tasks.interact.cards import VOLUME_WEIGHTS
from isocenter.verbs.adapted_folder import CONFIG, TASK_FILE
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluate import (
    EvaluateConfig,
    check_out,
    document_of,
    provenance,
    run_settings,
    worst_pictures,
    write_cases,
)
from isocenter.verbs.evaluation.checks import (
    Weights,
    abstention_check,
    calibration_check,
    coverage_checks,
    gate_check,
    latency_check,
    preflight_checks,
    statement_checks,
    subgroup_check,
    task_checks,
    verdict,
)
from isocenter.verbs.evaluation.document import CardEntry, EvaluationDocument, FigureEntry, ScorecardDocument
from isocenter.verbs.evaluation.held_out import held_out_system
from isocenter.verbs.evaluation.page import render_scorecard
from isocenter.verbs.evaluation.runs import Outcome, ask, read_stated, system_of
from isocenter.verbs.evaluation.system import System
from isocenter.verbs.learnt_folder import HELD_OUT, LearntFile, is_learnt_folder
from isocenter.verbs.provenance import created_now
from isocenter.verbs.read import Coded, Progress
from isocenter.verbs.running import choose_tasks
from isocenter.verbs.settings import configured
from isocenter.verbs.shipped import task_folder

__all__ = ["CheckConfig", "check", "run"]

DOCUMENT, PAGE, CARD_PAGE, CASES = "scorecard.json", "scorecard.html", "model-card.md", "cases.csv"


class CheckConfig(BaseModel):
    """Configuration of `isocenter check`.

    Attributes:
        task: Name of a task, or folder of an adapted one.
        out: Folder to write; must not exist or be empty unless `overwrite`.
        data: Labelled set to measure it on; None measures nothing but what its folder held out.
        groups: Table of case (or patient) and columns to make groups of.
        corrupt: Corruptions to draw curves of; "auto" for all that are meant for the images.
        corrupt_cases: Most cases that are made worse.
        modality: Of images whose file says none, stated by you.
        body_part: Of images whose file says none, stated by you.
        seen: Whether the task learnt from images of the set, said by you; None finds it out where that can be.
        most_abstained: Share of the cases that it may abstain from.
        most_seconds: That 19 of 20 answers may take; None for no limit.
        largest_gap: Between a group and the rest that is tolerated, in the unit of the first figure.
        tolerance_mm: Of the normalised surface Dice.
        resamples: How many resamples of patients.
        pictures: Whether the page shows the worst cases.
        seed: Of everything random.
        overwrite: Whether an older scorecard under `out` is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    out: Path
    data: Path | None = None
    groups: Path | None = None
    corrupt: tuple[str, ...] = ("auto",)
    corrupt_cases: int | None = Field(default=30, ge=1)
    modality: Coded | None = None
    body_part: Coded | None = None
    seen: bool | None = None
    most_abstained: float = Field(default=0.5, ge=0, le=1)
    most_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    largest_gap: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    tolerance_mm: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    resamples: int = Field(default=1000, ge=100, le=100_000)
    pictures: bool = True
    seed: int = Field(default=0, ge=0)
    overwrite: bool = False
    audit: Path | None = None


def check(task: str, out: Path | str, *, progress: Progress | None = None, **settings: Any) -> ScorecardDocument:
    """Check whether a task may serve, and write its scorecard.

    Args:
        task: Name of a task, or folder of an adapted one.
        out: Folder to write.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `CheckConfig`.

    Returns:
        The document that stands in ``out/scorecard.json``; read `passed`.

    Raises:
        ConfigError: A setting is wrong, or there is no such task.
        DataError: The labelled set can't be read, or is of another kind than the task's answers.
        ModelError: The task can't run at all.
    """
    config = configured(CheckConfig, task=task, out=Path(out), **settings)
    return run(config, progress)


def run(config: CheckConfig, progress: Progress | None = None) -> ScorecardDocument:
    """Do what a `CheckConfig` says; see `check`."""
    labelled = None if config.data is None else open_labelled(config.data)
    return run_on(config, labelled, progress)


def run_on(
    config: CheckConfig,
    labelled: LabelledSet | None,
    progress: Progress | None = None,
    *,
    notes: Sequence[str] = (),
) -> ScorecardDocument:
    """Do what a `CheckConfig` says with a labelled set that is already open.

    Args:
        config: The configuration.
        labelled: The set; None for none.
        progress: Called with the stage and how much is done.
        notes: What a reader must know of the set.
    """
    with audited(config.audit, "check") as audit:
        return _checked(config, labelled, (progress or (lambda _stage, _done: None), audit), notes)


def _checked(
    config: CheckConfig, labelled: LabelledSet | None, told: tuple[Progress, Path | None], notes: Sequence[str]
) -> ScorecardDocument:
    tell, audit = told
    check_out(config.out, DOCUMENT, overwrite=config.overwrite)
    if config.groups is not None and labelled is None:
        raise ConfigError("groups are of cases: give --data SET with --groups TABLE")
    if config.seen is not None and labelled is None:
        raise ConfigError("whether the set was learnt from is said of a set: give --data SET")
    (entry,) = choose_tasks((config.task,)).entries.values()
    weights, learnt = weights_of(config.task, entry), _learnt(config.task)
    checks = statement_checks(entry, weights)
    checks += preflight_checks(weights, lambda what, done: tell(what, 0.1 * done))
    measured = _measuring(config)
    tell("asking the task", 0.1)
    checks += task_checks(entry, _first(entry, labelled, measured), config.seed)
    outcome, system, document, more = _measure(
        entry, config, labelled, lambda what, done: tell(what, 0.15 + 0.8 * done)
    )
    if system is not None and document is None:
        document = document_of(system, measured)
    seen, said = seen_before(config, weights, outcome)
    more = [*more, *said]
    checks += latency_check(outcome, config.most_seconds)
    checks += [
        abstention_check(outcome, config.most_abstained),
        calibration_check(weights, learnt),
        *coverage_checks(outcome, seen),
        gate_check(entry.card, weights, learnt),
        subgroup_check(document, config.largest_gap, seen),
    ]
    passed, against = verdict(checks)
    made = provenance(measured, {w.card.name: w.card.sha256 for w in weights})
    card = ScorecardDocument(
        created=created_now(),
        task=entry.card.name,
        passed=passed,
        against=tuple(c.name for c in against),
        checks=tuple(checks),
        card=card_entry(entry, weights),
        evaluation=document,
        notes=(*notes, *more),
        provenance=made,
    )
    pictures = {}
    if config.pictures and outcome is not None and system is not None and document is not None:
        tell("drawing the worst cases", 0.95)
        pictures = worst_pictures(config.task, outcome, system, document, run_settings(measured))
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as folder:
        (folder / DOCUMENT).write_text(card.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / PAGE).write_text(render_scorecard(card, pictures), "utf-8")
        (folder / CARD_PAGE).write_text(model_card(card), "utf-8")
        if system is not None:
            write_cases(folder / CASES, system)
        written = sorted(file_sha256(file) for file in folder.iterdir())
        record_run(audit, "check", () if outcome is None else outcome.asked, outputs=written)
    tell("done", 1.0)
    return card


def _measuring(config: CheckConfig) -> EvaluateConfig:
    """Return how the task is measured."""
    return EvaluateConfig(
        out=config.out, task=config.task, data=config.data, groups=config.groups, corrupt=config.corrupt,
        corrupt_cases=config.corrupt_cases, modality=config.modality, body_part=config.body_part,
        tolerance_mm=config.tolerance_mm, resamples=config.resamples, pictures=config.pictures, seed=config.seed,
        overwrite=config.overwrite,
    )  # fmt: skip


def _measure(
    entry: TaskEntry, config: CheckConfig, labelled: LabelledSet | None, tell: Progress
) -> tuple[Outcome | None, System | None, EvaluationDocument | None, list[str]]:
    """Measure the task on a set, or take what its folder held out; else nothing."""
    measured = _measuring(config)
    if labelled is not None and entry.card.needs_prompt:
        note = "the task needs someone who points: it was not run on the set (see benchmarks.interactive_dice)"
        return None, None, None, [note]
    if labelled is not None:
        outcome = ask(entry, labelled, run_settings(measured), lambda what, done: tell(what, 0.8 * done))
        try:
            system = system_of(outcome)
        except DataError as error:
            return outcome, None, None, [f"nothing could be measured on the set: {error}"]
        document = document_of(
            system, measured, outcome=outcome, tell=lambda what, done: tell(what, 0.8 + 0.2 * done)
        )  # fmt: skip
        return outcome, system, document, []
    folder, learnt = task_folder(config.task), _learnt(config.task)
    if folder is None or learnt is None:
        return None, None, None, []
    if not (folder / HELD_OUT).is_file():
        return None, None, None, ["the table of held-out cases does not ship: give --data SET to measure it"]
    try:
        return None, held_out_system(folder, learnt), None, []
    except DataError as error:
        return None, None, None, [f"the held-out cases in its folder could not be used: {error}"]


def seen_before(config: CheckConfig, weights: Sequence[Weights], outcome: Outcome | None) -> tuple[str, list[str]]:
    """Return why promises and gaps on the set say little, where the task learnt from its images, and notes.

    A learnt task's folder lists the hashes of what it learnt from; the weights that ship bring a list of their training
    images' pixels. Of other weights it is not known, and only you can say so (`seen`).
    """
    if outcome is None or config.seen is False:
        return "", []
    total = len(outcome.hashes)
    count, notes = _learnt_from(config.task, weights, outcome)
    if not count and not config.seen:
        return "", notes
    which = "the cases are those that it learnt from" if config.seen or count == total else (
        f"{count} of {total} cases are those that it learnt from: take them out"
    )  # fmt: skip
    if count:
        notes.append(f"{count} of {total} images of this set were learnt from: figures on them are too good")
    elif config.seen:
        notes.append("this set was learnt from, as whoever ran the check says: figures on it are too good")
    return which, notes


def _learnt_from(task: str, weights: Sequence[Weights], outcome: Outcome) -> tuple[int, list[str]]:
    """Return how many images of the set were learnt from, as far as that is known, and notes."""
    folder = task_folder(task)
    file = None if folder is None else folder / CONFIG
    if file is not None and file.is_file():
        try:
            learnt = {str(c["sha256"]) for c in json.loads(file.read_text("utf-8"))["data"]["cases"]}
        except (ValueError, KeyError, TypeError):
            return 0, ["config.json in its folder does not say what it learnt from: if it saw these cases is not known"]
        return sum(one in learnt for one in outcome.hashes), []
    pixels: set[str] = set()
    untold = []
    for one in weights:
        listed = training_pixels(one.card.name) if not isinstance(one.place, Path) else None
        pixels |= listed or set()
        if listed is None and one.card.training_data:
            untold.append(one.card.name)
    notes = [f"whether {', '.join(untold)} learnt from these images is not known"] if untold else []
    if not pixels:
        return 0, notes
    shown = (values_fingerprint(case.image().array)[:DIGITS] for case in outcome.cases)
    return sum(one in pixels for one in shown), notes


def _first(entry: TaskEntry, labelled: LabelledSet | None, config: EvaluateConfig) -> Study | None:
    """Return the first case that can be read and that fits the card."""
    if labelled is None:
        return None
    for case in labelled.cases:
        try:
            image = read_stated(case, run_settings(config))
        except (DataError, OSError):
            continue
        if entry.card.misfit(image) is None:
            return Study(case.patient, images=(image,))
    return None


def _learnt(task: str) -> LearntFile | None:
    folder = task_folder(task)
    if folder is None or not is_learnt_folder(folder):
        return None
    return LearntFile.model_validate_json((folder / TASK_FILE).read_bytes())


def weights_of(task: str, entry: TaskEntry) -> list[Weights]:
    """Return the weights behind a task: of a folder all in it, of an installed one those that its card names."""
    folder = task_folder(task)
    if folder is not None and (folder / TASK_FILE).is_file():
        files = sorted((*folder.glob("*.safetensors"), *(folder / "base").glob("*.safetensors")))
        return [Weights(file, read_card(file)) for file in files]
    wanted = [entry.card.weights]
    if entry.card.name == INTERACT.name and VOLUME_WEIGHTS:
        wanted.append(VOLUME_WEIGHTS)
    known = {card.name: card for card in list_cards()}
    return [Weights(name, known[name]) for name in wanted if name in known]


def card_entry(entry: TaskEntry, weights: Sequence[Weights]) -> CardEntry:
    """Return what the task and its weights say of themselves."""
    card = entry.card
    figures: dict[tuple[str, str], FigureEntry] = {}
    for metric in (m for w in weights for m in w.card.metrics):
        figures.setdefault(
            (metric.name, metric.structure),
            FigureEntry(
                name=metric.name, structure=metric.structure, unit=metric.unit, value=metric.value, low=metric.low,
                high=metric.high, level=metric.level, patients=metric.count, cases=None,
            ),
        )  # fmt: skip
    cards = [w.card for w in weights]
    return CardEntry(
        name=card.name,
        title=card.title,
        version=card.version,
        licence=card.licence,
        intended_use=card.intended_use,
        not_for=card.not_for,
        modalities=card.modalities,
        body_parts=card.body_parts,
        prompts=card.prompts,
        weights_sha256=tuple(c.sha256 for c in cards),
        training_data=_once([f"{d.name} ({d.licence}), {d.cases} images" for c in cards for d in c.training_data])
        or (("synthesis alone",) if cards else ()),
        limitations=_once([line for c in cards for line in c.limitations]),
        figures=tuple(figures.values()),
        how=_once([m.how for c in cards for m in c.metrics]),
    )


def _once(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def model_card(card: ScorecardDocument) -> str:
    """Return the model card as a Markdown page."""
    said = card.card
    lines = [f"# {said.title} (`{said.name}`, version {said.version})", ""]
    lines += [f"**Intended use.** {said.intended_use}", "", f"**Not for.** {said.not_for}", ""]
    lines += [f"**Licence.** {said.licence}", ""]
    lines += [f"**Learnt from.** {'; '.join(said.training_data) or 'not stated'}", ""]
    said_no = f"No. Against it: {', '.join(card.against)}."
    lines += [f"**May it serve?** {'Yes: no check stands against it.' if card.passed else said_no}", ""]
    lines += ["## Checks", "", "| check | status | what was found |", "| - | - | - |"]
    lines += [f"| {c.name} | {c.status} | {_cell(c.words)} |" for c in card.checks]
    for title, figures in (
        ("Measured by its makers", said.figures),
        ("Measured here", () if card.evaluation is None else card.evaluation.figures),
    ):
        lines += ["", f"## {title}", ""]
        if not figures:
            lines.append("Not measured.")
            continue
        lines += ["| metric | of | value | interval | patients |", "| - | - | - | - | - |"]
        for f in figures:
            value = "not defined" if f.value is None else f"{f.value:.3f}{'' if f.unit == '1' else ' ' + f.unit}"
            interval = "" if f.low is None or f.high is None else f"{f.low:.3f} to {f.high:.3f}"
            lines.append(f"| {f.name} | {_cell(f.structure)} | {value} | {interval} | {f.patients} |")
    lines += ["", "## Limitations", "", *(f"- {line}" for line in said.limitations or ("None stated.",))]
    lines += [f"- {line}" for line in card.notes]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
