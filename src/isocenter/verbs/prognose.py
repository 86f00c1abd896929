"""Prognose: when an event comes, learnt from a clinical table, and told for a person with a band, or not told.

Learning: table -> typed columns, leakage and gaps looked at -> nested cross-validation by patient for every way of
learning that is asked -> the best is learnt from all, with resampled models for its bands -> a folder.
Asking: a folder and people -> risk curves, what drove them, the nearest patients; whom no such patients stand for is
not answered.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.tables import Codes, read_clinical
from isocenter.data.tables.reading import ClinicalTable, table_of_cells
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import kaplan_meier
from isocenter.tasks.prognose.answer import PROMISE, Answer, Prognosis, answer
from isocenter.tasks.prognose.bands import refits
from isocenter.tasks.prognose.competing import aalen_johansen
from isocenter.tasks.prognose.learners import Choice, CompetingLearner, CoxLearner, ForestLearner, Learner, learn
from isocenter.tasks.prognose.nested import HeldOut, nested, patient_folds
from isocenter.tasks.prognose.people import fit_support
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluate import check_out
from isocenter.verbs.prognosis.document import (
    ColumnEntry,
    DriverEntry,
    LearnerEntry,
    PersonEntry,
    PrognosisDocument,
    PrognosisModel,
)
from isocenter.verbs.prognosis.figures import COMPETING_ORDER, ORDER, calibration_at, figures_of, integral_days
from isocenter.verbs.prognosis.inputs import Asked, Cohort, cohort_of, people_of
from isocenter.verbs.prognosis.keeping import ARRAYS, MODEL, PAGE, model_bytes, open_model
from isocenter.verbs.prognosis.page import render_model, render_people
from isocenter.verbs.provenance import code_version, created_now
from isocenter.version import __version__

__all__ = ["PrognoseConfig", "prognose", "prognose_people", "run"]

PEOPLE, PEOPLE_PAGE, CURVES = "prognosis.json", "prognosis.html", "curves.csv"
Progress = Callable[[str, float], None]
LearnerName = Literal["cox", "forest", "deepsurv", "discrete"]
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
        learners: To compare: cox, forest, deepsurv, discrete; competing events have Cox regression alone.
        folds: Outer folds.
        inner: Inner folds.
        refits: Models of resampled patients, for bands.
        trees: Of a forest.
        resamples: Of patients, for the intervals of figures.
        overwrite: Whether an older model is replaced.
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
    learners: tuple[LearnerName, ...] = Field(default=("cox", "forest"), min_length=1)
    folds: int = Field(default=5, ge=2)
    inner: int = Field(default=3, ge=2)
    refits: int = Field(default=50, ge=10)
    trees: int = Field(default=200, ge=1)
    resamples: int = Field(default=500, ge=20)
    overwrite: bool = False
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
    try:
        config = PrognoseConfig(
            table=Path(table), out=Path(out), time=time, event=event, horizon_days=horizon_days, **settings
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    return run(config, progress)


def _learners(config: PrognoseConfig) -> list[Learner]:
    if config.competing:
        if set(config.learners) - {"cox"} and "learners" in config.model_fields_set:
            raise ConfigError("competing events have Cox regression alone here; ask for --learner cox")
        return [CompetingLearner()]
    found: list[Learner] = []
    for name in dict.fromkeys(config.learners):
        if name == "cox":
            found.append(CoxLearner())
        elif name == "forest":
            found.append(ForestLearner(trees=config.trees))
        else:
            from isocenter.tasks.prognose.deep import NetworkLearner

            found.append(NetworkLearner(name))
    return found


def run(config: PrognoseConfig, progress: Progress | None = None) -> PrognosisModel:
    """Do what a `PrognoseConfig` says; see `prognose`."""
    tell = progress or (lambda _stage, _done: None)
    _check_out(config.out, (MODEL, ARRAYS), config.table, overwrite=config.overwrite)
    table = read_clinical(config.table, kinds=config.kinds, units=config.units, patient=config.patient)
    codes = Codes(config.event_code, config.censored_code, config.competing)
    asked = Asked(
        config.time, config.event, codes, config.index_time, config.features, config.leave_out, config.group,
        config.dated_by,
    )  # fmt: skip
    cohort = cohort_of(table, asked)
    _check_horizon(cohort, config)
    learners = _learners(config)
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
        known = [c.name for c in trained.preparation.codings]
        model = _document(config, cohort, (entries, best, known), curve, file_sha256(folder / ARRAYS))
        (folder / MODEL).write_text(model.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / PAGE).write_text(render_model(model), "utf-8")
    return model


def _check_out(out: Path, documents: Sequence[str], *sources: Path | None, overwrite: bool) -> None:
    """Refuse a folder that is taken by what is not ours, or that holds what is read."""
    for document in documents:
        check_out(out, document, overwrite=overwrite)
    place = out.resolve()
    for source in filter(None, sources):
        # Where a link stands counts as well as where it leads.
        if any(s.is_relative_to(place) for s in (source.resolve(), source.parent.resolve() / source.name)):
            raise ConfigError(f"{out} holds what is read; choose another folder")


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
        arrays_sha256=arrays_sha256, code=code_version(), seed=config.seed,
    )  # fmt: skip


def _cells(text: str) -> dict[str, str]:
    """Return a person given as COLUMN=VALUE, separated by commas."""
    found: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or name.strip() in found:
            raise ConfigError("a person is given as COLUMN=VALUE, separated by commas, each column once")
        found[name.strip()] = value.strip()
    return found


def prognose_people(
    model: Path | str, out: Path | str | None = None, *, table: Path | str | None = None,
    people: Sequence[str] = (), level: float = 0.9, seed: int = 0, overwrite: bool = False,
) -> PrognosisDocument:  # fmt: skip
    """Answer for people with a model.

    Args:
        model: Its folder.
        out: Folder for prognosis.json, prognosis.html and curves.csv; None writes nothing.
        table: CSV or ARFF of people, in any unit that converts to the model's.
        people: People as "age [a]=61,stage=II", after those of the table.
        level: Coverage asked of the bands.
        seed: Of sampled orders.
        overwrite: Whether an older result is replaced.

    Returns:
        What stands in ``prognosis.json``; who is not answered for has a reason.

    Raises:
        ConfigError: Nobody is asked about, the folder holds no model, or `out` is taken or holds what is read.
        WeightsError: The model is damaged.
        DataError: A table can't be read, or a column is of another kind or unit.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    if out is not None:
        _check_out(Path(out), (PEOPLE,), Path(model), None if table is None else Path(table), overwrite=overwrite)
    card, prognosis = open_model(Path(model))
    kinds = {c.name: "number" if not c.levels else _kind(c) for c in card.columns}
    tables: list[ClinicalTable] = []
    if table is not None:
        tables.append(read_clinical(Path(table), lenient_kinds=kinds))
    tables += [table_of_cells([_cells(text)], "the person", lenient_kinds=kinds) for text in people]
    if not tables:
        raise ConfigError("nobody is asked about: give a table of people, or --patient COLUMN=VALUE,...")
    entries: list[PersonEntry] = []
    for one in tables:
        known = people_of(one, card.columns)
        for row in range(len(known)):
            person = known.rows(np.array([row], dtype=np.int64))
            entries.append(_person(answer(prognosis, person, level=level, seed=seed), prognosis, len(entries) + 1))
    notes = [f"The model: learnt by {card.learner} from {card.patients} patients, {card.events} with the event."]
    own = next(e for e in card.learners if e.learner == card.learner)
    notes += [f"On patients that it never saw: {f.name} {f.value:.3f}." for f in own.figures[:1]]
    document = PrognosisDocument(
        isocenter=__version__, created=created_now(), learner=card.learner, event=card.event,
        horizon_days=card.horizon_days, at_days=card.at_days, model_sha256=card.arrays_sha256, people=tuple(entries),
        promise=PROMISE, notes=tuple(notes),
    )  # fmt: skip
    if out is not None:
        make_parent(Path(out))
        with atomic_folder(Path(out), replace=overwrite) as folder:
            (folder / PEOPLE).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
            (folder / PEOPLE_PAGE).write_text(render_people(document), "utf-8")
            (folder / CURVES).write_text(_curves(document), "utf-8")
    return document


def _kind(column: ColumnEntry) -> str:
    return "boolean" if column.levels == ("no", "yes") else "category"


def _person(found: Answer, prognosis: Prognosis, number: int) -> PersonEntry:
    prediction, band, nearest = found.prediction, found.band, found.nearest
    sure = prediction.uncertainty
    if found.survival is None or band is None or nearest is None or sure is None:
        return PersonEntry(person=number, abstained=prediction.abstained)
    times = prognosis.times.rows(nearest)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    if times.codes is None:
        curve = kaplan_meier(times.days, times.happened)
        days, shares = curve.days, curve.survival
        low, high = tuple(curve.low.tolist()), tuple(curve.high.tolist())
    elif (times.codes > 0).any():
        some = aalen_johansen(times.days, times.codes)
        # Where nobody near had the event its row may be missing; rows are in the order of codes.
        days, shares = some.days, 1 - some.incidence[0]
    else:
        days, shares = times.days[:0], times.days[:0]
    place = int(np.searchsorted(prognosis.at_days, prognosis.horizon_days))
    return PersonEntry(
        person=number, abstained=None, risk=float(1 - found.survival[place]), low=sure.low, high=sure.high,
        survival=tuple(found.survival.tolist()), survival_low=tuple(band.low[0].tolist()),
        survival_high=tuple(band.high[0].tolist()), level=sure.level,
        drivers=tuple(DriverEntry(covariate=d.covariate, adds=d.adds, exact=d.exact) for d in found.drivers),
        neighbours=len(nearest), neighbours_days=tuple(days.tolist()), neighbours_survival=tuple(shares.tolist()),
        neighbours_low=low, neighbours_high=high, imputed=found.imputed,
    )  # fmt: skip


def _curves(document: PrognosisDocument) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("person", "day", "without_event", "low", "high"))
    for p in document.people:
        for day, s, low, high in zip(
            document.at_days[: len(p.survival)], p.survival, p.survival_low, p.survival_high, strict=True
        ):
            writer.writerow((p.person, f"{day:g}", f"{s:.6f}", f"{low:.6f}", f"{high:.6f}"))
    return stream.getvalue()
