"""Telling a prognosis: a model and people in, curves, what drove them and the nearest patients out; or a reason."""

from __future__ import annotations

import csv
import io
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.tables import read_clinical
from isocenter.data.tables.reading import ClinicalTable, read_cells, table_of_cells
from isocenter.evaluate.survival import kaplan_meier
from isocenter.models.covariates import Covariates
from isocenter.safety.audit import AuditedAnswer
from isocenter.tasks.prognose.answer import PROMISE, Answer, Prognosis, answer
from isocenter.tasks.prognose.competing import aalen_johansen
from isocenter.tasks.prognose.sources import ATTENTION_CAVEAT
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.prognosis.blocks import ReadBlock, blocks_of_people, read_blocks, scanners
from isocenter.verbs.prognosis.document import (
    ColumnEntry,
    DriverEntry,
    ModalityEntry,
    PersonEntry,
    PrognosisDocument,
    PrognosisModel,
)
from isocenter.verbs.prognosis.inputs import is_synthetic, people_of
from isocenter.verbs.prognosis.keeping import check_place, open_model
from isocenter.verbs.prognosis.page import render_people
from isocenter.verbs.provenance import created_now
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = ["PeopleConfig", "prognose_people"]

PEOPLE, PEOPLE_PAGE, CURVES = "prognosis.json", "prognosis.html", "curves.csv"


class PeopleConfig(BaseModel):
    """Configuration of `isocenter prognose` when it tells.

    Attributes:
        model: Folder of the model.
        out: Folder to write; None writes nothing.
        table: CSV or ARFF of people, in any unit that converts to the model's.
        people: People as "age [a]=61,stage=II", after those of the table.
        blocks: Modalities of these people, as when the model was learnt; any may be missing.
        level: Coverage asked of the bands.
        overwrite: Whether an older result is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        seed: Of sampled orders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    out: Path | None = None
    table: Path | None = None
    people: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    level: float = Field(default=0.9, gt=0, lt=1)
    overwrite: bool = False
    audit: Path | None = None
    seed: int = Field(default=0, ge=0)


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
    model: Path | str, out: Path | str | None = None, *, table: Path | str | None = None, people: Sequence[str] = (),
    blocks: Sequence[str] = (), **settings: Any,
) -> PrognosisDocument:  # fmt: skip
    """Answer for people with a model.

    Args:
        model: Its folder.
        out: Folder for prognosis.json, prognosis.html and curves.csv; None writes nothing.
        table: CSV or ARFF of people, in any unit that converts to the model's.
        people: People as "age [a]=61,stage=II", after those of the table.
        blocks: Modalities of these people, as NAME=FILE or NAME=FILE:COLUMN; any may be missing.
        **settings: Any further field of `PeopleConfig`.

    Returns:
        What stands in ``prognosis.json``; who is not answered for has a reason.

    Raises:
        ConfigError: Nobody is asked about, the folder holds no model, or `out` is taken or holds what is read.
        WeightsError: The model is damaged.
        DataError: A table or block can't be read, or a column is of another kind or unit.
    """
    config = configured(
        PeopleConfig, model=Path(model), out=None if out is None else Path(out),
        table=None if table is None else Path(table), people=tuple(people), blocks=tuple(blocks),
        **settings,
    )  # fmt: skip
    with audited(config.audit, "prognose") as audit:
        return _run(config, audit)


def _run(config: PeopleConfig, audit: Path | None) -> PrognosisDocument:
    began = clock.monotonic()
    card, prognosis = open_model(config.model)
    read = read_blocks(config.blocks, table=config.table, patient=card.patient_column or "patient", batch=card.batch)
    out, sources = config.out, (config.model, config.table, *(Path(b.table.source) for b in read))
    if out is not None:
        check_place(out, (PEOPLE,), *sources, overwrite=config.overwrite)
    asked = _asked(config, card)
    if not asked:
        raise ConfigError("nobody is asked about: give a table of people, or --patient COLUMN=VALUE,...")
    if read and all(key is None for _, keys in asked for key in keys):
        raise ConfigError(
            "blocks are joined by patient: the people asked about have no column of the patient's key "
            f"({card.patient_column or 'the model learnt without one'})"
        )
    known = [person for table, keys in asked for person in _known(table, keys, card, read)]
    answers = [answer(prognosis, person, level=config.level, seed=config.seed) for person in known]
    entries = tuple(_person(found, prognosis, number) for number, found in enumerate(answers, start=1))
    notes = [f"The model: learnt by {card.learner} from {card.patients} patients, {card.events} with the event."]
    own = next(e for e in card.learners if e.learner == card.learner)
    notes += [f"On patients that it never saw: {f.name} {f.value:.3f}." for f in own.figures[:1]]
    if any(m.attention is not None for p in entries for m in p.modalities):
        notes.append(ATTENTION_CAVEAT)
    for b in read:
        if not any(m.modality == b.name and m.present for p in entries for m in p.modalities):
            notes.append(f"Nobody answered for has a row in the block {b.name}: are keys written alike?")
    made = card.synthetic or any(is_synthetic(table) for table, _ in asked) or any(b.table.synthetic for b in read)
    document = PrognosisDocument(
        isocenter=__version__, created=created_now(), learner=card.learner, event=card.event,
        horizon_days=card.horizon_days, at_days=card.at_days, model_sha256=card.arrays_sha256, people=entries,
        promise=PROMISE, notes=tuple(notes), synthetic=made,
    )  # fmt: skip
    told = [
        AuditedAnswer(
            "prognose", found.prediction.inputs[0], "abstained" if found.prediction.abstained else "answered",
            card.arrays_sha256,
        )
        for found in answers
    ]  # fmt: skip
    hashes = {*(b.sha256 for b in read if b.sha256), *([file_sha256(config.table)] if config.table else [])}
    seconds = round(clock.monotonic() - began, 3)
    if out is None:
        record_run(audit, "prognose", told, inputs=sorted(hashes), seconds=seconds)
        return document
    make_parent(out)
    with atomic_folder(out, replace=config.overwrite) as folder:
        (folder / PEOPLE).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        (folder / PEOPLE_PAGE).write_text(render_people(document), "utf-8")
        (folder / CURVES).write_text(_curves(document), "utf-8")
        outputs = tuple(file_sha256(folder / name) for name in (PEOPLE, CURVES))
        record_run(audit, "prognose", told, inputs=sorted(hashes), outputs=outputs, seconds=seconds)
    return document


def _asked(config: PeopleConfig, card: PrognosisModel) -> list[tuple[ClinicalTable, tuple[str | None, ...]]]:
    """Return tables of the people asked about, with the key of each."""
    kinds = {c.name: "number" if not c.levels else _kind(c) for c in card.columns}
    key = card.patient_column
    found: list[tuple[ClinicalTable, tuple[str | None, ...]]] = []
    if config.table is not None:
        patient = key if key in read_cells(config.table)[0] else None
        table = read_clinical(config.table, lenient_kinds=kinds, patient=patient)
        found.append((table, tuple(table.patients) if patient else (None,) * len(table)))
    for text in config.people:
        cells = _cells(text)
        own = cells.pop(key, None) if key else None
        if not cells and own is not None:
            # A person of whom the table says nothing, but of whom there are blocks.
            cells = {_heading(card.columns[0]) if card.columns else "nothing": ""}
        found.append((table_of_cells([cells], "the person", lenient_kinds=kinds), (own,)))
    return found


def _known(
    table: ClinicalTable, keys: tuple[str | None, ...], card: PrognosisModel, read: Sequence[ReadBlock]
) -> list[Covariates]:
    """Return each person of a table as one row."""
    blocks = blocks_of_people(card.blocks, read, keys, _scanners(table, card))
    known = people_of(table, card.columns, blocks)
    return [known.rows(np.array([row], dtype=np.int64)) for row in range(len(known))]


def _scanners(table: ClinicalTable, card: PrognosisModel) -> tuple[str, ...]:
    """Return the scanner of each person where the table says it, else nothing."""
    column = table.columns.get(card.batch or "")
    return ("",) * len(table) if column is None else scanners(column)


def _heading(column: ColumnEntry) -> str:
    return column.name if column.levels or column.unit == "1" else f"{column.name} [{column.unit}]"


def _kind(column: ColumnEntry) -> str:
    return "boolean" if column.levels == ("no", "yes") else "category"


def _person(found: Answer, prognosis: Prognosis, number: int) -> PersonEntry:
    prediction, band, nearest = found.prediction, found.band, found.nearest
    sure = prediction.uncertainty
    parts = tuple(
        ModalityEntry(modality=m.name, present=m.present, used=m.used, attention=m.attention, without=m.without)
        for m in found.modalities
    )
    if found.survival is None or band is None or nearest is None or sure is None:
        return PersonEntry(person=number, abstained=prediction.abstained, modalities=parts, notes=found.notes)
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
        neighbours_low=low, neighbours_high=high, imputed=found.imputed, modalities=parts, notes=found.notes,
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
