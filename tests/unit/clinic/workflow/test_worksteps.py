"""The node's own workitems go where its studies go, whoever is killed or faster in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

pytest.importorskip("fastapi")

from isocenter.clinic.dicomweb import Catalog, UpsRefused, Worklist
from isocenter.clinic.dicomweb.index import tag_of
from isocenter.clinic.dicomweb.ups_rules import first
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.clinic.workflow.engine import derived_uid, result_folder
from isocenter.clinic.workflow.worksteps import Worksteps
from isocenter.core.errors import DataError
from postgres_peer import Databases
from unit.clinic.workflow.test_engine import dataset, hold

STUDY = "1.2.1"


class Desk:
    """A ledger with a study that is complete, and who tells of it."""

    def __init__(self, store: Path, url: str) -> None:
        self.store = store
        hold(store, dataset(STUDY, 1), dataset(STUDY, 2))
        self.ledger: Ledger = open_ledger(url)
        self.worklist = Worklist(self.ledger.engine)
        self.catalog = Catalog(self.ledger.engine, store)
        self.complete()
        self.steps = Worksteps(self.ledger, self.worklist, store, self.catalog, "https://node/dicomweb/")

    def complete(self) -> None:
        self.ledger.take_in(self.store / "journal")
        self.ledger.complete(Completeness(quiet_s=0.0))

    def item(self, version: int = 1) -> dict[str, Any]:
        return self.worklist.retrieve(self.steps.uid(STUDY, version))

    def state(self, version: int = 1) -> str:
        return str(first(self.item(version), "ProcedureStepState"))


@pytest.fixture
def desk(databases: Databases, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, databases.url(tmp_path))
    yield made
    made.ledger.engine.dispose()


def written(desk: Desk, number: int, version: int, rule: str) -> Path:
    folder = result_folder(desk.store, STUDY, version, rule)
    folder.mkdir(parents=True)
    made = dataset(STUDY, number)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(folder / "a.seg.dcm", enforce_file_format=True)
    return folder / "a.seg.dcm"


def test_nobody_can_guess_where_our_workitem_will_be_and_it_stays_there(desk: Desk) -> None:
    derived = derived_uid(STUDY, "workitem", "1")
    state = desk.ledger.study(STUDY)
    assert state is not None
    planted = desk.steps._scheduled(state)
    desk.worklist.create({**planted, tag_of("ProcedureStepLabel"): {"vr": "LO", "Value": ["planted"]}}, derived)
    desk.steps.follow()
    assert desk.steps.uid(STUDY, 1) != derived and first(desk.item(), "ProcedureStepLabel") != "planted"
    again = Worksteps(desk.ledger, desk.worklist, desk.store)
    assert again.uid(STUDY, 1) == desk.steps.uid(STUDY, 1) != again.uid(STUDY, 2)


def test_a_workitem_that_an_older_version_made_is_gone_on_with(desk: Desk) -> None:
    desk.steps.follow()
    with desk.ledger.engine.begin() as connection:
        connection.exec_driver_sql("delete from own_workitem_uids")
    assert desk.steps.uid(STUDY, 1) == derived_uid(STUDY, "workitem", "1")


def test_a_study_is_scheduled_claimed_and_completed(desk: Desk) -> None:
    assert desk.steps.follow() == 1
    item = desk.item()
    assert first(item, "ProcedureStepState") == "SCHEDULED"
    assert first(item, "StudyInstanceUID") == STUDY
    assert first(item, "PatientID") == str(dataset(STUDY, 1).PatientID)
    (given,) = item[tag_of("InputInformationSequence")]["Value"]
    assert len(given[tag_of("ReferencedSOPSequence")]["Value"]) == 2
    assert desk.steps.follow() == 0

    desk.ledger.mark(STUDY, 1, "working")
    desk.steps.claim(STUDY)
    assert desk.state() == "IN PROGRESS"
    desk.steps.claim(STUDY)  # a step may be run twice
    with pytest.raises(UpsRefused, match="Transaction UID"):
        desk.worklist.change(desk.steps.uid(STUDY, 1), {}, "1.2.3")

    made = [
        written(desk, number, version, rule) for number, version, rule in ((9, 1, "ct"), (8, 2, "ct"), (7, 1, "kept"))
    ]
    for file in made[:2]:
        desk.catalog.add(file)  # as the runner does, but not where an alarm or a shadow keeps the rule's results back
    desk.ledger.mark(STUDY, 1, "answered")
    assert desk.steps.follow() == 1
    assert desk.state() == "COMPLETED"
    performed = first(desk.item(), "UnifiedProcedureStepPerformedProcedureSequence")
    (output,) = performed[tag_of("OutputInformationSequence")]["Value"]
    (one,) = output[tag_of("ReferencedSOPSequence")]["Value"]
    assert first(one, "ReferencedSOPInstanceUID") == dataset(STUDY, 9).SOPInstanceUID
    where = first(output, "WADORSRetrievalSequence")
    assert first(where, "RetrieveURL").startswith(f"https://node/dicomweb/studies/{STUDY}/series/")


def test_one_that_was_quick_passes_all_states(desk: Desk) -> None:
    desk.ledger.mark(STUDY, 1, "working")
    desk.steps.claim(STUDY)
    desk.ledger.mark(STUDY, 1, "failed", "no task can run")
    desk.steps.follow()
    assert desk.state() == "CANCELED"
    progress = first(desk.item(), "ProcedureStepProgressInformationSequence")
    assert first(progress, "ReasonForCancellation") == "no task can run"


def test_more_of_a_study_supersedes_its_workitem(desk: Desk) -> None:
    desk.ledger.mark(STUDY, 1, "working")
    desk.steps.claim(STUDY)
    hold(desk.store, dataset(STUDY, 3))
    desk.ledger.take_in(desk.store / "journal")
    desk.steps.follow()
    assert desk.state() == "CANCELED"
    desk.complete()
    desk.steps.follow()
    assert desk.state(2) == "SCHEDULED"


def test_a_workitem_that_was_canceled_is_not_worked_on(desk: Desk) -> None:
    desk.steps.follow()
    desk.worklist.request_cancel(desk.steps.uid(STUDY, 1), "not needed")
    desk.ledger.mark(STUDY, 1, "working")
    with pytest.raises(DataError, match="canceled on request"):
        desk.steps.claim(STUDY)
    desk.ledger.mark(STUDY, 1, "failed")
    assert desk.steps.follow() == 0


def test_a_workitem_that_another_performs_is_theirs(desk: Desk) -> None:
    desk.steps.follow()
    desk.worklist.change_state(desk.steps.uid(STUDY, 1), "IN PROGRESS", "1.2.3.4")
    desk.ledger.mark(STUDY, 1, "working")
    for _ in range(2):
        with pytest.raises(DataError, match="another performer"):
            desk.steps.claim(STUDY)
    desk.ledger.mark(STUDY, 1, "failed")
    desk.steps.follow()
    assert desk.state() == "IN PROGRESS"


def test_a_node_that_was_killed_goes_on(desk: Desk) -> None:
    desk.steps.follow()
    desk.ledger.mark(STUDY, 1, "working")
    write = Worksteps._write
    try:
        Worksteps._write = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            desk.steps.claim(STUDY)
    finally:
        Worksteps._write = write  # type: ignore[method-assign]
    assert desk.state() == "IN PROGRESS"
    again = Worksteps(desk.ledger, desk.worklist, desk.store, desk.catalog)
    again.claim(STUDY)
    desk.ledger.mark(STUDY, 1, "answered")
    again.follow()
    assert desk.state() == "COMPLETED"


def test_two_threads_at_one_study_claim_it_once(desk: Desk) -> None:
    desk.ledger.mark(STUDY, 1, "working")
    for _ in range(2):
        threads = [threading.Thread(target=what) for what in (lambda: desk.steps.claim(STUDY), desk.steps.follow)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    other = Worksteps(desk.ledger, desk.worklist, desk.store, desk.catalog)
    other.claim(STUDY)
    desk.ledger.mark(STUDY, 1, "answered")
    other.follow()
    assert desk.state() == "COMPLETED"


def test_what_was_answered_before_anybody_looked_is_no_work(desk: Desk) -> None:
    desk.ledger.mark(STUDY, 1, "working")
    desk.ledger.mark(STUDY, 1, "answered")
    assert desk.steps.follow() == 0


def test_a_study_whose_instances_are_held_in_another_is_told_and_holds_up_nobody(desk: Desk) -> None:
    moved = dataset(STUDY, 1)
    moved.StudyInstanceUID = "1.2.2"
    hold(desk.store, moved, dataset("1.2.3", 1))
    desk.complete()
    told = [e["study"] for e in desk.ledger.events() if e["kind"] == "conflict"]
    assert told == ["1.2.2"]
    assert desk.steps.follow() == 2
    assert first(desk.worklist.retrieve(desk.steps.uid("1.2.3", 1)), "StudyInstanceUID") == "1.2.3"
    with pytest.raises(DataError, match="held in other studies"):
        desk.steps.claim("1.2.2")


def test_a_study_of_many_series_has_a_workitem_that_lists_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (row, _) = desk.ledger.instances(STUDY)
    many = [row, *({**row, "series": f"1.3.{n}"} for n in range(700))]
    monkeypatch.setattr(desk.ledger, "instances", lambda _study: many)
    desk.steps.claim(STUDY)
    assert desk.state() == "IN PROGRESS"
    assert "701 instances" in first(desk.item(), "CommentsOnTheScheduledProcedureStep")


def test_a_study_of_several_patients_is_nobodys_workitem(desk: Desk) -> None:
    other = dataset(STUDY, 3)
    other.PatientID = "Q"
    hold(desk.store, other)
    desk.complete()
    desk.steps.claim(STUDY)
    (version,) = {one.version for one in [desk.ledger.study(STUDY)] if one is not None}
    item = desk.item(version)
    assert tag_of("PatientID") not in item or not item[tag_of("PatientID")].get("Value")
    assert "several patients" in first(item, "CommentsOnTheScheduledProcedureStep")


def test_a_worklist_that_refuses_stops_no_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise UpsRefused(413, "The data set has too many elements.")

    monkeypatch.setattr(desk.worklist, "create", refuse)
    desk.steps.claim(STUDY)
    assert desk.steps.follow() == 0
