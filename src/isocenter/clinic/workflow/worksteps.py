"""The node's own work as workitems (UPS): one for each study and version that it works on, as far as the ledger is.

    complete -> SCHEDULED    working -> IN PROGRESS    answered -> COMPLETED    failed, superseded -> CANCELED

What is derived here may be derived again: a workitem's UID and its Transaction UID are drawn at random and written down
before it is made and claimed, so that a node that was killed in between goes on with the same ones, and nobody who may
write workitems can put one of his own where ours will be.

Source:
    DICOM PS3.4, annex CC (states; table CC.2.5-3); PS3.16, CID 9231 (workitems), CID 9300 (discontinuation).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, and_, case, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from isocenter.clinic.dicomweb.index import Index
from isocenter.clinic.dicomweb.ups import Worklist
from isocenter.clinic.dicomweb.ups_rules import CANCELED, COMPLETED, IN_PROGRESS, SCHEDULED, UpsRefused, first
from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.subject import patients_of
from isocenter.clinic.workflow.engine import derived_uid, result_folder
from isocenter.clinic.workflow.ledger import ANSWERED, ARRIVING, COMPLETE, FAILED, WORKING, Ledger, StudyState
from isocenter.clinic.workflow.orders import Orders, Placed
from isocenter.clinic.workflow.tables import ANSWERS, EVENTS, STUDIES, make_tables
from isocenter.core.errors import DataError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet

__all__ = ["Worksteps"]

_LOG = logging.getLogger(__name__)
_META: Final = MetaData()
_STEPS = Table(
    "own_workitems",
    _META,
    Column("study", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("lock", String(64), nullable=False),
    Column("urgency", String(8), nullable=False),
)
_UIDS = Table(
    "own_workitem_uids",
    _META,
    Column("study", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("uid", String(64), nullable=False),
)
_MOST_REFERENCES: Final = 1000
_MOST_ELEMENTS: Final = 4500
"""A workitem may have 5,000: references take two each, and eight for each series."""
_IMAGE_PROCESSING: Final = ("110001", "DCM", "Image Processing")
_UNSPECIFIED: Final = ("110513", "DCM", "Discontinued for unspecified reason")
_STATION: Final = ("ISOCENTER", "99ISOCENTER", "Isocenter node")
_SUPERSEDED: Final = "more of the study arrived; it is worked on as a new workitem"
_OPEN: Final = (SCHEDULED, IN_PROGRESS)
_WANTED: Final = {COMPLETE: SCHEDULED, WORKING: IN_PROGRESS, ANSWERED: COMPLETED, FAILED: CANCELED}


@dataclass(frozen=True)
class _Step:
    study: str
    version: int
    state: str
    lock: str


class Worksteps:
    """The node's own workitems.

    Args:
        ledger: How far each study is.
        worklist: Where workitems are.
        store: The node's folder.
        results: Where results are shown; those that are not (of rules in shadow, say) are nobody's to act on. None for
            none.
        retrieve_url: Address of the node's DICOMweb service; "" where clients know it by other means.
        orders: What was ordered; None where nothing says.
    """

    def __init__(
        self,
        ledger: Ledger,
        worklist: Worklist,
        store: Path,
        results: Index | None = None,
        retrieve_url: str = "",
        orders: Orders | None = None,
    ) -> None:
        self._ledger, self._worklist, self._store, self._results = ledger, worklist, store, results
        self._insert: Any = postgresql.insert if ledger.engine.dialect.name == "postgresql" else sqlite.insert
        self._orders, self._lock = orders, threading.Lock()
        self._retrieve_url = retrieve_url.rstrip("/")
        make_tables(_META, ledger.engine)

    def uid(self, study: str, version: int) -> str:
        """Return the UID of the workitem of a study's version, the same ever after."""
        here = and_(_UIDS.c.study == study, _UIDS.c.version == version)
        with self._ledger.engine.begin() as connection:
            known = connection.scalar(select(_UIDS.c.uid).where(here))
            if known is not None:
                return str(known)
            made = and_(_STEPS.c.study == study, _STEPS.c.version == version)
            if connection.scalar(select(_STEPS.c.study).where(made)) is not None:  # by a version that derived them
                uid = derived_uid(study, "workitem", str(version))
            else:
                uid = str(generate_uid(prefix=None))
            row = {"study": study, "version": version, "uid": uid}
            connection.execute(
                self._insert(_UIDS).values(row).on_conflict_do_nothing(index_elements=["study", "version"])
            )
            return str(connection.scalar(select(_UIDS.c.uid).where(here)))

    def follow(self) -> int:
        """Bring every workitem to where its study is; return of how many studies."""
        changed = 0
        for state in self._behind():
            try:
                with self._lock:
                    self._bring(state)
                changed += 1
            except (UpsRefused, DataError) as error:
                # One that can't be told must not keep the others from being told.
                _LOG.warning("the workitem of a study is not told: %s", error)
        return changed

    def claim(self, study: str) -> None:
        """Claim the workitem of a study that is about to be worked on.

        Raises:
            DataError: Somebody asked that it be canceled, or performs it instead.
        """
        state = self._ledger.study(study)
        if state is None:
            return
        try:
            with self._lock:  # `follow` runs in another thread, and may be at the same study
                step = self._step(state)
                if step.state == SCHEDULED:
                    step = self._advance(step, state, IN_PROGRESS)
        except UpsRefused as refused:  # the worklist shows what is done; it is no reason not to do it
            _LOG.warning("the workitem of a study is not told: %s", refused)
            return
        if step.state == CANCELED:
            raise DataError("canceled on request, by the worklist, before it was worked on")
        if step.state == IN_PROGRESS and not step.lock:
            raise DataError("another performer took this study's workitem")

    def _behind(self) -> list[StudyState]:
        """Return the studies whose workitem is not where they are."""
        wanted = case(_WANTED, value=STUDIES.c.state, else_="")
        urgency = case((STUDIES.c.priority > 0, "HIGH"), (STUDIES.c.priority < 0, "LOW"), else_="MEDIUM")
        query = (
            select(STUDIES.c.study)
            .outerjoin(_STEPS, and_(_STEPS.c.study == STUDIES.c.study, _STEPS.c.version == STUDIES.c.version))
            .where(
                or_(
                    # What was done before anybody looked is not made into workitems afterwards.
                    and_(_STEPS.c.state.is_(None), STUDIES.c.state.in_([COMPLETE, WORKING])),
                    and_(_STEPS.c.state.in_(_OPEN), _STEPS.c.state != wanted),
                    and_(_STEPS.c.state == SCHEDULED, _STEPS.c.urgency != urgency),
                )
            )
        )
        older = (
            select(_STEPS.c.study)
            .join(STUDIES, STUDIES.c.study == _STEPS.c.study)
            .where(_STEPS.c.version < STUDIES.c.version, _STEPS.c.state.in_(_OPEN))
        )
        with self._ledger.engine.connect() as connection:
            names = [*connection.scalars(query), *connection.scalars(older)]
        return [found for name in dict.fromkeys(names) if (found := self._ledger.study(name)) is not None]

    def _bring(self, state: StudyState) -> None:
        for old in self._open_before(state):
            self._cancel(old, _SUPERSEDED)
        if state.state == ARRIVING:
            return
        wanted = _WANTED[state.state]
        step = self._step(state)
        if step.state == SCHEDULED:
            self._hurry(step, state)
        if wanted != SCHEDULED and step.state == SCHEDULED:
            step = self._advance(step, state, IN_PROGRESS)
        if wanted == COMPLETED and step.state == IN_PROGRESS:
            step = self._advance(step, state, COMPLETED)
        if wanted == CANCELED and step.state in _OPEN:
            self._cancel(step, self._reason(state))

    def _hurry(self, step: _Step, state: StudyState) -> None:
        """Tell how urgent a workitem is that nobody has begun."""
        here = and_(_STEPS.c.study == step.study, _STEPS.c.version == step.version)
        with self._ledger.engine.connect() as connection:
            told = connection.scalar(select(_STEPS.c.urgency).where(here))
        if told == _urgency(state):
            return
        change = Dataset()
        change.ScheduledProcedureStepPriority = _urgency(state)
        with suppress(UpsRefused):  # others claimed or canceled it meanwhile; then it is not waiting any more
            self._worklist.change(self.uid(step.study, step.version), _json(change))
        with self._ledger.engine.begin() as connection:
            connection.execute(update(_STEPS).where(here).values(urgency=_urgency(state)))

    def _open_before(self, state: StudyState) -> list[_Step]:
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(
                select(_STEPS).where(
                    _STEPS.c.study == state.study,
                    _STEPS.c.version < state.version,
                    _STEPS.c.state.in_(_OPEN),
                )
            ).all()
        return [_Step(row.study, row.version, row.state, row.lock) for row in rows]

    def _step(self, state: StudyState) -> _Step:
        """Return the step of a study; it is scheduled where there is none."""
        known = (_STEPS.c.study == state.study) & (_STEPS.c.version == state.version)
        with self._ledger.engine.connect() as connection:
            row = connection.execute(select(_STEPS).where(known)).first()
        if row is not None:
            return _Step(row.study, row.version, row.state, row.lock)
        uid = self.uid(state.study, state.version)
        try:
            self._worklist.create(self._scheduled(state), uid)
        except UpsRefused as refused:
            if refused.code != 409:  # it was made before, and the node killed
                raise
        step = _Step(state.study, state.version, SCHEDULED, str(generate_uid()))
        values = {"study": step.study, "version": step.version, "state": step.state, "lock": step.lock}
        values["urgency"] = _urgency(state)
        with self._ledger.engine.begin() as connection:
            connection.execute(
                self._insert(_STEPS).values(values).on_conflict_do_nothing(index_elements=["study", "version"])
            )
            row = connection.execute(select(_STEPS).where(known)).one()
        return _Step(row.study, row.version, row.state, row.lock)

    def _advance(self, step: _Step, state: StudyState, to: str) -> _Step:
        """Change the state of a workitem that is ours to change; return where it is then."""
        uid = self.uid(step.study, step.version)
        if not step.lock:
            return step
        try:
            if to == COMPLETED:
                self._worklist.change(uid, self._performed(state), step.lock)
            self._worklist.change_state(uid, to, step.lock)
        except UpsRefused:
            return self._lost(step, to)
        return self._write(step, to, step.lock)

    def _lost(self, step: _Step, wanted: str) -> _Step:
        """Say where a workitem is that could not be changed: it was before, or others were faster."""
        there = str(first(self._worklist.retrieve(self.uid(step.study, step.version)), "ProcedureStepState"))
        if there == wanted == IN_PROGRESS:
            # Ours, where a node was killed after it claimed; else somebody else's, whose Transaction UID we don't have.
            ours = self._holds(step)
            return self._write(step, there, step.lock if ours else "")
        return self._write(step, there, step.lock)

    def _holds(self, step: _Step) -> bool:
        try:
            self._worklist.change(self.uid(step.study, step.version), {}, step.lock)
        except UpsRefused:
            return False
        return True

    def _cancel(self, step: _Step, reason: str) -> _Step:
        uid = self.uid(step.study, step.version)
        if not step.lock:  # somebody else performs it
            return self._write(step, CANCELED, "")
        try:
            if step.state == SCHEDULED:
                self._worklist.request_cancel(uid, reason)
            else:
                self._worklist.change(uid, _json(_discontinued(reason)), step.lock)
                self._worklist.change_state(uid, CANCELED, step.lock)
        except UpsRefused:
            return self._lost(step, CANCELED)
        return self._write(step, CANCELED, step.lock)

    def _write(self, step: _Step, state: str, lock: str) -> _Step:
        with self._ledger.engine.begin() as connection:
            connection.execute(
                update(_STEPS)
                .where(_STEPS.c.study == step.study, _STEPS.c.version == step.version)
                .values(state=state, lock=lock)
            )
        return _Step(step.study, step.version, state, lock)

    def _scheduled(self, state: StudyState) -> dict[str, Any]:
        rows = self._ledger.instances(state.study)
        if not rows:
            raise DataError("none of the study's instances is its own: all of their UIDs are held in other studies")
        made = Dataset()
        made.ProcedureStepState, made.InputReadinessState = SCHEDULED, "READY"
        made.ScheduledProcedureStepPriority = _urgency(state)
        made.ProcedureStepLabel, made.WorklistLabel = "Answer a study by rule", "Isocenter"
        made.ScheduledProcedureStepStartDateTime = _stamp(state.last_at)
        made.ScheduledWorkitemCodeSequence = [_code(_IMAGE_PROCESSING)]
        made.StudyInstanceUID = state.study
        made.InputInformationSequence = []
        series = len({row["series"] for row in rows})
        if len(rows) <= _MOST_REFERENCES and 2 * len(rows) + 8 * series <= _MOST_ELEMENTS:
            triples = [(row["series"], row["sop_class"], row["sop"]) for row in rows]
            made.InputInformationSequence = self._references(state.study, triples)
        else:
            made.CommentsOnTheScheduledProcedureStep = f"all {len(rows)} instances of the study; not listed here"
        with quiet():
            files = [place_of(self._store, state.study, row["sop"]) for row in rows]
            if len(patients_of(files)) == 1:
                _identify(made, open_instance(files[0], pixels=False))
            else:  # no task will be asked about it either
                listed = made.get("CommentsOnTheScheduledProcedureStep", "")
                told = "; ".join(filter(None, (listed, "the instances name several patients")))
                made.CommentsOnTheScheduledProcedureStep = told
            if self._orders is not None:
                _order(made, self._orders.of(state.study))
            return _json(made)

    def _performed(self, state: StudyState) -> dict[str, Any]:
        with self._ledger.engine.connect() as connection:
            began = _at(connection, state.study, WORKING) or state.last_at
            ended = _at(connection, state.study, ANSWERED) or began
            answers = connection.execute(
                select(ANSWERS).where(ANSWERS.c.study == state.study, ANSWERS.c.version == state.version)
            ).all()
        performed = Dataset()
        performed.PerformedStationNameCodeSequence = [_code(_STATION)]
        performed.PerformedProcedureStepStartDateTime, performed.PerformedProcedureStepEndDateTime = (
            _stamp(began),
            _stamp(max(began, ended)),
        )
        said = [f"{a.task}: {a.state}" for a in answers] or ["no rule matched this study"]
        performed.PerformedProcedureStepDescription = "; ".join(said)[:64]
        performed.PerformedWorkitemCodeSequence = [_code(_IMAGE_PROCESSING)]
        performed.OutputInformationSequence = self._output(state)
        made = Dataset()
        made.UnifiedProcedureStepPerformedProcedureSequence = [performed]
        return _json(made)

    def _output(self, state: StudyState) -> list[Dataset]:
        """Return what was made of a study and is shown: no result that is kept back."""
        if self._results is None:
            return []
        folder = result_folder(self._store, state.study, state.version, "").parent.resolve()
        made = [one for one in self._results.instances(state.study) if one.file.resolve().is_relative_to(folder)]
        return self._references(state.study, [(one.series, one.sop_class, one.sop) for one in made])

    def _references(self, study: str, triples: Sequence[tuple[str, str, str]]) -> list[Dataset]:
        items: dict[str, Dataset] = {}
        for series, sop_class, sop in triples:
            item = items.get(series)
            if item is None:
                item = items[series] = Dataset()
                item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", study, series
                item.ReferencedSOPSequence = []
                if self._retrieve_url:
                    where = Dataset()
                    where.RetrieveURL = f"{self._retrieve_url}/studies/{study}/series/{series}"
                    item.WADORSRetrievalSequence = [where]
            one = Dataset()
            one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = sop_class, sop
            item.ReferencedSOPSequence.append(one)
        return list(items.values())

    def _reason(self, state: StudyState) -> str:
        with self._ledger.engine.connect() as connection:
            query = select(EVENTS.c.detail).where(EVENTS.c.study == state.study, EVENTS.c.kind == FAILED)
            found = connection.scalar(query.order_by(EVENTS.c.number.desc()).limit(1))
        return found or "the study could not be answered"


def _at(connection: Connection, study: str, kind: str) -> float | None:
    query = select(EVENTS.c.at).where(EVENTS.c.study == study, EVENTS.c.kind == kind)
    found: float | None = connection.scalar(query.order_by(EVENTS.c.number.desc()).limit(1))
    return found


def _identify(made: Dataset, header: Dataset) -> None:
    """Put in whose it is, as the header has it."""
    for word in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"):
        if word in header:
            made[word] = header[word]
    request = Dataset()
    request.StudyInstanceUID = made.StudyInstanceUID
    for word in ("AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName"):
        if word in header:
            request[word] = header[word]
    given = header.get("RequestAttributesSequence") or [header]
    for word in ("RequestedProcedureID", "RequestedProcedureDescription", "RequestedProcedureCodeSequence",
                 "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"):  # fmt: skip
        if word in given[0]:
            request[word] = given[0][word]
    made.ReferencedRequestSequence = [request] if request.get("AccessionNumber") else []


def _order(made: Dataset, orders: Sequence[Placed]) -> None:
    """Put in why the study was ordered; never whose it is."""
    for order in orders[:1]:
        request = made.ReferencedRequestSequence[0] if made.ReferencedRequestSequence else Dataset()
        request.StudyInstanceUID = made.StudyInstanceUID
        if order.reason:
            request.ReasonForTheRequestedProcedure = order.reason[:64]
        if order.procedure[1] and "RequestedProcedureDescription" not in request:
            request.RequestedProcedureDescription = order.procedure[1][:64]
        if "AccessionNumber" not in request:
            request.AccessionNumber = ""
        made.ReferencedRequestSequence = [request]


def _urgency(state: StudyState) -> str:
    return "HIGH" if state.priority > 0 else "LOW" if state.priority < 0 else "MEDIUM"


def _discontinued(reason: str) -> Dataset:
    progress = Dataset()
    progress.ProcedureStepCancellationDateTime = _stamp(datetime.now(UTC).timestamp())
    progress.ReasonForCancellation = reason[:1024]
    progress.ProcedureStepDiscontinuationReasonCodeSequence = [_code(_UNSPECIFIED)]
    made = Dataset()
    made.ProcedureStepProgressInformationSequence = [progress]
    return made


def _code(code: tuple[str, str, str]) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = code
    return made


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S") + "+0000"


def _json(made: Dataset) -> dict[str, Any]:
    told: dict[str, Any] = made.to_json_dict(suppress_invalid_tags=True)
    return told
