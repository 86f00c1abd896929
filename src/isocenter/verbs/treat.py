"""Treat: what another treatment would change, on average and for one person, and for whom nothing can be said.

table -> of whom something can be said -> average, refutations, bound -> differences between people, checked on people
that were held out -> what is told of the people asked about, in natural frequencies -> treat.json, treat.html and
people.csv. From an observational table everything is called an association. Nothing learnt is kept: the table is learnt
from anew each time, so that no file of weights can go astray from the people behind it.
"""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import ModelRef
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.tables import read_clinical
from isocenter.safety.audit import AuditedAnswer
from isocenter.tasks.treat import (
    Amount,
    PersonAnswer,
    Preparation,
    Refusal,
    Support,
    answer_person,
    cross_fit,
    fit_preparation,
    fit_reduction,
    fit_support,
    learn,
    subset,
    supported,
)
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluate import check_out
from isocenter.verbs.prognosis.blocks import read_blocks
from isocenter.verbs.provenance import code_version, created_now, package_versions
from isocenter.verbs.settings import configured
from isocenter.verbs.treatment.analysis import AS_PREDICTED, Plan, analyse, balance_of, overlap_of
from isocenter.verbs.treatment.document import AmountEntry, PersonEntry, SupportBlock, TreatDocument
from isocenter.verbs.treatment.page import render_treat
from isocenter.verbs.treatment.reading import (
    Asked,
    Others,
    OutcomeRead,
    PeopleRead,
    patient_column,
    read_others,
    read_people,
)
from isocenter.version import __version__

__all__ = ["TreatConfig", "run", "treat"]

DOCUMENT, PAGE, PEOPLE = "treat.json", "treat.html", "people.csv"
_PACKAGES = ("numpy", "scipy", "scikit-learn", "econml")
_PATHS = ("table", "out", "people", "blocks", "audit")
_LEAST_SUPPORTED = 100
_MARGIN = 0.1
_WIDTH_CHANCE, _WIDTH_DEVIATIONS = 0.5, 2.0

Progress = Callable[[str, float], None]


class TreatConfig(BaseModel):
    """Configuration of `isocenter treat`.

    Attributes:
        table: CSV or ARFF, one row per person; headings state units in brackets (UCUM).
        out: Folder to write.
        treatment: Column of the option that each person got.
        option: Value of it that is the treatment; None where it holds 0 and 1.
        against: Value that is the comparator.
        outcome: Column of a number, or of yes or no.
        time: Column of times until the event or until last seen; days, or the unit that its heading states.
        event: Column of whether the event happened.
        event_name: What the event is called in words.
        horizon_days: Up to which the outcome is meant; needed with times.
        scale: "survival": chance of being without the event at the horizon; "days": mean days without it up to there.
        harms: Further columns of yes or no that are worse the more there are.
        features: Columns known before treatment; none takes all that can be.
        leave_out: Columns that are no features (what became known after treatment, names).
        patient: Column of the patient; None takes the first of patient, case, id and person.
        index_time: Column of the date of the decision; what is dated later is no feature.
        dated_by: Date column of other columns, by name ("NAME date" is found without).
        kinds: What columns hold, by name: number, category, boolean or date.
        blocks: Features beside the table, joined by patient: NAME=FILE (numbers, a row per patient and region),
            NAME=FOLDER (phenotypes), NAME=FILE:COLUMN or NAME=:COLUMN (text).
        better: Which way `outcome` is better, "higher" or "lower"; needed with it.
        event_is: Whether the event of `time` is "bad" or "good".
        design: "randomised" where a coin decided who got what, else "observational".
        people: CSV of people to tell something of, with the features' columns; None for none.
        method: Learner of differences between people.
        level: Coverage asked of intervals.
        least_share: An option given to a smaller share of people alike is too rare.
        width_limit: An interval of a person's difference that is wider says too little; None: half of what is possible
            for chances and days, two deviations for numbers.
        folds: Of cross-fitting.
        tries: Of each refutation.
        seed: Of everything random.
        overwrite: Whether an older result is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Path
    out: Path
    treatment: str
    option: str | None = None
    against: str | None = None
    outcome: str | None = None
    time: str | None = None
    event: str | None = None
    event_name: str = "event"
    horizon_days: float | None = Field(default=None, gt=0)
    scale: Literal["survival", "days"] = "survival"
    harms: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    patient: str | None = None
    index_time: str | None = None
    dated_by: dict[str, str] = {}
    kinds: dict[str, Literal["number", "category", "boolean", "date"]] = {}
    blocks: tuple[str, ...] = ()
    better: Literal["higher", "lower"] | None = None
    event_is: Literal["bad", "good"] = "bad"
    design: Literal["randomised", "observational"]
    people: Path | None = None
    method: Literal["together", "causal-forest", "dr-learner", "r-learner", "t-learner"] = "together"
    level: float = Field(default=0.9, gt=0.5, lt=1)
    least_share: float = Field(default=0.05, gt=0, lt=0.5)
    width_limit: float | None = Field(default=None, gt=0)
    folds: int = Field(default=5, ge=2, le=20)
    tries: int = Field(default=8, ge=2, le=100)
    seed: int = Field(default=0, ge=0)
    overwrite: bool = False
    audit: Path | None = None


def treat(
    table: Path | str,
    out: Path | str,
    treatment: str,
    design: str,
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> TreatDocument:
    """Say what a treatment would change, on average and for single people.

    Args:
        table: CSV, one row per person.
        out: Folder to write.
        treatment: Column of the option that each person got.
        design: "randomised" or "observational".
        progress: Called with the stage and how much is done.
        **settings: Any further field of `TreatConfig`.

    Returns:
        The document that stands in ``out/treat.json``.

    Raises:
        ConfigError: A setting is wrong, or settings do not belong together.
        DataError: Everyone got the same option, no event happened, a time is negative, or too few people.
        UnitsError: A unit does not convert.
        CapabilityError: EconML or scikit-learn is not installed.
        OutputError: The folder can't be written.
    """
    config = configured(TreatConfig, table=Path(table), out=Path(out), treatment=treatment, design=design, **settings)
    return run(config, progress)


def run(config: TreatConfig, progress: Progress | None = None) -> TreatDocument:
    """Do what a `TreatConfig` says; see `treat`."""
    with audited(config.audit, "treat") as audit:
        return _run(config, progress or (lambda _stage, _done: None), audit)


def _run(config: TreatConfig, tell: Progress, audit: Path | None) -> TreatDocument:
    started = time.monotonic()
    if (config.outcome is None) == (config.time is None):
        raise ConfigError("say what the treatment is for: either --outcome, or --time and --event")
    if config.outcome is not None and config.better is None:
        raise ConfigError(f"say which way {config.outcome!r} is better: --better higher or --better lower")
    if config.time is not None and config.better is not None:
        raise ConfigError("--better is of --outcome; with --time say --event-is bad or --event-is good")
    if config.outcome is not None and config.event_is != "bad":
        raise ConfigError("--event-is is of --time; with --outcome say --better higher or --better lower")
    check_out(config.out, DOCUMENT, overwrite=config.overwrite)
    read = read_people(config.table, _asked(config))
    asked_about = None if config.people is None else read_others(config.people, read)
    document = _document(config, read, asked_about, tell)
    tell("writing", 0.97)
    make_parent(config.out)
    with atomic_folder(config.out, replace=config.overwrite) as folder:
        (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / PAGE).write_text(render_treat(document), "utf-8")
        if asked_about is not None:
            (folder / PEOPLE).write_text(_people_table(document, asked_about.names), "utf-8")
        outcome = "abstained" if document.people and all(p.refused for p in document.people) else "answered"
        answer = AuditedAnswer("treat", document.inputs["table"], outcome)
        record_run(
            audit, "treat", (answer,), inputs=sorted(set(document.inputs.values())),
            outputs=(file_sha256(folder / DOCUMENT),), seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip
    tell("done", 1.0)
    return document


def _asked(config: TreatConfig) -> Asked:
    c = config
    others: frozenset[str] = frozenset()
    if c.people is not None and c.blocks and (key := patient_column(c.people, c.patient)) is not None:
        others = frozenset(read_clinical(c.people, patient=key).patients)
    patient = patient_column(c.table, c.patient)
    blocks = read_blocks(c.blocks, table=c.table, patient=patient, batch=None)
    return Asked(
        c.treatment, c.option, c.against, c.outcome, c.time, c.event, c.event_name, c.horizon_days, c.scale, c.harms,
        c.features, c.leave_out, c.better == "lower", c.event_is == "good", c.design == "observational", c.level,
        c.patient, c.index_time, c.dated_by, c.kinds, blocks, others,
    )  # fmt: skip


def _width_limit(config: TreatConfig, outcome: OutcomeRead) -> float:
    if config.width_limit is not None:
        return config.width_limit
    if outcome.wording.chance:
        return _WIDTH_CHANCE
    if outcome.lived is not None:
        return _WIDTH_CHANCE * outcome.lived.horizon_days
    return _WIDTH_DEVIATIONS * float(outcome.values.std(ddof=1))


def _document(config: TreatConfig, read: PeopleRead, asked_about: Others | None, tell: Progress) -> TreatDocument:
    randomised = config.design == "randomised"
    tell("of whom something can be said", 0.0)
    prepare = fit_preparation(read.raw, read.plan.names, read.plan.places)
    features = prepare(read.raw)
    cases = read.outcome.cases(features, read.treated, prepare.blocks)
    first = cross_fit(cases, randomised=randomised, folds=config.folds, seed=config.seed)
    support = fit_support(
        cases, first, raw=_told_in(read, prepare), names=prepare.names, options=read.options, randomised=randomised,
        least_share=config.least_share, seed=config.seed,
    )  # fmt: skip
    refusals = support.refusals(features, first.propensity)
    keep = supported(refusals)
    if int(keep.sum()) < _LEAST_SUPPORTED:
        raise DataError(
            f"something can be said of {int(keep.sum())} people only; at least {_LEAST_SUPPORTED} are needed. Of most, "
            "one of the options was hardly ever given to people alike",
            source=config.table,
        )
    nuisance = cross_fit(subset(cases, keep), randomised=randomised, folds=config.folds, seed=config.seed)
    plan = Plan(randomised, config.method, config.level, config.folds, config.tries, config.seed)
    blocks = []
    for number, one in enumerate((read.outcome, *read.harms)):
        share = (0.05 + 0.75 * number / (1 + len(read.harms)), 0.75 / (1 + len(read.harms)))
        own = subset(one.cases(features, read.treated, prepare.blocks), keep)
        block, _ = analyse(
            own, one.wording, plan, one.name, nuisance=None if number else nuisance,
            tell=lambda done, share=share, name=one.name: tell(name, share[0] + share[1] * done),  # type: ignore[misc]
        )  # fmt: skip
        blocks.append(block)
    tell("people", 0.8)
    told = "" if blocks[0].calibration is None else blocks[0].calibration.told
    people = (
        ()
        if asked_about is None
        else _people(config, read, asked_about, (prepare, support, keep), tuple(b.average for b in blocks[1:]))
    )
    if told != AS_PREDICTED:
        people = tuple(p if p.refused else p.model_copy(update={"sentences": _warned(p, told)}) for p in people)
    refused = Counter(r.kind for r in refusals if r is not None)
    code = code_version()
    own, reduction = subset(cases, keep).reduced()
    return TreatDocument(
        claim=read.outcome.wording.claim, design=config.design, treatment=read.options[1], comparator=read.options[0],
        treated=int(read.treated.sum()), method=config.method, horizon_days=config.horizon_days,
        synthetic=read.synthetic or (asked_about is not None and asked_about.synthetic), features=prepare.names,
        missing=read.missing, blocks=read.blocks, index_time=read.asked.index_time,
        notes=_notes(read, told),
        overlap=overlap_of(nuisance, read.treated[keep]),
        balance=balance_of(own.features, reduction.names(prepare.names), nuisance, read.treated[keep]),
        support=SupportBlock(
            people=len(keep), supported=int(keep.sum()), refused=dict(sorted(refused.items())), rules=support.rules,
            least_share=config.least_share, width_limit=_width_limit(config, read.outcome),
        ),
        outcome=blocks[0], harms=tuple(blocks[1:]), people=people, isocenter=__version__, commit=code["commit"],
        packages=package_versions(_PACKAGES), seed=config.seed, inputs=_hashes(config, read),
        config={k: v for k, v in config.model_dump(mode="json").items() if k not in _PATHS},
        created=created_now(),
    )  # fmt: skip


def _hashes(config: TreatConfig, read: PeopleRead) -> dict[str, str]:
    found = {"table": file_sha256(config.table)}
    if config.people is not None:
        found["people"] = file_sha256(config.people)
    return found | {f"block {b.name}": b.sha256 for b in read.asked.blocks if b.sha256}


def _told_in(read: PeopleRead, prepare: Preparation) -> Float[np.ndarray, "n k"]:
    """Return features in the table's own numbers, column for column as they were prepared."""
    empty = np.isnan(read.raw)
    values = np.where(empty, prepare.filled, read.raw)
    return np.concatenate([values, empty[:, list(prepare.gaps)].astype(float)], axis=1)[:, prepare.kept]


def _notes(read: PeopleRead, told: str) -> tuple[str, ...]:
    notes = list(read.notes)
    if read.outcome.lived is not None:
        notes.append(
            "people who were lost are made up for within each option (pseudo-values): being lost must not depend on "
            "the outcome there"
        )
    notes.append("features must have been known before treatment: leave out what the treatment may have changed")
    if told != AS_PREDICTED:
        notes.append(told)
    return tuple(notes)


def _warned(person: PersonEntry, told: str) -> tuple[str, ...]:
    """Return a person's sentences and, last, why they may say too much."""
    return (*person.sentences, f"But {told}.")


def _people(
    config: TreatConfig,
    read: PeopleRead,
    asked_about: Others,
    learnt_from: tuple[Preparation, Support, Bool[np.ndarray, " n"]],
    averages: tuple[AmountEntry, ...],
) -> tuple[PersonEntry, ...]:
    prepare, support, keep = learnt_from
    raw, unseen = asked_about.raw, asked_about.unseen
    features, known = prepare(raw), prepare(read.raw)
    learnt = [
        learn(
            subset(one.cases(known, read.treated, prepare.blocks), keep),
            config.method,
            level=config.level,
            seed=config.seed,
        )
        for one in (read.outcome, *read.harms)
    ]
    refusals = support.refusals(features)
    gaps = np.isnan(raw) & ~np.isnan(read.raw).any(axis=0)
    beyond, parts = prepare.outside(raw), _parts_beyond(prepare, features, known[keep])
    for row, found in enumerate(refusals):
        if unseen[row] is not None:
            refusals[row] = Refusal("unlike", str(unseen[row]))
        elif gaps[row].any():
            name = read.plan.names[int(np.flatnonzero(gaps[row])[0])]
            refusals[row] = Refusal("unlike", f"{name} is not stated, and of everyone learnt from it is")
        elif parts[row] and (found is None or found.kind != "group"):
            refusals[row] = Refusal("unlike", f"{parts[row]} lies beyond that of everyone learnt from")
        elif beyond[row].any() and (found is None or found.kind != "group"):
            name = read.plan.names[int(np.flatnonzero(beyond[row])[0])]
            refusals[row] = Refusal("unlike", f"{name} lies beyond that of everyone learnt from")
    told = [one.tell(features) for one in learnt]
    limit, sha = _width_limit(config, read.outcome), file_sha256(config.table)
    entries = []
    for row in range(len(raw)):
        answer = answer_person(
            read.outcome.wording, refusals[row], told[0][0][row], told[0][1][row], width_limit=limit,
            model=ModelRef(config.method, __version__), inputs=(sha,),
            harms=[
                _sure_of(one.name, told[n][0][row], averages[n - 1])
                for n, one in enumerate(read.harms, start=1)
            ],
        )  # fmt: skip
        harms = [(told[n][0][row], told[n][1][row]) for n in range(1, len(learnt))]
        made = _person(config, read, f"person {row + 1}", answer, harms)
        entries.append(made if made.refused else _imputed(made, read.plan.not_known(raw[row])))
    return tuple(entries)


def _imputed(person: PersonEntry, names: tuple[str, ...]) -> PersonEntry:
    """Return a person's entry that says what of the person is not known."""
    if not names:
        return person
    said = f"Not known of this person, and taken as the middle of those learnt from: {', '.join(names)}."
    return person.model_copy(update={"imputed": names, "sentences": (*person.sentences, said)})


def _parts_beyond(
    prepare: Preparation, features: Float[np.ndarray, "n k"], known: Float[np.ndarray, "m k"]
) -> list[str]:
    """Return for each person a component of a block that nobody learnt from comes near, or ""."""
    reduction = fit_reduction(known, prepare.blocks)
    first, names = len(reduction.rest), reduction.names(prepare.names)
    if not reduction.parts:
        return [""] * len(features)
    theirs, own = reduction(known)[:, first:], reduction(features)[:, first:]
    room = _MARGIN * np.ptp(theirs, axis=0)
    beyond = (own < theirs.min(axis=0) - room) | (own > theirs.max(axis=0) + room)
    return [names[first + int(np.flatnonzero(row)[0])] if row.any() else "" for row in beyond]


def _sure_of(harm: str, own: Amount, average: AmountEntry) -> tuple[str, Amount]:
    """Return a harm for the verdict: of the person where that is sure, else what is sure on average."""
    if own.low > 0 or own.high < 0:
        return harm, own
    return f"{harm} on average", Amount(average.value, average.low, average.high)


def _person(
    config: TreatConfig,
    read: PeopleRead,
    name: str,
    answer: PersonAnswer,
    harms: list[tuple[Amount, tuple[Amount, Amount]]],
) -> PersonEntry:
    def entry(amount: Amount | None) -> AmountEntry | None:
        if amount is None:
            return None
        return AmountEntry(value=amount.value, low=amount.low, high=amount.high, level=config.level)

    sentences = list(answer.sentences)
    told: list[tuple[AmountEntry, AmountEntry] | None] = []
    for one, (effect, pair) in zip(read.harms, harms, strict=True):
        if answer.refusal is not None:
            told.append(None)
            continue
        own = answer_person(
            one.wording, None, effect, pair, width_limit=np.inf, model=ModelRef(config.method, __version__),
            inputs=answer.prediction.inputs,
        )  # fmt: skip
        sentences += own.sentences
        untreated, treated = entry(pair[0]), entry(pair[1])
        told.append(None if untreated is None or treated is None else (untreated, treated))
    return PersonEntry(
        person=name, verdict=answer.verdict, refused=None if answer.refusal is None else answer.refusal.kind,
        reason="" if answer.refusal is None else answer.refusal.reason, sentences=tuple(sentences),
        effect=entry(answer.effect), untreated=entry(answer.untreated), treated=entry(answer.treated),
        harms=tuple(told),
    )  # fmt: skip


def _people_table(document: TreatDocument, names: Sequence[str]) -> str:
    """Return what is told of people as CSV: the one file that holds their names."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    claim = document.claim
    writer.writerow(
        ("person", "name", "verdict", claim, f"{claim} low", f"{claim} high", document.comparator, document.treatment,
         "reason", "made")
    )  # fmt: skip
    made = "synthetic" if document.synthetic else ""
    for p, name in zip(document.people, names, strict=True):
        effect = ("", "", "") if p.effect is None else (p.effect.value, p.effect.low, p.effect.high)
        levels = ("", "") if p.untreated is None or p.treated is None else (p.untreated.value, p.treated.value)
        writer.writerow((p.person, name, p.verdict, *effect, *levels, p.reason, made))
    return stream.getvalue()
