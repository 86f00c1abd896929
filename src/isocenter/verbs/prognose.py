"""Prognose: when an event comes, learnt from a clinical table, and told for a person with a band, or not told.

Learning: table -> typed columns, leakage and gaps looked at -> nested cross-validation by patient for every way of
learning that is asked -> the best is learnt from all, with resampled models for its bands -> a folder.
Asking: a folder and people -> risk curves, what drove them, the nearest patients; whom no such patients stand for is
not answered.
"""

from __future__ import annotations

import time as clock
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.tables import Codes, read_clinical
from isocenter.evaluate.ranking import concordance
from isocenter.tasks.prognose.bands import refits
from isocenter.tasks.prognose.learners import (
    Choice,
    CompetingLearner,
    CoxLearner,
    FineGrayLearner,
    ForestLearner,
    Learner,
    learn,
)
from isocenter.tasks.prognose.nested import HeldOut, nested, patient_folds
from isocenter.tasks.prognose.people import fit_support
from isocenter.tasks.prognose.preparing import LEAST_OF_SCANNER
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.prognosis.asking import PeopleConfig, prognose_people
from isocenter.verbs.prognosis.blocks import read_blocks
from isocenter.verbs.prognosis.document import (
    ColumnEntry,
    LearnerEntry,
    PrognosisModel,
)
from isocenter.verbs.prognosis.figures import (
    COMPETING_ORDER,
    ORDER,
    calibration_at,
    figures_of,
    integral_days,
    taken_of,
)
from isocenter.verbs.prognosis.inputs import Asked, Cohort, cohort_of
from isocenter.verbs.prognosis.keeping import ARRAYS, MODEL, PAGE, check_place, model_bytes
from isocenter.verbs.prognosis.page import render_model
from isocenter.verbs.provenance import code_version, created_now
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = ["PeopleConfig", "PrognoseConfig", "prognose", "prognose_people", "run"]

Progress = Callable[[str, float], None]
LearnerName = Literal["cox", "forest", "deepsurv", "discrete", "fusion", "fusion-deepsurv", "fine-gray"]
_FEW_EVENTS = 10
"""Events for each covariate below which a fit is known to be shaky (a rule of thumb)."""
_CURVE_DAYS = 60
_REFUSED_SHARE = 0.01


class PrognoseConfig(BaseModel):
    """Configuration of `isocenter prognose` when it learns.

    Attributes:
        table: CSV or ARFF, a row for each person; units stand in the heading ("age [a]").
        out: Folder to write.
        time: Column of the time to the event, or until last seen; of days where its heading has no unit.
        event: Column of the event.
        horizon_days: Day that is asked about.
        event_code: Value of the event.
        censored_code: Value of those last seen without any event.
        competing: Values of events after which the one asked about can't happen.
        patient: Column of the patient; without it each row is a patient.
        index_time: Column of the date of prediction; what is dated later is no feature.
        dated_by: Date column of other columns, by name ("NAME date" is found without).
        features: Columns that are learnt from; empty for all that may be.
        leave_out: Columns that are not.
        kinds: What columns hold, by name: number, category, boolean or date.
        units: Units wanted, by column.
        group: Column by which what is missing is told.
        blocks: Modalities beside the table, joined by patient: NAME=FILE (numbers), NAME=FOLDER (phenotypes),
            NAME=FILE:COLUMN (text) or NAME=:COLUMN (text of the table).
        batch: Column of the scanner: blocks of numbers are harmonised across scanners inside folds.
        components: Principal components that each block is reduced to at most, inside folds.
        learners: To compare: cox, forest, deepsurv, discrete, and over blocks fusion (hazards) and fusion-deepsurv;
            competing events have cox (a regression for each event) and fine-gray.
        folds: Outer folds.
        inner: Inner folds.
        refits: Models of resampled patients, for bands.
        trees: Of a forest.
        resamples: Of patients, for the intervals of figures.
        overwrite: Whether an older model is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        seed: Of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Path
    out: Path
    time: str
    event: str
    horizon_days: float = Field(gt=0)
    event_code: str = "1"
    censored_code: str = "0"
    competing: tuple[str, ...] = ()
    patient: str | None = None
    index_time: str | None = None
    dated_by: dict[str, str] = {}
    features: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    kinds: dict[str, Literal["number", "category", "boolean", "date"]] = {}
    units: dict[str, str] = {}
    group: str | None = None
    blocks: tuple[str, ...] = ()
    batch: str | None = None
    components: int = Field(default=8, ge=1)
    learners: tuple[LearnerName, ...] = Field(default=("cox", "forest"), min_length=1)
    folds: int = Field(default=5, ge=2)
    inner: int = Field(default=3, ge=2)
    refits: int = Field(default=50, ge=10)
    trees: int = Field(default=200, ge=1)
    resamples: int = Field(default=500, ge=20)
    overwrite: bool = False
    audit: Path | None = None
    seed: int = Field(default=0, ge=0)


def prognose(
    table: Path | str, out: Path | str, *, time: str, event: str, horizon_days: float, progress: Progress | None = None,
    **settings: Any,
) -> PrognosisModel:  # fmt: skip
    """Learn a prognosis from a table, and measure it.

    Args:
        table: CSV or ARFF, a row for each person.
        out: Folder to write.
        time: Column of the time.
        event: Column of the event.
        horizon_days: Day that is asked about.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `PrognoseConfig`.

    Returns:
        What stands in ``out/model.json``.

    Raises:
        ConfigError: A setting is wrong, a column names patients and nobody said so, or the folder is taken by what is
            no model of ours, or holds the table.
        DataError: The table can't be read, times can't be, nobody had the event, too few did, or a column that was
            named leaks.
        CapabilityError: A network is asked for and torchsurv is not installed.
        OutputError: The folder can't be written.
    """
    config = configured(
        PrognoseConfig, table=Path(table), out=Path(out), time=time, event=event, horizon_days=horizon_days, **settings
    )
    return run(config, progress)


def _learners(config: PrognoseConfig) -> list[Learner]:
    if config.competing:
        names = config.learners if "learners" in config.model_fields_set else ("cox", "fine-gray")
        if set(names) - {"cox", "fine-gray"}:
            raise ConfigError(
                "competing events have Cox regression alone here, of each event (--learner cox) or of the share that "
                "has the event (--learner fine-gray)"
            )
        made: dict[str, Learner] = {"cox": CompetingLearner(), "fine-gray": FineGrayLearner()}
        return [made[name] for name in dict.fromkeys(names)]
    if "fine-gray" in config.learners:
        raise ConfigError("fine-gray is of competing events: say which values they have with --competing")
    if not config.blocks and any(n.startswith("fusion") for n in config.learners):
        raise ConfigError("fusion joins several modalities: name them with --block NAME=FILE, or ask for another")
    found: list[Learner] = []
    for name in dict.fromkeys(config.learners):
        if name == "cox":
            found.append(CoxLearner())
        elif name == "forest":
            found.append(ForestLearner(trees=config.trees))
        elif name in ("fusion", "fusion-deepsurv"):
            from isocenter.tasks.prognose.fused import FusionLearner

            found.append(FusionLearner(name))
        elif name in ("deepsurv", "discrete"):
            from isocenter.tasks.prognose.deep import NetworkLearner

            found.append(NetworkLearner(name))
    return found


def run(config: PrognoseConfig, progress: Progress | None = None) -> PrognosisModel:
    """Do what a `PrognoseConfig` says; see `prognose`."""
    with audited(config.audit, "prognose") as audit:
        return _run(config, progress or (lambda _stage, _done: None), audit)


def _run(config: PrognoseConfig, tell: Progress, audit: Path | None) -> PrognosisModel:
    began = clock.monotonic()
    learners = _learners(config)
    read = read_blocks(config.blocks, table=config.table, patient=config.patient, batch=config.batch)
    sources = (config.table, *(Path(b.table.source) for b in read))
    check_place(config.out, (MODEL, ARRAYS), *sources, overwrite=config.overwrite)
    table = read_clinical(config.table, kinds=config.kinds, units=config.units, patient=config.patient)
    codes = Codes(config.event_code, config.censored_code, config.competing)
    # A column of the table that is a block of text is no feature besides.
    told = tuple(place[1:] for _, _, place in (b.partition("=") for b in config.blocks) if place.startswith(":"))
    asked = Asked(
        config.time, config.event, codes, config.index_time, config.features, (*config.leave_out, *told), config.group,
        config.dated_by, config.batch, config.components,
    )  # fmt: skip
    if config.batch and not config.blocks:
        raise ConfigError("--batch harmonises blocks across scanners: name them with --block NAME=FILE")
    cohort = cohort_of(table, asked, read)
    _check_horizon(cohort, config)
    at_days = np.concatenate([[config.horizon_days], integral_days(cohort.times, config.horizon_days)])
    folds = patient_folds(cohort.patients, cohort.times.happened, config.folds, seed=config.seed)
    entries = []
    for number, learner in enumerate(learners):
        held_out = nested(
            learner, cohort.people, cohort.times, patients=cohort.patients, folds=folds, at_days=at_days,
            choice=(config.inner, concordance, config.seed),
            progress=lambda done, n=number: tell(  # type: ignore[misc]
                f"cross-validating {learners[n].name}", 0.7 * (n + done) / len(learners)
            ),
        )  # fmt: skip
        entries.append(_entry(held_out, cohort, config, at_days))
    best = int(np.argmax([_order(entry) for entry in entries]))
    tell("learning from all", 0.75)
    inside = patient_folds(cohort.patients, cohort.times.happened, config.inner, seed=config.seed)
    trained = learn(learners[best], cohort.people, cohort.times, Choice(inside, concordance, config.seed))
    again = refits(
        learners[best], trained, cohort.people, cohort.times, cohort.patients, count=config.refits, seed=config.seed,
        progress=lambda done: tell("learning from resampled patients", 0.75 + 0.2 * done),
    )  # fmt: skip
    share = max(_REFUSED_SHARE, 1.5 / (len(cohort.people) + 1))
    support = fit_support(trained.preparation, cohort.people, cohort.patients, refused_share=share)
    curve = _curve_days(cohort, config.horizon_days)
    arrays = model_bytes(trained, again, support, cohort.people, cohort.times, curve)
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as folder:
        (folder / ARRAYS).write_bytes(arrays)
        known = trained.preparation.names
        model = _document(config, cohort, (entries, best, known), curve, file_sha256(folder / ARRAYS))
        (folder / MODEL).write_text(model.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / PAGE).write_text(render_model(model), "utf-8")
        inputs = sorted({model.data_sha256, *(b.sha256 for b in model.blocks if b.sha256)})
        seconds = round(clock.monotonic() - began, 3)
        record_run(audit, "prognose", (), inputs=inputs, outputs=(file_sha256(folder / MODEL),), seconds=seconds)
    return model


def _order(entry: LearnerEntry) -> float:
    """Return the concordance by which a way of learning is chosen."""
    found = [f.value for f in entry.figures if f.name in (ORDER, COMPETING_ORDER) and np.isfinite(f.value)]
    if not found:
        raise DataError(
            f"{entry.learner}: no pair of people of one fold is in known order, so no concordance can be told and none "
            "chosen by it; give more events, or ask for fewer folds"
        )
    return found[0]


def _check_horizon(cohort: Cohort, config: PrognoseConfig) -> None:
    last = float(cohort.times.days.max())
    if config.horizon_days >= last:
        raise ConfigError(f"nobody was seen beyond day {last:g}: ask for a horizon before it")
    if not (cohort.times.happened & (cohort.times.days <= config.horizon_days)).any():
        raise ConfigError(f"nobody had the event by day {config.horizon_days:g}: ask for a later horizon")


def _curve_days(cohort: Cohort, horizon_days: float) -> Float[np.ndarray, " q"]:
    """Return days up to the last event, or the horizon, that are told to a person; the horizon is one of them."""
    last = max(float(cohort.times.days[cohort.times.happened].max()), horizon_days)
    return np.unique(np.append(np.linspace(0, last, _CURVE_DAYS + 1)[1:], horizon_days))


def _entry(held_out: HeldOut, cohort: Cohort, config: PrognoseConfig, at_days: Float[np.ndarray, " q"]) -> LearnerEntry:
    return LearnerEntry(
        learner=held_out.learner,
        figures=figures_of(
            held_out, cohort.times, cohort.patients, horizon_days=config.horizon_days, at_days=at_days,
            resamples=config.resamples, seed=config.seed,
        ),
        calibration=calibration_at(held_out.survival[:, 0], cohort.times, horizon_days=config.horizon_days),
        settings=tuple({k: float(v) for k, v in s.items()} for s in held_out.settings),
        dropped=held_out.dropped,
        taken=taken_of(held_out, cohort.times, cohort.patients, resamples=config.resamples, seed=config.seed),
    )  # fmt: skip


def _document(
    config: PrognoseConfig,
    cohort: Cohort,
    learnt: tuple[Sequence[LearnerEntry], int, Sequence[str]],
    curve: Float[np.ndarray, " q"],
    arrays_sha256: str,
) -> PrognosisModel:
    entries, best, known = learnt
    events, patients = int(cohort.times.happened.sum()), len(set(cohort.patients))
    notes = []
    if events < _FEW_EVENTS * len(cohort.people.columns):
        notes.append(
            f"{events} events for {len(cohort.people.columns)} covariates: fewer than {_FEW_EVENTS} each; whatever is "
            "told here is uncertain"
        )
    if len(entries) > 1:
        notes.append(
            f"the model that is kept is the best of {len(entries)} by these same figures, which makes its own a little "
            "too good"
        )
    if not cohort.patients_known:
        notes.append("no column names the patient: each row counts as one")
    notes += _block_notes(config, cohort)
    constant = [c.name for c in cohort.people.columns if c.name not in known]
    if constant:
        notes.append(f"the same for all, and so not learnt from: {', '.join(constant)}")
    event = f"{config.event} = {config.event_code}"
    return PrognosisModel(
        isocenter=__version__, created=created_now(), learner=entries[best].learner, event=event,
        competing=config.competing, horizon_days=config.horizon_days, at_days=tuple(curve.tolist()),
        columns=tuple(ColumnEntry(name=c.name, unit=c.unit, levels=c.levels) for c in cohort.people.columns),
        rows=len(cohort.people), patients=patients, events=events, left_out=cohort.left_out, missing=cohort.missing,
        learners=tuple(entries), notes=tuple(notes), data_sha256=file_sha256(config.table),
        arrays_sha256=arrays_sha256, code=code_version(), seed=config.seed, patient_column=config.patient,
        batch=config.batch, blocks=cohort.blocks, patterns=_patterns(cohort), synthetic=cohort.synthetic,
    )  # fmt: skip


def _patterns(cohort: Cohort) -> dict[str, int]:
    """Return how many people have which blocks, the most frequent first."""
    if not cohort.blocks:
        return {}
    has = np.stack([b.present for b in cohort.people.blocks], axis=1)
    names = [b.name for b in cohort.people.blocks]
    told = Counter(" + ".join(n for n, h in zip(names, row, strict=True) if h) or "none of them" for row in has)
    return dict(told.most_common())


def _block_notes(config: PrognoseConfig, cohort: Cohort) -> list[str]:
    notes = [
        f"block {b.name}: text, told as hashed words and pairs of words; an outcome in it can't be found"
        for b in cohort.blocks if b.text
    ]  # fmt: skip
    undated = [b.name for b in cohort.blocks if not b.dated]
    if config.index_time and undated:
        notes.append(f"without dates, and so not checked against the index time: {', '.join(undated)}")
    for b in cohort.blocks:
        if config.batch and not b.text:
            few = [name for name, count in b.batches.items() if count < LEAST_OF_SCANNER or name == "not known"]
            if not b.batches:
                notes.append(f"block {b.name}: no column tells its scanners, it is not harmonised")
            elif len(b.batches) == 1:
                notes.append(f"block {b.name}: of one scanner, nothing is harmonised")
            elif few:
                notes.append(
                    f"block {b.name}: not used where it is of a scanner of fewer than {LEAST_OF_SCANNER} people, or "
                    f"of none that is known ({sum(b.batches[n] for n in few)} people)"
                )
    return notes
