"""Orders: the urgent come first, another patient's are told and change nothing, and nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

pytest.importorskip("fastapi")

from isocenter.clinic.dicomweb import Worklist
from isocenter.clinic.dicomweb.ups_rules import first
from isocenter.clinic.dimse.holding import Holding
from isocenter.clinic.dimse.messages import C_STORE, Command
from isocenter.clinic.dimse.steps import decoded
from isocenter.clinic.hl7 import Inbox
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.clinic.workflow.orders import Orders, Patient, Placed
from isocenter.clinic.workflow.worksteps import Worksteps
from isocenter.data.records.hl7 import parse_message
from postgres_peer import Databases
from unit.clinic.workflow.test_engine import dataset, hold

ORDER = (
    "MSH|^~\\&|RIS|HOSP|NODE||{time}||ORM^O01|{control}|P|2.3.1\r"
    "PID|1||{patient}^^^{issuer}~999^^^NATIONAL||Zebra^Anna\r"
    "ORC|{what}|{placer}|{filler}||{status}||^^^^^{priority}\r"
    "OBR|1|{placer}|{filler}|CTCH^CT chest^LOCAL||||||||||||||{accession}|||||||||||||{reason}\r"
)


def study(number: int, *, patient: str = "P1", issuer: str = "") -> Dataset:
    made = dataset(f"1.2.{number}", 1)
    made.PatientID, made.AccessionNumber = patient, f"ACC{number}"
    if issuer:
        made.IssuerOfPatientID = issuer
    return made


class Desk:
    """A ledger with two studies, and orders beside it."""

    def __init__(self, store: Path, url: str) -> None:
        self.store = store
        hold(store, study(1), study(2))
        self.ledger: Ledger = open_ledger(url)
        self.ledger.take_in(store / "journal")
        self.orders = Orders(self.ledger, store)
        self.inbox = Inbox(store / "hl7")

    def send(self, number: int, control: str, *, take: bool = True, **more: str) -> None:
        given = {"time": "20260101120000", "patient": "P1", "issuer": "", "what": "NW", "priority": "S",
                 "reason": "^chest pain", "placer": f"PL{number}", "filler": "", "status": ""}  # fmt: skip
        text = ORDER.format(**{"accession": f"ACC{number}", "control": control, **given, **more})
        self.inbox.take(parse_message(text.encode()), text.encode())
        if take:
            self.orders.take_in(self.inbox.file)
            self.orders.follow()

    def conflicts(self) -> list[tuple[str, str]]:
        return [(e["study"], e["detail"]) for e in self.ledger.events() if e["kind"] == "conflict"]

    def priority(self, number: int) -> int:
        state = self.ledger.study(f"1.2.{number}")
        assert state is not None
        return state.priority

    def order_of_work(self) -> list[str]:
        return [state.study for state in self.ledger.complete(Completeness(quiet_s=0.0))]


@pytest.fixture
def desk(databases: Databases, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, databases.url(tmp_path))
    yield made
    made.inbox.close()
    made.ledger.engine.dispose()


def test_the_urgent_are_worked_on_first(desk: Desk) -> None:
    desk.send(2, "C1")
    assert (desk.priority(1), desk.priority(2)) == (0, 100)
    assert desk.order_of_work() == ["1.2.2", "1.2.1"]
    (order,) = desk.orders.of("1.2.2")
    assert (order.procedure[1], order.reason) == ("CT chest", "chest pain")
    assert desk.conflicts() == []
    (told,) = desk.orders.listed()
    assert told["studies"] == {"1.2.2": "used"}
    for values in (str(told), repr(order), str(desk.ledger.events())):
        assert "P1" not in values
        assert "chest pain" not in values


def test_an_order_of_another_patient_is_told_and_not_used(desk: Desk) -> None:
    desk.send(1, "C1", patient="P2")
    assert desk.priority(1) == 0
    assert desk.orders.of("1.2.1") == []
    ((where, what),) = desk.conflicts()
    assert where == "1.2.1"
    assert "another patient" in what
    assert "P2" not in what
    desk.orders.follow()
    assert len(desk.conflicts()) == 1


def test_the_same_number_of_another_issuer_is_another_patient(desk: Desk) -> None:
    hold(desk.store, study(3, issuer="OURS"), study(4, issuer="OURS"))
    desk.ledger.take_in(desk.store / "journal")
    desk.send(3, "C1", issuer="THEIRS")
    desk.send(4, "C2", issuer="OURS&1.2.3&ISO")
    assert (desk.priority(3), desk.priority(4)) == (0, 100)
    assert [where for where, _ in desk.conflicts()] == ["1.2.3"]


def test_any_of_the_patients_identifiers_will_do(desk: Desk) -> None:
    hold(desk.store, study(3, patient="999"))
    desk.ledger.take_in(desk.store / "journal")
    desk.send(3, "C1", patient="P7")
    assert desk.priority(3) == 100


def test_a_control_id_counts_once(desk: Desk) -> None:
    desk.send(1, "C1", priority="R")
    desk.send(1, "C1", priority="R")
    assert desk.conflicts() == []
    desk.send(1, "C1", priority="S")
    assert desk.priority(1) == 0
    assert "control id" in desk.conflicts()[0][1]
    assert len(desk.orders.listed()) == 1


def test_a_sender_may_count_its_control_ids_anew(desk: Desk) -> None:
    desk.send(1, "C1", priority="R")
    desk.send(2, "C1", time="20260102120000")
    assert desk.conflicts() == []
    assert desk.priority(2) == 100


def test_orders_are_changed_canceled_and_never_another_patients(desk: Desk) -> None:
    desk.send(1, "C1")
    desk.send(1, "C2", what="XO", priority="A", reason="")
    assert desk.priority(1) == 50
    assert desk.orders.of("1.2.1")[0].reason == "chest pain"
    desk.send(1, "C3", what="XO", patient="P2")
    assert desk.priority(1) == 50
    assert "than the order did" in desk.conflicts()[0][1]
    desk.send(1, "C4", what="CA", accession="")
    assert desk.priority(1) == 0
    assert desk.orders.of("1.2.1") == []
    assert desk.orders.listed()[0]["canceled"]


def test_a_late_status_revives_no_order_that_was_canceled_and_a_new_order_does(desk: Desk) -> None:
    desk.send(1, "C1")
    desk.send(1, "C2", what="CA")
    for control, what in enumerate(("SC", "XO", "OK", "RE"), 3):
        desk.send(1, f"C{control}", what=what, priority="A")
        assert desk.orders.listed()[0]["canceled"] and desk.priority(1) == 0, what
    desk.send(1, "C7", what="NW")
    assert not desk.orders.listed()[0]["canceled"] and desk.priority(1) == 100
    desk.send(1, "C8", what="SC", status="IP")
    assert desk.priority(1) == 100
    desk.send(1, "C9", what="SC", status="CA")  # a cancelation that is told as a state
    assert desk.orders.listed()[0]["canceled"] and desk.priority(1) == 0


def test_who_performs_an_order_cancels_it_by_its_own_number(desk: Desk) -> None:
    desk.send(1, "C1", filler="F1")
    desk.send(2, "C2", filler="F2")
    desk.send(1, "C3", what="CA", placer="", filler="F1", accession="")
    assert (desk.priority(1), desk.priority(2)) == (0, 100)
    assert [one["canceled"] for one in desk.orders.listed()] == [True, False]
    assert desk.conflicts() == []


def test_an_order_that_the_performer_told_first_gets_its_placers_number(desk: Desk) -> None:
    desk.send(1, "C1", placer="", filler="7")
    desk.send(2, "C2", placer="7", filler="8")  # who placed this one counts by itself
    assert (desk.priority(1), desk.priority(2), len(desk.orders.listed())) == (100, 100, 2)
    desk.send(1, "C3", what="XO", placer="PL1", filler="7", priority="A")
    assert (desk.priority(1), len(desk.orders.listed())) == (50, 2)
    desk.send(1, "C4", what="CA", filler="")
    assert (desk.priority(1), desk.priority(2)) == (0, 100)


def test_what_somebody_else_hurried_stays_hurried(desk: Desk) -> None:
    desk.ledger.prioritise("1.2.1", 500)
    desk.send(1, "C1")
    assert desk.priority(1) == 500
    desk.send(1, "C2", what="CA")
    assert desk.priority(1) == 500


def test_an_order_before_its_study(desk: Desk) -> None:
    desk.send(9, "C1")
    assert desk.orders.of("1.2.9") == []
    hold(desk.store, study(9))
    desk.ledger.take_in(desk.store / "journal")
    assert desk.orders.follow() == 1
    assert desk.priority(9) == 100


def test_an_order_without_a_known_patient_is_not_used(desk: Desk) -> None:
    assert desk.orders.keep([Placed("fhir:x", "1", "ACC1", priority="stat")] * 2) == 1
    desk.orders.follow()
    assert desk.priority(1) == 0
    assert "whose it is" in desk.conflicts()[0][1]
    desk.orders.keep([Placed("fhir:x", "1", "ACC1", priority="stat", patients=(Patient("P1"),))])
    desk.orders.follow()
    assert desk.priority(1) == 100


def test_messages_are_taken_in_after_a_restart(desk: Desk) -> None:
    desk.send(1, "C1", take=False)
    again = Orders(desk.ledger, desk.store)
    assert again.take_in(desk.inbox.file) == 1
    assert again.take_in(desk.inbox.file) == 0


def test_the_workitem_says_how_urgent_and_why_and_whose_by_the_images(desk: Desk) -> None:
    steps = Worksteps(desk.ledger, Worklist(desk.ledger.engine), desk.store, orders=desk.orders)
    worklist = Worklist(desk.ledger.engine)
    desk.send(1, "C1", patient="P2")
    desk.send(2, "C2")
    desk.order_of_work()
    steps.follow()
    other, own = (worklist.retrieve(steps.uid(uid, 1)) for uid in ("1.2.1", "1.2.2"))
    assert first(own, "ScheduledProcedureStepPriority") == "HIGH"
    assert first(first(own, "ReferencedRequestSequence"), "ReasonForTheRequestedProcedure") == "chest pain"
    assert first(other, "ScheduledProcedureStepPriority") == "MEDIUM"
    assert "ReasonForTheRequestedProcedure" not in str(other)
    assert first(other, "PatientID") == "P1"
    desk.ledger.prioritise("1.2.1", 100)
    steps.follow()
    assert first(worklist.retrieve(steps.uid("1.2.1", 1)), "ScheduledProcedureStepPriority") == "HIGH"


def test_a_text_that_no_database_takes_holds_up_no_order(desk: Desk) -> None:
    odd = Placed(
        "fhir:ris", "7\x00\ud800", "ACC1", "", ("\ud800", "a\x00b", ""), "\ud800", "CT", "stat", "", (Patient("P1"),)
    )
    fine = Placed("fhir:ris", "8", "ACC2", priority="stat", patients=(Patient("P1"),))
    assert desk.orders.keep([odd, fine]) == 2
    assert desk.orders.keep([odd, fine]) == 0
    desk.orders.follow()
    assert (desk.priority(1), desk.priority(2)) == (100, 100)
    assert desk.orders.listed()[0]["procedure"][1] in ("ab", "")


def test_a_header_that_cannot_be_read_holds_up_no_other_study(desk: Desk) -> None:
    broken = study(3)
    del broken.PatientID
    data = encode(broken, False, True) or b""
    at = data.index(b"\x18\x00\x15\x00")  # Body Part Examined, before which Patient ID stands
    data = data[:at] + b"\x10\x00\x20\x00US\x03\x00abc" + data[at:]
    holding = Holding(desk.store, ("1.2.3.4", "TEST"))
    command = Command(C_STORE, 1, broken.SOPClassUID, broken.SOPInstanceUID, True)
    arrival = holding.arrival(command, ExplicitVRLittleEndian, "SCANNER", "NODE")
    arrival.write(memoryview(data))
    arrival.finish()
    desk.ledger.take_in(desk.store / "journal")
    desk.send(2, "C1")
    assert desk.priority(2) == 100


def test_a_message_of_a_damaged_element_is_refused_not_a_crash() -> None:
    damaged = b"\x28\x00\x10\x00US\x03\x00abc"
    assert decoded(damaged, ExplicitVRLittleEndian) is None
