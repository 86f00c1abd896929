"""What configured models say of the patient of a study: a risk curve with its band, and what a treatment would change.

The patient is found in the clinical table by the study's UID or the pseudonym that results carry; who is not there, or
twice, is not answered, and told why. A prognosis is told by a folder that `isocenter prognose` learnt. Treatment is
told by a folder that holds `treat.yaml` or `treat.json` (settings of `isocenter treat`): it learns from its table when
it is first asked, for all patients of the clinical table at once, and again when one of the two tables has changed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from isocenter.core.errors import ConfigError, DataError, IsocenterError, NotFound
from isocenter.data.images.atomic import explain_os_error
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.tables import read_table
from isocenter.verbs.prognose import prognose_people
from isocenter.verbs.prognosis.document import PersonEntry, PrognosisDocument
from isocenter.verbs.prognosis.keeping import MODEL as PROGNOSIS_MODEL
from isocenter.verbs.prognosis.keeping import open_model
from isocenter.verbs.serving.persons import PersonOf, StudyPerson
from isocenter.verbs.treat import TreatConfig
from isocenter.verbs.treat import run as run_treat
from isocenter.verbs.treatment.document import TreatDocument
from isocenter.viewer.report_models import Curve, Outlook

__all__ = ["PATIENT_MARK", "OutlookKeeper"]

PATIENT_MARK = "Told by a model from a clinical table. Research software, not a medical device; it decides nothing."
_KEYS = ("study", "patient_key", "patient")
_SETTINGS = ("treat.yaml", "treat.yml", "treat.json")
_KEPT = 128


class OutlookKeeper:
    """Models of time, asked about the patient of a study (`viewer.report_ports.Outlooks`).

    Args:
        person: Gives by what a study's patient is found.
        prognosis: Folder of a model of `isocenter prognose`, None for none.
        treatment: Folder with the settings of `isocenter treat`, None for none.
        clinical: Table of patients: a column `study`, `patient_key` or `patient`, and what the models learnt with.
        audit: Record that lines are appended to.

    Raises:
        ConfigError: A model is given without a table, or a folder holds none.
        WeightsError: The prognosis model is damaged.
        DataError: The table can't be read.
    """

    def __init__(
        self,
        person: PersonOf,
        *,
        prognosis: Path | None = None,
        treatment: Path | None = None,
        clinical: Path | None = None,
        audit: Path | None = None,
    ) -> None:
        if (prognosis or treatment) and clinical is None:
            raise ConfigError("a prognosis or treatment needs the patients' table: give --clinical TABLE")
        self._person, self._prognosis, self._clinical, self._audit = person, prognosis, clinical, audit
        self.offers = tuple(
            name for name, folder in (("prognosis", prognosis), ("treatment", treatment)) if folder is not None
        )
        self._card = None if prognosis is None else open_model(prognosis)[0]
        self._treatment = None if treatment is None else _treat_settings(treatment)
        if clinical is not None:
            _key_of(read_table(clinical).columns, clinical)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Outlook] = OrderedDict()
        self._of_table: tuple[str, TreatDocument] | None = None

    def prognosis(self, study: str) -> Outlook:
        """Return the risk curve with its band, or why there is none; see `Outlooks`."""
        if self._prognosis is None or self._card is None:
            raise NotFound("no prognosis model is configured: start the server with --prognosis FOLDER")
        return self._told("prognosis", study, self._prognose)

    def treatment(self, study: str) -> Outlook:
        """Return what another treatment would change, or why nothing is said; see `Outlooks`."""
        if self._treatment is None:
            raise NotFound("no treatment model is configured: start the server with --treatment FOLDER")
        return self._told("treatment", study, self._treat)

    def _told(self, kind: str, study: str, tell: Callable[[Mapping[str, str]], Outlook]) -> Outlook:
        person = self._person(study)
        found, key = self._row(person)
        if isinstance(found, str):
            return Outlook(kind="prognosis" if kind == "prognosis" else "treatment", abstained=found, mark=PATIENT_MARK)
        name = hashlib.sha256(json.dumps([kind, self._state(), sorted(found.items())]).encode()).hexdigest()
        with self._lock:  # one at a time: a treatment takes both cores for a while
            if name not in self._known:
                try:
                    self._known[name] = tell(found)
                except IsocenterError as error:
                    if not isinstance(error, DataError | ConfigError):
                        raise
                    why = str(error).removeprefix(f"{getattr(error, 'source', '')}: ")
                    return Outlook(
                        kind="prognosis" if kind == "prognosis" else "treatment", abstained=why, matched_by=key,
                        mark=PATIENT_MARK,
                    )  # fmt: skip
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[name].model_copy(update={"matched_by": key})

    def _state(self) -> list[str]:
        """Return what an answer depends on beside the person."""
        settings = self._treatment or {}
        files = [self._prognosis / PROGNOSIS_MODEL] if self._prognosis is not None else []
        files += [Path(settings["table"])] if "table" in settings else []
        return [*(file_sha256(f) for f in files), json.dumps(settings, sort_keys=True, default=str)]

    def _row(self, person: StudyPerson) -> tuple[Mapping[str, str] | str, str]:
        """Return the patient's row without its key, or why there is none; and the column it was found by."""
        if self._clinical is None:
            raise ConfigError("no clinical table is configured")
        table = read_table(self._clinical)
        key = _key_of(table.columns, self._clinical)
        own = {
            "study": {person.study_uid, person.patient_key, *person.names},
            "patient_key": {person.patient_key},
            "patient": {person.patient_key, *person.names},
        }[key] - {""}
        rows = [row for row in table.rows if row[key] in own]
        if len(rows) != 1:
            count = "no row" if not rows else f"{len(rows)} rows"
            return f"the clinical table has {count} of this patient in its column {key!r}; one is needed", key
        return _bare(rows[0]), key

    def _prognose(self, row: Mapping[str, str]) -> Outlook:
        card = self._card
        if card is None or self._prognosis is None:
            raise NotFound("no prognosis model is configured")
        with _table_of([row]) as table:
            document = prognose_people(self._prognosis, table=table, audit=self._audit)
        person = document.people[0]
        figures = [
            {"name": f.name, "of": f.of, "value": f.value, "low": f.low, "high": f.high}
            for learner in card.learners
            if learner.learner == card.learner
            for f in learner.figures
        ]
        facts = {
            "event": document.event, "horizon_days": document.horizon_days, "learner": document.learner,
            "patients": card.patients, "events": card.events, "promise": document.promise,
            "notes": list(document.notes), "model_sha256": document.model_sha256, "figures": figures,
            "columns": [c.name for c in card.columns],
        }  # fmt: skip
        return Outlook(
            kind="prognosis",
            abstained=person.abstained,
            document=person.model_dump(mode="json"),
            curves=() if person.abstained is not None else _prognosis_curves(document, person),
            facts=facts,
            synthetic=document.synthetic,
            mark=PATIENT_MARK,
        )

    def _treat(self, row: Mapping[str, str]) -> Outlook:
        try:
            document, number = self._treated(self._rows()), self._rows().index(row)
        except (DataError, ConfigError):
            # A cell of another patient must not silence this one.
            document, number = self._treated([row]), 0
        person = document.people[number]
        return Outlook(
            kind="treatment",
            abstained=person.reason if person.refused else None,
            document={**person.model_dump(mode="json"), "person": "this person"},
            facts=_treat_facts(document),
            synthetic=document.synthetic,
            mark=PATIENT_MARK,
        )

    def _treated(self, rows: Sequence[Mapping[str, str]]) -> TreatDocument:
        """Return what is told of people; it is learnt once for the whole table, as learning takes a while."""
        name = hashlib.sha256(json.dumps([self._state(), rows]).encode()).hexdigest()
        if self._of_table is None or self._of_table[0] != name:
            with _table_of(rows) as people, tempfile.TemporaryDirectory() as folder:
                settings = {**(self._treatment or {}), "people": people, "out": Path(folder) / "out"}
                self._of_table = (name, run_treat(TreatConfig(**settings, audit=self._audit)))
        return self._of_table[1]

    def _rows(self) -> list[Mapping[str, str]]:
        """Return the patients of the clinical table, without their keys."""
        if self._clinical is None:
            raise ConfigError("no clinical table is configured")
        return [_bare(row) for row in read_table(self._clinical).rows]


def _bare(row: Mapping[str, str]) -> Mapping[str, str]:
    return {name: cell for name, cell in row.items() if name not in _KEYS}


def _prognosis_curves(document: PrognosisDocument, person: PersonEntry) -> tuple[Curve, ...]:
    def percent(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(round(100 * v, 3) for v in values)

    days = (0.0, *document.at_days[: len(person.survival)])
    own = Curve(
        name="this person", days=days, percent=percent((1.0, *person.survival)),
        low_percent=percent((1.0, *person.survival_low)), high_percent=percent((1.0, *person.survival_high)),
    )  # fmt: skip
    if not person.neighbours_days:
        return (own,)
    near = Curve(
        name=f"the {person.neighbours} nearest patients",
        days=(0.0, *person.neighbours_days),
        percent=percent((1.0, *person.neighbours_survival)),
        low_percent=percent((1.0, *person.neighbours_low)) if person.neighbours_low else (),
        high_percent=percent((1.0, *person.neighbours_high)) if person.neighbours_high else (),
    )
    return own, near


def _treat_facts(document: TreatDocument) -> dict[str, Any]:
    outcome = document.outcome
    return {
        "claim": document.claim, "design": document.design, "treatment": document.treatment,
        "comparator": document.comparator, "horizon_days": document.horizon_days, "notes": list(document.notes),
        "average": outcome.average.model_dump(mode="json"), "words": outcome.words, "unit": outcome.unit,
        "chance": outcome.chance, "bound": outcome.bound, "e_value": outcome.e_value,
        "harms": [h.name for h in document.harms],
        "refutations": [{"name": r.name, "passed": r.passed, "words": r.words} for r in outcome.refutations],
        "supported": document.support.supported, "people": document.support.people,
        "nothing_is_said_of": list(document.support.rules), "refused": dict(document.support.refused),
    }  # fmt: skip


def _key_of(columns: tuple[str, ...] | list[str], file: Path) -> str:
    found = [name for name in _KEYS if name in columns]
    if not found:
        raise DataError(f"a clinical table of patients needs a column {' or '.join(map(repr, _KEYS))}", source=file)
    return found[0]


def _treat_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in a folder; a table that is named is one of the folder's."""
    file = next((folder / name for name in _SETTINGS if (folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"{folder} holds no {_SETTINGS[0]} (settings of isocenter treat)")
    try:
        settings = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no YAML") from error
    if not isinstance(settings, dict) or {"people", "out", "audit"} & set(settings):
        raise ConfigError(f"{file} must hold settings of isocenter treat, without people, out and audit")
    table = folder / str(settings.get("table", "table.csv"))
    if not table.is_file():
        raise ConfigError(f"{table} is not there: name the table of the treatment in {file.name}")
    try:
        TreatConfig(**{**settings, "table": table, "out": folder / "out"})
    except (ValidationError, TypeError) as error:
        told = (
            error.errors(include_url=False, include_input=False)[0]["msg"] if isinstance(error, ValidationError) else ""
        )
        raise ConfigError(f"{file} holds no settings of isocenter treat: {told}") from error
    return {**settings, "table": table}


@contextmanager
def _table_of(rows: Sequence[Mapping[str, str]]) -> Iterator[Path]:
    """Yield a table of people, in a file that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        yield path
