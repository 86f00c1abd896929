"""The workflow with small ports: once and whole, again where it may help, never silent."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from isocenter.clinic.dimse.holding import Holding
from isocenter.clinic.dimse.messages import C_STORE, Command
from isocenter.clinic.ports import (
    Deliverer,
    Facts,
    Gate,
    Notifier,
    Outcome,
    Preparer,
    ResultFile,
    Route,
    Router,
    Runner,
    Said,
    Verdict,
    Work,
    Worked,
)
from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.clinic.workflow.deliver import Deliveries, Insistence
from isocenter.clinic.workflow.engine import Engine, EngineSettings, Ports, derived_uid
from isocenter.clinic.workflow.rules import Rule, Rules
from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.verbs.clinic.config_vigilance import CanaryConfig
from isocenter.verbs.clinic.vigilance.canary import Trial, TrialRouter, roll_back
from postgres_peer import Databases

CT = "1.2.840.10008.5.1.4.1.1.2"
# DBOS leaves connections of SQLite to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def dataset(study: str, number: int) -> Dataset:
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = CT, f"{study}.1.{number}"
    one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality = study, f"{study}.1", "CT"
    one.PatientID, one.BodyPartExamined, one.SeriesDescription = "P", "CHEST", "Thorax"
    one.Rows, one.Columns = 1, 4
    one.BitsAllocated = 16
    one.PixelData = np.full(4, number, np.uint16).tobytes()
    return one


def hold(store: Path, *sets: Dataset, calling: str = "SCANNER") -> None:
    """Put instances into a store as an acceptor does."""
    holding = Holding(store, ("1.2.3.4", "TEST"))
    for one in sets:
        command = Command(C_STORE, 1, one.SOPClassUID, one.SOPInstanceUID, True)
        arrival = holding.arrival(command, ExplicitVRLittleEndian, calling, "NODE")
        arrival.write(memoryview(encode(one, False, True) or b""))
        arrival.finish()


class World:
    """Every port, as told by the test; remembers what it was asked."""

    def __init__(self) -> None:
        self.ran: list[Work] = []
        self.sent: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.errors: list[Exception] = []
        self.outcomes: list[Outcome] = []
        self.verdict = Verdict(True)
        self.route = Route("ct", ("count",), ("pacs",))

    def run(self, work: Work) -> Worked:
        self.ran.append(work)
        if self.errors:
            raise self.errors.pop(0)
        work.out.mkdir(parents=True, exist_ok=True)
        made = dcmread(min(work.folder.iterdir()))
        made.SOPInstanceUID = derived_uid(work.inputs, "count", str(work.version))
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.InstanceNumber = len(list(work.folder.iterdir()))
        made.save_as(work.out / "result.dcm", enforce_file_format=True)
        return Worked((Said("count", "answered", seconds=0.5),), (ResultFile(work.out / "result.dcm"),))

    def check(self, _work: Work) -> Verdict:
        return self.verdict

    def prepare(self, folder: Path, out: Path) -> Path:
        out.mkdir()
        for file in folder.iterdir():
            (out / file.name).write_bytes(file.read_bytes())
        return out

    def notify(self, kind: str, _study: str, detail: str) -> None:
        self.told.append((kind, detail))

    def routes(self, facts: Facts) -> Sequence[Route]:
        assert (facts.calling, facts.modalities, facts.body_parts) == ("SCANNER", ("CT",), ("CHEST",))
        return [self.route] if self.route.tasks else []

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        found = []
        for file in files:
            outcome = self.outcomes.pop(0) if self.outcomes else Outcome("taken")
            if outcome.kind == "taken":
                self.sent.append(str(dcmread(file).SOPInstanceUID))
            found.append(outcome)
        return found


def ledger_of(store: Path, databases: Databases | None = None) -> Ledger:
    return open_ledger((databases or Databases()).url(store))


@contextmanager
def engine(
    store: Path, world: World, router: Router | None = None, databases: Databases | None = None
) -> Iterator[tuple[Engine, Ledger]]:
    store.mkdir(exist_ok=True)
    checkpoints = (databases or Databases()).url(store, "workflow.db")
    settings = EngineSettings(
        store, checkpoints, Completeness(quiet_s=0.05), Insistence(0.01, 0.05, tries=3), at_once=2, reserve_bytes=1
    )
    ledger = ledger_of(store, databases)
    made = Engine(settings, ledger, Ports(world, router or world, world, world, world, {"pacs": world}))
    try:
        yield made, ledger
    finally:
        made.close()
        ledger.engine.dispose()


def turn(made: Engine, done: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it did not happen"
        made.turn()
        time.sleep(0.02)


def state(ledger: Ledger, study: str) -> tuple[str, int]:
    found = ledger.study(study)
    return ("", 0) if found is None else (found.state, found.version)


def test_the_ports_are_what_they_are_said_to_be() -> None:
    world = World()
    for port in (Preparer, Router, Gate, Runner, Deliverer, Notifier):
        assert isinstance(world, port)


def test_a_study_is_answered_once_and_again_when_more_arrives(databases: Databases, tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    with engine(store, world, databases=databases) as (made, ledger):
        hold(store, dataset("1.2.1", 1), dataset("1.2.1", 2), dataset("1.2.2", 1))
        turn(made, lambda: len(world.sent) == 2)
        turn(made, lambda: state(ledger, "1.2.1") == state(ledger, "1.2.2") == ("answered", 1))
        for _ in range(20):
            made.turn()
        assert state(ledger, "1.2.1") == state(ledger, "1.2.2") == ("answered", 1)
        assert len(world.ran) == 2 and ledger.counts()["delivery delivered"] == 2
        assert sorted(a["state"] for s in ("1.2.1", "1.2.2") for a in ledger.answers(s)) == ["answered"] * 2

        hold(store, dataset("1.2.1", 3))
        turn(made, lambda: len(world.sent) == 3)
        turn(made, lambda: ("answered", "version 2, amended") in world.told)  # told after the ledger has it
        assert state(ledger, "1.2.1") == ("answered", 2)
        assert [work.version for work in world.ran if work.study == "1.2.1"] == [1, 2]
        assert len({work.inputs for work in world.ran}) == 3 and len(set(world.sent)) == 3
    assert not list((store / "work").rglob("*.dcm")), "what was linked for work is gone"


def test_a_workflow_that_ended_before_it_was_asked_for_takes_no_place(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    with engine(store, world) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1") == ("answered", 1) and not made._asked)
        made._ask("1.2.1", 1)  # as at a start, where DBOS took it up by itself and was quicker
        assert made._asked
        until = time.monotonic() + 20.0
        while made._asked and time.monotonic() < until:
            made._sweep()
        assert not made._asked and len(world.ran) == 1


def test_a_rule_in_shadow_that_fails_takes_no_answer_away(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    world.errors = [DataError("the candidate can't read it")]
    shadow = Rule(Route("candidate", ("other",), ("pacs",), shadow=True))
    with engine(store, world, Rules((shadow, Rule(world.route)))) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1")[0] in ("answered", "failed") and len(world.sent) == 1)
        assert state(ledger, "1.2.1") == ("answered", 1)
        (told,) = [e["detail"] for e in ledger.events() if e["kind"] == "shadow failed"]
        assert told == "rule candidate, in shadow, did not answer: the candidate can't read it"


def test_what_we_made_ourselves_is_no_news_when_it_comes_back(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    with engine(store, world) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: world.sent)
        back = dataset("1.2.1", 9)
        back.SOPInstanceUID = world.sent[0]
        hold(store, back)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            made.turn()
        assert state(ledger, "1.2.1") == ("answered", 1) and len(world.ran) == 1


def test_a_failure_that_passes_is_tried_again_and_one_that_stays_is_told(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    world.errors = [OutputError("the disk is full")]
    with engine(store, world) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1") == ("answered", 1))
        assert len(world.ran) == 2

        world.errors = [DataError("no image can be read here")]
        hold(store, dataset("1.2.2", 1))
        turn(made, lambda: state(ledger, "1.2.2") == ("failed", 1))
        assert ("failed", "no image can be read here") in world.told
        assert ledger.ask_again() == 1
        turn(made, lambda: state(ledger, "1.2.2") == ("answered", 2))

        world.errors = [TypeError("PATIENT NAME")]  # a defect: not ours to explain, and its words not to be repeated
        hold(store, dataset("1.2.3", 1))
        turn(made, lambda: state(ledger, "1.2.3") == ("failed", 1))
        assert "PATIENT" not in str(ledger.events())


def test_a_study_whose_folder_is_gone_is_linked_again(tmp_path: Path) -> None:
    class Gone(World):
        """A database that crashed has forgotten the end of a study, after which its folder is removed."""

        def run(self, work: Work) -> Worked:
            if not self.ran:
                shutil.rmtree(work.folder.parent)
                self.errors.append(OutputError("the database was away"))
            return super().run(work)

    world = Gone()
    with engine(tmp_path / "store", world) as (made, ledger):
        hold(tmp_path / "store", dataset("1.2.3", 1), dataset("1.2.3", 2))
        turn(made, lambda: state(ledger, "1.2.3") == ("answered", 1) and len(world.sent) == 1)
        assert [work.inputs for work in world.ran] == [world.ran[0].inputs] * 2


def test_gate_shadow_identity_and_no_rule(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    with engine(store, world) as (made, ledger):
        world.verdict = Verdict(False, "two patients")
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1") == ("failed", 1))
        assert [(a["state"], a["reason"]) for a in ledger.answers("1.2.1")] == [("abstained", "two patients")]
        assert not world.ran
        turn(made, lambda: ("failed", "two patients") in world.told)  # whoever looks after the node is told
        assert {e["kind"] for e in ledger.events() if e["detail"] == "two patients"} == {"gate", "failed"}

        quiet = Route("quiet", ("count",), ("pacs",), shadow=True)
        world.route = quiet
        hold(store, dataset("1.2.9", 1))
        turn(made, lambda: state(ledger, "1.2.9") == ("answered", 1))  # nobody waits for an answer of a shadow

        world.verdict, world.route = Verdict(True), Route("quiet", ("count",), ("pacs",), "remove", shadow=True)
        hold(store, dataset("1.2.2", 1))
        turn(made, lambda: state(ledger, "1.2.2") == ("answered", 1))
        assert world.ran[0].folder.name.startswith("prepared-") and not world.sent

        world.route = Route("none", ())
        hold(store, dataset("1.2.3", 1))
        turn(made, lambda: state(ledger, "1.2.3") == ("answered", 1))
        assert "no rule" in [event["kind"] for event in ledger.events()]


def test_a_study_whose_uids_another_holds_is_told_of_and_not_read_with_holes(tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    copied = dataset("1.2.2", 1)
    copied.SOPInstanceUID = dataset("1.2.1", 1).SOPInstanceUID
    with engine(store, world) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1") == ("answered", 1))
        hold(store, copied, dataset("1.2.2", 2))
        turn(made, lambda: state(ledger, "1.2.2") == ("failed", 1))
        turn(made, lambda: "1 of this study's instances have UIDs" in str(world.told))
        assert [work.study for work in world.ran] == ["1.2.1"] and state(ledger, "1.2.1") == ("answered", 1)
        assert ledger.ask_again() == 1  # with all that failed: nobody says to leave anything out
        turn(made, lambda: state(ledger, "1.2.2") == ("failed", 2))
        assert ledger.ask_again(["1.2.2"]) == 1  # by name, by somebody who has read why
        turn(made, lambda: state(ledger, "1.2.2") == ("answered", 3))
        assert [len(ledger.instances(work.study)) for work in world.ran] == [1, 1]


def test_a_study_under_way_keeps_the_model_that_it_was_given(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    decided = ledger_of(store)
    record, trial = Record(decided.engine), Trial("ct", ("old",), CanaryConfig(tasks=("new",), share=1.0))

    class Interrupted(World):
        def run(self, work: Work) -> Worked:
            if not self.ran:
                self.errors = [OutputError("the disk is full")]
                assert roll_back(record, decided, trial, "worse", "operator")
            return super().run(work)

    world = Interrupted()
    world.route = Route("ct", ("old",), ("pacs",))
    with engine(store, world, TrialRouter(world, {"ct": trial}, record, b"key")) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: state(ledger, "1.2.1") == ("answered", 1))
        hold(store, dataset("1.2.2", 1))
        turn(made, lambda: state(ledger, "1.2.2") == ("answered", 1))
        turn(made, lambda: len(world.sent) == 2)
    assert [work.route.tasks for work in world.ran] == [("new",), ("new",), ("old",)]
    assert "rollback" in [event["kind"] for event in decided.events()]
    decided.engine.dispose()


def test_deliveries_are_tried_again_or_become_dead_letters(databases: Databases, tmp_path: Path) -> None:
    world, store = World(), tmp_path / "store"
    world.outcomes = [Outcome("later", "down"), Outcome("taken"), Outcome("never", "refused"), Outcome("taken")]
    with engine(store, world, databases=databases) as (made, ledger):
        hold(store, dataset("1.2.1", 1))
        turn(made, lambda: ledger.counts().get("delivery delivered") == 1)
        hold(store, dataset("1.2.2", 1))
        turn(made, lambda: ledger.dead_letters())
        assert [letter["error"] for letter in ledger.dead_letters()] == ["refused"]
        assert ledger.replay() == 1
        turn(made, lambda: ledger.counts().get("delivery delivered") == 2)


def test_a_destination_that_stays_down_holds_up_no_other(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    up, down = World(), World()
    down.outcomes = [Outcome("later", "down")] * 3
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("insert into studies values ('1.2','answered',1,1,1,0,0,'A','B','CT',0)")
    (tmp_path / "f.dcm").write_bytes(b"")
    rows = [
        {"delivery": name, "study": "1.2", "version": 1, "destination": name, "form": "dicom", "file": "f.dcm"}
        for name in ("up", "down")
    ]
    assert ledger.queue(rows) == 2
    assert ledger.queue(rows) == 0
    taken: list[str] = []

    class Taker:
        def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
            taken.extend(map(str, files))
            return [Outcome("taken")] * len(files)

    deliveries = Deliveries(ledger, {"up": Taker(), "down": down}, Insistence(0.01, 0.02, tries=3), tmp_path)
    until = time.monotonic() + 10
    while not ledger.dead_letters() and time.monotonic() < until:
        deliveries.pump()
        time.sleep(0.01)
    deliveries.close()
    assert taken == [str(tmp_path / "f.dcm")]
    assert [(d["destination"], d["tries"]) for d in ledger.dead_letters()] == [("down", 3)]
    ledger.engine.dispose()
    assert not up.sent


def test_waits_grow_and_differ() -> None:
    insistence = Insistence(first_wait_s=2, longest_wait_s=100, tries=50)
    waits = [insistence.wait_s(n, "a") for n in (1, 2, 3, 20, 49)]
    assert all(w is not None for w in waits) and waits == sorted(waits)  # type: ignore[type-var]
    assert max(w or 0 for w in waits) <= 125
    assert insistence.wait_s(50, "a") is None
    assert insistence.wait_s(1, "a") != insistence.wait_s(1, "b")


def test_rules() -> None:
    facts = Facts("1.2", "CT1", "NODE", ("CT", "SR"), ("CHEST",), ("Thorax nativ",))
    match = [
        Rule(Route("all", ("t",))),
        Rule(Route("ct", ("t",)), modalities=("CT",)),
        Rule(Route("part", ("t",)), body_parts=("CHEST",), description="thorax|lung"),
        Rule(Route("from", ("t",)), calling=("CT*",), called=("NODE",)),
    ]
    other = [
        Rule(Route("mr", ("t",)), modalities=("MR",)),
        Rule(Route("head", ("t",)), body_parts=("HEAD",)),
        Rule(Route("words", ("t",)), description="^lung"),
        Rule(Route("who", ("t",)), calling=("MR*",)),
    ]
    assert [r.name for r in Rules((*match, *other)).routes(facts)] == ["all", "ct", "part", "from"]
    with pytest.raises(ConfigError, match="one name"):
        Rules((match[0], match[0]))
    with pytest.raises(ConfigError, match="no regular expression"):
        Rule(Route("bad", ("t",)), description="(")
