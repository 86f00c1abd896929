"""Adapt to a labelled set: images and labels in, a task with its held-out figures out."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError, DataError, IsocenterError
from isocenter.data.images.atomic import atomic_folder, explain_os_error, make_parent
from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.learn.adaptation.settings import DataSettings, SetsChoice
from isocenter.plugins import task_entries
from isocenter.safety.acquisition import Acquisition
from isocenter.tasks.learnt.cards import learnt_card
from isocenter.tasks.learnt.groups import canonical, fact_of
from isocenter.tasks.segment.adapted.cards import Fit
from isocenter.verbs.adapted_folder import card_fields, check_out
from isocenter.verbs.clinical import clinical_columns
from isocenter.verbs.evaluation.tables import group_columns, read_table
from isocenter.verbs.learnt_folder import write_learnt
from isocenter.verbs.provenance import code_version, created_now, machine, package_versions, python_version
from isocenter.verbs.read import Coded, Progress
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isocenter.core import Image
    from isocenter.learn.adaptation.fingerprint import Read
    from isocenter.learn.adaptation.rules import Wish
    from isocenter.learn.adaptation.run import AdaptedSet
    from isocenter.models.weights import Weights

__all__ = ["AdaptDataConfig", "AdaptDataResult", "Figure", "adapt_data", "learn_network", "read_card_file", "run"]

_NAME = r"^[a-z0-9][a-z0-9-]{0,48}$"
_CARD = (
    "title", "modalities", "body_parts", "intended_use", "not_for", "licence", "data_licence",
    "data_name", "data_source", "class_names",
)  # fmt: skip
_LAYOUTS = 48
"""Images whose layout of light and dark is kept: a further image must be like one of them."""


class AdaptDataConfig(DataSettings):
    """Configuration of `isocenter adapt --data`: how to learn (`DataSettings`), from what, and where to.

    Attributes:
        data: The labelled set: a folder or a file (`isocenter.data.labelled`).
        out: Folder of the task; must not exist or be empty unless `overwrite`.
        work: Folder for checkpoints; a call that was interrupted goes on from it. None for one beside `out`, which is
            removed at the end.
        name: Name of the task; by default the set's.
        weights: Weights of a backbone to begin with: a built-in name, or a path. None begins anew.
        licence: Licence of the task.
        data_licence: Licence of the set, for the cards, where the set does not say.
        data_name: Of the set, for the cards; by default that of its folder or file.
        class_names: Of the classes or findings, in the set's order, where its own are not what a reader should see.
        data_source: Where the set comes from and whom to name, for the cards.
        title: What its card calls it; by default its name and classes.
        modalities: DICOM modalities that it takes; by default those of the set's files, any where a file says none.
        body_parts: DICOM body parts that it takes; any where none is given.
        intended_use: What its card says it is for.
        not_for: What its card says it is not for.
        sets: How sets of classes are made: "lac" over all cases, "class" (LAC within each class), "aps", "raps"; "auto"
            is "class" where each class has 20 held-out cases, else "lac".
        groups: Table of case (or patient) and columns, for promises that hold within a group.
        promise_by: Which column.
        replaces: Whether it may bear the name of an installed task: to ship in its place.
        clinical: Table of case (or patient) and covariates, to join with the answers: numbers with their unit in the
            heading ("age [a]"), or words. Fitted on held-out answers; told beside an answer, never a part of it.
        cases: Whether an index of the cases that it learnt from is kept, for answers to name the nearest confirmed
            ones: what the networks see of each (numbers made from the image), its label, a piece of the image's hash.
        overwrite: Whether an older adapted task under `out` is replaced.
    """

    data: Path
    out: Path
    work: Path | None = None
    name: str | None = Field(default=None, pattern=_NAME)
    weights: str | None = None
    licence: str = Field(default="LicenseRef-as-the-labelled-set", min_length=1, max_length=64)
    data_licence: str | None = Field(default=None, min_length=1, max_length=64)
    data_name: str | None = Field(default=None, min_length=1, max_length=64)
    class_names: tuple[str, ...] = ()
    data_source: str = Field(default="this installation", min_length=1, max_length=500)
    title: str | None = Field(default=None, min_length=1, max_length=64)
    modalities: tuple[Coded, ...] = ()
    body_parts: tuple[Coded, ...] = ()
    intended_use: str | None = Field(default=None, min_length=1, max_length=500)
    not_for: str | None = Field(default=None, min_length=1, max_length=500)
    sets: SetsChoice = "auto"
    groups: Path | None = None
    promise_by: str | None = Field(default=None, min_length=1, max_length=64)
    replaces: bool = False
    clinical: Path | None = None
    cases: bool = True
    overwrite: bool = False


class Figure(BaseModel):
    """A held-out figure; `low` and `high` bound its 95 % interval over patients, where there are enough of them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    structure: str
    value: float
    low: float | None = None
    high: float | None = None
    count: int


class AdaptDataResult(BaseModel):
    """What was learnt, and what it is worth.

    Attributes:
        task: Name of the task.
        folder: Its folder; give it to `--task`.
        kind: Of its answers.
        classes: Their names.
        cases: That were learnt from or held out.
        left_out: Cases that could not be read, and why.
        figures: On held-out cases.
        networks: How many.
        steps: Of each.
        seconds: All of it.
        notes: What was done to the set, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    folder: Path
    kind: str
    classes: tuple[str, ...]
    cases: int
    left_out: dict[str, str]
    figures: tuple[Figure, ...]
    networks: int
    steps: int
    seconds: float
    notes: tuple[str, ...] = ()


def adapt_data(
    data: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any
) -> AdaptDataResult:
    """Learn a task from a labelled set.

    Args:
        data: The set: an nnU-Net raw folder, a Decathlon folder, a MedMNIST .npz, a CSV table, images/ and labels/, or
            a folder for each class.
        out: Folder of the task.
        progress: Called with what is done and how much of the whole.
        **settings: Any further field of `AdaptDataConfig`.

    Returns:
        The task's name, and its held-out figures.

    Raises:
        ConfigError: A setting is wrong or does not fit the set, or the folder is taken.
        DataError: The set can't be learnt from.
        WeightsError: The weights to begin with can't be used.
        CapabilityError: A package that learning needs is not installed.
    """
    return run(_config(data, out, settings), progress)


def learn_network(
    data: Path | str, out: Path | str, number: int, *, progress: Progress | None = None, **settings: Any
) -> int:
    """Learn one network of a task: others learn beside it, in processes or on machines of their own.

    `adapt_data` with the same settings then finds them in `work`, learns those that are missing, and writes the task.

    Args:
        data: The set.
        out: Folder of the task to be; nothing is written there.
        number: Which network, from 1.
        progress: Called with what is done and how much of the whole.
        **settings: Of `AdaptDataConfig`; `work` and `steps` are needed.

    Returns:
        Steps that it has taken.

    Raises:
        ConfigError: A setting is wrong or missing, or there is no such network.
        DataError: The set can't be learnt from.
        WeightsError: The weights to begin with can't be used.
        CapabilityError: A package that learning needs is not installed.
    """
    config = _config(data, out, settings)
    if config.work is None:
        raise ConfigError("one network learns into the folder of checkpoints that all share: give --work FOLDER")
    _check(config)
    labelled, start, learning = _opened(config)
    _clinical(config, labelled, _wish(config, labelled)[1])  # what gathering would refuse is refused now
    from isocenter.learn.adaptation.run import learn_one

    try:
        return learn_one(labelled, learning, config.work, number - 1, start=start, tell=progress).steps
    except OSError as error:
        raise explain_os_error(error, config.work, doing="write") from error


def _config(data: Path | str, out: Path | str, settings: Mapping[str, Any]) -> AdaptDataConfig:
    return configured(AdaptDataConfig, data=Path(data), out=Path(out), **settings)


def read_card_file(file: Path) -> dict[str, Any]:
    """Return what a YAML file says that the task's card should: some of the fields of `AdaptDataConfig`.

    Raises:
        ConfigError: It can't be read, or says something else.
    """
    try:
        said = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file.name}: not a YAML file that can be read") from error
    if not isinstance(said, dict) or not set(said) <= set(_CARD):
        raise ConfigError(f"{file.name}: a card says {', '.join(_CARD)}, and nothing else")
    return said


def run(config: AdaptDataConfig, progress: Progress | None = None) -> AdaptDataResult:
    """Do what an `AdaptDataConfig` says; see `adapt_data`."""
    tell = progress or (lambda _stage, _done: None)
    started = time.monotonic()
    _check(config)
    tell("opening the set", 0.0)
    labelled, start, settings = _opened(config)
    from isocenter.learn.adaptation.run import adapt_to_set

    out = config.out.resolve()
    work = config.work or out.with_name(f".{out.name}.learning")
    try:
        wish, notes = _wish(config, labelled)
        table = _clinical(config, labelled, notes)
        known: list[tuple[Fit, Acquisition]] = []

        def agree(read: Sequence[Read], held: Sequence[Read]) -> None:
            notes.extend(_promised(labelled, held, wish))
            _check_clinical(labelled, held, table)
            known.append(_known([one.image for one in read], labelled, config.seed))

        found = adapt_to_set(
            labelled, settings, work, start=start, tell=lambda what, done: tell(what, 0.95 * done), agree=agree
        )
        tell("writing the task", 0.97)
        found = replace(found, notes=(*found.notes, *notes, *_near(found, config)))
        result = _write(config, labelled, (found, wish, table), (start, *known[0]), started)
    except OSError as error:
        raise explain_os_error(error, config.out, doing="write") from error
    except IsocenterError:
        if config.work is None and not list(work.glob("*/checkpoint.pt")):
            _remove(work)  # refused before anything was learnt
        raise
    if config.work is None:
        _remove(work)
    return result


def _opened(config: AdaptDataConfig) -> tuple[LabelledSet, Weights | None, DataSettings]:
    labelled = open_labelled(config.data)
    labelled = replace(
        labelled, licence=labelled.licence or config.data_licence or "", name=config.data_name or labelled.name
    )
    if config.class_names:
        if len(set(config.class_names)) != len(labelled.classes) or not all(config.class_names):
            raise ConfigError(f"class_names: the set has {len(labelled.classes)} classes, each needs a name of its own")
        labelled = replace(labelled, classes=config.class_names)
    settings = DataSettings(**{key: getattr(config, key) for key in DataSettings.model_fields})
    return labelled, _weights(config), settings


def _check(config: AdaptDataConfig) -> None:
    check_out(config.out, config.data, overwrite=config.overwrite)
    if (config.groups is None) != (config.promise_by is None):
        raise ConfigError(
            "promises by group need a table and its column: give both --groups TABLE and --promise-by COLUMN"
        )
    if config.work is not None and config.work.resolve() == config.out.resolve():
        raise ConfigError(f"{config.out} can't hold both the task and its checkpoints; give another --work")
    entries, _ = task_entries()
    if config.name in entries and not config.replaces:
        raise ConfigError(f"an installed task is named {config.name!r}; choose another --name")


def _weights(config: AdaptDataConfig) -> Weights | None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "safetensors") if find_spec(name) is None]
    if missing:
        raise CapabilityError(f"adapting needs {', '.join(missing)}: pip install 'isocenter[torch]'")
    if config.weights is None:
        return None
    from isocenter.models.weights import load_weights

    return load_weights(config.weights)


def _wish(config: AdaptDataConfig, labelled: LabelledSet) -> tuple[Wish, list[str]]:
    """Return what is asked of the promises, with the group of each case, and notes on the table of groups."""
    from isocenter.learn.adaptation.rules import Wish

    if config.groups is None or config.promise_by is None:
        return Wish(config.sets), []
    table, column = read_table(config.groups), config.promise_by
    columns, notes = group_columns(
        [case.name for case in labelled.cases], [case.patient for case in labelled.cases], table
    )
    if column not in columns:
        raise ConfigError(f"--promise-by {column}: the table of groups has {', '.join(columns)}")
    values = (canonical(column, value) for value in columns[column])
    groups = dict(zip((case.name for case in labelled.cases), values, strict=True))
    return Wish(config.sets, column, groups), list(notes)


def _promised(labelled: LabelledSet, held: Sequence[Read], wish: Wish) -> list[str]:
    """Refuse what the cases to be held out can't promise; return in words which groups get a promise of their own."""
    from isocenter.learn.adaptation.rules import check_wish

    wish = replace(wish, keys={one.case.name: one.image.sha256 for one in held})
    names, targets = [one.case.name for one in held], [one.case.target for one in held]
    try:
        groups = check_wish(labelled.kind, labelled.classes, names, targets, wish)
    except DataError as error:
        raise DataError(str(error), source=labelled.name) from error
    if not groups:
        return []
    rest = len(held) - sum(groups.values())
    said = ", ".join(f"{group} ({count} held-out cases)" for group, count in groups.items())
    others = f"; the other {rest} share the promise over all" if rest else ""
    where = "" if fact_of(wish.by) else f"; no header says {wish.by}: a further image gets the promise over all"
    return [f"promises by {wish.by}: {said}{others}{where}"]


def _clinical(config: AdaptDataConfig, labelled: LabelledSet, notes: list[str]) -> Mapping[str, Mapping[str, str]]:
    """Return the row of the clinical table of each case, by its name; nothing where no table was given."""
    if config.clinical is None:
        return {}
    names = [case.name for case in labelled.cases]
    columns, said = clinical_columns(config.clinical, names, [case.patient for case in labelled.cases])
    notes.extend(said)
    return {name: {c: cells[i] for c, cells in columns.items()} for i, name in enumerate(names)}


def _cells(names: Sequence[str], table: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    return {column: [table[name][column] for name in names] for column in next(iter(table.values()))}


def _check_clinical(labelled: LabelledSet, held: Sequence[Read], table: Mapping[str, Mapping[str, str]]) -> None:
    from isocenter.learn.adaptation.combine import check_clinical

    if table:
        columns = _cells([one.case.name for one in held], table)
        check_clinical(labelled.kind, len(labelled.classes), [one.case.target for one in held], columns)


def _joined(
    labelled: LabelledSet, found: AdaptedSet, table: Mapping[str, Mapping[str, str]], promise: Mapping[str, object]
) -> Mapping[str, object] | None:
    """Return how answers are joined with the clinical table; None where none was given."""
    from isocenter.learn.adaptation.combine import combination_of
    from isocenter.learn.adaptation.promise import joined

    if not table:
        return None
    rows = joined(found.vectors)
    temperature = float(str(promise.get("temperature", 1.0)))
    return combination_of(labelled.kind, rows, temperature, _cells([row.name for row in rows], table)).as_card()


def _near(found: AdaptedSet, config: AdaptDataConfig) -> list[str]:
    """Say what the nearest cases are worth."""
    worth = found.retrieval
    if worth is None or not config.cases:
        return []
    return [
        f"nearest confirmed cases, {worth['measure']}: {float(str(worth['value'])):.2f} on held-out cases, chance "
        f"{float(str(worth['chance'])):.2f}"
    ]


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _known(images: Sequence[Image], labelled: LabelledSet, seed: int) -> tuple[Fit, Acquisition]:
    return _fit(images, labelled, seed), Acquisition.of(images)


def _fit(images: Sequence[Image], labelled: LabelledSet, seed: int) -> Fit:
    """Return what an image must be like: limits from all, layouts of light and dark from some."""
    name = " / ".join(labelled.classes)
    fit = Fit.of(images, name)
    sample = [images[i] for i in sorted(np.random.default_rng(seed).permutation(len(images))[:_LAYOUTS])]
    few = Fit.of(sample, name)
    return fit.model_copy(update={"layouts": few.layouts, "least_likeness": few.least_likeness})


def _write(
    config: AdaptDataConfig,
    labelled: LabelledSet,
    learnt: tuple[AdaptedSet, Wish, Mapping[str, Mapping[str, str]]],
    given: tuple[Weights | None, Fit, Acquisition],
    started: float,
) -> AdaptDataResult:
    from isocenter.learn.adaptation.card import figures_of, held_out_rows, network_card, promise_of, way_of

    found, wish, table = learnt
    name = config.name or _task_name(labelled.name)
    way = way_of(labelled, found)
    figures, promise = figures_of(labelled, found, way), promise_of(labelled, found, wish)
    start, fit, acquisition = given
    licence = config.licence if config.licence != AdaptDataConfig.model_fields["licence"].default else (
        labelled.licence or config.licence
    )  # fmt: skip
    preparation = found.plan.preparation
    card = learnt_card(
        name, labelled.kind, labelled.classes, modalities=config.modalities or found.found.modalities,
        dims=found.found.dims, spacing=preparation.spacing_mm is not None, licence=licence,
    )  # fmt: skip
    said = {key: getattr(config, key) for key in ("title", "intended_use", "not_for", "body_parts")}
    card = replace(card, **{key: value for key, value in said.items() if value})
    document = {
        "card": card_fields(card),
        "kind": labelled.kind,
        "classes": labelled.classes,
        "fit": fit,
        "preparation": preparation.as_card(),
        "network": found.plan.network.as_card(),
        "window": found.plan.window,
        "mirror": found.plan.alteration.mirror,
        "scales": [(m.scale.mean, m.scale.deviation) for m in found.members],
        "shifts": [m.scale.shift for m in found.members],
        "promise": promise,
        "ungated": found.ungated,
        "acquisition": acquisition.as_card(),
        "retrieval": found.retrieval if config.cases else None,
        "clinical": _joined(labelled, found, table, promise),
    }
    command = "isocenter adapt --data SET --out TASK"
    members = [
        (
            m.arrays,
            network_card(
                f"{name}-{m.part.number}",
                labelled,
                found,
                m,
                figures=figures,
                licence=licence,
                command=command,
                source=config.data_source,
            ),
        )
        for m in found.members
    ]
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as place:
        write_learnt(
            place, document, members=members, held_out=held_out_rows(labelled, found),
            config=_made(config, labelled, found, start, name),
            kept=(found.gate, found.index if config.cases else None),
        )  # fmt: skip
    return AdaptDataResult(
        task=name,
        folder=config.out,
        kind=labelled.kind,
        classes=labelled.classes,
        cases=len(found.sources),
        left_out=dict(found.failed),
        figures=tuple(Figure.model_validate(f) for f in figures),
        networks=len(found.members),
        steps=found.settings.steps or 0,
        seconds=round(time.monotonic() - started, 1),
        notes=found.notes,
    )


def _made(
    config: AdaptDataConfig, labelled: LabelledSet, found: AdaptedSet, start: Weights | None, name: str
) -> Mapping[str, Any]:
    """Return what `config.json` says: everything that is needed to learn it again, and no path."""
    settled: DataSettings = found.settings
    return {
        "verb": "adapt",
        "config": {
            **settled.model_dump(mode="json"),
            "name": name,
            "sets": config.sets,
            "promise_by": config.promise_by,
        },
        "seed": config.seed,
        "data": {
            "kind": "labelled set",
            "name": labelled.name,
            "cases": [{"name": case, "sha256": sha256} for case, sha256 in found.sources],
            "left_out": dict(found.failed),
            "notes": found.notes,
            "patients_known": labelled.patients_known,
            "fingerprint": found.found.as_card(),
        },
        "plan": found.plan.as_card(),
        "networks": [
            {
                "number": m.part.number,
                "learnt": len(m.part.learnt),
                "validation": len(m.part.validation),
                "held_out": len(m.part.held_out),
                "steps": m.learnt.steps,
                "best_step": m.learnt.step,
                "learning_rate": rate,
                "validation_figures": m.learnt.validation,
                "seconds": round(m.learnt.seconds, 1),
            }
            for m, rate in zip(found.members, found.rates, strict=True)
        ],
        "began_from": None if start is None else {"name": start.card.name, "sha256": start.card.sha256},
        "at": created_now(),
        **code_version(),
        "python": python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


def _task_name(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    return f"{plain or 'set'}-task"
